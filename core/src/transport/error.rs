//! Errors of the seam: one enum for each operation, and each answers "did it happen?".
//!
//! The question that decides what a caller may do next is not what went wrong but whether the effect may be there:
//! [`Outcome::Refused`] means it is not and never will be, [`Outcome::Unknown`] that it may be, now or later. An
//! unknown outcome is never narrowed without a proof (a read of one's own mark, a revision). The distinction is
//! Jepsen's `:fail` and `:info`; what real clients do is in `docs/conformance.md`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kv::Revision;

/// Did it happen?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No, and it never will.
    Refused,
    /// Perhaps; perhaps only later.
    Unknown,
}

/// An error that answers "did it happen?".
pub trait Fallible {
    /// Whether the effect may be there.
    fn outcome(&self) -> Outcome;
}

/// What the JetStream API answered instead of success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{description} (code {code}, error code {err_code})")]
pub struct ApiError {
    /// The HTTP-like status, such as 400.
    pub code: u16,
    /// NATS' own number, such as 10071.
    pub err_code: u64,
    /// The server's text.
    pub description: Arc<str>,
}

/// No connection was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No server given, or an address that cannot be read.
    #[error("not a server address: {0:?}")]
    InvalidAddress(String),
    /// Nobody listens there, or the link broke.
    #[error("cannot reach the server: {0}")]
    Unreachable(Arc<str>),
    /// The server did not greet within `connect_timeout`.
    #[error("the server did not answer in time")]
    TimedOut,
    /// The server refused the credentials, with its text.
    #[error("the server refused the credentials: {0}")]
    Auth(Arc<str>),
}

impl Fallible for ConnectError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// A message was not queued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Empty, or with white space in it.
    #[error("not a subject to publish to: {0:?}")]
    InvalidSubject(Arc<str>),
    /// The header of this name holds a line break, or its name what a name cannot hold.
    #[error("not a header that can be sent: {0:?}")]
    InvalidHeader(Arc<str>),
    /// Larger than the server takes. The connection is kept.
    #[error("{size} bytes with headers, and the server takes {limit}")]
    TooLarge {
        /// Bytes of headers and payload.
        size: usize,
        /// The server's `max_payload`.
        limit: usize,
    },
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
    /// There is no connection, and there was none in time. Of a session alone: it has one connection after the other.
    #[error("no connection in time")]
    NoConnection,
}

impl Fallible for PublishError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// A request got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It was not sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Nobody is subscribed there.
    #[error("no responders")]
    NoResponders,
    /// No answer within `request_timeout`. Somebody may have acted on it, or may yet.
    #[error("no answer in time")]
    TimedOut,
    /// The connection was closed while waiting.
    #[error("the connection was closed while waiting for the answer")]
    ClosedWhileWaiting,
}

impl Fallible for RequestError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Publish(error) => error.outcome(),
            Self::NoResponders => Outcome::Refused,
            Self::TimedOut | Self::ClosedWhileWaiting => Outcome::Unknown,
        }
    }
}

/// There is no subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// Empty, with white space, or with an empty token.
    #[error("not a subject to subscribe to: {0:?}")]
    InvalidSubject(Arc<str>),
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
    /// There is no connection, and there was none in time. Of a session alone: it has one connection after the other.
    #[error("no connection in time")]
    NoConnection,
}

impl Fallible for SubscribeError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// The round trip did not come back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    /// The server did not answer within `request_timeout`.
    #[error("the server did not answer in time")]
    TimedOut,
    /// The connection is closed, or was while waiting.
    #[error("the connection is closed")]
    Closed,
}

impl Fallible for FlushError {
    fn outcome(&self) -> Outcome {
        Outcome::Unknown
    }
}

/// A bucket was not created, updated, deleted or addressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// Empty, or holds other than `A-Z a-z 0-9 - _`.
    #[error("not a name for a bucket: {0:?}")]
    InvalidName(String),
    /// There is none of this name.
    #[error("there is no such bucket")]
    NotFound,
    /// There is one of this name with other settings.
    #[error("the bucket exists with other settings")]
    Exists,
    /// The server refused, with its reason.
    #[error(transparent)]
    Rejected(ApiError),
    /// Nobody answers for JetStream: it is not enabled, or not ready.
    #[error("JetStream does not answer")]
    Unavailable,
    /// No answer within `request_timeout`.
    #[error("no answer in time")]
    TimedOut,
    /// The connection is closed, or was while waiting.
    #[error("the connection is closed")]
    Closed,
}

