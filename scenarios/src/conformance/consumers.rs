//! Pull consumers: who gets what, and what acknowledgements do. Nothing here waits for a time to pass, but until consumers have
//! been told of what was stored.

use std::num::NonZeroU32;
use std::time::Duration;

use squall_core::transport::{
    Ack, AckPolicy, Connection as _, ConsumerConfig, JetStream, Message, Pull, PullConsumer as _,
    PullEvent, Pulled, Purge, ReadStart, Retention, Sequence, StoreOptions, Stream as _,
    StreamConfig,
};

use super::laboratory::{Conn, Laboratory, Stop, connect, sleep, soon};
use super::transcript::{Show as _, Transcript, line, told, until_told, went};

super::facts!("consumers" {
    a_consumer_is_created_once_and_changed_in_place: "5 create again same / updatable / other diff",
    settings_of_consumers_a_server_refuses: "5 create: refusals; 4 workqueue",
    a_pull_takes_what_is_there: "5 fetch no_wait, fewer available",
    two_pullers_alternate: "5 two pullers",
    consumers_begin_where_they_are_told: "5 defaults: deliver all",
    the_floor_moves_over_contiguous_acks: "5 ack floor; ack on an old delivery's reply",
    one_acknowledgement_of_all_before: "5 ack floor: ack all",
    without_acknowledgements_nobody_hears_them: "5 ack none",
    not_done_comes_again_at_once: "5 nak",
    too_much_unsettled_stops_deliveries: "5 max_ack_pending",
    filters_of_a_consumer_change_in_place: "5 filter outside stream subjects accepted",
    what_is_deleted_while_pending_is_over: "5 message deleted while pending",
    a_purge_by_subject_can_lose_what_is_pending: "5 message deleted while pending (purge by subject)",
    a_work_queue_lets_go_what_is_settled: "4 workqueue",
    interest_lets_go_what_all_have_settled: "4 interest stream, no consumer",
    pulls_that_cannot_be: "5 other statuses",
});

pub(super) type St<L> = <Conn<L> as JetStream>::Stream;
pub(super) type Cons<L> = <St<L> as squall_core::transport::Stream>::Consumer;

/// A stream `S` of `s.>` on a new connection.
pub(super) async fn stream<L: Laboratory>(
    lab: &L,
    change: impl FnOnce(&mut StreamConfig),
) -> Result<(Conn<L>, St<L>), Stop> {
    let near = connect(lab, "near").await?;
    let mut config = StreamConfig::new("S");
    config.subjects = vec!["s.>".to_owned()];
    change(&mut config);
    let stream = near.create_stream(&config).await?;
    Ok((near, stream))
}

/// What a case does to the settings of a consumer.
type Change = fn(&mut ConsumerConfig);

/// Consumers, which hear of a message from another thread than acknowledges it, have heard of it by then.
pub(super) const TOLD: Duration = Duration::from_millis(20);

/// Stores a message to each subject, and waits until consumers have been told.
pub(super) async fn store<L: Laboratory, J: JetStream>(
    lab: &L,
    near: &J,
    subjects: &[&str],
) -> Result<(), Stop> {
    for &subject in subjects {
        let message = Message::new(subject, "");
        near.store(message, StoreOptions::default()).await?;
    }
    sleep(lab, TOLD).await;
    Ok(())
}

/// A durable consumer `C`, changed.
pub(super) fn config(change: impl FnOnce(&mut ConsumerConfig)) -> ConsumerConfig {
    let mut config = ConsumerConfig::durable("C");
    change(&mut config);
    config
}

pub(super) fn batch(size: u32, expires: Option<Duration>) -> Pull {
    Pull {
        batch: NonZeroU32::new(size).unwrap_or(NonZeroU32::MIN),
        expires,
        heartbeat: None,
    }
}

/// All that a pull brings.
pub(super) async fn drain<L: Laboratory>(
    lab: &L,
    mut pulled: Pulled,
) -> Result<Vec<PullEvent>, Stop> {
    let mut all = Vec::new();
    while let Some(event) = soon(lab, "the end of a pull", pulled.next()).await? {
        all.push(event);
    }
    Ok(all)
}

/// Takes what is there, no more than so much.
pub(super) async fn take<L: Laboratory>(
    lab: &L,
    consumer: &Cons<L>,
    size: u32,
) -> Result<Vec<PullEvent>, Stop> {
    drain(lab, consumer.pull(batch(size, None)).await?).await
}

