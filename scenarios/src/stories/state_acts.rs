//! The stories of shared state.
//!
//! What matters happens around the end of a value's life and around what breaks a watch: so lives are a few times the pace of
//! the agents, and what is done to them lasts about as long.

use std::time::Duration;

use super::presence_acts::{STRIKES, isolate, some_markers, strike};
use super::{Story, millis, secs};
use crate::fault::{CLUSTER_SIZE, FaultKind};
use crate::plan::StatePlan;

/// So long may it take until everybody writes and sees what others write.
const SETTLES_IN: Duration = secs(90);
/// How long credentials are valid.
const LIFE: Duration = secs(300);

/// So many agents of one pace, who share a few keys.
fn keepers(story: &mut Story, count: u64) -> StatePlan {
    let choices = [millis(500), secs(1)];
    let interval = *story.workload.pick(&choices).unwrap_or(&secs(1));
    let state = StatePlan {
        keys: story.workload.between(1, 6) as u32,
        life: interval * story.workload.between(2, 8) as u32,
        dwells: Duration::ZERO,
    };
    for _ in 0..count {
        story.keeper(interval, state);
    }
    story.settles_within(SETTLES_IN);
    state
}

fn some(story: &mut Story, low: u64, high: u64) -> u64 {
    story.workload.between(low, high)
}

/// Nothing is done to anybody.
pub(super) fn calm(story: &mut Story) {
    some_markers(story);
    let count = some(story, 2, 4);
    keepers(story, count);
    story.lasts(secs(40));
}

/// Everybody's clocks are wrong, each in its own way.
pub(super) fn ttl_expiry(story: &mut Story) {
    some_markers(story);
    let count = some(story, 2, 4);
    let state = keepers(story, count);
    story.lasts(secs(50));
    for agent in ["alice", "bob"] {
        let from = story.fault_time(Duration::ZERO, secs(12));
        let lasts = story.fault_time(secs(5), secs(30));
        let far = i64::try_from(story.faults.between(1, 86_400)).unwrap_or(1) * 1_000_000_000;
        let ahead = story.faults.chance(1, 2);
        match story.faults.below(3) {
            0 => {
                let by = if ahead { far } else { -far };
                story.befalls(agent, FaultKind::Jump(by), from, lasts);
            }
            1 => {
                let ppm = i64::try_from(story.faults.between(100, 30_000)).unwrap_or(100);
                let ppm = if ahead { ppm } else { -ppm };
                story.befalls(agent, FaultKind::Drift(ppm), from, lasts);
            }
            _ => {
                let lasts = story.fault_time(state.life / 4, state.life * 2);
                story.befalls(agent, FaultKind::Suspend, from, lasts);
            }
        }
    }
}

/// The server goes away, twice.
pub(super) fn watcher_restart(story: &mut Story) {
    some_markers(story);
    let count = some(story, 3, 5);
    keepers(story, count);
    story.lasts(secs(70));
    for outage in 0..2 {
        let from = story.fault_time(secs(5 + outage * 30), secs(12 + outage * 30));
        let lasts = story.fault_time(millis(200), secs(14));
        let kind = match story.faults.below(3) {
            0 => FaultKind::ServerStop,
            1 => FaultKind::ServerPause,
            _ => FaultKind::JetstreamMute,
        };
        story.befalls_server(kind, from, lasts);
    }
}

/// The power goes twice, and takes with it anything since the last sync.
pub(super) fn power_loss(story: &mut Story) {
    some_markers(story);
    let count = some(story, 3, 4);
    keepers(story, count);
    story.lasts(secs(60));
    for outage in 0..2 {
        let from = story.fault_time(secs(5 + outage * 28), secs(15 + outage * 28));
        let lasts = story.fault_time(millis(50), secs(5));
        story.befalls_server(FaultKind::PowerLoss, from, lasts);
    }
}

/// Some take long over each thing that they are told, and then there is a moment of more delay still.
pub(super) fn slow_reader(story: &mut Story) {
    some_markers(story);
    let count = some(story, 3, 5);
    keepers(story, count);
    story.lasts(secs(50));
    for agent in ["alice", "carol"] {
        let dwells = story.workload_time(millis(400), secs(2));
        story.dwells(agent, dwells);
    }
    let from = story.fault_time(secs(10), secs(30));
    let whom = story.anybody();
    story.befalls(&whom, FaultKind::Delay(millis(300)), from, secs(5));
}

