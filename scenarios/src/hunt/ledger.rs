//! [`Ledger`]: what has been counted, in the order of the jobs' numbers, each once.
//!
//! Jobs end in any order, on threads and on other machines, and a part that was given out again may come twice. What
//! comes early waits for its turn, so that the sum is the same whatever the order; what comes again is noticed, and not
//! counted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_reports::sweep::Sweep;

use crate::coverage;

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Every job below this is counted.
    next: u64,
    /// What waits for its turn, by the number of its first job.
    waiting: BTreeMap<u64, Part>,
    /// Parts that came again.
    twice: u64,
    /// Up to where the reports of a fleet are in it.
    reports_read: u64,
    /// The sum.
    sweep: Sweep,
}

/// The sum of jobs that follow each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    jobs: u64,
    sweep: Sweep,
}

impl Ledger {
    /// Counts so many jobs from this one on; `false` where they have been counted before.
    pub fn count(&mut self, first: u64, jobs: u64, sweep: Sweep) -> bool {
        if self.is_counted(first) {
            self.twice += 1;
            return false;
        }
        self.waiting.insert(first, Part { jobs, sweep });
        while let Some(part) = self.waiting.remove(&self.next) {
            self.sweep.merge(part.sweep);
            self.next += part.jobs;
        }
        true
    }

    /// Whether this job is counted, or waits for its turn.
    pub fn is_counted(&self, number: u64) -> bool {
        let before = self.waiting.range(..=number).next_back();
        number < self.next || before.is_some_and(|(first, part)| number - first < part.jobs)
    }

    /// How many jobs are counted, those included that wait for their turn.
    pub fn jobs(&self) -> u64 {
        let waiting = self.waiting.values().map(|part| part.jobs);
        self.next + waiting.sum::<u64>()
    }

    /// The first job that is not counted.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Parts that came again.
    pub const fn twice(&self) -> u64 {
        self.twice
    }

    /// Up to where the reports of a fleet are in it.
    pub const fn reports_read(&self) -> u64 {
        self.reports_read
    }

    /// The reports of a fleet are in it up to here.
    pub const fn read_reports(&mut self, up_to: u64) {
        self.reports_read = up_to;
    }

    /// The sum of what has had its turn.
    pub const fn sweep(&self) -> &Sweep {
        &self.sweep
    }

    /// The sum of everything: of a hunt that was stopped in the middle, what came out of turn counts too.
    pub fn total(&self) -> Sweep {
        let mut sweep = self.sweep.clone();
        for part in self.waiting.values() {
            sweep.merge(part.sweep.clone());
        }
        sweep
    }

    /// The same as it is told: with how long it took, and with everything that there was to be reached.
    pub fn told(&self, elapsed: Duration) -> Sweep {
        let mut sweep = self.total();
        sweep.elapsed = elapsed;
        sweep.coverage.merge(coverage::nothing());
        sweep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hunt::job::counted;
    use crate::stories;
    use squall_core::Rng;

    #[test]
    fn the_sum_is_the_same_in_any_order_and_what_comes_again_is_not_counted() {
        let scenario = &stories::all()[1];
        let runs: Vec<Sweep> = (0..12)
            .map(|seed| counted(&crate::run::simulate(&scenario.draw(seed))))
            .collect();
        let part = |jobs: std::ops::Range<usize>| {
            let mut sum = Sweep::default();
            runs[jobs].iter().for_each(|run| sum.merge(run.clone()));
            sum
        };
        let mut in_turn = Ledger::default();
        for (number, run) in runs.iter().enumerate() {
            assert!(in_turn.count(number as u64, 1, run.clone()));
        }
        let mut rng = Rng::new(1);
        for _ in 0..20 {
            let mut parts = [(0, 3), (3, 4), (4, 9), (9, 12), (3, 4), (9, 12)];
            rng.shuffle(&mut parts);
            let mut ledger = Ledger::default();
            let mut new = 0;
            for (from, to) in parts {
                let jobs = (to - from) as u64;
                new += u64::from(ledger.count(from as u64, jobs, part(from..to)));
                assert!((from..to).all(|number| ledger.is_counted(number as u64)));
            }
            assert_eq!((new, ledger.twice(), ledger.jobs()), (4, 2, 12));
            assert_eq!(ledger.sweep(), in_turn.sweep());
        }
    }

    #[test]
    fn what_waits_for_its_turn_is_part_of_the_total_alone() {
        let mut ledger = Ledger::default();
        let one = counted(&crate::run::simulate(&stories::all()[0].draw(0)));
        assert!(ledger.count(5, 1, one));
        assert!(ledger.is_counted(5) && !ledger.is_counted(4) && !ledger.is_counted(6));
        assert_eq!((ledger.next(), ledger.jobs()), (0, 1));
        assert_eq!((ledger.sweep().runs(), ledger.total().runs()), (0, 1));
    }
}
