//! What travels between a simulated client and a simulated server, in both directions.
//!
//! Core messaging is as on the real wire. JetStream requests are typed instead of JSON, but each value here stands for
//! exactly the messages that async-nats or our adapter would send: one [`Request`] is one publish to `$JS.API...`,
//! `$KV...` or `DIRECT.GET...` with a reply inbox, so that every round trip, and every way to lose half of it, is there.
//!
//! What is large and rare is boxed: every pipe of every link has room for a few of these.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::transport::{
    ApiError, ConsumerConfig, ConsumerInfo, Delivered, KvEntry, Message, Pull, Purge, ReadStart,
    Revision, Sequence, StoreAck, StoredMessage, StreamConfig, StreamInfo, names,
};

use crate::broker::Version;

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

impl RequestId {
    /// No request, but a core publish: whoever waits for an answer has named a subject for it.
    pub const NONE: Self = Self(0);
}

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
    /// A publish to `$JS.API.CONSUMER.MSG.NEXT.<stream>.<consumer>`, whose reply subject is the inbox of `deliver`.
    Pull {
        /// Of which stream.
        stream: Arc<str>,
        /// Of which consumer.
        consumer: Arc<str>,
        /// What is asked for.
        wish: Pull,
        /// The subscription that the answers go to; subscribed before on this connection.
        deliver: Sid,
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
    /// `$JS.API.STREAM.CREATE.<stream>`.
    CreateStream(Box<StreamConfig>),
    /// `$JS.API.STREAM.UPDATE.<stream>`.
    UpdateStream(Box<StreamConfig>),
    /// `$JS.API.STREAM.DELETE.<stream>`.
    DeleteStream {
        /// Which.
        stream: Arc<str>,
    },
    /// `$JS.API.STREAM.INFO.<stream>`.
    StreamInfo {
        /// Which.
        stream: Arc<str>,
    },
    /// `$JS.API.STREAM.PURGE.<stream>`.
    Purge {
        /// Which.
        stream: Arc<str>,
        /// What of it.
        what: Purge,
    },
    /// `$JS.API.STREAM.MSG.DELETE.<stream>`.
    DeleteMessage {
        /// Of which stream.
        stream: Arc<str>,
        /// Which message.
        sequence: Sequence,
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
    /// A publish to any other subject, or with other headers.
    Store(Message),
    /// `$JS.API.DIRECT.GET.KV_<bucket>.$KV.<bucket>.<key>`.
    Entry {
        /// Which bucket.
        bucket: Arc<str>,
        /// Which key.
        key: Arc<str>,
    },
    /// `$JS.API.DIRECT.GET.<stream>`, for one message.
    Get {
        /// Of which stream.
        stream: Arc<str>,
        /// Which message.
        what: Get,
    },
    /// `$JS.API.DIRECT.GET.<stream>` with `multi_last`.
    LastOf {
        /// Of which stream.
        stream: Arc<str>,
        /// Of which subjects; wildcards allowed.
        filters: Vec<Arc<str>>,
    },
    /// `$JS.API.CONSUMER.CREATE.<stream>`: an ephemeral push consumer, as watches, readers and scans use it: no
    /// acknowledgements, in memory.
    CreateConsumer {
        /// Of which stream.
        stream: Arc<str>,
        /// What is wanted of it.
        wish: Box<ConsumerWish>,
    },
    /// `$JS.API.CONSUMER.DELETE.<stream>.<name>`, by the name that the server gave to a push consumer.
    EndConsumer {
        /// Of which stream.
        stream: Arc<str>,
        /// Where it delivered to.
        deliver: Sid,
    },
    /// `$JS.API.CONSUMER.CREATE.<stream>.<name>`: a pull consumer.
    CreatePullConsumer {
        /// Of which stream.
        stream: Arc<str>,
        /// Its settings, its name among them.
        config: Box<ConsumerConfig>,
        /// Whether it may, or must, be there.
        action: ConsumerAction,
    },
    /// `$JS.API.CONSUMER.INFO.<stream>.<name>`.
    ConsumerInfo {
        /// Of which stream.
        stream: Arc<str>,
        /// Which.
        consumer: Arc<str>,
    },
    /// `$JS.API.CONSUMER.DELETE.<stream>.<name>`.
    DeleteConsumer {
        /// Of which stream.
        stream: Arc<str>,
        /// Which.
        consumer: Arc<str>,
    },
}

/// What may be done about a pull consumer that is, or is not, there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsumerAction {
    /// Create it, or update it.
    #[default]
    CreateOrUpdate,
    /// Create it; one that is there must be the same.
    Create,
    /// Update it; it must be there.
    Update,
}

/// A message without payload that tells a client about its pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullStatus {
    /// 100, 400, 404, 408, 409 or 503.
    pub code: u16,
    /// The server's text.
    pub text: Arc<str>,
}

