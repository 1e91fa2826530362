//! `squall specimens`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use squall_reports::html::{Beside, Pages};
use squall_reports::markdown;
use squall_reports::specimen::{COLUMNS, Specimen, Storms};
use squall_reports::sweep::Sweep;

use super::files::write_whole;
use super::summary::Summary;
use super::{Unusable, VIOLATION, hush_panics, print};
use crate::specimens;
use crate::specimens::search::{self, Inspection, RANGES};

/// Runs of a range in storms: what takes more is missed there.
const STORMS_MAX: u64 = 2000;
/// What hides from here on is looked for in storms, too.
const DEEP: u8 = 3;

/// What is written beside the table that is printed.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// Writes the smallest failing plan of each into this directory.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Looks for what hides deep in storms, too, as seeds come and steered, and writes a table of all into this file.
    #[arg(long, num_args = 0..=1, default_missing_value = "docs/specimens.md")]
    table: Option<PathBuf>,
    /// Writes a page, a summary and JUnit XML into this directory.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// Searches for all of them.
pub(super) fn inspect(wanted: &Wanted) -> Result<ExitCode, Unusable> {
    hush_panics();
    let began = Instant::now();
    let mut sweep = Sweep::default();
    print(&line(&COLUMNS.map(str::to_owned)));
    for specimen in specimens::all() {
        let inspection = search::inspect(specimen);
        let mut told = told(&inspection);
        print(&line(&told.row()));
        if wanted.table.is_some() && specimen.level >= DEEP {
            let needed = |is_steered| search::in_storms(specimen, is_steered, STORMS_MAX);
            told.storms = Some(Storms {
                runs_max: STORMS_MAX,
                plain: needed(false),
                steered: needed(true),
            });
        }
        sweep.specimens.push(told);
        if let (Some(directory), Some(shrunk)) = (&wanted.keep, inspection.smallest()) {
            let unwritable = |error| Unusable(format!("{}: {error}", directory.display()));
            std::fs::create_dir_all(directory).map_err(unwritable)?;
            let path = directory.join(format!("{}.toml", specimen.name));
            write_whole(&path, search::kept(specimen, shrunk).as_bytes())?;
        }
    }
    sweep.elapsed = began.elapsed();
    print(&format!(
        "\nSeeds, and time to find: the median of {RANGES} ranges.\n"
    ));
    if let Some(path) = &wanted.table {
        write_whole(path, page(&sweep.specimens).as_bytes())?;
    }
    if let Some(directory) = &wanted.report {
        write_report(directory, &sweep)?;
    }
    Ok(if sweep.specimens.iter().all(|specimen| specimen.holds) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(VIOLATION)
    })
}

fn write_report(directory: &Path, sweep: &Sweep) -> Result<(), Unusable> {
    let beside = Beside {
        nights: &[],
        pages: &Pages::new(),
    };
    let summary = Summary {
        sweep,
        beside,
        more: "",
    };
    summary.write(directory)
}

fn told(inspection: &Inspection) -> Specimen {
    Specimen {
        name: inspection.specimen.name.to_owned(),
        level: inspection.specimen.level,
        code: inspection.code().map(str::to_owned),
        seeds: inspection.seeds_needed(),
        worked: inspection.worked().unwrap_or_default(),
        faults_left: inspection.faults_left().map(|left| left as u64),
        shrinking: inspection.shrinking().unwrap_or_default(),
        twin_passes: inspection.twin_passes(),
        holds: inspection.holds(),
        storms: None,
    }
}

/// A row of what is printed: without the storms, which take as long again.
fn line(row: &[String; 10]) -> String {
    let [name, level, code, seeds, found, faults, shrunk, twin, ..] = row;
    format!(
        "{name:<38} {level:>5}  {code:<4}  {seeds:>6}  {found:>8}  {faults:>11}  {shrunk:>9}  {twin}\n"
    )
}

fn page(specimens: &[Specimen]) -> String {
    format!(
        "# Specimens\n\n\
         Planted flaws, and what it takes to find them: written by `cargo squall specimens --table`, never by hand. What\n\
         each of them is, and what the levels mean, is told in `scenarios/src/specimens/mod.rs`.\n\n\
         Seeds, and seconds of one processor until the flaw is found: medians of {RANGES} disjoint ranges of seeds, in the\n\
         scenarios that are named with the specimen. Faults left: the most that any of the {RANGES} shrunk plans has. Shrinking:\n\
         the longest of the {RANGES}. In storms, for what hides deep (level {DEEP} and up): the median number of runs until it is\n\
         found in the storms of its room, as seeds come, and with half of the runs steered; over {STORMS_MAX}, where most\n\
         ranges of so many did not find it.\n\n\
         {}",
        markdown::specimens(specimens)
    )
}
