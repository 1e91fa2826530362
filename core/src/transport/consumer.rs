//! Pull consumers: a cursor that the server keeps, with acknowledgements and redelivery.

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::channel::Pulled;
use super::error::{ApiError, PublishError};
use super::stream::{ReadStart, Sequence, StoredMessage};
use super::stream_error::{AckError, ConsumerError, PullError};

/// Which deliveries an acknowledgement settles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckPolicy {
    /// Its own.
    #[default]
    Explicit,
    /// Its own and all before.
    All,
    /// None are wanted.
    None,
}

/// The settings of a pull consumer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerConfig {
    /// Its name: `A-Z a-z 0-9 - _`.
    pub name: String,
    /// Survives without a client; otherwise it goes after `inactive_threshold` (default then 5 s).
    pub durable: bool,
    /// Only messages whose subjects match one of these; none: all.
    pub filters: Vec<String>,
    /// Where it begins.
    pub start: ReadStart,
    /// What is acknowledged.
    pub ack_policy: AckPolicy,
    /// A delivery that is not acknowledged for so long is due again. Default 30 s.
    pub ack_wait: Duration,
    /// Instead of `ack_wait`, the waits after the first, second, ... delivery; the last one repeats.
    pub backoff: Vec<Duration>,
    /// Deliveries of one message before it is given up. Default: no limit.
    pub max_deliver: Option<NonZeroU32>,
    /// Unsettled deliveries at which the consumer stops to deliver; -1: no limit. Default 1000.
    pub max_ack_pending: i64,
    /// Pulls that may wait at once. Default 512.
    pub max_waiting: i64,
    /// Without a pull for so long it is deleted. `None`: never if durable, else 5 s.
    pub inactive_threshold: Option<Duration>,
    /// Its state is kept in memory only.
    pub memory_storage: bool,
    /// Copies of its state in a cluster; 0: as its stream.
    pub replicas: u8,
}

impl ConsumerConfig {
    /// A durable consumer of this name over the whole stream, with NATS' own defaults.
    pub fn durable(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            durable: true,
            filters: Vec::new(),
            start: ReadStart::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_secs(30),
            backoff: Vec::new(),
            max_deliver: None,
            max_ack_pending: 1000,
            max_waiting: 512,
            inactive_threshold: None,
            memory_storage: false,
            replicas: 0,
        }
    }
}

/// Two counts that go together: of the consumer's deliveries and of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Deliveries counted from 1, repeated ones too.
    pub consumer: u64,
    /// Sequence of the stream.
    pub stream: Sequence,
}

/// What the server says about a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its settings.
    pub config: ConsumerConfig,
    /// The last delivery.
    pub delivered: Position,
    /// Everything up to here is settled.
    pub ack_floor: Position,
    /// Deliveries not yet settled.
    pub ack_pending: u64,
    /// Messages delivered more than once and not yet settled.
    pub redelivered: u64,
    /// Pulls that wait.
    pub waiting: u64,
    /// Messages that match and were never delivered.
    pub pending: u64,
}

/// One wish for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pull {
    /// At most so many.
    pub batch: NonZeroU32,
    /// How long it may wait at the server; `None`: only what is there now (`no_wait`).
    pub expires: Option<Duration>,
    /// Sign of life while it waits; silence for twice this ends the pull. At most half of `expires`.
    pub heartbeat: Option<Duration>,
}

/// A delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// What the stream holds.
    pub message: StoredMessage,
    /// Counts the deliveries of this consumer from 1.
    pub consumer_sequence: u64,
    /// How often this message has now been delivered.
    pub deliveries: u64,
    /// Messages that match and were never delivered yet.
    pub pending: u64,
    /// Where acknowledgements go: `$JS.ACK...`.
    pub reply: Arc<str>,
}

/// What a [`Pulled`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullEvent {
    /// A message.
    Message(Delivered),
    /// The pull is over: nothing comes after this.
    Ended(PullEnd),
}

/// Why a pull is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullEnd {
    /// The batch is full.
    Full,
    /// `no_wait` and nothing (more) was there.
    NoMessages,
    /// `expires` has passed.
    Expired,
    /// The server ended it: consumer deleted, too many waiting, ... (status 409), or a bad request (400).
    Refused(ApiError),
    /// No sign of life for two heartbeats, or for longer than `expires`. What was sent may be delivered again.
    Silent,
    /// The connection went away. What was sent may be delivered again.
    Disconnected,
}

/// What a client says about a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Done (`+ACK`).
    Done,
    /// Not done; again now, or after this long (`-NAK`).
    Again(Option<Duration>),
    /// Still at it: the wait begins anew (`+WPI`).
    InProgress,
    /// Never again (`+TERM`), with a reason for the advisory.
    Terminate(Option<String>),
}

impl Ack {
    /// What goes on the wire.
    pub fn payload(&self) -> Bytes {
        match self {
            Self::Done => Bytes::from_static(b"+ACK"),
            Self::Again(None) => Bytes::from_static(b"-NAK"),
            Self::Again(Some(delay)) => format!("-NAK {{\"delay\":{}}}", delay.as_nanos()).into(),
            Self::InProgress => Bytes::from_static(b"+WPI"),
            Self::Terminate(None) => Bytes::from_static(b"+TERM"),
            Self::Terminate(Some(reason)) => format!("+TERM {reason}").into(),
        }
    }
}

/// A pull consumer. Cheap to clone.
pub trait PullConsumer: Clone + Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &str;

    /// What the server says about it, freshly read.
    fn info(&self) -> impl Future<Output = Result<ConsumerInfo, ConsumerError>> + Send;

    /// Asks for messages. They come as they are there; the last event says why no more will.
    ///
    /// Dropping it withdraws nothing: what the server has sent by then counts as delivered.
    ///
    /// # Errors
    /// After an error nothing was asked for.
    fn pull(&self, wish: Pull) -> impl Future<Output = Result<Pulled, PullError>> + Send;

    /// Says something about a delivery without waiting: it may be lost, and the message delivered again.
    ///
    /// # Errors
    /// After an error it was not queued.
    fn ack(
        &self,
        delivered: &Delivered,
        ack: Ack,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Says something about a delivery and waits until the server has heard it. (A server that is killed within the next
    /// 100 ms may forget it all the same.)
    ///
    /// # Errors
    /// After a time-out it may have been heard.
    fn ack_confirmed(
        &self,
        delivered: &Delivered,
        ack: Ack,
    ) -> impl Future<Output = Result<(), AckError>> + Send;
}
