//! The facts, each as a test: what real servers were measured to do, the broker does.
//!
//! [`Bench`] is a broker on a table: one server, as many clients as a test opens, and a clock moved by hand that stops
//! at every deadline on its way.

mod consumers;
mod expiry;
mod fuzz;
mod half_gone;
mod kv;
mod messaging;
mod model;
mod security;
mod server;
mod stream_reads;
mod streams;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::transport::{
    BucketConfig, KvEntry, Message, Operation, ReadStart, Revision, names,
};
use squall_core::{Instant, Rng, UnixTime};

use super::{Broker, Cause, Commit, Effect, Now, Removed, ServerConfig, Version};
use crate::wire::{
    ClientOp, ConsumerWish, Content, Form, LinkId, Request, RequestId, Response, ServerOp, Sid,
    Write,
};

pub(super) const ALICE: LinkId = LinkId(1);
pub(super) const BOB: LinkId = LinkId(2);

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A broker, its clock, and all it did that no test has looked at yet, with the time at which it did it.
pub(super) struct Bench {
    pub(super) broker: Broker,
    pub(super) now: Now,
    done: Vec<(Instant, Effect)>,
    requests: u64,
}

impl Bench {
    /// The reference version, with Alice and Bob connected; deliveries at once.
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn of_version(version: &str) -> Self {
        let version: Version = version.parse().expect("a version");
        Self::with(|config| config.version = version)
    }

