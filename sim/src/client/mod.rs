//! The simulated client: what async-nats 0.51 was measured to do, as a machine that the world drives.
//!
//! It runs inside a process of a host: its timers run on the host's monotonic clock, and while the process is paused
//! nothing here runs, but what arrives waits in the socket. What goes out while disconnected waits in a buffer of
//! [`COMMANDS_MAX`] and is sent in order after the reconnect, also long after its caller gave up: ghost writes.

mod bucket;
mod consumer;
mod handle;
mod reading;
mod requests;
mod storing;
mod stream;
#[cfg(test)]
mod tests;
mod watches;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use slotmap::{SlotMap, new_key_type};
use squall_core::Instant;
use squall_core::jwt::KeyPair as _;
use squall_core::transport::{
    ConnectError, ConnectOptions, ConnectionEvent, ConnectionId, ConnectionState, DisconnectCause,
    EventsSender, Login, Message, SubscriptionSender, is_auth_error,
};

pub use self::bucket::SimBucket;
pub use self::consumer::SimConsumer;
use self::consumer::{PullKey, PullState};
pub use self::handle::{SimConnection, SimTransport};
use self::requests::{Reply, Requests};
pub use self::stream::SimStream;
use self::watches::{WatchKey, WatchState};
use crate::broker::{Kindness, Version};
use crate::keys::SimKey;
use crate::link::LinkKey;
use crate::net::{Due, Net};
use crate::wire::{ClientOp, INBOX, Presented, ServerOp, Sid};
use crate::world::{HostKey, ProcessKey, ServerKey};

new_key_type! {
    /// A client in the world's table.
    pub(crate) struct ClientKey;
}

/// Commands that wait while disconnected; the next one blocks its caller.
pub(crate) const COMMANDS_MAX: usize = 2048;

/// Unanswered pings that are tolerated; the next one due disconnects.
const PINGS_OUTSTANDING_MAX: u32 = 2;

/// No pause between failed attempts is longer.
const BACKOFF_MAX: Duration = Duration::from_secs(4);

/// Where the client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for the greeting, no longer than until then.
    Dialling {
        link: LinkKey,
        until: Instant,
    },
    Connected {
        link: LinkKey,
    },
    /// The next attempt begins then.
    BackingOff {
        until: Instant,
    },
    Closed,
}

/// A `PONG` and what it answers.
#[derive(Debug)]
enum Pong {
    Handshake,
    KeepAlive,
    Flush(requests::RequestKey),
}

#[derive(Debug)]
struct Subscribed {
    subject: Arc<str>,
    queue: Option<Arc<str>>,
    to: To,
    /// The server was told on the present connection, or will be first thing on the next one.
    sent: bool,
}

/// Where deliveries of a subscription go.
#[derive(Debug)]
enum To {
    Inbox,
    Subscription(SubscriptionSender),
    Watch(WatchKey),
    Pull(PullKey),
}

