//! Agents that live on sessions: what they are told is done to the session, and the role in it notices nothing.
//!
//! The session is the core's own, or a specimen that stands in for it. What comes of it goes into the history: what it was
//! issued, each connection that it made, and its log. The log, and who is logged in, also go to the agent's disk, and the
//! next life of the agent begins with that.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use squall_core::diagnostics::EventLog;
use squall_core::session::{
    Account, ApiKey, AuthService, Config, ExchangeError, ExchangeRequest, Issued, LoginError,
    SavedLogin, Session,
};
use squall_core::transport::Outcome;
use squall_core::{Clock, Env};
use tokio::sync::mpsc;

use super::actor::{Actor, Order};
use super::state_file::StateFile;
use crate::authority::{ACCOUNTS, Denied};
use crate::credentials::Exchange;
use crate::dials::DialsEnv;
use crate::history::{Call, Recorder, Reply, Tell, What};
use crate::recorded::RecordedEnv;
use crate::specimens;
use crate::specimens::simple_session::SimpleSession;
use crate::specimens::simple_transport::SimpleEnv;

/// How often it is looked whether a command has been taken.
const LOOK: Duration = Duration::from_millis(1);

/// What is done to a session from outside.
pub(crate) trait Lodging: Send + Sync + 'static {
    /// Its credential is to be exchanged, now.
    fn rotate(&self);
    /// Logs in, in the place of whoever was; over with the first connection, or when it is clear that there is none yet.
    fn log_in(&self, account: &'static str) -> BoxFuture<'_, Result<(), LoginError>>;
    /// Logs out.
    fn log_out(&self) -> BoxFuture<'_, ()>;
    /// Whether a login has been asked for, however far it has come, and no logout since.
    fn is_logged_in(&self) -> bool;
    /// Whether it was told that it is unknown, and so waits for a login.
    fn is_refused(&self) -> bool;
    /// Who is logged in, with what was issued last.
    fn issued(&self) -> Option<SavedLogin>;
    /// Ends.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Lives until told to close.
pub(super) async fn live<E: Env>(
    actor: Actor,
    env: E,
    config: Config,
    orders: mpsc::UnboundedReceiver<Order>,
) {
    let Some(exchange) = actor.exchange.clone() else {
        return;
    };
    let dials = DialsEnv::new(env, actor.process.clone(), actor.recorder.clone());
    if let Some(flaw) = actor.specimen.as_deref().and_then(specimens::flaw) {
        let who = (actor.process.clone(), actor.recorder.clone());
        let options = actor.options();
        let pace = (config.refresh_margin, config.refresh_retry);
        let session = SimpleSession::new(dials, who, exchange, options, pace, flaw);
        lodge(actor, SimpleEnv(session.clone()), session, orders).await;
        return;
    }
    let service = Service {
        exchange,
        process: actor.process.clone(),
        recorder: actor.recorder.clone(),
    };
    let config = Config {
        connect: actor.options(),
        ..config
    };
    let (teller, log) = (actor.clone(), event_log(&actor));
    let opened = Session::open(&dials, service, config, move |event| {
        let event = event.clone();
        // What the disk does not take stays in memory, and the next life does not know of it.
        if let Err(error) = log.record(event.clone()) {
            tracing::warn!(%error, "an event is missing on disk");
        }
        let event = Box::new(event);
        teller.tell(Tell::Logged { event });
    });
    match opened {
        Ok(session) => {
            lodge(
                actor,
                session.env(),
                Right {
                    session,
                    env: dials,
                },
                orders,
            )
            .await
        }
        Err(error) => actor.recorder.record(What::Panicked {
            message: error.to_string(),
        }),
    }
}

/// The log of the lives before, or a new one where that cannot be read.
fn event_log(actor: &Actor) -> EventLog {
    let opened = actor.files.clone().map(EventLog::open);
    match opened {
        Some(Ok((log, broken))) => {
            tracing::debug!(broken = broken.len(), "the log goes on");
            log
        }
        Some(Err(error)) => {
            tracing::warn!(%error, "the log of events begins anew, in memory");
            EventLog::in_memory()
        }
        None => EventLog::in_memory(),
    }
}

async fn lodge<E: Env>(
    actor: Actor,
    env: E,
    lodging: impl Lodging,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let lodging: Arc<dyn Lodging> = Arc::new(lodging);
    let (to_role, inbox) = mpsc::unbounded_channel();
    let files = actor.files.clone();
    let mut file = files.map(|files| StateFile::new(actor.clone(), files));
    // Where nobody is logged in, somebody logs in.
    let known = file.as_mut().and_then(StateFile::account);
    let first = known.unwrap_or(ACCOUNTS[0]);
    let mut logins = vec![env.spawn("login", log_in(actor.clone(), Arc::clone(&lodging), first))];
    let recorded = RecordedEnv::new(env.clone(), actor.process.clone(), actor.recorder.clone());
    let (ended, mut end) = mpsc::unbounded_channel::<()>();
    let role = actor.clone();
    let (clock, logs_in) = (env.clock().clone(), Arc::clone(&lodging));
    let lives = env.spawn("role", async move {
        // A machine that is busy may take its time to ask for the login.
        loop {
            clock.sleep_until(clock.now() + LOOK).await;
            if logs_in.is_logged_in() || !inbox.is_empty() {
                break;
            }
        }
        super::play(role, recorded, inbox).await;
        drop(ended);
    });
    let mut is_closing = false;
    let clock = env.clock();
    let mut look = clock.now();
    loop {
        let order = tokio::select! {
            biased;
            order = orders.recv(), if !is_closing => order,
            _ended = end.recv() => break,
            () = clock.sleep_until(look), if file.is_some() && !is_closing => {
                look = clock.now() + actor.plan.interval;
                if let Some(file) = &mut file {
                    match lodging.issued() {
                        Some(issued) => file.save(Some(issued)),
                        None => file.catch_up(),
                    }
                    if file.reload() {
                        log_out(&actor, &*lodging).await;
                    }
                }
                continue;
            }
        };
        match order {
            Some(Order::Rotate) => lodging.rotate(),
            Some(Order::LogOut) => {
                log_out(&actor, &*lodging).await;
                if let Some(file) = &mut file {
                    file.save(None);
                }
            }
            Some(Order::LogIn { account }) => {
                let logs_in = log_in(actor.clone(), Arc::clone(&lodging), account);
                logins.push(env.spawn("login", logs_in));
            }
            Some(Order::LogInIfRefused) if lodging.is_refused() => {
                let logs_in = log_in(actor.clone(), Arc::clone(&lodging), ACCOUNTS[0]);
                logins.push(env.spawn("login", logs_in));
            }
            Some(Order::LogInIfRefused) => {}
            // However the orders end, it is time to close.
            Some(Order::Close) | None => {
                is_closing = true;
                // The role may have ended by itself.
                let _ended = to_role.send(Order::Close);
            }
        }
    }
    drop((lives, logins));
    lodging.close().await;
}

async fn log_out(actor: &Actor, lodging: &dyn Lodging) {
    let id = actor.recorder.invoke(&actor.process, Call::LogOut);
    actor.note(|standing| standing.account = None);
    lodging.log_out().await;
    actor.recorder.ended(id, Ok(Reply::Done));
}

async fn log_in(actor: Actor, lodging: Arc<dyn Lodging>, account: &'static str) {
    let call = Call::LogIn {
        account: account.into(),
    };
    let id = actor.recorder.invoke(&actor.process, call);
    actor.note(|standing| standing.account = None);
    let done = lodging.log_in(account).await;
    // One that goes on trying is logged in all the same.
    if matches!(done, Ok(()) | Err(LoginError::StillTrying)) {
        actor.note(|standing| standing.account = Some(account));
    }
    let ended = match done {
        Ok(()) => Ok(Reply::Done),
        Err(error) => Err((Outcome::Unknown, error.to_string())),
    };
    actor.recorder.ended(id, ended);
}

/// The core's own.
struct Right<E: Env> {
    session: Session<E>,
    env: E,
}

impl<E: Env> Lodging for Right<E> {
    fn rotate(&self) {
        self.session.force_refresh();
    }

    fn log_in(&self, account: &'static str) -> BoxFuture<'_, Result<(), LoginError>> {
        Box::pin(async move { self.session.login(ApiKey::new(account)).await.map(drop) })
    }

    fn log_out(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.session.logout();
            let clock = self.env.clock();
            while self.session.status().login.is_some() {
                clock.sleep_until(clock.now() + LOOK).await;
            }
        })
    }

    fn is_logged_in(&self) -> bool {
        self.session.status().login.is_some()
    }

    fn is_refused(&self) -> bool {
        let error = self.session.status().refresh_error;
        error.is_some_and(|error| error.is_definite())
    }

    fn issued(&self) -> Option<SavedLogin> {
        let (key, issued) = self.session.issued()?;
        Some(SavedLogin::new("auth", &key, &issued))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.session.stop())
    }
}

/// The auth service as a session meets it; what is asked and answered goes into the history.
#[derive(Clone)]
struct Service {
    exchange: Exchange,
    process: Arc<str>,
    recorder: Recorder,
}

impl AuthService for Service {
    async fn exchange(&self, request: ExchangeRequest) -> Result<Issued, ExchangeError> {
        let account: Arc<str> = request.api_key.reveal().into();
        let call = Call::Exchange {
            account: account.clone(),
        };
        let id = self.recorder.invoke(&self.process, call);
        let answer = (self.exchange)(&account).await;
        self.recorder.ended(id, crate::credentials::told(&answer));
        match answer {
            Ok(credentials) => {
                let name = account.clone();
                Issued::new(Account { id: account, name }, credentials)
            }
            Err(Denied::Unauthorized) => Err(ExchangeError::Unauthorized("unknown".into())),
            Err(Denied::Unavailable) => Err(ExchangeError::Status(503)),
        }
    }
}
