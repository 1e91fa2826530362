//! The hands of a holder: what its [`Lock`] asks for, and what happens to the connection.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use futures_channel::mpsc;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either};
use tokio::sync::oneshot;

use super::acquiring::Acquisition;
use super::carried::{Asking, Carried};
use super::contender::Acquired;
use super::holder::{Holder, HolderEffect, HolderEvent};
use super::record::Stamp;
use super::settle::settle;
use super::{Lease, Lock, LostReason, RefreshError, SharedLease, Stage, UnlockError, lease};
use crate::env::Env;
use crate::machine::{Machine, Shell, drive};
use crate::time::Clock;
use crate::transport::{Bucket, ConnectionEvent, Events, Revision};

/// What the handle of a lock asks of its task, once it has one.
pub(super) enum Command {
    Refresh(oneshot::Sender<Result<(), RefreshError>>),
    Unlock(oneshot::Sender<Result<(), UnlockError>>),
    Keep,
    Listen(oneshot::Sender<LostReason>),
}

/// What is held. It wants no task before something is to be done in time: most locks are let go before that.
pub(super) trait Holding: Send {
    /// Lets it go, in the task of whoever waits for that.
    fn unlock(self: Box<Self>) -> BoxFuture<'static, Result<(), UnlockError>>;

    /// Lets it go in the background.
    fn leave(self: Box<Self>);

    /// Goes on in a task of its own, which takes commands, and lets it go once there can be none any more.
    fn start(self: Box<Self>) -> mpsc::UnboundedSender<Command>;
}

struct Held<E: Env, B: Bucket> {
    holder: Holder,
    hands: Hands<E, B>,
}

impl<E: Env, B: Bucket> Held<E, B> {
    /// Until it is let go.
    async fn run(mut self: Box<Self>) -> Result<(), UnlockError> {
        let clock = self.hands.acquisition.inner.env.clock().clone();
        let asked = pin!(None);
        let Self { holder, hands } = &mut *self;
        let asking = Asking::new(Hands::ask, asked);
        drive(&clock, holder, &mut HolderShell { hands, asking }).await;
        self.hands.unlocked
    }

    fn spawn(self: Box<Self>) {
        let env = self.hands.acquisition.inner.env.clone();
        env.spawn("lock", self.run().map(drop)).detach();
    }
}

impl<E: Env, B: Bucket> Holding for Held<E, B> {
    fn unlock(self: Box<Self>) -> BoxFuture<'static, Result<(), UnlockError>> {
        let env = self.hands.acquisition.inner.env.clone();
        Box::pin(Carried::new(&env, |_goes_on_alike| self.run()))
    }

    fn leave(self: Box<Self>) {
        self.spawn();
    }

    fn start(mut self: Box<Self>) -> mpsc::UnboundedSender<Command> {
        let (commands, inbox) = mpsc::unbounded();
        self.hands.inbox = Inbox::Open(inbox);
        self.spawn();
        commands
    }
}

impl<E: Env, B: Bucket> Acquisition<E, B> {
    /// The handle on what was acquired. `was_disturbed`: the connection has been down since before the write.
    pub(super) fn hold(
        self,
        key: Arc<str>,
        acquired: &Acquired,
        events: Option<Events>,
        was_disturbed: bool,
    ) -> Lock {
        let Acquired { revision, sent, .. } = *acquired;
        let shared: SharedLease = Arc::new(Mutex::new(Lease { sent, lost: None }));
        let now = self.inner.env.clock().clone();
        let ttl = self.ttl;
        let mut holder = Holder::new(Arc::clone(&self.id), ttl, revision, sent);
        if was_disturbed {
            holder.disturb();
        }
        let hands = Hands {
            acquisition: self,
            token: revision.0,
            // As long as nothing else is asked.
            inbox: Inbox::Ends,
            events,
            reads_clock: false,
            lease: Arc::clone(&shared),
            listeners: Vec::new(),
            refreshes: Vec::new(),
            unlocks: Vec::new(),
            unlocked: Err(UnlockError::NotHeld),
        };
        Lock {
            key,
            token: revision.0,
            ttl,
            lease: shared,
            now: Box::new(move || Stamp {
                at: now.now(),
                wall: now.wall(),
            }),
            stage: Mutex::new(Stage::Rests(Box::new(Held { holder, hands }))),
        }
    }
}

/// What is asked of a holder.
enum Inbox {
    Open(mpsc::UnboundedReceiver<Command>),
    /// It is to be let go.
    Ends,
    /// And knows that.
    Ended,
}

/// What a holder asks of the bucket.
enum Question {
    Look,
    Write { over: Revision },
    Delete { over: Revision },
}

