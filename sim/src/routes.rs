//! Routes between the servers of a cluster: what one says to another travels as on any link, ordered and late, and waits
//! while it is blocked.
//!
//! A route is there as soon as both servers run, and gone when one of them ends. Silence does not end it: the servers
//! notice by what does not come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use squall_core::Rng;
use squall_core::transport::Sequence;

use crate::broker::{Cause, Commit, Dropped, Removed, RouteOp, ServerConfig, Stored};
use crate::cluster::Peer;
use crate::link::{Direction, Parcel, Pipe, Route};
use crate::net::Due;
use crate::trace::Bite;
use crate::world::{ServerKey, State, World};

/// One way between two servers.
#[derive(Debug)]
pub(crate) struct ServerRoute {
    pipe: Pipe<RouteOp>,
    way: Route,
}

/// One cluster: its servers, the ways between them, and which of its records are there.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    servers: Vec<ServerKey>,
    routes: BTreeMap<(ServerKey, ServerKey), ServerRoute>,
    records: Known,
    messages: Known,
}

/// What is known to be there, by bucket or by stream: several servers do the same, and the truth is told once.
#[derive(Debug, Default)]
struct Known(BTreeMap<Arc<str>, Held>);

#[derive(Debug, Default)]
struct Held {
    last: Sequence,
    held: BTreeSet<Sequence>,
}

impl Known {
    /// Notes that it is there. True if that is new.
    fn add(&mut self, name: &Arc<str>, sequence: Sequence) -> bool {
        let known = self.0.entry(Arc::clone(name)).or_default();
        if sequence <= known.last {
            return false;
        }
        known.last = sequence;
        known.held.insert(sequence)
    }

    /// Notes that it is there no more. True if that is new.
    fn remove(&mut self, name: &Arc<str>, sequence: Sequence, cause: Cause) -> bool {
        let Some(known) = self.0.get_mut(name) else {
            return false;
        };
        let is_new = known.held.remove(&sequence);
        if cause == Cause::BucketDeleted && known.held.is_empty() {
            self.0.remove(name);
        }
        is_new
    }
}

impl Cluster {
    fn peer(&self, server: ServerKey) -> Option<Peer> {
        let place = self.servers.iter().position(|found| *found == server)?;
        Some(Peer(u8::try_from(place).ok()?))
    }
}

impl World {
    /// Adds three servers as one cluster, all running.
    pub fn add_cluster(&self, configs: [ServerConfig; 3]) -> [ServerKey; 3] {
        let servers = configs.map(|config| self.add_server(config));
        self.change(|state| {
            let mut cluster = Cluster {
                servers: servers.to_vec(),
                ..Cluster::default()
            };
            for from in servers {
                for to in servers.into_iter().filter(|to| *to != from) {
                    let name = |server: ServerKey| &state.server_names[server.0 as usize];
                    let label = format!("route/{}/{}", name(from), name(to));
                    let rng = Rng::labelled(state.net.seed, &label);
                    let route = ServerRoute {
                        pipe: Pipe::new(),
                        way: Route::new(state.net.latency, rng),
                    };
                    cluster.routes.insert((from, to), route);
                }
            }
            let number = state.clusters.len();
            state.clusters.push(cluster);
            for (peer, server) in servers.into_iter().enumerate() {
                state.servers[server.0 as usize].cluster = Some(number);
                let peer = Peer(peer as u8);
                state.serve(server, |broker, now, _| broker.join(now, peer));
            }
            for server in servers {
                state.open_routes(server);
            }
        });
        servers
    }

    /// What the one server says does not reach the other, until [`heal_route`](Self::heal_route).
    pub fn partition_route(&self, from: ServerKey, to: ServerKey) {
        self.change(|state| {
            if let Some(route) = state.route_between(from, to) {
                route.way.blocked[Direction::ToServer as usize] += 1;
            }
        });
    }

    /// Ends one [`partition_route`](Self::partition_route): what waited arrives.
    pub fn heal_route(&self, from: ServerKey, to: ServerKey) {
        self.change(|state| {
            if let Some(route) = state.route_between(from, to) {
                let blocked = &mut route.way.blocked[Direction::ToServer as usize];
                *blocked = blocked.saturating_sub(1);
            }
            state.rearm_route(from, to);
        });
    }

    /// Asks the leader of a stream, or, where none is named, of the cluster, to hand over to another server.
    pub fn step_down(&self, server: ServerKey, stream: Option<&str>) {
        self.change(|state| {
            let of = &state.servers[server.0 as usize];
            if of.running && of.paused == 0 && of.broker.is_leader(stream) {
                state.net.bites.add(Bite::Leader);
                state.serve(server, |broker, now, effects| {
                    broker.step_down(now, stream, effects);
                });
            }
        });
    }

    /// Whether this server takes itself for the leader of a stream, or of the cluster.
    pub fn is_leader(&self, server: ServerKey, stream: Option<&str>) -> bool {
        self.change(|state| {
            let server = &state.servers[server.0 as usize];
            server.running && server.broker.is_leader(stream)
        })
    }
}

impl State {
    fn cluster_of(&mut self, server: ServerKey) -> Option<&mut Cluster> {
        let number = self.servers[server.0 as usize].cluster?;
        self.clusters.get_mut(number)
    }

