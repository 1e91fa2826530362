//! The stories of shared state.
//!
//! What matters happens around the end of a value's life and around what breaks a watch: so lives are a few times the pace of
//! the agents, and what is done to them lasts about as long.

use std::time::Duration;

use super::acts::{
    LIFE, absence, credentials_go, leader_goes, power_goes, replies_get_lost, separation,
    some_cluster, some_latency, some_markers, some_strikes, standstill, strike_with, wrong_clock,
};
use super::{Story, millis, secs};
use crate::fault::{CLUSTER_SIZE, FaultKind};
use crate::plan::StatePlan;

/// So long may it take until everybody writes and sees what others write.
const SETTLES_IN: Duration = secs(90);

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

/// Nothing is done to anybody.
pub(super) fn calm(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(2, 4);
    keepers(story, count);
    story.lasts(secs(40));
}

/// Everybody's clocks are wrong, each in its own way.
pub(super) fn ttl_expiry(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(2, 4);
    let state = keepers(story, count);
    story.lasts(secs(50));
    for agent in ["alice", "bob"] {
        let from = story.fault_time(Duration::ZERO, secs(12));
        let lasts = story.fault_time(secs(5), secs(30));
        wrong_clock(story, agent, from, lasts, |story| {
            story.fault_time(state.life / 4, state.life * 2)
        });
    }
}

/// The server goes away, twice.
pub(super) fn watcher_restart(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(3, 5);
    keepers(story, count);
    story.lasts(secs(70));
    for outage in 0..2 {
        let from = story.fault_time(secs(5 + outage * 30), secs(12 + outage * 30));
        let lasts = story.fault_time(millis(200), secs(14));
        let kind = absence(story);
        story.befalls_server(kind, from, lasts);
    }
}

/// The power goes twice, and takes with it anything since the last sync.
pub(super) fn power_loss(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(3, 4);
    keepers(story, count);
    story.lasts(secs(60));
    power_goes(story);
}

/// Some take long over each thing that they are told, and then there is a moment of more delay still.
pub(super) fn slow_reader(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(3, 5);
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
    let count = story.workload.between(3, 5);
    keepers(story, count);
    story.lasts(secs(60));
    for act in 0..4 {
        let from = story.fault_time(secs(3 + act * 14), secs(6 + act * 14));
        let lasts = story.fault_time(secs(1), secs(10));
        let kind = standstill(story);
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
        let kind = separation(story, secs(1));
        story.befalls("alice", kind, from, lasts);
    }
}

/// Answers are lost one by one.
pub(super) fn lost_reply(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(2, 3);
    keepers(story, count);
    story.lasts(secs(70));
    replies_get_lost(story);
}

/// The leader changes, three times: on request, by its death, because it stands still, or because nobody hears of it.
pub(super) fn leader_change(story: &mut Story) {
    some_markers(story);
    story.has_cluster(CLUSTER_SIZE);
    let count = story.workload.between(3, 4);
    keepers(story, count);
    story.lasts(secs(80));
    for change in 0..3 {
        let from = story.fault_time(secs(5 + change * 25), secs(10 + change * 25));
        let lasts = story.fault_time(secs(1), secs(14));
        leader_goes(story, from, lasts);
    }
}

/// Two lives of credentials; some exchange theirs early, or are put out.
pub(super) fn through_rotation(story: &mut Story) {
    story.credentials(LIFE);
    let count = story.workload.between(2, 4);
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
    credentials_go(story);
}

/// A storm: the seed draws which kinds of faults are on at all, and then as many as it likes of them.
pub(super) fn storm(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(2, 6);
    if story.workload.chance(1, 6) {
        some_cluster(story);
    }
    some_latency(story);
    let state = keepers(story, count);
    if story.workload.chance(1, 3) {
        let dwells = story.workload_time(millis(200), secs(1));
        story.dwells("alice", dwells);
    }
    story.lasts(secs(60));
    let kinds = some_strikes(story);
    strike_with(story, &kinds, state.life / 4);
}
