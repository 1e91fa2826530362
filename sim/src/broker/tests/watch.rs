//! Section 3: consumers, as watches and scans use them.

use squall_core::transport::{Operation, Sequence};

use super::*;

fn bench(keys: &[&str]) -> Bench {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    for key in keys {
        bench.put(key, "v");
    }
    bench
}

#[test]
fn a_snapshot_ascends_and_counts_down_tombstones_included() {
    let mut bench = bench(&["a", "b", "c", "a"]);
    bench.write("b", Write::Delete, None);
    let made = bench.consume(1, ">", ReadStart::LastPerSubject);
    assert_eq!(made, Response::Consumer { pending: 3 });
    assert_eq!(bench.delivered(), [(3, 1, 2), (4, 2, 1), (5, 3, 0)]);
    bench.put("a", "w");
    assert_eq!(bench.delivered(), [(6, 4, 0)]);
}

#[test]
fn nothing_to_tell_is_told_as_nothing() {
    let mut bench = bench(&[]);
    let made = bench.consume(1, ">", ReadStart::LastPerSubject);
    assert_eq!(made, Response::Consumer { pending: 0 });
    assert_eq!(bench.delivered(), []);
}

#[test]
fn the_answer_comes_before_the_first_delivery() {
    let mut bench = bench(&["a"]);
    bench.subscribe(BOB, 1, "_INBOX.bob");
    bench.look();
    bench.ask(BOB, consumer("b", 1, ">", ReadStart::All));
    let heard = bench.heard(BOB);
    assert!(matches!(
        heard[..],
        [ServerOp::Response { .. }, ServerOp::Delivery { .. }]
    ));
}

#[test]
fn filters_choose_keys() {
    let revisions = |filter| {
        let mut bench = bench(&["a", "a.b", "a.c", "d", "a.b.c"]);
        bench.consume(1, filter, ReadStart::LastPerSubject);
        let mut found = bench.delivered_revisions();
        for key in ["a.b", "d"] {
            bench.put(key, "w");
        }
        found.extend(bench.delivered_revisions());
        found
    };
    assert_eq!(revisions("d"), [4, 7]);
    assert_eq!(revisions("a.*"), [2, 3, 6]);
    assert_eq!(revisions("a.>"), [2, 3, 5, 6]);
    assert_eq!(revisions("*"), [1, 4, 7]);
    assert_eq!(revisions("*.*"), [2, 3, 6]);
    assert_eq!(revisions("nowhere"), [0; 0]);
}

#[test]
fn a_bad_filter_is_an_invalid_subject() {
    let mut bench = bench(&[]);
    for filter in ["", "a..b", "bad key", ".a"] {
        assert_eq!(refusal(bench.consume(1, filter, ReadStart::All)).1, 10052);
    }
    let zero = ReadStart::Sequence(Sequence::NONE);
    assert_eq!(refusal(bench.consume(1, ">", zero)).1, 10094);
}

#[test]
fn all_tells_the_history_and_a_sequence_the_rest_of_it() {
    let mut bench = Bench::new();
    bench.bucket(|config| config.history = 3);
    for key in ["k", "k", "l", "k", "k"] {
        bench.put(key, "v");
    }
    bench.consume(1, "k", ReadStart::All);
    assert_eq!(bench.delivered(), [(2, 1, 2), (4, 2, 1), (5, 3, 0)]);
    bench.consume(2, ">", ReadStart::Sequence(Sequence(3)));
    assert_eq!(bench.delivered(), [(3, 1, 2), (4, 2, 1), (5, 3, 0)]);
}

#[test]
fn a_start_beyond_the_last_is_mute_until_then() {
    let from_four = |version| {
        let mut bench = Bench::of_version(version);
        bench.bucket(|_| {});
        bench.put("a", "v");
        bench.consume(1, ">", ReadStart::Sequence(Sequence(4)));
        for key in ["b", "c", "d", "e"] {
            bench.put(key, "v");
        }
        bench.delivered_revisions()
    };
    assert_eq!(from_four("2.11.11"), [4, 5]);
    assert_eq!(
        from_four("2.10.26"),
        [2, 3, 4, 5],
        "2.10 clamps to the next"
    );
}

#[test]
fn a_resumed_watch_skips_the_first_revisions_of_a_bucket_made_anew() {
    let mut bench = bench(&["a"; 5]);
    bench.call(deletion_of("b"));
    bench.bucket(|_| {});
    bench.put("a", "new");
    bench.consume(1, ">", ReadStart::Sequence(Sequence(6)));
    for _ in 0..5 {
        bench.put("a", "new");
    }
    assert_eq!(
        bench.delivered_revisions(),
        [6],
        "1 to 5 of the new bucket are never told"
    );
}

#[test]
fn a_backlog_of_one_key_is_its_last_record() {
    let mut bench = Bench::with(|config| config.delivery_delay_max = millis(1));
    bench.bucket(|_| {});
    bench.consume(1, ">", ReadStart::LastPerSubject);
    for _ in 0..1000 {
        bench.put("k", "v");
    }
    bench.pass(millis(2));
    let seen = bench.delivered_revisions();
    assert!(
        seen.len() < 50,
        "{} of 1000 pipelined writes were told",
        seen.len()
    );
    assert!(seen.is_sorted_by(|a, b| a < b));
    assert_eq!(seen.last(), Some(&1000), "the last always comes");
}

