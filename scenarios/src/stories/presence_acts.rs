//! The stories of presence.
//!
//! Entries live for three intervals: so what is done to agents is told in intervals, and lasts from less than one to many.

use std::time::Duration;

use super::acts::{
    STRIKES, absence, can_strike, isolate, leader_goes, some_cluster, some_latency, some_markers,
    standstill, strike_with, wrong_clock,
};
use super::{Story, millis, secs};
use crate::fault::{CLUSTER_SIZE, Directions, FaultKind, Member};

/// A heartbeat interval between half a second and two.
fn some_interval(story: &mut Story) -> Duration {
    let choices = [millis(500), secs(1), millis(1500), secs(2)];
    *story.workload.pick(&choices).unwrap_or(&secs(1))
}

/// Agents come, stay and leave. Nothing is done to anybody.
pub(super) fn calm(story: &mut Story) {
    some_markers(story);
    let interval = some_interval(story);
    let count = story.workload.between(3, 6) as usize;
    let agents = story.agents(count, interval);
    story.lasts(interval * 20);

    // The last one comes late, the first one leaves early.
    let late = story.workload_time(interval * 4, interval * 8);
    let early = story.workload_time(interval * 9, interval * 15);
    if let Some(last) = story.of(agents[count - 1]) {
        last.start = late;
    }
    if let Some(first) = story.of(agents[0]) {
        first.close = Some(early);
    }
    // Now and then another program writes among the entries what is none. It must harm nobody.
    if story.workload.chance(1, 3) {
        let at = story.workload_time(interval * 2, interval * 15);
        let values = [
            "",
            "{}",
            "not an entry",
            r#"{"agent_id":7,"project":"demo"}"#,
        ];
        let value = *story.workload.pick(&values).unwrap_or(&"");
        story.foreigner_writes(at, "robot", value);
    }
}

/// Bob dies without a word. He stays dead for longer than his entry lives, mostly, and comes back as another.
pub(super) fn missed_heartbeats(story: &mut Story) {
    some_markers(story);
    let interval = some_interval(story);
    let count = story.workload.between(3, 5) as usize;
    story.agents(count, interval);
    story.lasts(interval * 30);

    let dies = story.fault_time(interval * 3, interval * 10);
    let dead_for = story.fault_time(interval, interval * 12);
    story.befalls("bob", FaultKind::Crash, dies, dead_for);
}

/// Alice loses the server for longer than her entry lives. She must know it, the others must be told, and once the link
/// is back she must be there again, as another incarnation.
pub(super) fn partition_and_heal(story: &mut Story) {
    some_markers(story);
    let interval = some_interval(story);
    story.agents(3, interval);
    story.lasts(interval * 30);

    let cut_off = story.fault_time(interval * 3, interval * 8);
    let cut_off_for = story.fault_time(interval * 4, interval * 15);
    story.befalls(
        "alice",
        FaultKind::Partition(Directions::Both),
        cut_off,
        cut_off_for,
    );
    // Now and then the link is also reset while it is down, or right after.
    if story.faults.chance(1, 3) {
        let reset = story.fault_time(cut_off, cut_off + cut_off_for + interval);
        story.befalls("alice", FaultKind::Cut, reset, Duration::ZERO);
    }
}

/// Carol's link carries one way only, or swallows what it is given. Her silence, and everybody's silence to her, must not
/// be taken for death without proof.
pub(super) fn one_way_silence(story: &mut Story) {
    some_markers(story);
    let interval = some_interval(story);
    story.agents(3, interval);
    story.lasts(interval * 35);

    for _ in 0..2 {
        let from = story.fault_time(interval * 3, interval * 18);
        let lasts = story.fault_time(interval, interval * 12);
        let ways = story.directions();
        let kind = if story.faults.chance(1, 2) {
            FaultKind::Partition(ways)
        } else {
            FaultKind::Blackhole(ways)
        };
        story.befalls("carol", kind, from, lasts);
    }
}

