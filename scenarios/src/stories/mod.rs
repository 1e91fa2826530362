//! The scenarios: each a story that a seed tells in its own way, and what it promises.
//!
//! | scenario | danger |
//! |---|---|
//! | `presence/calm` | none: what is wrong here is wrong everywhere |
//! | `presence/missed-heartbeats` | an agent dies without a word |
//! | `presence/partition-and-heal` | an agent is cut off for longer than its entry lives |
//! | `presence/one-way-silence` | a watcher hears nothing, or is not heard |
//! | `presence/paused-watcher` | a watcher stands still while others live on |
//! | `presence/restart-overlap` | two incarnations of one agent are alive at once |
//! | `presence/clock-chaos` | clocks jump, drift and stand still |
//! | `presence/mixed-intervals` | fast and slow agents share one bucket |
//! | `presence/server-restart` | the server goes away and comes back |
//! | `presence/power-loss` | the server forgets the end of what it acknowledged |
//! | `presence/leader-change` | the leader of a bucket with three copies goes |
//! | `presence/lost-quorum` | two of three servers are away |
//! | `presence/storm` | all of it, as the seed will have it |
//! | `rotation/calm` | none but time: what is issued ends |
//! | `rotation/kick` | the server puts connections out |
//! | `rotation/revoked-user` | what was issued to somebody is void |
//! | `rotation/revoked-signing-key` | what was issued to everybody is void |
//! | `rotation/issuer-down` | the auth service is away while what is issued ends |
//! | `rotation/skewed-clocks` | issuer, server and agents disagree about the time |
//! | `rotation/racing-callers` | many want another connection at once |
//! | `rotation/one-second` | twenty agents' credentials end in one second |
//! | `rotation/server-restart` | the server goes away while credentials are exchanged |
//! | `rotation/narrowed-permissions` | what is issued allows less than before |
//! | `rotation/sleep` | a machine sleeps over the end of what it was issued |
//! | `rotation/slow-jetstream` | JetStream does not answer for a while |
//! | `rotation/half-open` | a link swallows what it is given |
//! | `rotation/accounts` | login, logout and another account while exchanges are under way |
//! | `rotation/storm` | all of it, as the seed will have it |
//! | `lock/calm` | none: what is wrong here is wrong everywhere |
//! | `lock/contention` | many want one lock, and are handed it |
//! | `lock/paused-holder` | a holder stands still for longer than its lock lives |
//! | `lock/lost-reply` | nobody knows whether a lock was acquired |
//! | `lock/clock-chaos` | clocks jump, drift and stand still |
//! | `lock/server-restart` | the server goes away and comes back |
//! | `lock/partition` | a holder is cut off |
//! | `lock/crash` | a holder dies |
//! | `lock/power-loss` | the server forgets that there was a lock |
//! | `lock/leader-change` | the leader of a bucket with three copies goes |
//! | `lock/through-rotation` | credentials end and connections are replaced under a lock |
//! | `lock/storm` | all of it, as the seed will have it |
//! | `state/calm` | none: what is wrong here is wrong everywhere |
//! | `state/ttl-expiry` | clocks jump, drift and stand still around the end of lives |
//! | `state/watcher-restart` | the server goes away and comes back under watches |
//! | `state/power-loss` | the server forgets what it acknowledged |
//! | `state/slow-reader` | who watches takes long over what it is told |
//! | `state/fenced-writes` | writers stand still, and come late |
//! | `state/partition` | an agent is cut off |
//! | `state/lost-reply` | nobody knows whether something was written |
//! | `state/leader-change` | the leader of a bucket with three copies goes |
//! | `state/through-rotation` | credentials end and connections are replaced under a watch |
//! | `state/storm` | all of it, as the seed will have it |
//! | `chat/calm` | none: what is wrong here is wrong everywhere |
//! | `chat/server-restart` | the server goes away and comes back |
//! | `chat/young-watch` | a watch is cut off before it has told anything |
//! | `chat/lost-reply` | a message is stored, and nobody says so |
//! | `chat/slow-reader` | somebody reads slower than others talk |
//! | `chat/retention-shrink` | messages are gone before they are heard |
//! | `chat/thread-name-collision` | two threads have one id |
//! | `chat/scan-under-expiry` | messages go while they are counted |
//! | `chat/crash-and-resume` | somebody forgets what it has heard |
//! | `chat/power-loss` | the server forgets the end of what it acknowledged |
//! | `chat/leader-change` | the leader of a stream with three copies goes |
//! | `chat/through-rotation` | credentials end, or are void, while agents talk |
//! | `chat/storm` | all of it, as the seed will have it |

