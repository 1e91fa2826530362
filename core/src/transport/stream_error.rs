//! Errors of streams and consumers, told as those of [`super::error`]: one enum for each operation, and each answers
//! "did it happen?".

use std::sync::Arc;
use std::time::Duration;

use super::error::{ApiError, Fallible, Outcome, PublishError};
use super::stream::Sequence;

/// A stream was not created, updated, purged, deleted or addressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Empty, or holds other than `A-Z a-z 0-9 - _`.
    #[error("not a name for a stream: {0:?}")]
    InvalidName(String),
    /// There is none of this name.
    #[error("there is no such stream")]
    NotFound,
    /// There is one of this name with other settings (10058).
    #[error("the stream exists with other settings")]
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

impl Fallible for StreamError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::TimedOut | Self::Closed => Outcome::Unknown,
            _ => Outcome::Refused,
        }
    }
}

/// A read of a stream failed. Reads have no effect; the outcome is always [`Outcome::Refused`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadStreamError {
    /// Not a subject (or filter).
    #[error("not a subject: {0:?}")]
    InvalidSubject(Arc<str>),
    /// There is no such stream, or nobody answers for it (as for direct gets where they are not allowed).
    #[error("there is no such stream")]
    NoStream,
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

impl Fallible for ReadStreamError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// A message was not stored, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It was not sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// No stream stores this subject, or nobody answers for it.
    #[error("no stream stores this subject")]
    NoStream,
    /// The last sequence, of the stream or of the subject, is another (10071).
    #[error("the last sequence is {actual}")]
    WrongLastSequence {
        /// The last one as the server knew it then.
        actual: Sequence,
    },
    /// The last message has another id (10070).
    #[error("the last message id is {actual:?}")]
    WrongLastMessageId {
        /// The last one as the server knew it then; empty where it has none.
        actual: Arc<str>,
    },
    /// The server refused, with its reason: full (10077), too large (10054), another stream (10060), ...
    #[error(transparent)]
    Rejected(ApiError),
    /// No acknowledgement within `ack_timeout`: it may have been stored, or may yet be.
    #[error("no acknowledgement in time")]
    TimedOut,
    /// The connection was closed while waiting: it may have been stored.
    #[error("the connection was closed while waiting for the acknowledgement")]
    ClosedWhileWaiting,
}

impl Fallible for StoreError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Publish(error) => error.outcome(),
            Self::TimedOut | Self::ClosedWhileWaiting => Outcome::Unknown,
            _ => Outcome::Refused,
        }
    }
}

/// A consumer was not created, described, deleted or addressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    /// Empty, or holds other than `A-Z a-z 0-9 - _`.
    #[error("not a name for a consumer: {0:?}")]
    InvalidName(String),
    /// There is no such stream.
    #[error("there is no such stream")]
    NoStream,
    /// There is no such consumer.
    #[error("there is no such consumer")]
    NotFound,
    /// The server refused, with its reason.
    #[error(transparent)]
    Rejected(ApiError),
    /// Nobody answers for JetStream.
    #[error("JetStream does not answer")]
    Unavailable,
    /// No answer within `request_timeout`.
    #[error("no answer in time")]
    TimedOut,
    /// The connection is closed, or was while waiting.
    #[error("the connection is closed")]
    Closed,
}

impl Fallible for ConsumerError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::TimedOut | Self::Closed => Outcome::Unknown,
            _ => Outcome::Refused,
        }
    }
}

/// Nothing was asked of a consumer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// A heartbeat of more than half of the time the pull may wait, or none of it.
    #[error("a heartbeat of {heartbeat:?} for a pull that waits {expires:?}")]
    InvalidHeartbeat {
        /// As wished.
        heartbeat: Duration,
        /// As wished; zero for a pull that does not wait.
        expires: Duration,
    },
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}

impl Fallible for PullError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// An acknowledgement was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// It was not sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The consumer is not there any more.
    #[error("there is no such consumer")]
    NoConsumer,
    /// No confirmation within `request_timeout`: it may have been heard.
    #[error("no confirmation in time")]
    TimedOut,
    /// The connection was closed while waiting: it may have been heard.
    #[error("the connection was closed while waiting for the confirmation")]
    ClosedWhileWaiting,
}

impl Fallible for AckError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Publish(error) => error.outcome(),
            Self::NoConsumer => Outcome::Refused,
            Self::TimedOut | Self::ClosedWhileWaiting => Outcome::Unknown,
        }
    }
}
