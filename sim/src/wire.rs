//! What travels between a simulated client and a simulated server, in both directions.
//!
//! Core messaging is as on the real wire. JetStream requests are typed instead of JSON, but each value here stands for
//! exactly the messages that async-nats or our adapter would send: one [`Request`] is one publish to `$JS.API...`,
//! `$KV...` or `DIRECT.GET...` with a reply inbox, so that every round trip, and every way to lose half of it, is there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::transport::{ApiError, BucketConfig, BucketInfo, KvEntry, Message, Revision};

/// One TCP connection between a client and a server, unlike any other of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "l{}", self.0)
    }
}

/// A subscription of one connection, numbered by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid(pub u64);

/// A request of one client, numbered by it; stands for the reply inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The client library's own subscription, to its inboxes: answers to requests come there.
pub const INBOX: Sid = Sid(0);

/// Client to server.
#[derive(Clone, Debug)]
pub enum ClientOp {
    /// The greeting; the server answers the `Ping` that clients send with it.
    Connect {
        /// The name of the connection, for people.
        name: Arc<str>,
        /// What it logs in with, if anything.
        login: Option<Box<Presented>>,
    },
    /// Asks for a `Pong`.
    Ping,
    /// Answers the server's `Ping`.
    Pong,
    /// Subscribes; not answered.
    Subscribe {
        /// Numbers the subscription.
        sid: Sid,
        /// May hold wildcards.
        subject: Arc<str>,
        /// The queue group, if any.
        queue: Option<Arc<str>>,
    },
    /// Ends a subscription, or the deliveries of a consumer; not answered.
    Unsubscribe {
        /// Which.
        sid: Sid,
    },
    /// Publishes; answered only by subscribers, or by `NoResponders` where it has a reply subject and nobody listens.
    Publish {
        /// The message. Its reply subject, where it has one, is `_INBOX.<anything>` the client is subscribed to.
        message: Message,
    },
    /// A JetStream request.
    Request {
        /// Names it in the response.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
}

/// What a client logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The user's token.
    pub jwt: Arc<str>,
    /// The key that signed the server's nonce.
    pub signer: Arc<str>,
}

/// One JetStream request.
#[derive(Clone, Debug)]
pub enum Request {
    /// `$JS.API.STREAM.CREATE.KV_<bucket>`.
    CreateBucket(BucketConfig),
    /// `$JS.API.STREAM.UPDATE.KV_<bucket>`.
    UpdateBucket(BucketConfig),
    /// `$JS.API.STREAM.DELETE.KV_<bucket>`.
    DeleteBucket {
        /// Which.
        bucket: Arc<str>,
    },
    /// `$JS.API.STREAM.INFO.KV_<bucket>`.
    BucketInfo {
        /// Which.
        bucket: Arc<str>,
    },
    /// A publish to `$KV.<bucket>.<key>`.
    Write {
        /// Which bucket.
        bucket: Arc<str>,
        /// Which key.
        key: Arc<str>,
        /// What is written.
        write: Write,
        /// `Nats-Expected-Last-Subject-Sequence`, if set.
        expected: Option<Revision>,
    },
    /// `$JS.API.DIRECT.GET.KV_<bucket>.$KV.<bucket>.<key>`.
    Entry {
        /// Which bucket.
        bucket: Arc<str>,
        /// Which key.
        key: Arc<str>,
    },
    /// `$JS.API.CONSUMER.CREATE.KV_<bucket>`: an ephemeral push consumer, as watches and scans use it: no
    /// acknowledgements, in memory, gone 30 s after its subscription.
    CreateConsumer {
        /// Which bucket.
        bucket: Arc<str>,
        /// Keys that it delivers; wildcards allowed.
        filter: Arc<str>,
        /// Where it begins.
        start: ConsumerStart,
        /// Silence after which the server sends a heartbeat.
        heartbeat: Duration,
        /// The subscription that its deliveries go to; subscribed before on this connection.
        deliver: Sid,
    },
}

/// What a write stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A value.
    Put(Bytes),
    /// `KV-Operation: DEL`.
    Delete,
    /// `KV-Operation: PURGE` with `Nats-Rollup: sub`.
    Purge,
}

impl Request {
    /// The subject it is published to, which permissions are about.
    pub fn subject(&self) -> String {
        match self {
            Self::CreateBucket(config) => format!("$JS.API.STREAM.CREATE.KV_{}", config.bucket),
            Self::UpdateBucket(config) => format!("$JS.API.STREAM.UPDATE.KV_{}", config.bucket),
            Self::DeleteBucket { bucket } => format!("$JS.API.STREAM.DELETE.KV_{bucket}"),
            Self::BucketInfo { bucket } => format!("$JS.API.STREAM.INFO.KV_{bucket}"),
            Self::Write { bucket, key, .. } => format!("$KV.{bucket}.{key}"),
            Self::Entry { bucket, key } => {
                format!("$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}")
            }
            Self::CreateConsumer { bucket, .. } => format!("$JS.API.CONSUMER.CREATE.KV_{bucket}"),
        }
    }
}

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerStart {
    /// Everything still held (`deliver_policy: all`).
    All,
    /// The latest record of each key (`last_per_subject`).
    LastPerKey,
    /// From this stream sequence on (`by_start_sequence`).
    Sequence(Revision),
}

/// Server to client.
#[derive(Clone, Debug)]
pub enum ServerOp {
    /// The greeting, and later news of the server.
    Info {
        /// The server's name.
        server: Arc<str>,
        /// Largest message, headers included, in bytes.
        max_payload: usize,
        /// About to shut down (`ldm`).
        lame_duck: bool,
    },
    /// Asks for a `Pong`.
    Ping,
    /// Answers a `Ping`.
    Pong,
    /// `-ERR`, with its text without quotes.
    Err(Arc<str>),
    /// A message for a subscription.
    Message {
        /// Which subscription.
        sid: Sid,
        /// The message.
        message: Message,
    },
    /// Nobody listens where a message with this reply subject was published (status 503).
    NoResponders {
        /// The reply subject of that message.
        reply: Arc<str>,
    },
    /// Answers a request.
    Response {
        /// Which.
        id: RequestId,
        /// The answer.
        response: Response,
    },
    /// A consumer delivers a record.
    Delivery {
        /// The subscription it goes to.
        sid: Sid,
        /// Counts the deliveries of this consumer from 1.
        consumer_seq: u64,
        /// Records that still match after this one.
        pending: u64,
        /// The record.
        entry: KvEntry,
    },
    /// A consumer has had nothing to deliver for its `heartbeat` (status 100).
    Heartbeat {
        /// The subscription it goes to.
        sid: Sid,
        /// The last `consumer_seq` delivered.
        last_consumer_seq: u64,
    },
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// A write was stored.
    Stored(Revision),
    /// A conditional write was not: 10071, with the key's actual latest revision.
    WrongRevision(Revision),
    /// Another refusal.
    Error(ApiError),
    /// Nobody answers there (status 503): no such bucket for a write or a direct get, or JetStream is off.
    NoResponders,
    /// The record asked for.
    Entry(Option<KvEntry>),
    /// A bucket was created, updated, or is described.
    Bucket(BucketInfo),
    /// A bucket was deleted.
    Deleted,
    /// A consumer was created.
    Consumer {
        /// Records that match now and will be delivered first.
        pending: u64,
    },
}

/// A message without payload that tells a client about its pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullStatus {
    /// 100, 400, 404, 408, 409 or 503.
    pub code: u16,
    /// The server's text.
    pub text: Arc<str>,
}
