//! Shared state on real servers: scripts beside the model, on a version that ends values itself and on one that does not,
//! and what only a real server can say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use squall_core::Env as _;
use squall_core::nats::{NatsConnection, NatsEnv};
use squall_core::state::{
    Config, MemoryBucket, StateError, StateStore, Ttl, VALUE_MAX, WATCH_BUFFER_DEFAULT,
};
use squall_core::transport::{
    Bucket as _, ConnectOptions, Connection as _, Storage, Transport as _,
};
use squall_scenarios::equivalence::{HANDLES, Played, Script, play};
use squall_scenarios::real::{NatsServer, ServerOptions};

/// Scripts, where `PROPTEST_CASES` does not say another number.
const SCRIPTS: u64 = 40;
/// Scripts of one server at a time: they mostly wait. Those that a busy machine could not keep the time of are played
/// again, with fewer beside them, and then alone.
const AT_ONCE: [usize; 4] = [40, 8, 2, 1];
/// A machine that keeps the time of a script in none of so many rounds keeps no time.
const ROUNDS_MAX: usize = 40;

async fn connect(server: &NatsServer) -> NatsConnection {
    let options = ConnectOptions {
        servers: vec![server.url()],
        ..ConnectOptions::default()
    };
    let connection = NatsEnv::new(1).transport().connect(options).await;
    connection.expect("the server accepts")
}

async fn on_kv(connection: &NatsConnection, bucket: &str) -> Vec<StateStore> {
    let config = Config {
        bucket: bucket.to_owned(),
        storage: Storage::Memory,
        ..Config::default()
    };
    let mut stores = Vec::new();
    for _ in 0..HANDLES {
        let store = StateStore::open(&NatsEnv::new(1), connection, &config).await;
        stores.push(store.expect("it opens"));
    }
    stores
}

async fn in_memory(env: &NatsEnv) -> Vec<StateStore> {
    let bucket = MemoryBucket::new(env, "agent-state");
    let mut stores = Vec::new();
    for _ in 0..HANDLES {
        let store = StateStore::over(env, bucket.clone(), WATCH_BUFFER_DEFAULT).await;
        stores.push(store.expect("it opens"));
    }
    stores
}

/// Plays one script on a server, and a few in memory too; `false` where the machine could not keep the time.
async fn agrees(connection: &NatsConnection, number: u64, round: usize, has_lives: bool) -> bool {
    let script = Script::draw(number);
    let env = NatsEnv::new(1);
    let bucket = format!("s-{number}-{round}");
    let judge = |backend: &str, played: Played| match played {
        Played::Alike(_) => true,
        Played::Late => false,
        other @ Played::Different { .. } => {
            panic!("script {number} in {backend}: {other:#?}\n{script}")
        }
    };
    let stores = on_kv(connection, &bucket).await;
    let in_kv = play(&env, &stores, &script, has_lives).await;
    let deleted = connection.delete_bucket(&bucket).await;
    deleted.expect("it was there");
    let mut in_time = judge("kv", in_kv);
    if in_time && number.is_multiple_of(8) {
        let stores = in_memory(&env).await;
        in_time = judge("memory", play(&env, &stores, &script, true).await);
    }
    in_time
}

/// Plays so many of them at a time; those that the machine could not keep the time of are left.
async fn round(
    connection: &NatsConnection,
    scripts: Vec<u64>,
    round: usize,
    has_lives: bool,
) -> Vec<u64> {
    let (next, scripts) = (Arc::new(AtomicUsize::new(0)), Arc::new(scripts));
    let at_once = AT_ONCE[round.min(AT_ONCE.len() - 1)];
    let players = (0..at_once).map(|_| {
        let (connection, next) = (connection.clone(), Arc::clone(&next));
        let scripts = Arc::clone(&scripts);
        tokio::spawn(async move {
            let mut left = Vec::new();
            while let Some(&number) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                if !agrees(&connection, number, round, has_lives).await {
                    left.push(number);
                }
            }
            left
        })
    });
    let mut left = Vec::new();
    for player in players.collect::<Vec<_>>() {
        left.extend(player.await.expect("its scripts agree"));
    }
    left
}

fn scripts_agree(version: Option<&str>, has_lives: bool, scripts: u64) {
    let version = version.map(str::to_owned);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the system gives a runtime");
    runtime.block_on(async {
        let options = ServerOptions {
            version,
            ..ServerOptions::default()
        };
        let server = NatsServer::start(options).await.expect("a server starts");
        let connection = connect(&server).await;
        let mut left: Vec<u64> = (0..scripts).collect();
        for number in 0..ROUNDS_MAX {
            left = round(&connection, left, number, has_lives).await;
        }
        assert!(left.is_empty(), "no time was kept for scripts {left:?}");
    });
}

#[test]
fn stores_on_real_servers_and_in_memory_show_what_the_model_says() {
    let wanted = std::env::var("PROPTEST_CASES");
    let scripts = wanted.ok().and_then(|number| number.parse().ok());
    let scripts = scripts.unwrap_or(SCRIPTS);
    scripts_agree(None, true, scripts - scripts / 5);
    scripts_agree(Some("2.10.26"), false, scripts / 5);
}

#[tokio::test]
async fn the_largest_value_fits_with_everything_that_is_said_of_it() {
    let server = NatsServer::start(ServerOptions::default()).await;
    let server = server.expect("a server starts");
    let connection = connect(&server).await;
    let env = NatsEnv::new(1);
    let store = StateStore::open(&env, &connection, &Config::default()).await;
    let store = store.expect("it opens");
    let largest = Bytes::from(vec![0xf5; VALUE_MAX]);
    let key = "é".repeat(512);
    let life = Ttl::from(Duration::from_secs(3600));
    for _ in 0..2 {
        let put = store.put(&key, largest.clone(), life).await;
        put.expect("it fits");
    }
    store
        .put_fenced(&key, largest.clone(), u64::MAX)
        .await
        .expect("it fits with a fence, too");
    assert_eq!(store.get(&key).await, Ok(largest));
    assert_eq!(store.keys("é*").await, Ok(vec![key]));
    let larger = vec![0; VALUE_MAX + 1];
    let refused = store.put("a", larger, Ttl::NEVER).await;
    let (size, limit) = (VALUE_MAX + 1, VALUE_MAX);
    assert_eq!(refused, Err(StateError::TooLarge { size, limit }));
}

/// A store leaves nothing behind on a server that ends values itself, but what says so for an hour.
#[tokio::test]
async fn the_server_takes_values_away_that_nobody_looks_at() {
    let server = NatsServer::start(ServerOptions::default()).await;
    let server = server.expect("a server starts");
    let connection = connect(&server).await;
    let env = NatsEnv::new(1);
    let store = StateStore::open(&env, &connection, &Config::default()).await;
    let store = store.expect("it opens");
    let life = Ttl::from_millis(700);
    store.put("a", "1", life).await.expect("it is written");
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(store.get("a").await, Err(StateError::NotFound));
    let bucket = connection.bucket("agent-state").expect("a name");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !bucket.entries(">").await.expect("it is read").is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "it is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
