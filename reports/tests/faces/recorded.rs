//! Runs as they were recorded: one of each kind of violation, and one on a real server, on every face.
//!
//! `runs/` holds their models, written by `squall replay PLAN --report DIR` and, for the real server, by `squall run
//! presence/calm --on nats --report DIR`; only how long they took was taken out. They are not recorded again when the
//! code that was run changes: that the models of earlier builds are read is part of what is tested.

use std::collections::BTreeSet;
use std::path::Path;

use insta::assert_snapshot;
use squall_reports::model::{Run, Verdict, World};
use squall_reports::sweep::Sweep;
use squall_reports::{junit, markdown, terminal, trace};

use super::html::story;
use super::samples::inconclusive;
use super::terminal::plain;

/// Traces of so many events are kept; of longer ones nobody reads the changes.
const TRACED_MAX: usize = 100;

/// By their names, in that order: the code of what they violate, or what they are.
fn runs() -> Vec<(String, Run)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faces/runs");
    let files = std::fs::read_dir(folder).expect("they are kept");
    let mut runs: Vec<_> = files
        .map(|file| {
            let path = file.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            let name = name.trim_end_matches(".run.json").to_owned();
            let text = std::fs::read_to_string(&path).expect("a model");
            let run = serde_json::from_str(&text);
            (
                name,
                run.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            )
        })
        .collect();
    runs.push(("inconclusive".to_owned(), inconclusive()));
    runs.sort_by(|one, other| one.0.cmp(&other.0));
    runs
}

#[test]
fn each_is_of_another_kind() {
    let runs = runs();
    let codes: BTreeSet<_> = runs
        .iter()
        .filter_map(|(_, run)| Some(run.violations().first()?.invariant.code.clone()))
        .collect();
    assert!(codes.len() >= 12, "{codes:?}");
    let is_real =
        |run: &Run| matches!(run.world, World::Nats { .. }) && run.verdict == Verdict::Pass;
    assert!(
        runs.iter().any(|(_, run)| is_real(run)),
        "a pass on a real server"
    );
    for (name, run) in &runs {
        let first = run.violations().first().map(|it| it.invariant.code.clone());
        assert!(first.is_none_or(|code| code == *name), "{name}");
    }
}

#[test]
fn in_markdown() {
    for (name, run) in runs() {
        assert_snapshot!(format!("markdown_{name}"), markdown::render(&run));
    }
}

#[test]
fn in_a_terminal() {
    for (name, run) in runs() {
        let text = terminal::render(&run, plain(100));
        assert_snapshot!(format!("terminal_{name}"), text);
    }
}

#[test]
fn as_a_page_without_scripts() {
    for (name, run) in runs() {
        assert_snapshot!(format!("html_{name}"), story(&run));
    }
}

#[test]
fn for_a_continuous_integration_server() {
    for (name, run) in runs() {
        let mut sweep = Sweep::default();
        sweep.record(&run);
        let xml = junit::render_sweep(&sweep).expect("texts are cleaned");
        assert_snapshot!(format!("junit_{name}"), xml);
    }
}

#[test]
fn for_a_viewer_of_traces() {
    let runs = runs().into_iter();
    let short: Vec<_> = runs
        .filter(|(_, run)| run.marks.len() <= TRACED_MAX)
        .collect();
    assert!(short.len() >= 10);
    for (name, run) in short {
        // One event a line, so that a change can be read.
        let text = trace::render(&run).replace("},{", "},\n{");
        assert_snapshot!(format!("trace_{name}"), text);
    }
}
