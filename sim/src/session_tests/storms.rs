//! Many sessions at once.

use super::*;

/// A thousand clients lose their server at once. They do not come back in step: no second has more than a fifth of them.
#[test]
fn clients_that_lose_one_server_do_not_come_back_in_step() {
    in_town(5, async |town| {
        let mut sessions = Vec::new();
        for i in 0..1_000 {
            let (_, env) = town.host(&format!("host{i}"));
            let (session, log) = town.open(&env);
            session
                .login(ApiKey::new("key"))
                .await
                .expect("it is let in");
            sessions.push((session, log));
        }
        town.world.stop_server(town.server);
        town.sleep(Duration::from_secs(2)).await;
        town.world.start_server(town.server);
        town.sleep(Duration::from_secs(10)).await;
        let mut seconds: BTreeMap<i64, usize> = BTreeMap::new();
        for (session, log) in &sessions {
            assert!(session.status().connection.is_some(), "{}", lines(log));
            let log = log.lock().expect("no panic");
            let back = log.iter().rfind(|event| event.kind == EventType::Connect);
            *seconds
                .entry(back.expect("it is back").at.as_secs())
                .or_default() += 1;
        }
        let most = seconds.values().max().copied().unwrap_or(1_000);
        assert!(most <= 200, "{seconds:?}");
        assert!(seconds.len() >= 5, "{seconds:?}");
    });
}
