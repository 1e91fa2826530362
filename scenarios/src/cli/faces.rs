//! `squall report`: draws what was recorded again, for another kind of reader.
//!
//! What is drawn is the model of a run, the file that `--report` writes beside plan and history. A history alone is not
//! enough: it does not say which faults changed anything.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use squall_reports::model::Run;
use squall_reports::sweep::Sweep;
use squall_reports::{html, junit, markdown, spacetime, terminal, trace};

use super::files::write_whole;
use super::{Unusable, print, style};
use crate::report::conceal;

/// For whom a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text, as after a run.
    Terminal,
    /// A page for a browser, written beside each model.
    Html,
    /// For a pull request, or the summary of a job.
    Markdown,
    /// XML for a continuous integration server.
    Junit,
    /// JSON that Perfetto opens, written beside each model.
    Trace,
    /// The space-time diagram of what led to a violation, written beside each model that has one.
    Svg,
    /// The models themselves, one line of JSON each, as `squall_reports::model` documents them.
    Json,
}

/// How the name of a model ends.
const MODEL: &str = ".run.json";
/// How the name of a history ends.
const HISTORY: &str = ".history.jsonl";

/// Draws one run, or all runs of a directory.
pub(super) fn report(path: &Path, format: Format, opens: bool) -> Result<ExitCode, Unusable> {
    if opens && !matches!(format, Format::Html | Format::Svg) {
        let reason =
            "--open shows files that a browser can draw: it goes with --format html or svg";
        return Err(Unusable(reason.to_owned()));
    }
    let paths = models(path)?;
    let runs: Result<Vec<Run>, Unusable> = paths.iter().map(|path| read(path)).collect();
    let runs = runs?;
    match format {
        Format::Terminal => each(&runs, |run| terminal::render(run, style())),
        Format::Markdown => each(&runs, markdown::render),
        Format::Junit => {
            let mut sweep = Sweep::default();
            runs.iter().for_each(|run| sweep.record(run));
            let text = junit::render_sweep(&sweep);
            print(&text.map_err(|error| Unusable(error.to_string()))?);
        }
        Format::Html => {
            let written = write(&paths, &runs, ".html", |run| Some(html::render(run)))?;
            show(&written, opens)?;
        }
        Format::Svg => {
            let written = write(&paths, &runs, ".svg", spacetime::render)?;
            if written.is_empty() {
                let reason = "nothing is violated in it, so that there is nothing to draw";
                return Err(Unusable(format!("{}: {reason}", path.display())));
            }
            show(&written, opens)?;
        }
        Format::Trace => {
            write(&paths, &runs, ".trace.json", |run| Some(trace::render(run)))?;
        }
        Format::Json => {
            for run in &runs {
                let line = serde_json::to_string(run);
                let line = line.map_err(|error| Unusable(error.to_string()))?;
                print(&format!("{line}\n"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn each(runs: &[Run], render: impl Fn(&Run) -> String) {
    let texts: Vec<String> = runs.iter().map(render).collect();
    print(&texts.join("\n"));
}

/// Writes what can be drawn, each beside its model, and says where.
fn write(
    paths: &[PathBuf],
    runs: &[Run],
    ending: &str,
    render: impl Fn(&Run) -> Option<String>,
) -> Result<Vec<PathBuf>, Unusable> {
    let mut files = Vec::new();
    for (path, run) in paths.iter().zip(runs) {
        let Some(drawn) = render(run) else {
            continue;
        };
        let written = beside(path, MODEL, ending);
        let path = written.unwrap_or_else(|| path.with_extension(&ending[1..]));
        write_whole(&path, drawn.as_bytes())?;
        print(&format!("{}\n", path.display()));
        files.push(path);
    }
    Ok(files)
}

/// Opens the first file in the browser, if that is wanted.
fn show(files: &[PathBuf], opens: bool) -> Result<(), Unusable> {
    let (true, Some(first)) = (opens, files.first()) else {
        return Ok(());
    };
    open::that(first).map_err(|error| Unusable(format!("{}: {error}", first.display())))
}

/// The models that are meant: a file, the one beside a history, or all in a directory, in the order of their names.
fn models(path: &Path) -> Result<Vec<PathBuf>, Unusable> {
    if !path.is_dir() {
        let model = beside(path, HISTORY, MODEL);
        return Ok(vec![model.unwrap_or_else(|| path.to_owned())]);
    }
    let mut found = Vec::new();
    look(path, &mut found)?;
    found.sort();
    if found.is_empty() {
        let path = path.display();
        return Err(Unusable(format!(
            "{path}: there is no file *{MODEL} in it; --report of a run writes one"
        )));
    }
    Ok(found)
}

/// Adds the models in a directory, and in those below: a hunt keeps each finding in one of its own.
fn look(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), Unusable> {
    let unusable = |error: std::io::Error| Unusable(format!("{}: {error}", path.display()));
    for entry in std::fs::read_dir(path).map_err(unusable)? {
        let entry = entry.map_err(unusable)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type().map_err(unusable)?.is_dir() {
            look(&entry.path(), found)?;
        } else if name.ends_with(MODEL) || *name == MODEL[1..] {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// The file beside `path` whose name ends with `wanted` instead of `ending`; none if its name does not end so.
fn beside(path: &Path, ending: &str, wanted: &str) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    // In a directory of its own a file has no name but its ending.
    if name == &ending[1..] {
        return Some(path.with_file_name(&wanted[1..]));
    }
    let stem = name.strip_suffix(ending)?;
    Some(path.with_file_name(format!("{stem}{wanted}")))
}

fn read(path: &Path) -> Result<Run, Unusable> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Unusable(format!("{}: {error}", path.display())))?;
    let mut run: Run = serde_json::from_str(&text)
        .map_err(|error| Unusable(format!("{}:{}: {error}", path.display(), error.line())))?;
    // Whoever wrote it may have known no secrets.
    conceal(&mut run);
    Ok(run)
}
