//! The hands of the [`Keeper`]: one task that asks, dials, hands over and closes.

mod connections;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use super::auth::{Account, ApiKey, AuthService, ExchangeError, ExchangeRequest, Issued};
use super::config::Settings;
use super::happened::Happened;
use super::keeper::{Keeper, KeeperEffect, KeeperEvent};
use super::line::{ConnectionOf, Link, Trunk};
use super::refresher::{Exchange, Generation, LoginNumber};
use super::status::{LoginError, Status};
use super::swapper::{Dial, SwapperEvent};
use crate::diagnostics::{Caller, EventType, NatsEvent};
use crate::env::Env;
use crate::machine::{Shell, drive};
use crate::time::Clock;
use crate::transport::{ConnectError, ConnectionEvent, ConnectionId, Events};

/// What a session is asked for.
pub(super) enum Command {
    Login(ApiKey, oneshot::Sender<Result<Account, LoginError>>),
    Logout,
    Force,
    IfDue,
    Stop(oneshot::Sender<()>),
    /// Something got no answer.
    Failed(LoginNumber, ConnectionId, String),
}

/// What a session's handle and its task share.
pub(super) struct Shared<E: Env> {
    pub(super) trunk: Option<Arc<Trunk<E>>>,
    /// The key of the present login, and what was issued last for it.
    pub(super) issued: Option<(ApiKey, Issued)>,
    pub(super) status: Status,
}

/// Where what happened is told.
pub(super) type Sink = Box<dyn FnMut(&NatsEvent) + Send>;

/// What comes of something that was begun.
enum Done<C> {
    Connected(Dial, Generation, Result<C, ConnectError>),
    Heard(ConnectionId, Option<ConnectionEvent>, Events),
    Swapper(SwapperEvent),
}

/// A connection that came of a dial and is not in use yet.
struct Candidate<C> {
    dial: Dial,
    link: Arc<Link<C>>,
    released: mpsc::Receiver<Infallible>,
}

/// A connection in use, or on its way out.
struct InUse<C> {
    connection: C,
    released: Option<mpsc::Receiver<Infallible>>,
}

pub(super) struct KeeperShell<E: Env, A> {
    pub(super) env: E,
    pub(super) auth: A,
    pub(super) settings: Arc<Settings>,
    pub(super) inbox: mpsc::UnboundedReceiver<Command>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) shared: Arc<Mutex<Shared<E>>>,
    pub(super) sink: Sink,
    logins: LoginNumber,
    api_key: Option<ApiKey>,
    trunk: Option<Arc<Trunk<E>>>,
    /// Waits for the first connection of the present login.
    logging_in: Option<oneshot::Sender<Result<Account, LoginError>>>,
    exchanging: Option<BoxFuture<'static, (Exchange, Result<Issued, ExchangeError>)>>,
    /// What the latest exchange has brought.
    answer: Option<Issued>,
    newest: Option<(Generation, Issued)>,
    /// The dial whose outcome is wanted.
    dialling: Option<Dial>,
    candidate: Option<Candidate<ConnectionOf<E>>>,
    in_use: BTreeMap<ConnectionId, InUse<ConnectionOf<E>>>,
    links: u64,
    under_way: FuturesUnordered<BoxFuture<'static, Done<ConnectionOf<E>>>>,
    queue: VecDeque<KeeperEvent>,
    stopping: Vec<oneshot::Sender<()>>,
}

impl<E: Env, A: AuthService> KeeperShell<E, A> {
    pub(super) fn new(
        env: E,
        auth: A,
        settings: Arc<Settings>,
        (commands, inbox): (
            mpsc::UnboundedSender<Command>,
            mpsc::UnboundedReceiver<Command>,
        ),
        shared: Arc<Mutex<Shared<E>>>,
        sink: Sink,
    ) -> Self {
        Self {
            env,
            auth,
            settings,
            inbox,
            commands,
            shared,
            sink,
            logins: LoginNumber(0),
            api_key: None,
            trunk: None,
            logging_in: None,
            exchanging: None,
            answer: None,
            newest: None,
            dialling: None,
            candidate: None,
            in_use: BTreeMap::new(),
            links: 0,
            under_way: FuturesUnordered::new(),
            queue: VecDeque::from([KeeperEvent::Begun]),
            stopping: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let rng = self.env.rng("session");
        let Settings {
            refresh_margin,
            refresh_retry,
            ..
        } = *self.settings;
        let mut keeper = Keeper::new(refresh_margin, refresh_retry, rng);
        let env = self.env.clone();
        drive(env.clock(), &mut keeper, &mut self).await;
        self.end_login(LoginError::LoggedOut);
        self.tell(Happened::new(EventType::DaemonStop, Caller::DAEMON));
        self.inbox.close();
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Stop(stopped) = command {
                self.stopping.push(stopped);
            }
        }
        for stopped in self.stopping {
            let _gone = stopped.send(());
        }
    }

