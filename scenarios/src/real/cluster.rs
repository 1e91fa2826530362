//! Three nats-server processes as one JetStream cluster, whose routes go through proxies of ours.
//!
//! ```text
//!   n1 ──▶ proxy(1,2) ──▶ n2          each server dials each other one; both ways of a pair are held
//!   n1 ◀── proxy(2,1) ◀── n2          where one direction of the pair is to fall silent
//! ```
//!
//! Servers tell each other where the others can be dialled, and would find a way around the proxies: so each advertises
//! an address where nobody listens, and none tells clients of the others. A route that falls silent keeps its sockets
//! open, as in a network that loses packets; the servers notice by what does not come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::proxy::{Direction, Proxy};
use super::question::ask;
use super::server::{NatsServer, ServerError, ServerOptions};

/// Servers of a cluster.
pub const SIZE: usize = crate::fault::CLUSTER_SIZE;

/// How long a cluster may take until all of its servers follow one leader, on a machine that is busy.
const SETTLE_MAX: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// The user of the system account, and its password.
const SYSTEM: &str = "sys";

/// What cluster to start.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// The version, one of [`VERSIONS`](super::VERSIONS); `None`: the one that the surroundings name.
    pub version: Option<String>,
    /// More text for the `jetstream` block of each server, for example `sync_interval: always`.
    pub jetstream: String,
}

/// A cluster; its servers are numbered from 0 and called `n1`, `n2`, `n3`.
#[derive(Debug)]
pub struct NatsCluster {
    servers: Vec<NatsServer>,
    /// By who dials, and who is dialled.
    routes: BTreeMap<(usize, usize), Proxy>,
}

impl NatsCluster {
    /// Starts the servers and waits until they have [settled](Self::settle).
    ///
    /// # Errors
    /// One sentence, with the last line of a server's log where there is one.
    pub async fn start(options: ClusterOptions) -> Result<Self, ServerError> {
        let mut cluster = Self {
            servers: Vec::new(),
            routes: BTreeMap::new(),
        };
        for from in 0..SIZE {
            for to in others(from) {
                let proxy = Proxy::start_aimless().await?;
                cluster.routes.insert((from, to), proxy);
            }
        }
        for server in 0..SIZE {
            let started = NatsServer::start(ServerOptions {
                version: options.version.clone(),
                config: cluster.config(server),
                jetstream: options.jetstream.clone(),
                is_member: true,
                realm: None,
            });
            let started = started.await?;
            cluster.servers.push(started);
            cluster.aim(server);
        }
        cluster.settle().await?;
        Ok(cluster)
    }

    fn config(&self, server: usize) -> String {
        let routes: Vec<String> = others(server)
            .filter_map(|to| self.routes.get(&(server, to)))
            .map(|proxy| format!("\"nats-route://{}\"", proxy.address()))
            .collect();
        format!(
            r#"
server_name: {name}
cluster {{
  name: squall, listen: "127.0.0.1:-1", routes: [{routes}]
  no_advertise: true, advertise: "127.0.0.1:1", compression: off
}}
accounts {{
  A {{ jetstream: enabled, users: [{{ user: a, password: a }}] }}
  $SYS {{ users: [{{ user: {SYSTEM}, password: {SYSTEM} }}] }}
}}
no_auth_user: a
"#,
            name = Self::name(server),
            routes = routes.join(", "),
        )
    }

    /// What this server is called where a stream says who leads it.
    pub fn name(server: usize) -> String {
        format!("n{}", server + 1)
    }

    /// The server that is called so.
    pub fn number(name: &str) -> Option<usize> {
        (0..SIZE).find(|server| Self::name(*server) == name)
    }

    /// `nats://127.0.0.1:PORT` of this server; stays the same across restarts.
    pub fn url(&self, server: usize) -> String {
        self.servers[server].url()
    }

    /// One of the servers.
    pub fn server(&self, server: usize) -> &NatsServer {
        &self.servers[server]
    }

    /// Asks a server to stop (SIGTERM): it hands its leaderships over before it goes.
    ///
    /// # Errors
    /// If it does not stop.
    pub async fn stop(&mut self, server: usize) -> Result<(), ServerError> {
        self.servers[server].stop().await
    }

