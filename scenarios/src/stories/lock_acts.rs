//! The stories of locks.
//!
//! What matters happens around the end of a lock's life: so what is done to agents lasts about as long as their locks live,
//! and they hold one most of the time.

use std::time::Duration;

use super::presence_acts::{STRIKES, isolate, some_markers, strike};
use super::{Story, millis, secs};
use crate::fault::{CLUSTER_SIZE, FaultKind};
use crate::plan::LockPlan;

/// So long may it take until everybody has had a lock, beside the life of one that was left behind.
const SETTLES_IN: Duration = secs(60);
/// How long credentials are valid.
const LIFE: Duration = secs(300);

/// So many agents of one pace, who share so many locks.
fn lockers(story: &mut Story, count: u64, keys: u32) -> LockPlan {
    let choices = [millis(500), secs(1)];
    let interval = *story.workload.pick(&choices).unwrap_or(&secs(1));
    let ttl = interval * story.workload.between(4, 8) as u32;
    // Some let them run out.
    let choices = [ttl / 4, ttl / 2, ttl];
    let holds = *story.workload.pick(&choices).unwrap_or(&ttl);
    let lock = LockPlan { ttl, holds, keys };
    enter(story, count, interval, lock);
    lock
}

fn enter(story: &mut Story, count: u64, interval: Duration, lock: LockPlan) {
    for _ in 0..count {
        story.locker(interval, lock);
    }
    story.settles_within(SETTLES_IN + lock.ttl * 2 + lock.holds * 2 * count as u32);
}

fn some(story: &mut Story, low: u64, high: u64) -> u64 {
    story.workload.between(low, high)
}

/// Agents take locks and let them go. Nothing is done to anybody.
pub(super) fn calm(story: &mut Story) {
    some_markers(story);
    let (count, keys) = (some(story, 2, 4), some(story, 1, 3) as u32);
    lockers(story, count, keys);
    story.lasts(secs(30));
}

/// Everybody wants the same one, all the time.
pub(super) fn contention(story: &mut Story) {
    some_markers(story);
    let count = some(story, 4, 8);
    lockers(story, count, 1);
    story.lasts(secs(40));
    story.world().latency.base = millis(story.workload.between(1, 20));
}

/// Agents stand still, each for about as long as a lock lives, or their machines sleep.
pub(super) fn paused_holder(story: &mut Story) {
    some_markers(story);
    let count = some(story, 2, 4);
    let lock = lockers(story, count, 1);
    story.lasts(secs(60));
    for act in 0..4 {
        let from = story.fault_time(secs(3 + act * 14), secs(6 + act * 14));
        let lasts = story.fault_time(lock.ttl / 2, lock.ttl * 2).min(secs(11));
        let kind = if story.faults.chance(1, 3) {
            FaultKind::Suspend
        } else {
            FaultKind::Pause
        };
        let whom = story.anybody();
        story.befalls(&whom, kind, from, lasts);
    }
}

/// Answers are lost one by one. Locks live for so long that nobody can wait for the end of what was left behind.
pub(super) fn lost_reply(story: &mut Story) {
    some_markers(story);
    let count = some(story, 2, 3);
    let ttl = story.workload_time(secs(40), secs(50));
    let lock = LockPlan {
        ttl,
        holds: secs(2),
        keys: 2,
    };
    enter(story, count, secs(1), lock);
    story.lasts(secs(90));
    for act in 0..5 {
        let from = story.fault_time(secs(2 + act * 12), secs(10 + act * 12));
        let whom = story.anybody();
        story.befalls(&whom, FaultKind::LoseReply, from, secs(2));
    }
}

/// Everybody's clocks are wrong, each in its own way; and somebody may die meanwhile.
pub(super) fn clock_chaos(story: &mut Story) {
    some_markers(story);
    let lock = lockers(story, 3, 1);
    story.lasts(secs(50));
    for agent in ["alice", "bob", "carol"] {
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
                let lasts = story.fault_time(lock.ttl / 4, lock.ttl * 2);
                story.befalls(agent, FaultKind::Suspend, from, lasts);
            }
        }
    }
    if story.faults.chance(1, 2) {
        let dies = story.fault_time(secs(5), secs(25));
        story.befalls("carol", FaultKind::Crash, dies, lock.ttl * 3);
    }
}

