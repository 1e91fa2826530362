//! A watch: consumers one after the other, and one story told across them.
//!
//! Think of a reader of a serial whose paper boys come and go: he knows the number of the last issue that he has read,
//! so each new boy is asked for the next one, and he says aloud when there was no boy. What the story must
//! never do: repeat a revision, skip one silently, or go on with another bucket's revisions as if they were the old
//! one's.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::error::TrySendError;

use super::admin::{self, stream_of};
use super::api::Failure;
use super::consumer::{Consumer, Deliver, Next};
use super::link::{Link, Shared};
use crate::transport::{
    ConnectionEvent, InterruptCause, PublishError, RequestError, Revision, Watch, WatchError,
    WatchEvent, WatchSender, WatchStart,
};

/// With less, what is said of an interruption would leave no room for a record.
const CAPACITY_MIN: usize = 4;

pub(super) async fn start(
    shared: &Arc<Shared>,
    bucket: &str,
    filter: &str,
    start: WatchStart,
) -> Result<Watch, WatchError> {
    let capacity = shared.options.subscription_capacity.max(CAPACITY_MIN);
    let (out, watch) = Watch::channel(capacity, None);
    let mut story = Story {
        shared: Arc::clone(shared),
        bucket: bucket.into(),
        stream: stream_of(bucket),
        filter: filter.into(),
        start,
        incarnation: None,
        next: Revision(1),
        newest: 0,
        horizon: 0,
        snapshot_told: false,
        consumer: None,
        link: shared.link(),
        out,
    };
    let opened = tokio::time::timeout(shared.options.request_timeout, story.open());
    match shared.until_closed(opened).await {
        Some(Ok(Ok(_))) => {}
        Some(Ok(Err(failure))) => return Err(watch_error(failure, filter)),
        Some(Err(_)) => return Err(WatchError::TimedOut),
        None => return Err(WatchError::Closed),
    }
    tokio::spawn(story.tell_until_over());
    Ok(watch)
}

struct Story {
    shared: Arc<Shared>,
    bucket: Arc<str>,
    stream: String,
    filter: Arc<str>,
    start: WatchStart,
    /// When the bucket was created: tells one incarnation from the next. `None` before the first consumer.
    incarnation: Option<String>,
    /// The first revision that has not been told.
    next: Revision,
    /// The newest revision known to have been given out in this incarnation.
    newest: u64,
    /// The newest revision when the present consumer was opened.
    horizon: u64,
    snapshot_told: bool,
    consumer: Option<Consumer>,
    /// The link when the present consumer was opened.
    link: Link,
    out: WatchSender,
}

impl Story {
    /// Runs until the reader or the connection is gone.
    async fn tell_until_over(mut self) {
        let (shared, out) = (Arc::clone(&self.shared), self.out.clone());
        tokio::select! {
            biased;
            () = out.closed() => {}
            _ = shared.until_closed(self.tell()) => {}
        }
        if let Some(consumer) = self.consumer.take() {
            consumer.delete();
        }
    }

    /// Never ends by itself.
    async fn tell(&mut self) {
        self.tell_snapshot_end_if(|story, pending| pending == 0 || story.start == WatchStart::Now)
            .await;
        loop {
            let cause = self.follow().await;
            if let Some(consumer) = self.consumer.take() {
                consumer.delete();
            }
            self.say(WatchEvent::Interrupted(cause)).await;
            if cause == InterruptCause::Gap {
                // A reader that was too slow first reads all: with less room it would be interrupted again at once.
                self.out.room(usize::MAX).await;
            }
            let same_bucket = self.reopen(cause).await;
            self.say(WatchEvent::Resumed { same_bucket }).await;
            self.tell_snapshot_end_if(|_, pending| pending == 0).await;
        }
    }

    /// Tells what the present consumer delivers, until it cannot be relied on.
    async fn follow(&mut self) -> InterruptCause {
        loop {
            let Some(consumer) = &mut self.consumer else {
                return InterruptCause::Gap;
            };
            let link = self.link;
            let over = move |now: &Link| !now.up || now.generation != link.generation;
            let Some(next) = self.shared.until(over, consumer.next()).await else {
                return InterruptCause::Disconnected;
            };
            match next {
                Next::Entry { entry, pending } => {
                    let revision = entry.revision;
                    if revision >= self.next {
                        match self.out.try_send(WatchEvent::Entry(entry)) {
                            Ok(()) => self.next = revision.next(),
                            Err(TrySendError::Full(_)) => {
                                self.shared.tell(ConnectionEvent::SlowConsumer);
                                return InterruptCause::Gap;
                            }
                            // The reader is gone, which the caller sees.
                            Err(TrySendError::Closed(_)) => {}
                        }
                    }
                    self.newest = self.newest.max(revision.0);
                    if !self.snapshot_told && (pending == 0 || revision.0 >= self.horizon) {
                        self.tell_snapshot_end().await;
                    }
                }
                Next::Idle if !self.snapshot_told => self.tell_snapshot_end().await,
                Next::Idle => {}
                Next::Gap => return InterruptCause::Gap,
                Next::Silent => return InterruptCause::MissedHeartbeat,
                // Closing follows, and ends this.
                Next::Ended => std::future::pending().await,
            }
        }
    }

