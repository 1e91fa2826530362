//! The scenarios of shared state. How their stories are told is in `state_acts.rs`.

use squall_core::transport::Operation;

use super::{LOST_TAIL, Scenario, Sometimes, acts, any, ends, state_acts, told};
use crate::history::state::{Call as StateCall, Tell as StateTell};
use crate::history::{Call, History, Tell, What};

pub(super) const SCENARIOS: [Scenario; 11] = [
    Scenario {
        name: "state/calm",
        promise: "Agents put, get, delete and list values and watch each other; stores are closed and opened anew.",
        roles: "2 to 4 agents and a few keys",
        faults: &[],
        sometimes: &[EXPIRED, DELETED, STALE, ENDED, OVERTAKEN],
        plan: state_acts::calm,
    },
    Scenario {
        name: "state/ttl-expiry",
        promise: "Values live as long as they were put for, whatever any clock says: no read gives them later, and every watch \
                  tells that they are gone.",
        roles: "2 to 4 agents whose clocks jump and drift, and short lives",
        faults: &["jump", "drift", "suspend"],
        sometimes: &[EXPIRED, MARKED, SWEPT],
        plan: state_acts::ttl_expiry,
    },
    Scenario {
        name: "state/watcher-restart",
        promise: "The server stops, stands still or is silent: watches come back by themselves, say that something may be \
                  missing, and tell the difference.",
        roles: "3 to 5 agents and a server that goes away twice",
        faults: &["server-stop", "server-pause", "jetstream-mute"],
        sometimes: &[GAP, UNANSWERED, EXPIRED],
        plan: state_acts::watcher_restart,
    },
    Scenario {
        name: "state/power-loss",
        promise: "The server loses its power and the end of what it acknowledged: every watch says that the store is another, \
                  and tells what it holds.",
        roles: "3 to 4 agents and a server without power, twice",
        faults: &["power-loss"],
        sometimes: &[LOST_TAIL, RESTARTED],
        plan: state_acts::power_loss,
    },
    Scenario {
        name: "state/slow-reader",
        promise: "Who reads slowly is told that it has missed something, and then what is there.",
        roles: "3 to 5 agents, some of which take long over what they are told",
        faults: &["delay"],
        sometimes: &[LAGGED, EXPIRED],
        plan: state_acts::slow_reader,
    },
    Scenario {
        name: "state/fenced-writes",
        promise: "Writers of different pace put the same fenced keys: none applies after one with a higher token.",
        roles: "3 to 5 agents, some of which stand still",
        faults: &["pause", "suspend"],
        sometimes: &[STALE, OVERTAKEN],
        plan: state_acts::fenced_writes,
    },
    Scenario {
        name: "state/partition",
        promise: "Who is cut off is told so, and what came and went meanwhile is not told as if it were there.",
        roles: "3 agents, one of which is cut off again and again",
        faults: &["partition", "blackhole", "cut", "delay"],
        sometimes: &[GAP, EXPIRED],
        plan: state_acts::partition,
    },
    Scenario {
        name: "state/lost-reply",
        promise: "Writes are applied and their answers lost: nothing that was acknowledged is undone by that.",
        roles: "2 to 3 agents whose answers are lost",
        faults: &["lose-reply"],
        sometimes: &[UNANSWERED],
        plan: state_acts::lost_reply,
    },
    Scenario {
        name: "state/leader-change",
        promise: "The leader of a bucket with three copies goes: nothing that was acknowledged is lost, and no watch misses it.",
        roles: "3 to 4 agents, each at one of three servers",
        faults: &[
            "leader-change",
            "server-stop",
            "server-pause",
            "route-partition",
        ],
        sometimes: &[UNANSWERED, EXPIRED, DELETED],
        plan: state_acts::leader_change,
    },
    Scenario {
        name: "state/through-rotation",
        promise: "Credentials end and connections are replaced or put out: writers and watchers do not notice.",
        roles: "2 to 4 agents on sessions",
        faults: &["rotate", "kick"],
        sometimes: &[EXPIRED, DELETED],
        plan: state_acts::through_rotation,
    },
    Scenario {
        name: "state/storm",
        promise: "Any faults, any number of agents, any settings: all of the above.",
        roles: "2 to 6 agents and a few keys",
        faults: &acts::STRIKES,
        sometimes: &[
            EXPIRED, DELETED, STALE, GAP, LAGGED, RESTARTED, UNANSWERED, MARKED, SWEPT, LOST_TAIL,
        ],
        plan: state_acts::storm,
    },
];