    fn route_between(&mut self, from: ServerKey, to: ServerKey) -> Option<&mut ServerRoute> {
        self.cluster_of(from)?.routes.get_mut(&(from, to))
    }

    /// The servers of the same cluster, this one not among them.
    fn companions(&mut self, server: ServerKey) -> Vec<ServerKey> {
        let servers = self.cluster_of(server).map(|cluster| &cluster.servers);
        let companions = servers.into_iter().flatten().copied();
        companions.filter(|other| *other != server).collect()
    }

    /// A server runs: the routes between it and the others that run come up.
    pub(crate) fn open_routes(&mut self, server: ServerKey) {
        for other in self.companions(server) {
            if self.servers[other.0 as usize].running {
                self.push_route(server, other, Parcel::Open);
                self.push_route(other, server, Parcel::Open);
            }
        }
    }

    /// A server's process is gone: what was on its way to it is lost, and the others see the end of their routes.
    pub(crate) fn close_routes(&mut self, server: ServerKey) {
        for other in self.companions(server) {
            if let Some(route) = self.route_between(other, server) {
                route.pipe.clear();
            }
            self.push_route(server, other, Parcel::Eof);
        }
    }

    pub(crate) fn say(&mut self, from: ServerKey, to: Peer, op: RouteOp) {
        let to = self.cluster_of(from).and_then(|cluster| {
            let to = cluster.servers.get(usize::from(to.0))?;
            Some(*to)
        });
        if let Some(to) = to.filter(|to| self.servers[to.0 as usize].running) {
            self.push_route(from, to, Parcel::Op(op));
        }
    }

    fn push_route(&mut self, from: ServerKey, to: ServerKey, parcel: Parcel<RouteOp>) {
        let now = self.net.now;
        if let Some(route) = self.route_between(from, to) {
            let arrival = route.way.arrival(now);
            route.pipe.push(arrival, parcel);
            self.rearm_route(from, to);
        }
    }

    fn rearm_route(&mut self, from: ServerKey, to: ServerKey) {
        let Some(route) = self.route_between(from, to) else {
            return;
        };
        if let (false, Some(at)) = (route.pipe.armed, route.pipe.arrival()) {
            route.pipe.armed = true;
            self.net.queue.push(at, Due::Route(from, to));
        }
    }

    /// A server goes on: so does what waited for it.
    pub(crate) fn rearm_routes_to(&mut self, server: ServerKey) {
        for other in self.companions(server) {
            self.rearm_route(other, server);
        }
    }

    pub(crate) fn arrive_over_route(&mut self, from: ServerKey, to: ServerKey) {
        loop {
            let now = self.net.now;
            let is_frozen = self.servers[to.0 as usize].paused > 0;
            let Some(route) = self.route_between(from, to) else {
                return;
            };
            route.pipe.armed = false;
            let Some(at) = route.pipe.arrival() else {
                return;
            };
            if at > now {
                self.rearm_route(from, to);
                return;
            }
            if route.way.is_blocked(Direction::ToServer) {
                self.net.bites.add(Bite::Partition);
                return;
            }
            if is_frozen {
                self.net.bites.add(Bite::Server);
                return;
            }
            if let Some(parcel) = route.pipe.pop() {
                self.deliver_over_route(from, to, parcel);
            }
        }
    }

    fn deliver_over_route(&mut self, from: ServerKey, to: ServerKey, parcel: Parcel<RouteOp>) {
        let now = self.net.now;
        self.net
            .trace
            .add(now, 6, u64::from(from.0) << 32 | u64::from(to.0));
        let peer = self.cluster_of(to).and_then(|cluster| cluster.peer(from));
        let Some(peer) = peer.filter(|_| self.servers[to.0 as usize].running) else {
            return;
        };
        self.serve(to, |broker, now, effects| match parcel {
            Parcel::Open => broker.route_up(now, peer, effects),
            Parcel::Op(op) => broker.routed(now, peer, op, effects),
            Parcel::Eof | Parcel::Refused => broker.route_down(now, peer, effects),
        });
    }

    /// Whether what a server says it has stored is news; of a single server it always is.
    pub(crate) fn is_new_commit(&mut self, server: ServerKey, commit: &Commit) -> bool {
        let Some(cluster) = self.cluster_of(server) else {
            return true;
        };
        let revision = commit.entry.revision.into();
        cluster.records.add(&commit.bucket, revision)
    }

    /// The same for what it says it has removed.
    pub(crate) fn is_new_removal(&mut self, server: ServerKey, removed: &Removed) -> bool {
        let Some(cluster) = self.cluster_of(server) else {
            return true;
        };
        let revision = removed.revision.into();
        cluster
            .records
            .remove(&removed.bucket, revision, removed.cause)
    }

    /// The same for a message that it says it has stored.
    pub(crate) fn is_new_message(&mut self, server: ServerKey, stored: &Stored) -> bool {
        let cluster = self.cluster_of(server);
        cluster.is_none_or(|cluster| cluster.messages.add(&stored.stream, stored.sequence))
    }

    /// The same for a message that it says it has dropped.
    pub(crate) fn is_new_drop(&mut self, server: ServerKey, dropped: &Dropped) -> bool {
        let Some(cluster) = self.cluster_of(server) else {
            return true;
        };
        cluster
            .messages
            .remove(&dropped.stream, dropped.sequence, dropped.cause)
    }
}
