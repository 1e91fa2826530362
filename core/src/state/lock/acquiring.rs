//! The hands of a contender, in the task of whoever wants the lock: see [`Carried`](super::carried::Carried).

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};

use super::carried::{Abandoned, Asking, answered};
use super::contender::{Acquired, Before, Contender, ContenderEffect, ContenderEvent};
use super::holding::next_event;
use super::queue::{Joined, Joining, Place};
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
    /// Who was before it in the queue and did not come.
    pub(super) passed: Vec<Arc<str>>,
    pub(super) ttl: Duration,
}

impl<E: Env, B: Bucket> Acquisition<E, B> {
    /// Acquires the lock, or fails to. Owns nothing of it in the end where it was abandoned.
    pub(super) async fn run(
        mut self,
        key: Arc<str>,
        until: Option<Instant>,
        abandoned: Abandoned,
    ) -> Result<Lock, AcquireError> {
        let clock = self.inner.env.clock().clone();
        let mut effects = Vec::new();
        let sight = self.inner.sight(&self.keys.record);
        let mut contender =
            Contender::new(Arc::clone(&self.id), self.ttl, until, sight, &mut effects);
        let asked = pin!(None);
        let mut shell = ContenderShell {
            // From before the first write on, so that nothing that happens to the connection is missed.
            events: self.inner.events(),
            was_disturbed: false,
            acquisition: &mut self,
            until,
            abandoned,
            asking: Asking::new(Self::ask, asked),
            joining: None,
            watch: None,
            ended: Err(AcquireError::Held),
        };
        for effect in effects {
            // The first look ends nothing.
            let _begun = shell.perform(effect).await;
        }
        drive(&clock, &mut contender, &mut shell).await;
        let ContenderShell {
            events,
            was_disturbed,
            ended,
            ..
        } = shell;
        let (inner, record) = (&self.inner, &self.keys.record);
        match ended {
            Ok(mut acquired) => {
                inner.remember(record, None);
                self.leave(std::mem::take(&mut acquired.passed));
                // Once is enough: they may have come back when it is renewed.
                self.passed.clear();
                Ok(self.hold(key, &acquired, events, was_disturbed))
            }
            Err(error) => {
                inner.remember(record, contender.into_sight());
                if let Some(place) = &self.place {
                    queue::keep(inner, &self.keys, place.clone(), self.ttl);
                }
                Err(error)
            }
        }
    }

    /// Its turn has come, and these had theirs before.
    fn leave(&self, passed: Vec<Before>) {
        // One that did not wait has had the turn of a place that was kept.
        let own = self.place.clone();
        let own = own.or_else(|| self.inner.kept.take(&self.keys.record));
        let own = own.map(|place| place.id);
        if own.is_some() || !passed.is_empty() {
            let leaving = queue::leave(Arc::clone(&self.inner), self.keys.clone(), own, passed);
            self.inner.env.spawn("lock queue", leaving).detach();
        }
    }

    fn ask(&self, question: Question) -> impl Future<Output = ContenderEvent> + Send + use<E, B> {
        match question {
            Question::Look { number } => {
                let (inner, key) = (Arc::clone(&self.inner), Arc::clone(&self.keys.record));
                Either::Left(async move {
                    let result = inner.bucket.entry(&key).await;
                    ContenderEvent::Looked { number, result }
                })
            }
            Question::Write { over } => {
                let writing = self.write(over, None);
                Either::Right(
                    writing.map(|(sent, result)| ContenderEvent::Written { sent, result }),
                )
            }
        }
    }

    /// Writes the record; says when that was begun, too.
    pub(super) fn write(
        &self,
        over: Revision,
        token: Option<u64>,
    ) -> impl Future<Output = (Stamp, Result<Revision, UpdateError>)> + Send + use<E, B> {
        let (inner, key) = (Arc::clone(&self.inner), Arc::clone(&self.keys.record));
        let (id, ttl) = (Arc::clone(&self.id), self.ttl);
        let place = self.place.as_ref().map(|place| Arc::clone(&place.id));
        let passed = self.passed.clone();
        async move {
            let sent = inner.stamp();
            let value = move |write| {
                let mut record = Record::new(&id, ttl, token, write);
                record.place.clone_from(&place);
                record.passed.clone_from(&passed);
                record.encode()
            };
            let over = Over::Revision(over);
            (sent, inner.put(&key, value, over, ttl + margin(ttl)).await)
        }
    }
}

/// What a contender asks of the bucket.
enum Question {
    Look { number: u64 },
    Write { over: Revision },
}

struct ContenderShell<'a, E: Env, B: Bucket, F> {
    acquisition: &'a mut Acquisition<E, B>,
    events: Option<Events>,
    /// Whether the connection has been down since the beginning.
    was_disturbed: bool,
    until: Option<Instant>,
    abandoned: Abandoned,
    /// The look or the write that is under way.
    asking: Asking<'a, Acquisition<E, B>, Question, F>,
    joining: Option<BoxFuture<'static, Joined>>,
    watch: Option<Watch>,
    ended: Result<Acquired, AcquireError>,
}

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

impl<E, B, F> Shell<Contender> for ContenderShell<'_, E, B, F>
where
    E: Env,
    B: Bucket,
    F: Future<Output = ContenderEvent> + Send,
{
    async fn next(&mut self) -> Option<<Contender as Machine>::Event> {
        let event = tokio::select! {
            biased;
            event = self.asking.answer() => event,
            joined = answered(&mut self.joining) => {
                if joined.watch.is_some() {
                    self.watch = joined.watch;
                }
                let place = Arc::clone(&joined.place.id);
                self.acquisition.place = Some(joined.place);
                ContenderEvent::Queued {
                    place,
                    has_ticket: joined.has_ticket,
                    ahead: joined.ahead,
                    watches: self.watch.is_some(),
                }
            },
            event = watched(&mut self.watch) => event,
            event = linked(&mut self.events) => {
                self.was_disturbed = true;
                event
            }
            () = self.abandoned.told() => ContenderEvent::Abandoned,
        };
        Some((self.acquisition.inner.stamp(), event))
    }

    async fn perform(&mut self, effect: ContenderEffect) -> ControlFlow<()> {
        let Acquisition {
            inner, keys, id, ..
        } = &*self.acquisition;
        match effect {
            ContenderEffect::Look { number } => {
                self.asking
                    .begin(self.acquisition, Question::Look { number });
            }
            ContenderEffect::Write { over, passed } => {
                self.acquisition.passed = passed;
                self.asking
                    .begin(self.acquisition, Question::Write { over });
            }
            ContenderEffect::Queue { wants_ticket } => {
                let left = self.until.map(|until| until.since(inner.stamp().at));
                // For as long as the place may be kept, too.
                let life = left.map(|left| left + self.acquisition.ttl);
                let kept = || inner.kept.take(&keys.record);
                let place = self.acquisition.place.clone().or_else(kept);
                let place = place.unwrap_or_else(|| Place::new(id));
                let joining = Joining {
                    place: place.clone(),
                    life: life.filter(|_| wants_ticket),
                    watches: self.watch.is_some(),
                };
                let joining = queue::join(Arc::clone(inner), keys.clone(), joining);
                self.acquisition.place = Some(place);
                self.joining = Some(Box::pin(joining));
            }
            ContenderEffect::Settle { over, seen } => settle(inner, keys, id, over, seen),
            ContenderEffect::Acquired(acquired) => {
                self.ended = Ok(acquired);
                return ControlFlow::Break(());
            }
            ContenderEffect::Failed(error) => {
                self.ended = Err(error);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}
