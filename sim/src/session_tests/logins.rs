//! Logins, logouts and what belongs to one of them.

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
