//! The hands of a contender: one task for each acquisition, from the first look to the end of the lock.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::oneshot;

use super::contender::{Acquired, Contender, ContenderEffect, ContenderEvent};
use super::holding::next_event;
use super::queue::{Joined, Place};
use super::record::{Keys, Record, Stamp, margin};
use super::settle::settle;
use super::shell::{Inner, Over};
use super::{AcquireError, Lock, queue};
use crate::env::Env;
use crate::machine::{Machine, Shell, drive};
use crate::time::Instant;
use crate::transport::{Bucket, ConnectionEvent, Events, Revision, UpdateError, Watch, WatchEvent};

/// One acquisition, by its name.
pub(super) struct Acquisition<E: Env, B: Bucket> {
    pub(super) inner: Arc<Inner<E, B>>,
    pub(super) keys: Keys,
    pub(super) id: Arc<str>,
    /// Its place in the queue, once it has waited.
    pub(super) place: Option<Place>,
    pub(super) ttl: Duration,
}

pub(super) type Writing = BoxFuture<'static, (Stamp, Result<Revision, UpdateError>)>;

impl<E: Env, B: Bucket> Acquisition<E, B> {
    pub(super) async fn run(
        self,
        key: Arc<str>,
        until: Option<Instant>,
        answer: oneshot::Sender<Result<Lock, AcquireError>>,
    ) {
        // From before the first write on, so that nothing that happens to the connection is missed.
        let events = self.inner.events();
        let clock = self.inner.env.clock().clone();
        let mut effects = Vec::new();
        let sight = self.inner.sight(&self.keys.record);
        let contender = Contender::new(Arc::clone(&self.id), self.ttl, until, sight, &mut effects);
        let mut shell = ContenderShell {
            // Apart from those that are kept for the holder.
            events: self.inner.events(),
            acquisition: self,
            until,
            answer,
            under_way: FuturesUnordered::new(),
            watch: None,
            ended: None,
        };
        for effect in effects {
            // The first look ends nothing.
            let _begun = shell.perform(effect).await;
        }
        let mut contender = contender;
        drive(&clock, &mut contender, &mut shell).await;
        let ContenderShell {
            acquisition,
            answer,
            ended,
            ..
        } = shell;
        let Self { inner, keys, .. } = &acquisition;
        match ended {
            Some(Ok(acquired)) => {
                inner.remember(&keys.record, None);
                acquisition.leave(&acquired.skipped);
                acquisition.hold(key, acquired, events, answer).await;
            }
            Some(Err(error)) => {
                inner.remember(&keys.record, contender.into_sight());
                if let Some(place) = &acquisition.place {
                    queue::keep(inner, keys, place.clone(), acquisition.ttl);
                }
                // Whoever asked may be gone.
                let _gone = answer.send(Err(error));
            }
            None => {}
        }
    }

    /// Its turn has come, and that of those whom it skipped was before.
    fn leave(&self, skipped: &[Arc<str>]) {
        // One that did not wait has had the turn of a place that was kept.
        let own = self.place.clone();
        let own = own.or_else(|| self.inner.kept.take(&self.keys.record));
        let own = own.map(|place| place.id);
        let places: Vec<_> = own.into_iter().chain(skipped.iter().cloned()).collect();
        if !places.is_empty() {
            let leaving = queue::leave(Arc::clone(&self.inner), self.keys.clone(), places);
            self.inner.env.spawn("lock queue", leaving).detach();
        }
    }

    pub(super) fn write(&self, over: Revision, token: Option<u64>) -> Writing {
        let (inner, key) = (Arc::clone(&self.inner), Arc::clone(&self.keys.record));
        let (id, ttl) = (Arc::clone(&self.id), self.ttl);
        let place = self.place.as_ref().map(|place| Arc::clone(&place.id));
        Box::pin(async move {
            let sent = inner.stamp();
            let value = move |write| {
                let place = place.clone();
                let record = Record::new(&id, ttl, token, write);
                Record { place, ..record }.encode()
            };
            let over = Over::Revision(over);
            (sent, inner.put(&key, value, over, ttl + margin(ttl)).await)
        })
    }
}

