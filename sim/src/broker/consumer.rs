//! Ephemeral push consumers, which stand behind watches and scans.
//!
//! A consumer is a reader with a bookmark, not a subscriber to writes: it wakes a little after a write and delivers
//! what it finds in the store *then*. A record that was overwritten before the consumer came to it is never delivered.
//! That is why a watch is not a change log.

use std::collections::VecDeque;
use std::time::Duration;

use squall_core::Instant;
use squall_core::transport::{KvEntry, Revision};

use super::config::Version;
use super::context::Context;
use super::store::{Record, Store};
use super::subject::Filter;
use crate::wire::{ConsumerStart, LinkId, ServerOp, Sid};

/// A consumer, unlike any other of the same broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConsumerId(pub(super) u64);

/// Records a consumer delivers before it lets others run: about 1 µs each, so a listing can be overtaken by removals.
const BATCH: usize = 32;

/// Of a hundred records that are rewritten before their turn, those that the next delivery does not count (14 of 55
/// listings were short).
const UNCOUNTED_OF_100: u64 = 25;

/// What a client asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) filter: Filter,
    pub(super) start: ConsumerStart,
    pub(super) heartbeat: Duration,
    pub(super) link: LinkId,
    pub(super) sid: Sid,
}

/// A consumer whose subscription is alive.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) id: ConsumerId,
    pub(super) link: LinkId,
    pub(super) sid: Sid,
    filter: Filter,
    /// The records of the snapshot still to be delivered, if still there.
    snapshot: VecDeque<Revision>,
    /// Delivered from here on, once the snapshot is through.
    next: Revision,
    sequence: u64,
    pending: u64,
    /// A record of the snapshot was rewritten before its turn: for a moment neither the old nor the new may be counted.
    is_uncounted: bool,
    heartbeat: Duration,
    /// A heartbeat is due at this instant unless something is delivered.
    silent_until: Instant,
    /// Whether a wake is on its way.
    is_waking: bool,
}

impl Consumer {
    pub(super) fn new(
        id: ConsumerId,
        wanted: Wanted,
        store: &Store,
        version: Version,
        now: Instant,
    ) -> Self {
        let after_last = store.last().next();
        let next = match wanted.start {
            ConsumerStart::All => Revision(1),
            ConsumerStart::LastPerKey => after_last,
            // Older servers begin with the next record instead of waiting for the one named.
            ConsumerStart::Sequence(start) if !version.is_at_least(2, 11) => start.min(after_last),
            ConsumerStart::Sequence(start) => start,
        };
        let mut consumer = Self {
            id,
            link: wanted.link,
            sid: wanted.sid,
            filter: wanted.filter,
            snapshot: VecDeque::new(),
            next,
            sequence: 0,
            pending: 0,
            is_uncounted: false,
            heartbeat: wanted.heartbeat,
            silent_until: now + wanted.heartbeat,
            is_waking: false,
        };
        if wanted.start == ConsumerStart::LastPerKey {
            consumer.snapshot = consumer
                .matching(store, Revision(1))
                .filter(|record| store.is_newest(record))
                .map(|record| record.entry.revision)
                .collect();
            consumer.pending = consumer.snapshot.len() as u64;
        } else {
            consumer.pending = consumer.matching(store, next).count() as u64;
        }
        consumer
    }

    pub(super) const fn pending(&self) -> u64 {
        self.pending
    }

    pub(super) const fn has_heartbeat(&self) -> bool {
        !self.heartbeat.is_zero()
    }

    pub(super) const fn silent_until(&self) -> Instant {
        self.silent_until
    }

    /// Takes note of a new record. True if it is to be delivered.
    pub(super) fn note_stored(&mut self, entry: &KvEntry) -> bool {
        let is_wanted = entry.revision >= self.next && self.filter.matches(&entry.key);
        self.pending += u64::from(is_wanted);
        is_wanted
    }

    /// Takes note that a record went away: if it was still to be delivered, it never will be.
    pub(super) fn note_removed(&mut self, entry: &KvEntry) {
        let was_wanted = if entry.revision >= self.next {
            self.filter.matches(&entry.key)
        } else {
            self.snapshot.binary_search(&entry.revision).is_ok()
        };
        self.is_uncounted |= was_wanted && entry.revision < self.next;
        self.pending -= u64::from(was_wanted);
    }

    /// Says whether a wake must be set for this consumer, and remembers that it is.
    pub(super) fn start_waking(&mut self) -> bool {
        !std::mem::replace(&mut self.is_waking, true)
    }

    /// Delivers a batch of what is there. True if there is more.
    pub(super) fn deliver(&mut self, store: &Store, ctx: &mut Context<'_>) -> bool {
        self.is_waking = false;
        for _ in 0..BATCH {
            let Some(record) = self.take_next(store) else {
                return false;
            };
            self.sequence += 1;
            self.pending -= 1;
            self.silent_until = ctx.now.monotonic + self.heartbeat;
            let is_short =
                std::mem::take(&mut self.is_uncounted) && ctx.rng.chance(UNCOUNTED_OF_100, 100);
            let op = ServerOp::Delivery {
                sid: self.sid,
                consumer_seq: self.sequence,
                pending: self.pending.saturating_sub(u64::from(is_short)),
                entry: record.entry.clone(),
            };
            ctx.send(self.link, op);
        }
        self.pending > 0
    }

    /// Sends a heartbeat if it is due. Gives the instant at which to look again.
    pub(super) fn beat(&mut self, ctx: &mut Context<'_>) -> Instant {
        if self.silent_until <= ctx.now.monotonic {
            self.silent_until = ctx.now.monotonic + self.heartbeat;
            let op = ServerOp::Heartbeat {
                sid: self.sid,
                last_consumer_seq: self.sequence,
            };
            ctx.send(self.link, op);
        }
        self.silent_until
    }

    fn take_next<'a>(&mut self, store: &'a Store) -> Option<&'a Record> {
        while let Some(revision) = self.snapshot.pop_front() {
            if let Some(record) = store.at(revision) {
                return Some(record);
            }
        }
        let found = match self.pending {
            // Nothing to look for: skip what does not match, so that it is not looked at again.
            0 => None,
            _ => self.matching(store, self.next).next(),
        };
        self.next = match found {
            Some(record) => record.entry.revision.next(),
            None => self.next.max(store.last().next()),
        };
        found
    }

    fn matching<'a>(
        &self,
        store: &'a Store,
        from: Revision,
    ) -> impl Iterator<Item = &'a Record> + use<'a, '_> {
        let (of_key, of_log) = match &self.filter {
            Filter::Literal(key) => (Some(store.history(key)), None),
            _ => (None, Some(store.from(from))),
        };
        let is_wanted = move |record: &&Record| {
            record.entry.revision >= from && self.filter.matches(&record.entry.key)
        };
        of_key
            .into_iter()
            .flatten()
            .chain(of_log.into_iter().flatten())
            .filter(is_wanted)
    }
}
