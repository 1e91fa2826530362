//! One bucket: its settings, its records, and the consumers that read them.
//!
//! Every change of the records goes through `store` and `removed` here, so that consumers, the expiry timer and the
//! effects that tell the truth about it cannot disagree.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::transport::{
    ApiError, BucketConfig, BucketInfo, KvEntry, Operation, Revision, Storage,
};
use squall_core::{Instant, UnixTime};

use super::config::Version;
use super::consumer::{Consumer, ConsumerId, Wanted};
use super::context::Context;
use super::effect::{Cause, Commit, Effect, Incarnation, Removed};
use super::refusal::{api_error, marker_headers_len, record_size};
use super::store::{KeyId, Store};
use super::subject::{KV_PREFIX, is_routable};
use super::timers::{BucketTimer, Timer};
use crate::wire::{LinkId, RequestId, Sid};

/// Of a hundred writes, those whose watchers hear of them before the writer has its acknowledgement (34 to 37
/// measured).
const HEARD_FIRST_OF_100: u64 = 35;

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) incarnation: Incarnation,
    pub(super) name: Arc<str>,
    pub(super) config: BucketConfig,
    pub(super) store: Store,
    created: UnixTime,
    /// Delete markers and when they go; one that was overwritten is found missing then.
    pub(super) marker_ends: BTreeSet<(UnixTime, Revision)>,
    /// When the sweep for expired records fires next.
    pub(super) sweep_at: Option<Instant>,
    consumers: Vec<Consumer>,
    /// Consumers that have lost their subscription and not yet their life.
    inactive: BTreeSet<ConsumerId>,
}

/// A write as it came in.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub(super) key: Arc<str>,
    pub(super) value: Bytes,
    pub(super) operation: Operation,
    pub(super) expected: Option<Revision>,
    /// Bytes of its headers.
    pub(super) headers: usize,
    pub(super) by: Option<(LinkId, RequestId)>,
}

/// Why a write was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The subject is none that the stream listens to.
    NoStream,
    /// Another record of the key is the latest.
    WrongRevision(Revision),
    /// A limit.
    Error(ApiError),
}

impl Bucket {
    pub(super) fn new(incarnation: Incarnation, config: BucketConfig, created: UnixTime) -> Self {
        Self {
            incarnation,
            name: config.bucket.as_str().into(),
            config,
            store: Store::default(),
            created,
            marker_ends: BTreeSet::new(),
            sweep_at: None,
            consumers: Vec::new(),
            inactive: BTreeSet::new(),
        }
    }

    pub(super) fn info(&self) -> BucketInfo {
        BucketInfo {
            config: self.config.clone(),
            last_revision: self.store.last(),
            records: self.store.len() as u64,
            created: self.created,
        }
    }

    pub(super) fn entry(&self, key: &str) -> Option<&KvEntry> {
        let key = self.store.find(key)?;
        Some(&self.store.newest(key).entry)
    }

    /// Stores a write, or says why not. A refused write takes no revision.
    pub(super) fn write(
        &mut self,
        ctx: &mut Context<'_>,
        incoming: Incoming,
    ) -> Result<Revision, Refusal> {
        let key = self.store.find(&incoming.key);
        if key.is_none() && !is_routable(&incoming.key) {
            return Err(Refusal::NoStream);
        }
        let actual = key.map_or(Revision::NONE, |key| self.store.newest(key).entry.revision);
        let check_condition = || match incoming.expected {
            Some(expected) if expected != actual => Err(Refusal::WrongRevision(actual)),
            _ => Ok(()),
        };
        // Which of two reasons is told depends on the version.
        if ctx.config.version.is_at_least(2, 15) {
            self.check_value_size(&incoming)?;
            check_condition()?;
        } else {
            check_condition()?;
            self.check_value_size(&incoming)?;
        }
        let size = self.check_space(ctx.config.version, &incoming, key)?;
        let entry = KvEntry {
            key: incoming.key,
            value: incoming.value,
            revision: Revision::NONE,
            operation: incoming.operation,
            created: ctx.now.wall,
        };
        Ok(self.store(ctx, entry, size, incoming.by))
    }

    fn check_value_size(&self, incoming: &Incoming) -> Result<(), Refusal> {
        let bytes = incoming.headers + incoming.value.len();
        if usize::try_from(self.config.max_value_size).is_ok_and(|limit| bytes > limit) {
            let why = "message size exceeds maximum allowed";
            return Err(Refusal::Error(api_error(400, 10054, why)));
        }
        Ok(())
    }

