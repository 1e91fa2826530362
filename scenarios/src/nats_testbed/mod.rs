//! [`NatsTestbed`]: scenarios on a real nats-server, in real time.
//!
//! One server process or a cluster of three, one TCP proxy between each agent's host and each server as its link, one
//! group of tasks for each process of an agent. Where a plan has credentials the server is in operator mode, with an
//! operator and accounts made for this run. True time is the monotonic time since the testbed's start. Everything ends
//! with the testbed, also when a run panics: the server by its handle, the rest with the runtime that [`run_on_nats`]
//! makes and drops.

#![allow(
    clippy::disallowed_methods,
    reason = "real servers in real time: nothing here is decided by a seed"
)]

mod process;
mod servers;
mod truth;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use squall_core::nats::Nkey;
use squall_core::{Instant, Rng, UnixTime};

use self::process::{Ahead, Tasks};
pub use self::process::{HostClock, ProcessEnv};
use self::servers::Servers;
use self::truth::{Epoch, Place, Post, Seen};
use crate::authority::Authority;
use crate::fault::{Directions, Fault, FaultKind, Member, Scope};
use crate::history::{Record, Recorder, What};
use crate::invariants::{self, Verdict};
use crate::parse::MONITOR;
use crate::plan::{On, Plan};
use crate::real::{Direction, LinkBites, Proxy, ServerError};
use crate::run::{Run, gather, perform};
use crate::testbed::{Testbed, addresses};

/// Why a fault cannot be done to a real server; `None` where it can.
///
/// | fault | on a real server |
/// |---|---|
/// | partition, blackhole, cut, delay | by the TCP proxy between the agent's host and the server |
/// | crash, overlap | the process's tasks are aborted, its connections reset; another group of tasks is started |
/// | server-stop, server-pause | SIGKILL and a new start; SIGSTOP and SIGCONT |
/// | leader-change | by the API: the stream's leader is asked to step down |
/// | route-partition | by the TCP proxies on the routes between the two servers |
/// | jump | what processes of the agent's host read from their wall clock is moved |
/// | rotate, logout, switch-account | the agent is told to |
/// | kick, revoke, revoke-signer | the account's new token is pushed to the server, which forgets it when it is restarted |
/// | auth-401, auth-5xx, auth-slow, auth-skew, narrow-permissions | by whoever issues credentials, as in the simulated world |
/// | pause, suspend, drift, lose-reply, jetstream-mute, power-loss | refused with these sentences |
pub const fn unsupported(kind: FaultKind) -> Option<&'static str> {
    match kind {
        FaultKind::Pause => {
            Some("pause: agents on a real server share one process, and none stands still alone")
        }
        FaultKind::Suspend => {
            Some("suspend: the machine that runs the test cannot be put to sleep by it")
        }
        FaultKind::Drift(_) => Some("drift: agents on a real server share the machine's crystal"),
        FaultKind::LoseReply => {
            Some("lose-reply: a proxy of bytes cannot tell an acknowledgement from a delivery")
        }
        FaultKind::JetstreamMute => {
            Some("jetstream-mute: a real server cannot be told to be silent on JetStream alone")
        }
        FaultKind::TornWrite | FaultKind::IoError(_) => {
            Some("torn-write and io-error: a real disk cannot be told to fail")
        }
        FaultKind::PowerLoss => Some(
            "power-loss: what a killed server has written stays in the kernel's page cache, and only the machine that \
             runs the test could lose that",
        ),
        FaultKind::Partition(_)
        | FaultKind::Blackhole(_)
        | FaultKind::Cut
        | FaultKind::Delay(_)
        | FaultKind::Crash
        | FaultKind::Overlap
        | FaultKind::ServerStop
        | FaultKind::ServerPause
        | FaultKind::LeaderChange
        | FaultKind::RoutePartition(_)
        | FaultKind::Jump(_)
        | FaultKind::Rotate
        | FaultKind::Kick
        | FaultKind::Revoke
        | FaultKind::RevokeSigner
        | FaultKind::Auth401
        | FaultKind::Auth5xx
        | FaultKind::AuthSlow(_)
        | FaultKind::AuthSkew(_)
        | FaultKind::NarrowPermissions
        | FaultKind::Logout
        | FaultKind::SwitchAccount => None,
    }
}

