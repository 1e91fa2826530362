//! M2 once: what was said once is stored once, and told once.
//!
//! A watch begins at what comes: so no message is told twice to an agent, neither by one watch nor by one that began
//! after another had told it, in this life or the next. Watches that are open at once tell it each. A message that was
//! lost with the power of its server, and was then sent again, is stored again and told again.

use std::collections::BTreeMap;

use squall_core::Instant;

use super::chats::ChatWatch;
use super::facts::Facts;
use super::{Findings, seconds};
use crate::history::chat::Told;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    stored(facts, findings);
    let mut agents: Vec<&str> = facts
        .chats
        .watches
        .iter()
        .map(|watch| watch.agent)
        .collect();
    agents.sort_unstable();
    agents.dedup();
    for agent in agents {
        let watches = facts.chats.of_agent(agent);
        let mut all: Vec<_> = watches
            .flat_map(|watch| {
                watch
                    .tells
                    .iter()
                    .map(move |(at, told)| (*at, watch, *told))
            })
            .collect();
        all.sort_by_key(|(at, _, _)| *at);
        let mut heard: BTreeMap<&str, Vec<(Instant, &ChatWatch<'_>)>> = BTreeMap::new();
        for (at, watch, told) in all {
            let Told::Got { id, sequence, body } = told else {
                continue;
            };
            let before = heard.entry(id).or_default();
            let again = before
                .iter()
                .find(|(earlier, other)| std::ptr::eq(*other, watch) || watch.invoked > *earlier);
            if let Some((earlier, other)) = again
                && !facts.chats.is_lost_between((*earlier, at), id)
            {
                let text = format!(
                    "{} was told {body:?}, sequence {sequence}, at {}, and {} had been told it at {}",
                    watch.process,
                    seconds(at),
                    other.process,
                    seconds(*earlier),
                );
                findings.add(at, [watch.process.clone()], text);
                break;
            }
            before.push((at, watch));
        }
    }
}

/// One id, one place, unless the first was lost in between.
fn stored(facts: &Facts<'_>, findings: &mut Findings) {
    let mut places = BTreeMap::new();
    if !facts.chats.is_truth {
        return;
    }
    for stored in &facts.chats.stored {
        let Some(id) = stored.id else {
            continue;
        };
        let before = places.insert(id, (stored.at, stored.sequence));
        if let Some((at, sequence)) = before
            && !facts.chats.is_lost(sequence, (at, stored.at))
        {
            let text = format!(
                "message {id} was stored as sequence {sequence} at {}, and again as {} at {}",
                seconds(at),
                stored.sequence,
                seconds(stored.at),
            );
            findings.add(stored.at, [], text);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::invariants::tale::Tale;

    fn watching() -> Tale {
        let mut tale = Tale::of_chat("alice/1");
        tale.watches("alice/1", 1);
        tale.at(10).said("7-1", 4);
        tale.at(11).got("alice/1", 1, "7-1", 4);
        tale
    }

    #[test]
    fn each_watch_tells_it_once() {
        let mut tale = watching();
        tale.at(12).said("7-2", 5);
        tale.got("alice/1", 1, "7-2", 5);
        tale.at(20).ends();
        assert_eq!(tale.told_by("M2"), [""; 0]);
        tale.at(19).got("alice/1", 1, "7-2", 5);
        let told = tale.told_by("M2");
        assert!(
            told.len() == 1 && told[0].contains("sequence 5"),
            "{told:?}"
        );
    }

    #[test]
    fn each_of_two_watches_tells_it_once() {
        let mut tale = Tale::of_chat("alice/1");
        tale.watches("alice/1", 1).watches("alice/1", 2);
        tale.at(10).said("7-1", 4);
        tale.at(11).got("alice/1", 1, "7-1", 4);
        tale.got("alice/1", 2, "7-1", 4);
        assert_eq!(tale.told_by("M2"), [""; 0]);
        tale.got("alice/1", 2, "7-1", 4);
        assert_eq!(tale.told_by("M2").len(), 1);
    }

    #[test]
    fn a_watch_that_begins_later_does_not_tell_it_again() {
        let mut tale = watching();
        tale.at(20).watches("alice/1", 2);
        tale.at(21).got("alice/1", 2, "7-1", 4);
        tale.at(30).ends();
        assert_eq!(tale.told_by("M2").len(), 1);
    }

    #[test]
    fn what_was_lost_in_between_may_come_again() {
        let mut tale = watching();
        tale.at(12).loses_tail(3);
        tale.at(13).said("7-1", 4);
        tale.at(14).got("alice/1", 1, "7-1", 4);
        tale.at(30).ends();
        assert_eq!(tale.told_by("M2"), [""; 0]);
    }

    #[test]
    fn one_message_has_one_place() {
        let mut tale = watching();
        tale.at(12).said("7-1", 5);
        tale.at(30).ends();
        let told = tale.told_by("M2");
        assert!(
            told.len() == 1 && told[0].contains("and again as 5"),
            "{told:?}"
        );
    }
}
