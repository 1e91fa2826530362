//! Logins, logouts and what belongs to one of them.

use squall_core::session::SessionBucket;
use squall_core::transport::{FlushError, PublishError, SubscribeError};

use super::*;

/// A definite no ends it: what lives is kept to its end, and then nothing is tried any more.
#[test]
fn a_definite_no_is_the_end_of_a_login() {
    in_town(3, async |town| {
        let (host, _, session, log) = town.session("alice").await;
        let near = session.connection().expect("it is logged in");
        let bucket = near
            .create_bucket(&BucketConfig::new("b"))
            .await
            .expect("it is created");
        let mut watch = bucket
            .watch(">", WatchStart::Now)
            .await
            .expect("it is watched");
        town.auth.revoke("key");
        town.sleep(Duration::from_secs(40)).await;
        assert_eq!(count(&log, &EventType::RefreshError), 1);
        bucket
            .put("k", "v".into())
            .await
            .expect("the old credential is good");
        town.sleep(Duration::from_secs(60)).await;
        assert_eq!(near.state(), ConnectionState::Closed, "{}", lines(&log));
        assert_eq!(bucket.put("k", "v".into()).await, Err(WriteError::Closed));
        let mut told = Vec::new();
        while let Some(event) = watch.next().await {
            told.push(brief(&event));
        }
        assert_eq!(told[..2], ["end", "@1"]);
        let issued = town.auth.issued();
        town.world.cut(host, town.server);
        town.sleep(Duration::from_secs(600)).await;
        assert_eq!(
            (town.auth.issued(), session.status().connection),
            (issued, None)
        );
        let refused = session.login(ApiKey::new("key")).await;
        assert!(
            matches!(refused, Err(LoginError::Refused(_))),
            "{refused:?}"
        );
    });
}

/// What belongs to one account ends with its login, also where a refresh and a swap are under way.
#[test]
fn nothing_of_one_account_is_heard_under_another() {
    for seed in 0..30 {
        in_town(seed, async |town| {
            let (_, env, session, _) = town.session("alice").await;
            let (_, bob) = town.outsider("bob").await;
            let first = session.connection().expect("it is logged in");
            let bucket = first
                .create_bucket(&BucketConfig::new("b"))
                .await
                .expect("it is created");
            let mut watch = bucket
                .watch(">", WatchStart::Now)
                .await
                .expect("it is watched");
            let mut heard = first.subscribe("m", None).await.expect("it is subscribed");
            first.flush().await.expect("it comes back");
            // Somewhere in the middle of an exchange, a dial or a hand-over.
            session.force_refresh();
            town.sleep(Duration::from_millis(95 + 5 * seed)).await;
            let far = bob.bucket("b").expect("a name");
            let (login, ()) = tokio::join!(session.login(ApiKey::new("other key")), async {
                for i in 0..10 {
                    bob.publish(Message::new("m", format!("{i}")))
                        .await
                        .expect("it is queued");
                    far.put("k", "v".into()).await.expect("it is written");
                }
            });
            assert_eq!(&*login.expect("it is let in").name, "other");
            assert_eq!(first.state(), ConnectionState::Closed);
            assert_eq!(bucket.put("k", "w".into()).await, Err(WriteError::Closed));
            while watch.next().await.is_some() {}
            while heard.next().await.is_some() {}
            let second = session.connection().expect("it is logged in");
            assert!(
                second.create_bucket(&BucketConfig::new("b")).await.is_ok(),
                "another account's"
            );
            let status = session.status();
            assert_eq!(
                (status.login.map(|login| login.0), status.connects),
                (Some(2), 1)
            );
            session.logout();
            session.logout();
            town.sleep(Duration::from_millis(500)).await;
            assert_eq!(session.status().connection, None);
            assert!(session.connection().is_none());
            assert_eq!(second.state(), ConnectionState::Closed);
            assert_eq!(town.world.tasks_of(env.process()), 1, "the session's own");
        });
    }
}

