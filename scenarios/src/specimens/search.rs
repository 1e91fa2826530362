//! Looks for specimens: how many seeds each takes, how small a plan still shows it, and whether its right twin passes.
//!
//! Disjoint ranges of seeds are searched, each from its start until the specimen is found, and the plan that found it is
//! shrunk. The twin runs every plan that was searched, the shrunk one included: an invariant that fails both is wrong.
//! What hides deep is looked for once more where all sorts of things happen, in the storms of its room, as seeds come and
//! [steered](crate::steer): that is what steering gains.

use std::ops::ControlFlow;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::Specimen;
use crate::invariants::{Verdict, Violation};
use crate::kept;
use crate::plan::Plan;
use crate::run::{Run, simulate};
use crate::shrink::{Shrunk, shrink, violation};
use crate::steer::{Quarry, steer};
use crate::stories;

/// Ranges of seeds, so that no lucky seed speaks for all.
pub const RANGES: u64 = 5;
/// Where each begins after the one before.
const RANGE: u64 = 5000;
/// Runs that shrinking may take.
const SHRINK_RUNS_MAX: u32 = 10_000;

/// So many seeds may a specimen of this level need, in the median.
pub const fn seeds_allowed(level: u8) -> u64 {
    match level {
        0 | 1 => 20,
        2 => 100,
        3 => 1000,
        _ => 5000,
    }
}

/// So many faults may be left in its shrunk plans.
pub const fn faults_allowed(level: u8) -> usize {
    match level {
        0 => 1,
        1 | 2 => 2,
        3 => 3,
        _ => 4,
    }
}

/// Seeds of a range: who is not found in so many is missed there.
const fn seeds_of_range(level: u8) -> u64 {
    let twice = 2 * seeds_allowed(level);
    if twice < RANGE { twice } else { RANGE }
}

/// What this thread has worked so far.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

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
    /// What it took to find it, in time of a processor.
    pub worked: Duration,
    /// The plan of that seed, made smaller.
    pub shrunk: Option<Shrunk>,
    /// What that took.
    pub shrinking: Duration,
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
    let began = worked();
    let found = find(specimen, first_seed, seeds_max);
    let finding = worked() - began;
    let shrunk = found
        .as_ref()
        .and_then(|found| shrink(&found.plan, &found.violation.code, SHRINK_RUNS_MAX));
    let shrinking = worked() - began - finding;
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
        worked: finding,
        shrunk,
        shrinking,
        twin_failures,
    }
}

/// Searches [`RANGES`] ranges.
pub fn inspect(specimen: &'static Specimen) -> Inspection {
    let ranges = (0..RANGES)
        .map(|range| search(specimen, range * RANGE, seeds_of_range(specimen.level)))
        .collect();
    Inspection { specimen, ranges }
}

/// Runs that it takes to find a specimen in the storms of its room, as seeds come or steered: the median of all ranges.
/// `None` where most of them do not find it in so many.
pub fn in_storms(specimen: &'static Specimen, is_steered: bool, runs_max: u64) -> Option<u64> {
    let room = specimen.scenarios.first()?.split('/').next()?;
    let quarry = Quarry {
        scenario: stories::find(&format!("{room}/storm"))?,
        specimen: Some(specimen.name),
    };
    let needed = (0..RANGES).map(|range| {
        let first_seed = range * RANGE;
        let needed = match is_steered {
            true => steered(quarry, specimen, first_seed, runs_max),
            false => unsteered(quarry, specimen, first_seed, runs_max),
        };
        needed.unwrap_or(u64::MAX)
    });
    median(needed).filter(|needed| *needed < u64::MAX)
}

fn unsteered(quarry: Quarry, specimen: &Specimen, first_seed: u64, runs: u64) -> Option<u64> {
    let shows = |run: &u64| violation(&quarry.draw(first_seed + run), specimen.codes).is_some();
    (0..runs).find(shows).map(|run| run + 1)
}

