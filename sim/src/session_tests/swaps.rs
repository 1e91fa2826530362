//! Credentials rotate, and what runs on a session does not notice.

use std::num::NonZeroU32;

use squall_core::transport::{Ack, ConsumerConfig, Pull, PullConsumer as _, PullEvent};

use super::*;

/// Sixty generations: each is one swap, and nothing that listens or writes notices one of them.
#[test]
fn sixty_generations_pass_and_nobody_notices() {
    in_town(1, async |town| {
        let (_, env, session, log) = town.session("alice").await;
        let (_, bob) = town.outsider("bob").await;
        let near = session.connection().expect("it is logged in");
        let config = BucketConfig {
            history: 64,
            ..BucketConfig::new("b")
        };
        let bucket = near.create_bucket(&config).await.expect("it is created");
        let mut watch = bucket
            .watch("k.>", WatchStart::Now)
            .await
            .expect("it is watched");
        let stream = StreamConfig {
            subjects: vec!["s.>".into()],
            ..StreamConfig::new("s")
        };
        let stream = near.create_stream(&stream).await.expect("it is created");
        let mut reader = stream.read(&[], ReadStart::All).await.expect("it is read");
        let mut heard = near.subscribe("m", None).await.expect("it is subscribed");
        near.flush().await.expect("it comes back");
        let mut events = near.events();

        let far = bob.bucket("b").expect("a name");
        let rounds = 6_000_u64;
        for i in 0..rounds {
            let written = bucket
                .put(&format!("k.{}", i % 20), format!("{i}").into())
                .await;
            assert_eq!(written, Ok(Revision(2 * i + 1)), "round {i}");
            let written = far
                .put(&format!("k.{}", i % 20), format!("{i}").into())
                .await;
            assert_eq!(written, Ok(Revision(2 * i + 2)), "round {i}");
            bob.publish(Message::new("m", format!("{i}")))
                .await
                .expect("it is queued");
            let stored = bob
                .store(Message::new("s.x", format!("{i}")), Default::default())
                .await;
            stored.expect("it is stored");
            env.clock()
                .sleep_until(env.clock().now() + Duration::from_millis(300))
                .await;
        }
        // The last exchange may be followed by a move.
        town.sleep(Duration::from_secs(2)).await;
        while session.status().connection.map(|(_, with)| with) != Some(session.status().generation)
        {
            town.sleep(Duration::from_secs(1)).await;
        }
        town.sleep(Duration::from_secs(1)).await;

        let mut revisions = Vec::new();
        while let Some(event) = watch.try_next() {
            match event {
                WatchEvent::Entry(entry) => revisions.push(entry.revision.0),
                WatchEvent::SnapshotEnd => {}
                event => panic!("a swap was told: {event:?}"),
            }
        }
        // A watch may skip what is overwritten before its turn: each key is written twice within a few milliseconds.
        assert!(revisions.is_sorted_by(|a, b| a < b), "none twice");
        let last: Vec<u64> = (0..rounds).map(|i| 2 * i + 2).collect();
        assert!(
            last.iter()
                .all(|revision| revisions.binary_search(revision).is_ok()),
            "none missed"
        );

        let mut sequences = Vec::new();
        while let Some(event) = reader.try_next() {
            match event {
                ReaderEvent::Message(message) => sequences.push(message.sequence.0),
                ReaderEvent::CaughtUp => {}
                event => panic!("a swap was told: {event:?}"),
            }
        }
        assert_eq!(sequences, (1..=rounds).collect::<Vec<_>>());

        let mut messages: Vec<u64> = Vec::new();
        while let Some(message) = heard.try_next() {
            messages.push(
                String::from_utf8_lossy(&message.payload)
                    .parse()
                    .expect("a number"),
            );
        }
        assert_eq!(messages, (0..rounds).collect::<Vec<u64>>());

        let status = session.status();
        let generations = status.generation.0;
        assert!(generations >= 55, "{generations}");
        assert_eq!(status.connects, generations, "one connection for each");
        let in_use = status.connection.map(|(_, generation)| generation);
        assert_eq!(in_use, Some(status.generation), "the newest is in use");
        assert_eq!(count(&log, &EventType::Swap) as u64, generations - 1);
        assert_eq!(count(&log, &EventType::Closed) as u64, generations - 1);
        assert_eq!(count(&log, &EventType::Disconnect), 0, "{}", lines(&log));
        while let Some(event) = events.try_next() {
            assert!(matches!(event, ConnectionEvent::LoggingIn(_)), "{event}");
        }
        session.stop().await;
        session.stop().await;
        assert_eq!(near.state(), ConnectionState::Closed);
        town.sleep(Duration::from_secs(1)).await;
        assert_eq!(watch.next().await, None);
        assert_eq!(town.world.tasks_of(env.process()), 0, "nothing is left");
    });
}

