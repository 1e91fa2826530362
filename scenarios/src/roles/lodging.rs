//! Agents that live on sessions: what they are told is done to the session, and the role in it notices nothing.
//!
//! The session is the core's own, or a specimen that stands in for it. What comes of it goes into the history: what it was
//! issued, each connection that it made, and its log.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use squall_core::session::{
    Account, ApiKey, AuthService, Config, ExchangeError, ExchangeRequest, Issued, LoginError,
    Session,
};
use squall_core::transport::Outcome;
use squall_core::{Clock, Env};
use tokio::sync::mpsc;

use super::actor::{Actor, Order};
use crate::authority::{ACCOUNTS, Denied};
use crate::credentials::Exchange;
use crate::dials::DialsEnv;
use crate::history::{Call, Recorder, Reply, Tell, What};
use crate::plan::AuthPlan;
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
    /// Whether it was told that it is unknown, and so waits for a login.
    fn is_refused(&self) -> bool;
    /// Ends.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Lives until told to close.
pub(super) async fn live<E: Env>(
    actor: Actor,
    env: E,
    auth: AuthPlan,
    orders: mpsc::UnboundedReceiver<Order>,
) {
    let Some(exchange) = actor.exchange.clone() else {
        return;
    };
    let dials = DialsEnv::new(env, actor.process.clone(), actor.recorder.clone());
    if let Some(flaw) = actor.specimen.as_deref().and_then(specimens::flaw) {
        let who = (actor.process.clone(), actor.recorder.clone());
        let options = actor.options();
        let session = SimpleSession::new(dials, who, exchange, options, auth.life, flaw);
        lodge(actor, SimpleEnv(session.clone()), session, orders).await;
        return;
    }
    let service = Service {
        exchange,
        process: actor.process.clone(),
        recorder: actor.recorder.clone(),
    };
    // The figures that belong to a life of five minutes, for any other.
    let config = Config {
        connect: actor.options(),
        refresh_margin: auth.life / 10,
        refresh_retry: auth.life / 60,
        exchange_timeout: auth.life / 30,
        ..Config::default()
    };
    let log = actor.clone();
    let opened = Session::open(&dials, service, config, move |event| {
        let event = Box::new(event.clone());
        log.tell(Tell::Logged { event });
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

async fn lodge<E: Env>(
    actor: Actor,
    env: E,
    lodging: impl Lodging,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let lodging: Arc<dyn Lodging> = Arc::new(lodging);
    let (to_role, inbox) = mpsc::unbounded_channel();
    let mut logins = vec![env.spawn(
        "login",
        log_in(actor.clone(), Arc::clone(&lodging), ACCOUNTS[0]),
    )];
    let recorded = RecordedEnv::new(env.clone(), actor.process.clone(), actor.recorder.clone());
    let (ended, mut end) = mpsc::unbounded_channel::<()>();
    let role = actor.clone();
    let clock = env.clock().clone();
    let lives = env.spawn("role", async move {
        // The login has been asked for by then.
        clock.sleep_until(clock.now() + LOOK).await;
        super::play(role, recorded, inbox).await;
        drop(ended);
    });
    let mut is_closing = false;
    loop {
        let order = tokio::select! {
            biased;
            order = orders.recv(), if !is_closing => order,
            _ended = end.recv() => break,
        };
        match order {
            Some(Order::Rotate) => lodging.rotate(),
            Some(Order::LogOut) => {
                let id = actor.recorder.invoke(&actor.process, Call::LogOut);
                actor.note(|standing| standing.account = None);
                lodging.log_out().await;
                actor.recorder.ended(id, Ok(Reply::Done));
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

    fn is_refused(&self) -> bool {
        let error = self.session.status().refresh_error;
        error.is_some_and(|error| error.is_definite())
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
