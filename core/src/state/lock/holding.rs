//! The hands of a holder: what its [`Lock`] asks for, and what happens to the connection.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use super::acquiring::Acquisition;
use super::contender::Acquired;
use super::holder::{Holder, HolderEffect, HolderEvent};
use super::record::Stamp;
use super::settle::settle;
use super::{AcquireError, Lease, Lock, LostReason, RefreshError, SharedLease, UnlockError, lease};
use crate::env::Env;
use crate::machine::{Machine, Shell, drive};
use crate::time::Clock;
use crate::transport::{Bucket, ConnectionEvent, Events};

/// What the handle of a lock asks of its task.
pub(super) enum Command {
    Refresh(oneshot::Sender<Result<(), RefreshError>>),
    Unlock(oneshot::Sender<Result<(), UnlockError>>),
    Keep,
    Listen(oneshot::Sender<LostReason>),
}

impl<E: Env, B: Bucket> Acquisition<E, B> {
    pub(super) async fn hold(
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
pub(super) async fn next_event(events: &mut Option<Events>) -> ConnectionEvent {
    if let Some(listening) = events {
        if let Some(event) = listening.next().await {
            return event;
        }
        *events = None;
    }
    std::future::pending().await
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
            HolderEffect::Settle { over } => settle(inner, keys, id, over, None),
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
