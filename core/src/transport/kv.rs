//! JetStream key-value buckets (ADR-8): revisions are stream sequences, shared by all keys of a bucket.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::channel::Watch;
use super::error::{CreateError, ReadError, UpdateError, WatchError, WriteError};
use super::message::Headers;
use super::names;
use super::stream::{Discard, Leadership, MessageTtl, StreamConfig, StreamInfo};
use crate::time::UnixTime;

/// The position of one change in its bucket: 1 for the first, increasing by one with every accepted write, deletion
/// and delete marker of any key. Starts again at 1 when a bucket is deleted and created anew.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// Before the first change; as an expectation: "this key has no record".
    pub const NONE: Self = Self(0);

    /// The one after this.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the latest record of a key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A value.
    Put,
    /// Deleted; older records of the key may remain in the history.
    Delete,
    /// Deleted with its history.
    Purge,
    /// Aged out, and the bucket keeps delete markers (`Nats-Marker-Reason: MaxAge`).
    Expire,
}

impl Operation {
    /// True for a value, false for the three ways of being gone.
    pub const fn is_put(self) -> bool {
        matches!(self, Self::Put)
    }

    /// What a message of the stream behind a bucket says, by its headers.
    pub fn of_headers(headers: &Headers) -> Self {
        match (
            headers.get("Nats-Marker-Reason"),
            headers.get("KV-Operation"),
        ) {
            (Some("MaxAge"), _) => Self::Expire,
            (Some("Purge"), _) | (_, Some("PURGE")) => Self::Purge,
            (Some(_), _) | (_, Some("DEL")) => Self::Delete,
            _ => Self::Put,
        }
    }
}

/// One record of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEntry {
    /// The key.
    pub key: Arc<str>,
    /// The value; empty unless `operation` is [`Operation::Put`].
    pub value: Bytes,
    /// Its position in the bucket.
    pub revision: Revision,
    /// What it says.
    pub operation: Operation,
    /// When the server stored it, by the server's wall clock.
    pub created: UnixTime,
}

/// Where the records of a bucket are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// On disk: survives a restart of the server.
    #[default]
    File,
    /// In memory: the bucket itself vanishes with any restart.
    Memory,
}

/// The settings of a bucket. All peers share them: whoever updates them changes them for everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketConfig {
    /// Its name: `A-Z a-z 0-9 - _`.
    pub bucket: String,
    /// Records kept per key, 1 to 64. Default 1.
    pub history: u8,
    /// Records older than this go, unnoticed by watchers unless `delete_markers` is set. Zero: kept for ever. At least
    /// 100 ms. Default: for ever.
    pub max_age: Duration,
    /// When set, the last record of an aged-out key is replaced by a marker that lives this long (at least 1 s, whole
    /// seconds, and never longer than `max_age`), and watchers see it. Needs nats-server 2.11; cannot be taken back.
    pub delete_markers: Option<Duration>,
    /// Largest value in bytes, headers included; -1: no limit of its own.
    pub max_value_size: i32,
    /// Largest total size in bytes; -1: no limit of its own.
    pub max_bytes: i64,
    /// Where it is kept.
    pub storage: Storage,
    /// Copies in a cluster, 1 to 5.
    pub replicas: u8,
}

impl BucketConfig {
    /// A bucket of this name with NATS' own defaults.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            history: 1,
            max_age: Duration::ZERO,
            delete_markers: None,
            max_value_size: -1,
            max_bytes: -1,
            storage: Storage::File,
            replicas: 1,
        }
    }
}

/// The server's default memory of message ids.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// The stream behind a bucket, as NATS' own clients lay it out (ADR-8).
impl BucketConfig {
    /// The settings of the stream behind a new bucket.
    pub fn stream(&self) -> StreamConfig {
        let mut stream = StreamConfig {
            subjects: vec![names::key_subject(&self.bucket, ">")],
            discard: Discard::New,
            duplicate_window: Some(DUPLICATE_WINDOW),
            allow_rollup: true,
            deny_delete: true,
            ..StreamConfig::new(names::bucket_stream(&self.bucket))
        };
        self.apply_to(&mut stream);
        stream
    }

