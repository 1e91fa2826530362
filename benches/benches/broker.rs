//! The simulated broker alone: no client, no link, no history, only what goes in and comes out.
//!
//! `cargo bench -p squall-benches --bench broker`. Criterion's `elem/s` are puts and publishes per second of one core.

#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use squall_core::transport::{BucketConfig, Message, ReadStart, StreamConfig};
use squall_core::{Instant, Rng, UnixTime};
use squall_sim::broker::{Broker, Effect, Now, ServerConfig};
use squall_sim::wire::{ClientOp, ConsumerWish, Form, LinkId, Request, RequestId, Sid, Write};

const KEYS: usize = 1000;
const SUBSCRIPTIONS: u64 = 100_000;
/// Messages that a stream holds; it drops its oldest from then on.
const HELD: i64 = 10_000;
/// Time from one request to the next.
const STEP: Duration = Duration::from_micros(1);

/// A broker with one connection, and what it did last.
struct Server {
    broker: Broker,
    now: Now,
    effects: Vec<Effect>,
}

impl Server {
    const LINK: LinkId = LinkId(1);

    fn new() -> Self {
        Self::with(ServerConfig::new("n1"))
    }

    /// Deliveries come in the very call that stores what is delivered.
    fn prompt() -> Self {
        let mut config = ServerConfig::new("n1");
        config.delivery_delay_max = Duration::ZERO;
        Self::with(config)
    }

    fn with(config: ServerConfig) -> Self {
        let mut server = Self {
            broker: Broker::new(config, Rng::new(1)),
            now: Now {
                monotonic: Instant::ZERO + Duration::from_secs(1000),
                wall: UnixTime::from_nanos(1_700_000_000_000_000_000),
            },
            effects: Vec::new(),
        };
        server
            .broker
            .open(server.now, Self::LINK, &mut server.effects);
        server
    }

    fn receive(&mut self, op: ClientOp) -> usize {
        self.now.monotonic += STEP;
        self.now.wall = self.now.wall + STEP;
        self.effects.clear();
        self.broker
            .receive(self.now, Self::LINK, op, &mut self.effects);
        self.effects.len()
    }
}

/// Subscribes, and makes an ordered consumer for that.
fn read(server: &mut Server, stream: &str, filter: &str, form: Form) {
    let deliver = Sid(1);
    server.receive(ClientOp::Subscribe {
        sid: deliver,
        subject: "_INBOX.1".into(),
        queue: None,
    });
    let wish = ConsumerWish {
        filters: vec![filter.into()],
        start: ReadStart::New,
        heartbeat: Duration::from_secs(5),
        inactive: Duration::from_secs(30),
        deliver,
        form,
    };
    let id = RequestId(1);
    let stream = stream.into();
    let request = Request::CreateConsumer {
        stream,
        wish: Box::new(wish),
    };
    server.receive(ClientOp::Request { id, request });
}

/// Puts of 100 bytes, the keys in turn, each answered; nobody watches, or one does.
fn puts(criterion: &mut Criterion) {
    for (name, is_watched) in [("put/1000-keys", false), ("put/1000-keys-watched", true)] {
        let mut server = Server::prompt();
        let id = RequestId(1);
        let request = Request::CreateStream(BucketConfig::new("bench").stream().into());
        server.receive(ClientOp::Request { id, request });
        if is_watched {
            read(&mut server, "KV_bench", "$KV.bench.>", Form::Entry);
        }
        put(criterion, name, server);
    }
}

fn put(criterion: &mut Criterion, name: &str, mut server: Server) {
    let id = RequestId(1);
    let bucket: Arc<str> = "bench".into();
    let keys: Vec<Arc<str>> = (0..KEYS).map(|n| format!("key.{n}").into()).collect();
    let value = Bytes::from(vec![7; 100]);
    let mut keys = keys.iter().cycle();
    let mut group = criterion.benchmark_group("broker");
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let request = Request::Write {
                bucket: bucket.clone(),
                key: keys.next().expect("it goes round").clone(),
                write: Write::Put(value.clone()),
                expected: None,
            };
            black_box(server.receive(ClientOp::Request { id, request }))
        });
    });
    group.finish();
}

/// Messages of 100 bytes into a stream, each acknowledged, and delivered to one ordered consumer.
fn stores(criterion: &mut Criterion) {
    let mut server = Server::prompt();
    let id = RequestId(1);
    let config = StreamConfig {
        subjects: vec!["chat.>".to_owned()],
        max_messages: HELD,
        ..StreamConfig::new("CHAT")
    };
    let request = Request::CreateStream(config.into());
    server.receive(ClientOp::Request { id, request });
    read(&mut server, "CHAT", "chat.>", Form::Message);
    let message = Message::new("chat.room.general", vec![7; 100]);
    let mut group = criterion.benchmark_group("broker");
    group.throughput(Throughput::Elements(1));
    group.bench_function("store/1-ordered-consumer", |bencher| {
        bencher.iter(|| {
            let request = Request::Store(message.clone());
            let done = server.receive(ClientOp::Request { id, request });
            assert!(done >= 3, "stored, delivered and acknowledged");
        });
    });
    group.finish();
}

/// Publishes that one of many subscriptions hears, half of which have a wildcard.
fn publishes(criterion: &mut Criterion) {
    let mut server = Server::new();
    for number in 0..SUBSCRIPTIONS {
        let subject = match number % 2 {
            0 => format!("site.{}.agent.{number}", number % 100),
            _ => format!("site.*.agent.{number}.>"),
        };
        server.receive(ClientOp::Subscribe {
            sid: Sid(number + 1),
            subject: subject.into(),
            queue: None,
        });
    }
    let messages: Vec<Message> = (0..1000)
        .map(|n| n * 98)
        .map(|number| {
            Message::new(
                format!("site.{}.agent.{number}", number % 100),
                vec![7; 100],
            )
        })
        .collect();
    let mut messages = messages.iter().cycle();
    let mut group = criterion.benchmark_group("broker");
    group.throughput(Throughput::Elements(1));
    group.bench_function("publish/100000-subscriptions", |bencher| {
        bencher.iter(|| {
            let message = messages.next().expect("it goes round").clone();
            let heard = server.receive(ClientOp::Publish { message });
            assert_eq!(heard, 1, "one subscription matches");
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = puts, stores, publishes
}
criterion_main!(benches);
