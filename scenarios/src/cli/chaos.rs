//! `squall chaos`: many seeds of many scenarios.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use squall_reports::terminal;

use super::files::write_run;
use super::progress::Progress;
use super::{INCONCLUSIVE, Unusable, VIOLATION, matching, print, style};
use crate::invariants::Verdict;
use crate::report;
use crate::sweep::{self, reproduce};

/// Seeds of each scenario, if nothing else is said.
const SEEDS_DEFAULT: u64 = 100;

pub(super) fn chaos(
    patterns: &[String],
    seeds: Option<u64>,
    first_seed: u64,
    for_how_long: Option<Duration>,
    jobs: Option<usize>,
    report: Option<PathBuf>,
) -> Result<ExitCode, Unusable> {
    let scenarios = matching(patterns)?;
    if seeds == Some(0) {
        return Err(Unusable("--seeds must be at least 1".to_owned()));
    }
    if jobs == Some(0) {
        return Err(Unusable("--jobs must be at least 1".to_owned()));
    }
    if for_how_long == Some(Duration::ZERO) {
        return Err(Unusable("--for must be longer than nothing".to_owned()));
    }
    let seeds = match for_how_long {
        Some(_) => u64::MAX,
        None => seeds.unwrap_or(SEEDS_DEFAULT),
    };
    let count = scenarios.len() as u64;
    let total = seeds.checked_mul(count);
    let threads = jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let progress = Progress::new(total.filter(|_| for_how_long.is_none()), began);
    let unwritten = std::sync::Mutex::new(None);
    let mut sweep = sweep::sweep(
        threads.unwrap_or(1),
        |number| {
            // Seed by seed over all scenarios, so that a sweep that is stopped has seen something of each.
            let scenario = scenarios.get(usize::try_from(number % count).ok()?)?;
            let seed = number / count;
            (seed < seeds).then(|| Some((*scenario, first_seed.checked_add(seed)?)))?
        },
        &stop,
        |run| {
            progress.step(1, run.verdict == Verdict::Pass);
            if let (Some(directory), false) = (&report, run.verdict == Verdict::Pass) {
                let command = reproduce(&run.plan.scenario, run.plan.seed);
                let written = write_run(directory, run, &report::model(run, command));
                if let (Err(error), Ok(mut unwritten)) = (written, unwritten.lock()) {
                    *unwritten = Some(error);
                    stop.store(true, Ordering::Relaxed);
                }
            }
            if for_how_long.is_some_and(|limit| began.elapsed() >= limit) {
                stop.store(true, Ordering::Relaxed);
            }
        },
    );
    progress.end();
    sweep.elapsed = began.elapsed();
    if let Ok(Some(error)) = unwritten.into_inner() {
        return Err(error);
    }
    print(&terminal::render_sweep(&sweep, style()));
    Ok(if sweep.failures() > 0 {
        ExitCode::from(VIOLATION)
    } else if sweep.inconclusive() > 0 {
        ExitCode::from(INCONCLUSIVE)
    } else {
        ExitCode::SUCCESS
    })
}
