//! Readers of streams, and batches, over links that break: nothing that is held is skipped or told twice.

use std::time::Duration;

use squall_core::UnixTime;
use squall_core::nats::{NatsConnection, NatsStream};
use squall_core::transport::{
    ConnectOptions, Connection as _, ConnectionEvent, ConsumerConfig, ConsumerError, Fallible as _,
    InterruptCause, JetStream as _, Message, Outcome, PullConsumer as _, Purge, ReadStart,
    ReadStreamError, Reader, ReaderEvent, Sequence, StoreError, StoreOptions, Stream as _,
    StreamConfig, StreamError, WatchError,
};
use squall_scenarios::real::Direction;

use crate::streams::{brief, config, old_world, store, stream};
use crate::world::{World, heard, soon};

fn event(event: &ReaderEvent) -> String {
    match event {
        ReaderEvent::Message(message) => brief(message),
        ReaderEvent::CaughtUp => "caught up".to_owned(),
        ReaderEvent::Interrupted(cause) => format!("interrupted: {cause}"),
        ReaderEvent::Resumed {
            same_stream,
            first_held,
        } => {
            let stream = if *same_stream { "same" } else { "other" };
            format!("resumed: {stream} from {first_held}")
        }
    }
}

/// Reads until this is told; gives all that came.
async fn told(reader: &mut Reader, last: &str) -> Vec<String> {
    let mut all = Vec::new();
    let read = async {
        while all.last().is_none_or(|told| told != last) {
            let told = reader.next().await.expect("it goes on");
            all.push(event(&told));
        }
    };
    soon(last, read).await;
    all
}

