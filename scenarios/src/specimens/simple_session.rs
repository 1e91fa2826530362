//! A session as one would write it in an afternoon: a refresh loop, a swap loop, and a connection in front that always
//! means the newest one; with one thing made wrong. Each [`Flaw`] is a way in which such code has failed people.
//!
//! The right twin of all of them is [`squall_core::session`].
//!
//! New credentials are dialled with on a connection of their own, watches are made anew on it, a round trip is made, and
//! only then, when nothing is under way on it any more, is the old connection closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use squall_core::diagnostics::{Caller, EventType, NatsEvent};
use squall_core::session::{LoginError, SavedLogin};
use squall_core::transport::{
    ConnectOptions, Connection, ConnectionEvent, Credentials, CredentialsCell, Events,
    EventsSender, Transport,
};
use squall_core::{Clock, Env, Instant, Task};
use tokio::sync::mpsc;

use super::Flaw;
use crate::authority::Denied;
use crate::credentials::Exchange;
use crate::history::{Call, Recorder, Tell, What};
use crate::roles::Lodging;
use crate::variant::ConnectionOf;

/// A refused connection asks for other credentials at most so often.
const REFUSED_AGAIN: Duration = Duration::from_secs(2);
/// A dial that failed is tried again after so long.
const DIAL_AGAIN: Duration = Duration::from_secs(1);
/// Who wants to do something waits so long for a connection.
const FIRST_MAX: Duration = Duration::from_secs(5);
/// Watches that are not there again by then are told that they are interrupted.
const REARM_MAX: Duration = Duration::from_secs(5);
/// An old connection is closed when nothing is under way on it, or after so long.
const LEAVE_MAX: Duration = Duration::from_secs(12);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// A connection and what it was dialled with. Who holds a clone has something under way on it.
pub(super) struct Live<C> {
    pub(super) connection: C,
    /// As it believes.
    token: u64,
}

/// What a watch hears of.
pub(super) enum Moved<C> {
    /// There is another connection; answered when the watch is there.
    To(Arc<Live<C>>, mpsc::UnboundedSender<()>),
    /// Nothing of what was followed is to be told any more.
    Over,
}

struct State<C> {
    options: ConnectOptions,
    account: Option<&'static str>,
    /// The newest credential, and its number.
    newest: Option<Credentials>,
    number: u64,
    current: Option<Arc<Live<C>>>,
    watches: Vec<mpsc::UnboundedSender<Moved<C>>>,
    /// Hear that a login has ended, and nothing else.
    listeners: EventsSender,
    /// The refresh loop, the swap loop and who listens to the current connection.
    tasks: Vec<Task>,
    orders: Option<mpsc::UnboundedSender<Caller>>,
    swaps: Option<mpsc::UnboundedSender<()>>,
    is_refused: bool,
    login: u64,
}

struct Shared<E: Env> {
    env: E,
    process: Arc<str>,
    recorder: Recorder,
    exchange: Exchange,
    flaw: Flaw,
    margin: Duration,
    retry: Duration,
    state: Mutex<State<ConnectionOf<E>>>,
}

/// See the head of this file. Clones share it.
pub(crate) struct SimpleSession<E: Env>(Arc<Shared<E>>);

