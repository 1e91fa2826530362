//! [`Trunk`]: what all that happens under one login shares: which connection is used, who waits for one, and who must move
//! when another takes its place. [`Line`]: what one of those who share it holds.
//!
//! A line is to its connections what a telephone number is to the cables: rooms hold a line each, and who hangs up ends
//! what was begun on its own. All of them end with their login, and none is given to the next one, so that nothing of one
//! account is heard or said under another.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::config::Settings;
use super::link_error::LinkError;
use super::refresher::{Generation, LoginNumber};
use super::shell::Command;
use crate::env::Env;
use crate::time::Clock;
use crate::transport::{
    Connection, ConnectionEvent, ConnectionId, ConnectionState, DisconnectCause, Events,
    EventsSender, Login, Transport,
};

pub(super) type ConnectionOf<E> = <<E as Env>::Transport as Transport>::Connection;

/// Who had to wait longer than this for a connection found none.
const AT_ONCE: Duration = Duration::from_millis(10);

/// One connection in use. Whoever does something on it holds it: a connection is retired when nobody does any more.
pub(super) struct Link<C> {
    pub(super) connection: C,
    /// Counts the connections of a session.
    pub(super) number: u64,
    pub(super) generation: Generation,
    pub(super) login: Login,
    /// Ends with the last holder.
    _held: mpsc::Sender<Infallible>,
}

impl<C> Link<C> {
    /// A connection in use, and what ends once nobody uses it.
    pub(super) fn new(
        connection: C,
        number: u64,
        generation: Generation,
        login: Login,
    ) -> (Arc<Self>, mpsc::Receiver<Infallible>) {
        let (held, released) = mpsc::channel(1);
        let link = Self {
            connection,
            number,
            generation,
            login,
            _held: held,
        };
        (Arc::new(link), released)
    }
}

/// A connection for whoever listens, to listen on it too.
pub(super) struct Offer<C> {
    pub(super) link: Arc<Link<C>>,
    /// Dropped once that is done, or cannot be.
    pub(super) done: Option<mpsc::Sender<Infallible>>,
}

/// Those who listen, each under a number of its own.
type Relays<C> = BTreeMap<u64, mpsc::UnboundedSender<Offer<C>>>;

/// What is kept of one line.
struct Extension<C> {
    waiting: Vec<oneshot::Sender<()>>,
    relays: Relays<C>,
    events: EventsSender,
}

struct State<C> {
    current: Option<Arc<Link<C>>>,
    /// The first connection's.
    id: Option<ConnectionId>,
    is_closed: bool,
    is_up: bool,
    /// Lines that nobody has hung up, each under a number of its own.
    lines: BTreeMap<u64, Extension<C>>,
    /// Counts lines, and those who listen on them.
    numbers: u64,
}

pub(super) struct Trunk<E: Env> {
    env: E,
    settings: Arc<Settings>,
    pub(super) login: LoginNumber,
    commands: mpsc::UnboundedSender<Command>,
    state: Mutex<State<ConnectionOf<E>>>,
}

pub(super) struct Line<E: Env> {
    pub(super) env: E,
    pub(super) settings: Arc<Settings>,
    pub(super) login: LoginNumber,
    trunk: Arc<Trunk<E>>,
    number: u64,
}

impl<E: Env> Drop for Line<E> {
    fn drop(&mut self) {
        // What it held is dropped when the trunk is free again.
        let _held = self.trunk.lock().lines.remove(&self.number);
    }
}

impl<E: Env> Line<E> {
    /// One more line.
    pub(super) fn new(trunk: &Arc<Trunk<E>>) -> Self {
        let mut state = trunk.lock();
        state.numbers += 1;
        let number = state.numbers;
        if !state.is_closed {
            let extension = Extension {
                waiting: Vec::new(),
                relays: BTreeMap::new(),
                events: EventsSender::default(),
            };
            state.lines.insert(number, extension);
        }
        drop(state);
        Self {
            env: trunk.env.clone(),
            settings: Arc::clone(&trunk.settings),
            login: trunk.login,
            trunk: Arc::clone(trunk),
            number,
        }
    }

    /// A connection to work on, once there is one of a higher number than `after`; `None` once the line is closed.
    pub(super) async fn link(&self, after: u64) -> Option<Arc<Link<ConnectionOf<E>>>> {
        loop {
            let came = {
                let mut state = self.trunk.lock();
                let State { current, lines, .. } = &mut *state;
                let own = lines.get_mut(&self.number)?;
                if let Some(link) = current
                    && link.number > after
                    && link.connection.state() != ConnectionState::Closed
                {
                    return Some(Arc::clone(link));
                }
                let (sender, came) = oneshot::channel();
                // Who has lost patience meanwhile waits no more.
                own.waiting.retain(|waiting| !waiting.is_closed());
                own.waiting.push(sender);
                came
            };
            // An error means that the line is hung up, which the next round finds.
            let _ = came.await;
        }
    }

