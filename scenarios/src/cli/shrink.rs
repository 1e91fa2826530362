//! `squall shrink`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::files::{read_plan, write_whole};
use super::progress::Shrinking;
use super::{Unusable, VIOLATION, find, hush_panics, print};
use crate::invariants::Verdict;
use crate::run::simulate;
use crate::shrink;
use crate::vary::Origin;

/// Makes a plan, or that of a seed, as small as it can be within these limits, and prints it or writes it into a file.
pub(super) fn shrink(
    plan: &str,
    seed: Option<Origin>,
    runs: u32,
    for_how_long: Option<Duration>,
    output: Option<PathBuf>,
) -> Result<ExitCode, Unusable> {
    let original = match seed {
        Some(origin) => origin.plan(find(plan)?),
        None => read_plan(Path::new(plan))?,
    };
    hush_panics();
    let holds = || Unusable("the plan violates nothing: there is nothing to shrink".to_owned());
    let Verdict::Fail(violations) = simulate(&original).verdict else {
        return Err(holds());
    };
    let code = &violations.first().ok_or_else(holds)?.code;
    let began = Instant::now();
    let progress = Shrinking::new(began);
    let shrunk = shrink::shrink_while(&original, code, |best| {
        progress.step(best);
        best.runs < runs && for_how_long.is_none_or(|limit| began.elapsed() < limit)
    });
    progress.end();
    let shrunk = shrunk
        .ok_or_else(|| Unusable("the plan did not violate the same a second time".to_owned()))?;
    let (before, after) = (original.faults.len(), shrunk.plan.faults.len());
    let (many, few) = (original.agents.len(), shrunk.plan.agents.len());
    let end = if shrunk.is_smallest {
        "nothing more can be taken away"
    } else {
        "stopped before every smaller plan was tried"
    };
    eprintln!(
        "faults {before} -> {after}, agents {many} -> {few}, in {} runs; {end}",
        shrunk.runs
    );
    match output {
        Some(path) => {
            let story = shrunk.story(&path.display().to_string());
            write_whole(&path, story.as_bytes())?;
        }
        None => print(&shrunk.story("PLAN.toml")),
    }
    Ok(ExitCode::from(VIOLATION))
}
