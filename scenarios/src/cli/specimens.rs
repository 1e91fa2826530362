//! `squall specimens`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::files::write_whole;
use super::{Unusable, VIOLATION, hush_panics, print};
use crate::specimens::search::{self, Inspection, RANGES};
use crate::specimens::{self, Specimen};

/// Runs of a range in storms: what takes more is missed there.
const STORMS_MAX: u64 = 2000;
/// What hides from here on is looked for in storms, too.
const DEEP: u8 = 3;

/// Searches for all of them, keeps the smallest plan of each and the table of all where wanted.
pub(super) fn inspect(keep: Option<&Path>, table: Option<&Path>) -> Result<ExitCode, Unusable> {
    hush_panics();
    let mut all_hold = true;
    let mut lines = String::new();
    print(&format!(
        "{:<38} {:>5}  {:<4}  {:>12}  {:>8}  {:>11}  {:>8}  right twin\n",
        "specimen", "level", "code", "seeds needed", "cpu", "faults left", "shrunk"
    ));
    for specimen in specimens::all() {
        let inspection = search::inspect(specimen);
        all_hold &= inspection.holds();
        let row = row(&inspection);
        let [code, seeds, worked, faults, shrinking, twin] = &row;
        print(&format!(
            "{:<38} {:>5}  {code:<4}  {seeds:>12}  {worked:>8}  {faults:>11}  {shrinking:>8}  {twin}\n",
            specimen.name, specimen.level,
        ));
        if table.is_some() {
            let storms = storms(specimen);
            // Writing to memory cannot fail.
            let _infallible = writeln!(
                lines,
                "| `{}` | {} | {} | {} |",
                specimen.name,
                specimen.level,
                row.join(" | "),
                storms.join(" | ")
            );
        }
        if let (Some(directory), Some(shrunk)) = (keep, inspection.smallest()) {
            let unwritable = |error| Unusable(format!("{}: {error}", directory.display()));
            std::fs::create_dir_all(directory).map_err(unwritable)?;
            let path = directory.join(format!("{}.toml", specimen.name));
            write_whole(&path, search::kept(specimen, shrunk).as_bytes())?;
        }
    }
    print(&format!("\nSeeds needed: the median of {RANGES} ranges.\n"));
    if let Some(path) = table {
        write_whole(path, page(&lines).as_bytes())?;
    }
    Ok(if all_hold {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(VIOLATION)
    })
}

fn row(inspection: &Inspection) -> [String; 6] {
    let or_missed =
        |number: Option<u64>| number.map_or_else(|| "missed".to_owned(), |n| n.to_string());
    let seconds = |time: Option<std::time::Duration>| {
        let time = time.unwrap_or_default().as_secs_f64();
        format!("{time:.2} s")
    };
    let faults = inspection.faults_left().map(|left| left as u64);
    let twin = if inspection.twin_passes() {
        "passes"
    } else {
        "FAILS"
    };
    [
        inspection.code().unwrap_or("-").to_owned(),
        or_missed(inspection.seeds_needed()),
        seconds(inspection.worked()),
        or_missed(faults),
        seconds(inspection.shrinking()),
        twin.to_owned(),
    ]
}

/// Seeds needed in storms, as they come and steered.
fn storms(specimen: &'static Specimen) -> [String; 2] {
    if specimen.level < DEEP {
        return ["", ""].map(str::to_owned);
    }
    [false, true].map(|is_steered| {
        let needed = search::in_storms(specimen, is_steered, STORMS_MAX);
        needed.map_or_else(|| format!("over {STORMS_MAX}"), |needed| needed.to_string())
    })
}

fn page(lines: &str) -> String {
    format!(
        "# Specimens\n\n\
         Planted flaws, and what it takes to find them: written by `cargo squall specimens --table`, never by hand. What\n\
         each of them is, and what the levels mean, is told in `scenarios/src/specimens/mod.rs`.\n\n\
         Seeds, and seconds of one processor until the flaw is found: medians of {RANGES} disjoint ranges of seeds, in the\n\
         scenarios that are named with the specimen. Faults left: the most that any of the {RANGES} shrunk plans has. Shrinking:\n\
         the longest of the {RANGES}. In storms: the median number of runs until it is found in the storms of its room, as\n\
         seeds come, and with half of the runs steered; over {STORMS_MAX}, where most ranges of so many did not find it.\n\n\
         | specimen | level | code | seeds | to find | faults left | to shrink | right twin | in storms | steered |\n\
         |---|---|---|---|---|---|---|---|---|---|\n\
         {lines}"
    )
}