    /// Kills a server (SIGKILL).
    ///
    /// # Errors
    /// If it does not die.
    pub async fn kill(&mut self, server: usize) -> Result<(), ServerError> {
        self.servers[server].kill().await
    }

    /// Starts a server again on its port with its store, and waits until it greets; stops it first where it runs.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn restart(&mut self, server: usize) -> Result<(), ServerError> {
        self.servers[server].restart().await?;
        self.aim(server);
        Ok(())
    }

    /// Freezes a server (SIGSTOP).
    ///
    /// # Errors
    /// If there is no process.
    pub async fn pause(&self, server: usize) -> Result<(), ServerError> {
        self.servers[server].pause().await
    }

    /// Lets it run on (SIGCONT).
    ///
    /// # Errors
    /// If there is no process.
    pub fn resume(&self, server: usize) -> Result<(), ServerError> {
        self.servers[server].resume()
    }

    /// What the one server sends does not reach the other, until [`heal`](Self::heal).
    pub fn partition(&self, from: usize, to: usize) {
        self.ways(from, to)
            .for_each(|(proxy, direction)| proxy.hold(direction));
    }

    /// Ends one [`partition`](Self::partition): what was held arrives, in order.
    pub fn heal(&self, from: usize, to: usize) {
        self.ways(from, to)
            .for_each(|(proxy, direction)| proxy.release(direction));
    }

    /// Holds all routes of a server, both ways. Its clients still reach it.
    pub fn isolate(&self, server: usize) {
        for other in others(server) {
            self.partition(server, other);
            self.partition(other, server);
        }
    }

    /// Ends one [`isolate`](Self::isolate).
    pub fn rejoin(&self, server: usize) {
        for other in others(server) {
            self.heal(server, other);
            self.heal(other, server);
        }
    }

    /// Resets the routes between two servers; they dial again.
    pub fn cut(&self, one: usize, other: usize) {
        for pair in [(one, other), (other, one)] {
            self.routes.get(&pair).into_iter().for_each(Proxy::cut);
        }
    }

    /// Waits until the cluster has a leader whom all servers follow.
    ///
    /// # Errors
    /// If it has none in a minute.
    pub async fn settle(&self) -> Result<(), ServerError> {
        let deadline = Instant::now() + SETTLE_MAX;
        while !self.is_settled().await {
            if Instant::now() > deadline {
                let log = self.servers.iter().map(NatsServer::last_log_line);
                return Err(ServerError::Silent {
                    log: log.collect::<Vec<_>>().join(" | "),
                });
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// What the leader of the cluster says of those who follow it.
    async fn is_settled(&self) -> bool {
        for server in &self.servers {
            let subject = "$SYS.REQ.SERVER.PING.JSZ";
            let body = r#"{"leader_only":true}"#;
            let Some(said) = ask(server.address(), SYSTEM, subject, body).await else {
                return false;
            };
            let followers = said["data"]["meta_cluster"]["replicas"].as_array();
            let is_followed = followers.is_some_and(|followers| {
                let follows =
                    |one: &serde_json::Value| one["current"] == true && one["offline"] != true;
                followers.len() == SIZE - 1 && followers.iter().all(follows)
            });
            if !is_followed {
                return false;
            }
        }
        true
    }

    /// The ways that bytes from the one server to the other take: over the route it dialled, and back over the route
    /// it was dialled on.
    fn ways(&self, from: usize, to: usize) -> impl Iterator<Item = (&Proxy, Direction)> {
        let dialled = self.routes.get(&(from, to));
        let was_dialled = self.routes.get(&(to, from));
        let dialled = dialled.map(|proxy| (proxy, Direction::ToServer));
        let was_dialled = was_dialled.map(|proxy| (proxy, Direction::ToClient));
        dialled.into_iter().chain(was_dialled)
    }

    /// Lets the routes to a server end where it listens now.
    fn aim(&self, server: usize) {
        let Some(address) = self.servers[server].route_address() else {
            return;
        };
        for from in others(server) {
            self.routes
                .get(&(from, server))
                .into_iter()
                .for_each(|proxy| proxy.aim(address));
        }
    }
}

fn others(server: usize) -> impl Iterator<Item = usize> {
    (0..SIZE).filter(move |other| *other != server)
}
