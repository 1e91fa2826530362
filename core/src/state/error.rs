//! What can go wrong with shared state, and whether it happened all the same.

use std::time::Duration;

use super::key::InvalidKey;
use super::lock::AcquireError;
use super::ttl::InvalidTtl;
use crate::transport::{
    BucketError, Fallible, Outcome, ReadError, Revision, UpdateError, WatchError, WriteError,
};

/// A store was not opened. Nothing is left behind but perhaps an empty bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The bucket could not be created or attached to.
    #[error("state: bucket: {0}")]
    Bucket(#[from] BucketError),
    /// The bucket could not be read.
    #[error("state: {0}")]
    Read(#[from] ReadError),
    /// There is such a bucket, which keeps older values too, or lets every value go at an age. State needs one that
    /// keeps the latest of each key, for as long as the store says.
    #[error(
        "state: the bucket keeps {history} values a key for {max_age:?} (zero: for ever), and not the latest alone"
    )]
    Unfit {
        /// Records kept per key.
        history: u8,
        /// Their greatest age.
        max_age: Duration,
    },
}

impl Fallible for OpenError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// An operation on a store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The key has no value.
    #[error("the key has no value")]
    NotFound,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// Not a key, or not a pattern.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// Not a life.
    #[error(transparent)]
    InvalidTtl(#[from] InvalidTtl),
    /// A value larger than the store takes.
    #[error("a value of {size} bytes, and the store takes {limit}")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The most there may be.
        limit: usize,
    },
    /// The key has been written with a higher token since this one was given out.
    #[error("token {token} is stale: the key was written with {fence}")]
    StaleToken {
        /// What was given.
        token: u64,
        /// What the key was written with.
        fence: u64,
    },
    /// Others kept writing the key, each time before this write could.
    #[error("the key was contended by other writers")]
    Contended,
    /// The bucket could not be read; nothing was written.
    #[error("state: {0}")]
    Read(#[from] ReadError),
    /// It was not written, or nobody knows.
    #[error("state: {0}")]
    Write(#[from] WriteError),
    /// The bucket could not be watched.
    #[error("state: {0}")]
    Watch(#[from] WatchError),
}

impl Fallible for StateError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Write(error) => error.outcome(),
            _ => Outcome::Refused,
        }
    }
}

/// A lock was not acquired. Then nothing of it is owned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// Not a key.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// Not a life for a lock, which must end at some time.
    #[error(transparent)]
    InvalidTtl(#[from] InvalidTtl),
    /// Somebody else holds it, or it could not be had.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
}

impl Fallible for LockError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Acquire(error) => error.outcome(),
            Self::Closed | Self::InvalidKey(_) | Self::InvalidTtl(_) => Outcome::Refused,
        }
    }
}

/// A watch is over. It says so for ever.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// It has ended: the store was closed.
    #[error("the store of this watch was closed")]
    WatchClosed,
    /// It has failed: from here on nobody tells what happens.
    #[error("the watch failed: {0}")]
    Failed(WatchError),
}

/// What became of a conditional write.
pub(super) enum Written {
    Done(Revision),
    /// The key's latest record is another.
    Overtaken,
}

impl Written {
    pub(super) fn of(result: Result<Revision, UpdateError>) -> Result<Self, WriteError> {
        match result {
            Ok(revision) => Ok(Self::Done(revision)),
            Err(UpdateError::WrongRevision { .. }) => Ok(Self::Overtaken),
            Err(UpdateError::Write(error)) => Err(error),
        }
    }
}
