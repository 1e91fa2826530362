//! [`SimTestbed`]: scenarios in the simulated world.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use squall_core::files::Files;
use squall_core::{Instant, UnixTime};
use squall_sim::broker::{Loss, ServerConfig};
use squall_sim::clock::{WALL_START, ppm};
use squall_sim::trace::{Bite, Truth};
use squall_sim::{Direction, HostKey, ProcessKey, ServerKey, SimEnv, SimKey, Simulation, World};

use crate::authority::Authority;
use crate::fault::{Directions, Fault, FaultKind, Member};
use crate::history::{Commit, Record, Recorder, What, value_hash};
use crate::plan::Plan;
use crate::recorded::says;
use crate::testbed::{Testbed, addresses};

/// Room is made for no more records of a history before they come: about 120 MiB of addresses, not of memory.
const RECORDS_AT_ONCE: usize = 1 << 20;

/// A simulated world and who is who in it.
#[derive(Clone, Debug)]
pub struct SimTestbed {
    world: World,
    servers: Vec<ServerKey>,
    /// Agents, in the order of the plan: their clients begin with different servers.
    agents: Arc<[String]>,
    /// The stream that the run is about.
    stream: String,
    authority: Option<Authority<SimKey>>,
    names: Arc<Mutex<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    hosts: BTreeMap<String, HostKey>,
    processes: BTreeMap<Arc<str>, ProcessKey>,
}

impl SimTestbed {
    /// The world of this plan, what makes it go, and what writes its history: the server's truth goes there by itself.
    pub fn new(plan: &Plan) -> (Simulation, Self, Recorder) {
        let simulation = Simulation::new(plan.seed, plan.world.latency);
        let world = simulation.world().clone();
        if let Some(changes) = plan.world.priorities {
            world.run_by_priorities(changes, turns_expected(plan));
        }
        let authority = plan.auth.map(|auth| Authority::new(auth, SimKey::new));
        let config = |server: usize| ServerConfig {
            version: plan.world.server,
            sync_interval: plan.loses_power().then_some(plan.world.sync_interval),
            realm: authority.as_ref().map(Authority::realm),
            ..ServerConfig::new(Member(server).to_string())
        };
        let servers = if plan.world.is_cluster() {
            world.add_cluster([0, 1, 2].map(config)).to_vec()
        } else {
            vec![world.add_server(config(0))]
        };
        let clock = world.clone();
        let recorder = Recorder::new(move || clock.now());
        recorder.expect(records_expected(plan));
        let history = recorder.clone();
        world.set_witness(move |truth| history.add(Self::record(truth)));
        let testbed = Self {
            world,
            servers,
            agents: plan.agents.iter().map(|agent| agent.name.clone()).collect(),
            stream: plan.stream(),
            authority,
            names: Arc::default(),
        };
        (simulation, testbed, recorder)
    }

