//! What agents do with a store, as histories tell it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_core::transport::Revision;

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Call {
    /// Open the store.
    Open,
    /// Put a value.
    Put {
        /// Under which key.
        key: Arc<str>,
        /// A hash of it.
        value: u64,
        /// For how long; for ever, if not given.
        life: Option<Duration>,
        /// The fencing token, if it bears one.
        token: Option<u64>,
    },
    /// Delete a value.
    Delete {
        /// Of which key.
        key: Arc<str>,
    },
    /// Read a value.
    Get {
        /// Of which key.
        key: Arc<str>,
    },
    /// List the keys that have values.
    Keys,
    /// Watch all of them.
    Watch,
    /// Close the store.
    Close,
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "gave")]
pub enum Reply {
    /// The value is stored.
    Put {
        /// As this.
        revision: Revision,
    },
    /// There is one.
    Value {
        /// Its place.
        revision: Revision,
        /// A hash of it.
        value: u64,
    },
    /// There is none.
    Absent,
    /// These keys have values.
    Keys {
        /// They.
        keys: Vec<Arc<str>>,
    },
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "told")]
pub enum Tell {
    /// A value was put.
    Put {
        /// Under which key.
        key: Arc<str>,
        /// Its place.
        revision: Revision,
        /// A hash of it.
        value: u64,
    },
    /// A value was deleted.
    Deleted {
        /// Of which key.
        key: Arc<str>,
        /// The place of the deletion, or zero.
        revision: Revision,
    },
    /// A value's life is over.
    Expired {
        /// Of which key.
        key: Arc<str>,
        /// That of the value.
        revision: Revision,
    },
    /// Something may be missing.
    Gap {
        /// Why, in words.
        reason: String,
    },
    /// The store is another.
    Restarted,
    /// Everything is as it was told last.
    CaughtUp,
    /// The watch ended, as the store was closed.
    Ended,
    /// The watch failed.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

impl Call {
    /// Its name in a word or two.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open => "open a store",
            Self::Put { .. } => "put",
            Self::Delete { .. } => "delete",
            Self::Get { .. } => "get",
            Self::Keys => "keys",
            Self::Watch => "watch a store",
            Self::Close => "close a store",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open the store"),
            Self::Put {
                key, life, token, ..
            } => {
                write!(f, "put {key}")?;
                if let Some(life) = life {
                    write!(f, " for {life:?}")?;
                }
                token.map_or(Ok(()), |token| write!(f, " with token {token}"))
            }
            Self::Delete { key } => write!(f, "delete {key}"),
            Self::Get { key } => write!(f, "get {key}"),
            Self::Keys => f.write_str("list the keys"),
            Self::Watch => f.write_str("watch the store"),
            Self::Close => f.write_str("close the store"),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { revision } | Self::Value { revision, .. } => {
                write!(f, "revision {revision}")
            }
            Self::Absent => f.write_str("nothing"),
            Self::Keys { keys } => f.write_str(&keys.join(" ")),
        }
    }
}

impl fmt::Display for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, revision, .. } => write!(f, "{key} was put ({revision})"),
            Self::Deleted { key, revision } => write!(f, "{key} was deleted ({revision})"),
            Self::Expired { key, revision } => write!(f, "{key} has expired ({revision})"),
            Self::Gap { reason } => write!(f, "a gap: {reason}"),
            Self::Restarted => f.write_str("the store is another"),
            Self::CaughtUp => f.write_str("caught up"),
            Self::Ended => f.write_str("the watch has ended"),
            Self::Failed { reason } => write!(f, "the watch has failed: {reason}"),
        }
    }
}
