//! `squall conformance`: the simulated NATS beside real servers, as a matrix of cases and versions.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use super::files::write_whole;
use super::progress::Progress;
use super::{Unusable, VIOLATION, matches, print};
use crate::conformance::script::Script;
use crate::conformance::suite::{Suite, differences};
use crate::conformance::{Case, KINDNESSES, Program, cases, scripts_needed};
use crate::nearest::nearest;

/// What is to be compared.
pub(super) struct Wanted<'a> {
    pub(super) scripts: Range<u32>,
    pub(super) filter: &'a str,
    pub(super) at_once: usize,
}

/// Compares, and prints the matrix.
pub(super) fn run(
    wanted: &Wanted<'_>,
    servers: &[String],
    markdown: bool,
    keep: Option<PathBuf>,
) -> Result<ExitCode, Unusable> {
    if wanted.at_once == 0 {
        return Err(Unusable("--jobs must be at least 1".to_owned()));
    }
    let known = cases();
    let chosen: Vec<Case> = known
        .iter()
        .filter(|case| matches(wanted.filter, &case.path()))
        .copied()
        .collect();
    if chosen.is_empty() {
        let paths: Vec<String> = known.iter().map(Case::path).collect();
        let hint = nearest(wanted.filter, paths.iter().map(String::as_str));
        return Err(Unusable(format!(
            "no case matches {:?}{hint}",
            wanted.filter
        )));
    }
    let suite = Suite {
        programs: programs(servers)?,
        cases: chosen,
        scripts: wanted.scripts.clone(),
        at_once: wanted.at_once,
    };
    let progress = Progress::new(Some(suite.steps()), Instant::now());
    let matrix = suite.run(&|steps, agreed| progress.step(steps, agreed));
    progress.end();
    print(&if markdown {
        matrix.markdown()
    } else {
        matrix.text()
    });
    print(&matrix.findings());
    if let Some(directory) = keep {
        std::fs::create_dir_all(&directory)
            .map_err(|error| Unusable(format!("{}: {error}", directory.display())))?;
        for cell in matrix.cells() {
            for (number, script) in cell.scripts.iter().enumerate() {
                let path = directory.join(format!("found-{}-{number}.toml", cell.version));
                write_whole(&path, script.to_string().as_bytes())?;
            }
        }
    }
    Ok(status(matrix.is_failed()))
}

/// Plants each kindness, and prints as a table of Markdown what finds it.
pub(super) fn plant(scripts: u32, servers: &[String]) -> Result<ExitCode, Unusable> {
    let mut is_failed = false;
    let needed = scripts_needed(scripts);
    let programs = programs(servers)?;
    print("| kindness | found by | generated scripts until one finds it |\n|---|---|---|\n");
    for (planted, needed) in KINDNESSES.iter().zip(needed) {
        for program in &programs {
            let found = planted.differences(program);
            let is_found = found
                .iter()
                .any(|difference| difference.explained.is_none());
            is_failed |= !is_found;
            let by = match is_found {
                true => format!("`{}`", planted.case),
                false => format!("not by `{}`", planted.case),
            };
            let needed = needed.map_or_else(|| format!("none of {scripts}"), |n| n.to_string());
            print(&format!("| {} | {by} | {needed} |\n", planted.what));
        }
    }
    Ok(status(is_failed))
}

/// Plays kept scripts again.
pub(super) fn replay(paths: &[PathBuf], servers: &[String]) -> Result<ExitCode, Unusable> {
    let mut scripts = Vec::new();
    for path in paths {
        let unusable = |why: String| Unusable(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        scripts.push((path, Script::read(&text).map_err(unusable)?));
    }
    let mut is_failed = false;
    for program in programs(servers)? {
        for (path, script) in &scripts {
            let differences = differences(script, &program);
            let said = if differences.is_empty() {
                "="
            } else {
                "differs"
            };
            print(&format!(
                "{} on {}: {said}\n",
                path.display(),
                program.version()
            ));
            for difference in &differences {
                is_failed |= difference.explained.is_none();
                print(&format!("{difference}\n"));
            }
        }
    }
    Ok(status(is_failed))
}

fn status(is_failed: bool) -> ExitCode {
    if is_failed {
        ExitCode::from(VIOLATION)
    } else {
        ExitCode::SUCCESS
    }
}

fn programs(servers: &[String]) -> Result<Vec<Program>, Unusable> {
    let wanted: Vec<Option<&str>> = match servers {
        [] => vec![None],
        some => some.iter().map(|version| Some(version.as_str())).collect(),
    };
    let mut found: Vec<Program> = Vec::new();
    for version in wanted {
        let program = Program::find(version).map_err(|error| Unusable(error.to_string()))?;
        if !found.contains(&program) {
            found.push(program);
        }
    }
    Ok(found)
}
