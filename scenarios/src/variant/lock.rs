//! The locks under test: the core's own, or a specimen that stands in for them; and what they guard.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use squall_core::state::lock::{AcquireError, Lock, Locks, LostReason, RefreshError, UnlockError};
use squall_core::state::{StateError, StateStore};
use squall_core::transport::{Connection, Revision};
use squall_core::{Env, Instant};

use super::{BucketOf, ConnectionOf};
use crate::specimens;

/// Where the record of a lock stands.
pub(crate) fn record_key(key: &str) -> String {
    format!("l.{key}")
}

/// Where what it guards stands.
pub(crate) fn guarded_key(key: &str) -> String {
    format!("d.{key}")
}

/// What agents use of locks, right or wrong.
pub(crate) trait Exclusive: Send + Sync {
    /// As [`Locks::acquire_wait`], or, without a deadline, as [`Locks::acquire`].
    fn acquire<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        until: Option<Instant>,
    ) -> BoxFuture<'a, Result<Arc<dyn Held>, AcquireError>>;

    /// As [`StateStore::put_fenced`], of what the lock of this name guards.
    fn put_fenced<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        token: u64,
    ) -> BoxFuture<'a, Result<Revision, StateError>>;
}

/// What agents use of a lock that they hold.
pub(crate) trait Held: Send + Sync {
    /// As [`Lock::token`].
    fn token(&self) -> u64;
    /// As [`Lock::is_held`].
    fn is_held(&self) -> bool;
    /// As [`Lock::lost`].
    fn lost(&self) -> BoxFuture<'_, LostReason>;
    /// As [`Lock::refresh`].
    fn refresh(&self) -> BoxFuture<'_, Result<(), RefreshError>>;
    /// As [`Lock::keep_alive`].
    fn keep_alive(&self);
    /// As [`Lock::unlock`].
    fn unlock(&self) -> BoxFuture<'_, Result<(), UnlockError>>;
}

impl Held for Lock {
    fn token(&self) -> u64 {
        Self::token(self)
    }

    fn is_held(&self) -> bool {
        Self::is_held(self)
    }

    fn lost(&self) -> BoxFuture<'_, LostReason> {
        Box::pin(Self::lost(self))
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), RefreshError>> {
        Box::pin(Self::refresh(self))
    }

    fn keep_alive(&self) {
        Self::keep_alive(self);
    }

    fn unlock(&self) -> BoxFuture<'_, Result<(), UnlockError>> {
        Box::pin(Self::unlock(self))
    }
}

/// The right ones.
pub(crate) struct Right<E: Env> {
    pub(crate) locks: Locks<E, BucketOf<E>>,
    pub(crate) bucket: BucketOf<E>,
    /// In the same bucket.
    pub(crate) store: StateStore,
}

impl<E: Env> Right<E> {
    fn new(env: &E, connection: &ConnectionOf<E>, bucket: BucketOf<E>, store: StateStore) -> Self {
        let listened = connection.clone();
        let locks = Locks::new(env, bucket.clone(), move || listened.events());
        Self {
            locks,
            bucket,
            store,
        }
    }

    /// The same, with the type of the lock.
    pub(crate) async fn lock(
        &self,
        key: &str,
        ttl: Duration,
        until: Option<Instant>,
    ) -> Result<Lock, AcquireError> {
        let record = record_key(key);
        match until {
            Some(until) => self.locks.acquire_wait(key, &record, ttl, until).await,
            None => self.locks.acquire(key, &record, ttl).await,
        }
    }
}

impl<E: Env> Exclusive for Right<E> {
    fn acquire<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        until: Option<Instant>,
    ) -> BoxFuture<'a, Result<Arc<dyn Held>, AcquireError>> {
        Box::pin(async move {
            let lock = self.lock(key, ttl, until).await?;
            Ok(Arc::new(lock) as Arc<dyn Held>)
        })
    }

    fn put_fenced<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        token: u64,
    ) -> BoxFuture<'a, Result<Revision, StateError>> {
        Box::pin(self.store.put_fenced(key, value, token))
    }
}

/// Opens the right locks, or the specimen of this name.
pub(crate) fn open<E: Env>(
    specimen: Option<&str>,
    env: &E,
    connection: &ConnectionOf<E>,
    bucket: BucketOf<E>,
    store: StateStore,
) -> Arc<dyn Exclusive> {
    let right = Right::new(env, connection, bucket, store);
    match specimen {
        Some(name) => specimens::open_locks(name, env, right),
        None => Arc::new(right),
    }
}
