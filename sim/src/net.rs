//! The fabric's pure half: hosts, routes and links, and the one queue of what is due when.
//!
//! Nothing here awaits or wakes. The other half, in `fabric`, hands each parcel that is due to a broker or a client.

use std::sync::Arc;
use std::time::Duration;

use slotmap::SlotMap;
use squall_core::{Instant, Rng};

use crate::broker::Kindness;
use crate::client::ClientKey;
use crate::clock::HostClock;
use crate::disk::Disk;
use crate::link::{Direction, Latency, Link, LinkKey, Parcel, Route};
use crate::moments::{Notes, variant};
use crate::queue::Queue;
use crate::trace::{Bite, Bites, Trace};
use crate::wire::{ClientOp, Response, ServerOp};
use crate::world::{HostKey, ProcessKey, ServerKey, SleepKey};

/// What can be due. Small: it is what the queue sorts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// The head of a link's pipe has arrived.
    Link(LinkKey, Direction),
    /// The head of the route from one server to another has arrived.
    Route(ServerKey, ServerKey),
    /// A client's timer, armed under this generation.
    Client(ClientKey, u32),
    /// A server's timer, armed under this generation.
    Server(ServerKey, u32),
    /// A sleeping task of a host.
    Sleep(SleepKey),
}

/// A machine with its clocks, on which processes run.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: Arc<str>,
    pub(crate) clock: HostClock,
    /// One for each server, by its number.
    pub(crate) routes: Vec<Route>,
    pub(crate) disk: Disk,
    /// Sleeps for so many reasons.
    pub(crate) suspended: u32,
}

/// The parts of the world that links need.
#[derive(Debug)]
pub(crate) struct Net {
    /// True time.
    pub(crate) now: Instant,
    pub(crate) seed: u64,
    pub(crate) queue: Queue<Due>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) links: SlotMap<LinkKey, Link>,
    pub(crate) latency: Latency,
    /// Planted in clients, if anything is.
    pub(crate) kindness: Option<Kindness>,
    pub(crate) bites: Bites,
    pub(crate) trace: Trace,
    /// Where somebody wants to know.
    pub(crate) notes: Option<Box<Notes>>,
}

impl Net {
    pub(crate) fn new(seed: u64, latency: Latency) -> Self {
        Self {
            now: Instant::ZERO,
            seed,
            queue: Queue::new(),
            hosts: Vec::new(),
            links: SlotMap::with_key(),
            latency,
            kindness: None,
            bites: Bites::default(),
            trace: Trace::default(),
            notes: None,
        }
    }

    /// Takes down what happens now to this link's host.
    #[cold]
    fn notice(&mut self, key: LinkKey, what: &str, value: &dyn std::fmt::Debug) {
        if let (Some(notes), Some(link)) = (&mut self.notes, self.links.get(key)) {
            notes.add(self.now, &self.hosts[link.host.0 as usize].name, |name| {
                name.push_str(what);
                name.push(' ');
                variant(value, name);
            });
        }
    }

    pub(crate) fn host(&self, host: HostKey) -> &Host {
        &self.hosts[host.0 as usize]
    }

    pub(crate) fn host_mut(&mut self, host: HostKey) -> &mut Host {
        &mut self.hosts[host.0 as usize]
    }

    /// This host's monotonic time.
    pub(crate) fn local(&self, host: HostKey) -> Instant {
        self.host(host).clock.now(self.now)
    }

    /// What the clock of this host shows, or, without one, true time.
    pub(crate) fn time_of(&self, host: Option<HostKey>) -> Instant {
        host.map_or(self.now, |host| self.local(host))
    }

    /// When that will show this; `None` while it stands before it.
    pub(crate) fn true_time_of(&self, host: Option<HostKey>, time: Instant) -> Option<Instant> {
        host.map_or(Some(time), |host| self.host(host).clock.true_time_of(time))
    }

    pub(crate) fn add_host(&mut self, name: &str, servers: &[Arc<str>]) -> HostKey {
        let key = HostKey(self.hosts.len() as u32);
        let mut rng = Rng::labelled(self.seed, &format!("host/{name}"));
        // Hosts have been up for different times: up to an hour.
        let up = Instant::from_nanos(rng.below(3_600_000_000_000));
        let mut host = Host {
            name: name.into(),
            clock: HostClock::new(up),
            routes: Vec::with_capacity(servers.len()),
            disk: Disk::new(Rng::labelled(self.seed, &format!("disk/{name}"))),
            suspended: 0,
        };
        for server in servers {
            host.routes.push(self.route(name, server));
        }
        self.hosts.push(host);
        key
    }

    pub(crate) fn route(&self, host: &str, server: &str) -> Route {
        Route::new(
            self.latency,
            Rng::labelled(self.seed, &format!("link/{host}/{server}")),
        )
    }

    pub(crate) fn route_mut(&mut self, host: HostKey, server: ServerKey) -> &mut Route {
        &mut self.host_mut(host).routes[server.0 as usize]
    }

    /// Opens a link: its first packet is on the way.
    pub(crate) fn dial(
        &mut self,
        client: ClientKey,
        process: ProcessKey,
        host: HostKey,
        server: ServerKey,
    ) -> LinkKey {
        let key = self.links.insert(Link::new(client, process, host, server));
        self.push_up(key, Parcel::Open);
        key
    }

