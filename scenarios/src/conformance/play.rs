//! Playing a script: what its clients do in turn in one of the worlds, and what is seen of it.
//!
//! After every step each open watch is read until it has told the last revision, and each subscription until a round
//! trip later, so that a script has one outcome in both worlds, though a watch be no change log and messages fly. Of what
//! a client was told after its link had been held only the last record of each key is compared: the others it may
//! have missed.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_core::transport::{
    Bucket, BucketConfig, Connection, ConnectionEvent, Events, JetStream, Operation, Revision,
    Watch, WatchEvent, WatchStart,
};
use squall_core::{Env, Transport};

use super::hearing::Hearing;
use super::laboratory::{
    Laboratory, LinkVerb, ServerVerb, Stop, connect_with, sleep, until, within,
};
use super::script::{ACTORS, Begin, Expected, Kept, Op, Script, Step, actor};
use super::stream_play::Log;
use super::transcript::{Show as _, told, went};

/// How long something may take that must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any hold: a script shows what is told, not when.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// The age limit by which a script lets everything expire, and a little more.
pub(super) const AGE: Duration = Duration::from_secs(1);
pub(super) const AGED: Duration = Duration::from_millis(1100);

/// Clients, to be used for many scripts.
#[derive(Debug)]
pub struct Clients<C> {
    connections: Vec<C>,
    links: Vec<String>,
}

impl<C: Connection + JetStream> Clients<C> {
    /// One for each actor, on links of these clients alone.
    ///
    /// # Errors
    /// If one cannot connect.
    pub async fn connect<L>(lab: &L, name: &str) -> Result<Self, Stop>
    where
        L: Laboratory,
        <L::Env as Env>::Transport: Transport<Connection = C>,
    {
        let (mut connections, mut links) = (Vec::new(), Vec::new());
        for actor in ACTORS {
            let link = format!("{name}-{actor}");
            let patient = connect_with(lab, &link, |options| {
                options.connect_timeout = PATIENCE;
                options.request_timeout = PATIENCE;
                options.ack_timeout = PATIENCE;
                options.watch_heartbeat = HEARTBEAT;
            });
            connections.push(patient.await?);
            links.push(link);
        }
        Ok(Self { connections, links })
    }

    /// What is seen of a script, in a bucket and below subjects of this name, which must be fresh; both are gone
    /// afterwards.
    ///
    /// # Errors
    /// If something failed that a script takes for granted.
    pub async fn play<L: Laboratory>(
        &self,
        lab: &L,
        name: &str,
        script: &Script,
    ) -> Result<Vec<String>, Stop> {
        let mut stage = Stage::set(lab, self, name, script)?;
        let played = stage.perform(script).await;
        for link in &self.links {
            lab.link(link, LinkVerb::Release);
        }
        let (seen, log) = (std::mem::take(&mut stage.seen), stage.log);
        drop(stage.watches);
        log.end().await;
        played.map_err(|Stop(why)| Stop(format!("{why}, after {seen:#?}")))?;
        // It may be gone already.
        let _gone = self.connections[0].delete_bucket(name).await;
        Ok(seen)
    }
}

struct OpenWatch {
    by: usize,
    number: usize,
    watch: Watch,
    filter: String,
    /// Has told, or need not tell, everything up to here.
    told: Revision,
    ended: bool,
    /// The link was held, so that records in between may be missing.
    lagged: bool,
}

struct Stage<'a, L, C: Connection + JetStream> {
    lab: &'a L,
    clients: &'a Clients<C>,
    buckets: Vec<C::Bucket>,
    config: BucketConfig,
    events: Vec<Events>,
    held: Vec<bool>,
    /// Revisions of each key, oldest first.
    latest: BTreeMap<String, Vec<Revision>>,
    last: Revision,
    watches: Vec<OpenWatch>,
    watches_opened: usize,
    hearing: Hearing,
    log: Log<C>,
    seen: Vec<String>,
}