/// Alice stands still while the others live on. When she wakes, her mailbox is full and her timers are all overdue: she
/// must read before she judges.
pub(super) fn paused_watcher(story: &mut Story) {
    some_markers(story);
    let interval = some_interval(story);
    let count = story.workload.between(3, 5) as usize;
    story.agents(count, interval);
    story.lasts(interval * 40);

    for _ in 0..2 {
        let from = story.fault_time(interval * 3, interval * 20);
        let lasts = story.fault_time(interval * 2, interval * 15);
        let kind = standstill(story);
        story.befalls("alice", kind, from, lasts);
    }
}

/// Bob is deployed anew, three times: the new incarnation starts, and only then is the old one closed. Its last beats
/// and its deletion may be late, paused or unanswered.
pub(super) fn restart_overlap(story: &mut Story) {
    some_markers(story);
    let interval = some_interval(story);
    story.agents(3, interval);
    story.lasts(interval * 40);

    for deploy in 0..3 {
        let from = story.fault_time(interval * (3 + deploy * 10), interval * (8 + deploy * 10));
        let both_for = story.fault_time(millis(50), interval * 4);
        story.befalls("bob", FaultKind::Overlap, from, both_for);
        let trouble = from + story.fault_time(Duration::ZERO, both_for);
        let lasts = story.fault_time(millis(100), interval * 3);
        match story.faults.below(5) {
            0 => story.befalls("bob", FaultKind::LoseReply, trouble, interval * 2),
            1 => story.befalls("bob", FaultKind::Pause, trouble, lasts),
            2 => story.befalls("bob", FaultKind::Delay(interval / 2), trouble, lasts),
            3 => story.befalls(
                "bob",
                FaultKind::Partition(Directions::Both),
                trouble,
                lasts,
            ),
            _ => {}
        }
    }
}

/// Everybody's clocks are wrong, each in its own way, and in the middle of it somebody dies.
pub(super) fn clock_chaos(story: &mut Story) {
    some_markers(story);
    let interval = some_interval(story);
    let agents = story.agents(4, interval);
    story.lasts(interval * 40);

    for agent in &agents {
        let from = story.fault_time(Duration::ZERO, interval * 10);
        let lasts = story.fault_time(interval * 5, interval * 20);
        wrong_clock(story, agent, from, lasts, |_| lasts);
    }
    let dies = story.fault_time(interval * 5, interval * 20);
    let dead_for = story.fault_time(interval * 4, interval * 15);
    story.befalls("dave", FaultKind::Crash, dies, dead_for);
}

/// Alice beats twenty times as slowly as the fastest. Nobody's joining may shorten her life; and when a fast one dies,
/// everybody must know within *its* life, not hers.
pub(super) fn mixed_intervals(story: &mut Story) {
    some_markers(story);
    let fast = millis(500);
    let slow = story.workload_time(secs(3), secs(10));
    story.agent(slow);
    let others = story.workload.between(2, 4) as usize;
    let agents = story.agents(others, fast);
    story.lasts(slow * 6);
    story.settles_within(slow * 5);

    // Somebody joins when the slow one is long there.
    let joins = story.workload_time(slow, slow * 2);
    if let Some(last) = story.of(agents[others - 1]) {
        last.start = joins;
    }
    let dies = story.fault_time(slow * 2, slow * 4);
    let dead_for = story.fault_time(fast * 2, slow);
    story.befalls("bob", FaultKind::Crash, dies, dead_for);
}

/// The server goes away, once or twice, in one of three ways.
pub(super) fn server_restart(story: &mut Story) {
    some_markers(story);
    let interval = some_interval(story);
    let count = story.workload.between(3, 6) as usize;
    story.agents(count, interval);
    story.lasts(interval * 45);

    for outage in 0..2 {
        let from = story.fault_time(interval * (3 + outage * 20), interval * (8 + outage * 20));
        let lasts = story.fault_time(millis(50), interval * 11);
        let kind = absence(story);
        story.befalls_server(kind, from, lasts);
    }
}

