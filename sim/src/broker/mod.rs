//! The broker: one nats-server (single node, R1) as a pure state machine.
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
//!   raw        core publishes that are writes, and writes that are core messages
//!   violation  what a connection is closed for
//!   security   operator mode: accounts, logins, and their ends (permissions: what a user may do; system: updates)
//!   jetstream  API requests, writes, direct gets; whether JetStream answers at all
//!   bucket     one bucket: limits, conditions, history, its consumers
//!   expiry     when records age out, and how late
//!   consumer   what a watch or a scan reads
//!   store      the records
//! ```
//!
//! Not modelled: flow control between consumers and slow clients (the fabric bounds links), messages of consumers and
//! of the API seen by core subscriptions to `>`, auto-unsubscribe (clients count), the clock that a frozen process
//! finds on waking (in 13 of 32 trials a real server then waited for the time left when it was frozen).

mod bucket;
mod config;
mod consumer;
mod context;
mod effect;
mod expiry;
mod interest;
mod jetstream;
mod links;
mod messaging;
mod permissions;
mod raw;
mod refusal;
mod security;
mod store;
mod subject;
mod system;
#[cfg(test)]
mod tests;
mod timers;
mod violation;

use std::sync::Arc;
use std::time::Duration;

use squall_core::transport::{BucketInfo, KvEntry, Revision};
use squall_core::{Instant, Rng};

pub use config::{Kindness, Now, ParseVersionError, ServerConfig, Version};
pub use effect::{Cause, Commit, Effect, Incarnation, Removed};

use crate::wire::{ClientOp, LinkId, Request, RequestId, ServerOp};
use context::Context;
use jetstream::{JetStream, Service};
use messaging::Messaging;
use security::{Account, Security};
use timers::{Timer, Timers};
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
}

/// What every event handler needs beside the state it changes.
#[derive(Debug)]
struct Surroundings {
    config: ServerConfig,
    rng: Rng,
    timers: Timers,
    cached_clock_phase: Duration,
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
    /// A running server without connections or buckets.
    pub fn new(config: ServerConfig, mut rng: Rng) -> Self {
        let cached_clock_phase = Context::draw_phase(&mut rng);
        let surroundings = Surroundings {
            config,
            rng,
            timers: Timers::default(),
            cached_clock_phase,
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
                self.jetstreams[account.0].unsubscribed(&mut ctx, link, sid);
            }
            ClientOp::Publish { message } => self.publish(now, link, account, message, effects),
            ClientOp::Request { id, request } => {
                self.request(now, link, account, id, request, effects);
            }
        }
    }

    /// The server sees the end of a connection.
    pub fn closed(&mut self, now: Now, link: LinkId) {
        let mut no_effects = Vec::new();
        let mut account = Account::default();
        if let Some(security) = &mut self.security {
            account = security
                .session(link)
                .map_or(account, |session| session.account);
            security.forget(link);
        }
        let mut ctx = self.surroundings.ctx(now, account, &mut no_effects);
        for sid in self.messaging.close(link) {
            self.jetstreams[account.0].unsubscribed(&mut ctx, link, sid);
        }
        debug_assert!(
            no_effects.is_empty(),
            "nobody is told of a closed connection"
        );
    }

    /// When it next wants to be woken, on its monotonic clock.
    pub fn deadline(&self) -> Option<Instant> {
        self.surroundings.timers.next()
    }

    /// Does everything that is due.
    pub fn on_deadline(&mut self, now: Now, effects: &mut Vec<Effect>) {
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
                Timer::Bucket(bucket, timer) => {
                    self.jetstreams[account.0].on_timer(&mut ctx, bucket, timer);
                }
            }
        }
    }

    /// The process ends: by `SIGTERM` or by `SIGKILL`, to clients it is the same. Connections, subscriptions, consumers
    /// and buckets in memory are gone; buckets on files stay with every write that was acknowledged. It is for the
    /// world to cut the links.
    pub fn stop(&mut self, effects: &mut Vec<Effect>) {
        self.is_running = false;
        self.is_lame_duck = false;
        self.surroundings.timers.clear();
        self.messaging = Messaging::new(self.jetstreams.len());
        if let Some(security) = &mut self.security {
            security.stop();
        }
        let kindness = self.surroundings.config.kindness;
        for jetstream in &mut self.jetstreams {
            jetstream.stop(kindness, effects);
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
        let grace = match self.messaging.links().len() {
            0 => Duration::ZERO,
            _ => ctx.config.lame_duck_grace,
        };
        ctx.set_timer(grace, Timer::LameDuck);
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
        if self.messaging.hears_keys(account)
            && let Request::Write {
                bucket,
                key,
                write,
                expected,
            } = &request
        {
            let is_heard = self.overhear(now, account, bucket, key, write, *expected, effects);
            let has_stream = self.jetstreams[account.0].bucket(bucket).is_some();
            if is_heard && !has_stream {
                // Somebody has it, so the server does not say that nobody does; but nobody will acknowledge it.
                return;
            }
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
        self.closed(now, link);
    }

    /// A lame duck closes one connection, at random, and exits after the last.
    fn close_next(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let links: Vec<LinkId> = self.messaging.links().collect();
        if let Some(&link) = self.surroundings.rng.pick(&links) {
            effects.push(Effect::Close { link });
            self.closed(now, link);
        }
        if links.len() <= 1 {
            effects.push(Effect::Exit);
            self.stop(effects);
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
    /// The names of all buckets, in order.
    pub fn buckets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.jetstreams[0].names()
    }

    /// What the server knows of a bucket.
    pub fn bucket(&self, bucket: &str) -> Option<BucketInfo> {
        self.jetstreams[0]
            .bucket(bucket)
            .map(|bucket| bucket.info())
    }

    /// Which life of its name a bucket is.
    pub fn incarnation(&self, bucket: &str) -> Option<Incarnation> {
        self.jetstreams[0]
            .bucket(bucket)
            .map(|bucket| bucket.incarnation)
    }

    /// The latest revision that a bucket has given out.
    pub fn last_revision(&self, bucket: &str) -> Option<Revision> {
        self.jetstreams[0]
            .bucket(bucket)
            .map(|bucket| bucket.store.last())
    }

    /// Every record of a bucket, ascending; none where there is no such bucket.
    pub fn records(&self, bucket: &str) -> impl Iterator<Item = &KvEntry> {
        let bucket = self.jetstreams[0].bucket(bucket);
        bucket
            .into_iter()
            .flat_map(|bucket| bucket.store.from(Revision::NONE))
            .map(|record| &record.entry)
    }

    /// The latest record of a key.
    pub fn entry(&self, bucket: &str, key: &str) -> Option<&KvEntry> {
        self.jetstreams[0].bucket(bucket)?.entry(key)
    }

    /// Consumers of a bucket, those included that have lost their subscription and are still kept.
    pub fn consumers(&self, bucket: &str) -> usize {
        self.jetstreams[0]
            .bucket(bucket)
            .map_or(0, |bucket| bucket.consumers())
    }

    /// Connections that the server believes to be open, ascending.
    pub fn links(&self) -> impl ExactSizeIterator<Item = LinkId> {
        self.messaging.links()
    }
}
