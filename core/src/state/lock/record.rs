//! What stands in the bucket: the record of a lock, and the tickets of those who wait for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::time::{Instant, UnixTime, nanos};
use crate::transport::{KvEntry, Revision};

/// Clocks of two nodes may run apart by one part in so many. Crystals are a thousand times better.
const DRIFT_PART: u32 = 16;

/// What others add to the life of a lock before they take it over, so that its holder has surely given it up by its own
/// clock: see the head of `mod.rs`.
pub(super) fn margin(ttl: Duration) -> Duration {
    ttl / DRIFT_PART
}

/// The record of a lock. It says nothing of when: no two clocks would agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Names the acquisition, unlike any other.
    pub id: Arc<str>,
    /// How long it is held, from each write of the record on.
    pub ttl_ms: u64,
    /// Which write of its process it is: no two records are alike, so that what is stored can be told from what was only
    /// sent.
    pub write: u64,
    /// The fencing token; absent in the first record of an acquisition, whose revision is the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// Whose turn it was, where it had waited for one: names the place in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Arc<str>>,
    /// Whose turn was before and who did not come then: places in the queue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<Arc<str>>,
}

impl Record {
    pub(super) fn new(id: &Arc<str>, ttl: Duration, token: Option<u64>, write: u64) -> Self {
        Self {
            id: Arc::clone(id),
            write,
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            token,
            place: None,
            passed: Vec::new(),
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads a record; `None` where the key is free, or what stands there is none.
    pub fn decode(entry: &KvEntry) -> Option<Self> {
        if !entry.operation.is_put() {
            return None;
        }
        serde_json::from_slice(&entry.value).ok()
    }
}

/// Whether this is a record of the acquisition of this name.
pub(super) fn is_of(entry: &KvEntry, id: &str) -> bool {
    Record::decode(entry).is_some_and(|record| *record.id == *id)
}

/// Somebody else's record as it was first seen: if it is still there after its life, nobody keeps it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) revision: Revision,
    /// Whose, where that can be read.
    pub(super) id: Option<Arc<str>>,
    /// Which of its writes.
    write: Option<u64>,
    /// Whose turn it was.
    pub(super) place: Option<Arc<str>>,
    /// Whose turns were passed over.
    pub(super) passed: Vec<Arc<str>>,
    /// When it was first seen, which is after it was written.
    pub(super) since: Instant,
    /// How long it lives.
    pub(super) life: Duration,
}

impl Sight {
    /// What is seen now. What cannot be read is taken to live as long as one's own would.
    pub(super) fn of(entry: &KvEntry, now: Instant, ttl: Duration) -> Self {
        let record = Record::decode(entry);
        Self {
            revision: entry.revision,
            since: now,
            life: record
                .as_ref()
                .map_or(ttl, |record| Duration::from_millis(record.ttl_ms)),
            write: record.as_ref().map(|record| record.write),
            place: record.as_ref().and_then(|record| record.place.clone()),
            id: record.as_ref().map(|record| Arc::clone(&record.id)),
            passed: record.map_or_else(Vec::new, |record| record.passed),
        }
    }

    /// Whether this is of the same record, or of an older one. A server that has lost its power gives revisions out again:
    /// the same one may be another's.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let is_same = (&self.id, self.write) == (&other.id, other.write);
        self.revision > other.revision || (self.revision == other.revision && is_same)
    }

    /// Whether this is the very record that was seen.
    pub(super) fn is_of(&self, entry: &KvEntry) -> bool {
        let other = Self::of(entry, self.since, self.life);
        self.covers(&other) && self.revision == other.revision
    }

    /// From then on it may be taken over.
    pub(super) fn ends(&self) -> Instant {
        self.since + self.life + margin(self.life)
    }
}

/// A moment by both clocks of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) at: Instant,
    pub(super) wall: UnixTime,
}

