//! `squall diagnose`: what a connection-event log amounts to, whoever wrote it.
//!
//! The end of the log stands for now, so that a log says the same tomorrow and on another machine.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use squall_core::UnixTime;
use squall_core::diagnostics::{BrokenLine, Diagnosis, EventsRead, Evidence, read_events};
use squall_reports::terminal::{self, Style};

use super::{Unusable, VIOLATION, print, style};
use crate::diagnosis::{time, told};

/// From when on patterns and events are told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Since {
    /// So long before the end of the log.
    Before(Duration),
    /// This time.
    At(UnixTime),
}

impl std::str::FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = UnixTime::parse_rfc3339(text).map(Self::At);
        time.or_else(|_| humantime::parse_duration(text).map(Self::Before))
            .map_err(|error| {
                format!("neither a time like 2026-05-28T20:00:00Z nor a span like 1h: {error}")
            })
    }
}

pub(super) fn diagnose(
    path: &Path,
    since: Option<Since>,
    json: bool,
) -> Result<ExitCode, Unusable> {
    let is_stdin = path == Path::new("-");
    let source = if is_stdin {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let log = if is_stdin {
        let mut log = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut log);
        read.map(|_| log)
    } else {
        std::fs::read(path)
    };
    let log = log.map_err(|error| Unusable(format!("{source}: {error}")))?;
    let EventsRead { events, broken } = read_events(&log);
    if let (true, Some(BrokenLine { number, why })) = (events.is_empty(), broken.first()) {
        let sentence = format!("{source}: no line is a connection event; line {number}: {why}");
        return Err(Unusable(sentence));
    }
    for BrokenLine { number, why } in &broken {
        eprintln!(
            "squall: {source}: line {number} is no connection event and is passed over: {why}"
        );
    }
    let end = events.iter().map(|event| event.at).max();
    let now = end.unwrap_or(UnixTime::EPOCH);
    let since = since.map(|since| match since {
        Since::Before(span) => now - span,
        Since::At(time) => time,
    });
    let diagnosis = Diagnosis::of(&Evidence::of_log(&events), now, since);
    if json {
        let json = serde_json::to_string_pretty(&diagnosis);
        let json = json.map_err(|error| Unusable(format!("{source}: {error}")))?;
        print(&format!("{json}\n"));
    } else {
        let mut report = told(&diagnosis, source, now, since);
        report.broken = broken.len() as u64;
        report.end = end.map(time);
        print(&terminal::render_diagnosis(&report, as_wide_as_it_is()));
    }
    Ok(if diagnosis.patterns.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(VIOLATION)
    })
}

/// Where nobody has said how wide a line is, a line is a line: so it can be searched.
fn as_wide_as_it_is() -> Style {
    let style = style();
    let is_told = std::io::stdout().is_terminal() || std::env::var_os("COLUMNS").is_some();
    Style {
        width: if is_told { style.width } else { usize::MAX },
        ..style
    }
}
