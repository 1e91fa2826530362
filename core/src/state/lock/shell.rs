//! The hands of contender and holder: one task for each acquisition, from the first look to the end of the lock.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use super::contender::{Acquired, Contender, ContenderEffect, ContenderEvent};
use super::holder::{Holder, HolderEffect, HolderEvent};
use super::queue::{Joined, Kept, Place};
use super::record::{Keys, Record, Sight, Stamp, margin};
use super::settle::settle;
use super::{
    AcquireError, Lease, Lock, LostReason, RefreshError, SharedLease, UnlockError, lease, queue,
};
use crate::env::{Env, Rng};
use crate::machine::{Machine, Shell, drive};
use crate::time::{Clock, Instant};
use crate::transport::{
    Bucket, ConnectionEvent, Events, MessageTtl, PutOptions, Revision, UpdateError, Watch,
    WatchEvent, WriteError,
};

/// "Per-message TTL is disabled": the server knows no lives of records here.
const TTL_DISABLED: u64 = 10166;
/// The longest life; what is longer could not be added to a time.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Other holders' records that are remembered.
const SIGHTS_MAX: usize = 1024;

/// What the handle of a lock asks of its task.
pub(super) enum Command {
    Refresh(oneshot::Sender<Result<(), RefreshError>>),
    Unlock(oneshot::Sender<Result<(), UnlockError>>),
    Keep,
    Listen(oneshot::Sender<LostReason>),
}

/// Over what a record is put.
#[derive(Clone, Copy)]
pub(super) enum Over {
    Revision(Revision),
    Anything,
}

type ListensTo = Box<dyn Fn() -> Events + Send + Sync>;

/// What all acquisitions over one bucket share.
pub(super) struct Inner<E: Env, B: Bucket> {
    pub(super) env: E,
    pub(super) bucket: B,
    connection: Option<ListensTo>,
    ids: Mutex<Rng>,
    /// Other holders' records, as they were first seen.
    sights: Mutex<BTreeMap<Arc<str>, Sight>>,
    /// Places in queues that were left and may be taken up again.
    pub(super) kept: Kept,
    /// Whether the server ends records by their own life, as far as is known.
    expires: AtomicBool,
    /// Counts the writes.
    writes: AtomicU64,
}

impl<E: Env, B: Bucket> Inner<E, B> {
    /// What happens to the connection from now on, if there is one.
    pub(super) fn events(&self) -> Option<Events> {
        self.connection.as_ref().map(|listen| listen())
    }

    fn stamp(&self) -> Stamp {
        let clock = self.env.clock();
        Stamp {
            at: clock.now(),
            wall: clock.wall(),
        }
    }

    fn id(&self) -> Arc<str> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{:016x}", ids.next_u64()).into()
    }

    fn sight(&self, key: &str) -> Option<Sight> {
        let sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        sights.get(key).cloned()
    }

    fn remember(&self, key: &Arc<str>, sight: Option<Sight>) {
        let mut sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        match sight {
            None => drop(sights.remove(key)),
            Some(sight) => {
                sights.insert(Arc::clone(key), sight);
                if sights.len() > SIGHTS_MAX {
                    let oldest = sights.iter().min_by_key(|(_, sight)| sight.since);
                    let oldest = oldest.map(|(key, _)| Arc::clone(key));
                    oldest.and_then(|key| sights.remove(&key));
                }
            }
        }
    }

    /// Writes what ends by itself after this life, where the server knows such. `value` is given the number of the write.
    pub(super) async fn put(
        &self,
        key: &str,
        value: impl Fn(u64) -> Bytes + Send,
        over: Over,
        life: Duration,
    ) -> Result<Revision, UpdateError> {
        let expected = match over {
            Over::Revision(revision) => Some(revision),
            Over::Anything => None,
        };
        let next = || value(self.writes.fetch_add(1, Ordering::Relaxed));
        if self.expires.load(Ordering::Relaxed) {
            let options = PutOptions {
                expected,
                ttl: Some(MessageTtl::For(life)),
            };
            match self.bucket.put_with(key, next(), options).await {
                Err(UpdateError::Write(WriteError::Rejected(error)))
                    if error.err_code == TTL_DISABLED =>
                {
                    self.expires.store(false, Ordering::Relaxed);
                }
                written => return written,
            }
        }
        let ttl = None;
        let options = PutOptions { expected, ttl };
        self.bucket.put_with(key, next(), options).await
    }
}

/// Locks over one bucket. Cheap to clone.
pub struct Locks<E: Env, B: Bucket>(Arc<Inner<E, B>>);

impl<E: Env, B: Bucket> Clone for Locks<E, B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Env, B: Bucket> std::fmt::Debug for Locks<E, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Locks")
    }
}