// --- what must happen sometimes ---

const EXPIRED: Sometimes = Sometimes {
    fact: "a watch told that a value had expired",
    reached: |_, history| tells(history, |tell| matches!(tell, StateTell::Expired { .. })),
};
const DELETED: Sometimes = Sometimes {
    fact: "a watch told that a value was deleted",
    reached: |_, history| tells(history, |tell| matches!(tell, StateTell::Deleted { .. })),
};
const GAP: Sometimes = Sometimes {
    fact: "a watch told that it may have missed something",
    reached: |_, history| gap(history, "interrupted"),
};
const LAGGED: Sometimes = Sometimes {
    fact: "a slow reader was told that it had missed something",
    reached: |_, history| gap(history, "the reader was slow"),
};
const RESTARTED: Sometimes = Sometimes {
    fact: "a watch told that the store was another",
    reached: |_, history| tells(history, |tell| *tell == StateTell::Restarted),
};
const ENDED: Sometimes = Sometimes {
    fact: "a watch ended with its store",
    reached: |_, history| tells(history, |tell| *tell == StateTell::Ended),
};
const STALE: Sometimes = Sometimes {
    fact: "a put was refused because its token was stale",
    reached: |_, history| {
        ends(history).any(|(call, end, _)| {
            let is_refused = matches!(end, What::Refused { conflict: true, .. });
            is_refused && matches!(call, Call::State(StateCall::Put { .. }))
        })
    },
};
const OVERTAKEN: Sometimes = Sometimes {
    fact: "a write came after another that it had not seen, and was tried again",
    reached: |_, history| {
        ends(history).any(|(call, end, _)| {
            let is_refused = matches!(end, What::Refused { conflict: true, .. });
            is_refused && matches!(call, Call::Write { key, .. } if key.starts_with("d."))
        })
    },
};
const UNANSWERED: Sometimes = Sometimes {
    fact: "nobody knew whether a value was put or deleted",
    reached: |_, history| {
        ends(history).any(|(call, end, _)| {
            let is_unknown = matches!(end, What::Unknown { .. });
            let is_write = matches!(
                call,
                Call::State(StateCall::Put { .. } | StateCall::Delete { .. })
            );
            is_unknown && is_write
        })
    },
};
const MARKED: Sometimes = Sometimes {
    fact: "the server took a value away whose life was over",
    reached: |_, history| {
        any(history, |what| {
            matches!(what, What::Committed(commit)
                if commit.operation == Operation::Expire && commit.key.starts_with("d."))
        })
    },
};
const SWEPT: Sometimes = Sometimes {
    fact: "a watch took a value away whose life was over, in a bucket that cannot",
    reached: |plan, history| {
        let is_deletion = |what: &What| {
            matches!(what, What::Committed(commit)
                if commit.operation == Operation::Delete && commit.key.starts_with("d."))
        };
        let expires = |tell: &StateTell| matches!(tell, StateTell::Expired { .. });
        plan.world.delete_markers.is_none() && any(history, is_deletion) && tells(history, expires)
    },
};

fn tells(history: &History, is_it: impl Fn(&StateTell) -> bool) -> bool {
    told(
        history,
        |tell| matches!(tell, Tell::State(tell) if is_it(tell)),
    )
}

fn gap(history: &History, why: &str) -> bool {
    tells(
        history,
        |tell| matches!(tell, StateTell::Gap { reason } if reason.starts_with(why)),
    )
}
