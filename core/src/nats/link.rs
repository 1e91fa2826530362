//! What has been told of one connection, and its end.
//!
//! Truth comes from three sources, because none of async-nats's alone is whole: its events (in order, but dropped when
//! 128 wait), its callbacks (called before every attempt, never dropped) and its counters (always right, but silent).
//! Events and callbacks are told as they come; a look at the counters every 100 ms tells what was dropped. The end
//! is told by a guard inside the client's own task: it drops with the task, whatever ends it.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_nats::{Client, Event, ServerError, Statistics};
use tokio::sync::watch;

use crate::transport::{
    ConnectOptions, ConnectionEvent, ConnectionId, ConnectionState, Credentials, DisconnectCause,
    Events, EventsSender, Login,
};

/// How long a server's last words explain the disconnect that follows.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// How often the counters are looked at.
const RECONCILE: Duration = Duration::from_millis(100);

/// What all that belongs to one connection shares.
pub(super) struct Shared {
    pub(super) id: ConnectionId,
    pub(super) options: ConnectOptions,
    client: RwLock<Option<Arc<Client>>>,
    counters: OnceLock<Arc<Statistics>>,
    link: watch::Sender<Link>,
    told: Mutex<Told>,
}

/// The link as it was last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Connected now.
    pub(super) up: bool,
    /// How often it has been connected again: another number means another link.
    pub(super) generation: u64,
    /// Closed for its owner.
    pub(super) closed: bool,
    /// The client's own task is gone.
    pub(super) ended: bool,
}

struct Told {
    events: EventsSender,
    last_words: Option<(Arc<str>, Instant)>,
    login: Option<Login>,
    at: Instant,
}

impl Shared {
    pub(super) fn new(id: ConnectionId, options: ConnectOptions) -> Self {
        let link = Link {
            up: true,
            generation: 0,
            closed: false,
            ended: false,
        };
        let told = Told {
            events: EventsSender::default(),
            last_words: None,
            login: None,
            at: Instant::now(),
        };
        Self {
            id,
            options,
            client: RwLock::default(),
            counters: OnceLock::new(),
            link: watch::Sender::new(link),
            told: Mutex::new(told),
        }
    }