/// The outcome of the first connect, and who waits for it.
#[derive(Debug)]
enum First {
    Waiting(Option<Waker>),
    Failed(ConnectError),
    Done,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Client {
    key: ClientKey,
    pub(crate) process: ProcessKey,
    pub(crate) host: HostKey,
    id: ConnectionId,
    options: Arc<ConnectOptions>,
    /// Of the options, as the two below: what every request needs lies here, not behind them.
    ping_interval: Duration,
    ack_timeout: Duration,
    has_credentials: bool,
    servers: Arc<[ServerKey]>,
    phase: Phase,
    first: First,
    next_server: usize,
    /// Attempts since the last success.
    attempts: u32,
    max_payload: usize,
    /// Of the server that greeted last.
    version: Version,
    /// Local time of the next ping, unless the server is heard before. A client that stood still sends one when it goes on,
    /// however many it has missed.
    ping_at: Instant,
    pings_outstanding: u32,
    pongs: VecDeque<Pong>,
    commands: VecDeque<ClientOp>,
    /// Flushes that wait for the reconnect, behind the commands.
    flushes: Vec<requests::RequestKey>,
    /// Callers that wait for room among the commands.
    room: Vec<Waker>,
    subscribed: BTreeMap<Sid, Subscribed>,
    next_sid: u64,
    /// The key that was written last: mostly the one that is written next.
    last_key: Arc<str>,
    requests: Requests,
    watches: SlotMap<WatchKey, WatchState>,
    pulls: SlotMap<PullKey, PullState>,
    events: EventsSender,
    /// What the latest attempt logged in with.
    login: Option<Login>,
    /// An error text the server sent last, and when, to explain a disconnect right after it.
    server_error: Option<(Instant, Arc<str>)>,
    /// The true time an entry in the world's queue stands for, and its generation.
    armed: Option<Instant>,
    generation: u32,
}

impl Client {
    pub(crate) fn new(
        key: ClientKey,
        process: ProcessKey,
        host: HostKey,
        id: ConnectionId,
        options: Arc<ConnectOptions>,
        servers: Arc<[ServerKey]>,
    ) -> Self {
        Self {
            key,
            process,
            host,
            id,
            ping_interval: options.ping_interval,
            ack_timeout: options.ack_timeout,
            has_credentials: options.credentials.is_some(),
            options,
            servers,
            phase: Phase::BackingOff {
                until: Instant::ZERO,
            },
            first: First::Waiting(None),
            next_server: 0,
            attempts: 0,
            max_payload: 1024 * 1024,
            version: Version::REFERENCE,
            ping_at: Instant::ZERO,
            pings_outstanding: 0,
            pongs: VecDeque::new(),
            commands: VecDeque::new(),
            flushes: Vec::new(),
            room: Vec::new(),
            subscribed: BTreeMap::new(),
            next_sid: INBOX.0 + 1,
            last_key: "".into(),
            requests: Requests::default(),
            watches: SlotMap::with_key(),
            pulls: SlotMap::with_key(),
            events: EventsSender::default(),
            login: None,
            server_error: None,
            armed: None,
            generation: 0,
        }
    }

    fn state(&self) -> ConnectionState {
        match self.phase {
            Phase::Connected { .. } => ConnectionState::Connected,
            Phase::Dialling { .. } | Phase::BackingOff { .. } => ConnectionState::Disconnected,
            Phase::Closed => ConnectionState::Closed,
        }
    }

    pub(crate) fn link(&self) -> Option<LinkKey> {
        match self.phase {
            Phase::Dialling { link, .. } | Phase::Connected { link } => Some(link),
            Phase::BackingOff { .. } | Phase::Closed => None,
        }
    }

    // --- what the world calls ---

    /// Begins the next attempt.
    pub(crate) fn dial(&mut self, net: &mut Net) {
        let server = self.servers[self.next_server % self.servers.len()];
        self.next_server += 1;
        self.attempts += 1;
        let link = net.dial(self.key, self.process, self.host, server);
        let until = net.local(self.host) + self.options.connect_timeout;
        self.phase = Phase::Dialling { link, until };
    }

    /// Something arrived over `link`.
    pub(crate) fn receive(&mut self, net: &mut Net, link: LinkKey, op: ServerOp) {
        if self.link() != Some(link) {
            return;
        }
        self.ping_at = net.local(self.host) + self.ping_interval;
        match op {
            ServerOp::Info {
                version,
                max_payload,
                lame_duck,
                ..
            } => {
                self.version = version;
                self.max_payload = max_payload;
                if lame_duck {
                    self.events.send(&ConnectionEvent::LameDuck);
                } else if matches!(self.phase, Phase::Dialling { .. }) {
                    let name = self.options.name.as_str().into();
                    let login = self.log_in();
                    net.send_up(link, ClientOp::Connect { name, login });
                    net.send_up(link, ClientOp::Ping);
                    self.pongs.clear();
                    self.pongs.push_back(Pong::Handshake);
                }
            }
            ServerOp::Ping => net.send_up(link, ClientOp::Pong),
            ServerOp::Pong => match self.pongs.pop_front() {
                Some(Pong::Handshake) => self.connected(net, link),
                Some(Pong::Flush(request)) => self.requests.complete(request, Reply::Flushed),
                // Nothing else answers a ping: a server may be heard that hears nothing.
                Some(Pong::KeepAlive) => self.pings_outstanding -= 1,
                None => {}
            },
            ServerOp::Err(text) => match self.phase {
                Phase::Dialling { .. } => {
                    // Instead of the PONG: the attempt has failed.
                    net.hang_up(link);
                    self.attempt_failed(net, refusal(text));
                }
                _ => self.server_said(net, text),
            },
            ServerOp::Message { sid, message } => self.message(net, sid, message),
            ServerOp::NoResponders { reply } => {
                if let Some(request) = requests::of_inbox(&reply) {
                    self.requests.complete(request, Reply::NoResponders);
                }
            }
            ServerOp::Response { id, response } => {
                match self.requests.answer(requests::of_id(id), response) {
                    Some((asked, response)) => self.answer_watch(net, asked, Some(response)),
                    // By far the most, and that only takes a deadline away.
                    None => return,
                }
            }
            ServerOp::Delivery {
                sid,
                consumer_seq,
                pending,
                content,
            } => {
                self.delivery(net, sid, consumer_seq, pending, content);
            }
            ServerOp::Pulled { sid, delivered } => self.pulled(net, sid, *delivered),
            ServerOp::PullStatus { sid, status } => self.pull_status(net, sid, status),
            ServerOp::Heartbeat {
                sid,
                last_consumer_seq,
            } => {
                self.heartbeat(net, sid, last_consumer_seq);
            }
        }
        self.arm(net);
    }

