//! What pulls get, and how they end.

use squall_core::transport::{Ack, ReadStart};

use super::tests::*;
use super::*;

#[test]
fn two_that_wait_alternate() {
    let mut bench = Bench::new(0, |_| {});
    bench.pull(1, 3, Some(1000));
    bench.pull(2, 3, Some(1000));
    for number in 1..=6 {
        bench.store(&format!("s.{number}"));
    }
    let to: Vec<String> = bench.said();
    let whom: Vec<bool> = to.iter().map(|said| said.contains("to 1,")).collect();
    assert_eq!(whom, [true, false, true, false, true, false], "{to:#?}");
}

#[test]
fn a_pull_of_what_is_there_ends_when_it_has_that() {
    let mut bench = Bench::new(2, |_| {});
    bench.begin();
    bench.pull(1, 5, None);
    bench.pull(2, 5, None);
    let said = [
        "0: s.1 #1 x1 to 1, 1 unseen",
        "0: s.2 #2 x1 to 1, 0 unseen",
        "0: 404 No Messages to 1",
        "0: 404 No Messages to 2",
    ];
    assert_eq!(bench.said(), said);
    let mut old = Bench::of(Version::new(2, 10, 26), 2, |_| {});
    old.begin();
    old.pull(1, 5, None);
    assert_eq!(old.said()[2], "0: 408 Request Timeout to 1");
}

#[test]
fn a_pull_that_waits_hears_heartbeats_and_its_end() {
    let mut bench = Bench::new(0, |config| config.max_waiting = 1);
    bench.begin();
    let heartbeat = Some(millis(300));
    let waits = Pull {
        heartbeat,
        ..pull(1, Some(1000))
    };
    bench.pull_with(1, waits);
    bench.pull(2, 1, Some(1000));
    // It would pull again at once, and again.
    bench.pull_with(3, waits);
    bench.pull(4, 1, None);
    bench.pass(millis(1500));
    let said = [
        "0: 409 Exceeded MaxWaiting to 2",
        "0: 404 No Messages to 4",
        "300: 100 Idle Heartbeat to 1",
        "600: 100 Idle Heartbeat to 1",
        "900: 100 Idle Heartbeat to 1",
        "1000: 408 Request Timeout to 1",
    ];
    assert_eq!(bench.said(), said);
    bench.pull_with(
        5,
        Pull {
            heartbeat,
            ..pull(1, Some(599))
        },
    );
    let said = bench.said();
    assert_eq!(
        said,
        ["1500: 400 Bad Request - heartbeat value too large to 5"]
    );
}

#[test]
fn a_full_circle_is_looked_through_for_those_who_left() {
    let mut bench = Bench::new(0, |config| config.max_waiting = 1);
    bench.pull(1, 1, Some(5000));
    bench.pass(millis(20));
    bench.deaf.push(inbox(1));
    bench.pull(2, 1, Some(300));
    bench.pass(millis(50));
    bench.begin();
    bench.pull(3, 1, Some(300));
    bench.pass(millis(400));
    assert_eq!(bench.said(), ["300: 408 Request Timeout to 3"]);
}

#[test]
fn too_much_unsettled_stops_it() {
    let mut bench = Bench::new(5, |config| config.max_ack_pending = 2);
    bench.begin();
    bench.pull(1, 5, Some(3000));
    bench.pull(2, 1, None);
    let said = ["0: s.1 #1 x1 to 1, 4 unseen", "0: s.2 #2 x1 to 1, 3 unseen"];
    assert_eq!(bench.said(), said, "and no word to the second");
    let info = "delivered 2/2 floor 0/0 pending 2 again 0 waiting 2 unseen 3";
    assert_eq!(bench.info(), info);
    bench.raw_ack("$JS.ACK.S.C.1.1.1.0.4", b"");
    assert_eq!(
        bench.said(),
        ["0: settled 1", "0: s.3 #3 x1 to 1, 2 unseen"]
    );
    // The end of another pull ends it too.
    bench.pass(millis(3100));
    let said = [
        "3000: 404 No Messages to 2",
        "3000: 408 Request Timeout to 1",
    ];
    assert_eq!(bench.said(), said);
}

