//! M1 of scans: one that succeeds has counted every message that was there all the while, and none that never was.
//!
//! What comes or goes while it is under way it may count or not. Each copy of a stream lets go of what has expired in its own
//! time: where there are several, what is gone from the first may be counted at another.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_core::chat::{ThreadId, subject};

use super::chats::ChatStored;
use super::facts::{Called, Ended, Facts};
use super::{Findings, seconds};
use crate::history::{Call, Reply, chat};
use crate::parse::PROJECT;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    if !facts.chats.is_truth {
        return;
    }
    for called in facts.questionable() {
        let Call::Chat(chat::Call::Scan { agent }) = called.call else {
            continue;
        };
        let Some((at, Ended::Ok(Reply::Chat(chat::Reply::Threads { threads })))) = called.ended
        else {
            continue;
        };
        if let Some(wrong) = wrong(facts, called, threads, agent.is_none()) {
            let process = called.process;
            let text = format!("{process} listed the threads at {}, {wrong}", seconds(at));
            findings.add(at, [process.clone()], text);
        }
    }
}

/// How many messages of a thread there were: all the while, and at any moment of it.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    least: u64,
    most: u64,
}

fn wrong(
    facts: &Facts<'_>,
    scan: &Called<'_>,
    threads: &[(Arc<str>, u64)],
    is_of_all: bool,
) -> Option<String> {
    let (at, _) = scan.ended?;
    let mut held: BTreeMap<&str, Held> = BTreeMap::new();
    let is_seen = |stored: &&ChatStored<'_>| stored.at <= at && stored.gone >= scan.invoked;
    for stored in facts.chats.stored.iter().filter(is_seen) {
        let held = held.entry(stored.subject?).or_default();
        held.most += 1;
        held.least += u64::from(stored.at < scan.invoked && stored.gone > at);
    }
    // Two names may come to one subject.
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for (name, count) in threads {
        let id = ThreadId::try_from(name.to_string());
        let id = id.unwrap_or_else(|_name| ThreadId::of(PROJECT, name));
        *counted.entry(subject(PROJECT, &id)).or_default() += count;
    }
    let has_copies = facts.plan.world.has_copies();
    for (subject, count) in counted.iter().filter(|_| !has_copies) {
        let most = held.get(subject.as_str()).copied().unwrap_or_default().most;
        if *count > most {
            return Some(format!(
                "with {count} messages of {subject}, which held {most}"
            ));
        }
    }
    let mut missing = held.iter().filter(|_| is_of_all);
    missing.find_map(|(subject, held)| {
        let count = counted.get(*subject).copied().unwrap_or_default();
        let least = held.least;
        (count < least)
            .then(|| format!("with {count} messages of {subject}, which held at least {least}"))
    })
}

#[cfg(test)]
mod tests {
    use crate::invariants::tale::Tale;

    fn talking() -> Tale {
        let mut tale = Tale::of_chat("alice/1");
        tale.at(10).said("7-1", 4).said("7-2", 5).said("7-3", 6);
        tale.at(20).expired(4);
        tale
    }

    #[test]
    fn a_scan_counts_what_is_there() {
        let mut tale = talking();
        tale.at(15).scanned("alice/1", &[("general", 3)]);
        tale.at(30).scanned("alice/1", &[("general", 2)]);
        // What goes at that very moment is counted or not.
        tale.at(20).scanned("alice/1", &[("general", 2)]);
        tale.at(20).scanned("alice/1", &[("general", 3)]);
        assert_eq!(tale.told_by("M1"), [""; 0]);
    }

    #[test]
    fn a_part_is_not_the_whole() {
        let mut tale = talking();
        tale.at(30).scanned("alice/1", &[("general", 1)]);
        let told = tale.told_by("M1");
        assert!(
            told.len() == 1 && told[0].contains("held at least 2"),
            "{told:?}"
        );
        let mut none = talking();
        none.at(30).scanned("alice/1", &[]);
        assert_eq!(none.told_by("M1").len(), 1);
    }

    #[test]
    fn what_is_gone_is_not_counted() {
        let mut tale = talking();
        tale.at(30).scanned("alice/1", &[("general", 3)]);
        let told = tale.told_by("M1");
        assert!(
            told.len() == 1 && told[0].contains("which held 2"),
            "{told:?}"
        );
    }
}
