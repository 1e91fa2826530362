//! The broker under clients that nobody meant: whatever they say, in whatever order, it goes on, and what it tells of
//! itself stays true.
//!
//! Under `cargo test` the input is random, a thousand times or for a second. Guided by coverage, for as long as you like:
//! `RUSTFLAGS='--cfg madsim' cargo bolero test -p squall-sim --profile sim -s NONE --rustc-bootstrap -T 10min
//! broker::tests::fuzz::<name>`. What is not modelled on purpose, and panics for it (see `raw.rs` and `pull/ack.rs`), is
//! not said here.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use bolero::{TypeGenerator, check};
use squall_core::jwt::{Account, Claims, KeyPair as _, Limits, Operator, Realm, Role, User, mint};
use squall_core::transport::{
    AckPolicy, ConsumerConfig, Discard, Headers, Pull, Purge, Retention, Sequence, Storage,
    StreamConfig,
};

use super::super::Incarnation;
use super::*;
use crate::keys::SimKey;
use crate::wire::{ConsumerAction, Get, INBOX, Presented};

/// Streams: those that are there, and one that may come. Clients let no others through.
const STREAMS: &[&str] = &["s", "t", "KV_b", "t", "u"];

/// Consumers: the same.
const CONSUMERS: &[&str] = &["d", "e", "d"];

/// Keys: the same.
const KEYS: &[&str] = &["k", "k1", "a.b", "k/2=_-"];

/// Subjects and filters, good ones and others.
const NAMES: &[&str] = &[
    "a",
    "b",
    "a.b",
    "a.b.c",
    "a",
    "b",
    "a.b",
    "a.b.c",
    "$KV.b.k",
    "$KV.b.k1",
    "",
    " ",
    ".",
    "a",
    "b",
    "a.b",
    "a.b.c",
    "a.*",
    "a.>",
    ">",
    "*",
    "*.b",
    "a..b",
    ".a",
    "a.",
    "a b",
    "a>",
    "a.*.c",
    "$KV.b.k",
    "$KV.b.>",
    "$KV.b.k1",
    "$KV.b.a.b",
    "_INBOX.x",
    "_INBOX.>",
    "k",
    "k1",
    "ä",
    "\u{0}",
    "$SYS.REQ.ACCOUNT.A_app.CLAIMS.UPDATE",
    "$JS.ACK.t.d.1.1.1.1.0",
    "$JS.ACK.t.d.1.2.2.1.0",
    "$JS.ACK.t.e.2.1.2.1.0",
];

/// Names and values of headers that servers read.
const HEADERS: &[(&str, &str)] = &[
    ("Nats-Msg-Id", "1"),
    ("Nats-Msg-Id", ""),
    ("Nats-Expected-Stream", "t"),
    ("Nats-Expected-Last-Sequence", "3"),
    ("Nats-Expected-Last-Sequence", "x"),
    ("Nats-Expected-Last-Subject-Sequence", "0"),
    (
        "Nats-Expected-Last-Subject-Sequence",
        "18446744073709551616",
    ),
    ("Nats-Expected-Last-Msg-Id", "1"),
    ("Nats-TTL", "1s"),
    ("Nats-TTL", "-1"),
    ("Nats-TTL", "never"),
    ("Nats-TTL", "99999999999999999999h"),
    ("Nats-Rollup", "sub"),
    ("Nats-Rollup", "all"),
    ("Nats-Rollup", "none"),
    ("KV-Operation", "DEL"),
    ("KV-Operation", "PURGE"),
    ("Nats-Marker-Reason", "MaxAge"),
    ("", ""),
];

const PAYLOADS: &[&str] = &[
    "",
    "v",
    "+ACK",
    "-NAK",
    "-NAK {\"delay\":1}",
    "+WPI",
    "+TERM no",
    "-NAK {",
    "{}",
    "null",
];

/// Spans, in milliseconds, that settings hold: those that servers refuse too.
const SPANS: &[u64] = &[
    0,
    1,
    99,
    100,
    150,
    1_000,
    2_000,
    60_000,
    120_000,
    u64::MAX / 2_000_000,
];