#[test]
fn what_nobody_listens_to_is_not_delivered() {
    let mut bench = Bench::new(0, |_| {});
    bench.pull(1, 5, Some(10_000));
    bench.pull(2, 1, Some(10_000));
    bench.deaf.push(inbox(1));
    bench.store("s.1");
    bench.store("s.2");
    assert_eq!(bench.said().len(), 1);
    let info = "delivered 1/1 floor 0/0 pending 1 again 0 waiting 0 unseen 1";
    assert_eq!(bench.info(), info);
}

#[test]
fn it_begins_where_it_is_told() {
    let starts = [
        (ReadStart::All, "delivered 0/0 floor 0/0", 5),
        (ReadStart::New, "delivered 0/5 floor 0/5", 0),
        (ReadStart::Last, "delivered 0/4 floor 0/4", 1),
        (
            ReadStart::Sequence(Sequence(3)),
            "delivered 0/2 floor 0/2",
            3,
        ),
        (
            ReadStart::Sequence(Sequence(40)),
            "delivered 0/39 floor 0/39",
            0,
        ),
    ];
    for (start, place, unseen) in starts {
        let mut bench = Bench::new(5, |config| config.start = start);
        let info = format!("{place} pending 0 again 0 waiting 0 unseen {unseen}");
        assert_eq!(bench.info(), info, "{start:?}");
        assert_eq!(bench.take(9).len(), unseen, "{start:?}");
    }
    let future = |config: &mut ConsumerConfig| config.start = ReadStart::Sequence(Sequence(4));
    let mut old = Bench::of(Version::new(2, 10, 26), 1, future);
    old.store("s.2");
    assert_eq!(old.take(9).len(), 1, "older servers do not wait for it");
}

#[test]
fn who_is_in_memory_and_has_delivered_nothing_tells_how_far_it_looked() {
    let looked = |version, in_memory| {
        let mut bench = Bench::of(version, 3, |config| {
            config.filters = vec!["other".into()];
            config.memory_storage = in_memory;
        });
        bench.pull(1, 1, Some(1000));
        bench.info()
    };
    let info = |place: &str| format!("{place} pending 0 again 0 waiting 1 unseen 0");
    assert_eq!(
        looked(Version::REFERENCE, true),
        info("delivered 0/3 floor 0/0")
    );
    assert_eq!(
        looked(Version::REFERENCE, false),
        info("delivered 0/0 floor 0/0")
    );
    let old = Version::new(2, 10, 26);
    assert_eq!(
        looked(old, false),
        info("delivered 0/3 floor 0/0"),
        "it tells what lives"
    );
}

#[test]
fn the_last_of_each_subject_come_first() {
    let mut bench = Bench::new(0, |_| {});
    for subject in ["a", "b", "a", "b", "c"] {
        bench.store(subject);
    }
    let config = config(|config| {
        config.start = ReadStart::LastPerSubject;
        config.filters = vec![">".into()];
    });
    let home = bench.consumer.home.clone();
    bench.consumer = bench.act(|_, around| PullConsumer::new(home, config, around));
    let info = "delivered 0/2 floor 0/2 pending 0 again 0 waiting 0 unseen 3";
    assert_eq!(bench.info(), info);
    bench.store("a");
    bench.remove(4);
    let taken = bench.take(9);
    let taken: Vec<u64> = taken.iter().map(|d| d.message.sequence.0).collect();
    assert_eq!(taken, [3, 5, 6]);
}

