//! Three real servers as one cluster: what is kept of the probes behind `docs/nats-cluster-facts.md`.

use std::time::{Duration, Instant};

use squall_core::nats::{NatsBucket, NatsConnection, NatsEnv};
use squall_core::transport::{
    BucketConfig, BucketError, ConnectOptions, ConnectionEvent, DisconnectCause, Message,
    ReadError, Revision, WatchStart, WriteError,
};
use squall_core::{Bucket as _, Connection as _, Env as _, Transport as _};
use squall_scenarios::real::{ClusterOptions, NatsCluster, SIZE};
use tokio::time::sleep;

use crate::world::{World, heard, soon, told_until};

const LOOK: Duration = Duration::from_millis(20);
/// Followers answer reads of a new bucket once they have been asked, every two seconds, whether they are up to date.
const FOLLOWERS_READ: Duration = Duration::from_millis(2500);
/// "no suitable peers for placement".
const NO_PEERS: u64 = 10005;

async fn start() -> NatsCluster {
    let cluster = NatsCluster::start(ClusterOptions::default()).await;
    cluster.expect("a cluster starts")
}

/// A client that knows these servers, in this order.
async fn connect(cluster: &NatsCluster, servers: &[usize]) -> NatsConnection {
    let options = ConnectOptions {
        servers: servers.iter().map(|server| cluster.url(*server)).collect(),
        ..World::options()
    };
    let connection = NatsEnv::new(1).transport().connect(options).await;
    connection.expect("the server accepts")
}

fn replicated(replicas: u8) -> BucketConfig {
    BucketConfig {
        replicas,
        ..BucketConfig::new("b")
    }
}

/// Creates it as soon as the leader of the cluster knows that the others are there, which it may learn late.
async fn create(connection: &NatsConnection, config: &BucketConfig) -> NatsBucket {
    soon("there are peers", async {
        loop {
            match connection.create_bucket(config).await {
                Ok(bucket) => return bucket,
                Err(BucketError::Rejected(error)) if error.err_code == NO_PEERS => {
                    sleep(LOOK).await;
                }
                Err(error) => panic!("it is created: {error}"),
            }
        }
    })
    .await
}

fn bucket(connection: &NatsConnection) -> NatsBucket {
    connection.bucket("b").expect("the name is valid")
}

/// Asks the API; nothing where nobody answers.
async fn api(connection: &NatsConnection, name: &str) -> serde_json::Value {
    let ask = Message::new(format!("$JS.API.{name}"), "");
    let answer = connection.request(ask).await;
    answer.map_or(serde_json::Value::Null, |answer| {
        serde_json::from_slice(&answer.payload).unwrap_or_default()
    })
}

/// The server that leads the bucket, as this connection is told.
async fn leader(connection: &NatsConnection) -> Option<usize> {
    let info = api(connection, "STREAM.INFO.KV_b").await;
    NatsCluster::number(info["cluster"]["leader"].as_str()?)
}

/// A bucket with a first value, all of whose servers are up to date, and the server that leads it.
async fn lead(cluster: &NatsCluster, replicas: u8) -> usize {
    let near = connect(cluster, &[0]).await;
    let created = create(&near, &replicated(replicas)).await;
    // Created, but this server may hear only later that somebody listens: until then writes are refused.
    write(&created, "first").await;
    sleep(FOLLOWERS_READ).await;
    soon("somebody leads", async {
        loop {
            if let Some(leader) = leader(&near).await {
                return leader;
            }
        }
    })
    .await
}

fn others(server: usize) -> [usize; 2] {
    [(server + 1) % SIZE, (server + 2) % SIZE]
}

/// Writes until it is acknowledged; gives the errors before, each once, and the time until then.
async fn write(bucket: &NatsBucket, value: &'static str) -> (Vec<WriteError>, Duration, Revision) {
    let begun = Instant::now();
    let mut errors = Vec::new();
    let revision = soon("a write is acknowledged", async {
        loop {
            match bucket.put("k", value.into()).await {
                Ok(revision) => return revision,
                Err(error) => errors.push(error),
            }
            sleep(LOOK).await;
        }
    })
    .await;
    errors.dedup();
    (errors, begun.elapsed(), revision)
}

async fn value(bucket: &NatsBucket) -> Result<String, ReadError> {
    let entry = bucket.entry("k").await?;
    Ok(entry.map_or_else(String::new, |entry| {
        String::from_utf8_lossy(&entry.value).into_owned()
    }))
}

