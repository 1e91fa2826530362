//! What happens to agents and servers in the stories of several rooms.
//!
//! A seed means what it means by the order in which these draw: whoever changes that tells other stories.

use std::time::Duration;

use super::{Story, millis, secs};
use crate::fault::{CLUSTER_SIZE, FaultKind, Member, Scope};

/// How long credentials are valid.
pub(super) const LIFE: Duration = secs(300);

/// Every other bucket keeps delete markers: everybody must be right with and without them.
pub(super) fn some_markers(story: &mut Story) {
    if story.workload.chance(1, 2) {
        story.world().delete_markers = Some(secs(2));
    }
}

/// Now and then links are slower than they are, and less even.
pub(super) fn some_latency(story: &mut Story) {
    if story.workload.chance(1, 3) {
        story.world().latency.base = millis(story.workload.between(1, 40));
        story.world().latency.jitter = millis(story.workload.between(0, 20));
    }
}

/// Three servers, and mostly as many copies.
pub(super) fn some_cluster(story: &mut Story) {
    let copies = if story.workload.chance(2, 3) {
        CLUSTER_SIZE
    } else {
        1
    };
    story.has_cluster(copies);
}

/// What may be wrong with somebody's clocks: they jump, drift, or stand still while the machine sleeps for as long as
/// `sleeps` draws.
pub(super) fn wrong_clock(
    story: &mut Story,
    agent: &str,
    from: Duration,
    lasts: Duration,
    sleeps: impl FnOnce(&mut Story) -> Duration,
) {
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
            let lasts = sleeps(story);
            story.befalls(agent, FaultKind::Suspend, from, lasts);
        }
    }
}

/// One of the ways in which somebody stands still.
pub(super) fn standstill(story: &mut Story) -> FaultKind {
    if story.faults.chance(1, 3) {
        FaultKind::Suspend
    } else {
        FaultKind::Pause
    }
}

/// One of the ways in which somebody is cut off, or nearly.
pub(super) fn separation(story: &mut Story, delay: Duration) -> FaultKind {
    let ways = story.directions();
    match story.faults.below(5) {
        0 | 1 => FaultKind::Partition(ways),
        2 => FaultKind::Blackhole(ways),
        3 => FaultKind::Delay(delay),
        _ => FaultKind::Cut,
    }
}

/// One of the ways in which a server goes away.
pub(super) fn absence(story: &mut Story) -> FaultKind {
    let kinds = [
        FaultKind::ServerStop,
        FaultKind::ServerPause,
        FaultKind::JetstreamMute,
    ];
    *story.faults.pick(&kinds).unwrap_or(&FaultKind::ServerStop)
}

/// The leader goes: on its own request, by its death, because it stands still, or because the other two hear nothing of
/// it. Which of the servers leads is not known beforehand: the last three may also happen to one that follows.
pub(super) fn leader_goes(story: &mut Story, from: Duration, lasts: Duration) {
    let server = story.some_server();
    match story.faults.below(5) {
        0 | 1 => story.befalls_member(server, FaultKind::LeaderChange, from, Duration::ZERO),
        2 => story.befalls_member(server, FaultKind::ServerStop, from, lasts),
        3 => story.befalls_member(server, FaultKind::ServerPause, from, lasts),
        _ => isolate(story, server, from, lasts),
    }
}

/// A server hears nothing of the others, nor they of it. Its clients still reach it.
pub(super) fn isolate(story: &mut Story, server: Member, from: Duration, lasts: Duration) {
    for other in Member::all(CLUSTER_SIZE).filter(|other| *other != server) {
        story.befalls_member(server, FaultKind::RoutePartition(other), from, lasts);
    }
}

/// Five times within a minute somebody gets no answers for two seconds.
pub(super) fn replies_get_lost(story: &mut Story) {
    for act in 0..5 {
        let from = story.fault_time(secs(2 + act * 12), secs(10 + act * 12));
        let whom = story.anybody();
        story.befalls(&whom, FaultKind::LoseReply, from, secs(2));
    }
}

