//! The stories of rotation.
//!
//! Most of what can go wrong does so when credentials are exchanged, half a minute before they end, and when they end. So
//! the stories are told around these times: every agent's own, as it starts.

use std::time::Duration;

use super::acts::LIFE;
use super::{Story, millis, secs};
use crate::fault::{Directions, FaultKind, Scope};

/// When an agent exchanges them, from its start.
const REFRESH: Duration = secs(270);

/// So many users, who do something every few seconds.
fn users(story: &mut Story, fewest: u64, most: u64) -> Vec<&'static str> {
    story.credentials(LIFE);
    let interval = some_pace(story);
    let count = story.workload.between(fewest, most);
    (0..count).map(|_| story.user(interval)).collect()
}

fn some_pace(story: &mut Story) -> Duration {
    let choices = [secs(2), secs(3), secs(5)];
    *story.workload.pick(&choices).unwrap_or(&secs(3))
}

/// Around the time at which everybody exchanges credentials for the nth time, or they end.
fn around_exchange(story: &mut Story, nth: u32) -> Duration {
    let exchange = REFRESH * nth;
    story.fault_time(exchange - secs(20), exchange + secs(45))
}

/// Two lives and a little, and nothing happens but time.
pub(super) fn calm(story: &mut Story) {
    users(story, 2, 4);
    let beats = some_pace(story);
    story.agent(beats);
    story.lasts(LIFE * 2 + secs(30));
    story.world().latency.base = millis(story.workload.between(1, 40));
}

/// Alice and bob are put out at some time, perhaps while they exchange.
pub(super) fn kick(story: &mut Story) {
    let users = users(story, 2, 4);
    story.lasts(secs(420));
    for user in &users[..2] {
        let at = if story.faults.chance(1, 2) {
            around_exchange(story, 1)
        } else {
            story.fault_time(secs(10), secs(400))
        };
        story.befalls(user, FaultKind::Kick, at, Duration::ZERO);
    }
    if story.faults.chance(1, 3) {
        let slow = FaultKind::AuthSlow(story.fault_time(secs(1), secs(20)));
        story.befalls_auth(slow, secs(250), secs(60));
    }
}

/// What bob was issued is void from some time on.
pub(super) fn revoked_user(story: &mut Story) {
    users(story, 3, 3);
    story.lasts(secs(420));
    let at = if story.faults.chance(1, 2) {
        around_exchange(story, 1)
    } else {
        story.fault_time(secs(10), secs(380))
    };
    story.befalls("bob", FaultKind::Revoke, at, Duration::ZERO);
    if story.faults.chance(1, 3) {
        let slow = FaultKind::AuthSlow(story.fault_time(secs(1), secs(10)));
        story.befalls_auth(slow, at.saturating_sub(secs(1)), secs(30));
    }
}

/// What everybody was issued is void from some time on, without a word.
pub(super) fn revoked_signing_key(story: &mut Story) {
    users(story, 3, 3);
    story.lasts(secs(420));
    let at = if story.faults.chance(1, 2) {
        around_exchange(story, 1)
    } else {
        story.fault_time(secs(10), secs(380))
    };
    story.befalls_auth(FaultKind::RevokeSigner, at, Duration::ZERO);
}

/// The auth service is away, or slow, from before credentials are due until after they have ended, mostly.
pub(super) fn issuer_down(story: &mut Story) {
    users(story, 2, 4);
    story.lasts(secs(600));
    let from = story.fault_time(REFRESH - secs(20), LIFE);
    let lasts = story.fault_time(secs(5), secs(240));
    let kind = if story.faults.chance(3, 4) {
        FaultKind::Auth5xx
    } else {
        FaultKind::AuthSlow(story.fault_time(secs(5), secs(60)))
    };
    story.befalls_auth(kind, from, lasts);
}

/// The issuer's clock is off for some time, and perhaps an agent's.
pub(super) fn skewed_clocks(story: &mut Story) {
    users(story, 2, 4);
    story.lasts(secs(700));
    let nanos = |seconds: u64| i64::try_from(seconds).unwrap_or(0) * 1_000_000_000;
    let off = nanos(story.faults.between(5, 60));
    let off = if story.faults.chance(1, 2) { off } else { -off };
    let from = story.fault_time(Duration::ZERO, secs(280));
    let lasts = story.fault_time(secs(30), secs(300));
    story.befalls_auth(FaultKind::AuthSkew(off), from, lasts);
    if story.faults.chance(1, 2) {
        let off = nanos(story.faults.between(5, 240));
        let off = if story.faults.chance(1, 3) { off } else { -off };
        let from = story.fault_time(secs(5), secs(280));
        let lasts = story.fault_time(secs(30), secs(350));
        story.befalls("alice", FaultKind::Jump(off), from, lasts);
    }
}

