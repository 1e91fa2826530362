//! The simulated world: hosts, processes, servers and the fabric between them, in one hand and with one queue.
//!
//! Everything that takes time goes through the fabric's queue: parcels on links, timers of clients and servers, sleeping
//! tasks. True time is the queue's: [`Simulation`](crate::Simulation) moves it on to the next entry whenever no task is
//! ready to run, and hands out what is due then. Nothing else depends on time, so that what a run does is a function of
//! the seed: of the order in which tasks run, the links' latencies (one stream a route) and the faults (the plan).

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::thread::LocalKey;

use slotmap::{SlotMap, new_key_type};
use squall_core::transport::{ConnectError, ConnectOptions, ConnectionId};
use squall_core::{Instant, Rng};

use crate::broker::{Broker, Effect, ServerConfig};
use crate::client::{Client, ClientKey};
use crate::clock::HostClock;
use crate::env::{SimClock, SimEnv, SleepUntil};
use crate::held::{Hand, Held, Holdable, TakenUp};
use crate::link::Latency;
use crate::net::{Net, Process, Processes};
use crate::routes::Cluster;
use crate::tasks::{self, Priorities, Tasks};
use crate::trace::{Bites, Trace, Truth};

new_key_type! {
    /// A sleeping task.
    pub(crate) struct SleepKey;
}

/// A machine with its clocks. Never goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostKey(pub(crate) u32);

/// One life of one program on a host. Its number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey(pub(crate) u32);

impl ProcessKey {
    /// Counts the processes of a world from 0, in the order in which they were started.
    pub const fn number(self) -> usize {
        self.0 as usize
    }
}

/// A nats-server, running or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey(pub(crate) u32);

/// A task that waits for a clock.
#[derive(Debug)]
pub(crate) struct Sleeper {
    /// Its host's; `None` for true time.
    pub(crate) host: Option<HostKey>,
    pub(crate) deadline: Instant,
    pub(crate) waker: Waker,
}

/// A server's process and clocks.
pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) clock: HostClock,
    pub(crate) running: bool,
    /// Down for so many reasons.
    pub(crate) stopped: u32,
    /// Stands still for so many reasons.
    pub(crate) paused: u32,
    pub(crate) muted: u32,
    pub(crate) armed: Option<Instant>,
    pub(crate) generation: u32,
    /// The cluster that it is one of.
    pub(crate) cluster: Option<usize>,
}

/// Who is told the truth.
pub(crate) struct Witness(Box<dyn FnMut(Truth) + Send>);

impl State {
    /// Inlined, so that what is true is told where it was made.
    #[inline(always)]
    pub(crate) fn testify(&mut self, truth: Truth) {
        if let Some(Witness(witness)) = &mut self.witness {
            witness(truth);
        }
    }
}

/// Everything that is the case.
pub(crate) struct State {
    pub(crate) net: Net,
    pub(crate) servers: Vec<Server>,
    pub(crate) server_names: Vec<Arc<str>>,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) processes: Processes,
    pub(crate) clients: SlotMap<ClientKey, Client>,
    pub(crate) sleepers: SlotMap<SleepKey, Sleeper>,
    /// Is told everything that servers take as true.
    pub(crate) witness: Option<Witness>,
    /// Kept between steps for its memory.
    pub(crate) effects: Vec<Effect>,
}

thread_local! {
    static HAND: Hand<State> = const { RefCell::new(None) };
}

impl Holdable for State {
    fn hand() -> &'static LocalKey<Hand<Self>> {
        &HAND
    }
}

struct Shared {
    state: Held<State>,
    /// `State::net.now`, to be read by anybody.
    now: AtomicU64,
    /// Somebody wants to know what happens when.
    is_noticing: AtomicBool,
    tasks: Tasks,
}

