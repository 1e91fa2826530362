//! What all acquisitions over one bucket share, and [`Locks`], the handle that begins them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::acquiring::Acquisition;
use super::carried::Carried;
use super::queue::Kept;
use super::record::{Keys, Sight, Stamp};
use super::{AcquireError, Lock};
use crate::env::{Env, Rng};
use crate::time::{Clock, Instant};
use crate::transport::{Bucket, Events, MessageTtl, PutOptions, Revision, UpdateError, WriteError};

/// "Per-message TTL is disabled": the server knows no lives of records here.
const TTL_DISABLED: u64 = 10166;
/// The longest life; what is longer could not be added to a time.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Other holders' records that are remembered.
const SIGHTS_MAX: usize = 1024;

/// Over what a record is put.
#[derive(Clone, Copy)]
pub(super) enum Over {
    Revision(Revision),
    Anything,
}

type ListensTo = Box<dyn Fn() -> Events + Send + Sync>;

/// What all acquisitions over one bucket share.
pub(super) struct Inner<E: Env, B: Bucket> {
    pub(super) env: E,
    pub(super) bucket: B,
    connection: Option<ListensTo>,
    ids: Mutex<Rng>,
    /// Other holders' records, as they were first seen.
    sights: Mutex<BTreeMap<Arc<str>, Sight>>,
    /// Places in queues that were left and may be taken up again.
    pub(super) kept: Kept,
    /// Whether the server ends records by their own life, as far as is known.
    expires: AtomicBool,
    /// Counts the writes.
    writes: AtomicU64,
}

impl<E: Env, B: Bucket> Inner<E, B> {
    /// What happens to the connection from now on, if there is one.
    pub(super) fn events(&self) -> Option<Events> {
        self.connection.as_ref().map(|listen| listen())
    }

    pub(super) fn stamp(&self) -> Stamp {
        let clock = self.env.clock();
        Stamp {
            at: clock.now(),
            wall: clock.wall(),
        }
    }

    fn id(&self) -> Arc<str> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{:016x}", ids.next_u64()).into()
    }

    pub(super) fn sight(&self, key: &str) -> Option<Sight> {
        let sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        sights.get(key).cloned()
    }

    pub(super) fn remember(&self, key: &Arc<str>, sight: Option<Sight>) {
        let mut sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        match sight {
            None => drop(sights.remove(key)),
            Some(sight) => {
                sights.insert(Arc::clone(key), sight);
                if sights.len() > SIGHTS_MAX {
                    let oldest = sights.iter().min_by_key(|(_, sight)| sight.since);
                    let oldest = oldest.map(|(key, _)| Arc::clone(key));
                    oldest.and_then(|key| sights.remove(&key));
                }
            }
        }
    }

    /// Writes what ends by itself after this life, where the server knows such. `value` is given the number of the write.
    pub(super) async fn put(
        &self,
        key: &str,
        value: impl Fn(u64) -> Bytes + Send,
        over: Over,
        life: Duration,
    ) -> Result<Revision, UpdateError> {
        let expected = match over {
            Over::Revision(revision) => Some(revision),
            Over::Anything => None,
        };
        let next = || value(self.writes.fetch_add(1, Ordering::Relaxed));
        if self.expires.load(Ordering::Relaxed) {
            let options = PutOptions {
                expected,
                ttl: Some(MessageTtl::For(life)),
            };
            match self.bucket.put_with(key, next(), options).await {
                Err(UpdateError::Write(WriteError::Rejected(error)))
                    if error.err_code == TTL_DISABLED =>
                {
                    self.expires.store(false, Ordering::Relaxed);
                }
                written => return written,
            }
        }
        let ttl = None;
        let options = PutOptions { expected, ttl };
        self.bucket.put_with(key, next(), options).await
    }
}

/// Locks over one bucket. Cheap to clone.
pub struct Locks<E: Env, B: Bucket>(Arc<Inner<E, B>>);

impl<E: Env, B: Bucket> Clone for Locks<E, B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Env, B: Bucket> std::fmt::Debug for Locks<E, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Locks")
    }
}

impl<E: Env, B: Bucket> Locks<E, B> {
    /// Locks over a bucket of a connection; `events` begins to listen to it.
    pub fn new(env: &E, bucket: B, events: impl Fn() -> Events + Send + Sync + 'static) -> Self {
        Self::over(env, bucket, Some(Box::new(events)))
    }

    /// Locks over a bucket that no connection is lost to.
    pub fn local(env: &E, bucket: B) -> Self {
        Self::over(env, bucket, None)
    }

    fn over(env: &E, bucket: B, connection: Option<ListensTo>) -> Self {
        Self(Arc::new(Inner {
            ids: Mutex::new(env.rng("locks")),
            env: env.clone(),
            bucket,
            connection,
            sights: Mutex::default(),
            kept: Kept::default(),
            expires: AtomicBool::new(true),
            writes: AtomicU64::new(0),
        }))
    }

    /// Acquires the lock `key`, whose record stands under the bucket's key `record`, if it is free.
    ///
    /// # Errors
    /// [`AcquireError::Held`] where somebody else holds it. After any error, or where this is dropped, nothing of the lock
    /// is owned.
    pub async fn acquire(
        &self,
        key: &str,
        record: &str,
        ttl: Duration,
    ) -> Result<Lock, AcquireError> {
        self.contend(key, record, ttl, None).await
    }

    /// The same, and waits for it until `deadline`, in turn with the others who wait: see the head of the module.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), at the deadline at the latest.
    pub async fn acquire_wait(
        &self,
        key: &str,
        record: &str,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Lock, AcquireError> {
        self.contend(key, record, ttl, Some(deadline)).await
    }

    async fn contend(
        &self,
        key: &str,
        record: &str,
        ttl: Duration,
        until: Option<Instant>,
    ) -> Result<Lock, AcquireError> {
        if ttl.is_zero() || ttl > TTL_MAX {
            return Err(AcquireError::InvalidTtl(ttl));
        }
        let acquisition = Acquisition {
            inner: Arc::clone(&self.0),
            keys: Keys::new(record),
            id: self.0.id(),
            place: None,
            passed: Vec::new(),
            ttl,
        };
        let key = key.into();
        let run = |abandoned| acquisition.run(key, until, abandoned);
        Carried::new(&self.0.env, run).await
    }
}
