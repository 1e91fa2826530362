//! Saying something: one publish, stored once, however often its acknowledgement is lost.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;

use super::attach::attach;
use super::config::Settings;
use super::envelope::{Envelope, Thread};
use super::trace::TraceParent;
use super::{SendError, shell::ConnectionOf};
use crate::env::Env;
use crate::time::{Clock, Instant};
use crate::transport::{
    Fallible, JetStream, Message, Outcome, Sequence, StoreAck, StoreError, StoreOptions, Stream,
};

/// What is to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// What.
    pub body: String,
    /// The id of the message that it answers.
    pub reply_to: Option<String>,
    /// What its sender is doing: it travels as a W3C `traceparent`.
    pub trace: Option<TraceParent>,
}

impl Draft {
    /// Just this.
    pub fn new(body: impl Into<String>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }

    /// In answer to the message of this id.
    #[must_use]
    pub fn reply_to(mut self, id: impl Into<String>) -> Self {
        self.reply_to = Some(id.into());
        self
    }

    /// On behalf of this.
    #[must_use]
    pub const fn traced(mut self, trace: TraceParent) -> Self {
        self.trace = Some(trace);
        self
    }
}

impl<T: Into<String>> From<T> for Draft {
    fn from(body: T) -> Self {
        Self::new(body)
    }
}

/// It is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: String,
    /// Its place in the stream.
    pub sequence: Sequence,
}

/// A message of which nobody knows whether it is stored. [`Chat::send_again`](super::Chat::send_again) sends this very
/// message, and so it will be stored once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    id: String,
    message: Message,
    /// When it was first published.
    since: Instant,
}

impl Unconfirmed {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Makes ids unlike any others: of the chat, and of the message in it.
#[derive(Debug)]
pub(super) struct Ids {
    chat: String,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new(env: &impl Env) -> Self {
        let mut rng = env.rng("chat");
        let chat = format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64());
        let next = AtomicU64::new(1);
        Self { chat, next }
    }

    fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        [&self.chat, "-", &number].concat()
    }
}

/// What it takes to send.
pub(super) struct Sender<E: Env> {
    pub(super) env: E,
    pub(super) connection: ConnectionOf<E>,
    pub(super) stream: <ConnectionOf<E> as JetStream>::Stream,
    pub(super) settings: Settings,
    pub(super) ids: Ids,
}

impl<E: Env> Sender<E> {
    pub(super) async fn send(&self, thread: &Thread, draft: Draft) -> Result<Sent, SendError> {
        let clock = self.env.clock();
        let envelope = Envelope {
            id: self.ids.next(),
            from: self.settings.agent.clone(),
            thread: thread.id.clone(),
            body: draft.body,
            timestamp: clock.wall(),
            reply_to: draft.reply_to,
        };
        self.deliver(Unconfirmed {
            message: thread.message(&envelope, draft.trace.as_ref()),
            id: envelope.id,
            since: clock.now(),
        })
        .await
    }

    pub(super) async fn again(&self, message: Unconfirmed) -> Result<Sent, SendError> {
        let deadline = self.env.clock().now() + self.settings.send_timeout;
        if !self.is_remembered(&message, deadline).await {
            return Err(SendError::TooLate);
        }
        self.deliver(message).await
    }

    /// Publishes, and again under the same id as long as the outcome is unknown and there is time. What is seldom needed
    /// is boxed: it is larger than all the rest, which is moved for each message.
    async fn deliver(&self, message: Unconfirmed) -> Result<Sent, SendError> {
        let deadline = self.env.clock().now() + self.settings.send_timeout;
        // Once this is not `None` the message may be there, whatever comes of another try.
        let mut unknown = None;
        let mut has_attached = false;
        loop {
            let (error, is_refused) = match self.store(&message, deadline).await {
                Ok(ack) => {
                    let sequence = ack.sequence;
                    return Ok(Sent {
                        id: message.id,
                        sequence,
                    });
                }
                Err(error) => {
                    let is_refused = error.outcome() == Outcome::Refused;
                    (error, is_refused)
                }
            };
            let is_gone = error == StoreError::NoStream;
            if !is_refused {
                unknown = Some(error);
            } else if !is_gone || has_attached {
                return Err(match unknown {
                    None => SendError::Refused(error),
                    Some(_) => SendError::unconfirmed(error, message),
                });
            }
            let tries_again = if is_gone {
                // Somebody has deleted the stream, or a server has lost it that had it in memory.
                has_attached = true;
                self.within(deadline, attach(&self.connection, &self.settings).boxed())
                    .await
                    .is_some_and(|attached| attached.is_ok())
            } else {
                self.within(deadline, self.is_remembered(&message, deadline).boxed())
                    .await
                    .unwrap_or(false)
            };
            if !tries_again {
                return Err(match unknown {
                    None => SendError::Refused(StoreError::NoStream),
                    Some(error) => SendError::unconfirmed(error, message),
                });
            }
        }
    }

    /// One publish; what has no answer by then has none in time.
    async fn store(
        &self,
        message: &Unconfirmed,
        deadline: Instant,
    ) -> Result<StoreAck, StoreError> {
        let options = StoreOptions {
            message_id: Some(message.id.clone()),
            ..StoreOptions::default()
        };
        // Pinned where it is made: handed on by value, a copy of it would stand in each of the futures around it.
        let storing = pin!(self.connection.store(message.message.clone(), options));
        self.within(deadline, storing)
            .await
            .unwrap_or(Err(StoreError::TimedOut))
    }

    async fn within<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.env.clock().sleep_until(deadline) => None,
        }
    }

    /// Whether the server will know, until this deadline, that it has had this message before. The memory that it has for
    /// ids is shorter where messages live shorter, which anybody may have decided by now.
    async fn is_remembered(&self, message: &Unconfirmed, deadline: Instant) -> bool {
        let Ok(info) = self.stream.info().await else {
            return false;
        };
        let window = info.config.duplicate_window.unwrap_or(Duration::ZERO);
        deadline <= message.since + window
    }
}
