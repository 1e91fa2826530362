//! Pull consumers as the broker serves them: requests, acknowledgements by core publishes, streams that keep only what
//! is wanted, advisories, restarts.

use std::num::NonZeroU32;

use squall_core::transport::{
    Ack, AckPolicy, ConsumerConfig, ConsumerInfo, Delivered, Pull, Retention, StreamConfig,
};

use super::*;
use crate::wire::{ConsumerAction, PullStatus};

fn work(bench: &mut Bench, retention: Retention, consumers: &[ConsumerConfig]) {
    let mut config = StreamConfig::new("S");
    config.subjects = vec!["s.>".into()];
    config.retention = retention;
    let created = bench.call(Request::CreateStream(Box::new(config)));
    assert!(matches!(created, Response::Stream(_)), "{created:?}");
    for config in consumers {
        let created = create(bench, config, ConsumerAction::Create);
        assert!(matches!(created, Response::PullConsumer(_)), "{created:?}");
    }
}

fn create(bench: &mut Bench, config: &ConsumerConfig, action: ConsumerAction) -> Response {
    bench.call(Request::CreatePullConsumer {
        stream: "S".into(),
        config: Box::new(config.clone()),
        action,
    })
}

fn consumer(name: &str, change: impl FnOnce(&mut ConsumerConfig)) -> ConsumerConfig {
    let mut config = ConsumerConfig::durable(name);
    change(&mut config);
    config
}

fn info(bench: &mut Bench, name: &str) -> ConsumerInfo {
    match bench.call(Request::ConsumerInfo {
        stream: "S".into(),
        consumer: name.into(),
    }) {
        Response::PullConsumer(info) => *info,
        other => panic!("not a consumer: {other:?}"),
    }
}

fn store(bench: &mut Bench, subjects: &[&str]) {
    for &subject in subjects {
        let stored = bench.call(Request::Store(Message::new(subject, "")));
        assert!(matches!(stored, Response::Acked(_)), "{stored:?}");
    }
}

fn held(bench: &Bench) -> Vec<u64> {
    let messages = bench.broker.messages("S");
    messages.map(|message| message.sequence.0).collect()
}

/// Bob pulls what is there.
fn take(bench: &mut Bench, name: &str, batch: u32) -> Vec<Delivered> {
    bench.subscribe(BOB, 7, "_INBOX.bob.7");
    pull(bench, name, batch, None);
    let heard = bench.heard(BOB);
    bench.say(BOB, ClientOp::Unsubscribe { sid: Sid(7) });
    deliveries(&heard)
}

fn deliveries(heard: &[ServerOp]) -> Vec<Delivered> {
    let delivered = heard.iter().filter_map(|op| match op {
        ServerOp::Pulled { delivered, .. } => Some((**delivered).clone()),
        _ => None,
    });
    delivered.collect()
}

fn sequences(heard: &[ServerOp]) -> Vec<u64> {
    let delivered = deliveries(heard);
    delivered
        .iter()
        .map(|delivered| delivered.message.sequence.0)
        .collect()
}

fn pull(bench: &mut Bench, name: &str, batch: u32, expires: Option<Duration>) {
    let wish = Pull {
        batch: NonZeroU32::new(batch).expect("at least one"),
        expires,
        heartbeat: None,
    };
    bench.say(
        BOB,
        ClientOp::Pull {
            stream: "S".into(),
            consumer: name.into(),
            wish,
            deliver: Sid(7),
        },
    );
}

fn ack(bench: &mut Bench, delivered: &Delivered, ack: &Ack) {
    let message = Message::new(Arc::clone(&delivered.reply), ack.payload());
    bench.publish(BOB, message);
}

/// The last status that Bob was told.
fn status(bench: &mut Bench) -> Option<(u16, String)> {
    let status = |op| match op {
        ServerOp::PullStatus {
            status: PullStatus { code, text },
            ..
        } => Some((code, text.to_string())),
        _ => None,
    };
    bench.heard(BOB).into_iter().filter_map(status).next_back()
}

