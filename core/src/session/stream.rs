//! A stream of a session, and its pull consumers: each operation on the connection that is current.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::line::{ConnectionOf, Line};
use super::link_error::LinkError;
use super::source::Messages;
use super::{pull, relay};
use crate::env::Env;
use crate::transport::names::is_bucket;
use crate::transport::{
    Ack, AckError, ConsumerConfig, ConsumerError, ConsumerInfo, Delivered, JetStream, PublishError,
    Pull, PullConsumer, PullError, Pulled, Purge, ReadStart, ReadStreamError, Reader, Sequence,
    StoredMessage, Stream, StreamError, StreamInfo, WatchError,
};

/// A stream of a session.
pub struct SessionStream<E: Env> {
    line: Arc<Line<E>>,
    name: Arc<str>,
}

impl<E: Env> Clone for SessionStream<E> {
    fn clone(&self) -> Self {
        Self {
            line: Arc::clone(&self.line),
            name: Arc::clone(&self.name),
        }
    }
}

impl<E: Env> fmt::Debug for SessionStream<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionStream({})", self.name)
    }
}

type StreamOf<E> = <ConnectionOf<E> as JetStream>::Stream;
type ConsumerOf<E> = <StreamOf<E> as Stream>::Consumer;

impl<E: Env> SessionStream<E> {
    pub(super) fn new(line: Arc<Line<E>>, name: &str) -> Self {
        let name = name.into();
        Self { line, name }
    }

    async fn run<T, R, F>(&self, work: impl Fn(StreamOf<E>) -> F + Send + Sync) -> Result<T, R>
    where
        R: LinkError,
        F: Future<Output = Result<T, R>> + Send,
    {
        let patience = Some(self.line.settings.connect.request_timeout);
        let (name, work) = (&*self.name, &work);
        self.line
            .run(patience, |connection: ConnectionOf<E>| async move {
                // The name was checked when this handle was made.
                let stream = connection.stream(name).map_err(|_| R::closed())?;
                work(stream).await
            })
            .await
    }
}

impl<E: Env> Stream for SessionStream<E> {
    type Consumer = SessionConsumer<E>;

    fn name(&self) -> &str {
        &self.name
    }

    async fn info(&self) -> Result<StreamInfo, ReadStreamError> {
        self.run(|stream| async move { stream.info().await }).await
    }

    async fn purge(&self, what: Purge) -> Result<u64, StreamError> {
        let what = &what;
        self.run(|stream| async move { stream.purge(what.clone()).await })
            .await
    }

    async fn delete_message(&self, sequence: Sequence) -> Result<bool, StreamError> {
        self.run(|stream| async move { stream.delete_message(sequence).await })
            .await
    }

    async fn get(&self, sequence: Sequence) -> Result<Option<StoredMessage>, ReadStreamError> {
        self.run(|stream| async move { stream.get(sequence).await })
            .await
    }

    async fn next(
        &self,
        from: Sequence,
        filter: &str,
    ) -> Result<Option<StoredMessage>, ReadStreamError> {
        self.run(|stream| async move { stream.next(from, filter).await })
            .await
    }

    async fn last(&self, subject: &str) -> Result<Option<StoredMessage>, ReadStreamError> {
        self.run(|stream| async move { stream.last(subject).await })
            .await
    }

    async fn last_of(&self, filters: &[&str]) -> Result<Vec<StoredMessage>, ReadStreamError> {
        self.run(|stream| async move { stream.last_of(filters).await })
            .await
    }

    /// Goes on over every connection of the login, and tells of a swap only where something may have been missed.
    async fn read(&self, filters: &[&str], start: ReadStart) -> Result<Reader, WatchError> {
        let messages = Messages {
            stream: (*self.name).into(),
            filters: filters.iter().map(|&filter| filter.to_owned()).collect(),
        };
        relay::open(&self.line, messages, start).await
    }

    async fn create_consumer(
        &self,
        config: &ConsumerConfig,
    ) -> Result<SessionConsumer<E>, ConsumerError> {
        self.run(|stream| async move { stream.create_consumer(config).await.map(drop) })
            .await?;
        self.consumer(&config.name)
    }

    fn consumer(&self, name: &str) -> Result<SessionConsumer<E>, ConsumerError> {
        if !is_bucket(name) {
            return Err(ConsumerError::InvalidName(name.to_owned()));
        }
        Ok(SessionConsumer {
            line: Arc::clone(&self.line),
            stream: Arc::clone(&self.name),
            name: name.into(),
        })
    }

    async fn delete_consumer(&self, name: &str) -> Result<(), ConsumerError> {
        self.run(|stream| async move { stream.delete_consumer(name).await })
            .await
    }
}

/// A pull consumer of a session.
pub struct SessionConsumer<E: Env> {
    line: Arc<Line<E>>,
    stream: Arc<str>,
    name: Arc<str>,
}

impl<E: Env> Clone for SessionConsumer<E> {
    fn clone(&self) -> Self {
        Self {
            line: Arc::clone(&self.line),
            stream: Arc::clone(&self.stream),
            name: Arc::clone(&self.name),
        }
    }
}

impl<E: Env> fmt::Debug for SessionConsumer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionConsumer({} of {})", self.name, self.stream)
    }
}

impl<E: Env> SessionConsumer<E> {
    pub(super) const fn line(&self) -> &Arc<Line<E>> {
        &self.line
    }

    /// The same over one connection; both names were checked when the handle was made.
    pub(super) fn on(&self, connection: &ConnectionOf<E>) -> Option<ConsumerOf<E>> {
        let stream = connection.stream(&self.stream).ok()?;
        stream.consumer(&self.name).ok()
    }

    async fn run<T, R, F>(
        &self,
        patience: Duration,
        work: impl Fn(ConsumerOf<E>) -> F + Send + Sync,
    ) -> Result<T, R>
    where
        R: LinkError,
        F: Future<Output = Result<T, R>> + Send,
    {
        let (this, work) = (self, &work);
        self.line
            .run(Some(patience), |connection: ConnectionOf<E>| async move {
                let consumer = this.on(&connection).ok_or_else(R::closed)?;
                work(consumer).await
            })
            .await
    }

    fn patience(&self) -> Duration {
        self.line.settings.connect.request_timeout
    }
}

impl<E: Env> PullConsumer for SessionConsumer<E> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn info(&self) -> Result<ConsumerInfo, ConsumerError> {
        self.run(
            self.patience(),
            |consumer| async move { consumer.info().await },
        )
        .await
    }

    /// What is left of it when its connection goes is asked for again on the next one.
    async fn pull(&self, wish: Pull) -> Result<Pulled, PullError> {
        pull::open(self, wish).await
    }

    async fn ack(&self, delivered: &Delivered, ack: Ack) -> Result<(), PublishError> {
        let ack = &ack;
        self.run(self.patience(), |consumer| async move {
            consumer.ack(delivered, ack.clone()).await
        })
        .await
    }

    async fn ack_confirmed(&self, delivered: &Delivered, ack: Ack) -> Result<(), AckError> {
        let ack = &ack;
        self.run(self.patience(), |consumer| async move {
            consumer.ack_confirmed(delivered, ack.clone()).await
        })
        .await
    }
}