mod acts;
mod canary;
mod chat;
mod chat_acts;
mod lock;
mod lock_acts;
mod presence;
mod presence_acts;
mod rotation;
mod rotation_acts;
mod state;
mod state_acts;
mod story;

pub(crate) use self::story::NAMES;
pub use self::story::Story;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use crate::history::{Call, History, Tell, What};
use crate::plan::Plan;

/// Something that a sweep must see happen at least once: a storm that never bites is a failure of the harness.
#[derive(Clone, Copy)]
pub struct Sometimes {
    /// What, as a sentence.
    pub fact: &'static str,
    /// Whether it happened in this run.
    pub reached: fn(&Plan, &History) -> bool,
}

impl std::fmt::Debug for Sometimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.fact)
    }
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// `room/what-happens`.
    pub name: &'static str,
    /// The danger and the promise, as a sentence.
    pub promise: &'static str,
    /// Who takes part.
    pub roles: &'static str,
    /// The kinds of faults it may draw.
    pub faults: &'static [&'static str],
    /// What must happen in some run.
    pub sometimes: &'static [Sometimes],
    /// The plan that a seed tells.
    pub plan: fn(&mut Story),
}

impl Scenario {
    /// Everything that follows from this seed.
    pub fn draw(&self, seed: u64) -> Plan {
        let mut story = Story::new(self.name, seed);
        (self.plan)(&mut story);
        story.into_plan()
    }
}

/// The scenarios of each room.
const ROOMS: [&[Scenario]; 5] = [
    &presence::SCENARIOS,
    &rotation::SCENARIOS,
    &lock::SCENARIOS,
    &state::SCENARIOS,
    &chat::SCENARIOS,
];

/// Scenarios for who asks for them by their names.
static HIDDEN: [Scenario; 1] = [canary::SCENARIO];

/// All scenarios, room by room; not the canary.
pub fn all() -> &'static [Scenario] {
    static ALL: LazyLock<Vec<Scenario>> = LazyLock::new(|| ROOMS.concat());
    &ALL
}

// --- what every room tells its stories with ---

fn any(history: &History, wanted: impl Fn(&What) -> bool) -> bool {
    history.0.iter().any(|record| wanted(&record.what))
}

fn told(history: &History, wanted: impl Fn(&Tell) -> bool) -> bool {
    any(
        history,
        |what| matches!(what, What::Told { tell, .. } if wanted(tell)),
    )
}

const LOST_TAIL: Sometimes = Sometimes {
    fact: "a loss of power took what had been acknowledged",
    reached: |_, history| any(history, |what| matches!(what, What::LostTail { .. })),
};

/// What was asked, how it ended, and how long that took.
fn ends(history: &History) -> impl Iterator<Item = (&Call, &What, Duration)> {
    let mut asked = BTreeMap::new();
    history
        .0
        .iter()
        .filter_map(move |record| match &record.what {
            What::Invoke { id, call, .. } => {
                asked.insert(*id, (record.at, call));
                None
            }
            What::Ok { id, .. } | What::Refused { id, .. } | What::Unknown { id, .. } => {
                let (invoked, call) = asked.remove(id)?;
                Some((call, &record.what, record.at.since(invoked)))
            }
            _ => None,
        })
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The scenario of this name, be it the canary.
pub fn find(name: &str) -> Option<&'static Scenario> {
    let mut known = all().iter().chain(&HIDDEN);
    known.find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawn_plan_is_a_plan_that_reads_back() {
        for scenario in all() {
            for seed in 0..200 {
                let plan = scenario.draw(seed);
                let text = plan.to_string();
                let read = crate::parse::parse(&text)
                    .unwrap_or_else(|error| panic!("{text}\nline {}: {error}", error.line));
                assert_eq!(read, plan);
                for fault in &plan.faults {
                    let name = fault.kind.name();
                    assert!(
                        scenario.faults.contains(&name),
                        "{} draws {name}",
                        scenario.name
                    );
                }
            }
        }
    }
}
