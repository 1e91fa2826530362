//! Coverage of behaviour: which states, transitions, events, effects and errors a sweep has reached, and which it never did.
//!
//! Runs are watched by their [moments](squall_sim::moments). What there is to be reached is the list in `marks.rs`; why
//! some of it never is, is told in `docs/coverage.md`.

mod marks;

use std::collections::{BTreeMap, BTreeSet};

use squall_reports::sweep::Coverage;
use squall_sim::moments::Moments;

pub use self::marks::{GROUPS, Group};

/// One seed of so many is watched: that takes time.
pub const WATCHED_EVERY: u64 = 8;

impl Group {
    fn name(&self) -> String {
        format!("{} {}", self.who, self.verb)
    }
}

/// What there is to be reached, of which nothing is reached yet.
pub fn nothing() -> Coverage {
    let marks = |group: &Group| group.whats.iter().map(|what| ((*what).to_owned(), 0));
    let groups = GROUPS
        .iter()
        .map(|group| (group.name(), marks(group).collect()));
    Coverage {
        runs: 0,
        groups: groups.collect(),
    }
}

/// What one run has reached.
pub fn of(moments: &Moments) -> Coverage {
    let names = moments.names.iter();
    let marks: BTreeSet<(String, &str)> = names.flat_map(|name| marks_of(name)).collect();
    let mut groups: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for (group, what) in marks {
        groups.entry(group).or_default().insert(what.to_owned(), 1);
    }
    Coverage { runs: 1, groups }
}

/// The marks that a moment of this name reaches, each with its group: the state that a machine goes to is one by itself.
fn marks_of(name: &str) -> BTreeSet<(String, &'static str)> {
    let words: Vec<&str> = name.split(' ').collect();
    let mut marks = Vec::new();
    if let [who, "goes", "from", ..] = words.as_slice() {
        let to = name.split_once(" to ");
        let reached = to.and_then(|(_, to)| known(&format!("{who} becomes {to}")));
        return reached.into_iter().collect();
    }
    // A variant in a variant is a mark where the list has it, and the outer one always.
    for length in 1..=words.len() {
        marks.push(words[..length].join(" "));
    }
    // Errors that hold others are told by these.
    let errors = match words.as_slice() {
        ["an", "error", "is", errors @ ..] => errors,
        words => {
            let fails = words.iter().position(|word| *word == "fails");
            fails.map_or(&[] as &[&str], |fails| &words[words.len().min(fails + 2)..])
        }
    };
    marks.extend(errors.iter().map(|error| format!("an error is {error}")));
    marks.iter().filter_map(|mark| known(mark)).collect()
}

/// The mark of this name, if there is one.
fn known(mark: &str) -> Option<(String, &'static str)> {
    GROUPS.iter().find_map(|group| {
        let rest = mark.strip_prefix(group.who)?.strip_prefix(' ')?;
        let rest = rest.strip_prefix(group.verb)?.strip_prefix(' ')?;
        let what = group.whats.iter().find(|what| **what == rest)?;
        Some((group.name(), *what))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::simulate_noticing;
    use crate::stories;

    #[test]
    fn a_moment_is_the_marks_that_are_listed_and_no_others() {
        let cases: [(&str, &[&str]); 6] = [
            (
                "state::Holder goes from resting to writing",
                &["state::Holder becomes writing"],
            ),
            (
                "presence::Keeper goes from  to cut off",
                &["presence::Keeper becomes cut off"],
            ),
            (
                "presence::Keeper hears Written fails with Write TimedOut",
                &["an error is TimedOut", "presence::Keeper hears Written"],
            ),
            (
                "session::Keeper wants Swapper Dial",
                &["session::Keeper wants Swapper Dial"],
            ),
            ("an error is Write Closed", &["an error is Closed"]),
            ("somebody does something", &[]),
        ];
        for (moment, marks) in cases {
            let reached = marks_of(moment).into_iter();
            let reached: Vec<String> = reached
                .map(|(group, what)| format!("{group} {what}"))
                .collect();
            assert_eq!(reached, marks, "{moment}");
        }
    }

    #[test]
    fn what_no_run_reached_is_told_by_name() {
        let scenario = stories::find("lock/calm").expect("it is there");
        let (_, moments) = simulate_noticing(&scenario.draw(1));
        let mut coverage = nothing();
        assert_eq!((coverage.runs, coverage.reached()), (0, 0));
        let all = coverage.marks();
        coverage.merge(of(&moments));
        assert_eq!((coverage.runs, coverage.marks()), (1, all));
        let reached = |group: &str, mark: &str| coverage.groups[group][mark] > 0;
        assert!(reached("state::Contender becomes", "writing"));
        assert!(!reached("presence::Keeper becomes", "evicted"));
        let refusals = coverage
            .gaps()
            .find(|gap| gap.group == "server refuses with");
        assert_eq!(refusals.map(|gap| gap.reached()), Some(0));
    }

    #[test]
    fn every_reason_is_one_for_marks_that_there_are() {
        let reasons = include_str!("../../docs/coverage.md");
        let lines = reasons.lines().filter(|line| line.starts_with("| `"));
        let mut told = 0;
        for line in lines {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, group, whats, reason, _] = cells.as_slice() else {
                panic!("{line}");
            };
            let is_it = |known: &&Group| format!("`{} {}`", known.who, known.verb) == *group;
            let group = GROUPS.iter().find(is_it).expect(line);
            for what in whats.split(", ") {
                assert!(group.whats.contains(&what), "{what}: {line}");
                told += 1;
            }
            assert!(!reason.is_empty(), "{line}");
        }
        assert!(told > 0);
    }
}
