//! M3 close reason: who watches a store or a chat can tell ended from failed, and a closed store or chat ends its watches.

use std::time::Duration;

use squall_core::Instant;

use super::facts::{Facts, without};
use super::states::watches;
use super::{Findings, seconds};
use crate::history::Call;
use crate::history::chat::Told;
use crate::history::state::{Call as StateCall, Tell as StateTell};
use crate::roles::chat::LAST_WORDS;

/// A watch of a store that is closed says so within this.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
/// A watch may notice that its connection is over before that is told elsewhere.
const ELSEWHERE: Duration = Duration::from_secs(1);

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    of_stores(facts, findings);
    of_chats(facts, findings);
}

/// Those of stores.
fn of_stores(facts: &Facts<'_>, findings: &mut Findings) {
    for watch in watches(facts) {
        let process = watch.process;
        let closed = facts.calls.iter().find(|called| {
            let is_close = matches!(called.call, Call::State(StateCall::Close));
            is_close && called.process == process && called.invoked >= watch.from
        });
        let end = watch
            .tells
            .iter()
            .find(|(_, tell)| matches!(tell, StateTell::Ended | StateTell::Failed { .. }));
        let closed = closed.map_or(Instant::FAR_FUTURE, |called| called.invoked);
        let wrong = match end {
            Some((at, StateTell::Ended)) if *at < closed => Some((
                *at,
                "was told that its watch had ended, and had not closed the store".to_owned(),
            )),
            // With a login its connections end, too, and either may come first.
            Some((at, StateTell::Failed { reason }))
                if *at > closed && facts.plan.auth.is_none() =>
            {
                Some((
                    *at,
                    format!(
                        "was told that its watch had failed ({reason}), and had closed the store"
                    ),
                ))
            }
            Some(_) => None,
            None => {
                let frozen = facts.life(process).map(|life| life.frozen.clone());
                let waited = without(
                    (closed.min(watch.until), watch.until),
                    frozen.unwrap_or_default(),
                );
                let waited: Duration = waited.iter().map(|(from, to)| to.since(*from)).sum();
                let agent = process.split('/').next().unwrap_or_default();
                let dwells = facts.plan.agent(agent).and_then(|agent| agent.state);
                let bound = ENDS_WITHIN + dwells.map_or(Duration::ZERO, |state| state.dwells);
                let bound = bound + facts.slack(bound);
                (waited > bound).then(|| {
                    let text = "closed the store, and was not told what became of its watch";
                    (closed + bound, text.to_owned())
                })
            }
        };
        if let Some((at, wrong)) = wrong {
            let text = format!("at {} {process} {wrong}", seconds(at));
            findings.add(at, [process.clone()], text);
        }
    }
}

/// Those of chats. How long a slow reader takes to get to the end is its own affair.
fn of_chats(facts: &Facts<'_>, findings: &mut Findings) {
    let chats = &facts.chats;
    for watch in &chats.watches {
        let end = watch.tells.iter().find_map(|(at, told)| match told {
            Told::Ended { closed } => Some((*at, *closed)),
            _ => None,
        });
        let process = watch.process;
        let close = chats
            .closes
            .iter()
            .find(|(who, (_, done))| *who == process && *done >= watch.from);
        let wrong = match (end, close) {
            (Some((at, true)), _) => {
                let is_closed = close.is_some_and(|(_, (from, _))| *from <= at);
                (!is_closed).then_some((at, "was told that the chat is closed, and it was not"))
            }
            (Some((at, false)), _) => {
                let mut over = chats.disconnects.iter();
                let is_over = over.any(|(who, gone)| *who == process && *gone <= at + ELSEWHERE);
                (!is_over).then_some((at, "was told of a failure, and its connection was not over"))
            }
            (None, Some((_, (from, done)))) if watch.until >= *from => {
                let due = *done + LAST_WORDS;
                let life = facts.life(process);
                let is_there = life.is_some_and(|life| {
                    let mut frozen = life.frozen.iter();
                    life.ended > due && !frozen.any(|(begins, ends)| *begins < due && *ends > *from)
                });
                let is_slow = !watch.reading(facts).is_zero();
                let wrong = "closed its chat, and the watch was not told that it has ended";
                (is_there && !is_slow).then_some((due, wrong))
            }
            _ => None,
        };
        if let Some((at, wrong)) = wrong {
            let text = format!(
                "{process} {wrong} (watch {}, at {})",
                watch.number,
                seconds(at)
            );
            findings.add(at, [process.clone()], text);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::history::state::Tell;
    use crate::invariants::tale::Tale;

    fn watching_store() -> Tale {
        let mut tale = Tale::of_states(&["alice/1"]);
        tale.at(1).watches_state("alice/1");
        tale
    }

    #[test]
    fn a_watch_that_never_ends_is_told() {
        let mut tale = watching_store();
        tale.at(2).closes_state("alice/1");
        tale.at(3).told_of_state("alice/1", Tell::Ended);
        assert_eq!(tale.told_by("M3"), [""; 0]);
        let mut mute = watching_store();
        mute.at(2).closes_state("alice/1");
        mute.at(20).ends();
        assert!(mute.told_by("M3")[0].contains("not told what became"));
    }

    #[test]
    fn the_reason_is_the_right_one() {
        let mut open = watching_store();
        open.at(2).told_of_state("alice/1", Tell::Ended);
        assert!(open.told_by("M3")[0].contains("had not closed the store"));
        let mut closed = watching_store();
        closed.at(2).closes_state("alice/1");
        let reason = "x".to_owned();
        closed
            .at(3)
            .told_of_state("alice/1", Tell::Failed { reason });
        assert!(closed.told_by("M3")[0].contains("and had closed the store"));
    }

    fn watching_chat() -> Tale {
        let mut tale = Tale::of_chat("alice/1");
        tale.at(5).watches("alice/1", 1);
        tale.at(10);
        tale
    }

    #[test]
    fn a_closed_chat_ends_its_watches() {
        let mut tale = watching_chat();
        tale.closes_chat("alice/1").ended("alice/1", 1, true);
        tale.at(20).ends();
        assert_eq!(tale.told_by("M3"), [""; 0]);
        let mut silent = watching_chat();
        silent.closes_chat("alice/1").at(20).ends();
        assert_eq!(silent.told_by("M3").len(), 1);
    }

    #[test]
    fn a_watch_of_a_chat_ends_for_the_reason_it_says() {
        let mut tale = watching_chat();
        tale.ended("alice/1", 1, true).at(20).ends();
        assert_eq!(tale.told_by("M3").len(), 1);
        let mut failed = watching_chat();
        failed.ended("alice/1", 1, false).at(20).ends();
        assert_eq!(failed.told_by("M3").len(), 1);
        let mut lost = watching_chat();
        lost.connection_closed("alice/1").ended("alice/1", 1, false);
        lost.at(20).ends();
        assert_eq!(lost.told_by("M3"), [""; 0]);
    }
}
