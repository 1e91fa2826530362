//! Ephemeral push consumers, which stand behind watches, readers and scans.
//!
//! A consumer is a reader with a bookmark, not a subscriber to writes: it wakes a little after a write and delivers
//! what it finds in the store *then*. A record that was overwritten before the consumer came to it is never delivered.
//! That is why a watch is not a change log.

use std::collections::VecDeque;
use std::time::Duration;

use squall_core::Instant;
use squall_core::transport::{ReadStart, Retention, Sequence};

use super::config::Version;
use super::context::Context;
use super::store::{Record, Store};
use super::stream::Stream;
use super::subject::Filters;
use crate::wire::{Content, Form, LinkId, ServerOp, Sid};

/// A consumer, unlike any other of the same broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConsumerId(pub(super) u64);

/// Records a consumer delivers before it lets others run: about 1 µs each, so a listing can be overtaken by removals.
const BATCH: usize = 32;

/// Up to so many records of one subject are looked up along its chain; with more of them, along the log.
const CHAIN_MAX: usize = 64;

/// Of a hundred records that are rewritten before their turn, those that the next delivery does not count (14 of 55
/// listings were short).
const UNCOUNTED_OF_100: u64 = 25;

/// What a client asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) filters: Filters,
    pub(super) start: ReadStart,
    pub(super) heartbeat: Duration,
    pub(super) inactive: Duration,
    pub(super) form: Form,
    pub(super) link: LinkId,
    pub(super) sid: Sid,
}

/// A consumer whose subscription is alive.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) id: ConsumerId,
    pub(super) link: LinkId,
    pub(super) sid: Sid,
    /// How long it survives its subscription.
    pub(super) inactive: Duration,
    filters: Filters,
    form: Form,
    /// The records of the snapshot still to be delivered, if still there.
    snapshot: VecDeque<Sequence>,
    /// Delivered from here on, once the snapshot is through.
    next: Sequence,
    sequence: u64,
    pending: u64,
    /// A record of the snapshot was rewritten before its turn: for a moment neither the old nor the new may be counted.
    is_uncounted: bool,
    heartbeat: Duration,
    /// A heartbeat is due at this instant unless something is delivered.
    silent_until: Instant,
    /// Whether a wake is on its way.
    is_waking: bool,
    /// What it has delivered and its stream has not yet heard of; kept where a delivery settles a message.
    settled: Option<Vec<Sequence>>,
}

