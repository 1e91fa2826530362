//! The broker: one nats-server as a pure state machine, alone or as one of a cluster of three.
//!
//! What clients send goes in, what the server sends and does comes out as [`Effect`]s; time is an argument, chance is a
//! stream given at birth. Its specification is what real servers were measured to do, and it must be no kinder: a
//! client that works here because the broker is polite will fail on the real one.
//!
//! Control flows downwards through the files:
//!
//! ```text
//!   mod        Broker: one method per thing that can happen to a server
//!   messaging  connections, subscriptions, routing (interest: the tree of subjects), pings
//!   links      a table by connection
//!   raw        core publishes that are stored, and writes that are core messages
//!   violation  what a connection is closed for
//!   security   operator mode: accounts, logins, and their ends (permissions: what a user may do; system: updates)
//!   jetstream  API requests, publishes, direct gets; whether JetStream answers at all
//!   routes     which stream stores what
//!   settings   which settings a stream can have
//!   stream     one stream, or bucket: its messages and its consumers
//!   admit      whether it takes a message: demands (of the publisher), ids (of messages), limits
//!   expiry     when messages age out, and how late
//!   purge      messages taken out by request
//!   direct     messages read without a consumer
//!   readers    who is told what of a stream (consumer: what a watch, a reader or a scan reads)
//!   pulls      the pull consumers of a stream (pull: one of them, as a machine of its own)
//!   advisory   what the server says about a consumer, as core messages
//!   store      the messages, and what is known of each (head: its headers; unsynced: what may be lost)
//!   power      what a loss of power takes (half_gone: what 2.10 finds again that was purged)
//!   member     what it knows as one of a cluster; clustered, asking, proposals, agreement: what it does as one
//!   parley     what servers of a cluster say to each other
//! ```
//!
//! Not modelled: flow control between consumers and slow clients (the fabric bounds links), messages of consumers and
//! of the API seen by core subscriptions to `>`, auto-unsubscribe (clients count), the clock that a frozen process
//! finds on waking (in 13 of 32 trials a real server then waited for the time left when it was frozen). Of pull
//! consumers: `+NXT`, delays of `-NAK` that are not JSON, limits of single pulls (`max_batch`, `max_expires`, bytes),
//! priority groups, pauses, replay at the original pace, and all advisories but those of messages that were given up
//! or terminated.

mod admit;
mod advisory;
mod agreement;
mod asking;
mod clustered;
mod config;
mod consumer;
mod context;
mod demands;
mod direct;
mod effect;
mod expiry;
mod half_gone;
mod head;
mod ids;
mod interest;
mod jetstream;
mod links;
mod member;
mod messaging;
mod parley;
mod permissions;
mod power;
mod proposals;
mod pull;
mod pulls;
mod purge;
mod raw;
mod readers;
mod refusal;
mod routes;
mod security;
mod settings;
mod store;
mod stream;
mod subject;
mod system;
#[cfg(test)]
mod tests;
mod timers;
mod undecided;
mod unsynced;
mod violation;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use squall_core::transport::{
    BucketInfo, KvEntry, Message, Revision, Sequence, StoredMessage, StreamInfo,
};
use squall_core::{Instant, Rng};

pub use config::{Kindness, Now, ParseVersionError, ServerConfig, SyncInterval, Version};
pub use effect::{Cause, Commit, Dropped, Effect, Incarnation, LostTail, Removed, Stored};
pub use parley::{Asker, Command, GroupId, Proposal, RouteOp, Serves};
pub use power::Loss;
pub use purge::Removal;

use crate::wire::{ClientOp, LinkId, Request, RequestId, ServerOp};
use context::Context;
use jetstream::{JetStream, Service};
use member::Member;
use messaging::Messaging;
use pull::Inbox;
use security::{Account, Security};
use timers::{StreamTimer, Timer, Timers};
use violation::Violation;

/// Longest time between two connections that a lame duck closes.
const LAME_DUCK_GAP_MAX: Duration = Duration::from_secs(1);

