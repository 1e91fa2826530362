//! The conformance suite: every case, kept scripts and thousands of generated ones, in both worlds.

use std::path::{Path, PathBuf};

use squall_scenarios::conformance::script::Script;
use squall_scenarios::conformance::suite::{self, Suite, generated};
use squall_scenarios::conformance::{Case, EXPLAINED, KINDNESSES, Planted, Program, cases};

/// Cases of one group at a time: they mostly wait.
const AT_ONCE: usize = 8;
/// Generated scripts, where `PROPTEST_CASES` does not say another number.
const SCRIPTS: u32 = 1_500;

fn program() -> Program {
    Program::find(None).expect("there is a nats-server")
}

/// Runs all cases of a group in both worlds, and tells every difference.
fn agree(group: &str) {
    let cases: Vec<Case> = cases()
        .into_iter()
        .filter(|case| case.group == group)
        .collect();
    assert!(!cases.is_empty(), "no group is called {group}");
    let suite = Suite {
        programs: vec![program()],
        cases,
        scripts: 0..0,
        at_once: AT_ONCE,
    };
    let matrix = suite.run(&|_, _| ());
    assert!(!matrix.is_failed(), "{}", matrix.findings());
}

#[test]
fn keys_and_values_agree() {
    agree("kv");
}

#[test]
fn watches_agree() {
    agree("watch");
}

#[test]
fn core_messaging_agrees() {
    agree("core_messaging");
}

#[test]
fn connections_agree() {
    agree("connection");
}

#[test]
fn buckets_agree() {
    agree("buckets");
}

#[test]
fn watches_in_outages_agree() {
    agree("watch_outages");
}

#[test]
fn outages_agree() {
    agree("outages");
}

#[test]
fn lost_tails_agree() {
    agree("lost_tail");
}

#[test]
fn streams_agree() {
    agree("streams");
}

#[test]
fn reads_of_streams_agree() {
    agree("streams_reads");
}

#[test]
fn expiry_agrees() {
    agree("expiry");
}

#[test]
fn logins_agree() {
    agree("logins");
}

#[test]
fn rotation_agrees() {
    agree("rotation");
}

#[test]
fn permissions_agree() {
    agree("permissions");
}

#[test]
fn consumers_agree() {
    agree("consumers");
}

#[test]
fn consumers_that_wait_agree() {
    agree("consumer_waits");
}

/// What the document lists is what is run.
#[test]
fn the_document_lists_every_case() {
    let document = include_str!("../../../docs/conformance.md");
    let listed: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let run: Vec<String> = cases()
        .iter()
        .map(|case| format!("| `{}::{}` | {} | both |", case.group, case.name, case.fact))
        .collect();
    let listed: Vec<&str> = listed
        .into_iter()
        .filter(|line| line.contains("::") && line.ends_with(" | both |"))
        .collect();
    assert_eq!(
        listed,
        run,
        "docs/conformance.md should say:\n{}",
        run.join("\n")
    );
}

/// Where scripts are kept that once differed.
fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// What once differed, or was thought to be worth it, agrees.
#[test]
fn kept_scripts_agree() {
    let program = program();
    let files = std::fs::read_dir(kept()).expect("there are kept scripts");
    let mut found = Vec::new();
    for file in files {
        let path = file.expect("it can be listed").path();
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let script = Script::read(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        for difference in suite::differences(&script, &program) {
            found.push(format!("{}\n{difference}", path.display()));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Many scripts have one outcome in both worlds. Those that have not are made small and kept, to be committed.
#[test]
fn generated_scripts_agree() {
    let count = std::env::var("PROPTEST_CASES").ok();
    let count = count.map_or(SCRIPTS, |count| count.parse().expect("a number of scripts"));
    let cell = generated(&program(), 0..count, &|_, _| ());
    let mut found: Vec<String> = cell.differences.iter().map(ToString::to_string).collect();
    for script in &cell.scripts {
        let name = script
            .about
            .replace(|other: char| !other.is_alphanumeric(), "-");
        let path = kept().join(format!("{name}.toml"));
        std::fs::write(&path, script.to_string()).expect("it can be kept");
        found.push(format!("kept as {}:\n{script}", path.display()));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A simulated NATS that is kinder in one way is told from the real one by the case that is named for it.
#[test]
fn planted_kindnesses_are_found() {
    let program = program();
    let found = |planted: &Planted| {
        let differences = planted.differences(&program);
        differences
            .iter()
            .any(|difference| difference.explained.is_none())
    };
    let missed: Vec<&str> = std::thread::scope(|scope| {
        let all = KINDNESSES
            .iter()
            .map(|planted| (planted.what, scope.spawn(|| found(planted))));
        let all: Vec<_> = all.collect();
        let missed = all.into_iter().filter_map(|(what, found)| {
            (!found.join().expect("it does not panic")).then_some(what)
        });
        missed.collect()
    });
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// The document says what is explained, and what was planted.
#[test]
fn the_document_lists_explanations_and_kindnesses() {
    let document = include_str!("../../../docs/conformance.md");
    let explained = EXPLAINED.iter().map(|known| {
        format!(
            "| `{}` | {} | {} to {} | {} |",
            known.case, known.line, known.from, known.to, known.why
        )
    });
    let planted = KINDNESSES
        .iter()
        .map(|planted| format!("| {} | `{}` |", planted.what, planted.case));
    let missing: Vec<String> = explained
        .chain(planted)
        .filter(|row| !document.lines().any(|line| line.starts_with(row)))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/conformance.md should say:\n{}",
        missing.join("\n")
    );
}