fn steered(quarry: Quarry, specimen: &Specimen, first_seed: u64, runs: u64) -> Option<u64> {
    let (mut tried, mut found) = (0, None);
    steer(quarry, first_seed, runs, 1, |steered| {
        tried += 1;
        if shows(&steered.run, specimen) {
            found = Some(tried);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    found
}

fn shows(run: &Run, specimen: &Specimen) -> bool {
    match &run.verdict {
        Verdict::Fail(violations) => {
            let mut codes = violations.iter().map(|violation| violation.code.as_str());
            codes.any(|code| specimen.codes.contains(&code))
        }
        Verdict::Pass | Verdict::Inconclusive(_) => false,
    }
}

impl Inspection {
    /// Found in few enough seeds, shrunk to few enough faults, and its twin passed everywhere.
    pub fn holds(&self) -> bool {
        let level = self.specimen.level;
        let is_found = self
            .seeds_needed()
            .is_some_and(|needed| needed <= seeds_allowed(level));
        let mut shrunk = self.ranges.iter().filter_map(|range| range.shrunk.as_ref());
        let is_small = |shrunk: &Shrunk| shrunk.plan.faults.len() <= faults_allowed(level);
        self.twin_passes() && is_found && shrunk.all(is_small)
    }

    /// What it took to find it, in time of a processor: the median of the ranges.
    pub fn worked(&self) -> Option<Duration> {
        median(self.ranges.iter().map(|range| range.worked))
    }

    /// The longest that shrinking took.
    pub fn shrinking(&self) -> Option<Duration> {
        self.ranges.iter().map(|range| range.shrinking).max()
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

    /// Faults left in the shrunk plans: the most of all.
    pub fn faults_left(&self) -> Option<usize> {
        let shrunk = self.ranges.iter().filter_map(|range| range.shrunk.as_ref());
        shrunk.map(|shrunk| shrunk.plan.faults.len()).max()
    }

    /// The smallest of the shrunk plans: fewest faults, then fewest agents.
    pub fn smallest(&self) -> Option<&Shrunk> {
        let shrunk = self.ranges.iter().filter_map(|range| range.shrunk.as_ref());
        shrunk
            .min_by_key(|Shrunk { plan, .. }| (plan.faults.len(), plan.agents.len(), plan.duration))
    }
}

fn median<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// A shrunk plan as it is kept under `plans/specimens`: what is wrong with it at the top, in comments.
pub fn kept(specimen: &Specimen, shrunk: &Shrunk) -> String {
    let file = format!("scenarios/plans/specimens/{}.toml", specimen.name);
    let comments = format!("{}\n{}", specimen.flaw, shrunk.comments(&file));
    kept::text(&comments, &shrunk.plan, &shrunk.violation.code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;
    use crate::specimens;

    #[test]
    fn every_specimen_is_found_in_time_and_shrunk_and_its_twin_passes() {
        for specimen in specimens::all() {
            let name = specimen.name;
            let inspection = inspect(specimen);
            for range in &inspection.ranges {
                if let Some(TwinFailure { plan, verdict }) = range.twin_failures.first() {
                    panic!("the twin of {name} fails: {verdict:?}\n{plan}");
                }
            }
            let needed = inspection.seeds_needed();
            let left = inspection.faults_left();
            assert!(
                inspection.holds(),
                "{name}: {needed:?} seeds, {left:?} faults left"
            );
            // Where the level says that there is a fault, nothing is found without one, unless time alone does it.
            let mut scenarios = specimen
                .scenarios
                .iter()
                .filter_map(|name| stories::find(name));
            let takes_faults = scenarios.all(|scenario| !scenario.faults.is_empty());
            let is_calm = specimen.level < 2 || !takes_faults;
            assert!(is_calm || left >= Some(1), "{name}: {left:?}");
            let mut shrunk = inspection
                .ranges
                .iter()
                .filter_map(|range| range.shrunk.as_ref());
            let is_through = shrunk.all(|shrunk| shrunk.is_smallest);
            assert!(is_through, "{name}: shrinking stopped at its limit of runs");

            let smallest = inspection.smallest().expect("it was found");
            let read = parse(&kept(specimen, smallest)).expect("it is a plan");
            let expect = read.expect.clone();
            assert_eq!(
                read,
                Plan {
                    expect,
                    ..smallest.plan.clone()
                }
            );
        }
    }

    #[test]
    fn the_median_counts_what_was_missed_as_more_than_any() {
        assert_eq!(median([7, 1, 3].into_iter()), Some(3));
        assert_eq!(median(std::iter::empty::<u64>()), None);
    }
}
