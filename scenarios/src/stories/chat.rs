//! The scenarios of chat. How their stories are told is in `chat_acts.rs`.

use super::{LOST_TAIL, Scenario, Sometimes, acts, any, chat_acts, ends, secs, told};
use crate::history::chat::{Call as ChatCall, Reply as ChatReply, Tell as ChatTell, Told};
use crate::history::{Call, History, Life, Reply, Tell, What};

pub(super) const SCENARIOS: [Scenario; 13] = [
    Scenario {
        name: "chat/calm",
        promise: "Agents join, talk, ask and leave; everybody hears what is said from then on, once and in order.",
        roles: "3 to 5 agents that talk and watch",
        faults: &[],
        sometimes: &[HEARD, ASKED, LISTED, CLOSED],
        plan: chat_acts::calm,
    },
    Scenario {
        name: "chat/server-restart",
        promise: "The server stops, stands still or forgets to answer; nobody misses what was said without being told.",
        roles: "3 to 5 agents and a server that goes away",
        faults: &["server-stop", "server-pause", "jetstream-mute"],
        sometimes: &[INTERRUPTED, RESUMED, UNCONFIRMED],
        plan: chat_acts::server_restart,
    },
    Scenario {
        name: "chat/young-watch",
        promise: "A watch is cut off before it has told anything: what is said meanwhile it tells all the same.",
        roles: "3 to 5 agents, the first of which is cut off before the others come",
        faults: &["partition", "blackhole"],
        sometimes: &[CUT_OFF_YOUNG, INTERRUPTED, RESUMED],
        plan: chat_acts::young_watch,
    },
    Scenario {
        name: "chat/lost-reply",
        promise: "What is said is stored, and the acknowledgement is lost: it is said again, and stored once.",
        roles: "2 to 4 agents, whose acknowledgements are lost",
        faults: &["lose-reply", "partition"],
        sometimes: &[REPLY_LOST, UNCONFIRMED],
        plan: chat_acts::lost_reply,
    },
    Scenario {
        name: "chat/slow-reader",
        promise: "Somebody reads slower than the others talk, and is told what it misses.",
        roles: "3 to 5 agents, one of which is slow",
        faults: &["pause"],
        sometimes: &[SLOW, HEARD],
        plan: chat_acts::slow_reader,
    },
    Scenario {
        name: "chat/retention-shrink",
        promise: "Somebody joins who wants messages to live short: for who is cut off then, some are gone, and it is told.",
        roles: "3 to 4 agents, one of which is cut off while another shortens everybody's messages",
        faults: &["partition"],
        sometimes: &[EXPIRED, INTERRUPTED],
        plan: chat_acts::retention_shrink,
    },
    Scenario {
        name: "chat/thread-name-collision",
        promise: "Two threads have one id: nobody takes what is said in the one for the other's.",
        roles: "3 to 5 agents in two threads whose names come to the same",
        faults: &["partition"],
        sometimes: &[OTHER_THREAD, COLLIDED],
        plan: chat_acts::thread_name_collision,
    },
    Scenario {
        name: "chat/scan-under-expiry",
        promise: "Messages go while threads are listed: a scan is complete, or says that it is not, and is soon over.",
        roles: "4 to 6 agents whose messages live short",
        faults: &[],
        sometimes: &[LISTED, LISTED_NONE_OF_MANY],
        plan: chat_acts::scan_under_expiry,
    },
    Scenario {
        name: "chat/crash-and-resume",
        promise: "Somebody dies and is born again: it is told of nothing that it was told before.",
        roles: "3 to 5 agents, some of which die",
        faults: &["crash"],
        sometimes: &[REBORN, HEARD],
        plan: chat_acts::crash_and_resume,
    },
    Scenario {
        name: "chat/power-loss",
        promise: "The server's machine loses its power, and with it the end of what was said: all who had heard it are told.",
        roles: "3 to 5 agents and a server that forgets",
        faults: &["power-loss", "partition"],
        sometimes: &[TAIL_LOST, LOST_TAIL],
        plan: chat_acts::power_loss,
    },
    Scenario {
        name: "chat/leader-change",
        promise: "The leader of a stream with three copies hands over, dies, stands still or is cut off from the others; \
                  nobody misses what was said without being told.",
        roles: "3 to 4 agents, each at one of three servers",
        faults: &[
            "leader-change",
            "server-stop",
            "server-pause",
            "route-partition",
        ],
        sometimes: &[INTERRUPTED, RESUMED],
        plan: chat_acts::leader_change,
    },
    Scenario {
        name: "chat/through-rotation",
        promise: "Credentials end, or are void, while agents talk: nobody notices, or is told.",
        roles: "2 to 4 agents on credentials of a minute",
        faults: &["rotate", "kick", "revoke", "auth-5xx", "partition"],
        sometimes: &[ROTATED, HEARD, INTERRUPTED],
        plan: chat_acts::through_rotation,
    },
    Scenario {
        name: "chat/storm",
        promise: "Any faults, any number of agents, any settings: all of the above.",
        roles: "2 to 6 agents",
        faults: &acts::STRIKES,
        sometimes: &[
            INTERRUPTED,
            RESUMED,
            UNCONFIRMED,
            SLOW,
            EXPIRED,
            TAIL_LOST,
            REBORN,
        ],
        plan: chat_acts::storm,
    },
];