#[test]
fn a_consumer_is_created_changed_described_and_deleted() {
    let mut bench = Bench::new();
    let plain = consumer("C", |_| {});
    let longer = consumer("C", |config| config.ack_wait = secs(5));
    assert_eq!(
        refusal(create(&mut bench, &plain, ConsumerAction::Create)),
        (404, 10059)
    );
    work(&mut bench, Retention::Limits, &[]);
    assert_eq!(
        refusal(create(&mut bench, &plain, ConsumerAction::Update)),
        (400, 10149)
    );
    for config in [&plain, &plain, &longer] {
        let created = create(&mut bench, config, ConsumerAction::CreateOrUpdate);
        assert!(matches!(created, Response::PullConsumer(_)), "{created:?}");
    }
    assert_eq!(info(&mut bench, "C").config, longer);
    assert_eq!(
        refusal(create(&mut bench, &plain, ConsumerAction::Create)),
        (400, 10148)
    );
    let other = consumer("C", |config| config.ack_policy = AckPolicy::All);
    let any = ConsumerAction::CreateOrUpdate;
    assert_eq!(refusal(create(&mut bench, &other, any)), (500, 10012));
    assert_eq!(bench.broker.stream("S").map(|info| info.consumers), Some(1));
    bench.subscribe(BOB, 7, "_INBOX.bob.7");
    pull(&mut bench, "C", 1, Some(secs(9)));
    let deletion = Request::DeleteConsumer {
        stream: "S".into(),
        consumer: "C".into(),
    };
    assert_eq!(bench.call(deletion.clone()), Response::Deleted);
    assert_eq!(status(&mut bench), Some((409, "Consumer Deleted".into())));
    assert_eq!(refusal(bench.call(deletion)), (404, 10014));
    pull(&mut bench, "C", 1, None);
    assert_eq!(
        status(&mut bench),
        Some((503, String::new())),
        "nobody is there"
    );
}

#[test]
fn acknowledgements_are_core_publishes_and_requests() {
    let mut bench = Bench::new();
    work(&mut bench, Retention::Limits, &[consumer("C", |_| {})]);
    store(&mut bench, &["s.1", "s.2"]);
    let both = take(&mut bench, "C", 5);
    assert_eq!(both.len(), 2);
    ack(&mut bench, &both[0], &Ack::Done);
    assert_eq!(info(&mut bench, "C").ack_floor.stream.0, 1);
    bench.subscribe(BOB, 8, "_INBOX.bob.8");
    bench.heard(BOB);
    bench.publish(BOB, asking(&both[1].reply, "_INBOX.bob.8"));
    assert!(matches!(bench.heard(BOB)[..], [ServerOp::Message { .. }]));
    assert_eq!(info(&mut bench, "C").ack_pending, 0);
    bench.publish(BOB, asking("$JS.ACK.S.X.1.1.1.1.0", "_INBOX.bob.8"));
    assert!(matches!(
        bench.heard(BOB)[..],
        [ServerOp::NoResponders { .. }]
    ));
    bench.call(Request::DeleteStream { stream: "S".into() });
    bench.publish(BOB, asking(&both[1].reply, "_INBOX.bob.8"));
    assert!(matches!(
        bench.heard(BOB)[..],
        [ServerOp::NoResponders { .. }]
    ));
}

/// Another thread tells it than acknowledges. Whoever pulls at once is told that there is nothing, or fewer than there are;
/// what it finds all the same is not counted when the consumer hears of it.
#[test]
fn a_consumer_hears_a_little_later_of_what_is_acknowledged() {
    let mut bench = Bench::with(|config| config.delivery_delay_max = Duration::from_micros(60));
    let plain = consumer("C", |config| config.ack_policy = AckPolicy::None);
    work(&mut bench, Retention::Limits, &[plain]);
    bench.subscribe(BOB, 7, "_INBOX.bob.7");
    let (mut stored, mut delivered) = (0, 0);
    let (mut fewer, mut nothing) = (0, 0);
    for round in 0..1000 {
        store(&mut bench, &["s.1", "s.2"]);
        stored += 2;
        bench.pass(Duration::from_micros(100));
        let is_at_once = round % 2 == 0;
        if is_at_once {
            fewer += u64::from(info(&mut bench, "C").pending < stored - delivered);
        } else {
            bench.pass(Duration::from_millis(5));
        }
        pull(&mut bench, "C", 9, None);
        bench.pass(Duration::from_millis(5));
        let heard = bench.heard(BOB);
        let is_message = |op: &&ServerOp| matches!(op, ServerOp::Pulled { .. });
        let of_round = heard.iter().filter(is_message).count() as u64;
        nothing += u64::from(is_at_once && of_round == 0);
        delivered += of_round;
        assert_eq!(info(&mut bench, "C").pending, stored - delivered, "{round}");
        assert!(is_at_once || stored == delivered, "{round}");
    }
    assert!((5..60).contains(&fewer), "{fewer} of 500");
    assert!((1..60).contains(&nothing), "{nothing} of 500");
}

#[test]
fn a_work_queue_lets_go_what_is_settled() {
    let mut bench = Bench::new();
    let only = |name: &str, filter: &str| consumer(name, |c| c.filters = vec![filter.into()]);
    work(
        &mut bench,
        Retention::WorkQueue,
        &[only("A", "s.1"), only("B", "s.2")],
    );
    let twice = create(&mut bench, &only("D", "s.*"), ConsumerAction::Create);
    assert_eq!(refusal(twice), (400, 10100));
    store(&mut bench, &["s.1", "s.2", "s.3", "s.1"]);
    let of_a = take(&mut bench, "A", 1);
    ack(&mut bench, &of_a[0], &Ack::Done);
    assert_eq!(held(&bench), [2, 3, 4]);
    let of_b = take(&mut bench, "B", 1);
    ack(&mut bench, &of_b[0], &Ack::Terminate(None));
    assert_eq!(held(&bench), [3, 4]);
    let again = take(&mut bench, "A", 1);
    ack(&mut bench, &again[0], &Ack::Again(None));
    assert_eq!(held(&bench), [3, 4]);
}

