//! The conformance suite: every case and thousands of generated sequences, in both worlds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use squall_scenarios::conformance::sequence::{Clients, Expected, Op, Sequence};
use squall_scenarios::conformance::{Case, Real, Setup, Simulated, cases, observe, simulate};

/// Cases of one group at a time: they mostly wait.
const AT_ONCE: usize = 8;
/// Generated sequences, where `PROPTEST_CASES` does not say another number.
const SEQUENCES: u32 = 2_000;
/// Sequences played on the real server at a time.
const PLAYERS: usize = 8;

/// Runs all cases of a group in both worlds, and tells every difference.
fn agree(group: &str) {
    let cases: Vec<Case> = cases()
        .into_iter()
        .filter(|case| case.group == group)
        .collect();
    assert!(!cases.is_empty(), "no group is called {group}");
    let (next, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let complaint = compare(case);
                    complaints.lock().expect("nobody panics").extend(complaint);
                }
            });
        }
    });
    let complaints = complaints.into_inner().expect("nobody panics");
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn compare(case: &Case) -> Option<String> {
    let (simulated, real) = (case.simulate(1), case.observe());
    let mut complaint = String::new();
    for (world, transcript) in [("simulated", &simulated), ("real", &real)] {
        for wrong in &transcript.wrong {
            complaint.push_str(&format!("  {world}: {wrong}\n"));
        }
    }
    let most = simulated.lines.len().max(real.lines.len());
    for line in 0..most {
        let at = |lines: &[String]| lines.get(line).cloned().unwrap_or_default();
        let (simulated, real) = (at(&simulated.lines), at(&real.lines));
        if simulated != real {
            complaint.push_str(&format!("  simulated: {simulated}\n  real:      {real}\n"));
        }
    }
    let name = format!("{}::{} ({})", case.group, case.name, case.fact);
    (!complaint.is_empty()).then(|| format!("{name}\n{complaint}"))
}

#[test]
fn key_value_buckets_agree() {
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
fn expiry_agrees() {
    agree("expiry");
}