/// All of a holder's shell but what is asked for it.
struct Hands<E: Env, B: Bucket> {
    acquisition: Acquisition<E, B>,
    token: u64,
    inbox: Inbox,
    events: Option<Events>,
    /// Whether the machine wants to be told the time.
    reads_clock: bool,
    lease: SharedLease,
    listeners: Vec<oneshot::Sender<LostReason>>,
    refreshes: Vec<oneshot::Sender<Result<(), RefreshError>>>,
    unlocks: Vec<oneshot::Sender<Result<(), UnlockError>>>,
    /// How that went, once it is over.
    unlocked: Result<(), UnlockError>,
}

impl<E: Env, B: Bucket> Hands<E, B> {
    fn ask(&self, question: Question) -> impl Future<Output = HolderEvent> + Send + use<E, B> {
        let Acquisition { inner, keys, .. } = &self.acquisition;
        let (inner, key) = (Arc::clone(inner), Arc::clone(&keys.record));
        match question {
            Question::Look => Either::Left(Either::Left(async move {
                HolderEvent::Looked(inner.bucket.entry(&key).await)
            })),
            Question::Write { over } => {
                let writing = self.acquisition.write(over, Some(self.token));
                Either::Left(Either::Right(
                    writing.map(|(sent, result)| HolderEvent::Written { sent, result }),
                ))
            }
            Question::Delete { over } => Either::Right(async move {
                HolderEvent::Deleted(inner.bucket.delete(&key, Some(over)).await)
            }),
        }
    }

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
async fn next_command(inbox: &mut Inbox) -> Option<Command> {
    let command = match inbox {
        Inbox::Open(commands) => commands.recv().await.ok(),
        Inbox::Ends => None,
        Inbox::Ended => std::future::pending().await,
    };
    if command.is_none() {
        *inbox = Inbox::Ended;
    }
    command
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

struct HolderShell<'a, E: Env, B: Bucket, F> {
    hands: &'a mut Hands<E, B>,
    /// The look, the write or the deletion that is under way.
    asking: Asking<'a, Hands<E, B>, Question, F>,
}

impl<E, B, F> Shell<Holder> for HolderShell<'_, E, B, F>
where
    E: Env,
    B: Bucket,
    F: Future<Output = HolderEvent> + Send,
{
    async fn next(&mut self) -> Option<<Holder as Machine>::Event> {
        let Self { hands, asking } = self;
        loop {
            if std::mem::take(&mut hands.reads_clock) {
                return Some((hands.acquisition.inner.stamp(), HolderEvent::Clock));
            }
            let heard = tokio::select! {
                biased;
                event = asking.answer() => Some(event),
                event = next_event(&mut hands.events) => match event {
                    ConnectionEvent::Disconnected(_) => Some(HolderEvent::Disconnected),
                    ConnectionEvent::Reconnected => Some(HolderEvent::Reconnected),
                    _ => None,
                },
                command = next_command(&mut hands.inbox) => match command {
                    Some(command) => hands.command(command),
                    None => Some(HolderEvent::Unlock),
                },
            };
            if let Some(event) = heard {
                return Some((hands.acquisition.inner.stamp(), event));
            }
        }
    }

    async fn perform(&mut self, effect: HolderEffect) -> ControlFlow<()> {
        let hands = &mut *self.hands;
        match effect {
            HolderEffect::Look => self.asking.begin(hands, Question::Look),
            HolderEffect::Write { over } => self.asking.begin(hands, Question::Write { over }),
            HolderEffect::Delete { over } => self.asking.begin(hands, Question::Delete { over }),
            HolderEffect::ReadClock => hands.reads_clock = true,
            HolderEffect::Renewed { sent } => lease(&hands.lease).sent = sent,
            HolderEffect::Lost(reason) => {
                lease(&hands.lease).lost = Some(reason);
                for listener in hands.listeners.drain(..) {
                    let _gone = listener.send(reason);
                }
            }
            HolderEffect::Refreshed(result) => {
                for answer in hands.refreshes.drain(..) {
                    let _gone = answer.send(result.clone());
                }
            }
            HolderEffect::Settle { over } => {
                let Acquisition {
                    inner, keys, id, ..
                } = &hands.acquisition;
                settle(inner, keys, id, over, None);
            }
            HolderEffect::Unlocked(result) => {
                // Of several who unlock it at once one does.
                let mut answers = hands.unlocks.drain(..);
                if let Some(first) = answers.next() {
                    let _gone = first.send(result.clone());
                }
                hands.unlocked = result;
                for answer in answers {
                    let _gone = answer.send(Err(UnlockError::NotHeld));
                }
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}
