//! The simulated world: hosts, processes, servers and the fabric between them, under one lock and one queue.
//!
//! [`World::new`] is called inside a madsim runtime and starts the one fabric task. Everything that takes time goes
//! through the fabric's queue: parcels on links, timers of clients and servers, sleeping tasks. The task sleeps until the
//! head of the queue is due, hands out what is due, and sleeps again. Nothing else depends on time, so that what a run
//! does is a function of the seed: of the scheduler's choices (madsim's stream), the links' latencies (one stream a route)
//! and the faults (the plan).

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use madsim::runtime::NodeHandle;
use madsim::time::{Sleep, TimeHandle};
use slotmap::{SlotMap, new_key_type};
use squall_core::transport::{ConnectError, ConnectOptions, ConnectionId};
use squall_core::{Instant, Rng};

use crate::broker::{Broker, Effect, ServerConfig};
use crate::client::{Client, ClientKey};
use crate::clock::HostClock;
use crate::env::{SimClock, SimEnv};
use crate::link::Latency;
use crate::net::{Net, Process, Processes};
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

/// A task that waits for its host's clock.
#[derive(Debug)]
pub(crate) struct Sleeper {
    pub(crate) host: HostKey,
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
}

/// Everything that is the case.
pub(crate) struct State {
    pub(crate) net: Net,
    pub(crate) servers: Vec<Server>,
    pub(crate) server_names: Vec<Arc<str>>,
    pub(crate) processes: Processes,
    pub(crate) clients: SlotMap<ClientKey, Client>,
    pub(crate) sleepers: SlotMap<SleepKey, Sleeper>,
    pub(crate) truth: Vec<Truth>,
    /// Kept between steps for its memory.
    pub(crate) effects: Vec<Effect>,
}

struct Shared {
    state: Mutex<State>,
    time: TimeHandle,
    alarm: Mutex<Alarm>,
    nodes: Mutex<Vec<NodeHandle>>,
}

/// When the fabric task will wake.
struct Alarm {
    set: Option<Instant>,
    fabric: Option<Waker>,
}