    /// The link ended from the other side, or was refused. Clients tell it in the words of Linux.
    pub(crate) fn disconnected(&mut self, net: &mut Net, link: LinkKey, is_refused: bool) {
        match self.phase {
            Phase::Connected { link: current } if current == link => self.lost(net),
            Phase::Dialling { link: current, .. } if current == link => {
                let why = match is_refused {
                    true => "Connection refused (os error 111)",
                    false => "Connection reset by peer (os error 104)",
                };
                self.attempt_failed(net, ConnectError::Unreachable(why.into()));
            }
            _ => {}
        }
    }

    /// The timer of this generation came due.
    pub(crate) fn on_timer(&mut self, net: &mut Net, generation: u32) {
        if generation != self.generation {
            return;
        }
        self.armed = None;
        let now = net.local(self.host);
        match self.phase {
            Phase::BackingOff { until } if until <= now => self.dial(net),
            Phase::Dialling { link, until } if until <= now => {
                net.hang_up(link);
                self.attempt_failed(net, ConnectError::TimedOut);
            }
            Phase::Connected { link } if self.ping_at <= now => {
                if self.pings_outstanding >= PINGS_OUTSTANDING_MAX {
                    net.hang_up(link);
                    self.lost(net);
                } else {
                    self.pings_outstanding += 1;
                    self.ping_at = now + self.ping_interval;
                    self.pongs.push_back(Pong::KeepAlive);
                    net.send_up(link, ClientOp::Ping);
                }
            }
            _ => {}
        }
        for request in self.requests.expired(now) {
            self.give_up_request(net, request);
        }
        self.wake_watches(net, now);
        self.wake_pulls(net, now);
    }

    /// Puts the next deadline into the world's queue. Called after everything that may have moved it.
    pub(crate) fn arm(&mut self, net: &mut Net) {
        let Some(deadline) = self.deadline() else {
            return;
        };
        let Some(at) = net.host(self.host).clock.true_time_of(deadline) else {
            return;
        };
        let at = at.max(net.now);
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            self.generation = self.generation.wrapping_add(1);
            net.queue.push(at, Due::Client(self.key, self.generation));
        }
    }

    /// Dials anew at once, if it is connected.
    pub(crate) fn reconnect(&mut self, net: &mut Net) {
        if let Phase::Connected { link } = self.phase {
            net.hang_up(link);
            self.lost(net);
        }
    }

    /// The host's clock has changed: the timer in the queue stands for another time now.
    pub(crate) fn rearm(&mut self, net: &mut Net) {
        self.armed = None;
        self.generation = self.generation.wrapping_add(1);
        self.arm(net);
    }

    /// Whether closing has to wait for somebody who has not read everything yet: only where that was planted.
    fn joins_readers(&self, net: &Net) -> bool {
        let is_unread = |subscribed: &Subscribed| match &subscribed.to {
            To::Subscription(sender) => {
                !sender.is_closed() && sender.capacity() < self.options.subscription_capacity
            }
            To::Inbox | To::Watch(_) | To::Pull(_) => false,
        };
        net.kindness == Some(Kindness::CloseJoinsReaders) && self.subscribed.values().any(is_unread)
    }

    /// Closes for good: by its owner, because it gave up, or because its process died.
    pub(crate) fn close(&mut self, net: &mut Net) {
        if let Some(link) = self.link() {
            net.hang_up(link);
        }
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.events.send(&ConnectionEvent::Closed);
        self.requests.close();
        self.subscribed.clear();
        self.watches.clear();
        self.pulls_lost(net);
        self.commands.clear();
        self.room.drain(..).for_each(Waker::wake);
    }

