//! A server as one of a cluster: what crosses routes.
//!
//! To core messaging, the route to another server is one more connection, whose subscriptions are those of the clients
//! there: so queue groups span servers, and a route that is silent still counts as interest. Where requests to
//! JetStream go is in [`asking`](super::asking), what servers agree upon in [`agreement`](super::agreement).

use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use super::config::Now;
use super::effect::{Effect, Incarnation};
use super::member::{ACCOUNT, Member, SIZE, Told, route_link};
use super::parley::{RouteOp, Serves};
use super::timers::{StreamTimer, Timer};
use crate::cluster::Peer;
use crate::wire::{ClientOp, LinkId, ServerOp, Sid};

/// A follower answers direct reads so long after it has begun to follow (2.07 to 2.09 s measured).
pub(super) const READS_AFTER: Duration = Duration::from_secs(2);
/// A route is pinged so often, and closed when it has been silent for three pings (84 to 86 s measured).
const ROUTE_PING: Duration = Duration::from_secs(30);

impl Broker {
    /// Makes this server, which must be fresh, one of a cluster of three. Routes come up by [`route_up`](Self::route_up).
    ///
    /// # Panics
    /// If it is in operator mode: accounts of a cluster are not modelled.
    pub fn join(&mut self, now: Now, me: Peer) {
        assert!(
            self.security.is_none(),
            "not modelled: several accounts in a cluster"
        );
        let member = Member::new(me, now.monotonic, &mut self.surroundings.rng);
        self.member = Some(Box::new(member));
        self.arm_groups(now);
    }

    /// The process is back: what it serves without asking anybody, it serves at once.
    pub(super) fn rejoin(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(member) = &mut self.member else {
            return;
        };
        member.start(now.monotonic, &mut self.surroundings.rng);
        let me = member.me;
        let mine = member
            .streams
            .iter()
            .filter(|(_, s)| s.holders.contains(&me));
        let mine =
            mine.map(|(name, stream)| (Arc::clone(name), stream.group, stream.is_replicated()));
        for (name, group, is_replicated) in mine.collect::<Vec<_>>() {
            if is_replicated {
                let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
                ctx.set_timer(READS_AFTER, Timer::Reads(group.0));
            } else {
                let is_all = |serves: &mut Serves| (serves.writes, serves.reads) = (true, true);
                self.serve_stream(&name, is_all, effects);
            }
        }
        self.arm_groups(now);
    }

    /// The sweep of a stream is due.
    pub(super) fn sweep_as_member(
        &mut self,
        now: Now,
        incarnation: Incarnation,
        effects: &mut Vec<Effect>,
    ) {
        let Some(name) = self.jetstreams[ACCOUNT.0].name_of(incarnation) else {
            return;
        };
        let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
        let Some(stream) = self.jetstreams[ACCOUNT.0].stream_mut(&name) else {
            return;
        };
        if !stream.is_swept_together() {
            self.jetstreams[ACCOUNT.0].on_timer(&mut ctx, incarnation, StreamTimer::Sweep);
        } else if stream.is_sweep_due(now.monotonic) {
            // Followers look again too: they may lead by then.
            stream.sweep_again(&mut ctx);
            self.propose_sweep(now, &name, effects);
        }
    }

    /// A route to another server is there.
    pub fn route_up(&mut self, now: Now, peer: Peer, effects: &mut Vec<Effect>) {
        self.route_down(now, peer, effects);
        let Some(member) = &mut self.member else {
            return;
        };
        let me = member.me;
        let state = member.peer(peer);
        (state.is_up, state.heard_at) = (true, now.monotonic);
        self.messaging.open_route(now.monotonic, route_link(peer));
        for told in member.told.values() {
            let op = subscribe(told);
            effects.push(Effect::Route { to: peer, op });
        }
        for (stream, serves) in &member.peer(me).serves {
            let (stream, serves) = (Arc::clone(stream), *serves);
            let op = RouteOp::Serves { stream, serves };
            effects.push(Effect::Route { to: peer, op });
        }
        let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
        ctx.set_timer(ROUTE_PING, Timer::Route(peer));
    }

    /// A route to another server is gone: so are its clients, to those here, and what it serves.
    pub fn route_down(&mut self, now: Now, peer: Peer, effects: &mut Vec<Effect>) {
        let Some(member) = &mut self.member else {
            return;
        };
        let state = member.peer(peer);
        state.is_up = false;
        state.serves.clear();
        self.messaging.close(route_link(peer));
        let homes = &mut member.homes;
        let gone: Vec<LinkId> = homes
            .iter()
            .filter(|(_, home)| **home == peer)
            .map(|(link, _)| *link)
            .collect();
        homes.retain(|_, home| *home != peer);
        let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
        for link in gone {
            self.jetstreams[ACCOUNT.0].disconnected(&mut ctx, link);
        }
    }

    /// A route was to be pinged.
    pub(super) fn ping_route(&mut self, now: Now, peer: Peer, effects: &mut Vec<Effect>) {
        let Some(member) = &mut self.member else {
            return;
        };
        let state = member.peer(peer);
        if !state.is_up {
            return;
        }
        if now.monotonic.since(state.heard_at) > ROUTE_PING * 5 / 2 {
            self.route_down(now, peer, effects);
            return;
        }
        let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
        ctx.set_timer(ROUTE_PING, Timer::Route(peer));
    }

