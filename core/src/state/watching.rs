//! The hands of a tracker: one task for each watch, between the bucket and a reader that may be slow.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use super::entry::{Event, Gap};
use super::error::WatchEnd;
use super::record::Record;
use super::tracker::{Swept, Tracker, TrackerEffect, TrackerEvent};
use crate::env::{Env, Task};
use crate::machine::{Shell, drive};
use crate::time::{Clock, UnixTime};
use crate::transport::{
    self, Bucket, BucketInfo, ReadError, Revision, UpdateError, WatchError, WatchEvent, WatchStart,
};

/// The first look at the bucket may take this long.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(10);

/// What happens to the keys that match a pattern. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    events: mpsc::Receiver<Event>,
    end: Ending,
    _task: Task,
}

#[derive(Debug)]
enum Ending {
    Awaited(oneshot::Receiver<WatchEnd>),
    Told(WatchEnd),
}

impl Watch {
    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// Once all has been told that was there to tell: whether the watch has ended or failed.
    pub async fn next(&mut self) -> Result<Event, WatchEnd> {
        if let Some(event) = self.events.recv().await {
            return Ok(event);
        }
        if let Ending::Awaited(end) = &mut self.end {
            // A task that ends says why, before it lets go of the events.
            let end = end.try_recv();
            self.end = Ending::Told(end.unwrap_or(WatchEnd::Failed(WatchError::Closed)));
        }
        match &self.end {
            Ending::Told(end) => Err(end.clone()),
            Ending::Awaited(_) => Err(WatchEnd::Failed(WatchError::Closed)),
        }
    }
}

/// Begins to watch. `None` for an error says that the store was closed meanwhile.
pub(super) async fn open<E: Env, B: Bucket>(
    env: &E,
    bucket: B,
    filter: String,
    mut tracker: Tracker,
    buffer: usize,
    closing: oneshot::Receiver<()>,
) -> Result<Watch, Option<WatchError>> {
    let (reader, events) = mpsc::channel(buffer);
    let (begun, beginning) = oneshot::channel();
    let (say_end, end) = oneshot::channel();
    let clock = env.clock().clone();
    let mut shell = TrackerShell {
        bucket,
        filter,
        watch: None,
        looking: FuturesUnordered::new(),
        sweeping: FuturesUnordered::new(),
        closing,
        begun: Some(begun),
        reader,
        dropped: Dropped::default(),
        end: None,
    };
    let deadline = clock.now() + FIRST_LOOK_MAX;
    let task = env.spawn("state watch", async move {
        drive(&clock, &mut tracker, &mut shell).await;
        // Where the reader is gone nobody asks.
        let _unheard = say_end.send(shell.end.unwrap_or(WatchEnd::WatchClosed));
    });
    tokio::select! {
        biased;
        begun = beginning => match begun {
            Ok(Ok(())) => Ok(Watch {
                events,
                end: Ending::Awaited(end),
                _task: task,
            }),
            Ok(Err(error)) => Err(Some(error)),
            Err(_ended) => Err(None),
        },
        () = env.clock().sleep_until(deadline) => Err(Some(WatchError::TimedOut)),
    }
}

type Look = Result<(transport::Watch, BucketInfo), WatchError>;

struct TrackerShell<B> {
    bucket: B,
    filter: String,
    /// The look there is.
    watch: Option<transport::Watch>,
    /// The look that is being begun; one at most.
    looking: FuturesUnordered<BoxFuture<'static, Look>>,
    sweeping: FuturesUnordered<BoxFuture<'static, TrackerEvent>>,
    closing: oneshot::Receiver<()>,
    begun: Option<oneshot::Sender<Result<(), WatchError>>>,
    reader: mpsc::Sender<Event>,
    dropped: Dropped,
    end: Option<WatchEnd>,
}

/// What found no room.
#[derive(Default)]
struct Dropped {
    missed: u64,
    keys: BTreeSet<String>,
    restarted: bool,
}

impl Dropped {
    fn add(&mut self, event: Event) {
        self.missed += 1;
        match event {
            Event::Changed(entry) => {
                self.keys.insert(entry.key);
            }
            Event::Expired { key, .. } => {
                self.keys.insert(key);
            }
            Event::Gap(gap) => self.restarted |= gap == Gap::Restarted,
            Event::CaughtUp => {}
        }
    }
}

impl<B: Bucket> TrackerShell<B> {
    fn tell(&mut self, event: Event) {
        if self.dropped.missed > 0 {
            return self.dropped.add(event);
        }
        match self.reader.try_send(event) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(event)) => self.dropped.add(event),
            // `next` notices, and ends the watch.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    /// What a look brings; forever, where there is none.
    async fn heard(watch: &mut Option<transport::Watch>) -> Option<WatchEvent> {
        match watch {
            Some(watch) => watch.next().await,
            None => std::future::pending().await,
        }
    }
}

