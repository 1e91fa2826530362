//! What the fabric does with everything that is due: hands parcels to brokers and clients, and does what they want done.
//!
//! Pure but for wakers: all of it is one change of the world, at one instant of true time.

use std::sync::Arc;

use crate::broker::{Broker, Cause, Effect, Now};
use crate::client::ClientKey;
use crate::link::{Direction, LinkKey, Parcel};
use crate::moments::variant;
use crate::net::Due;
use crate::trace::{Bite, Truth};
use crate::wire::{ClientOp, LinkId};
use crate::world::{ServerKey, SleepKey, State};

impl State {
    /// Hands out everything that is due.
    pub(crate) fn step(&mut self) {
        while let Some(due) = self.net.queue.pop_due() {
            match due {
                Due::Link(link, Direction::ToServer) => self.arrive_at_server(link),
                Due::Link(link, Direction::ToHost) => self.arrive_at_host(link),
                Due::Route(from, to) => self.arrive_over_route(from, to),
                Due::Client(key, generation) => self.client_timer(key, generation),
                Due::Server(key, generation) => self.server_timer(key, generation),
                Due::Sleep(key) => self.wake_sleeper(key),
            }
        }
    }

    fn arrive_at_server(&mut self, key: LinkKey) {
        loop {
            let net = &mut self.net;
            let Some(link) = net.links.get_mut(key) else {
                return;
            };
            link.up.armed = false;
            let Some(at) = link.up.arrival() else {
                return;
            };
            if at > net.now {
                link.up.armed = true;
                net.queue.push(at, Due::Link(key, Direction::ToServer));
                return;
            }
            let route = &net.hosts[link.host.0 as usize].routes[link.server.0 as usize];
            if route.is_blocked(Direction::ToServer) {
                net.bites.add(Bite::Partition);
                return;
            }
            let to = link.server;
            let server = &self.servers[to.0 as usize];
            if server.paused > 0 {
                net.bites.add(Bite::Server);
                return;
            }
            let Some(parcel) = link.up.pop() else {
                return;
            };
            let is_last = link.up.is_empty();
            net.trace.add(net.now, 1, link_id(key).0);
            match parcel {
                Parcel::Op(op) if link.server_open => {
                    if server.muted > 0 && matches!(op, ClientOp::Request { .. }) {
                        net.bites.add(Bite::Mute);
                    }
                    self.serve(to, |broker, now, effects| {
                        broker.receive(now, link_id(key), op, effects);
                    });
                }
                // The server's end is closed: nobody reads it any more.
                Parcel::Op(_) => {}
                Parcel::Open => self.open_at_server(key, to),
                Parcel::Eof | Parcel::Refused => self.closed_at_server(key, to),
            }
            if is_last {
                return;
            }
        }
    }

    #[cold]
    fn open_at_server(&mut self, key: LinkKey, server: ServerKey) {
        if !self.servers[server.0 as usize].running {
            self.net.bites.add(Bite::Server);
            self.net.push_down(key, Parcel::Refused);
        } else if let Some(link) = self.net.links.get_mut(key) {
            link.server_open = true;
            self.serve(server, |broker, now, effects| {
                broker.open(now, link_id(key), effects)
            });
        }
    }

    #[cold]
    fn closed_at_server(&mut self, key: LinkKey, server: ServerKey) {
        let link = self.net.links.get_mut(key);
        if link.is_some_and(|link| std::mem::replace(&mut link.server_open, false)) {
            self.serve(server, |broker, now, effects| {
                broker.closed(now, link_id(key), effects);
            });
        }
        self.net.forget_if_over(key);
    }