/// Rooms share a login, and each has a connection of its own: one that closes ends what it has begun, and nothing else.
#[test]
fn a_room_that_closes_leaves_the_others_alone() {
    in_town(7, async |town| {
        let (_, env, session, log) = town.session("alice").await;
        let one = session.connection().expect("it is logged in");
        let other = session.connection().expect("it is logged in");
        let bucket = one
            .create_bucket(&BucketConfig::new("b"))
            .await
            .expect("it is created");
        let same = other.bucket("b").expect("a name");
        let watch = async |bucket: &SessionBucket<SimEnv>| {
            let watch = bucket.watch(">", WatchStart::Now).await;
            watch.expect("it is watched")
        };
        let (mut gone, mut kept) = (watch(&bucket).await, watch(&same).await);
        let mut heard = one.subscribe("m", None).await.expect("it is subscribed");
        let mut events = one.events();
        let clone = one.clone();
        one.close().await;
        one.close().await;
        assert_eq!(
            clone.state(),
            ConnectionState::Closed,
            "a clone is the same one"
        );
        assert_eq!(events.next().await, Some(ConnectionEvent::Closed));
        assert_eq!(heard.next().await, None);
        while gone.next().await.is_some() {}
        let refused = clone.publish(Message::new("m", "x")).await;
        assert_eq!(refused, Err(PublishError::Closed));
        assert_eq!(bucket.put("k", "v".into()).await, Err(WriteError::Closed));

        assert_eq!(other.state(), ConnectionState::Connected);
        same.put("k", "v".into()).await.expect("it is written");
        // It goes on through swaps.
        town.sleep(Duration::from_secs(75)).await;
        assert!(count(&log, &EventType::Swap) >= 2, "{}", lines(&log));
        same.put("k", "w".into()).await.expect("it is written");
        town.sleep(Duration::from_secs(1)).await;
        let told: Vec<String> = std::iter::from_fn(|| kept.try_next())
            .map(|it| brief(&it))
            .collect();
        assert_eq!(told, ["end", "@1", "@2"]);
        drop((kept, same, other, gone, heard, events));
        town.sleep(Duration::from_secs(1)).await;
        assert!(
            session.status().connection.is_some(),
            "logged in all the same"
        );
        assert_eq!(town.world.tasks_of(env.process()), 1, "the session's own");
    });
}

/// Without a connection every call returns in its time.
#[test]
fn nobody_waits_without_limit_for_a_connection() {
    in_town(8, async |town| {
        let (_, env, session, _) = town.session("alice").await;
        let near = session.connection().expect("it is logged in");
        let bucket = near.bucket("b").expect("a name");
        town.world.stop_server(town.server);
        town.sleep(Duration::from_secs(5)).await;
        let limit = Town::options().request_timeout;
        let clock = env.clock();
        let begun = clock.now();
        let published = near.publish(Message::new("m", "x")).await;
        assert_eq!(published, Err(PublishError::NoConnection));
        assert_eq!(clock.now().since(begun), limit);
        let begun = clock.now();
        let subscribed = near.subscribe("m", None).await.map(drop);
        assert_eq!(subscribed, Err(SubscribeError::NoConnection));
        assert_eq!(near.flush().await, Err(FlushError::TimedOut));
        assert!(bucket.entry("k").await.is_err());
        assert!(bucket.watch(">", WatchStart::Now).await.is_err());
        assert!(clock.now().since(begun) <= limit * 4);
    });
}

/// Logins and logouts that come while others are under way: the last one counts, the others are told so, and what they
/// began is gone.
#[test]
fn of_logins_in_flight_the_last_one_counts() {
    for seed in 0..40 {
        in_town(seed, async |town| {
            let (_, env) = town.host("alice");
            let (session, log) = town.open(&env);
            let session = Arc::new(session);
            town.auth
                .spoil(AuthFault::Slow(Duration::from_millis(3 * seed)));
            let after = async |steps: u64, what: &str| {
                town.sleep(Duration::from_millis(7 * steps * (1 + seed % 5)))
                    .await;
                session.login(ApiKey::new(what)).await
            };
            let (first, second, (), last) = tokio::join!(
                after(0, "key"),
                after(1, "other key"),
                async {
                    town.sleep(Duration::from_millis(15 * (1 + seed % 5))).await;
                    session.logout();
                },
                after(4, "other key"),
            );
            assert_eq!(&*last.expect("nobody came after it").name, "other");
            for earlier in [first, second] {
                assert!(
                    matches!(earlier, Ok(_) | Err(LoginError::LoggedOut)),
                    "{earlier:?}"
                );
            }
            town.sleep(Duration::from_secs(1)).await;
            let status = session.status();
            assert_eq!(
                status.account.map(|it| it.name.to_string()).as_deref(),
                Some("other")
            );
            assert_eq!(status.connects, 1);
            // Whatever was made for an earlier login is closed.
            let opened = count(&log, &EventType::Connect);
            assert_eq!(
                count(&log, &EventType::Closed),
                opened - 1,
                "{}",
                lines(&log)
            );
            session.stop().await;
            town.sleep(Duration::from_secs(1)).await;
            assert_eq!(town.world.tasks_of(env.process()), 0, "nothing is left");
        });
    }
}
