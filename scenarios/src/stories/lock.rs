//! The scenarios of locks. How their stories are told is in `lock_acts.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_core::transport::Operation;

use super::{LOST_TAIL, Scenario, Sometimes, acts, any, lock_acts, told};
use crate::history::lock::{Call as LockCall, Tell as LockTell};
use crate::history::{Call, History, Tell, What};

pub(super) const SCENARIOS: [Scenario; 12] = [
    Scenario {
        name: "lock/calm",
        promise: "Agents take locks, renew them or let them run out; nobody has one that somebody else has.",
        roles: "2 to 4 agents and 1 to 3 locks",
        faults: &[],
        sometimes: &[HELD, WAITED, RENEWED, RAN_OUT],
        plan: lock_acts::calm,
    },
    Scenario {
        name: "lock/contention",
        promise: "Everybody wants one lock: it is handed over, one wakes for each release, and all have it in the end.",
        roles: "4 to 8 agents and one lock",
        faults: &[],
        sometimes: &[HELD, WAITED],
        plan: lock_acts::contention,
    },
    Scenario {
        name: "lock/paused-holder",
        promise: "A holder stands still for longer than its lock lives and wakes while somebody else has it: it knows, and what it \
                  does is refused.",
        roles: "2 to 4 agents that are paused, or sleep",
        faults: &["pause", "suspend"],
        sometimes: &[RAN_OUT, WAITED],
        plan: lock_acts::paused_holder,
    },
    Scenario {
        name: "lock/lost-reply",
        promise: "A write is applied and its answer lost: whoever wrote has the lock or nothing of it, and never for as long as it \
                  lives.",
        roles: "2 to 3 agents whose answers are lost, and locks that live long",
        faults: &["lose-reply"],
        sometimes: &[UNANSWERED, WAITED],
        plan: lock_acts::lost_reply,
    },
    Scenario {
        name: "lock/clock-chaos",
        promise: "Wall clocks jump by hours, crystals drift, machines sleep: no lock ends early, and none stays.",
        roles: "3 agents whose clocks are wrong, one of which may die",
        faults: &["jump", "drift", "suspend", "crash"],
        sometimes: &[RAN_OUT, WAITED],
        plan: lock_acts::clock_chaos,
    },
    Scenario {
        name: "lock/server-restart",
        promise: "The server stops, stands still or is silent: who holds a lock keeps it or knows better, and locks can be had again.",
        roles: "3 to 5 agents and a server that goes away twice",
        faults: &["server-stop", "server-pause", "jetstream-mute"],
        sometimes: &[RAN_OUT, UNANSWERED, WAITED],
        plan: lock_acts::server_restart,
    },
    Scenario {
        name: "lock/partition",
        promise: "A holder is cut off: it gives its lock up by its own clock before anybody else has it, and what it sent late is \
                  refused.",
        roles: "3 agents, one of which is cut off again and again",
        faults: &["partition", "blackhole", "cut", "delay"],
        sometimes: &[RAN_OUT, UNANSWERED, STALE],
        plan: lock_acts::partition,
    },
    Scenario {
        name: "lock/crash",
        promise: "A holder dies: its lock can be had once its life is over, and neither before nor much later.",
        roles: "2 to 4 agents, some of which crash and come back",
        faults: &["crash", "overlap"],
        sometimes: &[TAKEN_OVER, MARKED, WAITED],
        plan: lock_acts::crash,
    },
    Scenario {
        name: "lock/power-loss",
        promise: "The server loses its power and the end of what it acknowledged: holders find out, and tokens that are given \
                  out again have no effects before them.",
        roles: "3 to 4 agents and a server without power, twice",
        faults: &["power-loss"],
        sometimes: &[LOST_TAIL, UNANSWERED, WAITED],
        plan: lock_acts::power_loss,
    },
    Scenario {
        name: "lock/leader-change",
        promise: "The leader of a bucket with three copies goes: locks are neither lost nor held twice.",
        roles: "3 to 4 agents, each at one of three servers",
        faults: &[
            "leader-change",
            "server-stop",
            "server-pause",
            "route-partition",
        ],
        sometimes: &[UNANSWERED, WAITED],
        plan: lock_acts::leader_change,
    },
    Scenario {
        name: "lock/through-rotation",
        promise: "Credentials end and connections are replaced or put out: holders and those who wait do not notice.",
        roles: "2 to 4 agents on sessions",
        faults: &["rotate", "kick"],
        sometimes: &[WAITED, RENEWED],
        plan: lock_acts::through_rotation,
    },
    Scenario {
        name: "lock/storm",
        promise: "Any faults, any number of agents, any settings: all of the above.",
        roles: "2 to 8 agents and 1 to 3 locks",
        faults: &acts::STRIKES,
        sometimes: &[
            HELD, WAITED, RENEWED, RAN_OUT, STALE, UNANSWERED, TAKEN_OVER, MARKED, REPLACED,
            LOST_TAIL,
        ],
        plan: lock_acts::storm,
    },
];

