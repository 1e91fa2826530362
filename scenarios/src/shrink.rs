//! Shrinking: the same violation from a smaller plan.
//!
//! Greedy and deterministic: of all plans that are smaller by one step the first that still breaks the same invariant is
//! taken, until none is left or the runs are spent. What is taken away first tells most: faults, what other programs do,
//! agents; then what is left is made shorter and plainer. That removing one fault does not reshuffle the rest (each
//! concern draws from a stream of its own) is what makes this work.

use std::time::Duration;

use crate::invariants::{Verdict, Violation};
use crate::plan::Plan;
use crate::run::simulate;

/// No fault is made shorter than this: smaller plans are not clearer.
const FAULT_MIN: Duration = Duration::from_millis(100);

/// A plan that could not be made smaller, or not within the runs that were allowed.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// It.
    pub plan: Plan,
    /// What it breaks.
    pub violation: Violation,
    /// Runs it took to get there.
    pub runs: u32,
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
    let mut best = Shrunk {
        plan: plan.clone(),
        violation: violation(plan, &[code])?,
        runs: 1,
    };
    'smaller: loop {
        for candidate in smaller(&best.plan) {
            if best.runs >= runs_max {
                return Some(best);
            }
            best.runs += 1;
            if let Some(violation) = violation(&candidate, &[code]) {
                (best.plan, best.violation) = (candidate, violation);
                continue 'smaller;
            }
        }
        return Some(best);
    }
}

/// All plans that are smaller by one step, those that say most first.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut candidates = Vec::new();
    let mut with = |change: &mut dyn FnMut(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        if candidate != *plan {
            candidates.push(candidate);
        }
    };
    for fault in (0..plan.faults.len()).rev() {
        with(&mut |plan| drop(plan.faults.remove(fault)));
    }
    for write in (0..plan.foreign.len()).rev() {
        with(&mut |plan| drop(plan.foreign.remove(write)));
    }
    for agent in (0..plan.agents.len()).rev() {
        let name = &plan.agents[agent].name;
        let is_struck = plan.faults.iter().any(|fault| fault.target == *name);
        if plan.agents.len() > 1 && !is_struck {
            with(&mut |plan| drop(plan.agents.remove(agent)));
        }
    }
    for part in [2, 4, 8] {
        with(&mut |plan| plan.duration = shorter(plan.duration, part).max(needed(plan)));
    }
    for fault in 0..plan.faults.len() {
        for part in [2, 4] {
            with(&mut |plan| {
                let lasts = &mut plan.faults[fault].lasts;
                *lasts = shorter(*lasts, part).max(FAULT_MIN.min(*lasts));
            });
        }
    }
    with(&mut |plan| plan.world.delete_markers = None);
    for agent in 0..plan.agents.len() {
        with(&mut |plan| plan.agents[agent].close = None);
        with(&mut |plan| plan.agents[agent].who_every = None);
        with(&mut |plan| plan.agents[agent].watch = false);
        with(&mut |plan| {
            if let Some(lock) = &mut plan.agents[agent].lock {
                lock.keys = 1;
            }
        });
        with(&mut |plan| {
            if let Some(state) = &mut plan.agents[agent].state {
                state.keys = 1;
            }
        });
        with(&mut |plan| plan.agents[agent].chat = None);
    }
    candidates
}

/// Less by one of so many parts, in whole milliseconds as people read them.
fn shorter(duration: Duration, part: u32) -> Duration {
    let millis = (duration - duration / part).as_millis();
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// A plan cannot be shorter than what happens in it.
fn needed(plan: &Plan) -> Duration {
    let agents = plan.agents.iter().flat_map(|agent| {
        [Some(agent.start), agent.close, agent.who_every]
            .into_iter()
            .flatten()
    });
    let faults = plan.faults.iter().map(crate::fault::Fault::ends);
    let foreign = plan.foreign.iter().map(|write| write.at);
    let last = agents.chain(faults).chain(foreign).max();
    last.unwrap_or_default().max(Duration::from_secs(1))
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
    fn shrinking_is_deterministic_and_ends_where_no_step_is_left() {
        let [one, other] = [(); 2].map(|()| shrink(&spoilt(), "P4", 500).expect("it is broken"));
        assert_eq!((&one.plan, &one.violation), (&other.plan, &other.violation));
        assert!(one.runs < 500, "{} runs", one.runs);
        let smaller = smaller(&one.plan);
        assert!(
            smaller
                .iter()
                .all(|plan| violation(plan, &["P4"]).is_none())
        );
    }

    #[test]
    fn shrinking_stops_when_its_runs_are_spent() {
        let shrunk = shrink(&spoilt(), "P4", 1).expect("it is broken");
        assert_eq!((shrunk.plan, shrunk.runs), (spoilt(), 1));
    }
}
