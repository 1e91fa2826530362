//! One pull consumer: a cursor over a stream that the server keeps, as a pure state machine.
//!
//! Pulls wait in a circle; a message that is due again goes before a new one; what was delivered stays pending until a
//! client settles it, or it has been delivered too often, or is gone from the stream. What comes of an event is pushed
//! as [`Said`], in the order in which the server does it.
//!
//! ```text
//!   mod       PullConsumer: created, updated, described
//!   settings  what is put in where nothing is said, and what is refused
//!   log       what a consumer reads of its stream
//!   waiting   pulls that wait, their heartbeats and their ends
//!   delivery  how messages get to pulls
//!   pending   deliveries that are not settled: acknowledgements, waits, messages that go away
//!   ack       reply subjects and what is said to them
//!   kept      the state that is written down: what info tells, and what a restart finds
//!   life      timers, the end without clients, restarts of the process
//! ```
//!
//! Waits of deliveries are judged by the wall clock, as the server does, and looked at by timers of the monotonic one:
//! a wall clock that jumps ahead makes everything due at the next look.

mod ack;
mod delivery;
mod kept;
mod life;
mod log;
mod pending;
mod settings;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_acks;
#[cfg(test)]
mod tests_any_run;
#[cfg(test)]
mod tests_life;
#[cfg(test)]
mod tests_pulls;
mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use squall_core::transport::{
    AckPolicy, ApiError, ConsumerConfig, ConsumerInfo, Delivered, Position, Retention, Sequence,
    Storage,
};
use squall_core::{Instant, Rng};

pub(super) use ack::{AckSubject, AckedDelivery};
pub(super) use log::Log;

use self::kept::{Disk, Kept, Pending, Place};
use self::log::{Snapshot, beginning};
use self::settings::{check, check_queue, check_update, normalized};
use self::waiting::Waiting;
use super::config::{Kindness, Now, Version};
use super::refusal::api_error;
use super::subject::Filters;
use crate::wire::{ConsumerAction, LinkId, PullStatus, Sid};

/// After an update of their length, waits are looked at this much later.
const AFTER_UPDATE: Duration = Duration::from_millis(100);

/// A subscription that a pull delivers to.
pub(super) type Inbox = (LinkId, Sid);

/// What a consumer needs beside its own state while it handles one event, in one hand.
pub(super) struct Around<'a> {
    pub(super) now: Now,
    pub(super) log: &'a dyn Log,
    /// Whether a subscription is still there.
    pub(super) listens: &'a dyn Fn(Inbox) -> bool,
    pub(super) rng: &'a mut Rng,
    pub(super) said: &'a mut Vec<Said>,
}

/// What a consumer does, to be sent or to be told to its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A message for a pull.
    Delivered(Inbox, Delivered),
    /// News of a pull.
    Status(Inbox, PullStatus),
    /// A message was settled: a stream that keeps only what is wanted may let it go.
    Settled(u64),
    /// A message was delivered as often as it may be.
    GivenUp { sequence: u64, deliveries: u64 },
    /// A message will never be delivered again.
    Terminated {
        delivery: AckedDelivery,
        reason: Option<String>,
    },
    /// Nobody has asked for anything for too long: the consumer is to be deleted.
    Inactive,
}

/// What of its stream a consumer must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) stream: Arc<str>,
    pub(super) retention: Retention,
    pub(super) storage: Storage,
    pub(super) version: Version,
    pub(super) kindness: Option<Kindness>,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct PullConsumer {
    home: Home,
    name: Arc<str>,
    config: ConsumerConfig,
    wanted: Filters,
    /// Its filters were taken away by an update: until it gets some, or its server is started again, it is told of no new
    /// message. What it is asked for it still finds.
    is_deaf: bool,
    /// The first sequence not delivered yet, once the snapshot is through.
    next: u64,
    snapshot: Option<Snapshot>,
    /// Deliveries so far.
    count: u64,
    floor: Place,
    pending: BTreeMap<u64, Pending>,
    /// Deliveries after the first.
    again: BTreeMap<u64, u64>,
    /// Pending messages that are to be delivered again, before any new one.
    due: VecDeque<u64>,
    /// Messages that match and were never delivered, as far as it was told of them: fewer than none where it delivers what
    /// it was not told of yet.
    unseen: i64,
    /// What it is told of up to here is counted already.
    counted: u64,
    kept: Kept,
    /// `None` where the state is kept in memory only.
    disk: Option<Disk>,
    waiting: Waiting,
    /// When the waits of deliveries are looked at next.
    pending_look: Option<Instant>,
    /// How long it lives without a client, with what the server adds by chance, and when that is looked at next.
    inactive: Option<(Duration, Instant)>,
}

