//! From plan to history: the runner, generic over the testbed, and the simulated run around it.
//!
//! Runs have two acts. In the first the agents live through the plan's faults. Then everything is mended, and within
//! `settle` the world must be well: what that means each role says for itself.

mod with_authority;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use squall_core::{Clock as _, Env, Instant, Task};
use squall_sim::moments::Moments;
use squall_sim::trace::Trace;
use tokio::sync::mpsc;

use crate::fault::{Fault, FaultKind};
use crate::history::{History, Life, Record, Recorder, What, value_hash};
use crate::invariants::{self, Verdict};
use crate::parse::MONITOR;
use crate::plan::{On, Plan};
use crate::roles::{self, Actor, Alive, Board, Order, Standing};
use crate::sim_testbed::SimTestbed;
use crate::testbed::Testbed;

/// The second act looks this often whether the world is well.
const LOOK: Duration = Duration::from_millis(50);
/// Closing everything at the end may take this long beyond the longest heartbeat interval.
const CLOSING: Duration = Duration::from_secs(2);

/// A finished run.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was run.
    pub plan: Plan,
    /// What happened.
    pub history: History,
    /// What the invariants say of it.
    pub verdict: Verdict,
    /// For each fault of the plan, whether it changed anything.
    pub bitten: Vec<bool>,
    /// The hash of everything that happened, in the simulated world.
    pub trace: Option<Trace>,
    /// True time from start to end.
    pub simulated: Duration,
}

impl Run {
    /// A hash of everything that happened and everything that was recorded of it: equal runs have equal ones, in any
    /// process, on any thread, in any profile.
    pub fn fingerprint(&self) -> u64 {
        let mut bytes = Vec::new();
        // Writing to memory cannot fail.
        let _infallible = self.history.write(&mut bytes);
        value_hash(&bytes) ^ self.trace.map_or(0, Trace::value)
    }
}

/// Runs a plan in the simulated world.
pub fn simulate(plan: &Plan) -> Run {
    play(plan, false).0
}

/// The same, and what happened when: for who wants to aim at it, or to know what was reached. The run is the same.
pub fn simulate_noticing(plan: &Plan) -> (Run, Moments) {
    play(plan, true)
}

fn play(plan: &Plan, notices: bool) -> (Run, Moments) {
    // The recorder outlives a panic: what led to it is told.
    let recorder: Arc<std::sync::OnceLock<Recorder>> = Arc::default();
    let ran = {
        let (plan, recorder) = (plan.clone(), Arc::clone(&recorder));
        catch_unwind(AssertUnwindSafe(move || {
            let (mut simulation, testbed, history) = SimTestbed::new(&plan);
            let recorder = recorder.get_or_init(|| history);
            let world = testbed.world();
            if notices {
                world.notice_moments();
            }
            let bitten = simulation.run(perform(&plan, &testbed, recorder));
            let end = (world.trace(), world.now());
            let moments = world.take_moments();
            (gather(&testbed, recorder), bitten, end, moments)
        }))
    };
    let (history, bitten, trace, end, moments) = match ran {
        Ok((history, bitten, (trace, end), moments)) => {
            (history, bitten, Some(trace), end, moments)
        }
        Err(panic) => {
            let mut records = recorder.get().map(Recorder::take).unwrap_or_default();
            let at = records.last().map_or(Instant::ZERO, |record| record.at);
            records.push(Record {
                at,
                what: What::Panicked {
                    message: message_of(&*panic),
                },
            });
            let bitten = vec![false; plan.faults.len()];
            (History(records), bitten, None, at, Moments::default())
        }
    };
    let verdict = invariants::judge(plan, &history);
    let run = Run {
        plan: plan.clone(),
        history,
        verdict,
        bitten,
        trace,
        simulated: end.elapsed(),
    };
    (run, moments)
}

