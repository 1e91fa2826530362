//! Section 4: streams. Each test is a row of the facts, or a probe of real servers of all five versions.

use squall_core::transport::{
    Discard, Headers, Purge, Retention, Sequence, Storage, StoreAck, StreamConfig, StreamInfo,
};

use super::*;

/// A stream `S` over `s.>`, changed.
pub(super) fn stream(bench: &mut Bench, change: impl FnOnce(&mut StreamConfig)) -> StreamConfig {
    let config = named("S", &["s.>"], change);
    let created = bench.call(Request::CreateStream(Box::new(config.clone())));
    assert!(matches!(created, Response::Stream(_)), "{created:?}");
    config
}

pub(super) fn named(
    name: &str,
    subjects: &[&str],
    change: impl FnOnce(&mut StreamConfig),
) -> StreamConfig {
    let mut config = StreamConfig::new(name);
    config.subjects = subjects
        .iter()
        .map(|subject| (*subject).to_owned())
        .collect();
    change(&mut config);
    config
}

pub(super) fn create(bench: &mut Bench, config: StreamConfig) -> Response {
    bench.call(Request::CreateStream(Box::new(config)))
}

pub(super) fn update(bench: &mut Bench, config: StreamConfig) -> Response {
    bench.call(Request::UpdateStream(Box::new(config)))
}

pub(super) fn message(subject: &str, headers: &[(&str, &str)]) -> Message {
    let mut all = Headers::new();
    for (name, value) in headers {
        all.append(*name, *value);
    }
    Message {
        headers: all,
        ..Message::new(subject, "x")
    }
}

pub(super) fn store_with(bench: &mut Bench, subject: &str, headers: &[(&str, &str)]) -> Response {
    bench.call(Request::Store(message(subject, headers)))
}

pub(super) fn store(bench: &mut Bench, subject: &str) -> u64 {
    acked(store_with(bench, subject, &[])).sequence.0
}

pub(super) fn acked(response: Response) -> StoreAck {
    match response {
        Response::Acked(ack) => ack,
        other => panic!("not stored: {other:?}"),
    }
}

/// What a publish came to, in a word: its sequence, `dup 1`, or the code of the refusal.
pub(super) fn word(response: Response) -> String {
    match response {
        Response::Acked(ack) if ack.duplicate => format!("dup {}", ack.sequence),
        Response::Acked(ack) => ack.sequence.to_string(),
        Response::WrongRevision(actual) => format!("last is {actual}"),
        Response::WrongMessageId(actual) => format!("last id is {actual:?}"),
        Response::Error(error) => error.err_code.to_string(),
        other => format!("{other:?}"),
    }
}

pub(super) fn info(bench: &mut Bench) -> StreamInfo {
    match bench.call(Request::StreamInfo { stream: "S".into() }) {
        Response::Stream(info) => *info,
        other => panic!("not described: {other:?}"),
    }
}

/// Messages held, the first sequence and the last.
pub(super) fn state(bench: &mut Bench) -> (u64, u64, u64) {
    let info = info(bench);
    (info.messages, info.first_sequence.0, info.last_sequence.0)
}

pub(super) fn held(bench: &Bench) -> Vec<u64> {
    let messages = bench.broker.messages("S");
    messages.map(|message| message.sequence.0).collect()
}

pub(super) fn purge(bench: &mut Bench, what: Purge) -> Response {
    let stream = "S".into();
    bench.call(Request::Purge { stream, what })
}

#[test]
fn an_acknowledgement_names_the_stream_and_the_sequence() {
    let mut bench = Bench::new();
    stream(&mut bench, |_| {});
    let ack = acked(store_with(&mut bench, "s.a", &[]));
    assert_eq!(
        (&*ack.stream, ack.sequence.0, ack.duplicate),
        ("S", 1, false)
    );
    assert_eq!(
        store_with(&mut bench, "nowhere", &[]),
        Response::NoResponders
    );
    assert_eq!(store_with(&mut bench, "s..a", &[]), Response::NoResponders);
}

