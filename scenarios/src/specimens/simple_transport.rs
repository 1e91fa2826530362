//! What users of a [`SimpleSession`] see: one connection, whichever it is just then, and watches that outlive each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::transport::{
    Bucket, BucketConfig, BucketError, BucketInfo, ConnectError, ConnectOptions, Connection,
    ConnectionId, ConnectionState, CreateError, Events, FlushError, InterruptCause, JetStream,
    KvEntry, Login, Message, MessageTtl, PublishError, PutOptions, ReadError, RequestError,
    Revision, StoreAck, StoreError, StoreOptions, StreamConfig, StreamError, StreamInfo,
    SubscribeError, Subscription, Transport, UpdateError, Watch, WatchError, WatchEvent,
    WatchSender, WatchStart, WriteError,
};
use squall_core::{Env, Rng, Task};
use tokio::sync::mpsc;

use super::Flaw;
use super::simple_session::{Live, Moved, SimpleSession};
use crate::variant::{BucketOf, ConnectionOf};

/// What lives on a session sees this environment.
#[derive(Clone)]
pub(crate) struct SimpleEnv<E: Env>(pub(crate) SimpleSession<E>);

impl<E: Env> Env for SimpleEnv<E> {
    type Clock = E::Clock;
    type Transport = Self;

    fn clock(&self) -> &E::Clock {
        self.0.env().clock()
    }

    fn transport(&self) -> &Self {
        self
    }

    fn rng(&self, purpose: &str) -> Rng {
        self.0.env().rng(purpose)
    }

    fn spawn<F>(&self, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.env().spawn(name, future)
    }
}

impl<E: Env> Transport for SimpleEnv<E> {
    type Connection = SimpleConnection<E>;

    /// Whatever the options: the session knows better.
    async fn connect(&self, _: ConnectOptions) -> Result<SimpleConnection<E>, ConnectError> {
        self.0.wanted();
        match self.0.first().await {
            Some(first) => Ok(SimpleConnection {
                session: self.0.clone(),
                first,
            }),
            None => Err(ConnectError::Unreachable("nobody is logged in".into())),
        }
    }
}

/// See the head of this file.
pub(crate) struct SimpleConnection<E: Env> {
    session: SimpleSession<E>,
    /// For what has to be there without waiting.
    first: Arc<Live<ConnectionOf<E>>>,
}

impl<E: Env> Clone for SimpleConnection<E> {
    fn clone(&self) -> Self {
        Self {
            session: self.session.clone(),
            first: Arc::clone(&self.first),
        }
    }
}

impl<E: Env> SimpleConnection<E> {
    fn now(&self) -> Arc<Live<ConnectionOf<E>>> {
        let now = self.session.now();
        now.unwrap_or_else(|| Arc::clone(&self.first))
    }
}

impl<E: Env> Connection for SimpleConnection<E> {
    type Bucket = SimpleBucket<E>;

    fn id(&self) -> ConnectionId {
        self.first.connection.id()
    }

    fn state(&self) -> ConnectionState {
        self.now().connection.state()
    }

    fn login(&self) -> Option<Login> {
        self.now().connection.login()
    }

    fn events(&self) -> Events {
        self.session.events()
    }

    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let live = self.session.usable().await.ok_or(PublishError::Closed)?;
        live.connection.publish(message).await
    }

    async fn request(&self, message: Message) -> Result<Message, RequestError> {
        let live = self.session.usable().await.ok_or(PublishError::Closed)?;
        live.connection.request(message).await
    }

    async fn subscribe(
        &self,
        subject: &str,
        queue: Option<&str>,
    ) -> Result<Subscription, SubscribeError> {
        let live = self.session.usable().await.ok_or(SubscribeError::Closed)?;
        live.connection.subscribe(subject, queue).await
    }

    async fn flush(&self) -> Result<(), FlushError> {
        let live = self.session.usable().await.ok_or(FlushError::Closed)?;
        live.connection.flush().await
    }

    /// The session is its owner's to end.
    async fn drain(&self) -> Result<(), FlushError> {
        Ok(())
    }

    async fn reconnect(&self) {
        self.now().connection.reconnect().await;
    }

    /// The session is its owner's to end.
    async fn close(&self) {}

    fn bucket(&self, name: &str) -> Result<SimpleBucket<E>, BucketError> {
        self.now().connection.bucket(name)?;
        Ok(SimpleBucket {
            session: self.session.clone(),
            name: name.into(),
            login: self.session.login(),
        })
    }

    async fn create_bucket(&self, config: &BucketConfig) -> Result<SimpleBucket<E>, BucketError> {
        let live = self.session.usable().await.ok_or(BucketError::Closed)?;
        live.connection.create_bucket(config).await?;
        self.bucket(&config.bucket)
    }

    async fn update_bucket(&self, config: &BucketConfig) -> Result<SimpleBucket<E>, BucketError> {
        let live = self.session.usable().await.ok_or(BucketError::Closed)?;
        live.connection.update_bucket(config).await?;
        self.bucket(&config.bucket)
    }

    async fn delete_bucket(&self, name: &str) -> Result<(), BucketError> {
        let live = self.session.usable().await.ok_or(BucketError::Closed)?;
        live.connection.delete_bucket(name).await
    }
}