pub(crate) fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Everything that was recorded, in the order of true time; at the same instant the server's truth comes first.
pub fn gather<T: Testbed>(testbed: &T, recorder: &Recorder) -> History {
    let (mut truth, recorded) = (testbed.take_truth(), recorder.take());
    truth.sort_by_key(|record| record.at);
    if truth.is_empty() {
        return History(recorded);
    }
    let mut all = Vec::with_capacity(truth.len() + recorded.len());
    let mut truth = truth.into_iter().peekable();
    for record in recorded {
        while let Some(earlier) = truth.next_if(|earlier| earlier.at <= record.at) {
            all.push(earlier);
        }
        all.push(record);
    }
    all.extend(truth);
    History(all)
}

/// What happens when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Start(usize),
    Close(usize),
    Begin(usize),
    End(usize),
    Foreign(usize),
}

/// One agent's processes: the latest is the one that faults act on.
#[derive(Default)]
struct Player {
    lives: u32,
    current: Option<Process>,
    /// Replaced by an overlap, and still alive.
    previous: Option<Process>,
    /// Told to close, and perhaps not gone yet.
    leaving: Vec<Process>,
    /// Reasons for which its machine sleeps.
    asleep: u32,
}

impl Player {
    /// Tells a process to close, and lets it.
    fn leave(&mut self, process: Process) {
        // Where it has died meanwhile, nobody listens.
        let _dead = process.orders.send(Order::Close);
        self.leaving.push(process);
    }

    /// All that run on its machine.
    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.leaving
            .iter()
            .chain(&self.previous)
            .chain(&self.current)
    }
}

struct Process {
    name: Arc<str>,
    orders: mpsc::UnboundedSender<Order>,
    _life: Task,
}

struct Stage<'a, T: Testbed> {
    plan: &'a Plan,
    testbed: &'a T,
    recorder: &'a Recorder,
    board: Board,
    players: Vec<Player>,
    /// The process each active fault was done to.
    struck: BTreeMap<usize, Option<Arc<str>>>,
    bites: BTreeMap<usize, u64>,
    bitten: Vec<bool>,
    /// Other programs at work.
    foreign: Vec<Task>,
}

/// Plays both acts; says for each fault whether it bit.
pub(crate) async fn perform<T: Testbed>(
    plan: &Plan,
    testbed: &T,
    recorder: &Recorder,
) -> Vec<bool> {
    let mut stage = Stage {
        plan,
        testbed,
        recorder,
        board: Board::default(),
        players: plan.agents.iter().map(|_| Player::default()).collect(),
        struck: BTreeMap::new(),
        bites: BTreeMap::new(),
        bitten: vec![false; plan.faults.len()],
        foreign: Vec::new(),
    };
    let is_real = plan.world.on == On::Nats;
    recorder.record(What::Planned {
        plan: plan.to_string(),
        wall: is_real.then(|| testbed.wall() - testbed.now().elapsed()),
    });
    stage.prepare().await;
    stage.first_act().await;
    stage.second_act().await;
    stage.curtain().await;
    stage.bitten
}

