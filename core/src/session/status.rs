//! What a session says of itself.

use super::auth::{Account, ExchangeError};
use super::refresher::{Generation, LoginNumber};
use crate::time::UnixTime;
use crate::transport::ConnectionId;

/// How a session stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Which login it is; `None`: nobody is logged in.
    pub login: Option<LoginNumber>,
    /// Whose, once the auth service has said so.
    pub account: Option<Account>,
    /// The newest credential; counts over all logins.
    pub generation: Generation,
    /// Its end.
    pub jwt_exp: Option<UnixTime>,
    /// When it came, by this node's wall clock.
    pub last_refresh_at: Option<UnixTime>,
    /// Why the latest refresh failed, if one has failed since the login.
    pub refresh_error: Option<ExchangeError>,
    /// The connection in use, and the credential that it was dialled with.
    pub connection: Option<(ConnectionId, Generation)>,
    /// Connections that were in use since the login.
    pub connects: u64,
}

/// A login did not lead to a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The auth service does not accept the key.
    #[error(transparent)]
    Refused(ExchangeError),
    /// Not yet: the session goes on trying.
    #[error("no connection yet; still trying")]
    StillTrying,
    /// Somebody logged out, or in anew, meanwhile.
    #[error("logged out meanwhile")]
    LoggedOut,
    /// The session is stopped.
    #[error("the session is stopped")]
    Stopped,
}