/// A plan could not be run on a real server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NatsRunError {
    /// It needs a fault that only the simulated world can do; nothing was started.
    #[error("this plan cannot run on a real server: {0}")]
    Unsupported(&'static str),
    /// There is no server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A fault could not be done or mended, so that the run was not that of the plan.
    #[error("the plan's {fault} failed on the real server: {reason}")]
    Fault {
        /// Which.
        fault: String,
        /// Why.
        reason: String,
    },
    /// The system refused a runtime or a port.
    #[error("cannot run on a real server: {0}")]
    System(String),
}

impl From<std::io::Error> for NatsRunError {
    fn from(error: std::io::Error) -> Self {
        Self::System(error.to_string())
    }
}

/// Runs a plan on a real nats-server, as it is: [`Plan::in_real_time`] makes one that takes seconds.
///
/// Blocks while it runs, and must not be called inside an asynchronous runtime: it makes one of its own.
///
/// # Errors
/// If the plan needs what only the simulated world can do, or the real one failed it.
pub fn run_on_nats(plan: &Plan) -> Result<Run, NatsRunError> {
    if let Some(reason) = plan.faults.iter().find_map(|fault| unsupported(fault.kind)) {
        return Err(NatsRunError::Unsupported(reason));
    }
    let mut plan = plan.clone();
    plan.world.on = On::Nats;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(run(plan))
}

async fn run(plan: Plan) -> Result<Run, NatsRunError> {
    let testbed = NatsTestbed::start(&plan).await?;
    let epoch = testbed.shared.epoch;
    let recorder = Recorder::new(move || epoch.now());
    let bitten = perform(&plan, &testbed, &recorder).await;
    truth::catch_up(&testbed.shared.posts, &testbed.shared.seen).await;
    let end = testbed.now();
    if let Some(error) = testbed.shared.failed().take() {
        return Err(error);
    }
    let (history, unknown) = truth::attribute(gather(&testbed, &recorder));
    let verdict = match invariants::judge(&plan, &history) {
        // Dates that are no true time acquit nobody, and convict nobody.
        found if epoch.is_broken() => {
            let mut why = "the machine's wall clock was set during the run".to_owned();
            if let Verdict::Fail(violations) = found {
                let found = violations
                    .iter()
                    .map(|found| format!("; {}: {}", found.code, found.text));
                why.extend(found);
            }
            Verdict::Inconclusive(why)
        }
        Verdict::Pass if !unknown.is_empty() => {
            let missing = unknown.iter().map(|(place, revision)| {
                format!("{revision} of {} in {}", place.bucket, place.account)
            });
            let missing = missing.collect::<Vec<_>>().join(", ");
            Verdict::Inconclusive(format!("nobody saw what was stored as {missing}"))
        }
        verdict => verdict,
    };
    Ok(Run {
        plan,
        history,
        verdict,
        bitten,
        trace: None,
        simulated: end.elapsed(),
    })
}

/// A real server, links to it, and who is who on them.
#[derive(Clone, Debug)]
pub struct NatsTestbed {
    shared: Arc<Shared>,
}

/// The host and the tasks of each process.
type Processes = BTreeMap<Arc<str>, (String, Arc<Tasks>)>;

#[derive(Debug)]
struct Shared {
    epoch: Epoch,
    seed: u64,
    /// Of all servers, without a proxy.
    urls: Vec<String>,
    /// Whoever issues credentials, where the servers ask for them.
    authority: Option<Authority<Nkey>>,
    /// Agents, in the order of the plan: their clients begin with different servers.
    agents: Vec<String>,
    servers: tokio::sync::Mutex<Servers>,
    /// Of each host, to each server.
    links: BTreeMap<String, Vec<Proxy>>,
    processes: Mutex<Processes>,
    panics: Arc<Mutex<Vec<Record>>>,
    crashes: AtomicU64,
    /// Of each host: how far its wall clock is off.
    ahead: BTreeMap<String, Ahead>,
    seen: Arc<Seen>,
    /// Where somebody observes.
    posts: Vec<Post>,
    observers: Vec<tokio::task::JoinHandle<()>>,
    /// The first fault that could not be done.
    failed: Mutex<Option<NatsRunError>>,
}

impl Shared {
    fn failed(&self) -> MutexGuard<'_, Option<NatsRunError>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.observers.iter().for_each(|observer| observer.abort());
        for (_, tasks) in self.processes().values() {
            tasks.kill();
        }
    }
}

