//! What a case may do to its world: reach it over a link of its own, and be unkind to links and to the server.

use std::fmt;
use std::time::Duration;

use squall_core::jwt::KeyPair;
use squall_core::transport::{BucketConfig, ConnectError, ConnectOptions, Connection, Transport};
use squall_core::{Clock, Env, UnixTime};
use squall_sim::broker::Version;

use crate::issuer::Issuer;

/// How long a case waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two looks at something that must come.
const LOOK: Duration = Duration::from_millis(5);

/// One server, and links to it.
pub trait Laboratory {
    /// What clients run in.
    type Env: Env;
    /// The keys of this world.
    type Key: KeyPair;

    /// The surroundings of a process behind the link of this name, and the server's address over that link. The link is
    /// made at its first use, good.
    fn reach(&self, link: &str) -> impl Future<Output = Result<(Self::Env, String), Stop>>;

    /// The address, over this link, of another server: always up, and with nothing in common with the first. The link
    /// is another than the one to the first.
    fn reach_spare(&self, link: &str) -> impl Future<Output = Result<String, Stop>>;

    /// Which version of nats-server it behaves like, or is.
    fn version(&self) -> Version;

    /// A clock of this world.
    fn clock(&self) -> &<Self::Env as Env>::Clock;

    /// The wall clock of a process behind this link.
    fn wall(&self, link: &str) -> UnixTime;

    /// Sets the wall clock of whoever is behind this link ahead.
    fn set_ahead(&self, link: &str, by: Duration);

    /// Who issues what users log in with, where the setup is in operator mode.
    fn issuer(&self) -> &Issuer<Self::Key>;

    /// Does something to the server.
    fn server(&self, verb: ServerVerb) -> impl Future<Output = Result<(), Stop>>;

    /// Does something to a link.
    fn link(&self, link: &str, verb: LinkVerb);
}

/// What can be done to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerVerb {
    /// Kill it.
    Stop,
    /// Start it again on its old storage.
    Start,
    /// Freeze its process.
    Pause,
    /// Let it run on.
    Resume,
    /// Tell it to shut down as a lame duck.
    Retire,
    /// While it is stopped: let all that it has stored be on disk.
    Sync,
    /// Take its power, and with it all that it has stored since the last `Sync`; it starts again by `Start`.
    LosePower,
}

/// What can be done to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkVerb {
    /// Reset its connections.
    Cut,
    /// Hold what goes either way.
    Hold,
    /// Hold the server's answers.
    HoldAnswers,
    /// Let everything through that was held.
    Release,
    /// As `Release`, but only of answers.
    ReleaseAnswers,
}

/// The accounts of a server in operator mode, beside its own.
pub(super) const ACCOUNTS: [&str; 2] = ["app", "other"];

/// How the server is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Time between the server's pings.
    pub ping_interval: Duration,
    /// Operator mode, with the accounts `app` and `other`.
    pub operator_mode: bool,
    /// Time between the announcement of a lame duck and the first connection it closes.
    pub lame_duck_grace: Duration,
}

impl Setup {
    /// As nats-server does where nothing is said.
    pub const DEFAULT: Self = Self {
        ping_interval: Duration::from_secs(120),
        lame_duck_grace: Duration::from_secs(10),
        operator_mode: false,
    };
    /// The same in operator mode.
    pub const OPERATOR_MODE: Self = Self {
        operator_mode: true,
        ..Self::DEFAULT
    };
}

/// A case cannot go on: something failed that it took for granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop(pub String);

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) type Conn<L> = <<<L as Laboratory>::Env as Env>::Transport as Transport>::Connection;
pub(super) type Kv<L> = <Conn<L> as Connection>::Bucket;

/// The patience of clients in cases: short, so that time-outs are cheap.
pub(super) fn options(address: String) -> ConnectOptions {
    ConnectOptions {
        servers: vec![address],
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(2),
        ack_timeout: Duration::from_secs(1),
        watch_heartbeat: Duration::from_millis(500),
        ..ConnectOptions::default()
    }
}

/// A client over the link of this name.
pub(super) async fn connect<L: Laboratory>(lab: &L, link: &str) -> Result<Conn<L>, Stop> {
    Ok(try_connect(lab, link, |_| {}).await??)
}

/// A client with other options.
pub(super) async fn connect_with<L: Laboratory>(
    lab: &L,
    link: &str,
    change: impl FnOnce(&mut ConnectOptions),
) -> Result<Conn<L>, Stop> {
    Ok(try_connect(lab, link, change).await??)
}

pub(super) async fn try_connect<L: Laboratory>(
    lab: &L,
    link: &str,
    change: impl FnOnce(&mut ConnectOptions),
) -> Result<Result<Conn<L>, ConnectError>, Stop> {
    let (env, address) = lab.reach(link).await?;
    let mut options = options(address);
    change(&mut options);
    Ok(env.transport().connect(options).await)
}

/// Two clients, on the links `near`, which cases leave alone, and `far`, and a new bucket as each of them sees it. The
/// clients live as long as the first of the three.
pub(super) async fn pair<L: Laboratory>(
    lab: &L,
    config: &BucketConfig,
) -> Result<([Conn<L>; 2], Kv<L>, Kv<L>), Stop> {
    let near = connect(lab, "near").await?;
    let far = connect(lab, "far").await?;
    let near_bucket = near.create_bucket(config).await?;
    let bucket = far.bucket(&config.bucket)?;
    Ok(([near, far], near_bucket, bucket))
}

/// A client on the link `near` and a bucket `b`.
pub(super) async fn bucket<L: Laboratory>(
    lab: &L,
    config: &BucketConfig,
) -> Result<(Conn<L>, Kv<L>), Stop> {
    let near = connect(lab, "near").await?;
    let bucket = near.create_bucket(config).await?;
    Ok((near, bucket))
}

/// A bucket `b` with NATS' own settings, except these.
pub(super) fn config(change: impl FnOnce(&mut BucketConfig)) -> BucketConfig {
    let mut config = BucketConfig::new("b");
    change(&mut config);
    config
}

/// Lets time pass in this world.
pub(super) async fn sleep<L: Laboratory>(lab: &L, time: Duration) {
    let clock = lab.clock();
    clock.sleep_until(clock.now() + time).await;
}

/// What comes of `future`, unless it takes longer.
pub(super) async fn within<L: Laboratory, F: Future>(
    lab: &L,
    time: Duration,
    future: F,
) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = sleep(lab, time) => None,
    }
}

/// What comes of `future`, which must come.
pub(super) async fn soon<L: Laboratory, F: Future>(
    lab: &L,
    what: &str,
    future: F,
) -> Result<F::Output, Stop> {
    let output = within(lab, PATIENCE, future).await;
    output.ok_or_else(|| Stop(format!("not within {PATIENCE:?}: {what}")))
}

/// Asks again and again until the answer is as wanted, and gives how long that took.
pub(super) async fn until<L: Laboratory, T, F: Future<Output = T>>(
    lab: &L,
    what: &str,
    mut ask: impl FnMut() -> F,
    wanted: impl Fn(&T) -> bool,
) -> Result<Duration, Stop> {
    let begun = lab.clock().now();
    let asked = async {
        while !wanted(&ask().await) {
            sleep(lab, LOOK).await;
        }
    };
    soon(lab, what, asked).await?;
    Ok(lab.clock().now().since(begun))
}

/// How long `future` takes, and what comes of it.
pub(super) async fn timed<L: Laboratory, F: Future>(lab: &L, future: F) -> (Duration, F::Output) {
    let begun = lab.clock().now();
    let output = future.await;
    (lab.clock().now().since(begun), output)
}