async fn read(stream: &NatsStream, filters: &[&str], start: ReadStart) -> Reader {
    stream.read(filters, start).await.expect("it is read")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_begins_where_it_is_told() {
    for world in [World::new().await, old_world().await] {
        let (near, stream) = stream(&world).await;
        let mut empty = read(&stream, &[], ReadStart::All).await;
        for (subject, body) in [("s.a", "1"), ("s.b", "2"), ("s.a", "3")] {
            store(&near, subject, body).await;
        }
        let third = stream.get(Sequence(3)).await.expect("it is read");
        let time = third.expect("it is there").time;
        let starts = [
            (
                ReadStart::All,
                &["s.a=1@1", "s.b=2@2", "s.a=3@3", "caught up"][..],
            ),
            (ReadStart::New, &["caught up"]),
            (ReadStart::Last, &["s.a=3@3", "caught up"]),
            (
                ReadStart::LastPerSubject,
                &["s.b=2@2", "s.a=3@3", "caught up"],
            ),
            (
                ReadStart::Sequence(Sequence(2)),
                &["s.b=2@2", "s.a=3@3", "caught up"],
            ),
            (ReadStart::Time(time), &["s.a=3@3", "caught up"]),
        ];
        let mut readers = Vec::new();
        for (start, before) in starts {
            readers.push((start, read(&stream, &[], start).await, before));
        }
        let mut some = read(&stream, &["s.b", "s.c"], ReadStart::All).await;
        for (start, reader, before) in &mut readers {
            assert_eq!(told(reader, "caught up").await, **before, "{start:?}");
        }
        store(&near, "s.c", "4").await;
        for (start, reader, _) in &mut readers {
            assert_eq!(told(reader, "s.c=4@4").await, ["s.c=4@4"], "{start:?}");
        }
        let all = ["caught up", "s.a=1@1", "s.b=2@2", "s.a=3@3", "s.c=4@4"];
        assert_eq!(told(&mut empty, "s.c=4@4").await, all);
        assert_eq!(
            told(&mut some, "s.c=4@4").await,
            ["s.b=2@2", "caught up", "s.c=4@4"]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_an_error() {
    let world = World::new().await;
    let (near, stream) = stream(&world).await;
    let filter = stream.read(&["s..a"], ReadStart::All).await.err();
    assert_eq!(filter, Some(WatchError::InvalidFilter("s..a".into())));
    let overlapping = stream.read(&["s.a", "s.*"], ReadStart::All).await.err();
    assert!(matches!(overlapping, Some(WatchError::Rejected(error)) if error.err_code == 10138));
    let nowhere = near.stream("nowhere").expect("the name is valid");
    let missing = nowhere.read(&[], ReadStart::All).await.err();
    assert_eq!(missing, Some(WatchError::NoBucket));
    let mut reader = read(&stream, &[], ReadStart::New).await;
    assert_eq!(told(&mut reader, "caught up").await, ["caught up"]);
    near.close().await;
    assert_eq!(soon("it ends", reader.next()).await, None);
    let closed = stream.read(&[], ReadStart::New).await.err();
    assert_eq!(closed, Some(WatchError::Closed));
}

/// What was stored meanwhile follows, and what was lost to the reader is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_after_a_lost_link() {
    let world = World::new().await;
    let (near, _stream) = stream(&world).await;
    let far = world.linked().await;
    let far_stream = far.stream("s").expect("the name is valid");
    store(&near, "s.a", "1").await;
    let mut reader = read(&far_stream, &[], ReadStart::All).await;
    told(&mut reader, "caught up").await;
    world.proxy.partition();
    world.proxy.cut();
    for body in ["2", "3", "4"] {
        store(&near, "s.a", body).await;
    }
    let purge = Purge {
        below: Some(Sequence(3)),
        ..Purge::default()
    };
    let stream = near.stream("s").expect("the name is valid");
    assert_eq!(stream.purge(purge).await, Ok(2));
    world.proxy.heal();
    let all = [
        "interrupted: disconnected",
        "resumed: same from 3",
        "s.a=3@3",
        "s.a=4@4",
    ];
    assert_eq!(told(&mut reader, "s.a=4@4").await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_made_anew_is_told_from_its_beginning() {
    let world = World::new().await;
    let (near, stream) = stream(&world).await;
    store(&near, "s.a", "1").await;
    let mut reader = read(&stream, &[], ReadStart::New).await;
    told(&mut reader, "caught up").await;
    near.delete_stream("s").await.expect("it is deleted");
    near.create_stream(&config()).await.expect("it is created");
    store(&near, "s.b", "1").await;
    store(&near, "s.b", "2").await;
    let all = [
        "interrupted: no sign of life from the server",
        "resumed: other from 1",
        "s.b=1@1",
        "s.b=2@2",
    ];
    assert_eq!(told(&mut reader, "s.b=2@2").await, all);
    near.delete_stream("s").await.expect("it is deleted");
    let missing = ReaderEvent::Interrupted(InterruptCause::BucketMissing);
    let told = told(&mut reader, &event(&missing)).await;
    assert_eq!(told.len(), 2, "{told:?}");
}

/// A slow reader is told so, and then what it missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_misses_nothing() {
    let world = World::new().await;
    let (near, _stream) = stream(&world).await;
    let slow = world
        .connect_with(ConnectOptions {
            servers: vec![world.server.url()],
            subscription_capacity: 10,
            ..World::options()
        })
        .await;
    let mut events = slow.events();
    let stream = slow.stream("s").expect("the name is valid");
    let mut reader = read(&stream, &[], ReadStart::New).await;
    for i in 1..=100 {
        store(&near, "s.a", &i.to_string()).await;
    }
    let is_slow = |event: &ConnectionEvent| *event == ConnectionEvent::SlowConsumer;
    heard(&mut events, "it is slow", is_slow).await;
    let told = told(&mut reader, "s.a=100@100").await;
    let messages: Vec<_> = told
        .iter()
        .filter(|told| told.starts_with("s.a="))
        .collect();
    let expected: Vec<String> = (1..=100).map(|i| format!("s.a={i}@{i}")).collect();
    assert_eq!(messages, expected.iter().collect::<Vec<_>>());
    assert!(told.contains(&"interrupted: gap in the deliveries".to_owned()));
}

/// A batch whose answers are torn apart is never taken for a whole one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_whole_or_an_error() {
    let world = World::new().await;
    let (near, _stream) = stream(&world).await;
    let body = "v".repeat(2000);
    for i in 1..1000 {
        let message = Message::new(format!("s.{i}"), body.clone());
        near.publish(message).await.expect("it is sent");
    }
    // Stored in turn: with this one the others are.
    store(&near, "s.last", &body).await;
    let far = world.linked().await;
    let far_stream = far.stream("s").expect("the name is valid");
    let reading = tokio::spawn(async move {
        let mut whole = 0;
        for _ in 0..30 {
            match far_stream.last_of(&["s.*"]).await {
                Ok(messages) => {
                    let sequences: Vec<u64> =
                        messages.iter().map(|message| message.sequence.0).collect();
                    assert_eq!(sequences, (1..=1000).collect::<Vec<_>>());
                    whole += 1;
                }
                Err(error) => assert_eq!(error, ReadStreamError::TimedOut),
            }
        }
        whole
    });
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(13)).await;
        world.proxy.cut();
    }
    let whole = soon("all are read", reading).await.expect("none was torn");
    assert!(whole > 20, "only {whole} of 30");
}

/// Readers leave nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_dropped_takes_its_consumer_with_it() {
    let world = World::new().await;
    let (_near, stream) = stream(&world).await;
    let reader = read(&stream, &[], ReadStart::Time(UnixTime::EPOCH)).await;
    let consumers = async || stream.info().await.expect("it is described").consumers;
    assert_eq!(consumers().await, 1);
    drop(reader);
    soon("it goes", async {
        while consumers().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Over a link that swallows the answers: nobody knows, and a message id finds it out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_answered_is_unknown() {
    let world = World::new().await;
    let (near, _stream) = stream(&world).await;
    let far = world.linked().await;
    let far_stream = far.stream("s").expect("the name is valid");
    let far_consumer = far_stream.consumer("c").expect("the name is valid");
    far_stream.info().await.expect("the link is good");
    world.proxy.blackhole(Direction::ToClient);
    let options = StoreOptions {
        message_id: Some("one".to_owned()),
        ..StoreOptions::default()
    };
    let send = |connection: NatsConnection| {
        let options = options.clone();
        async move { connection.store(Message::new("s.a", "v"), options).await }
    };
    let (other, settings) = (StreamConfig::new("t"), ConsumerConfig::durable("c"));
    let (stored, created, info, got, batch, read, consumer, described) = tokio::join!(
        send(far.clone()),
        far.create_stream(&other),
        far_stream.info(),
        far_stream.get(Sequence(1)),
        far_stream.last_of(&[">"]),
        far_stream.read(&[], ReadStart::All),
        far_stream.create_consumer(&settings),
        far_consumer.info(),
    );
    assert_eq!(stored, Err(StoreError::TimedOut));
    assert_eq!(StoreError::TimedOut.outcome(), Outcome::Unknown);
    assert_eq!(created.err(), Some(StreamError::TimedOut));
    assert_eq!(StreamError::TimedOut.outcome(), Outcome::Unknown);
    assert_eq!(info, Err(ReadStreamError::TimedOut));
    assert_eq!(got, Err(ReadStreamError::TimedOut));
    assert_eq!(batch, Err(ReadStreamError::TimedOut));
    assert_eq!(read.err(), Some(WatchError::TimedOut));
    assert_eq!(consumer.err(), Some(ConsumerError::TimedOut));
    assert_eq!(described, Err(ConsumerError::TimedOut));
    // All of it happened.
    let again = send(near.clone()).await.expect("it is stored");
    assert_eq!((again.sequence, again.duplicate), (Sequence(1), true));
    let other = near.stream("t").expect("the name is valid");
    assert!(other.info().await.is_ok());

    let waiting = tokio::spawn(send(far.clone()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    far.close().await;
    let stored = waiting.await.expect("it ends");
    assert_eq!(stored, Err(StoreError::ClosedWhileWaiting));
    let got = far_stream.last_of(&[">"]).await;
    assert_eq!(got, Err(ReadStreamError::Closed));
}