pub(super) fn deliveries(events: &[PullEvent]) -> Vec<squall_core::transport::Delivered> {
    let delivered = events.iter().filter_map(|event| match event {
        PullEvent::Message(delivered) => Some(delivered.clone()),
        PullEvent::Ended(_) => None,
    });
    delivered.collect()
}

pub(super) fn all(events: &[PullEvent]) -> String {
    let events: Vec<String> = events.iter().map(super::transcript::Show::show).collect();
    line(&events)
}

async fn a_consumer_is_created_once_and_changed_in_place<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let missing = near.stream("missing")?;
    t.note(
        "no stream",
        went(&missing.create_consumer(&config(|_| {})).await),
    );
    let consumer = stream.consumer("C")?;
    t.note("not yet", went(&consumer.info().await));
    t.note("delete none", told(&stream.delete_consumer("C").await));
    let changes: [(&str, Change); 12] = [
        ("create", |_| {}),
        ("the same", |_| {}),
        ("ack wait", |c| c.ack_wait = Duration::from_secs(2)),
        ("max deliver", |c| c.max_deliver = NonZeroU32::new(3)),
        ("max ack pending", |c| c.max_ack_pending = 5),
        ("filter", |c| c.filters = vec!["s.1".to_owned()]),
        ("foreign filter", |c| {
            c.filters = vec!["elsewhere".to_owned()]
        }),
        ("threshold", |c| {
            c.inactive_threshold = Some(Duration::from_secs(50))
        }),
        ("start", |c| c.start = ReadStart::New),
        ("ack policy", |c| c.ack_policy = AckPolicy::All),
        ("max waiting", |c| c.max_waiting = 7),
        ("storage", |c| c.memory_storage = true),
    ];
    for (what, change) in changes {
        let made = stream.create_consumer(&config(change)).await;
        t.note(what, went(&made));
    }
    let info = consumer.info().await?;
    t.note("settings", format!("{:?}", info.config));
    t.is("consumers", stream.info().await?.consumers.to_string(), "1");
    t.is("delete", told(&stream.delete_consumer("C").await), "done");
    t.note("then", went(&consumer.info().await));
    let mut brief = ConsumerConfig::durable("E");
    brief.durable = false;
    let brief = stream.create_consumer(&brief).await?.info().await?;
    t.is(
        "threshold of one that is not durable",
        format!("{:?}", brief.config.inactive_threshold),
        "Some(5s)",
    );
    Ok(())
}

async fn settings_of_consumers_a_server_refuses<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, plain) = stream(lab, |_| {}).await?;
    let filters = |filters: &[&str]| filters.iter().map(|&f| f.to_owned()).collect::<Vec<_>>();
    let refused: [(&str, ConsumerConfig); 8] = [
        ("overlap", config(|c| c.filters = filters(&["s.>", "s.1"]))),
        ("twice", config(|c| c.filters = filters(&["s.1", "s.1"]))),
        ("no subject", config(|c| c.filters = filters(&["s..1"]))),
        (
            "an empty one of two",
            config(|c| c.filters = filters(&["", "s.1"])),
        ),
        (
            "sequence 0",
            config(|c| c.start = ReadStart::Sequence(Sequence(0))),
        ),
        (
            "last of each of all",
            config(|c| c.start = ReadStart::LastPerSubject),
        ),
        (
            "backoff",
            config(|c| {
                c.backoff = vec![Duration::from_secs(1); 3];
                c.max_deliver = NonZeroU32::new(2);
            }),
        ),
        ("replicas", config(|c| c.replicas = 3)),
    ];
    for (what, config) in refused {
        t.note(what, went(&plain.create_consumer(&config).await));
    }
    let crossing = config(|c| c.filters = filters(&["s.*.1", "s.1.*"]));
    let fact = match lab.version().is_at_least(2, 12) {
        true => "done",
        false => "refused (consumer subject filters cannot overlap (code 400, error code 10138))",
    };
    let crossing = went(&plain.create_consumer(&crossing).await);
    t.is("crossing filters", crossing, fact);
    near.delete_stream("S").await?;
    let mut queue = StreamConfig::new("S");
    queue.subjects = vec!["s.>".to_owned()];
    queue.retention = Retention::WorkQueue;
    let queue = near.create_stream(&queue).await?;
    let tried: [(&str, ConsumerConfig); 5] = [
        ("no acks", config(|c| c.ack_policy = AckPolicy::None)),
        ("acks of all", config(|c| c.ack_policy = AckPolicy::All)),
        ("from now", config(|c| c.start = ReadStart::New)),
        ("of one subject", config(|c| c.filters = filters(&["s.1"]))),
        ("the same", config(|c| c.filters = filters(&["s.1"]))),
    ];
    for (what, config) in tried {
        t.note(what, went(&queue.create_consumer(&config).await));
    }
    let second = |change: fn(&mut ConsumerConfig)| {
        let mut config = ConsumerConfig::durable("D");
        change(&mut config);
        config
    };
    let all = second(|_| {});
    t.note("a second of all", went(&queue.create_consumer(&all).await));
    let same = second(|c| c.filters = vec!["s.*".to_owned()]);
    t.note(
        "a second of the same",
        went(&queue.create_consumer(&same).await),
    );
    // Which of two reasons is told: where it begins, or that it is one too many.
    let first = |old, new| match lab.version().is_at_least(2, 14) {
        true => new,
        false => old,
    };
    let all_from_now = second(|c| c.start = ReadStart::New);
    let refused = went(&queue.create_consumer(&all_from_now).await);
    t.must("why not", refused.contains(first("10099", "10101")));
    t.note("a second of all from now", refused);
    let same_from_now = second(|c| {
        c.filters = vec!["s.*".to_owned()];
        c.start = ReadStart::New;
    });
    let refused = went(&queue.create_consumer(&same_from_now).await);
    t.must("why not", refused.contains(first("10100", "10101")));
    t.note("a second of the same from now", refused);
    let other = second(|c| c.filters = vec!["s.2".to_owned()]);
    t.is(
        "a second of another",
        went(&queue.create_consumer(&other).await),
        "done",
    );
    Ok(())
}

