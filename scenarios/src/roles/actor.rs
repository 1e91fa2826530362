//! [`Actor`]: one life of an agent, whatever its role: what it is told, and how it tells the history.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use squall_core::files::Files;
use squall_core::transport::{ConnectOptions, ConnectionEvent, Events, Fallible};
use squall_core::{Clock, Env, Transport};

use super::{chat, lock, presence, state, user};
use crate::credentials::Exchange;
use crate::history::{Call, Recorder, Reply, Tell, What};
use crate::plan::AgentPlan;
use crate::variant::ConnectionOf;

/// What failed is tried again after so long.
const RETRY: Duration = Duration::from_millis(500);

/// What the runner tells an agent.
#[derive(Debug)]
pub(crate) enum Order {
    /// Close, and end.
    Close,
    /// Exchange the credential for another, now.
    Rotate,
    /// Log out.
    LogOut,
    /// Log in, to another account perhaps.
    LogIn {
        /// Which.
        account: &'static str,
    },
    /// Log in again, where the auth service had said that it knows nobody.
    LogInIfRefused,
}

/// What every process has been told last: what the second act compares with what is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board {
    all: Arc<Mutex<BTreeMap<Arc<str>, Standing>>>,
    is_mended: Arc<AtomicBool>,
}

/// What one process has been told last: what is of its role, and whether it is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) ended: bool,
    /// Where it is logged in, if anywhere.
    pub(super) account: Option<&'static str>,
    pub(super) lock: lock::Standing,
    pub(super) state: state::Standing,
    pub(super) user: user::Standing,
    pub(super) presence: presence::Standing,
    pub(super) chat: chat::Standing,
}

impl Board {
    pub(crate) fn all(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Standing>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on everything is mended.
    pub(crate) fn mend(&self) {
        self.is_mended.store(true, Ordering::Relaxed);
    }

    /// Whether everything is.
    pub(crate) fn is_mended(&self) -> bool {
        self.is_mended.load(Ordering::Relaxed)
    }
}

/// See the head of this file.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) plan: AgentPlan,
    pub(crate) process: Arc<str>,
    pub(crate) servers: Vec<String>,
    /// How it gets credentials, where servers ask for any.
    pub(crate) exchange: Option<Exchange>,
    /// Its disk, where it has one.
    pub(crate) files: Option<Arc<dyn Files>>,
    pub(crate) specimen: Option<String>,
    /// On how many servers what it makes is kept.
    pub(crate) replicas: u8,
    pub(crate) recorder: Recorder,
    pub(crate) board: Board,
}

impl Actor {
    /// How it connects. Links must be found dead on the scale of its pace, not of the minutes that are the default.
    pub(super) fn options(&self) -> ConnectOptions {
        let right = ConnectOptions::default();
        let scaled = (self.plan.interval * 2).max(Duration::from_millis(500));
        ConnectOptions {
            name: self.process.to_string(),
            servers: self.servers.clone(),
            ping_interval: scaled.min(right.ping_interval),
            watch_heartbeat: scaled.min(right.watch_heartbeat),
            reconnects_max: self.plan.reconnects_max.and_then(NonZeroU32::new),
            ..right
        }
    }

    /// Connects, however often it has to try.
    pub(super) async fn connect<E: Env>(&self, env: &E) -> ConnectionOf<E> {
        let options = self.options();
        loop {
            if let Ok(connection) = env.transport().connect(options.clone()).await {
                return connection;
            }
            self.wait(env).await;
        }
    }

    /// Tells what becomes of a connection.
    pub(super) async fn attend(self, mut events: Events) {
        while let Some(event) = events.next().await {
            self.tell(Tell::Connection {
                event: event.to_string(),
            });
        }
    }

    /// What it has been told last.
    pub(super) fn standing(&self) -> Standing {
        let all = self.board.all();
        all.get(&self.process).cloned().unwrap_or_default()
    }

    /// Where it is logged in, if anywhere.
    pub(super) fn account(&self) -> Option<&'static str> {
        self.board.all().get(&self.process)?.account
    }

    /// Ready once a connection is over where that is no accident: a session's, when another login has come.
    pub(super) async fn over(&self, mut events: Events) {
        while let Some(event) = events.next().await {
            if event == ConnectionEvent::Closed && self.exchange.is_some() {
                return;
            }
        }
        if self.exchange.is_none() {
            std::future::pending().await
        }
    }

    /// Until what has failed may be tried again.
    pub(super) async fn wait<E: Env>(&self, env: &E) {
        env.clock().sleep_until(env.clock().now() + RETRY).await;
    }

    pub(super) fn name(&self) -> Arc<str> {
        self.plan.name.as_str().into()
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Standing)) {
        change(self.board.all().entry(self.process.clone()).or_default());
    }

    pub(super) fn tell(&self, tell: Tell) {
        self.recorder.record(What::Told {
            process: self.process.clone(),
            tell,
        });
    }

    pub(super) async fn call<T, E: Fallible + ToString>(
        &self,
        call: Call,
        doing: impl Future<Output = Result<T, E>> + Send,
        reply: impl FnOnce(&T) -> Reply,
    ) -> Option<T> {
        let id = self.recorder.invoke(&self.process, call);
        let result = doing.await;
        let ended = match &result {
            Ok(value) => Ok(reply(value)),
            Err(error) => Err((error.outcome(), error.to_string())),
        };
        self.recorder.ended(id, ended);
        result.ok()
    }
}
