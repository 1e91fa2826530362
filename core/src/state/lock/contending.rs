//! What a contender hears, and what it wants done.

use std::sync::Arc;

use super::AcquireError;
use super::record::{Sight, Stamp};
use crate::transport::{KvEntry, ReadError, Revision, UpdateError};

/// What a [`Contender`](super::contender::Contender) hears.
#[derive(Clone, Debug)]
pub(super) enum ContenderEvent {
    /// The look of this number was answered.
    Looked {
        number: u64,
        result: Result<Option<KvEntry>, ReadError>,
    },
    /// The write was answered.
    Written {
        sent: Stamp,
        result: Result<Revision, UpdateError>,
    },
    /// We stand in the queue, or at its end as long as we have no ticket.
    Queued {
        /// Ours.
        place: Arc<str>,
        has_ticket: bool,
        /// Who is before us, the first one first.
        ahead: Vec<Before>,
        watches: bool,
    },
    /// The watch tells a record of the lock.
    Seen(KvEntry),
    /// The watch has ended.
    Blind,
    /// The connection is down.
    Disconnected,
    /// It is up again.
    Reconnected,
    /// Nobody wants the lock any more.
    Abandoned,
}

/// What a [`Contender`](super::contender::Contender) wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ContenderEffect {
    /// Read the record.
    Look { number: u64 },
    /// Write the record of this acquisition over this revision; these had their turn before ours and did not come.
    Write {
        over: Revision,
        passed: Vec<Arc<str>>,
    },
    /// Watch the record, if that is not done, take a ticket, if one is wanted, and see who is before it.
    Queue { wants_ticket: bool },
    /// The lock is held.
    Acquired(Acquired),
    /// It is not, and nothing is asked for any more.
    Failed(AcquireError),
    /// See to it that no record of this acquisition remains, where one may have been or may yet be written over this
    /// revision, or is this revision. It was another's record that was seen so, if it was one.
    Settle { over: Revision, seen: Option<Sight> },
}

/// Somebody before us in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) place: Arc<str>,
    /// The revision of its ticket, as it was seen. Who comes back takes another.
    pub(super) ticket: Revision,
}

/// An acquisition that has succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acquired {
    /// The revision of its record, which is the fencing token.
    pub(super) revision: Revision,
    /// When the write was handed to the transport, or the first that may have been the one.
    pub(super) sent: Stamp,
    /// Who stood before us in the queue and did not come when it was their turn.
    pub(super) passed: Vec<Before>,
}
