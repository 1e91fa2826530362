//! The stories of locks.
//!
//! What matters happens around the end of a lock's life: so what is done to agents lasts about as long as their locks live,
//! and they hold one most of the time.

use std::time::Duration;

use super::acts::{
    LIFE, absence, credentials_go, leader_goes, power_goes, replies_get_lost, separation,
    some_cluster, some_latency, some_markers, some_strikes, standstill, strike_with, wrong_clock,
};
use super::{Story, millis, secs};
use crate::fault::{CLUSTER_SIZE, FaultKind};
use crate::plan::LockPlan;

/// So long may it take until everybody has had a lock, beside the life of one that was left behind.
const SETTLES_IN: Duration = secs(60);

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

/// Agents take locks and let them go. Nothing is done to anybody.
pub(super) fn calm(story: &mut Story) {
    some_markers(story);
    let (count, keys) = (
        story.workload.between(2, 4),
        story.workload.between(1, 3) as u32,
    );
    lockers(story, count, keys);
    story.lasts(secs(30));
}

/// Everybody wants the same one, all the time.
pub(super) fn contention(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(4, 8);
    lockers(story, count, 1);
    story.lasts(secs(40));
    story.world().latency.base = millis(story.workload.between(1, 20));
}

/// Agents stand still, each for about as long as a lock lives, or their machines sleep.
pub(super) fn paused_holder(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(2, 4);
    let lock = lockers(story, count, 1);
    story.lasts(secs(60));
    for act in 0..4 {
        let from = story.fault_time(secs(3 + act * 14), secs(6 + act * 14));
        let lasts = story.fault_time(lock.ttl / 2, lock.ttl * 2).min(secs(11));
        let kind = standstill(story);
        let whom = story.anybody();
        story.befalls(&whom, kind, from, lasts);
    }
}

/// Answers are lost one by one. Locks live for so long that nobody can wait for the end of what was left behind.
pub(super) fn lost_reply(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(2, 3);
    let ttl = story.workload_time(secs(40), secs(50));
    let lock = LockPlan {
        ttl,
        holds: secs(2),
        keys: 2,
    };
    enter(story, count, secs(1), lock);
    story.lasts(secs(90));
    replies_get_lost(story);
}

/// Everybody's clocks are wrong, each in its own way; and somebody may die meanwhile.
pub(super) fn clock_chaos(story: &mut Story) {
    some_markers(story);
    let lock = lockers(story, 3, 1);
    story.lasts(secs(50));
    for agent in ["alice", "bob", "carol"] {
        let from = story.fault_time(Duration::ZERO, secs(12));
        let lasts = story.fault_time(secs(5), secs(30));
        wrong_clock(story, agent, from, lasts, |story| {
            story.fault_time(lock.ttl / 4, lock.ttl * 2)
        });
    }
    if story.faults.chance(1, 2) {
        let dies = story.fault_time(secs(5), secs(25));
        story.befalls("carol", FaultKind::Crash, dies, lock.ttl * 3);
    }
}

/// The server goes away twice, in one of three ways.
pub(super) fn server_restart(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(3, 5);
    let lock = lockers(story, count, 1);
    story.lasts(secs(60));
    for outage in 0..2 {
        let from = story.fault_time(secs(3 + outage * 28), secs(10 + outage * 28));
        let lasts = story.fault_time(millis(50), lock.ttl * 2);
        let kind = absence(story);
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
        let kind = separation(story, lock.ttl / 3);
        story.befalls("alice", kind, from, lasts);
    }
}

/// Agents die while they hold a lock, and come back; or are deployed anew beside themselves.
pub(super) fn crash(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(2, 4);
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
    let count = story.workload.between(3, 4);
    lockers(story, count, 1);
    // Over a slow link a write is more often under way when the power goes.
    some_latency(story);
    story.lasts(secs(60));
    power_goes(story);
}

/// The leader changes, three times: on request, by its death, because it stands still, or because nobody hears of it.
pub(super) fn leader_change(story: &mut Story) {
    some_markers(story);
    story.has_cluster(CLUSTER_SIZE);
    let count = story.workload.between(3, 4);
    let lock = lockers(story, count, 1);
    story.lasts(secs(80));
    for change in 0..3 {
        let from = story.fault_time(secs(5 + change * 25), secs(10 + change * 25));
        let lasts = story.fault_time(secs(1), lock.ttl * 2).min(secs(14));
        leader_goes(story, from, lasts);
    }
}

/// Two lives of credentials, while agents take locks all the time; some exchange theirs early, or are put out.
pub(super) fn through_rotation(story: &mut Story) {
    story.credentials(LIFE);
    let count = story.workload.between(2, 4);
    let ttl = story.workload_time(secs(8), secs(16));
    let lock = LockPlan {
        ttl,
        holds: ttl / 2,
        keys: 1,
    };
    enter(story, count, secs(2), lock);
    story.lasts(secs(420));
    credentials_go(story);
}

/// A storm: the seed draws which kinds of faults are on at all, and then as many as it likes of them.
pub(super) fn storm(story: &mut Story) {
    some_markers(story);
    let (count, keys) = (
        story.workload.between(2, 8),
        story.workload.between(1, 3) as u32,
    );
    if story.workload.chance(1, 6) {
        some_cluster(story);
    }
    some_latency(story);
    let lock = lockers(story, count, keys);
    story.lasts(secs(60));
    let kinds = some_strikes(story);
    if kinds.contains(&"power-loss") {
        story.world().delete_markers = None;
    }
    strike_with(story, &kinds, lock.ttl / 4);
}
