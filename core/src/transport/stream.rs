//! JetStream streams: an append-only log of messages with limits, and ways to read it.
//!
//! [`JetStream`] is the half of a connection that administers streams and publishes into them, [`Stream`] one stream,
//! [`PullConsumer`](super::PullConsumer) a cursor kept by the server. Reading in order without one is
//! [`Stream::read`], which heals itself as a watch does. A key-value bucket is a stream too, `KV_<bucket>`.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::channel::Reader;
use super::consumer::{ConsumerConfig, PullConsumer};
use super::error::WatchError;
use super::kv::{InterruptCause, Revision, Storage};
use super::message::{Headers, Message};
use super::stream_error::{ConsumerError, ReadStreamError, StoreError, StreamError};
use crate::time::UnixTime;

/// The position of a message in its stream: 1 for the first, never given out twice within one life of the stream.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Before the first message; as an expectation: "there is none".
    pub const NONE: Self = Self(0);

    /// The one after this.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A bucket's revisions are the sequences of the stream behind it.
impl From<Revision> for Sequence {
    fn from(revision: Revision) -> Self {
        Self(revision.0)
    }
}

/// A bucket's revisions are the sequences of the stream behind it.
impl From<Sequence> for Revision {
    fn from(sequence: Sequence) -> Self {
        Self(sequence.0)
    }
}

/// When a stream lets messages go before a limit says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// Never.
    #[default]
    Limits,
    /// Once every consumer that wants it has acknowledged it; at once where there is none.
    Interest,
    /// Once its one consumer has acknowledged it.
    WorkQueue,
}

/// What a full stream does with one message more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discard {
    /// Drops the oldest.
    #[default]
    Old,
    /// Refuses the new one (10077).
    New,
}

/// The settings of a stream. All its clients share them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamConfig {
    /// Its name: `A-Z a-z 0-9 - _`.
    pub name: String,
    /// What it stores; wildcards allowed. Empty: the subject that is its name.
    pub subjects: Vec<String>,
    /// When messages go before a limit says so.
    pub retention: Retention,
    /// What happens at a limit.
    pub discard: Discard,
    /// With [`Discard::New`]: also refuse at `max_messages_per_subject` instead of dropping that subject's oldest.
    pub discard_new_per_subject: bool,
    /// Most messages held; -1: no limit.
    pub max_messages: i64,
    /// Most messages held of one subject; -1: no limit.
    pub max_messages_per_subject: i64,
    /// Most bytes held; -1: no limit.
    pub max_bytes: i64,
    /// Messages older than this go. Zero: kept for ever. At least 100 ms.
    pub max_age: Duration,
    /// Largest message in bytes, headers included; -1: no limit of its own.
    pub max_message_size: i32,
    /// How long a message id is remembered. `None`: 2 min, or `max_age` where that is shorter.
    pub duplicate_window: Option<Duration>,
    /// Answer direct gets.
    pub allow_direct: bool,
    /// Obey `Nats-Rollup`.
    pub allow_rollup: bool,
    /// Refuse [`Stream::delete_message`]. Cannot be taken back.
    pub deny_delete: bool,
    /// Refuse [`Stream::purge`]. Cannot be taken back.
    pub deny_purge: bool,
    /// Obey `Nats-TTL` of a message. Needs nats-server 2.11; cannot be taken back.
    pub allow_message_ttl: bool,
    /// When set, a marker that lives this long takes the place of a subject's last message when that ages out. Needs
    /// nats-server 2.11; at least 1 s, whole seconds.
    pub subject_delete_markers: Option<Duration>,
    /// Where it is kept.
    pub storage: Storage,
    /// Copies in a cluster, 1 to 5.
    pub replicas: u8,
}

impl StreamConfig {
    /// A stream of this name with NATS' own defaults, that answers direct gets.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            subjects: Vec::new(),
            retention: Retention::Limits,
            discard: Discard::Old,
            discard_new_per_subject: false,
            max_messages: -1,
            max_messages_per_subject: -1,
            max_bytes: -1,
            max_age: Duration::ZERO,
            max_message_size: -1,
            duplicate_window: None,
            allow_direct: true,
            allow_rollup: false,
            deny_delete: false,
            deny_purge: false,
            allow_message_ttl: false,
            subject_delete_markers: None,
            storage: Storage::File,
            replicas: 1,
        }
    }
}

