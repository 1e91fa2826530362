//! [`Story`]: how scenarios are told. Agents enter, things happen to them at given times, and chance has a stream of its
//! own for each concern, so that changing one leaves the others as they were.

use std::time::Duration;

use squall_core::{Rng, presence};

use crate::fault::{CLUSTER_SIZE, Directions, Fault, FaultKind, Member, Scope};
use crate::parse::{AUTH, CLUSTER, PROJECT};
use crate::plan::{
    AgentPlan, AuthPlan, ChatPlan, ForeignWrite, LockPlan, Plan, Role, SETTLE, StatePlan, WorldPlan,
};

/// See the head of this file. All times are from the start of the run.
#[derive(Debug)]
pub struct Story {
    plan: Plan,
    /// What agents do.
    pub workload: Rng,
    /// What is done to them.
    pub faults: Rng,
}

/// Names for agents, in the order they enter.
pub(crate) const NAMES: [&str; 20] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory",
    "niaj", "olivia", "peggy", "quentin", "rupert", "sybil", "trent", "victor", "walter",
];

impl Story {
    /// An empty stage for this seed.
    pub fn new(scenario: &str, seed: u64) -> Self {
        let plan = Plan {
            scenario: scenario.to_owned(),
            seed,
            duration: Duration::from_secs(30),
            settle: SETTLE,
            world: WorldPlan::default(),
            auth: None,
            agents: Vec::new(),
            faults: Vec::new(),
            foreign: Vec::new(),
            specimen: None,
            expect: None,
        };
        let stream = |purpose: &str| Rng::labelled(seed, &format!("{scenario}/{purpose}"));
        Self {
            plan,
            workload: stream("workload"),
            faults: stream("faults"),
        }
    }

    /// The plan that has been told.
    pub fn into_plan(mut self) -> Plan {
        self.plan.faults.sort_by_key(|fault| fault.at);
        self.plan
    }

    /// The seed it follows from.
    pub const fn seed(&self) -> u64 {
        self.plan.seed
    }

    /// The agents are wrong in the way of this specimen.
    pub fn has_flaw(&mut self, specimen: &str) {
        self.plan.specimen = Some(specimen.to_owned());
    }

    /// So long do faults and workload go on.
    pub fn lasts(&mut self, duration: Duration) {
        self.plan.duration = duration;
    }

    /// So long may the mended world take to be well.
    pub fn settles_within(&mut self, settle: Duration) {
        self.plan.settle = settle;
    }

    /// The server and the links.
    pub fn world(&mut self) -> &mut WorldPlan {
        &mut self.plan.world
    }

