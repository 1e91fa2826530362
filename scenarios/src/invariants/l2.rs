//! L2 fence: an effect stamped with a token never applies after one with a higher token on the same key, and tokens increase
//! strictly from one acquisition to the next.
//!
//! Effects are judged in the order of the server. What was lost with the power was never there, and tokens that were lost
//! are given out again.

use std::collections::BTreeMap;

use squall_core::Instant;

use super::facts::{Facts, Key};
use super::locks::{acquisitions, is_above, is_lost, record_of};
use super::{Findings, fences, seconds};
use crate::history::lock::Call as LockCall;
use crate::history::{Call, Commit};
use crate::roles::lock::BUCKET;
use crate::variant::lock::guarded_key;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    check_effects(facts, findings);
    fences::check(facts, findings);
    let all = acquisitions(facts);
    for (place, later) in all.iter().enumerate() {
        let before = all[..place].iter().filter(|earlier| {
            earlier.key == later.key
                && earlier.told <= later.invoked
                && earlier.token >= later.token
        });
        for earlier in before {
            let lost = record_of(facts, later.key)
                .is_some_and(|key| is_lost(facts, key, (earlier.invoked, later.told)));
            if !lost {
                let text = format!(
                    "{} was given token {} for {}, after {} had been given {} at {}",
                    later.process,
                    later.token,
                    later.key,
                    earlier.process,
                    earlier.token,
                    seconds(earlier.told),
                );
                findings.add(later.told, [later.process.clone()], text);
            }
        }
    }
}

fn check_effects(facts: &Facts<'_>, findings: &mut Findings) {
    let stamped = stamped(facts);
    for key in facts.keys.iter().filter(|key| **key.bucket == *BUCKET) {
        let token = |commit: &Commit| stamped.get(&(key.name.to_string(), commit.value)).copied();
        for (place, (at, commit)) in key.commits.iter().enumerate() {
            let Some(own) = token(commit) else { continue };
            let higher = before(facts, key, place)
                .filter_map(|(at, earlier)| Some((at, earlier, token(earlier)?)))
                .find(|(_, _, token)| *token > own);
            if let Some((earlier_at, earlier, higher)) = higher {
                let by = |commit: &Commit| commit.by.clone().unwrap_or_else(|| "somebody".into());
                let text = format!(
                    "{} wrote {} with token {own}, after {} had written it with {higher} at {}",
                    by(commit),
                    key.name,
                    by(earlier),
                    seconds(earlier_at),
                );
                findings.add(*at, commit.by.clone(), text);
            }
        }
    }
}

/// The tokens of all that effects have written, by its key and value: values are unlike each other. Whatever a process
/// writes of what a lock guards while it is at an effect is of that one.
fn stamped(facts: &Facts<'_>) -> BTreeMap<(String, u64), u64> {
    let mut stamped = BTreeMap::new();
    let mut doing: BTreeMap<&str, (String, u64, Instant)> = BTreeMap::new();
    for called in &facts.calls {
        match called.call {
            Call::Lock(LockCall::Effect { key, token, .. }) => {
                let until = called.ended.map_or(facts.end, |(at, _)| at);
                doing.insert(called.process, (guarded_key(key), *token, until));
            }
            Call::Write { key, value, .. } => {
                if let Some((guarded, token, until)) = doing.get(&**called.process)
                    && **key == **guarded
                    && called.invoked <= *until
                {
                    stamped.insert((guarded.clone(), *value), *token);
                }
            }
            _ => {}
        }
    }
    stamped
}

/// What was stored before, newest first, and was not lost by then.
fn before<'a>(
    facts: &Facts<'_>,
    key: &Key<'a>,
    place: usize,
) -> impl Iterator<Item = (Instant, &'a Commit)> {
    let now = key.commits[place].0;
    let earlier: Vec<(Instant, &Commit)> = key.commits[..place].to_vec();
    let losses = facts.losses.clone();
    earlier.into_iter().rev().filter(move |(at, commit)| {
        let mut losses = losses.iter();
        !losses.any(|(lost, last)| lost >= at && *lost <= now && is_above(commit.revision, *last))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tale::Tale;

    #[test]
    fn an_effect_after_one_with_a_higher_token_is_told() {
        let story = |late: u64| {
            let mut tale = Tale::of_locks(&["alice/1", "bob/1"]);
            tale.at(1).locked("alice/1", 10).effect("alice/1", 10, 20);
            tale.at(7).locked("bob/1", 12).effect("bob/1", 12, 21);
            tale.at(8).effect("alice/1", late, 22);
            tale.told_by("L2")
        };
        assert_eq!(story(12), Vec::<String>::new());
        assert!(story(10)[0].contains("with token 10, after bob/1 had written it with 12"));
    }

    #[test]
    fn tokens_that_do_not_increase_are_told() {
        let story = |token: u64| {
            let mut tale = Tale::of_locks(&["alice/1", "bob/1"]);
            tale.at(1).locked("alice/1", 10);
            tale.at(2).unlocks("alice/1", 10);
            tale.at(3).locked("bob/1", token);
            tale.told_by("L2")
        };
        assert_eq!(story(11), Vec::<String>::new());
        assert!(story(10)[0].starts_with("bob/1 was given token 10"));
    }
}