    /// Another server says something.
    pub fn routed(&mut self, now: Now, from: Peer, op: RouteOp, effects: &mut Vec<Effect>) {
        let Some(member) = &mut self.member else {
            return;
        };
        member.peer(from).heard_at = now.monotonic;
        if !member.peer(from).is_up {
            // The route was given up, and is dialled again.
            self.route_up(now, from, effects);
        }
        let Some(member) = &mut self.member else {
            return;
        };
        match op {
            RouteOp::Subscribe {
                sid,
                subject,
                queue,
            } => {
                let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
                self.messaging
                    .subscribe(&mut ctx, route_link(from), sid, subject, queue, None);
            }
            RouteOp::Unsubscribe { sid } => self.messaging.unsubscribe(route_link(from), sid),
            RouteOp::Message { sid, message } => {
                if let Some((link, sid)) = member.numbered(sid) {
                    let op = ServerOp::Message { sid, message };
                    effects.push(Effect::Send { link, op });
                }
            }
            RouteOp::Ask {
                asker,
                request,
                is_placed,
            } => {
                // Not to whoever has handed it on: answers and deliveries that took two ways would overtake each other.
                if asker.server != member.me {
                    member.homes.insert(asker.link, asker.server);
                }
                self.asked(now, asker, request, is_placed, effects);
            }
            RouteOp::Tell { link, op } => effects.push(Effect::Send { link, op }),
            RouteOp::Over { link, sid } => {
                let mut ctx = self.surroundings.ctx(now, ACCOUNT, effects);
                self.jetstreams[ACCOUNT.0].unsubscribed(&mut ctx, link, sid);
            }
            RouteOp::Serves { stream, serves } => {
                member.peer(from).serves.insert(stream, serves);
            }
            RouteOp::Word { group, word } => self.hear_word(now, from, group, word, effects),
        }
    }

    /// Tells the others of a subscription here.
    pub(super) fn tell_subscribed(
        &mut self,
        link: LinkId,
        op: &ClientOp,
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = &mut self.member else {
            return;
        };
        match op {
            ClientOp::Subscribe {
                sid,
                subject,
                queue,
            } if !member.told.contains_key(&(link, *sid)) => {
                let told = Told {
                    number: member.number(link, *sid),
                    subject: Arc::clone(subject),
                    queue: queue.clone(),
                };
                for to in member.reachable() {
                    let op = subscribe(&told);
                    effects.push(Effect::Route { to, op });
                }
                member.told.insert((link, *sid), told);
            }
            ClientOp::Unsubscribe { sid } => self.tell_unsubscribed(link, *sid, effects),
            _ => {}
        }
    }

    /// Tells the others that a subscription here is over.
    pub(super) fn tell_unsubscribed(&mut self, link: LinkId, sid: Sid, effects: &mut Vec<Effect>) {
        let Some(member) = &mut self.member else {
            return;
        };
        let number = member.forget(link, sid);
        for to in member.reachable() {
            if let Some(sid) = number {
                let op = RouteOp::Unsubscribe { sid };
                effects.push(Effect::Route { to, op });
            }
            let op = RouteOp::Over { link, sid };
            effects.push(Effect::Route { to, op });
        }
    }

    /// Turns what is for clients of other servers into words on the routes to those.
    pub(super) fn send_home(&self, begun: usize, effects: &mut [Effect]) {
        let Some(member) = &self.member else {
            return;
        };
        for effect in &mut effects[begun..] {
            let Effect::Send { link, op } = effect else {
                continue;
            };
            let route = (0..SIZE).map(Peer).find(|peer| route_link(*peer) == *link);
            if let (Some(to), ServerOp::Message { sid, message }) = (route, &*op) {
                let (sid, message) = (*sid, message.clone());
                let op = RouteOp::Message { sid, message };
                *effect = Effect::Route { to, op };
            } else if let Some(&to) = member.homes.get(link) {
                let (link, op) = (*link, op.clone());
                let op = RouteOp::Tell { link, op };
                *effect = Effect::Route { to, op };
            }
        }
    }

    /// Says what this server does for a stream from now on.
    pub(super) fn serve_stream(
        &mut self,
        stream: &Arc<str>,
        change: impl FnOnce(&mut Serves),
        effects: &mut Vec<Effect>,
    ) {
        let Some(member) = &mut self.member else {
            return;
        };
        let me = member.me;
        let serves = member
            .peer(me)
            .serves
            .entry(Arc::clone(stream))
            .or_default();
        change(serves);
        let serves = *serves;
        for to in member.reachable() {
            let stream = Arc::clone(stream);
            let op = RouteOp::Serves { stream, serves };
            effects.push(Effect::Route { to, op });
        }
    }
}

fn subscribe(told: &Told) -> RouteOp {
    RouteOp::Subscribe {
        sid: told.number,
        subject: Arc::clone(&told.subject),
        queue: told.queue.clone(),
    }
}
