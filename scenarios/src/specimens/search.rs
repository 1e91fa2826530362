//! Looks for specimens: how many seeds each takes, how small a plan still shows it, and whether its right twin passes.
//!
//! Disjoint ranges of seeds are searched, each from its start until the specimen is found, and the plan that found it is
//! shrunk. The twin runs every plan that was searched, the shrunk one included: an invariant that fails both is wrong.

use super::Specimen;
use crate::invariants::{Verdict, Violation};
use crate::plan::Plan;
use crate::run::simulate;
use crate::shrink::{Shrunk, shrink, violation};
use crate::stories;

/// Ranges of seeds, so that no lucky seed speaks for all.
pub const RANGES: u64 = 5;
/// Seeds of a range: who is not found in so many is missed.
pub const SEEDS_MAX: u64 = 200;
/// Runs that shrinking may take.
const SHRINK_RUNS_MAX: u32 = 500;

/// A specimen was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// By this seed.
    pub seed: u64,
    /// So many had been tried, this one included.
    pub seeds_needed: u64,
    /// In this run.
    pub plan: Plan,
    /// By this violation.
    pub violation: Violation,
}

/// The right twin broke an invariant: a flaw of the core or of the harness.
#[derive(Clone, Debug)]
pub struct TwinFailure {
    /// In this run.
    pub plan: Plan,
    /// So.
    pub verdict: Verdict,
}

/// What became of one range of seeds.
#[derive(Clone, Debug)]
pub struct Searched {
    /// Where it begins.
    pub first_seed: u64,
    /// The seed that found the specimen, if one did.
    pub found: Option<Found>,
    /// The plan of that seed, made smaller.
    pub shrunk: Option<Shrunk>,
    /// Where the right twin failed; nowhere, if all is well.
    pub twin_failures: Vec<TwinFailure>,
}

/// What became of one specimen.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Which.
    pub specimen: &'static Specimen,
    /// Each range.
    pub ranges: Vec<Searched>,
}

/// The plan that a seed gives for a specimen: its scenarios take turns.
fn plan(specimen: &Specimen, seed: u64) -> Option<Plan> {
    let turn = usize::try_from(seed).unwrap_or(0) % specimen.scenarios.len().max(1);
    let scenario = stories::find(specimen.scenarios.get(turn)?)?;
    let specimen = Some(specimen.name.to_owned());
    Some(Plan {
        specimen,
        ..scenario.draw(seed)
    })
}

/// The same plan for the right one.
fn twin(plan: &Plan) -> Plan {
    Plan {
        specimen: None,
        ..plan.clone()
    }
}

/// Searches so many seeds for one that finds the specimen by one of its codes.
pub fn find(specimen: &Specimen, first_seed: u64, seeds_max: u64) -> Option<Found> {
    (first_seed..first_seed + seeds_max).find_map(|seed| {
        let plan = plan(specimen, seed)?;
        let violation = violation(&plan, specimen.codes)?;
        Some(Found {
            seed,
            seeds_needed: seed - first_seed + 1,
            plan,
            violation,
        })
    })
}

/// Searches one range, shrinks what is found, and lets the twin run the same.
pub fn search(specimen: &Specimen, first_seed: u64, seeds_max: u64) -> Searched {
    let found = find(specimen, first_seed, seeds_max);
    let shrunk = found
        .as_ref()
        .and_then(|found| shrink(&found.plan, &found.violation.code, SHRINK_RUNS_MAX));
    let searched = found.as_ref().map_or(seeds_max, |found| found.seeds_needed);
    let twin_failures = (first_seed..first_seed + searched)
        .filter_map(|seed| plan(specimen, seed))
        .chain(shrunk.iter().map(|shrunk| shrunk.plan.clone()))
        .filter_map(|plan| {
            let plan = twin(&plan);
            let verdict = simulate(&plan).verdict;
            (verdict != Verdict::Pass).then_some(TwinFailure { plan, verdict })
        })
        .collect();
    Searched {
        first_seed,
        found,
        shrunk,
        twin_failures,
    }
}

/// Searches [`RANGES`] ranges of [`SEEDS_MAX`] seeds.
pub fn inspect(specimen: &'static Specimen) -> Inspection {
    let ranges = (0..RANGES)
        .map(|range| search(specimen, range * SEEDS_MAX, SEEDS_MAX))
        .collect();
    Inspection { specimen, ranges }
}

