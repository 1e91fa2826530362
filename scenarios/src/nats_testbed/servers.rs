//! The real servers of a plan, one or a cluster of three, and the faults that are done to them.

use std::net::SocketAddr;
use std::time::Duration;

use squall_core::jwt::Realm;
use squall_core::nats::NatsEnv;
use squall_core::transport::{ConnectOptions, Message};
use squall_core::{Connection as _, Env as _, Transport as _};
use squall_sim::broker::{SyncInterval, Version};

use crate::fault::{Fault, FaultKind, Member};
use crate::plan::Plan;
use crate::real::{ClusterOptions, NatsCluster, NatsServer, ServerError, ServerOptions};

/// How long the API may take to be asked for a change of the leader.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Servers {
    processes: Processes,
    /// The stream that the run is about.
    stream: String,
    /// Of each server: how many faults want it stopped, and frozen.
    stopped: Vec<u32>,
    frozen: Vec<u32>,
}

#[derive(Debug)]
enum Processes {
    One(Box<NatsServer>),
    Three(Box<NatsCluster>),
}

impl Servers {
    /// Those of this plan, which know a realm where they are to ask for credentials.
    pub(super) async fn start(plan: &Plan, realm: Option<Realm>) -> Result<Self, ServerError> {
        let version = plan.world.server;
        // The reference may be replaced by what the surroundings name.
        let version = (version != Version::REFERENCE).then(|| version.to_string());
        let jetstream = sync_interval(plan.world.sync_interval);
        let processes = if plan.world.is_cluster() {
            let options = ClusterOptions { version, jetstream };
            Processes::Three(Box::new(NatsCluster::start(options).await?))
        } else {
            let options = ServerOptions {
                version,
                jetstream,
                realm,
                ..ServerOptions::default()
            };
            Processes::One(Box::new(NatsServer::start(options).await?))
        };
        Ok(Self {
            processes,
            stream: plan.stream(),
            stopped: vec![0; plan.world.servers],
            frozen: vec![0; plan.world.servers],
        })
    }

    /// Where each listens; stays the same across restarts.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let servers = Member::all(self.stopped.len());
        servers
            .map(|server| self.process(server).address())
            .collect()
    }

    fn process(&self, server: Member) -> &NatsServer {
        match &self.processes {
            Processes::One(process) => process,
            Processes::Three(cluster) => cluster.server(server.0),
        }
    }

    /// Whether a fault has stopped this server.
    pub(super) fn is_stopped(&self, server: Member) -> bool {
        self.stopped[server.0] > 0
    }

    fn target(&self, fault: &Fault) -> Result<Member, String> {
        let server = Member::from_name(&fault.target, self.stopped.len());
        server.ok_or_else(|| format!("there is no server {}", fault.target))
    }

    pub(super) async fn begin(&mut self, fault: &Fault) -> Result<(), String> {
        match fault.kind {
            FaultKind::ServerStop => {
                let server = self.target(fault)?;
                self.stopped[server.0] += 1;
                if self.stopped[server.0] == 1 {
                    self.kill(server).await.map_err(text)?;
                }
            }
            FaultKind::ServerPause => {
                let server = self.target(fault)?;
                self.frozen[server.0] += 1;
                if self.frozen[server.0] == 1 && self.stopped[server.0] == 0 {
                    self.process(server).pause().await.map_err(text)?;
                }
            }
            FaultKind::LeaderChange => self.step_down().await,
            FaultKind::RoutePartition(other) => {
                let server = self.target(fault)?;
                if let Processes::Three(cluster) = &self.processes {
                    cluster.partition(server.0, other.0);
                    cluster.partition(other.0, server.0);
                }
            }
            kind => return Err(format!("{} is not a fault of servers", kind.name())),
        }
        Ok(())
    }

    pub(super) async fn end(&mut self, fault: &Fault) -> Result<(), String> {
        match fault.kind {
            FaultKind::ServerStop => {
                let server = self.target(fault)?;
                self.stopped[server.0] -= 1;
                if self.stopped[server.0] == 0 {
                    self.restart(server).await.map_err(text)?;
                    if self.frozen[server.0] > 0 {
                        self.process(server).pause().await.map_err(text)?;
                    }
                }
            }
            FaultKind::ServerPause => {
                let server = self.target(fault)?;
                self.frozen[server.0] -= 1;
                if self.frozen[server.0] == 0 && self.stopped[server.0] == 0 {
                    self.process(server).resume().map_err(text)?;
                }
            }
            FaultKind::LeaderChange => {}
            FaultKind::RoutePartition(other) => {
                let server = self.target(fault)?;
                if let Processes::Three(cluster) = &self.processes {
                    cluster.heal(server.0, other.0);
                    cluster.heal(other.0, server.0);
                }
            }
            kind => return Err(format!("{} is not a fault of servers", kind.name())),
        }
        Ok(())
    }

    async fn kill(&mut self, server: Member) -> Result<(), ServerError> {
        match &mut self.processes {
            Processes::One(process) => process.kill().await,
            Processes::Three(cluster) => cluster.kill(server.0).await,
        }
    }

    async fn restart(&mut self, server: Member) -> Result<(), ServerError> {
        match &mut self.processes {
            Processes::One(process) => process.restart().await,
            Processes::Three(cluster) => cluster.restart(server.0).await,
        }
    }

    /// Asks whoever leads the stream to hand over. Where nobody does there is nothing to change.
    async fn step_down(&self) {
        let addresses = self.addresses().into_iter();
        let options = ConnectOptions {
            servers: addresses
                .map(|address| format!("nats://{address}"))
                .collect(),
            connect_timeout: ANSWER_MAX,
            request_timeout: ANSWER_MAX,
            ..ConnectOptions::default()
        };
        let Ok(connection) = NatsEnv::new(0).transport().connect(options).await else {
            return;
        };
        let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{}", self.stream);
        if let Err(error) = connection.request(Message::new(subject, "")).await {
            tracing::warn!(%error, "nobody was asked to hand over");
        }
        connection.close().await;
    }
}

fn text(error: ServerError) -> String {
    error.to_string()
}

/// The line of the configuration that says how often files are synced.
fn sync_interval(interval: SyncInterval) -> String {
    match interval {
        SyncInterval::Always => "sync_interval: always".to_owned(),
        SyncInterval::Every(interval) => format!("sync_interval: \"{}ms\"", interval.as_millis()),
    }
}