impl<'a, L: Laboratory, C: Connection + JetStream> Stage<'a, L, C> {
    fn set(lab: &'a L, clients: &'a Clients<C>, name: &str, script: &Script) -> Result<Self, Stop> {
        let config = BucketConfig {
            history: script.history,
            storage: script.storage.into(),
            delete_markers: script.markers.then_some(Duration::from_secs(60)),
            ..BucketConfig::new(name)
        };
        let buckets: Result<Vec<_>, _> =
            clients.connections.iter().map(|c| c.bucket(name)).collect();
        Ok(Self {
            lab,
            clients,
            buckets: buckets?,
            config,
            events: clients.connections.iter().map(Connection::events).collect(),
            held: vec![false; ACTORS.len()],
            latest: BTreeMap::new(),
            last: Revision::NONE,
            watches: Vec::new(),
            watches_opened: 0,
            hearing: Hearing::below(name),
            log: Log::new(&clients.connections, name, script.storage)?,
            seen: Vec::new(),
        })
    }

    async fn perform(&mut self, script: &Script) -> Result<(), Stop> {
        let created = self.clients.connections[0]
            .create_bucket(&self.config)
            .await;
        self.seen.push(format!("create bucket: {}", went(&created)));
        for (number, step) in script.steps.iter().enumerate() {
            let said = self.step(number, step, script).await?;
            self.seen.push(format!("{number}. {step}: {said}"));
            self.catch_up().await?;
            self.hear().await?;
            self.log.catch_up(self.lab, &self.held).await?;
            self.seen.extend(self.log.take_seen());
        }
        Ok(())
    }

    async fn step(&mut self, number: usize, step: &Step, script: &Script) -> Result<String, Stop> {
        let place = |actor: &u8| usize::from(*actor) % ACTORS.len();
        match step {
            Step::Does(by, _) | Step::Cut(by) | Step::Hold(by) if self.held[place(by)] => {
                Ok("its link is held".to_owned())
            }
            Step::Does(by, op) => self.act(number, place(by), op, script).await,
            Step::Cut(whose) => self.cut(place(whose)).await,
            Step::Hold(whose) => {
                self.held[place(whose)] = true;
                for watch in self
                    .watches
                    .iter_mut()
                    .filter(|watch| watch.by == place(whose))
                {
                    watch.lagged = true;
                }
                self.log.hold(place(whose));
                self.lab
                    .link(&self.clients.links[place(whose)], LinkVerb::Hold);
                Ok("done".to_owned())
            }
            Step::Release(whose) => {
                self.held[place(whose)] = false;
                self.lab
                    .link(&self.clients.links[place(whose)], LinkVerb::Release);
                Ok("done".to_owned())
            }
            Step::Restart => self.restart().await,
        }
    }

    async fn act(
        &mut self,
        number: usize,
        by: usize,
        op: &Op,
        script: &Script,
    ) -> Result<String, Stop> {
        let connection = &self.clients.connections[by];
        let bucket = self.buckets[by].clone();
        let value = || format!("v{number}").into();
        Ok(match op {
            Op::Put(key) => self.wrote(key, bucket.put(key, value()).await),
            Op::Create(key) => self.wrote(key, bucket.create(key, value()).await),
            Op::Update(key, expected) => {
                let expected = self.revision(key, *expected);
                self.wrote(key, bucket.update(key, value(), expected).await)
            }
            Op::Delete(key, expected) => {
                let expected = expected.map(|expected| self.revision(key, expected));
                self.wrote(key, bucket.delete(key, expected).await)
            }
            Op::Purge(key, expected) => {
                let expected = expected.map(|expected| self.revision(key, expected));
                self.wrote(key, bucket.purge(key, expected).await)
            }
            Op::Entry(key) => told(&bucket.entry(key).await),
            Op::History(key) => told(&bucket.history(key).await),
            Op::Entries(filter) => told(&bucket.entries(filter).await),
            Op::Info => told(&bucket.info().await),
            Op::Watch(filter, begin) => self.watch(by, filter, *begin).await,
            Op::Unwatch(which) => {
                if !self.watches.is_empty() {
                    let which = usize::from(*which) % self.watches.len();
                    self.watches.remove(which);
                }
                "done".to_owned()
            }
            Op::Keep(history) => {
                let config = BucketConfig {
                    history: *history,
                    ..self.config.clone()
                };
                let updated = connection.update_bucket(&config).await;
                if updated.is_ok() {
                    self.config = config;
                }
                went(&updated)
            }
            Op::DeleteBucket => {
                self.watches.clear();
                let deleted = connection.delete_bucket(&self.config.bucket).await;
                self.latest.clear();
                self.last = Revision::NONE;
                went(&deleted)
            }
            Op::CreateBucket => {
                let config = BucketConfig {
                    history: script.history,
                    ..self.config.clone()
                };
                let created = connection.create_bucket(&config).await;
                if created.is_ok() {
                    self.config = config;
                }
                went(&created)
            }
            Op::Expire => self.expire(by).await?,
            Op::Publish(subject) => self.hearing.publish(connection, subject, number).await?,
            Op::Request(subject) => {
                if self.held.contains(&true) {
                    return Ok("somebody is held".to_owned());
                }
                let (lab, all) = (self.lab, &self.clients.connections);
                self.hearing.request(lab, all, by, subject, number).await
            }
            Op::Subscribe(filter, group) => {
                self.hearing
                    .subscribe(connection, by, filter, group.as_deref())
                    .await?
            }
            Op::Unsubscribe(which) => {
                self.hearing
                    .unsubscribe(self.lab, connection, by, *which)
                    .await?
            }
            Op::Stream(op) => self.log.act(self.lab, number, by, op, &self.held).await?,
        })
    }

