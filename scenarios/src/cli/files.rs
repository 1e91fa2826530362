//! Files that the command line reads and writes: whole, or not at all.

use std::path::Path;

use squall_reports::model;

use super::Unusable;
use crate::hunt;
use crate::parse::parse;
use crate::plan::Plan;
use crate::report::Written;
use crate::run::Run;

/// Reads a plan, or says in which line of which file it is none.
pub(super) fn read_plan(path: &Path) -> Result<Plan, Unusable> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Unusable(format!("{}: {error}", path.display())))?;
    parse(&text).map_err(|error| Unusable(format!("{}:{}: {error}", path.display(), error.line)))
}

/// How the files of a run begin, if nothing else is said.
pub(super) fn name_of(run: &Run) -> String {
    format!("{}.{}", run.plan.scenario.replace('/', "-"), run.plan.seed)
}

/// Writes plan, history, model and report of a run, each whole or not at all.
pub(super) fn write_run(
    directory: &Path,
    name: &str,
    run: &Run,
    model: &model::Run,
) -> Result<(), Unusable> {
    let unwritable = |error: std::io::Error| Unusable(format!("{}: {error}", directory.display()));
    let history = format!("{name}.history.jsonl");
    let written = Written::new(run, model, &history).map_err(unwritable)?;
    std::fs::create_dir_all(directory).map_err(unwritable)?;
    let files: [(&str, &[u8]); 5] = [
        ("plan.toml", written.plan.as_bytes()),
        ("history.jsonl", &written.history),
        ("run.json", &written.model),
        ("html", written.page.as_bytes()),
        ("txt", written.text.as_bytes()),
    ];
    for (ending, bytes) in files {
        write_whole(&directory.join(format!("{name}.{ending}")), bytes)?;
    }
    Ok(())
}

/// Writes a file whole or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Unusable> {
    hunt::write_whole(path, bytes).map_err(|error| Unusable(format!("{}: {error}", path.display())))
}
