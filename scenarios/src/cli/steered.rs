//! `squall chaos --steer`: each run may tell where to look next.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use squall_reports::html::{Beside, Pages};
use squall_reports::sweep::Sweep;
use squall_reports::terminal;

use super::chaos::SEEDS_DEFAULT;
use super::files::write_run;
use super::progress::Progress;
use super::summary::Summary;
use super::{Unusable, matching, print, status_of_sweep, style};
use crate::coverage;
use crate::hunt::reproduce;
use crate::invariants::Verdict;
use crate::report;
use crate::steer::{Quarry, Steered, steer};

/// So many runs of each scenario, one scenario after the other.
pub(super) fn chaos(
    patterns: &[String],
    runs: Option<u64>,
    first_seed: u64,
    threads: usize,
    directory: Option<&Path>,
) -> Result<ExitCode, Unusable> {
    let scenarios = matching(patterns)?;
    if runs == Some(0) {
        return Err(Unusable("--seeds must be at least 1".to_owned()));
    }
    let runs = runs.unwrap_or(SEEDS_DEFAULT);
    let began = Instant::now();
    let progress = Progress::new(runs.checked_mul(scenarios.len() as u64), began);
    let mut sweep = Sweep {
        coverage: coverage::nothing(),
        ..Sweep::default()
    };
    let (mut pages, mut unwritten) = (Pages::new(), None);
    for scenario in scenarios {
        let quarry = Quarry {
            scenario,
            specimen: None,
        };
        steer(quarry, first_seed, runs, threads, |steered| {
            let Steered {
                origin,
                run,
                moments,
                ..
            } = steered;
            progress.step(1, run.verdict == Verdict::Pass);
            sweep.coverage.merge(coverage::of(moments));
            let command = reproduce(scenario.name, origin);
            sweep.record(&report::outline(run, command.clone()));
            if let (Some(directory), false) = (directory, run.verdict == Verdict::Pass) {
                let name = format!("{}.{origin}", scenario.name.replace('/', "-"));
                let model = report::model(run, command.clone());
                pages.insert(command, format!("{name}.html"));
                if let Err(error) = write_run(directory, &name, run, &model) {
                    unwritten = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        if let Some(error) = unwritten {
            progress.end();
            return Err(error);
        }
    }
    progress.end();
    sweep.elapsed = began.elapsed();
    print(&terminal::render_sweep(&sweep, style()));
    if let Some(directory) = directory {
        let beside = Beside {
            nights: &[],
            pages: &pages,
        };
        let summary = Summary {
            sweep: &sweep,
            beside,
            more: "",
        };
        summary.write(directory)?;
    }
    Ok(status_of_sweep(&sweep))
}
