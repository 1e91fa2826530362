//! What the reader of a watch is told: [`Event`], and why it ends: [`End`].

use std::fmt;
use std::sync::Arc;

use super::envelope::Received;
use crate::transport::{InterruptCause, Sequence};

/// What the reader of a watch is told. Messages come in the order of the stream, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody said something.
    Message(Box<Received>),
    /// A message that is no envelope: of another program, or of another version.
    Unreadable {
        /// Where it was published.
        subject: Arc<str>,
        /// Its place in the stream.
        sequence: Sequence,
    },
    /// A message of another thread, whose name comes to the same id. Told only where a watch is of one thread: it is not
    /// the thread's, and so it is not shown as if it were.
    OtherThread {
        /// The name of that thread.
        name: String,
        /// Its place in the stream.
        sequence: Sequence,
    },
    /// From here on silence says nothing.
    Interrupted(InterruptCause),
    /// Silence says something again. What is still held of what came meanwhile follows; what is not was told as a gap.
    Resumed,
    /// Messages may have been missed, for good.
    Gap(Gap),
}

/// Which messages may have been missed, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The stream has let these go before they were read. Whether any of them was of interest nobody can say any more.
    Expired {
        /// The first.
        first: Sequence,
        /// The last.
        last: Sequence,
    },
    /// The reader was slow: these were dropped, unread.
    Slow {
        /// How many.
        missed: u64,
        /// The first.
        first: Sequence,
        /// The last.
        last: Sequence,
    },
    /// The server has lost the end of the stream, as at a loss of power: what was told last may not be there any more, and
    /// what took its place, up to here, may have been missed.
    TailLost {
        /// The last place that is in doubt.
        last: Sequence,
    },
    /// The stream was deleted and made anew: what the old one held besides is gone. All of the new one follows.
    Recreated,
}

impl Gap {
    /// Takes another gap into this one, where the two are as one.
    pub(super) fn absorb(&mut self, other: Self) -> bool {
        match (self, other) {
            (
                Self::Expired { last, .. },
                Self::Expired {
                    first: next,
                    last: end,
                },
            ) if last.next() >= next => *last = end,
            (
                Self::Slow { missed, last, .. },
                Self::Slow {
                    missed: more,
                    last: end,
                    ..
                },
            ) => (*missed, *last) = (*missed + more, end),
            (Self::TailLost { last }, Self::TailLost { last: end }) => *last = end.max(*last),
            (Self::Recreated, Self::Recreated) => {}
            _ => return false,
        }
        true
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { first, last } => write!(f, "{first} to {last} have expired"),
            Self::Slow {
                missed,
                first,
                last,
            } => write!(f, "{missed} from {first} to {last} found no room"),
            Self::TailLost { last } => write!(f, "the tail up to {last} was lost"),
            Self::Recreated => f.write_str("the stream was made anew"),
        }
    }
}

/// Why a watch has ended. Whoever drops a watch is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The chat was closed, or all that held it are gone: what was said before has been told.
    #[error("the chat is closed")]
    Closed,
    /// A failure: the connection is over for good. What was said since may have been missed.
    #[error("the connection is over")]
    ConnectionLost,
}