async fn a_pull_takes_what_is_there<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream.create_consumer(&config(|_| {})).await?;
    t.is(
        "none",
        all(&take(lab, &consumer, 5).await?),
        "over (no messages)",
    );
    store(lab, &near, &["s.1", "s.2", "s.3"]).await?;
    t.note("one", all(&take(lab, &consumer, 1).await?));
    t.note("the rest", all(&take(lab, &consumer, 5).await?));
    t.note("info", consumer.info().await?.show());
    t.note("none", all(&take(lab, &consumer, 5).await?));
    let later = consumer
        .pull(batch(2, Some(Duration::from_secs(5))))
        .await?;
    store(lab, &near, &["s.4", "s.5", "s.6"]).await?;
    t.note("as they come", all(&drain(lab, later).await?));
    Ok(())
}

async fn two_pullers_alternate<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream.create_consumer(&config(|_| {})).await?;
    let wish = batch(3, Some(Duration::from_secs(5)));
    let one = consumer.pull(wish).await?;
    near.flush().await?;
    sleep(lab, Duration::from_millis(50)).await;
    let other = consumer.pull(wish).await?;
    near.flush().await?;
    sleep(lab, Duration::from_millis(50)).await;
    t.is("waiting", consumer.info().await?.waiting.to_string(), "2");
    for number in 1..=6 {
        store(lab, &near, &[&format!("s.{number}")]).await?;
    }
    t.note("one", all(&drain(lab, one).await?));
    t.note("other", all(&drain(lab, other).await?));
    Ok(())
}

async fn consumers_begin_where_they_are_told<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    store(lab, &near, &["s.1", "s.2", "s.1", "s.2", "s.3"]).await?;
    let starts: [(&str, Change); 7] = [
        ("all", |_| {}),
        ("new", |c| c.start = ReadStart::New),
        ("last", |c| c.start = ReadStart::Last),
        ("last of one", |c| {
            c.start = ReadStart::Last;
            c.filters = vec!["s.1".to_owned()];
        }),
        ("last of each", |c| {
            c.start = ReadStart::LastPerSubject;
            c.filters = vec!["s.>".to_owned()];
        }),
        ("sequence", |c| c.start = ReadStart::Sequence(Sequence(4))),
        ("future", |c| c.start = ReadStart::Sequence(Sequence(40))),
    ];
    for (what, change) in starts {
        let consumer = stream.create_consumer(&config(change)).await?;
        t.note(what, consumer.info().await?.show());
        t.note(what, all(&take(lab, &consumer, 9).await?));
        stream.delete_consumer("C").await?;
    }
    Ok(())
}

