//! The role of those who take locks: acquire one of a few, do something under it, let it go; and tell the history.
//!
//! A diligent program: before each effect it asks whether it still holds the lock, it stops when it is told that it does
//! not, and stamps what it writes with its token. Some locks renew themselves, some are renewed by hand, some are not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use squall_core::state::lock::{AcquireError, LostReason, RefreshError, UnlockError};
use squall_core::state::{BUCKET_DEFAULT, Config, StateError, StateStore};
use squall_core::transport::{Connection, Fallible};
use squall_core::{Clock, Env, Rng};
use tokio::sync::mpsc;

use super::Alive;
use super::actor::{Actor, Order};
use crate::history::lock::{Call, Reply, Tell};
use crate::history::{self, What, value_hash};
use crate::plan::LockPlan;
use crate::variant::lock::{Exclusive, Held};
use crate::variant::{BucketOf, ConnectionOf, lock as variant};

/// Their bucket.
pub(crate) const BUCKET: &str = BUCKET_DEFAULT;

/// What is said of a lock that cannot be had.
pub(crate) const IN_VAIN: &str = "waits in vain";

/// What one process has been told last.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    open: bool,
    /// What it has locked since everything was mended.
    acquired: BTreeSet<Arc<str>>,
}

/// What is not yet as it should be among those who are alive: each lock can be had, and everybody has had one.
pub(super) fn pending(alive: &[Alive<'_>]) -> Option<String> {
    let acquired = alive.iter().flat_map(|agent| &agent.standing.lock.acquired);
    let acquired: BTreeSet<&str> = acquired.map(|key| &**key).collect();
    for Alive {
        plan,
        process,
        standing,
    } in alive
    {
        if !standing.lock.open {
            return Some(format!("{process} has no connection"));
        }
        if standing.lock.acquired.is_empty() {
            return Some(format!("{process} {IN_VAIN} for any lock"));
        }
        let mut keys = (0..settings(plan).keys).map(key);
        if let Some(key) = keys.find(|key| !acquired.contains(&**key)) {
            return Some(format!("{process} {IN_VAIN} for {key}, as everybody does"));
        }
    }
    None
}

/// The name of a lock.
fn key(number: u32) -> Arc<str> {
    format!("job-{number}").into()
}

fn settings(plan: &crate::plan::AgentPlan) -> LockPlan {
    plan.lock
        .unwrap_or_else(|| LockPlan::of_pace(plan.interval))
}

/// The lock that one holds, and what of.
type HeldNow = Option<(Arc<str>, Arc<dyn Held>)>;

/// Shared by what may let it go.
type Holding = Arc<Mutex<HeldNow>>;

#[derive(Clone)]
struct Worker {
    actor: Actor,
    holding: Holding,
}

/// Lives until told to close.
pub(super) async fn live<E: Env>(actor: Actor, env: E, orders: mpsc::UnboundedReceiver<Order>) {
    let holding = Holding::default();
    Worker { actor, holding }.live(env, orders).await;
}

impl Worker {
    async fn live<E: Env>(self, env: E, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let connection = tokio::select! {
                biased;
                _order = orders.recv() => return,
                connection = self.actor.connect(&env) => connection,
            };
            self.note(|standing| standing.open = true);
            let over = self.actor.over(connection.events());
            let work = env.spawn("work", self.clone().work(env.clone(), connection.clone()));
            // However the orders end, it is time to close.
            let is_told = tokio::select! {
                biased;
                _order = orders.recv() => true,
                () = over => false,
            };
            drop(work);
            self.note(|standing| standing.open = false);
            let deadline = env.clock().now() + self.actor.plan.interval;
            tokio::select! {
                biased;
                () = self.let_go() => {}
                () = env.clock().sleep_until(deadline) => {}
            }
            if is_told {
                return connection.close().await;
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut Standing)) {
        self.actor.note(|standing| change(&mut standing.lock));
    }

    /// Their bucket, which the first who comes makes, and the store in it, of what locks guard.
    async fn store<E: Env>(
        &self,
        env: &E,
        connection: &ConnectionOf<E>,
    ) -> (BucketOf<E>, StateStore) {
        let config = Config::default();
        loop {
            let opened = StateStore::open(env, connection, &config).await;
            if let (Ok(store), Ok(bucket)) = (opened, connection.bucket(BUCKET)) {
                return (bucket, store);
            }
            self.actor.wait(env).await;
        }
    }

    async fn work<E: Env>(self, env: E, connection: ConnectionOf<E>) {
        let (bucket, store) = self.store(&env, &connection).await;
        let specimen = self.actor.specimen.as_deref();
        let locks = variant::open(specimen, &env, &connection, bucket, store);
        let LockPlan { ttl, keys, .. } = settings(&self.actor.plan);
        let mut rng = env.rng("work");
        let mut written = 0;
        loop {
            let rest = some_part(&mut rng, self.actor.plan.interval);
            env.clock().sleep_until(env.clock().now() + rest).await;
            let key = key(rng.below(u64::from(keys.max(1))) as u32);
            let waits = rng.chance(2, 3).then(|| ttl * 4);
            let until = waits.map(|waits| env.clock().now() + waits);
            let call = Call::Acquire {
                key: Arc::clone(&key),
                ttl,
                waits,
            };
            let is_mended = self.actor.board.is_mended();
            let acquiring = locks.acquire(&key, ttl, until);
            let reply = |held: &Arc<dyn Held>| {
                let token = held.token();
                history::Reply::Lock(Reply::Held { token })
            };
            let is_held = |error: &AcquireError| *error == AcquireError::Held;
            let Some(held) = self.call(call, acquiring, reply, is_held).await else {
                continue;
            };
            if is_mended {
                self.note(|standing| {
                    standing.acquired.insert(Arc::clone(&key));
                });
            }
            self.tend(&env, &*locks, &key, held, &mut rng, &mut written)
                .await;
        }
    }

    /// Does something under a lock, and lets it go.
    async fn tend<E: Env>(
        &self,
        env: &E,
        locks: &dyn Exclusive,
        key: &Arc<str>,
        held: Arc<dyn Held>,
        rng: &mut Rng,
        written: &mut u64,
    ) {
        let token = held.token();
        let LockPlan { ttl, holds, .. } = settings(&self.actor.plan);
        *self.holding() = Some((Arc::clone(key), Arc::clone(&held)));
        let told = env.spawn(
            "lost",
            self.clone().hear(Arc::clone(&held), Arc::clone(key)),
        );
        let renews = rng.below(3);
        if renews == 0 {
            held.keep_alive();
        }
        let clock = env.clock();
        let end = clock.now() + some_part(rng, holds);
        let mut refreshed = clock.now();
        while clock.now() < end {
            let next = (clock.now() + holds / 4).min(end);
            tokio::select! {
                biased;
                _reason = held.lost() => break,
                () = clock.sleep_until(next) => {}
            }
            if !held.is_held() {
                break;
            }
            *written += 1;
            let value = format!("{}: {written} with {token}", self.actor.process);
            let call = Call::Effect {
                key: Arc::clone(key),
                token,
                value: value_hash(value.as_bytes()),
            };
            let is_stale = |error: &StateError| {
                matches!(error, StateError::StaleToken { .. } | StateError::Contended)
            };
            let writing = locks.put_fenced(key, value.into(), token);
            self.call(call, writing, |_| history::Reply::Done, is_stale)
                .await;
            if renews == 1 && clock.now().since(refreshed) > ttl / 3 {
                refreshed = clock.now();
                let key = Arc::clone(key);
                let call = Call::Refresh { key, token };
                let is_over = |error: &RefreshError| {
                    matches!(error, RefreshError::Expired | RefreshError::NotHeld)
                };
                self.call(call, held.refresh(), |()| history::Reply::Done, is_over)
                    .await;
            }
        }
        self.let_go().await;
        drop(told);
    }

    fn holding(&self) -> MutexGuard<'_, HeldNow> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlocks what it holds, if anything.
    async fn let_go(&self) {
        let held = self.holding().take();
        if let Some((key, held)) = held {
            let token = held.token();
            let call = Call::Unlock { key, token };
            let is_over = |error: &UnlockError| *error == UnlockError::NotHeld;
            self.call(call, held.unlock(), |()| history::Reply::Done, is_over)
                .await;
        }
    }

    /// Tells the history when a lock is lost.
    async fn hear(self, held: Arc<dyn Held>, key: Arc<str>) {
        let reason = held.lost().await;
        if reason != LostReason::Released {
            self.actor.tell(history::Tell::Lock(Tell::Lost {
                key,
                token: held.token(),
                reason: reason.to_string(),
            }));
        }
    }

    /// A call that may be refused because the lock is in other hands, and tells that apart.
    async fn call<T, E: Fallible + ToString>(
        &self,
        call: Call,
        doing: impl Future<Output = Result<T, E>> + Send,
        reply: impl FnOnce(&T) -> history::Reply,
        is_conflict: impl FnOnce(&E) -> bool,
    ) -> Option<T> {
        let Actor {
            recorder, process, ..
        } = &self.actor;
        let id = recorder.invoke(process, history::Call::Lock(call));
        let result = doing.await;
        match &result {
            Ok(value) => recorder.ended(id, Ok(reply(value))),
            Err(error) if is_conflict(error) => recorder.record(What::Refused {
                id,
                error: error.to_string(),
                conflict: true,
            }),
            Err(error) => recorder.ended(id, Err((error.outcome(), error.to_string()))),
        }
        result.ok()
    }
}

/// Between a half and three halves of it.
fn some_part(rng: &mut Rng, of: Duration) -> Duration {
    let millis = u64::try_from(of.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(rng.between(millis / 2, millis / 2 * 3))
}
