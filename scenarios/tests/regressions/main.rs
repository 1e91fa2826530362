//! Kept plans, each a test: `scenarios/plans/lock/x.toml` is `plans::lock::x`, and must come to what it expects.
//!
//! A harness of our own, so that `cargo test NAME`, `cargo test -- --list` and nextest know each of them by its name.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use squall_scenarios::{kept, specimens};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Some planted flaws panic, and runs tell it. Panics of a test are told by its failure.
    std::panic::set_hook(Box::new(|_| {}));
    let plans = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let mut trials = Vec::new();
    if let Err(error) = look(&plans, "plans", &mut trials) {
        let told = format!("{}: {error}", plans.display());
        trials.push(Trial::test("plans", move || Err(Failed::from(told))));
    }
    trials.sort_by(|one, other| one.name().cmp(other.name()));
    let folder = plans.join("specimens");
    trials.push(Trial::test("every_specimen_is_kept", move || {
        all_kept(&folder)
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Adds a test for each plan in a folder and in those below.
fn look(folder: &Path, name: &str, trials: &mut Vec<Trial>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{name}::{stem}");
        if path.is_dir() {
            look(&path, &name, trials)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            trials.push(Trial::test(name, move || check(&path)));
        }
    }
    Ok(())
}

fn check(path: &PathBuf) -> Result<(), Failed> {
    let shown = path.display();
    let checked = std::fs::read_to_string(path)
        .map_err(|error| error.to_string())
        .and_then(|text| kept::check(&text));
    checked
        .map_err(|reason| Failed::from(format!("{shown}: {reason}\ncargo squall replay {shown}")))
}

/// A planted flaw whose plan got lost would be found by nobody here.
fn all_kept(folder: &Path) -> Result<(), Failed> {
    for specimen in specimens::all() {
        let path = folder.join(format!("{}.toml", specimen.name));
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let plan = squall_scenarios::parse::parse(&text).map_err(|error| error.to_string())?;
        if plan.specimen.as_deref() != Some(specimen.name) {
            return Err(format!("{}: it is not of {}", path.display(), specimen.name).into());
        }
    }
    Ok(())
}
