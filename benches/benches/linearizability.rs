//! Is it linearizable? The checker beside the search that it began from (`wing_gong`), on the same histories.
//!
//! `cargo bench -p squall-benches --bench linearizability`. Criterion's `elem/s` are operations judged per second of one
//! core. The histories are drawn at random from a register that is one, some with one outcome changed then.

#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use squall_benches::wing_gong;
use squall_core::Rng;
use squall_scenarios::linear::jepsen::Numbered;
use squall_scenarios::linear::sample::{Sample, spoil};
use squall_scenarios::linear::{Verdict, judge};

/// Histories, each of a register of its own.
struct Set {
    name: &'static str,
    histories: u64,
    sample: Sample,
    /// Whether an outcome of each is changed.
    is_spoilt: bool,
    /// Whether the yardstick gets there in a time that a bench can wait for.
    has_yardstick: bool,
}

/// As Jepsen's tests of a register make them.
const LOG: Sample = Sample {
    clients: 10,
    calls: 170,
    values: 5,
    unknown_percent: 10,
};

const SETS: [Set; 4] = [
    Set {
        name: "logs-100x170",
        histories: 100,
        sample: LOG,
        is_spoilt: false,
        has_yardstick: true,
    },
    Set {
        name: "logs-100x170-30%-unknown",
        histories: 100,
        sample: Sample {
            unknown_percent: 30,
            ..LOG
        },
        is_spoilt: false,
        has_yardstick: true,
    },
    Set {
        name: "logs-100x170-30%-unknown-spoilt",
        histories: 100,
        sample: Sample {
            unknown_percent: 30,
            ..LOG
        },
        is_spoilt: true,
        has_yardstick: false,
    },
    // Harder than 10 clients over 100 keys would be: here all of them are at each key.
    Set {
        name: "keys-100x100-5%-unknown",
        histories: 100,
        sample: Sample {
            calls: 100,
            unknown_percent: 5,
            ..LOG
        },
        is_spoilt: false,
        has_yardstick: true,
    },
];

impl Set {
    fn draw(&self) -> Vec<Numbered> {
        let one = |seed| {
            let rng = &mut Rng::new(seed);
            let mut entries = self.sample.draw(rng);
            if self.is_spoilt {
                spoil(&mut entries, self.sample.values, rng);
            }
            Numbered::new(&entries)
        };
        (0..self.histories).map(one).collect()
    }
}

fn checks(criterion: &mut Criterion) {
    for set in SETS {
        let histories = set.draw();
        let mut group = criterion.benchmark_group(format!("linearizability/{}", set.name));
        group.throughput(Throughput::Elements(
            set.histories * set.sample.calls as u64,
        ));
        let expected = |verdict: &Verdict| match verdict {
            Verdict::Linearizable => true,
            Verdict::NotLinearizable(_) => set.is_spoilt,
            Verdict::Inconclusive(_) => false,
        };
        group.bench_function("squall", |bencher| {
            bencher.iter(|| {
                for Numbered {
                    register,
                    operations,
                    ..
                } in &histories
                {
                    let verdict = black_box(judge(*register, operations));
                    assert!(expected(&verdict), "{verdict:?}");
                }
            });
        });
        if set.has_yardstick {
            group.bench_function("wing-gong-lowe", |bencher| {
                bencher.iter(|| {
                    for Numbered {
                        register,
                        operations,
                        ..
                    } in &histories
                    {
                        let found = wing_gong::is_linearizable(register, operations);
                        assert!(black_box(found), "it was drawn from a register");
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = checks
}
criterion_main!(benches);