/// Checks the settings that a client wants against a stream and its consumers `others`, and gives them as the server
/// keeps them.
pub(super) fn admit<'a>(
    home: &Home,
    config: &ConsumerConfig,
    action: ConsumerAction,
    existing: Option<&PullConsumer>,
    others: impl Iterator<Item = &'a PullConsumer>,
) -> Result<ConsumerConfig, ApiError> {
    let config = normalized(config.clone(), home.version);
    check(&config, home.retention, home.version)?;
    if let Some(existing) = existing
        && action == ConsumerAction::Create
        && existing.config != config
    {
        return Err(api_error(400, 10148, "consumer already exists"));
    }
    if existing.is_none() && action == ConsumerAction::Update {
        return Err(api_error(400, 10149, "consumer does not exist"));
    }
    if home.retention == Retention::WorkQueue {
        let others = others.map(|other| &other.config);
        check_queue(&config, others, existing.is_none(), home.version)?;
    }
    if let Some(existing) = existing {
        check_update(&existing.config, &config, home.version)?;
    }
    Ok(config)
}

impl PullConsumer {
    /// A new consumer with settings that were [admitted](admit).
    pub(super) fn new(home: Home, config: ConsumerConfig, around: &mut Around<'_>) -> Self {
        let wanted = wanted(&config);
        let (next, snapshot) = beginning(config.start, &wanted, around.log, home.version);
        let before = Place {
            consumer: 0,
            stream: next - 1,
        };
        let floor = match home.version.is_at_least(2, 14) {
            true => before,
            false => Place::default(),
        };
        let kept = Kept {
            delivered: before,
            floor,
            ..Kept::default()
        };
        let disk = (!config.memory_storage).then(|| Disk::new(kept.clone()));
        let mut consumer = Self {
            home,
            name: config.name.as_str().into(),
            unseen: 0,
            counted: 0,
            wanted,
            is_deaf: false,
            next,
            snapshot,
            count: 0,
            floor,
            pending: BTreeMap::new(),
            again: BTreeMap::new(),
            due: VecDeque::new(),
            kept,
            disk,
            waiting: Waiting::default(),
            pending_look: None,
            inactive: None,
            config,
        };
        consumer.recount(around.log);
        consumer.set_inactive(around.now, around.rng);
        consumer
    }

    /// Takes over settings that were [admitted](admit), in place and at once.
    pub(super) fn update(&mut self, config: ConsumerConfig, around: &mut Around<'_>) {
        let old = std::mem::replace(&mut self.config, config);
        if old.ack_wait != self.config.ack_wait && self.pending_look.is_some() {
            self.look_at_pending_in(around.now, AFTER_UPDATE);
        }
        if old.inactive_threshold != self.config.inactive_threshold {
            self.set_inactive(around.now, around.rng);
        }
        if old.filters != self.config.filters {
            self.wanted = wanted(&self.config);
            self.is_deaf = self.config.filters.is_empty();
            self.recount(around.log);
        } else if self.is_deaf && !self.home.version.is_at_least(2, 12) {
            self.recount(around.log);
        }
        if old.max_ack_pending != self.config.max_ack_pending {
            self.run(around);
        }
    }