impl Fallible for BucketError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::TimedOut | Self::Closed => Outcome::Unknown,
            _ => Outcome::Refused,
        }
    }
}

/// A read of a bucket failed. Reads have no effect; the outcome is always [`Outcome::Refused`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not a key (or filter).
    #[error("not a key: {0:?}")]
    InvalidKey(Arc<str>),
    /// There is no such bucket, or nobody answers for it.
    #[error("there is no such bucket")]
    NoBucket,
    /// The server refused, with its reason.
    #[error(transparent)]
    Rejected(ApiError),
    /// No (complete) answer within `request_timeout`.
    #[error("no answer in time")]
    TimedOut,
    /// The connection is closed, or was while waiting.
    #[error("the connection is closed")]
    Closed,
}

impl ReadError {
    /// The same as the error of a write that this read was a part of, before anything was written.
    pub fn before_write(self) -> WriteError {
        match self {
            Self::InvalidKey(key) => WriteError::InvalidKey(key),
            Self::Rejected(error) => WriteError::Rejected(error),
            Self::NoBucket => WriteError::NoBucket,
            // Its outcome is unknown, which claims less than is known here, and so is safe.
            Self::TimedOut => WriteError::TimedOut,
            Self::Closed => WriteError::Closed,
        }
    }
}

impl Fallible for ReadError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// A write was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Not a key.
    #[error("not a key: {0:?}")]
    InvalidKey(Arc<str>),
    /// Larger than the server takes in one message.
    #[error("{size} bytes with headers, and the server takes {limit}")]
    TooLarge {
        /// Bytes of headers and value.
        size: usize,
        /// The server's `max_payload`.
        limit: usize,
    },
    /// There is no such bucket, or nobody answers for it.
    #[error("there is no such bucket")]
    NoBucket,
    /// The server refused, with its reason: full (10077), too large for the bucket (10054), ...
    #[error(transparent)]
    Rejected(ApiError),
    /// No acknowledgement within `ack_timeout`: it may have been stored, or may yet be.
    #[error("no acknowledgement in time")]
    TimedOut,
    /// The connection was already closed: nothing was sent.
    #[error("the connection is closed")]
    Closed,
    /// The connection was closed while waiting: it may have been stored.
    #[error("the connection was closed while waiting for the acknowledgement")]
    ClosedWhileWaiting,
}

impl Fallible for WriteError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::TimedOut | Self::ClosedWhileWaiting => Outcome::Unknown,
            _ => Outcome::Refused,
        }
    }
}

/// A key was not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The key has a value.
    #[error("the key has a value")]
    AlreadyExists,
    /// It was not written, or nobody knows.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Fallible for CreateError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::AlreadyExists => Outcome::Refused,
            Self::Write(error) => error.outcome(),
        }
    }
}

/// A conditional write was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The key's latest record is another (10071).
    #[error("the latest revision of the key is {actual}")]
    WrongRevision {
        /// The latest revision of the key as the server knew it then; [`Revision::NONE`] where it has no record.
        actual: Revision,
    },
    /// It was not written, or nobody knows.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Fallible for UpdateError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::WrongRevision { .. } => Outcome::Refused,
            Self::Write(error) => error.outcome(),
        }
    }
}

/// There is no watch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Not a filter.
    #[error("not a filter for keys: {0:?}")]
    InvalidFilter(Arc<str>),
    /// There is no such bucket.
    #[error("there is no such bucket")]
    NoBucket,
    /// The server refused, with its reason.
    #[error(transparent)]
    Rejected(ApiError),
    /// No answer within `request_timeout`.
    #[error("no answer in time")]
    TimedOut,
    /// The connection is closed, or was while waiting.
    #[error("the connection is closed")]
    Closed,
}

impl Fallible for WatchError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}