    pub(super) fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig::new("n1");
        config.delivery_delay_max = Duration::ZERO;
        change(&mut config);
        let mut bench = Self {
            broker: Broker::new(config, Rng::new(7)),
            now: Now {
                monotonic: Instant::ZERO + secs(1000),
                wall: UnixTime::from_nanos(1_700_000_000_000_000_000),
            },
            done: Vec::new(),
            requests: 0,
        };
        bench.open(ALICE);
        bench.open(BOB);
        bench.done.clear();
        bench
    }

    /// Does something to the broker now.
    pub(super) fn act(&mut self, act: impl FnOnce(&mut Broker, Now, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        act(&mut self.broker, self.now, &mut effects);
        let now = self.now.monotonic;
        self.done
            .extend(effects.into_iter().map(|effect| (now, effect)));
    }

    pub(super) fn open(&mut self, link: LinkId) {
        self.act(|broker, now, effects| broker.open(now, link, effects));
    }

    pub(super) fn close(&mut self, link: LinkId) {
        self.act(|broker, now, effects| broker.closed(now, link, effects));
    }

    pub(super) fn say(&mut self, link: LinkId, op: ClientOp) {
        self.act(|broker, now, effects| broker.receive(now, link, op, effects));
    }

    /// Lets time pass. Clients answer pings unless a test says otherwise.
    pub(super) fn pass(&mut self, span: Duration) {
        self.pass_with(span, true);
    }

    pub(super) fn pass_with(&mut self, span: Duration, answer_pings: bool) {
        let end = self.now.monotonic + span;
        while let Some(due) = self.broker.deadline().filter(|due| *due <= end) {
            self.move_to(due.max(self.now.monotonic));
            let seen = self.done.len();
            self.act(|broker, now, effects| broker.on_deadline(now, effects));
            let pinged: Vec<LinkId> = self.done[seen..]
                .iter()
                .filter_map(|(_, effect)| match effect {
                    Effect::Send {
                        link,
                        op: ServerOp::Ping,
                    } if answer_pings => Some(*link),
                    _ => None,
                })
                .collect();
            for link in pinged {
                self.say(link, ClientOp::Pong);
            }
        }
        self.move_to(end);
    }

    /// Time passes and nobody calls the broker: the process is frozen, or not there.
    pub(super) fn sleep(&mut self, span: Duration) {
        self.move_to(self.now.monotonic + span);
    }

    fn move_to(&mut self, at: Instant) {
        self.now.wall = self.now.wall + at.since(self.now.monotonic);
        self.now.monotonic = at;
    }

    pub(super) fn stop(&mut self) {
        self.act(|broker, _, effects| broker.stop(effects));
    }

    /// Starts the server again, with Alice connected anew.
    pub(super) fn start(&mut self) {
        self.act(|broker, now, effects| broker.start(now, effects));
        self.open(ALICE);
    }

    /// What happened since the last look.
    pub(super) fn look(&mut self) -> Vec<(Instant, Effect)> {
        std::mem::take(&mut self.done)
    }

    /// What one client was sent since the last look at anything.
    pub(super) fn heard(&mut self, by: LinkId) -> Vec<ServerOp> {
        let sent = |(_, effect)| match effect {
            Effect::Send { link, op } if link == by => Some(op),
            _ => None,
        };
        self.look().into_iter().filter_map(sent).collect()
    }

    pub(super) fn commits(&mut self) -> Vec<Commit> {
        let commit = |(_, effect)| match effect {
            Effect::Commit(commit) => Some(commit),
            _ => None,
        };
        self.look().into_iter().filter_map(commit).collect()
    }

    pub(super) fn removals(&mut self) -> Vec<(u64, Cause)> {
        let removal = |(_, effect)| match effect {
            Effect::Removed(Removed {
                revision, cause, ..
            }) => Some((revision.0, cause)),
            _ => None,
        };
        self.look().into_iter().filter_map(removal).collect()
    }

    /// Sends a request; the answer stays among what happened.
    pub(super) fn ask(&mut self, link: LinkId, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.say(link, ClientOp::Request { id, request });
        id
    }

    /// Alice's request and its answer at once, if there is one.
    pub(super) fn try_call(&mut self, request: Request) -> Option<Response> {
        let asked = self.ask(ALICE, request);
        self.done.iter().rev().find_map(|(_, effect)| match effect {
            Effect::Send {
                op: ServerOp::Response { id, response },
                ..
            } if *id == asked => Some(response.clone()),
            _ => None,
        })
    }

    pub(super) fn call(&mut self, request: Request) -> Response {
        self.try_call(request).expect("an answer at once")
    }

    pub(super) fn create(&mut self, config: BucketConfig) -> Response {
        self.call(Request::CreateStream(Box::new(config.stream())))
    }

    pub(super) fn update_bucket(&mut self, config: BucketConfig) -> Response {
        self.call(Request::UpdateStream(Box::new(config.stream())))
    }

    /// A bucket `b` with default settings, changed.
    pub(super) fn bucket(&mut self, change: impl FnOnce(&mut BucketConfig)) -> BucketConfig {
        let mut config = BucketConfig::new("b");
        change(&mut config);
        let created = self.create(config.clone());
        assert!(matches!(created, Response::Stream(_)), "{created:?}");
        config
    }

    pub(super) fn write(&mut self, key: &str, write: Write, expected: Option<u64>) -> Response {
        self.call(Request::Write {
            bucket: "b".into(),
            key: key.into(),
            write,
            expected: expected.map(Revision),
        })
    }

    pub(super) fn put(&mut self, key: &str, value: &str) -> u64 {
        stored(&self.write(key, put(value), None))
    }

    pub(super) fn update(&mut self, key: &str, value: &str, expected: u64) -> Response {
        self.write(key, put(value), Some(expected))
    }

    pub(super) fn get(&mut self, key: &str) -> Option<KvEntry> {
        match self.call(Request::Entry {
            bucket: "b".into(),
            key: key.into(),
        }) {
            Response::Entry(entry) => entry,
            other => panic!("no direct get: {other:?}"),
        }
    }

    /// True while the key has a record that is a value.
    pub(super) fn has_value(&mut self, key: &str) -> bool {
        self.get(key).is_some_and(|entry| entry.operation.is_put())
    }

    /// Time from now until the key no longer has a value, looking every millisecond.
    pub(super) fn until_gone(&mut self, key: &str) -> Duration {
        let from = self.now.monotonic;
        while self.has_value(key) {
            self.pass(millis(1));
            assert!(self.now.monotonic.since(from) < secs(100), "{key} stays");
        }
        self.now.monotonic.since(from)
    }

    /// Revisions and operations of all records of the bucket.
    pub(super) fn records(&self) -> Vec<(u64, Operation)> {
        self.broker
            .records("b")
            .map(|entry| (entry.revision.0, entry.operation))
            .collect()
    }

    pub(super) fn subscribe(&mut self, link: LinkId, sid: u64, subject: &str) {
        self.say(link, subscription(sid, subject, None));
    }

    pub(super) fn publish(&mut self, link: LinkId, message: Message) {
        self.say(link, ClientOp::Publish { message });
    }

    /// Subscribes Bob and makes a consumer on `b` for that; gives what it says is pending.
    pub(super) fn consume(&mut self, sid: u64, filter: &str, start: ReadStart) -> Response {
        self.subscribe(BOB, sid, &format!("_INBOX.bob.{sid}"));
        let asked = self.ask(BOB, consumer("b", sid, filter, start));
        let place = self.done.iter().position(|(_, effect)| {
            matches!(effect, Effect::Send { op: ServerOp::Response { id, .. }, .. } if *id == asked)
        });
        match self.done.remove(place.expect("an answer at once")).1 {
            Effect::Send {
                op: ServerOp::Response { response, .. },
                ..
            } => response,
            other => panic!("not a response: {other}"),
        }
    }

    /// What consumers delivered to Bob since the last look: `(revision, consumer_seq, pending)`.
    pub(super) fn delivered(&mut self) -> Vec<(u64, u64, u64)> {
        let delivery = |op| match op {
            ServerOp::Delivery {
                consumer_seq,
                pending,
                content: Content::Entry(entry),
                ..
            } => Some((entry.revision.0, consumer_seq, pending)),
            _ => None,
        };
        self.heard(BOB).into_iter().filter_map(delivery).collect()
    }

    pub(super) fn delivered_revisions(&mut self) -> Vec<u64> {
        self.delivered()
            .into_iter()
            .map(|(revision, ..)| revision)
            .collect()
    }
}

