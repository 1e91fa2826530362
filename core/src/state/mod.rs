//! Shared state: values under keys, for agents that come and go, after the `state` package of agentkit.
//!
//! ```text
//!   StateStore ── get, put, delete, keys ──▶ store: a read, and a write over what was read
//!        │                                      │
//!        ├─ lock ──▶ Locks                      │
//!        └─ watch ──▶ watching ──▶ Tracker      ├──▶ a bucket of NATS
//!                     (a task)     (pure)       └──▶ MemoryBucket
//! ```
//!
//! It is written once over any [`Bucket`]: one of NATS, or a [`MemoryBucket`], which gives the same answers to the same
//! calls. The bucket keeps the latest record of each key; what the store must know of a value stands before
//! it.
//!
//! **How long a value lives.** A record says how long it lives, and the server stamps it with its time. Its life is over
//! when the server's time is past both together: one clock, which no node's clock can put wrong. That holds on servers of
//! all versions, to the nanosecond, and with a fence that outlives the value. It costs:
//!
//! - one request more (the server's time, `STREAM.INFO`) for every read and write that meets a value whose life ends, and a
//!   second read where it is over; nothing for values that live for ever;
//! - room. Where the server knows lives of records (2.11 and later, in a bucket that was made with delete markers) it takes
//!   the record away within a second or so. Before 2.11, and of fenced keys, an expired value is only *told* as gone: it is
//!   stored until a watch that matches it, or the next write, takes it away.
//!
//! **A put is two requests**, a read and a write over what was read: so that what a key is fenced with outlives what others
//! put there, and [`Entry::created`] means the same on every backend. Writers of one key that come at once take turns.
//!
//! **Fences.** [`StateStore::put_fenced`] refuses a token lower than one that the key was written with. Plain puts, deletions
//! and expiries keep the fence; a fenced key leaves a small record behind for ever.
//!
//! **Copies.** In a bucket with replicas a read may be answered by a copy that is behind; what is written is always over the
//! latest.

mod attach;
mod entry;
mod error;
mod key;
pub mod lock;
mod memory;
mod record;
mod store;
mod tracker;
mod ttl;
mod watching;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

pub use self::entry::{Entry, Event, Gap, Operation};
pub use self::error::{LockError, OpenError, StateError, WatchEnd};
pub use self::key::{InvalidKey, KEY_LEN_MAX, KeyFlaw};
use self::lock::{Lock, Locks};
pub use self::memory::MemoryBucket;
use self::store::Inner;
pub use self::store::VALUE_MAX;
pub use self::ttl::{InvalidTtl, Ttl};
pub use self::watching::Watch;
use crate::env::Env;
use crate::time::Instant;
use crate::transport::{Bucket, Connection, Revision, Storage, Transport};

/// The bucket of a store, unless another is named.
pub const BUCKET_DEFAULT: &str = "agent-state";

/// Events that a slow reader may leave unread before it is told that it lags, unless said otherwise.
pub const WATCH_BUFFER_DEFAULT: usize = 256;

/// The largest record, as the bucket is told.
const VALUE_RECORD_MAX: i32 = 1 << 20;

/// How a store is kept. Where the bucket exists it stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The key-value bucket, shared by all who want the same state. Default: [`BUCKET_DEFAULT`].
    pub bucket: String,
    /// Where a bucket that has to be made is kept. Default: on disk.
    pub storage: Storage,
    /// Copies in a cluster that a bucket is made with. Default: one.
    pub replicas: u8,
    /// Events that a reader of a watch may leave unread, at least one. Default: [`WATCH_BUFFER_DEFAULT`].
    pub watch_buffer: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bucket: BUCKET_DEFAULT.to_owned(),
            storage: Storage::File,
            replicas: 1,
            watch_buffer: WATCH_BUFFER_DEFAULT,
        }
    }
}

type Answer<'a, T, R = StateError> = Pin<Box<dyn Future<Output = Result<T, R>> + Send + 'a>>;

/// What the handle needs of its surroundings, without naming their type.
trait Api: Send + Sync {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Entry>;
    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Ttl,
        token: Option<u64>,
    ) -> Answer<'a, Revision>;
    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()>;
    fn keys<'a>(&'a self, pattern: &'a str) -> Answer<'a, Vec<String>>;
    fn watch<'a>(&'a self, pattern: &'a str) -> Answer<'a, Watch>;
    fn lock<'a>(
        &'a self,
        key: &'a str,
        ttl: Ttl,
        deadline: Option<Instant>,
    ) -> Answer<'a, Lock, LockError>;
    fn close(&self);
}

impl<E: Env, B: Bucket> Api for Inner<E, B> {
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Entry> {
        Box::pin(Self::get(self, key))
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Ttl,
        token: Option<u64>,
    ) -> Answer<'a, Revision> {
        Box::pin(Self::put(self, key, value, ttl, token))
    }

    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        Box::pin(Self::delete(self, key))
    }

    fn keys<'a>(&'a self, pattern: &'a str) -> Answer<'a, Vec<String>> {
        Box::pin(Self::keys(self, pattern))
    }

    fn watch<'a>(&'a self, pattern: &'a str) -> Answer<'a, Watch> {
        Box::pin(Self::watch(self, pattern))
    }

    fn lock<'a>(
        &'a self,
        key: &'a str,
        ttl: Ttl,
        deadline: Option<Instant>,
    ) -> Answer<'a, Lock, LockError> {
        Box::pin(Self::lock(self, key, ttl, deadline))
    }

    fn close(&self) {
        Self::close(self);
    }
}

