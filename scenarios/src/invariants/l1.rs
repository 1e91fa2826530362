//! L1 exclusion: belief intervals of two owners of one key never overlap.
//!
//! A belief begins when the acquisition is told and ends when its owner begins to let it go, is told that it is lost, or
//! dies; time in which the owner stands still does not count, as it can do nothing then. What it does when it wakes, before it
//! has looked at its clocks, is a matter of fencing (L2). Where the power was lost, and with it the record, nobody but the
//! owner can know that there was a lock: that is not held against anybody.

use super::facts::Facts;
use super::locks::{acquisitions, is_lost, record_of};
use super::{Findings, seconds};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let all = acquisitions(facts);
    for (place, later) in all.iter().enumerate() {
        let believed = later.belief(facts);
        let before = all[..place].iter();
        let rivals = before.filter(|earlier| {
            earlier.key == later.key
                && earlier.process != later.process
                && earlier.ended > later.told
        });
        for earlier in rivals {
            let both = earlier.belief(facts).into_iter().find_map(|(from, until)| {
                let overlap = |(begins, ends): &(_, _)| from.max(*begins) < until.min(*ends);
                let other = believed.iter().find(|span| overlap(span))?;
                Some(from.max(other.0))
            });
            let lost = record_of(facts, later.key)
                .is_some_and(|key| is_lost(facts, key, (earlier.invoked, later.told)));
            if let (Some(at), false) = (both, lost) {
                let text = format!(
                    "{} and {} both held the lock of {}, with tokens {} and {}, since {} and {}",
                    earlier.process,
                    later.process,
                    later.key,
                    earlier.token,
                    later.token,
                    seconds(earlier.told),
                    seconds(later.told),
                );
                findings.add(at, [earlier.process.clone(), later.process.clone()], text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tale::Tale;
    use crate::history::Life;

    fn held_twice(lost: bool) -> Vec<String> {
        let mut tale = Tale::of_locks(&["alice/1", "bob/1"]);
        tale.at(1).locked("alice/1", 10);
        if lost {
            tale.at(6).lock_lost("alice/1", 10);
        }
        tale.at(7).locked("bob/1", 12);
        tale.at(9).unlocks("bob/1", 12);
        tale.told_by("L1")
    }

    #[test]
    fn two_who_hold_a_lock_at_once_are_told_unless_one_knew_better() {
        assert_eq!(held_twice(true), Vec::<String>::new());
        assert!(held_twice(false)[0].starts_with("alice/1 and bob/1 both held"));
    }

    #[test]
    fn who_stands_still_does_nothing() {
        let mut tale = Tale::of_locks(&["alice/1", "bob/1"]);
        tale.at(1).locked("alice/1", 10);
        tale.at(2).life("alice/1", Life::Paused);
        tale.at(7).locked("bob/1", 12);
        tale.at(9).life("alice/1", Life::Resumed);
        tale.at(9).lock_lost("alice/1", 10);
        assert_eq!(tale.told_by("L1"), Vec::<String>::new());
    }
}
