//! What a run leaves behind: every call and its outcome, everything that was told, the server's own order of commits, and
//! what was done to the world, each with its true time. One record a line of JSON.
//!
//! Calls are closed intervals: an `invoke` and then `ok`, `refused` or `unknown` with the same `id`. A call without an end
//! was still under way when its process died or the run ended.

pub mod chat;
pub mod lock;
pub mod state;

use std::io::{self, BufRead, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use squall_core::diagnostics::NatsEvent;
use squall_core::transport::{Operation, Outcome, Revision, Sequence};
use squall_core::{Instant, UnixTime};
use squall_reports::clean;

use crate::parse::{PlanError, parse};
use crate::plan::Plan;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// True time in nanoseconds.
    pub at: Instant,
    /// What happened then.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum What {
    /// The first record: what was run.
    Planned {
        /// The plan, as TOML.
        plan: String,
        /// What the right wall clock read at its start; not given for simulated worlds, where it always reads the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wall: Option<UnixTime>,
    },
    /// A process calls something.
    Invoke {
        /// Names the call, for its end.
        id: u64,
        /// Who.
        process: Arc<str>,
        /// What.
        call: Call,
    },
    /// The call succeeded.
    Ok {
        /// Which.
        id: u64,
        /// With what.
        reply: Reply,
    },
    /// The call failed and had no effect.
    Refused {
        /// Which.
        id: u64,
        /// Why.
        error: String,
        /// Whether it was because the key's latest record was not the one that the call demanded.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        conflict: bool,
    },
    /// The call failed and may have had its effect, or may yet.
    Unknown {
        /// Which.
        id: u64,
        /// Why.
        error: String,
    },
    /// A process is told something that it did not ask for just then.
    Told {
        /// Who.
        process: Arc<str>,
        /// What.
        tell: Tell,
    },
    /// The server stored a record.
    Committed(Commit),
    /// A record went away without another in its place.
    Removed {
        /// In which bucket.
        bucket: Arc<str>,
        /// Of which key.
        key: Arc<str>,
        /// Which.
        revision: Revision,
        /// Why, in words.
        cause: String,
    },
    /// The server stored a message in a stream that is behind no bucket.
    Stored {
        /// In which stream.
        stream: Arc<str>,
        /// Where it was published.
        subject: Arc<str>,
        /// Its place in the order of the stream.
        sequence: Sequence,
        /// `Nats-Msg-Id`.
        message_id: Option<Arc<str>>,
        /// Whose request it was; `None` for the server's own.
        by: Option<Arc<str>>,
    },
    /// A message of such a stream went away.
    Dropped {
        /// From which stream.
        stream: Arc<str>,
        /// Which.
        sequence: Sequence,
        /// Why, in words.
        cause: String,
    },
    /// The power was lost, and with it the end of a stream: what was lost was told before, as removed.
    LostTail {
        /// Which stream.
        stream: Arc<str>,
        /// The bucket that it is behind.
        bucket: Option<Arc<str>>,
        /// Sequences, and revisions, above this one are given out again.
        last: Sequence,
        /// Keys, or subjects, of messages that are there again, because what had taken their place is lost.
        back: Vec<(Arc<str>, Sequence)>,
    },
    /// Something happened to a process.
    Life {
        /// Which.
        process: Arc<str>,
        /// What.
        event: Life,
    },
    /// A fault begins or ends.
    Fault {
        /// Its place in the plan.
        number: usize,
        /// Its name and target, in words.
        fault: String,
        /// True when it begins.
        begins: bool,
    },
    /// Every fault is mended; what was promised must now become so.
    Mended,
    /// The world was well again.
    Settled,
    /// The world was not well again within the bound: what was missing.
    Unsettled {
        /// In words.
        pending: String,
    },
    /// A task panicked.
    Panicked {
        /// With this message.
        message: String,
    },
    /// The run is over.
    End {
        /// Tasks still alive, of each process that is.
        tasks: Vec<(Arc<str>, u32)>,
    },
}

/// A record that the server stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// In which bucket.
    pub bucket: Arc<str>,
    /// Under which key.
    pub key: Arc<str>,
    /// Its place in the order of the bucket.
    pub revision: Revision,
    /// What it says.
    pub operation: Operation,
    /// Whose request it was; `None` for the server's own.
    pub by: Option<Arc<str>>,
    /// The incarnation that its value names, where it is an entry of a presence; the acquisition, where it is the record of
    /// a lock.
    pub incarnation: Option<Arc<str>>,
    /// How long the entry or record says that it lives.
    pub ttl: Option<Duration>,
    /// A hash of the value, to find the call that wrote it.
    pub value: u64,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "call")]
