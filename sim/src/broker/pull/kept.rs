//! What a consumer writes down: the state that is told in its info, and what of it a restart finds.
//!
//! It follows the living state by its own rules, as the server's consumer store does, and so differs from it at times:
//! a message that was given up keeps its floor back until the next acknowledgement, and the time of a delivery is kept
//! as the time at which the *message* was stored, in whole seconds. It is written to disk at most ten times a second.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_core::transport::AckPolicy;
use squall_core::{Instant, Rng, UnixTime};

use super::super::config::Version;

/// No two writes to disk are closer.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// A change that can be written at once is on disk no later than this.
const WRITE_LAG_MAX_NANOS: u64 = 100_000;
/// Of a hundred consumers of 2.10 that are written to when the process is killed, those that come back empty. Seen in
/// three trials, too few for a figure.
const TORN_OF_100: u64 = 10;
/// A second in nanoseconds: times are kept in whole ones.
const SECOND: i64 = 1_000_000_000;

/// Two counts that go together: of deliveries, and of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) consumer: u64,
    pub(super) stream: u64,
}

/// A delivery that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// Its count when it was first delivered.
    pub(super) count: u64,
    /// Its wait began then.
    pub(super) since: UnixTime,
}

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) delivered: Place,
    pub(super) floor: Place,
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Deliveries after the first.
    pub(super) again: BTreeMap<u64, u64>,
}

impl Kept {
    /// A message was delivered for the `deliveries`th time, or its wait began anew.
    pub(super) fn delivered(
        &mut self,
        policy: AckPolicy,
        count: u64,
        sequence: u64,
        deliveries: u64,
        deliver_max: Option<u64>,
        since: UnixTime,
    ) {
        if policy == AckPolicy::None {
            self.delivered.consumer = self.delivered.consumer.max(count);
            self.delivered.stream = self.delivered.stream.max(sequence);
            self.floor = self.delivered;
            return;
        }
        if count <= self.floor.consumer {
            return;
        }
        let first = self.pending.get(&sequence).map_or(count, |p| p.count);
        self.pending.insert(
            sequence,
            Pending {
                count: first,
                since,
            },
        );
        self.delivered.consumer = self.delivered.consumer.max(count);
        self.delivered.stream = self.delivered.stream.max(sequence);
        if deliveries > 1 {
            if deliver_max.is_some_and(|max| deliveries > max) {
                self.pending.remove(&sequence);
            }
            let again = self.again.entry(sequence).or_default();
            *again = (*again).max(deliveries - 1);
        }
    }

    /// A delivery is settled.
    pub(super) fn settled(&mut self, policy: AckPolicy, count: u64, sequence: u64) {
        let Some(&pending) = self.pending.get(&sequence) else {
            self.again.remove(&sequence);
            return;
        };
        if policy == AckPolicy::All {
            self.floor = Place {
                consumer: count,
                stream: sequence,
            };
            self.pending.retain(|&other, _| other > sequence);
            self.again.retain(|&other, _| other > sequence);
            return;
        }
        self.pending.remove(&sequence);
        let count = count.min(pending.count);
        self.floor = floor_after(self.floor, self.delivered, &self.pending, count, sequence);
        self.again.remove(&sequence);
    }

    /// What a process that starts finds of this.
    fn as_read(&self) -> Self {
        let mut read = self.clone();
        for pending in read.pending.values_mut() {
            let nanos = pending.since.as_nanos();
            pending.since = UnixTime::from_nanos(nanos - nanos.rem_euclid(SECOND));
        }
        read
    }
}

/// The floor after the delivery `count` of message `sequence`, which is not pending any more: it moves over what is
/// settled without a gap.
pub(super) fn floor_after(
    floor: Place,
    delivered: Place,
    pending: &BTreeMap<u64, Pending>,
    count: u64,
    sequence: u64,
) -> Place {
    if pending.is_empty() {
        return delivered;
    }
    if count != floor.consumer + 1 {
        return floor;
    }
    match pending.range(sequence + 1..).next() {
        Some((&next, waiting)) => Place {
            consumer: waiting.count - 1,
            stream: next - 1,
        },
        None => Place {
            consumer: count,
            stream: sequence,
        },
    }
}

/// The disk under a consumer, or none where its state is in memory only.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    written: Option<Kept>,
    written_at: Option<Instant>,
    /// When the state will be written next.
    pub(super) due: Option<Instant>,
}

impl Disk {
    pub(super) const fn new(written: Kept) -> Self {
        Self {
            written: Some(written),
            written_at: None,
            due: None,
        }
    }

    /// Something changed that is to be written.
    pub(super) fn touch(&mut self, now: Instant, rng: &mut Rng) {
        if self.due.is_none() {
            let soon = now + Duration::from_nanos(rng.between(1, WRITE_LAG_MAX_NANOS));
            let free = self.written_at.map_or(soon, |at| at + WRITE_INTERVAL);
            self.due = Some(soon.max(free));
        }
    }

    pub(super) fn write(&mut self, now: Instant, kept: &Kept) {
        self.written = Some(kept.clone());
        self.written_at = Some(now);
        self.due = None;
    }

    /// The process ends in good order.
    pub(super) fn close(&mut self, kept: &Kept) {
        self.written = Some(kept.clone());
    }

    /// The process is killed. Servers before 2.11 may leave nothing readable of a state they were writing.
    pub(super) fn killed(&mut self, version: Version, rng: &mut Rng) {
        if !version.is_at_least(2, 11) && self.due.is_some() && rng.chance(TORN_OF_100, 100) {
            self.written = None;
        }
    }

    /// What a process that starts finds; `None` where nothing can be read.
    pub(super) fn read(&mut self) -> Option<Kept> {
        self.written_at = None;
        self.due = None;
        self.written.as_ref().map(Kept::as_read)
    }
}
