//! The decision core of a watch: an ephemeral push consumer that is made anew whenever it may have missed something.
//!
//! Both worlds run this one machine, so that what a simulated watch survives a real one survives too. It exists because
//! async-nats 0.51's own ordered consumers cannot be relied on: polled again after an error they panic, a young one
//! sleeps through a reconnect for ten seconds, and one that has delivered nothing replays old history.
//!
//! Invariants: revisions told increase strictly within one incarnation of the bucket; between `Interrupted` and
//! `Resumed` nothing is told; `SnapshotEnd` is told exactly once. What makes them hold is that a consumer is only ever
//! started after the last revision told, and thrown away at the first sign of a gap.

use std::time::Duration;

use super::error::WatchError;
use super::kv::{BucketInfo, InterruptCause, KvEntry, Revision, WatchEvent, WatchStart};
use crate::machine::Machine;
use crate::time::{Instant, UnixTime};

/// Attempts after the first wait this long more each time, up to [`RETRY_MAX`] (as async-nats does).
const RETRY_STEP: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);
const RETRIES_BEFORE_MAX: u32 = 4;

/// Places of a reader's queue that entries leave free for the other events: an interruption tells at most two
/// `Interrupted` and one `Resumed`, and `SnapshotEnd` comes once.
pub const CONTROL_ROOM: usize = 4;

/// One try at having a consumer. Whatever answers an older attempt is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

/// What a [`Watcher`] hears.
#[derive(Clone, Debug)]
pub enum WatcherEvent {
    /// The connection is up or down.
    Link {
        /// True if connected.
        up: bool,
    },
    /// Answers [`WatcherEffect::Describe`].
    Described(Attempt, Result<BucketInfo, WatchError>),
    /// Answers [`WatcherEffect::Create`], with the number of records that match.
    Created(Attempt, Result<u64, WatchError>),
    /// The consumer delivered a record.
    Delivered {
        /// Whose.
        attempt: Attempt,
        /// Counts the deliveries of this consumer from 1.
        consumer_seq: u64,
        /// Records that still match after this one.
        pending: u64,
        /// The record.
        entry: KvEntry,
    },
    /// The consumer gave a sign of life.
    Heartbeat {
        /// Whose.
        attempt: Attempt,
        /// The last `consumer_seq` it sent.
        last_consumer_seq: u64,
    },
    /// The reader was slow: a told entry found no room and is lost. Entries of the same batch after it must be dropped.
    Overflow {
        /// Its revision.
        lost: Revision,
    },
    /// Answers [`WatcherEffect::CheckRoom`]: whether the reader has caught up by half.
    Room {
        /// Whether it has.
        enough: bool,
    },
}