impl<T: Testbed> Stage<'_, T> {
    /// A bucket that operators made beforehand.
    async fn prepare(&self) {
        let world = &self.plan.world;
        let is_about_locks = self.plan.bucket() == roles::lock::BUCKET;
        if world.delete_markers.is_some() || world.is_cluster() || is_about_locks {
            let (env, servers) = self.testbed.start(MONITOR, &MONITOR.into());
            let made = crate::bucket::create(&env, servers, self.plan);
            let patience = if world.is_cluster() { 60 } else { 10 };
            let deadline = env.clock().now() + Duration::from_secs(patience);
            tokio::select! {
                biased;
                () = made => {}
                () = env.clock().sleep_until(deadline) => {}
            }
        }
    }

    fn steps(&self) -> Vec<(Duration, Step)> {
        let mut steps = Vec::new();
        for (index, agent) in self.plan.agents.iter().enumerate() {
            steps.push((agent.start, Step::Start(index)));
            steps.extend(agent.close.map(|close| (close, Step::Close(index))));
        }
        for (index, fault) in self.plan.faults.iter().enumerate() {
            steps.push((fault.at, Step::Begin(index)));
            steps.push((fault.ends(), Step::End(index)));
        }
        for (index, write) in self.plan.foreign.iter().enumerate() {
            steps.push((write.at, Step::Foreign(index)));
        }
        steps.sort();
        steps
    }

    async fn first_act(&mut self) {
        let start = self.testbed.now();
        for (at, step) in self.steps() {
            self.testbed.sleep_until(start + at).await;
            match step {
                Step::Start(agent) => self.start(agent),
                Step::Close(agent) => self.close(agent),
                Step::Begin(fault) => self.begin(fault).await,
                Step::End(fault) => self.end(fault).await,
                Step::Foreign(write) => self.write(write),
            }
        }
        self.testbed.sleep_until(start + self.plan.duration).await;
    }

    async fn second_act(&mut self) {
        self.recorder.record(What::Mended);
        self.board.mend();
        let deadline = self.testbed.now() + self.plan.settle;
        loop {
            let Some(pending) = self.pending() else {
                self.recorder.record(What::Settled);
                return;
            };
            if self.testbed.now() >= deadline {
                self.recorder.record(What::Unsettled { pending });
                return;
            }
            self.testbed.sleep_until(self.testbed.now() + LOOK).await;
        }
    }

    /// What is not yet as it should be.
    fn pending(&self) -> Option<String> {
        let standings = self.board.all();
        let players = self.plan.agents.iter().zip(&self.players);
        let alive = players.filter_map(|(plan, player)| {
            let process = &player.current.as_ref()?.name;
            let standing = standings.get(process).cloned().unwrap_or_default();
            Some(Alive {
                plan,
                process,
                standing,
            })
        });
        roles::pending(alive.collect())
    }

    /// Everybody leaves in good order, and nothing may go on running.
    async fn curtain(&mut self) {
        for agent in 0..self.players.len() {
            self.close(agent);
        }
        let longest = self
            .plan
            .agents
            .iter()
            .map(|agent| agent.interval)
            .max()
            .unwrap_or_default();
        let deadline = self.testbed.now() + longest + CLOSING;
        while self.testbed.now() < deadline {
            let over = self.board.all().values().all(|standing| standing.ended);
            if over {
                break;
            }
            self.testbed.sleep_until(self.testbed.now() + LOOK).await;
        }
        // Tasks that were told to end do so at their next wake-up.
        self.testbed.sleep_until(self.testbed.now() + LOOK).await;
        let names: Vec<Arc<str>> = self.board.all().keys().cloned().collect();
        let tasks = names
            .into_iter()
            .filter_map(|name| self.testbed.tasks(&name).map(|tasks| (name, tasks)))
            .collect();
        self.recorder.record(What::End { tasks });
    }

    fn life(&self, process: &Arc<str>, event: Life) {
        self.recorder.record(What::Life {
            process: process.clone(),
            event,
        });
    }

    fn start(&mut self, agent: usize) {
        let plan = self.plan.agents[agent].clone();
        self.players[agent].lives += 1;
        let name: Arc<str> = format!("{}/{}", plan.name, self.players[agent].lives).into();
        let (env, servers) = self.testbed.start(&plan.name, &name);
        self.life(&name, Life::Started);
        for _reason in 0..self.players[agent].asleep {
            self.life(&name, Life::Suspended);
        }
        let (orders, inbox) = mpsc::unbounded_channel();
        let actor = Actor {
            plan,
            process: name.clone(),
            servers,
            exchange: self.exchange(&self.plan.agents[agent].name),
            files: self.testbed.files(&self.plan.agents[agent].name),
            specimen: self.plan.specimen.clone(),
            replicas: self.plan.world.replicas as u8,
            recorder: self.recorder.clone(),
            board: self.board.clone(),
        };
        self.board.all().insert(name.clone(), Standing::default());
        let session = self.plan.auth.map(|_| self.plan.session());
        let life = roles::live(actor, env.clone(), session, inbox);
        let life = env.spawn("agent", life);
        self.players[agent].current = Some(Process {
            name,
            orders,
            _life: life,
        });
    }

    /// Another program writes into the bucket, from the monitor's host.
    fn write(&mut self, number: usize) {
        let name: Arc<str> = format!("foreign/{}", number + 1).into();
        let (env, servers) = self.testbed.start(MONITOR, &name);
        let write = self.plan.foreign[number].clone();
        let writing = crate::bucket::write(env.clone(), servers, write);
        self.foreign.push(env.spawn("foreign", writing));
    }

    fn close(&mut self, agent: usize) {
        let player = &mut self.players[agent];
        for process in [player.previous.take(), player.current.take()]
            .into_iter()
            .flatten()
        {
            player.leave(process);
        }
    }

    fn crash(&mut self, agent: usize) {
        let player = &mut self.players[agent];
        let mut dying = std::mem::take(&mut player.leaving);
        dying.extend(
            [player.previous.take(), player.current.take()]
                .into_iter()
                .flatten(),
        );
        for process in dying {
            self.life(&process.name, Life::Crashed);
            self.testbed.crash(&process.name);
            self.board.all().remove(&process.name);
        }
    }

    /// The agent that a fault acts on, unless it acts on the server.
    fn target(&self, fault: &Fault) -> Option<usize> {
        let mut agents = self.plan.agents.iter();
        agents.position(|agent| agent.name == fault.target)
    }

    async fn begin(&mut self, number: usize) {
        let fault = &self.plan.faults[number];
        let target = self.target(fault);
        self.tell(number, fault, true);
        self.bites.insert(number, self.bites_of(fault));
        match (fault.kind, target) {
            (kind, _) if kind.needs_auth() => self.begin_with_authority(number, target).await,
            (FaultKind::Crash, Some(agent)) => self.crash(agent),
            (FaultKind::Overlap, Some(agent)) => {
                if let Some(current) = self.players[agent].current.take() {
                    if let Some(older) = self.players[agent].previous.replace(current) {
                        self.players[agent].leave(older);
                    }
                    self.start(agent);
                    self.bitten[number] = true;
                }
            }
            _ => {
                let current = target.and_then(|agent| self.players[agent].current.as_ref());
                let process = current.map(|process| process.name.clone());
                match (fault.kind, &process, target) {
                    (FaultKind::Pause, Some(process), _) => self.life(process, Life::Paused),
                    (FaultKind::Suspend, _, Some(agent)) => {
                        self.players[agent].asleep += 1;
                        for process in self.players[agent].processes() {
                            self.life(&process.name, Life::Suspended);
                        }
                    }
                    _ => {}
                }
                if let Err(reason) = self.testbed.begin(fault, process.as_ref()).await {
                    tracing::warn!(%fault, reason, "a fault could not be done");
                }
                self.struck.insert(number, process);
            }
        }
    }

    async fn end(&mut self, number: usize) {
        let fault = &self.plan.faults[number];
        let target = self.target(fault);
        match (fault.kind, target) {
            (kind, _) if kind.needs_auth() => self.end_with_authority(fault, target),
            (FaultKind::Crash, Some(agent)) => {
                let plan = &self.plan.agents[agent];
                let closed = plan.close.is_some_and(|at| at <= fault.ends());
                let entered = plan.start <= fault.at;
                if self.players[agent].current.is_none() && entered && !closed {
                    self.start(agent);
                }
            }
            (FaultKind::Overlap, Some(agent)) => {
                if let Some(older) = self.players[agent].previous.take() {
                    self.players[agent].leave(older);
                }
            }
            _ => {
                let process = self.struck.remove(&number).flatten();
                if let Err(reason) = self.testbed.end(fault, process.as_ref()).await {
                    tracing::warn!(%fault, reason, "a fault could not be mended");
                }
                match (fault.kind, &process, target) {
                    (FaultKind::Pause, Some(process), _) => self.life(process, Life::Resumed),
                    (FaultKind::Suspend, _, Some(agent)) => {
                        self.players[agent].asleep -= 1;
                        for process in self.players[agent].processes() {
                            self.life(&process.name, Life::Woken);
                        }
                    }
                    _ => {}
                }
            }
        }
        let before = self.bites.remove(&number).unwrap_or(0);
        if self.bites_of(fault) > before {
            self.bitten[number] = true;
        }
        if !fault.kind.is_instant() {
            self.tell(number, fault, false);
        }
    }

    fn tell(&self, number: usize, fault: &Fault, begins: bool) {
        let fault = fault.to_string();
        self.recorder.record(What::Fault {
            number,
            fault,
            begins,
        });
    }
}