/// Nobody listens for writes until the next leader does, so they are refused as if there were no bucket; reads go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_followed_by_another_in_seconds() {
    let mut cluster = start().await;
    let first = lead(&cluster, 3).await;
    let near = connect(&cluster, &[others(first)[0]]).await;
    let near_bucket = bucket(&near);
    cluster.kill(first).await.expect("it dies");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(value(&near_bucket).await.as_deref(), Ok("first"));
    let (errors, took, _) = write(&near_bucket, "second").await;
    assert!(errors.contains(&WriteError::NoBucket), "{errors:?}");
    let spread = Duration::from_secs(2)..Duration::from_secs(15);
    assert!(spread.contains(&took), "{took:?}");
    cluster.restart(first).await.expect("it starts");
    let back = bucket(&connect(&cluster, &[first]).await);
    soon("it catches up", async {
        while value(&back).await.as_deref() != Ok("second") {
            sleep(LOOK).await;
        }
    })
    .await;
}

/// As at a rolling restart: it picks a successor, who begins at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_steps_down_is_followed_at_once() {
    let cluster = start().await;
    let first = lead(&cluster, 3).await;
    let near = connect(&cluster, &[others(first)[0]]).await;
    let answer = api(&near, "STREAM.LEADER.STEPDOWN.KV_b").await;
    assert_eq!(answer["success"], true, "{answer}");
    let (_, took, revision) = write(&bucket(&near), "second").await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(revision >= Revision(2));
    let next = soon("somebody leads", async {
        loop {
            if let Some(leader) = leader(&near).await {
                return leader;
            }
        }
    })
    .await;
    assert_ne!(next, first);
}

/// Its writes are not acknowledged, and are stored once a majority is back: ghosts. Reads are answered all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_followers_keeps_what_it_was_told() {
    let mut cluster = start().await;
    let alone = lead(&cluster, 3).await;
    let near = bucket(&connect(&cluster, &[alone]).await);
    for other in others(alone) {
        cluster.kill(other).await.expect("it dies");
    }
    let written = near.put("k", "ghost".into()).await;
    assert_eq!(written, Err(WriteError::TimedOut));
    assert_eq!(value(&near).await.as_deref(), Ok("first"));
    let back = others(alone)[0];
    cluster.restart(back).await.expect("it starts");
    soon("the ghost is there", async {
        while value(&near).await.as_deref() != Ok("ghost") {
            sleep(LOOK).await;
        }
    })
    .await;
}

/// What it was told alone is lost: the others went on without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_leader_acknowledges_nothing_and_forgets_it() {
    let cluster = start().await;
    let first = lead(&cluster, 3).await;
    let behind = bucket(&connect(&cluster, &[first]).await);
    let ahead = bucket(&connect(&cluster, &[others(first)[0]]).await);
    cluster.isolate(first);
    let written = behind.put("k", "lost".into()).await;
    assert_eq!(written, Err(WriteError::TimedOut));
    let (errors, took, _) = write(&ahead, "second").await;
    // Interest in its subjects is still known over the silent routes, so that nobody is told "no responders".
    assert_eq!(errors, [WriteError::TimedOut]);
    assert!(took > Duration::from_secs(2), "{took:?}");
    // A read may be given to a server that cannot be reached; one that answers here is behind.
    soon("the old value is read", async {
        while value(&behind).await.as_deref() != Ok("first") {
            sleep(LOOK).await;
        }
    })
    .await;
    cluster.rejoin(first);
    soon("it follows", async {
        while value(&behind).await.as_deref() != Ok("second") {
            sleep(LOOK).await;
        }
    })
    .await;
    let (_, _, revision) = write(&ahead, "third").await;
    assert_eq!(revision, Revision(3));
}

/// A bucket with one copy is silent or refused while its server is down, and there again with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_copy_is_gone_while_its_server_is() {
    let mut cluster = start().await;
    let holder = lead(&cluster, 1).await;
    let near = connect(&cluster, &[others(holder)[0]]).await;
    cluster.kill(holder).await.expect("it dies");
    // The leader of the cluster may have been on that server too.
    soon("there is a leader of the cluster", async {
        while api(&near, "INFO").await["error"] != serde_json::Value::Null
            || api(&near, "INFO").await.is_null()
        {
            sleep(LOOK).await;
        }
    })
    .await;
    let near_bucket = bucket(&near);
    let written = near_bucket.put("k", "second".into()).await;
    assert_eq!(written, Err(WriteError::NoBucket));
    assert_eq!(value(&near_bucket).await, Err(ReadError::NoBucket));
    assert_eq!(near_bucket.info().await, Err(ReadError::TimedOut));
    let again = near.create_bucket(&replicated(1)).await.err();
    assert_eq!(again, Some(BucketError::TimedOut));
    cluster.restart(holder).await.expect("it starts");
    let (_, _, revision) = write(&near_bucket, "third").await;
    assert_eq!(revision, Revision(2));
}

