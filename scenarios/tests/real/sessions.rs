//! Sessions on a real server in operator mode: for each trap of rotating credentials, a session that is not caught.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_core::diagnostics::{EventType, NatsEvent};
use squall_core::http_auth::HttpAuth;
use squall_core::jwt::{KeyPair as _, Role};
use squall_core::nats::{NatsConnection, NatsEnv, Nkey, TokioClock};
use squall_core::session::{
    ApiKey, AuthService as _, Config, ExchangeError, ExchangeRequest, Session, Status,
};
use squall_core::transport::{
    BucketConfig, ConnectOptions, ConnectionState, CredentialsCell, Message, Watch, WatchEvent,
    WatchStart,
};
use squall_core::{Bucket as _, Connection as _, Env as _, Transport as _};
use squall_scenarios::issuer::Issuer;
use squall_scenarios::local_auth::LocalAuth;
use squall_scenarios::real::{AuthServer, NatsServer, Proxy, ServerOptions};
use tokio::time::{sleep, timeout};

use crate::world::soon;

const LIFE: Duration = Duration::from_secs(10);
const MARGIN: Duration = Duration::from_secs(4);

type Log = Arc<Mutex<Vec<NatsEvent>>>;
type Auth = LocalAuth<Nkey, TokioClock>;

/// A server in operator mode behind a link that counts who dials, and whoever issues its credentials.
struct Town {
    _server: NatsServer,
    proxy: Proxy,
    issuer: Arc<Issuer<Nkey>>,
    auth: Auth,
}

impl Town {
    async fn new() -> Self {
        let issuer = Arc::new(Issuer::new(|role, _| Nkey::generate(role)));
        let options = ServerOptions {
            realm: Some(issuer.realm(&["app"])),
            ..ServerOptions::default()
        };
        let server = NatsServer::start(options).await.expect("a server starts");
        let proxy = Proxy::start(server.address()).await;
        let auth = LocalAuth::new(Arc::clone(&issuer), TokioClock::new(), "app", LIFE);
        Self {
            _server: server,
            proxy: proxy.expect("a port is free"),
            issuer,
            auth,
        }
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions {
            servers: vec![self.proxy.url()],
            ..ConnectOptions::default()
        }
    }

    /// A session that is logged in.
    async fn session(&self, seed: u64) -> (Session<NatsEnv>, Log) {
        let config = Config {
            connect: self.options(),
            refresh_margin: MARGIN,
            refresh_retry: Duration::from_secs(1),
            ..Config::default()
        };
        let log = Log::default();
        let sink = Arc::clone(&log);
        let tell = move |event: &NatsEvent| sink.lock().expect("no panic").push(event.clone());
        let session = Session::open(&NatsEnv::new(seed), self.auth.clone(), config, tell);
        let session = session.expect("it can be");
        let account = session.login(ApiKey::new(format!("user{seed}"))).await;
        account.expect("it is let in");
        (session, log)
    }

    /// A client whose credential has no end.
    async fn outsider(&self) -> NatsConnection {
        let cell = CredentialsCell::filled(self.issuer.user("app", "bob", |_| {}));
        let options = ConnectOptions {
            credentials: Some(cell),
            ..self.options()
        };
        let connection = NatsEnv::new(0).transport().connect(options).await;
        connection.expect("it is let in")
    }
}

fn lines(log: &Log) -> String {
    let log = log.lock().expect("no panic");
    log.iter().map(|event| event.to_line() + "\n").collect()
}

fn count(log: &Log, kind: &EventType) -> usize {
    let log = log.lock().expect("no panic");
    log.iter().filter(|event| event.kind == *kind).count()
}

/// Revisions that a watch has told, and whatever else.
fn read(watch: &mut Watch) -> (Vec<u64>, Vec<WatchEvent>) {
    let (mut revisions, mut others) = (Vec::new(), Vec::new());
    while let Some(event) = watch.try_next() {
        match event {
            WatchEvent::Entry(entry) => revisions.push(entry.revision.0),
            event => others.push(event),
        }
    }
    (revisions, others)
}

