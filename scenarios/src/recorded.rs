//! [`RecordedEnv`]: any [`Env`], with every write and single read of a bucket, and every change of a connection, in the
//! history. Code under test does not notice.

use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use squall_core::presence::Entry;
use squall_core::state::lock;
use squall_core::transport::{
    Bucket, BucketConfig, BucketError, BucketInfo, ConnectError, ConnectOptions, Connection,
    ConnectionId, ConnectionState, CreateError, Events, Fallible, FlushError, JetStream, KvEntry,
    Login, Message, MessageTtl, Operation, PublishError, PutOptions, ReadError, RequestError,
    Revision, StoreAck, StoreError, StoreOptions, StreamConfig, StreamError, StreamInfo,
    SubscribeError, Subscription, Transport, UpdateError, Watch, WatchError, WatchStart,
    WriteError,
};
use squall_core::{Clock as _, Env, Moment, Rng, Task};

use crate::history::{Call, Recorder, Reply, What, value_hash};

/// An environment whose calls go into the history.
#[derive(Clone, Debug)]
pub struct RecordedEnv<E: Env> {
    inner: E,
    transport: RecordedTransport<E::Transport>,
}

impl<E: Env> RecordedEnv<E> {
    /// Records what `process` does in `inner`.
    pub fn new(inner: E, process: Arc<str>, recorder: Recorder) -> Self {
        let clock = inner.clock().clone();
        let notices: Notices =
            Arc::new(move |error| clock.notice("squall_core::transport", Moment::Fails(error)));
        let who = Who {
            process,
            recorder,
            notices,
        };
        let transport = RecordedTransport {
            inner: inner.transport().clone(),
            who,
        };
        Self { inner, transport }
    }
}

impl<E: Env> Env for RecordedEnv<E> {
    type Clock = E::Clock;
    type Transport = RecordedTransport<E::Transport>;

    fn clock(&self) -> &E::Clock {
        self.inner.clock()
    }

    fn transport(&self) -> &Self::Transport {
        &self.transport
    }

    fn rng(&self, purpose: &str) -> Rng {
        self.inner.rng(purpose)
    }

    fn spawn<F>(&self, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.inner.spawn(name, future)
    }
}

/// Is told of each error.
type Notices = Arc<dyn Fn(&dyn Debug) + Send + Sync>;

#[derive(Clone)]
struct Who {
    process: Arc<str>,
    recorder: Recorder,
    notices: Notices,
}

impl Debug for Who {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Who").field(&self.process).finish()
    }
}

impl Who {
    fn begins(&self, call: Call) -> u64 {
        self.recorder.invoke(&self.process, call)
    }

    fn ended<T, E: Fallible + ToString + Debug>(
        &self,
        id: u64,
        result: Result<T, E>,
        reply: impl FnOnce(&T) -> Reply,
    ) -> Result<T, E> {
        let ended = match &result {
            Ok(value) => Ok(reply(value)),
            Err(error) => {
                (self.notices)(error);
                Err((error.outcome(), error.to_string()))
            }
        };
        self.recorder.ended(id, ended);
        result
    }

    /// The same for a write that demands something of the key's latest record.
    fn decided<E: Fallible + ToString + Debug>(
        &self,
        id: u64,
        result: Result<Revision, E>,
        is_conflict: impl FnOnce(&E) -> bool,
    ) -> Result<Revision, E> {
        match &result {
            Err(refusal) if is_conflict(refusal) => {
                (self.notices)(refusal);
                let error = refusal.to_string();
                self.recorder.record(What::Refused {
                    id,
                    error,
                    conflict: true,
                });
                result
            }
            _ => self.ended(id, result, stored),
        }
    }
}

const fn is_other_revision(error: &UpdateError) -> bool {
    matches!(error, UpdateError::WrongRevision { .. })
}

const fn is_taken(error: &CreateError) -> bool {
    matches!(error, CreateError::AlreadyExists)
}

/// A transport whose calls go into the history.
#[derive(Clone, Debug)]
pub struct RecordedTransport<T> {
    inner: T,
    who: Who,
}

impl<T: Transport> Transport for RecordedTransport<T> {
    type Connection = RecordedConnection<T::Connection>;

