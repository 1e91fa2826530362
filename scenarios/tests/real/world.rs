//! A server, a link that can be bad, and clients with short patience.

use std::time::Duration;

use squall_core::nats::{NatsBucket, NatsConnection, NatsEnv};
use squall_core::transport::{
    BucketConfig, ConnectOptions, ConnectionEvent, Events, Watch, WatchEvent,
};
use squall_core::{Connection as _, Env as _, Transport as _};
use squall_scenarios::real::{NatsServer, Proxy, ServerOptions};
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(500);

pub(crate) struct World {
    pub(crate) server: NatsServer,
    pub(crate) proxy: Proxy,
    env: NatsEnv,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(ServerOptions::default()).await
    }

    pub(crate) async fn with(options: ServerOptions) -> Self {
        let server = NatsServer::start(options).await.expect("a server starts");
        let proxy = Proxy::start(server.address())
            .await
            .expect("a port is free");
        let env = NatsEnv::new(1);
        Self { server, proxy, env }
    }

    pub(crate) fn options() -> ConnectOptions {
        ConnectOptions {
            request_timeout: Duration::from_secs(2),
            ack_timeout: Duration::from_millis(700),
            watch_heartbeat: HEARTBEAT,
            ..ConnectOptions::default()
        }
    }

    pub(crate) async fn connect_with(&self, options: ConnectOptions) -> NatsConnection {
        let connection = self.env.transport().connect(options).await;
        connection.expect("the server accepts")
    }

    /// A client with a good link.
    pub(crate) async fn direct(&self) -> NatsConnection {
        let servers = vec![self.server.url()];
        self.connect_with(ConnectOptions {
            servers,
            ..Self::options()
        })
        .await
    }

    /// A client behind the proxy.
    pub(crate) async fn linked(&self) -> NatsConnection {
        let servers = vec![self.proxy.url()];
        self.connect_with(ConnectOptions {
            servers,
            ..Self::options()
        })
        .await
    }

    /// A bucket `b` seen over a good link, and over the proxy.
    pub(crate) async fn bucket(&self) -> (NatsConnection, NatsBucket, NatsConnection, NatsBucket) {
        let (near, far) = (self.direct().await, self.linked().await);
        let created = near.create_bucket(&BucketConfig::new("b")).await;
        let near_bucket = created.expect("the bucket is created");
        let far_bucket = far.bucket("b").expect("the name is valid");
        (near, near_bucket, far, far_bucket)
    }
}

/// Fails the test if it takes too long.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Reads until an event of the connection is as wanted; gives all that came.
pub(crate) async fn heard(
    events: &mut Events,
    what: &str,
    wanted: impl Fn(&ConnectionEvent) -> bool,
) -> Vec<ConnectionEvent> {
    let mut all = Vec::new();
    let read = async {
        while let Some(event) = events.next().await {
            all.push(event);
            if all.last().is_some_and(&wanted) {
                return;
            }
        }
        panic!("the connection ended before: {what}");
    };
    soon(what, read).await;
    all
}

/// Reads until an event of the watch is as wanted; gives all that came, shortly written.
pub(crate) async fn told(
    watch: &mut Watch,
    what: &str,
    wanted: impl Fn(&WatchEvent) -> bool,
) -> Vec<String> {
    let mut all = Vec::new();
    let read = async {
        while let Some(event) = watch.next().await {
            all.push(brief(&event));
            if wanted(&event) {
                return;
            }
        }
        panic!("the watch ended before: {what}");
    };
    soon(what, read).await;
    all
}

/// Reads until the record of this revision of the key.
pub(crate) async fn told_until(watch: &mut Watch, last: &str) -> Vec<String> {
    told(watch, last, |event| brief(event) == last).await
}

/// `key=value@revision`, `key:delete@revision`, `end`, `interrupted: cause`, `resumed`, `resumed: new bucket`.
pub(crate) fn brief(event: &WatchEvent) -> String {
    match event {
        WatchEvent::Entry(entry) if entry.operation.is_put() => {
            let value = String::from_utf8_lossy(&entry.value);
            format!("{}={value}@{}", entry.key, entry.revision)
        }
        WatchEvent::Entry(entry) => {
            let operation = format!("{:?}", entry.operation).to_lowercase();
            format!("{}:{operation}@{}", entry.key, entry.revision)
        }
        WatchEvent::SnapshotEnd => "end".to_owned(),
        WatchEvent::Interrupted(cause) => format!("interrupted: {cause}"),
        WatchEvent::Resumed { same_bucket: true } => "resumed".to_owned(),
        WatchEvent::Resumed { same_bucket: false } => "resumed: new bucket".to_owned(),
    }
}