/// Streams are those of the connection of the moment: no room that lives on this one has any.
impl<E: Env> JetStream for SimpleConnection<E> {
    type Stream = <ConnectionOf<E> as JetStream>::Stream;

    fn stream(&self, name: &str) -> Result<Self::Stream, StreamError> {
        self.now().connection.stream(name)
    }

    async fn create_stream(&self, config: &StreamConfig) -> Result<Self::Stream, StreamError> {
        self.now().connection.create_stream(config).await
    }

    async fn update_stream(&self, config: &StreamConfig) -> Result<StreamInfo, StreamError> {
        self.now().connection.update_stream(config).await
    }

    async fn delete_stream(&self, name: &str) -> Result<(), StreamError> {
        self.now().connection.delete_stream(name).await
    }

    async fn store(&self, message: Message, options: StoreOptions) -> Result<StoreAck, StoreError> {
        self.now().connection.store(message, options).await
    }
}

/// A bucket on whichever connection there is.
pub(crate) struct SimpleBucket<E: Env> {
    session: SimpleSession<E>,
    name: Arc<str>,
    /// The login that it belongs to: in another account a bucket of this name is another.
    login: u64,
}

impl<E: Env> Clone for SimpleBucket<E> {
    fn clone(&self) -> Self {
        Self {
            session: self.session.clone(),
            name: Arc::clone(&self.name),
            login: self.login,
        }
    }
}

/// The connection of the moment and the bucket on it.
type Held<E> = (Arc<Live<ConnectionOf<E>>>, BucketOf<E>);

impl<E: Env> SimpleBucket<E> {
    async fn held(&self) -> Option<Held<E>> {
        let live = self.session.usable().await?;
        if self.session.login() != self.login {
            return None;
        }
        let bucket = live.connection.bucket(&self.name).ok()?;
        Some((live, bucket))
    }

    async fn done<T, X>(
        &self,
        live: &Arc<Live<ConnectionOf<E>>>,
        done: Result<T, X>,
    ) -> Result<T, X> {
        if done.is_err() {
            self.session.failed(live).await;
        }
        done
    }
}

