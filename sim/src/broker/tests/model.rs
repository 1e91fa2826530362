//! Random operations on the broker and on a naive model, side by side: the store's links and holes against a plain
//! list; and what consumers saw against what was committed.

use std::collections::BTreeMap;

use proptest::prelude::*;
use squall_core::transport::{Operation, Revision};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, expected: Option<u64> },
    Delete { key: u8, expected: Option<u64> },
    Purge { key: u8 },
    Pass,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6_u8;
    let expected = || prop::option::weighted(0.3, 0..40_u64);
    prop_oneof![
        8 => (key.clone(), expected()).prop_map(|(key, expected)| Step::Put { key, expected }),
        2 => (key.clone(), expected()).prop_map(|(key, expected)| Step::Delete { key, expected }),
        1 => key.prop_map(|key| Step::Purge { key }),
        2 => Just(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

/// For each key its records, oldest first.
#[derive(Default)]
struct Model {
    last: u64,
    keys: BTreeMap<u8, Vec<(u64, Operation)>>,
}

impl Model {
    fn write(
        &mut self,
        key: u8,
        operation: Operation,
        expected: Option<u64>,
        history: usize,
    ) -> Response {
        let records = self.keys.entry(key).or_default();
        let actual = records.last().map_or(0, |(revision, _)| *revision);
        if expected.is_some_and(|expected| expected != actual) {
            return Response::WrongRevision(Revision(actual));
        }
        self.last += 1;
        records.push((self.last, operation));
        let kept = if operation == Operation::Purge {
            1
        } else {
            history
        };
        records.drain(..records.len().saturating_sub(kept));
        Response::Stored(Revision(self.last))
    }

    fn records(&self) -> Vec<(u64, Operation)> {
        let mut all: Vec<_> = self.keys.values().flatten().copied().collect();
        all.sort_unstable();
        all
    }
}

/// The effects alone tell which records there are.
fn replay(live: &mut BTreeMap<u64, Operation>, effects: Vec<(Instant, Effect)>) {
    for (_, effect) in effects {
        match effect {
            Effect::Commit(commit) => {
                live.insert(commit.entry.revision.0, commit.entry.operation);
            }
            Effect::Removed(removed) => {
                live.remove(&removed.revision.0).expect("it was there");
            }
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn the_broker_agrees_with_a_list(
        history in 1..4_u8,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut bench = Bench::new();
        bench.bucket(|config| config.history = history);
        let mut model = Model::default();
        let mut live = BTreeMap::new();
        for step in steps {
            let (key, write, operation, expected) = match step {
                Step::Put { key, expected } => (key, put("v"), Operation::Put, expected),
                Step::Delete { key, expected } => (key, Write::Delete, Operation::Delete, expected),
                Step::Purge { key } => (key, Write::Purge, Operation::Purge, None),
                Step::Pass => {
                    bench.pass(millis(10));
                    continue;
                }
                Step::Restart => {
                    bench.stop();
                    bench.start();
                    continue;
                }
            };
            let answer = bench.write(&format!("k{key}"), write, expected);
            prop_assert_eq!(answer, model.write(key, operation, expected, usize::from(history)));
            prop_assert_eq!(bench.records(), model.records());
            replay(&mut live, bench.look());
            let told: Vec<(u64, Operation)> = live.iter().map(|(&r, &o)| (r, o)).collect();
            prop_assert_eq!(told, model.records());
        }
        let info = bench.broker.bucket("b").expect("the bucket");
        prop_assert_eq!(info.records, model.records().len() as u64);
    }

    /// Whatever a consumer is late for, it tells each record at most once, in order, and every key's last.
    #[test]
    fn a_consumer_tells_the_last_record_of_every_key(
        steps in prop::collection::vec(step(), 1..200),
        from in 0..200_usize,
        start in prop_oneof![Just(ReadStart::All), Just(ReadStart::LastPerSubject)],
        filter in prop_oneof![Just(">"), Just("*"), Just("k1")],
    ) {
        let mut bench = Bench::with(|config| config.delivery_delay_max = millis(40));
        bench.bucket(|config| config.history = 2);
        let mut told = Vec::new();
        for (place, step) in steps.iter().enumerate() {
            if place == from.min(steps.len() - 1) {
                bench.consume(1, filter, start);
            }
            let (key, write) = match step {
                Step::Put { key, .. } => (key, put("v")),
                Step::Delete { key, .. } => (key, Write::Delete),
                Step::Purge { key } => (key, Write::Purge),
                Step::Pass | Step::Restart => {
                    bench.pass(millis(10));
                    continue;
                }
            };
            bench.write(&format!("k{key}"), write, None);
        }
        bench.pass(secs(1));
        told.extend(bench.delivered());
        prop_assert!(told.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
        if let Some((.., pending)) = told.last() {
            prop_assert_eq!(*pending, 0);
        }
        let last: BTreeMap<Arc<str>, u64> =
            bench.broker.records("b").map(|entry| (entry.key, entry.revision.0)).collect();
        for (key, revision) in last {
            if filter != "k1" || *key == *"k1" {
                prop_assert!(told.iter().any(|(told, ..)| *told == revision), "{key}");
            }
        }
    }
}