/// A handle to the world. Cheap to clone.
#[derive(Clone)]
pub struct World(Arc<Shared>);

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl World {
    pub(crate) fn new(seed: u64, latency: Latency) -> Self {
        let state = State {
            net: Net::new(seed, latency),
            servers: Vec::new(),
            server_names: Vec::new(),
            clusters: Vec::new(),
            processes: Vec::new(),
            clients: SlotMap::with_key(),
            sleepers: SlotMap::with_key(),
            witness: None,
            effects: Vec::new(),
        };
        Self(Arc::new(Shared {
            state: Held::new(state),
            now: AtomicU64::new(0),
            is_noticing: AtomicBool::new(false),
            tasks: Tasks::new(Rng::labelled(seed, "scheduling")),
        }))
    }

    /// True time.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(self.0.now.load(Ordering::Relaxed))
    }

    /// Waits in true time: for scenarios and faults, never for code under test.
    pub async fn sleep_until(&self, at: Instant) {
        SleepUntil::new(self.clone(), None, at).await;
    }

    /// From now on ready tasks do not run in any order, but by priorities of their own, which change so many times within
    /// about so many turns: see `tasks::priorities`.
    pub fn run_by_priorities(&self, changes: u32, turns: u64) {
        let seed = self.change(|state| state.net.seed);
        let rng = Rng::labelled(seed, "priorities");
        self.0
            .tasks
            .prioritise(Priorities::new(rng, changes, turns));
    }

    // --- who there is ---

    /// Adds a server, running. Hosts reach it as `nats://<its name>`.
    pub fn add_server(&self, config: ServerConfig) -> ServerKey {
        self.change(|state| state.add_server(config))
    }

    /// Adds a host.
    pub fn add_host(&self, name: &str) -> HostKey {
        self.change(|state| state.net.add_host(name, &state.server_names))
    }

    /// Starts a process on a host: a fresh life with nothing in memory.
    pub fn start_process(&self, host: HostKey, name: impl Into<Arc<str>>) -> SimEnv {
        let name = name.into();
        let key = self.change(|state| {
            let key = ProcessKey(state.processes.len() as u32);
            state.processes.push(Process::new(name, host));
            key
        });
        SimEnv::new(self.clone(), key)
    }

    // --- what a run leaves behind ---

    /// From now on `witness` is told everything that servers take as true, as it becomes true. It must not ask the world
    /// for more than the time.
    pub fn set_witness(&self, witness: impl FnMut(Truth) + Send + 'static) {
        let witness = Witness(Box::new(witness));
        self.change(|state| state.witness = Some(witness));
    }

    /// The hash of everything that has happened.
    pub fn trace(&self) -> Trace {
        self.change(|state| state.net.trace)
    }

    /// How often each kind of fault has bitten.
    pub fn bites(&self) -> Bites {
        self.change(|state| state.net.bites.clone())
    }

    /// Tasks alive in a process.
    pub fn tasks_of(&self, process: ProcessKey) -> u32 {
        self.0.tasks.count(process)
    }

    // --- for the faces of the world: clients, clocks, faults ---

    /// Looks at everything that is the case, or changes it.
    #[inline]
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        self.0.state.with(change)
    }

    /// From now on this thread runs the world, until the answer is dropped.
    pub(crate) fn take_up(&self) -> (TakenUp<'_, State>, TakenUp<'_, tasks::State>) {
        (self.0.state.take_up(), self.0.tasks.take_up())
    }

    /// Lets go of what holds the world itself.
    pub(crate) fn retire(&self) {
        self.0.tasks.clear();
        let witness = self.change(|state| state.witness.take());
        drop(witness);
    }

    pub(crate) fn notices(&self) {
        self.0.is_noticing.store(true, Ordering::Relaxed);
    }

    /// Whether somebody wants to know what happens when.
    pub(crate) fn is_noticing(&self) -> bool {
        self.0.is_noticing.load(Ordering::Relaxed)
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// Moves time on to whatever is due next and hands it out, until that has woken a task. False where nothing will
    /// ever be due.
    pub(crate) fn advance(&self) -> bool {
        self.change(|state| {
            loop {
                let Some(now) = state.net.queue.advance() else {
                    return false;
                };
                state.net.now = now;
                self.0.now.store(now.as_nanos(), Ordering::Relaxed);
                state.step();
                if self.0.tasks.is_rung() {
                    return true;
                }
            }
        })
    }

    pub(crate) fn with_client<R>(
        &self,
        key: ClientKey,
        work: impl FnOnce(&mut Client, &mut Net) -> R,
    ) -> Option<R> {
        self.change(|State { clients, net, .. }| {
            let client = clients.get_mut(key)?;
            let result = work(client, net);
            client.arm(net);
            Some(result)
        })
    }

    /// Looks at a client, and moves none of its deadlines forward.
    pub(crate) fn look_at_client<R>(
        &self,
        key: ClientKey,
        look: impl FnOnce(&mut Client) -> R,
    ) -> Option<R> {
        self.change(|state| state.clients.get_mut(key).map(look))
    }

    pub(crate) fn clock(&self, process: ProcessKey) -> SimClock {
        let host = self.change(|state| state.processes[process.0 as usize].host);
        SimClock {
            world: self.clone(),
            host,
        }
    }

    pub(crate) fn open_client(
        &self,
        process: ProcessKey,
        options: ConnectOptions,
    ) -> Result<ClientKey, ConnectError> {
        self.change(|state| state.open_client(process, options))
    }

    pub(crate) fn remove_client(&self, key: ClientKey) {
        self.change(|state| state.remove_client(key));
    }
}

impl State {
    fn add_server(&mut self, config: ServerConfig) -> ServerKey {
        let name = config.name.clone();
        let key = ServerKey(self.servers.len() as u32);
        let seed = self.net.seed;
        self.net.kindness = self.net.kindness.or(config.kindness);
        let mut rng = Rng::labelled(seed, &format!("server/{name}"));
        let up = Instant::from_nanos(rng.below(3_600_000_000_000));
        let broker = Broker::new(config, rng);
        self.servers.push(Server {
            broker,
            clock: HostClock::new(up),
            running: true,
            stopped: 0,
            paused: 0,
            muted: 0,
            armed: None,
            generation: 0,
            cluster: None,
        });
        for host in 0..self.net.hosts.len() {
            let route = self.net.route(&self.net.hosts[host].name, &name);
            self.net.hosts[host].routes.push(route);
        }
        self.server_names.push(name);
        key
    }

    fn open_client(
        &mut self,
        process: ProcessKey,
        options: ConnectOptions,
    ) -> Result<ClientKey, ConnectError> {
        let servers = options
            .servers
            .iter()
            .map(|address| {
                let name = address.strip_prefix("nats://").unwrap_or(address);
                let found = self.server_names.iter().position(|known| **known == *name);
                let found = found.map(|index| ServerKey(index as u32));
                found.ok_or_else(|| ConnectError::InvalidAddress(address.clone()))
            })
            .collect::<Result<Arc<[ServerKey]>, ConnectError>>()?;
        if servers.is_empty() {
            return Err(ConnectError::InvalidAddress(String::new()));
        }
        let Process { host, alive, .. } = self.processes[process.0 as usize];
        if !alive {
            return Err(ConnectError::Unreachable("the process is dead".into()));
        }
        let running = &mut self.processes[process.0 as usize];
        running.connections += 1;
        let id = ConnectionId(running.connections);
        let options = Arc::new(options);
        let key = self
            .clients
            .insert_with_key(|key| Client::new(key, process, host, id, options, servers));
        self.processes[process.0 as usize].clients.push(key);
        let Self { clients, net, .. } = self;
        let client = &mut clients[key];
        client.dial(net);
        client.arm(net);
        Ok(key)
    }
}
