//! A history, sorted out once for all invariants: calls with their ends, processes with their lives, keys with their
//! records.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use squall_core::transport::{ConnectOptions, Operation, Revision};
use squall_core::{Instant, UnixTime, presence};
use squall_sim::clock::WALL_START;

use super::chats::{self, Chats};
use super::index::Index;
use super::sessions::{self, Session};
use crate::history::{Agent, Call, Commit, History, Life, Record, Reply, Tell, What};
use crate::parse::{BUCKET, PROJECT};
use crate::plan::{On, Plan};

/// What a machine that does other things at the same time may add to a wait in real time. Servers on a starved one were
/// seen to expire records 1.4 s late: with the second that every wait has, that is covered.
const REAL_MACHINE: Duration = Duration::from_secs(1);

/// The watch that a process has now.
type Watching<'a> = BTreeMap<&'a str, usize>;

/// A span of true time, the end excluded.
pub type Span = (Instant, Instant);

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub enum Ended<'a> {
    /// With this reply.
    Ok(&'a Reply),
    /// Without effect.
    Refused(&'a str),
    /// The same, because the key's latest record was not the one that was demanded.
    Conflict(&'a str),
    /// Nobody knows.
    Unknown(&'a str),
}

/// One call and its end, if it has one.
#[derive(Clone, Debug)]
pub struct Called<'a> {
    /// Its number in the history.
    pub id: u64,
    /// Who.
    pub process: &'a Arc<str>,
    /// That process, in [`Facts::lives`], where it is an agent's.
    pub life: Option<usize>,
    /// What.
    pub call: &'a Call,
    /// The key that it writes or reads, in [`Facts::keys`].
    pub key: Option<usize>,
    /// The place of the record that it wrote among those of its key, where it was acknowledged and the record was in the
    /// history by then.
    pub stored: Option<usize>,
    /// From when.
    pub invoked: Instant,
    /// Until when, and how it ended.
    pub ended: Option<(Instant, Ended<'a>)>,
}

impl Called<'_> {
    /// Whether this was a beat as it should be, as nearly all calls are: an acknowledged write of what is the newest record
    /// of its key now, stored while it was under way, over the record that it demanded, and answered in time.
    fn is_plain(&self, key: &Key<'_>, request_timeout: Duration) -> bool {
        let Call::Write {
            expected, value, ..
        } = self.call
        else {
            return false;
        };
        let Some((until, _)) = self.ended else {
            return false;
        };
        let (Some(place), true) = (self.stored, key.removals.is_empty()) else {
            return false;
        };
        let (at, commit) = key.commits[place];
        let before = place.checked_sub(1).map(|before| key.commits[before].1);
        let over = before.map_or(Revision::NONE, |before| before.revision);
        commit.value == *value
            && (self.invoked..=until).contains(&at)
            && expected.is_none_or(|expected| expected == over)
            && until.since(self.invoked) <= request_timeout
    }
}

/// One watch of one process.
#[derive(Clone, Debug)]
pub struct Watched<'a> {
    /// Whose.
    pub process: &'a Arc<str>,
    /// When it was called.
    pub invoked: Instant,
    /// When its snapshot was told.
    pub from: Instant,
    /// When it ended, or the run did.
    pub until: Instant,
    /// Who was there when it began.
    pub snapshot: &'a [Agent],
    /// What it told, in order.
    pub tells: Vec<(Instant, &'a Tell)>,
}

/// One process of an agent.
#[derive(Clone, Debug)]
pub struct Lived<'a> {
    /// The process.
    pub process: &'a Arc<str>,
    /// Its agent.
    pub agent: &'a str,
    /// When it started.
    pub started: Instant,
    /// When it crashed, or the run ended.
    pub ended: Instant,
    /// Whether it crashed.
    pub crashed: bool,
    /// When it stood still, by a pause or a sleeping machine.
    pub frozen: Vec<Span>,
    /// When its presence was open: from the reply of `open` to the call of `close`.
    pub open: Option<Span>,
    /// What it was told about its own entry.
    pub notices: Vec<(Instant, &'a Tell)>,
}

/// One key of a bucket.
#[derive(Clone, Debug)]
pub struct Key<'a> {
    /// The bucket.
    pub bucket: &'a Arc<str>,
    /// Its name.
    pub name: &'a Arc<str>,
    /// Its records, in the order of the server.
    pub commits: Vec<(Instant, &'a Commit)>,
    /// Records that went away without another in their place.
    pub removals: Vec<(Instant, Revision)>,
    /// Records that were there again, because the power was lost and with it what had taken their place.
    pub returns: Vec<(Instant, Revision)>,
    /// The places of its records that are no values.
    pub tombstones: Vec<usize>,
    /// Whether its revisions grow, and all calls that tell of them are plain.
    pub is_plain: bool,
}

impl<'a> Key<'a> {
    fn add(&mut self, at: Instant, commit: &'a Commit) {
        if let Some((before, last)) = self.commits.last() {
            self.is_plain &= *before <= at && last.revision < commit.revision;
        }
        if !commit.operation.is_put() {
            self.tombstones.push(self.commits.len());
        }
        self.commits.push((at, commit));
    }

    /// The place of the record of this revision. Revisions grow with the commits, unless the bucket was made anew or the
    /// power was lost.
    pub fn place_of(&self, revision: Revision) -> Option<usize> {
        let found = self
            .commits
            .binary_search_by_key(&revision, |(_, commit)| commit.revision);
        found.ok().or_else(|| {
            self.commits
                .iter()
                .position(|(_, commit)| commit.revision == revision)
        })
    }

    /// The place of the record that a write of this value was told to have made; any of that revision where none has the
    /// value. A revision may have been given out twice, where the power was lost in between.
    pub fn place_of_write(
        &self,
        stored: Option<usize>,
        revision: Revision,
        value: u64,
    ) -> Option<usize> {
        let place = stored.or_else(|| self.place_of(revision))?;
        if self.commits[place].1.value == value {
            return Some(place);
        }
        let is_it = |commit: &Commit| commit.revision == revision && commit.value == value;
        let again = self.commits.iter().position(|(_, commit)| is_it(commit));
        again.or(Some(place))
    }

    /// When the record that was there from this time on went away without another in its place, where the server says
    /// so.
    pub fn removal(&self, from: Instant, commit: &Commit) -> Option<Instant> {
        self.removals
            .iter()
            .find(|(at, revision)| *revision == commit.revision && *at >= from)
            .map(|(at, _)| *at)
    }

    /// The record that was the latest of the key when this one, which stands at `place`, was stored.
    pub fn before(&self, place: usize) -> Option<&'a Commit> {
        let (stored, _) = *self.commits.get(place)?;
        let (at, before) = self.last_before(place)?;
        let removed = self.removal(at, before);
        Some(before).filter(|_| removed.is_none_or(|removed| removed > stored))
    }

    /// The same, also where it had gone without another in its place; and since when it had been the latest.
    pub fn last_before(&self, place: usize) -> Option<(Instant, &'a Commit)> {
        let (stored, _) = *self.commits.get(place)?;
        let (at, before) = *self.commits.get(place.checked_sub(1)?)?;
        let mut returns = self.returns.iter().rev();
        match returns.find(|(back, _)| *back > at && *back <= stored) {
            Some((back, revision)) => {
                let mut earlier = self.commits[..place].iter().rev();
                let found = earlier.find(|(_, commit)| commit.revision == *revision);
                found.map(|(_, commit)| (*back, *commit))
            }
            None => Some((at, before)),
        }
    }

    /// Every stretch in which a record was the latest of the key: from when, which, and until when at the latest,
    /// because then the next one was stored.
    pub fn reigns(&self) -> impl Iterator<Item = (Instant, &'a Commit, Instant)> {
        self.reigns_of(0..self.commits.len())
    }

    /// The same for the records at these places, and for those that came back.
    pub fn reigns_of(
        &self,
        places: Range<usize>,
    ) -> impl Iterator<Item = (Instant, &'a Commit, Instant)> {
        let stored = places.map(|place| {
            let (from, commit) = self.commits[place];
            let next = self.commits.get(place + 1);
            (
                from,
                commit,
                next.map_or(Instant::FAR_FUTURE, |(at, _)| *at),
            )
        });
        let back = self.returns.iter().filter_map(|(from, revision)| {
            let mut earlier = self.commits.iter().rev();
            let (_, commit) =
                earlier.find(|(at, commit)| at < from && commit.revision == *revision)?;
            let mut later = self.commits.iter();
            let next = later.find(|(at, _)| at > from);
            let next = next.map_or(Instant::FAR_FUTURE, |(at, _)| *at);
            Some((*from, *commit, next))
        });
        stored.chain(back)
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What was run.
    pub plan: &'a Plan,
    /// The history itself.
    pub history: &'a History,
    /// All calls, in the order of their numbers.
    pub calls: Vec<Called<'a>>,
    /// The places of those that are not plain.
    questionable: Vec<usize>,
    /// All processes of agents, in the order in which they started.
    pub lives: Vec<Lived<'a>>,
    /// Where each stands in `lives`.
    by_name: Index<'a>,
    /// All watches, in the order they began.
    pub watches: Vec<Watched<'a>>,
    /// All keys, in the order in which they were first named.
    pub keys: Vec<Key<'a>>,
    /// Where each stands in `keys`, for each bucket.
    by_key: Vec<(&'a Arc<str>, Index<'a>)>,
    /// When the power was lost, and with it every revision above this one.
    pub losses: Vec<(Instant, Revision)>,
    /// What is of a chat.
    pub(super) chats: Chats<'a>,
    /// All processes that live on sessions, in the order in which they started.
    pub sessions: Vec<Session<'a>>,
    /// What happened to the run as a whole: faults, mending, panics, its end.
    pub milestones: Vec<&'a Record>,
    /// When the run ended.
    pub end: Instant,
    /// Whether it holds any record that the server stored: a history made elsewhere may not.
    pub has_truth: bool,
    /// The most that links are slowed at any time.
    delay_max: Duration,
    /// What the right wall clock read when true time began.
    wall: UnixTime,
}

impl<'a> Facts<'a> {
    /// Sorts a history out.
    pub fn new(plan: &'a Plan, history: &'a History) -> Self {
        let end = history.0.last().map_or(Instant::ZERO, |record| record.at);
        let mut facts = Self {
            plan,
            history,
            // Most calls are writes: one record for the call, one for what it wrote, one for its end.
            calls: Vec::with_capacity(history.0.len() / 3),
            questionable: Vec::new(),
            lives: Vec::new(),
            by_name: Index::default(),
            delay_max: plan.delay_max(),
            wall: WALL_START,
            watches: Vec::new(),
            keys: Vec::new(),
            by_key: Vec::new(),
            losses: Vec::new(),
            chats: Chats::default(),
            sessions: Vec::new(),
            milestones: Vec::new(),
            end,
            has_truth: false,
        };
        let mut watching = Watching::new();
        let request_timeout = ConnectOptions::default().request_timeout;
        let mut plain = Vec::with_capacity(facts.calls.capacity());
        for record in &history.0 {
            let at = record.at;
            match &record.what {
                What::Invoke { id, process, call } => {
                    let key = match call {
                        Call::Write { bucket, key, .. } | Call::Read { bucket, key } => {
                            Some(facts.key_number(bucket, key))
                        }
                        _ => None,
                    };
                    facts.calls.push(Called {
                        id: *id,
                        process,
                        life: facts.by_name.get(process),
                        call,
                        key,
                        stored: None,
                        invoked: at,
                        ended: None,
                    });
                    plain.push(false);
                    if matches!(call, Call::Close { .. }) {
                        if let Some(life) = facts.life_mut(process)
                            && let Some(open) = &mut life.open
                        {
                            open.1 = at;
                        }
                        // It may open another one later.
                        if let Some(watch) = watching.get(&**process)
                            && let Some(watch) = facts.watches.get_mut(*watch)
                        {
                            watch.until = watch.until.min(at);
                        }
                    }
                }
                What::Ok { id, reply } => {
                    if let Some(index) = facts.end_call(*id, at, Ended::Ok(reply)) {
                        let Called {
                            process,
                            invoked,
                            call,
                            key,
                            ..
                        } = facts.calls[index];
                        if let Some(key) = key {
                            let key = &mut facts.keys[key];
                            let called = &mut facts.calls[index];
                            if let Reply::Stored { revision } = reply {
                                // A revision may be given out again, later.
                                let is_it =
                                    |(_, commit): &(_, &Commit)| commit.revision == *revision;
                                called.stored = key.commits.iter().rposition(is_it);
                            }
                            plain[index] = called.is_plain(key, request_timeout);
                            key.is_plain &= plain[index];
                        }
                        if matches!(call, Call::Open { .. })
                            && let Some(life) = facts.life_mut(process)
                        {
                            life.open = Some((at, end));
                        }
                        if let Reply::Watching { present } = reply {
                            watching.insert(process, facts.watches.len());
                            facts.watches.push(Watched {
                                process,
                                invoked,
                                from: at,
                                until: end,
                                snapshot: present,
                                tells: Vec::new(),
                            });
                        }
                    }
                }
                What::Refused {
                    id,
                    error,
                    conflict,
                } => {
                    facts.end_call(
                        *id,
                        at,
                        match conflict {
                            true => Ended::Conflict(error),
                            false => Ended::Refused(error),
                        },
                    );
                }
                What::Unknown { id, error } => {
                    facts.end_call(*id, at, Ended::Unknown(error));
                }
                What::Told { process, tell } => {
                    if matches!(tell, Tell::Evicted { .. } | Tell::Restored) {
                        if let Some(life) = facts.life_mut(process) {
                            life.notices.push((at, tell));
                        }
                    } else if let Some(watch) = watching.get(&**process)
                        && let Some(watch) = facts.watches.get_mut(*watch)
                    {
                        if matches!(tell, Tell::WatchEnded) {
                            watch.until = watch.until.min(at);
                        } else if !matches!(tell, Tell::Connection { .. }) {
                            watch.tells.push((at, tell));
                        }
                    }
                }
                What::Committed(commit) => {
                    facts.has_truth = true;
                    let key = facts.key_number(&commit.bucket, &commit.key);
                    facts.keys[key].add(at, commit);
                }
                What::Removed {
                    bucket,
                    key,
                    revision,
                    ..
                } => {
                    let key = facts.key_number(bucket, key);
                    facts.keys[key].removals.push((at, *revision));
                }
                What::Life { process, event } => facts.lived(process, *event, at, &mut watching),
                What::LostTail {
                    bucket: Some(bucket),
                    last,
                    back,
                    ..
                } => {
                    facts.losses.push((at, Revision(last.0)));
                    for (key, sequence) in back {
                        let key = facts.key_number(bucket, key);
                        let losses = &facts.losses;
                        let key = &mut facts.keys[key];
                        let mut kept = key.commits.iter().rev();
                        // Not those that an earlier loss took.
                        let latest = kept.find(|(stored, commit)| {
                            let mut losses = losses.iter();
                            !losses.any(|(lost, last)| stored <= lost && commit.revision > *last)
                        });
                        // Beside a newer one that was not lost it is the latest of nothing.
                        if latest.is_none_or(|(_, commit)| commit.revision.0 == sequence.0) {
                            key.returns.push((at, Revision(sequence.0)));
                        }
                    }
                }
                // What is of a chat is read by itself.
                What::LostTail { bucket: None, .. }
                | What::Stored { .. }
                | What::Dropped { .. } => {}
                What::Planned { wall, .. } => facts.wall = wall.unwrap_or(facts.wall),
                What::Fault { .. }
                | What::Mended
                | What::Settled
                | What::Unsettled { .. }
                | What::Panicked { .. }
                | What::End { .. } => facts.milestones.push(record),
            }
        }
        // What was lost makes nothing wrong, but nothing is obvious any more.
        if !facts.losses.is_empty() {
            plain.fill(false);
            facts.keys.iter_mut().for_each(|key| key.is_plain = false);
        }
        let questionable = plain.iter().enumerate().filter(|(_, is_plain)| !**is_plain);
        facts.questionable = questionable.map(|(place, _)| place).collect();
        if plan.auth.is_some() {
            facts.sessions = sessions::read(plan, history);
        }
        facts.chats = chats::read(&facts);
        for index in 0..facts.watches.len() {
            let closed = facts.life(facts.watches[index].process).map(|life| {
                life.open
                    .map_or(life.ended, |(_, closed)| closed.min(life.ended))
            });
            let watch = &mut facts.watches[index];
            watch.until = watch.until.min(closed.unwrap_or(end));
        }
        facts
    }

    /// All calls but the plain ones, in the order of their numbers. Nothing can be wrong with a plain one: an invariant that is
    /// asked of each call alone need not look at it.
    pub fn questionable(&self) -> impl Iterator<Item = &Called<'a>> {
        self.questionable.iter().map(|place| &self.calls[*place])
    }

    fn key_number(&mut self, bucket: &'a Arc<str>, name: &'a Arc<str>) -> usize {
        let new = self.keys.len();
        let is_it = |(known, _): &(&Arc<str>, _)| Arc::ptr_eq(known, bucket) || *known == bucket;
        let place = self.by_key.iter().position(is_it).unwrap_or_else(|| {
            self.by_key.push((bucket, Index::default()));
            self.by_key.len() - 1
        });
        let number = self.by_key[place].1.get_or(name, new);
        if number == new {
            self.keys.push(Key {
                bucket,
                name,
                commits: Vec::new(),
                removals: Vec::new(),
                returns: Vec::new(),
                tombstones: Vec::new(),
                is_plain: true,
            });
        }
        number
    }

    /// Notes how a call ended, and gives its place.
    fn end_call(&mut self, id: u64, at: Instant, ended: Ended<'a>) -> Option<usize> {
        // Calls are numbered from 1 and begin in that order, unless several threads recorded at once.
        let guess = usize::try_from(id).ok()?.checked_sub(1)?;
        let index = match self.calls.get(guess) {
            Some(called) if called.id == id => guess,
            _ => self.calls.iter().position(|called| called.id == id)?,
        };
        self.calls[index].ended = Some((at, ended));
        Some(index)
    }

    fn lived(
        &mut self,
        process: &'a Arc<str>,
        event: Life,
        at: Instant,
        watching: &mut Watching<'_>,
    ) {
        let end = self.end;
        match (event, self.life_mut(process)) {
            (Life::Started, _) => {
                let agent = process.split('/').next().unwrap_or(process);
                let life = Lived {
                    process,
                    agent,
                    started: at,
                    ended: end,
                    crashed: false,
                    frozen: Vec::new(),
                    open: None,
                    notices: Vec::new(),
                };
                self.by_name.set(process, self.lives.len());
                self.lives.push(life);
            }
            (Life::Crashed, Some(life)) => {
                (life.ended, life.crashed) = (at, true);
                if let Some(open) = &mut life.open {
                    open.1 = open.1.min(at);
                }
                if let Some(watch) = watching.remove(&**process)
                    && let Some(watch) = self.watches.get_mut(watch)
                {
                    watch.until = at;
                }
            }
            (Life::Paused | Life::Suspended, Some(life)) => life.frozen.push((at, end)),
            (Life::Resumed | Life::Woken, Some(life)) => {
                if let Some(span) = life.frozen.iter_mut().rev().find(|span| span.1 == end) {
                    span.1 = at;
                }
            }
            (_, None) => {}
        }
    }

    /// The heartbeat interval of an agent.
    pub fn interval(&self, agent: &str) -> Duration {
        self.plan
            .agent(agent)
            .map_or(Duration::from_secs(1), |agent| agent.interval)
    }

    /// The agent whose entry a key holds.
    pub fn agent_of(&self, key: &str) -> Option<&'a str> {
        self.plan
            .agents
            .iter()
            .map(|agent| agent.name.as_str())
            .find(|name| presence::key(PROJECT, name) == key)
    }

    /// The key of an agent.
    pub fn key_of(&self, agent: &str) -> Option<&Key<'a>> {
        let mut buckets = self.by_key.iter();
        let (_, keys) = buckets.find(|(bucket, _)| ***bucket == *BUCKET)?;
        self.keys.get(keys.get(&presence::key(PROJECT, agent))?)
    }

    /// How long the entry of this commit lives: as it says, or as its agent's interval demands.
    pub fn ttl(&self, agent: &str, commit: &Commit) -> Duration {
        commit
            .ttl
            .unwrap_or_else(|| self.interval(agent) * presence::TTL_MULTIPLIER)
    }

    /// When the right wall clock reads this.
    pub fn when(&self, wall: UnixTime) -> Instant {
        Instant::ZERO + wall.since(self.wall)
    }

    /// What links, schedulers and crystals may add to any wait; in real time also what a busy machine does.
    pub fn slack(&self, wait: Duration) -> Duration {
        let machine = match self.plan.world.on {
            On::Simulated => Duration::ZERO,
            On::Nats => REAL_MACHINE,
        };
        Duration::from_secs(1) + machine + self.delay_max * 6 + wait / 16
    }

    /// From when on the record of this commit may be gone without another in its place: when it was removed, or, on a
    /// real server, which tells nobody, when it has lived as long as it says. `None`: not at all.
    pub fn may_be_gone(
        &self,
        agent: &str,
        key: &Key<'_>,
        at: Instant,
        commit: &Commit,
    ) -> Option<Instant> {
        match self.plan.world.on {
            On::Simulated => key.removal(at, commit),
            On::Nats => {
                let ttl = self.ttl(agent, commit);
                let markers = self.plan.world.delete_markers.unwrap_or(ttl);
                let is_marker = commit.operation == Operation::Expire;
                Some(at + if is_marker { ttl.min(markers) } else { ttl })
            }
        }
    }

    /// From when on it surely is: on a real server when it has outlived the bucket's age, which is at most the life of the
    /// slowest agent's entry. How late servers are with it is in [`slack`](Self::slack).
    pub fn is_gone(&self, key: &Key<'_>, at: Instant, commit: &Commit) -> Option<Instant> {
        match self.plan.world.on {
            On::Simulated => key.removal(at, commit),
            On::Nats => {
                let intervals = self.plan.agents.iter().map(|agent| agent.interval);
                intervals
                    .max()
                    .map(|slowest| at + slowest * presence::TTL_MULTIPLIER)
            }
        }
    }

    /// Whether the power was lost in this span, and with it this revision.
    pub fn is_lost(&self, revision: Revision, (from, until): Span) -> bool {
        let mut losses = self.losses.iter();
        losses.any(|(at, last)| (from..=until).contains(at) && revision > *last)
    }

    /// The process of this name, where it is an agent's.
    pub fn life(&self, process: &str) -> Option<&Lived<'a>> {
        self.lives.get(self.by_name.get(process)?)
    }

    fn life_mut(&mut self, process: &str) -> Option<&mut Lived<'a>> {
        self.lives.get_mut(self.by_name.get(process)?)
    }

    /// From when on the life of a record counts: its commit. Where there are copies their leader dates it when it is asked,
    /// which may be long before a majority agrees, and not before the call of its writer.
    pub fn dated(&self, at: Instant, commit: &Commit) -> Instant {
        if !self.plan.world.has_copies() {
            return at;
        }
        let is_it = |called: &&Called<'a>| {
            let writes = matches!(called.call, Call::Write { value, .. } if *value == commit.value);
            writes && commit.by.as_ref() == Some(called.process)
        };
        let written = self.calls.iter().find(is_it);
        written.map_or(at, |called| called.invoked)
    }

    /// When a process stood still, or its watch was told that it was blind, between two times: the stretches in between.
    pub fn seeing(&self, watch: &Watched<'_>) -> Vec<Span> {
        let mut blind: Vec<Span> = Vec::new();
        for (at, tell) in &watch.tells {
            match tell {
                Tell::Blind { .. } => blind.push((*at, watch.until)),
                Tell::Seeing => {
                    if let Some(last) = blind.last_mut() {
                        last.1 = *at;
                    }
                }
                _ => {}
            }
        }
        if let Some(life) = self.life(watch.process) {
            blind.extend(life.frozen.iter().copied());
        }
        without((watch.from, watch.until), blind)
    }
}

