//! `lock-no-fencing-token`: what is written under a lock is written whatever is there.
//!
//! The holder asks whether it still has the lock, sends its write, and the write is late: the process stands still, the link is
//! down and its client keeps what it was given. Meanwhile the lock has run out, somebody else has it and has written. Then
//! the late write arrives and takes the place of the newer one. No lock can prevent that, only what is written to.
//!
//! Right: stamp the write with the token, and write over the very revision that bore no higher one
//! ([`squall_core::state::StateStore::put_fenced`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use squall_core::state::StateError;
use squall_core::state::lock::AcquireError;
use squall_core::transport::{Bucket, Revision};
use squall_core::{Env, Instant};

use crate::variant::lock::{Exclusive, Held, Right, guarded_key};

pub(super) const NAME: &str = "lock-no-fencing-token";

pub(super) struct PutsWhateverIsThere<E: Env>(pub(super) Right<E>);

impl<E: Env> Exclusive for PutsWhateverIsThere<E> {
    fn acquire<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        until: Option<Instant>,
    ) -> BoxFuture<'a, Result<Arc<dyn Held>, AcquireError>> {
        self.0.acquire(key, ttl, until)
    }

    fn put_fenced<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        _token: u64,
    ) -> BoxFuture<'a, Result<Revision, StateError>> {
        Box::pin(async move {
            // The flaw: no token is looked at.
            Ok(self.0.bucket.put(&guarded_key(key), value).await?)
        })
    }
}
