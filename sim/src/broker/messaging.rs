//! Core messaging: connections, their subscriptions, who gets a message, and the pings that find dead clients.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use squall_core::Instant;
use squall_core::transport::Message;

use super::config::Kindness;
use super::context::Context;
use super::effect::Effect;
use super::interest::{Interest, Subscriber};
use super::links::Links;
use super::permissions::Permissions;
use super::security::Account;
use super::subject::is_routable;
use super::timers::Timer;
use crate::wire::{LinkId, ServerOp, Sid};

/// After this long, even a busy client is pinged: the server wants to know its round trip.
const ROUND_TRIP_AGE_MAX: Duration = Duration::from_secs(3600);

/// One connection.
#[derive(Debug)]
struct Link {
    /// Whom it hears and is heard by.
    account: Account,
    subscriptions: BTreeMap<Sid, Arc<str>>,
    /// `PING`s sent since the last `PONG`.
    unanswered: u32,
    /// When it last said anything but `PONG`.
    heard_at: Instant,
    /// When it was last pinged.
    pinged_at: Option<Instant>,
}

/// All connections of a server.
#[derive(Debug)]
pub(super) struct Messaging {
    links: Links<Link>,
    /// One for each account: nothing passes between them.
    interests: Vec<Interest>,
    /// Kept to be used again: who gets the message at hand.
    found: Vec<Subscriber>,
    /// Messages to groups, counted only where members take turns.
    turns: usize,
}

impl Messaging {
    pub(super) fn new(accounts: usize) -> Self {
        let mut interests = Vec::new();
        interests.resize_with(accounts, Interest::default);
        Self {
            links: Links::default(),
            interests,
            found: Vec::new(),
            turns: 0,
        }
    }

    /// A connection has logged in.
    pub(super) fn enter(&mut self, link: LinkId, account: Account) {
        if let Some(open) = self.links.get_mut(link) {
            open.account = account;
        }
    }

    pub(super) fn open(&mut self, ctx: &mut Context<'_>, link: LinkId) {
        let opened = Link {
            account: Account::default(),
            subscriptions: BTreeMap::new(),
            unanswered: 0,
            heard_at: ctx.now.monotonic,
            pinged_at: None,
        };
        self.links.insert(link, opened);
        ctx.send(link, info(ctx, false));
        ctx.set_timer(ctx.config.first_ping, Timer::Ping(link));
    }

    pub(super) fn links(&self) -> impl ExactSizeIterator<Item = LinkId> {
        self.links.keys()
    }

    pub(super) fn is_open(&self, link: LinkId) -> bool {
        self.links.get(link).is_some()
    }

    pub(super) fn is_subscribed(&self, link: LinkId, sid: Sid) -> bool {
        self.links
            .get(link)
            .is_some_and(|link| link.subscriptions.contains_key(&sid))
    }

    /// Forgets a connection and gives the subscriptions it had.
    pub(super) fn close(&mut self, link: LinkId) -> Vec<Sid> {
        let Some(closed) = self.links.remove(link) else {
            return Vec::new();
        };
        let interest = &mut self.interests[closed.account.0];
        for (&sid, subject) in &closed.subscriptions {
            interest.remove(subject, link, sid);
        }
        closed.subscriptions.into_keys().collect()
    }

    pub(super) fn subscribe(
        &mut self,
        ctx: &mut Context<'_>,
        link: LinkId,
        sid: Sid,
        subject: Arc<str>,
        queue: Option<Arc<str>>,
        permissions: Option<&Arc<Permissions>>,
    ) {
        if !is_routable(&subject) {
            ctx.send(link, ServerOp::Err("Invalid Subject".into()));
            return;
        }
        let Some(open) = self.links.get_mut(link) else {
            return;
        };
        // The server ignores a second subscription of the same number.
        if let Entry::Vacant(vacant) = open.subscriptions.entry(sid) {
            let denied = permissions
                .filter(|all| all.denies_part_of(&subject))
                .cloned();
            self.interests[open.account.0].add(&subject, link, sid, queue, denied);
            vacant.insert(subject);
        }
    }

