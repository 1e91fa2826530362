//! Section 4, and of section 2 what concerns lives: messages read from streams, by whom and for how long.

use squall_core::transport::{Purge, Retention, Sequence, StoredMessage};

use super::streams::{held, message, state, store, store_with, stream, update, word};
use super::*;
use crate::wire::Get;

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
    let wish = Box::new(ConsumerWish {
        filters: filters.iter().map(|&filter| filter.into()).collect(),
        start,
        heartbeat: secs(5),
        inactive: secs(30),
        deliver: Sid(sid),
        form: Form::Message,
    });
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

#[test]
fn what_is_settled_makes_room_before_limits_do() {
    let mut bench = Bench::new();
    let mut config = stream(&mut bench, |_| {});
    for subject in ["s.a", "s.a", "s.a", "s.a", "s.b"] {
        store(&mut bench, subject);
    }
    read(&mut bench, 1, &["s.b"], ReadStart::All);
    bench.pass(secs(1));
    config.retention = Retention::Interest;
    config.max_messages = 4;
    update(&mut bench, config);
    assert_eq!(held(&bench), [1, 2, 3, 4]);
}
