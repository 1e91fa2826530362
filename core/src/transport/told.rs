//! What a watch over a bucket and a reader over a stream have in common, in the words of the one machine that runs both:
//! what is read, what must be known of it, and what is told.

use super::kv::{BucketInfo, InterruptCause, KvEntry, WatchEvent, WatchStart};
use super::stream::{Leadership, ReadStart, ReaderEvent, Sequence, StoredMessage, StreamInfo};
use crate::time::UnixTime;

/// What a [`Watcher`](super::watcher::Watcher) tells one by one: records of a bucket, or messages of a stream.
pub trait Item: std::fmt::Debug {
    /// Whether an item is of no interest any more once a newer one of its subject is there. So it is with the records of
    /// a bucket, while a reader of a stream wants whatever is still held.
    const NEWEST_IS_ENOUGH: bool;

    /// Its place in the stream.
    fn sequence(&self) -> Sequence;
}

impl Item for KvEntry {
    const NEWEST_IS_ENOUGH: bool = true;

    fn sequence(&self) -> Sequence {
        self.revision.into()
    }
}

impl Item for StoredMessage {
    const NEWEST_IS_ENOUGH: bool = false;

    fn sequence(&self) -> Sequence {
        self.sequence
    }
}

/// What a [`Watcher`](super::watcher::Watcher) has to know of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// When it was created: tells one life of a name from the next.
    pub created: UnixTime,
    /// The first sequence still held; one above `last` where nothing is.
    pub first: Sequence,
    /// The last sequence given out.
    pub last: Sequence,
    /// Whether it is the word of somebody who should know.
    pub is_likely: bool,
    /// Whether there are copies: who shows one may be cut off from whoever leads them.
    pub has_copies: bool,
}

impl From<&BucketInfo> for Description {
    /// A watch never asks what a bucket still holds.
    fn from(info: &BucketInfo) -> Self {
        Self {
            created: info.created,
            first: Sequence::NONE,
            last: info.last_revision.into(),
            is_likely: info.leadership.is_likely(),
            has_copies: info.leadership != Leadership::Alone,
        }
    }
}

impl From<&StreamInfo> for Description {
    fn from(info: &StreamInfo) -> Self {
        Self {
            created: info.created,
            first: info.first_sequence,
            last: info.last_sequence,
            is_likely: info.leadership.is_likely(),
            has_copies: info.leadership != Leadership::Alone,
        }
    }
}

impl From<WatchStart> for ReadStart {
    fn from(start: WatchStart) -> Self {
        match start {
            WatchStart::Snapshot => Self::LastPerSubject,
            WatchStart::Now => Self::New,
            WatchStart::Revision(first) => Self::Sequence(first.into()),
        }
    }
}

/// What a [`Watcher`](super::watcher::Watcher) tells its reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// A record or message.
    Item(T),
    /// All that was there at the beginning has been told. Once.
    CaughtUp,
    /// From here on silence says nothing.
    Interrupted(InterruptCause),
    /// Made anew.
    Resumed {
        /// Whether the stream is still the one that was read before.
        same: bool,
        /// The first sequence still held.
        first_held: Sequence,
    },
}

impl From<Told<KvEntry>> for WatchEvent {
    fn from(told: Told<KvEntry>) -> Self {
        match told {
            Told::Item(entry) => Self::Entry(entry),
            Told::CaughtUp => Self::SnapshotEnd,
            Told::Interrupted(cause) => Self::Interrupted(cause),
            Told::Resumed { same, .. } => Self::Resumed { same_bucket: same },
        }
    }
}

impl From<Told<StoredMessage>> for ReaderEvent {
    fn from(told: Told<StoredMessage>) -> Self {
        match told {
            Told::Item(message) => Self::Message(message),
            Told::CaughtUp => Self::CaughtUp,
            Told::Interrupted(cause) => Self::Interrupted(cause),
            Told::Resumed { same, first_held } => Self::Resumed {
                same_stream: same,
                first_held,
            },
        }
    }
}