#[test]
fn settings_are_refused_in_the_words_of_the_server() {
    let home = |retention| Home {
        stream: "S".into(),
        retention,
        storage: Storage::File,
        version: Version::REFERENCE,
        kindness: None,
    };
    let bench = Bench::new(0, |_| {});
    let existing = &bench.consumer;
    let admit = |retention, change: fn(&mut ConsumerConfig), action, existing, others: &[&_]| {
        let config = config(change);
        let others = others.iter().copied();
        let admitted = admit(&home(retention), &config, action, existing, others);
        admitted.map_err(|error| error.err_code).err()
    };
    let update = |change| {
        let any = ConsumerAction::CreateOrUpdate;
        admit(Retention::Limits, change, any, Some(existing), &[])
    };
    assert_eq!(update(|_| {}), None);
    assert_eq!(update(|config| config.ack_wait = millis(5)), None);
    assert_eq!(update(|config| config.filters = vec!["x".into()]), None);
    assert_eq!(
        update(|config| config.ack_policy = AckPolicy::All),
        Some(10012)
    );
    assert_eq!(update(|config| config.start = ReadStart::New), Some(10012));
    assert_eq!(update(|config| config.max_waiting = 7), Some(10012));
    assert_eq!(update(|config| config.memory_storage = true), Some(10012));
    assert_eq!(update(|config| config.replicas = 3), Some(10074));
    assert_eq!(
        update(|config| config.start = ReadStart::Sequence(Sequence(0))),
        Some(10094)
    );
    assert_eq!(
        update(|config| config.start = ReadStart::LastPerSubject),
        Some(10094)
    );
    assert_eq!(
        update(|config| config.filters = vec!["s..1".into()]),
        Some(10052)
    );
    assert_eq!(
        update(|config| config.filters = vec!["s.>".into(), "s.1".into()]),
        Some(10138)
    );
    let backoff: fn(&mut ConsumerConfig) = |config| {
        config.backoff = vec![millis(1); 3];
        config.max_deliver = NonZeroU32::new(2);
    };
    assert_eq!(update(backoff), Some(10116));

    let limits = Retention::Limits;
    let longer: fn(&mut ConsumerConfig) = |config| config.ack_wait = millis(5);
    assert_eq!(
        admit(limits, |_| {}, ConsumerAction::Create, Some(existing), &[]),
        None
    );
    assert_eq!(
        admit(limits, longer, ConsumerAction::Create, Some(existing), &[]),
        Some(10148)
    );
    assert_eq!(
        admit(limits, longer, ConsumerAction::Update, None, &[]),
        Some(10149)
    );

    let queue = |change, others: &[&PullConsumer]| {
        admit(
            Retention::WorkQueue,
            change,
            ConsumerAction::CreateOrUpdate,
            None,
            others,
        )
    };
    assert_eq!(queue(|_| {}, &[]), None);
    assert_eq!(
        queue(|config| config.ack_policy = AckPolicy::None, &[]),
        Some(10084)
    );
    assert_eq!(
        queue(|config| config.ack_policy = AckPolicy::All, &[]),
        Some(10098)
    );
    assert_eq!(
        queue(|config| config.start = ReadStart::New, &[]),
        Some(10101)
    );
    assert_eq!(queue(|_| {}, &[existing]), Some(10099));
    assert_eq!(
        queue(|config| config.filters = vec!["s.1".into()], &[existing]),
        Some(10100)
    );
}

#[test]
fn a_filter_can_change_in_place() {
    let mut bench = Bench::new(5, |config| config.filters = vec!["s.2".into()]);
    let taken = bench.take(3);
    let info = "delivered 1/2 floor 0/0 pending 1 again 0 waiting 0 unseen 0";
    assert_eq!(bench.info(), info);
    bench.ack(&taken[0], Ack::Done);
    let info = "delivered 1/2 floor 1/2 pending 0 again 0 waiting 0 unseen 0";
    assert_eq!(bench.info(), info);
    bench.store("s.7");
    let config = config(|_| {});
    bench.act(|consumer, around| consumer.update(config, around));
    // What it passed over is passed over.
    assert_eq!(bench.take(9).len(), 1);
}

#[test]
fn whoever_waits_hears_of_the_deletion() {
    let mut bench = Bench::new(0, |_| {});
    bench.pull(1, 1, Some(1000));
    let mut said = Vec::new();
    bench.consumer.delete(&mut said);
    assert_eq!(told(&said[0]), "409 Consumer Deleted to 1");
}
