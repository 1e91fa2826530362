//! Pings: a link is found dead by them, and a good one never is.

use std::time::Duration;

use squall_core::transport::{ConnectOptions, ConnectionEvent, DisconnectCause, Message};
use squall_core::{Connection as _, Env as _, Transport as _};

use super::SimConnection;
use crate::broker::ServerConfig;
use crate::{Direction, HostKey, Latency, ServerKey, SimEnv, Simulation, World};

const PING: Duration = Duration::from_secs(1);

struct Pair {
    world: World,
    server: ServerKey,
    host: HostKey,
    env: SimEnv,
    /// Pings once a second.
    near: SimConnection,
    other: SimConnection,
}

impl Pair {
    async fn sleep(&self, millis: u64) {
        let time = Duration::from_millis(millis);
        self.world.sleep_until(self.world.now() + time).await;
    }
}

fn told<T>(story: impl AsyncFnOnce(&Pair) -> T) -> T {
    let mut simulation = Simulation::new(1, Latency::default());
    let world = simulation.world().clone();
    let server = world.add_server(ServerConfig::new("a"));
    simulation.run(async {
        let options = || ConnectOptions {
            servers: vec!["nats://a".to_owned()],
            ping_interval: PING,
            ..ConnectOptions::default()
        };
        let host = world.add_host("near");
        let env = world.start_process(host, "near");
        let near = env.transport().connect(options()).await;
        let other = world.start_process(world.add_host("other"), "other");
        let other = other.transport().connect(options()).await;
        let pair = Pair {
            near: near.expect("it connects"),
            other: other.expect("it connects"),
            world,
            server,
            host,
            env,
        };
        story(&pair).await
    })
}

/// As `a_client_that_stood_still_keeps_its_connection` finds real ones.
#[test]
fn a_client_that_stood_still_keeps_its_connection() {
    told(async |pair: &Pair| {
        let mut events = pair.near.events();
        pair.world.pause(pair.env.process());
        pair.sleep(10_000).await;
        pair.world.resume(pair.env.process());
        let asked = pair.world.now();
        pair.near.flush().await.expect("it is answered");
        assert!(pair.world.now().since(asked) < Duration::from_millis(10));
        pair.sleep(5_000).await;
        assert_eq!(events.try_next(), None);
    });
}

/// As `a_server_that_hears_nothing_is_found_dead_though_it_speaks` finds real ones.
#[test]
fn a_server_that_hears_nothing_is_found_dead_though_it_speaks() {
    told(async |pair: &Pair| {
        let mut events = pair.near.events();
        let mut heard = pair.near.subscribe("s", None).await.expect("it is heard");
        pair.near.flush().await.expect("it is answered");
        pair.world
            .partition(pair.host, pair.server, Direction::ToServer);
        for _ in 0..4 {
            pair.sleep(1_300).await;
            let said = pair.other.publish(Message::new("s", "m")).await;
            said.expect("it is sent");
        }
        pair.sleep(100).await;
        let lost = ConnectionEvent::Disconnected(DisconnectCause::Lost);
        assert_eq!(events.try_next(), Some(lost));
        for _ in 0..2 {
            assert!(heard.try_next().is_some(), "it was heard before");
        }
    });
}