/// Writers stand still, and what they do when they wake is late.
pub(super) fn fenced_writes(story: &mut Story) {
    some_markers(story);
    let count = some(story, 3, 5);
    keepers(story, count);
    story.lasts(secs(60));
    for act in 0..4 {
        let from = story.fault_time(secs(3 + act * 14), secs(6 + act * 14));
        let lasts = story.fault_time(secs(1), secs(10));
        let kind = if story.faults.chance(1, 3) {
            FaultKind::Suspend
        } else {
            FaultKind::Pause
        };
        let whom = story.anybody();
        story.befalls(&whom, kind, from, lasts);
    }
}

/// Alice is cut off, three times.
pub(super) fn partition(story: &mut Story) {
    some_markers(story);
    keepers(story, 3);
    story.lasts(secs(80));
    for act in 0..3 {
        let from = story.fault_time(secs(3 + act * 25), secs(8 + act * 25));
        let lasts = story.fault_time(secs(2), secs(15));
        let ways = story.directions();
        let kind = match story.faults.below(5) {
            0 | 1 => FaultKind::Partition(ways),
            2 => FaultKind::Blackhole(ways),
            3 => FaultKind::Delay(secs(1)),
            _ => FaultKind::Cut,
        };
        story.befalls("alice", kind, from, lasts);
    }
}

/// Answers are lost one by one.
pub(super) fn lost_reply(story: &mut Story) {
    some_markers(story);
    let count = some(story, 2, 3);
    keepers(story, count);
    story.lasts(secs(70));
    for act in 0..5 {
        let from = story.fault_time(secs(2 + act * 12), secs(10 + act * 12));
        let whom = story.anybody();
        story.befalls(&whom, FaultKind::LoseReply, from, secs(2));
    }
}

/// The leader changes, three times: on request, by its death, because it stands still, or because nobody hears of it.
pub(super) fn leader_change(story: &mut Story) {
    some_markers(story);
    story.has_cluster(CLUSTER_SIZE);
    let count = some(story, 3, 4);
    keepers(story, count);
    story.lasts(secs(80));
    for change in 0..3 {
        let from = story.fault_time(secs(5 + change * 25), secs(10 + change * 25));
        let lasts = story.fault_time(secs(1), secs(14));
        let server = story.some_server();
        match story.faults.below(5) {
            0 | 1 => {
                story.befalls_member(server, FaultKind::LeaderChange, from, Duration::ZERO);
            }
            2 => story.befalls_member(server, FaultKind::ServerStop, from, lasts),
            3 => story.befalls_member(server, FaultKind::ServerPause, from, lasts),
            _ => isolate(story, server, from, lasts),
        }
    }
}

/// Two lives of credentials; some exchange theirs early, or are put out.
pub(super) fn through_rotation(story: &mut Story) {
    story.credentials(LIFE);
    let count = some(story, 2, 4);
    let state = StatePlan {
        keys: 4,
        life: story.workload_time(secs(4), secs(12)),
        dwells: Duration::ZERO,
    };
    for _ in 0..count {
        story.keeper(secs(2), state);
    }
    story.settles_within(SETTLES_IN);
    story.lasts(secs(420));
    for _ in 0..3 {
        let at = story.fault_time(secs(10), secs(400));
        let kind = if story.faults.chance(1, 2) {
            FaultKind::Rotate
        } else {
            FaultKind::Kick
        };
        let whom = story.anybody();
        story.befalls(&whom, kind, at, Duration::ZERO);
    }
}

/// A storm: the seed draws which kinds of faults are on at all, and then as many as it likes of them.
pub(super) fn storm(story: &mut Story) {
    some_markers(story);
    let count = some(story, 2, 6);
    if story.workload.chance(1, 6) {
        let copies = if story.workload.chance(2, 3) {
            CLUSTER_SIZE
        } else {
            1
        };
        story.has_cluster(copies);
    }
    if story.workload.chance(1, 3) {
        story.world().latency.base = millis(story.workload.between(1, 40));
        story.world().latency.jitter = millis(story.workload.between(0, 20));
    }
    let state = keepers(story, count);
    if story.workload.chance(1, 3) {
        let dwells = story.workload_time(millis(200), secs(1));
        story.dwells("alice", dwells);
    }
    story.lasts(secs(60));
    let is_cluster = story.world().is_cluster();
    let is_here = |kind: &str| match kind {
        "leader-change" | "route-partition" => is_cluster,
        "power-loss" => !is_cluster,
        _ => true,
    };
    let kinds = STRIKES.into_iter().filter(|kind| is_here(kind));
    let kinds: Vec<&str> = kinds.filter(|_| story.faults.chance(1, 3)).collect();
    for _ in 0..story.faults.between(1, 8) {
        if let Some(kind) = story.faults.pick(&kinds).copied() {
            strike(story, kind, state.life / 4);
        }
    }
}
