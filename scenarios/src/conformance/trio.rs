//! Laboratories of three servers that form a cluster, simulated and real.

use std::sync::{Mutex as Plain, PoisonError};
use std::time::Duration;

use squall_core::nats::{NatsEnv, Nkey, TokioClock};
use squall_core::transport::{ConnectOptions, Message, names};
use squall_core::{Clock as _, Connection as _, Env, Transport as _, UnixTime};
use squall_sim::broker::{Kindness, ServerConfig, Version};
use squall_sim::{HostKey, ServerKey, SimClock, SimEnv, SimKey, World};
use tokio::sync::Mutex;

use super::laboratory::{Laboratory, LinkVerb, ServerVerb, Stop};
use super::real::Program;
use crate::issuer::Issuer;
use crate::real::{ClusterOptions, NatsCluster, SIZE};

/// A cluster. Clients reach its servers, `n1` to `n3`, over good links of these names.
pub trait Trio: Laboratory {
    /// Does something to one of the servers.
    fn server_of(&self, server: usize, verb: ServerVerb) -> impl Future<Output = Result<(), Stop>>;

    /// What the one server says does not reach the other (`true`), or arrives after all.
    fn hold_route(&self, from: usize, to: usize, is_held: bool);

    /// The server that leads this bucket; `None` while none does.
    fn leader(&self, bucket: &str) -> impl Future<Output = Option<usize>>;

    /// Asks that server to hand over.
    fn step_down(&self, bucket: &str) -> impl Future<Output = Result<(), Stop>>;

    /// Holds the routes of a server both ways, or lets everything through again.
    fn isolate(&self, server: usize, is_held: bool) {
        for other in others(server) {
            self.hold_route(server, other, is_held);
            self.hold_route(other, server, is_held);
        }
    }
}

/// The two servers beside this one.
pub(super) fn others(server: usize) -> [usize; 2] {
    [(server + 1) % SIZE, (server + 2) % SIZE]
}

fn number(link: &str) -> Result<usize, Stop> {
    NatsCluster::number(link).ok_or_else(|| Stop(format!("there is no server {link}")))
}

fn which(verb: ServerVerb) -> Stop {
    Stop(format!("{verb:?} which of the three servers?"))
}

fn no_lame_duck() -> Stop {
    Stop("what a lame duck does to a cluster was not measured".to_owned())
}

fn no_power_loss() -> Stop {
    Stop("what a loss of power does to a cluster was not measured".to_owned())
}

/// Three simulated servers.
#[derive(Debug)]
pub struct SimulatedTrio {
    world: World,
    servers: [ServerKey; SIZE],
    observer: SimEnv,
    hosts: Plain<Vec<Option<(HostKey, SimEnv)>>>,
    issuer: Issuer<SimKey>,
}

impl SimulatedTrio {
    /// A cluster that has found a leader.
    ///
    /// # Errors
    /// If it has none in a minute.
    pub async fn start(world: World, kindness: Option<Kindness>) -> Result<Self, Stop> {
        let servers = [0, 1, 2].map(|server| ServerConfig {
            kindness,
            ..ServerConfig::new(NatsCluster::name(server))
        });
        let servers = world.add_cluster(servers);
        let host = world.add_host("observer");
        let observer = world.start_process(host, "observer");
        let trio = Self {
            world,
            servers,
            observer,
            hosts: Plain::new(vec![None; SIZE]),
            issuer: Issuer::new(SimKey::new),
        };
        let clock = trio.observer.clock().clone();
        let until = clock.now() + Duration::from_secs(60);
        while !servers
            .iter()
            .any(|server| trio.world.is_leader(*server, None))
        {
            if clock.now() > until {
                return Err(Stop("the servers find no leader".to_owned()));
            }
            clock
                .sleep_until(clock.now() + Duration::from_millis(10))
                .await;
        }
        Ok(trio)
    }
}

impl Laboratory for SimulatedTrio {
    type Env = SimEnv;
    type Key = SimKey;

    async fn reach(&self, link: &str) -> Result<(SimEnv, String), Stop> {
        let server = number(link)?;
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, env) = hosts[server].get_or_insert_with(|| {
            let name = format!("near-{link}");
            let host = self.world.add_host(&name);
            (host, self.world.start_process(host, &*name))
        });
        Ok((env.clone(), format!("nats://{link}")))
    }

    async fn reach_spare(&self, _: &str) -> Result<String, Stop> {
        Err(Stop("a cluster has no spare server".to_owned()))
    }

    fn version(&self) -> Version {
        Version::REFERENCE
    }

    fn clock(&self) -> &SimClock {
        self.observer.clock()
    }

    fn wall(&self, _: &str) -> UnixTime {
        self.clock().wall()
    }

    fn set_ahead(&self, link: &str, _: Duration) {
        panic!("cases of a cluster leave the clocks of clients alone: {link}");
    }

    /// Nobody logs in: the cluster is not in operator mode.
    fn issuer(&self) -> &Issuer<SimKey> {
        &self.issuer
    }

    async fn server(&self, verb: ServerVerb) -> Result<(), Stop> {
        Err(which(verb))
    }

    fn link(&self, link: &str, verb: LinkVerb) {
        panic!("cases of a cluster leave the links of clients alone: {verb:?} {link}");
    }
}

