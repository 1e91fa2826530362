//! What a client of a script does with the one stream of the script, with readers of it and with its pull consumers: in
//! words, as the other steps.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use squall_core::transport::{Discard, Retention, StreamConfig};

use super::script::Expected;

/// How long markers live: longer than any script.
const MARKERS: Duration = Duration::from_secs(60);

/// An enumeration of plain words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$each])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)*
                })
            }
        }

        impl FromStr for $name {
            type Err = Unknown;

            fn from_str(word: &str) -> Result<Self, Unknown> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(Unknown),
                }
            }
        }
    };
}

/// A word that means nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

words! {
    /// A setting of a stream that is not the default.
    Setting {
        /// Holds four messages.
        Few = "few",
        /// Holds two messages of a subject.
        TwoEach = "two-each",
        /// Takes no message above 120 bytes.
        Small = "small",
        /// Refuses what is beyond its limits.
        Refuse = "refuse",
        /// Also what is beyond those of a subject.
        RefuseEach = "refuse-each",
        /// Keeps what consumers want.
        Interest = "interest",
        /// Keeps what was not taken.
        Queue = "queue",
        /// Obeys `Nats-Rollup`.
        Rollup = "rollup",
        /// Messages may not be deleted.
        NoRemove = "no-remove",
        /// Messages may not be purged.
        NoPurge = "no-purge",
        /// Obeys `Nats-TTL`.
        Lives = "lives",
        /// Markers take the place of what ages out.
        Markers = "markers",
    }
}

impl Setting {
    /// Makes it so.
    pub(super) const fn apply(self, config: &mut StreamConfig) {
        match self {
            Self::Few => config.max_messages = 4,
            Self::TwoEach => config.max_messages_per_subject = 2,
            Self::Small => config.max_message_size = 120,
            Self::Refuse => config.discard = Discard::New,
            Self::RefuseEach => config.discard_new_per_subject = true,
            Self::Interest => config.retention = Retention::Interest,
            Self::Queue => config.retention = Retention::WorkQueue,
            Self::Rollup => config.allow_rollup = true,
            Self::NoRemove => config.deny_delete = true,
            Self::NoPurge => config.deny_purge = true,
            Self::Lives => config.allow_message_ttl = true,
            Self::Markers => config.subject_delete_markers = Some(MARKERS),
        }
    }
}

words! {
    /// A pull consumer of a script.
    Cursor {
        /// One.
        C = "C",
        /// Another.
        D = "D",
    }
}

words! {
    /// What is said about a delivery.
    Word {
        /// Done.
        Done = "done",
        /// Not done: again, now.
        Again = "again",
        /// Not done: again in a moment, which the step waits for.
        Later = "later",
        /// Not done: again long after the script.
        MuchLater = "much-later",
        /// Still at it.
        Working = "working",
        /// Never again.
        Never = "never",
    }
}

/// What a publish demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// A message id.
    Id(u8),
    /// The last sequence of the stream.
    Last(Expected),
    /// The last sequence of the subject.
    OfSubject(Expected),
    /// The last message id; 0 for none.
    LastId(u8),
    /// That this is the stream; or another.
    Stream(bool),
    /// A life in seconds, `None` for one that never ends. The step waits for the end of one second.
    Life(Option<u16>),
    /// To replace what was there of the subject; or in the stream.
    Rollup(bool),
    /// 150 bytes.
    Big,
}

/// Where a reader or a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in the seam")]
pub enum Start {
    All,
    New,
    Last,
    LastOfEach,
    /// At this sequence, but no more than one beyond the last.
    At(u8),
}

