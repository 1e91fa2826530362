//! Plans: everything that follows from a seed, in one TOML file that a person can write and read.
//!
//! A plan, not only a seed, is what is kept as a regression: what a seed means changes with the code that draws from it.

mod chat;
mod lock;
mod servers;
mod state;
mod written;

use std::fmt;
use std::time::Duration;

use squall_core::session;
use squall_core::transport::names;
use squall_sim::Latency;
use squall_sim::broker::{SyncInterval, Version};

pub use self::chat::ChatPlan;
pub use self::lock::LockPlan;
pub use self::servers::ServersError;
pub use self::state::StatePlan;
use self::written::time;
use crate::fault::{Fault, FaultKind};
use crate::invariants::Verdict;
use crate::parse::{BUCKET, PROJECT};
use crate::roles;

/// The shortest heartbeat interval in real time. What does not shrink with it sets the bound: servers are up to 0.3 s late
/// to expire, a busy machine keeps tasks waiting, and every bound of the invariants has two fixed seconds for that. With
/// much shorter intervals no outage that a story tells would outlast those, and a run would prove nothing.
pub const REAL_INTERVAL_MIN: Duration = Duration::from_millis(500);

/// The shortest life of what is issued: it ends in whole seconds, and is exchanged some time before.
pub const LIFE_MIN: Duration = Duration::from_secs(10);

/// How long a mended world may take to be well, if nothing else is said.
pub const SETTLE: Duration = Duration::from_secs(30);

/// One run, before it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which scenario it is a run of.
    pub scenario: String,
    /// Decides scheduling and latencies; in a drawn plan also all the rest.
    pub seed: u64,
    /// How long faults and workload go on.
    pub duration: Duration,
    /// How long the mended world may take to be well.
    pub settle: Duration,
    /// The server and the links.
    pub world: WorldPlan,
    /// Who issues credentials, where servers ask for them: then every agent lives on a session.
    pub auth: Option<AuthPlan>,
    /// Who takes part.
    pub agents: Vec<AgentPlan>,
    /// What is done to them.
    pub faults: Vec<Fault>,
    /// What other programs write into the bucket.
    pub foreign: Vec<ForeignWrite>,
    /// The wrong variant that stands in for the right one, if any.
    pub specimen: Option<String>,
    /// What a run of it must come to, if it is kept for that. Runs do not look at it.
    pub expect: Option<Expectation>,
}

/// What a run of a kept plan must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Every invariant holds.
    Pass,
    /// The invariant of this code is violated.
    Violates(String),
}

impl Expectation {
    /// Whether a run with this verdict is as expected.
    pub fn is_met(&self, verdict: &Verdict) -> bool {
        match (self, verdict) {
            (Self::Pass, Verdict::Pass) => true,
            (Self::Violates(code), Verdict::Fail(violations)) => {
                violations.iter().any(|violation| violation.code == *code)
            }
            _ => false,
        }
    }

    /// As plans write it.
    pub fn name(&self) -> &str {
        match self {
            Self::Pass => "pass",
            Self::Violates(code) => code,
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Violates(code) => write!(f, "a violation of {code}"),
        }
    }
}

/// Which world a plan is run in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum On {
    /// The simulated one.
    #[default]
    Simulated,
    /// A real nats-server, in real time.
    Nats,
}

/// The server and the links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorldPlan {
    /// Which world. In real time a machine that is busy adds to every wait, and a server does not say when a record
    /// goes: histories of the two are judged accordingly.
    pub on: On,
    /// Which nats-server is modelled.
    pub server: Version,
    /// How long parcels travel.
    pub latency: Latency,
    /// Whether the bucket is created beforehand with delete markers that live this long.
    pub delete_markers: Option<Duration>,
    /// How many servers there are: 1, or 3, which form a cluster.
    pub servers: usize,
    /// On how many of them the bucket is kept.
    pub replicas: usize,
    /// How often the server syncs its files.
    pub sync_interval: SyncInterval,
    /// Where tasks do not run in any order but by priorities: how often these change. Of the simulated world alone.
    pub priorities: Option<u32>,
}

