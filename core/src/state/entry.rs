//! What a store tells of a key.

use std::fmt;

use bytes::Bytes;

use crate::time::UnixTime;
use crate::transport::{InterruptCause, Revision};

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which key.
    pub key: String,
    /// Its value; empty where it was deleted.
    pub value: Bytes,
    /// The place of this change among all changes of the store. Increases with each, but not by one: changes of other
    /// keys, of locks, and the store's own come between. 0 where a deletion is only known by what is missing.
    pub revision: Revision,
    /// What was done.
    pub operation: Operation,
    /// Since when the key has had a value without a break, by the server's clock.
    pub created: UnixTime,
    /// When it was written last, by the server's clock.
    pub modified: UnixTime,
}

/// What was done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// It was given a value.
    Put,
    /// It was deleted.
    Delete,
}

/// What a watch tells: per key in the order in which it happened.
///
/// The store holds the latest value of each key. Where changes follow each other faster than they are told, earlier ones
/// may be passed over; the last is always told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A key was put or deleted.
    Changed(Entry),
    /// A value's life is over, and nobody has put another.
    Expired {
        /// Whose.
        key: String,
        /// That of the value.
        revision: Revision,
    },
    /// Something may have happened that is not told. Every key that is not as it was told last is told now, and then
    /// [`Event::CaughtUp`]; what came and went in between is not.
    Gap(Gap),
    /// Everything is as it was told last, and the watch tells on.
    CaughtUp,
}

/// Why something may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The watch could not hear the store.
    Interrupted(InterruptCause),
    /// The reader was slow, and so many events were dropped.
    Lagged {
        /// How many.
        missed: u64,
    },
    /// The store is another than it was: deleted and made anew, or its server has lost the end of it with its power.
    /// What was told may never have been, and revisions are given out again.
    Restarted,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted(cause) => write!(f, "interrupted: {cause}"),
            Self::Lagged { missed } => write!(f, "the reader was slow and missed {missed}"),
            Self::Restarted => f.write_str("the store was made anew, or lost its end"),
        }
    }
}
