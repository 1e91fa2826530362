//! Generated sequences of operations on one bucket, and what is seen of them.
//!
//! Several clients take turns. After every operation each open watch is read until it has told the last revision, so
//! that a sequence has one outcome in both worlds, though a watch be no change log.

use std::time::Duration;

use squall_core::transport::{
    Bucket, BucketConfig, Connection, Revision, Storage, Watch, WatchEvent, WatchStart,
};

use super::laboratory::{Laboratory, Stop, connect, within};
use super::transcript::{Show as _, told};

/// Keys of a sequence; two share a first token.
const KEYS: [&str; 4] = ["a", "b.x", "b.y", "c"];
/// Filters of its watches.
const FILTERS: [&str; 4] = [">", "b.*", "a", "*"];
/// How long a watch may take to tell what it must.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which revision is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The key's latest, as the client could know it.
    Latest,
    /// The key's latest but one.
    Stale,
    /// That of no record.
    None,
    /// Whatever this is.
    Other(u8),
}

/// One operation; numbers choose among keys, filters and watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the operations of the seam")]
pub enum Op {
    Put(u8),
    Create(u8),
    Update(u8, Expected),
    Delete(u8, Option<Expected>),
    Purge(u8, Option<Expected>),
    Entry(u8),
    History(u8),
    Entries(u8),
    Info,
    /// Opens a watch with this filter: from a snapshot, now, or a revision.
    Watch(u8, Option<u8>, bool),
    /// Closes one of the open watches.
    Unwatch(u8),
}

/// A whole sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Records kept of a key.
    pub history: u8,
    /// Whose turn it is, and what is done.
    pub steps: Vec<(u8, Op)>,
}

/// Clients, to be used for many sequences.
#[derive(Debug)]
pub struct Clients<C>(Vec<C>);

impl<C: Connection> Clients<C> {
    /// Three, each on a link of its own.
    ///
    /// # Errors
    /// If one cannot connect.
    pub async fn connect<L>(lab: &L) -> Result<Self, Stop>
    where
        L: Laboratory,
        <L::Env as squall_core::Env>::Transport: squall_core::Transport<Connection = C>,
    {
        let mut all = Vec::new();
        for link in ["one", "two", "three"] {
            all.push(connect(lab, link).await?);
        }
        Ok(Self(all))
    }

    /// What is seen of a sequence in the bucket of this name, which must be fresh; it is gone afterwards.
    ///
    /// # Errors
    /// If something failed that a sequence takes for granted.
    pub async fn play<L: Laboratory>(
        &self,
        lab: &L,
        name: &str,
        sequence: &Sequence,
    ) -> Result<Vec<String>, Stop> {
        let config = BucketConfig {
            history: sequence.history,
            storage: Storage::Memory,
            ..BucketConfig::new(name)
        };
        let mut buckets = vec![self.0[0].create_bucket(&config).await?];
        for client in &self.0[1..] {
            buckets.push(client.bucket(name)?);
        }
        let mut stage = Stage {
            lab,
            buckets,
            latest: KEYS.map(|_| Vec::new()),
            last: Revision::NONE,
            watches: Vec::new(),
            seen: Vec::new(),
        };
        for (number, (client, op)) in sequence.steps.iter().enumerate() {
            stage.step(number, *client, *op).await?;
        }
        let seen = stage.seen;
        drop(stage.watches);
        self.0[0].delete_bucket(name).await?;
        Ok(seen)
    }
}

struct OpenWatch {
    watch: Watch,
    filter: &'static str,
    /// Has told, or need not tell, everything up to here.
    told: Revision,
    ended: bool,
}

struct Stage<'a, L, B> {
    lab: &'a L,
    buckets: Vec<B>,
    /// Revisions of each key, oldest first.
    latest: [Vec<Revision>; KEYS.len()],
    last: Revision,
    watches: Vec<OpenWatch>,
    seen: Vec<String>,
}

