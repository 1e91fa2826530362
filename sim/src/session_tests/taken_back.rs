//! Credentials that are void, begin too late, end too soon, or allow less than before.

use super::*;

/// What alice was issued is taken back: she is put out, and is back on a fresh one within seconds, without a command.
#[test]
fn a_revoked_credential_is_replaced() {
    for seed in 0..10 {
        in_town(seed, async |town| {
            let (_, _, session, log) = town.session("alice").await;
            let near = session.connection().expect("it is logged in");
            let bucket = near.create_bucket(&BucketConfig::new("b")).await;
            let bucket = bucket.expect("it is created");
            let watch = bucket.watch(">", WatchStart::Now).await;
            let mut watch = watch.expect("it is watched");
            town.sleep(Duration::from_millis(1_000 + 97 * seed)).await;
            let until = town.wall().as_secs();
            let alice = SimKey::new(Role::User, "alice").public().to_string();
            town.update(|granted| {
                granted.revocations.insert(alice, until);
            })
            .await;
            // What is issued in the same second is void too.
            town.sleep(Duration::from_secs(20)).await;
            let status = session.status();
            assert!(status.generation.0 >= 2, "{}", lines(&log));
            assert_eq!(
                status.connection.map(|(_, with)| with),
                Some(status.generation),
                "{}",
                lines(&log)
            );
            assert_eq!(count(&log, &EventType::Disconnect), 1, "{}", lines(&log));
            assert!(
                lines(&log).contains("User Authentication Revoked"),
                "{}",
                lines(&log)
            );
            let dials = count(&log, &EventType::Connect) + count(&log, &EventType::Warn);
            assert!(dials <= 5, "it does not dial in a circle:\n{}", lines(&log));
            bucket.put("k", "v".into()).await.expect("it works again");
            town.sleep(Duration::from_secs(1)).await;
            let told: Vec<String> = std::iter::from_fn(|| watch.try_next())
                .map(|it| brief(&it))
                .collect();
            assert_eq!(told, ["end", "interrupted", "resumed", "@1"]);
        });
    }
}

/// The issuer's clock is far ahead: what it issues is not valid yet, and is refused again and again, at a pace. Once the
/// clock is right, so is the session. What is a little ahead is dialled with later, when it has become valid.
#[test]
fn credentials_from_the_future_are_not_dialled_with_in_a_circle() {
    in_town(9, async |town| {
        let ahead = 600_000_000_000;
        town.auth.skew(ahead);
        let (_, env) = town.host("alice");
        let (session, log) = town.open(&env);
        let waiting = session.login(ApiKey::new("key")).await;
        assert_eq!(waiting, Err(LoginError::StillTrying));
        town.sleep(Duration::from_secs(60)).await;
        assert_eq!(session.status().connection, None);
        let refused = count(&log, &EventType::Warn);
        assert!((5..=45).contains(&refused), "{refused} dials in 90 s");
        assert!(town.auth.issued() <= 46, "{}", town.auth.issued());
        town.auth.skew(-ahead);
        // What was issued last is refused once more.
        town.sleep(Duration::from_secs(35)).await;
        assert!(session.status().connection.is_some(), "{}", lines(&log));

        town.auth.skew(32_000_000_000);
        let waited = session.login(ApiKey::new("key")).await;
        assert!(waited.is_ok(), "{waited:?}");
    });
}

/// The issuer's clock is behind, by nearly the whole life: what it issues is due on arrival. It is asked at a pace, and
/// the session lives on what it has.
#[test]
fn credentials_that_are_due_on_arrival_are_asked_for_at_a_pace() {
    in_town(10, async |town| {
        let (_, _, session, log) = town.session("alice").await;
        let near = session.connection().expect("it is logged in");
        town.auth.skew(-40_000_000_000);
        session.force_refresh();
        let before = town.auth.issued();
        for _ in 0..60 {
            town.sleep(Duration::from_secs(1)).await;
            near.flush().await.expect("it lives");
        }
        let issued = town.auth.issued() - before;
        assert!((5..=16).contains(&issued), "{issued} in a minute");
        assert_eq!(count(&log, &EventType::Disconnect), 0, "{}", lines(&log));
    });
}

/// What is issued does not allow JetStream for a while: who follows is told, and goes on once it does again; what needs no
/// JetStream goes on all the time.
#[test]
fn narrowed_permissions_are_told_and_widened_ones_resume() {
    in_town(11, async |town| {
        let (_, _, session, log) = town.session("alice").await;
        let (_, bob) = town.outsider("bob").await;
        let near = session.connection().expect("it is logged in");
        let bucket = near.create_bucket(&BucketConfig::new("b")).await;
        let bucket = bucket.expect("it is created");
        let watch = bucket.watch(">", WatchStart::Now).await;
        let mut watch = watch.expect("it is watched");
        let far = bob.bucket("b").expect("a name");

        town.auth.deny("key", &["$JS.API.>", "$KV.>"]);
        session.force_refresh();
        // The connection before is kept until nobody listens on it, or it has had its time.
        town.sleep(Duration::from_secs(30)).await;
        far.put("k", "v".into()).await.expect("it is written");
        assert_eq!(bucket.put("k", "w".into()).await, Err(WriteError::TimedOut));
        near.flush().await.expect("that is allowed");
        town.sleep(Duration::from_secs(10)).await;
        let told = |watch: &mut squall_core::transport::Watch| -> Vec<String> {
            let events = std::iter::from_fn(|| watch.try_next());
            events.map(|it| brief(&it)).collect()
        };
        assert_eq!(told(&mut watch), ["end", "interrupted"], "{}", lines(&log));
        assert_eq!(count(&log, &EventType::ForceClose), 0, "{}", lines(&log));

        town.auth.deny("key", &[]);
        session.force_refresh();
        town.sleep(Duration::from_secs(25)).await;
        assert_eq!(told(&mut watch), ["resumed", "@1"], "{}", lines(&log));
        bucket
            .put("k", "w".into())
            .await
            .expect("it is allowed again");
    });
}