/// A handle to the world. Cheap to clone.
#[derive(Clone)]
pub struct World(Arc<Shared>);

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// An empty world. Must be called inside a madsim runtime, whose seed decides the scheduling; `seed` decides the rest.
    pub fn new(seed: u64, latency: Latency) -> Self {
        let state = State {
            net: Net::new(seed, latency),
            servers: Vec::new(),
            server_names: Vec::new(),
            processes: Vec::new(),
            clients: SlotMap::with_key(),
            sleepers: SlotMap::with_key(),
            truth: Vec::new(),
            effects: Vec::new(),
        };
        let world = Self(Arc::new(Shared {
            state: Mutex::new(state),
            time: TimeHandle::current(),
            alarm: Mutex::new(Alarm {
                set: None,
                fabric: None,
            }),
            nodes: Mutex::new(Vec::new()),
        }));
        madsim::task::spawn(world.clone().fabric());
        world
    }

    /// True time.
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.0.time.elapsed()
    }

    /// Waits in true time: for scenarios and faults, never for code under test.
    pub async fn sleep_until(&self, at: Instant) {
        let now = self.now();
        if at > now {
            exact_sleep(&self.0.time, now, at).await;
        }
    }

    // --- who there is ---

    /// Adds a server, running. Hosts reach it as `nats://<its name>`.
    pub fn add_server(&self, config: ServerConfig) -> ServerKey {
        let mut state = self.lock();
        let state = &mut *state;
        let name = config.name.clone();
        let key = ServerKey(state.servers.len() as u32);
        let seed = state.net.seed;
        state.net.kindness = state.net.kindness.or(config.kindness);
        let mut rng = Rng::labelled(seed, &format!("server/{name}"));
        let up = Instant::from_nanos(rng.below(3_600_000_000_000));
        let broker = Broker::new(config, rng);
        state.servers.push(Server {
            broker,
            clock: HostClock::new(up),
            running: true,
            stopped: 0,
            paused: 0,
            muted: 0,
            armed: None,
            generation: 0,
        });
        for host in 0..state.net.hosts.len() {
            let route = state.net.route(&state.net.hosts[host].name.clone(), &name);
            state.net.hosts[host].routes.push(route);
        }
        state.server_names.push(name);
        key
    }

    /// Adds a host.
    pub fn add_host(&self, name: &str) -> HostKey {
        let mut state = self.lock();
        let names = state.server_names.clone();
        state.net.add_host(name, &names)
    }

    /// Starts a process on a host: a fresh life with nothing in memory.
    pub fn start_process(&self, host: HostKey, name: &str) -> SimEnv {
        let node = madsim::runtime::Handle::current()
            .create_node()
            .name(name)
            .build();
        locked(&self.0.nodes).push(node);
        let mut state = self.lock();
        let key = ProcessKey(state.processes.len() as u32);
        state.processes.push(Process::new(name.into(), host));
        drop(state);
        SimEnv::new(self.clone(), key)
    }

    // --- what a run leaves behind ---

    /// Everything the servers took as true since the last call, in order.
    pub fn take_truth(&self) -> Vec<Truth> {
        std::mem::take(&mut self.lock().truth)
    }

    /// The hash of everything that has happened.
    pub fn trace(&self) -> Trace {
        self.lock().net.trace
    }

    /// How often each kind of fault has bitten.
    pub fn bites(&self) -> Bites {
        self.lock().net.bites.clone()
    }

    /// Tasks alive in a process.
    pub fn tasks(&self, process: ProcessKey) -> u32 {
        self.lock().processes[process.0 as usize].tasks
    }

    // --- for the faces of the world: clients, clocks, faults ---

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = locked(&self.0.state);
        state.net.now = self.now();
        state
    }

    /// Works on the state, then makes sure that the fabric wakes in time for whatever came into the queue.
    pub(crate) fn work<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = work(&mut state);
        let next = state.net.queue.next();
        drop(state);
        if let Some(next) = next {
            self.set_alarm(next);
        }
        result
    }

    pub(crate) fn with_client<R>(
        &self,
        key: ClientKey,
        work: impl FnOnce(&mut Client, &mut Net) -> R,
    ) -> Option<R> {
        self.work(|state| {
            let client = state.clients.get_mut(key)?;
            let result = work(client, &mut state.net);
            client.arm(&mut state.net);
            Some(result)
        })
    }

    pub(crate) fn clock(&self, process: ProcessKey) -> SimClock {
        let host = self.lock().processes[process.0 as usize].host;
        SimClock {
            world: self.clone(),
            host,
        }
    }

    pub(crate) fn node(&self, process: ProcessKey) -> NodeHandle {
        locked(&self.0.nodes)[process.0 as usize].clone()
    }

    pub(crate) fn open_client(
        &self,
        process: ProcessKey,
        options: ConnectOptions,
    ) -> Result<ClientKey, ConnectError> {
        self.work(|state| {
            let servers = options
                .servers
                .iter()
                .map(|address| {
                    let name = address.strip_prefix("nats://").unwrap_or(address);
                    let found = state.server_names.iter().position(|known| **known == *name);
                    let found = found.map(|index| ServerKey(index as u32));
                    found.ok_or_else(|| ConnectError::InvalidAddress(address.clone()))
                })
                .collect::<Result<Arc<[ServerKey]>, ConnectError>>()?;
            if servers.is_empty() {
                return Err(ConnectError::InvalidAddress(String::new()));
            }
            let Process { host, alive, .. } = state.processes[process.0 as usize];
            if !alive {
                return Err(ConnectError::Unreachable("the process is dead".into()));
            }
            let running = &mut state.processes[process.0 as usize];
            running.connections += 1;
            let id = ConnectionId(running.connections);
            let options = Arc::new(options);
            let key = state
                .clients
                .insert_with_key(|key| Client::new(key, process, host, id, options, servers));
            state.processes[process.0 as usize].clients.push(key);
            let State { clients, net, .. } = state;
            let client = &mut clients[key];
            client.dial(net);
            client.arm(net);
            Ok(key)
        })
    }

    pub(crate) fn remove_client(&self, key: ClientKey) {
        self.work(|state| state.remove_client(key));
    }

    // --- the fabric ---

    fn set_alarm(&self, at: Instant) {
        let mut alarm = locked(&self.0.alarm);
        if alarm.set.is_some_and(|set| set <= at) {
            return;
        }
        let Some(waker) = alarm.fabric.clone() else {
            return;
        };
        alarm.set = Some(at);
        drop(alarm);
        let mut sleep = pin!(exact_sleep(&self.0.time, self.now(), at));
        // Polling it once puts the fabric's waker into the runtime's timer; the rest of it is not needed.
        if sleep
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            waker.wake();
        }
    }

    async fn fabric(self) {
        poll_fn(|context| {
            {
                let mut alarm = locked(&self.0.alarm);
                alarm.set = None;
                if alarm.fabric.is_none() {
                    alarm.fabric = Some(context.waker().clone());
                }
            }
            self.work(State::step);
            Poll::<()>::Pending
        })
        .await;
    }
}

/// madsim's sleeps last at least 1 ms; resetting one does not.
fn exact_sleep(time: &TimeHandle, now: Instant, at: Instant) -> Sleep {
    let mut sleep = time.sleep(std::time::Duration::ZERO);
    let deadline = time.now_instant() + at.since(now);
    Pin::new(&mut sleep).reset(deadline);
    sleep
}