    /// The size of the new record, if there is room for it. A full bucket still takes a write that pushes a record of
    /// the same key out of the history, if it fits there. Up to 2.12 a bucket is full one byte earlier, and in a file
    /// such a write must be smaller than what it pushes out.
    fn check_space(
        &self,
        version: Version,
        incoming: &Incoming,
        key: Option<KeyId>,
    ) -> Result<u64, Refusal> {
        let size = record_size(
            self.config.storage,
            self.subject_len(&incoming.key),
            incoming.headers,
            incoming.value.len(),
        );
        let Ok(limit) = u64::try_from(self.config.max_bytes) else {
            return Ok(size);
        };
        let is_old = !version.is_at_least(2, 13);
        let needed = size + u64::from(is_old);
        let evicted = key
            .filter(|&key| self.store.records_of(key) >= usize::from(self.config.history))
            .map_or(0, |key| self.store.oldest(key).size);
        let must_be_smaller = is_old && self.config.storage == Storage::File;
        let fits = size + u64::from(must_be_smaller) <= evicted;
        if self.store.bytes() + needed > limit && !fits {
            let why = "maximum bytes exceeded";
            return Err(Refusal::Error(api_error(503, 10077, why)));
        }
        Ok(size)
    }

    pub(super) const fn timer(&self, timer: BucketTimer) -> Timer {
        Timer::Bucket(self.incarnation, timer)
    }

    fn subject_len(&self, key: &str) -> usize {
        KV_PREFIX.len() + self.name.len() + 1 + key.len()
    }

    fn store(
        &mut self,
        ctx: &mut Context<'_>,
        entry: KvEntry,
        size: u64,
        by: Option<(LinkId, RequestId)>,
    ) -> Revision {
        let (key, record) = self.store.append(entry, size);
        let revision = record.entry.revision;
        let operation = record.entry.operation;
        let mut is_awaited = false;
        for consumer in &mut self.consumers {
            is_awaited |= consumer.note_stored(&record.entry);
        }
        ctx.effects.push(Effect::Commit(Commit {
            bucket: Arc::clone(&self.name),
            incarnation: self.incarnation,
            entry: record.entry.clone(),
            by,
        }));
        let (kept, cause) = match operation {
            Operation::Purge => (1, Cause::Purged),
            _ => (usize::from(self.config.history), Cause::Evicted),
        };
        while self.store.records_of(key) > kept {
            let evicted = self.store.remove_oldest(key);
            self.removed(ctx, evicted, cause);
        }
        self.arm_for_new(ctx);
        if is_awaited {
            self.wake(ctx);
        }
        revision
    }

    /// Puts a marker where a key has just aged out.
    pub(super) fn store_marker(&mut self, ctx: &mut Context<'_>, key: Arc<str>, life: Duration) {
        let size = record_size(
            self.config.storage,
            self.subject_len(&key),
            marker_headers_len(life),
            0,
        );
        let entry = KvEntry {
            key,
            value: Bytes::new(),
            revision: Revision::NONE,
            operation: Operation::Expire,
            created: ctx.now.wall,
        };
        let revision = self.store(ctx, entry, size, None);
        self.marker_ends.insert((ctx.now.wall + life, revision));
    }

    /// Tells consumers and the world that a record has gone.
    pub(super) fn removed(&mut self, ctx: &mut Context<'_>, entry: KvEntry, cause: Cause) {
        for consumer in &mut self.consumers {
            consumer.note_removed(&entry);
        }
        ctx.effects.push(Effect::Removed(Removed {
            bucket: Arc::clone(&self.name),
            incarnation: self.incarnation,
            key: entry.key,
            revision: entry.revision,
            cause,
        }));
    }

    /// Drops every record: the bucket is being deleted, or was only in memory.
    pub(super) fn lose_all(mut self, effects: &mut Vec<Effect>, cause: Cause) {
        while let Some(oldest) = self.store.first().map(|record| record.entry.revision) {
            let Some(entry) = self.store.remove_at(oldest) else {
                return;
            };
            effects.push(Effect::Removed(Removed {
                bucket: Arc::clone(&self.name),
                incarnation: self.incarnation,
                key: entry.key,
                revision: entry.revision,
                cause,
            }));
        }
    }

    /// Takes over new settings, with what the server does about it at once.
    pub(super) fn reconfigure(&mut self, ctx: &mut Context<'_>, config: BucketConfig) {
        let is_shorter_history = config.history < self.config.history;
        self.config = config;
        if is_shorter_history {
            self.trim_histories(ctx);
        }
        self.sweep_now(ctx);
        // Markers of the sweep are heard before the answer to the update.
        self.deliver_all(ctx);
    }