/// A setting of a consumer that is not the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Does not outlive its clients for ever.
    Brief,
    /// Kept in memory.
    InMemory,
    /// Reads only this.
    Filter(String),
    /// Begins there.
    From(Start),
    /// Acknowledgements are of all before; or not wanted.
    Acks(bool),
    /// Deliveries of one message.
    Deliver(u8),
    /// Unsettled deliveries.
    Pending(u8),
    /// Pulls that wait.
    Waiting(u8),
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the operations of the seam")]
pub enum StreamOp {
    Create(Vec<Setting>),
    Update(Vec<Setting>),
    /// All readers are closed before.
    Delete,
    Info,
    Store(String, Vec<Demand>),
    Remove(u8),
    Purge {
        filter: Option<String>,
        below: Option<u8>,
        keep: Option<u8>,
    },
    /// Makes everything that is there expire, by an age limit that is lifted again.
    Age,
    Get(u8),
    Next(u8, String),
    Last(String),
    LastOf(Vec<String>),
    Read(Start, Vec<String>),
    /// Closes one of all readers.
    Unread(u8),
    Consume(Cursor, Vec<Wish>),
    Forget(Cursor),
    Consumer(Cursor),
    /// Takes what is there.
    Pull(Cursor, u8),
    /// Takes what is there, and what comes.
    Await(Cursor, u8),
    /// About one of all deliveries that were ever made.
    Ack(Cursor, u8, Word),
    /// Lets the wait for acknowledgements end, by a short one that is lengthened again.
    Lapse(Cursor),
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(number) => write!(f, "id={number}"),
            Self::Last(expected) => write!(f, "last={expected}"),
            Self::OfSubject(expected) => write!(f, "last-of-subject={expected}"),
            Self::LastId(number) => write!(f, "last-id={number}"),
            Self::Stream(true) => f.write_str("stream=this"),
            Self::Stream(false) => f.write_str("stream=another"),
            Self::Life(Some(seconds)) => write!(f, "life={seconds}"),
            Self::Life(None) => f.write_str("life=never"),
            Self::Rollup(false) => f.write_str("rollup=subject"),
            Self::Rollup(true) => f.write_str("rollup=all"),
            Self::Big => f.write_str("big"),
        }
    }
}

impl FromStr for Demand {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Ok(match (name, value) {
            ("id", number) => Self::Id(parsed(number)?),
            ("last", expected) => Self::Last(parsed(expected)?),
            ("last-of-subject", expected) => Self::OfSubject(parsed(expected)?),
            ("last-id", number) => Self::LastId(parsed(number)?),
            ("stream", "this") => Self::Stream(true),
            ("stream", "another") => Self::Stream(false),
            ("life", "never") => Self::Life(None),
            ("life", seconds) => Self::Life(Some(parsed(seconds)?)),
            ("rollup", "subject") => Self::Rollup(false),
            ("rollup", "all") => Self::Rollup(true),
            ("big", "") => Self::Big,
            _ => return Err(Unknown),
        })
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::New => f.write_str("new"),
            Self::Last => f.write_str("last"),
            Self::LastOfEach => f.write_str("last-of-each"),
            Self::At(sequence) => sequence.fmt(f),
        }
    }
}

impl FromStr for Start {
    type Err = Unknown;

    fn from_str(word: &str) -> Result<Self, Unknown> {
        Ok(match word {
            "all" => Self::All,
            "new" => Self::New,
            "last" => Self::Last,
            "last-of-each" => Self::LastOfEach,
            number => Self::At(parsed(number)?),
        })
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Brief => f.write_str("brief"),
            Self::InMemory => f.write_str("in-memory"),
            Self::Filter(filter) => write!(f, "filter={filter}"),
            Self::From(start) => write!(f, "from={start}"),
            Self::Acks(true) => f.write_str("acks=all"),
            Self::Acks(false) => f.write_str("acks=none"),
            Self::Deliver(most) => write!(f, "deliver={most}"),
            Self::Pending(most) => write!(f, "pending={most}"),
            Self::Waiting(most) => write!(f, "waiting={most}"),
        }
    }
}

impl FromStr for Wish {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Ok(match (name, value) {
            ("brief", "") => Self::Brief,
            ("in-memory", "") => Self::InMemory,
            ("filter", filter) => Self::Filter(filter.to_owned()),
            ("from", start) => Self::From(parsed(start)?),
            ("acks", "all") => Self::Acks(true),
            ("acks", "none") => Self::Acks(false),
            ("deliver", most) => Self::Deliver(parsed(most)?),
            ("pending", most) => Self::Pending(parsed(most)?),
            ("waiting", most) => Self::Waiting(parsed(most)?),
            _ => return Err(Unknown),
        })
    }
}