    fn arrive_at_host(&mut self, key: LinkKey) {
        loop {
            let net = &mut self.net;
            let Some(link) = net.links.get_mut(key) else {
                return;
            };
            link.down.armed = false;
            let Some(at) = link.down.arrival() else {
                return;
            };
            if at > net.now {
                link.down.armed = true;
                net.queue.push(at, Due::Link(key, Direction::ToHost));
                return;
            }
            let host = &net.hosts[link.host.0 as usize];
            if host.routes[link.server.0 as usize].is_blocked(Direction::ToHost) {
                net.bites.add(Bite::Partition);
                return;
            }
            // Where its client is gone, nobody stands still.
            let client = self.clients.get_mut(link.client);
            let is_paused = self.processes[link.process.0 as usize].paused > 0;
            if client.is_some() && (is_paused || host.suspended > 0) {
                net.bites.add(Bite::Frozen);
                return;
            }
            let Some(parcel) = link.down.pop() else {
                return;
            };
            let is_last = link.down.is_empty();
            net.trace.add(net.now, 2, link_id(key).0);
            match (parcel, client) {
                (Parcel::Op(op), Some(client)) => client.receive(net, key, op),
                (end @ (Parcel::Eof | Parcel::Refused), client) => {
                    link.client_open = false;
                    net.forget_if_over(key);
                    if let Some(client) = client {
                        let is_refused = matches!(end, Parcel::Refused);
                        client.disconnected(net, key, is_refused);
                        client.arm(net);
                    }
                }
                (Parcel::Open | Parcel::Op(_), _) => {}
            }
            if is_last {
                return;
            }
        }
    }

    fn is_frozen(&self, client: ClientKey) -> bool {
        self.clients.get(client).is_some_and(|client| {
            self.processes[client.process.0 as usize].paused > 0
                || self.net.host(client.host).suspended > 0
        })
    }

    fn client_timer(&mut self, key: ClientKey, generation: u32) {
        let now = self.net.now;
        self.net.trace.add(now, 3, u64::from(generation));
        if self.is_frozen(key) {
            // A stopped process sees its timers when it goes on.
            self.net.bites.add(Bite::Frozen);
            return;
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.on_timer(&mut self.net, generation);
            client.arm(&mut self.net);
        }
    }

    fn wake_sleeper(&mut self, key: SleepKey) {
        let Some(sleeper) = self.sleepers.get(key) else {
            return;
        };
        if self.net.time_of(sleeper.host) >= sleeper.deadline {
            sleeper.waker.wake_by_ref();
        } else if let Some(at) = self.net.true_time_of(sleeper.host, sleeper.deadline) {
            // The clock was slowed meanwhile.
            self.net.queue.push(at, Due::Sleep(key));
        }
    }

    // --- servers ---

    /// Lets a running server do something, and does what it wants done.
    pub(crate) fn serve(
        &mut self,
        key: ServerKey,
        work: impl FnOnce(&mut Broker, Now, &mut Vec<Effect>),
    ) {
        let mut effects = std::mem::take(&mut self.effects);
        let server = &mut self.servers[key.0 as usize];
        let now = Now {
            monotonic: server.clock.now(self.net.now),
            wall: server.clock.wall(self.net.now),
        };
        work(&mut server.broker, now, &mut effects);
        for effect in effects.drain(..) {
            self.perform(key, effect);
        }
        self.effects = effects;
        self.arm_server(key);
    }