/// The same for signs of life of pulls, but none so short that a test would spend its time on them.
const BEATS: &[u64] = &[0, 500, 2_000, 60_000];

const COUNTS: &[i64] = &[-1, 0, 1, 2, 3, 10, 100, -2, i64::MIN, i64::MAX];

const SEQUENCES: &[u64] = &[0, 1, 2, 3, 5, 8, 100, u64::MAX - 1, u64::MAX];

/// A place in a list; taken modulo its length.
type Pick = u8;

#[derive(Clone, Debug, TypeGenerator)]
struct StreamDraw {
    name: Pick,
    subjects: [Option<Pick>; 2],
    flags: u16,
    counts: [Pick; 4],
    spans: [Pick; 3],
    replicas: u8,
}

#[derive(Clone, Debug, TypeGenerator)]
struct ConsumerDraw {
    stream: Pick,
    name: Pick,
    filters: [Option<Pick>; 2],
    start: StartDraw,
    flags: u8,
    counts: [Pick; 3],
    spans: [Pick; 3],
}

#[derive(Clone, Debug, TypeGenerator)]
enum StartDraw {
    All,
    New,
    Last,
    LastPerSubject,
    Sequence(Pick),
    Time(i64),
}

#[derive(Clone, Debug, TypeGenerator)]
struct MessageDraw {
    subject: Pick,
    reply: Option<Pick>,
    headers: [Option<Pick>; 2],
    payload: Pick,
    size: u8,
}

#[derive(Clone, Debug, TypeGenerator)]
enum Ask {
    CreateStream(StreamDraw),
    UpdateStream(StreamDraw),
    DeleteStream(Pick),
    StreamInfo(Pick),
    Purge {
        stream: Pick,
        filter: Option<Pick>,
        below: Option<Pick>,
        keep: Option<Pick>,
    },
    DeleteMessage {
        stream: Pick,
        sequence: Pick,
    },
    Write {
        key: Pick,
        what: u8,
        expected: Option<Pick>,
    },
    Store(MessageDraw),
    Entry(Pick),
    Get {
        stream: Pick,
        sequence: Pick,
        filter: Pick,
        how: u8,
    },
    LastOf {
        stream: Pick,
        filters: [Option<Pick>; 2],
    },
    CreateConsumer {
        of: ConsumerDraw,
        sid: u8,
        is_of_bucket: bool,
    },
    CreatePullConsumer {
        of: ConsumerDraw,
        action: u8,
    },
    ConsumerInfo {
        stream: Pick,
        consumer: Pick,
    },
    DeleteConsumer {
        stream: Pick,
        consumer: Pick,
    },
}

#[derive(Clone, Debug, TypeGenerator)]
enum Step {
    /// A client logs in anew, with a token that was changed at some places.
    LogIn {
        client: u8,
        edits: [Option<(u16, u8)>; 2],
        lives: Option<u8>,
    },
    Ping(u8),
    Pong(u8),
    Subscribe {
        client: u8,
        sid: u8,
        subject: Pick,
        queue: Option<Pick>,
    },
    Unsubscribe {
        client: u8,
        sid: u8,
    },
    Publish {
        client: u8,
        message: MessageDraw,
    },
    Pull {
        client: u8,
        consumer: Pick,
        batch: u8,
        expires: Option<Pick>,
        heartbeat: Option<Pick>,
        sid: u8,
    },
    /// It acknowledges one of the last deliveries, whoever got it.
    Ack {
        client: u8,
        which: u8,
        how: Pick,
    },
    Ask {
        client: u8,
        ask: Ask,
    },
    /// It fills a stream or the bucket with what fits.
    Feed {
        client: u8,
        count: u8,
        subject: Pick,
    },
    Pass {
        millis: u16,
    },
    Disturb(Disturbance),
}

/// What happens to the server and its connections. It is started again as soon as a client wants it.
#[derive(Clone, Debug, TypeGenerator)]
enum Disturbance {
    Close(u8),
    Freeze { seconds: u8 },
    Jump { seconds: i16 },
    Stop { is_orderly: bool },
    LameDuck,
    Mute(bool),
}

