//! What must hold of every history, one property a file.
//!
//! | code | property | source | module |
//! |---|---|---|---|
//! | P1 | completeness: who falls silent is told down to every watcher in time | promises of `presence` | `p1.rs` |
//! | P2 | accuracy: nobody who renews in time is told down or absent | promises of `presence` | `p2.rs` |
//! | P3 | edges: up and down alternate, one up an incarnation | promises of `presence` | `p3.rs` |
//! | P4 | the end of one incarnation removes no other's record | promises of `presence` | `p4.rs` |
//! | P5 | who is gone while it runs is told so | promises of `presence` | `p5.rs` |
//! | L1 | two owners of one lock never believe in it at once | promises of `state` | `l1.rs` |
//! | L2 | no effect applies after one with a higher token; tokens increase | promises of `state`; Kleppmann's fencing tokens | `l2.rs`, `fences.rs` |
//! | L3 | nobody deletes the record of another's lock | promises of `state` | `l3.rs` |
//! | L4 | an abandoned lock can be had after its life and a little, and not before | promises of `state` | `l4.rs` |
//! | L5 | once mended, every lock can be had | derived from two acts | `l5.rs` |
//! | L6 | who was told that it does not have a lock has nothing of it | promises of `state` | `l6.rs` |
//! | C1 | one connection replacement per credential | promises of `session` | `c1.rs` |
//! | C2 | with a valid credential and a server within reach nothing fails as unreachable | promises of `session` | `c2.rs` |
//! | C3 | once mended, everybody is back without a command | derived from two acts | `c3.rs` |
//! | C4 | soon after an exchange the connection is on what was issued | promises of `session` | `c4.rs` |
//! | C5 | nothing of one account is told in another | promises of `session` | `c5.rs` |
//! | C6 | the log of connections tells what happened, and why | promises of `diagnostics` | `c6.rs` |
//! | S1 | a state file reads as old or new, whatever failed | promises of `daemon` | `s1.rs` |
//! | M1 | who follows is told of everything, or that it may have missed something | promises of `chat`, `state` and the seam's watches | `m1.rs`, `tellings.rs`, `scans.rs` |
//! | M2 | what was said once is stored and told once | promises of `chat` | `m2.rs` |
//! | M3 | a watch says whether it ended or failed, and ends with its store or chat | promises of `chat` and `state` | `m3.rs` |
//! | D1 | what was acknowledged is there until something takes its place | promises of `state` | `d1.rs` |
//! | E3 | ok stays, refused never appears | ADR-8, Jepsen's `:fail` and `:info` | `e3.rs`, `lives.rs` |
//! | E4 | revisions, and what is dialled with, never go back | ADR-8, promises of `session` | `e4.rs`, `tellings.rs` |
//! | K1 | each key is one register with compare-and-set | Herlihy and Wing's linearizability; ADR-8 | `k1.rs`, `k1_search.rs` |
//! | R1 | no panic, no leak, every call returns in time, none fails for no reason | derived | `r1.rs` |
//!
//! Most of them need what the server itself stored, in its order. A history that was recorded elsewhere may not hold it:
//! then the others are judged, K1 by a search, and the verdict is inconclusive at best. Not checked here: what no history
//! tells, such as memory.
//!
//! The semantic choice that is easily got wrong: a record is *fresh* for the life that its own entry declares, counted from
//! its commit in true time, whatever the server does with it. A server that removes it earlier (because somebody
//! shortened the bucket's age) makes those wrong who then tell it down; a server that keeps it longer excuses nobody who
//! does not tell.

mod c1;
mod c2;
mod c3;
mod c4;
mod c5;
mod c6;
mod chats;
mod d1;
mod e3;
mod e4;
pub mod facts;
mod fences;
mod index;
mod k1;
mod k1_search;
mod l1;
mod l2;
mod l3;
mod l4;
mod l5;
mod l6;
mod lives;
mod locks;
mod m1;
mod m2;
mod m3;
mod p1;
mod p2;
mod p3;
mod p4;
mod p5;
mod passing;
mod r1;
mod s1;
mod scans;
pub mod sessions;
mod states;
#[cfg(test)]
mod tale;
mod tellings;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use squall_core::Instant;

use self::facts::{Called, Ended, Facts};
use crate::history::{History, Reply, What};
use crate::plan::Plan;

