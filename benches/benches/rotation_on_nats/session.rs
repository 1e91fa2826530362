//! Clients that live on sessions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use squall_core::diagnostics::{EventType, NatsEvent};
use squall_core::nats::NatsEnv;
use squall_core::session::{ApiKey, Config, Session, SessionBucket, SessionConnection};
use squall_core::transport::{
    ConnectOptions, JetStream as _, Message, ReadStart, ReaderEvent, StoreOptions, Stream as _,
    WatchEvent, WatchStart,
};
use squall_core::{Bucket as _, Connection as _};

use super::tally::{Kind, Ledger};
use super::{Arm, BUCKET, Hands, MARGIN, STREAM, World};

/// They go on as long as this is there.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<Vec<Session<NatsEnv>>>);

#[derive(Clone)]
pub(crate) struct Client {
    connection: SessionConnection<NatsEnv>,
    bucket: SessionBucket<NatsEnv>,
}

impl Arm for Sessions {
    type Hands = Client;

    async fn client(&self, world: &World, number: usize, of: Arc<Ledger>) -> Client {
        let config = Config {
            connect: ConnectOptions {
                servers: vec![world.server.url()],
                ..ConnectOptions::default()
            },
            refresh_margin: MARGIN,
            refresh_retry: Duration::from_millis(500),
            ..Config::default()
        };
        let ledger = Arc::clone(&of);
        let noted = move |event: &NatsEvent| {
            if event.kind == EventType::Swap {
                ledger.changed(event.took().expect("this core says so"));
            }
        };
        let env = NatsEnv::new(number as u64);
        let session = Session::open(&env, world.auth.clone(), config, noted);
        let session = session.expect("it can be");
        let login = session.login(ApiKey::new(format!("user{number}"))).await;
        login.expect("it is let in");
        let connection = session.connection().expect("it is logged in");
        let bucket = connection.bucket(BUCKET).expect("a name");
        follow(&connection, &bucket, of).await;
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.push(session);
        Client { connection, bucket }
    }
}

async fn follow(
    connection: &SessionConnection<NatsEnv>,
    bucket: &SessionBucket<NatsEnv>,
    of: Arc<Ledger>,
) {
    let number = of.number;
    let watch = bucket.watch(&format!("c{number}.>"), WatchStart::Now).await;
    let mut watch = watch.expect("it is watched");
    let ledger = Arc::clone(&of);
    tokio::spawn(async move {
        while let Some(event) = watch.next().await {
            if let WatchEvent::Entry(entry) = event {
                ledger.told(Kind::Put, &entry.value);
            }
        }
    });
    let stream = connection.stream(STREAM).expect("a name");
    let reader = stream
        .read(&[&*format!("s.{number}")], ReadStart::New)
        .await;
    let mut reader = reader.expect("it is read");
    let ledger = Arc::clone(&of);
    tokio::spawn(async move {
        while let Some(event) = reader.next().await {
            if let ReaderEvent::Message(message) = event {
                ledger.told(Kind::Store, &message.payload);
            }
        }
    });
    let subscription = connection.subscribe(&format!("p.{number}"), None).await;
    let mut subscription = subscription.expect("it is subscribed");
    connection.flush().await.expect("it comes back");
    tokio::spawn(async move {
        while let Some(message) = subscription.next().await {
            of.told(Kind::Publish, &message.payload);
        }
    });
}

impl Hands for Client {
    async fn put(&self, key: String, number: String) -> bool {
        self.bucket.put(&key, number.into()).await.is_ok()
    }

    async fn store(&self, subject: String, number: String) -> bool {
        let message = Message::new(subject, number);
        let stored = self
            .connection
            .store(message, StoreOptions::default())
            .await;
        stored.is_ok()
    }

    async fn publish(&self, subject: String, number: String) -> bool {
        self.connection
            .publish(Message::new(subject, number))
            .await
            .is_ok()
    }
}