/// A look, and what is known of the bucket once it has begun.
async fn look<B: Bucket>(bucket: B, filter: String) -> Look {
    let watch = bucket.watch(&filter, WatchStart::Snapshot).await?;
    match bucket.info().await {
        Ok(info) => Ok((watch, info)),
        Err(error) => Err(match error {
            ReadError::InvalidKey(key) => WatchError::InvalidFilter(key),
            ReadError::NoBucket => WatchError::NoBucket,
            ReadError::Rejected(error) => WatchError::Rejected(error),
            ReadError::TimedOut => WatchError::TimedOut,
            ReadError::Closed => WatchError::Closed,
        }),
    }
}

/// Removes a value whose life is over, and keeps what it was fenced with.
async fn sweep<B: Bucket>(
    bucket: B,
    key: &str,
    revision: Revision,
    end: UnixTime,
    fence: Option<u64>,
) -> Swept {
    match bucket.info().await {
        Ok(info) if info.now < end => return Swept::NotYet(info.now),
        Ok(_) => {}
        Err(_) => return Swept::Failed,
    }
    let written = match fence {
        Some(_) => {
            let record = Record {
                fence,
                gone: true,
                ..Record::default()
            };
            bucket.update(key, record.encode(), revision).await
        }
        None => bucket.delete(key, Some(revision)).await,
    };
    match written {
        Ok(_) | Err(UpdateError::WrongRevision { .. }) => Swept::Done,
        Err(UpdateError::Write(_)) => Swept::Failed,
    }
}

impl<B: Bucket> Shell<Tracker> for TrackerShell<B> {
    async fn next(&mut self) -> Option<TrackerEvent> {
        let is_behind = self.dropped.missed > 0;
        // A reader that has read half of what it was told has caught up.
        let enough = (self.reader.max_capacity() / 2).max(1);
        let event = tokio::select! {
            biased;
            _closed = &mut self.closing => {
                self.end = Some(WatchEnd::WatchClosed);
                return None;
            }
            () = self.reader.closed() => return None,
            room = self.reader.reserve_many(enough), if is_behind => {
                drop(room.ok()?);
                let Dropped { missed, keys, restarted } = std::mem::take(&mut self.dropped);
                TrackerEvent::Lagged { missed, keys, restarted }
            }
            Some(look) = self.looking.next(), if !self.looking.is_empty() => match look {
                Ok((watch, info)) => {
                    self.watch = Some(watch);
                    TrackerEvent::Looking {
                        life: info.created,
                        last: info.last_revision,
                        now: info.now,
                    }
                }
                Err(error) => TrackerEvent::Blind(error),
            },
            Some(swept) = self.sweeping.next(), if !self.sweeping.is_empty() => swept,
            heard = Self::heard(&mut self.watch) => match heard {
                Some(WatchEvent::Entry(entry)) => TrackerEvent::Record(entry),
                Some(WatchEvent::SnapshotEnd) => TrackerEvent::SnapshotEnd,
                Some(WatchEvent::Interrupted(cause)) => TrackerEvent::Interrupted(cause),
                Some(WatchEvent::Resumed { same_bucket }) => TrackerEvent::Resumed { same_bucket },
                None => {
                    self.watch = None;
                    TrackerEvent::Blind(WatchError::Closed)
                }
            },
        };
        // After its connection nothing will bring it back.
        if matches!(event, TrackerEvent::Blind(WatchError::Closed)) && self.begun.is_none() {
            self.end = Some(WatchEnd::Failed(WatchError::Closed));
            return None;
        }
        Some(event)
    }

    async fn perform(&mut self, effect: TrackerEffect) -> ControlFlow<()> {
        match effect {
            TrackerEffect::Look => {
                self.watch = None;
                self.looking.clear();
                let (bucket, filter) = (self.bucket.clone(), self.filter.clone());
                self.looking.push(Box::pin(look(bucket, filter)));
            }
            TrackerEffect::Begun => {
                if let Some(begun) = self.begun.take() {
                    // Whoever asked may have stopped waiting.
                    let _gone = begun.send(Ok(()));
                }
            }
            TrackerEffect::Failed(error) => {
                if let Some(begun) = self.begun.take() {
                    let _gone = begun.send(Err(error));
                }
                return ControlFlow::Break(());
            }
            TrackerEffect::Tell(event) => self.tell(event),
            TrackerEffect::Sweep {
                key,
                revision,
                end,
                fence,
            } => {
                let bucket = self.bucket.clone();
                self.sweeping.push(Box::pin(async move {
                    let swept = sweep(bucket, &key, revision, end, fence).await;
                    TrackerEvent::Swept {
                        key,
                        revision,
                        swept,
                    }
                }));
            }
        }
        ControlFlow::Continue(())
    }
}
