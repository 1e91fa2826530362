//! Sweeps: many seeds of many scenarios, on all cores, counted as they come.
//!
//! Each seed is a run of its own, on one thread, and nothing is shared between runs: a seed gives the same trace inside a
//! sweep as alone, whatever the number of jobs. Results are counted in the order of the seeds, so that the summary is the
//! same too.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use squall_reports::sweep::Sweep;

use crate::report;
use crate::run::{Run, simulate};
use crate::stories::Scenario;

/// One run to be done: a scenario and a seed.
pub type Job = (&'static Scenario, u64);

/// What has been counted so far, and results that wait for their turn.
struct Counted {
    next: u64,
    waiting: BTreeMap<u64, squall_reports::model::Run>,
    sweep: Sweep,
}

/// Runs jobs on so many threads until `jobs` has no more or `stop` is set; calls `done` after each with its run.
pub fn sweep(
    threads: usize,
    jobs: impl Fn(u64) -> Option<Job> + Sync,
    stop: &AtomicBool,
    done: impl Fn(&Run) + Sync,
) -> Sweep {
    let next = AtomicU64::new(0);
    let counted = Mutex::new(Counted {
        next: 0,
        waiting: BTreeMap::new(),
        sweep: Sweep::default(),
    });
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((scenario, seed)) = jobs(number) else {
                return;
            };
            let run = simulate(&scenario.draw(seed));
            let outline = report::outline(&run, reproduce(scenario.name, seed));
            done(&run);
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.waiting.insert(number, outline);
            loop {
                let turn = counted.next;
                let Some(outline) = counted.waiting.remove(&turn) else {
                    break;
                };
                counted.sweep.record(&outline);
                counted.next += 1;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut counted = counted.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Stopped in the middle: what came out of turn counts too.
    for (_, outline) in std::mem::take(&mut counted.waiting) {
        counted.sweep.record(&outline);
    }
    counted.sweep
}

/// The command that runs this seed again, or the plan of this [origin](crate::vary::Origin).
pub fn reproduce(scenario: &str, seed: impl Display) -> String {
    format!("cargo squall run {scenario} --seed {seed}")
}