impl Trio for SimulatedTrio {
    async fn server_of(&self, server: usize, verb: ServerVerb) -> Result<(), Stop> {
        let server = self.servers[server];
        match verb {
            ServerVerb::Stop => self.world.stop_server(server),
            ServerVerb::Start => self.world.start_server(server),
            ServerVerb::Pause => self.world.pause_server(server),
            ServerVerb::Resume => self.world.resume_server(server),
            ServerVerb::Retire => return Err(no_lame_duck()),
            ServerVerb::Sync | ServerVerb::LosePower => return Err(no_power_loss()),
        }
        Ok(())
    }

    fn hold_route(&self, from: usize, to: usize, is_held: bool) {
        let (from, to) = (self.servers[from], self.servers[to]);
        if is_held {
            self.world.partition_route(from, to);
        } else {
            self.world.heal_route(from, to);
        }
    }

    async fn leader(&self, bucket: &str) -> Option<usize> {
        let stream = names::bucket_stream(bucket);
        let leads = |server: &ServerKey| self.world.is_leader(*server, Some(&stream));
        self.servers.iter().position(leads)
    }

    async fn step_down(&self, bucket: &str) -> Result<(), Stop> {
        if let Some(leader) = self.leader(bucket).await {
            let stream = names::bucket_stream(bucket);
            self.world.step_down(self.servers[leader], Some(&stream));
        }
        Ok(())
    }
}

/// Three real servers.
#[derive(Debug)]
pub struct RealTrio {
    cluster: Mutex<NatsCluster>,
    urls: Vec<String>,
    version: Version,
    env: NatsEnv,
    issuer: Issuer<Nkey>,
}

impl RealTrio {
    /// A cluster of this program.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn start(program: &Program) -> Result<Self, Stop> {
        let options = ClusterOptions {
            version: program.pinned.clone(),
            ..ClusterOptions::default()
        };
        let cluster = NatsCluster::start(options).await?;
        Ok(Self {
            version: program.version(),
            urls: (0..SIZE).map(|server| cluster.url(server)).collect(),
            cluster: Mutex::new(cluster),
            env: NatsEnv::new(1),
            issuer: Issuer::new(|role, _| Nkey::generate(role)),
        })
    }

    /// Asks the API over some server that answers.
    async fn api(&self, name: &str) -> Option<serde_json::Value> {
        let options = ConnectOptions {
            servers: self.urls.clone(),
            request_timeout: Duration::from_secs(1),
            ..ConnectOptions::default()
        };
        let connection = self.env.transport().connect(options).await.ok()?;
        let answer = connection
            .request(Message::new(format!("$JS.API.{name}"), ""))
            .await;
        connection.close().await;
        serde_json::from_slice(&answer.ok()?.payload).ok()
    }
}

impl Laboratory for RealTrio {
    type Env = NatsEnv;
    type Key = Nkey;

    async fn reach(&self, link: &str) -> Result<(NatsEnv, String), Stop> {
        Ok((self.env.clone(), self.urls[number(link)?].clone()))
    }

    async fn reach_spare(&self, _: &str) -> Result<String, Stop> {
        Err(Stop("a cluster has no spare server".to_owned()))
    }

    fn version(&self) -> Version {
        self.version
    }

    fn clock(&self) -> &TokioClock {
        self.env.clock()
    }

    fn wall(&self, _: &str) -> UnixTime {
        self.clock().wall()
    }

    fn set_ahead(&self, link: &str, _: Duration) {
        panic!("cases of a cluster leave the clocks of clients alone: {link}");
    }

    /// Nobody logs in: the cluster is not in operator mode.
    fn issuer(&self) -> &Issuer<Nkey> {
        &self.issuer
    }

    async fn server(&self, verb: ServerVerb) -> Result<(), Stop> {
        Err(which(verb))
    }

    fn link(&self, link: &str, verb: LinkVerb) {
        panic!("cases of a cluster leave the links of clients alone: {verb:?} {link}");
    }
}

impl Trio for RealTrio {
    async fn server_of(&self, server: usize, verb: ServerVerb) -> Result<(), Stop> {
        let mut cluster = self.cluster.lock().await;
        match verb {
            ServerVerb::Stop => cluster.kill(server).await?,
            ServerVerb::Start => cluster.restart(server).await?,
            ServerVerb::Pause => cluster.pause(server).await?,
            ServerVerb::Resume => cluster.resume(server)?,
            ServerVerb::Retire => return Err(no_lame_duck()),
            ServerVerb::Sync | ServerVerb::LosePower => return Err(no_power_loss()),
        }
        Ok(())
    }

    fn hold_route(&self, from: usize, to: usize, is_held: bool) {
        let cluster = self.cluster.try_lock();
        let cluster = cluster.expect("a case does one thing after the other");
        if is_held {
            cluster.partition(from, to);
        } else {
            cluster.heal(from, to);
        }
    }

    async fn leader(&self, bucket: &str) -> Option<usize> {
        let info = self.api(&format!("STREAM.INFO.KV_{bucket}")).await?;
        NatsCluster::number(info["cluster"]["leader"].as_str()?)
    }

    async fn step_down(&self, bucket: &str) -> Result<(), Stop> {
        match self
            .api(&format!("STREAM.LEADER.STEPDOWN.KV_{bucket}"))
            .await
        {
            Some(answer) if answer["success"] == true => Ok(()),
            answer => Err(Stop(format!("it does not step down: {answer:?}"))),
        }
    }
}
