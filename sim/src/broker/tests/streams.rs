//! Section 4: streams. Each test is a row of the facts, or a probe of real servers of all five versions.

use squall_core::transport::{
    Discard, Headers, Purge, Retention, Sequence, Storage, StoreAck, StoredMessage, StreamConfig,
    StreamInfo,
};

use super::*;
use crate::wire::Get;

/// A stream `S` over `s.>`, changed.
fn stream(bench: &mut Bench, change: impl FnOnce(&mut StreamConfig)) -> StreamConfig {
    let config = named("S", &["s.>"], change);
    let created = bench.call(Request::CreateStream(Box::new(config.clone())));
    assert!(matches!(created, Response::Stream(_)), "{created:?}");
    config
}

fn named(name: &str, subjects: &[&str], change: impl FnOnce(&mut StreamConfig)) -> StreamConfig {
    let mut config = StreamConfig::new(name);
    config.subjects = subjects
        .iter()
        .map(|subject| (*subject).to_owned())
        .collect();
    change(&mut config);
    config
}

fn create(bench: &mut Bench, config: StreamConfig) -> Response {
    bench.call(Request::CreateStream(Box::new(config)))
}

fn update(bench: &mut Bench, config: StreamConfig) -> Response {
    bench.call(Request::UpdateStream(Box::new(config)))
}

fn message(subject: &str, headers: &[(&str, &str)]) -> Message {
    let mut all = Headers::new();
    for (name, value) in headers {
        all.append(*name, *value);
    }
    Message {
        headers: all,
        ..Message::new(subject, "x")
    }
}

fn store_with(bench: &mut Bench, subject: &str, headers: &[(&str, &str)]) -> Response {
    bench.call(Request::Store(message(subject, headers)))
}

fn store(bench: &mut Bench, subject: &str) -> u64 {
    acked(store_with(bench, subject, &[])).sequence.0
}

fn acked(response: Response) -> StoreAck {
    match response {
        Response::Acked(ack) => ack,
        other => panic!("not stored: {other:?}"),
    }
}

/// What a publish came to, in a word: its sequence, `dup 1`, or the code of the refusal.
fn word(response: Response) -> String {
    match response {
        Response::Acked(ack) if ack.duplicate => format!("dup {}", ack.sequence),
        Response::Acked(ack) => ack.sequence.to_string(),
        Response::WrongRevision(actual) => format!("last is {actual}"),
        Response::WrongMessageId(actual) => format!("last id is {actual:?}"),
        Response::Error(error) => error.err_code.to_string(),
        other => format!("{other:?}"),
    }
}

fn info(bench: &mut Bench) -> StreamInfo {
    match bench.call(Request::StreamInfo { stream: "S".into() }) {
        Response::Stream(info) => *info,
        other => panic!("not described: {other:?}"),
    }
}

/// Messages held, the first sequence and the last.
fn state(bench: &mut Bench) -> (u64, u64, u64) {
    let info = info(bench);
    (info.messages, info.first_sequence.0, info.last_sequence.0)
}

fn held(bench: &Bench) -> Vec<u64> {
    let messages = bench.broker.messages("S");
    messages.map(|message| message.sequence.0).collect()
}

fn purge(bench: &mut Bench, what: Purge) -> Response {
    let stream = "S".into();
    bench.call(Request::Purge { stream, what })
}

fn get(bench: &mut Bench, what: Get) -> Response {
    let stream = "S".into();
    bench.call(Request::Get { stream, what })
}

fn message_of(response: Response) -> Option<StoredMessage> {
    match response {
        Response::Message(found) => found.map(|found| *found),
        other => panic!("no direct get: {other:?}"),
    }
}

fn read(bench: &mut Bench, sid: u64, filters: &[&str], start: ReadStart) -> Response {
    bench.subscribe(BOB, sid, &format!("_INBOX.bob.{sid}"));
    let wish = ConsumerWish {
        filters: filters.iter().map(|&filter| filter.into()).collect(),
        start,
        heartbeat: secs(5),
        inactive: secs(30),
        deliver: Sid(sid),
        form: Form::Message,
    };
    let stream = "S".into();
    let asked = bench.ask(BOB, Request::CreateConsumer { stream, wish });
    let place = bench.done.iter().position(|(_, effect)| {
        matches!(effect, Effect::Send { op: ServerOp::Response { id, .. }, .. } if *id == asked)
    });
    match bench.done.remove(place.expect("an answer at once")).1 {
        Effect::Send {
            op: ServerOp::Response { response, .. },
            ..
        } => response,
        other => panic!("not a response: {other}"),
    }
}