    pub(crate) fn send_up(&mut self, link: LinkKey, op: ClientOp) {
        if self.notes.is_some() {
            match &op {
                ClientOp::Request { request, .. } => self.notice(link, "client asks", request),
                other => self.notice(link, "client sends", other),
            }
        }
        self.push_up(link, Parcel::Op(op));
    }

    pub(crate) fn push_up(&mut self, key: LinkKey, parcel: Parcel<ClientOp>) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let route = &mut self.hosts[link.host.0 as usize].routes[link.server.0 as usize];
        if route.is_hole(Direction::ToServer) {
            link.torn = true;
            self.bites.add(Bite::Blackhole);
            return;
        }
        link.up.push(route.arrival(self.now), parcel);
        if !link.up.armed {
            link.up.armed = true;
            let at = link.up.arrival().unwrap_or(self.now);
            self.queue.push(at, Due::Link(key, Direction::ToServer));
        }
    }

    pub(crate) fn send_down(&mut self, key: LinkKey, op: ServerOp) {
        if self.notes.is_some() {
            match &op {
                ServerOp::Response {
                    response: Response::Error(error),
                    ..
                } => self.notice(key, "server refuses with", &error.err_code),
                ServerOp::Response { response, .. } => {
                    self.notice(key, "client is answered", response);
                }
                other => self.notice(key, "client hears", other),
            }
        }
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let route = &mut self.hosts[link.host.0 as usize].routes[link.server.0 as usize];
        if route.replies_to_lose > 0 && is_reply(&op) {
            route.replies_to_lose -= 1;
            self.bites.add(Bite::LoseReply);
            return;
        }
        self.push_down(key, Parcel::Op(op));
    }

    pub(crate) fn push_down(&mut self, key: LinkKey, parcel: Parcel<ServerOp>) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let route = &mut self.hosts[link.host.0 as usize].routes[link.server.0 as usize];
        if route.is_hole(Direction::ToHost) {
            link.torn = true;
            self.bites.add(Bite::Blackhole);
            return;
        }
        if route.extra > Duration::ZERO {
            self.bites.add(Bite::Delay);
        }
        link.down.push(route.arrival(self.now), parcel);
        if !link.down.armed {
            link.down.armed = true;
            let at = link.down.arrival().unwrap_or(self.now);
            self.queue.push(at, Due::Link(key, Direction::ToHost));
        }
    }

    /// The client closes its end: what was on its way to it is of no use any more.
    pub(crate) fn hang_up(&mut self, key: LinkKey) {
        if let Some(link) = self.links.get_mut(key) {
            link.client_open = false;
            link.down.clear();
            self.push_up(key, Parcel::Eof);
            self.forget_if_over(key);
        }
    }

    /// Something between the ends resets the link: what is on its way is lost, and both ends are told.
    pub(crate) fn reset(&mut self, key: LinkKey) {
        if let Some(link) = self.links.get_mut(key) {
            link.up.clear();
            link.down.clear();
            link.torn = false;
            self.push_up(key, Parcel::Eof);
            self.push_down(key, Parcel::Eof);
        }
    }

    pub(crate) fn forget_if_over(&mut self, key: LinkKey) {
        if let Some(link) = self.links.get(key)
            && !link.client_open
            && !link.server_open
            && link.up.is_empty()
        {
            self.links.remove(key);
        }
    }

    /// Links of this host, to this server if given, in the order of their places.
    pub(crate) fn links_of(
        &self,
        host: Option<HostKey>,
        server: Option<ServerKey>,
    ) -> Vec<LinkKey> {
        self.links
            .iter()
            .filter(|(_, link)| host.is_none_or(|host| link.host == host))
            .filter(|(_, link)| server.is_none_or(|server| link.server == server))
            .map(|(key, _)| key)
            .collect()
    }

    /// What was held on these links may go on.
    pub(crate) fn rearm(&mut self, links: &[LinkKey]) {
        for &key in links {
            let Some(link) = self.links.get_mut(key) else {
                continue;
            };
            if let (false, Some(at)) = (link.up.armed, link.up.arrival()) {
                link.up.armed = true;
                self.queue.push(at, Due::Link(key, Direction::ToServer));
            }
            if let (false, Some(at)) = (link.down.armed, link.down.arrival()) {
                link.down.armed = true;
                self.queue.push(at, Due::Link(key, Direction::ToHost));
            }
        }
    }
}

/// Only the answer to a write can be lost with an effect behind it.
fn is_reply(op: &ServerOp) -> bool {
    matches!(
        op,
        ServerOp::Response {
            response: Response::Stored(_) | Response::Acked(_),
            ..
        }
    )
}

/// Who runs where, for the checks that deliveries need.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) name: Arc<str>,
    pub(crate) host: HostKey,
    /// Stands still for so many reasons.
    pub(crate) paused: u32,
    pub(crate) alive: bool,
    pub(crate) clients: Vec<ClientKey>,
    /// Connections made so far.
    pub(crate) connections: u64,
    /// Random streams given out so far.
    pub(crate) streams: u64,
}

impl Process {
    pub(crate) const fn new(name: Arc<str>, host: HostKey) -> Self {
        Self {
            name,
            host,
            paused: 0,
            alive: true,
            clients: Vec::new(),
            connections: 0,
            streams: 0,
        }
    }
}

/// The world's processes, by number.
pub(crate) type Processes = Vec<Process>;