/// The server goes away twice, in one of three ways.
pub(super) fn server_restart(story: &mut Story) {
    some_markers(story);
    let count = some(story, 3, 5);
    let lock = lockers(story, count, 1);
    story.lasts(secs(60));
    for outage in 0..2 {
        let from = story.fault_time(secs(3 + outage * 28), secs(10 + outage * 28));
        let lasts = story.fault_time(millis(50), lock.ttl * 2);
        let kinds = [
            FaultKind::ServerStop,
            FaultKind::ServerPause,
            FaultKind::JetstreamMute,
        ];
        let kind = *story.faults.pick(&kinds).unwrap_or(&FaultKind::ServerStop);
        story.befalls_server(kind, from, lasts);
    }
}

/// Alice is cut off, in one of several ways, for about as long as her lock lives.
pub(super) fn partition(story: &mut Story) {
    some_markers(story);
    let lock = lockers(story, 3, 1);
    story.lasts(secs(70));
    for act in 0..3 {
        let from = story.fault_time(secs(3 + act * 22), secs(6 + act * 22));
        let lasts = story.fault_time(lock.ttl / 2, lock.ttl * 2).min(secs(14));
        let ways = story.directions();
        let kind = match story.faults.below(5) {
            0 | 1 => FaultKind::Partition(ways),
            2 => FaultKind::Blackhole(ways),
            3 => FaultKind::Delay(lock.ttl / 3),
            _ => FaultKind::Cut,
        };
        story.befalls("alice", kind, from, lasts);
    }
}

/// Agents die while they hold a lock, and come back; or are deployed anew beside themselves.
pub(super) fn crash(story: &mut Story) {
    some_markers(story);
    let count = some(story, 2, 4);
    let lock = lockers(story, count, 1);
    story.lasts(secs(60));
    for act in 0..3 {
        let from = story.fault_time(secs(3 + act * 18), secs(8 + act * 18));
        let lasts = story.fault_time(millis(100), lock.ttl * 2).min(secs(12));
        let kind = if story.faults.chance(1, 4) {
            FaultKind::Overlap
        } else {
            FaultKind::Crash
        };
        let whom = story.anybody();
        story.befalls(&whom, kind, from, lasts);
    }
}

/// The power goes twice, and takes with it anything since the last sync: locks, and what was done under them. The server
/// ends no records here: which of two that are both there again it would uncover was never measured.
pub(super) fn power_loss(story: &mut Story) {
    let count = some(story, 3, 4);
    lockers(story, count, 1);
    story.lasts(secs(60));
    for outage in 0..2 {
        let from = story.fault_time(secs(5 + outage * 28), secs(15 + outage * 28));
        let lasts = story.fault_time(millis(50), secs(5));
        story.befalls_server(FaultKind::PowerLoss, from, lasts);
    }
}

/// The leader changes, three times: on request, by its death, because it stands still, or because nobody hears of it.
pub(super) fn leader_change(story: &mut Story) {
    some_markers(story);
    story.has_cluster(CLUSTER_SIZE);
    let count = some(story, 3, 4);
    let lock = lockers(story, count, 1);
    story.lasts(secs(80));
    for change in 0..3 {
        let from = story.fault_time(secs(5 + change * 25), secs(10 + change * 25));
        let lasts = story.fault_time(secs(1), lock.ttl * 2).min(secs(14));
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

/// Two lives of credentials, while agents take locks all the time; some exchange theirs early, or are put out.
pub(super) fn through_rotation(story: &mut Story) {
    story.credentials(LIFE);
    let count = some(story, 2, 4);
    let ttl = story.workload_time(secs(8), secs(16));
    let lock = LockPlan {
        ttl,
        holds: ttl / 2,
        keys: 1,
    };
    enter(story, count, secs(2), lock);
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
    let (count, keys) = (some(story, 2, 8), some(story, 1, 3) as u32);
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
    let lock = lockers(story, count, keys);
    story.lasts(secs(60));
    let is_cluster = story.world().is_cluster();
    let is_here = |kind: &str| match kind {
        "leader-change" | "route-partition" => is_cluster,
        "power-loss" => !is_cluster,
        _ => true,
    };
    let kinds = STRIKES.into_iter().filter(|kind| is_here(kind));
    let kinds: Vec<&str> = kinds.filter(|_| story.faults.chance(1, 3)).collect();
    if kinds.contains(&"power-loss") {
        story.world().delete_markers = None;
    }
    for _ in 0..story.faults.between(1, 8) {
        if let Some(kind) = story.faults.pick(&kinds).copied() {
            strike(story, kind, lock.ttl / 4);
        }
    }
}
