//! M3 close reason: who watches a store can tell ended from failed, and a closed store ends its watches.

use std::time::Duration;

use squall_core::Instant;

use super::facts::{Facts, without};
use super::states::watches;
use super::{Findings, seconds};
use crate::history::Call;
use crate::history::state::{Call as StateCall, Tell as StateTell};

/// A watch of a store that is closed says so within this.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
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

#[cfg(test)]
mod tests {
    use super::super::tale::Tale;
    use crate::history::state::Tell;

    fn watching() -> Tale {
        let mut tale = Tale::of_states(&["alice/1"]);
        tale.at(1).watches_state("alice/1");
        tale
    }

    #[test]
    fn a_watch_that_never_ends_is_told() {
        let mut tale = watching();
        tale.at(2).closes_state("alice/1");
        tale.at(3).told_of_state("alice/1", Tell::Ended);
        assert_eq!(tale.told_by("M3"), [""; 0]);
        let mut mute = watching();
        mute.at(2).closes_state("alice/1");
        mute.at(20).ends();
        assert!(mute.told_by("M3")[0].contains("not told what became"));
    }

    #[test]
    fn the_reason_is_the_right_one() {
        let mut open = watching();
        open.at(2).told_of_state("alice/1", Tell::Ended);
        assert!(open.told_by("M3")[0].contains("had not closed the store"));
        let mut closed = watching();
        closed.at(2).closes_state("alice/1");
        let reason = "x".to_owned();
        closed
            .at(3)
            .told_of_state("alice/1", Tell::Failed { reason });
        assert!(closed.told_by("M3")[0].contains("and had closed the store"));
    }
}
