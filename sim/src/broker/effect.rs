//! What the broker wants done, and what it tells about itself.
//!
//! [`Effect::Send`], [`Effect::Close`], [`Effect::Route`] and [`Effect::Exit`] are for the fabric; [`Effect::Commit`] and
//! [`Effect::Removed`] are the truth about buckets for histories and invariants, [`Effect::Stored`] and
//! [`Effect::Dropped`] that about all other streams, [`Effect::LostTail`] what a loss of power undid: together they say at any moment which records there are, without
//! asking anybody. They come in the order in which the server did things.

use std::fmt;
use std::sync::Arc;

use squall_core::transport::{KvEntry, Revision, Sequence};

use super::parley::RouteOp;
use crate::cluster::Peer;
use crate::wire::{LinkId, RequestId, ServerOp};

/// One life of a stream's name, or a bucket's: deleting and creating it gives another. Unique within one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub usize);

/// Something to be done, or to be known.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send this to the client.
    Send {
        /// Over which connection.
        link: LinkId,
        /// What.
        op: ServerOp,
    },
    /// Close this connection after what was sent before.
    Close {
        /// Which.
        link: LinkId,
    },
    /// Say this to another server of the cluster.
    Route {
        /// To which.
        to: Peer,
        /// What.
        op: RouteOp,
    },
    /// The process ends (a lame duck at its end); as after [`Broker::stop`](super::Broker::stop).
    Exit,
    /// A record was stored.
    Commit(Commit),
    /// A record is there no more.
    Removed(Removed),
    /// A message was stored in a stream that is behind no bucket.
    Stored(Stored),
    /// A message of such a stream is there no more.
    Dropped(Dropped),
    /// The power was lost, and with it the end of a stream.
    LostTail(LostTail),
}

/// A record that was stored: a value, a tombstone or a marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// In which bucket.
    pub bucket: Arc<str>,
    /// In which life of it.
    pub incarnation: Incarnation,
    /// The record.
    pub entry: KvEntry,
    /// Whose request it was; `None` for markers, which are the server's own, and for raw publishes.
    pub by: Option<(LinkId, RequestId)>,
}

/// A record that went away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// From which bucket.
    pub bucket: Arc<str>,
    /// From which life of it.
    pub incarnation: Incarnation,
    /// Of which key.
    pub key: Arc<str>,
    /// Which.
    pub revision: Revision,
    /// Why.
    pub cause: Cause,
}

/// A message that was stored in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// In which stream.
    pub stream: Arc<str>,
    /// In which life of it.
    pub incarnation: Incarnation,
    /// Where it was published.
    pub subject: Arc<str>,
    /// Its position.
    pub sequence: Sequence,
    /// `Nats-Msg-Id`.
    pub message_id: Option<Arc<str>>,
    /// Whose request it was; `None` for markers, which are the server's own, and for raw publishes.
    pub by: Option<(LinkId, RequestId)>,
}

/// A message that went away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// From which stream.
    pub stream: Arc<str>,
    /// From which life of it.
    pub incarnation: Incarnation,
    /// Which.
    pub sequence: Sequence,
    /// Why.
    pub cause: Cause,
}

/// What a stream is after the power was lost, or after a server of 2.10 was killed that had purged it. Each message that
/// was there and is lost was told before, as removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostTail {
    /// Which stream.
    pub stream: Arc<str>,
    /// The bucket that it is behind.
    pub bucket: Option<Arc<str>>,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The last sequence that is still known: those above it will be given out again.
    pub last: Sequence,
    /// Messages that are there again, because what had taken their place is lost, or that they are gone: their keys, or
    /// subjects.
    pub back: Vec<(Arc<str>, Sequence)>,
}

/// Why a record or a message went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It was older than `max_age`, or at the end of a life of its own, as a marker.
    Expired,
    /// Newer ones of its key or subject fill the history.
    Evicted,
    /// The stream as a whole was full, or got narrower limits.
    Limited,
    /// It was purged, or rolled up.
    Purged,
    /// Somebody deleted this one message.
    Deleted,
    /// Every consumer that wanted it is done with it.
    Settled,
    /// Its bucket or stream was deleted.
    BucketDeleted,
    /// It was kept in memory, and the server was stopped.
    LostAtRestart,
    /// It was not synced to its file when the power was lost.
    PowerLost,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "expired",
            Self::Evicted => "evicted from the history",
            Self::Limited => "dropped for a limit",
            Self::Purged => "purged",
            Self::Deleted => "deleted",
            Self::Settled => "settled",
            Self::BucketDeleted => "deleted with its bucket",
            Self::LostAtRestart => "lost at a restart",
            Self::PowerLost => "lost with the power",
        })
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = &self.entry;
        let (bucket, key, revision) = (&self.bucket, &entry.key, entry.revision);
        write!(
            f,
            "{:?} {bucket}/{key} = revision {revision}",
            entry.operation
        )?;
        match self.by {
            Some((link, request)) => write!(f, " by {link}, request {}", request.0),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bucket, key, revision) = (&self.bucket, &self.key, self.revision);
        write!(f, "revision {revision} of {bucket}/{key} {}", self.cause)
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stream, subject, sequence) = (&self.stream, &self.subject, self.sequence);
        write!(f, "{stream}: {subject} = sequence {sequence}")?;
        match self.by {
            Some((link, request)) => write!(f, " by {link}, request {}", request.0),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sequence {} of {} {}",
            self.sequence, self.stream, self.cause
        )
    }
}

impl fmt::Display for LostTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stream, last, back) = (&self.stream, self.last, self.back.len());
        write!(
            f,
            "{stream} ends at sequence {last} again, with {back} messages back"
        )
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { link, op } => write!(f, "send to {link}: {op:?}"),
            Self::Close { link } => write!(f, "close {link}"),
            Self::Route { to, op } => write!(f, "say to {to}: {op:?}"),
            Self::Exit => f.write_str("exit"),
            Self::Commit(commit) => commit.fmt(f),
            Self::Removed(removed) => removed.fmt(f),
            Self::Stored(stored) => stored.fmt(f),
            Self::Dropped(dropped) => dropped.fmt(f),
            Self::LostTail(lost) => lost.fmt(f),
        }
    }
}
