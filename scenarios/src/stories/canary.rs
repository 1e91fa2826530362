//! The canary: a scenario that fails on purpose, for one seed in a hundred.
//!
//! Who hunts and finds nothing wants to know whether he would have been told. The canary shows it: 37, 137, 237 and so
//! on must be found, counted, kept and shrunk, and no other seed. It is no scenario of [`all`](super::all) and matches
//! no pattern: only who asks for it by its name gets it.

use super::{Scenario, Story, millis, secs};
use crate::fault::FaultKind;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "canary/one-in-a-hundred",
    promise: "One seed in 100 has a planted flaw, and fails; the others pass.",
    roles: "3 agents, one of which dies, and one with a slow link",
    faults: &["crash", "delay"],
    sometimes: &[],
    plan: one_in_a_hundred,
};

/// One seed in so many fails.
const ONE_IN: u64 = 100;
/// The first that does.
const FIRST: u64 = 37;

/// Bob dies without a word, which in one of a hundred worlds nobody is told. That Carol's link is slow is of no matter:
/// shrinking must take it away.
fn one_in_a_hundred(story: &mut Story) {
    let interval = secs(1);
    story.agents(3, interval);
    story.lasts(interval * 20);
    let dies = story.fault_time(interval * 3, interval * 6);
    story.befalls("bob", FaultKind::Crash, dies, interval * 10);
    let slow = story.fault_time(interval * 2, interval * 10);
    let by = FaultKind::Delay(millis(20));
    story.befalls("carol", by, slow, interval * 3);
    if story.seed() % ONE_IN == FIRST {
        story.has_flaw("presence-no-down-on-ttl");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::Verdict;
    use crate::run::simulate;
    use crate::stories;

    #[test]
    fn one_seed_in_a_hundred_fails_and_only_who_asks_for_it_gets_it() {
        let failing = (0..300).filter(|seed| match simulate(&SCENARIO.draw(*seed)).verdict {
            Verdict::Pass => false,
            Verdict::Fail(violations) => violations.iter().any(|it| it.code == "P1"),
            Verdict::Inconclusive(why) => panic!("{why}"),
        });
        assert_eq!(failing.collect::<Vec<_>>(), [37, 137, 237]);
        assert!(stories::find(SCENARIO.name).is_some());
        assert!(stories::all().iter().all(|it| it.name != SCENARIO.name));
    }
}