impl NatsTestbed {
    /// The world of this plan. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If there is no server, or no port for a link.
    pub async fn start(plan: &Plan) -> Result<Self, NatsRunError> {
        let authority = plan
            .auth
            .map(|auth| Authority::new(auth, |role, _| Nkey::generate(role)));
        let servers = Servers::start(plan, authority.as_ref().map(Authority::realm)).await?;
        let listening = servers.addresses();
        let agents: Vec<String> = plan.agents.iter().map(|agent| agent.name.clone()).collect();
        let mut links = BTreeMap::new();
        for host in agents.iter().map(String::as_str).chain([MONITOR]) {
            let mut proxies = Vec::new();
            for address in &listening {
                proxies.push(Proxy::start(*address).await?);
            }
            links.insert(host.to_owned(), proxies);
        }
        let urls = listening.iter().map(|address| format!("nats://{address}"));
        let (urls, seen): (Vec<String>, _) = (urls.collect(), Arc::new(Seen::default()));
        let posts: Vec<Post> = Place::all(plan)
            .into_iter()
            .flat_map(|place| {
                let credentials = authority.as_ref().map(|by| by.observer(place.account));
                Post::all(place, &urls, credentials.as_ref())
            })
            .collect();
        let observers = posts.iter().map(|post| {
            let observes = truth::observe(post.clone(), Arc::clone(&seen));
            tokio::spawn(observes)
        });
        let observers = observers.collect();
        let ahead = links.keys().cloned().map(|host| (host, Ahead::default()));
        let ahead = ahead.collect();
        if plan.auth.is_some() {
            truth::next_second().await;
        }
        let shared = Shared {
            epoch: Epoch::new(),
            seed: plan.seed,
            urls,
            authority,
            agents,
            servers: tokio::sync::Mutex::new(servers),
            links,
            processes: Mutex::default(),
            panics: Arc::default(),
            crashes: AtomicU64::new(0),
            ahead,
            seen,
            posts,
            observers,
            failed: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    fn links(&self, fault: &Fault) -> Result<&[Proxy], String> {
        let links = self.shared.links.get(&fault.target);
        let links = links.ok_or_else(|| format!("{} has no link", fault.target))?;
        Ok(links)
    }

    /// Where a server is stopped, nobody listens behind its links.
    fn reach(&self, servers: &Servers) {
        for links in self.shared.links.values() {
            for (server, link) in links.iter().enumerate() {
                link.refuse(servers.is_stopped(Member(server)));
            }
        }
    }

    /// Moves the wall clock of a host by so many nanoseconds.
    fn jump(&self, fault: &Fault, by: i64) {
        if let Some(ahead) = self.shared.ahead.get(&fault.target) {
            ahead.jump(by);
        }
    }

    async fn try_begin(&self, fault: &Fault) -> Result<(), String> {
        if let Some(reason) = unsupported(fault.kind) {
            return Err(reason.to_owned());
        }
        if fault.kind.scope() != Scope::Agent {
            let mut servers = self.shared.servers.lock().await;
            servers.begin(fault).await?;
            self.reach(&servers);
            return Ok(());
        }
        if let FaultKind::Jump(by) = fault.kind {
            self.jump(fault, by);
            return Ok(());
        }
        for link in self.links(fault)? {
            match fault.kind {
                FaultKind::Partition(ways) => {
                    directions(ways).iter().for_each(|way| link.hold(*way));
                }
                FaultKind::Blackhole(ways) => {
                    directions(ways).iter().for_each(|way| link.swallow(*way));
                }
                FaultKind::Cut => link.cut(),
                FaultKind::Delay(by) => link.slow(by),
                kind => return Err(format!("{} is the runner's", kind.name())),
            }
        }
        Ok(())
    }

    async fn try_end(&self, fault: &Fault) -> Result<(), String> {
        if fault.kind.scope() != Scope::Agent {
            let mut servers = self.shared.servers.lock().await;
            servers.end(fault).await?;
            self.reach(&servers);
            return Ok(());
        }
        if let FaultKind::Jump(by) = fault.kind {
            self.jump(fault, -by);
            return Ok(());
        }
        for link in self.links(fault)? {
            match fault.kind {
                FaultKind::Partition(ways) => {
                    directions(ways).iter().for_each(|way| link.release(*way));
                }
                FaultKind::Blackhole(ways) => {
                    directions(ways).iter().for_each(|way| link.fill(*way));
                }
                FaultKind::Cut => {}
                FaultKind::Delay(by) => link.restore(by),
                kind => return Err(format!("{} is the runner's", kind.name())),
            }
        }
        Ok(())
    }

    /// Notes that the plan could not be followed.
    fn note(&self, fault: &Fault, done: Result<(), String>) -> Result<(), String> {
        if let Err(reason) = &done {
            self.shared
                .failed()
                .get_or_insert_with(|| NatsRunError::Fault {
                    fault: fault.to_string(),
                    reason: reason.clone(),
                });
        }
        done
    }
}

const fn directions(ways: Directions) -> &'static [Direction] {
    match ways {
        Directions::Both => &[Direction::ToServer, Direction::ToClient],
        Directions::ToServer => &[Direction::ToServer],
        Directions::ToAgent => &[Direction::ToClient],
    }
}

impl Testbed for NatsTestbed {
    type Env = ProcessEnv;
    type Key = Nkey;

