//! Faults: verbs in pairs, on routes, processes, hosts, clocks and servers.
//!
//! Each verb takes effect at once and lasts until its mending verb. Faults of one kind on one target count, so that
//! overlapping ones mend apart. What each verb means for TCP is said in [`crate::link`].

use std::time::Duration;

use crate::broker::{Broker, Effect, Kindness, Loss};
use crate::link::{Direction, LinkKey};
use crate::net::Due;
use crate::trace::Bite;
use crate::world::{HostKey, ProcessKey, ServerKey, SleepKey, State, World};

impl World {
    // --- routes ---

    /// Nothing gets through in this direction until [`heal`](Self::heal); it waits, and connects time out.
    pub fn partition(&self, host: HostKey, server: ServerKey, direction: Direction) {
        self.change(|state| {
            state.net.route_mut(host, server).blocked[direction as usize] += 1;
        });
    }

    /// Ends one [`partition`](Self::partition): what waited arrives.
    pub fn heal(&self, host: HostKey, server: ServerKey, direction: Direction) {
        self.change(|state| {
            let blocked = &mut state.net.route_mut(host, server).blocked[direction as usize];
            *blocked = blocked.saturating_sub(1);
            let links = state.net.links_of(Some(host), Some(server));
            state.net.rearm(&links);
        });
    }

    /// What is sent in this direction is swallowed while sockets stay open, until [`fill`](Self::fill).
    pub fn blackhole(&self, host: HostKey, server: ServerKey, direction: Direction) {
        self.change(|state| {
            state.net.route_mut(host, server).holes[direction as usize] += 1;
        });
    }