/// One property of histories.
#[derive(Clone, Copy)]
pub struct Invariant {
    /// Its short name, such as `P1`.
    pub code: &'static str,
    /// Its name in a word or two.
    pub name: &'static str,
    /// What must hold, as a sentence.
    pub property: &'static str,
    /// Whether it needs what the server itself stored.
    needs_truth: bool,
    check: fn(&Facts<'_>, &mut Findings),
}

impl fmt::Debug for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

/// All of them, in the order in which they are told.
pub const ALL: [Invariant; 26] = [
    Invariant {
        code: "R1",
        name: "robust",
        property: "no panic, deadlock, busy loop or task growth; every call returns within its declared bound and fails \
                   only where something was done to the world",
        needs_truth: false,
        check: r1::check,
    },
    Invariant {
        code: "P1",
        name: "completeness",
        property: "every agent that falls silent is told Down to every live watcher by T + TTL + d",
        needs_truth: true,
        check: p1::check,
    },
    Invariant {
        code: "P2",
        name: "accuracy",
        property: "no Down or absence is told of an incarnation whose renewals are being committed",
        needs_truth: true,
        check: p2::check,
    },
    Invariant {
        code: "P3",
        name: "edges",
        property: "per watcher and agent Up and Down alternate; one Up per incarnation",
        needs_truth: false,
        check: p3::check,
    },
    Invariant {
        code: "P4",
        name: "own incarnation",
        property: "the end of incarnation i never removes incarnation j > i",
        needs_truth: true,
        check: p4::check,
    },
    Invariant {
        code: "P5",
        name: "self-knowledge",
        property: "an agent whose record is gone for longer than d while it runs is told so",
        needs_truth: true,
        check: p5::check,
    },
    Invariant {
        code: "L1",
        name: "exclusion",
        property: "belief intervals of two owners of one key never overlap",
        needs_truth: false,
        check: l1::check,
    },
    Invariant {
        code: "L2",
        name: "fence",
        property: "an effect stamped with token t never applies after one with a higher token on the same key; tokens strictly \
                   increase",
        needs_truth: true,
        check: l2::check,
    },
    Invariant {
        code: "L3",
        name: "own release",
        property: "a release, close or expiry by one acquisition removes only a record written by it",
        needs_truth: true,
        check: l3::check,
    },
    Invariant {
        code: "L4",
        name: "expiry",
        property: "an unrenewed lock becomes acquirable within ttl +- d of T, for the declared skew bound d, whatever any one \
                   wall clock says",
        needs_truth: true,
        check: l4::check,
    },
    Invariant {
        code: "L5",
        name: "progress",
        property: "after mending, a free or abandoned resource is acquirable within a stated bound",
        needs_truth: false,
        check: l5::check,
    },
    Invariant {
        code: "L6",
        name: "all or none",
        property: "after a failed acquire, once mended, the actor owns nothing of it",
        needs_truth: true,
        check: l6::check,
    },
    Invariant {
        code: "C1",
        name: "one swap",
        property: "at most one connection replacement per credential generation",
        needs_truth: false,
        check: c1::check,
    },
    Invariant {
        code: "C2",
        name: "usable",
        property: "an operation does not fail as unreachable while the server is reachable and a valid credential exists",
        needs_truth: false,
        check: c2::check,
    },
    Invariant {
        code: "C4",
        name: "fresh",
        property: "within d of a refresh the live connection was dialled with the newest generation",
        needs_truth: false,
        check: c4::check,
    },
    Invariant {
        code: "C5",
        name: "isolation",
        property: "nothing of account A is told after login to B or logout",
        needs_truth: false,
        check: c5::check,
    },
    Invariant {
        code: "C6",
        name: "attribution",
        property: "every transition in the event log names its true cause and did happen",
        needs_truth: false,
        check: c6::check,
    },
    Invariant {
        code: "S1",
        name: "crash-atomic",
        property: "after a crash or I/O error a state file reads as old or new, never as empty but valid",
        needs_truth: false,
        check: s1::check,
    },
    Invariant {
        code: "M1",
        name: "no silent gap",
        property: "who follows a bucket or watches a chat gets every item committed after it began, or an explicit \
                   notice; a scan is complete",
        needs_truth: true,
        check: m1::check,
    },
    Invariant {
        code: "M2",
        name: "once",
        property: "nothing is stored, told or executed twice that was said once",
        needs_truth: false,
        check: m2::check,
    },
    Invariant {
        code: "M3",
        name: "close reason",
        property: "a consumer can tell ended from failed; a closed manager ends its streams",
        needs_truth: false,
        check: m3::check,
    },
    Invariant {
        code: "D1",
        name: "no lost update",
        property: "every accepted update is in the final state unless a later accepted one wrote the same field",
        needs_truth: true,
        check: d1::check,
    },
    Invariant {
        code: "C3",
        name: "self-heal",
        property: "after mending, everybody is connected, present and seen within a bound without any command",
        needs_truth: false,
        check: c3::check,
    },
    Invariant {
        code: "E3",
        name: "verdict",
        property: "ok means the effect stays until overwritten by a later accepted one; refused means it never appears",
        needs_truth: true,
        check: e3::check,
    },
    Invariant {
        code: "E4",
        name: "monotone",
        property: "revisions, and tokens and cursors of sessions, as told never decrease",
        needs_truth: false,
        check: e4::check,
    },
    Invariant {
        code: "K1",
        name: "register",
        property: "per key, the history of get, put, create, update and delete is linearizable",
        needs_truth: false,
        check: k1::check,
    },
];

/// The invariant of this code.
pub fn find(code: &str) -> Option<&'static Invariant> {
    ALL.iter().find(|invariant| invariant.code == code)
}