impl<E: Env> Clone for SimpleSession<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Env> SimpleSession<E> {
    /// A session of nobody yet.
    pub(crate) fn new(
        env: E,
        (process, recorder): (Arc<str>, Recorder),
        exchange: Exchange,
        options: ConnectOptions,
        (margin, retry): (Duration, Duration),
        flaw: Flaw,
    ) -> Self {
        let mut options = options;
        if flaw == Flaw::NoSignsOfLife {
            options.ping_interval = Duration::from_secs(3600);
            options.watch_heartbeat = Duration::from_secs(3600);
        }
        let state = State {
            options,
            account: None,
            newest: None,
            number: 0,
            current: None,
            watches: Vec::new(),
            listeners: EventsSender::default(),
            tasks: Vec::new(),
            orders: None,
            swaps: None,
            is_refused: false,
            login: 0,
        };
        Self(Arc::new(Shared {
            env,
            process,
            recorder,
            exchange,
            flaw,
            margin,
            retry,
            state: Mutex::new(state),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State<ConnectionOf<E>>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn env(&self) -> &E {
        &self.0.env
    }

    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.0.flaw == flaw
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        let clock = self.0.env.clock();
        clock.sleep_until(clock.now() + duration).await;
    }

    fn log(&self, event: NatsEvent) {
        let event = Box::new(event);
        self.0.recorder.record(What::Told {
            process: self.0.process.clone(),
            tell: Tell::Logged { event },
        });
    }

    /// The connection that there is now, new or old.
    pub(super) fn now(&self) -> Option<Arc<Live<ConnectionOf<E>>>> {
        self.state().current.clone()
    }

    /// Counts logins.
    pub(super) fn login(&self) -> u64 {
        self.state().login
    }

    /// Somebody wants a connection for the first time.
    pub(super) fn wanted(&self) {
        let account = {
            let state = self.state();
            state.account.filter(|_| state.current.is_none())
        };
        if let (true, Some(account)) = (self.has(Flaw::LogsInTwice), account) {
            // The flaw: there is none, so log in; never mind who is at it already.
            self.start(account);
        }
    }

    /// The same; where there is none yet, waits for it, but not for ever. `None` where nobody is logged in.
    pub(super) async fn first(&self) -> Option<Arc<Live<ConnectionOf<E>>>> {
        let deadline = self.0.env.clock().now() + FIRST_MAX;
        loop {
            let (current, account) = {
                let state = self.state();
                (state.current.clone(), state.account)
            };
            let is_late = self.0.env.clock().now() >= deadline;
            if current.is_some() || account.is_none() || is_late {
                return current;
            }
            self.sleep(LOOK).await;
        }
    }

    /// The connection to do something on, which a caller may find stale.
    pub(super) async fn usable(&self) -> Option<Arc<Live<ConnectionOf<E>>>> {
        let live = self.first().await?;
        let (number, newest) = {
            let state = self.state();
            (state.number, state.newest.clone())
        };
        match newest {
            // The flaw: nobody asks whether somebody else is at it.
            Some(newest) if self.has(Flaw::EveryCallerSwaps) && live.token != number => {
                self.swap(newest, number, Caller::OPERATION).await;
                self.first().await
            }
            _ => Some(live),
        }
    }

    /// Something of JetStream failed on a connection.
    pub(super) async fn failed(&self, live: &Arc<Live<ConnectionOf<E>>>) {
        if self.has(Flaw::AmputatesOnSlowAnswer) {
            // The flaw: the connection is to blame, without a question to it.
            let id = live.connection.id();
            let at = self.0.env.clock().wall();
            self.log(NatsEvent::new(EventType::ForceClose, at, Caller::OPERATION).of(id));
            live.connection.close().await;
            let (number, newest) = {
                let state = self.state();
                (state.number, state.newest.clone())
            };
            if let Some(newest) = newest {
                self.swap(newest, number, Caller::OPERATION).await;
            }
        }
    }

    /// Tells when this login has ended.
    pub(super) fn events(&self) -> Events {
        self.state().listeners.listen()
    }

    /// A watch wants to hear of new connections.
    pub(super) fn watches(&self) -> mpsc::UnboundedReceiver<Moved<ConnectionOf<E>>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state().watches.push(sender);
        receiver
    }

    // --- the refresh loop ---

    /// Starts to exchange, and to swap, for an account.
    fn start(&self, account: &'static str) {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (swaps, wanted) = mpsc::unbounded_channel();
        let refresh = self.clone().refresh(account, inbox);
        let tasks = [
            self.0.env.spawn("refresh", refresh),
            self.0.env.spawn("swap", self.clone().swap_when(wanted)),
        ];
        let mut state = self.state();
        state.tasks.extend(tasks);
        (state.orders, state.swaps) = (Some(orders), Some(swaps));
    }

    async fn refresh(self, account: &'static str, mut orders: mpsc::UnboundedReceiver<Caller>) {
        let clock = self.0.env.clock().clone();
        loop {
            let process = &self.0.process;
            let call = Call::Exchange {
                account: account.into(),
            };
            let id = self.0.recorder.invoke(process, call);
            let issued = (self.0.exchange)(account).await;
            self.0.recorder.ended(id, crate::credentials::told(&issued));
            let wait = match issued {
                Ok(credentials) => {
                    let ends = credentials.claims().and_then(|claims| claims.expires);
                    let left = ends.map(|ends| (ends - self.0.margin).since(clock.wall()));
                    let swaps = {
                        let mut state = self.state();
                        state.number += 1;
                        state.newest = Some(credentials);
                        state.swaps.clone()
                    };
                    // Who is logged out meanwhile has nobody who listens.
                    let _over = swaps.map(|swaps| swaps.send(()));
                    left.unwrap_or_default().max(REFUSED_AGAIN / 20)
                }
                Err(Denied::Unauthorized) => {
                    self.state().is_refused = true;
                    return;
                }
                Err(Denied::Unavailable) if self.has(Flaw::FailureIsFinal) => return,
                Err(Denied::Unavailable) => self.0.retry,
            };
            // What was wanted while it was under way has been done with it.
            while orders.try_recv().is_ok() {}
            let asked = clock.now();
            let due = asked + wait;
            loop {
                let order = tokio::select! {
                    biased;
                    order = orders.recv() => order,
                    () = clock.sleep_until(due) => break,
                };
                match order {
                    None => return,
                    Some(by) if by == Caller::CLIENT && clock.now() < asked + REFUSED_AGAIN => {}
                    Some(_) => break,
                }
            }
        }
    }

    // --- the swap loop ---

    async fn swap_when(self, mut wanted: mpsc::UnboundedReceiver<()>) {
        while wanted.recv().await.is_some() {
            loop {
                let (number, newest, current) = {
                    let state = self.state();
                    (state.number, state.newest.clone(), state.current.clone())
                };
                let Some(newest) = newest else { break };
                if current.as_ref().is_some_and(|live| live.token == number) {
                    break;
                }
                // The flaw: whoever calls next will see to it.
                if current.is_some() && self.has(Flaw::EveryCallerSwaps) {
                    break;
                }
                if !self.swap(newest, number, Caller::REFRESH).await {
                    self.sleep(DIAL_AGAIN).await;
                }
            }
        }
    }

    /// Another connection, watches on it, a round trip, and away with the old one. False where there was none to be had.
    async fn swap(&self, newest: Credentials, number: u64, caller: Caller) -> bool {
        let mut options = self.state().options.clone();
        options.credentials = Some(CredentialsCell::filled(newest));
        if self.has(Flaw::ClosesBeforeRearming) {
            // The flaw: first away with the old one, then the new one.
            let old = self.state().current.clone();
            if let Some(old) = &old {
                old.connection.close().await;
            }
        }
        let Ok(connection) = self.0.env.transport().connect(options).await else {
            return false;
        };
        let id = connection.id();
        let token = if self.has(Flaw::StampsAfterDial) {
            // The flaw: it may have become another while the dial was under way.
            self.state().number
        } else {
            number
        };
        let events = connection.events();
        let live = Arc::new(Live { connection, token });
        self.rearm(&live).await;
        let _unreachable = live.connection.flush().await;
        let listens = self.0.env.spawn("listen", self.clone().listen(events));
        let old = {
            let mut state = self.state();
            state.tasks.push(listens);
            state.current.replace(live)
        };
        let at = self.0.env.clock().wall();
        match old {
            Some(old) => {
                let (from, to) = (old.connection.id().into(), id.into());
                self.log(NatsEvent::swap(at, caller, from, to));
                self.leave(old).await;
            }
            None => self.log(NatsEvent::new(EventType::Connect, at, Caller::LOGIN).of(id)),
        }
        true
    }

    async fn rearm(&self, live: &Arc<Live<ConnectionOf<E>>>) {
        let (there, mut answers) = mpsc::unbounded_channel();
        let moved = {
            let mut state = self.state();
            let tell = |watch: &mpsc::UnboundedSender<Moved<_>>| {
                watch
                    .send(Moved::To(Arc::clone(live), there.clone()))
                    .is_ok()
            };
            state.watches.retain(tell);
            state.watches.len()
        };
        drop(there);
        let all = async {
            for _ in 0..moved {
                if answers.recv().await.is_none() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = all => {}
            () = self.sleep(REARM_MAX) => {}
        }
    }

    /// Closes a connection once nothing is under way on it.
    async fn leave(&self, old: Arc<Live<ConnectionOf<E>>>) {
        let clock = self.0.env.clock();
        let latest: Instant = clock.now() + LEAVE_MAX;
        while Arc::strong_count(&old) > 1 && clock.now() < latest {
            self.sleep(LOOK).await;
        }
        old.connection.close().await;
    }

    async fn listen(self, mut events: Events) {
        while let Some(event) = events.next().await {
            if let ConnectionEvent::AuthError(_) = event
                && let Some(orders) = self.state().orders.clone()
            {
                // Nobody listens after a logout.
                let _over = orders.send(Caller::CLIENT);
            }
        }
    }

    /// Ends all that belongs to a login.
    async fn end(&self) {
        let (tasks, current, watches) = {
            let mut state = self.state();
            (state.orders, state.swaps, state.newest) = (None, None, None);
            let keeps = self.has(Flaw::WatchesOutliveLogins);
            if !keeps {
                state.listeners.send(&ConnectionEvent::Closed);
            }
            let watches = if keeps {
                Vec::new()
            } else {
                std::mem::take(&mut state.watches)
            };
            // The flaw: what comes on the old connection goes on to be told until there is another.
            let current = if keeps { None } else { state.current.take() };
            (std::mem::take(&mut state.tasks), current, watches)
        };
        drop(tasks);
        for watch in watches {
            // Whoever had it may have dropped it.
            let _gone = watch.send(Moved::Over);
        }
        if let Some(current) = current {
            current.connection.close().await;
        }
    }
}

impl<E: Env> Lodging for SimpleSession<E> {
    fn rotate(&self) {
        if let Some(orders) = self.state().orders.clone() {
            // Nobody listens where the key was refused.
            let _refused = orders.send(Caller::named("test"));
        }
    }

    fn log_in(&self, account: &'static str) -> BoxFuture<'_, Result<(), LoginError>> {
        Box::pin(async move {
            self.end().await;
            {
                let mut state = self.state();
                (state.account, state.is_refused) = (Some(account), false);
                state.login += 1;
            }
            self.start(account);
            Ok(())
        })
    }

    fn log_out(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.end().await;
            self.state().account = None;
        })
    }

    fn is_logged_in(&self) -> bool {
        self.state().account.is_some()
    }

    fn is_refused(&self) -> bool {
        self.state().is_refused
    }

    /// It keeps nothing on disk.
    fn issued(&self) -> Option<SavedLogin> {
        None
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.end().await;
            let last = self.state().current.take();
            if let Some(last) = last {
                last.connection.close().await;
            }
        })
    }
}
