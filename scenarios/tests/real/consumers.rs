//! Pull consumers: every way in which a pull ends, and what acknowledgements do.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use squall_core::Connection as _;
use squall_core::nats::{NatsConnection, NatsConsumer, NatsStream};
use squall_core::transport::{
    Ack, AckError, AckPolicy, ConsumerConfig, ConsumerError, Delivered, JetStream as _, Position,
    PublishError, Pull, PullConsumer as _, PullEnd, PullError, PullEvent, Pulled, ReadStart,
    Sequence, Stream as _,
};
use squall_scenarios::real::Direction;

use crate::streams::{brief, old_world, store, stream};
use crate::world::{World, soon};

const SECOND: Duration = Duration::from_secs(1);

fn now(batch: u32) -> Pull {
    Pull {
        batch: NonZeroU32::new(batch).expect("it is not zero"),
        expires: None,
        heartbeat: None,
    }
}

fn waiting(batch: u32, expires: Duration) -> Pull {
    Pull {
        expires: Some(expires),
        ..now(batch)
    }
}

/// What a pull brings, and why it ended.
async fn all(pulled: &mut Pulled) -> (Vec<Delivered>, PullEnd) {
    let mut messages = Vec::new();
    let read = async {
        loop {
            match pulled.next().await.expect("an end is told") {
                PullEvent::Message(message) => messages.push(message),
                PullEvent::Ended(end) => break end,
            }
        }
    };
    let end = soon("the pull ends", read).await;
    assert_eq!(soon("nothing more", pulled.next()).await, None);
    (messages, end)
}

async fn pull(consumer: &NatsConsumer, wish: Pull) -> (Vec<Delivered>, PullEnd) {
    let mut pulled = consumer.pull(wish).await.expect("it is asked for");
    all(&mut pulled).await
}

async fn one(consumer: &NatsConsumer) -> Delivered {
    let (mut messages, end) = pull(consumer, waiting(1, 5 * SECOND)).await;
    assert_eq!(end, PullEnd::Full);
    messages.remove(0)
}

fn briefs(messages: &[Delivered]) -> Vec<String> {
    let brief = |delivered: &Delivered| {
        let message = brief(&delivered.message);
        format!("{message} #{}", delivered.deliveries)
    };
    messages.iter().map(brief).collect()
}

async fn consumer(
    world: &World,
    settings: impl FnOnce(&mut ConsumerConfig),
) -> (NatsConnection, NatsStream, NatsConsumer) {
    let (near, stream) = stream(world).await;
    let mut config = ConsumerConfig::durable("c");
    settings(&mut config);
    let created = stream.create_consumer(&config).await;
    (near, stream, created.expect("it is created"))
}

/// A pull is a publish, and has been sent before the server knows of it.
async fn until_it_waits(consumer: &NatsConsumer) {
    let known = async { while consumer.info().await.expect("it is described").waiting == 0 {} };
    soon("the server knows of the pull", known).await;
}

/// It hears of a message from another thread than acknowledges.
async fn until_it_counts(consumer: &NatsConsumer, pending: u64) {
    let counted =
        async { while consumer.info().await.expect("it is described").pending != pending {} };
    soon("the consumer is told of what was stored", counted).await;
}