async fn the_floor_moves_over_contiguous_acks<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream.create_consumer(&config(|_| {})).await?;
    store(lab, &near, &["s.1", "s.2", "s.3", "s.4", "s.5"]).await?;
    let delivered = deliveries(&take(lab, &consumer, 5).await?);
    let [first, second, third, fourth, fifth] = &delivered[..] else {
        return Err(Stop(format!("{} were delivered", delivered.len())));
    };
    t.note(
        "third",
        went(&consumer.ack_confirmed(third, Ack::Done).await),
    );
    t.note("info", consumer.info().await?.show());
    t.is(
        "again",
        went(&consumer.ack_confirmed(third, Ack::Done).await),
        "done",
    );
    for (what, payload) in [
        ("rubbish", "rubbish"),
        ("empty", ""),
        ("lower case", "+ack"),
    ] {
        let message = Message::new(first.reply.clone(), payload);
        t.note(what, went(&near.request(message).await));
        t.note("info", consumer.info().await?.show());
    }
    t.note(
        "second",
        went(&consumer.ack_confirmed(second, Ack::Done).await),
    );
    t.note("info", consumer.info().await?.show());
    let never = Ack::Terminate(Some("no use".to_owned()));
    t.note(
        "fifth, never",
        went(&consumer.ack_confirmed(fifth, never).await),
    );
    t.note("info", consumer.info().await?.show());
    let working = consumer.ack_confirmed(fourth, Ack::InProgress).await;
    t.note("fourth, at work", went(&working));
    t.note(
        "fourth",
        went(&consumer.ack_confirmed(fourth, Ack::Done).await),
    );
    t.note("info", consumer.info().await?.show());
    let bogus = Message::new("$JS.ACK.S.C.1.99.99.1.0", "+ACK");
    t.note("never delivered", went(&near.request(bogus).await));
    let bogus = Message::new("$JS.ACK.S.X.1.1.1.1.0", "+ACK");
    t.note("no consumer", went(&near.request(bogus).await));
    stream.delete_consumer("C").await?;
    t.note(
        "deleted",
        went(&consumer.ack_confirmed(fourth, Ack::Done).await),
    );
    Ok(())
}

async fn one_acknowledgement_of_all_before<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream
        .create_consumer(&config(|c| c.ack_policy = AckPolicy::All))
        .await?;
    store(lab, &near, &["s.1", "s.2", "s.3", "s.4", "s.5"]).await?;
    let delivered = deliveries(&take(lab, &consumer, 5).await?);
    for place in [3, 1] {
        let Some(delivered) = delivered.get(place) else {
            return Err(Stop("not delivered".to_owned()));
        };
        t.note(
            "ack",
            went(&consumer.ack_confirmed(delivered, Ack::Done).await),
        );
        t.note("info", consumer.info().await?.show());
    }
    Ok(())
}

async fn without_acknowledgements_nobody_hears_them<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream
        .create_consumer(&config(|c| c.ack_policy = AckPolicy::None))
        .await?;
    store(lab, &near, &["s.1", "s.2"]).await?;
    let taken = take(lab, &consumer, 2).await?;
    t.note("taken", all(&taken));
    t.note("info", consumer.info().await?.show());
    for delivered in deliveries(&taken) {
        t.note(
            "ack",
            went(&consumer.ack_confirmed(&delivered, Ack::Done).await),
        );
    }
    Ok(())
}

async fn not_done_comes_again_at_once<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream.create_consumer(&config(|_| {})).await?;
    store(lab, &near, &["s.1", "s.2", "s.3"]).await?;
    let delivered = deliveries(&take(lab, &consumer, 2).await?);
    let again = consumer
        .pull(batch(2, Some(Duration::from_secs(5))))
        .await?;
    // The third comes first: it was there.
    near.flush().await?;
    sleep(lab, Duration::from_millis(50)).await;
    for delivered in delivered.iter().rev().take(1) {
        consumer.ack_confirmed(delivered, Ack::Again(None)).await?;
    }
    t.note("again", all(&drain(lab, again).await?));
    t.note("info", consumer.info().await?.show());
    // An old delivery's reply settles the message all the same.
    for delivered in &delivered {
        consumer.ack_confirmed(delivered, Ack::Done).await?;
    }
    t.note("info", consumer.info().await?.show());
    Ok(())
}