    async fn connect(&self, options: ConnectOptions) -> Result<Self::Connection, ConnectError> {
        let id = self.who.begins(Call::Connect);
        let connected = self.inner.connect(options).await;
        let inner = self.who.ended(id, connected, |_| Reply::Done)?;
        Ok(RecordedConnection {
            inner,
            who: self.who.clone(),
        })
    }
}

/// A connection whose calls go into the history.
#[derive(Clone, Debug)]
pub struct RecordedConnection<C> {
    inner: C,
    who: Who,
}

impl<C: Connection> RecordedConnection<C> {
    fn wrap(&self, inner: C::Bucket) -> RecordedBucket<C::Bucket> {
        RecordedBucket {
            name: self.who.recorder.name(inner.name()),
            inner,
            who: self.who.clone(),
            usual: OnceLock::new(),
        }
    }
}

impl<C: Connection> Connection for RecordedConnection<C> {
    type Bucket = RecordedBucket<C::Bucket>;

    fn id(&self) -> ConnectionId {
        self.inner.id()
    }

    fn state(&self) -> ConnectionState {
        self.inner.state()
    }

    fn login(&self) -> Option<Login> {
        self.inner.login()
    }

    fn events(&self) -> Events {
        self.inner.events()
    }

    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.inner.publish(message).await
    }

    async fn request(&self, message: Message) -> Result<Message, RequestError> {
        self.inner.request(message).await
    }

    async fn subscribe(
        &self,
        subject: &str,
        queue: Option<&str>,
    ) -> Result<Subscription, SubscribeError> {
        self.inner.subscribe(subject, queue).await
    }

    async fn flush(&self) -> Result<(), FlushError> {
        self.inner.flush().await
    }

    async fn drain(&self) -> Result<(), FlushError> {
        self.inner.drain().await
    }

    async fn reconnect(&self) {
        self.inner.reconnect().await;
    }

    async fn close(&self) {
        self.inner.close().await;
    }

    fn bucket(&self, name: &str) -> Result<Self::Bucket, BucketError> {
        self.inner.bucket(name).map(|bucket| self.wrap(bucket))
    }

    async fn create_bucket(&self, config: &BucketConfig) -> Result<Self::Bucket, BucketError> {
        self.inner
            .create_bucket(config)
            .await
            .map(|bucket| self.wrap(bucket))
    }

    async fn update_bucket(&self, config: &BucketConfig) -> Result<Self::Bucket, BucketError> {
        self.inner
            .update_bucket(config)
            .await
            .map(|bucket| self.wrap(bucket))
    }

    async fn delete_bucket(&self, name: &str) -> Result<(), BucketError> {
        self.inner.delete_bucket(name).await
    }
}

/// Streams are used as they are: their own truth is in the history.
impl<C: Connection + JetStream> JetStream for RecordedConnection<C> {
    type Stream = C::Stream;

    fn stream(&self, name: &str) -> Result<Self::Stream, StreamError> {
        self.inner.stream(name)
    }

    async fn create_stream(&self, config: &StreamConfig) -> Result<Self::Stream, StreamError> {
        self.inner.create_stream(config).await
    }

    async fn update_stream(&self, config: &StreamConfig) -> Result<StreamInfo, StreamError> {
        self.inner.update_stream(config).await
    }

    async fn delete_stream(&self, name: &str) -> Result<(), StreamError> {
        self.inner.delete_stream(name).await
    }

    async fn store(&self, message: Message, options: StoreOptions) -> Result<StoreAck, StoreError> {
        self.inner.store(message, options).await
    }
}

/// A bucket whose writes and single reads go into the history.
#[derive(Clone, Debug)]
pub struct RecordedBucket<B> {
    inner: B,
    name: Arc<str>,
    who: Who,
    /// The key that was used first: mostly the only one. As records hold it.
    usual: OnceLock<Arc<str>>,
}

impl<B: Bucket> RecordedBucket<B> {
    /// A key as records hold it.
    fn key(&self, key: &str) -> Arc<str> {
        match self.usual.get() {
            Some(usual) if **usual == *key => Arc::clone(usual),
            Some(_) => self.who.recorder.name(key),
            None => {
                let name = self.who.recorder.name(key);
                self.usual.get_or_init(|| name.clone());
                name
            }
        }
    }