impl<E: Env> Bucket for SimpleBucket<E> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn entry(&self, key: &str) -> Result<Option<KvEntry>, ReadError> {
        let (live, bucket) = self.held().await.ok_or(ReadError::Closed)?;
        let done = bucket.entry(key).await;
        self.done(&live, done).await
    }

    async fn history(&self, key: &str) -> Result<Vec<KvEntry>, ReadError> {
        let (live, bucket) = self.held().await.ok_or(ReadError::Closed)?;
        let done = bucket.history(key).await;
        self.done(&live, done).await
    }

    async fn entries(&self, filter: &str) -> Result<Vec<KvEntry>, ReadError> {
        let (live, bucket) = self.held().await.ok_or(ReadError::Closed)?;
        let done = bucket.entries(filter).await;
        self.done(&live, done).await
    }

    async fn entries_of(&self, keys: &[&str]) -> Result<Vec<KvEntry>, ReadError> {
        let (live, bucket) = self.held().await.ok_or(ReadError::Closed)?;
        let done = bucket.entries_of(keys).await;
        self.done(&live, done).await
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<Revision, WriteError> {
        let (live, bucket) = self.held().await.ok_or(WriteError::Closed)?;
        let done = bucket.put(key, value).await;
        self.done(&live, done).await
    }

    async fn put_with(
        &self,
        key: &str,
        value: Bytes,
        options: PutOptions,
    ) -> Result<Revision, UpdateError> {
        let (live, bucket) = self.held().await.ok_or(WriteError::Closed)?;
        let done = bucket.put_with(key, value, options).await;
        self.done(&live, done).await
    }

    async fn create_with(
        &self,
        key: &str,
        value: Bytes,
        ttl: MessageTtl,
    ) -> Result<Revision, CreateError> {
        let (live, bucket) = self.held().await.ok_or(WriteError::Closed)?;
        let done = bucket.create_with(key, value, ttl).await;
        self.done(&live, done).await
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<Revision, CreateError> {
        let (live, bucket) = self.held().await.ok_or(WriteError::Closed)?;
        let done = bucket.create(key, value).await;
        self.done(&live, done).await
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
    ) -> Result<Revision, UpdateError> {
        let (live, bucket) = self.held().await.ok_or(WriteError::Closed)?;
        let done = bucket.update(key, value, expected).await;
        self.done(&live, done).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<Revision, UpdateError> {
        let (live, bucket) = self.held().await.ok_or(WriteError::Closed)?;
        let done = bucket.delete(key, expected).await;
        self.done(&live, done).await
    }

    async fn purge(&self, key: &str, expected: Option<Revision>) -> Result<Revision, UpdateError> {
        let (live, bucket) = self.held().await.ok_or(WriteError::Closed)?;
        let done = bucket.purge(key, expected).await;
        self.done(&live, done).await
    }

    async fn info(&self) -> Result<BucketInfo, ReadError> {
        let (live, bucket) = self.held().await.ok_or(ReadError::Closed)?;
        let done = bucket.info().await;
        self.done(&live, done).await
    }

    async fn watch(&self, filter: &str, start: WatchStart) -> Result<Watch, WatchError> {
        let moves = self.session.watches();
        let (live, bucket) = self.held().await.ok_or(WatchError::Closed)?;
        let watch = bucket.watch(filter, start).await?;
        drop(live);
        let (sender, told) = Watch::channel(CAPACITY, None);
        let following = Following {
            bucket: self.clone(),
            filter: filter.into(),
            newest: Revision::NONE,
            is_snapshot: true,
            is_interrupted: false,
            sender,
        };
        let follows = following.follow(watch, moves);
        self.session.env().spawn("watch", follows).detach();
        Ok(told)
    }
}

/// A watch that has no connection is made anew after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// What a watch holds unread: more than any test lets come.
const CAPACITY: usize = 4096;

/// One watch, over all connections.
struct Following<E: Env> {
    bucket: SimpleBucket<E>,
    filter: Arc<str>,
    newest: Revision,
    /// The snapshot is still being told.
    is_snapshot: bool,
    is_interrupted: bool,
    sender: WatchSender,
}

impl<E: Env> Following<E> {
    async fn follow(
        mut self,
        first: Watch,
        mut moves: mpsc::UnboundedReceiver<Moved<ConnectionOf<E>>>,
    ) {
        let mut watch = Some(first);
        loop {
            let next = async {
                match &mut watch {
                    Some(watch) => watch.next().await,
                    None => {
                        self.bucket.session.sleep(AGAIN).await;
                        None
                    }
                }
            };
            tokio::select! {
                biased;
                moved = moves.recv() => match moved {
                    Some(Moved::To(live, there)) => {
                        if let Some(other) = self.again(&live).await {
                            watch = Some(other);
                            self.goes_on();
                        }
                        // Whoever swaps may have given up on it.
                        let _late = there.send(());
                    }
                    Some(Moved::Over) | None => return,
                },
                event = next => match event {
                    Some(event) => self.take(event),
                    None if watch.is_some() => {
                        watch = None;
                        // One half of the flaw: between two connections nothing happens.
                        if !self.bucket.session.has(Flaw::ClosesBeforeRearming) {
                            self.take(WatchEvent::Interrupted(InterruptCause::Disconnected));
                        }
                    }
                    None => if let Some(live) = self.bucket.session.now() {
                        watch = self.again(&live).await;
                        if watch.is_some() {
                            self.goes_on();
                        }
                    },
                },
                () = self.sender.closed() => return,
            }
        }
    }

    fn goes_on(&mut self) {
        if self.is_interrupted {
            self.take(WatchEvent::Resumed { same_bucket: true });
        }
    }

    /// The same watch on another connection.
    async fn again(&self, live: &Arc<Live<ConnectionOf<E>>>) -> Option<Watch> {
        let bucket = live.connection.bucket(&self.bucket.name).ok()?;
        let start = if self.bucket.session.has(Flaw::ClosesBeforeRearming) {
            // The other half: what was committed while there was no watch is nobody's.
            WatchStart::Now
        } else {
            WatchStart::Revision(self.newest.next())
        };
        bucket.watch(&self.filter, start).await.ok()
    }

    fn take(&mut self, event: WatchEvent) {
        match &event {
            WatchEvent::Entry(entry) if entry.revision <= self.newest => return,
            WatchEvent::Entry(entry) => self.newest = entry.revision,
            WatchEvent::SnapshotEnd if self.is_snapshot => self.is_snapshot = false,
            // Only the first has one, for whoever follows.
            WatchEvent::SnapshotEnd => return,
            WatchEvent::Interrupted(_) => self.is_interrupted = true,
            WatchEvent::Resumed { .. } => self.is_interrupted = false,
        }
        self.tell(event);
    }

    fn tell(&self, event: WatchEvent) {
        // Nobody is there to hear it any more, or will be soon: the watch ends then.
        let _gone = self.sender.try_send(event);
    }
}