impl Stamp {
    /// Whether `life` may have passed since then. The monotonic clock stands while the machine sleeps, and the wall clock
    /// goes on: whichever says more is believed. Where the wall clock was set back neither can be, as that may hide a
    /// sleep. (Both are fooled by a clock that is set back by just the time slept.)
    pub(super) fn is_over(&self, now: Self, life: Duration) -> bool {
        let passed = now.at.since(self.at);
        let by_wall = now.wall.as_nanos().saturating_sub(self.wall.as_nanos());
        let by_clock = i64::try_from(nanos(passed)).unwrap_or(i64::MAX);
        let behind = by_clock.saturating_sub(by_wall);
        let tolerated = i64::try_from(nanos(margin(life))).unwrap_or(i64::MAX);
        passed >= life || now.wall.since(self.wall) >= life || behind > tolerated
    }

    /// How much of `life` is left, by the clock that says less.
    pub(super) fn left(&self, now: Self, life: Duration) -> Duration {
        if self.is_over(now, life) {
            return Duration::ZERO;
        }
        let passed = now.at.since(self.at).max(now.wall.since(self.wall));
        life.saturating_sub(passed)
    }
}

/// The keys of one lock.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Its record.
    pub(super) record: Arc<str>,
    /// How the keys of its tickets begin, with the dot.
    tickets: String,
}

impl Keys {
    /// Of the lock whose record stands under this key, `l.` and the name of the lock: tickets stand beside it, under `w.`,
    /// the name, and the name of the place in the queue.
    pub(super) fn new(record: &str) -> Self {
        let name = record.strip_prefix("l.").unwrap_or(record);
        Self {
            record: record.into(),
            tickets: format!("w.{name}."),
        }
    }

    pub(super) fn ticket(&self, place: &str) -> String {
        format!("{}{place}", self.tickets)
    }

    pub(super) fn all_tickets(&self) -> String {
        format!("{}*", self.tickets)
    }

    /// The place whose ticket stands under this key.
    pub(super) fn place_of<'a>(&self, ticket: &'a str) -> Option<&'a str> {
        ticket.strip_prefix(&*self.tickets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stamp(clock: u64, wall: i64) -> Stamp {
        Stamp {
            at: Instant::ZERO + SECOND * u32::try_from(clock).unwrap_or_default(),
            wall: UnixTime::from_secs(1000 + wall),
        }
    }

    #[test]
    fn a_life_is_over_by_the_clock_that_says_more() {
        let sent = stamp(0, 0);
        let life = SECOND * 32;
        assert!(!sent.is_over(stamp(31, 31), life));
        assert!(sent.is_over(stamp(32, 32), life), "by both");
        assert!(sent.is_over(stamp(1, 40), life), "the machine slept");
        assert!(sent.is_over(stamp(40, 38), life), "by the monotonic clock");
        assert!(!sent.is_over(stamp(10, 8), life), "set back a little");
        assert!(sent.is_over(stamp(10, 5), life), "set back: who knows");
        let left = |clock, wall| sent.left(stamp(clock, wall), life).as_secs();
        assert_eq!((left(31, 31), left(1, 30), left(30, 29)), (1, 2, 2));
        assert_eq!((left(32, 32), left(10, 5)), (0, 0));
    }

    #[test]
    fn a_revision_that_is_given_out_again_is_another_record() {
        let record = |revision, id: &str, write| {
            let entry = KvEntry {
                key: "l.a".into(),
                value: Record::new(&id.into(), SECOND, None, write).encode(),
                revision: Revision(revision),
                operation: crate::transport::Operation::Put,
                created: UnixTime::EPOCH,
            };
            Sight::of(&entry, Instant::ZERO, SECOND)
        };
        let seen = record(5, "a", 1);
        assert!(seen.covers(&record(5, "a", 1)) && seen.covers(&record(4, "b", 9)));
        assert!(!seen.covers(&record(5, "b", 9)) && !seen.covers(&record(6, "a", 2)));
    }

    #[test]
    fn tickets_of_one_lock_are_no_other_locks() {
        let (a, ab) = (Keys::new("l.a"), Keys::new("l.a.b"));
        assert_eq!(a.all_tickets(), "w.a.*");
        assert_eq!(ab.ticket("7"), "w.a.b.7");
        assert_eq!(ab.place_of("w.a.b.7"), Some("7"));
    }
}
