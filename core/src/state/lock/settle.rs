//! Undoing in the background what nobody waits for any more: a record of one's own that is there, or may yet come.
//!
//! A write over revision `r` whose answer was lost can be stored only as long as `r` is the latest. So whatever was written
//! over is deleted, as long as it is there: then the write never can be. What is of this acquisition is deleted as well, and
//! anything else that is newer proves the same.
//!
//! It looks before it deletes: a server that has lost its power gives `r` out again, to another's record.

use std::sync::Arc;
use std::time::Duration;

use super::record::{Keys, Sight, is_of};
use super::shell::Inner;
use crate::env::Env;
use crate::time::Clock;
use crate::transport::{
    Bucket, ConnectionEvent, Events, KvEntry, ReadError, Revision, UpdateError, WriteError,
};

/// What has failed is tried again after so long.
const RETRY: Duration = Duration::from_millis(500);
/// Looks in a row that may be those of a replica that is behind.
const BEHIND_MAX: u32 = 20;

/// What is settled.
struct Settling {
    key: Arc<str>,
    id: Arc<str>,
    /// Over what it was written, or may yet be; or what it is.
    over: Revision,
    /// Another's record that was to be taken over.
    seen: Option<Sight>,
}

/// Starts it. It goes on until it is done or the connection is closed.
pub(super) fn settle<E: Env, B: Bucket>(
    inner: &Arc<Inner<E, B>>,
    keys: &Keys,
    id: &Arc<str>,
    over: Revision,
    seen: Option<Sight>,
) {
    let record = Settling {
        key: Arc::clone(&keys.record),
        id: Arc::clone(id),
        over,
        seen,
    };
    let settling = run(Arc::clone(inner), record, inner.events());
    inner.env.spawn("lock settling", settling).detach();
}

async fn run<E: Env, B: Bucket>(
    inner: Arc<Inner<E, B>>,
    settling: Settling,
    mut events: Option<Events>,
) {
    let mut behind = 0;
    loop {
        match settling.attempt(&inner.bucket).await {
            Step::Done => return,
            Step::Later => behind = 0,
            // No replica is behind for so long: what was there is lost, and the write with it.
            Step::Behind if behind == BEHIND_MAX => return,
            Step::Behind => behind += 1,
        }
        let clock = inner.env.clock();
        tokio::select! {
            biased;
            () = closed(&mut events) => return,
            () = clock.sleep_until(clock.now() + RETRY) => {}
        }
    }
}

enum Step {
    Done,
    Later,
    /// Less is there than was there before.
    Behind,
}

impl Settling {
    async fn attempt<B: Bucket>(&self, bucket: &B) -> Step {
        let found = match bucket.entry(&self.key).await {
            Ok(found) => found,
            Err(ReadError::Closed) => return Step::Done,
            Err(error) => return later(&self.key, &error),
        };
        let latest = found
            .as_ref()
            .map_or(Revision::NONE, |entry| entry.revision);
        if latest < self.over {
            return Step::Behind;
        }
        if !found.is_none_or(|entry| self.is_to_go(&entry)) {
            return Step::Done;
        }
        match bucket.delete(&self.key, Some(latest)).await {
            Ok(_) => Step::Done,
            Err(UpdateError::WrongRevision { .. }) => Step::Later,
            // With the connection goes what it had still to send.
            Err(UpdateError::Write(WriteError::Closed)) => Step::Done,
            Err(UpdateError::Write(error)) => later(&self.key, &error),
        }
    }

    /// Whether this is ours, or what ours may yet be written over.
    fn is_to_go(&self, entry: &KvEntry) -> bool {
        let is_free = || !entry.operation.is_put();
        let is_seen = || self.seen.as_ref().is_some_and(|seen| seen.is_of(entry));
        is_of(entry, &self.id) || (entry.revision == self.over && (is_free() || is_seen()))
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
