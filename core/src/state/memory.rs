//! [`MemoryBucket`]: a bucket in the memory of one process, as nats-server 2.11 and later keep theirs: revisions shared by
//! all keys, writes over a revision, one record a key, lives of records that end with a marker, and watches.
//!
//! What is written there cannot fail and answers at once; it is gone with the last handle. A watch tells the latest record
//! of each key in the order of revisions, and waits for a slow reader.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::env::{Env, Task};
use crate::time::{Clock, Instant, UnixTime};
use crate::transport::names::{is_filter, is_key};
use crate::transport::{
    Bucket, BucketConfig, BucketInfo, CreateError, KvEntry, Leadership, MessageTtl, Operation,
    PutOptions, ReadError, Revision, UpdateError, Watch, WatchError, WatchEvent, WatchSender,
    WatchStart, WriteError,
};

/// How long a marker says that a record's life is over.
const MARKER_LIFE: Duration = Duration::from_secs(3600);
/// Unread events of a watch, before it waits for its reader.
const WATCH_CAPACITY: usize = 64;

/// See the head of this file. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct MemoryBucket<E: Env>(Arc<Shared<E>>);

impl<E: Env> std::fmt::Debug for MemoryBucket<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryBucket({})", self.0.config.bucket)
    }
}

struct Shared<E: Env> {
    env: E,
    config: BucketConfig,
    /// Its clock: the wall time at its creation, and monotonic time from there on.
    began: (Instant, UnixTime),
    records: Mutex<Records>,
    signals: Arc<Signals>,
    /// Ends lives while nobody asks.
    sweeper: Mutex<Option<Task>>,
}

#[derive(Default)]
struct Signals {
    /// There is a new record.
    changed: Notify,
    /// A life ends sooner than the others.
    sooner: Notify,
}

#[derive(Default)]
struct Records {
    last: Revision,
    latest: BTreeMap<Arc<str>, Held>,
    order: BTreeMap<Revision, Arc<str>>,
    /// Those whose life ends, in the order in which they do.
    ends: BTreeMap<(Instant, Revision), Arc<str>>,
}

struct Held {
    entry: KvEntry,
    ends: Option<Instant>,
}

impl Records {
    fn store(&mut self, entry: KvEntry, ends: Option<Instant>) {
        self.remove(&entry.key.clone());
        self.order.insert(entry.revision, Arc::clone(&entry.key));
        if let Some(ends) = ends {
            self.ends
                .insert((ends, entry.revision), Arc::clone(&entry.key));
        }
        self.latest
            .insert(Arc::clone(&entry.key), Held { entry, ends });
    }

    fn remove(&mut self, key: &str) {
        if let Some(held) = self.latest.remove(key) {
            self.order.remove(&held.entry.revision);
            if let Some(ends) = held.ends {
                self.ends.remove(&(ends, held.entry.revision));
            }
        }
    }

    fn next_end(&self) -> Option<Instant> {
        self.ends.first_key_value().map(|((ends, _), _)| *ends)
    }

    /// The records after this one, in their order.
    fn after(&self, told: Revision, filter: &str) -> Vec<KvEntry> {
        let newer = self.order.range(told.next()..);
        let matching = newer.filter(|(_, key)| passes(filter, key));
        let held = matching.filter_map(|(_, key)| self.latest.get(key));
        held.map(|held| held.entry.clone()).collect()
    }
}

