//! `squall report`: draws what was recorded again, for another kind of reader.
//!
//! What is drawn is the model of a run, the file that `--report` writes beside plan and history; of a directory in which a
//! hunt is kept, what all of it came to, and each finding. A history alone can be drawn too: but it does not say which
//! faults changed anything.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use squall_reports::html::Beside;
use squall_reports::model::Run;
use squall_reports::sweep::{Night, Sweep};
use squall_reports::{html, junit, markdown, spacetime, terminal, trace};

use super::check::read_history;
use super::files::write_whole;
use super::nightly::nights_of;
use super::summary::Summary;
use super::{Unusable, print, style};
use crate::hunt::{Folder, Kept, pages};
use crate::report::{conceal, conceal_sweep, model_of_history};

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

/// Draws one run, all runs of a directory, or a hunt.
pub(super) fn report(path: &Path, format: Format, opens: bool) -> Result<ExitCode, Unusable> {
    if opens && !matches!(format, Format::Html | Format::Svg) {
        let reason =
            "--open shows files that a browser can draw: it goes with --format html or svg";
        return Err(Unusable(reason.to_owned()));
    }
    let hunted = Folder::look(path)?.map(|kept| hunted(path, kept));
    let hunted = hunted.transpose()?;
    let paths = models(path, hunted.is_some())?;
    match format {
        Format::Terminal => match &hunted {
            Some(hunted) => print(&terminal::render_sweep(&hunted.sweep, style())),
            None => each(&paths, |run| terminal::render(run, style()))?,
        },
        Format::Markdown => match &hunted {
            Some(hunted) => print(&markdown::render_sweep(&hunted.sweep)),
            None => each(&paths, markdown::render)?,
        },
        Format::Junit => {
            let sweep = hunted.map_or_else(|| counted(&paths), |hunted| Ok(hunted.sweep))?;
            let text = junit::render_sweep(&sweep);
            print(&text.map_err(|error| Unusable(error.to_string()))?);
        }
        Format::Html => {
            let pages = write(&paths, "html", |run| Some(html::render(run)))?;
            let summary = hunted.map(|hunted| hunted.write_page(path)).transpose()?;
            show(summary.iter().chain(&pages), opens)?;
        }
        Format::Svg => {
            let written = write(&paths, "svg", spacetime::render)?;
            if written.is_empty() {
                let reason = "nothing is violated in it, so that there is nothing to draw";
                return Err(Unusable(format!("{}: {reason}", path.display())));
            }
            show(&written, opens)?;
        }
        Format::Trace => {
            write(&paths, "trace.json", |run| Some(trace::render(run)))?;
        }
        Format::Json => match &hunted {
            Some(hunted) => print(&json(&hunted.sweep)?),
            None => {
                for path in &paths {
                    print(&json(&read(path)?)?);
                }
            }
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// What a hunt came to, and what its page tells beside that.
struct Hunted {
    sweep: Sweep,
    nights: Vec<Night>,
}

fn hunted(path: &Path, kept: Kept) -> Result<Hunted, Unusable> {
    let mut sweep = kept.ledger.told(kept.spent);
    conceal_sweep(&mut sweep);
    let nights = match kept.settings.nightly {
        true => nights_of(path)?,
        false => Vec::new(),
    };
    Ok(Hunted { sweep, nights })
}

impl Hunted {
    /// Writes the page that leads to those of the findings, and says where.
    fn write_page(&self, directory: &Path) -> Result<PathBuf, Unusable> {
        let summary = Summary {
            sweep: &self.sweep,
            beside: Beside {
                nights: &self.nights,
                pages: &pages(directory, &self.sweep),
            },
            more: "",
        };
        let path = summary.write_page(directory)?;
        print(&format!("{}\n", path.display()));
        Ok(path)
    }
}

fn counted(paths: &[PathBuf]) -> Result<Sweep, Unusable> {
    let mut sweep = Sweep::default();
    for path in paths {
        sweep.record(&read(path)?);
    }
    Ok(sweep)
}

fn each(paths: &[PathBuf], render: impl Fn(&Run) -> String) -> Result<(), Unusable> {
    for (index, path) in paths.iter().enumerate() {
        let gap = if index > 0 { "\n" } else { "" };
        print(&format!("{gap}{}", render(&read(path)?)));
    }
    Ok(())
}

fn json(model: &impl serde::Serialize) -> Result<String, Unusable> {
    let line = serde_json::to_string(model).map_err(|error| Unusable(error.to_string()))?;
    Ok(line + "\n")
}

/// Writes what can be drawn, each beside its model, and says where.
fn write(
    paths: &[PathBuf],
    ending: &str,
    render: impl Fn(&Run) -> Option<String>,
) -> Result<Vec<PathBuf>, Unusable> {
    let mut files = Vec::new();
    for path in paths {
        let Some(drawn) = render(&read(path)?) else {
            continue;
        };
        let path = path.with_file_name(format!("{}.{ending}", stem(path)));
        write_whole(&path, drawn.as_bytes())?;
        print(&format!("{}\n", path.display()));
        files.push(path);
    }
    Ok(files)
}

/// How the names of what is drawn of this model or history begin.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = [MODEL, HISTORY]
        .iter()
        .find_map(|ending| name.strip_suffix(ending));
    match (stem, path.file_stem()) {
        // In a directory of its own a file has no name but its ending.
        _ if *name == MODEL[1..] || *name == HISTORY[1..] => "report".to_owned(),
        (Some(stem), _) => stem.to_owned(),
        (None, Some(stem)) => stem.to_string_lossy().into_owned(),
        (None, None) => "report".to_owned(),
    }
}

/// Opens the first file in the browser, if that is wanted.
fn show<'a>(files: impl IntoIterator<Item = &'a PathBuf>, opens: bool) -> Result<(), Unusable> {
    let (true, Some(first)) = (opens, files.into_iter().next()) else {
        return Ok(());
    };
    open::that(first).map_err(|error| Unusable(format!("{}: {error}", first.display())))
}

/// The models that are meant: a file, the one beside a history, or all in a directory, in the order of their names. A
/// hunt need not have found anything.
fn models(path: &Path, is_hunt: bool) -> Result<Vec<PathBuf>, Unusable> {
    if !path.is_dir() {
        let model = beside(path, HISTORY, MODEL).filter(|model| model.exists());
        return Ok(vec![model.unwrap_or_else(|| path.to_owned())]);
    }
    let mut found = Vec::new();
    look(path, &mut found)?;
    found.sort();
    if found.is_empty() && !is_hunt {
        let path = path.display();
        return Err(Unusable(format!(
            "{path}: there is no run in it: neither a file *{MODEL} nor {}; --report writes one",
            &MODEL[1..]
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
    if path.extension().is_some_and(|ending| ending == "jsonl") {
        eprintln!(
            "{}: drawn from the history alone, which does not say which faults changed anything: all that began are \
             drawn as if they had",
            path.display()
        );
        let (plan, history) = read_history(path)?;
        let command = format!("cargo squall check {}", path.display());
        return Ok(model_of_history(plan, history, command));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Unusable(format!("{}: {error}", path.display())))?;
    let mut run: Run = serde_json::from_str(&text)
        .map_err(|error| Unusable(format!("{}:{}: {error}", path.display(), error.line())))?;
    // Whoever wrote it may have known no secrets.
    conceal(&mut run);
    Ok(run)
}
