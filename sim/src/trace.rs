//! What a run leaves behind: a hash of everything that happened, how often each fault bit, and the server's own truth.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use squall_core::Instant;

use crate::broker::{Commit, Dropped, LostTail, Removed, Stored};

/// A hash over every event of the run with its true time: equal hashes mean equal runs, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    /// Takes one event in.
    pub(crate) fn add(&mut self, now: Instant, kind: u64, detail: u64) {
        for word in [now.as_nanos(), kind, detail] {
            self.0 = (self.0 ^ word)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
    }

    /// The hash so far.
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A way in which a fault can change what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bite {
    /// A parcel was held by a partition.
    Partition,
    /// A parcel was swallowed.
    Blackhole,
    /// A link in use was reset.
    Cut,
    /// A parcel took longer.
    Delay,
    /// The reply to a write was lost.
    LoseReply,
    /// Something was due for a paused or suspended process, and waited.
    Frozen,
    /// A process died with connections open.
    Crash,
    /// A connection was lost, refused or left waiting because its server was not running, or paused.
    Server,
    /// JetStream did not answer a request.
    Mute,
    /// A leader stepped down.
    Leader,
    /// A clock told another time than it would have.
    Clock,
    /// A step of a disk failed, or bytes arrived in part.
    Disk,
    /// The power was lost, and with it what a file or folder had not synced.
    UnsyncedFile,
}

/// How often each kind bit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bites(BTreeMap<Bite, u64>);

impl Bites {
    pub(crate) fn add(&mut self, bite: Bite) {
        *self.0.entry(bite).or_default() += 1;
    }

    /// How often this kind bit so far.
    pub fn count(&self, bite: Bite) -> u64 {
        self.0.get(&bite).copied().unwrap_or(0)
    }
}

/// The servers' own truth, in the order in which it became true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// A record was stored.
    Committed {
        /// When, in true time.
        at: Instant,
        /// What and where.
        commit: Commit,
        /// The name of the process whose request it was; `None` for the server's own.
        by: Option<Arc<str>>,
    },
    /// A record went away, and not for a newer one of its key.
    Removed {
        /// When, in true time.
        at: Instant,
        /// What, where and why.
        removed: Removed,
    },
    /// A message was stored in a stream that is behind no bucket.
    Stored {
        /// When, in true time.
        at: Instant,
        /// What and where.
        stored: Stored,
        /// The name of the process whose request it was; `None` for the server's own.
        by: Option<Arc<str>>,
    },
    /// A message of such a stream went away.
    Dropped {
        /// When, in true time.
        at: Instant,
        /// What, where and why.
        dropped: Dropped,
    },
    /// The power was lost, and with it the end of a stream.
    LostTail {
        /// When, in true time.
        at: Instant,
        /// What is left.
        lost: LostTail,
    },
}