/// Whether a filter lets a key pass.
fn passes(filter: &str, key: &str) -> bool {
    let (mut wanted, mut tokens) = (filter.split('.'), key.split('.'));
    loop {
        match (wanted.next(), tokens.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
}

impl<E: Env> Shared<E> {
    fn at(&self, instant: Instant) -> UnixTime {
        self.began.1 + instant.since(self.began.0)
    }

    /// The records, without those whose life is over.
    fn records(&self) -> MutexGuard<'_, Records> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.env.clock().now();
        let mut is_news = false;
        while let Some((&(ends, _), key)) = records.ends.first_key_value()
            && ends <= now
        {
            let key = Arc::clone(key);
            let held = records.latest.get(&key);
            if held.is_some_and(|held| held.entry.operation.is_put()) {
                is_news = true;
                records.last = records.last.next();
                let marker = KvEntry {
                    key,
                    value: Bytes::new(),
                    revision: records.last,
                    operation: Operation::Expire,
                    created: self.at(ends),
                };
                records.store(marker, Some(ends + MARKER_LIFE));
            } else {
                // A marker leaves nothing behind.
                records.remove(&key);
            }
        }
        if is_news {
            self.signals.changed.notify_waiters();
        }
        records
    }

    fn write(
        &self,
        key: &str,
        value: Bytes,
        operation: Operation,
        options: PutOptions,
    ) -> Result<Revision, UpdateError> {
        if !is_key(key) {
            return Err(WriteError::InvalidKey(key.into()).into());
        }
        let now = self.env.clock().now();
        let mut records = self.records();
        let actual = records.latest.get(key).map(|held| held.entry.revision);
        let actual = actual.unwrap_or(Revision::NONE);
        if options.expected.is_some_and(|expected| expected != actual) {
            return Err(UpdateError::WrongRevision { actual });
        }
        let ends = match options.ttl {
            Some(MessageTtl::For(life)) => Some(now + whole_seconds(life)),
            Some(MessageTtl::Never) | None => None,
        };
        let is_sooner = |ends: Instant| records.next_end().is_none_or(|next| ends < next);
        let wakes_sweeper = ends.is_some_and(is_sooner);
        records.last = records.last.next();
        let revision = records.last;
        let entry = KvEntry {
            key: key.into(),
            value,
            revision,
            operation,
            created: self.at(now),
        };
        records.store(entry, ends);
        drop(records);
        self.signals.changed.notify_waiters();
        if wakes_sweeper {
            self.signals.sooner.notify_one();
        }
        Ok(revision)
    }
}

/// As servers are told lives: rounded up.
fn whole_seconds(life: Duration) -> Duration {
    let up = u64::from(life.subsec_nanos() > 0);
    Duration::from_secs(life.as_secs().saturating_add(up).max(1))
}

impl<E: Env> MemoryBucket<E> {
    /// An empty bucket of this name.
    pub fn new(env: &E, name: &str) -> Self {
        let clock = env.clock();
        let config = BucketConfig {
            delete_markers: Some(MARKER_LIFE),
            ..BucketConfig::new(name)
        };
        let signals = Arc::new(Signals::default());
        let shared = Arc::new(Shared {
            env: env.clone(),
            config,
            began: (clock.now(), clock.wall()),
            records: Mutex::default(),
            signals: Arc::clone(&signals),
            sweeper: Mutex::default(),
        });
        let sweeps = sweep(clock.clone(), Arc::downgrade(&shared), signals);
        let task = env.spawn("memory bucket", sweeps);
        *shared
            .sweeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(task);
        Self(shared)
    }
}

/// Ends lives in time, so that watches hear of it.
async fn sweep<E: Env>(clock: E::Clock, shared: Weak<Shared<E>>, signals: Arc<Signals>) {
    loop {
        let Some(next) = shared.upgrade().map(|shared| shared.records().next_end()) else {
            return;
        };
        let due = async {
            match next {
                Some(next) => clock.sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = due => {}
            () = signals.sooner.notified() => {}
        }
    }
}

/// Tells what comes, as fast as the reader reads.
async fn follow<E: Env>(
    shared: Arc<Shared<E>>,
    filter: String,
    mut told: Revision,
    out: WatchSender,
) {
    let mut is_snapshot = true;
    loop {
        let changed = shared.signals.changed.notified();
        tokio::pin!(changed);
        // From before the records are read on: no change falls between.
        changed.as_mut().enable();
        let news = shared.records().after(told, &filter);
        for entry in news {
            told = told.max(entry.revision);
            out.room(1).await;
            if out.try_send(WatchEvent::Entry(entry)).is_err() {
                return;
            }
        }
        if is_snapshot {
            is_snapshot = false;
            out.room(1).await;
            if out.try_send(WatchEvent::SnapshotEnd).is_err() {
                return;
            }
        }
        tokio::select! {
            biased;
            () = out.closed() => return,
            () = changed => {}
        }
    }
}

impl<E: Env> Bucket for MemoryBucket<E> {
    fn name(&self) -> &str {
        &self.0.config.bucket
    }

    async fn entry(&self, key: &str) -> Result<Option<KvEntry>, ReadError> {
        if !is_key(key) {
            return Err(ReadError::InvalidKey(key.into()));
        }
        let records = self.0.records();
        Ok(records.latest.get(key).map(|held| held.entry.clone()))
    }

    async fn history(&self, key: &str) -> Result<Vec<KvEntry>, ReadError> {
        Ok(self.entry(key).await?.into_iter().collect())
    }

    async fn entries(&self, filter: &str) -> Result<Vec<KvEntry>, ReadError> {
        if !is_filter(filter) {
            return Err(ReadError::InvalidKey(filter.into()));
        }
        let mut entries = self.0.records().after(Revision::NONE, filter);
        entries.retain(|entry| entry.operation.is_put());
        Ok(entries)
    }

    async fn entries_of(&self, keys: &[&str]) -> Result<Vec<KvEntry>, ReadError> {
        let mut entries = Vec::new();
        for key in keys {
            entries.extend(self.entry(key).await?);
        }
        entries.sort_by_key(|entry| entry.revision);
        Ok(entries)
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<Revision, WriteError> {
        match self.put_with(key, value, PutOptions::default()).await {
            Ok(revision) => Ok(revision),
            Err(UpdateError::Write(error)) => Err(error),
            Err(UpdateError::WrongRevision { .. }) => {
                unreachable!("nothing was expected of the revision")
            }
        }
    }

    async fn put_with(
        &self,
        key: &str,
        value: Bytes,
        options: PutOptions,
    ) -> Result<Revision, UpdateError> {
        self.0.write(key, value, Operation::Put, options)
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<Revision, CreateError> {
        self.create_with(key, value, MessageTtl::Never).await
    }

    async fn create_with(
        &self,
        key: &str,
        value: Bytes,
        ttl: MessageTtl,
    ) -> Result<Revision, CreateError> {
        let held = self.entry(key).await.map_err(ReadError::before_write)?;
        if held.as_ref().is_some_and(|held| held.operation.is_put()) {
            return Err(CreateError::AlreadyExists);
        }
        let options = PutOptions {
            expected: Some(held.map_or(Revision::NONE, |held| held.revision)),
            ttl: Some(ttl),
        };
        match self.put_with(key, value, options).await {
            Ok(revision) => Ok(revision),
            // On another thread somebody was faster.
            Err(UpdateError::WrongRevision { .. }) => Err(CreateError::AlreadyExists),
            Err(UpdateError::Write(error)) => Err(error.into()),
        }
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
    ) -> Result<Revision, UpdateError> {
        let options = PutOptions {
            expected: Some(expected),
            ttl: None,
        };
        self.put_with(key, value, options).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<Revision, UpdateError> {
        let options = PutOptions {
            expected,
            ttl: None,
        };
        let delete = Operation::Delete;
        self.0.write(key, Bytes::new(), delete, options)
    }

    async fn purge(&self, key: &str, expected: Option<Revision>) -> Result<Revision, UpdateError> {
        let options = PutOptions {
            expected,
            ttl: None,
        };
        let purge = Operation::Purge;
        self.0.write(key, Bytes::new(), purge, options)
    }

    async fn watch(&self, filter: &str, start: WatchStart) -> Result<Watch, WatchError> {
        if !is_filter(filter) {
            return Err(WatchError::InvalidFilter(filter.into()));
        }
        let told = match start {
            WatchStart::Snapshot => Revision::NONE,
            WatchStart::Now => self.0.records().last,
            WatchStart::Revision(first) => Revision(first.0.saturating_sub(1)),
        };
        let (out, watch) = Watch::channel(WATCH_CAPACITY, None);
        let follows = follow(Arc::clone(&self.0), filter.to_owned(), told, out);
        self.0.env.spawn("memory watch", follows).detach();
        Ok(watch)
    }

    async fn info(&self) -> Result<BucketInfo, ReadError> {
        let records = self.0.records();
        Ok(BucketInfo {
            config: self.0.config.clone(),
            last_revision: records.last,
            records: records.latest.len() as u64,
            created: self.0.began.1,
            now: self.0.at(self.0.env.clock().now()),
            leadership: Leadership::Alone,
        })
    }
}
