//! A lock as one writes it in an afternoon, for specimens: read, write, wait a little, and the clock says when it is over.
//!
//! It is right but for one flaw, as long as nothing worse happens than what the flaw is about: it does not renew itself, its
//! waiters ask again and again, and nobody remembers what it has seen before.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use squall_core::state::StateError;
use squall_core::state::lock::{AcquireError, LostReason, RefreshError, UnlockError};
use squall_core::transport::{Bucket, KvEntry, Revision, UpdateError};
use squall_core::{Clock, Env, Instant, UnixTime};

use crate::variant::BucketOf;
use crate::variant::lock::{Exclusive, Held, Right, record_key};

/// Who waits asks this often.
const POLL: Duration = Duration::from_millis(100);

/// What is made wrong of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockFlaw {
    PutsWhatIsFree,
    JudgesByWallClock,
    ForgetsUnanswered,
}

/// What it writes: what the right one writes, and when it believes that to be over.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    id: String,
    write: u64,
    ttl_ms: u64,
    expires: UnixTime,
}

/// See the head of this file.
pub(super) struct SimpleLocks<E: Env> {
    env: E,
    right: Right<E>,
    flaw: LockFlaw,
    ids: Mutex<squall_core::Rng>,
}

impl<E: Env> SimpleLocks<E> {
    pub(super) fn new(env: &E, right: Right<E>, flaw: LockFlaw) -> Self {
        Self {
            ids: Mutex::new(env.rng("locks")),
            env: env.clone(),
            right,
            flaw,
        }
    }

    fn note(&self, ttl: Duration) -> Note {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        Note {
            id: format!("{:016x}", ids.next_u64()),
            write: 0,
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            expires: self.env.clock().wall() + ttl,
        }
    }

    /// Whether what is there does not count any more; `seen` is since when it has been.
    fn is_over(&self, entry: &KvEntry, seen: Instant) -> bool {
        if !entry.operation.is_put() {
            return true;
        }
        let Ok(note) = serde_json::from_slice::<Note>(&entry.value) else {
            return false;
        };
        if self.flaw == LockFlaw::JudgesByWallClock {
            // The flaw: one clock has written it, and another reads it.
            return note.expires <= self.env.clock().wall();
        }
        let life = Duration::from_millis(note.ttl_ms);
        self.env.clock().now().since(seen) >= life + life / 16
    }

    async fn lock(
        &self,
        key: &str,
        ttl: Duration,
        until: Option<Instant>,
    ) -> Result<Arc<dyn Held>, AcquireError> {
        let (clock, bucket, key) = (self.env.clock(), &self.right.bucket, record_key(key));
        let mut seen: Option<(Revision, Instant)> = None;
        loop {
            let found = bucket.entry(&key).await?;
            let over = found
                .as_ref()
                .map_or(Revision::NONE, |entry| entry.revision);
            if seen.is_none_or(|(revision, _)| revision != over) {
                seen = Some((over, clock.now()));
            }
            let since = seen.map_or_else(|| clock.now(), |(_, since)| since);
            if found.is_none_or(|entry| self.is_over(&entry, since)) {
                let sent = clock.now();
                match self.write(&key, ttl, over).await {
                    Ok(revision) => return Ok(self.held(key, ttl, revision, sent)),
                    Err(UpdateError::WrongRevision { .. }) => {}
                    // What comes of it is nobody's business any more: the flaw of who forgets it.
                    Err(UpdateError::Write(error)) => return Err(error.into()),
                }
            }
            match until {
                Some(until) if clock.now() < until => {
                    clock.sleep_until((clock.now() + POLL).min(until)).await;
                }
                _ => return Err(AcquireError::Held),
            }
        }
    }

    async fn write(
        &self,
        key: &str,
        ttl: Duration,
        over: Revision,
    ) -> Result<Revision, UpdateError> {
        let value = serde_json::to_vec(&self.note(ttl))
            .unwrap_or_default()
            .into();
        match self.flaw {
            // The flaw: over whatever is there by now.
            LockFlaw::PutsWhatIsFree => Ok(self.right.bucket.put(key, value).await?),
            _ => self.right.bucket.update(key, value, over).await,
        }
    }

    fn held(&self, key: String, ttl: Duration, revision: Revision, sent: Instant) -> Arc<dyn Held> {
        Arc::new(SimpleLock::<E> {
            clock: self.env.clock().clone(),
            bucket: self.right.bucket.clone(),
            key,
            revision,
            ends: sent + ttl,
        })
    }
}

impl<E: Env> Exclusive for SimpleLocks<E> {
    fn acquire<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        until: Option<Instant>,
    ) -> BoxFuture<'a, Result<Arc<dyn Held>, AcquireError>> {
        Box::pin(self.lock(key, ttl, until))
    }

    fn put_fenced<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        token: u64,
    ) -> BoxFuture<'a, Result<Revision, StateError>> {
        self.right.put_fenced(key, value, token)
    }
}

struct SimpleLock<E: Env> {
    clock: E::Clock,
    bucket: BucketOf<E>,
    key: String,
    revision: Revision,
    ends: Instant,
}

impl<E: Env> Held for SimpleLock<E> {
    fn token(&self) -> u64 {
        self.revision.0
    }

    fn is_held(&self) -> bool {
        self.clock.now() < self.ends
    }

    fn lost(&self) -> BoxFuture<'_, LostReason> {
        Box::pin(async {
            self.clock.sleep_until(self.ends).await;
            LostReason::Expired
        })
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), RefreshError>> {
        Box::pin(std::future::ready(Err(RefreshError::Expired)))
    }

    fn keep_alive(&self) {}

    fn unlock(&self) -> BoxFuture<'_, Result<(), UnlockError>> {
        Box::pin(async {
            match self.bucket.delete(&self.key, Some(self.revision)).await {
                Ok(_) => Ok(()),
                Err(UpdateError::WrongRevision { .. }) => Err(UnlockError::NotHeld),
                Err(UpdateError::Write(error)) => Err(error.into()),
            }
        })
    }
}
