//! `squall check`: the invariants over a recorded history, or whether a log of another harness is linearizable.

use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::progress::Searching;
use super::{INCONCLUSIVE, Unusable, VIOLATION, print, status};
use crate::history::{History, HistoryError};
use crate::invariants::{self, Verdict};
use crate::linear::jepsen::{Entry, LogError, Numbered, Outcome, read};
use crate::linear::{self, Unexplained};
use crate::plan::Plan;

/// How a history is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// As squall writes them: JSON lines.
    Squall,
    /// A log of Jepsen's register tests.
    Jepsen,
}

/// Operations without which there would be an order are few; of those that do not help, so many are told.
const OTHERS_TOLD_MAX: usize = 8;

/// Judges a history of ours.
pub(super) fn history(path: &Path) -> Result<ExitCode, Unusable> {
    let (plan, history) = read_history(path)?;
    let verdict = invariants::judge(&plan, &history);
    match &verdict {
        Verdict::Pass => {
            let codes: Vec<&str> = invariants::ALL
                .iter()
                .map(|invariant| invariant.code)
                .collect();
            print(&format!("every invariant held: {}\n", codes.join(" ")));
        }
        Verdict::Fail(violations) => {
            let told = violations.iter().map(|violation| format!("{violation}\n"));
            print(&told.collect::<String>());
        }
        Verdict::Inconclusive(why) => print(&format!("inconclusive: {why}\n")),
    }
    Ok(status(&verdict))
}

/// Reads a history of ours, and the plan that it begins with.
pub(super) fn read_history(path: &Path) -> Result<(Plan, History), Unusable> {
    let unusable = |error: HistoryError| Unusable(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| unusable(error.into()))?;
    let history = History::read(BufReader::new(file)).map_err(unusable)?;
    let plan = history.plan().map_err(unusable)?;
    Ok((plan, history))
}

/// Says whether a log is linearizable.
pub(super) fn log(
    path: &Path,
    steps_max: u64,
    for_how_long: Option<Duration>,
) -> Result<ExitCode, Unusable> {
    let unusable = |error: LogError| {
        Unusable(match &error {
            LogError::Line { line, .. } => format!("{}:{line}: {error}", path.display()),
            _ => format!("{}: {error}", path.display()),
        })
    };
    let file = File::open(path).map_err(|error| unusable(error.into()))?;
    let entries = read(BufReader::new(file)).map_err(unusable)?;
    let numbered = Numbered::new(&entries);
    let began = Instant::now();
    let searching = Searching::new(began);
    let mut look = |progress| {
        searching.step(progress);
        match for_how_long.is_some_and(|limit| began.elapsed() >= limit) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let Numbered {
        register,
        operations,
        ..
    } = &numbered;
    let verdict = linear::check(*register, operations, steps_max, &mut look);
    let (text, status) = match verdict {
        linear::Verdict::Linearizable => (
            format!("linearizable: {}\n", counts(&entries)),
            ExitCode::SUCCESS,
        ),
        linear::Verdict::NotLinearizable(stuck) => {
            let unexplained = linear::explain(*register, operations, stuck, &mut look);
            let text = told(&entries, &numbered, &unexplained);
            (text, ExitCode::from(VIOLATION))
        }
        linear::Verdict::Inconclusive(progress) => {
            let text = format!(
                "undecided: given up after {} steps, with {} of {} invocations and ends explained; --steps allows more\n",
                progress.steps, progress.explained, progress.of
            );
            (text, ExitCode::from(INCONCLUSIVE))
        }
    };
    searching.end();
    print(&text);
    Ok(status)
}

fn counts(entries: &[Entry]) -> String {
    let unknown = entries
        .iter()
        .filter(|entry| entry.outcome == Outcome::Unknown);
    let s = if entries.len() == 1 { "" } else { "s" };
    format!(
        "{} operation{s}, {} of unknown outcome",
        entries.len(),
        unknown.count()
    )
}

/// The operations that no order explains, and which of them has no place.
fn told(entries: &[Entry], numbered: &Numbered, unexplained: &Unexplained) -> String {
    let mut text = format!(
        "not linearizable: no order explains {} of {}\n\n",
        unexplained.operations.len(),
        counts(entries)
    );
    for index in &unexplained.operations {
        text += &row(&entries[*index], entries[*index].ended);
    }
    let others = &unexplained.others;
    if !others.is_empty() {
        text += "\nwhenever these take effect, if they do:\n\n";
    }
    for index in others.iter().take(OTHERS_TOLD_MAX) {
        text += &row(&entries[*index], None);
    }
    if let Some(more @ 1..) = others.len().checked_sub(OTHERS_TOLD_MAX) {
        text += &format!("  and {more} more\n");
    }
    let stuck = &entries[unexplained.stuck];
    let mut held: Vec<String> = unexplained
        .held
        .iter()
        .map(|held| {
            numbered
                .value(*held)
                .unwrap_or_else(|| "a value that nobody asks for".to_owned())
        })
        .collect();
    held.dedup();
    text += &format!(
        "\nprocess {}'s {} (lines {} to {}) has no place: without it, the register holds {} when it ends\n",
        stuck.process,
        stuck.call,
        stuck.invoked,
        stuck.ended.unwrap_or(stuck.invoked),
        held.join(" or "),
    );
    text
}

/// One operation, and the lines between which it took effect.
fn row(entry: &Entry, ended: Option<u64>) -> String {
    let lines = match ended {
        Some(ended) => format!("lines {} to {ended}", entry.invoked),
        None => format!("from line {}", entry.invoked),
    };
    let what = match ended {
        Some(_) => entry.to_string(),
        None => entry.call.to_string(),
    };
    format!("  {lines:<18} process {:<4} {what}\n", entry.process)
}
