//! Connecting, and the leash on a client that reconnects.
//!
//! A client of async-nats that is failing cannot be stopped from outside: dropped or drained it dials on, and one day
//! it connects as a ghost. But it asks its callbacks before every attempt. So the waiting between attempts is
//! done here, in the callback, where closing ends it at once; and a closed client's task is unwound from there, which
//! tokio confines to that task. The guard that the callback holds drops with the task and tells the end.
//!
//! Credentials are read from their cell in another callback, at each attempt. It only reads and signs: a server that
//! waits two seconds for them hangs up.

use std::error::Error as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::{Auth, AuthError, ConnectErrorKind, ReconnectToServer, Server, ServerAddr};

use super::connection::NatsConnection;
use super::link::{Link, Shared, server_words};
use super::nkey::Nkey;
use super::reconnect_delay;
use crate::jwt::KeyPair as _;
use crate::transport::{
    ConnectError, ConnectOptions, ConnectionId, Credentials, Transport, is_auth_error,
};

/// The way to real servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NatsTransport(());

/// Messages that wait between async-nats and the tasks here.
const CLIENT_CAPACITY: usize = 65_536;

/// Connections of this process so far.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

impl NatsTransport {
    /// The way to real servers.
    pub fn new() -> Self {
        Self(())
    }
}

impl Transport for NatsTransport {
    type Connection = NatsConnection;

    async fn connect(&self, options: ConnectOptions) -> Result<NatsConnection, ConnectError> {
        let servers = servers(&options)?;
        let id = ConnectionId(CONNECTIONS.fetch_add(1, Ordering::Relaxed) + 1);
        let shared = Arc::new(Shared::new(id, options));
        let client = client_options(&shared)
            .connect(servers.as_slice())
            .await
            .map_err(|error| connect_error(&error))?;
        shared.establish(client);
        Ok(NatsConnection::new(shared))
    }
}

fn servers(options: &ConnectOptions) -> Result<Vec<ServerAddr>, ConnectError> {
    if options.servers.is_empty() {
        return Err(ConnectError::InvalidAddress(String::new()));
    }
    let parse = |server: &String| {
        server
            .parse()
            .map_err(|_| ConnectError::InvalidAddress(server.clone()))
    };
    options.servers.iter().map(parse).collect()
}

fn client_options(shared: &Arc<Shared>) -> async_nats::ConnectOptions {
    let leash = Arc::new(Leash {
        shared: Arc::clone(shared),
        attempts: Mutex::default(),
    });
    let (for_events, for_auth) = (Arc::clone(shared), Arc::clone(shared));
    let options = &shared.options;
    let client = async_nats::ConnectOptions::with_auth_callback(move |nonce| {
        let shared = Arc::clone(&for_auth);
        async move {
            if shared.link().closed {
                end_this_task().await;
            }
            match shared.log_in() {
                Some(credentials) => sign(&credentials, &nonce),
                None => Ok(Auth::new()),
            }
        }
    })
    .connection_timeout(options.connect_timeout)
    .ping_interval(options.ping_interval)
    // Its queues are emptied at once into ours, which have the capacity that was asked for and say what they drop.
    .subscription_capacity(options.subscription_capacity.max(CLIENT_CAPACITY))
    // Timeouts are ours, around every operation.
    .request_timeout(None)
    .retain_servers_order()
    // The caller named the servers: one that a cluster gossips may lie behind another link than the one meant.
    .ignore_discovered_servers()
    .event_callback(move |event| {
        let shared = Arc::clone(&for_events);
        async move { shared.on_event(&event) }
    })
    .reconnect_to_server_callback(move |pool, _info| Arc::clone(&leash).next_server(pool));
    match &*options.name {
        "" => client,
        name => client.name(name),
    }
}

/// Proves that the seed is that of the token's user.
fn sign(credentials: &Credentials, nonce: &[u8]) -> Result<Auth, AuthError> {
    let key = Nkey::from_seed(credentials.seed()).map_err(AuthError::new)?;
    let mut auth = Auth::new();
    auth.jwt = Some(credentials.jwt().to_string());
    auth.signature = Some(key.sign(nonce));
    Ok(auth)
}

/// Lives in the client's own task, and goes with it.
struct Leash {
    shared: Arc<Shared>,
    attempts: Mutex<Attempts>,
}

/// Attempts since the last success.
#[derive(Default)]
struct Attempts {
    connects: u64,
    made: u32,
    server: Option<ServerAddr>,
}

impl Leash {
    /// Where to dial next, once it is time; `None` before the first connect, for which async-nats tries all in order.
    async fn next_server(self: Arc<Self>, pool: Vec<Server>) -> Option<ReconnectToServer> {
        let shared = &self.shared;
        let connects = shared.connects()?;
        let (attempt, failure) = self.count(connects, &pool);
        if attempt == 1 {
            // Lets the event of the disconnect be told first, and that of the connect before it: the server's last words
            // are before it in the queue.
            let is_told = |link: &Link| !link.up && link.generation + 1 >= connects;
            let lag = tokio::time::sleep(EVENT_LAG);
            shared.until(is_told, lag).await;
            shared.down();
        }
        if let Some(text) = failure {
            shared.on_failed_attempt(&text);
        }
        if let Some(max) = shared.options.reconnects_max
            && attempt > max.get()
        {
            shared.close();
        }
        shared
            .until_closed(tokio::time::sleep(reconnect_delay(attempt)))
            .await;
        if shared.link().closed {
            end_this_task().await;
        }
        // The one with the fewest failures in a row; of several, the first.
        let server = pool
            .into_iter()
            .min_by_key(|server| server.failed_attempts)?;
        self.attempts().server = Some(server.addr.clone());
        Some(ReconnectToServer {
            addr: server.addr,
            delay: Some(std::time::Duration::ZERO),
        })
    }

    /// The number of this attempt, and why the one before it failed.
    fn count(&self, connects: u64, pool: &[Server]) -> (u32, Option<String>) {
        let mut attempts = self.attempts();
        if attempts.connects != connects {
            *attempts = Attempts {
                connects,
                ..Attempts::default()
            };
        }
        attempts.made = attempts.made.saturating_add(1);
        let failure = pool
            .iter()
            .find(|server| Some(&server.addr) == attempts.server.as_ref())
            .and_then(|server| server.last_error.clone());
        (attempts.made, failure)
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.shared.ended();
    }
}

/// Longer than async-nats's queue of events ever waits on a machine that is not overloaded.
const EVENT_LAG: std::time::Duration = std::time::Duration::from_millis(20);

/// Ends the client's task: it unwinds, without a panic message, as far as tokio's task boundary. Where panics abort
/// there is no boundary, and the task sleeps for ever instead.
async fn end_this_task() {
    if cfg!(panic = "unwind") {
        std::panic::resume_unwind(Box::new("the connection is closed"));
    }
    std::future::pending().await
}

fn connect_error(error: &async_nats::ConnectError) -> ConnectError {
    let text = error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string);
    match error.kind() {
        ConnectErrorKind::ServerParse => ConnectError::InvalidAddress(text),
        ConnectErrorKind::TimedOut => ConnectError::TimedOut,
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            ConnectError::Auth(server_words(&text).into())
        }
        _ if is_auth_error(server_words(&text)) => ConnectError::Auth(server_words(&text).into()),
        _ => ConnectError::Unreachable(server_words(&text).into()),
    }
}
