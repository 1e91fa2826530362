//! Sessions in the simulated world: what runs on them does not notice that credentials rotate and connections swap.
//!
//! | what | module |
//! |---|---|
//! | credentials rotate, and nobody notices | `swaps.rs` |
//! | what fails, and heals by itself | `outages.rs` |
//! | what is taken back, or allowed no more | `taken_back.rs` |
//! | logins, logouts, and who closes what | `logins.rs` |
//! | the log of events on a disk | `logs.rs` |
//! | many sessions at once | `storms.rs` |

mod logins;
mod logs;
mod outages;
mod storms;
mod swaps;
mod taken_back;

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

/// The token of an account, with everything allowed but for `change`.
fn account(name: &str, change: impl FnOnce(&mut Account)) -> String {
    let mut granted = Account {
        limits: Some(Limits::NONE),
        ..Account::default()
    };
    change(&mut granted);
    let key = SimKey::new(Role::Account, name).public();
    let operator = SimKey::new(Role::Operator, "operator");
    mint(&Claims::account(&key, ISSUED, granted), &operator)
}

/// An operator with these accounts, and the system's.
fn realm(accounts: &[&str]) -> Realm {
    let operator = SimKey::new(Role::Operator, "operator");
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
            .map(|name| account(name, |_| {}))
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
        let log = Log::default();
        let sink = Arc::clone(&log);
        let tell = move |event: &NatsEvent| sink.lock().expect("no panic").push(event.clone());
        (self.open_telling(env, tell), log)
    }

    fn open_telling(
        &self,
        env: &SimEnv,
        tell: impl FnMut(&NatsEvent) + Send + 'static,
    ) -> Session<SimEnv> {
        let config = Config {
            connect: Self::options(),
            ..Config::default()
        };
        let session = Session::open(env, self.auth.clone(), config, tell);
        session.expect("it can be")
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
        self.outsider_of("app", name).await
    }

    async fn outsider_of(&self, account: &str, name: &str) -> (SimEnv, SimConnection) {
        let (_, env) = self.host(name);
        let user = SimKey::new(Role::User, name);
        let claims = Claims::user(&user.public(), ISSUED, User::default());
        let token = mint(&claims, &SimKey::new(Role::Account, account));
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

    /// The server hears of another token of the account `app`.
    async fn update(&self, change: impl FnOnce(&mut Account)) {
        let (_, system) = self.outsider_of("system", "desk").await;
        let key = SimKey::new(Role::Account, "app").public();
        let subject = format!("$SYS.REQ.ACCOUNT.{key}.CLAIMS.UPDATE");
        let update = Message::new(subject, account("app", change));
        system.request(update).await.expect("it is taken");
        system.close().await;
    }

    fn wall(&self) -> UnixTime {
        crate::clock::WALL_START + self.world.now().elapsed()
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