const HEARD: Sometimes = Sometimes {
    fact: "somebody heard what was said",
    reached: |_, history| tells(history, |told| matches!(told, Told::Got { .. })),
};
const ASKED: Sometimes = Sometimes {
    fact: "somebody was asked and answered",
    reached: |_, history| done(history, |call| matches!(call, ChatCall::Ask { .. })),
};
const LISTED: Sometimes = Sometimes {
    fact: "a scan found several threads, or several messages in one",
    reached: |_, history| {
        listed(history, |threads| {
            threads.len() > 1 || threads.iter().any(|(_, count)| *count > 1)
        })
    },
};
const LISTED_NONE_OF_MANY: Sometimes = Sometimes {
    fact: "a scan found fewer messages than had been stored",
    reached: |_, history| {
        let stored = |what: &What| matches!(what, What::Stored { .. });
        let many = history
            .0
            .iter()
            .filter(|record| stored(&record.what))
            .count()
            > 20;
        many && listed(history, |threads| {
            threads.iter().map(|(_, count)| count).sum::<u64>() < 20
        })
    },
};
const CLOSED: Sometimes = Sometimes {
    fact: "a watch was told that its chat is closed",
    reached: |_, history| tells(history, |told| matches!(told, Told::Ended { closed: true })),
};
const INTERRUPTED: Sometimes = Sometimes {
    fact: "a watch said that it was interrupted",
    reached: |_, history| tells(history, |told| matches!(told, Told::Interrupted { .. })),
};
const RESUMED: Sometimes = Sometimes {
    fact: "an interrupted watch went on",
    reached: |_, history| tells(history, |told| matches!(told, Told::Resumed)),
};
const SLOW: Sometimes = Sometimes {
    fact: "a slow reader was told what it had missed",
    reached: |_, history| tells(history, |told| matches!(told, Told::Slow { .. })),
};
const EXPIRED: Sometimes = Sometimes {
    fact: "a watch was told that messages had expired unheard",
    reached: |_, history| tells(history, |told| matches!(told, Told::Expired { .. })),
};
const TAIL_LOST: Sometimes = Sometimes {
    fact: "a watch was told that the end of the stream was lost",
    reached: |_, history| tells(history, |told| matches!(told, Told::TailLost { .. })),
};
const OTHER_THREAD: Sometimes = Sometimes {
    fact: "a watch was told of a message of another thread with its id",
    reached: |_, history| {
        let is_it = |told: &Told| {
            matches!(
                told,
                Told::Else {
                    thread: Some(_),
                    ..
                }
            )
        };
        tells(history, is_it)
    },
};
const COLLIDED: Sometimes = Sometimes {
    fact: "a thread was refused because its id is another's",
    reached: |_, history| {
        any(
            history,
            |what| matches!(what, What::Refused { error, .. } if error.contains("has the id")),
        )
    },
};
const UNCONFIRMED: Sometimes = Sometimes {
    fact: "somebody did not know whether it had been heard",
    reached: |_, history| {
        any(
            history,
            |what| matches!(what, What::Unknown { error, .. } if error.starts_with("chat: ")),
        )
    },
};
const REPLY_LOST: Sometimes = Sometimes {
    fact: "a send took as long as a lost acknowledgement makes it take, and was stored",
    reached: |_, history| {
        ends(history).any(|(call, end, took)| {
            let is_send = matches!(call, Call::Chat(ChatCall::Send { .. }));
            is_send && matches!(end, What::Ok { .. }) && took > secs(4)
        })
    },
};
const REBORN: Sometimes = Sometimes {
    fact: "an agent had a second life",
    reached: |_, history| {
        any(
            history,
            |what| matches!(what, What::Life { process, event: Life::Started } if !process.ends_with("/1")),
        )
    },
};
const CUT_OFF_YOUNG: Sometimes = Sometimes {
    fact: "a watch was interrupted before it had told anything",
    reached: |_, history| {
        let mut seen = std::collections::BTreeSet::new();
        history.0.iter().any(|record| match &record.what {
            What::Told {
                process,
                tell: Tell::Chat(ChatTell { watch, told }),
            } => {
                let is_first = seen.insert((process, watch));
                is_first && matches!(told, Told::Interrupted { .. })
            }
            _ => false,
        })
    },
};
const ROTATED: Sometimes = Sometimes {
    fact: "a connection was swapped for another",
    reached: |_, history| {
        told(
            history,
            |tell| matches!(tell, Tell::Logged { event } if event.swapped().is_some()),
        )
    },
};

fn tells(history: &History, wanted: impl Fn(&Told) -> bool) -> bool {
    told(
        history,
        |tell| matches!(tell, Tell::Chat(ChatTell { told, .. }) if wanted(told)),
    )
}

fn listed(history: &History, wanted: impl Fn(&[(std::sync::Arc<str>, u64)]) -> bool) -> bool {
    any(
        history,
        |what| matches!(what, What::Ok { reply: Reply::Chat(ChatReply::Threads { threads }), .. } if wanted(threads)),
    )
}

/// Whether such a call succeeded.
fn done(history: &History, wanted: impl Fn(&ChatCall) -> bool) -> bool {
    ends(history).any(|(call, end, _)| {
        let is_it = matches!(call, Call::Chat(call) if wanted(call));
        is_it && matches!(end, What::Ok { .. })
    })
}