/// A nats-server.
#[derive(Debug)]
pub struct Broker {
    is_running: bool,
    is_lame_duck: bool,
    surroundings: Surroundings,
    /// In operator mode.
    security: Option<Security>,
    messaging: Messaging,
    /// One for each account.
    jetstreams: Vec<JetStream>,
    /// Where it is one of a cluster.
    member: Option<Box<Member>>,
}

/// What every event handler needs beside the state it changes.
#[derive(Debug)]
struct Surroundings {
    config: ServerConfig,
    rng: Rng,
    timers: Timers,
    cached_clock_phase: Duration,
    /// Subscriptions that pulls deliver to, as long as they are there.
    inboxes: BTreeSet<Inbox>,
    /// Messages of the server's own, to be routed once the event is handled.
    outbox: Vec<(Account, Message)>,
}

impl Surroundings {
    /// For business of this account.
    fn ctx<'a>(
        &'a mut self,
        now: Now,
        account: Account,
        effects: &'a mut Vec<Effect>,
    ) -> Context<'a> {
        self.timers.account = account;
        Context {
            now,
            config: &self.config,
            rng: &mut self.rng,
            timers: &mut self.timers,
            effects,
            cached_clock_phase: self.cached_clock_phase,
            inboxes: &mut self.inboxes,
            outbox: &mut self.outbox,
        }
    }

    fn service(&self) -> Service {
        if self.config.jetstream {
            Service::On
        } else {
            Service::Disabled
        }
    }
}

impl Broker {
    /// A running server without connections or streams.
    pub fn new(config: ServerConfig, mut rng: Rng) -> Self {
        let cached_clock_phase = Context::draw_phase(&mut rng);
        let surroundings = Surroundings {
            config,
            rng,
            timers: Timers::default(),
            cached_clock_phase,
            inboxes: BTreeSet::new(),
            outbox: Vec::new(),
        };
        let security = surroundings.config.realm.as_ref().map(Security::new);
        let accounts = security.as_ref().map_or(1, Security::accounts).max(1);
        let service = surroundings.service();
        Self {
            is_running: true,
            is_lame_duck: false,
            messaging: Messaging::new(accounts),
            jetstreams: (0..accounts).map(|_| JetStream::new(service)).collect(),
            security,
            member: None,
            surroundings,
        }
    }

    /// How it is set up.
    pub const fn config(&self) -> &ServerConfig {
        &self.surroundings.config
    }

    /// Whether the process is there.
    pub const fn is_running(&self) -> bool {
        self.is_running
    }

    /// A client connects. The server greets it, or, where it is down or a lame duck, closes at once.
    pub fn open(&mut self, now: Now, link: LinkId, effects: &mut Vec<Effect>) {
        if !self.is_running || self.is_lame_duck {
            effects.push(Effect::Close { link });
            return;
        }
        let mut ctx = self.surroundings.ctx(now, Account::default(), effects);
        self.messaging.open(&mut ctx, link);
        if self.security.is_some() {
            ctx.set_timer(ctx.config.auth_timeout, Timer::LogIn(link));
        }
    }

