//! What fails under a session, and heals without a command.

use super::*;

/// The auth service is away while the credential ends: the server's kick is the end of the connection, nobody dials in a
/// circle through the last second, and once the service is back the session is too.
#[test]
fn an_outage_of_the_auth_service_over_the_end_heals_by_itself() {
    for seed in 0..20 {
        in_town(seed, async |town| {
            let (_, _, session, log) = town.session("alice").await;
            let near = session.connection().expect("it is logged in");
            let bucket = near
                .create_bucket(&BucketConfig::new("b"))
                .await
                .expect("it is created");
            let mut watch = bucket
                .watch(">", WatchStart::Now)
                .await
                .expect("it is watched");
            let (_, bob) = town.outsider("bob").await;
            let far = bob.bucket("b").expect("a name");
            town.auth.spoil(AuthFault::Status(503));
            town.sleep(Duration::from_secs(90)).await;
            assert_eq!(session.status().generation.0, 1);
            assert_eq!(near.state(), ConnectionState::Disconnected);
            far.put("k", "v".into()).await.expect("it is written");
            town.auth.mend(AuthFault::Status(503));
            town.sleep(Duration::from_secs(6)).await;
            assert_eq!(near.state(), ConnectionState::Connected, "{}", lines(&log));
            bucket.put("k", "w".into()).await.expect("it works again");
            town.sleep(Duration::from_secs(1)).await;
            let told: Vec<String> = std::iter::from_fn(|| watch.try_next())
                .map(|it| brief(&it))
                .collect();
            assert_eq!(told, ["end", "interrupted", "resumed", "@1", "@2"]);
            let connects = lines(&log)
                .lines()
                .filter(|line| line.starts_with("connect "))
                .count();
            assert_eq!(connects, 2, "{}", lines(&log));
            assert!(count(&log, &EventType::Disconnect) == 1, "{}", lines(&log));
            assert!(
                count(&log, &EventType::RefreshError) <= 2,
                "one a minute:\n{}",
                lines(&log)
            );
        });
    }
}

/// A link that swallows everything is found by the first write that gets no answer, and replaced; a JetStream that is
/// slow is no reason to close anything.
#[test]
fn a_dead_link_is_replaced_and_a_healthy_one_is_kept() {
    in_town(4, async |town| {
        let (host, _, session, log) = town.session("alice").await;
        let near = session.connection().expect("it is logged in");
        let bucket = near
            .create_bucket(&BucketConfig::new("b"))
            .await
            .expect("it is created");
        town.auth.set_life(Duration::from_secs(3_600));
        session.force_refresh();
        town.sleep(Duration::from_secs(20)).await;
        let before = session.status().connection;

        town.world.mute_jetstream(town.server);
        assert_eq!(bucket.put("k", "1".into()).await, Err(WriteError::TimedOut));
        town.sleep(Duration::from_secs(6)).await;
        town.world.unmute_jetstream(town.server);
        assert_eq!(session.status().connection, before, "{}", lines(&log));
        assert_eq!(count(&log, &EventType::Warn), 1, "{}", lines(&log));
        assert_eq!(count(&log, &EventType::ForceClose), 0);

        for direction in [Direction::ToServer, Direction::ToHost] {
            town.world.blackhole(host, town.server, direction);
        }
        let (one, other) = tokio::join!(bucket.put("k", "2".into()), bucket.put("k", "3".into()));
        assert_eq!(
            (one, other),
            (Err(WriteError::TimedOut), Err(WriteError::TimedOut))
        );
        town.sleep(Duration::from_secs(6)).await;
        assert_eq!(count(&log, &EventType::ForceClose), 1, "{}", lines(&log));
        for direction in [Direction::ToServer, Direction::ToHost] {
            town.world.fill(host, town.server, direction);
        }
        town.sleep(Duration::from_secs(30)).await;
        bucket.put("k", "4".into()).await.expect("it works again");
        assert_ne!(session.status().connection, before);
    });
}

/// The machine sleeps over the end of the credential: after the next look at the clock the session is well again.
#[test]
fn a_sleep_over_the_end_is_noticed_and_healed() {
    for seed in 0..10 {
        in_town(seed, async |town| {
            let (host, _, session, log) = town.session("alice").await;
            let near = session.connection().expect("it is logged in");
            let bucket = near
                .create_bucket(&BucketConfig::new("b"))
                .await
                .expect("it is created");
            town.sleep(Duration::from_secs(5)).await;
            town.world.suspend(host);
            town.sleep(Duration::from_secs(3_600)).await;
            town.world.wake(host);
            town.sleep(Duration::from_secs(45)).await;
            assert_eq!(near.state(), ConnectionState::Connected, "{}", lines(&log));
            bucket.put("k", "v".into()).await.expect("it works again");
            assert_eq!(count(&log, &EventType::Wake), 1, "{}", lines(&log));
        });
    }
}