/// A property that did not hold, where and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which property.
    pub code: String,
    /// When it was broken.
    pub at: Instant,
    /// By or to whom.
    pub processes: Vec<Arc<str>>,
    /// What happened, in a sentence.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.code, seconds(self.at), self.text)
    }
}

/// A time as people read it: seconds with milliseconds.
pub(crate) fn seconds(at: Instant) -> String {
    let millis = at.elapsed().as_millis();
    format!("{}.{:03}s", millis / 1000, millis % 1000)
}

/// What the invariants say of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All held.
    Pass,
    /// These did not, in the order of time.
    Fail(Vec<Violation>),
    /// It cannot be said, for this reason.
    Inconclusive(String),
}

/// Violations found so far.
#[derive(Default)]
pub(crate) struct Findings {
    code: &'static str,
    found: Vec<Violation>,
    undecided: Vec<String>,
}

impl Findings {
    /// It cannot be said whether the property holds, for this reason.
    pub(crate) fn undecided(&mut self, why: String) {
        self.undecided.push(why);
    }

    pub(crate) fn add(
        &mut self,
        at: Instant,
        processes: impl IntoIterator<Item = Arc<str>>,
        text: impl Into<String>,
    ) {
        let processes = processes.into_iter().collect();
        self.found.push(Violation {
            code: self.code.to_owned(),
            at,
            processes,
            text: text.into(),
        });
    }
}

/// Judges a history by all invariants.
pub fn judge(plan: &Plan, history: &History) -> Verdict {
    let facts = Facts::new(plan, history);
    let mut findings = Findings::default();
    let over = facts
        .milestones
        .iter()
        .any(|record| matches!(record.what, What::End { .. } | What::Panicked { .. }));
    if !over {
        findings.undecided("the history ends before the run does".to_owned());
    }
    let wrote =
        |called: &Called<'_>| matches!(called.ended, Some((_, Ended::Ok(Reply::Stored { .. }))));
    let is_blind = !facts.has_truth && facts.calls.iter().any(wrote);
    let is_left_out = |invariant: &&Invariant| is_blind && invariant.needs_truth;
    if is_blind {
        let left_out: Vec<&str> = ALL
            .iter()
            .filter(is_left_out)
            .map(|left| left.code)
            .collect();
        findings.undecided(format!(
            "the history holds nothing of what the server stored: {} cannot be judged",
            left_out.join(", ")
        ));
    }
    for invariant in ALL.iter().filter(|invariant| !is_left_out(invariant)) {
        findings.code = invariant.code;
        (invariant.check)(&facts, &mut findings);
    }
    let mut found = findings.found;
    found.sort_by_key(|violation| violation.at);
    if !found.is_empty() {
        Verdict::Fail(found)
    } else if findings.undecided.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Inconclusive(findings.undecided.join("; "))
    }
}