    /// The world itself.
    pub const fn world(&self) -> &World {
        &self.world
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host(&self, name: &str) -> HostKey {
        let mut names = self.names();
        if let Some(host) = names.hosts.get(name) {
            return *host;
        }
        let host = self.world.add_host(name);
        names.hosts.insert(name.to_owned(), host);
        host
    }

    /// The server that a fault names as its target.
    fn server(&self, fault: &Fault) -> Result<ServerKey, String> {
        let server = Member::from_name(&fault.target, self.servers.len());
        let server = server.and_then(|server| self.servers.get(server.0));
        server
            .copied()
            .ok_or_else(|| format!("there is no server {}", fault.target))
    }

    /// Both directions between the target of a fault and another server.
    fn routes(&self, fault: &Fault, other: Member) -> Result<[(ServerKey, ServerKey); 2], String> {
        let server = self.server(fault)?;
        let other = self.servers.get(other.0).ok_or("there is no such server")?;
        Ok([(server, *other), (*other, server)])
    }

    fn step_down(&self) {
        for server in &self.servers {
            self.world.step_down(*server, Some(&self.stream));
        }
    }

    fn process(&self, name: &Arc<str>) -> Option<ProcessKey> {
        self.names().processes.get(name).copied()
    }

    /// Inlined, so that a record is made where it is to lie.
    #[inline(always)]
    fn record(truth: Truth) -> Record {
        match truth {
            Truth::Committed { at, commit, by } => {
                let (incarnation, ttl) = says(&commit.entry);
                let value = value_hash(&commit.entry.value);
                let what = What::Committed(Commit {
                    bucket: commit.bucket,
                    key: commit.entry.key,
                    revision: commit.entry.revision,
                    operation: commit.entry.operation,
                    by,
                    incarnation,
                    ttl,
                    value,
                });
                Record { at, what }
            }
            Truth::Removed { at, removed } => {
                let what = What::Removed {
                    bucket: removed.bucket,
                    key: removed.key,
                    revision: removed.revision,
                    cause: removed.cause.to_string(),
                };
                Record { at, what }
            }
            Truth::Stored { at, stored, by } => {
                let what = What::Stored {
                    stream: stored.stream,
                    subject: stored.subject,
                    sequence: stored.sequence,
                    message_id: stored.message_id,
                    by,
                };
                Record { at, what }
            }
            Truth::LostTail { at, lost } => {
                let what = What::LostTail {
                    stream: lost.stream,
                    bucket: lost.bucket,
                    last: lost.last,
                    back: lost.back,
                };
                Record { at, what }
            }
            Truth::Dropped { at, dropped } => {
                let what = What::Dropped {
                    stream: dropped.stream,
                    sequence: dropped.sequence,
                    cause: dropped.cause.to_string(),
                };
                Record { at, what }
            }
        }
    }
}

/// About how often there will be a choice of tasks: of the order of the beats of all agents. Changes of priorities are spread
/// over so many choices; where there are fewer, some of them come to nothing.
fn turns_expected(plan: &Plan) -> u64 {
    u64::try_from(records_expected(plan) / 3).unwrap_or(u64::MAX)
}

/// Nearly all of a history are beats: the call, what it wrote, and its end.
fn records_expected(plan: &Plan) -> usize {
    let beats = |interval: Duration| plan.duration.as_nanos() / interval.as_nanos().max(1);
    let beats: u128 = plan.agents.iter().map(|agent| beats(agent.interval)).sum();
    usize::try_from(beats * 3).map_or(RECORDS_AT_ONCE, |records| records.min(RECORDS_AT_ONCE))
}

impl Testbed for SimTestbed {
    type Env = SimEnv;
    type Key = SimKey;

    fn now(&self) -> Instant {
        self.world.now()
    }

    fn wall(&self) -> UnixTime {
        WALL_START + self.world.now().elapsed()
    }

    fn authority(&self) -> Option<&Authority<SimKey>> {
        self.authority.as_ref()
    }

    async fn sleep_until(&self, at: Instant) {
        self.world.sleep_until(at).await;
    }

    fn start(&self, host: &str, process: &Arc<str>) -> (SimEnv, Vec<String>) {
        let env = self.world.start_process(self.host(host), process.clone());
        let mut names = self.names();
        names.processes.insert(process.clone(), env.process());
        (
            env,
            addresses(&self.agents, host, self.servers.len(), |server| {
                format!("nats://{server}")
            }),
        )
    }

    fn crash(&self, process: &Arc<str>) {
        if let Some(process) = self.process(process) {
            self.world.crash(process);
        }
    }

    async fn begin(&self, fault: &Fault, process: Option<&Arc<str>>) -> Result<(), String> {
        let world = &self.world;
        let process = process.and_then(|process| self.process(process));
        // A host that is cut off reaches none of the servers.
        let each = |work: &dyn Fn(ServerKey)| self.servers.iter().for_each(|server| work(*server));
        let each_way = |ways: Directions, work: &dyn Fn(ServerKey, Direction)| {
            each(&|server| ways.each().iter().for_each(|way| work(server, *way)));
        };
        match fault.kind {
            FaultKind::ServerStop => world.stop_server(self.server(fault)?),
            FaultKind::PowerLoss => world.power_loss(self.server(fault)?, Loss::Some),
            FaultKind::ServerPause => world.pause_server(self.server(fault)?),
            FaultKind::JetstreamMute => world.mute_jetstream(self.server(fault)?),
            FaultKind::LeaderChange => self.step_down(),
            FaultKind::RoutePartition(other) => {
                for (from, to) in self.routes(fault, other)? {
                    world.partition_route(from, to);
                }
            }
            kind => {
                let host = self.host(&fault.target);
                match kind {
                    FaultKind::Partition(ways) => {
                        each_way(ways, &|server, way| world.partition(host, server, way));
                    }
                    FaultKind::Blackhole(ways) => {
                        each_way(ways, &|server, way| world.blackhole(host, server, way));
                    }
                    FaultKind::Cut => each(&|server| world.cut(host, server)),
                    FaultKind::Delay(by) => each(&|server| world.delay(host, server, by)),
                    FaultKind::LoseReply => each(&|server| world.lose_reply(host, server)),
                    FaultKind::Pause => process.into_iter().for_each(|p| world.pause(p)),
                    FaultKind::Suspend => world.suspend(host),
                    FaultKind::Jump(nanos) => world.jump(host, nanos),
                    FaultKind::Drift(by) => world.drift(host, ppm(by)),
                    FaultKind::TornWrite => world.torn_write(host),
                    FaultKind::IoError(steps) => world.io_error(host, steps),
                    _ => return Err(format!("{fault} is the runner's to do")),
                }
            }
        }
        Ok(())
    }