    // --- what follows from it ---

    fn deadline(&self) -> Option<Instant> {
        let mut deadline = match self.phase {
            Phase::Dialling { until, .. } | Phase::BackingOff { until } => until,
            Phase::Connected { .. } => self.ping_at,
            Phase::Closed => return None,
        };
        if let Some(oldest) = self.requests.deadline() {
            deadline = deadline.min(oldest);
        }
        if !self.watches.is_empty() {
            let watches = self.watches.values().filter_map(WatchState::deadline);
            deadline = watches.fold(deadline, Instant::min);
        }
        if !self.pulls.is_empty() {
            let pulls = self.pulls.values().map(|pull| pull.silent_at);
            deadline = pulls.fold(deadline, Instant::min);
        }
        Some(deadline)
    }

    fn connected(&mut self, net: &mut Net, link: LinkKey) {
        self.phase = Phase::Connected { link };
        self.attempts = 0;
        // The next disconnect begins with the first server again, though it be the one that was lost.
        self.next_server = 0;
        for (&sid, subscribed) in &mut self.subscribed {
            if subscribed.sent {
                let (subject, queue) = (subscribed.subject.clone(), subscribed.queue.clone());
                net.send_up(
                    link,
                    ClientOp::Subscribe {
                        sid,
                        subject,
                        queue,
                    },
                );
            }
        }
        for op in std::mem::take(&mut self.commands) {
            if net.kindness == Some(Kindness::NoGhostWrites) && !self.is_awaited(&op) {
                continue;
            }
            self.transmit(net, link, op);
        }
        for request in std::mem::take(&mut self.flushes) {
            self.pongs.push_back(Pong::Flush(request));
            net.send_up(link, ClientOp::Ping);
        }
        self.room.drain(..).for_each(Waker::wake);
        let event = match std::mem::replace(&mut self.first, First::Done) {
            First::Waiting(waker) => {
                waker.into_iter().for_each(Waker::wake);
                ConnectionEvent::Connected
            }
            First::Failed(_) | First::Done => ConnectionEvent::Reconnected,
        };
        self.events.send(&event);
        self.watches_link(net, true);
    }

    fn lost(&mut self, net: &mut Net) {
        let now = net.local(self.host);
        let cause = match self.server_error.take() {
            Some((at, text)) if now.since(at) < Duration::from_millis(50) => {
                DisconnectCause::ServerError(text)
            }
            _ => DisconnectCause::Lost,
        };
        self.events.send(&ConnectionEvent::Disconnected(cause));
        self.pongs.clear();
        self.pings_outstanding = 0;
        self.back_off(net);
        self.watches_link(net, false);
        self.pulls_lost(net);
    }

    fn attempt_failed(&mut self, net: &mut Net, error: ConnectError) {
        let text: Arc<str> = match &error {
            ConnectError::TimedOut => "timed out".into(),
            ConnectError::Unreachable(text) | ConnectError::Auth(text) => text.clone(),
            ConnectError::InvalidAddress(_) => "invalid address".into(),
        };
        // A definite refusal of the first connect ends it, though other servers be left.
        let is_refused =
            matches!(&error, ConnectError::Auth(text) if **text == *"Authorization Violation");
        let every_server_tried = is_refused || self.attempts as usize >= self.servers.len();
        if let First::Waiting(waker) = &mut self.first {
            if every_server_tried {
                let waker = waker.take();
                self.first = First::Failed(error);
                self.phase = Phase::Closed;
                waker.into_iter().for_each(Waker::wake);
            } else {
                self.dial(net);
            }
            return;
        }
        self.events.send(&ConnectionEvent::of_failed_attempt(text));
        if self
            .options
            .reconnects_max
            .is_some_and(|max| self.attempts >= max.get())
        {
            self.phase = Phase::BackingOff {
                until: Instant::FAR_FUTURE,
            };
            self.close(net);
            return;
        }
        self.back_off(net);
    }

    /// Waits before the next attempt: not at all before the first, then 2, 4, 8 ... ms, at most 4 s, without jitter.
    fn back_off(&mut self, net: &Net) {
        let wait = match self.attempts {
            0 => Duration::ZERO,
            _ if net.kindness == Some(Kindness::ReconnectAtOnce) => Duration::from_millis(1),
            n => BACKOFF_MAX.min(Duration::from_millis(1 << n.min(12))),
        };
        self.phase = Phase::BackingOff {
            until: net.local(self.host) + wait,
        };
    }

