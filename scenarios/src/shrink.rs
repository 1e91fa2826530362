//! Shrinking: the same violation from a smaller plan, until nothing is left that could be taken away.
//!
//! After delta debugging (Zeller and Hildebrandt, 2002): whole parts of a list are taken away before its items one by one,
//! and what is left is tried again until a whole round changes nothing. Faults go first, then agents, what the world has
//! beside the usual, and what agents do beside their pace; then times become shorter, earlier and rounder. Each step makes
//! the plan smaller by [`weight`](steps::weight), so that there is an end to it.
//!
//! That taking one fault away does not reshuffle the rest (each concern draws from a stream of its own) is what makes this
//! work. What it does reshuffle is the order of tasks, so what a plan owes to one lucky order is tried under a few others,
//! too, before it is said to be needed.

mod steps;
mod times;

use crate::invariants::{Verdict, Violation};
use crate::kept;
use crate::parse::parse;
use crate::plan::Plan;
use crate::run::simulate;
use crate::specimens;

/// A plan that could not be made smaller, or not within the runs that were allowed.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// It.
    pub plan: Plan,
    /// What it breaks.
    pub violation: Violation,
    /// Runs it took to get there.
    pub runs: u32,
    /// Whether every smaller plan has been tried.
    pub is_smallest: bool,
}

/// The first violation of one of these invariants in a run of this plan.
pub fn violation(plan: &Plan, codes: &[&str]) -> Option<Violation> {
    match simulate(plan).verdict {
        Verdict::Fail(violations) => violations
            .into_iter()
            .find(|violation| codes.contains(&violation.code.as_str())),
        Verdict::Pass | Verdict::Inconclusive(_) => None,
    }
}

/// Makes a plan smaller that breaks the invariant of this code, in at most so many runs; `None` if it does not break it.
pub fn shrink(plan: &Plan, code: &str, runs_max: u32) -> Option<Shrunk> {
    shrink_while(plan, code, |best| best.runs < runs_max)
}

/// The same, for as long as it may go on: asked before each run, with the best so far.
///
/// A specimen may show by any of its codes, anything else by the same one only.
pub fn shrink_while(plan: &Plan, code: &str, go_on: impl FnMut(&Shrunk) -> bool) -> Option<Shrunk> {
    let specimen = plan.specimen.as_deref().and_then(specimens::find);
    let of_specimen = specimen.map(|specimen| specimen.codes);
    let codes = match of_specimen.filter(|codes| codes.contains(&code)) {
        Some(codes) => codes.to_vec(),
        None => vec![code],
    };
    let mut search = Search {
        best: Shrunk {
            plan: plan.clone(),
            violation: violation(plan, &codes)?,
            runs: 1,
            is_smallest: false,
        },
        codes,
        go_on,
    };
    search.best.is_smallest = search.to_the_end().is_some();
    Some(search.best)
}

/// What is taken away first tells most.
const PASSES: [fn(&Shrunk) -> Vec<Plan>; 8] = [
    times::the_end,
    steps::faults,
    steps::agents,
    steps::world,
    steps::workload,
    times::all,
    steps::other_orders,
    steps::names,
];

struct Search<'a, F> {
    best: Shrunk,
    codes: Vec<&'a str>,
    go_on: F,
}