    /// Ends one [`blackhole`](Self::blackhole): links that lost bytes are reset.
    pub fn fill(&self, host: HostKey, server: ServerKey, direction: Direction) {
        self.change(|state| {
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
        self.change(|state| {
            for link in state.net.links_of(Some(host), Some(server)) {
                state.net.bites.add(Bite::Cut);
                state.net.reset(link);
            }
        });
    }

    /// Everything takes this much longer each way, until [`restore`](Self::restore).
    pub fn delay(&self, host: HostKey, server: ServerKey, by: Duration) {
        self.change(|state| state.net.route_mut(host, server).extra += by);
    }

    /// Ends one [`delay`](Self::delay) of the same length.
    pub fn restore(&self, host: HostKey, server: ServerKey, by: Duration) {
        self.change(|state| {
            let extra = &mut state.net.route_mut(host, server).extra;
            *extra = extra.saturating_sub(by);
        });
    }

    /// The next acknowledgement of a write is lost after its effect; bites once, and lasts until
    /// [`keep_replies`](Self::keep_replies).
    pub fn lose_reply(&self, host: HostKey, server: ServerKey) {
        self.change(|state| {
            let route = state.net.route_mut(host, server);
            route.losing += 1;
            route.replies_to_lose += 1;
        });
    }

    /// Ends one [`lose_reply`](Self::lose_reply), rather one that has bitten: what it has not lost yet it will not.
    pub fn keep_replies(&self, host: HostKey, server: ServerKey) {
        self.change(|state| {
            let route = state.net.route_mut(host, server);
            route.losing = route.losing.saturating_sub(1);
            route.replies_to_lose = route.replies_to_lose.min(route.losing);
        });
    }

    // --- processes ---

    /// Stops a process (SIGSTOP): its clocks go on, its sockets fill. No effect on a dead one.
    pub fn pause(&self, process: ProcessKey) {
        self.change(|state| {
            let process = &mut state.processes[process.0 as usize];
            process.paused += u32::from(process.alive);
        });
        self.hold_or_release(process);
    }

    /// Ends one [`pause`](Self::pause) (SIGCONT).
    pub fn resume(&self, process: ProcessKey) {
        self.change(|state| {
            let paused = &mut state.processes[process.0 as usize].paused;
            *paused = paused.saturating_sub(1);
            state.thaw_process(process);
        });
        self.hold_or_release(process);
    }

    /// Lets the scheduler run the process's tasks, or not, as its state demands.
    fn hold_or_release(&self, process: ProcessKey) {
        let (alive, frozen) = self.change(|state| {
            let found = &state.processes[process.0 as usize];
            (
                found.alive,
                found.paused > 0 || state.net.host(found.host).suspended > 0,
            )
        });
        if alive {
            self.tasks().freeze(process, frozen);
        }
    }

    /// Kills a process (SIGKILL): its memory is gone, its kernel closes its connections.
    pub fn crash(&self, process: ProcessKey) {
        self.change(|state| {
            let dying = &mut state.processes[process.0 as usize];
            dying.alive = false;
            dying.paused = 0;
            for client in std::mem::take(&mut dying.clients) {
                state.net.bites.add(Bite::Crash);
                state.remove_client(client);
            }
        });
        self.tasks().end_all(process);
    }

    /// True unless it crashed.
    pub fn is_alive(&self, process: ProcessKey) -> bool {
        self.change(|state| state.processes[process.0 as usize].alive)
    }

    // --- hosts and clocks ---

    /// The machine sleeps: nothing on it runs, its monotonic clock stands, its wall clock goes on.
    pub fn suspend(&self, host: HostKey) {
        self.sleep_host(host, |reasons| reasons + 1);
    }

    /// Ends one [`suspend`](Self::suspend); the machine wakes up with the last.
    pub fn wake(&self, host: HostKey) {
        self.sleep_host(host, |reasons| reasons.saturating_sub(1));
    }

    fn sleep_host(&self, host: HostKey, change: impl FnOnce(u32) -> u32) {
        let processes = self.change(|state| {
            let now = state.net.now;
            let sleeping = state.net.host_mut(host);
            sleeping.suspended = change(sleeping.suspended);
            let suspended = sleeping.suspended > 0;
            sleeping.clock.suspend(now, suspended);
            state.net.bites.add(Bite::Clock);
            state.clock_changed(host);
            let on_host = |process: &ProcessKey| state.processes[process.0 as usize].host == host;
            (0..state.processes.len() as u32)
                .map(ProcessKey)
                .filter(on_host)
                .collect::<Vec<_>>()
        });
        for process in processes {
            self.hold_or_release(process);
        }
    }

    /// The wall clock jumps by so many nanoseconds (and so is skewed from now on).
    pub fn jump(&self, host: HostKey, nanos: i64) {
        self.change(|state| {
            if state.net.kindness == Some(Kindness::OneClock) {
                return;
            }
            let now = state.net.now;
            state.net.host_mut(host).clock.jump(now, nanos);
            state.net.bites.add(Bite::Clock);
        });
    }

    /// Both clocks run fast by so many more parts per billion from now on (slow, if negative). Ended by its opposite.
    pub fn drift(&self, host: HostKey, ppb: i64) {
        self.change(|state| {
            let now = state.net.now;
            state.net.host_mut(host).clock.drift(now, ppb);
            state.net.bites.add(Bite::Clock);
            state.clock_changed(host);
        });
    }

    // --- servers ---

    /// Kills the server. Its file storage keeps what it acknowledged; pull consumers may forget their last 100 ms.
    pub fn stop_server(&self, server: ServerKey) {
        self.end_server(server, Broker::stop);
    }

    /// Asks the server to end. To clients it is as if it were [killed](Self::stop_server), and nothing is forgotten.
    pub fn terminate_server(&self, server: ServerKey) {
        self.end_server(server, Broker::terminate);
    }

    fn end_server(&self, server: ServerKey, end: fn(&mut Broker, &mut Vec<Effect>)) {
        self.change(|state| {
            let stopping = &mut state.servers[server.0 as usize];
            stopping.stopped += 1;
            if stopping.running {
                state.serve(server, |broker, _, effects| end(broker, effects));
                state.server_gone(server);
            }
        });
    }

    /// The server's machine loses its power, and with it what was acknowledged and not synced to files yet, or a part
    /// of that. Lasts as [`stop_server`](Self::stop_server) does.
    ///
    /// # Panics
    /// If the server was not told how often it syncs its files.
    pub fn power_loss(&self, server: ServerKey, loss: Loss) {
        self.stop_server(server);
        self.change(|state| {
            state.serve(server, |broker, _, effects| {
                broker.lose_power(loss, effects)
            });
        });
    }

    /// The server's files are synced: nothing written so far can be lost with the power.
    pub fn sync_server(&self, server: ServerKey) {
        self.change(|state| state.serve(server, |broker, _, _| broker.sync()));
    }

    /// Ends one [`stop_server`](Self::stop_server), [`terminate_server`](Self::terminate_server) or
    /// [`power_loss`](Self::power_loss); with the last it starts again, on its old storage.
    pub fn start_server(&self, server: ServerKey) {
        self.change(|state| {
            let starting = &mut state.servers[server.0 as usize];
            starting.stopped = starting.stopped.saturating_sub(1);
            if starting.stopped == 0 && !starting.running {
                starting.running = true;
                let muted = starting.muted > 0;
                state.serve(server, |broker, now, effects| {
                    broker.start(now, effects);
                    broker.mute_jetstream(now, muted);
                });
                state.open_routes(server);
                state.rearm_server(server);
            }
        });
    }

    /// Tells the server to shut down as a lame duck (SIGUSR2): it closes its connections one after the other, and
    /// exits. No effect on a dead one.
    pub fn retire_server(&self, server: ServerKey) {
        self.change(|state| {
            if state.servers[server.0 as usize].running {
                state.serve(server, Broker::lame_duck);
            }
        });
    }

    /// Stops the server's process (SIGSTOP): its kernel still accepts connections and bytes. No effect on a dead one.
    pub fn pause_server(&self, server: ServerKey) {
        self.change(|state| {
            let server = &mut state.servers[server.0 as usize];
            server.paused += u32::from(server.running);
        });
    }

    /// Ends one [`pause_server`](Self::pause_server) (SIGCONT).
    pub fn resume_server(&self, server: ServerKey) {
        self.change(|state| {
            let resuming = &mut state.servers[server.0 as usize];
            resuming.paused = resuming.paused.saturating_sub(1);
            if resuming.running && resuming.paused == 0 {
                state.serve(server, Broker::resume);
            }
            let links = state.net.links_of(None, Some(server));
            state.net.rearm(&links);
            state.rearm_routes_to(server);
            state.rearm_server(server);
        });
    }

    /// JetStream answers nobody while core messaging goes on.
    pub fn mute_jetstream(&self, server: ServerKey) {
        self.set_muted(server, |reasons| reasons + 1);
    }

    /// Ends one [`mute_jetstream`](Self::mute_jetstream).
    pub fn unmute_jetstream(&self, server: ServerKey) {
        self.set_muted(server, |reasons| reasons.saturating_sub(1));
    }

    fn set_muted(&self, server: ServerKey, change: impl FnOnce(u32) -> u32) {
        self.change(|state| {
            let muting = &mut state.servers[server.0 as usize];
            muting.muted = change(muting.muted);
            let muted = muting.muted > 0;
            if muting.running {
                state.serve(server, |broker, now, _| broker.mute_jetstream(now, muted));
            }
        });
    }
}

impl State {
    /// Timers and sleeps of this host stand for other true times now.
    fn clock_changed(&mut self, host: HostKey) {
        let sleepers: Vec<SleepKey> = self
            .sleepers
            .iter()
            .filter(|(_, s)| s.host == Some(host))
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