fn pending(response: Response) -> u64 {
    match response {
        Response::Consumer { pending } => pending,
        other => panic!("no consumer: {other:?}"),
    }
}

/// Sequences that Bob was delivered since the last look.
fn told(bench: &mut Bench) -> Vec<u64> {
    let sequence = |op| match op {
        ServerOp::Delivery {
            content: Content::Message(message),
            ..
        } => Some(message.sequence.0),
        _ => None,
    };
    bench.heard(BOB).into_iter().filter_map(sequence).collect()
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
        ("2.15.1", [3, 6, 5, 1, 0, 2, 4]),
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

#[test]
fn reads_find_messages_by_sequence_and_by_subject() {
    let mut bench = Bench::new();
    stream(&mut bench, |_| {});
    for subject in ["s.a", "s.b", "s.a", "s.b"] {
        store(&mut bench, subject);
    }
    let mut found = |what| message_of(get(&mut bench, what)).map(|found| found.sequence.0);
    assert_eq!(found(Get::Sequence(Sequence(2))), Some(2));
    assert_eq!(found(Get::Sequence(Sequence(9))), None);
    let next = |from, filter: &str| Get::Next {
        from: Sequence(from),
        filter: filter.into(),
    };
    assert_eq!(found(next(2, "s.a")), Some(3));
    assert_eq!(found(next(0, "s.*")), Some(1));
    assert_eq!(found(next(5, "s.*")), None);
    let last = |subject: &str| Get::Last {
        subject: subject.into(),
    };
    assert_eq!(found(last("s.a")), Some(3));
    assert_eq!(found(last("s.*")), Some(4));
    assert_eq!(found(last("s.z")), None);
    assert_eq!(refusal(get(&mut bench, Get::Sequence(Sequence(0)))).0, 408);
}

#[test]
fn the_last_of_many_subjects_is_one_question_from_2_11_on() {
    let ask = |version, filters: &[&str]| {
        let mut bench = Bench::of_version(version);
        stream(&mut bench, |_| {});
        for subject in ["s.a", "s.b", "s.a", "s.c"] {
            store(&mut bench, subject);
        }
        bench.call(Request::LastOf {
            stream: "S".into(),
            filters: filters.iter().map(|&filter| filter.into()).collect(),
        })
    };
    let sequences = |response| match response {
        Response::Messages(found) => found.iter().map(|found| found.sequence.0).collect(),
        other => panic!("no batch: {other:?}"),
    };
    let found: Vec<u64> = sequences(ask("2.15.1", &["s.c", "s.a", "s.z"]));
    assert_eq!(found, [3, 4]);
    let found: Vec<u64> = sequences(ask("2.11.11", &["s.>"]));
    assert_eq!(found, [2, 3, 4]);
    assert_eq!(refusal(ask("2.10.26", &["s.a"])).0, 408);
}

#[test]
fn direct_reads_must_be_allowed() {
    let mut bench = Bench::new();
    stream(&mut bench, |config| config.allow_direct = false);
    store(&mut bench, "s.a");
    let one = get(&mut bench, Get::Sequence(Sequence(1)));
    assert_eq!(one, Response::NoResponders);
}

#[test]
fn a_reader_begins_where_it_is_told_to() {
    let begin = |filters: &[&str], start| {
        let mut bench = Bench::new();
        stream(&mut bench, |_| {});
        let mut third = UnixTime::EPOCH;
        for (place, subject) in ["s.a", "s.a", "s.b", "s.b", "s.c"].into_iter().enumerate() {
            store(&mut bench, subject);
            if place == 1 {
                bench.pass(secs(1));
                third = bench.now.wall;
            }
        }
        let start = match start {
            ReadStart::Time(_) => ReadStart::Time(third),
            start => start,
        };
        let pending = pending(read(&mut bench, 1, filters, start));
        let told = told(&mut bench);
        assert_eq!(told.len() as u64, pending);
        store(&mut bench, "s.a");
        (told, self::told(&mut bench) == [6])
    };
    assert_eq!(begin(&[], ReadStart::All), (vec![1, 2, 3, 4, 5], true));
    assert_eq!(begin(&[], ReadStart::New), (vec![], true));
    assert_eq!(begin(&[], ReadStart::Last), (vec![5], true));
    assert_eq!(begin(&["s.a"], ReadStart::Last), (vec![2,], true));
    assert_eq!(
        begin(&[">"], ReadStart::LastPerSubject),
        (vec![2, 4, 5], true)
    );
    assert_eq!(
        begin(&["s.b", "s.c"], ReadStart::All),
        (vec![3, 4, 5], false)
    );
    assert_eq!(
        begin(&[], ReadStart::Sequence(Sequence(4))),
        (vec![4, 5], true)
    );
    assert_eq!(
        begin(&[], ReadStart::Time(UnixTime::EPOCH)),
        (vec![3, 4, 5], true)
    );
}

#[test]
fn a_reader_that_cannot_be_is_refused() {
    let mut bench = Bench::new();
    stream(&mut bench, |_| {});
    let mut refused = |filters: &[&str], start| refusal(read(&mut bench, 1, filters, start));
    assert_eq!(refused(&[], ReadStart::LastPerSubject), (400, 10094));
    assert_eq!(refused(&["s.a", "s.>"], ReadStart::All), (400, 10138));
    assert_eq!(refused(&["s..a"], ReadStart::All), (500, 10052));
    assert_eq!(refused(&[], ReadStart::Sequence(Sequence(0))), (400, 10094));
    let mut bench = Bench::new();
    stream(&mut bench, |config| config.retention = Retention::WorkQueue);
    assert_eq!(
        refusal(read(&mut bench, 1, &[], ReadStart::All)),
        (400, 10098)
    );
}

#[test]
fn where_nobody_is_interested_nothing_is_kept() {
    let mut bench = Bench::new();
    stream(&mut bench, |config| config.retention = Retention::Interest);
    let id = [("Nats-Msg-Id", "m")];
    assert_eq!(word(store_with(&mut bench, "s.a", &id)), "1");
    assert_eq!(word(store_with(&mut bench, "s.a", &id)), "dup 1");
    assert_eq!(state(&mut bench), (0, 2, 1));
    bench.subscribe(BOB, 9, "_INBOX.bob.9");
    read(&mut bench, 1, &["s.a"], ReadStart::All);
    store(&mut bench, "s.a");
    store(&mut bench, "s.b");
    assert_eq!(told(&mut bench), [2]);
    assert_eq!(
        state(&mut bench),
        (0, 4, 3),
        "what was delivered is settled"
    );
    bench.say(BOB, ClientOp::Unsubscribe { sid: Sid(1) });
    store(&mut bench, "s.a");
    assert_eq!(held(&bench), [4], "a mute consumer is one still");
    bench.pass(secs(31));
    assert_eq!(held(&bench), [0; 0], "and what it wanted goes with it");
}

#[test]
fn a_life_of_its_own_ends_a_message_and_never_exempts_it() {
    let mut bench = Bench::new();
    stream(&mut bench, |config| {
        config.allow_message_ttl = true;
        config.max_age = secs(3);
    });
    store_with(&mut bench, "s.never", &[("Nats-TTL", "never")]);
    store_with(&mut bench, "s.short", &[("Nats-TTL", "1")]);
    store_with(&mut bench, "s.long", &[("Nats-TTL", "10")]);
    bench.pass(millis(1300));
    assert_eq!(held(&bench), [1, 3]);
    bench.pass(millis(2100));
    assert_eq!(held(&bench), [1], "max_age ends a longer life, too");
    bench.pass(secs(20));
    assert_eq!(held(&bench), [1]);
}

#[test]
fn the_end_of_a_life_resurrects_the_message_before() {
    let mut bench = Bench::new();
    stream(&mut bench, |config| {
        config.allow_message_ttl = true;
        config.subject_delete_markers = Some(secs(1));
    });
    store(&mut bench, "s.a");
    store_with(&mut bench, "s.a", &[("Nats-TTL", "1")]);
    bench.pass(secs(2));
    let last = Get::Last {
        subject: "s.a".into(),
    };
    let last = message_of(get(&mut bench, last));
    assert_eq!(last.map(|found| found.sequence.0), Some(1));
}

#[test]
fn the_last_of_a_subject_leaves_a_marker_at_the_end_of_its_life() {
    let mut bench = Bench::new();
    stream(&mut bench, |config| {
        config.max_messages_per_subject = 1;
        config.subject_delete_markers = Some(secs(2));
    });
    store_with(&mut bench, "s.a", &[("Nats-TTL", "1")]);
    let purged = [("KV-Operation", "PURGE"), ("Nats-TTL", "1")];
    store_with(&mut bench, "s.p", &purged);
    bench.pass(millis(1500));
    assert_eq!(held(&bench), [3]);
    let marker = message_of(get(&mut bench, Get::Sequence(Sequence(3))));
    let headers = marker.expect("the marker").headers;
    let headers: Vec<_> = headers.iter().collect();
    let expected = [
        ("Nats-Marker-Reason", "MaxAge"),
        ("Nats-Rollup", "sub"),
        ("Nats-TTL", "2s"),
    ];
    assert_eq!(headers, expected);
    bench.pass(millis(2300));
    assert_eq!(state(&mut bench), (0, 4, 3));
}

#[test]
fn a_life_is_not_shorter_than_that_of_the_markers() {
    let mut bench = Bench::new();
    stream(&mut bench, |config| {
        config.subject_delete_markers = Some(secs(4))
    });
    store_with(&mut bench, "s.a", &[("Nats-TTL", "1")]);
    let stored = message_of(get(&mut bench, Get::Sequence(Sequence(1))));
    let headers = stored.expect("it is held").headers;
    assert_eq!(headers.get("Nats-TTL"), Some("4"), "and it says so");
    bench.pass(secs(3));
    assert_eq!(held(&bench), [1]);
    bench.pass(millis(1300));
    assert_eq!(held(&bench), [2], "the marker");
}

#[test]
fn a_bucket_is_a_stream() {
    let mut bench = Bench::new();
    bench.bucket(|config| config.history = 5);
    bench.put("k", "1");
    let conditional = message("$KV.b.k", &[("Nats-Expected-Last-Subject-Sequence", "1")]);
    assert_eq!(word(bench.call(Request::Store(conditional))), "2");
    assert_eq!(stored_keys(&bench), ["k", "k"]);
    let what = Get::Last {
        subject: "$KV.b.*".into(),
    };
    let stream = "KV_b".into();
    let last = message_of(bench.call(Request::Get { stream, what }));
    assert_eq!(last.map(|last| last.sequence.0), Some(2));
    let purge = Request::Purge {
        stream: "KV_b".into(),
        what: Purge::default(),
    };
    assert_eq!(bench.call(purge), Response::Purged(2));
    assert_eq!(bench.get("k"), None);
    assert_eq!(stored(&bench.update("k", "v", 0)), 3);
}

fn stored_keys(bench: &Bench) -> Vec<String> {
    bench
        .broker
        .records("b")
        .map(|entry| entry.key.to_string())
        .collect()
}

#[test]
fn effects_tell_the_truth_about_a_stream() {
    let mut bench = Bench::new();
    stream(&mut bench, |config| config.max_messages = 1);
    bench.look();
    store_with(&mut bench, "s.a", &[("Nats-Msg-Id", "m")]);
    store(&mut bench, "s.b");
    let told: Vec<String> = bench
        .look()
        .iter()
        .filter(|(_, effect)| !matches!(effect, Effect::Send { .. }))
        .map(|(_, effect)| effect.to_string())
        .collect();
    let expected = [
        "S: s.a = sequence 1 by l1, request 2",
        "S: s.b = sequence 2 by l1, request 3",
        "sequence 1 of S dropped for a limit",
    ];
    assert_eq!(told, expected);
}