    /// A client says something. What comes from a connection that the server has closed is not heard.
    pub fn receive(&mut self, now: Now, link: LinkId, op: ClientOp, effects: &mut Vec<Effect>) {
        let is_pong = matches!(op, ClientOp::Pong);
        if !self.messaging.hear(now.monotonic, link, is_pong) {
            return;
        }
        if let Some(violation) = Violation::of(&op, self.surroundings.config.max_payload) {
            self.expel(now, link, violation, effects);
            return;
        }
        let Some(account) = self.admit(now, link, &op, effects) else {
            return;
        };
        let begun = effects.len();
        self.tell_subscribed(link, &op, effects);
        let mut ctx = self.surroundings.ctx(now, account, effects);
        match op {
            ClientOp::Connect { .. } | ClientOp::Pong => {}
            ClientOp::Ping => ctx.send(link, ServerOp::Pong),
            ClientOp::Subscribe {
                sid,
                subject,
                queue,
            } => {
                let session = self.security.as_ref().and_then(|all| all.session(link));
                let permissions = session.and_then(|session| session.permissions.as_ref());
                self.messaging
                    .subscribe(&mut ctx, link, sid, subject, queue, permissions);
            }
            ClientOp::Unsubscribe { sid } => {
                self.messaging.unsubscribe(link, sid);
                ctx.inboxes.remove(&(link, sid));
                self.jetstreams[account.0].unsubscribed(&mut ctx, link, sid);
            }
            ClientOp::Publish { message } => self.publish(now, link, account, message, effects),
            ClientOp::Request { id, request } => {
                self.request(now, link, account, id, request, effects);
            }
            ClientOp::Pull {
                stream,
                consumer,
                wish,
                deliver,
            } => {
                assert!(
                    self.member.is_none(),
                    "not modelled in a cluster: pull consumers"
                );
                let inbox = (link, deliver);
                if self.messaging.is_subscribed(link, deliver) {
                    ctx.inboxes.insert(inbox);
                }
                self.jetstreams[account.0].pull(&mut ctx, inbox, &stream, &consumer, wish);
            }
        }
        self.post(now, effects);
        self.send_home(begun, effects);
    }

    /// The server sees the end of a connection.
    pub fn closed(&mut self, now: Now, link: LinkId, effects: &mut Vec<Effect>) {
        let mut account = Account::default();
        if let Some(security) = &mut self.security {
            account = security
                .session(link)
                .map_or(account, |session| session.account);
            security.forget(link);
        }
        for sid in self.messaging.close(link) {
            let mut ctx = self.surroundings.ctx(now, account, effects);
            ctx.inboxes.remove(&(link, sid));
            self.jetstreams[account.0].unsubscribed(&mut ctx, link, sid);
            self.tell_unsubscribed(link, sid, effects);
        }
    }

    /// When it next wants to be woken, on its monotonic clock.
    pub fn deadline(&self) -> Option<Instant> {
        self.surroundings.timers.next()
    }

    /// Does everything that is due.
    pub fn on_deadline(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let begun = effects.len();
        while let Some((timer, account)) = self.surroundings.timers.pop(now.monotonic) {
            let mut ctx = self.surroundings.ctx(now, account, effects);
            match timer {
                Timer::Ping(link) => {
                    if !self.messaging.ping(&mut ctx, link) {
                        self.expel(now, link, Violation::Stale, effects);
                    }
                }
                Timer::LogIn(_) | Timer::Expiry(_) | Timer::AccountExpiry => {
                    self.on_security_timer(now, timer, account, effects);
                }
                Timer::LameDuck => self.close_next(now, effects),
                Timer::Stream(stream, StreamTimer::Sweep) if self.member.is_some() => {
                    self.sweep_as_member(now, stream, effects);
                }
                Timer::Stream(stream, timer) => {
                    self.jetstreams[account.0].on_timer(&mut ctx, stream, timer);
                }
                Timer::Group(group) => self.wake_group(now, GroupId(group), effects),
                Timer::Reads(group) => self.serve_reads(now, GroupId(group), effects),
                Timer::Route(peer) => self.ping_route(now, peer, effects),
            }
            self.post(now, effects);
        }
        self.send_home(begun, effects);
    }

    /// Routes what the server itself has to say.
    fn post(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.surroundings.outbox.is_empty() {
            return;
        }
        for (account, message) in std::mem::take(&mut self.surroundings.outbox) {
            let mut ctx = self.surroundings.ctx(now, account, effects);
            self.messaging.route(&mut ctx, &message);
        }
    }

    /// The process ends, by `SIGKILL`. Connections, subscriptions, push consumers and streams in memory are gone; streams
    /// on files stay with every write that was acknowledged, pull consumers on files with the state that they wrote
    /// last, up to 100 ms ago. It is for the world to cut the links.
    pub fn stop(&mut self, effects: &mut Vec<Effect>) {
        self.end(false, effects);
    }

