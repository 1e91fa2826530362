//! `lock-unlock-not-owner`: unlock deletes whatever is there.
//!
//! A holder stands still, or is cut off, until its lock has run out and somebody else has it. Then it lets go: it deletes the
//! record of the other, who goes on believing, and a third takes the lock beside it.
//!
//! Right: delete over the revision of one's own acquisition, so that the server refuses where another has taken the place
//! (`core/src/state/lock/holder.rs`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use squall_core::state::StateError;
use squall_core::state::lock::{AcquireError, Lock, LostReason, RefreshError, UnlockError};
use squall_core::transport::{Bucket, Revision, UpdateError};
use squall_core::{Env, Instant};

use crate::variant::BucketOf;
use crate::variant::lock::{Exclusive, Held, Right, record_key};

pub(super) const NAME: &str = "lock-unlock-not-owner";

pub(super) struct UnlocksWhateverIsThere<E: Env>(pub(super) Right<E>);

impl<E: Env> Exclusive for UnlocksWhateverIsThere<E> {
    fn acquire<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        until: Option<Instant>,
    ) -> BoxFuture<'a, Result<Arc<dyn Held>, AcquireError>> {
        Box::pin(async move {
            let right = self.0.lock(key, ttl, until).await?;
            let bucket = self.0.bucket.clone();
            Ok(Arc::new(SpoiltLock::<E> { right, bucket }) as Arc<dyn Held>)
        })
    }

    fn put_fenced<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        token: u64,
    ) -> BoxFuture<'a, Result<Revision, StateError>> {
        self.0.put_fenced(key, value, token)
    }
}

struct SpoiltLock<E: Env> {
    right: Lock,
    bucket: BucketOf<E>,
}

impl<E: Env> Held for SpoiltLock<E> {
    fn token(&self) -> u64 {
        self.right.token()
    }

    fn is_held(&self) -> bool {
        self.right.is_held()
    }

    fn lost(&self) -> BoxFuture<'_, LostReason> {
        Box::pin(self.right.lost())
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), RefreshError>> {
        Box::pin(self.right.refresh())
    }

    fn keep_alive(&self) {
        self.right.keep_alive();
    }

    fn unlock(&self) -> BoxFuture<'_, Result<(), UnlockError>> {
        Box::pin(async {
            // The flaw: over no revision, so over anybody's.
            match self
                .bucket
                .delete(&record_key(self.right.key()), None)
                .await
            {
                Ok(_) => Ok(()),
                Err(UpdateError::WrongRevision { .. }) => Err(UnlockError::NotHeld),
                Err(UpdateError::Write(error)) => Err(error.into()),
            }
        })
    }
}
