//! The decision core that keeps one's own entry: when to beat, over which revision, and what to make of the answer.
//!
//! Every write is conditional on the revision that this incarnation wrote last. So a beat that was long on its way (in a
//! buffer, a frozen socket) can never overwrite or revive what has happened since: ghost writes are harmless, and the
//! end of one incarnation never touches the next. Invariants: an incarnation that may have been told dead never beats
//! again (its agent returns as another one), and whoever may be gone is told so ([`Notice::Evicted`]) by its own clock,
//! without hearing it from anybody.

use std::time::Duration;

use super::entry::{Entry, Incarnation};
use super::{EvictReason, Notice};
use crate::machine::Machine;
use crate::time::{Instant, UnixTime, nanos};
use crate::transport::{KvEntry, ReadError, Revision, UpdateError, WriteError};

/// Steps that may follow a beat at once, each upon the answer to the one before. The longest way back is look, attach,
/// write, and once more look and write where an old write arrived meanwhile.
const FOLLOW_UPS_MAX: u32 = 6;

/// What a [`Keeper`] hears.
#[derive(Clone, Debug)]
pub(super) enum KeeperEvent {
    /// A write was answered.
    Written {
        write: Write,
        /// When it was handed to the transport.
        invoked: Instant,
        invoked_wall: UnixTime,
        /// Wall time now.
        wall: UnixTime,
        result: Result<Revision, UpdateError>,
    },
    /// The look of this number was answered.
    Looked {
        number: u64,
        result: Result<Option<KvEntry>, ReadError>,
    },
    /// The bucket has been seen to, with whatever success.
    Attached { number: u64 },
    /// The connection is down: beating is no use until it is up.
    Disconnected,
    /// The connection is up again.
    Reconnected,
    /// Somebody needs a beat now, to see whether it comes back.
    Probe,
}

/// One conditional write of one's own entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) number: u64,
    /// Counts the incarnations of this handle.
    pub(super) incarnation: u64,
    /// When that began, if not with this write.
    pub(super) began: Option<UnixTime>,
    pub(super) expected: Revision,
}

/// What a [`Keeper`] wants done. Whatever it starts is answered by the event that carries its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeeperEffect {
    Write(Write),
    /// Read the entry.
    Look {
        number: u64,
    },
    /// See that the bucket exists and lets entries live long enough.
    Attach {
        number: u64,
    },
    /// Tell the owner.
    Tell(Notice),
    /// Tell the rosters: everything that was committed before `invoked` has a revision below this one.
    Renewed {
        revision: Revision,
        invoked: Instant,
    },
}

#[derive(Clone, Copy)]
enum Step {
    Act,
    Look,
    Attach,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Keeper {
    interval: Duration,
    ttl: Duration,
    /// How the names of this handle's incarnations begin.
    session: String,
    /// The incarnation acknowledged last, when it began, and the last one given out.
    incarnation: u64,
    began: UnixTime,
    issued: u64,
    /// The record that the next write goes over.
    over: Revision,
    /// When the last acknowledged write was handed over, by both clocks.
    renewed: Instant,
    renewed_wall: UnixTime,
    evicted: Option<EvictReason>,
    /// Another incarnation holds the key: it is looked at, not written over.
    yielded: bool,
    /// The connection was lost since the entry was last known to be ours: a server that has lost its power may have given
    /// its revision out again, to the marker of its end. So it is looked at before it is renewed.
    unsure: bool,
    connected: bool,
    next: Instant,
    /// The operation under way; answers to older ones count only for what they prove.
    number: u64,
    waiting: bool,
    /// Steps taken since the last beat that was due.
    follow_ups: u32,
}

impl Keeper {
    /// Keeps an entry whose first record is `over`, handed over at `renewed`.
    pub(super) fn new(
        interval: Duration,
        ttl: Duration,
        session: String,
        over: Revision,
        renewed: (Instant, UnixTime),
    ) -> Self {
        Self {
            interval,
            ttl,
            session,
            incarnation: 0,
            began: renewed.1,
            issued: 0,
            over,
            renewed: renewed.0,
            renewed_wall: renewed.1,
            evicted: None,
            yielded: false,
            unsure: false,
            connected: true,
            next: renewed.0 + interval,
            number: 0,
            waiting: false,
            follow_ups: 0,
        }
    }

    /// The record this handle may delete when it ends, unless it has yielded to another.
    pub(super) const fn over(&self) -> Revision {
        self.over
    }

    fn act(&mut self, now: Instant, effects: &mut Vec<KeeperEffect>) {
        let number = self.begin(now);
        if self.yielded || (self.unsure && self.evicted.is_none()) {
            effects.push(KeeperEffect::Look { number });
            return;
        }
        let began = if self.evicted.is_none() {
            Some(self.began)
        } else {
            // Each try to come back is an incarnation of its own: one that was stored without our hearing of it may be
            // seen, and told down again, before another is acknowledged.
            self.issued += 1;
            None
        };
        effects.push(KeeperEffect::Write(Write {
            number,
            incarnation: if began.is_some() {
                self.incarnation
            } else {
                self.issued
            },
            began,
            expected: self.over,
        }));
    }

    /// Takes the next step at once; only so often, then it waits for the next beat: where answers contradict each other
    /// (a replica that stands still, a server without JetStream), they would be asked for without end.
    fn follow_up(&mut self, now: Instant, step: Step, effects: &mut Vec<KeeperEffect>) {
        if self.follow_ups == FOLLOW_UPS_MAX {
            return;
        }
        self.follow_ups += 1;
        match step {
            Step::Act => self.act(now, effects),
            Step::Look => {
                let number = self.begin(now);
                effects.push(KeeperEffect::Look { number });
            }
            Step::Attach => {
                let number = self.begin(now);
                effects.push(KeeperEffect::Attach { number });
            }
        }
    }

    fn begin(&mut self, now: Instant) -> u64 {
        self.number += 1;
        self.waiting = true;
        self.next = now + self.interval;
        self.number
    }

