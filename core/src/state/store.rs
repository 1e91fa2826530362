//! Reads and writes of a store: straight lines of requests over any bucket.
//!
//! Every write is a read and a write over the revision that was read, again where another came between: what a key was
//! fenced with, and since when it has had a value, must go on in the new record.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::entry::{Entry, Operation};
use super::error::{LockError, StateError, Written};
use super::key::{Pattern, data_key, lock_key, user_key};
use super::lock::{Lock, Locks};
use super::record::{Born, HEAD_MAX, Record, Stored};
use super::tracker::Tracker;
use super::ttl::{InvalidTtl, Ttl};
use super::watching::{self, Watch};
use crate::env::Env;
use crate::time::{Clock, Instant, UnixTime};
use crate::transport::{
    Bucket, CreateError, MessageTtl, PutOptions, ReadError, Revision, UpdateError, WriteError,
};

/// The largest value. A record fits into 1 MiB, the largest message that servers take unless told otherwise, together
/// with what the store and NATS add to it: its head, and the headers of a conditional write.
pub const VALUE_MAX: usize = (1 << 20) - 1024;
/// What the headers of a conditional write with a life take, generously.
const HEADERS_MAX: usize = 256;
const _: () = assert!(HEAD_MAX + HEADERS_MAX <= 1024);

/// Others may keep writing a key; for so long a write tries to come between.
const CONTENDED_MAX: Duration = Duration::from_secs(10);

/// A value that is overwritten each time it is found expired is read so often.
const LOOKS_MAX: usize = 16;

/// The server honours no life of a record: the bucket has no delete markers, or it is older than 2.11.
const NO_LIVES: u64 = 10166;

/// What the store has found out about its bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// The server takes records away that say how long they live.
    pub(super) has_lives: bool,
    /// Reads may be answered by copies that are behind.
    pub(super) has_copies: bool,
    pub(super) watch_buffer: usize,
}

/// What a handle holds.
pub(super) struct Inner<E: Env, B: Bucket> {
    env: E,
    bucket: B,
    locks: Locks<E, B>,
    settings: Settings,
    /// Who wants to know when it is closed; `None` once it is.
    watches: Mutex<Option<Vec<oneshot::Sender<()>>>>,
}

/// What a key has.
struct Found {
    /// The latest record, value or not.
    over: Revision,
    stored: Option<Stored>,
    /// Whether that is a value whose life is not over.
    is_live: bool,
}

impl Found {
    fn fence(&self) -> Option<u64> {
        self.stored.as_ref()?.record.fence
    }

    /// What the record that takes the place of this one says about when the key came to be.
    fn born(&self) -> Option<Born> {
        let stored = self.stored.as_ref().filter(|_| self.is_live)?;
        Some(Born {
            at: stored.created(),
            until: stored.expires(),
        })
    }
}

impl<E: Env, B: Bucket> Inner<E, B> {
    pub(super) fn new(env: E, bucket: B, locks: Locks<E, B>, settings: Settings) -> Self {
        Self {
            env,
            bucket,
            locks,
            settings,
            watches: Mutex::new(Some(Vec::new())),
        }
    }

    fn check_open(&self) -> Result<(), StateError> {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.is_some().then_some(()).ok_or(StateError::Closed)
    }