impl Inspection {
    /// Found in every range, and its twin passed everywhere.
    pub fn holds(&self) -> bool {
        self.twin_passes() && self.ranges.iter().all(|range| range.shrunk.is_some())
    }

    /// The right twin passed everywhere.
    pub fn twin_passes(&self) -> bool {
        self.ranges
            .iter()
            .all(|range| range.twin_failures.is_empty())
    }

    /// The invariant that told it first, of the first range that found it.
    pub fn code(&self) -> Option<&str> {
        let found = self.ranges.iter().find_map(|range| range.found.as_ref());
        found.map(|found| found.violation.code.as_str())
    }

    /// Seeds needed: the median of the ranges, where one that missed it counts as more than any.
    pub fn seeds_needed(&self) -> Option<u64> {
        let found = self.ranges.iter().map(|range| range.found.as_ref());
        median(found.map(|found| found.map_or(u64::MAX, |found| found.seeds_needed)))
            .filter(|needed| *needed < u64::MAX)
    }

    /// Faults left in the shrunk plans: the median of those there are.
    pub fn faults_left(&self) -> Option<u64> {
        let shrunk = self
            .ranges
            .iter()
            .filter_map(|range| range.shrunk.as_ref())
            .map(|shrunk| shrunk.plan.faults.len() as u64);
        median(shrunk)
    }

    /// The smallest of the shrunk plans: fewest faults, then fewest agents.
    pub fn smallest(&self) -> Option<&Shrunk> {
        let shrunk = self.ranges.iter().filter_map(|range| range.shrunk.as_ref());
        shrunk
            .min_by_key(|Shrunk { plan, .. }| (plan.faults.len(), plan.agents.len(), plan.duration))
    }
}

fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// A shrunk plan as it is kept under `plans/specimens`: what is wrong with it at the top, in comments.
pub fn kept(specimen: &Specimen, shrunk: &Shrunk) -> String {
    let head = format!("{}\n{}", specimen.flaw, shrunk.violation);
    let head: String = head.lines().map(|line| format!("# {line}\n")).collect();
    format!("{head}\n{}", shrunk.plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;
    use crate::specimens;

    #[test]
    fn every_specimen_is_found_in_every_range_and_its_twin_passes() {
        for specimen in specimens::all() {
            let name = specimen.name;
            let inspection = inspect(specimen);
            for range in &inspection.ranges {
                assert!(range.found.is_some(), "{name} from {}", range.first_seed);
                if let Some(TwinFailure { plan, verdict }) = range.twin_failures.first() {
                    panic!("the twin of {name} fails: {verdict:?}\n{plan}");
                }
            }
            assert!(inspection.holds(), "{name}");
            // One for each event that the level names, or fewer: what happens by itself needs no fault.
            let level = u64::from(specimen.level);
            let mut scenarios = specimen
                .scenarios
                .iter()
                .filter_map(|name| stories::find(name));
            let takes_faults = scenarios.all(|scenario| !scenario.faults.is_empty());
            let fewest = u64::from(level >= 2 && takes_faults);
            let left = inspection.faults_left();
            let is_small = left.is_some_and(|left| (fewest..level.max(1)).contains(&left));
            assert!(is_small, "{name}: {left:?}");

            let smallest = inspection.smallest().expect("it was found");
            let read = parse(&kept(specimen, smallest)).expect("it is a plan");
            assert_eq!(read, smallest.plan);
        }
    }

    #[test]
    fn a_kept_plan_breaks_the_same_every_time_and_its_twin_passes() {
        for specimen in specimens::all() {
            let name = specimen.name;
            let file = format!("{}/plans/specimens/{name}.toml", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
            let plan = parse(&text).unwrap_or_else(|e| panic!("{file}: line {}: {e}", e.line));
            assert_eq!(plan.specimen.as_deref(), Some(name));

            let told = violation(&plan, specimen.codes);
            assert!(told.is_some(), "{name} is not found by its kept plan");
            for _again in 0..2 {
                assert_eq!(violation(&plan, specimen.codes), told, "{name}");
            }
            assert_eq!(simulate(&twin(&plan)).verdict, Verdict::Pass, "{name}");
        }
    }

    #[test]
    fn the_median_counts_what_was_missed_as_more_than_any() {
        assert_eq!(median([7, 1, 3].into_iter()), Some(3));
        assert_eq!(median([].into_iter()), None);
    }
}
