//! Reads plans: TOML in, a checked [`Plan`] or one sentence with its line out.

mod chat;

use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use squall_core::presence;
use squall_core::transport::names;
use squall_reports::clean;
use squall_sim::Latency;
use squall_sim::broker::{SyncInterval, Version};
use toml::Spanned;

use self::chat::RawChat;
use crate::fault::{CLUSTER_SIZE, Directions, Fault, FaultKind, KINDS, Member, Scope};
use crate::nearest::nearest;
use crate::plan::{
    AgentPlan, AuthPlan, Expectation, ForeignWrite, LIFE_MIN, LockPlan, On, Plan, Role, SETTLE,
    StatePlan, WorldPlan,
};
use crate::{invariants, specimens, stories};

/// A text is not a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PlanError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl PlanError {
    /// The reason may quote the plan, with whatever stands there.
    fn new(line: usize, reason: &str) -> Self {
        Self {
            line,
            reason: clean(reason),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlan {
    scenario: Spanned<String>,
    specimen: Option<Spanned<String>>,
    expect: Option<Spanned<String>>,
    seed: u64,
    duration: Spanned<String>,
    settle: Option<Spanned<String>>,
    #[serde(default)]
    world: RawWorld,
    auth: Option<RawAuth>,
    #[serde(default, rename = "agent")]
    agents: Vec<Spanned<RawAgent>>,
    #[serde(default, rename = "fault")]
    faults: Vec<Spanned<RawFault>>,
    #[serde(default)]
    foreign: Vec<RawForeign>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawWorld {
    on: Option<Spanned<String>>,
    server: Option<Spanned<String>>,
    latency: Option<Spanned<String>>,
    jitter: Option<Spanned<String>>,
    delete_markers: Option<Spanned<String>>,
    sync_interval: Option<Spanned<String>>,
    servers: Option<Spanned<usize>>,
    replicas: Option<Spanned<usize>>,
    priorities: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawAuth {
    life: Spanned<String>,
    takes: Option<Spanned<String>>,
    skew: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawAgent {
    name: Spanned<String>,
    role: Option<Spanned<String>>,
    interval: Spanned<String>,
    start: Option<Spanned<String>>,
    watch: Option<bool>,
    who_every: Option<Spanned<String>>,
    close: Option<Spanned<String>>,
    reconnects_max: Option<NonZeroU32>,
    lock: Option<Spanned<RawLock>>,
    state: Option<Spanned<RawState>>,
    chat: Option<Spanned<RawChat>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawState {
    keys: u32,
    life: Spanned<String>,
    dwells: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLock {
    ttl: Spanned<String>,
    holds: Spanned<String>,
    keys: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawForeign {
    at: Spanned<String>,
    key: Spanned<String>,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawFault {
    at: Spanned<String>,
    #[serde(rename = "for")]
    lasts: Option<Spanned<String>>,
    target: Spanned<String>,
    kind: Spanned<String>,
    direction: Option<Spanned<String>>,
    by: Option<Spanned<String>>,
    ppm: Option<Spanned<i64>>,
    peer: Option<Spanned<String>>,
    after: Option<Spanned<u32>>,
}

/// Reads a plan.
///
/// # Errors
/// The first thing that is wrong with it, and its line.
pub fn parse(text: &str) -> Result<Plan, PlanError> {
    if text.trim().is_empty() {
        return Err(PlanError::new(1, "the plan is empty"));
    }
    let raw: RawPlan = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, &span));
        PlanError::new(line, error.message().trim())
    })?;
    Reader { text }.plan(raw)
}

/// The line in which it begins; of what is missed only at the end of the text, the last one.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    let text = text.trim_end().as_bytes();
    let before = text.iter().take(span.start);
    before.filter(|byte| **byte == b'\n').count() + 1
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn wrong<T>(&self, span: Range<usize>, reason: impl Into<String>) -> Result<T, PlanError> {
        Err(PlanError::new(line_of(self.text, &span), &reason.into()))
    }

    fn time(&self, field: &str, text: &Spanned<String>) -> Result<Duration, PlanError> {
        humantime::parse_duration(text.get_ref()).or_else(|error| {
            let value = text.get_ref();
            self.wrong(
                text.span(),
                format!("{field} = {value:?} is not a time like 1s 500ms: {error}"),
            )
        })
    }

    fn within(
        &self,
        field: &str,
        text: &Spanned<String>,
        duration: Duration,
    ) -> Result<Duration, PlanError> {
        let time = self.time(field, text)?;
        if time > duration {
            let end = humantime::format_duration(duration);
            let value = text.get_ref();
            return self.wrong(
                text.span(),
                format!("{field} = {value:?} lies past the end of the run, which lasts {end}"),
            );
        }
        Ok(time)
    }

    fn plan(&self, raw: RawPlan) -> Result<Plan, PlanError> {
        let scenario = raw.scenario.get_ref();
        if stories::find(scenario).is_none() {
            let reason = format!(
                "there is no scenario {scenario:?}{}",
                nearest(
                    scenario,
                    stories::all().iter().map(|scenario| scenario.name)
                )
            );
            return self.wrong(raw.scenario.span(), reason);
        }
        if let Some(specimen) = &raw.specimen
            && specimens::find(specimen.get_ref()).is_none()
        {
            let name = specimen.get_ref();
            let known = specimens::all().iter().map(|specimen| specimen.name);
            let reason = format!("there is no specimen {name:?}{}", nearest(name, known));
            return self.wrong(specimen.span(), reason);
        }
        let duration = self.time("duration", &raw.duration)?;
        if duration.is_zero() {
            return self.wrong(raw.duration.span(), "duration must be greater than zero");
        }
        let settle = raw.settle.as_ref();
        let settle = settle.map_or(Ok(SETTLE), |settle| self.time("settle", settle))?;
        let world = self.world(&raw.world)?;
        let auth = raw.auth.as_ref().map(|raw| self.auth(raw)).transpose()?;
        if let Some(raw) = raw.auth.as_ref().filter(|_| world.is_cluster()) {
            let reason = "[auth] needs a single server: accounts of a cluster are not modelled";
            return self.wrong(raw.life.span(), reason);
        }
        let mut agents: Vec<AgentPlan> = Vec::with_capacity(raw.agents.len());
        for raw in &raw.agents {
            let agent = self.agent(raw.get_ref(), duration)?;
            if agents.iter().any(|other| other.name == agent.name) {
                let name = &agent.name;
                let reason = format!("there are two agents of the name {name:?}");
                return self.wrong(raw.get_ref().name.span(), reason);
            }
            agents.push(agent);
        }
        if agents.is_empty() {
            return self.wrong(0..0, "the plan has no [[agent]]");
        }
        let mut faults = Vec::with_capacity(raw.faults.len());
        for raw in &raw.faults {
            faults.push(self.fault(raw.get_ref(), raw.span(), duration, &agents, world, auth)?);
        }
        let foreign = raw.foreign.iter();
        let foreign = foreign
            .map(|raw| self.foreign(raw, duration, &agents))
            .collect::<Result<_, _>>()?;
        Ok(Plan {
            scenario: raw.scenario.into_inner(),
            seed: raw.seed,
            duration,
            settle,
            world,
            auth,
            agents,
            faults,
            foreign,
            specimen: raw.specimen.map(Spanned::into_inner),
            expect: raw.expect.map(|raw| self.expectation(&raw)).transpose()?,
        })
    }

    fn expectation(&self, raw: &Spanned<String>) -> Result<Expectation, PlanError> {
        match raw.get_ref().as_str() {
            "pass" => Ok(Expectation::Pass),
            code if invariants::find(code).is_some() => Ok(Expectation::Violates(code.to_owned())),
            other => {
                let known = invariants::ALL.iter().map(|invariant| invariant.code);
                let hint = nearest(other, known);
                let reason = format!("expect = {other:?} is neither pass nor an invariant{hint}");
                self.wrong(raw.span(), reason)
            }
        }
    }

    fn world(&self, raw: &RawWorld) -> Result<WorldPlan, PlanError> {
        let mut world = WorldPlan {
            priorities: raw.priorities,
            ..WorldPlan::default()
        };
        if let Some(on) = &raw.on {
            world.on = match on.get_ref().as_str() {
                "sim" => On::Simulated,
                "nats" => On::Nats,
                other => {
                    return self
                        .wrong(on.span(), format!("on = {other:?} is neither sim nor nats"));
                }
            };
        }
        if let Some(server) = &raw.server {
            world.server = server
                .get_ref()
                .parse::<Version>()
                .or_else(|error| self.wrong(server.span(), format!("server: {error}")))?;
        }
        let mut latency = Latency::default();
        if let Some(base) = &raw.latency {
            latency.base = self.time("latency", base)?;
        }
        if let Some(jitter) = &raw.jitter {
            latency.jitter = self.time("jitter", jitter)?;
        }
        world.latency = latency;
        if let Some(markers) = &raw.delete_markers {
            let lives = self.time("delete-markers", markers)?;
            if lives < Duration::from_secs(1) {
                return self.wrong(markers.span(), "delete-markers must live at least 1s");
            }
            world.delete_markers = Some(lives);
        }
        if let Some(servers) = &raw.servers {
            world.servers = *servers.get_ref();
            if ![1, CLUSTER_SIZE].contains(&world.servers) {
                let reason = format!("servers must be 1 or {CLUSTER_SIZE}");
                return self.wrong(servers.span(), reason);
            }
            if world.is_cluster() && world.server != Version::REFERENCE {
                let reason = format!(
                    "a cluster is modelled as nats-server {} has it, not {}",
                    Version::REFERENCE,
                    world.server
                );
                return self.wrong(servers.span(), reason);
            }
        }
        if let Some(replicas) = &raw.replicas {
            world.replicas = *replicas.get_ref();
            if ![1, world.servers].contains(&world.replicas) {
                let servers = world.servers;
                let reason =
                    format!("replicas must be 1 or as many as there are servers, {servers}");
                return self.wrong(replicas.span(), reason);
            }
        }
        if let Some(interval) = &raw.sync_interval {
            world.sync_interval = match interval.get_ref().as_str() {
                "always" => SyncInterval::Always,
                _ => match self.time("sync-interval", interval)? {
                    Duration::ZERO => {
                        let reason = "sync-interval must be greater than zero, or always";
                        return self.wrong(interval.span(), reason);
                    }
                    every => SyncInterval::Every(every),
                },
            };
        }
        Ok(world)
    }

    fn auth(&self, raw: &RawAuth) -> Result<AuthPlan, PlanError> {
        let life = self.time("life", &raw.life)?;
        if life.subsec_nanos() != 0 || life < LIFE_MIN {
            let reason = format!("life must be whole seconds, and at least {LIFE_MIN:?}");
            return self.wrong(raw.life.span(), reason);
        }
        let mut auth = AuthPlan::new(life);
        if let Some(takes) = &raw.takes {
            auth.takes = self.time("takes", takes)?;
        }
        if let Some(skew) = &raw.skew {
            auth.skew = self.signed("skew", skew)?;
        }
        Ok(auth)
    }

    fn agent(&self, raw: &RawAgent, duration: Duration) -> Result<AgentPlan, PlanError> {
        let name = raw.name.get_ref().clone();
        let mut members = Member::all(CLUSTER_SIZE).map(|member| member.to_string());
        let taken = [SERVER, AUTH, MONITOR, CLUSTER];
        if taken.contains(&&*name) || members.any(|member| member == name) {
            return self.wrong(
                raw.name.span(),
                format!("an agent cannot be called {name:?}"),
            );
        }
        let interval = self.time("interval", &raw.interval)?;
        let config = presence::Config::new(name.as_str(), PROJECT, BUCKET, interval);
        if let Err(error) = config.check() {
            let span = if error.field == "agent_id" {
                raw.name.span()
            } else {
                raw.interval.span()
            };
            return self.wrong(span, error.to_string());
        }
        let within = |field, time: &Option<Spanned<String>>| {
            time.as_ref()
                .map(|time| self.within(field, time, duration))
                .transpose()
        };
        let who_every = within("who-every", &raw.who_every)?;
        if let (Some(every), Some(Duration::ZERO)) = (&raw.who_every, who_every) {
            return self.wrong(every.span(), "who-every must be greater than zero");
        }
        let role = self.role(raw.role.as_ref())?;
        let chat = raw.chat.as_ref();
        let chat = chat.map(|raw| self.chat(raw, &name, role)).transpose()?;
        Ok(AgentPlan {
            name,
            role,
            interval,
            start: within("start", &raw.start)?.unwrap_or_default(),
            watch: raw.watch.unwrap_or(true),
            who_every,
            close: within("close", &raw.close)?,
            reconnects_max: raw.reconnects_max.map(NonZeroU32::get),
            lock: raw
                .lock
                .as_ref()
                .map(|raw| self.lock(raw, role))
                .transpose()?,
            state: raw
                .state
                .as_ref()
                .map(|raw| self.state(raw, role))
                .transpose()?,
            chat,
        })
    }

    fn lock(&self, raw: &Spanned<RawLock>, role: Role) -> Result<LockPlan, PlanError> {
        if role != Role::Lock {
            let reason = format!("an agent of role {:?} takes no locks", role.name());
            return self.wrong(raw.span(), reason);
        }
        let lock = raw.get_ref();
        let (ttl, holds) = (
            self.time("ttl", &lock.ttl)?,
            self.time("holds", &lock.holds)?,
        );
        for (field, text, time) in [("ttl", &lock.ttl, ttl), ("holds", &lock.holds, holds)] {
            if time < LOCK_MIN {
                let reason = format!("{field} must be at least {LOCK_MIN:?}");
                return self.wrong(text.span(), reason);
            }
        }
        if lock.keys == 0 {
            return self.wrong(raw.span(), "keys must be greater than zero");
        }
        let keys = lock.keys;
        Ok(LockPlan { ttl, holds, keys })
    }

    fn state(&self, raw: &Spanned<RawState>, role: Role) -> Result<StatePlan, PlanError> {
        if role != Role::State {
            let reason = format!("an agent of role {:?} keeps no state", role.name());
            return self.wrong(raw.span(), reason);
        }
        let state = raw.get_ref();
        let life = self.time("life", &state.life)?;
        if life < LOCK_MIN {
            let reason = format!("life must be at least {LOCK_MIN:?}");
            return self.wrong(state.life.span(), reason);
        }
        if state.keys == 0 {
            return self.wrong(raw.span(), "keys must be greater than zero");
        }
        let dwells = state.dwells.as_ref();
        let dwells = dwells
            .map(|dwells| self.time("dwells", dwells))
            .transpose()?;
        Ok(StatePlan {
            keys: state.keys,
            life,
            dwells: dwells.unwrap_or_default(),
        })
    }

    /// Agents that say nothing are presences.
    fn role(&self, raw: Option<&Spanned<String>>) -> Result<Role, PlanError> {
        let Some(raw) = raw else {
            return Ok(Role::default());
        };
        let name = raw.get_ref();
        let found = Role::ALL.into_iter().find(|role| role.name() == name);
        found.map_or_else(
            || {
                let hint = nearest(name, Role::ALL.map(Role::name));
                self.wrong(raw.span(), format!("there is no role {name:?}{hint}"))
            },
            Ok,
        )
    }

    fn foreign(
        &self,
        raw: &RawForeign,
        duration: Duration,
        agents: &[AgentPlan],
    ) -> Result<ForeignWrite, PlanError> {
        let key = raw.key.get_ref();
        if !names::is_key(key) {
            return self.wrong(raw.key.span(), format!("key = {key:?} is not a key"));
        }
        // What stands under an agent's own key is that agent's to answer for.
        let owner = agents
            .iter()
            .find(|agent| presence::key(PROJECT, &agent.name) == *key);
        if let Some(AgentPlan { name, .. }) = owner {
            return self.wrong(raw.key.span(), format!("key = {key:?} is that of {name}"));
        }
        Ok(ForeignWrite {
            at: self.within("at", &raw.at, duration)?,
            key: key.clone(),
            value: raw.value.clone(),
        })
    }

    fn fault(
        &self,
        raw: &RawFault,
        span: Range<usize>,
        duration: Duration,
        agents: &[AgentPlan],
        world: WorldPlan,
        auth: Option<AuthPlan>,
    ) -> Result<Fault, PlanError> {
        let at = self.within("at", &raw.at, duration)?;
        let name = raw.kind.get_ref().as_str();
        let kind = self.kind(raw, &span)?;
        self.check_servers(raw, kind, world)?;
        let target = raw.target.get_ref();
        let found = match kind.scope() {
            Scope::Server => Member::from_name(target, world.servers).is_some(),
            Scope::Cluster => target == CLUSTER,
            Scope::Auth => target == AUTH,
            Scope::Agent => agents.iter().any(|agent| agent.name == *target),
        };
        if !found {
            let reason = match kind.scope() {
                Scope::Server => {
                    let servers = Member::all(world.servers);
                    let names: Vec<String> = servers
                        .map(|server| format!("{:?}", server.name(world.servers)))
                        .collect();
                    let names = names.join(", ");
                    format!("{name} acts on {names}, not on {target:?}")
                }
                Scope::Cluster => format!("{name} acts on {CLUSTER:?}, not on {target:?}"),
                Scope::Auth => format!("{name} acts on {AUTH:?}, not on {target:?}"),
                Scope::Agent => {
                    let names = agents.iter().map(|agent| agent.name.as_str());
                    format!("there is no agent {target:?}{}", nearest(target, names))
                }
            };
            return self.wrong(raw.target.span(), reason);
        }
        if kind.is_of_disk() && auth.is_none() {
            let reason = format!("{name} needs [auth]: nobody else keeps files");
            return self.wrong(raw.kind.span(), reason);
        }
        if kind.needs_auth() && auth.is_none() {
            let reason = format!("{name} needs [auth]: nobody logs in with anything");
            return self.wrong(raw.kind.span(), reason);
        }
        let lasts = match &raw.lasts {
            Some(lasts) if kind.is_instant() => {
                return self.wrong(
                    lasts.span(),
                    format!("{name} is over at once: it takes no `for`"),
                );
            }
            Some(lasts) => {
                let time = self.time("for", lasts)?;
                if time.is_zero() {
                    return self.wrong(lasts.span(), "for must be greater than zero");
                }
                if at + time > duration {
                    let end = humantime::format_duration(duration);
                    let reason =
                        format!("the fault ends past the end of the run, which lasts {end}");
                    return self.wrong(lasts.span(), reason);
                }
                time
            }
            None if kind.is_instant() => Duration::ZERO,
            None => return self.wrong(span, format!("{name} needs `for`: how long it lasts")),
        };
        Ok(Fault {
            at,
            lasts,
            target: target.clone(),
            kind,
        })
    }

    /// Some faults need a cluster, and one cannot be done to it.
    fn check_servers(
        &self,
        raw: &RawFault,
        kind: FaultKind,
        world: WorldPlan,
    ) -> Result<(), PlanError> {
        let name = kind.name();
        if kind.is_of_cluster() && !world.is_cluster() {
            let reason = format!("{name} needs a cluster: servers = {CLUSTER_SIZE}");
            return self.wrong(raw.kind.span(), reason);
        }
        if kind == FaultKind::PowerLoss && world.is_cluster() {
            let reason = format!("{name} is modelled for a server alone, not for one of a cluster");
            return self.wrong(raw.kind.span(), reason);
        }
        match (kind, &raw.peer) {
            (FaultKind::RoutePartition(other), Some(peer))
                if raw.target.get_ref() == &other.to_string() =>
            {
                self.wrong(peer.span(), "peer must be another server than the target")
            }
            _ => Ok(()),
        }
    }

    fn kind(&self, raw: &RawFault, span: &Range<usize>) -> Result<FaultKind, PlanError> {
        let name = raw.kind.get_ref().as_str();
        let directions = || match &raw.direction {
            None => Ok(Directions::Both),
            Some(text) => Directions::from_name(text.get_ref()).map_or_else(
                || {
                    let value = text.get_ref();
                    let reason =
                        format!("direction = {value:?} is not both, to-server or to-agent");
                    self.wrong(text.span(), reason)
                },
                Ok,
            ),
        };
        let needed = |field| self.wrong(span.clone(), format!("{name} needs `{field}`"));
        let kind = match name {
            "partition" => FaultKind::Partition(directions()?),
            "blackhole" => FaultKind::Blackhole(directions()?),
            "cut" => FaultKind::Cut,
            "delay" => match &raw.by {
                Some(by) => FaultKind::Delay(self.time("by", by)?),
                None => return needed("by"),
            },
            "lose-reply" => FaultKind::LoseReply,
            "pause" => FaultKind::Pause,
            "suspend" => FaultKind::Suspend,
            "crash" => FaultKind::Crash,
            "overlap" => FaultKind::Overlap,
            "jump" => match &raw.by {
                Some(by) => FaultKind::Jump(self.signed("by", by)?),
                None => return needed("by"),
            },
            "drift" => match &raw.ppm {
                Some(ppm) if ppm.get_ref().unsigned_abs() > DRIFT_MAX_PPM => {
                    let reason =
                        format!("ppm must lie between -{DRIFT_MAX_PPM} and {DRIFT_MAX_PPM}");
                    return self.wrong(ppm.span(), reason);
                }
                Some(ppm) => FaultKind::Drift(*ppm.get_ref()),
                None => return needed("ppm"),
            },
            "server-stop" => FaultKind::ServerStop,
            "power-loss" => FaultKind::PowerLoss,
            "server-pause" => FaultKind::ServerPause,
            "jetstream-mute" => FaultKind::JetstreamMute,
            "leader-change" => FaultKind::LeaderChange,
            "route-partition" => match &raw.peer {
                Some(peer) => match Member::from_name(peer.get_ref(), CLUSTER_SIZE) {
                    Some(other) => FaultKind::RoutePartition(other),
                    None => {
                        let value = peer.get_ref();
                        let reason = format!("peer = {value:?} is none of n1, n2, n3");
                        return self.wrong(peer.span(), reason);
                    }
                },
                None => return needed("peer"),
            },
            "rotate" => FaultKind::Rotate,
            "kick" => FaultKind::Kick,
            "revoke" => FaultKind::Revoke,
            "revoke-signer" => FaultKind::RevokeSigner,
            "auth-401" => FaultKind::Auth401,
            "auth-5xx" => FaultKind::Auth5xx,
            "auth-slow" => match &raw.by {
                Some(by) => FaultKind::AuthSlow(self.time("by", by)?),
                None => return needed("by"),
            },
            "auth-skew" => match &raw.by {
                Some(by) => FaultKind::AuthSkew(self.signed("by", by)?),
                None => return needed("by"),
            },
            "narrow-permissions" => FaultKind::NarrowPermissions,
            "torn-write" => FaultKind::TornWrite,
            "io-error" => {
                FaultKind::IoError(raw.after.as_ref().map_or(0, |after| *after.get_ref()))
            }
            "logout" => FaultKind::Logout,
            "switch-account" => FaultKind::SwitchAccount,
            _ => {
                let reason = format!("there is no fault {name:?}{}", nearest(name, KINDS));
                return self.wrong(raw.kind.span(), reason);
            }
        };
        let takes_direction = matches!(kind, FaultKind::Partition(_) | FaultKind::Blackhole(_));
        let takes_by = matches!(
            kind,
            FaultKind::Delay(_)
                | FaultKind::Jump(_)
                | FaultKind::AuthSlow(_)
                | FaultKind::AuthSkew(_)
        );
        let surplus = [
            (
                "direction",
                raw.direction.as_ref().map(Spanned::span),
                takes_direction,
            ),
            ("by", raw.by.as_ref().map(Spanned::span), takes_by),
            (
                "peer",
                raw.peer.as_ref().map(Spanned::span),
                matches!(kind, FaultKind::RoutePartition(_)),
            ),
            (
                "ppm",
                raw.ppm.as_ref().map(Spanned::span),
                matches!(kind, FaultKind::Drift(_)),
            ),
            (
                "after",
                raw.after.as_ref().map(Spanned::span),
                matches!(kind, FaultKind::IoError(_)),
            ),
        ];
        for (field, given, taken) in surplus {
            if let (Some(span), false) = (given, taken) {
                return self.wrong(span, format!("{name} takes no `{field}`"));
            }
        }
        Ok(kind)
    }

    fn signed(&self, field: &str, text: &Spanned<String>) -> Result<i64, PlanError> {
        let value = text.get_ref();
        let (sign, unsigned) = match value.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, value.strip_prefix('+').unwrap_or(value)),
        };
        let by = self.time(field, &Spanned::new(text.span(), unsigned.to_owned()))?;
        i64::try_from(by.as_nanos())
            .map(|nanos| sign * nanos)
            .or_else(|_| self.wrong(text.span(), format!("{field} = {value:?} is too long")))
    }
}

/// What faults of a server that is alone name as their target.
pub const SERVER: &str = "server";
/// What faults of a cluster as a whole name as their target.
pub const CLUSTER: &str = "cluster";
/// What faults of whoever issues credentials name as their target.
pub const AUTH: &str = "auth";
/// The name kept for the harness itself.
pub const MONITOR: &str = "monitor";
/// The project that the agents of presence scenarios belong to.
pub const PROJECT: &str = "demo";
/// Their bucket.
pub const BUCKET: &str = "presence";
/// What locks are held for, and how long they live, is told apart from the time that requests take.
const LOCK_MIN: Duration = Duration::from_millis(50);
/// Watchers allow for crystals that differ by a twelfth.
const DRIFT_MAX_PPM: u64 = 30_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(at: &str, key: &str) -> Result<Plan, PlanError> {
        let foreign = format!("[[foreign]]\nat = {at:?}\nkey = {key:?}\nvalue = \"x\"");
        parse(&format!(
            "scenario = \"presence/calm\"\nseed = 1\nduration = \"9s\"\nsettle = \"9s\"\n\
             [[agent]]\nname = \"alice\"\ninterval = \"1s\"\n{foreign}\n"
        ))
    }

    #[test]
    fn what_is_missed_only_at_the_end_is_missed_in_the_last_line() {
        let error = parse("seed = 1\nscenario = \"\"\"presence\n\n").expect_err("it is not closed");
        assert_eq!(error.line, 2, "{error}");
    }

    #[test]
    fn what_is_quoted_of_a_plan_stays_on_the_line_of_the_sentence() {
        let error = parse("\"a\\n\\u001Bb\" = 1\n").expect_err("there is no such key");
        assert!(!error.reason.contains(char::is_control), "{error:?}");
        assert_eq!(error.line, 1, "{error}");
    }

    #[test]
    fn faults_of_credentials_need_credentials_and_their_targets() {
        let with = |auth: &str, target: &str, kind: &str| {
            let text = format!(
                "scenario = \"rotation/calm\"\nseed = 1\nduration = \"9s\"\nsettle = \"9s\"\n{auth}\n\
                 [[agent]]\nname = \"alice\"\nrole = \"user\"\ninterval = \"1s\"\n\
                 [[fault]]\nat = \"1s\"\ntarget = {target:?}\n{kind}\n"
            );
            parse(&text).map_err(|error| error.to_string())
        };
        let auth = "[auth]\nlife = \"5m\"\nskew = \"-4s\"";
        let slow = "kind = \"auth-slow\"\nfor = \"2s\"\nby = \"1s\"";
        let plan = with(auth, "auth", slow).expect("it is a plan");
        assert_eq!(parse(&plan.to_string()), Ok(plan));
        assert!(with(auth, "alice", "kind = \"rotate\"").is_ok());
        let said = |auth, target, kind| with(auth, target, kind).expect_err("it is no plan");
        assert_eq!(
            said("", "alice", "kind = \"kick\""),
            "kick needs [auth]: nobody logs in with anything"
        );
        assert_eq!(
            said(auth, "alice", slow),
            "auth-slow acts on \"auth\", not on \"alice\""
        );
        assert_eq!(
            said(auth, "auth", "kind = \"auth-skew\"\nfor = \"2s\""),
            "auth-skew needs `by`"
        );
        assert_eq!(
            said(auth, "alice", "kind = \"revoke\"\nfor = \"2s\""),
            "revoke is over at once: it takes no `for`"
        );
        assert_eq!(
            said("[auth]\nlife = \"9s\"", "alice", "kind = \"kick\""),
            "life must be whole seconds, and at least 10s"
        );
    }

    #[test]
    fn an_agent_has_a_role_and_it_is_presence_where_it_says_nothing() {
        let with = |line: &str| {
            parse(&format!(
                "scenario = \"presence/calm\"\nseed = 1\nduration = \"9s\"\nsettle = \"9s\"\n\
                 [[agent]]\nname = \"alice\"\ninterval = \"1s\"\n{line}\n"
            ))
        };
        assert_eq!(with("role = \"presence\""), with(""));
        let error = with("role = \"presents\"").expect_err("it is no role");
        let reason = "there is no role \"presents\", did you mean \"presence\"?";
        assert_eq!((error.line, error.reason.as_str()), (8, reason));
    }

    #[test]
    fn a_foreign_write_is_in_time_and_under_no_agents_key() {
        let written = foreign("3s", "demo.robot").expect("it is a plan").foreign;
        assert_eq!(
            (written.len(), &*written[0].key, &*written[0].value),
            (1, "demo.robot", "x")
        );
        let refused =
            |at, key| foreign(at, key).map_err(|error| format!("{}: {error}", error.line));
        let reason = "10: key = \"demo.alice\" is that of alice";
        assert_eq!(refused("3s", "demo.alice"), Err(reason.to_owned()));
        assert_eq!(
            refused("3s", "a b"),
            Err("10: key = \"a b\" is not a key".to_owned())
        );
        let reason = "9: at = \"10s\" lies past the end of the run, which lasts 9s";
        assert_eq!(refused("10s", "demo.robot"), Err(reason.to_owned()));
    }

    #[test]
    fn only_who_keeps_state_says_how() {
        let with = |role: &str, state: &str| {
            let text = format!(
                "scenario = \"state/calm\"\nseed = 1\nduration = \"9s\"\nsettle = \"9s\"\n\
                 [[agent]]\nname = \"alice\"\nrole = {role:?}\ninterval = \"1s\"\nstate = {state}\n"
            );
            parse(&text).map_err(|error| error.to_string())
        };
        for how in [
            "{ keys = 2, life = \"4s\" }",
            "{ keys = 2, life = \"4s\", dwells = \"1s\" }",
        ] {
            let plan = with("state", how).expect("it is a plan");
            assert_eq!(parse(&plan.to_string()), Ok(plan));
        }
        let said = |role, state| with(role, state).expect_err("it is no plan");
        let how = "{ keys = 2, life = \"4s\" }";
        assert_eq!(
            said("lock", how),
            "an agent of role \"lock\" keeps no state"
        );
        let none = "{ keys = 0, life = \"4s\" }";
        assert_eq!(said("state", none), "keys must be greater than zero");
    }

    #[test]
    fn only_who_takes_locks_says_how() {
        let with = |role: &str, lock: &str| {
            let text = format!(
                "scenario = \"lock/calm\"\nseed = 1\nduration = \"9s\"\nsettle = \"9s\"\n\
                 [[agent]]\nname = \"alice\"\nrole = {role:?}\ninterval = \"1s\"\nlock = {lock}\n"
            );
            parse(&text).map_err(|error| error.to_string())
        };
        let how = "{ ttl = \"4s\", holds = \"1s\", keys = 2 }";
        let plan = with("lock", how).expect("it is a plan");
        assert_eq!(parse(&plan.to_string()), Ok(plan));
        let said = |role, lock| with(role, lock).expect_err("it is no plan");
        assert_eq!(
            said("user", how),
            "an agent of role \"user\" takes no locks"
        );
        let short = "{ ttl = \"4s\", holds = \"1ms\", keys = 2 }";
        assert_eq!(said("lock", short), "holds must be at least 50ms");
    }
}