enum Answered {
    Event(ContenderEvent),
    Joined(Joined),
}

struct ContenderShell<E: Env, B: Bucket> {
    acquisition: Acquisition<E, B>,
    events: Option<Events>,
    until: Option<Instant>,
    answer: oneshot::Sender<Result<Lock, AcquireError>>,
    under_way: FuturesUnordered<BoxFuture<'static, Answered>>,
    watch: Option<Watch>,
    ended: Option<Result<Acquired, AcquireError>>,
}

impl<E: Env, B: Bucket> ContenderShell<E, B> {
    /// The next record that the watch tells, or that it has ended; never without one.
    async fn watched(watch: &mut Option<Watch>) -> ContenderEvent {
        if let Some(watching) = watch {
            while let Some(event) = watching.next().await {
                if let WatchEvent::Entry(entry) = event {
                    return ContenderEvent::Seen(entry);
                }
            }
            *watch = None;
            return ContenderEvent::Blind;
        }
        std::future::pending().await
    }
}

/// That the connection is down, or up again.
async fn linked(events: &mut Option<Events>) -> ContenderEvent {
    loop {
        match next_event(events).await {
            ConnectionEvent::Disconnected(_) => return ContenderEvent::Disconnected,
            ConnectionEvent::Reconnected => return ContenderEvent::Reconnected,
            _ => {}
        }
    }
}

impl<E: Env, B: Bucket> Shell<Contender> for ContenderShell<E, B> {
    async fn next(&mut self) -> Option<<Contender as Machine>::Event> {
        let event = tokio::select! {
            biased;
            Some(answered) = self.under_way.next(), if !self.under_way.is_empty() => match answered {
                Answered::Event(event) => event,
                Answered::Joined(Joined { place, watch, ahead }) => {
                    let watches = watch.is_some();
                    self.watch = watch;
                    self.acquisition.place = Some(place);
                    ContenderEvent::Queued { ahead, watches }
                }
            },
            event = Self::watched(&mut self.watch) => event,
            event = linked(&mut self.events) => event,
            () = self.answer.closed() => ContenderEvent::Abandoned,
        };
        Some((self.acquisition.inner.stamp(), event))
    }

    async fn perform(&mut self, effect: ContenderEffect) -> ControlFlow<()> {
        let Acquisition {
            inner, keys, id, ..
        } = &self.acquisition;
        match effect {
            ContenderEffect::Look { number } => {
                let (inner, key) = (Arc::clone(inner), Arc::clone(&keys.record));
                self.under_way.push(Box::pin(async move {
                    let result = inner.bucket.entry(&key).await;
                    Answered::Event(ContenderEvent::Looked { number, result })
                }));
            }
            ContenderEffect::Write { over } => {
                let writing = self.acquisition.write(over, None);
                self.under_way.push(Box::pin(async move {
                    let (sent, result) = writing.await;
                    Answered::Event(ContenderEvent::Written { sent, result })
                }));
            }
            ContenderEffect::Queue => {
                let left = self.until.map(|until| until.since(inner.stamp().at));
                // For as long as the place may be kept, too.
                let life = left.map(|left| left + self.acquisition.ttl);
                let life = life.filter(|_| self.acquisition.place.is_none());
                let kept = || inner.kept.take(&keys.record);
                let place = self.acquisition.place.clone().or_else(kept);
                let place = place.unwrap_or_else(|| Place::new(id));
                let joining = queue::join(Arc::clone(inner), keys.clone(), place.clone(), life);
                self.acquisition.place = Some(place);
                self.under_way
                    .push(Box::pin(async move { Answered::Joined(joining.await) }));
            }
            ContenderEffect::Settle { over, seen } => settle(inner, keys, id, over, seen),
            ContenderEffect::Acquired(acquired) => {
                self.ended = Some(Ok(acquired));
                return ControlFlow::Break(());
            }
            ContenderEffect::Failed(error) => {
                self.ended = Some(Err(error));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}