    fn wrote<E>(&mut self, key: &str, result: Result<Revision, E>) -> String
    where
        E: squall_core::transport::Fallible + std::fmt::Display,
    {
        if let Ok(revision) = result {
            self.note(key, revision);
        }
        told(&result)
    }

    fn note(&mut self, key: &str, revision: Revision) {
        self.latest
            .entry(key.to_owned())
            .or_default()
            .push(revision);
        self.last = self.last.max(revision);
    }

    fn revision(&self, key: &str, expected: Expected) -> Revision {
        let from_end = |back: usize| {
            let known = self.latest.get(key)?;
            known.get(known.len().checked_sub(back)?).copied()
        };
        match expected {
            Expected::Latest => from_end(1).unwrap_or(Revision::NONE),
            Expected::Stale => from_end(2).unwrap_or(Revision::NONE),
            Expected::None => Revision::NONE,
            Expected::Other(number) => Revision(u64::from(number)),
        }
    }

    async fn watch(&mut self, by: usize, filter: &str, begin: Begin) -> String {
        let start = match begin {
            Begin::Snapshot => WatchStart::Snapshot,
            Begin::Now => WatchStart::Now,
            // From the first to the one after the last.
            Begin::Revision(from) => {
                WatchStart::Revision(Revision(1 + u64::from(from) % (self.last.0 + 1)))
            }
        };
        let opened = self.buckets[by].watch(filter, start).await;
        let said = format!("{start:?} {}", went(&opened));
        let Ok(watch) = opened else { return said };
        self.watches.push(OpenWatch {
            by,
            number: self.watches_opened,
            watch,
            filter: filter.to_owned(),
            told: if start == WatchStart::Now {
                self.last
            } else {
                Revision::NONE
            },
            ended: false,
            lagged: false,
        });
        self.watches_opened += 1;
        said
    }

    async fn expire(&mut self, by: usize) -> Result<String, Stop> {
        let (connection, bucket) = (&self.clients.connections[by], &self.buckets[by]);
        sleep(self.lab, AGED).await;
        let aged = BucketConfig {
            max_age: AGE,
            ..self.config.clone()
        };
        let updated = connection.update_bucket(&aged).await;
        if updated.is_err() {
            return Ok(went(&updated));
        }
        for key in self.latest.keys().cloned().collect::<Vec<_>>() {
            let is_over = |read: &Result<Option<_>, _>| match read {
                Ok(Some(entry)) => is_marker(entry),
                Ok(None) => true,
                Err(_) => false,
            };
            until(self.lab, "a record expires", || bucket.entry(&key), is_over).await?;
        }
        let lifted = connection.update_bucket(&self.config).await;
        let mut left = Vec::new();
        for key in self.latest.keys().cloned().collect::<Vec<_>>() {
            if let Some(entry) = self.buckets[by].entry(&key).await? {
                self.note(&key, entry.revision);
                left.push(entry);
            }
        }
        Ok(format!("{}, {}", went(&lifted), left.show()))
    }

