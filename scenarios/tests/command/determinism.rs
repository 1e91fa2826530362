//! The same seed gives the same run, to the nanosecond and the byte: in this process and in others, alone and inside a
//! sweep on several threads, in this profile and in the optimised one.
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use squall_scenarios::hunt::{Book, Limit, Settings, hunt};
use squall_scenarios::stories;

const FIRST_SEED: u64 = 7;
const SEEDS: u64 = 3;

type Fingerprints = BTreeMap<(String, u64), String>;

/// What `squall fingerprint` of this program says.
fn fingerprints_of(program: &str) -> Fingerprints {
    let arguments = ["fingerprint", "--seeds", "3", "--first-seed", "7"];
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("the program runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("it prints text");
    let lines = text.lines().map(|line| {
        let mut words = line.split(' ').map(str::to_owned);
        let mut word = || words.next().expect("three words a line");
        let (scenario, seed, hash) = (word(), word(), word());
        ((scenario, seed.parse().expect("a seed is a number")), hash)
    });
    let found: Fingerprints = lines.collect();
    assert_eq!(
        found.len() as u64,
        stories::all().len() as u64 * SEEDS,
        "every run is there"
    );
    found
}

#[test]
fn a_seed_gives_the_same_run_in_other_processes_and_inside_a_sweep() {
    let alone = fingerprints_of(env!("CARGO_BIN_EXE_squall"));
    let again = fingerprints_of(env!("CARGO_BIN_EXE_squall"));
    assert_eq!(alone, again, "two processes differ");

    let swept = Mutex::new(Fingerprints::new());
    let settings = Settings {
        // Backwards, so that the order of runs differs too.
        scenarios: stories::all()
            .iter()
            .rev()
            .map(|scenario| scenario.name.to_owned())
            .collect(),
        first_seed: FIRST_SEED,
        limit: Limit::Seeds(SEEDS),
        nightly: false,
        fleet: None,
    };
    let book = Book::new(settings, None).expect("these are the settings of a hunt");
    let hunted = hunt(&book, 3, &AtomicBool::new(false), |run| {
        let key = (run.plan.scenario.clone(), run.plan.seed);
        let hash = format!("{:016x}", run.fingerprint());
        swept.lock().expect("nobody panics here").insert(key, hash);
    });
    hunted.expect("nothing is written");
    assert_eq!(
        alone,
        swept.into_inner().expect("nobody panics here"),
        "a sweep differs"
    );
}

#[test]
fn a_seed_gives_the_same_run_in_the_optimised_profile() {
    let cargo = env!("CARGO");
    let build = [
        "build",
        "--quiet",
        "--profile",
        "sim",
        "-p",
        "squall-scenarios",
        "--bin",
        "squall",
    ];
    let built = Command::new(cargo)
        .args(build)
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the sim profile builds");
    let here = env!("CARGO_BIN_EXE_squall");
    let (target, _) = here
        .rsplit_once("/debug/")
        .or_else(|| here.rsplit_once("/sim/"))
        .expect("this program lies in its profile's folder");
    let optimised = format!("{target}/sim/squall");
    assert_eq!(
        fingerprints_of(here),
        fingerprints_of(&optimised),
        "the profiles differ"
    );
}