    /// Changes what a bucket's settings name, and nothing else.
    pub fn apply_to(&self, stream: &mut StreamConfig) {
        stream.max_messages_per_subject = self.history.into();
        stream.max_age = self.max_age;
        stream.max_message_size = self.max_value_size;
        stream.max_bytes = self.max_bytes;
        stream.storage = self.storage;
        stream.replicas = self.replicas;
        // The server refuses a window longer than the age limit.
        if let Some(window) = &mut stream.duplicate_window
            && !self.max_age.is_zero()
        {
            *window = self.max_age.min(*window);
        }
        if self.delete_markers.is_some() || stream.subject_delete_markers.is_some() {
            // Markers come with message TTLs, which the server never lets go: it refuses to take them back.
            stream.allow_message_ttl = self.delete_markers.is_some();
            stream.subject_delete_markers = self.delete_markers;
        }
    }

    /// The settings of the bucket that this stream is behind; `None` where it is behind none.
    pub fn of_stream(stream: &StreamConfig) -> Option<Self> {
        Some(Self {
            bucket: names::stream_bucket(&stream.name)?.to_owned(),
            history: u8::try_from(stream.max_messages_per_subject).unwrap_or(u8::MAX),
            max_age: stream.max_age,
            delete_markers: stream.subject_delete_markers,
            max_value_size: stream.max_message_size,
            max_bytes: stream.max_bytes,
            storage: stream.storage,
            replicas: stream.replicas,
        })
    }
}

impl BucketInfo {
    /// What is known of a bucket where this is known of the stream behind it; `None` where it is behind none.
    pub fn of_stream(stream: &StreamInfo) -> Option<Self> {
        Some(Self {
            config: BucketConfig::of_stream(&stream.config)?,
            last_revision: stream.last_sequence.into(),
            records: stream.messages,
            created: stream.created,
            now: stream.now,
            leadership: stream.leadership.clone(),
        })
    }
}

/// What the server says about a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    /// Its settings as they are now.
    pub config: BucketConfig,
    /// The latest revision given out; stays when records go.
    pub last_revision: Revision,
    /// Records now held, tombstones and markers included.
    pub records: u64,
    /// When it was created, by the server's wall clock: tells one incarnation of a name from the next.
    pub created: UnixTime,
    /// When the server said this, by the clock that stamps records: so that their age can be told without another.
    pub now: UnixTime,
    /// What whoever says this knows of who leads the stream behind it.
    pub leadership: Leadership,
}

/// What a write demands, beside its value. By default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Only over this revision of the key, be it value or tombstone.
    pub expected: Option<Revision>,
    /// How long the record lives. It is the record's own: the next write of the key has another, or none.
    pub ttl: Option<MessageTtl>,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchStart {
    /// The latest record of every key first, tombstones included, then what comes.
    Snapshot,
    /// What comes from now on.
    Now,
    /// Every record still held from this revision on, then what comes.
    Revision(Revision),
}

/// What a watch tells.
///
/// A watch is not a change log: under load intermediate records of a key may be missing, the last always comes.
/// Entries come in the order of their revisions, none twice, within one incarnation of the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// A record: of the snapshot, or new.
    Entry(KvEntry),
    /// All that was there when the watch began has been told. Exactly once for every watch, at once if there was
    /// nothing, and for [`WatchStart::Now`] too.
    SnapshotEnd,
    /// From here on silence says nothing: the watch is being made anew.
    Interrupted(InterruptCause),
    /// Made anew, and every key's latest record after the last one told will follow. Records that came *and went*
    /// (expired, or purged with their markers) in between will not. `same_bucket` is false where the bucket was deleted
    /// and created anew: revisions begin at 1 again, and all of its latest records will follow.
    Resumed {
        /// Whether the bucket is still the incarnation that was watched before.
        same_bucket: bool,
    },
}

/// Why a watch was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptCause {
    /// Its connection is disconnected.
    Disconnected,
    /// No sign of life from its consumer for two `watch_heartbeat`s; or, where there are copies, for one from whoever leads
    /// them.
    MissedHeartbeat,
    /// The consumer skipped something, for instance because the reader was slow.
    Gap,
    /// The bucket is not there.
    BucketMissing,
}