    /// From here on the client is connected and may be used.
    pub(super) fn establish(self: &Arc<Self>, client: Client) {
        // Cannot be set already: there is one client for each `Shared`.
        let _ = self.counters.set(client.statistics());
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(client));
        if self.link().closed {
            self.take_client();
        }
        tokio::spawn(Arc::clone(self).reconcile());
    }

    /// How often the client has connected; `None` before it was established.
    pub(super) fn connects(&self) -> Option<u64> {
        self.counters
            .get()
            .map(|counters| counters.connects.load(Ordering::Relaxed))
    }

    /// The client; `None` once it is draining or closed.
    pub(super) fn client(&self) -> Option<Arc<Client>> {
        self.client
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The client, for the last time.
    pub(super) fn take_client(&self) -> Option<Arc<Client>> {
        self.client
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    pub(super) fn link(&self) -> Link {
        *self.link.borrow()
    }

    /// The link from now on.
    pub(super) fn link_changes(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    pub(super) fn state(&self) -> ConnectionState {
        match self.link() {
            Link { closed: true, .. } => ConnectionState::Closed,
            Link { up: true, .. } => ConnectionState::Connected,
            _ => ConnectionState::Disconnected,
        }
    }

    /// A listener; of a closed connection it hears just that.
    pub(super) fn listen(&self) -> Events {
        let mut told = self.told();
        let events = told.events.listen();
        if self.link().closed {
            told.events.send(&ConnectionEvent::Closed);
        }
        events
    }

    /// What `operation` gives, or `None` once the connection is closed.
    pub(super) async fn until_closed<F: Future>(&self, operation: F) -> Option<F::Output> {
        self.until(|link| link.closed, operation).await
    }

    /// What `operation` gives, or `None` once the link is as `over` says.
    pub(super) async fn until<F: Future>(
        &self,
        over: impl FnMut(&Link) -> bool,
        operation: F,
    ) -> Option<F::Output> {
        let mut link = self.link_changes();
        tokio::select! {
            biased;
            output = operation => Some(output),
            _ = link.wait_for(over) => None,
        }
    }

    /// Tells what async-nats says.
    pub(super) fn on_event(&self, event: &Event) {
        match event {
            Event::Connected => self.up(),
            Event::Disconnected => self.down(),
            Event::LameDuckMode => self.tell(ConnectionEvent::LameDuck),
            Event::SlowConsumer(_) => self.tell(ConnectionEvent::SlowConsumer),
            Event::ServerError(ServerError::AuthorizationViolation) => {
                self.on_server_error("Authorization Violation");
            }
            Event::ServerError(ServerError::Other(text)) => self.on_server_error(text),
            // A slow consumer comes as its own event; failed attempts and the end are told by the callbacks,
            // which know the true texts and are never dropped.
            Event::ServerError(ServerError::SlowConsumer(_))
            | Event::ClientError(_)
            | Event::Draining
            | Event::Closed => {}
        }
    }

    fn on_server_error(&self, text: &str) {
        let text: Arc<str> = text.into();
        if DisconnectCause::may_be(&text) {
            self.told().last_words = Some((Arc::clone(&text), Instant::now()));
        }
        self.tell(ConnectionEvent::of_server_error(text));
    }

    /// An attempt to reconnect has failed with this text of async-nats.
    pub(super) fn on_failed_attempt(&self, text: &str) {
        self.down();
        self.tell(ConnectionEvent::of_failed_attempt(
            server_words(text).into(),
        ));
    }

    /// The link is gone; nothing to tell if that was told already.
    pub(super) fn down(&self) {
        let mut told = self.told();
        let cause = match told.last_words.take() {
            Some((text, at)) if at.elapsed() < LAST_WORDS => DisconnectCause::ServerError(text),
            _ => DisconnectCause::Lost,
        };
        if self.change(|link| link.up, |link| link.up = false) {
            told.send(&ConnectionEvent::Disconnected(cause));
        }
    }

    /// The link is back; nothing to tell if that was told already.
    fn up(&self) {
        let mut told = self.told();
        let changed = self.change(
            |link| !link.up,
            |link| {
                link.up = true;
                link.generation += 1;
            },
        );
        if changed {
            told.send(&ConnectionEvent::Reconnected);
        }
    }

    /// An attempt to connect reads what it logs in with, and that is told.
    pub(super) fn log_in(&self) -> Option<Credentials> {
        let (login, credentials) = self.options.credentials.as_ref()?.read();
        let mut told = self.told();
        told.login = Some(login);
        // Before the first connect nobody listens.
        if !self.link().closed {
            told.send(&ConnectionEvent::LoggingIn(login));
        }
        credentials
    }

    /// What the latest attempt logged in with.
    pub(super) fn login(&self) -> Option<Login> {
        self.told().login
    }

    /// Tells something that leaves the link as it is.
    pub(super) fn tell(&self, event: ConnectionEvent) {
        let mut told = self.told();
        if !self.link().closed {
            told.send(&event);
        }
    }

    /// Closed: told once and at once. The client goes with its last user; see [`super::dial`] for one that is failing.
    pub(super) fn close(&self) {
        {
            let mut told = self.told();
            if self.change(|_| true, |link| link.closed = true) {
                told.send(&ConnectionEvent::Closed);
            }
        }
        drop(self.take_client());
    }

    /// The client's task is gone.
    pub(super) fn ended(&self) {
        self.link.send_modify(|link| link.ended = true);
        self.close();
    }

    /// Changes the link if it is open and as `when` says. Called with `told` locked, so that changes and events have
    /// one order.
    fn change(&self, when: impl FnOnce(&Link) -> bool, change: impl FnOnce(&mut Link)) -> bool {
        self.link.send_if_modified(|link| {
            let due = !link.closed && when(link);
            if due {
                change(link);
            }
            due
        })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what no event said, once no event has come for a while.
    async fn reconcile(self: Arc<Self>) {
        while let Some(()) = self.until_closed(tokio::time::sleep(RECONCILE)).await {
            let Some(client) = self.client() else {
                continue;
            };
            let up = client.connection_state() == async_nats::connection::State::Connected;
            drop(client);
            let reconnects = self.connects().unwrap_or(1).saturating_sub(1);
            if self.told().at.elapsed() < RECONCILE {
                continue;
            }
            let link = self.link();
            if link.generation < reconnects {
                self.down();
                self.up();
                self.link.send_if_modified(|link| {
                    let late = link.generation < reconnects;
                    link.generation = link.generation.max(reconnects);
                    late
                });
            }
            if link.up && !up {
                self.down();
            }
        }
    }
}

impl Told {
    fn send(&mut self, event: &ConnectionEvent) {
        tracing::debug!(%event, "connection");
        self.at = Instant::now();
        self.events.send(event);
    }
}

/// The server's own words in a text of async-nats, spelt as on the wire, or else that text.
pub(super) fn server_words(text: &str) -> &str {
    match text.rsplit_once("nats: ") {
        Some((_, "authorization violation")) => "Authorization Violation",
        Some((_, words)) => words,
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        Shared::new(ConnectionId(1), ConnectOptions::default())
    }

    fn drain(events: &mut Events) -> Vec<String> {
        std::iter::from_fn(|| events.try_next())
            .map(|event| event.to_string())
            .collect()
    }

    #[test]
    fn a_kick_is_explained_by_the_words_before_it() {
        let shared = shared();
        let mut events = shared.listen();
        let words = |text: &str| Event::ServerError(ServerError::Other(text.into()));
        shared.on_event(&words("User Authentication Expired"));
        shared.on_event(&Event::Disconnected);
        shared.on_event(&Event::Connected);
        shared.on_event(&words("Permissions Violation for Publish to \"x\""));
        shared.on_event(&Event::Disconnected);
        let told = [
            "auth error: User Authentication Expired",
            "disconnected: User Authentication Expired",
            "reconnected",
            "server error: Permissions Violation for Publish to \"x\"",
            "disconnected: link lost",
        ];
        assert_eq!(drain(&mut events), told);
    }

    #[test]
    fn a_transition_is_told_once_and_nothing_after_the_end() {
        let shared = shared();
        let mut events = shared.listen();
        shared.on_failed_attempt("IO error: Connection refused (os error 111)");
        shared.on_event(&Event::Disconnected);
        shared.on_failed_attempt("authorization violation: nats: authorization violation");
        shared.close();
        shared.close();
        shared.on_event(&Event::Connected);
        let told = [
            "disconnected: link lost",
            "reconnect failed: IO error: Connection refused (os error 111)",
            "auth error: Authorization Violation",
            "closed",
        ];
        assert_eq!(drain(&mut events), told);
        assert_eq!(drain(&mut shared.listen()), ["closed"]);
    }
}