    /// Tries until there is a consumer again; true if it is on the same bucket as before.
    async fn reopen(&mut self, mut told: InterruptCause) -> bool {
        let mut failures = 0;
        loop {
            let mut link = self.shared.link_changes();
            if !link.borrow().up {
                self.say_once(&mut told, InterruptCause::Disconnected).await;
                // An error would mean that `shared` is gone, and we hold it.
                let _ = link.wait_for(|link| link.up).await;
                failures = 0;
            }
            self.link = self.shared.link();
            let generation = self.link.generation;
            let changed = move |link: &Link| !link.up || link.generation != generation;
            let shared = Arc::clone(&self.shared);
            match shared.until(changed, self.open()).await {
                Some(Ok(same_bucket)) => return same_bucket,
                Some(Err(failure)) => {
                    if failure.is_not_found() {
                        self.say_once(&mut told, InterruptCause::BucketMissing)
                            .await;
                    }
                    let pause = tokio::time::sleep(retry_delay(failures));
                    failures += 1;
                    if shared.until(changed, pause).await.is_none() {
                        failures = 0;
                    }
                }
                // Another link: what was asked on the old one is not worth waiting for.
                None => failures = 0,
            }
        }
    }

    /// Opens a consumer where the story left off; true if it is on the same bucket as before.
    async fn open(&mut self) -> Result<bool, Failure> {
        loop {
            let before = StreamState::read(&self.shared, &self.stream).await?;
            // A server that has lost acknowledged writes gives their revisions out again: that is another bucket, too.
            let same = self
                .incarnation
                .as_ref()
                .is_none_or(|known| *known == before.created && before.last >= self.newest);
            let (deliver, next) = match (&self.incarnation, self.start) {
                (Some(_), _) if same => (Deliver::From(self.next), self.next),
                (Some(_), _) | (None, WatchStart::Snapshot) => (Deliver::LastPerKey, Revision(1)),
                (None, WatchStart::Now) => {
                    let next = Revision(before.last).next();
                    (Deliver::From(next), next)
                }
                (None, WatchStart::Revision(first)) => (Deliver::From(first), first),
            };
            let consumer = Consumer::open(
                &self.shared,
                &self.bucket,
                &self.filter,
                deliver,
                self.shared.options.watch_heartbeat,
            )
            .await?;
            // Created anew between the question and the consumer: then its revisions are not what was asked for.
            let after = StreamState::read(&self.shared, &self.stream).await?;
            if after.created != before.created {
                consumer.delete();
                continue;
            }
            self.next = next;
            self.newest = if same {
                self.newest.max(before.last)
            } else {
                before.last
            };
            self.horizon = before.last;
            self.incarnation = Some(before.created);
            self.consumer = Some(consumer);
            return Ok(same);
        }
    }

    async fn tell_snapshot_end_if(&mut self, due: impl FnOnce(&Self, u64) -> bool) {
        let pending = self
            .consumer
            .as_ref()
            .map_or(0, |consumer| consumer.pending);
        if !self.snapshot_told && due(self, pending) {
            self.tell_snapshot_end().await;
        }
    }

    async fn tell_snapshot_end(&mut self) {
        self.snapshot_told = true;
        self.say(WatchEvent::SnapshotEnd).await;
    }

    async fn say_once(&self, told: &mut InterruptCause, cause: InterruptCause) {
        if *told != cause {
            *told = cause;
            self.say(WatchEvent::Interrupted(cause)).await;
        }
    }

    /// Tells what must not be lost: waits for a slow reader.
    async fn say(&self, event: WatchEvent) {
        self.out.room(1).await;
        if self.out.try_send(event).is_err() {
            tracing::trace!("the reader of a watch is gone");
        }
    }
}

/// What decides whether revisions still mean what they meant.
struct StreamState {
    created: String,
    last: u64,
}

impl StreamState {
    async fn read(shared: &Shared, stream: &str) -> Result<Self, Failure> {
        let info = admin::info(shared, stream).await?;
        Self::parse(&info).ok_or(Failure::Request(RequestError::TimedOut))
    }

    fn parse(info: &Value) -> Option<Self> {
        Some(Self {
            created: info["created"].as_str()?.to_owned(),
            last: info["state"]["last_seq"].as_u64()?,
        })
    }
}

/// The pause after this many failures in a row: async-nats's own schedule. A reconnect cuts it short.
fn retry_delay(failures: u32) -> Duration {
    match failures {
        0..4 => Duration::from_millis(500) * (failures + 1),
        _ => Duration::from_secs(10),
    }
}

fn watch_error(failure: Failure, filter: &str) -> WatchError {
    if failure.is_not_found() {
        return WatchError::NoBucket;
    }
    match failure {
        Failure::Api(error) => WatchError::Rejected(error),
        Failure::Request(RequestError::NoResponders) => WatchError::NoBucket,
        Failure::Request(RequestError::TimedOut) => WatchError::TimedOut,
        Failure::Request(RequestError::Publish(PublishError::InvalidSubject(_))) => {
            WatchError::InvalidFilter(filter.into())
        }
        Failure::Request(RequestError::Publish(_) | RequestError::ClosedWhileWaiting) => {
            WatchError::Closed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_come_at_the_pauses_of_async_nats() {
        let pauses = [0, 1, 2, 3, 4, 9].map(|n| retry_delay(n).as_millis());
        assert_eq!(pauses, [500, 1000, 1500, 2000, 10_000, 10_000]);
    }
}