pub enum Call {
    /// Connect to a server.
    Connect,
    /// Open a presence.
    Open {
        /// Of whom.
        agent: Arc<str>,
        /// The key of its entry.
        key: Arc<str>,
        /// Beating at this interval.
        interval: Duration,
    },
    /// Close it.
    Close {
        /// Of whom.
        agent: Arc<str>,
    },
    /// Begin to watch.
    Watch,
    /// Read who is there.
    Who,
    /// Read whether somebody is there.
    Present {
        /// Who.
        agent: Arc<str>,
    },
    /// Write to a bucket.
    Write {
        /// Which bucket.
        bucket: Arc<str>,
        /// Which key.
        key: Arc<str>,
        /// What.
        operation: Operation,
        /// Over which revision, if one was named.
        expected: Option<Revision>,
        /// A hash of the value.
        value: u64,
    },
    /// Read one record.
    Read {
        /// Which bucket.
        bucket: Arc<str>,
        /// Which key.
        key: Arc<str>,
    },
    /// Follow everything in a bucket.
    Follow,
    /// Make a round trip to the server.
    Flush,
    /// Get credentials from the auth service.
    Exchange {
        /// For which account.
        account: Arc<str>,
    },
    /// Make a connection, of which a session has one after the other.
    Dial,
    /// Begin to live on credentials of an account.
    LogIn {
        /// Which.
        account: Arc<str>,
    },
    /// End that.
    LogOut,
    /// Write down who is logged in.
    Save {
        /// In which file.
        file: Arc<str>,
        /// A hash of the login; `None`: nobody.
        login: Option<u64>,
    },
    /// Read who is logged in.
    Load {
        /// In which file.
        file: Arc<str>,
    },
    /// Something with a lock.
    Lock(lock::Call),
    /// Something with a store.
    State(state::Call),
    /// Something of a chat.
    Chat(chat::Call),
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reply")]
pub enum Reply {
    /// Nothing but that it is done.
    Done,
    /// The revision that a write was stored under.
    Stored {
        /// It.
        revision: Revision,
    },
    /// What an exchange gave.
    Issued {
        /// The name of the token, unlike any other's.
        token: Arc<str>,
        /// When it ends.
        expires: Option<UnixTime>,
    },
    /// A connection is up.
    Dialled {
        /// Its name in this process.
        connection: Arc<str>,
        /// What it has logged in with, if with anything.
        token: Option<Arc<str>>,
    },
    /// The login that was read.
    Loaded {
        /// A hash of it; `None`: nobody is logged in.
        login: Option<u64>,
    },
    /// The record that was read.
    Read {
        /// Its revision, if there is one.
        revision: Option<Revision>,
    },
    /// Who is there.
    Who {
        /// Agents and their incarnations.
        present: Vec<Agent>,
    },
    /// Whether somebody is there.
    Present {
        /// Whether.
        present: bool,
    },
    /// Of something with a lock.
    Lock(lock::Reply),
    /// Of something with a store.
    State(state::Reply),
    /// The watch has begun, and these are there.
    Watching {
        /// Agents and their incarnations.
        present: Vec<Agent>,
    },
    /// Something of a chat.
    Chat(chat::Reply),
}

/// An agent as others see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Agent {
    /// Who.
    pub agent: Arc<str>,
    /// In which life.
    pub incarnation: Arc<str>,
}