/// Alice and bob do something every half second, and several things want their connections replaced at once.
pub(super) fn racing_callers(story: &mut Story) {
    story.credentials(LIFE);
    let users = [story.user(millis(500)), story.user(millis(500))];
    story.lasts(secs(60));
    story.world().latency.base = millis(story.workload.between(1, 30));
    story.world().latency.jitter = millis(story.workload.between(0, 10));
    for _ in 0..3 {
        let whom = users[usize::from(story.faults.chance(1, 2))];
        let at = story.fault_time(secs(3), secs(50));
        let orders = story.faults.between(2, 4);
        for _ in 0..orders {
            let a_little_later = at + story.fault_time(Duration::ZERO, millis(30));
            story.befalls(whom, FaultKind::Rotate, a_little_later, Duration::ZERO);
        }
        if story.faults.chance(1, 2) {
            let kind = if story.faults.chance(1, 2) {
                FaultKind::Kick
            } else {
                FaultKind::Cut
            };
            let close = story.fault_time(at.saturating_sub(millis(50)), at + millis(100));
            story.befalls(whom, kind, close, Duration::ZERO);
        }
    }
}

/// Twenty agents that start together. In some runs the auth service is away over the end of what they hold.
pub(super) fn one_second(story: &mut Story) {
    story.credentials(LIFE);
    for _ in 0..20 {
        let name = story.user(secs(10));
        let start = story.workload_time(Duration::ZERO, millis(400));
        if let Some(agent) = story.of(name) {
            agent.start = start;
            // What each sees of all others is another story.
            agent.watch = false;
        }
    }
    story.lasts(secs(380));
    if story.faults.chance(1, 2) {
        let lasts = story.fault_time(secs(35), secs(60));
        story.befalls_auth(FaultKind::Auth5xx, REFRESH - secs(5), lasts);
    }
}

/// The server is away around the time of an exchange.
pub(super) fn server_restart(story: &mut Story) {
    users(story, 3, 5);
    story.lasts(secs(640));
    for nth in 1..=2 {
        let at = around_exchange(story, nth);
        let lasts = story.fault_time(millis(100), secs(60));
        let kind = if story.faults.chance(3, 4) {
            FaultKind::ServerStop
        } else {
            FaultKind::ServerPause
        };
        story.befalls_server(kind, at, lasts);
    }
}

/// Carol may not use JetStream for a while.
pub(super) fn narrowed_permissions(story: &mut Story) {
    users(story, 3, 3);
    story.lasts(secs(200));
    let from = story.fault_time(secs(10), secs(60));
    let lasts = story.fault_time(secs(20), secs(120));
    story.befalls("carol", FaultKind::NarrowPermissions, from, lasts);
}

/// Alice's machine sleeps, or she stands still, from some time until after what she holds has ended, mostly.
pub(super) fn sleep(story: &mut Story) {
    users(story, 3, 3);
    story.lasts(secs(900));
    let from = story.fault_time(secs(100), LIFE);
    let lasts = story.fault_time(secs(20), secs(500));
    let kind = if story.faults.chance(2, 3) {
        FaultKind::Suspend
    } else {
        FaultKind::Pause
    };
    story.befalls("alice", kind, from, lasts);
}

/// JetStream falls silent for longer than a write waits for its answer.
pub(super) fn slow_jetstream(story: &mut Story) {
    users(story, 2, 4);
    story.lasts(secs(330));
    for _ in 0..2 {
        let from = story.fault_time(secs(40), secs(250));
        let lasts = story.fault_time(secs(3), secs(40));
        story.befalls_server(FaultKind::JetstreamMute, from, lasts);
    }
}

/// Carol's link swallows everything, or what she would hear.
pub(super) fn half_open(story: &mut Story) {
    story.credentials(LIFE);
    for _ in 0..3 {
        story.user(secs(2));
    }
    story.lasts(secs(330));
    let from = story.fault_time(secs(20), secs(150));
    let lasts = story.fault_time(secs(20), secs(150));
    let ways = if story.faults.chance(1, 2) {
        Directions::Both
    } else {
        Directions::ToAgent
    };
    story.befalls("carol", FaultKind::Blackhole(ways), from, lasts);
}

/// Everybody comes and goes between two accounts, while the auth service takes its time.
pub(super) fn accounts(story: &mut Story) {
    let users = users(story, 3, 3);
    story.lasts(secs(180));
    for user in users {
        let mut at = secs(5);
        for _ in 0..2 {
            let from = story.fault_time(at, at + secs(40));
            let lasts = story.fault_time(millis(20), secs(30));
            let kind = if story.faults.chance(1, 2) {
                FaultKind::Logout
            } else {
                FaultKind::SwitchAccount
            };
            story.befalls(user, kind, from, lasts);
            at = from + lasts + millis(10);
            if story.faults.chance(1, 3) {
                let close = story.fault_time(from.saturating_sub(secs(1)), from + secs(1));
                story.befalls(user, FaultKind::Rotate, close, Duration::ZERO);
            }
        }
    }
    if story.faults.chance(1, 2) {
        let slow = FaultKind::AuthSlow(story.fault_time(millis(100), secs(8)));
        story.befalls_auth(slow, secs(1), secs(150));
    }
}

