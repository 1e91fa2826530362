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
const PLAYERS: usize = 24;

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
        .filter(|line| line.contains("::"))
        .collect();
    assert_eq!(
        listed,
        run,
        "docs/conformance.md should say:\n{}",
        run.join("\n")
    );
}

/// Thousands of sequences of operations have one outcome in both worlds.
#[test]
fn generated_sequences_agree() {
    let cases = match std::env::var("PROPTEST_CASES") {
        Ok(_) => Config::default().cases,
        Err(_) => SEQUENCES,
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let trees: Vec<_> = (0..cases)
        .map(|_| {
            sequences()
                .new_tree(&mut runner)
                .expect("nothing is filtered")
        })
        .collect();
    let all: Vec<Sequence> = trees.iter().map(|tree| tree.current()).collect();
    let Some(failed) = first_difference(&all) else {
        return;
    };
    // Smaller and smaller ones, as long as they differ.
    let mut tree = trees.into_iter().nth(failed).expect("it is one of them");
    let mut smallest = tree.current();
    let mut simpler = tree.simplify();
    for _ in 0..SHRINKS_MAX {
        if !simpler {
            break;
        }
        let sequence = tree.current();
        simpler = if first_difference(std::slice::from_ref(&sequence)).is_some() {
            smallest = sequence;
            tree.simplify()
        } else {
            tree.complicate()
        };
    }
    let (simulated, real) = both(&smallest);
    panic!(
        "sequence {failed} of {cases} with seed {SEED:?} differs; its smallest form:\n{smallest:#?}\n\
         simulated: {simulated:#?}\nreal: {real:#?}"
    );
}

/// What every sequence follows from.
const SEED: [u8; 32] = *b"the same sequences in every run.";
/// Enough for a sequence of fifteen operations.
const SHRINKS_MAX: u32 = 300;

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        4 => Just(Expected::Latest),
        2 => Just(Expected::Stale),
        1 => Just(Expected::None),
        1 => (0..20_u8).prop_map(Expected::Other),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..4_u8;
    prop_oneof![
        6 => key().prop_map(Op::Put),
        4 => key().prop_map(Op::Create),
        4 => (key(), expected()).prop_map(|(key, expected)| Op::Update(key, expected)),
        2 => (key(), prop::option::of(expected())).prop_map(|(key, e)| Op::Delete(key, e)),
        2 => (key(), prop::option::of(expected())).prop_map(|(key, e)| Op::Purge(key, e)),
        2 => key().prop_map(Op::Entry),
        1 => key().prop_map(Op::History),
        1 => (0..4_u8).prop_map(Op::Entries),
        1 => Just(Op::Info),
        2 => (0..4_u8, prop::option::of(0..20_u8), any::<bool>())
            .prop_map(|(filter, from, now)| Op::Watch(filter, from, now)),
        1 => (0..4_u8).prop_map(Op::Unwatch),
    ]
}

fn sequences() -> impl Strategy<Value = Sequence> {
    (1..=3_u8, prop::collection::vec((0..3_u8, op()), 1..30))
        .prop_map(|(history, steps)| Sequence { history, steps })
}

/// What is seen, or why it could not be.
type Seen = Result<Vec<String>, String>;

fn in_simulation(sequence: &Sequence) -> Seen {
    simulate(1, async {
        let lab = Simulated::new(1, Setup::DEFAULT);
        let clients = Clients::connect(&lab).await.map_err(|stop| stop.0)?;
        clients
            .play(&lab, "b", sequence)
            .await
            .map_err(|stop| stop.0)
    })
}

fn both(sequence: &Sequence) -> (Seen, Seen) {
    let real = on_server(std::slice::from_ref(sequence));
    (
        in_simulation(sequence),
        real.into_iter().next().expect("one was played"),
    )
}

/// Plays sequences on one server, several at a time, each in a bucket of its own.
fn on_server(sequences: &[Sequence]) -> Vec<Seen> {
    observe(async {
        let lab = match Real::start(Setup::DEFAULT).await {
            Ok(lab) => lab,
            Err(stop) => return sequences.iter().map(|_| Err(stop.0.clone())).collect(),
        };
        let mut players = Vec::new();
        for _ in 0..PLAYERS.min(sequences.len()) {
            players.push(Clients::connect(&lab).await.expect("the server runs"));
        }
        let next = AtomicUsize::new(0);
        let played = futures_util::future::join_all(players.iter().map(|clients| async {
            let mut played = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(sequence) = sequences.get(index) else {
                    return played;
                };
                let seen = clients.play(&lab, &format!("b{index}"), sequence).await;
                played.push((index, seen.map_err(|stop| stop.0)));
            }
        }))
        .await;
        let mut all: Vec<_> = played.into_iter().flatten().collect();
        all.sort_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, seen)| seen).collect()
    })
}

/// The first sequence whose outcomes differ, or which could not be played.
fn first_difference(sequences: &[Sequence]) -> Option<usize> {
    let (simulated, real): (Vec<Seen>, Vec<Seen>) = std::thread::scope(|scope| {
        let real = scope.spawn(|| on_server(sequences));
        let simulated = sequences.iter().map(in_simulation).collect();
        (simulated, real.join().expect("it does not panic"))
    });
    (0..sequences.len()).find(|&i| simulated[i].is_err() || simulated[i] != real[i])
}