    pub(super) fn unsubscribe(&mut self, link: LinkId, sid: Sid) {
        if let Some(open) = self.links.get_mut(link)
            && let Some(subject) = open.subscriptions.remove(&sid)
        {
            self.interests[open.account.0].remove(&subject, link, sid);
        }
    }

    /// True where a core subscription may hear of writes to keys.
    pub(super) fn hears_keys(&self, account: Account) -> bool {
        self.interests[account.0].is_near_keys()
    }

    /// Sends a message to whoever listens: each plain subscription, and one member of each queue group, whichever,
    /// also a member that has stopped reading. Gives the number of copies.
    pub(super) fn route(&mut self, ctx: &mut Context<'_>, message: &Message) -> usize {
        self.found.clear();
        let interest = &self.interests[ctx.account().0];
        interest.matching(&message.subject, &mut self.found);
        let mut groups: BTreeMap<&str, Vec<&Subscriber>> = BTreeMap::new();
        let mut copies = 0;
        for subscriber in &self.found {
            match &subscriber.queue {
                Some(group) => groups.entry(group).or_default().push(subscriber),
                None => {
                    copies += 1;
                    deliver(ctx, subscriber, message);
                }
            }
        }
        for members in groups.values() {
            let member = if ctx.is_kind(Kindness::GroupsTakeTurns) {
                self.turns += 1;
                members.get(self.turns % members.len())
            } else {
                ctx.rng.pick(members)
            };
            if let Some(member) = member {
                copies += 1;
                deliver(ctx, member, message);
            }
        }
        copies
    }

    /// A client says something. False where there is no such connection.
    #[must_use]
    pub(super) fn hear(&mut self, now: Instant, link: LinkId, is_pong: bool) -> bool {
        let Some(open) = self.links.get_mut(link) else {
            return false;
        };
        if is_pong {
            open.unanswered = 0;
        } else {
            open.heard_at = now;
        }
        true
    }

    /// Pings a client, unless it is known to be alive. False if it has left too many unanswered: then it is to be
    /// closed as stale.
    #[must_use]
    pub(super) fn ping(&mut self, ctx: &mut Context<'_>, link: LinkId) -> bool {
        let Some(open) = self.links.get_mut(link) else {
            return true;
        };
        let now = ctx.now.monotonic;
        let is_busy = now.since(open.heard_at) < ctx.config.ping_interval;
        let is_measured = open
            .pinged_at
            .is_some_and(|at| now.since(at) <= ROUND_TRIP_AGE_MAX);
        if is_busy && is_measured {
            ctx.set_timer(ctx.config.ping_interval, Timer::Ping(link));
            return true;
        }
        open.pinged_at = Some(now);
        open.unanswered += 1;
        if open.unanswered > ctx.config.pings_outstanding_max {
            return false;
        }
        ctx.send(link, ServerOp::Ping);
        ctx.set_timer(ctx.config.ping_interval, Timer::Ping(link));
        true
    }

    /// Tells every client that the server is about to shut down.
    pub(super) fn announce_lame_duck(&self, ctx: &mut Context<'_>) {
        for link in self.links() {
            ctx.send(link, info(ctx, true));
        }
    }
}

fn deliver(ctx: &mut Context<'_>, to: &Subscriber, message: &Message) {
    ctx.effects.push(Effect::Send {
        link: to.link,
        op: ServerOp::Message {
            sid: to.sid,
            message: message.clone(),
        },
    });
}

fn info(ctx: &Context<'_>, lame_duck: bool) -> ServerOp {
    ServerOp::Info {
        server: Arc::clone(&ctx.config.name),
        version: ctx.config.version,
        max_payload: ctx.config.max_payload,
        lame_duck,
    }
}