    /// No incarnation so far may beat again. Once told is enough, unless it turns out that somebody else has taken the
    /// place.
    fn evict(&mut self, reason: EvictReason, effects: &mut Vec<KeeperEffect>) {
        self.incarnation = self.issued;
        let superseded = |reason: &EvictReason| matches!(reason, EvictReason::Superseded { .. });
        let news = match &self.evicted {
            None => true,
            Some(known) => superseded(&reason) && !superseded(known),
        };
        if news {
            self.evicted = Some(reason.clone());
            effects.push(KeeperEffect::Tell(Notice::Evicted(reason)));
        }
    }

    fn stored(
        &mut self,
        now: Instant,
        wall: UnixTime,
        invoked: (Instant, UnixTime),
        write: Write,
        revision: Revision,
        effects: &mut Vec<KeeperEffect>,
    ) {
        // Late: peers may have been told that this incarnation is down, and one that is down never comes back. Its life
        // is counted from the last renewal, or, for the first record after an eviction, from this very write. The
        // monotonic clock stands while the machine sleeps, and the wall clock may have been set meanwhile: where the
        // two disagree neither can say that it was not too long. (Both are fooled by a clock set back by just the time
        // slept. Then peers do not see the agent until it is evicted; a server that ends entries by their own life,
        // rather than by the bucket's age, would tell.)
        let alive_at = if self.evicted.is_some() {
            invoked
        } else {
            (self.renewed, self.renewed_wall)
        };
        let passed = now.since(alive_at.0);
        let apart = (wall.as_nanos() - alive_at.1.as_nanos()).abs_diff(nanos(passed) as i64);
        let late = passed > self.ttl || apart > nanos(self.interval / 2);
        self.over = revision;
        (self.renewed, self.renewed_wall) = invoked;
        effects.push(KeeperEffect::Renewed {
            revision,
            invoked: invoked.0,
        });
        if late {
            self.evict(EvictReason::Unrenewed, effects);
        }
        if self.evicted.is_some() {
            if late || write.incarnation <= self.incarnation {
                self.follow_up(now, Step::Act, effects);
            } else {
                (self.incarnation, self.began) = (write.incarnation, invoked.1);
                self.evicted = None;
                effects.push(KeeperEffect::Tell(Notice::Restored));
            }
        }
    }

    fn looked(&mut self, now: Instant, record: Option<KvEntry>, effects: &mut Vec<KeeperEffect>) {
        self.unsure = false;
        let over = record
            .as_ref()
            .map_or(Revision::NONE, |record| record.revision);
        match record.filter(|record| record.operation.is_put()) {
            None => {
                self.over = over;
                let was_yielded = std::mem::replace(&mut self.yielded, false);
                self.evict(EvictReason::Missing, effects);
                let step = if was_yielded {
                    Step::Act
                } else {
                    // It aged out although it was renewed in time, or somebody deleted it: is the bucket still as it
                    // should be?
                    Step::Attach
                };
                self.follow_up(now, step, effects);
            }
            Some(record) => {
                let by = Entry::decode(&record).map(|entry| entry.incarnation());
                // A write of our own whose answer was lost did happen; anything else is not ours to overwrite.
                if let Some(by) = &by
                    && by.0.starts_with(&self.session)
                {
                    self.over = over;
                    self.yielded = false;
                    // An older try to come back, stored late: so ours was gone in between.
                    if self.evicted.is_none()
                        && *by != Incarnation::of(&self.session, self.incarnation)
                    {
                        self.evict(EvictReason::Missing, effects);
                    }
                    self.follow_up(now, Step::Act, effects);
                } else {
                    self.yielded = true;
                    self.evict(EvictReason::Superseded { by }, effects);
                }
            }
        }
    }
}

impl Machine for Keeper {
    type Event = KeeperEvent;
    type Effect = KeeperEffect;