/// At every moment of a swap somebody says something, on a network where one connection may be much faster than the other:
/// each message is told once, and a heartbeat that is the same each time as often as it beats.
#[test]
fn what_is_said_during_a_swap_is_told_once() {
    let latency = Latency {
        base: Duration::from_millis(1),
        jitter: Duration::from_millis(20),
    };
    for seed in 0..32 {
        let mut simulation = Simulation::new(seed, latency);
        let town = Town::new(simulation.world());
        simulation.run(async {
            // Exchanged 30 s before its end.
            town.auth.set_life(Duration::from_secs(33));
            let (_, _, session, log) = town.session("alice").await;
            let (_, bob) = town.outsider("bob").await;
            let near = session.connection().expect("it is logged in");
            let mut numbers = near.subscribe("n", None).await.expect("it is subscribed");
            let mut ticks = near
                .subscribe("tick", None)
                .await
                .expect("it is subscribed");
            near.flush().await.expect("it comes back");
            let messages = 40_000;
            for i in 0..messages {
                let number = Message::new("n", format!("{i}"));
                bob.publish(number).await.expect("it is queued");
                if i % 400 == 0 {
                    let tick = Message::new("tick", "tick");
                    bob.publish(tick).await.expect("it is queued");
                }
                town.sleep(Duration::from_millis(1)).await;
            }
            town.sleep(Duration::from_secs(2)).await;
            let mut told: Vec<u64> = Vec::new();
            while let Some(message) = numbers.try_next() {
                let text = String::from_utf8_lossy(&message.payload);
                told.push(text.parse().expect("a number"));
            }
            told.sort_unstable();
            let twice = told.windows(2).filter(|two| two[0] == two[1]).count();
            told.dedup();
            let missed = messages - told.len() as u64;
            assert_eq!((missed, twice), (0, 0), "missed and twice, seed {seed}");
            let ticked = std::iter::from_fn(|| ticks.try_next()).count() as u64;
            assert_eq!(ticked, messages / 400, "seed {seed}");
            let swaps = count(&log, &EventType::Swap);
            assert!(swaps >= 3, "{swaps}: {}", lines(&log));
        });
    }
}

/// Presence runs on a session unchanged, and everybody keeps seeing who is there.
#[test]
fn presence_holds_across_fifty_swaps() {
    in_town(2, async |town| {
        let (_, _, session, log) = town.session("alice").await;
        let (bob_env, bob) = town.outsider("bob").await;
        let config =
            |agent: &str| presence::Config::new(agent, "p", "agents", Duration::from_secs(2));
        let connection = session.connection().expect("it is logged in");
        let alice = Presence::open(&session.env(), &connection, config("alice")).await;
        let alice = alice.expect("it is open");
        let mut seen_by_alice = alice.watch().await.expect("it is watched");
        let bob = Presence::open(&bob_env, &bob, config("bob"))
            .await
            .expect("it is open");
        let mut seen_by_bob = bob.watch().await.expect("it is watched");
        let mut notices = alice.notices();
        // Until no move is due: what is told of a close, told in the midst of one, may end with it.
        while session.status().generation.0 < 52
            || session.status().connection.map(|(_, with)| with)
                != Some(session.status().generation)
        {
            town.sleep(Duration::from_secs(10)).await;
            assert_eq!(alice.who().await.expect("it answers").len(), 2);
            assert_eq!(bob.who().await.expect("it answers").len(), 2);
        }
        assert!(count(&log, &EventType::Swap) >= 50, "{}", lines(&log));
        alice.close().await;
        let heard = seen_by_bob.next().await.expect("it is told");
        let heard = format!("{heard:?}");
        assert!(
            heard.contains("Down") && heard.contains("alice"),
            "the first is the close: {heard}"
        );
        bob.close().await;
        let mut heard = Vec::new();
        while let Some(event) = seen_by_alice.next().await {
            heard.push(format!("{event:?}"));
        }
        let downs: Vec<&String> = heard.iter().filter(|it| it.contains("Down")).collect();
        assert_eq!(downs.len(), 1, "{heard:?}");
        assert!(
            downs[0].contains("alice") && downs[0].contains("Left"),
            "her own: {heard:?}"
        );
        assert_eq!(notices.next().await, None, "it never doubted itself");
    });
}