impl<F: FnMut(&Shrunk) -> bool> Search<'_, F> {
    /// Goes through all passes until none changes anything; `None` if it may not go on.
    fn to_the_end(&mut self) -> Option<()> {
        loop {
            let before = self.best.plan.clone();
            for pass in PASSES {
                self.pass(pass)?;
            }
            if self.best.plan == before {
                return Some(());
            }
        }
    }

    /// Tries what a pass proposes, and, once something has been taken away, what it proposes for the rest.
    fn pass(&mut self, proposals: fn(&Shrunk) -> Vec<Plan>) -> Option<()> {
        let mut tried = 0;
        'rest: loop {
            for candidate in proposals(&self.best).into_iter().skip(tried) {
                if self.is_taken(candidate)? {
                    continue 'rest;
                }
                tried += 1;
            }
            return Some(());
        }
    }

    /// Takes this plan for the best, if it is smaller and breaks the same.
    fn is_taken(&mut self, mut candidate: Plan) -> Option<bool> {
        candidate.faults.sort_by_key(|fault| fault.at);
        let is_smaller = steps::weight(&candidate) < steps::weight(&self.best.plan);
        if !is_smaller || parse(&candidate.to_string()).as_ref() != Ok(&candidate) {
            return Some(false);
        }
        if !(self.go_on)(&self.best) {
            return None;
        }
        self.best.runs += 1;
        let Some(violation) = violation(&candidate, &self.codes) else {
            return Some(false);
        };
        (self.best.plan, self.best.violation) = (candidate, violation);
        Some(true)
    }
}

impl Shrunk {
    /// The plan as people read it: what it breaks and the command that shows it at the top, in comments.
    pub fn story(&self, file: &str) -> String {
        let comments = format!("{}\ncargo squall replay {file}", self.violation);
        kept::text(&comments, &self.plan, &self.violation.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stories;

    fn spoilt() -> Plan {
        let scenario = stories::find("presence/restart-overlap").expect("it is there");
        Plan {
            specimen: Some("presence-close-deletes-successor".to_owned()),
            ..scenario.draw(1)
        }
    }

    #[test]
    fn a_plan_that_holds_is_not_shrunk() {
        let right = Plan {
            specimen: None,
            ..spoilt()
        };
        assert!(shrink(&right, "P4", 10).is_none());
    }

    #[test]
    fn shrinking_is_deterministic_and_ends_where_nothing_can_be_taken_away() {
        let [one, other] = [(); 2].map(|()| shrink(&spoilt(), "P4", 5000).expect("it is broken"));
        assert_eq!((&one.plan, &one.violation), (&other.plan, &other.violation));
        assert!(one.is_smallest, "{} runs", one.runs);
        for pass in PASSES {
            for plan in pass(&one) {
                let is_plan = parse(&plan.to_string()).as_ref() == Ok(&plan);
                let is_smaller = steps::weight(&plan) < steps::weight(&one.plan);
                assert!(
                    !is_plan || !is_smaller || violation(&plan, &["P4"]).is_none(),
                    "{plan}"
                );
            }
        }
    }

    #[test]
    fn what_is_left_is_a_story_of_a_few_lines_that_shows_the_same_again() {
        let shrunk = shrink(&spoilt(), "P4", 5000).expect("it is broken");
        let story = shrunk.story("story.toml");
        assert!(
            shrunk.plan.faults.len() <= 3 && shrunk.plan.agents.len() <= 2,
            "{story}"
        );
        assert!(story.lines().count() <= 30, "{story}");
        assert!(
            story.starts_with("# P4 at ") && story.contains("\n# cargo squall replay story.toml\n")
        );
        let read = parse(&story).expect("it is a plan");
        assert_eq!(read, shrunk.plan);
        assert_eq!(violation(&read, &["P4"]), Some(shrunk.violation));
    }

    #[test]
    fn shrinking_stops_when_its_runs_are_spent_with_the_best_so_far() {
        let shrunk = shrink(&spoilt(), "P4", 1).expect("it is broken");
        assert_eq!((&shrunk.plan, shrunk.runs), (&spoilt(), 1));
        let mut best = Vec::new();
        let shrunk = shrink_while(&spoilt(), "P4", |so_far| {
            best.push(so_far.plan.faults.len());
            best.len() <= 20
        });
        let shrunk = shrunk.expect("it is broken");
        assert!(!shrunk.is_smallest && shrunk.runs == 21);
        assert!(best.is_sorted_by(|one, next| one >= next), "{best:?}");
        assert!(shrunk.plan.faults.len() < spoilt().faults.len());
    }
}
