//! Faults: verbs in pairs, on routes, processes, hosts, clocks and servers.
//!
//! Each verb takes effect at once and lasts until its mending verb. Faults of one kind on one target count, so that
//! overlapping ones mend apart. What each verb means for TCP is said in [`crate::link`].

use std::time::Duration;

use madsim::runtime::Handle;

use crate::broker::Broker;
use crate::link::{Direction, LinkKey};
use crate::net::Due;
use crate::trace::Bite;
use crate::world::{HostKey, ProcessKey, ServerKey, SleepKey, State, World};

impl World {
    // --- routes ---

    /// Nothing gets through in this direction until [`heal`](Self::heal); it waits, and connects time out.
    pub fn partition(&self, host: HostKey, server: ServerKey, direction: Direction) {
        self.work(|state| {
            state.net.route_mut(host, server).blocked[direction as usize] += 1;
        });
    }

    /// Ends one [`partition`](Self::partition): what waited arrives.
    pub fn heal(&self, host: HostKey, server: ServerKey, direction: Direction) {
        self.work(|state| {
            let blocked = &mut state.net.route_mut(host, server).blocked[direction as usize];
            *blocked = blocked.saturating_sub(1);
            let links = state.net.links_of(Some(host), Some(server));
            state.net.rearm(&links);
        });
    }

    /// What is sent in this direction is swallowed while sockets stay open, until [`fill`](Self::fill).
    pub fn blackhole(&self, host: HostKey, server: ServerKey, direction: Direction) {
        self.work(|state| {
            state.net.route_mut(host, server).holes[direction as usize] += 1;
        });
    }

    /// Ends one [`blackhole`](Self::blackhole): links that lost bytes are reset.
    pub fn fill(&self, host: HostKey, server: ServerKey, direction: Direction) {
        self.work(|state| {
            let holes = &mut state.net.route_mut(host, server).holes[direction as usize];
            *holes = holes.saturating_sub(1);
            for link in state.net.links_of(Some(host), Some(server)) {
                if state.net.links.get(link).is_some_and(|link| link.torn) {
                    state.net.reset(link);
                }
            }
        });
    }

    /// Resets every link between the two, at once.
    pub fn cut(&self, host: HostKey, server: ServerKey) {
        self.work(|state| {
            for link in state.net.links_of(Some(host), Some(server)) {
                state.net.bites.add(Bite::Cut);
                state.net.reset(link);
            }
        });
    }

    /// Everything takes this much longer each way, until [`restore`](Self::restore).
    pub fn delay(&self, host: HostKey, server: ServerKey, by: Duration) {
        self.work(|state| state.net.route_mut(host, server).extra += by);
    }

    /// Ends one [`delay`](Self::delay) of the same length.
    pub fn restore(&self, host: HostKey, server: ServerKey, by: Duration) {
        self.work(|state| {
            let extra = &mut state.net.route_mut(host, server).extra;
            *extra = extra.saturating_sub(by);
        });
    }

    /// The next acknowledgement of a write is lost after its effect. Mends itself by biting.
    pub fn lose_reply(&self, host: HostKey, server: ServerKey) {
        self.work(|state| state.net.route_mut(host, server).replies_to_lose += 1);
    }

    /// Replies not lost yet will not be.
    pub fn keep_replies(&self, host: HostKey, server: ServerKey) {
        self.work(|state| state.net.route_mut(host, server).replies_to_lose = 0);
    }

    // --- processes ---

    /// Stops a process (SIGSTOP): its clocks go on, its sockets fill. No effect on a dead one.
    pub fn pause(&self, process: ProcessKey) {
        let alive = self.work(|state| {
            let process = &mut state.processes[process.0 as usize];
            process.paused = process.alive;
            process.alive
        });
        if alive {
            Handle::current().pause(self.node(process).id());
        }
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&self, process: ProcessKey) {
        let was_paused = self.work(|state| {
            let paused = &mut state.processes[process.0 as usize].paused;
            let was_paused = std::mem::replace(paused, false);
            state.thaw_process(process);
            was_paused
        });
        if was_paused && !self.is_suspended(process) {
            Handle::current().resume(self.node(process).id());
        }
    }

    /// Kills a process (SIGKILL): its memory is gone, its kernel closes its connections.
    pub fn crash(&self, process: ProcessKey) {
        self.work(|state| {
            let dying = &mut state.processes[process.0 as usize];
            dying.alive = false;
            dying.paused = false;
            for client in std::mem::take(&mut dying.clients) {
                state.net.bites.add(Bite::Crash);
                state.remove_client(client);
            }
        });
        Handle::current().kill(self.node(process).id());
    }

    /// True unless it crashed.
    pub fn is_alive(&self, process: ProcessKey) -> bool {
        self.lock().processes[process.0 as usize].alive
    }