    /// So many agents enter, all beating at this interval. They start within the first interval.
    pub fn agents(&mut self, count: usize, interval: Duration) -> Vec<&'static str> {
        (0..count).map(|_| self.agent(interval)).collect()
    }

    /// One more agent enters. It watches, and reads who is there every few intervals.
    pub fn agent(&mut self, interval: Duration) -> &'static str {
        let name = NAMES[self.plan.agents.len()];
        let mut agent = AgentPlan::new(name, interval);
        agent.start = self.workload_time(Duration::ZERO, interval);
        agent.who_every = Some(interval * 5 / 2);
        self.plan.agents.push(agent);
        name
    }

    /// One more agent enters, as a user of the bucket that all users share.
    pub fn user(&mut self, interval: Duration) -> &'static str {
        let name = self.agent(interval);
        if let Some(agent) = self.of(name) {
            (agent.role, agent.who_every) = (Role::User, None);
        }
        name
    }

    /// One more agent enters, and takes locks.
    pub fn locker(&mut self, interval: Duration, lock: LockPlan) -> &'static str {
        let name = self.agent(interval);
        if let Some(agent) = self.of(name) {
            (agent.role, agent.who_every, agent.watch) = (Role::Lock, None, false);
            agent.lock = Some(lock);
        }
        name
    }

    /// One more agent enters, and keeps state.
    pub fn keeper(&mut self, interval: Duration, state: StatePlan) -> &'static str {
        let name = self.agent(interval);
        if let Some(agent) = self.of(name) {
            (agent.role, agent.who_every) = (Role::State, None);
            agent.state = Some(state);
        }
        name
    }

    /// This one takes so long over each thing that its watch tells, if it is there.
    pub fn dwells(&mut self, name: &str, dwells: Duration) {
        let Some(agent) = self.of(name) else {
            return;
        };
        if let Some(state) = &mut agent.state {
            state.dwells = dwells;
        }
        if let Some(chat) = &mut agent.chat {
            chat.dwells = dwells;
        }
    }

    /// One more agent enters, and talks to the others.
    pub fn talker(&mut self, interval: Duration) -> &'static str {
        let name = self.agent(interval);
        if let Some(agent) = self.of(name) {
            (agent.role, agent.who_every) = (Role::Chat, Some(interval * 7 / 2));
            agent.chat = Some(ChatPlan::default());
        }
        name
    }

    /// This one chats in its own way, if it is there.
    pub fn chats(&mut self, name: &str, how: impl FnOnce(&mut ChatPlan)) {
        if let Some(chat) = self.of(name).and_then(|agent| agent.chat.as_mut()) {
            how(chat);
        }
    }

    /// From now on servers ask for credentials, which are valid for so long.
    pub fn credentials(&mut self, life: Duration) -> &mut AuthPlan {
        self.plan.auth.insert(AuthPlan::new(life))
    }

    /// Something happens to whoever issues credentials.
    pub fn befalls_auth(&mut self, kind: FaultKind, at: Duration, lasts: Duration) {
        self.befalls(AUTH, kind, at, lasts);
    }

    /// What is known of an agent that has entered.
    pub fn of(&mut self, name: &str) -> Option<&mut AgentPlan> {
        self.plan.agents.iter_mut().find(|agent| agent.name == name)
    }

    /// Something happens to an agent.
    pub fn befalls(&mut self, agent: &str, kind: FaultKind, at: Duration, lasts: Duration) {
        let target = agent.to_owned();
        let lasts = if kind.is_instant() {
            Duration::ZERO
        } else {
            lasts
        };
        self.plan.faults.push(Fault {
            at,
            lasts,
            target,
            kind,
        });
    }

    /// Something happens to the server, or to one of them.
    pub fn befalls_server(&mut self, kind: FaultKind, at: Duration, lasts: Duration) {
        let server = self.some_server();
        self.befalls_member(server, kind, at, lasts);
    }

    /// Something happens to this server, or, where it is of that kind, to the cluster.
    pub fn befalls_member(
        &mut self,
        server: Member,
        kind: FaultKind,
        at: Duration,
        lasts: Duration,
    ) {
        match kind.scope() {
            Scope::Cluster => self.befalls(CLUSTER, kind, at, lasts),
            _ => self.befalls(&server.name(self.plan.world.servers), kind, at, lasts),
        }
    }

    /// Three servers form a cluster, and keep so many copies of the bucket.
    pub fn has_cluster(&mut self, replicas: usize) {
        self.plan.world.servers = CLUSTER_SIZE;
        self.plan.world.replicas = replicas;
    }

    /// One of the servers.
    pub fn some_server(&mut self) -> Member {
        match self.plan.world.servers {
            1 => Member(0),
            servers => Member(self.faults.below(servers as u64) as usize),
        }
    }

    /// Another program writes into the project's part of the bucket, under a name that no agent has.
    pub fn foreigner_writes(&mut self, at: Duration, name: &str, value: &str) {
        self.plan.foreign.push(ForeignWrite {
            at,
            key: presence::key(PROJECT, name),
            value: value.to_owned(),
        });
    }

    /// A time between two, to the millisecond, for what agents do.
    pub fn workload_time(&mut self, from: Duration, to: Duration) -> Duration {
        between(&mut self.workload, from, to)
    }

    /// A time between two, to the millisecond, for what is done to them.
    pub fn fault_time(&mut self, from: Duration, to: Duration) -> Duration {
        between(&mut self.faults, from, to)
    }

    /// Both ways, or one of them.
    pub fn directions(&mut self) -> Directions {
        let ways = [Directions::Both, Directions::ToServer, Directions::ToAgent];
        *self.faults.pick(&ways).unwrap_or(&Directions::Both)
    }

    /// One of the agents.
    pub fn anybody(&mut self) -> String {
        let names: Vec<String> = self
            .plan
            .agents
            .iter()
            .map(|agent| agent.name.clone())
            .collect();
        self.faults.pick(&names).cloned().unwrap_or_default()
    }

    /// How long the run's first act lasts.
    pub const fn duration(&self) -> Duration {
        self.plan.duration
    }
}

fn between(rng: &mut Rng, from: Duration, to: Duration) -> Duration {
    let (from, to) = (from.as_millis() as u64, to.as_millis() as u64);
    Duration::from_millis(rng.between(from.min(to), to.max(from)))
}
