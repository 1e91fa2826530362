//! What a session tells of itself, before it has a time.

use std::time::Duration;

use crate::diagnostics::{Caller, EventType, NatsEvent};
use crate::time::UnixTime;
use crate::transport::ConnectionId;

/// A transition, with the one who caused it: a [`NatsEvent`] but for its time, which machines do not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// What.
    pub kind: EventType,
    /// By whom.
    pub caller: Caller,
    /// To which connection.
    pub connection: Option<ConnectionId>,
    /// The end of what that is logged in with.
    pub expires: Option<UnixTime>,
    /// Which connection it took the place of; only of a swap.
    pub replaced: Option<ConnectionId>,
    /// How long that took, from the first attempt to connect; only of a swap.
    pub took: Option<Duration>,
    /// Why, in words.
    pub reason: Option<String>,
}

impl Happened {
    /// Something happened, and this is who caused it.
    pub const fn new(kind: EventType, caller: Caller) -> Self {
        Self {
            kind,
            caller,
            connection: None,
            expires: None,
            replaced: None,
            took: None,
            reason: None,
        }
    }

    /// It happened to this connection, which is logged in until then.
    #[must_use]
    pub const fn to(mut self, connection: ConnectionId, expires: UnixTime) -> Self {
        self.connection = Some(connection);
        self.expires = Some(expires);
        self
    }

    /// It happened for this reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// As it stands in the log.
    pub fn at(self, at: UnixTime) -> NatsEvent {
        let event = match (self.replaced, self.connection) {
            (Some(old), Some(new)) => NatsEvent::swap(at, self.caller, old.into(), new.into()),
            (_, connection) => {
                let event = NatsEvent::new(self.kind, at, self.caller);
                match connection {
                    Some(connection) => event.of(connection),
                    None => event,
                }
            }
        };
        let event = event.jwt_exp(self.expires);
        let event = match self.took {
            Some(took) => event.in_time(took),
            None => event,
        };
        match self.reason {
            Some(reason) => event.because(reason),
            None => event,
        }
    }
}
