//! What is written is whole, can be read again, and says the same.

use std::process::{Command, Output};

fn squall(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_squall"))
        .args(arguments)
        .output()
        .expect("the program runs")
}

#[test]
fn a_report_holds_what_is_needed_to_see_the_violation_again() {
    let directory = tempfile::tempdir().expect("a folder");
    let report = directory.path().to_str().expect("a path of text");
    let plan = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/plans/specimens/presence-close-deletes-successor.toml"
    );
    let first = squall(&["replay", plan, "--report", report]);
    assert_eq!(first.status.code(), Some(1));
    let written = |ending: &str| format!("{report}/presence-restart-overlap.200.{ending}");

    // The plan that was written down gives the very same run.
    let again = squall(&["replay", &written("plan.toml"), "--report", report]);
    assert_eq!(again.status.code(), Some(1));
    // The history alone gives the same verdict.
    let checked = squall(&["check", &written("history.jsonl")]);
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8(checked.stdout).expect("text");
    assert!(said.starts_with("P4 at 5."), "{said}");
    let told = std::fs::read_to_string(written("txt")).expect("a report");
    assert!(told.contains("P4 own incarnation is violated"), "{told}");
    let left = std::fs::read_dir(directory.path())
        .expect("a folder")
        .count();
    assert_eq!(
        left, 4,
        "plan, history, model and report, and no temporary file"
    );
}

#[test]
fn a_calm_run_passes_and_says_so() {
    let run = squall(&["run", "presence/calm", "--seed", "4"]);
    let said = String::from_utf8(run.stdout).expect("text");
    assert_eq!(run.status.code(), Some(0), "{said}");
    assert!(said.contains("PASS") && said.contains("cargo squall run presence/calm --seed 4"));
    assert!(!said.contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn every_scenario_is_listed_with_its_promise() {
    let listed = String::from_utf8(squall(&["list"]).stdout).expect("text");
    for scenario in squall_scenarios::stories::all() {
        assert!(listed.contains(scenario.name) && listed.contains(scenario.promise));
    }
}

#[test]
fn several_patterns_choose_each_scenario_once() {
    let chosen = squall(&[
        "fingerprint",
        "--seeds",
        "1",
        "--scenario",
        "presence/calm",
        "--scenario",
        "presence/ca*",
        "--scenario",
        "*/missed-heartbeats",
    ]);
    let said = String::from_utf8(chosen.stdout).expect("text");
    let names: Vec<&str> = said.lines().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(names, ["presence/calm", "presence/missed-heartbeats"]);
}