    fn is_suspended(&self, process: ProcessKey) -> bool {
        let state = self.lock();
        let host = state.processes[process.0 as usize].host;
        state.net.host(host).suspended
    }

    // --- hosts and clocks ---

    /// The machine sleeps: nothing on it runs, its monotonic clock stands, its wall clock goes on.
    pub fn suspend(&self, host: HostKey) {
        self.set_suspended(host, true);
    }

    /// The machine wakes up.
    pub fn wake(&self, host: HostKey) {
        self.set_suspended(host, false);
    }

    fn set_suspended(&self, host: HostKey, suspended: bool) {
        let processes = self.work(|state| {
            let now = state.net.now;
            let sleeping = state.net.host_mut(host);
            if sleeping.suspended != suspended {
                sleeping.suspended = suspended;
                sleeping.clock.suspend(now, suspended);
                state.net.bites.add(Bite::Clock);
            }
            state.clock_changed(host);
            let on_host = |process: &ProcessKey| {
                let process = &state.processes[process.0 as usize];
                process.host == host && process.alive && !process.paused
            };
            (0..state.processes.len() as u32)
                .map(ProcessKey)
                .filter(on_host)
                .collect::<Vec<_>>()
        });
        for process in processes {
            let node = self.node(process).id();
            if suspended {
                Handle::current().pause(node);
            } else {
                Handle::current().resume(node);
            }
        }
    }

    /// The wall clock jumps by so many nanoseconds (and so is skewed from now on).
    pub fn jump(&self, host: HostKey, nanos: i64) {
        self.work(|state| {
            let now = state.net.now;
            state.net.host_mut(host).clock.jump(now, nanos);
            state.net.bites.add(Bite::Clock);
        });
    }

    /// Both clocks run fast by so many parts per billion from now on (slow, if negative; 0 ends it).
    pub fn drift(&self, host: HostKey, ppb: i64) {
        self.work(|state| {
            let now = state.net.now;
            state.net.host_mut(host).clock.drift(now, ppb);
            state.net.bites.add(Bite::Clock);
            state.clock_changed(host);
        });
    }

    // --- servers ---

    /// Kills the server (to clients SIGTERM and SIGKILL look alike). Its file storage keeps what it acknowledged.
    pub fn stop_server(&self, server: ServerKey) {
        self.work(|state| {
            if state.servers[server.0 as usize].running {
                state.serve(server, |broker, _, effects| broker.stop(effects));
                state.server_gone(server);
            }
        });
    }

    /// Starts it again, on its old storage.
    pub fn start_server(&self, server: ServerKey) {
        self.work(|state| {
            let stopped = &mut state.servers[server.0 as usize];
            if !stopped.running {
                stopped.running = true;
                state.serve(server, Broker::start);
                state.rearm_server(server);
            }
        });
    }

    /// Stops the server's process (SIGSTOP): its kernel still accepts connections and bytes.
    pub fn pause_server(&self, server: ServerKey) {
        self.work(|state| {
            let server = &mut state.servers[server.0 as usize];
            server.paused = server.running;
        });
    }

    /// Lets it go on (SIGCONT).
    pub fn resume_server(&self, server: ServerKey) {
        self.work(|state| {
            state.servers[server.0 as usize].paused = false;
            let links = state.net.links_of(None, Some(server));
            state.net.rearm(&links);
            state.rearm_server(server);
        });
    }

    /// JetStream answers nobody while core messaging goes on, until called with `false`.
    pub fn mute_jetstream(&self, server: ServerKey, mute: bool) {
        self.work(|state| {
            state.serve(server, |broker, now, _| broker.mute_jetstream(now, mute));
        });
    }
}

impl State {
    /// Timers and sleeps of this host stand for other true times now.
    fn clock_changed(&mut self, host: HostKey) {
        let sleepers: Vec<SleepKey> = self
            .sleepers
            .iter()
            .filter(|(_, s)| s.host == host)
            .map(|(key, _)| key)
            .collect();
        for key in sleepers {
            let deadline = self.sleepers[key].deadline;
            if let Some(at) = self.net.host(host).clock.true_time_of(deadline) {
                self.net.queue.push(at.max(self.net.now), Due::Sleep(key));
            }
        }
        for process in 0..self.processes.len() as u32 {
            if self.processes[process as usize].host == host {
                self.thaw_process(ProcessKey(process));
            }
        }
    }

    /// What waited for this process, if it is not stopped any more, goes on.
    fn thaw_process(&mut self, process: ProcessKey) {
        for key in self.processes[process.0 as usize].clients.clone() {
            let Some(client) = self.clients.get_mut(key) else {
                continue;
            };
            client.rearm(&mut self.net);
            let link: Vec<LinkKey> = client.link().into_iter().collect();
            self.net.rearm(&link);
        }
    }
}
