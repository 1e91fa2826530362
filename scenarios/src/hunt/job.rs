//! [`Job`]: one run to be done, and the numbers of all of them.

use std::fmt::Display;
use std::ops::Range;

use squall_reports::sweep::Sweep;

use crate::coverage::{self, WATCHED_EVERY};
use crate::report;
use crate::run::{Run, simulate, simulate_noticing};
use crate::stories::Scenario;

/// One run to be done: a scenario and a seed.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Which story.
    pub scenario: &'static Scenario,
    /// How it is told.
    pub seed: u64,
    /// Whether it is watched for what it reaches. The run is the same.
    pub is_watched: bool,
}

impl Job {
    /// Does it; the run, and as a sweep of one.
    pub fn run(&self) -> (Run, Sweep) {
        let plan = self.scenario.draw(self.seed);
        if !self.is_watched {
            let run = simulate(&plan);
            let sweep = counted(&run);
            return (run, sweep);
        }
        let (run, moments) = simulate_noticing(&plan);
        let mut sweep = counted(&run);
        sweep.coverage = coverage::of(&moments);
        (run, sweep)
    }
}

/// The command that runs this seed again, or the plan of this [origin](crate::vary::Origin).
pub fn reproduce(scenario: &str, seed: impl Display) -> String {
    format!("cargo squall run {scenario} --seed {seed}")
}

/// The run as a sweep of one.
pub(super) fn counted(run: &Run) -> Sweep {
    let mut sweep = Sweep::default();
    let command = reproduce(&run.plan.scenario, run.plan.seed);
    sweep.record(&report::outline(run, command));
    sweep
}

/// All jobs of a hunt: what its settings mean.
#[derive(Clone, Debug)]
pub struct Jobs {
    scenarios: Vec<&'static Scenario>,
    first_seed: u64,
    total: Option<u64>,
}

impl Jobs {
    pub(super) const fn new(
        scenarios: Vec<&'static Scenario>,
        first_seed: u64,
        total: Option<u64>,
    ) -> Self {
        Self {
            scenarios,
            first_seed,
            total,
        }
    }

    /// How many there are; `None` where only time bounds them.
    pub const fn total(&self) -> Option<u64> {
        self.total
    }

    /// The job of this number; `None` past the last.
    pub fn get(&self, number: u64) -> Option<Job> {
        if self.total.is_some_and(|total| number >= total) {
            return None;
        }
        let count = self.scenarios.len() as u64;
        let scenario = *self.scenarios.get(usize::try_from(number % count).ok()?)?;
        let round = number / count;
        let seed = self.first_seed.checked_add(round)?;
        Some(Job {
            scenario,
            seed,
            is_watched: round.is_multiple_of(WATCHED_EVERY),
        })
    }

    /// The jobs of these numbers, those that there are.
    pub fn range(&self, numbers: Range<u64>) -> impl Iterator<Item = (u64, Job)> {
        numbers.map_while(|number| Some((number, self.get(number)?)))
    }
}