    fn handle(&mut self, now: Instant, event: KeeperEvent, effects: &mut Vec<KeeperEffect>) {
        match event {
            KeeperEvent::Written {
                write,
                invoked,
                invoked_wall,
                wall,
                result,
            } => {
                let current = write.number == self.number;
                self.waiting &= !current;
                match result {
                    // What was handed over before the last one acknowledged is of a bucket that is gone since.
                    Ok(revision) if revision > self.over && invoked >= self.renewed => {
                        let invoked = (invoked, invoked_wall);
                        self.stored(now, wall, invoked, write, revision, effects);
                    }
                    Err(UpdateError::WrongRevision { .. }) if current => {
                        self.follow_up(now, Step::Look, effects);
                    }
                    Err(UpdateError::Write(WriteError::NoBucket)) if current => {
                        self.follow_up(now, Step::Attach, effects);
                    }
                    // Unknown, or refused for now: the next beat finds out.
                    Ok(_) | Err(_) => {}
                }
            }
            KeeperEvent::Looked { number, result } => {
                if number == self.number {
                    self.waiting = false;
                    match result {
                        Ok(record) => self.looked(now, record, effects),
                        // With it goes whoever held the entry.
                        Err(ReadError::NoBucket) => self.follow_up(now, Step::Attach, effects),
                        Err(_) => {}
                    }
                }
            }
            KeeperEvent::Attached { number } => {
                if number == self.number {
                    self.waiting = false;
                    self.follow_up(now, Step::Act, effects);
                }
            }
            KeeperEvent::Disconnected => (self.connected, self.unsure) = (false, true),
            KeeperEvent::Reconnected => {
                self.connected = true;
                self.act(now, effects);
            }
            KeeperEvent::Probe => {
                if self.connected && !self.waiting {
                    self.act(now, effects);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let expiry = self.renewed + self.ttl;
        Some(if self.evicted.is_none() {
            self.next.min(expiry)
        } else {
            self.next
        })
    }

    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<KeeperEffect>) {
        if self.evicted.is_none() && self.renewed + self.ttl <= now {
            self.evict(EvictReason::Unrenewed, effects);
        }
        if self.next <= now {
            self.follow_ups = 0;
            if self.connected {
                self.act(now, effects);
            } else {
                self.next = now + self.interval;
            }
        }
    }

    fn state(&self) -> &'static str {
        match (&self.evicted, self.connected) {
            _ if self.yielded => "yielded",
            (Some(_), _) => "evicted",
            (None, false) => "cut off",
            (None, true) if self.unsure => "unsure",
            (None, true) => "present",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use bytes::Bytes;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::super::entry::key;
    use super::*;
    use crate::transport::{ApiError, Operation};

    const INTERVAL: Duration = Duration::from_secs(1);
    const TTL: Duration = Duration::from_secs(3);
    /// Who watches may conclude from so long a silence that an incarnation is down.
    const PATIENCE: Duration = Duration::from_millis(3250);

    /// The first record of a keeper's bucket, far from those of a bucket made anew.
    const FIRST: Revision = Revision(1000);

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn wall(millis: u64) -> UnixTime {
        UnixTime::EPOCH + Duration::from_millis(millis)
    }

    fn keeper() -> Keeper {
        let renewed = (at(0), wall(0));
        Keeper::new(INTERVAL, TTL, "s".to_owned(), FIRST, renewed)
    }

    /// What a look finds: a value of this incarnation, or a tombstone.
    fn record(incarnation: Option<&str>, revision: Revision) -> KvEntry {
        let value = incarnation.map(|incarnation| {
            let entry = Entry {
                agent_id: "alice".to_owned(),
                project: "demo".to_owned(),
                started_at: UnixTime::EPOCH,
                last_seen: UnixTime::EPOCH,
                incarnation: Some(incarnation.to_owned()),
                ttl_ms: None,
            };
            entry.encode()
        });
        let (operation, value) = match value {
            Some(value) => (Operation::Put, value),
            None => (Operation::Delete, Bytes::new()),
        };
        KvEntry {
            key: key("demo", "alice").into(),
            value,
            revision,
            operation,
            created: UnixTime::EPOCH,
        }
    }

    /// A keeper that beats every second since 0, and what it has asked for and told, as text.
    struct Story(Keeper);

    impl Story {
        fn new() -> Self {
            Self(keeper())
        }

        /// Evicted at 3 s, because nothing was acknowledged.
        fn evicted() -> Self {
            let mut story = Self::new();
            story.wakes(1000);
            assert_eq!(story.wakes(3000)[0], "evicted: Unrenewed");
            story
        }

        fn wakes(&mut self, millis: u64) -> Vec<String> {
            let mut effects = Vec::new();
            self.0.on_deadline(at(millis), &mut effects);
            effects.iter().map(short).collect()
        }

        fn hears(&mut self, millis: u64, event: KeeperEvent) -> Vec<String> {
            let mut effects = Vec::new();
            self.0.handle(at(millis), event, &mut effects);
            effects.iter().map(short).collect()
        }

        /// The write that the last effects asked for is answered.
        fn written(
            &mut self,
            millis: u64,
            (number, incarnation, expected): (u64, u64, u64),
            invoked: u64,
            result: Result<u64, UpdateError>,
        ) -> Vec<String> {
            let event = KeeperEvent::Written {
                write: Write {
                    number,
                    incarnation,
                    began: None,
                    expected: Revision(expected),
                },
                invoked: at(invoked),
                invoked_wall: wall(invoked),
                wall: wall(millis),
                result: result.map(Revision),
            };
            self.hears(millis, event)
        }

        fn looked(&mut self, millis: u64, number: u64, found: Option<KvEntry>) -> Vec<String> {
            let result = Ok(found);
            self.hears(millis, KeeperEvent::Looked { number, result })
        }

        fn attached(&mut self, millis: u64, number: u64) -> Vec<String> {
            self.hears(millis, KeeperEvent::Attached { number })
        }
    }

    fn short(effect: &KeeperEffect) -> String {
        match effect {
            KeeperEffect::Write(write) => format!(
                "write {}: {} over {}",
                write.number, write.incarnation, write.expected
            ),
            KeeperEffect::Look { number } => format!("look {number}"),
            KeeperEffect::Attach { number } => format!("attach {number}"),
            KeeperEffect::Tell(Notice::Evicted(EvictReason::Superseded { by })) => {
                let by = by.as_ref().map_or("?", |by| &by.0);
                format!("evicted: superseded by {by}")
            }
            KeeperEffect::Tell(Notice::Evicted(reason)) => format!("evicted: {reason:?}"),
            KeeperEffect::Tell(Notice::Restored) => "restored".to_owned(),
            KeeperEffect::Renewed { revision, .. } => format!("renewed {revision}"),
        }
    }

    fn wrong() -> UpdateError {
        let actual = Revision(7);
        UpdateError::WrongRevision { actual }
    }

    fn timed_out() -> UpdateError {
        WriteError::TimedOut.into()
    }

    fn no_bucket() -> UpdateError {
        WriteError::NoBucket.into()
    }

    #[test]
    fn it_beats_every_interval_over_its_own_last_record() {
        let mut story = Story::new();
        assert_eq!(story.0.deadline(), Some(at(1000)));
        assert_eq!(story.wakes(1000), ["write 1: 0 over 1000"]);
        let told = story.written(1010, (1, 0, 1000), 1000, Ok(1005));
        assert_eq!(told, ["renewed 1005"]);
        assert_eq!(story.0.deadline(), Some(at(2000)));
        assert_eq!(story.wakes(2000), ["write 2: 0 over 1005"]);
    }

    #[test]
    fn unrenewed_for_its_life_it_knows_by_its_own_clock_and_returns_as_another() {
        let mut story = Story::new();
        story.wakes(1000);
        story.wakes(2000);
        assert_eq!(story.0.deadline(), Some(at(3000)));
        let told = story.wakes(3000);
        assert_eq!(told, ["evicted: Unrenewed", "write 3: 1 over 1000"]);
        let told = story.written(3010, (3, 1, 1000), 3000, Ok(1005));
        assert_eq!(told, ["renewed 1005", "restored"]);
        assert_eq!(story.wakes(4000), ["write 4: 1 over 1005"]);
    }

    #[test]
    fn a_write_whose_answer_was_lost_is_recognised() {
        let mut story = Story::new();
        story.wakes(1000);
        story.wakes(2000);
        let told = story.written(2010, (2, 0, 1000), 2000, Err(wrong()));
        assert_eq!(told, ["look 3"]);
        let own = record(Some("s-0"), Revision(1005));
        assert_eq!(story.looked(2020, 3, Some(own)), ["write 4: 0 over 1005"]);
    }

    #[test]
    fn an_entry_that_is_gone_is_written_anew_once_the_bucket_is_seen_to() {
        let mut story = Story::new();
        story.wakes(1000);
        story.written(1010, (1, 0, 1000), 1000, Err(wrong()));
        let told = story.looked(1020, 2, Some(record(None, Revision(1004))));
        assert_eq!(told, ["evicted: Missing", "attach 3"]);
        assert_eq!(story.attached(1030, 3), ["write 4: 1 over 1004"]);
        let told = story.written(1040, (4, 1, 1004), 1030, Ok(1005));
        assert_eq!(told, ["renewed 1005", "restored"]);
    }

    #[test]
    fn it_makes_way_for_another_and_returns_when_that_has_gone() {
        let mut story = Story::new();
        story.wakes(1000);
        story.written(1010, (1, 0, 1000), 1000, Err(wrong()));
        let other = record(Some("t-0"), Revision(1004));
        let told = story.looked(1020, 2, Some(other.clone()));
        assert_eq!(told, ["evicted: superseded by t-0"]);
        assert_eq!(story.wakes(2020), ["look 3"]);
        assert!(story.looked(2030, 3, Some(other)).is_empty());
        assert_eq!(story.wakes(3030), ["look 4"]);
        let told = story.looked(3040, 4, Some(record(None, Revision(1009))));
        assert_eq!(told, ["write 5: 1 over 1009"]);
    }

    #[test]
    fn a_value_that_cannot_be_read_is_not_written_over() {
        let mut story = Story::new();
        story.wakes(1000);
        story.written(1010, (1, 0, 1000), 1000, Err(wrong()));
        let mut garbage = record(Some("t-0"), Revision(1004));
        garbage.value = Bytes::from_static(b"{");
        let told = story.looked(1020, 2, Some(garbage));
        assert_eq!(told, ["evicted: superseded by ?"]);
        assert_eq!(story.wakes(2020), ["look 3"]);
    }

    #[test]
    fn an_answer_after_the_life_of_the_entry_is_an_eviction() {
        let mut story = Story::new();
        story.wakes(1000);
        let told = story.written(3001, (1, 0, 1000), 1000, Ok(1005));
        let expected = ["renewed 1005", "evicted: Unrenewed", "write 2: 1 over 1005"];
        assert_eq!(told, expected);
        let told = story.written(3020, (2, 1, 1005), 3010, Ok(1006));
        assert_eq!(told, ["renewed 1006", "restored"]);
    }

    #[test]
    fn a_sleep_shows_on_the_wall_clock_alone() {
        let mut story = Story::new();
        story.wakes(1000);
        let event = KeeperEvent::Written {
            write: Write {
                number: 1,
                incarnation: 0,
                began: Some(wall(0)),
                expected: FIRST,
            },
            invoked: at(1000),
            invoked_wall: wall(1000),
            wall: wall(3_600_000),
            result: Ok(Revision(1005)),
        };
        let told = story.hears(1010, event);
        assert_eq!(told[1..], ["evicted: Unrenewed", "write 2: 1 over 1005"]);
    }

    /// By the monotonic one it was in time; nobody knows for how long the machine slept.
    #[test]
    fn clocks_that_disagree_cannot_say_that_it_was_in_time() {
        let mut story = Story::new();
        story.wakes(1000);
        story.written(1010, (1, 0, 1000), 1000, Ok(1005));
        story.wakes(2000);
        let event = KeeperEvent::Written {
            write: Write {
                number: 2,
                incarnation: 0,
                began: Some(wall(0)),
                expected: Revision(1005),
            },
            invoked: at(2000),
            invoked_wall: wall(400),
            wall: wall(410),
            result: Ok(Revision(1006)),
        };
        let told = story.hears(2010, event);
        assert_eq!(told[1..], ["evicted: Unrenewed", "write 3: 1 over 1006"]);
    }

    /// Its first try was stored, seen by all, and told down again, while it heard nothing.
    #[test]
    fn each_try_to_come_back_is_an_incarnation_of_its_own() {
        let mut story = Story::evicted();
        assert_eq!(story.wakes(4000), ["write 3: 2 over 1000"]);
        let told = story.written(4010, (3, 2, 1000), 4000, Err(wrong()));
        assert_eq!(told, ["look 4"]);
        let own = record(Some("s-1"), Revision(1005));
        assert_eq!(story.looked(9000, 4, Some(own)), ["write 5: 3 over 1005"]);
    }

    /// Where a round trip takes longer than an interval, the next try is always under way already.
    #[test]
    fn a_try_that_is_not_the_latest_may_succeed() {
        let mut story = Story::evicted();
        assert_eq!(story.wakes(4000), ["write 3: 2 over 1000"]);
        let told = story.written(4200, (2, 1, 1000), 3000, Ok(1005));
        assert_eq!(told, ["renewed 1005", "restored"]);
        assert!(
            story
                .written(5200, (3, 2, 1000), 4000, Err(timed_out()))
                .is_empty()
        );
        assert_eq!(story.wakes(5000), ["write 4: 1 over 1005"]);
    }

    #[test]
    fn an_incarnation_is_not_restored_over_another_that_came_after_it() {
        let mut story = Story::evicted();
        story.wakes(4000);
        story.written(4010, (3, 2, 1000), 4000, Err(wrong()));
        let told = story.looked(4020, 4, Some(record(Some("t-0"), Revision(1006))));
        assert_eq!(told, ["evicted: superseded by t-0"]);
        // The first try had been stored before the other came.
        let told = story.written(4030, (2, 1, 1000), 3000, Ok(1005));
        assert_eq!(told, ["renewed 1005", "look 5"]);
    }

    #[test]
    fn an_older_try_that_was_stored_late_shows_that_the_entry_was_gone() {
        let mut story = Story::evicted();
        story.wakes(4000);
        story.written(4010, (3, 2, 1000), 4000, Ok(1005));
        story.wakes(5000);
        story.written(5010, (4, 2, 1005), 5000, Err(wrong()));
        let told = story.looked(5020, 5, Some(record(Some("s-1"), Revision(3))));
        assert_eq!(told, ["evicted: Missing", "write 6: 3 over 3"]);
    }

    #[test]
    fn its_beginning_stays_the_same_for_an_incarnation() {
        let mut story = Story::evicted();
        let began = |story: &mut Story, millis| {
            let mut effects = Vec::new();
            story.0.on_deadline(at(millis), &mut effects);
            match effects.as_slice() {
                [KeeperEffect::Write(write)] => write.began,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(began(&mut story, 4000), None, "with this write");
        story.written(4010, (3, 2, 1000), 4000, Ok(1005));
        assert_eq!(began(&mut story, 5000), Some(wall(4000)));
        assert_eq!(began(&mut story, 6000), Some(wall(4000)));
    }

    #[test]
    fn an_answer_from_the_bucket_before_is_not_believed() {
        let mut story = Story::new();
        story.wakes(1000);
        story.wakes(2000);
        story.written(2010, (2, 0, 1000), 2000, Err(wrong()));
        story.looked(2020, 3, None);
        assert!(story.attached(2030, 3).is_empty());
        assert_eq!(story.attached(2030, 4), ["write 5: 1 over 0"]);
        story.written(2040, (5, 1, 0), 2030, Ok(2));
        assert!(story.written(2050, (1, 0, 1000), 1000, Ok(1001)).is_empty());
        assert_eq!(story.wakes(3030), ["write 6: 1 over 2"]);
    }

    #[test]
    fn a_missing_bucket_is_made_also_for_one_who_has_made_way() {
        let mut story = Story::new();
        story.wakes(1000);
        story.written(1010, (1, 0, 1000), 1000, Err(wrong()));
        story.looked(1020, 2, Some(record(Some("t-0"), Revision(1004))));
        story.wakes(2020);
        let result = Err(ReadError::NoBucket);
        let told = story.hears(2030, KeeperEvent::Looked { number: 3, result });
        assert_eq!(told, ["attach 4"]);
        assert_eq!(story.attached(2040, 4), ["look 5"]);
        assert_eq!(story.looked(2050, 5, None), ["write 6: 1 over 0"]);
    }

    #[test]
    fn a_server_without_jetstream_is_not_asked_without_end() {
        let mut story = Story::new();
        let mut asked = story.wakes(1000);
        let mut count = 0;
        while let Some(last) = asked.pop() {
            count += 1;
            let number = story.0.number;
            asked = if last.starts_with("attach") {
                story.attached(1000, number)
            } else {
                story.written(1000, (number, 0, 1000), 1000, Err(no_bucket()))
            };
        }
        assert_eq!(count, 1 + FOLLOW_UPS_MAX);
        assert_eq!(story.0.deadline(), Some(at(2000)));
        assert_eq!(story.wakes(2000), ["write 8: 0 over 1000"]);
    }

    #[test]
    fn while_disconnected_it_does_not_beat_and_knows_all_the_same() {
        let mut story = Story::new();
        story.hears(500, KeeperEvent::Disconnected);
        assert!(story.wakes(1000).is_empty());
        assert!(story.hears(1500, KeeperEvent::Probe).is_empty());
        assert!(story.wakes(2000).is_empty());
        assert_eq!(story.wakes(3000), ["evicted: Unrenewed"]);
        let told = story.hears(3500, KeeperEvent::Reconnected);
        assert_eq!(told, ["write 1: 1 over 1000"]);
    }

    /// The server had lost its power and our last beat; what we wrote before has expired, and its marker has the revision
    /// of that beat. To renew over it would be to beat on after we were told down.
    #[test]
    fn after_a_reconnect_the_entry_is_looked_at_before_it_is_renewed() {
        let mut story = Story::new();
        story.hears(500, KeeperEvent::Disconnected);
        assert_eq!(story.hears(900, KeeperEvent::Reconnected), ["look 1"]);
        // Nothing was learnt: the next beat looks again.
        let (number, result) = (1, Err(ReadError::TimedOut));
        let told = story.hears(1000, KeeperEvent::Looked { number, result });
        assert!(told.is_empty());
        assert_eq!(story.wakes(1900), ["look 2"]);
        let marker = record(None, FIRST);
        let told = story.looked(1910, 2, Some(marker));
        assert_eq!(told, ["evicted: Missing", "attach 3"]);
    }

    #[test]
    fn a_probe_is_a_beat_unless_one_is_under_way() {
        let mut story = Story::new();
        let told = story.hears(500, KeeperEvent::Probe);
        assert_eq!(told, ["write 1: 0 over 1000"]);
        assert!(story.hears(510, KeeperEvent::Probe).is_empty());
        story.written(520, (1, 0, 1000), 500, Ok(1001));
        let told = story.hears(530, KeeperEvent::Probe);
        assert_eq!(told, ["write 2: 0 over 1001"]);
        assert_eq!(story.0.deadline(), Some(at(1530)));
    }

    #[test]
    fn an_answer_to_an_older_request_decides_nothing() {
        let mut story = Story::new();
        story.wakes(1000);
        story.wakes(2000);
        assert!(
            story
                .written(2010, (1, 0, 1000), 1000, Err(wrong()))
                .is_empty()
        );
        assert!(
            story
                .written(2020, (1, 0, 1000), 1000, Err(no_bucket()))
                .is_empty()
        );
        assert!(story.looked(2030, 1, None).is_empty());
    }

    // --- at random ---

    const TICK: Duration = Duration::from_millis(90);
    const ACK_TIMEOUT: Duration = Duration::from_secs(5);
    const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

    /// What becomes of a request.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Way {
        /// Answered in the same instant.
        Prompt,
        /// So many ticks there, and as many back.
        Slow(u32),
        /// Arrives, and is not answered.
        Deaf,
        Lost,
        /// Waits until it goes another way.
        Held,
        /// Refused at once: JetStream does not answer, or will not.
        Unavailable,
        Rejected,
        /// A read: answered by a replica that stands still.
        Stale,
    }

    #[derive(Clone, Debug)]
    enum Op {
        Wait(u8),
        Writes(Way),
        Looks(Way),
        Attaches(Way),
        /// Another incarnation of the agent opens, over whatever is there, and beats; or it closes, or dies.
        OtherOpens,
        OtherCloses,
        OtherDies,
        /// An operator deletes the entry.
        Delete,
        DeleteBucket,
        /// Deleted, and created anew by somebody.
        RecreateBucket,
        Disconnect,
        Reconnect,
        Probe,
        /// The process stands still; asleep, its monotonic clock does too.
        Pause(bool),
        Sleep(bool),
    }

    fn op() -> impl Strategy<Value = Op> {
        let way = prop_oneof![
            2 => Just(Way::Prompt),
            3 => (1_u32..25).prop_map(Way::Slow),
            2 => Just(Way::Deaf),
            2 => Just(Way::Lost),
            2 => Just(Way::Held),
            1 => Just(Way::Unavailable),
            1 => Just(Way::Rejected),
            1 => Just(Way::Stale),
        ];
        prop_oneof![
            14 => (1_u8..50).prop_map(Op::Wait),
            6 => way.clone().prop_map(Op::Writes),
            3 => way.clone().prop_map(Op::Looks),
            2 => way.prop_map(Op::Attaches),
            1 => Just(Op::OtherOpens),
            1 => Just(Op::OtherCloses),
            1 => Just(Op::OtherDies),
            1 => Just(Op::Delete),
            1 => Just(Op::DeleteBucket),
            1 => Just(Op::RecreateBucket),
            1 => Just(Op::Disconnect),
            1 => Just(Op::Reconnect),
            1 => Just(Op::Probe),
            1 => any::<bool>().prop_map(Op::Pause),
            1 => any::<bool>().prop_map(Op::Sleep),
        ]
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Holder {
        Own(u64),
        Other,
        Nobody,
    }

    /// The one record of the model, and when it was stored.
    #[derive(Clone, Copy, Debug)]
    struct Record {
        revision: Revision,
        holder: Holder,
        stored: Instant,
    }

    /// A request under way.
    struct Flight {
        effect: KeeperEffect,
        way: Way,
        /// By the keeper's clocks.
        invoked: (Instant, UnixTime),
        /// By the world's: when it arrives, and when the answer is back.
        arrives: Option<Instant>,
        answered: Option<Instant>,
        arrived: Option<Reply>,
    }

    #[derive(Clone)]
    enum Reply {
        /// With whether the incarnation can still be taken for alive by all.
        Write(Result<Revision, UpdateError>, bool),
        Look(Result<Option<KvEntry>, ReadError>),
        Attached,
    }

    struct World {
        /// True time, and the keeper's monotonic one. Its wall clock is right.
        now: Instant,
        mono: Instant,
        markers: bool,
        max_age: Duration,
        bucket: bool,
        last: Revision,
        record: Option<Record>,
        replica: Option<Record>,
        other_lives: bool,
        /// When each own incarnation was last stored, and which may have been told down.
        commits: BTreeMap<u64, Instant>,
        dead: BTreeSet<u64>,

        writes: Way,
        looks: Way,
        attaches: Way,
        flights: Vec<Flight>,
        paused: bool,
        asleep: bool,

        keeper: Keeper,
        mail: VecDeque<(KeeperEvent, bool)>,
        /// What it was told since the last `Restored`, and whether that holds.
        evicted: Option<EvictReason>,
        /// The hand-over of the last acknowledged write.
        acknowledged: Instant,
        /// The highest incarnation written, and what it was at the last eviction.
        written: u64,
        burnt: Option<u64>,
        requests: u32,
        /// What may ask for requests.
        occasions: u32,
    }

    impl World {
        fn new(markers: bool, long_lived: bool) -> Self {
            let first = Record {
                revision: FIRST,
                holder: Holder::Own(0),
                stored: at(0),
            };
            Self {
                now: at(0),
                mono: at(0),
                markers,
                max_age: if long_lived { TTL * 20 } else { TTL },
                bucket: true,
                last: FIRST,
                record: Some(first),
                replica: Some(first),
                other_lives: false,
                commits: BTreeMap::from([(0, at(0))]),
                dead: BTreeSet::new(),
                writes: Way::Slow(1),
                looks: Way::Slow(1),
                attaches: Way::Slow(1),
                flights: Vec::new(),
                paused: false,
                asleep: false,
                keeper: keeper(),
                mail: VecDeque::new(),
                evicted: None,
                acknowledged: at(0),
                written: 0,
                burnt: None,
                requests: 0,
                occasions: 0,
            }
        }

        fn wall(&self) -> UnixTime {
            UnixTime::from_nanos(self.now.as_nanos() as i64)
        }

        fn look(&self) -> Revision {
            self.record.map_or(Revision::NONE, |record| record.revision)
        }

        fn vanish(&mut self) {
            if let Some(Record { holder, .. }) = self.record.take()
                && let Holder::Own(incarnation) = holder
            {
                self.dead.insert(incarnation);
            }
        }

        fn store(&mut self, holder: Holder) -> Revision {
            let own = |holder: Holder| matches!(holder, Holder::Own(_));
            if !own(holder) || self.record.is_none_or(|record| !own(record.holder)) {
                self.vanish();
            }
            self.last = self.last.next();
            self.record = Some(Record {
                revision: self.last,
                holder,
                stored: self.now,
            });
            self.last
        }

        fn apply(&mut self, op: &Op) {
            match *op {
                Op::Wait(ticks) => (0..ticks).for_each(|_| self.tick()),
                Op::Writes(way) => self.writes = way,
                Op::Looks(way) => {
                    self.looks = way;
                    self.replica = self.record;
                }
                Op::Attaches(way) => self.attaches = way,
                Op::OtherOpens => {
                    if self.bucket {
                        self.other_lives = true;
                        self.store(Holder::Other);
                    }
                }
                Op::OtherCloses => {
                    if std::mem::take(&mut self.other_lives) && self.holds(Holder::Other) {
                        self.store(Holder::Nobody);
                    }
                }
                Op::OtherDies => self.other_lives = false,
                Op::Delete => {
                    if self.bucket {
                        self.store(Holder::Nobody);
                    }
                }
                // Once: by revisions alone two young buckets cannot be told apart.
                Op::DeleteBucket | Op::RecreateBucket if self.last < FIRST => {}
                Op::DeleteBucket | Op::RecreateBucket => {
                    // Watchers hear of no end by that, but only of silence.
                    self.record = None;
                    self.last = Revision::NONE;
                    self.other_lives = false;
                    self.bucket = matches!(op, Op::RecreateBucket);
                }
                Op::Disconnect => self.mail.push_back((KeeperEvent::Disconnected, true)),
                Op::Reconnect => {
                    self.occasions += 1;
                    self.mail.push_back((KeeperEvent::Reconnected, true));
                }
                Op::Probe => {
                    self.occasions += 1;
                    self.mail.push_back((KeeperEvent::Probe, true));
                }
                Op::Pause(on) => self.paused = on,
                Op::Sleep(on) => self.asleep = on,
            }
        }

        fn holds(&self, holder: Holder) -> bool {
            self.record.is_some_and(|record| record.holder == holder)
        }

        fn tick(&mut self) {
            self.now += TICK;
            if !self.asleep {
                self.mono += TICK;
            }
            self.age();
            for i in 0..self.flights.len() {
                self.arrive(i);
            }
            self.answer();
            if !self.paused && !self.asleep {
                self.keep();
            }
        }

        /// The other beats, and what is too old goes.
        fn age(&mut self) {
            let Some(record) = self.record else { return };
            let age = self.now.since(record.stored);
            if record.holder == Holder::Other && self.other_lives && age >= INTERVAL {
                self.store(Holder::Other);
            } else if age >= self.max_age {
                if self.markers && record.holder != Holder::Nobody {
                    self.store(Holder::Nobody);
                } else {
                    self.vanish();
                }
            }
        }

        fn launch(&mut self, effect: KeeperEffect) {
            self.requests += 1;
            let (way, timeout) = match effect {
                KeeperEffect::Write(_) => (self.writes, ACK_TIMEOUT),
                KeeperEffect::Look { .. } => (self.looks, REQUEST_TIMEOUT),
                _ => (self.attaches, REQUEST_TIMEOUT),
            };
            let timed_out = self.now + timeout;
            let (arrives, answered) = match way {
                Way::Prompt | Way::Stale | Way::Unavailable | Way::Rejected => {
                    (Some(self.now), self.now)
                }
                Way::Slow(ticks) => (
                    Some(self.now + TICK * ticks),
                    (self.now + TICK * ticks * 2).min(timed_out),
                ),
                Way::Deaf => (Some(self.now), timed_out),
                Way::Lost | Way::Held => (None, timed_out),
            };
            self.flights.push(Flight {
                effect,
                way,
                invoked: (self.mono, self.wall()),
                arrives,
                answered: Some(answered),
                arrived: None,
            });
            self.arrive(self.flights.len() - 1);
        }

        fn arrive(&mut self, i: usize) {
            let flight = &self.flights[i];
            let way = match flight.effect {
                KeeperEffect::Write(_) => self.writes,
                KeeperEffect::Look { .. } => self.looks,
                _ => self.attaches,
            };
            let released = flight.way == Way::Held && way != Way::Held;
            let due = released || flight.arrives.is_some_and(|at| at <= self.now);
            if flight.arrived.is_some() || !due {
                return;
            }
            let (way, effect) = (flight.way, flight.effect.clone());
            let refusal = ApiError {
                code: 503,
                err_code: 10077,
                description: "full".into(),
            };
            let reply = match (effect, way) {
                (KeeperEffect::Write(_), Way::Rejected) => {
                    Reply::Write(Err(WriteError::Rejected(refusal).into()), true)
                }
                (KeeperEffect::Write(write), way) => {
                    if way == Way::Unavailable || !self.bucket {
                        Reply::Write(Err(WriteError::NoBucket.into()), true)
                    } else if write.expected == self.look() {
                        let (revision, alive) = self.commit(write);
                        Reply::Write(Ok(revision), alive)
                    } else {
                        let actual = self.look();
                        Reply::Write(Err(UpdateError::WrongRevision { actual }), true)
                    }
                }
                (KeeperEffect::Look { .. }, Way::Rejected) => {
                    Reply::Look(Err(ReadError::Rejected(refusal)))
                }
                (KeeperEffect::Look { .. }, way) => {
                    let found = if way == Way::Stale {
                        self.replica
                    } else {
                        self.record
                    };
                    Reply::Look(if way == Way::Unavailable || !self.bucket {
                        Err(ReadError::NoBucket)
                    } else {
                        Ok(found.map(|found| match found.holder {
                            Holder::Own(n) => record(Some(&format!("s-{n}")), found.revision),
                            Holder::Other => record(Some("t-0"), found.revision),
                            Holder::Nobody => record(None, found.revision),
                        }))
                    })
                }
                (_, way) => {
                    self.bucket |= !matches!(way, Way::Unavailable | Way::Rejected | Way::Stale);
                    Reply::Attached
                }
            };
            if released {
                let answered = &mut self.flights[i].answered;
                *answered = answered.map(|at| at.min(self.now));
            }
            self.flights[i].arrived = Some(reply);
        }

        /// Stores a write of ours. False if its incarnation may have been told down before.
        fn commit(&mut self, write: Write) -> (Revision, bool) {
            assert!(!self.holds(Holder::Other), "{write:?} over another's value");
            let incarnation = write.incarnation;
            let revision = self.store(Holder::Own(incarnation));
            if let Some(before) = self.commits.insert(incarnation, self.now)
                && self.now.since(before) >= PATIENCE
            {
                self.dead.insert(incarnation);
            }
            (revision, !self.dead.contains(&incarnation))
        }

        fn answer(&mut self) {
            let now = self.now;
            let wall = self.wall();
            for flight in &mut self.flights {
                if flight.answered.is_none_or(|at| at > now) {
                    continue;
                }
                flight.answered = None;
                let heard = flight.way != Way::Deaf;
                let reply = flight.arrived.clone().filter(|_| heard);
                let mail = match (flight.effect.clone(), reply) {
                    (KeeperEffect::Write(write), reply) => {
                        let (result, alive) = match reply {
                            Some(Reply::Write(result, alive)) => (result, alive),
                            _ => (Err(WriteError::TimedOut.into()), true),
                        };
                        let (invoked, invoked_wall) = flight.invoked;
                        let event = KeeperEvent::Written {
                            write,
                            invoked,
                            invoked_wall,
                            wall,
                            result,
                        };
                        (event, alive)
                    }
                    (KeeperEffect::Look { number }, reply) => {
                        let result = match reply {
                            Some(Reply::Look(result)) => result,
                            _ => Err(ReadError::TimedOut),
                        };
                        (KeeperEvent::Looked { number, result }, true)
                    }
                    (KeeperEffect::Attach { number }, _) => {
                        (KeeperEvent::Attached { number }, true)
                    }
                    (KeeperEffect::Tell(_) | KeeperEffect::Renewed { .. }, _) => continue,
                };
                self.mail.push_back(mail);
            }
            // What nobody waits for any more may still arrive.
            let due = |flight: &Flight| flight.arrived.is_none() && flight.way == Way::Held;
            self.flights
                .retain(|flight| flight.answered.is_some() || due(flight));
        }

        /// The keeper's process: mail first, then the deadline.
        fn keep(&mut self) {
            self.read_mail();
            if self.keeper.deadline().is_some_and(|at| at <= self.mono) {
                let mut effects = Vec::new();
                self.keeper.on_deadline(self.mono, &mut effects);
                self.perform(effects);
                let deadline = self.keeper.deadline();
                assert!(deadline.is_none_or(|at| at > self.mono), "it would spin");
                self.read_mail();
            }
            assert!(
                self.evicted.is_some() || self.mono < self.acknowledged + TTL,
                "P5: unrenewed since {}, and at {} not told",
                self.acknowledged,
                self.mono
            );
            let intervals = self.mono.elapsed().as_millis() / INTERVAL.as_millis();
            let bound = 10 + 8 * (intervals as u32 + self.occasions);
            assert!(self.requests <= bound, "{} requests", self.requests);
        }

        fn read_mail(&mut self) {
            for _ in 0..100 {
                let Some((event, alive)) = self.mail.pop_front() else {
                    return;
                };
                let event = match event {
                    // The answer is taken note of when it is read.
                    KeeperEvent::Written {
                        write,
                        invoked,
                        invoked_wall,
                        result,
                        ..
                    } => KeeperEvent::Written {
                        write,
                        invoked,
                        invoked_wall,
                        wall: self.wall(),
                        result,
                    },
                    other => other,
                };
                let written = match &event {
                    KeeperEvent::Written { write, .. } => write.incarnation,
                    _ => 0,
                };
                let mut effects = Vec::new();
                self.keeper.handle(self.mono, event, &mut effects);
                if let Some(KeeperEffect::Renewed { invoked, .. }) = effects.first() {
                    self.acknowledged = *invoked;
                    if self.keeper.evicted.is_none() {
                        assert_eq!(self.keeper.incarnation, written);
                        assert!(alive, "P2: {written} may have been told down, and goes on");
                    }
                }
                self.perform(effects);
                self.answer();
            }
            panic!("it spins");
        }

        fn perform(&mut self, effects: Vec<KeeperEffect>) {
            for effect in effects {
                match effect {
                    KeeperEffect::Tell(Notice::Evicted(reason)) => {
                        let superseded =
                            |reason: &EvictReason| matches!(reason, EvictReason::Superseded { .. });
                        let news = match &self.evicted {
                            None => true,
                            Some(known) => superseded(&reason) && !superseded(known),
                        };
                        assert!(news, "{reason:?} after {:?}", self.evicted);
                        self.evicted = Some(reason);
                        self.burnt = Some(self.written);
                    }
                    KeeperEffect::Tell(Notice::Restored) => {
                        assert!(self.evicted.take().is_some(), "restored from nothing");
                    }
                    KeeperEffect::Renewed { .. } => {}
                    KeeperEffect::Write(write) => {
                        assert!(
                            self.burnt.is_none_or(|burnt| write.incarnation > burnt),
                            "{write:?} after an eviction"
                        );
                        self.written = self.written.max(write.incarnation);
                        self.launch(KeeperEffect::Write(write));
                    }
                    request => self.launch(request),
                }
            }
            assert_eq!(self.evicted.is_some(), self.keeper.evicted.is_some());
        }

        /// The second act: all is mended, and the agent must be back.
        fn mend(&mut self) {
            for op in [
                Op::Pause(false),
                Op::Sleep(false),
                Op::Writes(Way::Slow(1)),
                Op::Looks(Way::Slow(1)),
                Op::Attaches(Way::Slow(1)),
                Op::Reconnect,
            ] {
                self.apply(&op);
            }
            self.other_lives = false;
            if self.holds(Holder::Other) {
                self.store(Holder::Nobody);
            }
            let until = self.now + INTERVAL * 4;
            while self.now < until {
                self.tick();
            }
            assert_eq!(self.evicted, None, "it is back");
            let holder = Holder::Own(self.keeper.incarnation);
            assert!(
                self.holds(holder),
                "{:?} is held by {holder:?}",
                self.record
            );
            assert!(!self.dead.contains(&self.keeper.incarnation));
        }
    }

    fn settings() -> ProptestConfig {
        let mut settings = ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        // The same cases each time; PROPTEST_RNG_SEED and PROPTEST_CASES ask for others and for more.
        if settings.rng_seed == RngSeed::Random {
            settings.rng_seed = RngSeed::Fixed(1);
        }
        settings
    }

    proptest! {
        #![proptest_config(settings())]

        /// P4 and P5, whatever becomes of the requests and of the entry.
        #[test]
        fn whatever_is_answered_it_harms_nobody_knows_when_it_is_gone_and_comes_back(
            markers: bool,
            long_lived: bool,
            ops in prop::collection::vec(op(), 0..60),
        ) {
            let mut world = World::new(markers, long_lived);
            for op in &ops {
                world.apply(op);
            }
            world.mend();
        }
    }
}