async fn too_much_unsettled_stops_deliveries<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream
        .create_consumer(&config(|c| c.max_ack_pending = 2))
        .await?;
    store(lab, &near, &["s.1", "s.2", "s.3", "s.4"]).await?;
    let mut waits = consumer
        .pull(batch(3, Some(Duration::from_secs(5))))
        .await?;
    let mut first = None;
    for _ in 0..2 {
        let event = soon(lab, "a message", waits.next()).await?;
        if let Some(PullEvent::Message(delivered)) = &event {
            t.note("delivered", delivered.show());
            first.get_or_insert_with(|| delivered.clone());
        }
    }
    // Neither a message nor a word: it is forgotten behind the other.
    let mut unheard = consumer.pull(batch(1, None)).await?;
    sleep(lab, Duration::from_millis(300)).await;
    t.is("what is there", format!("{:?}", unheard.try_next()), "None");
    t.note("info", consumer.info().await?.show());
    let Some(first) = first else {
        return Err(Stop("nothing was delivered".to_owned()));
    };
    consumer.ack_confirmed(&first, Ack::Done).await?;
    t.note("after one is settled", all(&drain(lab, waits).await?));
    t.note("info", consumer.info().await?.show());
    Ok(())
}

async fn filters_of_a_consumer_change_in_place<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let of = |filter: &str| config(|c| c.filters = vec![filter.to_owned()]);
    let consumer = stream.create_consumer(&of("s.2")).await?;
    store(lab, &near, &["s.1", "s.2", "s.3"]).await?;
    t.note("second", all(&take(lab, &consumer, 9).await?));
    t.note("info", consumer.info().await?.show());
    stream.create_consumer(&of("s.*")).await?;
    store(lab, &near, &["s.4"]).await?;
    t.note("what comes then", all(&take(lab, &consumer, 9).await?));
    Ok(())
}

async fn what_is_deleted_while_pending_is_over<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let consumer = stream.create_consumer(&config(|_| {})).await?;
    let mut advisories = near
        .subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>", None)
        .await?;
    near.flush().await?;
    store(lab, &near, &["s.1", "s.2", "s.3", "s.4", "s.5", "s.6"]).await?;
    t.note("taken", all(&take(lab, &consumer, 4).await?));
    for sequence in [1, 3, 6] {
        stream.delete_message(Sequence(sequence)).await?;
        sleep(lab, Duration::from_millis(50)).await;
        t.note("info", consumer.info().await?.show());
    }
    let mut told = 0;
    while let Some(message) = advisories.try_next() {
        let json = String::from_utf8_lossy(&message.payload).into_owned();
        told += usize::from(json.contains("Unacknowledged message was deleted"));
    }
    t.is("terminated", told.to_string(), "2");
    let below = Purge {
        below: Some(Sequence(3)),
        ..Purge::default()
    };
    stream.purge(below).await?;
    sleep(lab, Duration::from_millis(50)).await;
    t.note("purged below", consumer.info().await?.show());
    stream.purge(Purge::default()).await?;
    sleep(lab, Duration::from_millis(50)).await;
    t.note("purged", consumer.info().await?.show());
    store(lab, &near, &["s.7"]).await?;
    t.note("then", all(&take(lab, &consumer, 4).await?));
    Ok(())
}

async fn a_purge_by_subject_can_lose_what_is_pending<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    // What is purged is settled twice: as a message that went, and as one of a purge. The latter moves the floor, if it comes
    // first; otherwise nothing is lost, which a busy server was seen to do.
    const TRIES: usize = 10;
    let (near, mut stream) = stream(lab, |_| {}).await?;
    let mut tries = 1;
    let (consumer, taken, purged, info) = loop {
        let waits = config(|c| c.ack_wait = Duration::from_secs(1));
        let consumer = stream.create_consumer(&waits).await?;
        store(lab, &near, &["s.1", "s.2", "s.3"]).await?;
        let taken = take(lab, &consumer, 3).await?;
        let third = Purge {
            filter: Some("s.3".to_owned()),
            ..Purge::default()
        };
        let purged = stream.purge(third).await;
        let info = consumer.info().await?;
        if info.ack_floor.consumer > 0 || tries == TRIES {
            break (consumer, taken, purged, info);
        }
        tries += 1;
        near.delete_stream("S").await?;
        let mut again = StreamConfig::new("S");
        again.subjects = vec!["s.>".to_owned()];
        stream = near.create_stream(&again).await?;
    };
    t.note("taken", all(&taken));
    t.is("purged", told(&purged), "1");
    t.note("info", info.show());
    store(lab, &near, &["s.4"]).await?;
    for fourth in deliveries(&take(lab, &consumer, 1).await?) {
        consumer.ack_confirmed(&fourth, Ack::Done).await?;
    }
    t.note("info", consumer.info().await?.show());
    let wish = batch(5, Some(Duration::from_millis(2500)));
    let lost = drain(lab, consumer.pull(wish).await?).await?;
    t.is("the first two", all(&lost), "over (expired)");
    t.note("info", consumer.info().await?.show());
    Ok(())
}

