//! The broker alone, without clients, links or clocks: what a message into a stream costs it.
//!
//! `kv_put` overwrites 1 000 keys of a bucket in turn, conditionally, which nobody watches; `kv_watched` does so with one
//! watch over all of them; `stream_read` appends to a stream that drops its oldest, with one reader in order.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use squall_core::transport::{BucketConfig, Message, ReadStart, Revision, StreamConfig, names};
use squall_core::{Instant, Rng, UnixTime};
use squall_sim::broker::{Broker, Effect, Now, ServerConfig};
use squall_sim::wire::{
    ClientOp, ConsumerWish, Form, LinkId, Request, RequestId, ServerOp, Sid, Write,
};

const LINK: LinkId = LinkId(1);
const KEYS: usize = 1000;
/// What a stream holds: it drops its oldest from then on.
const HELD: i64 = 10_000;

/// A broker on a table.
struct Table {
    broker: Broker,
    now: Now,
    effects: Vec<Effect>,
    requests: u64,
}

impl Table {
    /// Deliveries come at once, in the call that stores what is delivered.
    fn new() -> Self {
        let mut config = ServerConfig::new("n1");
        config.delivery_delay_max = Duration::ZERO;
        let mut table = Self {
            broker: Broker::new(config, Rng::new(1)),
            now: Now {
                monotonic: Instant::ZERO + Duration::from_secs(1),
                wall: UnixTime::from_nanos(1_700_000_000_000_000_000),
            },
            effects: Vec::new(),
            requests: 0,
        };
        table.broker.open(table.now, LINK, &mut table.effects);
        table
    }

    fn ask(&mut self, request: Request) {
        self.requests += 1;
        let id = RequestId(self.requests);
        let op = ClientOp::Request { id, request };
        self.now.monotonic += Duration::from_nanos(100);
        self.now.wall = self.now.wall + Duration::from_nanos(100);
        self.effects.clear();
        self.broker.receive(self.now, LINK, op, &mut self.effects);
    }

    fn read(&mut self, stream: &str, filter: &str, start: ReadStart, form: Form) {
        let subscribe = ClientOp::Subscribe {
            sid: Sid(1),
            subject: "_INBOX.1".into(),
            queue: None,
        };
        self.broker
            .receive(self.now, LINK, subscribe, &mut self.effects);
        let wish = ConsumerWish {
            filters: vec![filter.into()],
            start,
            heartbeat: Duration::from_secs(5),
            inactive: Duration::from_secs(30),
            deliver: Sid(1),
            form,
        };
        let stream = stream.into();
        self.ask(Request::CreateConsumer { stream, wish });
    }

    /// Deliveries among what the latest request did.
    fn delivered(&self) -> usize {
        let is_delivery = |effect: &&Effect| {
            matches!(
                effect,
                Effect::Send {
                    op: ServerOp::Delivery { .. },
                    ..
                }
            )
        };
        self.effects.iter().filter(is_delivery).count()
    }
}

/// Writes the next key over its latest revision.
struct Puts {
    table: Table,
    bucket: Arc<str>,
    keys: Vec<Arc<str>>,
    value: Bytes,
    made: u64,
}

impl Puts {
    fn new(is_watched: bool) -> Self {
        let mut table = Table::new();
        let config = BucketConfig::new("b").stream();
        table.ask(Request::CreateStream(Box::new(config)));
        if is_watched {
            let filter = names::key_subject("b", ">");
            table.read("KV_b", &filter, ReadStart::New, Form::Entry);
        }
        Self {
            table,
            bucket: "b".into(),
            keys: (0..KEYS)
                .map(|key| format!("agents.a{key}").into())
                .collect(),
            value: Bytes::from_static(&[7; 100]),
            made: 0,
        }
    }

    fn put(&mut self) {
        let over = (self.made + 1).saturating_sub(KEYS as u64);
        let request = Request::Write {
            bucket: Arc::clone(&self.bucket),
            key: Arc::clone(&self.keys[self.made as usize % KEYS]),
            write: Write::Put(self.value.clone()),
            expected: Some(Revision(over)),
        };
        self.made += 1;
        self.table.ask(request);
    }
}

fn kv_puts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broker");
    group.throughput(Throughput::Elements(1));
    for (name, is_watched) in [("kv_put", false), ("kv_watched", true)] {
        let mut puts = Puts::new(is_watched);
        puts.put();
        assert_eq!(puts.table.delivered(), usize::from(is_watched));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                puts.put();
                black_box(&puts.table.effects);
            });
        });
        let last = puts.table.broker.last_revision("b");
        assert_eq!(last, Some(Revision(puts.made)), "none was refused");
    }
    group.finish();
}

fn stream_publishes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broker");
    group.throughput(Throughput::Elements(1));
    let mut table = Table::new();
    let config = StreamConfig {
        subjects: vec!["chat.>".to_owned()],
        max_messages: HELD,
        ..StreamConfig::new("CHAT")
    };
    table.ask(Request::CreateStream(Box::new(config)));
    table.read("CHAT", "chat.>", ReadStart::New, Form::Message);
    let subject: Arc<str> = "chat.room.general".into();
    let body = Bytes::from_static(&[7; 100]);
    group.bench_function("stream_read", |bencher| {
        bencher.iter(|| {
            let message = Message::new(Arc::clone(&subject), body.clone());
            table.ask(Request::Store(message));
            black_box(&table.effects);
        });
    });
    assert_eq!(table.delivered(), 1, "the reader keeps up");
    group.finish();
}

criterion_group!(benches, kv_puts, stream_publishes);
criterion_main!(benches);