impl<E: Env, B: Bucket> Locks<E, B> {
    /// Locks over a bucket of a connection; `events` begins to listen to it.
    pub fn new(env: &E, bucket: B, events: impl Fn() -> Events + Send + Sync + 'static) -> Self {
        Self::over(env, bucket, Some(Box::new(events)))
    }

    /// Locks over a bucket that no connection is lost to.
    pub fn local(env: &E, bucket: B) -> Self {
        Self::over(env, bucket, None)
    }

    fn over(env: &E, bucket: B, connection: Option<ListensTo>) -> Self {
        Self(Arc::new(Inner {
            ids: Mutex::new(env.rng("locks")),
            env: env.clone(),
            bucket,
            connection,
            sights: Mutex::default(),
            kept: Kept::default(),
            expires: AtomicBool::new(true),
            writes: AtomicU64::new(0),
        }))
    }

    /// Acquires the lock `key`, whose record stands under the bucket's key `record`, if it is free.
    ///
    /// # Errors
    /// [`AcquireError::Held`] where somebody else holds it. After any error, or where this is dropped, nothing of the lock
    /// is owned.
    pub async fn acquire(
        &self,
        key: &str,
        record: &str,
        ttl: Duration,
    ) -> Result<Lock, AcquireError> {
        self.contend(key, record, ttl, None).await
    }