fn nth<T: Copy>(of: &[T], pick: impl Into<usize>) -> T {
    of[pick.into() % of.len()]
}

fn name(pick: Pick) -> Arc<str> {
    nth(NAMES, pick).into()
}

fn stream_name(pick: Pick) -> Arc<str> {
    nth(STREAMS, pick).into()
}

fn consumer_name(pick: Pick) -> Arc<str> {
    nth(CONSUMERS, pick).into()
}

fn names_of(picks: &[Option<Pick>]) -> Vec<String> {
    let picked = picks.iter().flatten();
    picked.map(|&pick| nth(NAMES, pick).to_owned()).collect()
}

fn span(pick: Pick) -> Duration {
    millis(nth(SPANS, pick))
}

fn sequence(pick: Pick) -> Sequence {
    Sequence(nth(SEQUENCES, pick))
}

fn at_most(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl StreamDraw {
    fn config(&self) -> StreamConfig {
        let bit = |place: u32| self.flags >> place & 1 == 1;
        StreamConfig {
            subjects: names_of(&self.subjects),
            retention: nth(
                &[Retention::Limits, Retention::Interest, Retention::WorkQueue],
                usize::from(self.flags >> 8 & 3),
            ),
            discard: if bit(0) { Discard::New } else { Discard::Old },
            discard_new_per_subject: bit(1),
            max_messages: nth(COUNTS, self.counts[0]),
            max_messages_per_subject: nth(COUNTS, self.counts[1]),
            max_bytes: nth(COUNTS, self.counts[2]).saturating_mul(100),
            max_message_size: at_most(nth(COUNTS, self.counts[3])),
            max_age: span(self.spans[0]),
            duplicate_window: bit(2).then(|| span(self.spans[1])),
            allow_direct: bit(3),
            allow_rollup: bit(4),
            deny_delete: bit(5),
            deny_purge: bit(6),
            allow_message_ttl: bit(7),
            subject_delete_markers: bit(10).then(|| span(self.spans[2])),
            storage: if bit(11) {
                Storage::Memory
            } else {
                Storage::File
            },
            replicas: self.replicas,
            ..StreamConfig::new(nth(STREAMS, self.name))
        }
    }
}

impl ConsumerDraw {
    fn start(&self) -> ReadStart {
        match self.start {
            StartDraw::All => ReadStart::All,
            StartDraw::New => ReadStart::New,
            StartDraw::Last => ReadStart::Last,
            StartDraw::LastPerSubject => ReadStart::LastPerSubject,
            StartDraw::Sequence(pick) => ReadStart::Sequence(sequence(pick)),
            StartDraw::Time(nanos) => ReadStart::Time(UnixTime::from_nanos(nanos)),
        }
    }

    fn config(&self) -> ConsumerConfig {
        let bit = |place: u32| self.flags >> place & 1 == 1;
        ConsumerConfig {
            durable: bit(0),
            filters: names_of(&self.filters),
            start: self.start(),
            ack_policy: nth(
                &[AckPolicy::Explicit, AckPolicy::All, AckPolicy::None],
                usize::from(self.flags >> 1 & 3),
            ),
            ack_wait: span(self.spans[0]),
            backoff: if bit(3) {
                self.spans[1..].iter().map(|&pick| span(pick)).collect()
            } else {
                Vec::new()
            },
            max_deliver: NonZeroU32::new(at_most(nth(COUNTS, self.counts[0])).unsigned_abs()),
            max_ack_pending: nth(COUNTS, self.counts[1]),
            max_waiting: nth(COUNTS, self.counts[2]),
            inactive_threshold: bit(4).then(|| span(self.spans[2])),
            memory_storage: bit(5),
            replicas: self.flags >> 6,
            ..ConsumerConfig::durable(nth(CONSUMERS, self.name))
        }
    }
}

impl MessageDraw {
    fn message(&self) -> Message {
        let mut headers = Headers::new();
        for &pick in self.headers.iter().flatten() {
            let (name, value) = nth(HEADERS, pick);
            headers.append(name, value);
        }
        // Too large for the server, now and then.
        let payload = match self.size {
            0 => Bytes::from(vec![b'v'; 1024 * 1024 + 1]),
            _ => nth(PAYLOADS, self.payload).into(),
        };
        Message {
            subject: name(self.subject),
            reply: self.reply.map(name),
            headers,
            payload,
        }
    }
}

impl Ask {
    fn request(&self) -> Request {
        match *self {
            Self::CreateStream(ref draw) => Request::CreateStream(Box::new(draw.config())),
            Self::UpdateStream(ref draw) => Request::UpdateStream(Box::new(draw.config())),
            Self::DeleteStream(stream) => Request::DeleteStream {
                stream: stream_name(stream),
            },
            Self::StreamInfo(stream) => Request::StreamInfo {
                stream: stream_name(stream),
            },
            Self::Purge {
                stream,
                filter,
                below,
                keep,
            } => Request::Purge {
                stream: stream_name(stream),
                what: Purge {
                    filter: filter.map(|pick| nth(NAMES, pick).to_owned()),
                    // A purge moves the last sequence there: not modelled is what comes after the last number.
                    below: below.map(|pick| sequence(pick).min(Sequence(1 << 62))),
                    keep: keep.map(|pick| nth(SEQUENCES, pick)),
                },
            },
            Self::DeleteMessage {
                stream,
                sequence: which,
            } => Request::DeleteMessage {
                stream: stream_name(stream),
                sequence: sequence(which),
            },
            Self::Write {
                key,
                what,
                expected,
            } => Request::Write {
                bucket: "b".into(),
                key: nth(KEYS, key).into(),
                write: match what % 3 {
                    0 => put("v"),
                    1 => Write::Delete,
                    _ => Write::Purge,
                },
                expected: expected.map(|pick| Revision(nth(SEQUENCES, pick))),
            },
            Self::Store(ref draw) => Request::Store(draw.message()),
            Self::Entry(key) => Request::Entry {
                bucket: "b".into(),
                key: nth(KEYS, key).into(),
            },
            Self::Get {
                stream,
                sequence: from,
                filter,
                how,
            } => Request::Get {
                stream: stream_name(stream),
                what: match how % 3 {
                    0 => Get::Sequence(sequence(from)),
                    1 => Get::Next {
                        from: sequence(from),
                        filter: name(filter),
                    },
                    _ => Get::Last {
                        subject: name(filter),
                    },
                },
            },
            Self::LastOf { stream, filters } => Request::LastOf {
                stream: stream_name(stream),
                filters: filters.iter().flatten().map(|&pick| name(pick)).collect(),
            },
            Self::CreateConsumer {
                ref of,
                sid,
                is_of_bucket,
            } => Request::CreateConsumer {
                stream: stream_name(of.stream),
                wish: Box::new(ConsumerWish {
                    filters: of
                        .filters
                        .iter()
                        .flatten()
                        .map(|&pick| name(pick))
                        .collect(),
                    start: of.start(),
                    heartbeat: span(of.spans[0]),
                    inactive: span(of.spans[1]),
                    deliver: Sid(sid.into()),
                    form: if is_of_bucket {
                        Form::Entry
                    } else {
                        Form::Message
                    },
                }),
            },
            Self::CreatePullConsumer { ref of, action } => Request::CreatePullConsumer {
                stream: stream_name(of.stream),
                config: Box::new(of.config()),
                action: nth(
                    &[
                        ConsumerAction::CreateOrUpdate,
                        ConsumerAction::Create,
                        ConsumerAction::Update,
                    ],
                    action,
                ),
            },
            Self::ConsumerInfo { stream, consumer } => Request::ConsumerInfo {
                stream: stream_name(stream),
                consumer: consumer_name(consumer),
            },
            Self::DeleteConsumer { stream, consumer } => Request::DeleteConsumer {
                stream: stream_name(stream),
                consumer: consumer_name(consumer),
            },
        }
    }
}

/// Two accounts, and the server's own.
fn realm() -> Realm {
    let operator = SimKey::new(Role::Operator, "op");
    let account = |name: &str, limits: Limits| {
        let granted = Account {
            limits: Some(limits),
            ..Account::default()
        };
        let key = SimKey::new(Role::Account, name).public();
        mint(&Claims::account(&key, UnixTime::EPOCH, granted), &operator)
    };
    let own = Limits {
        mem_storage: 0,
        disk_storage: 0,
        ..Limits::NONE
    };
    let granted = Operator {
        system_account: SimKey::new(Role::Account, "sys").public().to_string(),
        ..Operator::default()
    };
    let claims = Claims::operator(&operator.public(), UnixTime::EPOCH, granted);
    Realm {
        operator: mint(&claims, &operator),
        accounts: vec![
            account("app", Limits::NONE),
            account("other", Limits::NONE),
            account("sys", own),
        ],
    }
}

/// What the server has told of each stream: the messages that it holds.
type Told = BTreeMap<(Arc<str>, Incarnation), BTreeSet<u64>>;

/// A broker among clients, and what is known of it from its own words.
struct Party {
    bench: Bench,
    links: u64,
    clients: [Option<LinkId>; 4],
    told: Told,
    /// Where deliveries are acknowledged.
    delivered: Vec<Arc<str>>,
}

impl Party {
    fn new(is_secure: bool) -> Self {
        let mut bench = Bench::with(|config| {
            config.delivery_delay_max = millis(1);
            config.realm = is_secure.then(realm);
        });
        bench.close(ALICE);
        bench.close(BOB);
        bench.look();
        Self {
            bench,
            links: 10,
            clients: [None; 4],
            told: Told::new(),
            delivered: Vec::new(),
        }
    }

    /// The connection of a client, opened and logged in if there is none.
    fn link(&mut self, client: u8) -> LinkId {
        let place = usize::from(client) % self.clients.len();
        if let Some(link) = self.clients[place] {
            return link;
        }
        let login = self.token(client, None);
        self.connect(client, login)
    }

    fn connect(&mut self, client: u8, token: Vec<u8>) -> LinkId {
        self.bench
            .act(|broker, now, effects| broker.start(now, effects));
        self.links += 1;
        let link = LinkId(self.links);
        let place = usize::from(client) % self.clients.len();
        if let Some(old) = self.clients[place].replace(link) {
            self.bench.close(old);
        }
        self.bench.open(link);
        let op = ClientOp::Connect {
            name: "fuzz".into(),
            login: Some(Box::new(Presented {
                jwt: String::from_utf8_lossy(&token).into(),
                signer: SimKey::new(Role::User, "carol").public(),
            })),
        };
        self.bench.say(link, op);
        self.listen();
        link
    }

    fn forget(&mut self, gone: LinkId) {
        for link in &mut self.clients {
            link.take_if(|link| *link == gone);
        }
    }

    /// A user's token that lives for so many seconds; one client in four is of another account.
    fn token(&self, client: u8, lives: Option<u8>) -> Vec<u8> {
        let account = if client.is_multiple_of(4) {
            "other"
        } else {
            "app"
        };
        let key = SimKey::new(Role::User, "carol").public();
        let mut claims = Claims::user(&key, UnixTime::EPOCH, User::default());
        let now = self.bench.now.wall.as_secs();
        claims.expires = lives.map(|lives| UnixTime::from_secs(now + i64::from(lives)));
        mint(&claims, &SimKey::new(Role::Account, account)).into_bytes()
    }

    fn say(&mut self, client: u8, op: ClientOp) {
        let link = self.link(client);
        self.bench.say(link, op);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::LogIn {
                client,
                ref edits,
                lives,
            } => {
                let mut token = self.token(client, lives);
                for &(at, to) in edits.iter().flatten() {
                    let length = token.len();
                    token[usize::from(at) % length] = to;
                }
                self.connect(client, token);
            }
            Step::Ping(client) => self.say(client, ClientOp::Ping),
            Step::Pong(client) => self.say(client, ClientOp::Pong),
            Step::Subscribe {
                client,
                sid,
                subject,
                queue,
            } => {
                // The inbox is the client library's own.
                let sid = Sid(INBOX.0 + 1 + u64::from(sid));
                let (subject, queue) = (name(subject), queue.map(name));
                let op = ClientOp::Subscribe {
                    sid,
                    subject,
                    queue,
                };
                self.say(client, op);
            }
            Step::Unsubscribe { client, sid } => {
                let sid = Sid(INBOX.0 + 1 + u64::from(sid));
                self.say(client, ClientOp::Unsubscribe { sid });
            }
            Step::Publish {
                client,
                ref message,
            } => {
                let message = message.message();
                self.say(client, ClientOp::Publish { message });
            }
            Step::Pull {
                client,
                consumer,
                batch,
                expires,
                heartbeat,
                sid,
            } => {
                let wish = Pull {
                    batch: NonZeroU32::new(batch.into()).unwrap_or(NonZeroU32::MAX),
                    expires: expires.map(span),
                    heartbeat: heartbeat.map(|pick| millis(nth(BEATS, pick))),
                };
                let deliver = Sid(INBOX.0 + 1 + u64::from(sid));
                let op = ClientOp::Pull {
                    stream: "t".into(),
                    consumer: consumer_name(consumer),
                    wish,
                    deliver,
                };
                self.say(client, op);
            }
            Step::Ack { client, which, how } => {
                if let Some(reply) = self.delivered.iter().rev().nth(usize::from(which % 8)) {
                    let message = Message::new(Arc::clone(reply), nth(PAYLOADS, how));
                    self.say(client, ClientOp::Publish { message });
                }
            }
            Step::Ask { client, ref ask } => {
                let link = self.link(client);
                self.bench.ask(link, ask.request());
            }
            Step::Pass { millis: long } => self.bench.pass(millis(long.into())),
            Step::Feed {
                client,
                count,
                subject,
            } => {
                let subject = nth(&["a", "b", "a.b", "$KV.b.k", "$KV.b.k1"], subject);
                for _ in 0..count % 8 {
                    let link = self.link(client);
                    let message = Message::new(subject, "v");
                    self.bench.ask(link, Request::Store(message));
                    self.listen();
                }
            }
            Step::Disturb(ref disturbance) => self.disturb(disturbance),
        }
        self.listen();
    }

    fn disturb(&mut self, disturbance: &Disturbance) {
        match *disturbance {
            Disturbance::Close(client) => {
                let link = self.link(client);
                self.bench.close(link);
                self.forget(link);
            }
            Disturbance::Freeze { seconds } => {
                self.bench.sleep(secs(seconds.into()));
                if self.bench.broker.is_running() {
                    self.bench
                        .act(|broker, now, effects| broker.resume(now, effects));
                }
            }
            Disturbance::Jump { seconds } => {
                let wall = self.bench.now.wall.as_nanos() + i64::from(seconds) * 1_000_000_000;
                self.bench.now.wall = UnixTime::from_nanos(wall);
            }
            Disturbance::Stop { is_orderly } => {
                self.bench.act(|broker, _, effects| match is_orderly {
                    true => broker.terminate(effects),
                    false => broker.stop(effects),
                });
                self.clients = [None; 4];
            }
            Disturbance::LameDuck => self
                .bench
                .act(|broker, now, effects| broker.lame_duck(now, effects)),
            Disturbance::Mute(is_mute) => self
                .bench
                .act(|broker, now, _| broker.mute_jetstream(now, is_mute)),
        }
    }

    /// Takes in what the server has said, which must fit what it said before.
    fn listen(&mut self) {
        for (_, effect) in self.bench.look() {
            match effect {
                Effect::Send { link, op } => {
                    let is_known = self.clients.contains(&Some(link));
                    assert!(is_known, "{op:?} to {link}, which is gone");
                    if let ServerOp::Pulled { delivered, .. } = op {
                        self.delivered.push(delivered.reply);
                    }
                }
                Effect::Close { link } => self.forget(link),
                Effect::Exit => self.clients = [None; 4],
                Effect::Route { .. } => panic!("it has no peers"),
                Effect::Commit(commit) => {
                    let stream = names::bucket_stream(&commit.bucket);
                    self.came(&stream, commit.incarnation, commit.entry.revision.0);
                }
                Effect::Removed(removed) => {
                    let stream = names::bucket_stream(&removed.bucket);
                    self.went(&stream, removed.incarnation, removed.revision.0);
                }
                Effect::Stored(stored) => {
                    self.came(&stored.stream, stored.incarnation, stored.sequence.0);
                }
                Effect::Dropped(dropped) => {
                    self.went(&dropped.stream, dropped.incarnation, dropped.sequence.0);
                }
                Effect::LostTail(_) => panic!("its power was not lost"),
            }
        }
    }

    fn came(&mut self, stream: &str, life: Incarnation, sequence: u64) {
        let held = self.told.entry((stream.into(), life)).or_default();
        assert!(
            held.last().is_none_or(|last| *last < sequence),
            "{sequence} of {stream} is not the last"
        );
        held.insert(sequence);
    }

    fn went(&mut self, stream: &str, life: Incarnation, sequence: u64) {
        let held = self.told.get_mut(&(stream.into(), life));
        let was_there = held.is_some_and(|held| held.remove(&sequence));
        assert!(was_there, "{sequence} of {stream} went and had not come");
    }

    /// What the server has told of its streams is what it holds, and what it says when asked. With several accounts
    /// their truth cannot be told apart, so that only the first one's answers are compared.
    fn agrees(&self) {
        let broker = &self.bench.broker;
        for stream in broker.streams() {
            let held: Vec<u64> = broker
                .messages(stream)
                .map(|message| message.sequence.0)
                .collect();
            assert!(
                held.is_sorted_by(|one, other| one < other),
                "{stream}: {held:?}"
            );
            let info = broker.stream(stream).expect("it was listed");
            assert_eq!(info.messages, held.len() as u64, "{stream}");
            assert!(
                held.last().is_none_or(|last| *last <= info.last_sequence.0),
                "{stream}"
            );
            match held.first() {
                Some(first) => assert_eq!(info.first_sequence.0, *first, "{stream}"),
                None => assert_eq!(info.first_sequence, info.last_sequence.next(), "{stream}"),
            }
            let limit = info.config.max_messages;
            assert!(
                limit <= 0 || held.len() as i64 <= limit,
                "{stream}: {} of {limit}",
                held.len()
            );
            let lives = self.told.iter().filter(|((name, _), _)| name == stream);
            if self.bench.broker.config().realm.is_none() {
                let told: Vec<u64> = lives.flat_map(|(_, held)| held.iter().copied()).collect();
                assert_eq!(told, held, "{stream}");
            }
        }
    }
}

