//! How the stories of chat are told.

use std::num::NonZeroU32;
use std::time::Duration;

use super::acts::{absence, leader_goes, some_cluster, some_latency, some_strikes, strike_with};
use super::{Story, millis, secs};
use crate::fault::{CLUSTER_SIZE, Directions, FaultKind};

/// Two names that come to the same id in the project of all stories.
const TWINS: [&str; 2] = ["room-12069", "room-24747"];

/// Credentials of agents that talk live so long.
const LIFE: Duration = secs(60);

/// So long may a cluster take to be well: an election, a client that moves, and the waits in between.
const CLUSTER_SETTLES_IN: Duration = secs(60);

/// A pace between half a second and two.
fn some_interval(story: &mut Story) -> Duration {
    let choices = [millis(500), secs(1), millis(1500), secs(2)];
    *story.workload.pick(&choices).unwrap_or(&secs(1))
}

/// So many agents, in one of two threads each.
fn talkers(story: &mut Story, least: u64, most: u64, interval: Duration) -> Vec<&'static str> {
    let count = story.workload.between(least, most) as usize;
    (0..count)
        .map(|_| {
            let name = story.talker(interval);
            if story.workload.chance(1, 3) {
                story.chats(name, |chat| chat.thread = "lunch".to_owned());
            }
            name
        })
        .collect()
}

/// Agents join, talk and leave. Nothing is done to anybody.
pub(super) fn calm(story: &mut Story) {
    let interval = some_interval(story);
    let agents = talkers(story, 3, 5, interval);
    story.lasts(interval * 20);
    // The last one comes late, the first one leaves early.
    let late = story.workload_time(interval * 4, interval * 8);
    let early = story.workload_time(interval * 9, interval * 15);
    if let Some(last) = agents.last().and_then(|last| story.of(last)) {
        last.start = late;
    }
    if let Some(first) = agents.first().and_then(|first| story.of(first)) {
        first.close = Some(early);
    }
}

/// The server goes away, twice, in one of three ways.
pub(super) fn server_restart(story: &mut Story) {
    let interval = some_interval(story);
    talkers(story, 3, 5, interval);
    story.lasts(interval * 45);
    for outage in 0..2 {
        let from = story.fault_time(interval * (3 + outage * 20), interval * (8 + outage * 20));
        let lasts = story.fault_time(millis(50), interval * 11);
        let kind = absence(story);
        story.befalls_server(kind, from, lasts);
    }
}

/// Alice watches, and loses the server before anybody has said a word. The others come while she is away.
pub(super) fn young_watch(story: &mut Story) {
    let interval = some_interval(story);
    let agents = talkers(story, 3, 5, interval);
    story.lasts(interval * 20 + secs(45));
    for other in agents.iter().skip(1) {
        let comes = story.workload_time(interval, interval * 4);
        if let Some(agent) = story.of(other) {
            agent.start = comes;
        }
    }
    if let Some(alice) = story.of("alice") {
        alice.start = Duration::ZERO;
    }
    let from = story.fault_time(interval / 2, interval);
    let lasts = story.fault_time(interval * 5, interval * 15);
    let kind = if story.faults.chance(1, 3) {
        FaultKind::Blackhole(Directions::Both)
    } else {
        FaultKind::Partition(story.directions())
    };
    story.befalls("alice", kind, from, lasts);
}

/// Acknowledgements are lost, one after the other; now and then nothing is heard for longer than a send goes on.
pub(super) fn lost_reply(story: &mut Story) {
    let interval = some_interval(story);
    talkers(story, 2, 4, interval);
    story.lasts(interval * 20 + secs(30));
    for _ in 0..4 {
        let whom = story.anybody();
        let from = story.fault_time(interval * 2, interval * 20);
        story.befalls(&whom, FaultKind::LoseReply, from, interval * 3);
    }
    if story.faults.chance(1, 3) {
        let whom = story.anybody();
        let from = story.fault_time(interval * 3, interval * 10);
        let lasts = story.fault_time(secs(4), secs(22));
        let deaf = FaultKind::Partition(Directions::ToAgent);
        story.befalls(&whom, deaf, from, lasts);
    }
}

/// Bob reads slower than the others talk; now and then he stands still as well.
pub(super) fn slow_reader(story: &mut Story) {
    let interval = some_interval(story);
    talkers(story, 3, 5, interval);
    story.lasts(interval * 40);
    let reads = story.workload.between(1, 4) as u32;
    let buffer = story.workload.between(1, 6) as u32;
    let buffer = NonZeroU32::new(buffer).unwrap_or(NonZeroU32::MIN);
    story.dwells("bob", interval * reads / 2);
    story.chats("bob", |chat| chat.buffer = buffer);
    if story.faults.chance(1, 2) {
        let from = story.fault_time(interval * 5, interval * 25);
        let lasts = story.fault_time(interval, interval * 8);
        story.befalls("bob", FaultKind::Pause, from, lasts);
    }
}

/// While alice is cut off, dave joins, and from then on messages live short.
pub(super) fn retention_shrink(story: &mut Story) {
    let interval = some_interval(story);
    let agents = talkers(story, 3, 4, interval);
    story.lasts(interval * 45);
    let from = story.fault_time(interval * 4, interval * 8);
    let lasts = story.fault_time(interval * 6, interval * 18);
    let ways = story.directions();
    story.befalls("alice", FaultKind::Partition(ways), from, lasts);
    if let Some(last) = agents.last() {
        let joins = story.workload_time(interval * 6, interval * 16);
        let lives = story.workload_time(interval, interval * 6);
        if let Some(agent) = story.of(last) {
            agent.start = joins;
        }
        story.chats(last, |chat| chat.retention = lives);
    }
}

