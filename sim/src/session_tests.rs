//! Sessions in the simulated world: what runs on them does not notice that credentials rotate and connections swap.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_core::diagnostics::{EventType, NatsEvent};
use squall_core::jwt::{Account, Claims, KeyPair as _, Limits, Operator, Realm, Role, User, mint};
use squall_core::presence::{self, Presence};
use squall_core::session::{ApiKey, Config, LoginError, Session};
use squall_core::transport::{
    BucketConfig, ConnectOptions, ConnectionEvent, ConnectionState, Credentials, CredentialsCell,
    Message, ReadStart, ReaderEvent, Revision, StreamConfig, WatchEvent, WatchStart, WriteError,
};
use squall_core::transport::{JetStream as _, Stream as _};
use squall_core::{Bucket as _, Clock as _, Connection as _, Env as _, Transport as _, UnixTime};

use crate::broker::ServerConfig;
use crate::{
    AuthFault, AuthServer, Direction, HostKey, Latency, ServerKey, SimConnection, SimEnv, SimKey,
    Simulation, World,
};

const ISSUED: UnixTime = UnixTime::from_secs(1_700_000_000);

/// An operator with these accounts, and the system's.
fn realm(accounts: &[&str]) -> Realm {
    let operator = SimKey::new(Role::Operator, "operator");
    let account = |name: &str| {
        let granted = Account {
            limits: Some(Limits::NONE),
            ..Account::default()
        };
        let key = SimKey::new(Role::Account, name).public();
        mint(&Claims::account(&key, ISSUED, granted), &operator)
    };
    let granted = Operator {
        system_account: SimKey::new(Role::Account, "system").public().to_string(),
        ..Operator::default()
    };
    Realm {
        operator: mint(
            &Claims::operator(&operator.public(), ISSUED, granted),
            &operator,
        ),
        accounts: accounts
            .iter()
            .chain(&["system"])
            .map(|name| account(name))
            .collect(),
    }
}

type Log = Arc<Mutex<Vec<NatsEvent>>>;

/// A server in operator mode, an auth service, and a host for each agent.
struct Town {
    world: World,
    server: ServerKey,
    auth: AuthServer,
}

impl Town {
    fn new(world: &World) -> Self {
        let mut config = ServerConfig::new("a");
        config.realm = Some(realm(&["app", "other"]));
        let server = world.add_server(config);
        let auth = AuthServer::new(world, "auth");
        auth.set_life(Duration::from_secs(60));
        auth.grant("key", "app", "alice");
        auth.grant("other key", "other", "alice");
        Self {
            world: world.clone(),
            server,
            auth,
        }
    }

    fn host(&self, name: &str) -> (HostKey, SimEnv) {
        let host = self.world.add_host(name);
        (host, self.world.start_process(host, name))
    }

    fn options() -> ConnectOptions {
        ConnectOptions {
            servers: vec!["nats://a".to_owned()],
            ..ConnectOptions::default()
        }
    }

    fn open(&self, env: &SimEnv) -> (Session<SimEnv>, Log) {
        let config = Config {
            connect: Self::options(),
            ..Config::default()
        };
        let log = Log::default();
        let sink = Arc::clone(&log);
        let tell = move |event: &NatsEvent| sink.lock().expect("no panic").push(event.clone());
        let session = Session::open(env, self.auth.clone(), config, tell);
        (session.expect("it can be"), log)
    }

    /// A session that is logged in.
    async fn session(&self, name: &str) -> (HostKey, SimEnv, Session<SimEnv>, Log) {
        let (host, env) = self.host(name);
        let (session, log) = self.open(&env);
        let account = session
            .login(ApiKey::new("key"))
            .await
            .expect("it is let in");
        assert_eq!(&*account.name, "app");
        (host, env, session, log)
    }

    /// A client whose credential has no end.
    async fn outsider(&self, name: &str) -> (SimEnv, SimConnection) {
        let (_, env) = self.host(name);
        let user = SimKey::new(Role::User, name);
        let claims = Claims::user(&user.public(), ISSUED, User::default());
        let token = mint(&claims, &SimKey::new(Role::Account, "app"));
        let credentials = CredentialsCell::filled(Credentials::new(token, user.seed()));
        let options = ConnectOptions {
            credentials: Some(credentials),
            ..Self::options()
        };
        let connection = env
            .transport()
            .connect(options)
            .await
            .expect("it is let in");
        (env, connection)
    }

    async fn sleep(&self, time: Duration) {
        self.world.sleep_until(self.world.now() + time).await;
    }
}

fn in_town<T>(seed: u64, story: impl AsyncFnOnce(&Town) -> T) -> T {
    let mut simulation = Simulation::new(seed, Latency::default());
    let town = Town::new(simulation.world());
    simulation.run(story(&town))
}

fn count(log: &Log, kind: &EventType) -> usize {
    let log = log.lock().expect("no panic");
    log.iter().filter(|event| event.kind == *kind).count()
}

/// Type, caller and reason of each event, one a line.
fn lines(log: &Log) -> String {
    let log = log.lock().expect("no panic");
    let line = |event: &NatsEvent| {
        let caller = event.caller.clone().expect("every transition names one");
        let reason = event.reason.clone().unwrap_or_default();
        format!("{} {caller} {reason}", event.kind)
            .trim_end()
            .to_owned()
    };
    log.iter().map(line).collect::<Vec<_>>().join("\n")
}

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
        town.sleep(Duration::from_secs(2)).await;

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
        while session.status().generation.0 < 52 {
            town.sleep(Duration::from_secs(10)).await;
            assert_eq!(alice.who().await.expect("it answers").len(), 2);
            assert_eq!(bob.who().await.expect("it answers").len(), 2);
        }
        assert!(count(&log, &EventType::Swap) >= 51, "{}", lines(&log));
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

fn brief(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Entry(entry) => format!("@{}", entry.revision),
        WatchEvent::SnapshotEnd => "end".to_owned(),
        WatchEvent::Interrupted(_) => "interrupted".to_owned(),
        WatchEvent::Resumed { same_bucket } => match same_bucket {
            true => "resumed".to_owned(),
            false => "another".to_owned(),
        },
    }
}

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