    /// The same, and waits for it until `deadline`, in turn with the others who wait: see the head of the module.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), at the deadline at the latest.
    pub async fn acquire_wait(
        &self,
        key: &str,
        record: &str,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Lock, AcquireError> {
        self.contend(key, record, ttl, Some(deadline)).await
    }

    async fn contend(
        &self,
        key: &str,
        record: &str,
        ttl: Duration,
        until: Option<Instant>,
    ) -> Result<Lock, AcquireError> {
        if ttl.is_zero() || ttl > TTL_MAX {
            return Err(AcquireError::InvalidTtl(ttl));
        }
        let (answer, answered) = oneshot::channel();
        let acquisition = Acquisition {
            inner: Arc::clone(&self.0),
            keys: Keys::new(record),
            id: self.0.id(),
            place: None,
            ttl,
        };
        let task = acquisition.run(key.into(), until, answer);
        self.0.env.spawn("lock", task).detach();
        answered
            .await
            .unwrap_or(Err(AcquireError::Write(WriteError::Closed)))
    }
}

/// One acquisition, by its name.
struct Acquisition<E: Env, B: Bucket> {
    inner: Arc<Inner<E, B>>,
    keys: Keys,
    id: Arc<str>,
    /// Its place in the queue, once it has waited.
    place: Option<Place>,
    ttl: Duration,
}

type Writing = BoxFuture<'static, (Stamp, Result<Revision, UpdateError>)>;

impl<E: Env, B: Bucket> Acquisition<E, B> {
    async fn run(
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

    fn write(&self, over: Revision, token: Option<u64>) -> Writing {
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

    async fn hold(
        self,
        key: Arc<str>,
        acquired: Acquired,
        events: Option<Events>,
        answer: oneshot::Sender<Result<Lock, AcquireError>>,
    ) {
        let Acquired { revision, sent, .. } = acquired;
        let (commands, inbox) = mpsc::unbounded_channel();
        let shared: SharedLease = Arc::new(Mutex::new(Lease { sent, lost: None }));
        let clock = self.inner.env.clock().clone();
        let now = clock.clone();
        let lock = Lock {
            key,
            token: revision.0,
            ttl: self.ttl,
            lease: Arc::clone(&shared),
            now: Box::new(move || Stamp {
                at: now.now(),
                wall: now.wall(),
            }),
            commands,
        };
        // Where nobody waits for it any more it is dropped, and that unlocks it.
        let _gone = answer.send(Ok(lock));
        let mut holder = Holder::new(Arc::clone(&self.id), self.ttl, revision, sent);
        let mut shell = HolderShell {
            acquisition: self,
            token: revision.0,
            inbox: Some(inbox),
            events,
            under_way: FuturesUnordered::new(),
            lease: shared,
            listeners: Vec::new(),
            refreshes: Vec::new(),
            unlocks: Vec::new(),
        };
        drive(&clock, &mut holder, &mut shell).await;
    }
}

// --- acquiring ---

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
            () = reconnected(&mut self.events) => ContenderEvent::Reconnected,
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
            ContenderEffect::Settle { over } => settle(inner, keys, id, over),
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

// --- holding ---

struct HolderShell<E: Env, B: Bucket> {
    acquisition: Acquisition<E, B>,
    token: u64,
    /// `None` once nobody holds the handle any more.
    inbox: Option<mpsc::UnboundedReceiver<Command>>,
    events: Option<Events>,
    under_way: FuturesUnordered<BoxFuture<'static, HolderEvent>>,
    lease: SharedLease,
    listeners: Vec<oneshot::Sender<LostReason>>,
    refreshes: Vec<oneshot::Sender<Result<(), RefreshError>>>,
    unlocks: Vec<oneshot::Sender<Result<(), UnlockError>>>,
}

impl<E: Env, B: Bucket> HolderShell<E, B> {
    fn command(&mut self, command: Command) -> Option<HolderEvent> {
        match command {
            Command::Refresh(answer) => {
                self.refreshes.push(answer);
                Some(HolderEvent::Refresh)
            }
            Command::Unlock(answer) => {
                self.unlocks.push(answer);
                Some(HolderEvent::Unlock)
            }
            Command::Keep => Some(HolderEvent::Keep),
            Command::Listen(listener) => {
                match lease(&self.lease).lost {
                    // It may have stopped waiting.
                    Some(reason) => drop(listener.send(reason)),
                    None => self.listeners.push(listener),
                }
                None
            }
        }
    }
}

/// The next command; never, once nobody can give one and that has been told.
async fn next_command(inbox: &mut Option<mpsc::UnboundedReceiver<Command>>) -> Option<Command> {
    match inbox {
        Some(commands) => {
            let command = commands.recv().await;
            if command.is_none() {
                *inbox = None;
            }
            command
        }
        None => std::future::pending().await,
    }
}

/// The next event of the connection; never, once it has none.
async fn next_event(events: &mut Option<Events>) -> ConnectionEvent {
    if let Some(listening) = events {
        if let Some(event) = listening.next().await {
            return event;
        }
        *events = None;
    }
    std::future::pending().await
}

/// Ready once the connection was lost and is there again.
async fn reconnected(events: &mut Option<Events>) {
    while next_event(events).await != ConnectionEvent::Reconnected {}
}

impl<E: Env, B: Bucket> Shell<Holder> for HolderShell<E, B> {
    async fn next(&mut self) -> Option<<Holder as Machine>::Event> {
        loop {
            let heard = tokio::select! {
                biased;
                Some(event) = self.under_way.next(), if !self.under_way.is_empty() => Some(event),
                event = next_event(&mut self.events) => match event {
                    ConnectionEvent::Disconnected(_) => Some(HolderEvent::Disconnected),
                    ConnectionEvent::Reconnected => Some(HolderEvent::Reconnected),
                    _ => None,
                },
                command = next_command(&mut self.inbox) => match command {
                    Some(command) => self.command(command),
                    None => Some(HolderEvent::Unlock),
                },
            };
            if let Some(event) = heard {
                return Some((self.acquisition.inner.stamp(), event));
            }
        }
    }

    async fn perform(&mut self, effect: HolderEffect) -> ControlFlow<()> {
        let Acquisition {
            inner, keys, id, ..
        } = &self.acquisition;
        let (bucket, key) = (inner.bucket.clone(), Arc::clone(&keys.record));
        match effect {
            HolderEffect::Look => self.under_way.push(Box::pin(async move {
                HolderEvent::Looked(bucket.entry(&key).await)
            })),
            HolderEffect::Write { over } => {
                let writing = self.acquisition.write(over, Some(self.token));
                self.under_way.push(Box::pin(async move {
                    let (sent, result) = writing.await;
                    HolderEvent::Written { sent, result }
                }));
            }
            HolderEffect::Delete { over } => self.under_way.push(Box::pin(async move {
                HolderEvent::Deleted(bucket.delete(&key, Some(over)).await)
            })),
            HolderEffect::ReadClock => self
                .under_way
                .push(Box::pin(std::future::ready(HolderEvent::Clock))),
            HolderEffect::Renewed { sent } => lease(&self.lease).sent = sent,
            HolderEffect::Lost(reason) => {
                lease(&self.lease).lost = Some(reason);
                for listener in self.listeners.drain(..) {
                    let _gone = listener.send(reason);
                }
            }
            HolderEffect::Refreshed(result) => {
                for answer in self.refreshes.drain(..) {
                    let _gone = answer.send(result.clone());
                }
            }
            HolderEffect::Settle { over } => settle(inner, keys, id, over),
            HolderEffect::Unlocked(result) => {
                // Of several who unlock it at once one does.
                let mut answers = self.unlocks.drain(..);
                if let Some(first) = answers.next() {
                    let _gone = first.send(result);
                }
                for answer in answers {
                    let _gone = answer.send(Err(UnlockError::NotHeld));
                }
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}
