//! Bad input gets one sentence, with file and line where there is one, exit status 2, and leaves nothing behind.

use std::path::Path;
use std::process::Command;

const PLAN: &str = r#"scenario = "presence/calm"
seed = 1
duration = "5s"
settle = "10s"

[[agent]]
name = "alice"
interval = "1s"

[[fault]]
at = "1s"
for = "2s"
target = "alice"
kind = "partition"
"#;

/// What the program says to these arguments; it must refuse them.
fn refusal(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_squall"))
        .current_dir(directory)
        .args(arguments)
        .output()
        .expect("the program runs");
    let said = String::from_utf8(output.stderr).expect("it says text");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?} prints nothing");
    said
}

fn refused_plan(plan: &str) -> String {
    let directory = tempfile::tempdir().expect("a folder");
    std::fs::write(directory.path().join("p.toml"), plan).expect("a file");
    let said = refusal(directory.path(), &["replay", "p.toml", "--report", "out"]);
    let left = std::fs::read_dir(directory.path())
        .expect("a folder")
        .count();
    assert_eq!(left, 1, "nothing but the plan is there");
    said
}

#[test]
fn a_plan_that_cannot_be_is_refused_with_its_line() {
    let cases = [
        ("", "", "squall: p.toml:1: the plan is empty\n"),
        (
            "seed = 1",
            "seed = 1\ncolour = 3",
            "squall: p.toml:3: unknown field `colour`, expected one of ",
        ),
        (
            "presence/calm",
            "presence/clam",
            "squall: p.toml:1: there is no scenario \"presence/clam\", did you mean \"presence/calm\"?\n",
        ),
        (
            "\"partition\"",
            "\"petition\"",
            "squall: p.toml:14: there is no fault \"petition\", did you mean \"partition\"?\n",
        ),
        (
            "target = \"alice\"",
            "target = \"alcie\"",
            "squall: p.toml:13: there is no agent \"alcie\", did you mean \"alice\"?\n",
        ),
        (
            "interval = \"1s\"",
            "interval = \"1 fortnight\"",
            "squall: p.toml:8: interval = \"1 fortnight\" is not a time like 1s 500ms: ",
        ),
        (
            "at = \"1s\"",
            "at = \"9s\"",
            "squall: p.toml:11: at = \"9s\" lies past the end of the run, which lasts 5s\n",
        ),
        (
            "for = \"2s\"",
            "for = \"8s\"",
            "squall: p.toml:12: the fault ends past the end of the run, which lasts 5s\n",
        ),
        (
            "kind = \"partition\"",
            "kind = \"partition\"\nppm = 5",
            "squall: p.toml:15: partition takes no `ppm`\n",
        ),
        (
            "kind = \"partition\"",
            "kind = \"delay\"",
            "squall: p.toml:10: delay needs `by`\n",
        ),
        (
            "interval = \"1s\"",
            "interval = \"1ms\"",
            "squall: p.toml:8: presence.Config: heartbeat_interval: 3 times it must be at least 100ms",
        ),
        (
            "kind = \"partition\"",
            "kind = \"leader-change\"",
            "squall: p.toml:14: leader-change needs a cluster: servers = 3\n",
        ),
        (
            "target = \"alice\"\nkind = \"partition\"",
            "target = \"n1\"\nkind = \"server-stop\"",
            "squall: p.toml:13: server-stop acts on \"server\", not on \"n1\"\n",
        ),
        (
            "[[agent]]",
            "[world]\nservers = 2\n[[agent]]",
            "squall: p.toml:7: servers must be 1 or 3\n",
        ),
        (
            "[[agent]]",
            "[world]\nreplicas = 3\n[[agent]]",
            "squall: p.toml:7: replicas must be 1 or as many as there are servers, 1\n",
        ),
        (
            "[[agent]]",
            "[world]\nsync-interval = \"0s\"\n[[agent]]",
            "squall: p.toml:7: sync-interval must be greater than zero, or always\n",
        ),
        (
            "[[agent]]",
            "[world]\nservers = 3\n[auth]\nlife = \"5m\"\n[[agent]]",
            "squall: p.toml:9: [auth] needs a single server: accounts of a cluster are not modelled\n",
        ),
        (
            "name = \"alice\"",
            "name = \"n2\"",
            "squall: p.toml:7: an agent cannot be called \"n2\"\n",
        ),
        (
            "kind = \"partition\"\n",
            "kind = \"parti",
            "squall: p.toml:14: ",
        ),
    ];
    for (good, bad, sentence) in cases {
        let plan = if good.is_empty() {
            bad.to_owned()
        } else {
            PLAN.replacen(good, bad, 1)
        };
        let said = refused_plan(&plan);
        assert!(said.starts_with(sentence), "{bad:?}: {said}");
        assert_eq!(said.lines().count(), 1, "one sentence: {said}");
    }
}