/// Agents talk in two threads that have one id. Some come when that can be seen, some before.
pub(super) fn thread_name_collision(story: &mut Story) {
    let interval = some_interval(story);
    let agents = talkers(story, 3, 5, interval);
    story.lasts(interval * 30);
    for (place, agent) in agents.iter().enumerate() {
        story.chats(agent, |chat| chat.thread = TWINS[place % 2].to_owned());
        let late = story.workload.chance(1, 3);
        let start = match late {
            true => story.workload_time(interval * 3, interval * 10),
            false => story.workload_time(Duration::ZERO, interval / 2),
        };
        if let Some(agent) = story.of(agent) {
            agent.start = start;
        }
    }
    if story.faults.chance(1, 2) {
        let whom = story.anybody();
        let from = story.fault_time(interval * 2, interval * 15);
        let lasts = story.fault_time(interval, interval * 8);
        let ways = story.directions();
        story.befalls(&whom, FaultKind::Partition(ways), from, lasts);
    }
}

/// Messages live hardly longer than it takes to read them, and everybody reads all the time.
pub(super) fn scan_under_expiry(story: &mut Story) {
    let interval = millis(500);
    let agents = talkers(story, 4, 6, interval);
    story.lasts(secs(50));
    let lives = story.workload_time(millis(400), secs(2));
    for agent in agents {
        let every = story.workload_time(millis(100), millis(400));
        if let Some(agent) = story.of(agent) {
            agent.who_every = Some(every);
        }
        story.chats(agent, |chat| chat.retention = lives);
    }
}

/// Somebody dies, and is born again a while later; and somebody else does.
pub(super) fn crash_and_resume(story: &mut Story) {
    let interval = some_interval(story);
    talkers(story, 3, 5, interval);
    story.lasts(interval * 40);
    for death in 0..2 {
        let whom = story.anybody();
        let from = story.fault_time(interval * (4 + death * 16), interval * (12 + death * 16));
        let lasts = story.fault_time(millis(100), interval * 6);
        story.befalls(&whom, FaultKind::Crash, from, lasts);
    }
}

/// The power goes, once or twice; mostly somebody is cut off and comes back when others have talked on.
pub(super) fn power_loss(story: &mut Story) {
    let interval = some_interval(story);
    talkers(story, 3, 5, interval);
    story.lasts(interval * 45);
    for outage in 0..2 {
        let from = story.fault_time(interval * (4 + outage * 20), interval * (8 + outage * 20));
        let lasts = story.fault_time(millis(50), interval * 3);
        story.befalls_server(FaultKind::PowerLoss, from, lasts);
        if story.faults.chance(2, 3) {
            let whom = story.anybody();
            let since = story.fault_time(from.saturating_sub(interval * 2), from + lasts);
            let lasts = story.fault_time(interval, interval * 12);
            let ways = story.directions();
            story.befalls(&whom, FaultKind::Partition(ways), since, lasts);
        }
    }
}

/// The leader changes, three times, each time in another way.
pub(super) fn leader_change(story: &mut Story) {
    story.has_cluster(CLUSTER_SIZE);
    story.settles_within(CLUSTER_SETTLES_IN);
    let interval = some_interval(story);
    talkers(story, 3, 4, interval);
    story.lasts(interval * 60);
    for change in 0..3 {
        let from = story.fault_time(interval * (3 + change * 18), interval * (6 + change * 18));
        let lasts = story.fault_time(interval, interval * 12);
        leader_goes(story, from, lasts);
    }
}

/// Credentials live a minute. They end, are exchanged, are void, and whoever issues them is away.
pub(super) fn through_rotation(story: &mut Story) {
    story.credentials(LIFE);
    let interval = some_interval(story);
    talkers(story, 2, 4, interval);
    story.lasts(secs(150));
    let strikes = story.faults.between(1, 5);
    for _ in 0..strikes {
        let whom = story.anybody();
        let at = story.fault_time(secs(5), secs(130));
        let lasts = story.fault_time(secs(1), secs(15));
        match story.faults.below(6) {
            0 | 1 => story.befalls(&whom, FaultKind::Rotate, at, Duration::ZERO),
            2 => story.befalls(&whom, FaultKind::Kick, at, Duration::ZERO),
            3 => story.befalls(&whom, FaultKind::Revoke, at, Duration::ZERO),
            4 => story.befalls_auth(FaultKind::Auth5xx, at, lasts),
            _ => {
                let ways = story.directions();
                story.befalls(&whom, FaultKind::Partition(ways), at, lasts);
            }
        }
    }
}

/// A storm: the seed draws which kinds of faults are on at all, and then as many as it likes of them.
pub(super) fn storm(story: &mut Story) {
    let interval = some_interval(story);
    let agents = talkers(story, 2, 6, interval);
    if story.workload.chance(1, 6) {
        some_cluster(story);
        story.settles_within(CLUSTER_SETTLES_IN);
    }
    some_latency(story);
    story.lasts(secs(60));
    for agent in &agents {
        if story.workload.chance(1, 5) {
            let dwells = interval * story.workload.between(1, 3) as u32;
            story.dwells(agent, dwells);
            story.chats(agent, |chat| {
                chat.buffer = NonZeroU32::MIN.saturating_add(2)
            });
        }
    }
    if story.workload.chance(1, 3) {
        let lives = story.workload_time(secs(2), secs(20));
        for agent in &agents {
            story.chats(agent, |chat| chat.retention = lives);
        }
    }
    let kinds = some_strikes(story);
    strike_with(story, &kinds, interval);
}
