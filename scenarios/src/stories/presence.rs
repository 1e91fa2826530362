//! The scenarios of presence. How their stories are told is in `presence_acts.rs`.

use std::time::Duration;

use super::{LOST_TAIL, Scenario, Sometimes, acts, any, presence_acts, told};
use crate::fault::FaultKind;
use crate::history::{History, Life, Tell, What};

pub(super) const SCENARIOS: [Scenario; 13] = [
    Scenario {
        name: "presence/calm",
        promise: "Agents come, stay and leave; everybody is told of each once.",
        roles: "3 to 6 agents that watch and read",
        faults: &[],
        sometimes: &[TOLD_UP, LEFT, MARKER, FOREIGN],
        plan: presence_acts::calm,
    },
    Scenario {
        name: "presence/missed-heartbeats",
        promise: "An agent dies without a word; everybody is told within its life and a little, and when it is born again.",
        roles: "3 to 5 agents, one of which crashes and comes back",
        faults: &["crash"],
        sometimes: &[SILENT, MARKER, REBORN],
        plan: presence_acts::missed_heartbeats,
    },
    Scenario {
        name: "presence/partition-and-heal",
        promise: "An agent is cut off for longer than its entry lives; it knows, the others know, and it comes back by itself.",
        roles: "3 agents, one of which is partitioned",
        faults: &["partition", "cut"],
        sometimes: &[EVICTED, RESTORED, SILENT, BLIND],
        plan: presence_acts::partition_and_heal,
    },
    Scenario {
        name: "presence/one-way-silence",
        promise: "A watcher hears nothing, or is not heard: it says that it is blind and tells nobody dead.",
        roles: "3 agents, one with a link that carries one way only",
        faults: &["partition", "blackhole"],
        sometimes: &[BLIND, SEEING, EVICTED],
        plan: presence_acts::one_way_silence,
    },
    Scenario {
        name: "presence/paused-watcher",
        promise: "A watcher stands still for longer than everybody's life and wakes up to a full mailbox: nobody has died.",
        roles: "3 to 5 agents, one of which is paused",
        faults: &["pause", "suspend"],
        sometimes: &[EVICTED, RESTORED, BLIND],
        plan: presence_acts::paused_watcher,
    },
    Scenario {
        name: "presence/restart-overlap",
        promise: "A new incarnation starts before the old one has closed; the old one's end does not touch the new one's entry.",
        roles: "3 agents, one of which is deployed anew, again and again",
        faults: &["overlap", "pause", "delay", "lose-reply", "partition"],
        sometimes: &[SUPERSEDED, OVERLAPPED],
        plan: presence_acts::restart_overlap,
    },
    Scenario {
        name: "presence/clock-chaos",
        promise: "Wall clocks jump by hours, crystals drift, machines sleep: nobody is told dead who beats, nobody stays who does not.",
        roles: "4 agents whose clocks disagree",
        faults: &["jump", "drift", "suspend", "crash"],
        sometimes: &[EVICTED, SILENT, JUMPED],
        plan: presence_acts::clock_chaos,
    },
    Scenario {
        name: "presence/mixed-intervals",
        promise: "Fast and slow agents share a bucket: no one's joining shortens another's life.",
        roles: "3 to 5 agents whose intervals differ by up to 20 times",
        faults: &["crash"],
        sometimes: &[SILENT, TOLD_UP],
        plan: presence_acts::mixed_intervals,
    },
    Scenario {
        name: "presence/server-restart",
        promise: "The server stops, stands still or forgets to answer; afterwards everybody is there again.",
        roles: "3 to 6 agents and a server that goes away",
        faults: &["server-stop", "server-pause", "jetstream-mute"],
        sometimes: &[EVICTED, RESTORED, BLIND, SEEING],
        plan: presence_acts::server_restart,
    },
    Scenario {
        name: "presence/power-loss",
        promise: "The server's machine loses its power, and with it what it had acknowledged: revisions are given out twice, \
                  old entries are back, and everybody is there again.",
        roles: "3 to 6 agents and a server that forgets",
        faults: &["power-loss", "crash", "partition"],
        sometimes: &[LOST_TAIL, CAME_BACK, EVICTED, RESTORED, REBORN],
        plan: presence_acts::power_loss,
    },
    Scenario {
        name: "presence/leader-change",
        promise: "The leader of a bucket with three copies hands over, dies, stands still or is cut off from the others; \
                  afterwards everybody is there again.",
        roles: "3 to 5 agents, each at one of three servers",
        faults: &[
            "leader-change",
            "server-stop",
            "server-pause",
            "route-partition",
        ],
        sometimes: &[EVICTED, RESTORED, BLIND, SEEING],
        plan: presence_acts::leader_change,
    },
    Scenario {
        name: "presence/lost-quorum",
        promise: "Two of three servers are away at once: nobody can renew, nobody is told dead who is back in time, and with a \
                  majority everybody is there again.",
        roles: "3 to 5 agents, each at one of three servers",
        faults: &["server-stop", "route-partition"],
        sometimes: &[EVICTED, RESTORED, BLIND, SEEING],
        plan: presence_acts::lost_quorum,
    },
    Scenario {
        name: "presence/storm",
        promise: "Any faults, any number of agents, any settings: all of the above.",
        roles: "2 to 8 agents",
        faults: &acts::STRIKES,
        sometimes: &[
            EVICTED, RESTORED, SILENT, MARKER, BLIND, SEEING, SUPERSEDED, REBORN, LOST_TAIL,
        ],
        plan: presence_acts::storm,
    },
];