/// What is left of a span without some others.
pub fn without(span: Span, mut holes: Vec<Span>) -> Vec<Span> {
    if holes.is_empty() && span.0 < span.1 {
        return vec![span];
    }
    holes.sort();
    let mut left = Vec::new();
    let mut from = span.0;
    for (begin, end) in holes {
        if begin > from {
            left.push((from, begin.min(span.1)));
        }
        from = from.max(end);
    }
    if from < span.1 {
        left.push((from, span.1));
    }
    left.retain(|(begin, end)| begin < end);
    left
}

#[cfg(test)]
mod tests {
    use squall_core::transport::Sequence;

    use super::*;
    use crate::stories;

    /// A write from second 2 to second 3 and its record, in the order of true time.
    struct Beat {
        expected: Option<Revision>,
        stored: u64,
        value: u64,
        until: u64,
    }

    impl Beat {
        const GOOD: Self = Self {
            expected: Some(Revision::NONE),
            stored: 2,
            value: 7,
            until: 3,
        };

        /// How many calls are questionable, after `before`, and whether the key is plain.
        fn judged(self, before: impl IntoIterator<Item = What>) -> (usize, bool) {
            let at = |second: u64| Instant::from_nanos(second * 1_000_000_000);
            let mut records: Vec<Record> = Vec::new();
            let mut add = |second, what| {
                let at = at(second);
                records.push(Record { at, what });
            };
            before.into_iter().for_each(|what| add(1, what));
            let call = Call::Write {
                bucket: BUCKET.into(),
                key: "k".into(),
                operation: Operation::Put,
                expected: self.expected,
                value: 7,
            };
            let (id, process) = (1, "p/1".into());
            add(2, What::Invoke { id, process, call });
            add(self.stored, committed(3, self.value));
            let revision = Revision(3);
            let reply = Reply::Stored { revision };
            add(self.until, What::Ok { id, reply });
            records.sort_by_key(|record| record.at);
            let history = History(records);
            let scenario = stories::find("presence/calm").expect("there is one");
            let plan = scenario.draw(0);
            let facts = Facts::new(&plan, &history);
            (facts.questionable().count(), facts.keys[0].is_plain)
        }
    }