/// What a process is told without having asked just then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "tell")]
pub enum Tell {
    /// Somebody is there who was not.
    Up(Agent),
    /// Somebody is there no more.
    Down {
        /// Who.
        #[serde(flatten)]
        agent: Agent,
        /// How it is known, in words.
        reason: String,
    },
    /// Silence says nothing from here on.
    Blind {
        /// Why, in words.
        reason: String,
    },
    /// It does again.
    Seeing,
    /// Events were dropped; these are there now.
    Lagged {
        /// How many.
        missed: u64,
        /// Who is there.
        present: Vec<Agent>,
    },
    /// The watch ended.
    WatchEnded,
    /// One's own entry is gone.
    Evicted {
        /// Why, in words.
        reason: String,
    },
    /// It is back.
    Restored,
    /// The connection is lost, up again, and so on.
    Connection {
        /// In words.
        event: String,
    },
    /// A record, by who follows a bucket.
    Saw {
        /// Its key.
        key: Arc<str>,
        /// Its revision.
        revision: Revision,
    },
    /// Who follows a bucket does not, from here on.
    Interrupted {
        /// Why, in words.
        reason: String,
    },
    /// It does again: what is newest of each key will come.
    Resumed,
    /// It ended.
    FollowEnded,
    /// What became of one of the connections that a session has, as its client knows.
    Wire {
        /// Its name in this process.
        connection: Arc<str>,
        /// What.
        #[serde(flatten)]
        wire: Wire,
    },
    /// Something of a lock that one holds.
    Lock(lock::Tell),
    /// Something of a store that one watches.
    State(state::Tell),
    /// A line of the log of connection events.
    Logged {
        /// It; boxed, as every record of a history has room for the largest kind.
        event: Box<NatsEvent>,
    },
    /// Something of a chat.
    Chat(chat::Tell),
}

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "wire")]
pub enum Wire {
    /// It has another link, and has logged in anew.
    Up {
        /// With this token.
        token: Option<Arc<str>>,
    },
    /// It has no link.
    Down {
        /// Why, in words.
        cause: String,
    },
    /// The server does not accept what it logs in with.
    Refused {
        /// In the server's words.
        text: String,
    },
    /// It is over.
    Closed,
}

/// What happens to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// It starts.
    Started,
    /// It dies at once.
    Crashed,
    /// It stands still, its clocks go on.
    Paused,
    /// It goes on.
    Resumed,
    /// Its machine sleeps.
    Suspended,
    /// Its machine wakes.
    Woken,
}

/// All records of a run, in the order of true time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(pub Vec<Record>);

/// A line of a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It is not a record.
    #[error("line {line}: not a record of a history: {reason}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is none.
    #[error("line 1: the history is empty")]
    Empty,
    /// Nothing can be judged without knowing what was run.
    #[error("line 1: a history begins with its plan, and this one does not")]
    Planless,
    /// The plan that it begins with is none.
    #[error("line 1: in line {line} of the plan: {error}", line = .0.line, error = .0)]
    Plan(#[from] PlanError),
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl History {
    /// Writes one record a line.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        for record in &self.0 {
            serde_json::to_writer(&mut out, record)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// Names the first line that is not a record.
    pub fn read(input: impl BufRead) -> Result<Self, HistoryError> {
        let mut records = Vec::new();
        for (index, line) in input.lines().enumerate() {
            let wrong = |error: &dyn std::error::Error| HistoryError::Line {
                line: index + 1,
                reason: clean(&error.to_string()),
            };
            let line = line.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => wrong(&error),
                _ => HistoryError::from(error),
            })?;
            records.push(serde_json::from_str(&line).map_err(|error| wrong(&error))?);
        }
        if records.is_empty() {
            Err(HistoryError::Empty)
        } else {
            Ok(Self(records))
        }
    }
}

impl History {
    /// What was run.
    ///
    /// # Errors
    /// If it does not begin with a plan, or that is none.
    pub fn plan(&self) -> Result<Plan, HistoryError> {
        match self.0.first() {
            Some(Record {
                what: What::Planned { plan, .. },
                ..
            }) => Ok(parse(plan)?),
            _ => Err(HistoryError::Planless),
        }
    }
}

/// Takes records in while a run goes on. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Mutex<Recording>>,
    now: Arc<dyn Fn() -> Instant + Send + Sync>,
}

#[derive(Default)]
struct Recording {
    records: Vec<Record>,
    calls: u64,
    names: HashTable<Arc<str>>,
    /// The time of the last record.
    latest: Instant,
    /// Several threads have recorded at once, so that a record has come after a later one.
    is_disordered: bool,
}

impl Recording {
    fn invoke(&mut self, at: Instant, process: &Arc<str>, call: Call) -> u64 {
        self.calls += 1;
        let (id, process) = (self.calls, process.clone());
        self.add(at, What::Invoke { id, process, call });
        id
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        let hasher = |known: &Arc<str>| value_hash(known.as_bytes());
        let hash = value_hash(name.as_bytes());
        let entry = self.names.entry(hash, |known| **known == *name, hasher);
        Arc::clone(entry.or_insert_with(|| name.into()).get())
    }