/// Several swaps under load: no operation fails, nothing is missed or told twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_rotate_and_nobody_notices() {
    let town = Town::new().await;
    let (session, log) = town.session(1).await;
    let near = session.connection().expect("it is logged in");
    let bucket = near
        .create_bucket(&BucketConfig::new("b"))
        .await
        .expect("it is created");
    let mut watch = bucket
        .watch(">", WatchStart::Now)
        .await
        .expect("it is watched");
    let mut heard = near.subscribe("m", None).await.expect("it is subscribed");
    near.flush().await.expect("it comes back");
    let bob = town.outsider().await;
    let published = AtomicU64::new(0);
    let rounds = 600_u64;
    let chat = async {
        for i in 0..rounds * 4 {
            bob.publish(Message::new("m", format!("{i}")))
                .await
                .expect("it is queued");
            published.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(10)).await;
        }
    };
    let writes = async {
        for i in 0..rounds {
            let written = bucket.put(&format!("k{i}"), format!("{i}").into()).await;
            written.unwrap_or_else(|error| panic!("put {i}: {error}\n{}", lines(&log)));
            sleep(Duration::from_millis(40)).await;
        }
    };
    tokio::join!(chat, writes);
    bob.flush().await.expect("it comes back");
    sleep(Duration::from_secs(1)).await;

    let (revisions, others) = read(&mut watch);
    assert_eq!(
        revisions,
        (1..=rounds).collect::<Vec<_>>(),
        "{}",
        lines(&log)
    );
    assert_eq!(others, [WatchEvent::SnapshotEnd], "{}", lines(&log));
    let mut messages: Vec<u64> = Vec::new();
    while let Some(message) = heard.try_next() {
        messages.push(
            String::from_utf8_lossy(&message.payload)
                .parse()
                .expect("a number"),
        );
    }
    messages.sort_unstable();
    let all: Vec<u64> = (0..published.load(Ordering::Relaxed)).collect();
    let mut distinct = messages.clone();
    distinct.dedup();
    assert_eq!(distinct, all, "none missed: {}", lines(&log));
    let twice = messages.len() - distinct.len();
    assert_eq!(twice, 0, "told twice: {}", lines(&log));

    let swaps = count(&log, &EventType::Swap);
    assert!(swaps >= 3, "{}", lines(&log));
    // One swap may be under way.
    let newest = soon("the newest credential is in use", async {
        loop {
            let status = session.status();
            if status.connection.map(|(_, of)| of) == Some(status.generation) {
                return status;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let status = newest.await;
    assert_eq!(status.connects, status.generation.0, "{}", lines(&log));
    assert_eq!(count(&log, &EventType::Disconnect), 0, "{}", lines(&log));
    session.stop().await;
    assert_eq!(near.state(), ConnectionState::Closed);
    soon("the watch ends", async {
        while watch.next().await.is_some() {}
    })
    .await;
}

/// The credential ends and there is no other: plain clients dial 14 to 390 times in that second, and then in step, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_dials_in_a_circle_through_the_last_second() {
    let town = Town::new().await;
    let mut sessions = Vec::new();
    for seed in 0..6 {
        sessions.push(town.session(seed).await);
    }
    let (session, log) = &sessions[0];
    let near = session.connection().expect("it is logged in");
    let bucket = near
        .create_bucket(&BucketConfig::new("b"))
        .await
        .expect("it is created");
    let mut watch = bucket
        .watch(">", WatchStart::Now)
        .await
        .expect("it is watched");
    let dialled = town.proxy.accepted();
    town.auth.answer(Some(ExchangeError::Status(503)));
    sleep(LIFE + Duration::from_secs(8)).await;
    let attempts = town.proxy.accepted() - dialled;
    // Each may make the one that was on its way at the kick, and one every two seconds and more after it.
    assert!(attempts <= 6 * 4, "{attempts} attempts of six clients");
    for (_, log) in &sessions {
        assert_eq!(count(log, &EventType::Disconnect), 1, "{}", lines(log));
        assert_eq!(count(log, &EventType::Connect), 1, "{}", lines(log));
    }
    // One that is failing can be stopped, and is no ghost afterwards.
    for (session, _) in &sessions[1..] {
        session.stop().await;
    }
    town.auth.answer(None);
    let connected = async {
        while near.state() != ConnectionState::Connected {
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the session recovers", connected).await;
    let put = soon("a put", bucket.put("k", "v".into())).await;
    put.unwrap_or_else(|error| panic!("{error}\n{}", lines(log)));
    let dialled = town.proxy.accepted();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(town.proxy.accepted(), dialled, "a ghost has dialled");
    let (revisions, others) = read(&mut watch);
    assert_eq!((&revisions[..], others.len()), (&[1][..], 3), "{others:?}");
    assert!(
        matches!(others[1], WatchEvent::Interrupted(_)),
        "{others:?}"
    );
    assert_eq!(others[2], WatchEvent::Resumed { same_bucket: true });
    session.stop().await;
    assert_eq!(watch.next().await, None);
    assert_eq!(watch.next().await, None, "and it does not panic");
}

/// Every answer of a service comes over HTTP as what it is.
#[tokio::test]
async fn an_auth_service_says_the_same_over_http() {
    let issuer = Arc::new(Issuer::new(|role, _| Nkey::generate(role)));
    let auth = LocalAuth::new(Arc::clone(&issuer), TokioClock::new(), "app", LIFE);
    let server = AuthServer::start(auth.clone()).await.expect("a port");
    let client = HttpAuth::new(&server.url()).expect("an address");
    let ask = || {
        client.exchange(ExchangeRequest {
            api_key: ApiKey::new("alice"),
        })
    };
    let issued = ask().await.expect("it is issued");
    let claims = issued.credentials().claims().expect("it can be read");
    assert_eq!(claims.subject, *issuer.key(Role::User, "alice").public());
    assert_eq!(&*issued.account().name, "app");
    for error in [
        ExchangeError::Unauthorized("401 Unauthorized".into()),
        ExchangeError::Status(503),
        ExchangeError::Status(403),
        ExchangeError::Status(302),
    ] {
        auth.answer(Some(error.clone()));
        assert_eq!(ask().await, Err(error));
    }
    auth.answer(Some(ExchangeError::Malformed("<html>".into())));
    let page = ask().await;
    assert!(matches!(page, Err(ExchangeError::Malformed(_))), "{page:?}");
    auth.answer(Some(ExchangeError::Unreachable("".into())));
    let cut = ask().await;
    assert!(matches!(cut, Err(ExchangeError::Unreachable(_))), "{cut:?}");
    auth.answer(Some(ExchangeError::TimedOut));
    let silent = timeout(Duration::from_millis(300), ask()).await;
    assert!(silent.is_err(), "{silent:?}");
    drop(server);
    let gone = ask().await;
    assert!(
        matches!(gone, Err(ExchangeError::Unreachable(_))),
        "{gone:?}"
    );
}

/// A failing service is asked again while what it issued lasts; one that does not know the key is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lives_on_an_auth_service_over_http() {
    let town = Town::new().await;
    let server = AuthServer::start(town.auth.clone()).await.expect("a port");
    let config = Config {
        connect: town.options(),
        refresh_margin: MARGIN,
        refresh_retry: Duration::from_millis(500),
        exchange_timeout: Duration::from_millis(500),
        ..Config::default()
    };
    let auth = HttpAuth::new(&server.url()).expect("an address");
    let session = Session::open(&NatsEnv::new(1), auth, config, |_| {}).expect("it can be");
    let account = session.login(ApiKey::new("alice")).await;
    assert_eq!(&*account.expect("it is let in").name, "app");
    let near = session.connection().expect("it is logged in");
    let until = async |wanted: &dyn Fn(&Status) -> bool| {
        while !wanted(&session.status()) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let failed = |error: ExchangeError| move |at: &Status| at.refresh_error == Some(error.clone());
    for error in [ExchangeError::Status(503), ExchangeError::TimedOut] {
        town.auth.answer(Some(error.clone()));
        session.force_refresh();
        soon("the failure shows", until(&failed(error))).await;
        assert_eq!(near.state(), ConnectionState::Connected);
    }
    town.auth.answer(None);
    let is_refreshed = |at: &Status| at.generation.0 == 2;
    soon("it is refreshed", until(&is_refreshed)).await;
    let refused = ExchangeError::Unauthorized("401 Unauthorized".into());
    town.auth.answer(Some(refused.clone()));
    session.force_refresh();
    soon("it is refused", until(&failed(refused))).await;
    assert_eq!(near.state(), ConnectionState::Connected, "until its end");
    let over = async {
        while near.state() != ConnectionState::Closed {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let ended = timeout(LIFE + Duration::from_secs(5), over).await;
    ended.expect("what was issued last has ended, and nothing else will come");
    session.stop().await;
}