    async fn cut(&mut self, whose: usize) -> Result<String, Stop> {
        self.lab.link(&self.clients.links[whose], LinkVerb::Cut);
        self.reconnected(whose).await?;
        Ok("done".to_owned())
    }

    async fn restart(&mut self) -> Result<String, Stop> {
        if self.held.contains(&true) || self.config.storage != Kept::File.into() {
            return Ok("not now".to_owned());
        }
        self.log.rest(self.lab).await;
        self.lab.server(ServerVerb::Stop).await?;
        self.lab.server(ServerVerb::Start).await?;
        for whose in 0..ACTORS.len() {
            self.reconnected(whose).await?;
        }
        Ok("done".to_owned())
    }

    /// Waits until a client is back, with all of its watches.
    async fn reconnected(&mut self, whose: usize) -> Result<(), Stop> {
        let events = &mut self.events[whose];
        let back = async {
            while events
                .next()
                .await
                .is_some_and(|e| e != ConnectionEvent::Reconnected)
            {}
        };
        let missing = || Stop(format!("{} does not come back", actor(whose as u8)));
        within(self.lab, PATIENCE, back).await.ok_or_else(missing)?;
        self.clients.connections[whose].flush().await?;
        for watch in self.watches.iter_mut().filter(|watch| watch.by == whose) {
            let mut is_first = true;
            loop {
                let event = within(self.lab, PATIENCE, watch.watch.next())
                    .await
                    .flatten();
                let event = event.ok_or_else(|| Stop("a watch does not come back".to_owned()))?;
                // How often it asks before the server is ready depends on when.
                if is_first || !matches!(event, WatchEvent::Interrupted(_)) {
                    self.seen
                        .push(format!("watch {}: {}", watch.number, event.show()));
                }
                is_first = false;
                if matches!(event, WatchEvent::Resumed { .. }) {
                    break;
                }
            }
        }
        self.log.reconnected(self.lab, whose).await
    }

    /// Reads every watch, but those of held links, until it has told the last revision that concerns it.
    async fn catch_up(&mut self) -> Result<(), Stop> {
        for watch in self.watches.iter_mut().filter(|watch| !self.held[watch.by]) {
            let concerned = self
                .latest
                .iter()
                .filter(|(key, _)| matches(&watch.filter, key));
            let due = concerned.filter_map(|(_, known)| known.last()).max();
            let due = due.copied().unwrap_or(Revision::NONE);
            while !watch.ended || watch.told < due {
                let event = within(self.lab, PATIENCE, watch.watch.next())
                    .await
                    .flatten();
                let number = watch.number;
                let missing = || Stop(format!("watch {number} does not tell of {due}"));
                let event = event.ok_or_else(missing)?;
                match &event {
                    WatchEvent::Entry(entry) => {
                        watch.told = entry.revision;
                        let latest = self.latest.get(&*entry.key).and_then(|known| known.last());
                        if watch.lagged && latest != Some(&entry.revision) {
                            continue;
                        }
                    }
                    WatchEvent::SnapshotEnd => {
                        watch.ended = true;
                        watch.told = watch.told.max(due);
                    }
                    WatchEvent::Interrupted(_) | WatchEvent::Resumed { .. } => {}
                }
                self.seen.push(format!("watch {number}: {}", event.show()));
            }
            watch.lagged = false;
        }
        Ok(())
    }

    async fn hear(&mut self) -> Result<(), Stop> {
        let heard = self
            .hearing
            .hear(&self.clients.connections, &self.held)
            .await?;
        self.seen.extend(heard);
        Ok(())
    }
}

fn is_marker(entry: &squall_core::transport::KvEntry) -> bool {
    entry.operation == Operation::Expire
}

/// Whether a watch with this filter tells of this key.
pub(super) fn matches(filter: &str, key: &str) -> bool {
    let (mut wanted, mut tokens) = (filter.split('.'), key.split('.'));
    loop {
        match (wanted.next(), tokens.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}
