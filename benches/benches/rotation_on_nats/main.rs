//! What clients lose whose credentials rotate, on a real nats-server: those of a session, and plain async-nats beside them.
//!
//! `cargo bench -p squall-benches --bench rotation_on_nats [-- --seconds 120 --clients 50]`. Prints a table, which takes
//! about three times as long as it says. Each client does something twenty times a second, in turn a put into a bucket,
//! a message for a stream and a plain publish, and follows what its neighbour does. Credentials live for 10 s and are
//! exchanged 3 s before their end. At the end it is counted what was acknowledged (of a plain publish: accepted) and
//! never told.
//!
//! The plain clients are written with care: the callback only reads a cell, the cell is filled in time, and a stream of
//! messages that ends with an error is made anew. One kind waits for the server to hang up at the end of the
//! credential, the other reconnects as soon as there is another.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a real server in real time, and a table for people"
)]

mod plain;
mod session;
mod tally;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use squall_core::nats::{NatsConnection, NatsEnv, Nkey, TokioClock};
use squall_core::transport::{
    BucketConfig, ConnectOptions, CredentialsCell, JetStream as _, Storage, StreamConfig,
};
use squall_core::{Connection as _, Env as _, Transport as _};
use squall_scenarios::issuer::Issuer;
use squall_scenarios::local_auth::LocalAuth;
use squall_scenarios::real::{NatsServer, ServerOptions};
use tokio::task::JoinSet;
use tokio::time::sleep;

use tally::{Column, Kind, Ledger};

const LIFE: Duration = Duration::from_secs(10);
/// So long before their end credentials are exchanged.
const MARGIN: Duration = Duration::from_secs(3);
/// From one operation of a client to its next.
const PACE: Duration = Duration::from_millis(50);
/// How long after the last operation what it did may be told.
const GRACE: Duration = Duration::from_secs(20);
const BUCKET: &str = "b";
const STREAM: &str = "s";

type Auth = LocalAuth<Nkey, TokioClock>;

/// What a client can do.
trait Hands: Clone + Send + Sync + 'static {
    fn put(&self, key: String, number: String) -> impl Future<Output = bool> + Send;
    fn store(&self, subject: String, number: String) -> impl Future<Output = bool> + Send;
    fn publish(&self, subject: String, number: String) -> impl Future<Output = bool> + Send;
}

/// One way to live on credentials that rotate.
trait Arm {
    type Hands: Hands;

    /// A client that is logged in and follows its neighbour, whose number is `of`.
    fn client(
        &self,
        world: &World,
        number: usize,
        of: Arc<Ledger>,
    ) -> impl Future<Output = Self::Hands>;
}

/// A server in operator mode, and whoever issues its credentials.
struct World {
    server: NatsServer,
    auth: Auth,
}

impl World {
    async fn new() -> (Self, NatsConnection) {
        let issuer = Arc::new(Issuer::new(|role, _| Nkey::generate(role)));
        let options = ServerOptions {
            realm: Some(issuer.realm(&["app"])),
            ..ServerOptions::default()
        };
        let server = NatsServer::start(options).await.expect("a server starts");
        let auth = LocalAuth::new(Arc::clone(&issuer), TokioClock::new(), "app", LIFE);
        let owner = CredentialsCell::filled(issuer.user("app", "owner", |_| {}));
        let options = ConnectOptions {
            servers: vec![server.url()],
            credentials: Some(owner),
            ..ConnectOptions::default()
        };
        let owner = NatsEnv::new(0).transport().connect(options).await;
        (Self { server, auth }, owner.expect("the server accepts"))
    }
}

/// So many clients, for so long.
async fn measure<A: Arm>(arm: A, clients: usize, lasts: Duration) -> Column {
    let (world, owner) = World::new().await;
    let bucket = BucketConfig {
        storage: Storage::Memory,
        ..BucketConfig::new(BUCKET)
    };
    owner.create_bucket(&bucket).await.expect("it is created");
    let stream = StreamConfig {
        subjects: vec!["s.*".to_owned()],
        storage: Storage::Memory,
        ..StreamConfig::new(STREAM)
    };
    owner.create_stream(&stream).await.expect("it is created");

    let ledgers: Vec<Arc<Ledger>> = (0..clients).map(Ledger::of).collect();
    let mut hands = Vec::new();
    for number in 0..clients {
        let of = Arc::clone(&ledgers[(number + 1) % clients]);
        hands.push(arm.client(&world, number, of).await);
        // Nobody's credentials end in step.
        sleep(LIFE / clients as u32).await;
    }
    let mut working = JoinSet::new();
    for (number, hands) in hands.iter().enumerate() {
        working.spawn(work(hands.clone(), Arc::clone(&ledgers[number]), lasts));
    }
    while working.join_next().await.is_some() {}
    sleep(GRACE).await;
    tally::column(&ledgers)
}

/// One operation after the other begins, whether or not the one before has ended.
async fn work<H: Hands>(hands: H, ledger: Arc<Ledger>, lasts: Duration) {
    let began = Instant::now();
    let mut under_way = JoinSet::new();
    for number in 0.. {
        let due = began + PACE * number;
        if due >= began + lasts {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let (hands, ledger) = (hands.clone(), Arc::clone(&ledger));
        under_way.spawn(async move {
            let (of, number) = (ledger.number, u64::from(number));
            let kind = Kind::ALL[number as usize % Kind::ALL.len()];
            let told = number.to_string();
            let is_done = match kind {
                Kind::Put => hands.put(format!("c{of}.{number}"), told).await,
                Kind::Store => hands.store(format!("s.{of}"), told).await,
                Kind::Publish => hands.publish(format!("p.{of}"), told).await,
            };
            ledger.ended(kind, number, is_done);
        });
    }
    while under_way.join_next().await.is_some() {}
}

/// The number that follows this name among the arguments.
fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)?.parse().ok()
}

fn main() {
    let lasts = Duration::from_secs(argument("--seconds").unwrap_or(120));
    let clients = argument("--clients").unwrap_or(50) as usize;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let columns = runtime.block_on(async {
        [
            (
                "session",
                measure(session::Sessions::default(), clients, lasts).await,
            ),
            (
                "async-nats, kicked",
                measure(plain::Plain::kicked(), clients, lasts).await,
            ),
            (
                "async-nats, reconnects",
                measure(plain::Plain::reconnects(), clients, lasts).await,
            ),
        ]
    });
    println!(
        "{clients} clients, {} s, 20 messages/s each, credentials of 10 s\n",
        lasts.as_secs()
    );
    print!("{}", tally::table(&columns));
}