#[test]
fn a_stream_of_interest_lets_go_what_all_have_settled() {
    let mut bench = Bench::new();
    work(&mut bench, Retention::Interest, &[]);
    store(&mut bench, &["s.1"]);
    assert_eq!(held(&bench), [0; 0], "nobody wants it");
    let plain = consumer("C", |_| {});
    let third = consumer("D", |config| config.filters = vec!["s.3".into()]);
    let none = consumer("N", |config| config.ack_policy = AckPolicy::None);
    for config in [&plain, &third, &none] {
        create(&mut bench, config, ConsumerAction::Create);
    }
    store(&mut bench, &["s.1", "s.2", "s.3"]);
    for delivered in take(&mut bench, "C", 3) {
        ack(&mut bench, &delivered, &Ack::Done);
    }
    assert_eq!(held(&bench), [2, 3, 4]);
    take(&mut bench, "N", 3);
    assert_eq!(held(&bench), [4]);
    let deletion = |name: &str| Request::DeleteConsumer {
        stream: "S".into(),
        consumer: name.into(),
    };
    bench.call(deletion("D"));
    assert_eq!(held(&bench), [0; 0]);
    store(&mut bench, &["s.5"]);
    bench.call(deletion("C"));
    bench.call(deletion("N"));
    assert_eq!(held(&bench), [0; 0], "there is nobody left to want it");
}

