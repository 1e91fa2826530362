//! The simulated laboratory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use squall_core::Env as _;
use squall_sim::broker::ServerConfig;
use squall_sim::{Direction, HostKey, Latency, ServerKey, SimClock, SimEnv, SimKey, World};

use super::laboratory::{ACCOUNTS, Laboratory, LinkVerb, ServerVerb, Setup, Stop};
use crate::issuer::Issuer;

const SERVER: &str = "n1";

/// A simulated server, and a host for each link.
#[derive(Debug)]
pub struct Simulated {
    world: World,
    server: ServerKey,
    observer: SimEnv,
    issuer: Issuer<SimKey>,
    links: Mutex<BTreeMap<String, (HostKey, SimEnv)>>,
}

/// Runs a future in a simulation of its own.
pub fn block_on<F: Future>(seed: u64, future: F) -> F::Output {
    let config = madsim::Config::default();
    madsim::runtime::Runtime::with_seed_and_config(seed, config).block_on(future)
}

impl Simulated {
    /// Must be called inside [`block_on`].
    pub fn new(seed: u64, setup: Setup) -> Self {
        let world = World::new(seed, Latency::default());
        let mut config = ServerConfig::new(SERVER);
        config.first_ping = config.first_ping.min(setup.ping_interval);
        config.ping_interval = setup.ping_interval;
        let issuer = Issuer::new(SimKey::new);
        config.realm = setup.operator_mode.then(|| issuer.realm(&ACCOUNTS));
        let server = world.add_server(config);
        let host = world.add_host("observer");
        let observer = world.start_process(host, "observer");
        Self {
            world,
            server,
            observer,
            issuer,
            links: Mutex::default(),
        }
    }

    fn host(&self, link: &str) -> (HostKey, SimEnv) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let made = links.entry(link.to_owned()).or_insert_with(|| {
            let host = self.world.add_host(link);
            (host, self.world.start_process(host, link))
        });
        made.clone()
    }
}

impl Laboratory for Simulated {
    type Env = SimEnv;
    type Key = SimKey;

    async fn reach(&self, link: &str) -> Result<(SimEnv, String), Stop> {
        Ok((self.host(link).1, format!("nats://{SERVER}")))
    }

    fn clock(&self) -> &SimClock {
        self.observer.clock()
    }

    fn issuer(&self) -> &Issuer<SimKey> {
        &self.issuer
    }

    async fn server(&self, verb: ServerVerb) -> Result<(), Stop> {
        match verb {
            ServerVerb::Stop => self.world.stop_server(self.server),
            ServerVerb::Start => self.world.start_server(self.server),
            ServerVerb::Pause => self.world.pause_server(self.server),
            ServerVerb::Resume => self.world.resume_server(self.server),
        }
        Ok(())
    }

    fn link(&self, link: &str, verb: LinkVerb) {
        let (host, _) = self.host(link);
        let (world, server) = (&self.world, self.server);
        match verb {
            LinkVerb::Cut => world.cut(host, server),
            LinkVerb::Hold => {
                world.partition(host, server, Direction::ToServer);
                world.partition(host, server, Direction::ToHost);
            }
            LinkVerb::HoldAnswers => world.partition(host, server, Direction::ToHost),
            LinkVerb::Release => {
                world.heal(host, server, Direction::ToServer);
                world.heal(host, server, Direction::ToHost);
            }
            LinkVerb::ReleaseAnswers => world.heal(host, server, Direction::ToHost),
        }
    }
}