/// The power goes twice within a minute.
pub(super) fn power_goes(story: &mut Story) {
    for outage in 0..2 {
        let from = story.fault_time(secs(5 + outage * 28), secs(15 + outage * 28));
        let lasts = story.fault_time(millis(50), secs(5));
        story.befalls_server(FaultKind::PowerLoss, from, lasts);
    }
}

/// Three times within two lives of credentials somebody exchanges them early, or is put out.
pub(super) fn credentials_go(story: &mut Story) {
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

/// What a storm strikes with: a seed means what it means by their order.
pub(super) const STRIKES: [&str; 17] = [
    "partition",
    "blackhole",
    "cut",
    "delay",
    "lose-reply",
    "pause",
    "suspend",
    "crash",
    "overlap",
    "jump",
    "drift",
    "server-stop",
    "server-pause",
    "jetstream-mute",
    "power-loss",
    "leader-change",
    "route-partition",
];

/// Whether it can strike one server, or a cluster.
pub(super) fn can_strike(kind: &str, is_cluster: bool) -> bool {
    match kind {
        "leader-change" | "route-partition" => is_cluster,
        "power-loss" => !is_cluster,
        _ => true,
    }
}

/// The kinds that are on in this storm, of those that can be.
pub(super) fn some_strikes(story: &mut Story) -> Vec<&'static str> {
    let is_cluster = story.world().is_cluster();
    let kinds = STRIKES
        .into_iter()
        .filter(|kind| can_strike(kind, is_cluster));
    kinds.filter(|_| story.faults.chance(1, 3)).collect()
}

/// As many faults of these kinds as the seed likes; `pace` is how often agents do something.
pub(super) fn strike_with(story: &mut Story, kinds: &[&str], pace: Duration) {
    for _ in 0..story.faults.between(1, 8) {
        if let Some(kind) = story.faults.pick(kinds) {
            strike(story, kind, pace);
        }
    }
}

/// One fault of this kind, somewhere, somewhen.
fn strike(story: &mut Story, kind: &str, pace: Duration) {
    let end = story.duration();
    let at = story.fault_time(millis(500), end - secs(2));
    let longest = (end - at).min(pace * 12);
    let lasts = story.fault_time(millis(50), longest);
    let whom = story.anybody();
    let far = i64::try_from(story.faults.between(1, 86_400)).unwrap_or(1) * 1_000_000_000;
    let ahead = story.faults.chance(1, 2);
    let kind = match kind {
        "partition" => FaultKind::Partition(story.directions()),
        "blackhole" => FaultKind::Blackhole(story.directions()),
        "cut" => FaultKind::Cut,
        "delay" => FaultKind::Delay(millis(story.faults.between(5, 1500))),
        "lose-reply" => FaultKind::LoseReply,
        "pause" => FaultKind::Pause,
        "suspend" => FaultKind::Suspend,
        "crash" => FaultKind::Crash,
        "overlap" => FaultKind::Overlap,
        "jump" => FaultKind::Jump(if ahead { far } else { -far }),
        "drift" => {
            let ppm = i64::try_from(story.faults.between(100, 30_000)).unwrap_or(100);
            FaultKind::Drift(if ahead { ppm } else { -ppm })
        }
        "server-stop" => FaultKind::ServerStop,
        "leader-change" => FaultKind::LeaderChange,
        "route-partition" => {
            let server = story.some_server();
            let other = Member((server.0 + 1) % CLUSTER_SIZE);
            story.befalls_member(server, FaultKind::RoutePartition(other), at, lasts);
            return;
        }
        "server-pause" => FaultKind::ServerPause,
        "power-loss" => FaultKind::PowerLoss,
        _ => FaultKind::JetstreamMute,
    };
    match kind.scope() {
        Scope::Agent => story.befalls(&whom, kind, at, lasts),
        Scope::Server | Scope::Cluster => story.befalls_server(kind, at, lasts),
        Scope::Auth => story.befalls_auth(kind, at, lasts),
    }
}
