//! Coverage of behaviour: which states, transitions, events, effects and errors a sweep has reached, and which it never did.
//!
//! Runs are watched by their [moments](squall_sim::moments). What there is to be reached is the list in `marks.rs`; why
//! some of it never is, is told in `docs/coverage.md`.

mod marks;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use squall_sim::moments::Happened;

pub use self::marks::{GROUPS, Group};

impl Group {
    /// Its marks, as moments are named.
    pub fn marks(&self) -> impl Iterator<Item = String> {
        let name = |what: &&str| format!("{} {} {what}", self.who, self.verb);
        self.whats.iter().map(name)
    }
}

/// How many runs reached what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    runs: u64,
    reached: BTreeMap<String, u64>,
}

impl Coverage {
    /// Counts a run.
    pub fn count(&mut self, happened: &[Happened]) {
        self.runs += 1;
        let names: BTreeSet<&str> = happened.iter().map(|moment| &*moment.name).collect();
        let marks: BTreeSet<String> = names.into_iter().flat_map(marks_of).collect();
        for mark in marks {
            *self.reached.entry(mark).or_default() += 1;
        }
    }

    /// Counts what somebody else has counted.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        for (mark, runs) in &other.reached {
            *self.reached.entry(mark.clone()).or_default() += runs;
        }
    }

    /// Of each group, how many marks were reached, and those that never were.
    pub fn of_groups(&self) -> impl Iterator<Item = (&'static Group, usize, Vec<&'static str>)> {
        GROUPS.iter().map(|group| {
            let marks = group.marks().zip(group.whats);
            let is_never = |(mark, what): (String, &&'static str)| {
                (!self.reached.contains_key(&mark)).then_some(*what)
            };
            let never: Vec<&str> = marks.filter_map(is_never).collect();
            (group, group.whats.len() - never.len(), never)
        })
    }

    /// A table of what was never reached; a group of which nothing was reached is told in a word.
    pub fn table(&self) -> String {
        let of = GROUPS.iter().map(|group| group.whats.len()).sum::<usize>();
        let reached: usize = self.of_groups().map(|(_, reached, _)| reached).sum();
        let mut table = format!("reached {reached} of {of} marks in {} runs\n", self.runs);
        for (group, reached, never) in self.of_groups() {
            let (who, verb, of) = (group.who, group.verb, group.whats.len());
            let never = match (reached, never.is_empty()) {
                (_, true) => continue,
                (0, _) => "none of them".to_owned(),
                _ => never.join(", "),
            };
            // Writing to memory cannot fail.
            let _infallible = writeln!(
                table,
                "  {:<36} {reached:>3} of {of:<3} never: {never}",
                format!("{who} {verb}")
            );
        }
        table
    }
}

/// The marks that a moment of this name reaches: the state that a machine goes to is one by itself.
fn marks_of(name: &str) -> Vec<String> {
    let words: Vec<&str> = name.split(' ').collect();
    let mut marks = Vec::new();
    if let [who, "goes", "from", ..] = words.as_slice() {
        if let Some((_, to)) = name.split_once(" to ") {
            marks.push(format!("{who} becomes {to}"));
        }
        return marks;
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
    marks.sort();
    marks.dedup();
    let known = |mark: &String| {
        let of_group = |group: &Group| {
            let rest = mark
                .strip_prefix(group.who)
                .and_then(|rest| rest.strip_prefix(' '));
            let rest = rest.and_then(|rest| rest.strip_prefix(group.verb));
            let what = rest.and_then(|rest| rest.strip_prefix(' '));
            what.is_some_and(|what| group.whats.contains(&what))
        };
        GROUPS.iter().any(of_group)
    };
    marks.retain(known);
    marks
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
            assert_eq!(marks_of(moment), marks, "{moment}");
        }
    }

    #[test]
    fn what_no_run_reached_is_told_by_name() {
        let scenario = stories::find("lock/calm").expect("it is there");
        let mut coverage = Coverage::default();
        let (_, happened) = simulate_noticing(&scenario.draw(1));
        coverage.count(&happened);
        let table = coverage.table();
        assert!(table.contains("state::Holder becomes"), "{table}");
        assert!(table.contains("presence::Keeper hears"), "{table}");
        let line = |head: &str| table.lines().find(|line| line.contains(head));
        let never = line("state::Contender becomes").map(|line| line.contains("writing"));
        assert_ne!(never, Some(true), "a lock was taken: {table}");
        let refused = line("server refuses with").expect("nothing was refused");
        assert!(refused.contains("10083"), "{table}");
    }
}