    pub(super) const fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    /// Whether a stream that keeps only what is wanted must keep this message for this consumer.
    pub(super) fn needs(&self, sequence: u64, subject: &str) -> bool {
        if !self.wanted.matches(subject) {
            return false;
        }
        let is_open = sequence > self.floor.stream
            && match self.config.ack_policy {
                AckPolicy::None | AckPolicy::All => true,
                AckPolicy::Explicit => {
                    sequence >= self.next || self.pending.contains_key(&sequence)
                }
            };
        // One that was given up is kept.
        is_open || self.again.contains_key(&sequence)
    }

    /// Whether it has settled this message. Up to 2.11 a server looks only at what lies below its floor, and up to 2.12
    /// only at consumers that have delivered something.
    pub(super) fn is_through(&self, sequence: u64, subject: &str) -> bool {
        let version = self.home.version;
        let is_looked_at = version.is_at_least(2, 14)
            || sequence <= self.floor.stream
            || (version.is_at_least(2, 12) && self.count > 0);
        is_looked_at && self.wanted.matches(subject) && !self.needs(sequence, subject)
    }

    /// Whether it is known to want messages of this subject at all.
    pub(super) fn wants(&self, subject: &str) -> bool {
        !self.is_deaf && self.wanted.matches(subject)
    }

    /// What the server says about it. Looks through the pulls on the way.
    pub(super) fn info(&mut self, around: &mut Around<'_>) -> ConsumerInfo {
        let version = self.home.version;
        self.waiting.look(false, version, around);
        // A count that cannot be is made anew.
        let log = around.log;
        if self.is_deaf
            && self.unseen > 0
            && (self.next > log.last() || self.left() > log.count(0, &self.wanted))
        {
            self.recount(log);
        }
        let (delivered, floor) = match version.is_at_least(2, 11) {
            true if self.is_recorded() => (self.kept.delivered, self.kept.floor),
            true => (self.delivered(), self.kept.floor),
            false => (self.delivered(), self.floor),
        };
        // Redeliveries are disabled then, and not reported.
        let is_once = self.config.max_deliver.is_some_and(|max| max.get() == 1);
        let redelivered = match is_once && version.is_at_least(2, 11) {
            true => 0,
            false => self.again.len() as u64,
        };
        ConsumerInfo {
            config: self.config.clone(),
            delivered: position(delivered),
            ack_floor: position(floor),
            ack_pending: self.pending.len() as u64,
            redelivered,
            waiting: self.waiting.len() as u64,
            pending: self.left(),
        }
    }

    /// How many messages are to come, as far as it knows.
    fn left(&self) -> u64 {
        u64::try_from(self.unseen).unwrap_or_default()
    }

    /// Whether the server finds its state in the consumer's store: in a file always, in memory once there is more in it than
    /// zeros. Until then it tells how far it has looked.
    fn is_recorded(&self) -> bool {
        let in_memory = self.config.memory_storage || self.home.storage == Storage::Memory;
        !in_memory || self.kept.delivered != Place::default()
    }

    fn recount(&mut self, log: &dyn Log) {
        let left = match &self.snapshot {
            Some(snapshot) => {
                let left = snapshot.left.iter().filter(|&&at| log.at(at).is_some());
                left.count() as u64 + log.count(snapshot.until + 1, &self.wanted)
            }
            None => log.count(self.next, &self.wanted),
        };
        self.unseen = left.cast_signed();
        self.counted = log.last();
    }

    fn delivered(&self) -> Place {
        Place {
            consumer: self.count,
            stream: self.next - 1,
        }
    }

    /// Something changed that is to be written down.
    fn touch(&mut self, around: &mut Around<'_>) {
        if let Some(disk) = &mut self.disk {
            disk.touch(around.now.monotonic, around.rng);
        }
    }
}

/// What it reads. Settings that were admitted hold no filter that cannot be read.
fn wanted(config: &ConsumerConfig) -> Filters {
    Filters::parse(&config.filters).unwrap_or_default()
}

fn position(place: Place) -> Position {
    Position {
        consumer: place.consumer,
        stream: Sequence(place.stream),
    }
}