    /// Inlined, so that a record is made where it is to lie, and not moved there.
    #[inline(always)]
    fn add(&mut self, at: Instant, what: What) {
        self.is_disordered |= self.latest > at;
        self.latest = at;
        self.records.push(Record { at, what });
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    /// A recorder that dates records by this clock of true time.
    pub fn new(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::default(),
            now: Arc::new(now),
        }
    }

    /// Makes room for so many records, at once instead of little by little.
    pub(crate) fn expect(&self, records: usize) {
        self.recording().records.reserve(records);
    }

    fn recording(&self) -> MutexGuard<'_, Recording> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True time.
    pub fn now(&self) -> Instant {
        (self.now)()
    }

    /// Records something that happens now.
    pub fn record(&self, what: What) {
        let at = self.now();
        self.recording().add(at, what);
    }

    /// Takes in a record that has its time already.
    #[inline]
    pub(crate) fn add(&self, record: Record) {
        self.recording().add(record.at, record.what);
    }

    /// A name as records hold it: the same text is one and the same string in all of them.
    pub(crate) fn name(&self, name: &str) -> Arc<str> {
        self.recording().name(name)
    }

    /// Records that a process calls something; the number is for its end.
    pub fn invoke(&self, process: &Arc<str>, call: Call) -> u64 {
        let at = self.now();
        self.recording().invoke(at, process, call)
    }

    /// Records how a call ended.
    pub fn ended(&self, id: u64, result: Result<Reply, (Outcome, String)>) {
        match result {
            Ok(reply) => self.record(What::Ok { id, reply }),
            Err((Outcome::Refused, error)) => self.record(What::Refused {
                id,
                error,
                conflict: false,
            }),
            Err((Outcome::Unknown, error)) => self.record(What::Unknown { id, error }),
        }
    }

    /// Takes everything recorded so far, in the order of true time.
    pub fn take(&self) -> Vec<Record> {
        let mut recording = self.recording();
        let mut records = std::mem::take(&mut recording.records);
        if std::mem::take(&mut recording.is_disordered) {
            records.sort_by_key(|record| record.at);
        }
        records
    }
}

/// Tells values apart, eight bytes at a step (after wyhash's mixing). Part of every history: must never change.
pub fn value_hash(value: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(K);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let mut words = value.chunks_exact(8);
    let mut hash = K ^ value.len() as u64;
    for word in &mut words {
        hash = mix(
            hash,
            u64::from_le_bytes(word.try_into().unwrap_or_default()),
        );
    }
    let rest = words.remainder().iter().rev();
    mix(
        hash,
        rest.fold(1, |word, byte| (word << 8) | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart_for_ever_in_the_same_way() {
        assert_eq!(value_hash(b""), EMPTY);
        assert_eq!(value_hash(b"0123456789"), TEN);
        let all: std::collections::BTreeSet<u64> = (0..64)
            .flat_map(|len| [vec![0; len], vec![1; len]])
            .map(|v| value_hash(&v))
            .collect();
        assert_eq!(all.len(), 127, "only the two empty ones are alike");
    }

    const EMPTY: u64 = 2_361_070_584_089_566_796;
    const TEN: u64 = 9_570_996_348_878_051_073;

    #[test]
    fn a_broken_line_is_named() {
        let good = r#"{"at":5,"type":"mended"}"#;
        let history = History::read(good.as_bytes()).expect("one record");
        let mut written = Vec::new();
        history.write(&mut written).expect("memory");
        assert_eq!(written, format!("{good}\n").as_bytes());
        let broken = format!("{good}\n{}", r#"{"at":5,"type":"#);
        let error = History::read(broken.as_bytes()).expect_err("it is cut off");
        assert!(
            error
                .to_string()
                .starts_with("line 2: not a record of a history: "),
            "{error}"
        );
        assert!(History::read(&b""[..]).is_err());
        let not_text = [good.as_bytes(), b"\n\xff"].concat();
        let error = History::read(&*not_text).expect_err("it is not text");
        assert!(error.to_string().starts_with("line 2: "), "{error}");
    }

    #[test]
    fn what_is_quoted_of_a_broken_line_stays_on_the_line_of_the_sentence() {
        let broken = r#"{"at":5,"type":"in\nvoke\u001b[2J"}"#;
        let error = History::read(broken.as_bytes()).expect_err("there is no such type");
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
}