/// A store of values under keys. Clones share it.
///
/// Keys are texts of at most [`KEY_LEN_MAX`] bytes without spaces, that neither begin nor end with a dot; values are of at
/// most [`VALUE_MAX`] bytes. Patterns are keys, or begin them and end with `*`.
#[derive(Clone)]
pub struct StateStore(Arc<dyn Api>);

impl fmt::Debug for StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateStore")
    }
}

impl StateStore {
    /// Opens a store in a bucket of NATS, which is created if it is not there.
    ///
    /// # Errors
    /// After an error nothing is left behind but perhaps the bucket.
    pub async fn open<E: Env>(
        env: &E,
        connection: &<E::Transport as Transport>::Connection,
        config: &Config,
    ) -> Result<Self, OpenError> {
        let bucket = attach::attach(connection, config).await?;
        let listened = connection.clone();
        let locks = Locks::new(env, bucket.clone(), move || listened.events());
        Self::with(env, bucket, locks, config.watch_buffer).await
    }

    /// Opens a store in a bucket that there is: a [`MemoryBucket`], or any other that keeps one record a key for ever, and
    /// whose connection, if it has one, is lost to nobody.
    ///
    /// # Errors
    /// If it cannot be read, or keeps its records otherwise.
    pub async fn over<E: Env, B: Bucket>(
        env: &E,
        bucket: B,
        watch_buffer: usize,
    ) -> Result<Self, OpenError> {
        let locks = Locks::local(env, bucket.clone());
        Self::with(env, bucket, locks, watch_buffer).await
    }

    async fn with<E: Env, B: Bucket>(
        env: &E,
        bucket: B,
        locks: Locks<E, B>,
        watch_buffer: usize,
    ) -> Result<Self, OpenError> {
        let info = bucket.info().await?;
        let settings = attach::settings(&info, watch_buffer.max(1))?;
        let inner = Inner::new(env.clone(), bucket, locks, settings);
        Ok(Self(Arc::new(inner)))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`StateError::NotFound`] where it has none, or its life is over.
    pub async fn get(&self, key: &str) -> Result<Bytes, StateError> {
        Ok(self.0.get(key).await?.value)
    }

    /// The value of a key, with its place and times.
    ///
    /// # Errors
    /// [`StateError::NotFound`] where it has none, or its life is over.
    pub async fn get_entry(&self, key: &str) -> Result<Entry, StateError> {
        self.0.get(key).await
    }

    /// Gives a key a value, whatever it had, that lives so long: [`Ttl::NEVER`] until it is overwritten or deleted.
    ///
    /// # Errors
    /// See [`StateError::outcome`](crate::transport::Fallible::outcome) for whether it may be written all the same.
    pub async fn put(
        &self,
        key: &str,
        value: impl Into<Bytes> + Send,
        ttl: Ttl,
    ) -> Result<Revision, StateError> {
        self.0.put(key, value.into(), ttl, None).await
    }

    /// Gives a key a value, unless it has been written with a higher token: that of a later holder of a lock.
    ///
    /// # Errors
    /// [`StateError::StaleToken`] if it has.
    pub async fn put_fenced(
        &self,
        key: &str,
        value: impl Into<Bytes> + Send,
        token: u64,
    ) -> Result<Revision, StateError> {
        let value = value.into();
        self.0.put(key, value, Ttl::NEVER, Some(token)).await
    }

    /// Takes a key's value away. Ok also where it has none.
    ///
    /// # Errors
    /// See [`StateError::outcome`](crate::transport::Fallible::outcome) for whether it may be gone all the same.
    pub async fn delete(&self, key: &str) -> Result<(), StateError> {
        self.0.delete(key).await
    }

    /// The keys that have a value and match, in order.
    ///
    /// # Errors
    /// Never a part of the answer.
    pub async fn keys(&self, pattern: &str) -> Result<Vec<String>, StateError> {
        self.0.keys(pattern).await
    }

    /// What happens to the keys that match, from now on. Holds a line in memory for each that has a value, and takes expired
    /// ones out of the bucket.
    ///
    /// # Errors
    /// After an error there is no watch.
    pub async fn watch(&self, pattern: &str) -> Result<Watch, StateError> {
        self.0.watch(pattern).await
    }

    /// Locks a key for so long, if nobody else holds it. Keys and locks have nothing to do with each other but by what is
    /// put with the lock's [`token`](Lock::token).
    ///
    /// # Errors
    /// [`AcquireError::Held`](lock::AcquireError::Held) where somebody else holds it; [`LockError::InvalidTtl`] for one that
    /// would never end.
    pub async fn lock(&self, key: &str, ttl: Ttl) -> Result<Lock, LockError> {
        self.0.lock(key, ttl, None).await
    }

    /// The same, and waits for it until `deadline`, in turn with the others who wait.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), at the deadline at the latest.
    pub async fn lock_wait(
        &self,
        key: &str,
        ttl: Ttl,
        deadline: Instant,
    ) -> Result<Lock, LockError> {
        self.0.lock(key, ttl, Some(deadline)).await
    }

    /// Ends all watches ([`WatchEnd::WatchClosed`]); afterwards every method fails with [`StateError::Closed`]. Idempotent.
    /// The values stay, and so do locks that are held, the bucket and the connection.
    pub fn close(&self) {
        self.0.close();
    }
}
