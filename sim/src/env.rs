//! [`SimEnv`]: the surroundings of one simulated process.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use squall_core::{Clock, Env, Instant, Moment, Rng, Task, UnixTime};

use crate::client::SimTransport;
use crate::moments::{machine_name, variant};
use crate::net::Due;
use crate::world::{HostKey, ProcessKey, SleepKey, Sleeper, World};

/// The surroundings of one simulated process.
#[derive(Clone, Debug)]
pub struct SimEnv {
    process: ProcessKey,
    clock: SimClock,
    transport: SimTransport,
}

impl SimEnv {
    pub(crate) fn new(world: World, process: ProcessKey) -> Self {
        let clock = world.clock(process);
        Self {
            process,
            clock,
            transport: SimTransport { world, process },
        }
    }

    /// Which process this is.
    pub const fn process(&self) -> ProcessKey {
        self.process
    }

    /// On which host it runs.
    pub const fn host(&self) -> HostKey {
        self.clock.host
    }
}

impl Env for SimEnv {
    type Clock = SimClock;
    type Transport = SimTransport;

    fn clock(&self) -> &SimClock {
        &self.clock
    }

    fn transport(&self) -> &SimTransport {
        &self.transport
    }

    fn rng(&self, purpose: &str) -> Rng {
        self.clock.world.change(|state| {
            let process = &mut state.processes[self.process.0 as usize];
            process.streams += 1;
            let label = format!("process/{}/{purpose}/{}", process.name, process.streams);
            Rng::labelled(state.net.seed, &label)
        })
    }

    fn spawn<F>(&self, _name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.clock.world.tasks().clone();
        let task = tasks.spawn(self.process, future);
        Task::new(move || tasks.end(task))
    }
}

/// The clocks of a simulated host.
#[derive(Clone, Debug)]
pub struct SimClock {
    pub(crate) world: World,
    pub(crate) host: HostKey,
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        self.world.change(|state| state.net.local(self.host))
    }

    fn wall(&self) -> UnixTime {
        self.world
            .change(|state| state.net.host(self.host).clock.wall(state.net.now))
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + Send + 'static {
        SleepUntil::new(self.world.clone(), Some(self.host), deadline)
    }

    fn notice(&self, machine: &'static str, moment: Moment<'_>) {
        if !self.world.is_noticing() {
            return;
        }
        let machine = machine_name(machine);
        let name = match moment {
            Moment::Goes { from, to } => format!("{machine} goes from {from} to {to}"),
            Moment::Fails(error) => format!("an error is {}", variant(error)),
            Moment::Hears(event) => format!("{machine} hears {}", variant(event)),
            Moment::IsDue => format!("{machine} is due"),
            Moment::Wants(effect) => format!("{machine} wants {}", variant(effect)),
        };
        self.world.change(|state| {
            let net = &mut state.net;
            if let Some(moments) = &mut net.moments {
                moments.add(net.now, &net.hosts[self.host.0 as usize].name, &name);
            }
        });
    }
}

/// Sleeps by the clock of a host, or in true time.
pub(crate) struct SleepUntil {
    world: World,
    host: Option<HostKey>,
    deadline: Instant,
    key: Option<SleepKey>,
}

impl SleepUntil {
    pub(crate) const fn new(world: World, host: Option<HostKey>, deadline: Instant) -> Self {
        Self {
            world,
            host,
            deadline,
            key: None,
        }
    }
}

impl Future for SleepUntil {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self {
            world,
            host,
            deadline,
            key,
        } = self.get_mut();
        let (host, deadline) = (*host, *deadline);
        world.change(|state| {
            if state.net.time_of(host) >= deadline {
                if let Some(key) = key.take() {
                    state.sleepers.remove(key);
                }
                return Poll::Ready(());
            }
            if let Some(sleeper) = key.and_then(|key| state.sleepers.get_mut(key)) {
                sleeper.waker.clone_from(context.waker());
                return Poll::Pending;
            }
            let sleeper = state.sleepers.insert(Sleeper {
                host,
                deadline,
                waker: context.waker().clone(),
            });
            if let Some(at) = state.net.true_time_of(host, deadline) {
                state.net.queue.push(at, Due::Sleep(sleeper));
            }
            *key = Some(sleeper);
            Poll::Pending
        })
    }
}

impl Drop for SleepUntil {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.world.change(|state| state.sleepers.remove(key));
        }
    }
}
