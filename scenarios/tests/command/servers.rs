//! `--servers`: the same story on a cluster, or a sentence that says why not.

use std::path::Path;
use std::process::{Command, Output};

fn squall(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_squall"))
        .current_dir(directory)
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

#[test]
fn a_story_is_run_on_three_servers_and_again_from_its_plan() {
    let directory = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| squall(directory.path(), arguments);
    let ran = run(&["run", "state/calm", "--servers", "3", "--report", "out"]);
    assert_eq!(ran.status.code(), Some(0));
    let said = text(ran.stdout);
    let command = "cargo squall run state/calm --seed 0 --servers 3";
    assert!(said.contains(command), "{said}");
    let plan = directory.path().join("out/state-calm.0.plan.toml");
    let plan = std::fs::read_to_string(plan).expect("a plan");
    assert!(plan.contains("servers = 3\nreplicas = 3\n"), "{plan}");
    let print = |said: &str| {
        let line = said.lines().find(|line| line.contains("ingerprint:"));
        line.expect("it prints one").to_owned()
    };
    let again = run(&["replay", "out/state-calm.0.plan.toml"]);
    assert_eq!(print(&text(again.stdout)), print(&said));
    let elsewhere = run(&["run", "state/calm"]);
    assert_ne!(print(&text(elsewhere.stdout)), print(&said));
}

#[test]
fn of_what_matches_all_is_run_that_can_be() {
    let directory = tempfile::tempdir().expect("a folder");
    let ran = squall(
        directory.path(),
        &["run", "state/*", "--servers", "3", "--seed", "1"],
    );
    let (said, refused) = (text(ran.stdout), text(ran.stderr));
    assert_eq!(ran.status.code(), Some(0), "{said}");
    let passed = said.matches("PASS  state/").count();
    let sentences: Vec<&str> = refused.lines().collect();
    assert_eq!(
        sentences,
        [
            "squall: state/power-loss: this plan cannot run on 3 servers: power-loss is modelled for a server \
             alone, not for one of a cluster",
            "squall: state/through-rotation: this plan cannot run on 3 servers: [auth] needs a single server: \
             accounts of a cluster are not modelled",
        ]
    );
    assert!(passed > 5, "{said}");
}

#[test]
fn who_cannot_be_there_is_refused_in_one_sentence() {
    let directory = tempfile::tempdir().expect("a folder");
    let refusal = |scenario: &str, servers: &str| {
        let refused = squall(directory.path(), &["run", scenario, "--servers", servers]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(refused.stdout.is_empty(), "it prints nothing");
        text(refused.stderr)
    };
    assert_eq!(
        refusal("state/calm", "2"),
        "squall: this plan cannot run on 2 servers: there must be 1 or 3\n"
    );
    assert_eq!(
        refusal("state/leader-change", "1"),
        "squall: this plan cannot run on 1 server: it is about a cluster of 3\n"
    );
    let all = refusal("rotation/*", "3");
    let last = all.lines().last().expect("it says something");
    assert_eq!(
        last,
        "squall: nothing that matches \"rotation/*\" can be run there"
    );
}