#[test]
fn a_core_publish_is_stored_with_and_without_a_reply() {
    let mut bench = Bench::new();
    stream(&mut bench, |_| {});
    bench.publish(ALICE, Message::new("s.a", "raw"));
    bench.publish(
        ALICE,
        message("s.a", &[("Nats-Expected-Last-Sequence", "7")]),
    );
    assert_eq!(
        held(&bench),
        [1],
        "a failing condition without a reply: silence"
    );
    bench.subscribe(BOB, 1, "_INBOX.bob");
    bench.look();
    bench.publish(ALICE, asking("s.a", "_INBOX.bob"));
    let heard = bench.heard(BOB);
    assert!(
        matches!(&heard[..], [ServerOp::Message { message, .. }]
            if message.payload == r#"{"stream":"S","seq":2}"#),
        "{heard:?}"
    );
}

#[test]
fn a_message_id_is_remembered_for_the_window_and_no_longer() {
    let mut bench = Bench::new();
    stream(&mut bench, |config| config.duplicate_window = Some(secs(1)));
    let id = [("Nats-Msg-Id", "m")];
    assert_eq!(word(store_with(&mut bench, "s.a", &id)), "1");
    bench.pass(millis(900));
    assert_eq!(
        word(store_with(&mut bench, "s.b", &id)),
        "dup 1",
        "stream-wide"
    );
    let deleted = bench.call(Request::DeleteMessage {
        stream: "S".into(),
        sequence: Sequence(1),
    });
    assert_eq!(deleted, Response::Deleted);
    assert_eq!(
        word(store_with(&mut bench, "s.a", &id)),
        "dup 1",
        "survives deletion"
    );
    bench.pass(millis(101));
    assert_eq!(
        word(store_with(&mut bench, "s.a", &id)),
        "2",
        "dups do not extend it"
    );
    let empty = [("Nats-Msg-Id", "")];
    assert_eq!(word(store_with(&mut bench, "s.a", &empty)), "3");
    assert_eq!(word(store_with(&mut bench, "s.a", &empty)), "4");
}

#[test]
fn message_ids_survive_a_restart() {
    let mut bench = Bench::new();
    stream(&mut bench, |_| {});
    let id = [("Nats-Msg-Id", "m")];
    store_with(&mut bench, "s.a", &id);
    bench.stop();
    bench.start();
    assert_eq!(word(store_with(&mut bench, "s.a", &id)), "dup 1");
    let last = [("Nats-Expected-Last-Msg-Id", "m")];
    assert_eq!(word(store_with(&mut bench, "s.a", &last)), "2");
    assert_eq!(
        word(store_with(&mut bench, "s.a", &last)),
        "last id is \"\""
    );
}

#[test]
fn conditions_name_what_is_there() {
    let mut bench = Bench::new();
    stream(&mut bench, |_| {});
    store(&mut bench, "s.a");
    store(&mut bench, "s.b");
    let mut with = |name, value| word(store_with(&mut bench, "s.a", &[(name, value)]));
    assert_eq!(with("Nats-Expected-Last-Sequence", "1"), "last is 2");
    assert_eq!(with("Nats-Expected-Last-Sequence", "rubbish"), "last is 2");
    assert_eq!(
        with("Nats-Expected-Last-Subject-Sequence", "2"),
        "last is 1"
    );
    assert_eq!(with("Nats-Expected-Stream", "T"), "10060");
    assert_eq!(with("Nats-Expected-Last-Msg-Id", "m"), "last id is \"\"");
    assert_eq!(
        with("Nats-Expected-Last-Subject-Sequence-Subject", "s.*"),
        "10193"
    );
    assert_eq!(with("Nats-Expected-Last-Subject-Sequence", "1"), "3");
    let any = [
        ("Nats-Expected-Last-Subject-Sequence", "3"),
        ("Nats-Expected-Last-Subject-Sequence-Subject", "s.*"),
    ];
    assert_eq!(word(store_with(&mut bench, "s.new", &any)), "4");
}

/// Which of two reasons is told: measured pair by pair.
#[test]
fn of_two_refusals_each_version_tells_its_own() {
    let reasons: [(&str, &str, &str); 7] = [
        ("Nats-Msg-Id", "m", "dup 1"),
        ("Nats-Expected-Last-Sequence", "9", "last is 1"),
        ("Nats-Expected-Last-Msg-Id", "zz", "last id is \"m\""),
        ("Nats-Expected-Stream", "zz", "10060"),
        ("Nats-Rollup", "sub", "10111"),
        ("Nats-TTL", "5", "10166"),
        ("size", "", "10054"),
    ];
    let orders = [
        ("2.15.1", [6, 3, 5, 1, 0, 2, 4]),
        ("2.14.6", [3, 5, 1, 0, 2, 4, 6]),
        ("2.12.8", [3, 5, 1, 0, 2, 4, 6]),
        ("2.11.11", [3, 5, 0, 1, 2, 4, 6]),
    ];
    for (version, order) in orders {
        let mut bench = Bench::of_version(version);
        stream(&mut bench, |config| config.max_message_size = 300);
        store_with(&mut bench, "s.a", &[("Nats-Msg-Id", "m")]);
        for (place, &first) in order.iter().enumerate() {
            for &second in &order[place + 1..] {
                let chosen = [reasons[first], reasons[second]];
                let headers = chosen.iter().filter(|(name, ..)| *name != "size");
                let headers: Vec<_> = headers.map(|&(name, value, _)| (name, value)).collect();
                let mut message = message("s.a", &headers);
                if headers.len() < 2 {
                    message.payload = vec![0; 400].into();
                }
                let told = word(bench.call(Request::Store(message)));
                assert_eq!(told, reasons[first].2, "{version}: {chosen:?}");
            }
        }
    }
}

#[test]
fn version_2_10_ignores_lives_and_is_silent_about_a_bad_rollup() {
    let mut bench = Bench::of_version("2.10.26");
    stream(&mut bench, |config| config.allow_rollup = true);
    assert_eq!(
        word(store_with(&mut bench, "s.a", &[("Nats-TTL", "0")])),
        "1"
    );
    let subject = [("Nats-Expected-Last-Subject-Sequence-Subject", "s.*")];
    assert_eq!(word(store_with(&mut bench, "s.a", &subject)), "2");
    let bad = message("s.a", &[("Nats-Rollup", "zz")]);
    assert_eq!(bench.try_call(Request::Store(bad)), None);
}

#[test]
fn a_full_stream_drops_its_oldest_or_refuses() {
    let mut bench = Bench::new();
    stream(&mut bench, |config| config.max_messages = 2);
    for subject in ["s.a", "s.b", "s.c"] {
        store(&mut bench, subject);
    }
    assert_eq!(held(&bench), [2, 3]);

    let mut bench = Bench::new();
    stream(&mut bench, |config| {
        config.max_messages = 2;
        config.max_messages_per_subject = 1;
        config.discard = Discard::New;
    });
    store(&mut bench, "s.a");
    store(&mut bench, "s.b");
    assert_eq!(refusal(store_with(&mut bench, "s.c", &[])), (503, 10077));
    assert_eq!(store(&mut bench, "s.a"), 3, "one of its subject makes room");
    assert_eq!(held(&bench), [2, 3]);
}

#[test]
fn a_message_larger_than_the_stream_is_acknowledged_and_gone() {
    let mut bench = Bench::new();
    stream(&mut bench, |config| config.max_bytes = 100);
    let mut large = message("s.a", &[]);
    large.payload = vec![0; 200].into();
    assert_eq!(word(bench.call(Request::Store(large.clone()))), "1");
    assert_eq!(state(&mut bench), (0, 2, 1));
    let mut bench = Bench::new();
    stream(&mut bench, |config| {
        config.max_bytes = 100;
        config.discard = Discard::New;
    });
    assert_eq!(refusal(bench.call(Request::Store(large))), (503, 10077));
}

#[test]
fn a_subject_at_its_limit_drops_its_oldest_unless_told_otherwise() {
    let mut bench = Bench::new();
    stream(&mut bench, |config| {
        config.max_messages_per_subject = 1;
        config.discard = Discard::New;
    });
    store(&mut bench, "s.a");
    assert_eq!(store(&mut bench, "s.a"), 2);
    let mut bench = Bench::new();
    stream(&mut bench, |config| {
        config.max_messages_per_subject = 1;
        config.discard = Discard::New;
        config.discard_new_per_subject = true;
    });
    store(&mut bench, "s.a");
    assert_eq!(refusal(store_with(&mut bench, "s.a", &[])), (503, 10077));
}

#[test]
fn a_rollup_takes_the_place_of_its_subject_or_of_all() {
    let mut bench = Bench::new();
    stream(&mut bench, |config| config.allow_rollup = true);
    for subject in ["s.a", "s.b", "s.a", "s.b"] {
        store(&mut bench, subject);
    }
    store_with(&mut bench, "s.a", &[("Nats-Rollup", "SUB")]);
    assert_eq!(held(&bench), [2, 4, 5]);
    let bad = store_with(&mut bench, "s.a", &[("Nats-Rollup", "zz")]);
    assert_eq!(refusal(bad), (500, 10111));
    store_with(&mut bench, "s.c", &[("Nats-Rollup", "all")]);
    assert_eq!(held(&bench), [6]);
}

#[test]
fn a_purge_removes_what_it_names() {
    let filled = || {
        let mut bench = Bench::new();
        stream(&mut bench, |_| {});
        for subject in ["s.a", "s.b", "s.c", "s.a", "s.b", "s.c"] {
            store(&mut bench, subject);
        }
        bench
    };
    let purged = |what: Purge| {
        let mut bench = filled();
        let answer = purge(&mut bench, what);
        (answer, held(&bench), bench.broker.last("S"))
    };
    let filter = |filter: &str| Some(filter.to_owned());
    let all = purged(Purge::default());
    assert_eq!(all, (Response::Purged(6), vec![], Sequence(6)));
    let by_filter = purged(Purge {
        filter: filter("s.a"),
        ..Purge::default()
    });
    assert_eq!(
        by_filter,
        (Response::Purged(2), vec![2, 3, 5, 6], Sequence(6))
    );
    let kept = purged(Purge {
        filter: filter("s.b"),
        keep: Some(1),
        ..Purge::default()
    });
    assert_eq!(
        kept,
        (Response::Purged(1), vec![1, 3, 4, 5, 6], Sequence(6))
    );
    let both = purged(Purge {
        filter: filter("s.>"),
        below: Some(Sequence(30)),
        ..Purge::default()
    });
    assert_eq!(both, (Response::Purged(6), vec![], Sequence(6)), "no jump");
    let below = purged(Purge {
        below: Some(Sequence(4)),
        ..Purge::default()
    });
    assert_eq!(below, (Response::Purged(3), vec![4, 5, 6], Sequence(6)));
    let newest = purged(Purge {
        keep: Some(2),
        ..Purge::default()
    });
    assert_eq!(newest, (Response::Purged(4), vec![5, 6], Sequence(6)));
    let nothing = purged(Purge {
        filter: filter("elsewhere"),
        ..Purge::default()
    });
    assert_eq!(nothing.0, Response::Purged(0));
    let contradiction = purge(
        &mut filled(),
        Purge {
            below: Some(Sequence(2)),
            keep: Some(2),
            ..Purge::default()
        },
    );
    assert_eq!(refusal(contradiction), (400, 10003));
}

#[test]
fn a_purge_beyond_the_last_moves_the_counter() {
    let mut bench = Bench::new();
    stream(&mut bench, |_| {});
    store(&mut bench, "s.a");
    let far = Purge {
        below: Some(Sequence(20)),
        ..Purge::default()
    };
    assert_eq!(purge(&mut bench, far), Response::Purged(1));
    assert_eq!(state(&mut bench), (0, 20, 19));
    assert_eq!(store(&mut bench, "s.a"), 20);
}

#[test]
fn a_deleted_message_leaves_a_hole() {
    let mut bench = Bench::new();
    stream(&mut bench, |_| {});
    for _ in 0..4 {
        store(&mut bench, "s.a");
    }
    let mut delete = |sequence| {
        let stream = "S".into();
        let sequence = Sequence(sequence);
        bench.call(Request::DeleteMessage { stream, sequence })
    };
    assert_eq!(delete(2), Response::Deleted);
    assert_eq!(refusal(delete(2)), (400, 10043), "a hole");
    assert_eq!(delete(1), Response::Deleted);
    assert_eq!(refusal(delete(2)), (500, 10057), "before the first");
    assert_eq!(refusal(delete(9)), (500, 10057), "beyond the last");
    assert_eq!(state(&mut bench), (2, 3, 4));
}

#[test]
fn what_is_denied_cannot_be_allowed_again() {
    let mut bench = Bench::new();
    let config = stream(&mut bench, |config| {
        config.deny_delete = true;
        config.deny_purge = true;
    });
    store(&mut bench, "s.a");
    assert_eq!(refusal(purge(&mut bench, Purge::default())), (500, 10110));
    let delete = bench.call(Request::DeleteMessage {
        stream: "S".into(),
        sequence: Sequence(1),
    });
    assert_eq!(refusal(delete), (500, 10057));
    let mut changed = |change: fn(&mut StreamConfig)| {
        let mut config = config.clone();
        change(&mut config);
        match update(&mut bench, config) {
            Response::Stream(_) => 0,
            other => refusal(other).1,
        }
    };
    assert_eq!(changed(|config| config.deny_delete = false), 10052);
    assert_eq!(changed(|config| config.deny_purge = false), 10052);
    assert_eq!(changed(|config| config.storage = Storage::Memory), 10052);
    assert_eq!(
        changed(|config| config.retention = Retention::WorkQueue),
        10052
    );
    assert_eq!(changed(|config| config.retention = Retention::Interest), 0);
}

#[test]
fn narrower_limits_take_effect_at_once() {
    let mut bench = Bench::new();
    let mut config = stream(&mut bench, |config| config.max_messages = 5);
    for _ in 0..5 {
        store(&mut bench, "s.a");
    }
    config.max_messages = 2;
    update(&mut bench, config.clone());
    assert_eq!(held(&bench), [4, 5]);
    config.max_bytes = 40;
    update(&mut bench, config.clone());
    assert_eq!(held(&bench), [5]);
    config.subjects = vec!["t.>".to_owned()];
    update(&mut bench, config);
    assert_eq!(held(&bench), [5], "other subjects keep what is there");
    assert_eq!(store_with(&mut bench, "s.a", &[]), Response::NoResponders);
    assert_eq!(store(&mut bench, "t.a"), 6);
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let refused = |version: &str, subjects: &[&str], change: fn(&mut StreamConfig)| {
        let mut bench = Bench::of_version(version);
        create(&mut bench, named("F", &["f.>"], |_| {}));
        match create(&mut bench, named("X", subjects, change)) {
            Response::Stream(_) => 0,
            other => refusal(other).1,
        }
    };
    let now = "2.15.1";
    for subjects in [
        &[">"][..],
        &["$JS.>"],
        &["*.x"],
        &["$SYS.>"],
        &["a..b"],
        &["a", "a"],
    ] {
        assert_eq!(refused(now, subjects, |_| {}), 10052, "{subjects:?}");
    }
    assert_eq!(refused(now, &["f.a"], |_| {}), 10065);
    assert_eq!(refused("2.10.26", &["*.x"], |_| {}), 10065);
    for subjects in [&["$JS.EVENT.ADVISORY.x"][..], &["$KV.>"]] {
        assert_eq!(refused(now, subjects, |_| {}), 0, "{subjects:?}");
    }
    let changes: [fn(&mut StreamConfig); 6] = [
        |config| (config.deny_purge, config.allow_rollup) = (true, true),
        |config| config.discard_new_per_subject = true,
        |config| (config.discard_new_per_subject, config.discard) = (true, Discard::New),
        |config| (config.duplicate_window, config.max_age) = (Some(secs(10)), secs(1)),
        |config| config.duplicate_window = Some(millis(10)),
        |config| config.max_age = millis(10),
    ];
    for (place, change) in changes.into_iter().enumerate() {
        assert_eq!(refused(now, &["x"], change), 10052, "{place}");
    }
}

#[test]
fn a_stream_completes_its_settings() {
    let mut bench = Bench::new();
    create(
        &mut bench,
        named("S", &[], |config| {
            config.max_age = secs(10);
            config.subject_delete_markers = Some(secs(1));
        }),
    );
    let config = info(&mut bench).config;
    assert_eq!(config.subjects, ["S"]);
    assert_eq!(config.duplicate_window, Some(secs(10)));
    assert!(config.allow_message_ttl && config.allow_rollup && !config.deny_purge);
    assert_eq!(state(&mut bench), (0, 1, 0));
}
