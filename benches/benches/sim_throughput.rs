//! How many heartbeats a second of real time buys, by number of agents and by simulator.
//!
//! `cargo bench -p squall-benches`; `-- --quick` for a first impression. Everything runs on one thread; on a busy
//! machine pin it to one core. Criterion's `elem/s` are beats per second: one beat is one request and its answer.
//! What an arm does and leaves out is in the header of its module.

#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::time::Duration;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use squall_benches::{ARMS, Arm, Exchange};

/// Agents and seconds: 20 000 beats, more for the most agents, so that each beats often enough.
const SIZES: [Exchange; 4] = [
    size(10, 2000),
    size(100, 200),
    size(1000, 20),
    size(10_000, 5),
];

const fn size(agents: u32, seconds: u32) -> Exchange {
    Exchange { agents, seconds }
}

fn sim_throughput(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sim_throughput");
    // One iteration is a whole world, from 20 ms to seconds: few samples, equally long.
    group.sampling_mode(SamplingMode::Flat);
    for exchange in SIZES {
        group.throughput(Throughput::Elements(exchange.beats()));
        for (name, arm) in ARMS {
            group.bench_with_input(
                BenchmarkId::new(name, exchange.agents),
                &exchange,
                |bencher, &exchange| {
                    bencher.iter_custom(|iterations| {
                        (0..iterations).map(|_| timed(arm, exchange)).sum()
                    });
                },
            );
        }
    }
    group.finish();
}

/// The time of one run, without its set-up. A run that missed a beat does not count.
fn timed(arm: Arm, exchange: Exchange) -> Duration {
    let measured = arm(exchange);
    assert_eq!(measured.beats, exchange.beats(), "beats went unanswered");
    measured.took
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = sim_throughput
}
criterion_main!(benches);