impl Default for WorldPlan {
    fn default() -> Self {
        Self {
            on: On::Simulated,
            server: Version::REFERENCE,
            latency: Latency::default(),
            delete_markers: None,
            servers: 1,
            replicas: 1,
            sync_interval: SyncInterval::default(),
            priorities: None,
        }
    }
}

/// Whoever issues credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthPlan {
    /// How long what is issued is valid.
    pub life: Duration,
    /// How long an exchange takes.
    pub takes: Duration,
    /// How far the issuer's clock is off, in nanoseconds.
    pub skew: i64,
}

impl AuthPlan {
    /// An issuer whose clock is right, and which answers soon.
    pub const fn new(life: Duration) -> Self {
        Self {
            life,
            takes: Duration::from_millis(20),
            skew: 0,
        }
    }
}

impl WorldPlan {
    /// Whether there are several servers.
    pub const fn is_cluster(&self) -> bool {
        self.servers > 1
    }

    /// Whether the bucket has copies, of which any may answer a read, however far behind it is.
    pub const fn has_copies(&self) -> bool {
        self.replicas > 1
    }
}

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPlan {
    /// Its name, which is also its host's.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Its pace: how often it does that. Of a presence, the heartbeat interval.
    pub interval: Duration,
    /// When it starts.
    pub start: Duration,
    /// Whether it watches the others.
    pub watch: bool,
    /// How often it reads who is there, if at all.
    pub who_every: Option<Duration>,
    /// When it closes, if it does.
    pub close: Option<Duration>,
    /// How often its client may fail to reconnect in a row before it gives up; never, if not given.
    pub reconnects_max: Option<u32>,
    /// How it takes locks, if that is its role and not as its pace suggests.
    pub lock: Option<LockPlan>,
    /// How it keeps state, if that is its role and not as its pace suggests.
    pub state: Option<StatePlan>,
    /// How it chats, where that is its role and not as usual.
    pub chat: Option<ChatPlan>,
}

/// What an agent does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It is there, and sees who else is.
    #[default]
    Presence,
    /// It writes to a bucket that others follow, and follows it.
    User,
    /// It takes locks, and does something under them.
    Lock,
    /// It keeps state, and watches it.
    State,
    /// It talks to the others, and hears what they say.
    Chat,
}

impl Role {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::Presence,
        Self::User,
        Self::Lock,
        Self::State,
        Self::Chat,
    ];

    /// As plans write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::User => "user",
            Self::Lock => "lock",
            Self::State => "state",
            Self::Chat => "chat",
        }
    }
}

/// One write into the bucket by a program that is no agent: it need not be an entry of a presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignWrite {
    /// When.
    pub at: Duration,
    /// Under which key; no agent's.
    pub key: String,
    /// What.
    pub value: String,
}

impl AgentPlan {
    /// An agent that starts at once, watches, and stays.
    pub fn new(name: impl Into<String>, interval: Duration) -> Self {
        Self {
            name: name.into(),
            role: Role::default(),
            interval,
            start: Duration::ZERO,
            watch: true,
            who_every: None,
            close: None,
            reconnects_max: None,
            lock: None,
            state: None,
            chat: None,
        }
    }
}

impl Plan {
    /// The agent of this name.
    pub fn agent(&self, name: &str) -> Option<&AgentPlan> {
        self.agents.iter().find(|agent| agent.name == name)
    }

