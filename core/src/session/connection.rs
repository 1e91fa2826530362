//! [`SessionConnection`]: the seam's connection, over whichever connection the session has.
//!
//! Rooms run on it unchanged. It lives as long as its login: a swap shows only as
//! [`ConnectionEvent::LoggingIn`](crate::transport::ConnectionEvent::LoggingIn); a connection that is lost, and recovered
//! by another, as `Disconnected` and `Reconnected`. After logout, or a login to another account, it is closed for good.
//!
//! Each room has one of its own, because a room that closes closes its connection: what a session keeps for all of them
//! is the login, which no room has opened. To count the rooms and end the login with the last would log out whoever has
//! none open just then.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::bucket::SessionBucket;
use super::line::{ConnectionOf, Line};
use super::stream::SessionStream;
use super::subscription;
use crate::env::Env;
use crate::transport::names::is_bucket;
use crate::transport::{
    BucketConfig, BucketError, Connection, ConnectionId, ConnectionState, Events, FlushError,
    JetStream, Login, Message, PublishError, RequestError, StoreAck, StoreError, StoreOptions,
    StreamConfig, StreamError, StreamInfo, SubscribeError, Subscription,
};

/// A connection of one login. Clones share it. Every other that the session gives out is another's: closing this one ends
/// what was begun on it, and neither the login nor what others have begun.
pub struct SessionConnection<E: Env>(Arc<Line<E>>);

impl<E: Env> Clone for SessionConnection<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Env> fmt::Debug for SessionConnection<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionConnection({})", self.0.login)
    }
}

impl<E: Env> SessionConnection<E> {
    pub(super) const fn new(line: Arc<Line<E>>) -> Self {
        Self(line)
    }

    pub(super) const fn line(&self) -> &Arc<Line<E>> {
        &self.0
    }

    fn request_timeout(&self) -> Duration {
        self.0.settings.connect.request_timeout
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.request_timeout())
    }
}

impl<E: Env> Connection for SessionConnection<E> {
    type Bucket = SessionBucket<E>;

    /// That of the first connection of this login.
    fn id(&self) -> ConnectionId {
        self.0.id().unwrap_or(ConnectionId(0))
    }

    fn state(&self) -> ConnectionState {
        self.0.state()
    }

    fn login(&self) -> Option<Login> {
        self.0.login()
    }

    fn events(&self) -> Events {
        self.0.events()
    }

    /// Without a connection, or with one that takes no more, it waits as a client whose buffer is full does; but not
    /// longer than `request_timeout`.
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let message = &message;
        let published = self.0.run(None, |connection| {
            let message = message.clone();
            async move { connection.publish(message).await }
        });
        let done = self.0.within(self.request_timeout(), published).await;
        // What waits has not been sent.
        done.unwrap_or(Err(PublishError::NoConnection))
    }

    async fn request(&self, message: Message) -> Result<Message, RequestError> {
        let message = &message;
        self.0
            .run(self.patience(), |connection| {
                let message = message.clone();
                async move { connection.request(message).await }
            })
            .await
    }

    /// Made on every connection in turn, and on two at once for a moment, so that nothing is missed. A message that both
    /// bring is told once, unless it comes right while the second one begins; of messages that are equal in every byte
    /// the *number* is right then, not which of them is told.
    async fn subscribe(
        &self,
        subject: &str,
        queue: Option<&str>,
    ) -> Result<Subscription, SubscribeError> {
        let subscribed = subscription::open(&self.0, subject, queue);
        let done = self.0.within(self.request_timeout(), subscribed).await;
        done.unwrap_or(Err(SubscribeError::NoConnection))
    }

    async fn flush(&self) -> Result<(), FlushError> {
        self.0
            .run(self.patience(), |connection| async move {
                connection.flush().await
            })
            .await
    }

    /// Closes it after a round trip.
    async fn drain(&self) -> Result<(), FlushError> {
        let flushed = self.flush().await;
        self.0.hang_up();
        flushed
    }

    /// Has another credential, and so another connection.
    async fn reconnect(&self) {
        self.0.renew();
    }

    /// Ends what was begun on it: watches, readers, subscriptions, pulls. What is under way comes to its end. The login
    /// goes on, and ends by [`Session::logout`](super::Session::logout).
    async fn close(&self) {
        self.0.hang_up();
    }

    fn bucket(&self, name: &str) -> Result<SessionBucket<E>, BucketError> {
        if !is_bucket(name) {
            return Err(BucketError::InvalidName(name.to_owned()));
        }
        Ok(SessionBucket::new(Arc::clone(&self.0), name))
    }

    async fn create_bucket(&self, config: &BucketConfig) -> Result<SessionBucket<E>, BucketError> {
        self.0
            .run(self.patience(), |connection: ConnectionOf<E>| async move {
                connection.create_bucket(config).await.map(drop)
            })
            .await?;
        self.bucket(&config.bucket)
    }

    async fn update_bucket(&self, config: &BucketConfig) -> Result<SessionBucket<E>, BucketError> {
        self.0
            .run(self.patience(), |connection: ConnectionOf<E>| async move {
                connection.update_bucket(config).await.map(drop)
            })
            .await?;
        self.bucket(&config.bucket)
    }

    async fn delete_bucket(&self, name: &str) -> Result<(), BucketError> {
        self.0
            .run(self.patience(), |connection: ConnectionOf<E>| async move {
                connection.delete_bucket(name).await
            })
            .await
    }
}

impl<E: Env> JetStream for SessionConnection<E> {
    type Stream = SessionStream<E>;

    fn stream(&self, name: &str) -> Result<SessionStream<E>, StreamError> {
        if !is_bucket(name) {
            return Err(StreamError::InvalidName(name.to_owned()));
        }
        Ok(SessionStream::new(Arc::clone(&self.0), name))
    }

    async fn create_stream(&self, config: &StreamConfig) -> Result<SessionStream<E>, StreamError> {
        self.0
            .run(self.patience(), |connection: ConnectionOf<E>| async move {
                connection.create_stream(config).await.map(drop)
            })
            .await?;
        self.stream(&config.name)
    }

    async fn update_stream(&self, config: &StreamConfig) -> Result<StreamInfo, StreamError> {
        self.0
            .run(self.patience(), |connection: ConnectionOf<E>| async move {
                connection.update_stream(config).await
            })
            .await
    }

    async fn delete_stream(&self, name: &str) -> Result<(), StreamError> {
        self.0
            .run(self.patience(), |connection: ConnectionOf<E>| async move {
                connection.delete_stream(name).await
            })
            .await
    }

    async fn store(&self, message: Message, options: StoreOptions) -> Result<StoreAck, StoreError> {
        let (message, options) = (&message, &options);
        let patience = Some(self.0.settings.connect.ack_timeout);
        self.0
            .run(patience, |connection: ConnectionOf<E>| {
                let (message, options) = (message.clone(), options.clone());
                async move { connection.store(message, options).await }
            })
            .await
    }
}