    fn now(&self) -> Instant {
        self.shared.epoch.now()
    }

    fn wall(&self) -> UnixTime {
        truth::wall()
    }

    fn authority(&self) -> Option<&Authority<Nkey>> {
        self.shared.authority.as_ref()
    }

    async fn sleep_until(&self, at: Instant) {
        tokio::time::sleep_until(self.shared.epoch.due(at)).await;
    }

    fn start(&self, host: &str, process: &Arc<str>) -> (ProcessEnv, Vec<String>) {
        let seed = Rng::labelled(self.shared.seed, process).next_u64();
        let (epoch, panics) = (self.shared.epoch, Arc::clone(&self.shared.panics));
        let on_panic = move |message| {
            let record = Record {
                at: epoch.now(),
                what: What::Panicked { message },
            };
            let mut panics = panics.lock().unwrap_or_else(PoisonError::into_inner);
            panics.push(record);
        };
        let ahead = self.shared.ahead.get(host).cloned().unwrap_or_default();
        let env = ProcessEnv::new(seed, ahead, Arc::new(on_panic));
        let running = (host.to_owned(), env.tasks());
        self.shared.processes().insert(process.clone(), running);
        let Shared {
            links,
            urls,
            agents,
            ..
        } = &*self.shared;
        let link = |server: Member| links.get(host)?.get(server.0);
        let address =
            |server: Member| link(server).map_or_else(|| urls[server.0].clone(), Proxy::url);
        (env, addresses(agents, host, urls.len(), address))
    }

    fn crash(&self, process: &Arc<str>) {
        if let Some((host, tasks)) = self.shared.processes().get(process) {
            // First the links, so that nobody says goodbye. All processes of a host die together.
            let links = self.shared.links.get(host).into_iter().flatten();
            links.for_each(Proxy::cut);
            tasks.kill();
            self.shared.crashes.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn begin(&self, fault: &Fault, _: Option<&Arc<str>>) -> Result<(), String> {
        let done = self.try_begin(fault).await;
        self.note(fault, done)
    }

    async fn end(&self, fault: &Fault, _: Option<&Arc<str>>) -> Result<(), String> {
        let done = self.try_end(fault).await;
        self.note(fault, done)
    }

    fn bites(&self, fault: &Fault) -> u64 {
        let links = self.shared.links.get(&fault.target).into_iter().flatten();
        let bites = |of: fn(LinkBites) -> u64| links.map(|link| of(link.bites())).sum();
        match fault.kind {
            FaultKind::Partition(_) => bites(|bites| bites.held),
            FaultKind::Blackhole(_) => bites(|bites| bites.swallowed),
            FaultKind::Cut => bites(|bites| bites.cut),
            FaultKind::Crash => self.shared.crashes.load(Ordering::Relaxed),
            FaultKind::Delay(_) => bites(|bites| bites.delayed),
            // Asked before and after: a server that was stopped or frozen always was so for everybody, and a clock that
            // was set is read all the time.
            _ => self.now().as_nanos(),
        }
    }

    fn tasks(&self, process: &Arc<str>) -> Option<u32> {
        let processes = self.shared.processes();
        processes.get(process).map(|(_, tasks)| tasks.count())
    }

    fn take_truth(&self) -> Vec<Record> {
        let mut truth = self.shared.seen.take(&self.shared.epoch);
        let mut panics = self
            .shared
            .panics
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        truth.append(&mut panics);
        truth
    }
}
