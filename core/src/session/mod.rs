//! Keeps one account logged in over short-lived user JWTs, after the `daemon` package of ppz.
//!
//! ```text
//!   rooms ── SessionEnv ── SessionConnection ─┐           Session ── commands ─┐
//!                                             ▼                                ▼
//!                                    trunk: who is current ◀─ install ── shell of the Keeper
//!                                             │                         Refresher: when a credential is asked for
//!            watches and readers: a Splice ◀──┤ offers                  Swapper:   which connection is current
//!            subscriptions: an Overlap     ◀──┘                         watchdog:  has the machine slept
//! ```
//!
//! On every new credential one new connection is dialled while the old one is still good; whatever listens moves over;
//! then a round trip; then the new one is current, and the old one is closed when nobody uses it any more. A room that runs
//! on a [`SessionEnv`] sees nothing of this.

mod auth;
mod bucket;
mod config;
mod connection;
mod happened;
mod keeper;
mod line;
mod link_error;
mod login_file;
mod overlap;
mod pull;
mod refresher;
mod relay;
mod shell;
mod source;
mod splice;
mod status;
mod stream;
mod subscription;
mod swapper;
mod transport;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

pub use self::auth::{Account, ApiKey, AuthService, ExchangeError, ExchangeRequest, Issued};
pub use self::bucket::SessionBucket;
pub use self::config::{Config, ConfigError};
pub use self::connection::SessionConnection;
pub use self::happened::Happened;
pub use self::keeper::{Keeper, KeeperEffect, KeeperEvent};
pub use self::login_file::{LOGIN_FILE, LoginFile, ReloadError, SavedLogin};
pub use self::refresher::{
    Exchange, Generation, LoginNumber, Refresher, RefresherEffect, RefresherEvent,
};
pub use self::status::{LoginError, Status};
pub use self::stream::{SessionConsumer, SessionStream};
pub use self::swapper::{Dial, Swapper, SwapperEffect, SwapperEvent};
pub use self::transport::{SessionEnv, SessionTransport};

use self::config::Settings;
use self::line::Line;
use self::shell::{Command, KeeperShell, Shared};
use crate::diagnostics::NatsEvent;
use crate::env::{Env, Task};
use crate::time::Clock;

/// One account, logged in for as long as it takes. Dropping it ends everything at once and tells nobody.
pub struct Session<E: Env> {
    handle: Arc<Handle<E>>,
    settings: Arc<Settings>,
    _keeper: Task,
}

/// What rooms hold of a session.
struct Handle<E: Env> {
    env: E,
    shared: Arc<Mutex<Shared<E>>>,
    commands: mpsc::UnboundedSender<Command>,
}

impl<E: Env> Handle<E> {
    fn connection(&self) -> Option<SessionConnection<E>> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let trunk = shared.trunk.as_ref()?;
        Some(SessionConnection::new(Arc::new(Line::new(trunk))))
    }
}

impl<E: Env> fmt::Debug for Session<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({:?})", self.status())
    }
}

impl<E: Env> Session<E> {
    /// Begins, with nobody logged in. `events` is told of every transition, in order.
    ///
    /// # Errors
    /// If the configuration cannot be.
    pub fn open<A: AuthService>(
        env: &E,
        auth: A,
        config: Config,
        events: impl FnMut(&NatsEvent) + Send + 'static,
    ) -> Result<Self, ConfigError> {
        let settings = Arc::new(Settings::try_from(config)?);
        let shared = Arc::new(Mutex::new(Shared {
            trunk: None,
            issued: None,
            status: Status::default(),
        }));
        let (commands, inbox) = mpsc::unbounded_channel();
        let shell = KeeperShell::new(
            env.clone(),
            auth,
            Arc::clone(&settings),
            (commands.clone(), inbox),
            Arc::clone(&shared),
            Box::new(events),
        );
        let keeper = env.spawn("session keeper", shell.run());
        let handle = Arc::new(Handle {
            env: env.clone(),
            shared,
            commands,
        });
        Ok(Self {
            handle,
            settings,
            _keeper: keeper,
        })
    }

    /// Logs in, in the place of whoever was: at once nothing of the account before is heard or said any more. Returns
    /// with the first connection.
    ///
    /// # Errors
    /// See [`LoginError`]. After [`StillTrying`](LoginError::StillTrying) the login goes on.
    pub async fn login(&self, api_key: ApiKey) -> Result<Account, LoginError> {
        let (done, account) = oneshot::channel();
        self.command(Command::Login(api_key, done))
            .map_err(|_stopped| LoginError::Stopped)?;
        let clock = self.handle.env.clock();
        let deadline = clock.now() + self.settings.login_timeout;
        tokio::select! {
            biased;
            account = account => account.unwrap_or(Err(LoginError::Stopped)),
            () = clock.sleep_until(deadline) => Err(LoginError::StillTrying),
        }
    }

    /// Logs out: connections are closed, a refresh that is under way is dropped. Idempotent.
    pub fn logout(&self) {
        // Where the session is stopped, nobody is logged in.
        let _stopped = self.command(Command::Logout);
    }

    /// Has another credential now, because access has changed.
    pub fn force_refresh(&self) {
        let _stopped = self.command(Command::Force);
    }

    /// Has another credential now if by the wall clock it is time: for whoever knows that the machine has slept.
    pub fn refresh_now_if_due(&self) {
        let _stopped = self.command(Command::IfDue);
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let shared = &self.handle.shared;
        let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.status.clone()
    }

    /// What the present login was made with, and what it was issued last: for whoever keeps it on disk.
    pub fn issued(&self) -> Option<(ApiKey, Issued)> {
        let shared = &self.handle.shared;
        let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.issued.clone()
    }

    /// A connection of the present login, the caller's own: to close it ends what was begun on it, and nothing else. `None`
    /// where nobody is logged in.
    pub fn connection(&self) -> Option<SessionConnection<E>> {
        self.handle.connection()
    }

    /// The surroundings of rooms that run on this session.
    pub fn env(&self) -> SessionEnv<E> {
        SessionEnv::new(self.handle.env.clone(), Arc::clone(&self.handle))
    }

    /// Logs out and ends. Idempotent.
    pub async fn stop(&self) {
        let (stopped, end) = oneshot::channel();
        if self.command(Command::Stop(stopped)).is_ok() {
            // An error means that the task is gone, and that is stopped too.
            let _gone = end.await;
        }
    }

    fn command(&self, command: Command) -> Result<(), mpsc::error::SendError<Command>> {
        self.handle.commands.send(command)
    }
}