// --- what must happen sometimes ---

const HELD: Sometimes = Sometimes {
    fact: "a lock was refused because somebody held it",
    reached: |_, history| {
        ends(history).any(|(call, end, _)| {
            let is_refused = matches!(end, What::Refused { conflict: true, .. });
            is_refused && matches!(call, LockCall::Acquire { .. })
        })
    },
};
const WAITED: Sometimes = Sometimes {
    fact: "somebody waited for a lock and got it",
    reached: |_, history| {
        ends(history).any(|(call, end, took)| {
            let waits = matches!(call, LockCall::Acquire { waits: Some(_), .. });
            waits && matches!(end, What::Ok { .. }) && took.as_millis() > 100
        })
    },
};
const RENEWED: Sometimes = Sometimes {
    fact: "a lock was renewed",
    reached: |_, history| {
        ends(history).any(|(call, end, _)| {
            matches!(call, LockCall::Refresh { .. }) && matches!(end, What::Ok { .. })
        })
    },
};
const STALE: Sometimes = Sometimes {
    fact: "an effect was refused because it came too late",
    reached: |_, history| {
        ends(history).any(|(call, end, _)| {
            let is_refused = matches!(end, What::Refused { conflict: true, .. });
            is_refused && matches!(call, LockCall::Effect { .. })
        })
    },
};
const RAN_OUT: Sometimes = Sometimes {
    fact: "a lock ran out under its holder",
    reached: |_, history| lost(history, "expired"),
};
const REPLACED: Sometimes = Sometimes {
    fact: "a holder found somebody else's record in the place of its own",
    reached: |_, history| lost(history, "replaced"),
};
const MARKED: Sometimes = Sometimes {
    fact: "the server ended the record of a lock",
    reached: |_, history| {
        any(history, |what| {
            matches!(what, What::Committed(commit)
                if commit.operation == Operation::Expire && commit.key.starts_with("l."))
        })
    },
};
const TAKEN_OVER: Sometimes = Sometimes {
    fact: "somebody took a lock over whose record was still there",
    reached: |_, history| {
        let mut latest = BTreeMap::new();
        history.0.iter().any(|record| match &record.what {
            What::Committed(commit) if commit.key.starts_with("l.") => {
                let own = commit.incarnation.as_ref();
                let before = latest.insert(&commit.key, own);
                matches!((before, own), (Some(Some(before)), Some(own)) if before != own)
            }
            _ => false,
        })
    },
};
const UNANSWERED: Sometimes = Sometimes {
    fact: "nobody knew whether the record of a lock was written",
    reached: |_, history| {
        let mut writes = BTreeSet::new();
        history.0.iter().any(|record| match &record.what {
            What::Invoke {
                id,
                call: Call::Write { key, .. },
                ..
            } if key.starts_with("l.") => {
                writes.insert(*id);
                false
            }
            What::Unknown { id, .. } => writes.contains(id),
            _ => false,
        })
    },
};

fn lost(history: &History, why: &str) -> bool {
    told(
        history,
        |tell| matches!(tell, Tell::Lock(LockTell::Lost { reason, .. }) if reason == why),
    )
}

/// What was asked of locks, how it ended, and how long that took.
fn ends(history: &History) -> impl Iterator<Item = (&LockCall, &What, Duration)> {
    super::ends(history).filter_map(|(call, end, took)| match call {
        Call::Lock(call) => Some((call, end, took)),
        _ => None,
    })
}
