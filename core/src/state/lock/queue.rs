//! The queue of those who wait: one ticket each, beside the record of the lock, in the order of revisions.
//!
//! Tickets are for order alone: nothing goes wrong where one is lost, left behind or deleted too early, but that somebody
//! comes sooner or later than it should.

use std::sync::Arc;
use std::time::Duration;

use super::record::Keys;
use super::shell::{Inner, Place};
use crate::env::Env;
use crate::transport::{Bucket, Watch, WatchStart};

/// Watches the record, takes a ticket if there is none yet, and sees who is before it. Whatever fails is done without.
pub(super) async fn join<E: Env, B: Bucket>(
    inner: Arc<Inner<E, B>>,
    keys: Keys,
    id: Arc<str>,
    waits: Option<Duration>,
) -> (Option<Watch>, Vec<Arc<str>>) {
    let watch = inner.bucket.watch(&keys.record, WatchStart::Snapshot).await;
    if let (Some(waits), Ok(_)) = (waits, &watch) {
        let ticket = keys.ticket(&id);
        let value = |write| format!("{{\"id\":{id:?},\"write\":{write}}}").into();
        let taken = inner.put(&ticket, value, Place::Any, waits).await;
        if let Err(error) = taken {
            tracing::debug!(ticket, %error, "no ticket");
        }
    }
    let ahead = match inner.bucket.entries(&keys.all_tickets()).await {
        Ok(tickets) => tickets
            .iter()
            .filter_map(|ticket| keys.holder_of(&ticket.key))
            .take_while(|holder| **holder != *id)
            .map(Arc::from)
            .collect(),
        Err(error) => {
            tracing::debug!(key = %keys.record, %error, "the queue cannot be read");
            Vec::new()
        }
    };
    (watch.ok(), ahead)
}

/// Takes tickets away: one's own, and those whose turn it was.
pub(super) async fn leave<E: Env, B: Bucket>(
    inner: Arc<Inner<E, B>>,
    keys: Keys,
    ids: Vec<Arc<str>>,
) {
    for id in ids {
        let ticket = keys.ticket(&id);
        if let Err(error) = inner.bucket.delete(&ticket, None).await {
            tracing::debug!(ticket, %error, "a ticket is left behind");
        }
    }
}
