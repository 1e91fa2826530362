//! Locks in the simulated world: who waits for one has its turn.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_core::state::lock::{AcquireError, Locks, LostReason, RefreshError, UnlockError};
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
                // At the end of its patience it may just have had it.
                Err(AcquireError::Held | AcquireError::Expired) => {}
                Err(error) => panic!("{error}"),
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

/// Whenever that is: a look or a write is under way, or nothing yet.
#[test]
fn who_stops_waiting_for_an_answer_owns_nothing() {
    let mut left = 0;
    for micros in (0..1500).step_by(50) {
        in_yard(1, async |yard: &Yard| {
            let (agent, other) = (yard.agent("a").await, yard.agent("b").await);
            tokio::select! {
                biased;
                _had = agent.locks.acquire("job", "l.job", TTL) => {}
                () = agent.sleep(Duration::from_micros(micros)) => left += 1,
            }
            yard.sleep(1_000).await;
            let had = other.locks.acquire("job", "l.job", TTL).await;
            had.unwrap_or_else(|error| panic!("{micros} us: {error}"));
        });
    }
    assert!(left > 10, "{left} of 30 stopped waiting");
}

/// However that is asked for: of several who let it go at once one does, who stops waiting for it has let it go all the
/// same, and so has who drops it.
#[test]
fn a_lock_is_let_go_once() {
    in_yard(1, async |yard: &Yard| {
        let (agent, other) = (yard.agent("a").await, yard.agent("b").await);
        let take = async |agent: &Agent| {
            let had = agent.locks.acquire("job", "l.job", TTL).await;
            had.expect("it is free")
        };
        let lock = take(&agent).await;
        let both = tokio::join!(lock.unlock(), lock.unlock());
        assert_eq!(both, (Ok(()), Err(UnlockError::NotHeld)));
        let lock = take(&other).await;
        tokio::select! {
            biased;
            _ended = lock.unlock() => panic!("it takes longer"),
            () = other.sleep(Duration::from_micros(50)) => {}
        }
        assert_eq!(lock.unlock().await, Err(UnlockError::NotHeld));
        yard.sleep(10).await;
        drop(take(&agent).await);
        yard.sleep(10).await;
        let lock = take(&other).await;
        lock.keep_alive();
        drop(lock);
        yard.sleep(10).await;
        take(&agent).await;
    });
}

/// It has no task before, and is told what it would have told.
#[test]
fn a_lock_that_has_run_out_says_so_when_it_is_asked() {
    in_yard(1, async |yard: &Yard| {
        let agent = yard.agent("a").await;
        let lock = agent.locks.acquire("job", "l.job", TTL).await;
        let lock = lock.expect("it is free");
        yard.sleep(7_000).await;
        assert!(!lock.is_held());
        assert_eq!(lock.refresh().await, Err(RefreshError::Expired));
        assert_eq!(lock.lost().await, LostReason::Expired);
    });
}

/// What a future leaves behind when it is dropped: here a task that it starts then.
struct Leaves(SimEnv, Arc<Mutex<bool>>);

impl Drop for Leaves {
    fn drop(&mut self) {
        let told = Arc::clone(&self.1);
        let rest = async move { *told.lock().expect("nobody panics") = true };
        self.0.spawn("rest", rest).detach();
    }
}

#[test]
fn a_dead_process_starts_nothing() {
    let is_done_by = |dies: bool| {
        in_yard(1, async |yard: &Yard| {
            let env = yard.agent("a").await.env;
            let (told, world) = (Arc::new(Mutex::new(false)), yard.world.clone());
            let (leaves, process) = (Leaves(env.clone(), Arc::clone(&told)), env.process());
            let waits = async move {
                std::future::pending::<()>().await;
                drop(leaves);
            };
            let task = env.spawn("waits", waits);
            if dies {
                world.crash(process);
            }
            drop(task);
            yard.sleep(1).await;
            *told.lock().expect("nobody panics")
        })
    };
    assert!(is_done_by(false));
    assert!(!is_done_by(true));
}