#[test]
fn what_is_given_up_is_kept_and_told() {
    let mut bench = Bench::new();
    let once = consumer("C", |config| {
        config.max_deliver = NonZeroU32::new(1);
        config.ack_wait = millis(200);
    });
    work(&mut bench, Retention::Interest, &[once]);
    bench.subscribe(ALICE, 1, "$JS.EVENT.ADVISORY.>");
    store(&mut bench, &["s.1"]);
    take(&mut bench, "C", 1);
    bench.pass(millis(300));
    let told: Vec<String> = bench
        .heard(ALICE)
        .into_iter()
        .filter_map(|op| match op {
            ServerOp::Message { message, .. } => Some(message.subject.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.C"]);
    assert_eq!(held(&bench), [1]);
}

#[test]
fn limits_and_deletions_reach_what_is_pending() {
    let mut bench = Bench::new();
    work(&mut bench, Retention::Limits, &[consumer("C", |_| {})]);
    store(&mut bench, &["s.1", "s.2", "s.3", "s.4"]);
    take(&mut bench, "C", 3);
    bench.call(Request::DeleteMessage {
        stream: "S".into(),
        sequence: squall_core::transport::Sequence(1),
    });
    let seen = info(&mut bench, "C");
    assert_eq!(
        (seen.ack_floor.stream.0, seen.ack_pending, seen.pending),
        (1, 2, 1)
    );
    let mut narrow = StreamConfig::new("S");
    narrow.subjects = vec!["s.>".into()];
    narrow.max_messages = 2;
    bench.call(Request::UpdateStream(Box::new(narrow)));
    let seen = info(&mut bench, "C");
    assert_eq!(
        (seen.ack_floor.stream.0, seen.ack_pending, seen.pending),
        (2, 1, 1)
    );
    bench.call(Request::Purge {
        stream: "S".into(),
        what: squall_core::transport::Purge::default(),
    });
    let seen = info(&mut bench, "C");
    assert_eq!(
        (seen.ack_floor.stream.0, seen.ack_pending, seen.pending),
        (4, 0, 0)
    );
}

#[test]
fn who_was_full_gets_nothing_that_ages_out_with_what_it_had() {
    for delay in [Duration::ZERO, Duration::from_micros(60)] {
        let mut bench = Bench::with(|config| config.delivery_delay_max = delay);
        let two = consumer("C", |config| config.max_ack_pending = 2);
        work(&mut bench, Retention::Limits, &[two]);
        store(&mut bench, &["s.1", "s.2", "s.3", "s.4"]);
        bench.subscribe(BOB, 7, "_INBOX.bob.7");
        pull(&mut bench, "C", 6, Some(secs(60)));
        bench.pass(secs(2));
        assert_eq!(sequences(&bench.heard(BOB)), [1, 2]);
        bench.call(Request::DeleteMessage {
            stream: "S".into(),
            sequence: squall_core::transport::Sequence(1),
        });
        bench.pass(millis(1));
        assert_eq!(sequences(&bench.heard(BOB)), [3], "one place is free");
        let mut short = StreamConfig::new("S");
        short.subjects = vec!["s.>".into()];
        short.max_age = secs(1);
        bench.call(Request::UpdateStream(Box::new(short)));
        bench.pass(millis(1));
        assert!(held(&bench).is_empty());
        assert!(sequences(&bench.heard(BOB)).is_empty());
        store(&mut bench, &["s.5"]);
        bench.pass(millis(10));
        assert_eq!(sequences(&bench.heard(BOB)), [5]);
    }
}

#[test]
fn of_very_many_that_age_out_together_some_are_delivered() {
    let mut bench = Bench::new();
    let two = consumer("C", |config| config.max_ack_pending = 2);
    work(&mut bench, Retention::Limits, &[two]);
    store(&mut bench, &["s.1"; 6_000]);
    bench.subscribe(BOB, 7, "_INBOX.bob.7");
    pull(&mut bench, "C", 200, Some(secs(60)));
    bench.pass(secs(2));
    assert_eq!(sequences(&bench.heard(BOB)), [1, 2]);
    let mut short = StreamConfig::new("S");
    short.subjects = vec!["s.>".into()];
    short.max_age = secs(1);
    bench.call(Request::UpdateStream(Box::new(short)));
    bench.pass(millis(1));
    let amid = sequences(&bench.heard(BOB));
    assert!((1..100).contains(&amid.len()), "{amid:?}");
    assert!(amid.is_sorted() && amid[0] > 25, "{amid:?}");
    assert_eq!(info(&mut bench, "C").ack_pending, 0);
}

#[test]
fn a_kill_forgets_the_last_moment_and_an_orderly_end_does_not() {
    for (is_orderly, floor) in [(false, 1), (true, 2)] {
        let mut bench = Bench::new();
        let memory = consumer("M", |config| config.memory_storage = true);
        work(
            &mut bench,
            Retention::Limits,
            &[consumer("C", |_| {}), memory],
        );
        store(&mut bench, &["s.1", "s.2", "s.3"]);
        let all = take(&mut bench, "C", 3);
        bench.pass(secs(1));
        for delivered in &all[..2] {
            ack(&mut bench, delivered, &Ack::Done);
            bench.pass(millis(1));
        }
        bench.pass(millis(50));
        bench.act(|broker, _, effects| match is_orderly {
            true => broker.terminate(effects),
            false => broker.stop(effects),
        });
        bench.sleep(millis(30));
        bench.start();
        bench.open(BOB);
        let seen = info(&mut bench, "C");
        assert_eq!(seen.ack_floor.stream.0, floor, "orderly: {is_orderly}");
        assert_eq!(bench.broker.stream("S").map(|info| info.consumers), Some(1));
    }
}

#[test]
fn whoever_hangs_up_gets_nothing_more() {
    let mut bench = Bench::new();
    work(&mut bench, Retention::Limits, &[consumer("C", |_| {})]);
    bench.subscribe(BOB, 7, "_INBOX.bob.7");
    pull(&mut bench, "C", 5, Some(secs(60)));
    bench.close(BOB);
    store(&mut bench, &["s.1"]);
    let seen = info(&mut bench, "C");
    assert_eq!((seen.pending, seen.waiting, seen.ack_pending), (1, 0, 0));
}

/// With time between the parts, a pull and an order to deliver again that are sent together may be heard in any order.
#[test]
fn what_is_sent_together_may_be_heard_in_any_order() {
    let mut firsts = std::collections::BTreeSet::new();
    for draws in 0..20 {
        let delay = Duration::from_micros(60);
        let mut bench = Bench::with(|config| config.delivery_delay_max = delay);
        work(&mut bench, Retention::Limits, &[consumer("C", |_| {})]);
        store(&mut bench, &["s.1", "s.2"]);
        bench.subscribe(BOB, 7, "_INBOX.bob.7");
        pull(&mut bench, "C", 1, Some(secs(9)));
        bench.pass(millis(1));
        let first = bench.heard(BOB).into_iter().find_map(|op| match op {
            ServerOp::Pulled { delivered, .. } => Some(*delivered),
            _ => None,
        });
        let first = first.expect("delivered");
        for _ in 0..draws {
            ack(&mut bench, &first, &Ack::InProgress);
        }
        bench.pass(millis(1));
        ack(&mut bench, &first, &Ack::Again(None));
        pull(&mut bench, "C", 1, Some(secs(9)));
        bench.pass(millis(1));
        for op in bench.heard(BOB) {
            if let ServerOp::Pulled { delivered, .. } = op {
                firsts.insert(delivered.message.sequence.0);
            }
        }
    }
    assert_eq!(firsts.into_iter().collect::<Vec<_>>(), [1, 2]);
}