    fn command(&mut self, command: Command) -> Option<KeeperEvent> {
        let is_now = |login| {
            self.trunk
                .as_ref()
                .is_some_and(|trunk| trunk.login == login)
        };
        match command {
            Command::Login(api_key, done) => {
                self.end_login(LoginError::LoggedOut);
                self.logins.0 += 1;
                self.api_key = Some(api_key);
                self.logging_in = Some(done);
                let trunk = Arc::new(Trunk::new(
                    self.env.clone(),
                    Arc::clone(&self.settings),
                    self.logins,
                    self.commands.clone(),
                ));
                self.trunk = Some(Arc::clone(&trunk));
                let login = self.logins;
                self.share(|shared| {
                    shared.status.login = Some(login);
                    shared.trunk = Some(trunk);
                });
                Some(KeeperEvent::Login(login))
            }
            Command::Logout => {
                self.end_login(LoginError::LoggedOut);
                Some(KeeperEvent::Logout(Caller::LOGOUT))
            }
            Command::Force => Some(KeeperEvent::Force(Caller::OPERATION)),
            Command::IfDue => Some(KeeperEvent::Clock {
                wall: self.env.clock().wall(),
                is_asked: true,
            }),
            Command::Stop(stopped) => {
                self.stopping.push(stopped);
                self.end_login(LoginError::LoggedOut);
                Some(KeeperEvent::Logout(Caller::DAEMON))
            }
            Command::Failed(login, id, what) if is_now(login) => {
                Some(KeeperEvent::Swapper(SwapperEvent::Failed(id, what)))
            }
            Command::Failed(..) => None,
        }
    }

    /// Nothing of the present login is heard or said any more.
    fn end_login(&mut self, why: LoginError) {
        if let Some(trunk) = self.trunk.take() {
            trunk.close();
        }
        if let Some(waiting) = self.logging_in.take() {
            let _gone = waiting.send(Err(why));
        }
        (self.api_key, self.exchanging, self.answer, self.newest) = (None, None, None, None);
        self.share(|shared| {
            (shared.trunk, shared.issued) = (None, None);
            let generation = shared.status.generation;
            shared.status = Status {
                generation,
                ..Status::default()
            };
        });
    }

    fn share(&self, change: impl FnOnce(&mut Shared<E>)) {
        change(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn tell(&mut self, happened: Happened) {
        let event = happened.at(self.env.clock().wall());
        tracing::info!(event = %event.to_line(), "session");
        (self.sink)(&event);
    }

    fn exchange(&mut self, exchange: Exchange) {
        let Some(api_key) = self.api_key.clone() else {
            return;
        };
        let (auth, clock) = (self.auth.clone(), self.env.clock().clone());
        let deadline = clock.now() + self.settings.exchange_timeout;
        self.exchanging = Some(Box::pin(async move {
            let answer = before(
                auth.exchange(ExchangeRequest { api_key }),
                clock.sleep_until(deadline),
            );
            let answer = answer.await.unwrap_or(Err(ExchangeError::TimedOut));
            (exchange, answer)
        }));
    }

    fn exchanged(
        &mut self,
        exchange: Exchange,
        answer: Result<Issued, ExchangeError>,
    ) -> KeeperEvent {
        self.exchanging = None;
        let result = answer.map(|issued| {
            let expires = issued.expires();
            self.answer = Some(issued);
            expires
        });
        KeeperEvent::Exchanged(exchange, self.env.clock().wall(), result)
    }

    fn accepted(&mut self, generation: Generation) {
        let Some(issued) = self.answer.take() else {
            return;
        };
        let wall = self.env.clock().wall();
        let api_key = self.api_key.clone();
        self.share(|shared| {
            shared.issued = api_key.map(|key| (key, issued.clone()));
            shared.status.account = Some(issued.account().clone());
            shared.status.generation = generation;
            shared.status.jwt_exp = Some(issued.expires());
            shared.status.last_refresh_at = Some(wall);
        });
        self.newest = Some((generation, issued));
    }

    fn refused(&mut self, error: ExchangeError) {
        let is_definite = error.is_definite();
        self.share(|shared| shared.status.refresh_error = Some(error.clone()));
        if is_definite && let Some(waiting) = self.logging_in.take() {
            let _gone = waiting.send(Err(LoginError::Refused(error)));
        }
    }
}

impl<E: Env, A: AuthService> Shell<Keeper> for KeeperShell<E, A> {
    async fn next(&mut self) -> Option<KeeperEvent> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            if !self.stopping.is_empty() {
                return None;
            }
            let event = tokio::select! {
                biased;
                command = self.inbox.recv() => match command {
                    Some(command) => self.command(command),
                    None => return None,
                },
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => self.done(done),
                (exchange, answer) = answer_of(&mut self.exchanging) => {
                    Some(self.exchanged(exchange, answer))
                }
            };
            if event.is_some() {
                return event;
            }
        }
    }

    async fn perform(&mut self, effect: KeeperEffect) -> ControlFlow<()> {
        match effect {
            KeeperEffect::Exchange(exchange) => self.exchange(exchange),
            KeeperEffect::Accepted(_, generation) => self.accepted(generation),
            KeeperEffect::Refused(error) => self.refused(error),
            KeeperEffect::Swapper(effect) => self.swap(effect).await,
            KeeperEffect::LookAtClock => {
                let wall = self.env.clock().wall();
                self.queue.push_back(KeeperEvent::Clock {
                    wall,
                    is_asked: false,
                });
            }
            KeeperEffect::Tell(happened) => self.tell(happened),
        }
        ControlFlow::Continue(())
    }
}

/// What the exchange brings; for ever nothing where none is under way.
async fn answer_of<T>(exchanging: &mut Option<BoxFuture<'static, T>>) -> T {
    match exchanging {
        Some(exchange) => exchange.await,
        None => std::future::pending().await,
    }
}

/// What comes of `work`; `None` where `end` comes first.
async fn before<T>(
    work: impl Future<Output = T> + Send,
    end: impl Future<Output = ()> + Send,
) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = end => None,
    }
}