// --- what must happen sometimes ---

const TOLD_UP: Sometimes = Sometimes {
    fact: "a watcher was told that somebody came",
    reached: |_, history| told(history, |tell| matches!(tell, Tell::Up(_))),
};
const LEFT: Sometimes = Sometimes {
    fact: "a watcher was told that somebody left in good order",
    reached: |_, history| down(history, "Left"),
};
const SILENT: Sometimes = Sometimes {
    fact: "a watcher concluded from silence that somebody is down",
    reached: |_, history| down(history, "Silent"),
};
const MARKER: Sometimes = Sometimes {
    fact: "the bucket kept delete markers",
    reached: |plan, _| plan.world.delete_markers.is_some(),
};
const FOREIGN: Sometimes = Sometimes {
    fact: "the bucket held what is no entry",
    reached: |plan, history| {
        any(
            history,
            |what| matches!(what, What::Committed(commit) if plan.foreign.iter().any(|write| *write.key == *commit.key)),
        )
    },
};
const REBORN: Sometimes = Sometimes {
    fact: "somebody that was told down was told up again",
    reached: |_, history| {
        let mut down = std::collections::BTreeSet::new();
        told_in_order(history).any(|(process, tell)| match tell {
            Tell::Down { agent, .. } => {
                down.insert((process, &*agent.agent));
                false
            }
            Tell::Up(agent) => down.contains(&(process, &*agent.agent)),
            _ => false,
        })
    },
};
const EVICTED: Sometimes = Sometimes {
    fact: "an agent was told that its entry is gone",
    reached: |_, history| told(history, |tell| matches!(tell, Tell::Evicted { .. })),
};
const SUPERSEDED: Sometimes = Sometimes {
    fact: "an agent was told that another incarnation has taken its place",
    reached: |_, history| {
        told(
            history,
            |tell| matches!(tell, Tell::Evicted { reason } if reason.starts_with("Superseded")),
        )
    },
};
const RESTORED: Sometimes = Sometimes {
    fact: "an evicted agent came back by itself",
    reached: |_, history| told(history, |tell| matches!(tell, Tell::Restored)),
};
const BLIND: Sometimes = Sometimes {
    fact: "a watcher said that it was blind",
    reached: |_, history| told(history, |tell| matches!(tell, Tell::Blind { .. })),
};
const SEEING: Sometimes = Sometimes {
    fact: "a blind watcher saw again",
    reached: |_, history| told(history, |tell| matches!(tell, Tell::Seeing)),
};
const OVERLAPPED: Sometimes = Sometimes {
    fact: "two incarnations of one agent were alive at once",
    // Nobody crashes in that story, so whoever has a second life has it beside the first.
    reached: |_, history| {
        any(
            history,
            |what| matches!(what, What::Life { process, event: Life::Started } if !process.ends_with("/1")),
        )
    },
};
const JUMPED: Sometimes = Sometimes {
    fact: "an agent's wall clock was more than its life away from the truth",
    reached: |plan, _| {
        plan.faults.iter().any(|fault| match fault.kind {
            FaultKind::Jump(nanos) => {
                Duration::from_nanos(nanos.unsigned_abs()) > Duration::from_secs(60)
            }
            _ => false,
        })
    },
};

const CAME_BACK: Sometimes = Sometimes {
    fact: "an entry that had been replaced was there again",
    reached: |_, history| {
        any(
            history,
            |what| matches!(what, What::LostTail { back, .. } if !back.is_empty()),
        )
    },
};

fn down(history: &History, why: &str) -> bool {
    told(
        history,
        |tell| matches!(tell, Tell::Down { reason, .. } if reason == why),
    )
}

fn told_in_order(history: &History) -> impl Iterator<Item = (&str, &Tell)> {
    history.0.iter().filter_map(|record| match &record.what {
        What::Told { process, tell } => Some((&**process, tell)),
        _ => None,
    })
}