impl Request {
    /// The subject it is published to, which permissions are about.
    pub fn subject(&self) -> String {
        match self {
            Self::CreateStream(config) => format!("$JS.API.STREAM.CREATE.{}", config.name),
            Self::UpdateStream(config) => format!("$JS.API.STREAM.UPDATE.{}", config.name),
            Self::DeleteStream { stream } => format!("$JS.API.STREAM.DELETE.{stream}"),
            Self::StreamInfo { stream } => format!("$JS.API.STREAM.INFO.{stream}"),
            Self::Purge { stream, .. } => format!("$JS.API.STREAM.PURGE.{stream}"),
            Self::DeleteMessage { stream, .. } => format!("$JS.API.STREAM.MSG.DELETE.{stream}"),
            Self::Write { bucket, key, .. } => names::key_subject(bucket, key),
            Self::Store(message) => message.subject.to_string(),
            Self::Entry { bucket, key } => {
                format!("$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}")
            }
            Self::Get { stream, .. } | Self::LastOf { stream, .. } => {
                format!("$JS.API.DIRECT.GET.{stream}")
            }
            Self::CreateConsumer { stream, .. } => format!("$JS.API.CONSUMER.CREATE.{stream}"),
            Self::EndConsumer { stream, deliver } => {
                format!("$JS.API.CONSUMER.DELETE.{stream}.{}", deliver.0)
            }
            Self::CreatePullConsumer { stream, config, .. } => {
                format!("$JS.API.CONSUMER.CREATE.{stream}.{}", config.name)
            }
            Self::ConsumerInfo { stream, consumer } => {
                format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}")
            }
            Self::DeleteConsumer { stream, consumer } => {
                format!("$JS.API.CONSUMER.DELETE.{stream}.{consumer}")
            }
        }
    }

    /// The stream in the subject of an API request; `None` where it goes to a stream itself.
    pub(crate) fn api_name(&self) -> Option<&str> {
        match self {
            Self::CreateStream(config) | Self::UpdateStream(config) => Some(&config.name),
            Self::DeleteStream { stream }
            | Self::StreamInfo { stream }
            | Self::Purge { stream, .. }
            | Self::DeleteMessage { stream, .. }
            | Self::CreateConsumer { stream, .. }
            | Self::EndConsumer { stream, .. }
            | Self::CreatePullConsumer { stream, .. }
            | Self::ConsumerInfo { stream, .. }
            | Self::DeleteConsumer { stream, .. } => Some(stream),
            Self::Write { .. }
            | Self::Store(_)
            | Self::Entry { .. }
            | Self::Get { .. }
            | Self::LastOf { .. } => None,
        }
    }
}

/// A message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Get {
    /// `seq`.
    Sequence(Sequence),
    /// `next_by_subj`, from `seq` on.
    Next {
        /// The first that may be it.
        from: Sequence,
        /// What its subject matches.
        filter: Arc<str>,
    },
    /// `last_by_subj`; wildcards allowed.
    Last {
        /// What its subject matches.
        subject: Arc<str>,
    },
}

/// What a push consumer is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerWish {
    /// Subjects that it delivers, wildcards allowed; none: all.
    pub filters: Vec<Arc<str>>,
    /// Where it begins.
    pub start: ReadStart,
    /// Silence after which the server sends a heartbeat.
    pub heartbeat: Duration,
    /// How long it survives its subscription (`inactive_threshold`).
    pub inactive: Duration,
    /// The subscription that its deliveries go to; subscribed before on this connection.
    pub deliver: Sid,
    /// How the client reads them. On a real wire there is one form; here, neither costs the making of the other.
    pub form: Form,
}

/// How a client reads deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As records of a bucket.
    Entry,
    /// As messages of a stream.
    Message,
}

/// What a consumer delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A record of a bucket.
    Entry(KvEntry),
    /// A message of a stream.
    Message(Box<StoredMessage>),
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

/// Server to client.
#[derive(Clone, Debug)]
pub enum ServerOp {
    /// The greeting, and later news of the server.
    Info {
        /// The server's name.
        server: Arc<str>,
        /// Its version.
        version: Version,
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
    /// A consumer delivers.
    Delivery {
        /// The subscription it goes to.
        sid: Sid,
        /// Counts the deliveries of this consumer from 1.
        consumer_seq: u64,
        /// What still matches after this.
        pending: u64,
        /// A record or message.
        content: Content,
    },
    /// A pull consumer delivers.
    Pulled {
        /// The subscription it goes to.
        sid: Sid,
        /// What.
        delivered: Box<Delivered>,
    },
    /// News of a pull.
    PullStatus {
        /// The subscription it goes to.
        sid: Sid,
        /// What.
        status: PullStatus,
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
    /// A write to a key was stored.
    Stored(Revision),
    /// Another message was stored, or had been.
    Acked(StoreAck),
    /// A conditional publish was not stored: 10071, with the actual last sequence of the stream or the subject.
    WrongRevision(Revision),
    /// The same: 10070, with the actual last message id; empty where the last message has none.
    WrongMessageId(Arc<str>),
    /// Another refusal.
    Error(ApiError),
    /// Nobody answers there (status 503): no such stream for a publish or a direct get, or JetStream is off.
    NoResponders,
    /// The record asked for.
    Entry(Option<KvEntry>),
    /// The message asked for.
    Message(Option<Box<StoredMessage>>),
    /// The messages asked for, complete.
    Messages(Vec<StoredMessage>),
    /// A stream was created, updated, or is described.
    Stream(Box<StreamInfo>),
    /// A stream, a message or a consumer was deleted.
    Deleted,
    /// So many messages were purged.
    Purged(u64),
    /// A pull consumer was created, updated, or is described.
    PullConsumer(Box<ConsumerInfo>),
    /// A consumer was created.
    Consumer {
        /// What matches now and will be delivered first.
        pending: u64,
    },
}