    /// Records the call of a write.
    fn writes(
        &self,
        key: &str,
        operation: Operation,
        expected: Option<Revision>,
        value: &[u8],
    ) -> u64 {
        let value = value_hash(value);
        self.who.begins(Call::Write {
            bucket: self.name.clone(),
            key: self.key(key),
            operation,
            expected,
            value,
        })
    }
}

const fn stored(revision: &Revision) -> Reply {
    Reply::Stored {
        revision: *revision,
    }
}

impl<B: Bucket> Bucket for RecordedBucket<B> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn entry(&self, key: &str) -> Result<Option<KvEntry>, ReadError> {
        let id = self.who.begins(Call::Read {
            bucket: self.name.clone(),
            key: self.key(key),
        });
        let reply = |entry: &Option<KvEntry>| Reply::Read {
            revision: entry.as_ref().map(|entry| entry.revision),
        };
        let read = self.inner.entry(key).await;
        self.who.ended(id, read, reply)
    }

    async fn history(&self, key: &str) -> Result<Vec<KvEntry>, ReadError> {
        self.inner.history(key).await
    }

    async fn entries(&self, filter: &str) -> Result<Vec<KvEntry>, ReadError> {
        self.inner.entries(filter).await
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<Revision, WriteError> {
        let id = self.writes(key, Operation::Put, None, &value);
        let written = self.inner.put(key, value).await;
        self.who.ended(id, written, stored)
    }

    async fn entries_of(&self, keys: &[&str]) -> Result<Vec<KvEntry>, ReadError> {
        self.inner.entries_of(keys).await
    }

    async fn put_with(
        &self,
        key: &str,
        value: Bytes,
        options: PutOptions,
    ) -> Result<Revision, UpdateError> {
        let id = self.writes(key, Operation::Put, options.expected, &value);
        let written = self.inner.put_with(key, value, options).await;
        self.who.decided(id, written, is_other_revision)
    }

    async fn create_with(
        &self,
        key: &str,
        value: Bytes,
        ttl: MessageTtl,
    ) -> Result<Revision, CreateError> {
        let id = self.writes(key, Operation::Put, Some(Revision::NONE), &value);
        let written = self.inner.create_with(key, value, ttl).await;
        self.who.decided(id, written, is_taken)
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<Revision, CreateError> {
        let id = self.writes(key, Operation::Put, Some(Revision::NONE), &value);
        let written = self.inner.create(key, value).await;
        self.who.decided(id, written, is_taken)
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
    ) -> Result<Revision, UpdateError> {
        let id = self.writes(key, Operation::Put, Some(expected), &value);
        let written = self.inner.update(key, value, expected).await;
        self.who.decided(id, written, is_other_revision)
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<Revision, UpdateError> {
        let id = self.writes(key, Operation::Delete, expected, &[]);
        let written = self.inner.delete(key, expected).await;
        self.who.decided(id, written, is_other_revision)
    }

    async fn purge(&self, key: &str, expected: Option<Revision>) -> Result<Revision, UpdateError> {
        let id = self.writes(key, Operation::Purge, expected, &[]);
        let written = self.inner.purge(key, expected).await;
        self.who.decided(id, written, is_other_revision)
    }

    async fn watch(&self, filter: &str, start: WatchStart) -> Result<Watch, WatchError> {
        self.inner.watch(filter, start).await
    }

    async fn info(&self) -> Result<BucketInfo, ReadError> {
        self.inner.info().await
    }
}

/// What a record says of itself, where it is the entry of a presence or the record of a lock: of which incarnation or
/// acquisition it is, and how long it lives.
pub(crate) fn says(record: &KvEntry) -> (Option<Arc<str>>, Option<Duration>) {
    if let Some(entry) = Entry::decode(record) {
        return (Some(entry.incarnation().0.into()), entry.ttl());
    }
    lock::Record::decode(record).map_or((None, None), |lock| {
        (Some(lock.id), Some(Duration::from_millis(lock.ttl_ms)))
    })
}
