//! One life of a push consumer that shows a bucket's records in order.
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
use super::link::Shared;
use crate::time::{UnixTime, nanos};
use crate::transport::{KvEntry, PublishError, RequestError, Revision};

/// How long the server keeps a consumer whose reader has vanished without a word.
const INACTIVE: Duration = Duration::from_secs(30);

/// Where deliveries begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deliver {
    /// The oldest record still held.
    All,
    /// The latest record of each key, then what comes.
    LastPerKey,
    /// The first record of this revision or later.
    From(Revision),
}

/// What comes from a consumer.
#[derive(Debug)]
pub(super) enum Heard {
    /// A record.
    Entry {
        entry: KvEntry,
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
pub(super) enum Next {
    /// A record, and how many are still to come.
    Entry { entry: KvEntry, pending: u64 },
    /// All that the server has was delivered.
    Idle,
    /// It cannot be relied on any more: something was skipped, or there was no sign of life for two heartbeats.
    Broken,
}

/// One consumer, from its creation to its end.
pub(super) struct Consumer {
    shared: Arc<Shared>,
    deliveries: Subscriber,
    /// The subjects of the bucket without their keys.
    prefix: String,
    /// Stream and consumer, as the API addresses it.
    address: String,
    /// Records to come when it was created.
    pub(super) pending: u64,
    /// Deliveries so far, as a listing counts them.
    delivered: u64,
    heartbeat: Duration,
    /// Where the server asked whether we keep up, until it is answered: or else deliveries stop.
    question: Option<String>,
}

impl Consumer {
    pub(super) async fn open(
        shared: &Arc<Shared>,
        bucket: &str,
        filter: &str,
        deliver: Deliver,
        heartbeat: Duration,
    ) -> Result<Self, Failure> {
        let closed = || Failure::Request(RequestError::Publish(PublishError::Closed));
        let client = shared.client().ok_or_else(closed)?;
        let inbox = client.new_inbox();
        let stream = stream_of(bucket);
        let prefix = format!("$KV.{bucket}.");
        let mut config = json!({
            "deliver_subject": inbox,
            "filter_subject": format!("{prefix}{filter}"),
            "ack_policy": "none",
            "max_deliver": 1,
            "replay_policy": "instant",
            "flow_control": true,
            "idle_heartbeat": nanos(heartbeat),
            "inactive_threshold": nanos(INACTIVE),
            "mem_storage": true,
            "num_replicas": 1,
        });
        match deliver {
            Deliver::All => config["deliver_policy"] = "all".into(),
            Deliver::LastPerKey => config["deliver_policy"] = "last_per_subject".into(),
            Deliver::From(revision) => {
                config["deliver_policy"] = "by_start_sequence".into();
                config["opt_start_seq"] = revision.0.max(1).into();
            }
        }
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
            deliveries,
            prefix,
            address: format!("{stream}.{name}"),
            pending: created["num_pending"].as_u64().unwrap_or(0),
            delivered: 0,
            heartbeat,
            question: None,
        })
    }

    /// The next thing to know of a listing. What has arrived is read before silence is declared.
    pub(super) async fn next(&mut self) -> Next {
        let heard = tokio::time::timeout(2 * self.heartbeat, self.hear()).await;
        match heard {
            Ok(Heard::Entry {
                entry,
                delivered,
                pending,
            }) if delivered == self.delivered + 1 => {
                self.delivered = delivered;
                Next::Entry { entry, pending }
            }
            Ok(Heard::Idle { delivered }) if delivered == self.delivered => Next::Idle,
            Ok(_) | Err(_) => Next::Broken,
        }
    }

    /// The next thing that is heard. Cancel-safe.
    pub(super) async fn hear(&mut self) -> Heard {
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
                None => self.on_record(&message),
                Some(100) => self.on_sign_of_life(&message),
                // Nothing that a push consumer says of itself: silence follows where it is over.
                Some(_) => None,
            };
            if let Some(heard) = heard {
                return heard;
            }
        }
    }

    fn on_record(&self, message: &Message) -> Option<Heard> {
        let position = Position::parse(message.reply.as_ref()?.as_str())?;
        let key = message.subject.as_str().strip_prefix(&self.prefix)?;
        Some(Heard::Entry {
            entry: record(message, key.into(), position.revision, position.stored),
            delivered: position.delivered,
            pending: position.pending,
        })
    }

    /// A heartbeat, or the question whether we keep up. A consumer that waits for the answer is not idle.
    fn on_sign_of_life(&mut self, message: &Message) -> Option<Heard> {
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

/// What the reply subject of a delivery says.
#[derive(Debug, PartialEq, Eq)]
struct Position {
    revision: Revision,
    delivered: u64,
    stored: UnixTime,
    pending: u64,
}

impl Position {
    /// `$JS.ACK.<stream>.<consumer>.<attempt>.<revision>.<delivered>.<time>.<pending>`; with a domain and an account
    /// before the stream, and a token at the end, where servers send the longer form.
    fn parse(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.split('.').collect();
        let fields = match (tokens.first()?, tokens.get(1)?, tokens.len()) {
            (&"$JS", &"ACK", 9) => &tokens[5..9],
            (&"$JS", &"ACK", 11..) => &tokens[7..11],
            _ => return None,
        };
        Some(Self {
            revision: Revision(fields[0].parse().ok()?),
            delivered: fields[1].parse().ok()?,
            stored: UnixTime::from_nanos(fields[2].parse().ok()?),
            pending: fields[3].parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let position = Position {
            revision: Revision(7),
            delivered: 3,
            stored: UnixTime::from_nanos(1_700_000_000_000_000_000),
            pending: 2,
        };
        let short = "$JS.ACK.KV_b.x1.1.7.3.1700000000000000000.2";
        let long = "$JS.ACK._.ABCD.KV_b.x1.1.7.3.1700000000000000000.2.tok";
        assert_eq!(Position::parse(short), Some(position));
        assert_eq!(Position::parse(long), Position::parse(short));
        assert_eq!(Position::parse("_INBOX.abc"), None);
        assert_eq!(Position::parse("$JS.ACK.s.c.1.x.1.1.1"), None);
    }
}
