//! What can be taken away from a plan, but for its times: see `times.rs`.

use std::time::Duration;

use squall_sim::Latency;
use squall_sim::broker::{SyncInterval, Version};

use super::{Shrunk, times};
use crate::fault::{Directions, Fault, FaultKind, Scope};
use crate::parse::SERVER;
use crate::plan::{AgentPlan, AuthPlan, LockPlan, Plan, StatePlan, WorldPlan};
use crate::stories::NAMES;

/// Lists of no more faults are tried without each two of them.
const PAIRS_OF: usize = 8;
/// So many other orders of tasks are tried before a fault, or an agent, is said to be needed.
const OTHER_ORDERS: u64 = 4;

/// How much there is of a plan: what comes first weighs more than all that follows.
pub(super) fn weight(plan: &Plan) -> impl Ord + use<> {
    let names = plan.agents.iter().map(|agent| place(&agent.name));
    (
        (plan.faults.len(), plan.agents.len()),
        plan.foreign.len(),
        unusual(&plan.world) + plan.faults.iter().map(special).sum::<usize>(),
        plan.auth.map_or(0, |auth| 1 + usize::from(auth.skew != 0)),
        plan.agents.iter().map(busy).sum::<usize>(),
        times::weight(plan),
        names.sum::<usize>(),
        plan.seed,
    )
}

fn place(name: &str) -> usize {
    let place = NAMES.iter().position(|known| *known == name);
    place.unwrap_or(NAMES.len())
}

fn unusual(world: &WorldPlan) -> usize {
    let usual = WorldPlan::default();
    let others = [
        world.server != usual.server,
        world.latency.base != usual.latency.base,
        world.latency.jitter != usual.latency.jitter,
        world.delete_markers.is_some(),
        world.sync_interval != usual.sync_interval,
        world.priorities.is_some(),
    ];
    world.servers + world.replicas + others.into_iter().filter(|is_other| *is_other).count()
}

fn special(fault: &Fault) -> usize {
    match fault.kind {
        FaultKind::Partition(ways) | FaultKind::Blackhole(ways) => {
            usize::from(ways != Directions::Both)
        }
        FaultKind::IoError(steps) => steps as usize,
        _ => 0,
    }
}

fn busy(agent: &AgentPlan) -> usize {
    let lock = agent.lock.map_or(0, |lock| 1 + lock.keys as usize);
    let state = agent.state.map_or(0, |state| {
        1 + state.keys as usize + usize::from(!state.dwells.is_zero())
    });
    let chat = agent.chat.as_ref();
    let chat = chat.map_or(0, |chat| 1 + usize::from(!chat.dwells.is_zero()));
    let others = [
        agent.watch,
        agent.who_every.is_some(),
        agent.close.is_some(),
        agent.reconnects_max.is_some(),
    ];
    lock + state + chat + others.into_iter().filter(|is_so| *is_so).count()
}

/// This plan, changed.
pub(super) fn with(plan: &Plan, change: impl FnOnce(&mut Plan)) -> Plan {
    let mut changed = plan.clone();
    change(&mut changed);
    changed
}

/// The parts of so many: all, each half, each quarter and so on, down to each one; the last ones first.
fn parts(count: usize) -> Vec<std::ops::Range<usize>> {
    let mut parts = Vec::new();
    let mut size = count;
    while size > 0 {
        let starts = (0..count).step_by(size).rev();
        parts.extend(starts.map(|start| start..count.min(start + size)));
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    parts
}

/// Without some of the faults, or with simpler ones.
pub(super) fn faults(Shrunk { plan, .. }: &Shrunk) -> Vec<Plan> {
    let count = plan.faults.len();
    let without_part =
        |part: std::ops::Range<usize>| with(plan, |plan| drop(plan.faults.drain(part)));
    let mut fewer: Vec<Plan> = parts(count).into_iter().map(without_part).collect();
    if count <= PAIRS_OF {
        let pairs = (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other)));
        fewer.extend(pairs.map(|(one, other)| {
            with(plan, |plan| {
                plan.faults.remove(other);
                plan.faults.remove(one);
            })
        }));
    }
    for number in 0..count {
        let simpler = match plan.faults[number].kind {
            FaultKind::Partition(_) => FaultKind::Partition(Directions::Both),
            FaultKind::Blackhole(_) => FaultKind::Blackhole(Directions::Both),
            FaultKind::IoError(_) => FaultKind::IoError(0),
            _ => continue,
        };
        fewer.push(with(plan, |plan| plan.faults[number].kind = simpler));
    }
    fewer
}

/// Without some of the agents and what is done to them, or with that done to another.
pub(super) fn agents(Shrunk { plan, .. }: &Shrunk) -> Vec<Plan> {
    let count = plan.agents.len();
    let parts = parts(count).into_iter().filter(|part| part.len() < count);
    let mut fewer: Vec<Plan> = parts
        .map(|part| {
            with(plan, |plan| {
                let gone: Vec<String> = plan.agents.drain(part).map(|agent| agent.name).collect();
                plan.faults.retain(|fault| !gone.contains(&fault.target));
            })
        })
        .collect();
    for (number, agent) in plan.agents.iter().enumerate() {
        if plan.faults.iter().any(|fault| fault.target == agent.name) {
            let others = plan.agents.iter().filter(|other| other.name != agent.name);
            fewer.extend(others.map(|other| {
                with(plan, |plan| {
                    plan.agents.remove(number);
                    for fault in &mut plan.faults {
                        if fault.target == agent.name {
                            fault.target.clone_from(&other.name);
                        }
                    }
                })
            }));
        }
    }
    fewer
}