impl fmt::Display for StreamOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(settings) => line(f, "create-stream", settings),
            Self::Update(settings) => line(f, "update-stream", settings),
            Self::Delete => f.write_str("delete-stream"),
            Self::Info => f.write_str("stream"),
            Self::Store(subject, demands) => line(f, &format!("store {subject}"), demands),
            Self::Remove(sequence) => write!(f, "remove {sequence}"),
            Self::Purge {
                filter,
                below,
                keep,
            } => {
                let filter = filter.as_ref().map(|filter| format!("filter={filter}"));
                let below = below.map(|below| format!("below={below}"));
                let keep = keep.map(|keep| format!("keep={keep}"));
                line(f, "clear", [filter, below, keep].iter().flatten())
            }
            Self::Age => f.write_str("age"),
            Self::Get(sequence) => write!(f, "get {sequence}"),
            Self::Next(from, filter) => write!(f, "next {from} {filter}"),
            Self::Last(filter) => write!(f, "last {filter}"),
            Self::LastOf(filters) => line(f, "last-of", filters),
            Self::Read(start, filters) => line(f, &format!("read {start}"), filters),
            Self::Unread(number) => write!(f, "unread {number}"),
            Self::Consume(cursor, wishes) => line(f, &format!("consume {cursor}"), wishes),
            Self::Forget(cursor) => write!(f, "forget {cursor}"),
            Self::Consumer(cursor) => write!(f, "consumer {cursor}"),
            Self::Pull(cursor, batch) => write!(f, "pull {cursor} {batch}"),
            Self::Await(cursor, batch) => write!(f, "await {cursor} {batch}"),
            Self::Ack(cursor, delivery, word) => write!(f, "ack {cursor} {delivery} {word}"),
            Self::Lapse(cursor) => write!(f, "lapse {cursor}"),
        }
    }
}

/// A verb, and words after it.
fn line<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    verb: &str,
    words: impl IntoIterator<Item = T>,
) -> fmt::Result {
    f.write_str(verb)?;
    words.into_iter().try_for_each(|word| write!(f, " {word}"))
}

/// An operation on the stream, if these words are one.
pub(super) fn parse(words: &[&str]) -> Result<StreamOp, Unknown> {
    let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Ok(match *words {
        ["create-stream", ref settings @ ..] => StreamOp::Create(all(settings)?),
        ["update-stream", ref settings @ ..] => StreamOp::Update(all(settings)?),
        ["delete-stream"] => StreamOp::Delete,
        ["stream"] => StreamOp::Info,
        ["store", subject, ref demands @ ..] => StreamOp::Store(subject.to_owned(), all(demands)?),
        ["remove", sequence] => StreamOp::Remove(parsed(sequence)?),
        ["clear", ref what @ ..] => parse_purge(what)?,
        ["age"] => StreamOp::Age,
        ["get", sequence] => StreamOp::Get(parsed(sequence)?),
        ["next", from, filter] => StreamOp::Next(parsed(from)?, filter.to_owned()),
        ["last", filter] => StreamOp::Last(filter.to_owned()),
        ["last-of", ref filters @ ..] => StreamOp::LastOf(own(filters)),
        ["read", start, ref filters @ ..] => StreamOp::Read(parsed(start)?, own(filters)),
        ["unread", number] => StreamOp::Unread(parsed(number)?),
        ["consume", cursor, ref wishes @ ..] => StreamOp::Consume(parsed(cursor)?, all(wishes)?),
        ["forget", cursor] => StreamOp::Forget(parsed(cursor)?),
        ["consumer", cursor] => StreamOp::Consumer(parsed(cursor)?),
        ["pull", cursor, batch] => StreamOp::Pull(parsed(cursor)?, parsed(batch)?),
        ["await", cursor, batch] => StreamOp::Await(parsed(cursor)?, parsed(batch)?),
        ["ack", cursor, delivery, word] => {
            StreamOp::Ack(parsed(cursor)?, parsed(delivery)?, parsed(word)?)
        }
        ["lapse", cursor] => StreamOp::Lapse(parsed(cursor)?),
        _ => return Err(Unknown),
    })
}

fn parse_purge(words: &[&str]) -> Result<StreamOp, Unknown> {
    let (mut filter, mut below, mut keep) = (None, None, None);
    for word in words {
        match word.split_once('=').ok_or(Unknown)? {
            ("filter", text) => filter = Some(text.to_owned()),
            ("below", sequence) => below = Some(parsed(sequence)?),
            ("keep", count) => keep = Some(parsed(count)?),
            _ => return Err(Unknown),
        }
    }
    Ok(StreamOp::Purge {
        filter,
        below,
        keep,
    })
}

fn parsed<T: FromStr>(word: &str) -> Result<T, Unknown> {
    word.parse().map_err(|_| Unknown)
}

fn all<T: FromStr>(words: &[&str]) -> Result<Vec<T>, Unknown> {
    words.iter().map(|word| parsed(word)).collect()
}