    /// The same story on a real server, in as little time as is sound: every time is divided by the whole number that
    /// brings the shortest interval down to [`REAL_INTERVAL_MIN`]. What the code under test does not scale with its
    /// interval stays: the bound of the second act, and the second that delete markers live at least.
    #[must_use]
    pub fn in_real_time(&self) -> Self {
        let shortest = self.agents.iter().map(|agent| agent.interval).min();
        let divisor = shortest.unwrap_or_default().as_millis() / REAL_INTERVAL_MIN.as_millis();
        let divisor = u32::try_from(divisor).unwrap_or(u32::MAX).max(1);
        let mut plan = self.clone();
        plan.world.on = On::Nats;
        let shorten = |time: &mut Duration| {
            if !time.is_zero() {
                // Whole milliseconds, as entries tell their lives.
                let millis = (*time / divisor).as_millis().max(1);
                *time = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
            }
        };
        shorten(&mut plan.duration);
        if let Some(markers) = &mut plan.world.delete_markers {
            *markers = Duration::from_secs((*markers / divisor).as_secs().max(1));
        }
        if let Some(auth) = &mut plan.auth {
            // What is issued ends in whole seconds.
            auth.life = Duration::from_secs((auth.life / divisor).as_secs()).max(LIFE_MIN);
            auth.skew /= i64::from(divisor);
        }
        for agent in &mut plan.agents {
            shorten(&mut agent.interval);
            shorten(&mut agent.start);
            agent.who_every.iter_mut().for_each(shorten);
            agent.close.iter_mut().for_each(shorten);
            if let Some(lock) = &mut agent.lock {
                shorten(&mut lock.ttl);
                shorten(&mut lock.holds);
            }
            if let Some(state) = &mut agent.state {
                shorten(&mut state.life);
                shorten(&mut state.dwells);
            }
            if let Some(chat) = &mut agent.chat {
                shorten(&mut chat.retention);
                shorten(&mut chat.dwells);
            }
        }
        for write in &mut plan.foreign {
            shorten(&mut write.at);
        }
        for fault in &mut plan.faults {
            shorten(&mut fault.at);
            shorten(&mut fault.lasts);
            match &mut fault.kind {
                FaultKind::Delay(by) | FaultKind::AuthSlow(by) => shorten(by),
                FaultKind::AuthSkew(by) => *by /= i64::from(divisor),
                _ => {}
            }
        }
        plan
    }

    /// How its agents' sessions behave, but for how they connect: the figures that belong to a life of five minutes, for
    /// the life of what is issued here.
    pub fn session(&self) -> session::Config {
        let right = session::Config::default();
        match self.auth {
            None => right,
            Some(AuthPlan { life, .. }) => session::Config {
                refresh_margin: life / 10,
                refresh_retry: life / 60,
                exchange_timeout: life / 30,
                ..right
            },
        }
    }

    /// The bucket that the run is about.
    pub fn bucket(&self) -> &'static str {
        let is_there = |agent: &AgentPlan| matches!(agent.role, Role::Lock | Role::State);
        match self.agents.iter().any(is_there) {
            true => roles::lock::BUCKET,
            false => BUCKET,
        }
    }

    /// The stream that the run is about: that of the chat, or of the bucket.
    pub fn stream(&self) -> String {
        match self.has_chat() {
            true => squall_core::chat::stream(PROJECT),
            false => names::bucket_stream(self.bucket()),
        }
    }

    /// Whether any of its agents chats.
    pub fn has_chat(&self) -> bool {
        self.agents.iter().any(|agent| agent.role == Role::Chat)
    }

    /// Whether a fault of the plan takes the power from a server.
    pub fn loses_power(&self) -> bool {
        let mut kinds = self.faults.iter().map(|fault| fault.kind);
        kinds.any(|kind| kind == FaultKind::PowerLoss)
    }

    /// The most that links are slowed at any time, one way.
    pub fn delay_max(&self) -> Duration {
        let slowed = self.faults.iter().map(|fault| match fault.kind {
            FaultKind::Delay(by) => by,
            _ => Duration::ZERO,
        });
        self.world.latency.base + self.world.latency.jitter + slowed.sum::<Duration>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_real_time_the_fastest_agent_beats_twice_a_second() {
        for scenario in crate::stories::all() {
            for seed in 0..50 {
                let plan = scenario.draw(seed);
                let real = plan.in_real_time();
                let fastest = real.agents.iter().map(|agent| agent.interval).min();
                assert_eq!(fastest, Some(REAL_INTERVAL_MIN), "{plan}");
                assert_eq!(crate::parse::parse(&real.to_string()), Ok(real.clone()));
                assert_eq!((real.settle, real.world.on), (plan.settle, On::Nats));
            }
        }
    }
}