    fn server_said(&mut self, net: &Net, text: Arc<str>) {
        if DisconnectCause::may_be(&text) {
            self.server_error = Some((net.local(self.host), text.clone()));
        }
        self.events.send(&ConnectionEvent::of_server_error(text));
    }

    /// Reads the cell, as the real client's callback does at each attempt.
    fn log_in(&mut self) -> Option<Box<Presented>> {
        let (login, credentials) = self.options.credentials.as_ref()?.read();
        self.login = Some(login);
        self.events.send(&ConnectionEvent::LoggingIn(login));
        let credentials = credentials?;
        Some(Box::new(Presented {
            jwt: Arc::clone(credentials.jwt()),
            signer: SimKey::from_seed(credentials.seed()).public(),
        }))
    }

    fn message(&mut self, net: &mut Net, sid: Sid, message: Message) {
        let Some(subscribed) = self.subscribed.get(&sid) else {
            return;
        };
        match &subscribed.to {
            To::Inbox => {
                if let Some(request) = requests::of_inbox(&message.subject) {
                    self.requests.complete(request, Reply::Message(message));
                }
            }
            To::Subscription(sender) => {
                // The newest is dropped when the reader is slow; one event for each.
                if sender.try_send(message).is_err() {
                    if sender.is_closed() {
                        self.unsubscribe(net, sid);
                    } else {
                        self.events.send(&ConnectionEvent::SlowConsumer);
                    }
                }
            }
            // Records come as `Delivery`; a plain message to that inbox is somebody else's doing.
            To::Watch(_) | To::Pull(_) => {}
        }
    }

    /// Sends now, or queues for after the reconnect.
    fn command(&mut self, net: &mut Net, op: ClientOp) {
        match self.phase {
            Phase::Connected { link } => self.transmit(net, link, op),
            Phase::Closed => {}
            Phase::Dialling { .. } | Phase::BackingOff { .. } => self.commands.push_back(op),
        }
    }

    fn transmit(&mut self, net: &mut Net, link: LinkKey, op: ClientOp) {
        if let ClientOp::Subscribe { sid, .. } = &op {
            match self.subscribed.get_mut(sid) {
                Some(subscribed) => subscribed.sent = true,
                None => return,
            }
        }
        net.send_up(link, op);
    }

    /// False for a request that its caller gave up.
    fn is_awaited(&self, op: &ClientOp) -> bool {
        match op {
            ClientOp::Request { id, .. } => self.requests.is_awaited(requests::of_id(*id)),
            _ => true,
        }
    }

    fn has_room(&self) -> bool {
        matches!(self.phase, Phase::Connected { .. }) || self.commands.len() < COMMANDS_MAX
    }

    fn subscribe(
        &mut self,
        net: &mut Net,
        sid: Sid,
        subject: Arc<str>,
        queue: Option<Arc<str>>,
        to: To,
    ) {
        let subscribed = Subscribed {
            subject: subject.clone(),
            queue: queue.clone(),
            to,
            sent: false,
        };
        self.subscribed.insert(sid, subscribed);
        self.command(
            net,
            ClientOp::Subscribe {
                sid,
                subject,
                queue,
            },
        );
    }

    fn unsubscribe(&mut self, net: &mut Net, sid: Sid) {
        if let Some(subscribed) = self.subscribed.remove(&sid)
            && subscribed.sent
            && let Phase::Connected { link } = self.phase
        {
            net.send_up(link, ClientOp::Unsubscribe { sid });
        }
    }

    /// A key as requests hold it.
    fn key(&mut self, key: &str) -> Arc<str> {
        if *self.last_key != *key {
            self.last_key = key.into();
        }
        Arc::clone(&self.last_key)
    }

    fn new_sid(&mut self) -> Sid {
        let sid = Sid(self.next_sid);
        self.next_sid += 1;
        sid
    }

    fn give_up_request(&mut self, net: &mut Net, request: requests::RequestKey) {
        if let Some(asked) = self.requests.fail(request) {
            self.answer_watch(net, asked, None);
        }
    }
}

/// What an attempt is told that the server refuses.
fn refusal(text: Arc<str>) -> ConnectError {
    if is_auth_error(&text) {
        ConnectError::Auth(text)
    } else {
        ConnectError::Unreachable(text)
    }
}