    fn committed(revision: u64, value: u64) -> What {
        What::Committed(Commit {
            bucket: BUCKET.into(),
            key: "k".into(),
            revision: Revision(revision),
            operation: Operation::Put,
            by: None,
            incarnation: None,
            ttl: None,
            value,
        })
    }

    #[test]
    fn only_a_beat_as_it_should_be_is_not_questioned() {
        let none: [What; 0] = [];
        assert_eq!(Beat::GOOD.judged(none.clone()), (0, true));
        let over = |expected| Beat {
            expected: Some(Revision(expected)),
            ..Beat::GOOD
        };
        assert_eq!(over(2).judged([committed(2, 1)]), (0, true));
        let unasked = Beat {
            expected: None,
            ..Beat::GOOD
        };
        assert_eq!(unasked.judged([committed(2, 1)]), (0, true));

        assert_eq!(
            over(1).judged([committed(2, 1)]),
            (1, false),
            "over another"
        );
        assert_eq!(over(1).judged(none.clone()), (1, false), "over nothing");
        let removed = What::Removed {
            bucket: BUCKET.into(),
            key: "k".into(),
            revision: Revision(2),
            cause: "expired".to_owned(),
        };
        let gone = over(2).judged([committed(2, 1), removed]);
        assert_eq!(gone, (1, false), "over what was gone");
        assert!(!over(4).judged([committed(4, 1)]).1, "revisions that fall");
        let lost = What::LostTail {
            stream: "KV".into(),
            bucket: Some(BUCKET.into()),
            last: Sequence(2),
            back: Vec::new(),
        };
        assert_eq!(Beat::GOOD.judged([lost]), (1, false), "after a loss");
        let beats = [
            (1, 7, 3, "stored before it began"),
            (4, 7, 3, "stored after its end"),
            (2, 8, 3, "the value of another"),
            (2, 7, 13, "answered late"),
        ];
        for (stored, value, until, why) in beats {
            let beat = Beat {
                stored,
                value,
                until,
                ..Beat::GOOD
            };
            assert_eq!(beat.judged(none.clone()), (1, false), "{why}");
        }
    }
}