/// What the server says about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its settings as they are now.
    pub config: StreamConfig,
    /// When it was created, by the server's wall clock: tells one life of a name from the next.
    pub created: UnixTime,
    /// When the server said this, by the same clock.
    pub now: UnixTime,
    /// Messages held.
    pub messages: u64,
    /// Their bytes, as the server counts them.
    pub bytes: u64,
    /// The first sequence still held; one above `last_sequence` where nothing is.
    pub first_sequence: Sequence,
    /// The last sequence given out; stays when messages go.
    pub last_sequence: Sequence,
    /// Consumers that it has.
    pub consumers: u64,
    /// What whoever says this knows of who leads it.
    pub leadership: Leadership,
}

/// How far a server's word on a stream can be trusted, where it has copies.
///
/// Measured: a leader that others have succeeded does not know it before it hears of it. Frozen and thawed, or cut off, it
/// describes the stream as it was, and names itself; and once it has given up, it still does, naming nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Leadership {
    /// There is one copy, and this is it.
    #[default]
    Alone,
    /// There are copies, and whoever says this knows of no leader: it may have missed anything.
    Nobody,
    /// There are copies, and this server leads, as far as it knows.
    Leader {
        /// Its name.
        server: Arc<str>,
        /// How long ago it last heard so many of the others that they and it are a majority. A leader that has nothing
        /// to say makes itself heard, and hears them, every second.
        heard: Duration,
    },
}

impl Leadership {
    /// A leader that has heard a majority since is succeeded by nobody who only waits for it: that takes 4 s of silence. One
    /// that is put down by another's candidacy may not hear of it for a second.
    const HEARD_MAX: Duration = Duration::from_secs(3);

    /// Whether nothing speaks against what is said: it is the only copy's word, or that of a leader that hears a majority.
    pub fn is_likely(&self) -> bool {
        match self {
            Self::Alone => true,
            Self::Nobody => false,
            Self::Leader { heard, .. } => *heard <= Self::HEARD_MAX,
        }
    }
}

/// A message as a stream holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Where it was published.
    pub subject: Arc<str>,
    /// Its headers, as stored.
    pub headers: Headers,
    /// Its body.
    pub payload: Bytes,
    /// Its position.
    pub sequence: Sequence,
    /// When the server stored it, by the server's wall clock.
    pub time: UnixTime,
}

/// How long a message is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageTtl {
    /// So long, in whole seconds, rounded up here; at least 1 s.
    For(Duration),
    /// As long as no limit but `max_age` says otherwise: `never` is exempt from that too.
    Never,
}

/// What a publish demands, beside its message. By default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// `Nats-Msg-Id`: stored once within the duplicate window, whatever its subject or body.
    pub message_id: Option<String>,
    /// `Nats-Expected-Stream`.
    pub expected_stream: Option<String>,
    /// `Nats-Expected-Last-Sequence`: of the stream.
    pub expected_last_sequence: Option<Sequence>,
    /// `Nats-Expected-Last-Subject-Sequence`: of the message's own subject.
    pub expected_last_subject_sequence: Option<Sequence>,
    /// `Nats-Expected-Last-Msg-Id`: of the last message; empty for "it had none".
    pub expected_last_message_id: Option<String>,
    /// `Nats-TTL`.
    pub ttl: Option<MessageTtl>,
}

/// The server's word that a message is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreAck {
    /// In which stream.
    pub stream: Arc<str>,
    /// At which position; of the first copy where it is a duplicate.
    pub sequence: Sequence,
    /// It had been stored before under this message id.
    pub duplicate: bool,
}

/// What to purge. By default everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purge {
    /// Only messages of subjects that match.
    pub filter: Option<String>,
    /// Only messages below this. Without `filter`, one beyond the last moves the stream's counter.
    pub below: Option<Sequence>,
    /// Keep so many of the newest. Not together with `below` (10003).
    pub keep: Option<u64>,
}

/// Where a reader or a consumer begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadStart {
    /// At the first message still held.
    #[default]
    All,
    /// At what comes from now on.
    New,
    /// At the last message.
    Last,
    /// At the last message of each subject.
    LastPerSubject,
    /// At this sequence, or the first still held after it.
    Sequence(Sequence),
    /// At the first message stored at this time or later, by the server's wall clock.
    Time(UnixTime),
}

/// What a [`Reader`] tells.
///
/// Messages come in the order of their sequences, none twice, within one life of the stream. Unlike a watch over a
/// bucket that keeps one record a key, nothing that is still held is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderEvent {
    /// A message, with the number of messages that match and are still to come.
    Message(StoredMessage),
    /// All that was there when the reader began has been told. Once, at once if there was nothing.
    CaughtUp,
    /// From here on silence says nothing: the reader is being made anew.
    Interrupted(InterruptCause),
    /// Made anew: what is still held after the last message told will follow.
    Resumed {
        /// Whether the stream is still the one that was read before. If not, its messages follow from the first.
        same_stream: bool,
        /// The first sequence still held: what lies between the last message told and this is lost to the reader.
        first_held: Sequence,
    },
}

