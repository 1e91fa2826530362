//! The locks under test: the core's own, or a specimen that stands in for them; and what they guard.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use squall_core::state::lock::{AcquireError, Lock, Locks, LostReason, RefreshError, UnlockError};
use squall_core::transport::{
    Bucket, Connection, Fallible, Outcome, ReadError, Revision, UpdateError, WriteError,
};
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

    /// Writes what the lock of this name guards, unless that bears a higher token.
    fn put_fenced<'a>(
        &'a self,
        key: &'a str,
        value: Fenced,
    ) -> BoxFuture<'a, Result<Revision, FencedError>>;
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
}

impl<E: Env> Right<E> {
    pub(crate) fn new(env: &E, connection: &ConnectionOf<E>, bucket: BucketOf<E>) -> Self {
        let listened = connection.clone();
        let locks = Locks::new(env, bucket.clone(), move || listened.events());
        Self { locks, bucket }
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
        value: Fenced,
    ) -> BoxFuture<'a, Result<Revision, FencedError>> {
        Box::pin(async move { put_fenced(&self.bucket, &guarded_key(key), &value).await })
    }
}

/// Opens the right locks, or the specimen of this name.
pub(crate) fn open<E: Env>(
    specimen: Option<&str>,
    env: &E,
    connection: &ConnectionOf<E>,
    bucket: BucketOf<E>,
) -> Arc<dyn Exclusive> {
    let right = Right::new(env, connection, bucket);
    match specimen {
        Some(name) => specimens::open_locks(name, env, right),
        None => Arc::new(right),
    }
}

/// What is written under a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fenced {
    /// The token of the acquisition under which it was written.
    pub(crate) token: u64,
    /// By whom.
    pub(crate) by: Arc<str>,
    /// Its number, of those that this one has written.
    pub(crate) number: u64,
}

impl Fenced {
    /// As it is stored.
    pub(crate) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// Nothing was written under a lock, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FencedError {
    /// Somebody has written with a higher token.
    #[error("the token is stale: {newest} was there")]
    Stale {
        /// The highest that was found.
        newest: u64,
    },
    /// Somebody else wrote in between, or what was read was not the latest.
    #[error("somebody else wrote in between")]
    Contended,
    /// What is there could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It was not written, or nobody knows.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Fallible for FencedError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Stale { .. } | Self::Contended | Self::Read(_) => Outcome::Refused,
            Self::Write(error) => error.outcome(),
        }
    }
}

/// Compares tokens and writes over the very revision that was compared with.
async fn put_fenced<B: Bucket>(
    bucket: &B,
    key: &str,
    value: &Fenced,
) -> Result<Revision, FencedError> {
    let found = bucket.entry(key).await?;
    let over = found
        .as_ref()
        .map_or(Revision::NONE, |entry| entry.revision);
    let newest = found.and_then(|entry| serde_json::from_slice::<Fenced>(&entry.value).ok());
    if let Some(newest) = newest
        && newest.token > value.token
    {
        let newest = newest.token;
        return Err(FencedError::Stale { newest });
    }
    match bucket.update(key, value.encode(), over).await {
        Ok(revision) => Ok(revision),
        Err(UpdateError::WrongRevision { .. }) => Err(FencedError::Contended),
        Err(UpdateError::Write(error)) => Err(error.into()),
    }
}