    /// The process ends, by `SIGTERM`: as by [`stop`](Self::stop), and to clients it is the same, but pull consumers lose
    /// nothing.
    pub fn terminate(&mut self, effects: &mut Vec<Effect>) {
        self.end(true, effects);
    }

    fn end(&mut self, is_orderly: bool, effects: &mut Vec<Effect>) {
        self.is_running = false;
        self.is_lame_duck = false;
        self.surroundings.timers.clear();
        self.messaging = Messaging::new(self.jetstreams.len());
        if let Some(security) = &mut self.security {
            security.stop();
        }
        let surroundings = &mut self.surroundings;
        surroundings.inboxes.clear();
        surroundings.outbox.clear();
        let kindness = surroundings.config.kindness;
        for jetstream in &mut self.jetstreams {
            jetstream.stop(effects, is_orderly, kindness, &mut surroundings.rng);
        }
        if let Some(member) = &mut self.member {
            member.stop();
        }
    }

    /// The process is started again, on the files it left, with a JetStream that speaks. Does nothing where it runs.
    pub fn start(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.is_running {
            return;
        }
        self.is_running = true;
        self.surroundings.cached_clock_phase = Context::draw_phase(&mut self.surroundings.rng);
        let service = self.surroundings.service();
        for (account, jetstream) in self.jetstreams.iter_mut().enumerate() {
            let mut ctx = self.surroundings.ctx(now, Account(account), effects);
            jetstream.start(&mut ctx, service);
        }
        self.rejoin(now, effects);
        self.post(now, effects);
    }

    /// `SIGUSR2`: announces the end, refuses connections, switches JetStream off at once, and after a grace closes one
    /// connection after the other; then it exits.
    pub fn lame_duck(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.is_running || self.is_lame_duck {
            return;
        }
        self.is_lame_duck = true;
        for jetstream in &mut self.jetstreams {
            jetstream.service = Service::LameDuck;
        }
        let mut ctx = self.surroundings.ctx(now, Account::default(), effects);
        self.messaging.announce_lame_duck(&mut ctx);
        let grace = match self.messaging.links().count() {
            0 => Duration::ZERO,
            _ => ctx.config.lame_duck_grace,
        };
        ctx.set_timer(grace, Timer::LameDuck);
    }

    /// The process goes on after it stood still (`SIGCONT`), before it hears what was said meanwhile.
    pub fn resume(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for (account, jetstream) in self.jetstreams.iter_mut().enumerate() {
            let mut ctx = self.surroundings.ctx(now, Account(account), effects);
            jetstream.resume(&mut ctx);
        }
    }

    /// JetStream falls silent while everything else goes on (`true`), or speaks again (`false`). Requests that come
    /// while it is silent are neither done nor answered, now or later.
    pub fn mute_jetstream(&mut self, now: Now, is_mute: bool) {
        let mut no_effects = Vec::new();
        for (account, jetstream) in self.jetstreams.iter_mut().enumerate() {
            let mut ctx = self
                .surroundings
                .ctx(now, Account(account), &mut no_effects);
            jetstream.mute(&mut ctx, is_mute);
        }
        debug_assert!(no_effects.is_empty(), "what was held back comes by timers");
    }

    fn request(
        &mut self,
        now: Now,
        link: LinkId,
        account: Account,
        id: RequestId,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        let is_only_heard = self.is_only_heard(now, account, &request, effects);
        if is_only_heard && self.member.is_none() {
            return;
        }
        if let Some(member) = &self.member {
            let server = member.me;
            self.ask(now, Asker { server, link, id }, request, effects);
            return;
        }
        let messaging = &self.messaging;
        let before = effects.len();
        let mut ctx = self.surroundings.ctx(now, account, effects);
        self.jetstreams[account.0].request(&mut ctx, link, id, request, |sid| {
            messaging.is_subscribed(link, sid)
        });
        self.withhold_answers(link, before, effects);
    }

    /// Says why, and hangs up.
    fn expel(&mut self, now: Now, link: LinkId, why: Violation, effects: &mut Vec<Effect>) {
        let op = ServerOp::Err(why.text().into());
        effects.push(Effect::Send { link, op });
        effects.push(Effect::Close { link });
        self.closed(now, link, effects);
    }

