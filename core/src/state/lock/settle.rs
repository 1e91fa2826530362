//! Undoing in the background what nobody waits for any more: a record of one's own that is there, or may yet come.
//!
//! A write over revision `r` whose answer was lost can be stored only as long as `r` is the latest. So `r` is deleted: either
//! that succeeds, and the write never can, or something newer is there, which is looked at. What is of this acquisition
//! is deleted next, and anything else proves the same.

use std::sync::Arc;
use std::time::Duration;

use super::record::{Keys, is_of};
use super::shell::Inner;
use crate::env::Env;
use crate::time::Clock;
use crate::transport::{
    Bucket, ConnectionEvent, Events, ReadError, Revision, UpdateError, WriteError,
};

/// What has failed is tried again after so long.
const RETRY: Duration = Duration::from_millis(500);

/// Starts it. It goes on until it is done or the connection is closed.
pub(super) fn settle<E: Env, B: Bucket>(
    inner: &Arc<Inner<E, B>>,
    keys: &Keys,
    id: &Arc<str>,
    over: Revision,
) {
    let settling = run(
        Arc::clone(inner),
        Arc::clone(&keys.record),
        Arc::clone(id),
        over,
        inner.events(),
    );
    inner.env.spawn("lock settling", settling).detach();
}

async fn run<E: Env, B: Bucket>(
    inner: Arc<Inner<E, B>>,
    key: Arc<str>,
    id: Arc<str>,
    mut over: Revision,
    mut events: Option<Events>,
) {
    loop {
        match attempt(&inner.bucket, &key, &id, over).await {
            Step::Done => return,
            Step::Over(revision) => over = revision,
            Step::Later => {
                let clock = inner.env.clock();
                tokio::select! {
                    biased;
                    () = closed(&mut events) => return,
                    () = clock.sleep_until(clock.now() + RETRY) => {}
                }
            }
        }
    }
}

enum Step {
    Done,
    /// Our own record is there, under this revision.
    Over(Revision),
    Later,
}

async fn attempt<B: Bucket>(bucket: &B, key: &str, id: &str, over: Revision) -> Step {
    match bucket.delete(key, Some(over)).await {
        Ok(_) => Step::Done,
        // Nothing is there, and so nothing can be written over anything.
        Err(UpdateError::WrongRevision { actual }) if actual == Revision::NONE => Step::Done,
        Err(UpdateError::WrongRevision { actual }) => match bucket.entry(key).await {
            // A replica that is behind.
            Ok(found) if found.as_ref().is_none_or(|entry| entry.revision < actual) => Step::Later,
            Ok(Some(entry)) if is_of(&entry, id) => Step::Over(entry.revision),
            Ok(_) | Err(ReadError::Closed) => Step::Done,
            Err(error) => later(key, &error),
        },
        // With the connection goes what it had still to send.
        Err(UpdateError::Write(WriteError::Closed)) => Step::Done,
        Err(UpdateError::Write(error)) => later(key, &error),
    }
}

fn later(key: &str, error: &impl std::fmt::Display) -> Step {
    tracing::debug!(key, %error, "a lock is not settled yet");
    Step::Later
}

/// Ready once the connection is closed; never where nothing is told of it.
pub(super) async fn closed(events: &mut Option<Events>) {
    if let Some(listening) = events {
        while let Some(event) = listening.next().await {
            if event == ConnectionEvent::Closed {
                return;
            }
        }
        return;
    }
    std::future::pending().await
}
