//! What agents of a chat call and are told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_core::transport::Sequence;

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Call {
    /// Join.
    Open {
        /// Who.
        agent: Arc<str>,
        /// Messages are to live so long; zero: for ever.
        retention: Duration,
    },
    /// Open a thread.
    Thread {
        /// Of this name.
        name: Arc<str>,
    },
    /// Say something.
    Send {
        /// In this thread.
        thread: Arc<str>,
        /// This; nobody says the same twice.
        body: Arc<str>,
    },
    /// Begin to watch.
    Watch {
        /// Numbers the watches of a process.
        watch: u32,
        /// One thread, by its subject; otherwise all.
        subject: Option<Arc<str>>,
    },
    /// Read which threads there are.
    Scan {
        /// Only those in which this agent has said something.
        agent: Option<Arc<str>>,
    },
    /// Ask another agent.
    Ask {
        /// Whom.
        agent: Arc<str>,
    },
    /// Read how many consumers the stream has.
    Consumers,
    /// Leave.
    Close,
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "gave")]
pub enum Reply {
    /// A message is stored.
    Sent {
        /// Its id.
        id: Arc<str>,
        /// Its place in the stream.
        sequence: Sequence,
    },
    /// Which threads there are, most recent first.
    Threads {
        /// Their names, or ids where they have none, and how many messages they hold.
        threads: Vec<(Arc<str>, u64)>,
    },
    /// How many consumers the stream has.
    Consumers {
        /// So many.
        count: u64,
    },
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tell {
    /// Which.
    pub watch: u32,
    /// What.
    #[serde(flatten)]
    pub told: Told,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "told")]
pub enum Told {
    /// A message.
    Got {
        /// Its id.
        id: Arc<str>,
        /// Its place in the stream.
        sequence: Sequence,
        /// What it says.
        body: Arc<str>,
    },
    /// What is none, or another thread's.
    Else {
        /// Its place in the stream.
        sequence: Sequence,
        /// The name of the thread that it belongs to, if it is a message.
        thread: Option<Arc<str>>,
    },
    /// Silence says nothing.
    Interrupted {
        /// Why, in words.
        reason: String,
    },
    /// It does again.
    Resumed,
    /// These have expired unheard.
    Expired {
        /// The first.
        first: Sequence,
        /// The last.
        last: Sequence,
    },
    /// These found no room.
    Slow {
        /// How many.
        missed: u64,
        /// The first.
        first: Sequence,
        /// The last.
        last: Sequence,
    },
    /// The end of the stream was lost; up to here all is in doubt.
    TailLost {
        /// Where.
        last: Sequence,
    },
    /// The stream is another.
    Recreated,
    /// The watch was given up by its reader.
    Cancelled,
    /// It has ended.
    Ended {
        /// Whether because the chat was closed; otherwise by a failure.
        closed: bool,
    },
}

impl Call {
    /// Its name in a word or two.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open a chat",
            Self::Thread { .. } => "open a thread",
            Self::Send { .. } => "send",
            Self::Watch { .. } => "watch a chat",
            Self::Scan { .. } => "a scan",
            Self::Ask { .. } => "ask",
            Self::Consumers => "the consumers",
            Self::Close => "close a chat",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { agent, retention } if retention.is_zero() => {
                write!(f, "open the chat of {agent}")
            }
            Self::Open { agent, retention } => {
                write!(f, "open the chat of {agent}, kept for {retention:?}")
            }
            Self::Thread { name } => write!(f, "open the thread {name}"),
            Self::Send { thread, body } => write!(f, "say {body:?} in {thread}"),
            Self::Watch {
                watch,
                subject: None,
            } => write!(f, "watch all (watch {watch})"),
            Self::Watch {
                watch,
                subject: Some(subject),
            } => write!(f, "watch {subject} (watch {watch})"),
            Self::Scan { agent: None } => f.write_str("which threads are there?"),
            Self::Scan { agent: Some(agent) } => write!(f, "which threads is {agent} in?"),
            Self::Ask { agent } => write!(f, "ask {agent}"),
            Self::Consumers => f.write_str("how many consumers are there?"),
            Self::Close => f.write_str("close the chat"),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent { sequence, .. } => write!(f, "stored as sequence {sequence}"),
            Self::Threads { threads } if threads.is_empty() => f.write_str("none"),
            Self::Threads { threads } => {
                let one = |(name, count): &(Arc<str>, u64)| format!("{name} ({count})");
                let all: Vec<_> = threads.iter().map(one).collect();
                f.write_str(&all.join(", "))
            }
            Self::Consumers { count } => write!(f, "{count}"),
        }
    }
}

impl fmt::Display for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watch {}: ", self.watch)?;
        match &self.told {
            Told::Got { sequence, body, .. } => write!(f, "{body:?} at sequence {sequence}"),
            Told::Else {
                sequence,
                thread: None,
            } => write!(f, "what is no message, at sequence {sequence}"),
            Told::Else {
                sequence,
                thread: Some(thread),
            } => write!(f, "a message of {thread} at sequence {sequence}"),
            Told::Interrupted { reason } => write!(f, "interrupted: {reason}"),
            Told::Resumed => f.write_str("resumed"),
            Told::Expired { first, last } => {
                write!(f, "sequences {first} to {last} have expired")
            }
            Told::Slow {
                missed,
                first,
                last,
            } => write!(f, "{missed} from sequence {first} to {last} are missed"),
            Told::TailLost { last } => write!(f, "the tail up to sequence {last} was lost"),
            Told::Recreated => f.write_str("the stream is another"),
            Told::Cancelled => f.write_str("given up"),
            Told::Ended { closed: true } => f.write_str("ended, the chat is closed"),
            Told::Ended { closed: false } => f.write_str("ended by a failure"),
        }
    }
}