    /// A lame duck closes one connection, at random, and exits after the last.
    fn close_next(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let links: Vec<LinkId> = self.messaging.links().collect();
        if let Some(&link) = self.surroundings.rng.pick(&links) {
            effects.push(Effect::Close { link });
            self.closed(now, link, effects);
        }
        if links.len() <= 1 {
            effects.push(Effect::Exit);
            self.terminate(effects);
            return;
        }
        let config = &self.surroundings.config;
        let span = config
            .lame_duck_duration
            .saturating_sub(config.lame_duck_grace);
        let gap = (span / links.len() as u32)
            .min(LAME_DUCK_GAP_MAX)
            .as_nanos() as u64;
        let gap = Duration::from_nanos(self.surroundings.rng.between(gap / 2, gap));
        let mut ctx = self.surroundings.ctx(now, Account::default(), effects);
        ctx.set_timer(gap, Timer::LameDuck);
    }
}

/// The truth, for invariants: read without a request, whatever the server would answer just now. Of several accounts, that
/// of the first.
impl Broker {
    /// The names of all streams, in order, those behind buckets too.
    pub fn streams(&self) -> impl Iterator<Item = &Arc<str>> {
        self.jetstreams[0].names()
    }

    /// What the server knows of a stream. It is asked without a clock: `now` is the time of its creation.
    pub fn stream(&self, stream: &str) -> Option<StreamInfo> {
        self.jetstreams[0]
            .stream(stream)
            .map(|stream| stream.info_at_creation())
    }

    /// Every message of a stream, ascending; none where there is no such stream.
    pub fn messages(&self, stream: &str) -> impl Iterator<Item = StoredMessage> {
        let stream = self.jetstreams[0].stream(stream);
        stream.into_iter().flat_map(|stream| {
            let records = stream.store.from(Sequence::NONE);
            records.map(|record| stream.store.message(record))
        })
    }

    /// The last sequence that a stream has given out.
    pub fn last(&self, stream: &str) -> Sequence {
        let stream = self.jetstreams[0].stream(stream);
        stream.map_or(Sequence::NONE, |stream| stream.store.last())
    }

    /// The names of all buckets, in order.
    pub fn buckets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.jetstreams[0].buckets()
    }

    /// What the server knows of a bucket. It is asked without a clock: `now` is the time of its creation.
    pub fn bucket(&self, bucket: &str) -> Option<BucketInfo> {
        self.jetstreams[0].bucket(bucket)?.bucket_info()
    }

    /// Which life of its name a bucket is.
    pub fn incarnation(&self, bucket: &str) -> Option<Incarnation> {
        let stream = self.jetstreams[0].bucket(bucket)?;
        Some(stream.identity.incarnation)
    }

    /// The latest revision that a bucket has given out.
    pub fn last_revision(&self, bucket: &str) -> Option<Revision> {
        Some(self.jetstreams[0].bucket(bucket)?.store.last().into())
    }

    /// Every record of a bucket, ascending; none where there is no such bucket.
    pub fn records(&self, bucket: &str) -> impl Iterator<Item = KvEntry> {
        let stream = self.jetstreams[0].bucket(bucket);
        stream.into_iter().flat_map(|stream| {
            let records = stream.store.from(Sequence::NONE);
            records.map(|record| stream.store.entry(record))
        })
    }

    /// The latest record of a key.
    pub fn entry(&self, bucket: &str, key: &str) -> Option<KvEntry> {
        self.jetstreams[0].bucket(bucket)?.entry(key)
    }

    /// Consumers of a bucket, those included that have lost their subscription and are still kept.
    pub fn consumers(&self, bucket: &str) -> usize {
        self.jetstreams[0]
            .bucket(bucket)
            .map_or(0, |bucket| bucket.consumers())
    }

    /// Connections that the server believes to be open, ascending.
    pub fn links(&self) -> impl Iterator<Item = LinkId> {
        self.messaging.links()
    }
}