/// The same seed gives the same run, to the last parcel.
#[test]
fn a_seed_decides_everything_that_a_session_does() {
    let run = |seed| {
        in_town(seed, async |town| {
            let (host, _, session, log) = town.session("alice").await;
            let near = session.connection().expect("it is logged in");
            let bucket = near.create_bucket(&BucketConfig::new("b")).await;
            let bucket = bucket.expect("it is created");
            let mut watch = bucket
                .watch(">", WatchStart::Now)
                .await
                .expect("it is watched");
            for i in 0..20 {
                let fault = AuthFault::Status(500 + i % 3);
                town.auth.spoil(fault);
                town.sleep(Duration::from_secs(17)).await;
                town.auth.mend(fault);
                town.world.cut(host, town.server);
                // Refused or not, it is a part of the run.
                let _written = bucket.put("k", "v".into()).await;
                town.sleep(Duration::from_secs(9)).await;
            }
            while watch.try_next().is_some() {}
            (lines(&log), town.world.trace())
        })
    };
    let (one, again, other) = (run(1), run(1), run(2));
    assert_eq!(one.0, again.0);
    assert_eq!(one.1, again.1);
    assert_ne!(one.1, other.1);
}

/// Two workers share a durable consumer over their sessions: everything is worked off once, through all swaps.
#[test]
fn pulls_go_on_across_swaps_and_nothing_is_worked_off_twice() {
    in_town(6, async |town| {
        let (_, bob) = town.outsider("bob").await;
        let stream = StreamConfig {
            subjects: vec!["job.>".into()],
            ..StreamConfig::new("jobs")
        };
        let jobs = bob.create_stream(&stream).await.expect("it is created");
        let consumer = ConsumerConfig::durable("workers");
        let created = jobs.create_consumer(&consumer).await;
        created.expect("it is created");
        let done: Arc<Mutex<Vec<u64>>> = Arc::default();
        let mut working = Vec::new();
        for name in ["alice", "carol"] {
            let (_, env, session, log) = town.session(name).await;
            let near = session.connection().expect("it is logged in");
            let jobs = near.stream("jobs").expect("a name");
            let consumer = jobs.consumer("workers").expect("a name");
            let done = Arc::clone(&done);
            let task = env.spawn("work", async move {
                loop {
                    let wish = Pull {
                        batch: NonZeroU32::new(7).expect("not zero"),
                        expires: Some(Duration::from_secs(8)),
                        heartbeat: Some(Duration::from_secs(2)),
                    };
                    let mut pulled = consumer.pull(wish).await.expect("it is asked");
                    while let Some(event) = pulled.next().await {
                        if let PullEvent::Message(job) = event {
                            assert_eq!(job.deliveries, 1, "nothing is due again");
                            done.lock().expect("no panic").push(job.message.sequence.0);
                            let settled = consumer.ack_confirmed(&job, Ack::Done).await;
                            settled.expect("it is settled");
                        }
                    }
                }
            });
            working.push((session, log, task));
        }
        let count = 3_000;
        for i in 0..count {
            let job = Message::new("job.x", format!("{i}"));
            let stored = bob.store(job, Default::default()).await;
            stored.expect("it is stored");
            town.sleep(Duration::from_millis(100)).await;
        }
        town.sleep(Duration::from_secs(10)).await;
        let mut done = done.lock().expect("no panic").clone();
        done.sort_unstable();
        assert_eq!(done, (1..=count).collect::<Vec<u64>>());
        for (_, log, _) in &working {
            assert!(super::count(log, &EventType::Swap) >= 9, "{}", lines(log));
            assert_eq!(
                super::count(log, &EventType::Disconnect),
                0,
                "{}",
                lines(log)
            );
        }
    });
}