/// Disks fail around the time of an exchange, or at any other, and their agents die, log out and exchange meanwhile.
pub(super) fn disk(story: &mut Story) {
    let users = users(story, 2, 3);
    story.lasts(secs(420));
    for user in users {
        let from = if story.faults.chance(1, 2) {
            around_exchange(story, 1)
        } else {
            story.fault_time(secs(10), secs(350))
        };
        let lasts = story.fault_time(secs(1), secs(40));
        let kind = match story.faults.below(3) {
            0 => FaultKind::TornWrite,
            // Of the steps of a write, any may be the first that fails.
            _ => FaultKind::IoError(story.faults.below(8) as u32),
        };
        story.befalls(user, kind, from, lasts);
        let meanwhile = story.fault_time(from, from + lasts);
        match story.faults.below(4) {
            0 => story.befalls(user, FaultKind::Crash, meanwhile, millis(500)),
            1 => story.befalls(user, FaultKind::Logout, meanwhile, secs(3)),
            _ => story.befalls(user, FaultKind::Rotate, meanwhile, Duration::ZERO),
        }
        if story.faults.chance(1, 2) {
            let later = story.fault_time(from + lasts, secs(410));
            story.befalls(user, FaultKind::Crash, later, secs(1));
        }
    }
}

/// What a storm strikes with: a seed means what it means by their order.
pub(super) const STRIKES: [&str; 20] = [
    "partition",
    "blackhole",
    "cut",
    "delay",
    "pause",
    "suspend",
    "crash",
    "jump",
    "server-stop",
    "server-pause",
    "rotate",
    "kick",
    "revoke",
    "revoke-signer",
    "auth-401",
    "auth-5xx",
    "auth-slow",
    "auth-skew",
    "narrow-permissions",
    "logout",
];

/// A storm: the seed draws which kinds of faults are on at all, and then as many as it likes of them.
pub(super) fn storm(story: &mut Story) {
    users(story, 2, 5);
    if story.workload.chance(1, 2) {
        let beats = some_pace(story);
        story.agent(beats);
    }
    story.lasts(secs(600));
    story.settles_within(secs(60));
    let kinds: Vec<&str> = STRIKES
        .iter()
        .copied()
        .filter(|_| story.faults.chance(1, 3))
        .collect();
    let strikes = story.faults.between(1, 8);
    for _ in 0..strikes {
        let Some(kind) = story.faults.pick(&kinds).copied() else {
            return;
        };
        strike(story, kind);
    }
}

/// One fault of this kind, mostly around the time of an exchange.
fn strike(story: &mut Story, kind: &str) {
    let at = if story.faults.chance(2, 3) {
        let nth = 1 + u32::from(story.faults.chance(1, 2));
        around_exchange(story, nth)
    } else {
        story.fault_time(secs(1), secs(580))
    };
    let at = at.min(secs(590));
    let lasts = story.fault_time(millis(50), secs(120).min(secs(600) - at));
    let whom = story.anybody();
    let off = i64::try_from(story.faults.between(1, 90)).unwrap_or(1) * 1_000_000_000;
    let off = if story.faults.chance(1, 2) { off } else { -off };
    let kind = match kind {
        "partition" => FaultKind::Partition(story.directions()),
        "blackhole" => FaultKind::Blackhole(Directions::Both),
        "cut" => FaultKind::Cut,
        "delay" => FaultKind::Delay(millis(story.faults.between(5, 1500))),
        "pause" => FaultKind::Pause,
        "suspend" => FaultKind::Suspend,
        "crash" => FaultKind::Crash,
        "jump" => FaultKind::Jump(off),
        "server-stop" => FaultKind::ServerStop,
        "server-pause" => FaultKind::ServerPause,
        "rotate" => FaultKind::Rotate,
        "kick" => FaultKind::Kick,
        "revoke" => FaultKind::Revoke,
        "revoke-signer" => FaultKind::RevokeSigner,
        "auth-401" => FaultKind::Auth401,
        "auth-5xx" => FaultKind::Auth5xx,
        "auth-slow" => FaultKind::AuthSlow(story.fault_time(millis(100), secs(40))),
        "auth-skew" => FaultKind::AuthSkew(off),
        "narrow-permissions" => FaultKind::NarrowPermissions,
        _ => FaultKind::Logout,
    };
    match kind.scope() {
        Scope::Agent => story.befalls(&whom, kind, at, lasts),
        Scope::Server | Scope::Cluster => story.befalls_server(kind, at, lasts),
        Scope::Auth => story.befalls_auth(kind, at, lasts),
    }
}
