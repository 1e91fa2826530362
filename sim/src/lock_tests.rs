//! Locks in the simulated world: who waits for one has its turn.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_core::state::lock::{AcquireError, Locks};
use squall_core::transport::{BucketConfig, ConnectOptions};
use squall_core::{Clock as _, Connection as _, Env as _, Rng, Transport as _};

use crate::broker::ServerConfig;
use crate::{HostKey, Latency, ServerKey, SimBucket, SimConnection, SimEnv, Simulation, World};

const TTL: Duration = Duration::from_secs(6);

/// A server, and a host for each agent.
struct Yard {
    world: World,
    server: ServerKey,
}

/// An agent that takes the lock `job`.
struct Agent {
    host: HostKey,
    env: SimEnv,
    locks: Locks<SimEnv, SimBucket>,
    bucket: SimBucket,
}

impl Yard {
    async fn agent(&self, name: &str) -> Agent {
        let host = self.world.add_host(name);
        let env = self.world.start_process(host, name);
        let options = ConnectOptions {
            servers: vec!["nats://a".to_owned()],
            ping_interval: Duration::from_secs(1),
            ..ConnectOptions::default()
        };
        let connection = env.transport().connect(options).await.expect("it connects");
        let bucket = bucket(&connection).await;
        let locks = Locks::new(&env, bucket.clone(), move || connection.events());
        Agent {
            host,
            env,
            locks,
            bucket,
        }
    }

    async fn sleep(&self, millis: u64) {
        let time = Duration::from_millis(millis);
        self.world.sleep_until(self.world.now() + time).await;
    }
}

/// The first who comes makes it.
async fn bucket(connection: &SimConnection) -> SimBucket {
    let config = BucketConfig {
        delete_markers: Some(Duration::from_secs(2)),
        ..BucketConfig::new("locks")
    };
    match connection.create_bucket(&config).await {
        Ok(bucket) => bucket,
        Err(_exists) => connection.bucket("locks").expect("the name is valid"),
    }
}

fn in_yard<T>(seed: u64, story: impl AsyncFnOnce(&Yard) -> T) -> T {
    let mut simulation = Simulation::new(seed, Latency::default());
    let world = simulation.world().clone();
    let server = world.add_server(ServerConfig::new("a"));
    simulation.run(story(&Yard { world, server }))
}

impl Agent {
    async fn sleep(&self, time: Duration) {
        let clock = self.env.clock();
        clock.sleep_until(clock.now() + time).await;
    }

    /// The tickets that stand in the bucket.
    async fn tickets(&self) -> usize {
        let tickets = squall_core::Bucket::entries(&self.bucket, "w.job.*").await;
        tickets.expect("they are read").len()
    }

    /// Waits for the lock again and again, no longer than `patience` each time, until `end`; gives how often it had it.
    async fn contend(&self, patience: Duration, holds: Duration, end: Duration) -> u32 {
        let mut rng: Rng = self.env.rng("contends");
        let clock = self.env.clock();
        let end = clock.now() + end;
        let mut had = 0;
        while clock.now() < end {
            let until = clock.now() + patience;
            match self.locks.acquire_wait("job", "l.job", TTL, until).await {
                Ok(lock) => {
                    had += 1;
                    self.sleep(holds).await;
                    lock.unlock().await.expect("it is let go");
                }
                Err(error) => assert_eq!(error, AcquireError::Held),
            }
            self.sleep(Duration::from_millis(rng.between(200, 1000)))
                .await;
        }
        had
    }
}

/// Eight want it, each holds it for five seconds and none waits for longer than four others take: those who give up must
/// not begin behind the others each time.
#[test]
fn everybody_has_its_turn_though_nobody_waits_for_so_long() {
    for seed in 0..10 {
        let had = in_yard(seed, async |yard: &Yard| {
            let [patience, holds, end] = [20, 5, 400].map(Duration::from_secs);
            let all = Arc::new(Mutex::new(Vec::new()));
            for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
                let (agent, all) = (yard.agent(name).await, Arc::clone(&all));
                let env = agent.env.clone();
                let contending = async move {
                    let had = agent.contend(patience, holds, end).await;
                    all.lock().expect("nobody panics").push(had);
                };
                env.spawn("contends", contending).detach();
            }
            yard.sleep(500_000).await;
            let had = all.lock().expect("nobody panics").clone();
            assert_eq!(had.len(), 8, "all have come to an end");
            had
        });
        let (most, least) = (had.iter().max(), had.iter().min());
        assert!(least >= Some(&7), "seed {seed}: {had:?}");
        assert!(most <= Some(&13), "seed {seed}: {had:?}");
    }
}

/// A place that nobody comes back to is given up when its time is over, and at once by who has had the lock.
#[test]
fn a_place_is_kept_no_longer_than_it_is_of_use() {
    in_yard(1, async |yard: &Yard| {
        let (holder, waiter) = (yard.agent("holder").await, yard.agent("waiter").await);
        let lock = holder.locks.acquire("job", "l.job", TTL).await;
        let lock = lock.expect("it is free");
        lock.keep_alive();
        let waits = async |patience| {
            let until = waiter.env.clock().now() + patience;
            waiter.locks.acquire_wait("job", "l.job", TTL, until).await
        };
        let second = Duration::from_secs(1);
        assert_eq!(waits(second).await.err(), Some(AcquireError::Held));
        assert_eq!(waiter.tickets().await, 1, "it may come again");
        yard.sleep(5_000).await;
        assert_eq!(waits(second).await.err(), Some(AcquireError::Held));
        assert_eq!(waiter.tickets().await, 1, "the same");
        yard.sleep(7_000).await;
        assert_eq!(waiter.tickets().await, 0, "it did not");
        assert_eq!(waits(second).await.err(), Some(AcquireError::Held));
        lock.unlock().await.expect("it is let go");
        let had = waiter.locks.acquire("job", "l.job", TTL).await;
        had.expect("it is free");
        yard.sleep(100).await;
        assert_eq!(waiter.tickets().await, 0, "it had its turn");
    });
}

/// What was asked of a connection that is lost is never answered: a lock that is free can be had once it is back.
#[test]
fn who_looks_while_the_link_is_cut_looks_again() {
    in_yard(1, async |yard: &Yard| {
        let agent = yard.agent("a").await;
        let until = agent.env.clock().now() + TTL;
        let began = yard.world.now();
        let (had, ()) = tokio::join!(
            agent.locks.acquire_wait("job", "l.job", TTL, until),
            async {
                // Before the answer can be there.
                yard.world
                    .sleep_until(began + Duration::from_micros(150))
                    .await;
                yard.world.cut(agent.host, yard.server);
            }
        );
        had.expect("it is free");
        let took = yard.world.now().since(began);
        assert!(took < Duration::from_millis(100), "{took:?}");
    });
}