    /// What comes of `work`; `None` where it takes longer than `patience`.
    pub(super) async fn within<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = T> + Send,
    ) -> Option<T> {
        let clock = self.env.clock();
        let deadline = clock.now() + patience;
        tokio::select! {
            biased;
            done = work => Some(done),
            () = clock.sleep_until(deadline) => None,
        }
    }

    /// Does something on the connection that is current. Where that is closed before anything was sent, on the next one; but
    /// does not wait for a connection longer than `patience`, and where it had to wait, not longer in all.
    pub(super) async fn run<T, R, F>(
        &self,
        patience: Option<Duration>,
        work: impl Fn(ConnectionOf<E>) -> F + Send + Sync,
    ) -> Result<T, R>
    where
        R: LinkError,
        F: Future<Output = Result<T, R>> + Send,
    {
        let (_, result) = self
            .run_on(patience, |link| work(link.connection.clone()))
            .await?;
        Ok(result)
    }

    /// The same, and says on which connection it was done.
    pub(super) async fn run_on<T, R, F>(
        &self,
        patience: Option<Duration>,
        work: impl Fn(Arc<Link<ConnectionOf<E>>>) -> F + Send + Sync,
    ) -> Result<(Arc<Link<ConnectionOf<E>>>, T), R>
    where
        R: LinkError,
        F: Future<Output = Result<T, R>> + Send,
    {
        let clock = self.env.clock();
        let began = clock.now();
        let deadline = patience.map(|patience| began + patience);
        let mut after = 0;
        loop {
            let link = match deadline {
                None => self.link(after).await,
                Some(deadline) => tokio::select! {
                    biased;
                    link = self.link(after) => link,
                    () = clock.sleep_until(deadline) => return Err(R::timed_out()),
                },
            };
            let Some(link) = link else {
                return Err(R::closed());
            };
            let sent = clock.now();
            let attempt = work(Arc::clone(&link));
            let done = match deadline {
                // It has time-outs of its own, but they do not count what went before.
                Some(deadline) if after > 0 || sent.since(began) > AT_ONCE => tokio::select! {
                    biased;
                    done = attempt => done,
                    () = clock.sleep_until(deadline) => {
                        let late = R::timed_out();
                        if late.is_silence() && deadline.since(sent) * 2 > deadline.since(began) {
                            self.doubt(&link, &late.to_string());
                        }
                        return Err(late);
                    }
                },
                _ => attempt.await,
            };
            match done {
                Ok(result) => return Ok((link, result)),
                Err(error) if error.is_unsent() => after = link.number,
                Err(error) => {
                    if error.is_silence() {
                        self.doubt(&link, &error.to_string());
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Something got no answer on this connection.
    pub(super) fn doubt(&self, link: &Link<ConnectionOf<E>>, what: &str) {
        let id = link.connection.id();
        self.trunk
            .command(Command::Failed(self.login, id, what.to_owned()));
    }

    /// Ends everything that was begun on this line. The login goes on.
    pub(super) fn hang_up(&self) {
        let mut state = self.trunk.lock();
        let own = state.lines.remove(&self.number);
        drop(state);
        if let Some(mut own) = own {
            own.events.send(&ConnectionEvent::Closed);
        }
    }

    /// Has another credential, and so another connection.
    pub(super) fn renew(&self) {
        if self.trunk.lock().lines.contains_key(&self.number) {
            self.trunk.command(Command::Force);
        }
    }

    /// One who listens, on the connection of number `on`, and will be offered every later one.
    pub(super) fn register(&self, on: u64) -> Option<Registration<ConnectionOf<E>>> {
        let (sender, offers) = mpsc::unbounded_channel();
        let mut state = self.trunk.lock();
        let State {
            current,
            lines,
            numbers,
            ..
        } = &mut *state;
        let own = lines.get_mut(&self.number)?;
        *numbers += 1;
        if let Some(link) = current.as_ref().filter(|link| link.number > on) {
            let link = Arc::clone(link);
            let _held = sender.send(Offer { link, done: None });
        }
        own.relays.insert(*numbers, sender);
        Some(offers)
    }

    pub(super) fn events(&self) -> Events {
        let mut state = self.trunk.lock();
        if let Some(own) = state.lines.get_mut(&self.number) {
            return own.events.listen();
        }
        let mut over = EventsSender::default();
        let events = over.listen();
        over.send(&ConnectionEvent::Closed);
        events
    }

    /// Tells all who listen to this line.
    pub(super) fn announce(&self, event: &ConnectionEvent) {
        if let Some(own) = self.trunk.lock().lines.get_mut(&self.number) {
            own.events.send(event);
        }
    }

    /// That of the login's first connection.
    pub(super) fn id(&self) -> Option<ConnectionId> {
        self.trunk.lock().id
    }

    pub(super) fn state(&self) -> ConnectionState {
        let state = self.trunk.lock();
        match &state.current {
            _ if !state.lines.contains_key(&self.number) => ConnectionState::Closed,
            Some(link) if link.connection.state() == ConnectionState::Connected => {
                ConnectionState::Connected
            }
            _ => ConnectionState::Disconnected,
        }
    }

    pub(super) fn login(&self) -> Option<Login> {
        self.trunk.lock().current.as_ref().map(|link| link.login)
    }
}

impl<E: Env> Trunk<E> {
    pub(super) fn new(
        env: E,
        settings: Arc<Settings>,
        login: LoginNumber,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Self {
        let state = State {
            current: None,
            id: None,
            is_closed: false,
            is_up: false,
            lines: BTreeMap::new(),
            numbers: 0,
        };
        Self {
            env,
            settings,
            login,
            commands,
            state: Mutex::new(state),
        }
    }

    fn command(&self, command: Command) {
        // Where the session is gone, the login is over.
        let _gone = self.commands.send(command);
    }

    /// Offers a connection to all who listen; ready once all have answered.
    pub(super) fn offer(&self, link: &Arc<Link<ConnectionOf<E>>>) -> mpsc::Receiver<Infallible> {
        let (done, answered) = mpsc::channel(1);
        self.lock().offer(link, Some(&done));
        answered
    }

    pub(super) fn install(&self, link: Arc<Link<ConnectionOf<E>>>) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        // Also to those who have come to listen since it was offered.
        state.offer(&link, None);
        let is_first = state.id.is_none();
        state.id.get_or_insert_with(|| link.connection.id());
        state.tell(&ConnectionEvent::LoggingIn(link.login));
        if !state.is_up {
            state.is_up = true;
            state.tell(&match is_first {
                true => ConnectionEvent::Connected,
                false => ConnectionEvent::Reconnected,
            });
        }
        state.current = Some(link);
        for line in state.lines.values_mut() {
            for waiting in line.waiting.drain(..) {
                let _gone = waiting.send(());
            }
        }
    }

    /// Something happened to this connection. Of one that is not current nobody is told.
    pub(super) fn tell(&self, id: ConnectionId, event: &ConnectionEvent) {
        let mut state = self.lock();
        if !state.is_current(id) {
            return;
        }
        match event {
            ConnectionEvent::Closed => state.down(DisconnectCause::Lost),
            ConnectionEvent::Disconnected(cause) => state.down(cause.clone()),
            ConnectionEvent::Reconnected => {
                state.is_up = true;
                state.tell(event);
            }
            _ => state.tell(event),
        }
    }

    /// This connection is over.
    pub(super) fn lose(&self, id: ConnectionId) {
        let mut state = self.lock();
        if state.is_current(id) {
            state.current = None;
            state.down(DisconnectCause::Lost);
        }
    }

    /// The login is over: nothing works any more, and all that listens ends.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.current = None;
        state.tell(&ConnectionEvent::Closed);
        state.lines.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State<ConnectionOf<E>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is offered to one who listens; ends with the line.
pub(super) type Registration<C> = mpsc::UnboundedReceiver<Offer<C>>;

impl<C: Connection> State<C> {
    fn is_current(&self, id: ConnectionId) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|link| link.connection.id() == id)
    }

    fn tell(&mut self, event: &ConnectionEvent) {
        for line in self.lines.values_mut() {
            line.events.send(event);
        }
    }

    fn offer(&mut self, link: &Arc<Link<C>>, done: Option<&mpsc::Sender<Infallible>>) {
        for line in self.lines.values_mut() {
            line.relays.retain(|_, relay| {
                let link = Arc::clone(link);
                let done = done.cloned();
                relay.send(Offer { link, done }).is_ok()
            });
        }
    }

    fn down(&mut self, cause: DisconnectCause) {
        if std::mem::take(&mut self.is_up) {
            self.tell(&ConnectionEvent::Disconnected(cause));
        }
    }
}
