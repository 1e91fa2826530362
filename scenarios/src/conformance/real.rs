//! The real laboratory: a nats-server of its own, and a proxy for each link.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex as Plain;
use std::sync::PoisonError;

use squall_core::Env as _;
use squall_core::nats::{NatsEnv, Nkey, TokioClock};
use tokio::sync::Mutex;

use super::laboratory::{ACCOUNTS, Laboratory, LinkVerb, ServerVerb, Setup, Stop};
use crate::issuer::Issuer;
use crate::real::{Direction, NatsServer, Proxy, ServerOptions};

/// A server process and proxies in front of it.
#[derive(Debug)]
pub struct Real {
    server: Mutex<NatsServer>,
    address: SocketAddr,
    links: Plain<BTreeMap<String, Proxy>>,
    env: NatsEnv,
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
    /// A server of the version that the surroundings name.
    ///
    /// # Errors
    /// If there is none.
    pub async fn start(setup: Setup) -> Result<Self, Stop> {
        let issuer = Issuer::new(|role, _| Nkey::generate(role));
        let seconds = setup.ping_interval.as_secs();
        let server = NatsServer::start(ServerOptions {
            version: None,
            config: format!("ping_interval: \"{seconds}s\""),
            realm: setup.operator_mode.then(|| issuer.realm(&ACCOUNTS)),
        })
        .await?;
        let address = server.address();
        Ok(Self {
            server: Mutex::new(server),
            address,
            links: Plain::default(),
            env: NatsEnv::new(1),
            issuer,
        })
    }

    fn links(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Proxy>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Laboratory for Real {
    type Env = NatsEnv;
    type Key = Nkey;

    async fn reach(&self, link: &str) -> Result<(NatsEnv, String), Stop> {
        if !self.links().contains_key(link) {
            let proxy = Proxy::start(self.address).await?;
            self.links().insert(link.to_owned(), proxy);
        }
        let url = self.links().get(link).map(Proxy::url);
        Ok((self.env.clone(), url.unwrap_or_default()))
    }

    fn clock(&self) -> &TokioClock {
        self.env.clock()
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
