//! What the adapter and the rooms cost on a real nats-server, beside plain async-nats: the same requests, acknowledged one
//! by one.
//!
//! `cargo bench -p squall-benches --bench core_on_nats`. The server runs on this machine and shares its cores. An
//! element is one write with its acknowledgement; so many are on their way at once as the last number says.

#![allow(missing_docs, reason = "criterion's macros make functions without")]
#![allow(
    clippy::disallowed_methods,
    reason = "a real server in real time: nothing here is decided by a seed"
)]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use squall_core::chat::{self, Chat, Envelope, Thread};
use squall_core::nats::{NatsBucket, NatsConnection, NatsEnv};
use squall_core::state::lock::Locks;
use squall_core::state::{StateStore, Ttl, WATCH_BUFFER_DEFAULT};
use squall_core::transport::{
    Bucket as _, BucketConfig, ConnectOptions, JetStream as _, Message, Storage, StoreOptions,
    StreamConfig,
};
use squall_core::{Connection as _, Env as _, Transport as _};
use squall_scenarios::real::{NatsServer, ServerOptions};
use tokio::runtime::Runtime;

const AT_ONCE: [u64; 3] = [1, 16, 256];
const BODY: Bytes = Bytes::from_static(&[b'x'; 100]);
/// A body of 64 bytes, and for how long the server keeps what is said.
const WORDS: &str = "sixty-four bytes are what somebody says, and somebody else heard";
const RETENTION: Duration = Duration::from_secs(2);
const SUBJECT: &str = "s.a";
const KEY: &str = "key";
/// Locks, and keys, that are taken in turn: more than are ever held at once.
const LOCKS: u64 = 1024;
const TTL: Duration = Duration::from_secs(30);

/// A server with a stream and a bucket, and a client of either kind.
struct World {
    ours: NatsConnection,
    our_bucket: NatsBucket,
    locks: Locks<NatsEnv, NatsBucket>,
    store: StateStore,
    chat: Chat,
    thread: Thread,
    plain: jetstream::Context,
    plain_bucket: jetstream::kv::Store,
    _server: NatsServer,
}

impl World {
    async fn new() -> Self {
        let server = NatsServer::start(ServerOptions::default()).await;
        let server = server.expect("a server starts");
        let options = ConnectOptions {
            servers: vec![server.url()],
            ..ConnectOptions::default()
        };
        let env = NatsEnv::new(1);
        let ours = env.transport().connect(options).await;
        let ours = ours.expect("the server accepts");
        let bucket = BucketConfig {
            storage: Storage::Memory,
            ..BucketConfig::new("b")
        };
        let our_bucket = ours.create_bucket(&bucket).await;
        let our_bucket = our_bucket.expect("the bucket is created");
        let listened = ours.clone();
        let locks = Locks::new(&env, our_bucket.clone(), move || listened.events());
        let store = StateStore::over(&env, our_bucket.clone(), WATCH_BUFFER_DEFAULT).await;
        let stream = StreamConfig {
            subjects: vec!["s.>".to_owned()],
            storage: Storage::Memory,
            max_messages: 1000,
            ..StreamConfig::new("s")
        };
        let stream = ours.create_stream(&stream).await;
        stream.expect("the stream is created");
        let config = chat::Config {
            storage: Storage::Memory,
            ..chat::Config::new("bench", "alice", RETENTION)
        };
        let chat = Chat::open(&env, &ours, config).await.expect("it opens");
        let thread = chat.thread("general").await.expect("it is free");
        let client = async_nats::connect(server.url()).await;
        let plain = jetstream::new(client.expect("the server accepts"));
        let plain_bucket = plain.get_key_value("b").await;
        Self {
            our_bucket,
            locks,
            store: store.expect("it opens"),
            chat,
            thread,
            ours,
            plain,
            plain_bucket: plain_bucket.expect("the bucket is there"),
            _server: server,
        }
    }
}