impl Consumer {
    pub(super) fn new(
        id: ConsumerId,
        wanted: Wanted,
        stream: &Stream,
        version: Version,
        now: Instant,
    ) -> Self {
        let store = &stream.store;
        let is_settling = stream.opened_as == Retention::Interest;
        let after_last = store.last().next();
        let first = |found: Option<&Record>| found.map_or(after_last, |record| record.sequence);
        let next = match wanted.start {
            ReadStart::All => Sequence(1),
            ReadStart::New | ReadStart::LastPerSubject => after_last,
            // Without a filter it is the last one given out, be it still there or not.
            ReadStart::Last if wanted.filters.is_everything() => store.last(),
            ReadStart::Last => {
                let mut newest_first = store.from(Sequence::NONE).rev();
                first(newest_first.find(|found| wanted.filters.matches(store.subject_of(found))))
            }
            // Older servers begin with the next record instead of waiting for the one named.
            ReadStart::Sequence(start) if !version.is_at_least(2, 11) => start.min(after_last),
            ReadStart::Sequence(start) => start,
            ReadStart::Time(time) => {
                first(store.from(Sequence::NONE).find(|found| found.time >= time))
            }
        };
        let mut consumer = Self {
            id,
            link: wanted.link,
            sid: wanted.sid,
            inactive: wanted.inactive,
            filters: wanted.filters,
            form: wanted.form,
            snapshot: VecDeque::new(),
            next,
            sequence: 0,
            pending: 0,
            is_uncounted: false,
            heartbeat: wanted.heartbeat,
            silent_until: now + wanted.heartbeat,
            is_waking: false,
            settled: is_settling.then(Vec::new),
        };
        if wanted.start == ReadStart::LastPerSubject {
            consumer.snapshot = consumer
                .matching(store, Sequence(1))
                .filter(|record| store.is_newest(record))
                .map(|record| record.sequence)
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

    /// True if it reads messages of this subject.
    pub(super) fn wants(&self, subject: &str) -> bool {
        self.filters.matches(subject)
    }

    /// True if it is still to deliver this record.
    pub(super) fn awaits(&self, sequence: Sequence, subject: &str) -> bool {
        match sequence >= self.next {
            true => self.wants(subject),
            false => self.snapshot.binary_search(&sequence).is_ok(),
        }
    }

    /// True if a stream that keeps only what is wanted must keep this record for it. Older servers take all records to be
    /// before it until its first delivery.
    pub(super) fn needs(&self, sequence: Sequence, subject: &str, version: Version) -> bool {
        let has_begun = self.sequence > 0 || version.is_at_least(2, 14);
        self.awaits(sequence, subject) || (!has_begun && self.wants(subject))
    }

    /// True if this record lies behind it. Older servers count from its first delivery only.
    pub(super) fn is_through(&self, sequence: Sequence, subject: &str, version: Version) -> bool {
        let has_begun = self.sequence > 0 || version.is_at_least(2, 14);
        has_begun && self.wants(subject) && !self.awaits(sequence, subject)
    }

    /// What it has delivered since it was last asked.
    pub(super) fn take_settled(&mut self) -> Vec<Sequence> {
        self.settled
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Takes note of a new record. True if it is to be delivered.
    pub(super) fn note_stored(&mut self, sequence: Sequence, subject: &str) -> bool {
        let is_wanted = sequence >= self.next && self.wants(subject);
        self.pending += u64::from(is_wanted);
        is_wanted
    }

    /// Takes note that a record goes away: if it was still to be delivered, it never will be.
    pub(super) fn note_removed(&mut self, sequence: Sequence, subject: &str) {
        let was_wanted = self.awaits(sequence, subject);
        self.pending -= u64::from(was_wanted);
        self.is_uncounted |= was_wanted && sequence < self.next;
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
            if let Some(settled) = &mut self.settled {
                settled.push(record.sequence);
            }
            self.sequence += 1;
            self.pending -= 1;
            self.silent_until = ctx.now.monotonic + self.heartbeat;
            let is_short =
                std::mem::take(&mut self.is_uncounted) && ctx.rng.chance(UNCOUNTED_OF_100, 100);
            let op = ServerOp::Delivery {
                sid: self.sid,
                consumer_seq: self.sequence,
                pending: self.pending.saturating_sub(u64::from(is_short)),
                content: match self.form {
                    Form::Entry => Content::Entry(store.entry(record)),
                    Form::Message => Content::Message(Box::new(store.message(record))),
                },
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
        while let Some(sequence) = self.snapshot.pop_front() {
            if let Some(record) = store.at(sequence) {
                return Some(record);
            }
        }
        let found = match self.pending {
            // Nothing to look for: skip what does not match, so that it is not looked at again.
            0 => None,
            _ => self.matching(store, self.next).next(),
        };
        self.next = match found {
            Some(record) => record.sequence.next(),
            None => self.next.max(store.last().next()),
        };
        found
    }

    fn matching<'a>(
        &self,
        store: &'a Store,
        from: Sequence,
    ) -> impl Iterator<Item = &'a Record> + use<'a, '_> {
        let subject = self.filters.literal().map(|subject| store.name(subject));
        let few = |&name: &_| {
            let found = store.find(name);
            found.is_none_or(|subject| store.records_of(subject) <= CHAIN_MAX)
        };
        let (of_subject, of_log) = match subject.filter(few) {
            Some(name) => (Some(store.history(name)), None),
            None => (None, Some(store.from(from))),
        };
        let is_wanted = move |record: &&Record| {
            record.sequence >= from && self.filters.matches(store.subject_of(record))
        };
        of_subject
            .into_iter()
            .flatten()
            .chain(of_log.into_iter().flatten())
            .filter(is_wanted)
    }
}
