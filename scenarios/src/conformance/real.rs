//! The real laboratory: a nats-server of its own, and a proxy for each link.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex as Plain;
use std::sync::PoisonError;
use std::time::Duration;

use squall_core::nats::{NatsEnv, Nkey, TokioClock};
use squall_core::{Clock as _, Env as _, UnixTime};
use squall_sim::broker::Version;
use tokio::sync::Mutex;

use super::laboratory::{ACCOUNTS, Laboratory, LinkVerb, ServerVerb, Setup, Stop};
use crate::issuer::Issuer;
use crate::real::{
    Direction, NatsServer, ProvisionError, Proxy, ServerOptions, nats_server, version_of,
};

/// In seconds, the shortest that nats-server takes.
const LAME_DUCK_DURATION: u64 = 30;

/// The server program that real laboratories run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub(super) pinned: Option<String>,
    version: Version,
}

impl Program {
    /// One of the pinned versions, or, with `None`, the one that the surroundings name. May fetch it.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn find(pinned: Option<&str>) -> Result<Self, ProvisionError> {
        let said = version_of(&nats_server(pinned)?)?;
        let version = said
            .parse()
            .map_err(|_| ProvisionError::UnknownVersion(said))?;
        Ok(Self {
            pinned: pinned.map(str::to_owned),
            version,
        })
    }

    /// What it is.
    pub const fn version(&self) -> Version {
        self.version
    }
}

/// A server process and proxies in front of it.
#[derive(Debug)]
pub struct Real {
    server: Mutex<NatsServer>,
    address: SocketAddr,
    program: Program,
    links: Plain<BTreeMap<String, Proxy>>,
    spare: Mutex<Option<NatsServer>>,
    env: NatsEnv,
    /// By how much the clocks of those behind links are ahead. Clients never look at them: whoever issues tokens does.
    ahead: Plain<BTreeMap<String, Duration>>,
    issuer: Issuer<Nkey>,
}

/// Runs a future on a runtime of its own.
#[allow(
    clippy::expect_used,
    reason = "without a runtime nothing real can be observed"
)]
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives a runtime")
        .block_on(future)
}

impl Real {
    /// A server of this program.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn start(setup: Setup, program: &Program) -> Result<Self, Stop> {
        let issuer = Issuer::new(|role, _| Nkey::generate(role));
        let seconds = setup.ping_interval.as_secs();
        let grace = setup.lame_duck_grace.as_secs();
        let server = NatsServer::start(ServerOptions {
            version: program.pinned.clone(),
            config: format!(
                "ping_interval: \"{seconds}s\"\nlame_duck_grace_period: \"{grace}s\"\n\
                 lame_duck_duration: \"{LAME_DUCK_DURATION}s\""
            ),
            realm: setup.operator_mode.then(|| issuer.realm(&ACCOUNTS)),
            ..ServerOptions::default()
        })
        .await?;
        let address = server.address();
        Ok(Self {
            server: Mutex::new(server),
            address,
            program: program.clone(),
            links: Plain::default(),
            spare: Mutex::default(),
            env: NatsEnv::new(1),
            ahead: Plain::default(),
            issuer,
        })
    }

    /// The address of a server over the link of this name.
    async fn proxied(&self, link: &str, server: SocketAddr) -> Result<String, Stop> {
        if !self.links().contains_key(link) {
            let proxy = Proxy::start(server).await?;
            self.links().insert(link.to_owned(), proxy);
        }
        let url = self.links().get(link).map(Proxy::url);
        Ok(url.unwrap_or_default())
    }

    fn links(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Proxy>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Laboratory for Real {
    type Env = NatsEnv;
    type Key = Nkey;

    async fn reach(&self, link: &str) -> Result<(NatsEnv, String), Stop> {
        Ok((self.env.clone(), self.proxied(link, self.address).await?))
    }

    async fn reach_spare(&self, link: &str) -> Result<String, Stop> {
        let mut spare = self.spare.lock().await;
        let address = match &*spare {
            Some(server) => server.address(),
            None => {
                let options = ServerOptions {
                    version: self.program.pinned.clone(),
                    ..ServerOptions::default()
                };
                spare.insert(NatsServer::start(options).await?).address()
            }
        };
        self.proxied(&format!("{link} to spare"), address).await
    }

    fn version(&self) -> Version {
        self.program.version
    }

    fn clock(&self) -> &TokioClock {
        self.env.clock()
    }

    fn wall(&self, link: &str) -> UnixTime {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        self.clock().wall() + ahead.get(link).copied().unwrap_or_default()
    }

    fn set_ahead(&self, link: &str, by: Duration) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        *ahead.entry(link.to_owned()).or_default() += by;
    }

    fn issuer(&self) -> &Issuer<Nkey> {
        &self.issuer
    }

    async fn server(&self, verb: ServerVerb) -> Result<(), Stop> {
        let mut server = self.server.lock().await;
        match verb {
            ServerVerb::Stop => server.kill().await?,
            ServerVerb::Start => server.restart().await?,
            ServerVerb::Pause => server.pause().await?,
            ServerVerb::Resume => server.resume()?,
            ServerVerb::Retire => server.retire()?,
            ServerVerb::Sync => server.keep_copy()?,
            ServerVerb::LosePower => server.lose_power().await?,
        }
        Ok(())
    }

    fn link(&self, link: &str, verb: LinkVerb) {
        let links = self.links();
        let Some(proxy) = links.get(link) else {
            return;
        };
        match verb {
            LinkVerb::Cut => proxy.cut(),
            LinkVerb::Hold => proxy.partition(),
            LinkVerb::HoldAnswers => proxy.blackhole(Direction::ToClient),
            LinkVerb::Release | LinkVerb::ReleaseAnswers => proxy.heal(),
        }
    }
}
