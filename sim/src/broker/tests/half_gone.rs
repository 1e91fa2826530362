//! What a server of 2.10 has purged and not written down: each test is a probe of a real 2.10.26 that was killed.

use squall_core::transport::{Purge, Sequence, StreamConfig};

use super::streams::{held, info, purge, store, store_with, stream, update, word};
use super::*;

const OLD: &str = "2.10.26";

/// What is held of `a b a c` after this was purged, and once the server was killed.
fn killed_after(version: &str, what: Purge) -> (Vec<u64>, Vec<u64>) {
    let mut bench = Bench::of_version(version);
    stream(&mut bench, |_| {});
    for subject in ["s.a", "s.b", "s.a", "s.c"] {
        store(&mut bench, subject);
    }
    purge(&mut bench, what);
    let before = held(&bench);
    bench.stop();
    bench.start();
    (before, held(&bench))
}

fn of(filter: &str) -> Purge {
    Purge {
        filter: Some(filter.to_owned()),
        ..Purge::default()
    }
}

fn keeping(keep: u64) -> Purge {
    Purge {
        keep: Some(keep),
        ..Purge::default()
    }
}

fn below(sequence: u64) -> Purge {
    Purge {
        below: Some(Sequence(sequence)),
        ..Purge::default()
    }
}

#[test]
fn what_was_first_in_its_file_is_back() {
    assert_eq!(killed_after(OLD, of("s.a")), (vec![2, 4], vec![1, 2, 4]));
    assert_eq!(killed_after(OLD, of("s.b")), (vec![1, 3, 4], vec![1, 3, 4]));
    assert_eq!(
        killed_after(OLD, keeping(2)),
        (vec![3, 4], vec![1, 2, 3, 4])
    );
    assert_eq!(killed_after(OLD, below(3)), (vec![3, 4], vec![3, 4]));
    assert_eq!(killed_after(OLD, Purge::default()), (vec![], vec![]));
    assert_eq!(killed_after("2.11.11", of("s.a")), (vec![2, 4], vec![2, 4]));
}

#[test]
fn a_rollup_is_a_purge_like_any_other() {
    for (rollup, left) in [("sub", vec![2, 3]), ("all", vec![3])] {
        let mut bench = Bench::of_version(OLD);
        stream(&mut bench, |config| config.allow_rollup = true);
        store(&mut bench, "s.a");
        store(&mut bench, "s.b");
        store_with(&mut bench, "s.a", &[("Nats-Rollup", rollup)]);
        assert_eq!(held(&bench), left);
        bench.stop();
        bench.start();
        assert_eq!(held(&bench), [1, 2, 3], "{rollup}");
    }
}

#[test]
fn nothing_is_back_where_it_was_written_down_or_its_file_is_no_more() {
    let mut bench = Bench::of_version(OLD);
    let begin = |bench: &mut Bench| {
        for _ in 0..3 {
            store(bench, "s.a");
        }
        purge(bench, keeping(1));
    };
    stream(&mut bench, |_| {});
    begin(&mut bench);
    bench.act(|broker, _, effects| broker.terminate(effects));
    bench.start();
    assert_eq!(held(&bench), [3], "asked to end, it has written it");
    bench.stop();
    bench.start();
    assert_eq!(held(&bench), [3]);
    bench.pass(secs(1));
    begin(&mut bench);
    bench.pass(secs(160));
    bench.stop();
    bench.start();
    assert_eq!(held(&bench), [6], "it writes every two minutes or so");
    begin(&mut bench);
    bench.stop();
    bench.start();
    assert_eq!(
        held(&bench),
        [1, 2, 3, 4, 5, 6, 7, 8, 9],
        "of all purges since the file was begun"
    );
    begin(&mut bench);
    purge(&mut bench, of("s.a"));
    bench.stop();
    bench.start();
    assert_eq!(held(&bench), [0; 0]);
}

#[test]
fn what_is_back_is_under_the_limits_again() {
    let mut bench = Bench::of_version(OLD);
    let config = stream(&mut bench, |config| config.max_messages_per_subject = 2);
    store_with(&mut bench, "s.a", &[("Nats-Msg-Id", "one")]);
    store(&mut bench, "s.b");
    purge(&mut bench, of("s.a"));
    store(&mut bench, "s.a");
    store(&mut bench, "s.a");
    bench.stop();
    bench.start();
    assert_eq!(held(&bench), [2, 3, 4]);
    let mut bench = Bench::of_version(OLD);
    stream(&mut bench, |_| {});
    store_with(&mut bench, "s.a", &[("Nats-Msg-Id", "one")]);
    store(&mut bench, "s.b");
    purge(&mut bench, of("s.a"));
    bench.stop();
    bench.start();
    let again = store_with(&mut bench, "s.a", &[("Nats-Msg-Id", "one")]);
    assert_eq!(word(again), "dup 1");
    let narrower = StreamConfig {
        max_messages: 1,
        ..config
    };
    update(&mut bench, narrower);
    assert_eq!(
        (held(&bench), info(&mut bench).last_sequence.0),
        (vec![2], 2)
    );
}