/// The time of `writes` writes, of which `at_once` are on their way.
fn timed<F, W>(runtime: &Runtime, at_once: u64, writes: u64, write: F) -> Duration
where
    F: Fn() -> W + Clone + Send + 'static,
    W: Future<Output = ()> + Send,
{
    let left = Arc::new(AtomicU64::new(writes));
    let take = |left: &AtomicU64| {
        let taken = |left: u64| left.checked_sub(1);
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_ok()
    };
    runtime.block_on(async {
        let began = Instant::now();
        let writers: Vec<_> = (0..at_once)
            .map(|_| {
                let (left, write) = (Arc::clone(&left), write.clone());
                tokio::spawn(async move {
                    while take(&left) {
                        write().await;
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.expect("all are written");
        }
        began.elapsed()
    })
}

fn core_on_nats(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let world = Arc::new(runtime.block_on(World::new()));
    let mut group = criterion.benchmark_group("kv_put");
    group.throughput(Throughput::Elements(1));
    for at_once in AT_ONCE {
        group.bench_function(BenchmarkId::new("async-nats", at_once), |bencher| {
            let bucket = world.plain_bucket.clone();
            let write = move || {
                let bucket = bucket.clone();
                async move {
                    bucket.put(KEY, BODY).await.expect("it is written");
                }
            };
            bencher.iter_custom(|writes| timed(&runtime, at_once, writes, write.clone()));
        });
        group.bench_function(BenchmarkId::new("squall", at_once), |bencher| {
            let bucket = world.our_bucket.clone();
            let write = move || {
                let bucket = bucket.clone();
                async move {
                    bucket.put(KEY, BODY).await.expect("it is written");
                }
            };
            bencher.iter_custom(|writes| timed(&runtime, at_once, writes, write.clone()));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("stream_store");
    group.throughput(Throughput::Elements(1));
    for at_once in AT_ONCE {
        group.bench_function(BenchmarkId::new("async-nats", at_once), |bencher| {
            let context = world.plain.clone();
            let write = move || {
                let context = context.clone();
                async move {
                    let sent = context.publish(SUBJECT, BODY).await;
                    sent.expect("it is sent").await.expect("it is stored");
                }
            };
            bencher.iter_custom(|writes| timed(&runtime, at_once, writes, write.clone()));
        });
        group.bench_function(BenchmarkId::new("squall", at_once), |bencher| {
            let connection = world.ours.clone();
            let write = move || {
                let connection = connection.clone();
                async move {
                    let message = Message::new(SUBJECT, BODY);
                    let stored = connection.store(message, StoreOptions::default()).await;
                    stored.expect("it is stored");
                }
            };
            bencher.iter_custom(|writes| timed(&runtime, at_once, writes, write.clone()));
        });
    }
    group.finish();
    lock(criterion, &runtime, &world);
    state(criterion, &runtime, &world);
    chat_send(criterion, &runtime, &world);
}

/// One message of a chat: what its headers and its body are, async-nats is given too.
fn chat_send(criterion: &mut Criterion, runtime: &Runtime, world: &World) {
    let envelope = Envelope {
        id: format!("{:032x}-1", 1),
        from: "alice".to_owned(),
        thread: world.thread.id().clone(),
        body: WORDS.to_owned(),
        timestamp: squall_core::UnixTime::from_secs(1_700_000_000),
        reply_to: None,
    };
    let message = envelope.message("bench", "general", None);
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in message.headers.iter() {
        headers.insert(name, value);
    }
    let subject = message.subject.to_string();
    let ids = Arc::new(AtomicU64::new(1));
    let mut group = criterion.benchmark_group("chat_send");
    group.throughput(Throughput::Elements(1));
    for at_once in AT_ONCE {
        group.bench_function(BenchmarkId::new("async-nats", at_once), |bencher| {
            let context = world.plain.clone();
            let (headers, subject) = (headers.clone(), subject.clone());
            let (payload, ids) = (message.payload.clone(), Arc::clone(&ids));
            let write = move || {
                let context = context.clone();
                let (mut headers, subject) = (headers.clone(), subject.clone());
                let payload = payload.clone();
                let id = ids.fetch_add(1, Ordering::Relaxed);
                async move {
                    headers.insert("Nats-Msg-Id", format!("plain-{id:026x}-{id}"));
                    let sent = context.publish_with_headers(subject, headers, payload);
                    let ack = sent.await.expect("it is sent");
                    ack.await.expect("it is stored");
                }
            };
            bencher.iter_custom(|writes| timed(runtime, at_once, writes, write.clone()));
        });
        group.bench_function(BenchmarkId::new("squall", at_once), |bencher| {
            let (chat, thread) = (world.chat.clone(), world.thread.clone());
            let write = move || {
                let (chat, thread) = (chat.clone(), thread.clone());
                async move {
                    chat.send(&thread, WORDS).await.expect("it is stored");
                }
            };
            bencher.iter_custom(|writes| timed(runtime, at_once, writes, write.clone()));
        });
    }
    group.finish();
}

/// Puts a value, a read and a write over what was read; and gets one, a read.
fn state(criterion: &mut Criterion, runtime: &Runtime, world: &World) {
    let taken = Arc::new(AtomicU64::new(0));
    let mut group = criterion.benchmark_group("state_put");
    group.throughput(Throughput::Elements(1));
    for at_once in AT_ONCE {
        group.bench_function(BenchmarkId::new("async-nats", at_once), |bencher| {
            let (bucket, taken) = (world.plain_bucket.clone(), Arc::clone(&taken));
            let write = move || {
                let bucket = bucket.clone();
                let key = format!("p.{}", number(&taken));
                async move {
                    let found = bucket.entry(&key).await.expect("it is read");
                    let over = found.map_or(0, |entry| entry.revision);
                    bucket
                        .update(&key, BODY, over)
                        .await
                        .expect("it is written");
                }
            };
            bencher.iter_custom(|writes| timed(runtime, at_once, writes, write.clone()));
        });
        group.bench_function(BenchmarkId::new("squall", at_once), |bencher| {
            let (store, taken) = (world.store.clone(), Arc::clone(&taken));
            let write = move || {
                let store = store.clone();
                let key = format!("p.{}", number(&taken));
                async move {
                    let put = store.put(&key, BODY, Ttl::NEVER).await;
                    put.expect("it is written");
                }
            };
            bencher.iter_custom(|writes| timed(runtime, at_once, writes, write.clone()));
        });
    }
    group.finish();

    runtime.block_on(async {
        let put = world.store.put(KEY, BODY, Ttl::NEVER).await;
        put.expect("it is written");
        let put = world.plain_bucket.put(KEY, BODY).await;
        put.expect("it is written");
    });
    let mut group = criterion.benchmark_group("state_get");
    group.throughput(Throughput::Elements(1));
    for at_once in AT_ONCE {
        group.bench_function(BenchmarkId::new("async-nats", at_once), |bencher| {
            let bucket = world.plain_bucket.clone();
            let read = move || {
                let bucket = bucket.clone();
                async move {
                    let found = bucket.get(KEY).await.expect("it is read");
                    found.expect("it is there");
                }
            };
            bencher.iter_custom(|reads| timed(runtime, at_once, reads, read.clone()));
        });
        group.bench_function(BenchmarkId::new("squall", at_once), |bencher| {
            let store = world.store.clone();
            let read = move || {
                let store = store.clone();
                async move {
                    store.get(KEY).await.expect("it is there");
                }
            };
            bencher.iter_custom(|reads| timed(runtime, at_once, reads, read.clone()));
        });
    }
    group.finish();
}

/// Acquires a lock and lets it go: a read, a write and a deletion.
fn lock(criterion: &mut Criterion, runtime: &Runtime, world: &World) {
    let taken = Arc::new(AtomicU64::new(0));
    let mut group = criterion.benchmark_group("lock");
    group.throughput(Throughput::Elements(1));
    for at_once in AT_ONCE {
        group.bench_function(BenchmarkId::new("async-nats", at_once), |bencher| {
            let (bucket, taken) = (world.plain_bucket.clone(), Arc::clone(&taken));
            let cycle = move || {
                let bucket = bucket.clone();
                let key = lock_key(&taken);
                async move {
                    let found = bucket.entry(&key).await.expect("it is read");
                    let over = found.map_or(0, |entry| entry.revision);
                    let written = bucket.update(&key, RECORD, over).await;
                    let revision = written.expect("it is free");
                    let deleted = bucket.delete_expect_revision(&key, Some(revision)).await;
                    deleted.expect("it is held");
                }
            };
            bencher.iter_custom(|cycles| timed(runtime, at_once, cycles, cycle.clone()));
        });
        group.bench_function(BenchmarkId::new("squall", at_once), |bencher| {
            let (locks, taken) = (world.locks.clone(), Arc::clone(&taken));
            let cycle = move || {
                let locks = locks.clone();
                let key = lock_key(&taken);
                async move {
                    let lock = locks.acquire(&key, &key, TTL).await.expect("it is free");
                    lock.unlock().await.expect("it is held");
                }
            };
            bencher.iter_custom(|cycles| timed(runtime, at_once, cycles, cycle.clone()));
        });
    }
    group.finish();
}

/// As long as the record of a lock.
const RECORD: Bytes = Bytes::from_static(br#"{"id":"0123456789abcdef","ttl_ms":30000}"#);

/// Of a key in turn.
fn number(taken: &AtomicU64) -> u64 {
    taken.fetch_add(1, Ordering::Relaxed) % LOCKS
}

fn lock_key(taken: &AtomicU64) -> String {
    format!("l.{}", number(taken))
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = core_on_nats
}
criterion_main!(benches);