pub(super) fn consumer(bucket: &str, sid: u64, filter: &str, start: ReadStart) -> Request {
    Request::CreateConsumer {
        stream: names::bucket_stream(bucket).into(),
        wish: Box::new(ConsumerWish {
            filters: vec![names::key_subject(bucket, filter).into()],
            start,
            heartbeat: secs(5),
            inactive: secs(30),
            deliver: Sid(sid),
            form: Form::Entry,
        }),
    }
}

/// Asks for a bucket with default settings.
pub(super) fn creation_of(bucket: &str) -> Request {
    Request::CreateStream(Box::new(BucketConfig::new(bucket).stream()))
}

/// Asks for the description of the stream behind a bucket.
pub(super) fn info_of(bucket: &str) -> Request {
    Request::StreamInfo {
        stream: names::bucket_stream(bucket).into(),
    }
}

/// Asks for the end of the stream behind a bucket.
pub(super) fn deletion_of(bucket: &str) -> Request {
    Request::DeleteStream {
        stream: names::bucket_stream(bucket).into(),
    }
}

pub(super) fn subscription(sid: u64, subject: &str, queue: Option<&str>) -> ClientOp {
    ClientOp::Subscribe {
        sid: Sid(sid),
        subject: subject.into(),
        queue: queue.map(Into::into),
    }
}

pub(super) fn put(value: &str) -> Write {
    Write::Put(Bytes::copy_from_slice(value.as_bytes()))
}

pub(super) fn stored(response: &Response) -> u64 {
    match response {
        Response::Stored(revision) => revision.0,
        other => panic!("not stored: {other:?}"),
    }
}

/// Status and error code of a refusal.
pub(super) fn refusal(response: Response) -> (u16, u64) {
    match response {
        Response::Error(error) => (error.code, error.err_code),
        other => panic!("not refused: {other:?}"),
    }
}

/// A message that asks for an answer in `reply`.
pub(super) fn asking(subject: &str, reply: &str) -> Message {
    Message {
        reply: Some(Arc::from(reply)),
        ..Message::new(subject, "")
    }
}