/// In a world that is more like the usual.
pub(super) fn world(Shrunk { plan, .. }: &Shrunk) -> Vec<Plan> {
    let usual = WorldPlan::default();
    let mut plainer = vec![with(plan, |plan| {
        let on = plan.world.on;
        alone(plan);
        plan.world = WorldPlan { on, ..usual };
    })];
    let changes: [fn(&mut Plan); 10] = [
        |plan| plan.world.priorities = None,
        |plan| {
            plan.auth = None;
            let needs = |kind: FaultKind| kind.needs_auth() || kind.is_of_disk();
            plan.faults.retain(|fault| !needs(fault.kind));
        },
        alone,
        |plan| plan.world.replicas = 1,
        |plan| plan.world.server = Version::REFERENCE,
        |plan| plan.world.latency = Latency::default(),
        |plan| plan.world.latency.jitter = Latency::default().jitter,
        |plan| plan.world.delete_markers = None,
        |plan| plan.world.sync_interval = SyncInterval::default(),
        |plan| {
            if let Some(auth) = &mut plan.auth {
                *auth = AuthPlan::new(auth.life);
            }
        },
    ];
    plainer.extend(changes.map(|change| with(plan, change)));
    plainer
}

/// One server instead of a cluster; what is done to any of them is done to it.
fn alone(plan: &mut Plan) {
    (plan.world.servers, plan.world.replicas) = (1, 1);
    plan.faults.retain(|fault| !fault.kind.is_of_cluster());
    for fault in &mut plan.faults {
        if fault.kind.scope() == Scope::Server {
            SERVER.clone_into(&mut fault.target);
        }
    }
}

/// With less to do: nobody, or one of them, does this or that no more.
pub(super) fn workload(Shrunk { plan, .. }: &Shrunk) -> Vec<Plan> {
    let changes: [fn(&mut AgentPlan); 11] = [
        |agent| agent.watch = false,
        |agent| agent.who_every = None,
        |agent| agent.close = None,
        |agent| agent.reconnects_max = None,
        |agent| agent.lock = None,
        |agent| agent.state = None,
        |agent| agent.chat = None,
        |agent| {
            agent
                .lock
                .iter_mut()
                .for_each(|LockPlan { keys, .. }| *keys = 1)
        },
        |agent| {
            agent
                .state
                .iter_mut()
                .for_each(|StatePlan { keys, .. }| *keys = 1)
        },
        |agent| {
            agent
                .state
                .iter_mut()
                .for_each(|state| state.dwells = Duration::ZERO)
        },
        |agent| {
            agent
                .chat
                .iter_mut()
                .for_each(|chat| chat.dwells = Duration::ZERO)
        },
    ];
    let foreign = parts(plan.foreign.len()).into_iter();
    let mut less: Vec<Plan> = foreign
        .map(|part| with(plan, |plan| drop(plan.foreign.drain(part))))
        .collect();
    for change in changes {
        less.push(with(plan, |plan| plan.agents.iter_mut().for_each(change)));
        let each = 0..plan.agents.len();
        less.extend(each.map(|agent| with(plan, |plan| change(&mut plan.agents[agent]))));
    }
    less
}

/// With one fault or agent less, under another seed: it decides in which order tasks run, and how long parcels travel.
pub(super) fn other_orders(shrunk: &Shrunk) -> Vec<Plan> {
    let count = shrunk.plan.faults.len();
    let faults = (0..count).map(|fault| with(&shrunk.plan, |plan| drop(plan.faults.remove(fault))));
    let fewer: Vec<Plan> = faults.chain(agents(shrunk)).collect();
    let orders = 1..=OTHER_ORDERS;
    let reseeded =
        |plan: &Plan, order| with(plan, |plan| plan.seed = plan.seed.wrapping_add(order));
    let each = fewer.iter();
    each.flat_map(|plan| orders.clone().map(|order| reseeded(plan, order)))
        .collect()
}

/// With the first names and the first seeds that show the same.
pub(super) fn names(Shrunk { plan, .. }: &Shrunk) -> Vec<Plan> {
    let renamed = with(plan, |plan| {
        let mut agents: Vec<(usize, String)> = Vec::new();
        for (number, agent) in plan.agents.iter_mut().enumerate() {
            let name = NAMES.get(number).copied().unwrap_or(&agent.name).to_owned();
            agents.push((number, std::mem::replace(&mut agent.name, name)));
        }
        for fault in &mut plan.faults {
            if let Some((number, _)) = agents.iter().find(|(_, name)| *name == fault.target) {
                fault.target.clone_from(&plan.agents[*number].name);
            }
        }
    });
    let mut others = vec![renamed];
    others.extend((0..4).map(|seed| with(plan, |plan| plan.seed = seed)));
    others
}