    pub(super) fn close(&self) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        for watch in watches.take().into_iter().flatten() {
            // Whoever watched may have stopped.
            let _gone = watch.send(());
        }
    }

    /// Ready once the store is closed.
    fn closing(&self) -> Result<oneshot::Receiver<()>, StateError> {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let watches = watches.as_mut().ok_or(StateError::Closed)?;
        watches.retain(|watch| !watch.is_closed());
        let (sender, closing) = oneshot::channel();
        watches.push(sender);
        Ok(closing)
    }

    async fn server_time(&self) -> Result<UnixTime, ReadError> {
        Ok(self.bucket.info().await?.now)
    }

    async fn read(&self, key: &str) -> Result<(Revision, Option<Stored>), ReadError> {
        let entry = self.bucket.entry(key).await?;
        let over = entry
            .as_ref()
            .map_or(Revision::NONE, |entry| entry.revision);
        Ok((over, entry.as_ref().and_then(Stored::of)))
    }

    /// What a write will take the place of. Whether it still is there, the write itself will tell.
    async fn find(&self, key: &str) -> Result<Found, ReadError> {
        let (over, stored) = self.read(key).await?;
        let is_live = match &stored {
            None => false,
            Some(stored) if stored.record.gone => false,
            Some(stored) => match stored.expires() {
                None => true,
                Some(end) => self.server_time().await? < end,
            },
        };
        Ok(Found {
            over,
            stored,
            is_live,
        })
    }

    pub(super) async fn get(&self, key: &str) -> Result<Entry, StateError> {
        self.check_open()?;
        let stored_key = data_key(key)?;
        let (mut over, mut found) = self.read(&stored_key).await?;
        for _ in 0..LOOKS_MAX {
            let Some(stored) = found.filter(|stored| !stored.record.gone) else {
                return Err(StateError::NotFound);
            };
            let Some(end) = stored.expires() else {
                return Ok(Entry::of(key, stored));
            };
            if self.server_time().await? < end {
                // So it was live when it was read.
                return Ok(Entry::of(key, stored));
            }
            // Another may have taken its place in time: only if it is there still, the key has no value.
            let before = over;
            (over, found) = self.read(&stored_key).await?;
            if over == before {
                return Err(StateError::NotFound);
            }
        }
        Err(StateError::Contended)
    }

    /// Writes what `make` says over what is there, as often as another comes between; `None` where it has nothing to
    /// write.
    async fn write(
        &self,
        key: &str,
        mut make: impl FnMut(&Found) -> Result<Option<Write>, StateError> + Send,
    ) -> Result<Option<Revision>, StateError> {
        let deadline = self.env.clock().now() + CONTENDED_MAX;
        loop {
            let found = self.find(key).await?;
            let Some(write) = make(&found)? else {
                return Ok(None);
            };
            let written = match write {
                Write::Record(record) => self.write_record(key, record, found.over).await,
                Write::Tombstone => self.bucket.delete(key, Some(found.over)).await,
            };
            if let Written::Done(revision) = Written::of(written)? {
                return Ok(Some(revision));
            }
            if self.env.clock().now() >= deadline {
                return Err(StateError::Contended);
            }
        }
    }

    async fn write_record(
        &self,
        key: &str,
        mut record: Record,
        over: Revision,
    ) -> Result<Revision, UpdateError> {
        // What is fenced is never taken away: the fence would go with it.
        let life = record.life.filter(|_| record.fence.is_none());
        if let Some(life) = life.filter(|_| self.settings.has_lives) {
            record.server_ends_it = true;
            // In whole seconds, rounded up: never sooner than the record says.
            let ttl = Some(MessageTtl::For(life));
            match self.write_over(key, record.encode(), over, ttl).await {
                // An older server has taken the place of the one that was there when the store was opened.
                Err(UpdateError::Write(WriteError::Rejected(error)))
                    if error.err_code == NO_LIVES =>
                {
                    record.server_ends_it = false;
                }
                written => return written,
            }
        }
        self.write_over(key, record.encode(), over, None).await
    }

    async fn write_over(
        &self,
        key: &str,
        record: Bytes,
        over: Revision,
        ttl: Option<MessageTtl>,
    ) -> Result<Revision, UpdateError> {
        if over > Revision::NONE {
            let expected = Some(over);
            let options = PutOptions { expected, ttl };
            return self.bucket.put_with(key, record, options).await;
        }
        // Where there was no record there may be a tombstone by now: that is no value either.
        let created = match ttl {
            Some(ttl) => self.bucket.create_with(key, record, ttl).await,
            None => self.bucket.create(key, record).await,
        };
        match created {
            Ok(revision) => Ok(revision),
            Err(CreateError::AlreadyExists) => Err(UpdateError::WrongRevision {
                actual: Revision::NONE,
            }),
            Err(CreateError::Write(error)) => Err(error.into()),
        }
    }

    pub(super) async fn put(
        &self,
        key: &str,
        value: Bytes,
        ttl: Ttl,
        token: Option<u64>,
    ) -> Result<Revision, StateError> {
        self.check_open()?;
        let stored_key = data_key(key)?;
        let life = ttl.life()?;
        if value.len() > VALUE_MAX {
            return Err(StateError::TooLarge {
                size: value.len(),
                limit: VALUE_MAX,
            });
        }
        let make = |found: &Found| {
            let fence = found.fence();
            if let (Some(token), Some(fence)) = (token, fence)
                && token < fence
            {
                return Err(StateError::StaleToken { token, fence });
            }
            Ok(Some(Write::Record(Record {
                value: value.clone(),
                fence: token.or(fence),
                life,
                born: found.born(),
                ..Record::default()
            })))
        };
        // There is always something to write.
        Ok(self.write(&stored_key, make).await?.unwrap_or_default())
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StateError> {
        self.check_open()?;
        let stored_key = data_key(key)?;
        let has_copies = self.settings.has_copies;
        let make = |found: &Found| {
            let tombstone = match found.fence() {
                Some(_) => Write::Record(Record {
                    fence: found.fence(),
                    gone: true,
                    ..Record::default()
                }),
                None => Write::Tombstone,
            };
            // A copy that is behind may know nothing of a value yet: a write over what it says finds out.
            Ok((found.is_live || has_copies).then_some(tombstone))
        };
        self.write(&stored_key, make).await.map(drop)
    }

    pub(super) async fn keys(&self, pattern: &str) -> Result<Vec<String>, StateError> {
        self.check_open()?;
        let pattern = Pattern::parse(pattern)?;
        let mut keys = BTreeMap::new();
        // What may be over, by the key of the bucket.
        let mut mortal = Vec::new();
        for entry in self.bucket.entries(&pattern.filter()).await? {
            let (Some(key), Some(stored)) = (user_key(&entry.key), Stored::of(&entry)) else {
                continue;
            };
            if pattern.matches(&key) && !stored.record.gone {
                if stored.record.life.is_some() {
                    mortal.push((entry.key, stored));
                } else {
                    keys.insert(key, ());
                }
            }
        }
        for _ in 0..LOOKS_MAX {
            if mortal.is_empty() {
                return Ok(keys.into_keys().collect());
            }
            let now = self.server_time().await?;
            let (live, over): (Vec<_>, Vec<_>) = mortal
                .into_iter()
                .partition(|(_, stored)| stored.expires().is_none_or(|end| now < end));
            let is_live = |key: &str| user_key(key).map(|key| (key, ()));
            keys.extend(live.iter().filter_map(|(key, _)| is_live(key)));
            mortal = Vec::new();
            if over.is_empty() {
                continue;
            }
            // Another may have taken its place in time: only if it is there still, the key has no value.
            let names: Vec<&str> = over.iter().map(|(key, _)| &**key).collect();
            let over_at: BTreeMap<&str, Revision> = over
                .iter()
                .map(|(key, stored)| (&**key, stored.revision))
                .collect();
            for entry in self.bucket.entries_of(&names).await? {
                let Some(stored) = Stored::of(&entry).filter(|stored| !stored.record.gone) else {
                    continue;
                };
                if over_at.get(&*entry.key) == Some(&stored.revision) {
                    continue;
                }
                if stored.record.life.is_some() {
                    mortal.push((entry.key, stored));
                } else {
                    keys.extend(is_live(&entry.key));
                }
            }
        }
        Err(StateError::Contended)
    }

    pub(super) async fn lock(
        &self,
        key: &str,
        ttl: Ttl,
        deadline: Option<Instant>,
    ) -> Result<Lock, LockError> {
        self.check_open().map_err(|_closed| LockError::Closed)?;
        let record = lock_key(key)?;
        let life = ttl.life()?.ok_or(InvalidTtl(ttl))?;
        Ok(match deadline {
            Some(deadline) => {
                let waiting = self.locks.acquire_wait(key, &record, life, deadline);
                waiting.await?
            }
            None => self.locks.acquire(key, &record, life).await?,
        })
    }

    pub(super) async fn watch(&self, pattern: &str) -> Result<Watch, StateError> {
        let closing = self.closing()?;
        let pattern = Pattern::parse(pattern)?;
        let filter = pattern.filter();
        let tracker = Tracker::new(pattern);
        let buffer = self.settings.watch_buffer;
        let opening = watching::open(
            &self.env,
            self.bucket.clone(),
            filter,
            tracker,
            buffer,
            closing,
        );
        opening.await.map_err(|error| match error {
            None => StateError::Closed,
            Some(error) => error.into(),
        })
    }
}

/// What a write writes.
enum Write {
    Record(Record),
    Tombstone,
}

impl Entry {
    pub(super) fn of(key: &str, stored: Stored) -> Self {
        let created = stored.created();
        Self {
            key: key.to_owned(),
            value: stored.record.value,
            revision: stored.revision,
            operation: Operation::Put,
            created,
            modified: stored.stamp,
        }
    }
}
