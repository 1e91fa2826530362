//! What a [`Swapper`](super::Swapper) hears, and what it wants done.

use crate::diagnostics::Caller;
use crate::session::happened::Happened;
use crate::session::refresher::Generation;
use crate::time::UnixTime;
use crate::transport::{ConnectError, ConnectionEvent, ConnectionId, FlushError};

/// One attempt to have another connection. Counts all of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dial(pub u64);

/// What a [`Swapper`](super::Swapper) hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapperEvent {
    /// There is a credential, newer than any before.
    Issued {
        /// Its number.
        generation: Generation,
        /// Its end.
        expires: UnixTime,
        /// Who wanted it.
        caller: Caller,
    },
    /// There will be no more credentials for this login.
    Unauthorized,
    /// Nobody is logged in any more.
    Logout(Caller),
    /// Answers [`SwapperEffect::Dial`].
    Dialled(Dial, Result<ConnectionId, ConnectError>),
    /// Answers [`SwapperEffect::Arm`].
    Armed(Dial, Result<(), FlushError>),
    /// Something happened to a connection.
    Heard(ConnectionId, ConnectionEvent),
    /// An operation on this connection got no answer from JetStream in time, or a watch no sign of life.
    Failed(ConnectionId, String),
    /// Answers [`SwapperEffect::Probe`].
    Probed(ConnectionId, Result<(), FlushError>),
    /// The machine has slept.
    Woke,
    /// Answers [`SwapperEffect::Retire`]: it is closed.
    Retired(ConnectionId),
}

/// What a [`Swapper`](super::Swapper) wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapperEffect {
    /// Connect with the credential of this generation, which is the newest.
    Dial(Dial, Generation),
    /// Make everything that listens listen on the new connection too, then one round trip on it.
    Arm(Dial),
    /// From now on this is the connection that is used.
    Install(Dial),
    /// Close this connection once nothing is under way on it any more.
    Retire(ConnectionId),
    /// Close this connection at once.
    Close(ConnectionId),
    /// Close what came of this attempt, or stop it.
    Abandon(Dial),
    /// One round trip on this connection, at most 5 s.
    Probe(ConnectionId),
    /// A server refused the newest credential: have another.
    Refresh(Caller),
    /// Tell what happened.
    Tell(Happened),
    /// There is no connection and will be none for this login.
    Over,
}