impl fmt::Display for InterruptCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "disconnected",
            Self::MissedHeartbeat => "no sign of life from the server",
            Self::Gap => "gap in the deliveries",
            Self::BucketMissing => "the bucket is not there",
        })
    }
}

/// A key-value bucket. Cheap to clone.
///
/// Keys are `[-/_=.a-zA-Z0-9]+` without a leading or trailing dot. Writes are acknowledged within
/// [`ack_timeout`](super::ConnectOptions::ack_timeout) or fail with an unknown outcome: such a write may still be
/// applied *later*, while it waits in a buffer on its way, in the order it was issued.
pub trait Bucket: Clone + Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &str;

    /// The latest record of a key, tombstones and markers included; `None` where there is no record.
    fn entry(&self, key: &str) -> impl Future<Output = Result<Option<KvEntry>, ReadError>> + Send;

    /// All records still held of a key, oldest first.
    fn history(&self, key: &str) -> impl Future<Output = Result<Vec<KvEntry>, ReadError>> + Send;

    /// The latest record of every key that matches `filter`, ascending by revision, without the deleted ones.
    ///
    /// Complete, or an error.
    fn entries(&self, filter: &str)
    -> impl Future<Output = Result<Vec<KvEntry>, ReadError>> + Send;

    /// The latest record of each of these keys that has one, tombstones and markers included, ascending by revision: in
    /// one round trip for up to 512 keys. Servers before 2.11 are asked for one key after the other.
    ///
    /// Complete, or an error.
    fn entries_of(
        &self,
        keys: &[&str],
    ) -> impl Future<Output = Result<Vec<KvEntry>, ReadError>> + Send;

    /// Writes whatever is there.
    fn put(
        &self,
        key: &str,
        value: Bytes,
    ) -> impl Future<Output = Result<Revision, WriteError>> + Send;

    /// Writes what lives so long, or only over a revision, or both.
    ///
    /// # Errors
    /// [`Rejected`](WriteError::Rejected) with 10166 where a life is wished for and the bucket has no delete markers, or
    /// its server is older than 2.11.
    fn put_with(
        &self,
        key: &str,
        value: Bytes,
        options: PutOptions,
    ) -> impl Future<Output = Result<Revision, UpdateError>> + Send;

    /// Writes if the key has no value now: none at all, deleted, purged or expired.
    fn create(
        &self,
        key: &str,
        value: Bytes,
    ) -> impl Future<Output = Result<Revision, CreateError>> + Send;

    /// The same, of what lives so long: also where it takes the place of a tombstone.
    ///
    /// # Errors
    /// As [`put_with`](Self::put_with).
    fn create_with(
        &self,
        key: &str,
        value: Bytes,
        ttl: MessageTtl,
    ) -> impl Future<Output = Result<Revision, CreateError>> + Send;

    /// Writes if the key's latest record, be it value or tombstone, is `expected`.
    fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
    ) -> impl Future<Output = Result<Revision, UpdateError>> + Send;

    /// Writes a tombstone, also where there was nothing; with `expected`, only over that revision.
    fn delete(
        &self,
        key: &str,
        expected: Option<Revision>,
    ) -> impl Future<Output = Result<Revision, UpdateError>> + Send;

    /// Writes a tombstone and drops the history of the key; with `expected`, only over that revision.
    fn purge(
        &self,
        key: &str,
        expected: Option<Revision>,
    ) -> impl Future<Output = Result<Revision, UpdateError>> + Send;

    /// Watches the keys that match `filter` (`*` for one token, `>` for the rest).
    ///
    /// The watch heals itself across reconnects, restarts and lost consumers, and says so
    /// ([`WatchEvent::Interrupted`], [`WatchEvent::Resumed`]); it ends only with its connection.
    ///
    /// Where a bucket has copies, a watch shows one of them. That it is cut off from the others is said within two
    /// `watch_heartbeat`s; what is stored elsewhere and gone again in less than that, or before the others have elected a
    /// leader whom its server reaches, may never be told.
    fn watch(
        &self,
        filter: &str,
        start: WatchStart,
    ) -> impl Future<Output = Result<Watch, WatchError>> + Send;

    /// What the server says about the bucket, freshly read.
    fn info(&self) -> impl Future<Output = Result<BucketInfo, ReadError>> + Send;
}
