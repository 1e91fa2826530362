//! The simulated laboratory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use squall_core::{Clock as _, Env as _, UnixTime};
use squall_sim::broker::{Kindness, Loss, ServerConfig, SyncInterval, Version};
use squall_sim::clock::signed;
use squall_sim::{
    Direction, HostKey, Latency, ServerKey, SimClock, SimEnv, SimKey, Simulation, World,
};

use super::laboratory::{ACCOUNTS, Laboratory, LinkVerb, ServerVerb, Setup, Stop};
use crate::issuer::Issuer;

const SERVER: &str = "n1";
const SPARE: &str = "n2";
/// As the real laboratory has it.
const LAME_DUCK_DURATION: Duration = Duration::from_secs(30);

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// The server's version.
    pub version: Version,
    /// None, but to prove that the comparison finds it.
    pub kindness: Option<Kindness>,
}

impl From<Version> for Model {
    fn from(version: Version) -> Self {
        Self {
            version,
            kindness: None,
        }
    }
}

/// A simulated server, and a host for each link.
#[derive(Debug)]
pub struct Simulated {
    world: World,
    server: ServerKey,
    version: Version,
    observer: SimEnv,
    issuer: Issuer<SimKey>,
    links: Mutex<BTreeMap<String, (HostKey, SimEnv)>>,
}

/// Tells a story in a simulation of its own.
pub fn simulate<T>(
    seed: u64,
    setup: Setup,
    model: Model,
    story: impl AsyncFnOnce(&Simulated) -> T,
) -> T {
    let mut simulation = Simulation::new(seed, Latency::default());
    let laboratory = Simulated::new(simulation.world().clone(), setup, model);
    simulation.run(story(&laboratory))
}

impl Simulated {
    fn new(world: World, setup: Setup, model: Model) -> Self {
        let mut config = ServerConfig::new(SERVER);
        config.version = model.version;
        config.kindness = model.kindness;
        config.sync_interval = Some(SyncInterval::default());
        config.lame_duck_grace = setup.lame_duck_grace;
        config.lame_duck_duration = LAME_DUCK_DURATION;
        config.first_ping = config.first_ping.min(setup.ping_interval);
        config.ping_interval = setup.ping_interval;
        let issuer = Issuer::new(SimKey::new);
        config.realm = setup.operator_mode.then(|| issuer.realm(&ACCOUNTS));
        let server = world.add_server(config);
        let mut spare = ServerConfig::new(SPARE);
        spare.version = model.version;
        world.add_server(spare);
        let host = world.add_host("observer");
        let observer = world.start_process(host, "observer");
        Self {
            world,
            server,
            version: model.version,
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

    async fn reach_spare(&self, _: &str) -> Result<String, Stop> {
        Ok(format!("nats://{SPARE}"))
    }

    fn version(&self) -> Version {
        self.version
    }

    fn clock(&self) -> &SimClock {
        self.observer.clock()
    }

    fn wall(&self, link: &str) -> UnixTime {
        self.host(link).1.clock().wall()
    }

    fn set_ahead(&self, link: &str, by: Duration) {
        let (host, _) = self.host(link);
        self.world.jump(host, signed(true, by));
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
            ServerVerb::Retire => self.world.retire_server(self.server),
            ServerVerb::Sync => self.world.sync_server(self.server),
            ServerVerb::LosePower => self.world.power_loss(self.server, Loss::All),
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
