//! One life of a push consumer that shows in order what a stream, or a bucket, holds and gets.
//!
//! Ephemeral, without acknowledgements, kept in the server's memory: what ADR-17 calls an ordered consumer. It is never
//! repaired: whoever reads it throws it away at the first doubt and opens another.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::json;

use super::admin::stream_of;
use super::api::{Failure, header, record};
use super::consumer_config::start_out;
use super::delivery::{Place, stored};
use super::link::Shared;
use crate::time::nanos;
use crate::transport::{KvEntry, PublishError, ReadStart, RequestError, StoredMessage};

/// How long the server keeps a consumer whose reader has vanished without a word.
const INACTIVE: Duration = Duration::from_secs(30);

/// What a delivery is read as; `None` where it is nothing of the kind.
type Read<T> = dyn Fn(&Message, &Place) -> Option<T> + Send + Sync;

/// What is read of which stream, and as what.
pub(super) struct Source<T> {
    pub(super) stream: Arc<str>,
    /// Subjects that are wanted; none: all.
    filters: Vec<String>,
    read: Box<Read<T>>,
}

impl Source<KvEntry> {
    /// The records of the keys that match.
    pub(super) fn bucket(bucket: &str, filter: &str) -> Self {
        let prefix = format!("$KV.{bucket}.");
        Self {
            stream: stream_of(bucket).into(),
            filters: vec![format!("{prefix}{filter}")],
            read: Box::new(move |message, place| {
                let key = message.subject.as_str().strip_prefix(&prefix)?;
                let revision = place.sequence.into();
                Some(record(message, key.into(), revision, place.stored))
            }),
        }
    }
}

impl Source<StoredMessage> {
    /// The messages whose subjects match.
    pub(super) fn stream(stream: &Arc<str>, filters: &[&str]) -> Self {
        Self {
            stream: Arc::clone(stream),
            filters: filters.iter().copied().map(str::to_owned).collect(),
            read: Box::new(|message, place| Some(stored(message, place))),
        }
    }
}

/// What comes from a consumer.
#[derive(Debug)]
pub(super) enum Heard<T> {
    /// A record or message.
    Item {
        item: T,
        /// Counts the deliveries of this consumer from 1, by the server.
        delivered: u64,
        /// How many are still to come.
        pending: u64,
    },
    /// All that the server has was delivered, the last one under this number.
    Idle { delivered: u64 },
    /// The client is gone.
    Ended,
}

/// What a listing makes of it.
#[derive(Debug)]
pub(super) enum Next<T> {
    /// A record or message, and how many are still to come.
    Item { item: T, pending: u64 },
    /// All that the server has was delivered.
    Idle,
    /// It cannot be relied on any more: something was skipped, or there was no sign of life for two heartbeats.
    Broken,
}

/// One consumer, from its creation to its end.
pub(super) struct Consumer<T> {
    shared: Arc<Shared>,
    source: Arc<Source<T>>,
    deliveries: Subscriber,
    /// Stream and consumer, as the API addresses it.
    address: String,
    /// Items to come when it was created.
    pub(super) pending: u64,
    /// Deliveries so far, as a listing counts them.
    delivered: u64,
    heartbeat: Duration,
    /// Where the server asked whether we keep up, until it is answered: or else deliveries stop.
    question: Option<String>,
}

impl<T> Consumer<T> {
    pub(super) async fn open(
        shared: &Arc<Shared>,
        source: &Arc<Source<T>>,
        start: ReadStart,
        heartbeat: Duration,
    ) -> Result<Self, Failure> {
        let closed = || Failure::Request(RequestError::Publish(PublishError::Closed));
        let client = shared.client().ok_or_else(closed)?;
        let inbox = client.new_inbox();
        let stream = &source.stream;
        let mut config = json!({
            "deliver_subject": inbox,
            "ack_policy": "none",
            "max_deliver": 1,
            "replay_policy": "instant",
            "flow_control": true,
            "idle_heartbeat": nanos(heartbeat),
            "inactive_threshold": nanos(INACTIVE),
            "mem_storage": true,
            "num_replicas": 1,
        });
        match &*source.filters {
            // The last of each subject wants to know of which subjects.
            [] if start == ReadStart::LastPerSubject => config["filter_subject"] = ">".into(),
            [] => {}
            [one] => config["filter_subject"] = json!(one),
            several => config["filter_subjects"] = json!(several),
        }
        start_out(start, &mut config);
        // Subscribed first: the server takes a consumer without a listener for inactive.
        let deliveries = client.subscribe(inbox).await.map_err(|_| closed())?;
        drop(client);
        let body = json!({ "stream_name": stream, "config": config });
        let created = shared
            .api(&format!("CONSUMER.CREATE.{stream}"), Some(&body))
            .await?;
        let name = created["name"].as_str().unwrap_or_default();
        Ok(Self {
            shared: Arc::clone(shared),
            source: Arc::clone(source),
            deliveries,
            address: format!("{stream}.{name}"),
            pending: created["num_pending"].as_u64().unwrap_or(0),
            delivered: 0,
            heartbeat,
            question: None,
        })
    }

    /// The next thing to know of a listing. What has arrived is read before silence is declared.
    pub(super) async fn next(&mut self) -> Next<T> {
        let heard = tokio::time::timeout(2 * self.heartbeat, self.hear()).await;
        match heard {
            Ok(Heard::Item {
                item,
                delivered,
                pending,
            }) if delivered == self.delivered + 1 => {
                self.delivered = delivered;
                Next::Item { item, pending }
            }
            Ok(Heard::Idle { delivered }) if delivered == self.delivered => Next::Idle,
            Ok(_) | Err(_) => Next::Broken,
        }
    }

    /// The next thing that is heard. Cancel-safe.
    pub(super) async fn hear(&mut self) -> Heard<T> {
        loop {
            if let (Some(question), Some(client)) = (&self.question, self.shared.client()) {
                // If the client is gone, so are the deliveries.
                let _ = client.publish(question.clone(), Bytes::new()).await;
            }
            self.question = None;
            let Some(message) = self.deliveries.next().await else {
                return Heard::Ended;
            };
            let heard = match message.status.map(|status| status.as_u16()) {
                None => self.on_item(&message),
                Some(100) => self.on_sign_of_life(&message),
                // Nothing that a push consumer says of itself: silence follows where it is over.
                Some(_) => None,
            };
            if let Some(heard) = heard {
                return heard;
            }
        }
    }

    fn on_item(&self, message: &Message) -> Option<Heard<T>> {
        let place = Place::parse(message.reply.as_ref()?.as_str())?;
        Some(Heard::Item {
            item: (self.source.read)(message, &place)?,
            delivered: place.delivered,
            pending: place.pending,
        })
    }

    /// A heartbeat, or the question whether we keep up. A consumer that waits for the answer is not idle.
    fn on_sign_of_life(&mut self, message: &Message) -> Option<Heard<T>> {
        let stalled = header(message, "Nats-Consumer-Stalled");
        let reply = message.reply.as_ref().map(|reply| reply.as_str());
        self.question = reply.or(stalled).map(str::to_owned);
        let delivered = header(message, "Nats-Last-Consumer")?.parse().ok()?;
        self.question.is_none().then_some(Heard::Idle { delivered })
    }

    /// Tells the server to forget it, without waiting: otherwise it stays there for 30 s.
    pub(super) fn delete(self) {
        let name = format!("CONSUMER.DELETE.{}", self.address);
        if self.shared.link().up {
            self.shared.api_best_effort(&name);
        }
    }
}
