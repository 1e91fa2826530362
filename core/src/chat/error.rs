//! What goes wrong in a chat: one enum for each operation, and each answers "did it happen?".

use super::config::ConfigError;
use super::send::Unconfirmed;
use crate::transport::{
    self, Fallible, FlushError, Outcome, ReadStreamError, RequestError, StoreError, StreamError,
    WatchError,
};

/// A chat was not opened. The stream may have been created, or its retention changed: neither harms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The stream could not be created or updated.
    #[error("chat: stream: {0}")]
    Stream(#[from] StreamError),
    /// The stream could not be looked at.
    #[error("chat: {0}")]
    Read(#[from] ReadStreamError),
    /// There is a stream of this name that stores something else.
    #[error("chat: the stream of this project stores other subjects: {found}")]
    Foreign {
        /// Which.
        found: String,
    },
}

impl Fallible for OpenError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Stream(error) => error.outcome(),
            Self::Config(_) | Self::Read(_) | Self::Foreign { .. } => Outcome::Refused,
        }
    }
}

/// A thread was not opened. Nothing is written by that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThreadError {
    /// The chat is closed.
    #[error("the chat is closed")]
    Closed,
    /// Empty, or longer than 256 bytes.
    #[error("not a name for a thread: {0:?}")]
    InvalidName(String),
    /// Another thread's name comes to the same id. Nobody would know one from the other but by the name.
    #[error("the thread {name:?} has the id {id} that the thread {with:?} has")]
    Collides {
        /// The name that was asked for.
        name: String,
        /// The name of the thread that is there.
        with: String,
        /// The id of both.
        id: String,
    },
    /// It could not be looked whether the id is taken.
    #[error("chat: {0}")]
    Read(#[from] ReadStreamError),
}

impl Fallible for ThreadError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// A message was not stored, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The chat is closed: nothing was sent.
    #[error("the chat is closed")]
    Closed,
    /// It is not stored and will not be.
    #[error("chat: {0}")]
    Refused(StoreError),
    /// It may be stored, or may yet be.
    #[error("chat: {error}")]
    Unconfirmed {
        /// What came of the last try.
        error: StoreError,
        /// The message, to be sent again.
        message: Box<Unconfirmed>,
    },
    /// It was not sent again: the server may have forgotten by now that it had this message, and would store it twice.
    #[error("it is too late to send this message again")]
    TooLate,
}

impl SendError {
    pub(super) fn unconfirmed(error: StoreError, message: Unconfirmed) -> Self {
        let message = Box::new(message);
        Self::Unconfirmed { error, message }
    }
}

impl Fallible for SendError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Closed | Self::Refused(_) => Outcome::Refused,
            // Of the message, not of this call.
            Self::Unconfirmed { .. } | Self::TooLate => Outcome::Unknown,
        }
    }
}

/// There is no watch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The chat is closed.
    #[error("the chat is closed")]
    Closed,
    /// There are as many as there may be.
    #[error("there are {max} watches already, and may not be more")]
    TooMany {
        /// How many.
        max: usize,
    },
    /// Not a pattern of subjects, or not one within the project.
    #[error("not a pattern of subjects of this project: {0:?}")]
    InvalidPattern(String),
    /// The stream could not be looked at.
    #[error("chat: {0}")]
    Read(#[from] ReadStreamError),
    /// The stream could not be read.
    #[error("chat: {0}")]
    Watch(#[from] WatchError),
    /// The stream was made anew again and again while it was looked at.
    #[error("chat: the stream does not stay the same")]
    Unsettled,
}

impl Fallible for SubscribeError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// A scan is not complete, and therefore gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The chat is closed.
    #[error("the chat is closed")]
    Closed,
    /// The connection is over for good.
    #[error("the connection is closed")]
    ConnectionLost,
    /// The stream could not be looked at.
    #[error("chat: {0}")]
    Read(#[from] ReadStreamError),
    /// The stream could not be read.
    #[error("chat: {0}")]
    Watch(#[from] WatchError),
    /// It took longer than `scan_timeout`.
    #[error("the scan is not complete in time")]
    TimedOut,
}

impl Fallible for ScanError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

/// A request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The chat is closed: nothing was sent.
    #[error("the chat is closed")]
    Closed,
    /// As the connection says.
    #[error("chat: {0}")]
    Request(#[from] RequestError),
    /// No answer by the deadline. Somebody may have acted on it, or may yet.
    #[error("no answer by the deadline")]
    TimedOut,
}

impl Fallible for AskError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Closed => Outcome::Refused,
            Self::Request(error) => error.outcome(),
            Self::TimedOut => Outcome::Unknown,
        }
    }
}

/// Nobody answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RespondError {
    /// The chat is closed.
    #[error("the chat is closed")]
    Closed,
    /// As the connection says.
    #[error("chat: {0}")]
    Subscribe(#[from] transport::SubscribeError),
    /// Whether the server knows of the subscription nobody knows; it is taken back.
    #[error("chat: {0}")]
    Flush(#[from] FlushError),
}

impl Fallible for RespondError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}
