//! Clients of plain async-nats, with a callback that reads credentials from a cell.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer, kv};
use async_nats::{Auth, AuthError, Client, ConnectOptions, Event};
use futures_util::StreamExt as _;
use squall_core::Clock as _;
use squall_core::jwt::KeyPair as _;
use squall_core::nats::{Nkey, TokioClock};
use squall_core::session::{ApiKey, AuthService as _, ExchangeRequest};
use squall_core::transport::Credentials;
use tokio::time::sleep;

use super::tally::{Kind, Ledger};
use super::{Arm, BUCKET, Hands, MARGIN, STREAM, World};

/// What is made anew after an error waits so long.
const AGAIN: Duration = Duration::from_millis(100);

pub(crate) struct Plain {
    reconnects: bool,
}

impl Plain {
    /// The server ends its connections when the credentials end.
    pub(crate) const fn kicked() -> Self {
        Self { reconnects: false }
    }

    /// It reconnects when there are other credentials.
    pub(crate) const fn reconnects() -> Self {
        Self { reconnects: true }
    }
}

#[derive(Clone)]
pub(crate) struct Plainly {
    client: Client,
    context: jetstream::Context,
    bucket: kv::Store,
}

type Cell = Arc<Mutex<Credentials>>;

async fn exchange(world: &super::Auth, number: usize) -> Credentials {
    let api_key = ApiKey::new(format!("user{number}"));
    let issued = world.exchange(ExchangeRequest { api_key }).await;
    issued.expect("it is issued").credentials().clone()
}

fn signed(cell: &Cell, nonce: &[u8]) -> Result<Auth, AuthError> {
    let credentials = cell.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let key = Nkey::from_seed(credentials.seed()).map_err(AuthError::new)?;
    let mut auth = Auth::new();
    auth.jwt = Some(credentials.jwt().to_string());
    auth.signature = Some(key.sign(nonce));
    Ok(auth)
}

impl Arm for Plain {
    type Hands = Plainly;

    async fn client(&self, world: &World, number: usize, of: Arc<Ledger>) -> Plainly {
        let cell: Cell = Arc::new(Mutex::new(exchange(&world.auth, number).await));
        let for_auth = Arc::clone(&cell);
        let lost: Arc<Mutex<Option<Instant>>> = Arc::default();
        let ledger = Arc::clone(&of);
        let options = ConnectOptions::with_auth_callback(move |nonce| {
            let auth = signed(&for_auth, &nonce);
            async move { auth }
        })
        // From one connection to the next.
        .event_callback(move |event| {
            let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Event::Disconnected => *lost = Some(Instant::now()),
                Event::Connected => {
                    if let Some(lost) = lost.take() {
                        ledger.changed(lost.elapsed());
                    }
                }
                _ => {}
            }
            async {}
        });
        let client = options.connect(world.server.url()).await;
        let client = client.expect("the server accepts");
        tokio::spawn(refresh(
            world.auth.clone(),
            number,
            cell,
            client.clone(),
            self.reconnects,
        ));
        let context = jetstream::new(client.clone());
        let bucket = context.get_key_value(BUCKET).await;
        let plainly = Plainly {
            client,
            context,
            bucket: bucket.expect("the bucket is there"),
        };
        plainly.follow(of).await;
        plainly
    }
}

/// Fills the cell in time, again and again.
async fn refresh(auth: super::Auth, number: usize, cell: Cell, client: Client, reconnects: bool) {
    let clock = TokioClock::new();
    loop {
        let expires = {
            let credentials = cell.lock().unwrap_or_else(PoisonError::into_inner);
            credentials.claims().and_then(|claims| claims.expires)
        };
        let due = expires.expect("it has an end") - MARGIN;
        sleep(due.since(clock.wall())).await;
        let fresh = exchange(&auth, number).await;
        *cell.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        if reconnects {
            client.force_reconnect().await.expect("the client is there");
        }
    }
}

impl Plainly {
    async fn follow(&self, of: Arc<Ledger>) {
        let number = of.number;
        let watched = format!("c{number}.>");
        let mut watch = self.bucket.watch(&watched).await.expect("it is watched");
        let (bucket, ledger) = (self.bucket.clone(), Arc::clone(&of));
        tokio::spawn(async move {
            loop {
                while let Some(Ok(entry)) = watch.next().await {
                    ledger.told(Kind::Put, &entry.value);
                }
                // Polled once more after an error it panics.
                watch = loop {
                    sleep(AGAIN).await;
                    if let Ok(watch) = bucket.watch(&watched).await {
                        break watch;
                    }
                };
            }
        });
        let mut messages = self.read(number).await.expect("it is read");
        let (this, ledger) = (self.clone(), Arc::clone(&of));
        tokio::spawn(async move {
            loop {
                while let Some(Ok(message)) = messages.next().await {
                    ledger.told(Kind::Store, &message.payload);
                }
                messages = loop {
                    sleep(AGAIN).await;
                    if let Some(messages) = this.read(number).await {
                        break messages;
                    }
                };
            }
        });
        let subscription = self.client.subscribe(format!("p.{number}")).await;
        let mut subscription = subscription.expect("it is subscribed");
        self.client.flush().await.expect("it is sent");
        tokio::spawn(async move {
            while let Some(message) = subscription.next().await {
                of.told(Kind::Publish, &message.payload);
            }
        });
    }

    /// Messages of the stream from now on, in order.
    async fn read(&self, number: usize) -> Option<consumer::push::Ordered> {
        let stream = self.context.get_stream(STREAM).await.ok()?;
        let config = consumer::push::OrderedConfig {
            deliver_subject: self.client.new_inbox(),
            filter_subject: format!("s.{number}"),
            deliver_policy: consumer::DeliverPolicy::New,
            ..consumer::push::OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.ok()?;
        consumer.messages().await.ok()
    }
}

impl Hands for Plainly {
    async fn put(&self, key: String, number: String) -> bool {
        self.bucket.put(key, number.into()).await.is_ok()
    }

    async fn store(&self, subject: String, number: String) -> bool {
        match self.context.publish(subject, number.into()).await {
            Ok(sent) => sent.await.is_ok(),
            Err(_) => false,
        }
    }

    async fn publish(&self, subject: String, number: String) -> bool {
        self.client.publish(subject, number.into()).await.is_ok()
    }
}