/// The same of plans with a cluster.
#[test]
fn a_fault_that_no_cluster_knows_is_refused_with_its_line() {
    let fault = "target = \"alice\"\nkind = \"partition\"";
    let cases = [
        (
            "target = \"server\"\nkind = \"server-stop\"",
            "squall: p.toml:16: server-stop acts on \"n1\", \"n2\", \"n3\", not on \"server\"\n",
        ),
        (
            "target = \"n1\"\nkind = \"power-loss\"",
            "squall: p.toml:17: power-loss is modelled for a server alone, not for one of a cluster\n",
        ),
        (
            "target = \"n1\"\nkind = \"route-partition\"",
            "squall: p.toml:13: route-partition needs `peer`\n",
        ),
        (
            "target = \"n1\"\npeer = \"n1\"\nkind = \"route-partition\"",
            "squall: p.toml:17: peer must be another server than the target\n",
        ),
        (
            "target = \"n1\"\npeer = \"n4\"\nkind = \"route-partition\"",
            "squall: p.toml:17: peer = \"n4\" is none of n1, n2, n3\n",
        ),
    ];
    let cluster = PLAN.replacen(
        "[[agent]]",
        "[world]\nservers = 3\nreplicas = 3\n[[agent]]",
        1,
    );
    for (bad, sentence) in cases {
        let said = refused_plan(&cluster.replacen(fault, bad, 1));
        assert_eq!(said, sentence, "{bad:?}");
    }
}

#[test]
fn a_history_that_cannot_be_is_refused_with_its_line() {
    let directory = tempfile::tempdir().expect("a folder");
    let said = |text: &str| {
        std::fs::write(directory.path().join("h.jsonl"), text).expect("a file");
        refusal(directory.path(), &["check", "h.jsonl"])
    };
    assert_eq!(said(""), "squall: h.jsonl: line 1: the history is empty\n");
    let mended = r#"{"at":1,"type":"mended"}"#;
    assert_eq!(
        said(mended),
        "squall: h.jsonl: line 1: a history begins with its plan, and this one does not\n"
    );
    let broken = said(&format!("{mended}\n{{\"at\":2,\"ty"));
    assert!(
        broken.starts_with("squall: h.jsonl: line 2: not a record of a history: "),
        "{broken}"
    );
}

#[test]
fn a_log_that_cannot_be_is_refused_with_its_line() {
    let directory = tempfile::tempdir().expect("a folder");
    let said = |text: &str| {
        std::fs::write(directory.path().join("j.log"), text).expect("a file");
        refusal(directory.path(), &["check", "--format", "jepsen", "j.log"])
    };
    let none = "squall: j.log: no operation of a Jepsen register test is in it\n";
    assert_eq!(said(""), none);
    assert_eq!(said("{\"at\":1,\"type\":\"mended\"}\n"), none);
    let begun = "INFO  jepsen.util - 3\t:invoke\t:write\t4\n";
    assert_eq!(
        said(&format!(
            "something else\n{begun}INFO  jepsen.util - 3\t:ok\t:write\t5\n"
        )),
        "squall: j.log:3: :write 5 ends what began as write 4\n"
    );
    let cut = said(&format!("{begun}INFO  jepsen.util - 3\t:ok\t:wri"));
    assert_eq!(cut, "squall: j.log:2: \":wri\" has no value\n");
    let nowhere = refusal(
        directory.path(),
        &["check", "--format", "jepsen", "nowhere"],
    );
    assert!(
        nowhere.starts_with("squall: nowhere: No such file"),
        "{nowhere}"
    );
}

#[test]
fn what_does_not_exist_is_named_with_what_is_nearest() {
    let directory = tempfile::tempdir().expect("a folder");
    let said = |arguments: &[&str]| refusal(directory.path(), arguments);
    assert_eq!(
        said(&["run", "presence/strom"]),
        "squall: there is no scenario \"presence/strom\", did you mean \"presence/storm\"?\n"
    );
    assert_eq!(
        said(&["chaos", "--scenario", "presence/cal"]),
        "squall: no scenario matches \"presence/cal\", did you mean \"presence/calm\"?\n"
    );
    assert_eq!(
        said(&["chaos", "--scenario", "*", "--scenario", "presense/*"]),
        "squall: no scenario matches \"presense/*\", did you mean \"presence/storm\"?\n"
    );
    assert_eq!(
        said(&["chaos", "--seeds", "0"]),
        "squall: --seeds must be at least 1\n"
    );
    assert_eq!(
        said(&["chaos", "--jobs", "0"]),
        "squall: --jobs must be at least 1\n"
    );
    assert!(said(&["replay", "nowhere.toml"]).starts_with("squall: nowhere.toml: No such file"));
    assert!(said(&["chaos", "--for", "soon"]).contains("invalid value 'soon'"));
}

#[test]
fn a_comparison_that_cannot_be_is_refused() {
    let directory = tempfile::tempdir().expect("a folder");
    let said = |arguments: &[&str]| refusal(directory.path(), arguments);
    let case = said(&[
        "conformance",
        "--filter",
        "kv::entries_are_the_latest_value_in_order",
    ]);
    assert!(
        case.ends_with("did you mean \"kv::entries_are_the_latest_values_in_order\"?\n"),
        "{case}"
    );
    let version = said(&["conformance", "--server", "2.15.0"]);
    assert!(
        version.starts_with("squall: nats-server 2.15.0 is not pinned: use one of"),
        "{version}"
    );
    assert_eq!(
        said(&["conformance", "--jobs", "0"]),
        "squall: --jobs must be at least 1\n"
    );
    let script = "history = 1\nsteps = [\n  \"one puts a\",\n]\n";
    std::fs::write(directory.path().join("s.toml"), script).expect("a file");
    let broken = said(&["conformance", "s.toml"]);
    assert!(
        broken.starts_with("squall: s.toml: line 2: not a step: \"one puts a\""),
        "{broken}"
    );
    assert!(
        said(&["conformance", "nowhere.toml"]).starts_with("squall: nowhere.toml: No such file")
    );
}