    async fn end(&self, fault: &Fault, process: Option<&Arc<str>>) -> Result<(), String> {
        let world = &self.world;
        let process = process.and_then(|process| self.process(process));
        // A host that is cut off reaches none of the servers.
        let each = |work: &dyn Fn(ServerKey)| self.servers.iter().for_each(|server| work(*server));
        let each_way = |ways: Directions, work: &dyn Fn(ServerKey, Direction)| {
            each(&|server| ways.each().iter().for_each(|way| work(server, *way)));
        };
        match fault.kind {
            FaultKind::ServerStop | FaultKind::PowerLoss => {
                world.start_server(self.server(fault)?);
            }
            FaultKind::ServerPause => world.resume_server(self.server(fault)?),
            FaultKind::JetstreamMute => world.unmute_jetstream(self.server(fault)?),
            FaultKind::LeaderChange => {}
            FaultKind::RoutePartition(other) => {
                for (from, to) in self.routes(fault, other)? {
                    world.heal_route(from, to);
                }
            }
            kind => {
                let host = self.host(&fault.target);
                match kind {
                    FaultKind::Partition(ways) => {
                        each_way(ways, &|server, way| world.heal(host, server, way));
                    }
                    FaultKind::Blackhole(ways) => {
                        each_way(ways, &|server, way| world.fill(host, server, way));
                    }
                    FaultKind::Delay(by) => each(&|server| world.restore(host, server, by)),
                    FaultKind::LoseReply => each(&|server| world.keep_replies(host, server)),
                    FaultKind::Pause => process.into_iter().for_each(|p| world.resume(p)),
                    FaultKind::Suspend => world.wake(host),
                    FaultKind::Jump(nanos) => world.jump(host, -nanos),
                    FaultKind::Drift(by) => world.drift(host, ppm(-by)),
                    FaultKind::TornWrite => world.whole_writes(host),
                    FaultKind::IoError(_) => world.mend_disk(host),
                    FaultKind::Cut => {}
                    _ => return Err(format!("{fault} is the runner's to mend")),
                }
            }
        }
        Ok(())
    }

    fn bites(&self, fault: &Fault) -> u64 {
        let bite = match fault.kind {
            FaultKind::Partition(_) => Bite::Partition,
            FaultKind::Blackhole(_) => Bite::Blackhole,
            FaultKind::Cut => Bite::Cut,
            FaultKind::Delay(_) => Bite::Delay,
            FaultKind::LoseReply => Bite::LoseReply,
            FaultKind::Pause | FaultKind::Suspend => Bite::Frozen,
            FaultKind::Crash | FaultKind::Overlap => Bite::Crash,
            FaultKind::Jump(_) | FaultKind::Drift(_) => Bite::Clock,
            FaultKind::ServerStop | FaultKind::PowerLoss | FaultKind::ServerPause => Bite::Server,
            FaultKind::JetstreamMute => Bite::Mute,
            FaultKind::TornWrite | FaultKind::IoError(_) => Bite::Disk,
            FaultKind::LeaderChange => Bite::Leader,
            FaultKind::RoutePartition(_) => Bite::Partition,
            // The runner's to count.
            _ => return 0,
        };
        self.world.bites().count(bite)
    }

    fn files(&self, host: &str) -> Option<Arc<dyn Files>> {
        Some(Arc::new(self.world.files(self.host(host), "home")))
    }

    fn tasks(&self, process: &Arc<str>) -> Option<u32> {
        self.process(process)
            .map(|process| self.world.tasks_of(process))
    }
}