/// The half of a connection that administers streams and publishes into them.
pub trait JetStream: Clone + Send + Sync + 'static {
    /// What [`stream`](Self::stream) gives.
    type Stream: Stream;

    /// A handle to a stream. No round trip: whether it exists shows at the first use.
    ///
    /// # Errors
    /// If the name is empty or holds other than `A-Z a-z 0-9 - _`.
    fn stream(&self, name: &str) -> Result<Self::Stream, StreamError>;

    /// Creates a stream. Ok if it exists with this very configuration.
    ///
    /// # Errors
    /// [`StreamError::Exists`] if it exists with another one.
    fn create_stream(
        &self,
        config: &StreamConfig,
    ) -> impl Future<Output = Result<Self::Stream, StreamError>> + Send;

    /// Gives an existing stream this configuration, in place and at once: what a shortened limit no longer allows goes.
    ///
    /// # Errors
    /// [`StreamError::NotFound`] if there is none.
    fn update_stream(
        &self,
        config: &StreamConfig,
    ) -> impl Future<Output = Result<StreamInfo, StreamError>> + Send;

    /// Deletes a stream with its messages and consumers.
    ///
    /// # Errors
    /// [`StreamError::NotFound`] if there is none.
    fn delete_stream(&self, name: &str) -> impl Future<Output = Result<(), StreamError>> + Send;

    /// Publishes to whatever stream stores this subject and waits for its word, at most `ack_timeout`.
    ///
    /// # Errors
    /// See [`StoreError`]: after a time-out the message may be stored, or may yet be. With a message id it can be sent
    /// again within the duplicate window.
    fn store(
        &self,
        message: Message,
        options: StoreOptions,
    ) -> impl Future<Output = Result<StoreAck, StoreError>> + Send;
}

/// One stream. Cheap to clone.
pub trait Stream: Clone + Send + Sync + 'static {
    /// What [`consumer`](Self::consumer) gives.
    type Consumer: PullConsumer;

    /// Its name.
    fn name(&self) -> &str;

    /// What the server says about it, freshly read.
    fn info(&self) -> impl Future<Output = Result<StreamInfo, ReadStreamError>> + Send;

    /// Removes messages; gives how many. Sequences are not given out again.
    fn purge(&self, what: Purge) -> impl Future<Output = Result<u64, StreamError>> + Send;

    /// Removes one message. `false` if it was not there.
    fn delete_message(
        &self,
        sequence: Sequence,
    ) -> impl Future<Output = Result<bool, StreamError>> + Send;

    /// The message of this sequence.
    fn get(
        &self,
        sequence: Sequence,
    ) -> impl Future<Output = Result<Option<StoredMessage>, ReadStreamError>> + Send;

    /// The first message at or after this sequence whose subject matches.
    fn next(
        &self,
        from: Sequence,
        filter: &str,
    ) -> impl Future<Output = Result<Option<StoredMessage>, ReadStreamError>> + Send;

    /// The last message of this subject, or of all that match it.
    fn last(
        &self,
        subject: &str,
    ) -> impl Future<Output = Result<Option<StoredMessage>, ReadStreamError>> + Send;

    /// The last message of each subject that matches one of these filters, ascending by sequence, in one round trip.
    ///
    /// Complete or an error. Needs nats-server 2.11; older ones answer `Rejected` with code 408.
    fn last_of(
        &self,
        filters: &[&str],
    ) -> impl Future<Output = Result<Vec<StoredMessage>, ReadStreamError>> + Send;

    /// Reads messages whose subjects match one of `filters` (none: all), in order, through an ephemeral consumer that
    /// acknowledges nothing and is made anew whenever it may have missed something. Of copies it shows one, with what that
    /// means for a [watch](super::Bucket::watch).
    ///
    /// # Errors
    /// After an error there is no reader.
    fn read(
        &self,
        filters: &[&str],
        start: ReadStart,
    ) -> impl Future<Output = Result<Reader, WatchError>> + Send;

    /// Creates a pull consumer, or gives an existing one of this name these settings.
    fn create_consumer(
        &self,
        config: &ConsumerConfig,
    ) -> impl Future<Output = Result<Self::Consumer, ConsumerError>> + Send;

    /// A handle to a consumer. No round trip.
    ///
    /// # Errors
    /// If the name is empty or holds other than `A-Z a-z 0-9 - _`.
    fn consumer(&self, name: &str) -> Result<Self::Consumer, ConsumerError>;

    /// Deletes a consumer: its position is forgotten.
    fn delete_consumer(&self, name: &str)
    -> impl Future<Output = Result<(), ConsumerError>> + Send;
}
