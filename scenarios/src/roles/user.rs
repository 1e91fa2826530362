//! The role of a user of a bucket: it writes under a key of its own at its pace, follows what everybody writes, and makes
//! round trips. It knows nothing of sessions; whoever lives on one must not notice.

use std::collections::BTreeMap;

use squall_core::transport::{Bucket, BucketConfig, Connection, Watch, WatchEvent, WatchStart};
use squall_core::{Clock, Env};
use tokio::sync::mpsc;

use super::Alive;
use super::actor::{Actor, Order};
use crate::history::{Call, Reply, Tell};
use crate::variant::{BucketOf, ConnectionOf};

/// The bucket that users share.
pub(crate) const BUCKET: &str = "work";
/// Keys that each of them writes in turn: what is missed is not soon covered by what is written next.
const SLOTS: u64 = 64;

/// What one process has been told last.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    open: bool,
    following: bool,
    /// How often it has tried to write.
    tried: u64,
    /// Which of these was the last that it was told is stored.
    written: u64,
    /// The highest count that it has seen of each account and agent.
    seen: BTreeMap<String, u64>,
}

/// Where an agent that is logged in to an account writes; both names are in it, as one process may have several accounts.
fn place(account: &str, agent: &str) -> String {
    format!("{account}.{agent}")
}

/// The account that a key was written in.
pub(crate) fn account_of(key: &str) -> Option<&str> {
    key.split_once('.').map(|(account, _)| account)
}

/// What is not yet as it should be among those who are alive: everybody sees what everybody has just written, but for
/// what may be under way.
pub(super) fn pending(alive: &[Alive<'_>]) -> Option<String> {
    for Alive {
        plan,
        process,
        standing,
    } in alive
    {
        let user = &standing.user;
        if !user.open {
            return Some(format!("{process} has no connection"));
        }
        if plan.watch && !user.following {
            return Some(format!("{process} does not follow the bucket"));
        }
        let others = alive.iter().filter(|_| plan.watch);
        for other in others {
            let place = place(standing.account.unwrap_or_default(), &other.plan.name);
            let seen = user.seen.get(&place).copied().unwrap_or_default();
            let written = other.standing.user.written;
            if written == 0 || seen + 1 < written {
                let of = &other.plan.name;
                return Some(format!(
                    "{process} has seen {seen} of {written} writes of {of}"
                ));
            }
        }
    }
    None
}

#[derive(Clone)]
struct User(Actor);

/// Lives until told to close.
pub(super) async fn live<E: Env>(actor: Actor, env: E, orders: mpsc::UnboundedReceiver<Order>) {
    User(actor).live(env, orders).await;
}

impl User {
    async fn live<E: Env>(self, env: E, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let connection = tokio::select! {
                biased;
                _order = orders.recv() => return,
                connection = self.0.connect(&env) => connection,
            };
            self.note(|standing| standing.open = true);
            let over = self.0.over(connection.events());
            let mut tasks = vec![
                env.spawn("write", self.clone().write(env.clone(), connection.clone())),
                env.spawn("flush", self.clone().flush(env.clone(), connection.clone())),
            ];
            if self.0.plan.watch {
                let following = self.clone().follow(env.clone(), connection.clone());
                tasks.push(env.spawn("follow", following));
            }
            // However the orders end, it is time to close.
            let is_told = tokio::select! {
                biased;
                _order = orders.recv() => true,
                () = over => false,
            };
            drop(tasks);
            self.0.tell(Tell::FollowEnded);
            self.note(|standing| (standing.open, standing.following) = (false, false));
            if is_told {
                return connection.close().await;
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut Standing)) {
        self.0.note(|standing| change(&mut standing.user));
    }

    /// The bucket, which the first who comes makes.
    async fn bucket<E: Env>(&self, connection: &ConnectionOf<E>) -> Option<BucketOf<E>> {
        let config = BucketConfig::new(BUCKET);
        connection.create_bucket(&config).await.ok()
    }

    async fn write<E: Env>(self, env: E, connection: ConnectionOf<E>) {
        let mut at = env.clock().now();
        let mut known: Option<(&'static str, BucketOf<E>)> = None;
        loop {
            at += self.0.plan.interval;
            env.clock().sleep_until(at).await;
            at = at.max(env.clock().now());
            // Who is logged out has nothing to write.
            let Some(account) = self.0.account() else {
                known = None;
                continue;
            };
            if known.as_ref().is_none_or(|(of, _)| *of != account) {
                let found = self.bucket::<E>(&connection).await;
                known = found.map(|bucket| (account, bucket));
            }
            let Some((account, bucket)) = &known else {
                continue;
            };
            // What was made while the account changed may be another's.
            if self.0.account() != Some(*account) {
                known = None;
                continue;
            }
            let count = self.0.standing().user.tried + 1;
            self.note(|standing| standing.tried = count);
            let place = place(account, &self.0.plan.name);
            let key = format!("{place}.{}", count % SLOTS);
            // No two are alike, so that what was refused is not taken for what was written later.
            let value = format!("{place} {count} {}", self.0.process);
            if bucket.put(&key, value.into()).await.is_ok() {
                self.note(|standing| standing.written = count);
            } else {
                known = None;
            }
        }
    }

    async fn flush<E: Env>(self, env: E, connection: ConnectionOf<E>) {
        let mut at = env.clock().now();
        loop {
            at += self.0.plan.interval * 2;
            env.clock().sleep_until(at).await;
            at = at.max(env.clock().now());
            if self.0.account().is_some() {
                self.0
                    .call(Call::Flush, connection.flush(), |()| Reply::Done)
                    .await;
            }
        }
    }

    async fn follow<E: Env>(self, env: E, connection: ConnectionOf<E>) {
        loop {
            if let Some(bucket) = self.bucket::<E>(&connection).await {
                let watching = bucket.watch(">", WatchStart::Snapshot);
                let followed = self.0.call(Call::Follow, watching, |_| Reply::Done).await;
                if let Some(watch) = followed {
                    self.note(|standing| standing.following = true);
                    self.hear(watch).await;
                    self.note(|standing| standing.following = false);
                    self.0.tell(Tell::FollowEnded);
                }
            }
            self.0.wait(&env).await;
        }
    }

    async fn hear(&self, mut watch: Watch) {
        while let Some(event) = watch.next().await {
            match event {
                WatchEvent::Entry(entry) => {
                    let text = String::from_utf8_lossy(&entry.value);
                    let mut words = text.split(' ');
                    if let (Some(place), Some(count)) = (words.next(), words.next()) {
                        let count: u64 = count.parse().unwrap_or_default();
                        self.note(|user| {
                            let seen = user.seen.entry(place.to_owned()).or_default();
                            *seen = count.max(*seen);
                        });
                    }
                    self.0.tell(Tell::Saw {
                        key: entry.key,
                        revision: entry.revision,
                    });
                }
                WatchEvent::SnapshotEnd => {}
                WatchEvent::Interrupted(cause) => self.0.tell(Tell::Interrupted {
                    reason: cause.to_string(),
                }),
                WatchEvent::Resumed { .. } => self.0.tell(Tell::Resumed),
            }
        }
    }
}