fn refused(end: PullEnd) -> (u16, String) {
    match end {
        PullEnd::Refused(error) => (error.code, error.description.to_string()),
        other => panic!("another end: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_are_created_changed_described_and_deleted() {
    for world in [World::new().await, old_world().await] {
        let (near, stream) = stream(&world).await;
        let mut config = ConsumerConfig {
            filters: vec!["s.a".to_owned(), "s.b.>".to_owned()],
            start: ReadStart::Sequence(Sequence(2)),
            ack_wait: Duration::from_secs(7),
            max_deliver: NonZeroU32::new(3),
            ..ConsumerConfig::durable("c")
        };
        for subject in ["s.a", "s.a", "s.b.c", "s.other"] {
            store(&near, subject, "v").await;
        }
        let consumer = stream
            .create_consumer(&config)
            .await
            .expect("it is created");
        let info = consumer.info().await.expect("it is described");
        assert_eq!((&info.config, info.pending), (&config, 2));
        stream.create_consumer(&config).await.expect("the same");
        config.ack_wait = Duration::from_secs(8);
        config.filters.pop();
        stream.create_consumer(&config).await.expect("it changes");
        let info = consumer.info().await.expect("it is described");
        assert_eq!((&info.config, info.pending), (&config, 1));
        let other = ConsumerConfig {
            ack_policy: AckPolicy::None,
            ..config.clone()
        };
        match stream.create_consumer(&other).await {
            Err(ConsumerError::Rejected(error)) => assert_eq!(error.err_code, 10012),
            other => panic!("{other:?}"),
        }
        let ephemeral = ConsumerConfig {
            durable: false,
            ..ConsumerConfig::durable("e")
        };
        let ephemeral = stream
            .create_consumer(&ephemeral)
            .await
            .expect("it is created");
        let info = ephemeral.info().await.expect("it is described");
        let threshold = Some(Duration::from_secs(5));
        assert_eq!(
            (info.config.durable, info.config.inactive_threshold),
            (false, threshold)
        );
        assert_eq!(stream.info().await.expect("it is described").consumers, 2);

        stream.delete_consumer("c").await.expect("it is deleted");
        assert_eq!(
            stream.delete_consumer("c").await,
            Err(ConsumerError::NotFound)
        );
        assert_eq!(consumer.info().await, Err(ConsumerError::NotFound));
        let invalid = ConsumerError::InvalidName("a.b".to_owned());
        assert_eq!(stream.consumer("a.b").err(), Some(invalid));
        let nowhere = near.stream("nowhere").expect("the name is valid");
        let created = nowhere.create_consumer(&config).await.err();
        assert_eq!(created, Some(ConsumerError::NoStream));
        near.close().await;
        assert_eq!(consumer.info().await, Err(ConsumerError::Closed));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_says_why_it_is_over() {
    for world in [World::new().await, old_world().await] {
        let (near, stream, consumer) = consumer(&world, |_| {}).await;
        let (none, end) = pull(&consumer, now(3)).await;
        assert_eq!((none.len(), end), (0, PullEnd::NoMessages));
        for body in ["1", "2", "3"] {
            store(&near, "s.a", body).await;
        }
        until_it_counts(&consumer, 3).await;
        let (two, end) = pull(&consumer, now(2)).await;
        assert_eq!(briefs(&two), ["s.a=1@1 #1", "s.a=2@2 #1"]);
        assert_eq!(end, PullEnd::Full);
        assert_eq!((two[1].consumer_sequence, two[1].pending), (2, 1));
        let (rest, end) = pull(&consumer, now(2)).await;
        assert_eq!(
            (briefs(&rest), end),
            (vec!["s.a=3@3 #1".to_owned()], PullEnd::NoMessages)
        );

        // Longer than two heartbeats, which come.
        let asked = Instant::now();
        let wish = Pull {
            heartbeat: Some(Duration::from_millis(100)),
            ..waiting(1, Duration::from_millis(500))
        };
        let (none, end) = pull(&consumer, wish).await;
        assert_eq!((none.len(), end), (0, PullEnd::Expired));
        assert!(asked.elapsed() >= Duration::from_millis(500));

        let mut pulled = consumer
            .pull(waiting(1, 5 * SECOND))
            .await
            .expect("it is asked for");
        store(&near, "s.a", "4").await;
        assert_eq!(briefs(&all(&mut pulled).await.0), ["s.a=4@4 #1"]);

        let mut pulled = consumer
            .pull(waiting(1, 5 * SECOND))
            .await
            .expect("it is asked for");
        until_it_waits(&consumer).await;
        stream.delete_consumer("c").await.expect("it is deleted");
        let (_, end) = all(&mut pulled).await;
        assert_eq!(refused(end), (409, "Consumer Deleted".to_owned()));
        let (_, end) = pull(&consumer, waiting(1, SECOND)).await;
        assert_eq!(refused(end).0, 503);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_cannot_be_is_refused() {
    let world = World::new().await;
    let (near, _stream, consumer) = consumer(&world, |config| config.max_waiting = 1).await;
    let heartbeat = Duration::from_millis(600);
    let wishes = [(waiting(1, SECOND), SECOND), (now(1), Duration::ZERO)];
    for (wish, expires) in wishes {
        let heartbeat = Some(heartbeat);
        let wish = Pull { heartbeat, ..wish };
        let asked = consumer.pull(wish).await.err();
        let heartbeat = Duration::from_millis(600);
        assert_eq!(
            asked,
            Some(PullError::InvalidHeartbeat { heartbeat, expires })
        );
    }
    let mut first = consumer
        .pull(waiting(1, 5 * SECOND))
        .await
        .expect("it is asked for");
    until_it_waits(&consumer).await;
    let (_, end) = pull(&consumer, waiting(1, SECOND)).await;
    assert_eq!(refused(end), (409, "Exceeded MaxWaiting".to_owned()));
    near.close().await;
    assert_eq!(all(&mut first).await.1, PullEnd::Disconnected);
    let closed = consumer.pull(now(1)).await.err();
    assert_eq!(closed, Some(PullError::Closed));
}

/// The server forgets a pull that waits for nothing where another one waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_is_forgotten_ends_by_itself() {
    let world = World::new().await;
    let (near, _stream, consumer) = consumer(&world, |config| config.max_ack_pending = 1).await;
    store(&near, "s.a", "1").await;
    store(&near, "s.a", "2").await;
    let first = one(&consumer).await;
    let mut other = consumer
        .pull(waiting(1, 10 * SECOND))
        .await
        .expect("it is asked for");
    near.flush().await.expect("it is there");
    let (none, end) = pull(&consumer, now(1)).await;
    assert_eq!((none.len(), end), (0, PullEnd::Silent));
    consumer.ack(&first, Ack::Done).await.expect("it is sent");
    assert_eq!(briefs(&all(&mut other).await.0), ["s.a=2@2 #1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_over_a_bad_link_ends_and_its_messages_come_again() {
    let world = World::new().await;
    let settings = |config: &mut ConsumerConfig| config.ack_wait = SECOND;
    let (near, ..) = consumer(&world, settings).await;
    let far = world.linked().await;
    let far_stream = far.stream("s").expect("the name is valid");
    let far_consumer = far_stream.consumer("c").expect("the name is valid");
    far_consumer.info().await.expect("the link is good");

    // The server's word is swallowed: silence, after two heartbeats.
    let wish = Pull {
        heartbeat: Some(Duration::from_millis(200)),
        ..waiting(2, 10 * SECOND)
    };
    let mut pulled = far_consumer.pull(wish).await.expect("it is asked for");
    far.flush().await.expect("it is there");
    world.proxy.blackhole(Direction::ToClient);
    store(&near, "s.a", "1").await;
    let (none, end) = all(&mut pulled).await;
    assert_eq!((none.len(), end), (0, PullEnd::Silent));

    // Without heartbeats, once it has surely expired.
    let asked = Instant::now();
    let (_, end) = pull(&far_consumer, waiting(1, Duration::from_millis(300))).await;
    assert_eq!(end, PullEnd::Silent);
    assert!(asked.elapsed() < Duration::from_secs(3));

    world.proxy.cut();
    world.proxy.heal();
    soon("the link is back", async {
        while far.flush().await.is_err() {}
    })
    .await;
    let mut pulled = far_consumer
        .pull(waiting(2, 10 * SECOND))
        .await
        .expect("it is asked for");
    far.flush().await.expect("it is there");
    // Delivered into the void, and due again after `ack_wait`.
    let again = soon("it comes again", pulled.next()).await;
    let Some(PullEvent::Message(again)) = again else {
        panic!("no message: {again:?}");
    };
    assert!(again.deliveries > 1, "{again:?}");
    assert_eq!(again.message.sequence, Sequence(1));
    world.proxy.cut();
    assert_eq!(all(&mut pulled).await.1, PullEnd::Disconnected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_settle_delay_and_terminate() {
    for world in [World::new().await, old_world().await] {
        let (near, _stream, consumer) = consumer(&world, |_| {}).await;
        for body in ["1", "2", "3"] {
            store(&near, "s.a", body).await;
        }
        let first = one(&consumer).await;
        let delay = Duration::from_millis(200);
        consumer
            .ack(&first, Ack::Again(Some(delay)))
            .await
            .expect("it is sent");
        let second = one(&consumer).await;
        assert_eq!(second.message.sequence, Sequence(2));
        consumer
            .ack_confirmed(&second, Ack::InProgress)
            .await
            .expect("it is heard");
        consumer
            .ack_confirmed(&second, Ack::Done)
            .await
            .expect("it is heard");
        consumer
            .ack_confirmed(&second, Ack::Done)
            .await
            .expect("twice is harmless");
        let info = consumer.info().await.expect("it is described");
        assert_eq!((info.ack_pending, info.ack_floor), (1, Position::default()));
        let third = one(&consumer).await;
        let why = Some("bad".to_owned());
        consumer
            .ack_confirmed(&third, Ack::Terminate(why))
            .await
            .expect("it is heard");
        let again = one(&consumer).await;
        assert_eq!(briefs(std::slice::from_ref(&again)), ["s.a=1@1 #2"]);
        consumer
            .ack_confirmed(&again, Ack::Again(None))
            .await
            .expect("it is heard");
        let again = one(&consumer).await;
        assert_eq!(again.deliveries, 3);
        consumer
            .ack_confirmed(&again, Ack::Done)
            .await
            .expect("it is heard");
        let info = consumer.info().await.expect("it is described");
        assert_eq!((info.ack_pending, info.ack_floor.stream), (0, Sequence(3)));
        assert_eq!((info.delivered.consumer, info.pending), (5, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_nobody_confirms_is_an_error() {
    let world = World::new().await;
    let (near, stream, consumer) = consumer(&world, |_| {}).await;
    store(&near, "s.a", "1").await;
    let delivered = one(&consumer).await;
    let far = world.linked().await;
    let far_consumer = far.stream("s").expect("the name is valid");
    let far_consumer = far_consumer.consumer("c").expect("the name is valid");
    far_consumer.info().await.expect("the link is good");
    world.proxy.blackhole(Direction::ToClient);
    let confirmed = far_consumer.ack_confirmed(&delivered, Ack::Done).await;
    assert_eq!(confirmed, Err(AckError::TimedOut));
    let info = consumer.info().await.expect("it is described");
    assert_eq!(info.ack_pending, 0, "it was heard all the same");
    stream.delete_consumer("c").await.expect("it is deleted");
    let confirmed = consumer.ack_confirmed(&delivered, Ack::Done).await;
    assert_eq!(confirmed, Err(AckError::NoConsumer));
    near.close().await;
    let closed = PublishError::Closed;
    let acked = consumer.ack(&delivered, Ack::Done).await;
    assert_eq!(acked, Err(closed.clone()));
    let confirmed = consumer.ack_confirmed(&delivered, Ack::Done).await;
    assert_eq!(confirmed, Err(AckError::Publish(closed)));
}

/// Waits grow as `backoff` says, and the last delivery is the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_acknowledged_comes_again_until_it_is_given_up() {
    let world = World::new().await;
    let (near, _stream, consumer) = consumer(&world, |config| {
        config.backoff = [200, 600].map(Duration::from_millis).to_vec();
        config.max_deliver = NonZeroU32::new(3);
    })
    .await;
    store(&near, "s.a", "1").await;
    let mut times = Vec::new();
    for deliveries in 1..=3 {
        assert_eq!(one(&consumer).await.deliveries, deliveries);
        times.push(Instant::now());
    }
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] >= Duration::from_millis(190), "{waits:?}");
    assert!(waits[1] >= Duration::from_millis(590), "{waits:?}");
    let (none, end) = pull(&consumer, waiting(1, Duration::from_millis(1500))).await;
    assert_eq!((none.len(), end), (0, PullEnd::Expired));
    let info = consumer.info().await.expect("it is described");
    assert_eq!(
        (info.ack_pending, info.config.ack_wait),
        (0, Duration::from_millis(200))
    );
}