/// A follower that has not heard answers reads from what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_behind_is_read_from() {
    let cluster = start().await;
    let first = lead(&cluster, 3).await;
    let [follower, _] = others(first);
    let behind = bucket(&connect(&cluster, &[follower]).await);
    let ahead = bucket(&connect(&cluster, &[first]).await);
    cluster.partition(first, follower);
    // The other follower makes the majority.
    assert_eq!(ahead.put("k", "second".into()).await, Ok(Revision(2)));
    soon("a stale value is read", async {
        while value(&behind).await.as_deref() != Ok("first") {}
    })
    .await;
    cluster.heal(first, follower);
    let reads = async {
        let mut fresh = 0;
        while fresh < 20 {
            let is_fresh = value(&behind).await.as_deref() == Ok("second");
            fresh = if is_fresh { fresh + 1 } else { 0 };
        }
    };
    soon("no stale value is read any more", reads).await;
}

/// Its subscription goes with the client, and what is written afterwards is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_moves_to_another_server_with_what_it_hears() {
    let mut cluster = start().await;
    let first = lead(&cluster, 3).await;
    let [here, there] = others(first);
    let moving = connect(&cluster, &[here, there]).await;
    let mut events = moving.events();
    let mut heard_here = moving.subscribe("news", None).await.expect("it subscribes");
    let mut watch = bucket(&moving)
        .watch("k", WatchStart::Snapshot)
        .await
        .expect("it watches");
    told_until(&mut watch, "end").await;
    cluster.kill(here).await.expect("it dies");
    heard(&mut events, "it has moved", |event| {
        *event == ConnectionEvent::Reconnected
    })
    .await;
    let near = connect(&cluster, &[first]).await;
    let revision = write(&bucket(&near), "second").await.2;
    told_until(&mut watch, &format!("k=second@{revision}")).await;
    moving.flush().await.expect("it comes back");
    let published = async {
        loop {
            let news = Message::new("news", "moved");
            near.publish(news).await.expect("it is published");
            tokio::select! {
                biased;
                news = heard_here.next() => return news,
                () = sleep(LOOK) => {}
            }
        }
    };
    let news = soon("news come over the route", published).await;
    assert_eq!(news.map(|news| news.payload), Some("moved".into()));
}

/// Consumers of watches have one copy, on any server: the watch heals where that one is lost with the leader or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_outlive_any_one_server() {
    let mut cluster = start().await;
    let first = lead(&cluster, 3).await;
    let near = connect(&cluster, &[others(first)[0]]).await;
    let near_bucket = bucket(&near);
    let mut watches = Vec::new();
    for _ in 0..6 {
        let watch = near_bucket.watch("k", WatchStart::Now).await;
        watches.push(watch.expect("it watches"));
    }
    cluster.kill(first).await.expect("it dies");
    let (_, _, revision) = write(&near_bucket, "second").await;
    for watch in &mut watches {
        told_until(watch, &format!("k=second@{revision}")).await;
    }
}

/// However many copies there are, one marker tells the expiry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expiry_is_told_once() {
    let cluster = start().await;
    let near = connect(&cluster, &[0]).await;
    let config = BucketConfig {
        max_age: Duration::from_secs(1),
        delete_markers: Some(Duration::from_secs(1)),
        ..replicated(3)
    };
    let near_bucket = create(&near, &config).await;
    let watch = near_bucket.watch(">", WatchStart::Snapshot).await;
    let mut watch = watch.expect("it watches");
    write(&near_bucket, "v").await;
    let told = told_until(&mut watch, "k:expire@2").await;
    assert_eq!(told, ["end", "k=v@1", "k:expire@2"]);
    sleep(Duration::from_secs(3)).await;
    let info = near_bucket.info().await.expect("it answers");
    assert_eq!((info.records, info.last_revision), (0, Revision(2)));
}

/// Killed all at once, they come back with all that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_the_death_of_all() {
    let mut cluster = start().await;
    lead(&cluster, 3).await;
    let near = connect(&cluster, &[0]).await;
    let mut events = near.events();
    let near_bucket = bucket(&near);
    let mut last = Revision::NONE;
    for _ in 0..100 {
        last = near_bucket
            .put("k", "last".into())
            .await
            .expect("it is written");
    }
    for server in 0..SIZE {
        cluster.kill(server).await.expect("it dies");
    }
    let lost = ConnectionEvent::Disconnected(DisconnectCause::Lost);
    heard(&mut events, "it is alone", |event| *event == lost).await;
    for server in 0..SIZE {
        cluster.restart(server).await.expect("it starts");
    }
    let (_, _, revision) = write(&near_bucket, "more").await;
    assert!(revision > last, "{revision} after {last}");
    assert_eq!(value(&near_bucket).await.as_deref(), Ok("more"));
}