async fn a_work_queue_lets_go_what_is_settled<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |c| c.retention = Retention::WorkQueue).await?;
    let consumer = stream.create_consumer(&config(|_| {})).await?;
    store(lab, &near, &["s.1", "s.2", "s.3"]).await?;
    for (place, delivered) in deliveries(&take(lab, &consumer, 3).await?)
        .iter()
        .enumerate()
    {
        let ack = match place {
            0 => Ack::Done,
            1 => Ack::Terminate(None),
            _ => Ack::Again(Some(Duration::from_secs(60))),
        };
        consumer.ack_confirmed(delivered, ack).await?;
        sleep(lab, Duration::from_millis(50)).await;
        let info = stream.info().await?;
        t.note(
            "held",
            format!("{} from {}", info.messages, info.first_sequence),
        );
    }
    Ok(())
}

async fn interest_lets_go_what_all_have_settled<L: Laboratory>(
    lab: &L,
    t: &mut Transcript,
) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |c| c.retention = Retention::Interest).await?;
    store(lab, &near, &["s.1"]).await?;
    let held = async |what: &str, t: &mut Transcript| {
        sleep(lab, Duration::from_millis(100)).await;
        let info = stream.info().await?;
        t.note(
            what,
            format!("{} from {}", info.messages, info.first_sequence),
        );
        Ok::<(), Stop>(())
    };
    held("nobody wants it", t).await?;
    let named = |name: &str, change: fn(&mut ConsumerConfig)| {
        let mut config = ConsumerConfig::durable(name);
        change(&mut config);
        config
    };
    let plain = stream.create_consumer(&named("C", |_| {})).await?;
    let third = named("D", |c| c.filters = vec!["s.3".to_owned()]);
    stream.create_consumer(&third).await?;
    let none = named("N", |c| c.ack_policy = AckPolicy::None);
    let none = stream.create_consumer(&none).await?;
    store(lab, &near, &["s.1", "s.2", "s.3"]).await?;
    for delivered in deliveries(&take(lab, &plain, 3).await?) {
        plain.ack_confirmed(&delivered, Ack::Done).await?;
    }
    held("one has settled all", t).await?;
    take(lab, &none, 3).await?;
    held("one has heard all", t).await?;
    stream.delete_consumer("D").await?;
    held("the last is gone", t).await?;
    store(lab, &near, &["s.4"]).await?;
    stream.delete_consumer("C").await?;
    held("one is left", t).await?;
    stream.delete_consumer("N").await?;
    held("none is left", t).await?;
    Ok(())
}

async fn pulls_that_cannot_be<L: Laboratory>(lab: &L, t: &mut Transcript) -> Result<(), Stop> {
    let (near, stream) = stream(lab, |_| {}).await?;
    let nobody = stream.consumer("nobody")?;
    t.note("no consumer", all(&take(lab, &nobody, 1).await?));
    let consumer = stream
        .create_consumer(&config(|c| c.max_waiting = 1))
        .await?;
    let wish = |heartbeat: u64| Pull {
        heartbeat: Some(Duration::from_millis(heartbeat)),
        ..batch(1, Some(Duration::from_secs(5)))
    };
    t.note("slow heart", went(&consumer.pull(wish(2501)).await));
    let mut waits = consumer.pull(wish(1000)).await?;
    near.flush().await?;
    sleep(lab, Duration::from_millis(50)).await;
    let second = batch(1, Some(Duration::from_secs(5)));
    t.note(
        "one too many",
        all(&drain(lab, consumer.pull(second).await?).await?),
    );
    t.note("what is there", all(&take(lab, &consumer, 1).await?));
    stream.delete_consumer("C").await?;
    t.note("deleted", line(&until_told(lab, &mut waits, "(end)").await));
    Ok(())
}
