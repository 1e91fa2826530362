//! What is written is whole, can be read again, and says the same.

use std::process::{Command, Output};

use tempfile::TempDir;

fn squall(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_squall"))
        .args(arguments)
        .output()
        .expect("the program runs")
}

/// A kept plan, which fails.
const PLAN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/plans/specimens/presence-close-deletes-successor.toml"
);

/// Its run: the directory in which it is recorded, that by name, and what the program said.
fn recorded() -> (TempDir, String, Output) {
    let directory = tempfile::tempdir().expect("a folder");
    let report = directory
        .path()
        .to_str()
        .expect("a path of text")
        .to_owned();
    let ran = squall(&["replay", PLAN, "--report", &report]);
    (directory, report, ran)
}

#[test]
fn a_report_holds_what_is_needed_to_see_the_violation_again() {
    let (directory, report, first) = recorded();
    let report = report.as_str();
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
        left, 5,
        "plan, history, model, page and report, and no temporary file"
    );
}

#[test]
fn a_recorded_run_can_be_drawn_for_every_reader() {
    let (_directory, report, _) = recorded();
    let report = report.as_str();
    let written = |ending: &str| format!("{report}/presence-restart-overlap.200.{ending}");

    // A secret that somebody wrote into the model stays there.
    let model = std::fs::read_to_string(written("run.json")).expect("a model");
    let leaky = model.replacen("\"title\":\"", "\"title\":\"nats://amy:hunter2@host ", 1);
    assert_ne!(leaky, model);
    std::fs::write(written("run.json"), leaky).expect("written");

    let draw = |format: &str, path: &str| {
        let drawn = squall(&["report", path, "--format", format]);
        let said = String::from_utf8(drawn.stdout).expect("text");
        assert_eq!(drawn.status.code(), Some(0), "{said}");
        said
    };
    let file = |path: &str| std::fs::read_to_string(path.trim_end()).expect("a file");
    let told = draw("terminal", &written("history.jsonl"));
    let page = file(&draw("html", report));
    let all = [
        draw("markdown", &written("run.json")),
        draw("junit", report),
        file(&draw("trace", report)),
        file(&draw("svg", report)),
        draw("json", report),
        page,
        told,
    ];
    for text in all {
        assert!(text.contains("P4"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let nothing = tempfile::tempdir().expect("a folder");
    let nothing = squall(&["report", nothing.path().to_str().expect("text")]);
    assert_eq!(nothing.status.code(), Some(2), "nothing to draw");
    let shown = squall(&["report", report, "--open"]);
    assert_eq!(shown.status.code(), Some(2), "text opens in no browser");
}

#[test]
fn a_history_that_is_all_that_is_left_can_be_drawn() {
    let (_directory, report, _) = recorded();
    let report = report.as_str();
    let history = format!("{report}/left.jsonl");
    let written = format!("{report}/presence-restart-overlap.200.history.jsonl");
    std::fs::rename(written, &history).expect("it is there");
    let drawn = squall(&["report", &history]);
    let said = String::from_utf8(drawn.stdout).expect("text");
    assert_eq!(drawn.status.code(), Some(0), "{said}");
    assert!(said.contains("P4 own incarnation is violated"), "{said}");
    assert!(
        said.contains(&format!("cargo squall check {history}")),
        "{said}"
    );
    let warned = String::from_utf8(drawn.stderr).expect("text");
    assert!(warned.contains("drawn from the history alone"), "{warned}");
    let page = squall(&["report", &history, "--format", "html"]);
    let path = String::from_utf8(page.stdout).expect("text");
    assert_eq!(path, format!("{report}/left.html\n"));
}

#[test]
fn a_shrunk_plan_is_a_story_with_the_command_that_shows_it_again() {
    let directory = tempfile::tempdir().expect("a folder");
    let small = directory.path().join("small.toml");
    let small = small.to_str().expect("a path of text");
    let shrunk = squall(&["shrink", PLAN, "--for", "30s", "--output", small]);
    let said = String::from_utf8(shrunk.stderr).expect("text");
    assert_eq!(shrunk.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing more can be taken away"), "{said}");
    let story = std::fs::read_to_string(small).expect("a file");
    let command = format!("\n# cargo squall replay {small}\n");
    assert!(
        story.starts_with("# P4 at ") && story.contains(&command),
        "{story}"
    );
    assert_eq!(squall(&["replay", small]).status.code(), Some(1));
}

#[test]
fn a_variation_is_named_after_its_seed_and_gives_the_same_run_every_time() {
    let [one, other] = [(); 2].map(|()| squall(&["run", "lock/partition", "--seed", "4.7"]).stdout);
    let said = String::from_utf8(one).expect("text");
    assert!(
        said.contains("cargo squall run lock/partition --seed 4.7"),
        "{said}"
    );
    let trace = |text: &str| {
        let line = text.lines().find(|line| line.contains("Fingerprint"));
        line.expect("a fingerprint").to_owned()
    };
    let again = String::from_utf8(other).expect("text");
    assert_eq!(trace(&again), trace(&said));
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

/// Runs `squall check --format jepsen` on a log of these events, written `<process> <kind> <call> <value>`.
fn check_log(events: &[&str], more: &[&str]) -> (Option<i32>, String) {
    let line = |event: &&str| {
        let parts: Vec<&str> = event.splitn(4, ' ').collect();
        format!("INFO  jepsen.util - {}\n", parts.join("\t"))
    };
    let text: String = events.iter().map(line).collect();
    let directory = tempfile::tempdir().expect("a folder");
    let path = directory.path().join("log");
    std::fs::write(&path, format!("a line of something else\n{text}")).expect("a file");
    let path = path.to_str().expect("a path of text");
    let checked = squall(&[&["check", "--format", "jepsen", path], more].concat());
    let said = String::from_utf8(checked.stdout).expect("text");
    (checked.status.code(), said)
}

#[test]
fn a_log_of_a_register_is_linearizable() {
    let events = [
        "0 :invoke :read nil",
        "0 :ok :read nil",
        "1 :invoke :write 3",
        "1 :info :write :timed-out",
        "0 :invoke :cas [3 4]",
        "0 :ok :cas [3 4]",
        "2 :invoke :cas [3 1]",
        "2 :fail :cas [3 1]",
        "0 :invoke :read nil",
        "0 :ok :read 4",
    ];
    let (status, said) = check_log(&events, &[]);
    assert_eq!(said, "linearizable: 5 operations, 1 of unknown outcome\n");
    assert_eq!(status, Some(0));
}

#[test]
fn a_log_with_a_stale_read_is_not_and_the_operations_are_named() {
    let events = [
        "0 :invoke :write 1",
        "0 :ok :write 1",
        "3 :invoke :write 2",
        "3 :info :write :timed-out",
        "1 :invoke :cas [1 2]",
        "1 :ok :cas [1 2]",
        "2 :invoke :read nil",
        "2 :ok :read 2",
        "0 :invoke :read nil",
        "0 :ok :read 1",
    ];
    let (status, said) = check_log(&events, &[]);
    let expected = "\
not linearizable: no order explains 2 of 5 operations, 1 of unknown outcome

  lines 6 to 7       process 1    compare-and-set 1 to 2: ok
  lines 10 to 11     process 0    read: 1

whenever these take effect, if they do:

  from line 2        process 0    write 1

process 0's read (lines 10 to 11) has no place: without it, the register holds 2 when it ends
";
    assert_eq!(said, expected);
    assert_eq!(status, Some(1));
}

#[test]
fn a_search_that_is_given_up_decides_nothing() {
    // Nobody can tell who wrote what the first read saw until the last one.
    let mut events: Vec<String> = Vec::new();
    for process in 0..4 {
        events.push(format!(
            "{process} :invoke :cas [{process} {}]",
            process + 1
        ));
        events.push(format!("{process} :info :cas :timed-out"));
    }
    for event in [
        "9 :invoke :write 0",
        "9 :ok :write 0",
        "9 :invoke :read nil",
        "9 :ok :read 4",
    ] {
        events.push(event.to_owned());
    }
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let (status, said) = check_log(&events, &["--steps", "2"]);
    assert!(said.starts_with("undecided: given up after "), "{said}");
    assert_eq!(status, Some(3));
    let (status, said) = check_log(&events, &[]);
    assert_eq!(status, Some(0), "{said}");
}

#[test]
fn a_history_without_what_the_server_stored_is_judged_as_far_as_it_goes() {
    let (_directory, report, _) = recorded();
    let report = report.as_str();
    let whole = format!("{report}/presence-restart-overlap.200.history.jsonl");
    let whole = std::fs::read_to_string(whole).expect("a history");
    let is_told = |line: &&str| {
        !line.contains("\"type\":\"committed\"") && !line.contains("\"type\":\"removed\"")
    };
    let told: Vec<&str> = whole.lines().filter(is_told).collect();
    let path = format!("{report}/told.jsonl");
    std::fs::write(&path, told.join("\n")).expect("a file");
    let checked = squall(&["check", &path]);
    let said = String::from_utf8(checked.stdout).expect("text");
    assert_eq!(
        said,
        "inconclusive: the history holds nothing of what the server stored: P1, P2, P4, P5, L2, L3, L4, L6, M1, D1, E3 cannot be judged\n"
    );
    assert_eq!(checked.status.code(), Some(3));
}