    fn trim_histories(&mut self, ctx: &mut Context<'_>) {
        let kept = usize::from(self.config.history);
        let newest: Vec<Arc<str>> = self
            .store
            .from(Revision::NONE)
            .filter(|record| self.store.is_newest(record))
            .map(|record| Arc::clone(&record.entry.key))
            .collect();
        for key in newest {
            while let Some(id) = self.store.find(&key)
                && self.store.records_of(id) > kept
            {
                let evicted = self.store.remove_oldest(id);
                self.removed(ctx, evicted, Cause::Evicted);
            }
        }
    }

    // Consumers.

    pub(super) const fn storage(&self) -> Storage {
        self.config.storage
    }

    /// Consumers that exist, with and without a subscription.
    pub(super) fn consumers(&self) -> usize {
        self.consumers.len() + self.inactive.len()
    }

    /// Adds a consumer and gives what it has to deliver.
    pub(super) fn add_consumer(
        &mut self,
        ctx: &mut Context<'_>,
        id: ConsumerId,
        wanted: Wanted,
    ) -> u64 {
        let now = ctx.now.monotonic;
        let consumer = Consumer::new(id, wanted, &self.store, ctx.config.version, now);
        if consumer.has_heartbeat() {
            let timer = self.timer(BucketTimer::Heartbeat(id));
            ctx.timers.set(consumer.silent_until(), timer);
        }
        let pending = consumer.pending();
        self.consumers.push(consumer);
        pending
    }

    /// A consumer has lost its subscription: it is mute from now on, and gone after a while.
    pub(super) fn deactivate(&mut self, ctx: &mut Context<'_>, link: LinkId, sid: Sid) {
        let is_it = |consumer: &Consumer| (consumer.link, consumer.sid) == (link, sid);
        while let Some(place) = self.consumers.iter().position(is_it) {
            let id = self.consumers.remove(place).id;
            self.inactive.insert(id);
            let timer = self.timer(BucketTimer::Inactive(id));
            ctx.set_timer(ctx.config.consumer_inactive, timer);
        }
    }

    pub(super) fn end_inactive(&mut self, id: ConsumerId) {
        self.inactive.remove(&id);
    }

    pub(super) fn drop_consumers(&mut self) {
        self.consumers.clear();
        self.inactive.clear();
    }

    /// Lets each consumer with something to deliver do so: some at once, the others a little later.
    pub(super) fn wake(&mut self, ctx: &mut Context<'_>) {
        let delay_max = ctx.config.delivery_delay_max;
        for place in 0..self.consumers.len() {
            let consumer = &mut self.consumers[place];
            if consumer.pending() == 0 || !consumer.start_waking() {
                continue;
            }
            let id = consumer.id;
            if delay_max.is_zero() || ctx.rng.chance(HEARD_FIRST_OF_100, 100) {
                self.deliver(ctx, id);
            } else {
                self.set_delivery(ctx, id);
            }
        }
    }

    /// A consumer delivers a batch, and comes again for the next.
    pub(super) fn deliver(&mut self, ctx: &mut Context<'_>, id: ConsumerId) {
        let Ok(place) = self.consumers.binary_search_by_key(&id, |found| found.id) else {
            return;
        };
        let consumer = &mut self.consumers[place];
        while consumer.deliver(&self.store, ctx) {
            if !ctx.config.delivery_delay_max.is_zero() {
                consumer.start_waking();
                self.set_delivery(ctx, id);
                return;
            }
        }
    }

    fn set_delivery(&self, ctx: &mut Context<'_>, id: ConsumerId) {
        let delay_max = ctx.config.delivery_delay_max.as_nanos() as u64;
        let delay = Duration::from_nanos(ctx.rng.between(1, delay_max.max(1)));
        ctx.set_timer(delay, self.timer(BucketTimer::Deliver(id)));
    }

    fn deliver_all(&mut self, ctx: &mut Context<'_>) {
        for consumer in &mut self.consumers {
            while consumer.deliver(&self.store, ctx) {}
        }
    }

    pub(super) fn beat(&mut self, ctx: &mut Context<'_>, id: ConsumerId) {
        let Ok(place) = self.consumers.binary_search_by_key(&id, |found| found.id) else {
            return;
        };
        let next = self.consumers[place].beat(ctx);
        ctx.timers.set(next, self.timer(BucketTimer::Heartbeat(id)));
    }
}