/// The power goes once or twice. What it takes goes back to anywhere between the last sync and the last word, and beside it
/// somebody dies or is cut off: his last words may be undone, too.
pub(super) fn power_loss(story: &mut Story) {
    some_markers(story);
    let interval = some_interval(story);
    let count = story.workload.between(3, 6) as usize;
    story.agents(count, interval);
    story.lasts(interval * 45);

    for outage in 0..2 {
        let from = story.fault_time(interval * (3 + outage * 20), interval * (8 + outage * 20));
        let lasts = story.fault_time(millis(50), interval * 6);
        story.befalls_server(FaultKind::PowerLoss, from, lasts);
        let trouble = story.fault_time(from - interval * 3, from + lasts);
        let trouble_for = story.fault_time(interval, interval * 8);
        let whom = story.anybody();
        match story.faults.below(3) {
            0 => story.befalls(&whom, FaultKind::Crash, trouble, trouble_for),
            1 => {
                let ways = story.directions();
                story.befalls(&whom, FaultKind::Partition(ways), trouble, trouble_for);
            }
            _ => {}
        }
    }
}

/// So long may a cluster take to be well: an election, a client that moves, and the waits in between.
const CLUSTER_SETTLES_IN: Duration = secs(60);

/// The leader changes, three times, each time in another way.
pub(super) fn leader_change(story: &mut Story) {
    some_markers(story);
    story.has_cluster(CLUSTER_SIZE);
    story.settles_within(CLUSTER_SETTLES_IN);
    let interval = some_interval(story);
    let count = story.workload.between(3, 5) as usize;
    story.agents(count, interval);
    story.lasts(interval * 60);

    for change in 0..3 {
        let from = story.fault_time(interval * (3 + change * 18), interval * (6 + change * 18));
        let lasts = story.fault_time(interval, interval * 12);
        leader_goes(story, from, lasts);
    }
}

/// Two of the servers stop, or all three lose each other. Whoever is connected to one that is left still reads.
pub(super) fn lost_quorum(story: &mut Story) {
    some_markers(story);
    story.has_cluster(CLUSTER_SIZE);
    story.settles_within(CLUSTER_SETTLES_IN);
    let interval = some_interval(story);
    let count = story.workload.between(3, 5) as usize;
    story.agents(count, interval);
    story.lasts(interval * 50);

    for outage in 0..2 {
        let from = story.fault_time(interval * (3 + outage * 22), interval * (8 + outage * 22));
        let lasts = story.fault_time(interval, interval * 14);
        let left = story.some_server();
        if story.faults.chance(2, 3) {
            for server in Member::all(CLUSTER_SIZE).filter(|server| *server != left) {
                let after = story.fault_time(Duration::ZERO, interval);
                story.befalls_member(server, FaultKind::ServerStop, from + after, lasts);
            }
        } else {
            isolate(story, left, from, lasts);
            isolate(story, Member((left.0 + 1) % CLUSTER_SIZE), from, lasts);
        }
    }
}

/// A storm: the seed draws which kinds of faults are on at all, and then as many as it likes of them.
pub(super) fn storm(story: &mut Story) {
    some_markers(story);
    let count = story.workload.between(2, 8) as usize;
    let shared = some_interval(story);
    let mixed = story.workload.chance(1, 4);
    for _ in 0..count {
        let interval = if mixed { some_interval(story) } else { shared };
        story.agent(interval);
    }
    some_latency(story);
    story.lasts(secs(60));
    let is_cluster = story.workload.chance(1, 6);
    if is_cluster {
        some_cluster(story);
        story.settles_within(CLUSTER_SETTLES_IN);
    }

    let kinds = STRIKES.iter().copied();
    let kinds = kinds.filter(|_| story.faults.chance(1, 3));
    let kinds: Vec<&str> = kinds.collect();
    let kinds: Vec<&str> = kinds
        .iter()
        .filter(|kind| can_strike(kind, is_cluster))
        .copied()
        .collect();
    strike_with(story, &kinds, shared);
}