/// A bucket, two streams and a consumer that the steps may meet.
fn furnished(is_secure: bool) -> Party {
    let mut party = Party::new(is_secure);
    let link = party.link(1);
    let mut bucket = BucketConfig::new("b");
    bucket.history = 2;
    let limited = StreamConfig {
        subjects: vec!["a.>".into()],
        max_messages: 3,
        ..StreamConfig::new("s")
    };
    let plain = StreamConfig {
        subjects: vec!["a".into(), "b".into()],
        allow_message_ttl: true,
        ..StreamConfig::new("t")
    };
    for config in [bucket.stream(), limited, plain] {
        party
            .bench
            .ask(link, Request::CreateStream(Box::new(config)));
    }
    let config = ConsumerConfig {
        ack_wait: millis(500),
        ..ConsumerConfig::durable("d")
    };
    let request = Request::CreatePullConsumer {
        stream: "t".into(),
        config: Box::new(config),
        action: ConsumerAction::Create,
    };
    party.bench.ask(link, request);
    party.listen();
    party
}

#[test]
fn whatever_clients_say_the_server_goes_on_and_stays_true() {
    check!()
        .with_type::<(bool, Vec<Step>)>()
        .for_each(|(is_secure, steps)| {
            let mut party = furnished(*is_secure);
            for step in steps {
                party.take(step);
                party.agrees();
            }
        });
}