/// Measured: 196 to 200 of 200.
#[test]
fn of_sequential_writes_nearly_all_are_told() {
    let mut bench = Bench::with(|config| {
        config.delivery_delay_max = ServerConfig::new("n").delivery_delay_max;
    });
    bench.bucket(|_| {});
    bench.consume(1, ">", ReadStart::LastPerSubject);
    for _ in 0..200 {
        bench.put("k", "v");
        bench.pass(Duration::from_micros(74));
    }
    assert!(bench.delivered().len() >= 196);
}

/// Measured: in 34 to 37 of 100 writes.
#[test]
fn some_writes_are_told_before_they_are_acknowledged() {
    let mut bench = Bench::with(|config| config.delivery_delay_max = millis(1));
    bench.bucket(|_| {});
    bench.consume(1, ">", ReadStart::LastPerSubject);
    let mut first = 0;
    for _ in 0..1000 {
        bench.look();
        bench.put("k", "v");
        first += bench.delivered().len();
        bench.pass(millis(2));
    }
    assert!((300..400).contains(&first), "{first} of 1000");
}

#[test]
fn a_listing_overtaken_by_removals_never_reaches_zero_pending() {
    let mut bench = Bench::with(|config| config.delivery_delay_max = millis(1));
    bench.bucket(|config| config.max_age = secs(1));
    for key in 0..100 {
        bench.put(&format!("k{key}"), "v");
    }
    bench.sleep(secs(2));
    let made = bench.consume(1, ">", ReadStart::LastPerSubject);
    assert_eq!(made, Response::Consumer { pending: 100 });
    bench.pass(secs(1));
    let told = bench.delivered();
    assert!(told.len() < 100);
    assert!(
        told.iter().all(|(.., pending)| *pending > 0),
        "{:?}",
        told.last()
    );
}

#[test]
fn a_heartbeat_follows_each_interval_of_silence() {
    let mut bench = bench(&["a"]);
    bench.consume(1, ">", ReadStart::All);
    bench.pass(secs(3));
    bench.put("a", "w");
    bench.look();
    let last = bench.now.monotonic;
    bench.pass(secs(11));
    let beats: Vec<(Duration, u64)> = bench
        .look()
        .into_iter()
        .filter_map(|(at, effect)| match effect {
            Effect::Send {
                op:
                    ServerOp::Heartbeat {
                        last_consumer_seq, ..
                    },
                ..
            } => Some((at.since(last), last_consumer_seq)),
            _ => None,
        })
        .collect();
    assert_eq!(beats, [(secs(5), 2), (secs(10), 2)]);
}

#[test]
fn a_consumer_is_mute_without_its_subscription_and_gone_30_s_later() {
    let mut bench = bench(&["a"]);
    bench.consume(1, ">", ReadStart::All);
    bench.consume(2, ">", ReadStart::All);
    bench.look();
    bench.say(BOB, ClientOp::Unsubscribe { sid: Sid(1) });
    bench.put("a", "w");
    assert_eq!(bench.delivered().len(), 1);
    bench.close(BOB);
    bench.put("a", "x");
    bench.pass(millis(29_999));
    assert_eq!(bench.broker.consumers("b"), 2);
    assert!(bench.heard(BOB).is_empty(), "no deliveries, no heartbeats");
    bench.pass(millis(1));
    assert_eq!(bench.broker.consumers("b"), 0);
}

#[test]
fn a_consumer_for_a_subscription_that_is_already_gone_is_mute() {
    let mut bench = bench(&["a"]);
    let made = bench.call(consumer("b", 9, ">", ReadStart::All));
    assert_eq!(made, Response::Consumer { pending: 1 });
    bench.look();
    bench.pass(secs(20));
    assert!(
        bench
            .heard(ALICE)
            .iter()
            .all(|op| matches!(op, ServerOp::Ping))
    );
    bench.pass(secs(10));
    assert_eq!(bench.broker.consumers("b"), 0);
}

#[test]
fn deleting_a_bucket_ends_its_consumers_without_a_word() {
    let mut bench = bench(&["a"]);
    bench.consume(1, ">", ReadStart::All);
    bench.look();
    bench.call(deletion_of("b"));
    bench.bucket(|_| {});
    bench.put("a", "new");
    bench.pass(secs(20));
    assert!(
        bench
            .heard(BOB)
            .iter()
            .all(|op| matches!(op, ServerOp::Ping))
    );
}

#[test]
fn markers_are_delivered_like_records() {
    let mut bench = Bench::new();
    bench.bucket(|config| {
        config.max_age = secs(1);
        config.delete_markers = Some(secs(5));
    });
    bench.consume(1, "k", ReadStart::LastPerSubject);
    bench.put("k", "v");
    bench.pass(millis(1300));
    let last = bench.heard(BOB).pop();
    assert!(
        matches!(&last, Some(ServerOp::Delivery { content: Content::Entry(entry), .. })
            if entry.operation == Operation::Expire && entry.value.is_empty()),
        "{last:?}"
    );
}