    fn perform(&mut self, server: ServerKey, effect: Effect) {
        if let Some(moments) = &mut self.net.moments {
            let name = match &effect {
                // What is sent is noticed where it is.
                Effect::Send { .. } => None,
                Effect::Removed(removed) => Some(format!("server removes {:?}", removed.cause)),
                other => Some(format!("server does {}", variant(other))),
            };
            if let Some(name) = name {
                moments.add(self.net.now, &self.server_names[server.0 as usize], &name);
            }
        }
        match effect {
            Effect::Send { link, op } => self.net.send_down(link_key(link), op),
            Effect::Close { link } => {
                let key = link_key(link);
                if let Some(link) = self.net.links.get_mut(key) {
                    link.server_open = false;
                    self.net.push_down(key, Parcel::Eof);
                }
            }
            Effect::Route { to, op } => self.say(server, to, op),
            Effect::Exit => self.server_gone(server),
            Effect::Commit(commit) if self.is_new_commit(server, &commit) => {
                let at = self.net.now;
                self.net.trace.add(at, 4, commit.entry.revision.0);
                let by = commit.by.and_then(|(link, _)| self.name_of(link));
                self.testify(Truth::Committed { at, commit, by });
            }
            Effect::Removed(removed) if self.is_new_removal(server, &removed) => {
                let at = self.net.now;
                self.net.trace.add(at, 5, removed.revision.0);
                // That a newer record has taken the place says the newer record itself.
                if removed.cause != Cause::Evicted {
                    self.testify(Truth::Removed { at, removed });
                }
            }
            Effect::Stored(stored) if self.is_new_message(server, &stored) => {
                let at = self.net.now;
                self.net.trace.add(at, 6, stored.sequence.0);
                let by = stored.by.and_then(|(link, _)| self.name_of(link));
                self.testify(Truth::Stored { at, stored, by });
            }
            Effect::Dropped(dropped) if self.is_new_drop(server, &dropped) => {
                let at = self.net.now;
                self.net.trace.add(at, 7, dropped.sequence.0);
                self.testify(Truth::Dropped { at, dropped });
            }
            Effect::LostTail(lost) => {
                let at = self.net.now;
                self.net.trace.add(at, 8, lost.last.0);
                self.testify(Truth::LostTail { at, lost });
            }
            Effect::Commit(_) | Effect::Removed(_) | Effect::Stored(_) | Effect::Dropped(_) => {
                // Another server of the cluster has said so before.
            }
        }
    }

    /// The name of the process that has this link.
    fn name_of(&self, link: LinkId) -> Option<Arc<str>> {
        let link = self.net.links.get(link_key(link))?;
        Some(Arc::clone(&self.processes[link.process.0 as usize].name))
    }

    /// The server's process is gone: its kernel closes every connection.
    pub(crate) fn server_gone(&mut self, key: ServerKey) {
        self.servers[key.0 as usize].running = false;
        self.servers[key.0 as usize].paused = 0;
        for link in self.net.links_of(None, Some(key)) {
            if let Some(open) = self.net.links.get_mut(link)
                && std::mem::replace(&mut open.server_open, false)
            {
                self.net.bites.add(Bite::Server);
                self.net.push_down(link, Parcel::Eof);
            }
        }
        self.close_routes(key);
    }

    pub(crate) fn arm_server(&mut self, key: ServerKey) {
        let server = &mut self.servers[key.0 as usize];
        if !server.running || server.paused > 0 {
            return;
        }
        let Some(deadline) = server.broker.deadline() else {
            return;
        };
        let Some(at) = server.clock.true_time_of(deadline) else {
            return;
        };
        let at = at.max(self.net.now);
        if server.armed.is_none_or(|armed| at < armed) {
            server.armed = Some(at);
            server.generation = server.generation.wrapping_add(1);
            self.net.queue.push(at, Due::Server(key, server.generation));
        }
    }

    /// The server's clock or state has changed: what is in the queue for it no longer counts.
    pub(crate) fn rearm_server(&mut self, key: ServerKey) {
        let server = &mut self.servers[key.0 as usize];
        server.armed = None;
        server.generation = server.generation.wrapping_add(1);
        self.arm_server(key);
    }

    fn server_timer(&mut self, key: ServerKey, generation: u32) {
        let server = &mut self.servers[key.0 as usize];
        if generation != server.generation {
            return;
        }
        server.armed = None;
        if server.running && server.paused == 0 {
            self.serve(key, Broker::on_deadline);
        }
    }

    // --- processes ---

    pub(crate) fn remove_client(&mut self, key: ClientKey) {
        if let Some(mut client) = self.clients.remove(key) {
            client.close(&mut self.net);
            let process = &mut self.processes[client.process.0 as usize];
            process.clients.retain(|other| *other != key);
        }
    }
}

pub(crate) fn link_id(key: LinkKey) -> LinkId {
    LinkId(slotmap::Key::data(&key).as_ffi())
}

fn link_key(id: LinkId) -> LinkKey {
    slotmap::KeyData::from_ffi(id.0).into()
}