/// What a [`Watcher`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatcherEffect {
    /// Ask for the bucket's [`BucketInfo`].
    Describe(Attempt),
    /// Subscribe to a fresh inbox and create an ephemeral push consumer that delivers there.
    Create {
        /// Whose.
        attempt: Attempt,
        /// Where it begins.
        from: ConsumerFrom,
    },
    /// Unsubscribe the inbox of this attempt, and delete its consumer as far as possible.
    Discard(Attempt),
    /// Tell the reader. Where its queue has no room for an entry, that is an `Overflow`; the other events always fit,
    /// because the queue keeps [`CONTROL_ROOM`] places for them.
    Tell(WatchEvent),
    /// Answer with `Room`.
    CheckRoom,
    /// The first attempt is through: `watch()` may return.
    Opened,
    /// The first attempt failed: `watch()` returns this, and the machine is over.
    Failed(WatchError),
}

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerFrom {
    /// At the latest record of every key (`last_per_subject`).
    LastPerKey,
    /// At this revision (`by_start_sequence`).
    Revision(Revision),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The connection is down; nothing to do until it is up.
    Down,
    /// An attempt failed; the next begins at this instant.
    Waiting(Instant),
    /// The reader is full; asked again at this instant whether it has caught up.
    Blocked(Instant),
    /// Waiting for `Described`.
    Describing,
    /// Waiting for `Created`; deliveries may already come and wait in `early`.
    Creating,
    /// Listening; without a sign of life until then, the consumer is given up.
    Live { silent_until: Instant },
    /// Failed for good.
    Over,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Watcher {
    start: WatchStart,
    /// How often the consumer shows a sign of life when idle.
    heartbeat: Duration,
    state: State,
    attempt: Attempt,
    /// Failed attempts in a row.
    failures: u32,
    /// `watch()` has returned.
    opened: bool,
    /// The `Interrupted` that was told last, where `Resumed` was not told yet.
    interrupted: Option<InterruptCause>,
    /// Which incarnation of the bucket the told revisions belong to.
    created: Option<UnixTime>,
    /// The newest revision that this incarnation is known to have given out.
    newest: Revision,
    /// Everything up to here has been told, or was not asked for.
    told: Revision,
    /// Whether the whole bucket is wanted from the start, rather than what follows `told`.
    from_start: bool,
    snapshot_ended: bool,
    /// The last delivery of the current consumer.
    consumer_seq: u64,
    /// Deliveries that the current consumer began with.
    awaited: u64,
    early: Vec<(u64, u64, KvEntry)>,
    /// Set when this attempt turned out to watch another incarnation than the one before.
    same_bucket: bool,
}

impl Watcher {
    /// A watch that begins at `start`, over a consumer that gives a sign of life every `heartbeat` when idle. Begins by
    /// itself: its deadline lies in the past.
    pub fn new(start: WatchStart, heartbeat: Duration) -> Self {
        Self {
            start,
            heartbeat,
            state: State::Waiting(Instant::ZERO),
            attempt: Attempt(0),
            failures: 0,
            opened: false,
            interrupted: None,
            created: None,
            newest: Revision::NONE,
            told: Revision::NONE,
            from_start: start == WatchStart::Snapshot,
            snapshot_ended: false,
            consumer_seq: 0,
            awaited: 0,
            early: Vec::new(),
            same_bucket: true,
        }
    }

    fn begin(&mut self, effects: &mut Vec<WatcherEffect>) {
        self.attempt.0 += 1;
        self.consumer_seq = 0;
        self.early.clear();
        self.state = State::Describing;
        effects.push(WatcherEffect::Describe(self.attempt));
    }

    /// Gives the consumer up: says so once, and tries again after a wait that grows with the failures.
    fn give_up(&mut self, now: Instant, cause: InterruptCause, effects: &mut Vec<WatcherEffect>) {
        if matches!(self.state, State::Creating | State::Live { .. }) {
            effects.push(WatcherEffect::Discard(self.attempt));
        }
        self.interrupt(cause, effects);
        self.failures += 1;
        let wait = match self.failures {
            1 if cause != InterruptCause::BucketMissing => Duration::ZERO,
            n if n > RETRIES_BEFORE_MAX => RETRY_MAX,
            n => RETRY_STEP * n,
        };
        self.state = State::Waiting(now + wait);
    }

    /// Told once, and once more where it turns out that the bucket is not there: that no waiting mends.
    fn interrupt(&mut self, cause: InterruptCause, effects: &mut Vec<WatcherEffect>) {
        let is_news = match self.interrupted {
            None => true,
            Some(told) => told != cause && cause == InterruptCause::BucketMissing,
        };
        if self.opened && is_news {
            self.interrupted = Some(cause);
            effects.push(WatcherEffect::Tell(WatchEvent::Interrupted(cause)));
        }
    }

    /// An attempt was answered with an error.
    fn fail(&mut self, now: Instant, error: WatchError, effects: &mut Vec<WatcherEffect>) {
        if !self.opened {
            self.state = State::Over;
            effects.push(WatcherEffect::Failed(error));
            return;
        }
        let cause = match error {
            WatchError::NoBucket => InterruptCause::BucketMissing,
            _ => InterruptCause::MissedHeartbeat,
        };
        self.give_up(now, cause, effects);
    }

    fn described(&mut self, info: &BucketInfo, effects: &mut Vec<WatcherEffect>) {
        match self.created {
            None => {
                self.told = match self.start {
                    WatchStart::Snapshot => Revision::NONE,
                    WatchStart::Now => info.last_revision,
                    WatchStart::Revision(first) => Revision(first.0.saturating_sub(1)),
                };
            }
            // Deleted and created anew, or an acknowledged tail was lost in a power failure: revisions told before are
            // being given out again, and what they now stand for must be heard.
            Some(created) if created != info.created || info.last_revision < self.newest => {
                self.same_bucket = false;
                self.newest = Revision::NONE;
                self.told = Revision::NONE;
                self.from_start = true;
            }
            Some(_) => {}
        }
        self.created = Some(info.created);
        self.newest = self.newest.max(info.last_revision);
        let from = if self.from_start && self.told == Revision::NONE {
            ConsumerFrom::LastPerKey
        } else {
            ConsumerFrom::Revision(self.told.next())
        };
        self.state = State::Creating;
        effects.push(WatcherEffect::Create {
            attempt: self.attempt,
            from,
        });
    }

    fn live(&mut self, now: Instant, pending: u64, effects: &mut Vec<WatcherEffect>) {
        self.failures = 0;
        self.heard(now);
        if !self.opened {
            self.opened = true;
            effects.push(WatcherEffect::Opened);
        } else if self.interrupted.take().is_some() {
            let same_bucket = std::mem::replace(&mut self.same_bucket, true);
            effects.push(WatcherEffect::Tell(WatchEvent::Resumed { same_bucket }));
        }
        self.awaited = pending;
        if pending == 0 {
            self.end_snapshot(effects);
        }
        for (consumer_seq, pending, entry) in std::mem::take(&mut self.early) {
            self.delivered(now, consumer_seq, pending, entry, effects);
        }
    }

    fn heard(&mut self, now: Instant) {
        self.state = State::Live {
            silent_until: now + self.heartbeat * 2,
        };
    }

    fn end_snapshot(&mut self, effects: &mut Vec<WatcherEffect>) {
        if !self.snapshot_ended {
            self.snapshot_ended = true;
            effects.push(WatcherEffect::Tell(WatchEvent::SnapshotEnd));
        }
    }

    fn delivered(
        &mut self,
        now: Instant,
        consumer_seq: u64,
        pending: u64,
        entry: KvEntry,
        effects: &mut Vec<WatcherEffect>,
    ) {
        match self.state {
            State::Creating => return self.early.push((consumer_seq, pending, entry)),
            State::Live { .. } => {}
            _ => return,
        }
        if consumer_seq != self.consumer_seq + 1 {
            return self.give_up(now, InterruptCause::Gap, effects);
        }
        self.consumer_seq = consumer_seq;
        self.newest = self.newest.max(entry.revision);
        self.heard(now);
        // nats-server 2.10 clamps a start beyond its last sequence and delivers an older record.
        if entry.revision > self.told {
            self.told = entry.revision;
            effects.push(WatcherEffect::Tell(WatchEvent::Entry(entry)));
        }
        // A record that is rewritten before its turn is gone from the count a moment before the new one is in it: fewer
        // deliveries than were promised mean that it is still to come, or has expired, which the next heartbeat tells.
        if pending == 0 && consumer_seq >= self.awaited {
            self.end_snapshot(effects);
        }
    }
}

impl Machine for Watcher {
    type Event = WatcherEvent;
    type Effect = WatcherEffect;

    fn handle(&mut self, now: Instant, event: WatcherEvent, effects: &mut Vec<WatcherEffect>) {
        match event {
            WatcherEvent::Link { up: false } => {
                if !matches!(self.state, State::Over | State::Down) {
                    if matches!(self.state, State::Creating | State::Live { .. }) {
                        effects.push(WatcherEffect::Discard(self.attempt));
                    }
                    self.interrupt(InterruptCause::Disconnected, effects);
                    self.state = State::Down;
                }
            }
            WatcherEvent::Link { up: true } => {
                if self.state == State::Down {
                    self.failures = 0;
                    self.begin(effects);
                }
            }
            WatcherEvent::Described(attempt, answer) => {
                if attempt == self.attempt && self.state == State::Describing {
                    match answer {
                        Ok(info) => self.described(&info, effects),
                        Err(error) => self.fail(now, error, effects),
                    }
                }
            }
            WatcherEvent::Created(attempt, answer) => {
                if attempt == self.attempt && self.state == State::Creating {
                    match answer {
                        Ok(pending) => self.live(now, pending, effects),
                        Err(error) => self.fail(now, error, effects),
                    }
                }
            }
            WatcherEvent::Delivered {
                attempt,
                consumer_seq,
                pending,
                entry,
            } => {
                if attempt == self.attempt {
                    self.delivered(now, consumer_seq, pending, entry, effects);
                }
            }
            WatcherEvent::Heartbeat {
                attempt,
                last_consumer_seq,
            } => {
                if attempt == self.attempt && matches!(self.state, State::Live { .. }) {
                    if last_consumer_seq == self.consumer_seq {
                        self.heard(now);
                        // What the snapshot promised may have expired before its turn: an idle consumer has no more.
                        self.end_snapshot(effects);
                    } else {
                        self.give_up(now, InterruptCause::Gap, effects);
                    }
                }
            }
            WatcherEvent::Overflow { lost } => {
                self.told = self.told.min(Revision(lost.0 - 1));
                if matches!(self.state, State::Live { .. }) {
                    self.give_up(now, InterruptCause::Gap, effects);
                    self.state = State::Blocked(now + RETRY_STEP);
                }
            }
            WatcherEvent::Room { enough } => {
                if matches!(self.state, State::Blocked(_)) {
                    if enough {
                        self.begin(effects);
                    } else {
                        self.state = State::Blocked(now + RETRY_STEP);
                    }
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(until) | State::Blocked(until) => Some(until),
            State::Live { silent_until } => Some(silent_until),
            // Requests have time-outs of their own, and their answers always come.
            State::Describing | State::Creating | State::Down | State::Over => None,
        }
    }

    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<WatcherEffect>) {
        match self.state {
            State::Waiting(until) if until <= now => self.begin(effects),
            State::Blocked(until) if until <= now => {
                self.state = State::Blocked(now + RETRY_STEP);
                effects.push(WatcherEffect::CheckRoom);
            }
            State::Live { silent_until } if silent_until <= now => {
                self.give_up(now, InterruptCause::MissedHeartbeat, effects);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::kv::{BucketConfig, Operation};
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn info(created: i64, last: u64) -> BucketInfo {
        BucketInfo {
            config: BucketConfig::new("b"),
            last_revision: Revision(last),
            records: last,
            created: UnixTime::from_nanos(created),
        }
    }

    fn entry(revision: u64) -> KvEntry {
        KvEntry {
            key: Arc::from("k"),
            value: Bytes::new(),
            revision: Revision(revision),
            operation: Operation::Put,
            created: UnixTime::EPOCH,
        }
    }

    /// A watcher and what it has been asked to do and told, as text.
    struct Story(Watcher);

    impl Story {
        fn new(start: WatchStart) -> (Self, Vec<String>) {
            let mut story = Self(Watcher::new(start, HEARTBEAT));
            let begun = story.wake(at(0));
            (story, begun)
        }

        fn wake(&mut self, now: Instant) -> Vec<String> {
            let mut effects = Vec::new();
            self.0.on_deadline(now, &mut effects);
            effects.iter().map(short).collect()
        }

        fn hear(&mut self, now: Instant, event: WatcherEvent) -> Vec<String> {
            let mut effects = Vec::new();
            self.0.handle(now, event, &mut effects);
            effects.iter().map(short).collect()
        }

        fn described(&mut self, attempt: u32, created: i64, last: u64) -> Vec<String> {
            self.hear(
                at(0),
                WatcherEvent::Described(Attempt(attempt), Ok(info(created, last))),
            )
        }

        fn created(&mut self, attempt: u32, pending: u64) -> Vec<String> {
            self.hear(at(0), WatcherEvent::Created(Attempt(attempt), Ok(pending)))
        }

        fn delivered(&mut self, attempt: u32, seq: u64, pending: u64, rev: u64) -> Vec<String> {
            self.hear(
                at(1),
                WatcherEvent::Delivered {
                    attempt: Attempt(attempt),
                    consumer_seq: seq,
                    pending,
                    entry: entry(rev),
                },
            )
        }
    }

    fn short(effect: &WatcherEffect) -> String {
        match effect {
            WatcherEffect::Describe(attempt) => format!("describe {}", attempt.0),
            WatcherEffect::Create {
                attempt,
                from: ConsumerFrom::LastPerKey,
            } => {
                format!("create {} last per key", attempt.0)
            }
            WatcherEffect::Create {
                attempt,
                from: ConsumerFrom::Revision(revision),
            } => {
                format!("create {} from {revision}", attempt.0)
            }
            WatcherEffect::Discard(attempt) => format!("discard {}", attempt.0),
            WatcherEffect::Tell(WatchEvent::Entry(entry)) => format!("entry {}", entry.revision),
            WatcherEffect::Tell(event) => format!("{event:?}"),
            WatcherEffect::CheckRoom => "check room".to_owned(),
            WatcherEffect::Opened => "opened".to_owned(),
            WatcherEffect::Failed(error) => format!("failed: {error}"),
        }
    }

    #[test]
    fn an_empty_snapshot_ends_at_once() {
        let (mut story, begun) = Story::new(WatchStart::Snapshot);
        assert_eq!(begun, ["describe 1"]);
        assert_eq!(story.described(1, 7, 0), ["create 1 last per key"]);
        assert_eq!(story.created(1, 0), ["opened", "SnapshotEnd"]);
        assert_eq!(story.delivered(1, 1, 0, 1), ["entry 1"]);
    }

    #[test]
    fn a_delivery_that_overtakes_the_answer_waits_for_it() {
        let (mut story, _) = Story::new(WatchStart::Snapshot);
        story.described(1, 7, 3);
        assert!(story.delivered(1, 1, 1, 2).is_empty());
        assert_eq!(story.created(1, 2), ["opened", "entry 2"]);
        assert_eq!(story.delivered(1, 2, 0, 3), ["entry 3", "SnapshotEnd"]);
    }

    #[test]
    fn a_snapshot_whose_rest_expired_ends_with_the_next_heartbeat() {
        let (mut story, _) = Story::new(WatchStart::Snapshot);
        story.described(1, 7, 3);
        story.created(1, 2);
        story.delivered(1, 1, 1, 2);
        let heartbeat = WatcherEvent::Heartbeat {
            attempt: Attempt(1),
            last_consumer_seq: 1,
        };
        assert_eq!(story.hear(at(6), heartbeat.clone()), ["SnapshotEnd"]);
        assert!(story.hear(at(11), heartbeat).is_empty());
    }

    #[test]
    fn a_record_rewritten_under_the_snapshot_is_waited_for() {
        let (mut story, _) = Story::new(WatchStart::Snapshot);
        story.described(1, 7, 3);
        story.created(1, 2);
        assert_eq!(story.delivered(1, 1, 0, 3), ["entry 3"]);
        assert_eq!(story.delivered(1, 2, 0, 4), ["entry 4", "SnapshotEnd"]);
    }

    #[test]
    fn a_watch_from_now_that_heard_nothing_does_not_replay_history_after_a_reconnect() {
        let (mut story, _) = Story::new(WatchStart::Now);
        assert_eq!(story.described(1, 7, 41), ["create 1 from 42"]);
        story.created(1, 0);
        assert_eq!(
            story.hear(at(2), WatcherEvent::Link { up: false }),
            ["discard 1", "Interrupted(Disconnected)"]
        );
        assert_eq!(
            story.hear(at(3), WatcherEvent::Link { up: true }),
            ["describe 2"]
        );
        assert_eq!(story.described(2, 7, 43), ["create 2 from 42"]);
        assert_eq!(story.created(2, 2), ["Resumed { same_bucket: true }"]);
        assert_eq!(story.delivered(2, 1, 1, 42), ["entry 42"]);
        assert!(
            story.delivered(1, 1, 0, 43).is_empty(),
            "an older attempt is not heard"
        );
    }

    #[test]
    fn a_bucket_made_anew_is_told_from_its_beginning() {
        let (mut story, _) = Story::new(WatchStart::Now);
        story.described(1, 7, 41);
        story.created(1, 0);
        assert_eq!(
            story.wake(at(10)),
            ["discard 1", "Interrupted(MissedHeartbeat)"]
        );
        assert_eq!(story.wake(at(10)), ["describe 2"]);
        assert_eq!(story.described(2, 8, 3), ["create 2 last per key"]);
        assert_eq!(story.created(2, 1), ["Resumed { same_bucket: false }"]);
        assert_eq!(story.delivered(2, 1, 0, 3), ["entry 3"]);
    }

    #[test]
    fn a_lost_tail_is_taken_for_another_bucket() {
        let (mut story, _) = Story::new(WatchStart::Revision(Revision(1)));
        story.described(1, 7, 2);
        story.created(1, 2);
        story.delivered(1, 1, 1, 1);
        story.delivered(1, 2, 0, 2);
        story.hear(at(2), WatcherEvent::Link { up: false });
        story.hear(at(3), WatcherEvent::Link { up: true });
        assert_eq!(story.described(2, 7, 1), ["create 2 last per key"]);
        assert_eq!(story.created(2, 1), ["Resumed { same_bucket: false }"]);
    }

    #[test]
    fn a_watch_for_a_revision_to_come_takes_no_tail_for_lost() {
        let (mut story, _) = Story::new(WatchStart::Revision(Revision(9)));
        assert_eq!(story.described(1, 7, 2), ["create 1 from 9"]);
        story.created(1, 0);
        story.hear(at(2), WatcherEvent::Link { up: false });
        story.hear(at(3), WatcherEvent::Link { up: true });
        assert_eq!(story.described(2, 7, 2), ["create 2 from 9"]);
        assert_eq!(story.created(2, 0), ["Resumed { same_bucket: true }"]);
    }

    #[test]
    fn a_bucket_found_missing_after_a_disconnect_is_told_once() {
        let (mut story, _) = Story::new(WatchStart::Now);
        story.described(1, 7, 0);
        story.created(1, 0);
        story.hear(at(2), WatcherEvent::Link { up: false });
        story.hear(at(3), WatcherEvent::Link { up: true });
        let missing =
            |attempt| WatcherEvent::Described(Attempt(attempt), Err(WatchError::NoBucket));
        assert_eq!(
            story.hear(at(3), missing(2)),
            ["Interrupted(BucketMissing)"]
        );
        story.wake(at(4));
        assert!(story.hear(at(4), missing(3)).is_empty());
        assert!(
            story
                .hear(at(5), WatcherEvent::Link { up: false })
                .is_empty()
        );
    }

    #[test]
    fn a_gap_makes_the_consumer_anew_after_the_last_one_told() {
        let (mut story, _) = Story::new(WatchStart::Now);
        story.described(1, 7, 0);
        story.created(1, 0);
        story.delivered(1, 1, 0, 1);
        assert_eq!(
            story.delivered(1, 3, 0, 3),
            ["discard 1", "Interrupted(Gap)"]
        );
        assert_eq!(story.wake(at(1)), ["describe 2"]);
        assert_eq!(story.described(2, 7, 3), ["create 2 from 2"]);
    }

    #[test]
    fn a_full_reader_hears_what_it_missed_once_it_has_room() {
        let (mut story, _) = Story::new(WatchStart::Now);
        story.described(1, 7, 0);
        story.created(1, 0);
        story.delivered(1, 1, 0, 1);
        story.delivered(1, 2, 0, 2);
        let overflow = WatcherEvent::Overflow { lost: Revision(2) };
        assert_eq!(
            story.hear(at(1), overflow),
            ["discard 1", "Interrupted(Gap)"]
        );
        assert_eq!(story.wake(at(2)), ["check room"]);
        assert!(
            story
                .hear(at(2), WatcherEvent::Room { enough: false })
                .is_empty()
        );
        assert_eq!(story.wake(at(3)), ["check room"]);
        assert_eq!(
            story.hear(at(3), WatcherEvent::Room { enough: true }),
            ["describe 2"]
        );
        assert_eq!(story.described(2, 7, 2), ["create 2 from 2"]);
    }

    #[test]
    fn a_missing_bucket_is_tried_again_ever_more_slowly() {
        let (mut story, _) = Story::new(WatchStart::Now);
        story.described(1, 7, 0);
        story.created(1, 0);
        story.wake(at(10));
        story.wake(at(10));
        let mut waits = Vec::new();
        let mut now = at(10);
        for attempt in 2..8 {
            story.hear(
                now,
                WatcherEvent::Described(Attempt(attempt), Err(WatchError::NoBucket)),
            );
            let deadline = story.0.deadline().expect("it tries again");
            waits.push(deadline.since(now).as_millis());
            now = deadline;
            story.wake(now);
        }
        assert_eq!(waits, [1000, 1500, 2000, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn a_first_attempt_that_fails_is_the_answer_of_the_call() {
        let (mut story, _) = Story::new(WatchStart::Now);
        let answer = WatcherEvent::Described(Attempt(1), Err(WatchError::NoBucket));
        assert_eq!(
            story.hear(at(0), answer),
            ["failed: there is no such bucket"]
        );
        assert_eq!(story.0.deadline(), None);
    }
}
