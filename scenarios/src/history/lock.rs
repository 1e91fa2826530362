//! What agents do with locks, as histories tell it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Call {
    /// Acquire a lock.
    Acquire {
        /// Of what.
        key: Arc<str>,
        /// For how long, without a renewal.
        ttl: Duration,
        /// How long to wait for it, if at all.
        waits: Option<Duration>,
    },
    /// Renew it.
    Refresh {
        /// Of what.
        key: Arc<str>,
        /// Of which acquisition.
        token: u64,
    },
    /// Let it go.
    Unlock {
        /// Of what.
        key: Arc<str>,
        /// Of which acquisition.
        token: u64,
    },
    /// Write, under a lock, what it guards.
    Effect {
        /// What.
        key: Arc<str>,
        /// The fencing token.
        token: u64,
        /// A hash of the value.
        value: u64,
    },
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "gave")]
pub enum Reply {
    /// The lock, with this token.
    Held {
        /// It.
        token: u64,
    },
}

/// What a holder is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "told")]
pub enum Tell {
    /// A lock can be relied on no more.
    Lost {
        /// Which.
        key: Arc<str>,
        /// Of which acquisition.
        token: u64,
        /// Why, in a word.
        reason: String,
    },
}

impl Call {
    /// What it is about.
    pub const fn key(&self) -> &Arc<str> {
        match self {
            Self::Acquire { key, .. }
            | Self::Refresh { key, .. }
            | Self::Unlock { key, .. }
            | Self::Effect { key, .. } => key,
        }
    }

    /// Its name in a word or two.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Acquire { .. } => "acquire",
            Self::Refresh { .. } => "refresh",
            Self::Unlock { .. } => "unlock",
            Self::Effect { .. } => "an effect",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acquire { key, ttl, waits } => {
                write!(f, "lock {key} for {ttl:?}")?;
                waits.map_or(Ok(()), |waits| write!(f, ", waiting up to {waits:?}"))
            }
            Self::Refresh { key, token } => write!(f, "refresh the lock of {key} ({token})"),
            Self::Unlock { key, token } => write!(f, "unlock {key} ({token})"),
            Self::Effect { key, token, .. } => write!(f, "write {key} with token {token}"),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { token } => write!(f, "held, token {token}"),
        }
    }
}

impl fmt::Display for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { key, token, reason } => {
                write!(f, "the lock of {key} ({token}) is lost: {reason}")
            }
        }
    }
}