impl<L: Laboratory, B: Bucket> Stage<'_, L, B> {
    async fn step(&mut self, number: usize, client: u8, op: Op) -> Result<(), Stop> {
        let bucket = self.buckets[usize::from(client) % self.buckets.len()].clone();
        let value = || format!("v{number}").into();
        let said = match op {
            Op::Put(key) => {
                let result = bucket.put(name(key), value()).await;
                self.wrote(key, result.as_ref().ok());
                told(&result)
            }
            Op::Create(key) => {
                let result = bucket.create(name(key), value()).await;
                self.wrote(key, result.as_ref().ok());
                told(&result)
            }
            Op::Update(key, expected) => {
                let expected = self.revision(key, expected);
                let result = bucket.update(name(key), value(), expected).await;
                self.wrote(key, result.as_ref().ok());
                told(&result)
            }
            Op::Delete(key, expected) => {
                let expected = expected.map(|expected| self.revision(key, expected));
                let result = bucket.delete(name(key), expected).await;
                self.wrote(key, result.as_ref().ok());
                told(&result)
            }
            Op::Purge(key, expected) => {
                let expected = expected.map(|expected| self.revision(key, expected));
                let result = bucket.purge(name(key), expected).await;
                self.wrote(key, result.as_ref().ok());
                told(&result)
            }
            Op::Entry(key) => told(&bucket.entry(name(key)).await),
            Op::History(key) => told(&bucket.history(name(key)).await),
            Op::Entries(filter) => told(&bucket.entries(chosen(&FILTERS, filter)).await),
            Op::Info => told(&bucket.info().await),
            Op::Watch(filter, from, now) => {
                let filter = chosen(&FILTERS, filter);
                let start = match from {
                    Some(from) => {
                        WatchStart::Revision(Revision(u64::from(from) % (self.last.0 + 2)))
                    }
                    None if now => WatchStart::Now,
                    None => WatchStart::Snapshot,
                };
                let watch = bucket.watch(filter, start).await?;
                self.watches.push(OpenWatch {
                    watch,
                    filter,
                    told: if start == WatchStart::Now {
                        self.last
                    } else {
                        Revision::NONE
                    },
                    ended: false,
                });
                format!("{start:?}")
            }
            Op::Unwatch(watch) => {
                if !self.watches.is_empty() {
                    let watch = usize::from(watch) % self.watches.len();
                    self.watches.remove(watch);
                }
                "done".to_owned()
            }
        };
        self.seen
            .push(format!("{number}. {op:?} by {client}: {said}"));
        self.catch_up().await
    }

    fn revision(&self, key: u8, expected: Expected) -> Revision {
        let known = &self.latest[usize::from(key) % KEYS.len()];
        let from_end = |back: usize| {
            let found = known
                .len()
                .checked_sub(back)
                .and_then(|index| known.get(index));
            found.copied().unwrap_or(Revision::NONE)
        };
        match expected {
            Expected::Latest => from_end(1),
            Expected::Stale => from_end(2),
            Expected::None => Revision::NONE,
            Expected::Other(number) => Revision(u64::from(number)),
        }
    }

    fn wrote(&mut self, key: u8, revision: Option<&Revision>) {
        if let Some(revision) = revision {
            self.latest[usize::from(key) % KEYS.len()].push(*revision);
            self.last = *revision;
        }
    }

    /// Reads every watch until it has told the last revision that concerns it.
    async fn catch_up(&mut self) -> Result<(), Stop> {
        for (number, watch) in self.watches.iter_mut().enumerate() {
            let concerned = KEYS
                .iter()
                .zip(&self.latest)
                .filter(|(key, _)| matches(watch.filter, key));
            let due = concerned.filter_map(|(_, known)| known.last()).max();
            let due = due.copied().unwrap_or(Revision::NONE);
            while !watch.ended || watch.told < due {
                let event = within(self.lab, PATIENCE, watch.watch.next())
                    .await
                    .flatten();
                let Some(event) = event else {
                    // What was due may lie before the start of the watch.
                    self.seen
                        .push(format!("watch {number}: nothing comes of {due}"));
                    return Err(Stop(format!("{:#?}", self.seen)));
                };
                match &event {
                    WatchEvent::Entry(entry) => watch.told = entry.revision,
                    WatchEvent::SnapshotEnd => {
                        watch.ended = true;
                        watch.told = watch.told.max(due);
                    }
                    WatchEvent::Interrupted(_) | WatchEvent::Resumed { .. } => {}
                }
                self.seen.push(format!("watch {number}: {}", event.show()));
            }
        }
        Ok(())
    }
}

fn name(key: u8) -> &'static str {
    chosen(&KEYS, key)
}

fn chosen(names: &[&'static str], number: u8) -> &'static str {
    names[usize::from(number) % names.len()]
}

fn matches(filter: &str, key: &str) -> bool {
    match filter {
        ">" => true,
        "*" => !key.contains('.'),
        "b.*" => key.starts_with("b."),
        filter => filter == key,
    }
}
