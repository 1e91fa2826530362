//! Sections 6 and 7: the life of the server: greeting, pings, restarts, lame duck, JetStream off or silent.

use squall_core::transport::{BucketConfig, Operation, Storage};

use super::*;

#[test]
fn a_client_is_greeted_and_its_ping_answered() {
    let mut bench = Bench::new();
    bench.open(LinkId(9));
    let heard = bench.heard(LinkId(9));
    assert!(matches!(
        &heard[..],
        [ServerOp::Info { server, max_payload: 1_048_576, lame_duck: false, .. }] if **server == *"n1"
    ));
    bench.say(
        LinkId(9),
        ClientOp::Connect {
            name: "x".into(),
            login: None,
        },
    );
    bench.say(LinkId(9), ClientOp::Ping);
    assert!(matches!(bench.heard(LinkId(9))[..], [ServerOp::Pong]));
}

/// Measured: first after 2.13 s, then every 120 s, closed as stale at 242.1 s.
#[test]
fn a_mute_client_is_closed_after_two_unanswered_pings() {
    let mut bench = Bench::new();
    bench.close(BOB);
    let start = bench.now.monotonic;
    bench.pass_with(secs(300), false);
    let done: Vec<(Duration, String)> = bench
        .look()
        .into_iter()
        .map(|(at, effect)| (at.since(start), effect.to_string()))
        .collect();
    let expected = [
        (millis(2_130), "send to l1: Ping"),
        (millis(122_130), "send to l1: Ping"),
        (millis(242_130), "send to l1: Err(\"Stale Connection\")"),
        (millis(242_130), "close l1"),
    ]
    .map(|(at, what)| (at, what.to_owned()));
    assert_eq!(done, expected);
    assert_eq!(bench.broker.links().len(), 0);
}

/// A client that talks is not asked whether it is alive, apart from the first time; its own `PONG`s do not count.
#[test]
fn a_busy_client_is_pinged_once() {
    let mut bench = Bench::new();
    let mut pings = 0;
    for _ in 0..20 {
        bench.pass_with(secs(60), false);
        bench.say(ALICE, ClientOp::Ping);
        let heard = bench.heard(ALICE);
        pings += heard
            .iter()
            .filter(|op| matches!(op, ServerOp::Ping))
            .count();
    }
    assert_eq!(pings, 1);
    assert!(bench.broker.links().any(|link| link == ALICE));
}

#[test]
fn a_client_that_answers_pings_stays() {
    let mut bench = Bench::new();
    bench.pass(secs(3600));
    assert_eq!(bench.broker.links().len(), 2);
}

#[test]
fn acknowledged_writes_on_files_survive_a_crash_and_memory_does_not() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    bench.put("k", "v");
    let mut config = BucketConfig::new("m");
    config.storage = Storage::Memory;
    bench.create(config);
    let write = Request::Write {
        bucket: "m".into(),
        key: "k".into(),
        write: put("v"),
        expected: None,
    };
    assert_eq!(stored(&bench.call(write)), 1);
    bench.look();
    bench.stop();
    assert_eq!(bench.removals(), [(1, Cause::LostAtRestart)]);
    assert_eq!(bench.broker.deadline(), None);
    bench.start();
    assert_eq!(bench.records(), [(1, Operation::Put)]);
    assert_eq!(bench.put("k", "w"), 2);
    let info = bench.call(info_of("m"));
    assert_eq!(refusal(info), (404, 10059));
}

#[test]
fn a_restart_forgets_connections_subscriptions_and_consumers() {
    let mut bench = Bench::new();
    bench.bucket(|_| {});
    bench.consume(1, ">", ReadStart::All);
    bench.stop();
    bench.open(BOB);
    assert!(
        matches!(bench.look().pop(), Some((_, Effect::Close { link: BOB }))),
        "it is down"
    );
    bench.start();
    bench.look();
    bench.put("k", "v");
    bench.pass(secs(10));
    assert!(bench.heard(BOB).is_empty());
    assert_eq!(bench.broker.consumers("b"), 0);
}

#[test]
fn a_lame_duck_announces_refuses_and_closes_one_after_the_other() {
    let mut bench = Bench::with(|config| {
        config.lame_duck_grace = secs(2);
        config.lame_duck_duration = secs(30);
    });
    bench.bucket(|_| {});
    bench.subscribe(BOB, 1, "a");
    bench.look();
    let start = bench.now.monotonic;
    bench.act(|broker, now, effects| broker.lame_duck(now, effects));
    let told = bench.heard(BOB);
    assert!(matches!(
        told[..],
        [ServerOp::Info {
            lame_duck: true,
            ..
        }]
    ));

    bench.open(LinkId(9));
    assert!(matches!(
        bench.look().pop(),
        Some((_, Effect::Close { link: LinkId(9) }))
    ));

    // JetStream is off at once: writes find nobody, the API is silent, core goes on.
    assert_eq!(bench.write("k", put("v"), None), Response::NoResponders);
    assert_eq!(bench.try_call(info_of("b")), None);
    bench.look();
    bench.publish(ALICE, Message::new("a", "m"));
    assert_eq!(bench.heard(BOB).len(), 1);

    bench.pass(secs(5));
    let ends: Vec<(Duration, Effect)> = bench
        .look()
        .into_iter()
        .map(|(at, effect)| (at.since(start), effect))
        .filter(|(_, effect)| matches!(effect, Effect::Close { .. } | Effect::Exit))
        .collect();
    assert!(matches!(
        ends[..],
        [
            (_, Effect::Close { .. }),
            (_, Effect::Close { .. }),
            (_, Effect::Exit)
        ]
    ));
    assert_eq!(ends[0].0, secs(2));
    assert!(
        (millis(2500)..=secs(3)).contains(&ends[1].0),
        "{:?}",
        ends[1].0
    );
    assert!(!bench.broker.is_running());
    bench.start();
    assert_eq!(bench.put("k", "v"), 1);
}

#[test]
fn where_jetstream_is_disabled_nobody_answers() {
    let mut bench = Bench::with(|config| config.jetstream = false);
    assert_eq!(bench.create(BucketConfig::new("b")), Response::NoResponders);
    assert_eq!(bench.write("k", put("v"), None), Response::NoResponders);
}

#[test]
fn a_mute_jetstream_does_nothing_and_catches_up_on_what_was_due() {
    let mut bench = Bench::new();
    bench.bucket(|config| config.max_age = secs(10));
    bench.put("old", "v");
    bench.consume(1, ">", ReadStart::LastPerSubject);
    bench.look();
    bench.act(|broker, now, _| broker.mute_jetstream(now, true));
    let write = Request::Write {
        bucket: "b".into(),
        key: "k".into(),
        write: put("v"),
        expected: None,
    };
    assert_eq!(bench.try_call(write), None);
    bench.pass(secs(20));
    assert!(
        bench
            .heard(BOB)
            .iter()
            .all(|op| matches!(op, ServerOp::Ping)),
        "no heartbeat"
    );
    assert_eq!(
        bench.records(),
        [(1, Operation::Put)],
        "not even expiry goes on"
    );
    bench.act(|broker, now, _| broker.mute_jetstream(now, false));
    bench.pass(millis(1));
    assert_eq!(bench.records(), []);
    assert!(matches!(bench.heard(BOB)[..], [ServerOp::Heartbeat { .. }]));
    assert_eq!(bench.put("k", "v"), 2);
}
