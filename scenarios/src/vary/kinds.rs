//! Which faults a scenario allows, and what each looks like at a given time.

use std::time::Duration;

use squall_core::Rng;

use super::{Aims, a_little};
use crate::fault::{Directions, Fault, FaultKind, Member, Scope};
use crate::parse::{AUTH, CLUSTER};
use crate::plan::{Plan, Role};
use crate::stories::Scenario;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The kinds that a plan may be varied with, and the times that mean something in it.
pub(super) struct Kinds {
    kinds: Vec<&'static str>,
    /// Lives, intervals, and how long a lock is held.
    times: Vec<Duration>,
    longest: Duration,
    duration: Duration,
}

impl Kinds {
    /// Those that the scenario may draw and this plan can hold.
    pub(super) fn of(scenario: &Scenario, plan: &Plan) -> Self {
        let is_cluster = plan.world.is_cluster();
        // Which of two records that are both there again the server would uncover was never measured.
        let holds = |agent: &crate::plan::AgentPlan| agent.role == Role::Lock;
        let uncovers = plan.world.delete_markers.is_some() && plan.agents.iter().any(holds);
        let can_be = |kind: &&&'static str| match **kind {
            "leader-change" | "route-partition" => is_cluster,
            "power-loss" => !is_cluster && !uncovers,
            _ => true,
        };
        let mut times = Vec::new();
        for agent in &plan.agents {
            times.extend([agent.interval, agent.interval * 3]);
            times.extend(agent.lock.iter().flat_map(|lock| [lock.ttl, lock.holds]));
            times.extend(agent.state.iter().map(|state| state.life));
            let chat = agent.chat.iter().map(|chat| chat.retention);
            times.extend(chat.filter(|retention| !retention.is_zero()));
        }
        times.extend(
            plan.auth
                .iter()
                .flat_map(|auth| [auth.life / 10, auth.life / 30]),
        );
        let pace = plan.agents.iter().map(|agent| agent.interval).min();
        let drawn = plan.faults.iter().map(|fault| fault.lasts).max();
        Self {
            kinds: scenario.faults.iter().filter(can_be).copied().collect(),
            times,
            longest: (pace.unwrap_or_default() * 12).max(drawn.unwrap_or_default()),
            duration: plan.duration,
        }
    }

    /// How long something lasts that begins then: until another moment, about as long as something in the plan, or anything.
    pub(super) fn some_time(&self, rng: &mut Rng, at: Duration, aims: &Aims) -> Duration {
        let any = millis(rng.between(50, (self.longest.as_millis() as u64).max(51)));
        let lasts = match rng.below(3) {
            0 => aims
                .draw(rng, None)
                .and_then(|(end, _)| end.checked_sub(at))
                .unwrap_or(any),
            1 => match rng.pick(&self.times) {
                Some(time) if rng.chance(1, 2) => *time + a_little(rng),
                Some(time) => time.saturating_sub(a_little(rng)),
                None => any,
            },
            _ => any,
        };
        let left = self.duration.saturating_sub(at);
        lasts.max(millis(50)).min(self.longest).min(left)
    }

    /// One of them, at this time, to this agent if it is one.
    pub(super) fn draw(
        &self,
        plan: &Plan,
        aims: &Aims,
        rng: &mut Rng,
        at: Duration,
        whom: Option<&str>,
    ) -> Option<Fault> {
        let kind = self.kind(plan, rng)?;
        let servers = plan.world.servers;
        let target = match kind.scope() {
            Scope::Auth => AUTH.to_owned(),
            Scope::Cluster => CLUSTER.to_owned(),
            Scope::Server => {
                let named = whom.and_then(|name| Member::from_name(name, servers));
                let drawn = Member(rng.below(servers as u64) as usize);
                named.unwrap_or(drawn).name(servers)
            }
            Scope::Agent => {
                let named = whom.and_then(|name| plan.agent(name));
                let drawn = rng.pick(&plan.agents)?;
                named.unwrap_or(drawn).name.clone()
            }
        };
        let kind = match kind {
            FaultKind::RoutePartition(_) => {
                let one = Member::from_name(&target, servers)?;
                FaultKind::RoutePartition(Member((one.0 + 1) % servers))
            }
            kind => kind,
        };
        let lasts = match kind.is_instant() {
            true => Duration::ZERO,
            false => self.some_time(rng, at, aims),
        };
        Some(Fault {
            at,
            lasts,
            target,
            kind,
        })
    }

    fn kind(&self, plan: &Plan, rng: &mut Rng) -> Option<FaultKind> {
        let ways = [Directions::Both, Directions::ToServer, Directions::ToAgent];
        let ways = *rng.pick(&ways)?;
        let slow = millis(rng.between(5, 1500));
        let sign = if rng.chance(1, 2) { 1 } else { -1 };
        // Where credentials end, minutes matter; elsewhere wall clocks should not matter at all.
        let far = if plan.auth.is_some() { 90 } else { 86_400 };
        let far = i64::try_from(rng.between(1, far)).unwrap_or(1) * 1_000_000_000;
        let ppm = i64::try_from(rng.between(100, 30_000)).unwrap_or(100);
        Some(match *rng.pick(&self.kinds)? {
            "partition" => FaultKind::Partition(ways),
            "blackhole" => FaultKind::Blackhole(ways),
            "cut" => FaultKind::Cut,
            "delay" => FaultKind::Delay(slow),
            "lose-reply" => FaultKind::LoseReply,
            "pause" => FaultKind::Pause,
            "suspend" => FaultKind::Suspend,
            "crash" => FaultKind::Crash,
            "overlap" => FaultKind::Overlap,
            "jump" => FaultKind::Jump(sign * far),
            "drift" => FaultKind::Drift(sign * ppm),
            "server-stop" => FaultKind::ServerStop,
            "server-pause" => FaultKind::ServerPause,
            "jetstream-mute" => FaultKind::JetstreamMute,
            "power-loss" => FaultKind::PowerLoss,
            "leader-change" => FaultKind::LeaderChange,
            "route-partition" => FaultKind::RoutePartition(Member(0)),
            "rotate" => FaultKind::Rotate,
            "kick" => FaultKind::Kick,
            "revoke" => FaultKind::Revoke,
            "revoke-signer" => FaultKind::RevokeSigner,
            "auth-401" => FaultKind::Auth401,
            "auth-5xx" => FaultKind::Auth5xx,
            "auth-slow" => FaultKind::AuthSlow(slow * 10),
            "auth-skew" => FaultKind::AuthSkew(sign * far),
            "narrow-permissions" => FaultKind::NarrowPermissions,
            "logout" => FaultKind::Logout,
            "switch-account" => FaultKind::SwitchAccount,
            "torn-write" => FaultKind::TornWrite,
            "io-error" => FaultKind::IoError(rng.below(8) as u32),
            _ => return None,
        })
    }
}
