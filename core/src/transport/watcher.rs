//! The decision core of a watch over a bucket and of a reader over a stream: an ephemeral push consumer that is made anew
//! whenever it may have missed something.
//!
//! Both worlds run this one machine, so that what a simulated watch survives a real one survives too. It exists because
//! async-nats 0.51's own ordered consumers cannot be relied on: polled again after an error they panic, a young one
//! sleeps through a reconnect for ten seconds, and one that has delivered nothing replays old history.
//!
//! It knows neither buckets nor streams, only sequences: shells describe what is read as a [`Description`], and turn what
//! is [`Told`] into events of a watch or of a reader.
//!
//! Where a stream has copies, its consumer reads the one of its own server, and goes on giving signs of life when that is cut
//! off from the others: so now and then whoever leads the stream is asked, too. Who has neither answered nor been heard by a
//! majority for a heartbeat is not heard here either.
//!
//! Invariants: sequences told increase strictly within one life of the stream; between `Interrupted` and `Resumed`
//! nothing is told; `CaughtUp` is told exactly once. What makes them hold is that a consumer is only ever started after
//! the last sequence told, and thrown away at the first sign of a gap.

use std::time::Duration;

use super::error::WatchError;
use super::kv::InterruptCause;
use super::stream::{ReadStart, Sequence};
pub use super::told::{Description, Item, Told};
use crate::machine::Machine;
use crate::time::{Instant, UnixTime};

/// Attempts after the first wait this long more each time, up to [`RETRY_MAX`] (as async-nats does).
const RETRY_STEP: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);
const RETRIES_BEFORE_MAX: u32 = 4;

/// Places of a reader's queue that items leave free for the other events: an interruption tells at most two
/// `Interrupted` and one `Resumed`, and `CaughtUp` comes once.
pub const CONTROL_ROOM: usize = 4;

/// One try at having a consumer. Whatever answers an older attempt is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

/// What a [`Watcher`] hears.
#[derive(Clone, Debug)]
pub enum WatcherEvent<T> {
    /// The connection is up or down.
    Link {
        /// True if connected.
        up: bool,
    },
    /// Answers [`WatcherEffect::Describe`], which is also asked while the consumer lives.
    Described(Attempt, Result<Description, WatchError>),
    /// Answers [`WatcherEffect::Create`], with the number of items that match.
    Created(Attempt, Result<u64, WatchError>),
    /// The consumer delivered an item.
    Delivered {
        /// Whose.
        attempt: Attempt,
        /// Counts the deliveries of this consumer from 1.
        consumer_seq: u64,
        /// Items that still match after this one.
        pending: u64,
        /// The item.
        item: T,
    },
    /// The consumer gave a sign of life.
    Heartbeat {
        /// Whose.
        attempt: Attempt,
        /// The last `consumer_seq` it sent.
        last_consumer_seq: u64,
    },
    /// The reader was slow: a told item found no room and is lost. Items of the same batch after it must be dropped.
    Overflow {
        /// Its sequence.
        lost: Sequence,
    },
    /// Answers [`WatcherEffect::CheckRoom`]: whether the reader has caught up by half.
    Room {
        /// Whether it has.
        enough: bool,
    },
}

/// What a [`Watcher`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatcherEffect<T> {
    /// Ask for the [`Description`].
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
    /// Tell the reader. Where its queue has no room for an item, that is an `Overflow`; the other events always fit,
    /// because the queue keeps [`CONTROL_ROOM`] places for them.
    Tell(Told<T>),
    /// Answer with `Room`.
    CheckRoom,
    /// The first attempt is through: whoever opened it may return.
    Opened,
    /// The first attempt failed with this, and the machine is over.
    Failed(WatchError),
}

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerFrom {
    /// At the last item (`last`).
    Last,
    /// At the last item of every subject (`last_per_subject`).
    LastPerSubject,
    /// At this sequence (`by_start_sequence`).
    Sequence(Sequence),
    /// At the first item stored then or later (`by_start_time`).
    Time(UnixTime),
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
    Live { silent_until: Instant, look: Look },
    /// Failed for good.
    Over,
}

/// Whether whoever leads the stream is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It has no copies: the consumer is where the stream is.
    None,
    /// Asked at this instant.
    Due(Instant),
    /// Has been asked; unless it answers until then, the consumer is given up.
    Asked(Instant),
}

/// See the head of this file.
#[derive(Debug)]
pub struct Watcher<T> {
    start: ReadStart,
    /// How often the consumer shows a sign of life when idle.
    heartbeat: Duration,
    state: State,
    attempt: Attempt,
    /// Failed attempts in a row.
    failures: u32,
    /// Whoever opened it has been answered.
    opened: bool,
    /// The `Interrupted` that was told last, where `Resumed` was not told yet.
    interrupted: Option<InterruptCause>,
    /// Which life of the stream the told sequences belong to.
    created: Option<UnixTime>,
    /// The newest sequence that this life is known to have given out.
    newest: Sequence,
    /// Everything up to here has been told, or was not asked for.
    told: Sequence,
    /// Where the next consumer begins while nothing after `told` has been told; `None`: after `told`.
    from: Option<ConsumerFrom>,
    /// The first sequence held, as of the latest description.
    first_held: Sequence,
    caught_up: bool,
    /// The last delivery of the current consumer.
    consumer_seq: u64,
    /// Deliveries that the current consumer began with.
    awaited: u64,
    /// When whoever leads the stream is asked first; `None` where it has no copies.
    look: Option<Instant>,
    early: Vec<(u64, u64, T)>,
    /// False when this attempt turned out to read another life of the stream than the one before.
    same: bool,
}

impl<T: Item> Watcher<T> {
    /// Begins at `start`, over a consumer that gives a sign of life every `heartbeat` when idle. Begins by itself: its
    /// deadline lies in the past.
    pub fn new(start: impl Into<ReadStart>, heartbeat: Duration) -> Self {
        Self {
            start: start.into(),
            heartbeat,
            state: State::Waiting(Instant::ZERO),
            attempt: Attempt(0),
            failures: 0,
            opened: false,
            interrupted: None,
            created: None,
            newest: Sequence::NONE,
            told: Sequence::NONE,
            from: None,
            first_held: Sequence::NONE,
            caught_up: false,
            consumer_seq: 0,
            awaited: 0,
            look: None,
            early: Vec::new(),
            same: true,
        }
    }

    fn begin(&mut self, effects: &mut Vec<WatcherEffect<T>>) {
        self.attempt.0 += 1;
        self.consumer_seq = 0;
        self.early.clear();
        self.state = State::Describing;
        effects.push(WatcherEffect::Describe(self.attempt));
    }

    /// Gives the consumer up: says so once, and tries again after a wait that grows with the failures.
    fn give_up(
        &mut self,
        now: Instant,
        cause: InterruptCause,
        effects: &mut Vec<WatcherEffect<T>>,
    ) {
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
    fn interrupt(&mut self, cause: InterruptCause, effects: &mut Vec<WatcherEffect<T>>) {
        let is_news = match self.interrupted {
            None => true,
            Some(told) => told != cause && cause == InterruptCause::BucketMissing,
        };
        if self.opened && is_news {
            self.interrupted = Some(cause);
            effects.push(WatcherEffect::Tell(Told::Interrupted(cause)));
        }
    }

    /// An attempt was answered with an error.
    fn fail(&mut self, now: Instant, error: WatchError, effects: &mut Vec<WatcherEffect<T>>) {
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

    fn described(&mut self, now: Instant, found: Description, effects: &mut Vec<WatcherEffect<T>>) {
        // A server of a cluster that was cut off knows less than was told: nothing is lost for that. And who has not begun yet
        // would begin too early, and tell as new what was there.
        let begins_at_its_end = matches!(self.start, ReadStart::New | ReadStart::Last);
        match (found.is_likely, self.opened) {
            (false, true) => return self.fail(now, WatchError::TimedOut, effects),
            (false, false) if begins_at_its_end => {
                // A leader that is new has perhaps heard nobody yet.
                self.failures += 1;
                if self.failures > RETRIES_BEFORE_MAX {
                    return self.fail(now, WatchError::TimedOut, effects);
                }
                self.state = State::Waiting(now + RETRY_STEP);
                return;
            }
            _ => {}
        }
        let patience = if found.is_likely {
            self.heartbeat
        } else {
            Duration::ZERO
        };
        self.look = found.has_copies.then_some(now + patience);
        match self.created {
            None => (self.told, self.from) = Self::first(self.start, found.last),
            // Deleted and created anew, or an acknowledged tail was lost in a power failure: sequences told before are
            // being given out again, and what they now stand for must be heard.
            Some(created) if created != found.created || found.last < self.newest => {
                self.same = false;
                self.newest = Sequence::NONE;
                self.told = Sequence::NONE;
                self.from = T::NEWEST_IS_ENOUGH.then_some(ConsumerFrom::LastPerSubject);
            }
            Some(_) if self.opened => self.from = self.again(),
            Some(_) => {}
        }
        self.created = Some(found.created);
        self.newest = self.newest.max(found.last);
        self.first_held = found.first;
        let from = self
            .from
            .unwrap_or_else(|| ConsumerFrom::Sequence(self.told.next()));
        self.state = State::Creating;
        effects.push(WatcherEffect::Create {
            attempt: self.attempt,
            from,
        });
    }

    /// What counts as told at the beginning, and where the first consumer begins.
    fn first(start: ReadStart, last: Sequence) -> (Sequence, Option<ConsumerFrom>) {
        // What was stored before is not wanted, should the consumer have to be made anew before it tells anything.
        let before_last = Sequence(last.0.saturating_sub(1));
        match start {
            ReadStart::All => (Sequence::NONE, None),
            ReadStart::New => (last, None),
            ReadStart::Last => (before_last, Some(ConsumerFrom::Last)),
            ReadStart::LastPerSubject => (Sequence::NONE, Some(ConsumerFrom::LastPerSubject)),
            ReadStart::Sequence(first) => (Sequence(first.0.saturating_sub(1)), None),
            ReadStart::Time(time) => (Sequence::NONE, Some(ConsumerFrom::Time(time))),
        }
    }

    /// Where the next consumer begins, where the one before has told nothing. It may have missed something since it was
    /// made: to begin at what is the last now would be a gap that nobody is told of.
    fn again(&self) -> Option<ConsumerFrom> {
        self.from.filter(|from| match from {
            ConsumerFrom::LastPerSubject => T::NEWEST_IS_ENOUGH,
            ConsumerFrom::Time(_) => true,
            ConsumerFrom::Last | ConsumerFrom::Sequence(_) => false,
        })
    }

    fn live(&mut self, now: Instant, pending: u64, effects: &mut Vec<WatcherEffect<T>>) {
        self.failures = 0;
        self.state = State::Live {
            silent_until: now + self.heartbeat * 2,
            look: self.look.map_or(Look::None, Look::Due),
        };
        if !self.opened {
            self.opened = true;
            effects.push(WatcherEffect::Opened);
        } else if self.interrupted.take().is_some() {
            let same = std::mem::replace(&mut self.same, true);
            let first_held = self.first_held;
            effects.push(WatcherEffect::Tell(Told::Resumed { same, first_held }));
        }
        self.awaited = pending;
        if pending == 0 {
            self.catch_up(effects);
        }
        for (consumer_seq, pending, item) in std::mem::take(&mut self.early) {
            self.delivered(now, consumer_seq, pending, item, effects);
        }
    }

    fn heard(&mut self, now: Instant) {
        if let State::Live { silent_until, .. } = &mut self.state {
            *silent_until = now + self.heartbeat * 2;
        }
    }

    /// What whoever leads the stream says of it while the consumer lives.
    fn looked(
        &mut self,
        now: Instant,
        answer: Result<Description, WatchError>,
        effects: &mut Vec<WatcherEffect<T>>,
    ) {
        let State::Live { look, .. } = &mut self.state else {
            return;
        };
        match answer {
            Ok(found) if Some(found.created) != self.created => {
                self.give_up(now, InterruptCause::Gap, effects);
            }
            Ok(found) if found.is_likely => *look = Look::Due(now + self.heartbeat),
            Ok(_) => self.give_up(now, InterruptCause::MissedHeartbeat, effects),
            Err(error) => self.fail(now, error, effects),
        }
    }

    fn catch_up(&mut self, effects: &mut Vec<WatcherEffect<T>>) {
        if !self.caught_up {
            self.caught_up = true;
            effects.push(WatcherEffect::Tell(Told::CaughtUp));
        }
    }

    fn delivered(
        &mut self,
        now: Instant,
        consumer_seq: u64,
        pending: u64,
        item: T,
        effects: &mut Vec<WatcherEffect<T>>,
    ) {
        match self.state {
            State::Creating => return self.early.push((consumer_seq, pending, item)),
            State::Live { .. } => {}
            _ => return,
        }
        if consumer_seq != self.consumer_seq + 1 {
            return self.give_up(now, InterruptCause::Gap, effects);
        }
        self.consumer_seq = consumer_seq;
        let sequence = item.sequence();
        self.newest = self.newest.max(sequence);
        self.heard(now);
        // nats-server 2.10 clamps a start beyond its last sequence and delivers an older item.
        let is_first = self.from.take().is_some();
        if is_first || sequence > self.told {
            self.told = sequence;
            effects.push(WatcherEffect::Tell(Told::Item(item)));
        }
        // An item that is overwritten before its turn is gone from the count a moment before the new one is in it: fewer
        // deliveries than were promised mean that it is still to come, or has expired, which the next heartbeat tells.
        if pending == 0 && consumer_seq >= self.awaited {
            self.catch_up(effects);
        }
    }
}

impl<T: Item> Machine for Watcher<T> {
    type Event = WatcherEvent<T>;
    type Effect = WatcherEffect<T>;

    fn handle(
        &mut self,
        now: Instant,
        event: WatcherEvent<T>,
        effects: &mut Vec<WatcherEffect<T>>,
    ) {
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
                if attempt == self.attempt {
                    match (self.state, answer) {
                        (State::Describing, Ok(found)) => self.described(now, found, effects),
                        (State::Describing, Err(error)) => self.fail(now, error, effects),
                        (State::Live { .. }, answer) => self.looked(now, answer, effects),
                        _ => {}
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
                item,
            } => {
                if attempt == self.attempt {
                    self.delivered(now, consumer_seq, pending, item, effects);
                }
            }
            WatcherEvent::Heartbeat {
                attempt,
                last_consumer_seq,
            } => {
                if attempt == self.attempt && matches!(self.state, State::Live { .. }) {
                    if last_consumer_seq == self.consumer_seq {
                        self.heard(now);
                        // What was promised at first may have expired before its turn: an idle consumer has no more.
                        self.catch_up(effects);
                    } else {
                        self.give_up(now, InterruptCause::Gap, effects);
                    }
                }
            }
            WatcherEvent::Overflow { lost } => {
                self.told = self.told.min(Sequence(lost.0 - 1));
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
            State::Live { silent_until, look } => Some(match look {
                Look::None => silent_until,
                Look::Due(at) | Look::Asked(at) => at.min(silent_until),
            }),
            // Requests have time-outs of their own, and their answers always come.
            State::Describing | State::Creating | State::Down | State::Over => None,
        }
    }

    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<WatcherEffect<T>>) {
        match self.state {
            State::Waiting(until) if until <= now => self.begin(effects),
            State::Blocked(until) if until <= now => {
                self.state = State::Blocked(now + RETRY_STEP);
                effects.push(WatcherEffect::CheckRoom);
            }
            State::Live { silent_until, .. } if silent_until <= now => {
                self.give_up(now, InterruptCause::MissedHeartbeat, effects);
            }
            State::Live {
                silent_until,
                look: Look::Due(at),
            } if at <= now => {
                let look = Look::Asked(now + self.heartbeat);
                self.state = State::Live { silent_until, look };
                effects.push(WatcherEffect::Describe(self.attempt));
            }
            State::Live {
                look: Look::Asked(until),
                ..
            } if until <= now => {
                self.give_up(now, InterruptCause::MissedHeartbeat, effects);
            }
            _ => {}
        }
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Down => "down",
            State::Waiting(_) => "waiting",
            State::Blocked(_) => "blocked",
            State::Describing => "describing",
            State::Creating => "creating",
            State::Live { .. } => "live",
            State::Over => "over",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::kv::{KvEntry, Operation, Revision, WatchStart};
    use super::super::message::Headers;
    use super::super::stream::StoredMessage;
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn info(created: i64, last: u64) -> Description {
        Description {
            is_likely: true,
            has_copies: false,
            created: UnixTime::from_nanos(created),
            first: Sequence(1),
            last: Sequence(last),
        }
    }

    trait Numbered: Item {
        fn number(number: u64) -> Self;
    }

    impl Numbered for KvEntry {
        fn number(number: u64) -> Self {
            Self {
                key: Arc::from("k"),
                value: Bytes::new(),
                revision: Revision(number),
                operation: Operation::Put,
                created: UnixTime::EPOCH,
            }
        }
    }

    impl Numbered for StoredMessage {
        fn number(number: u64) -> Self {
            Self {
                subject: Arc::from("s"),
                headers: Headers::new(),
                payload: Bytes::new(),
                sequence: Sequence(number),
                time: UnixTime::EPOCH,
            }
        }
    }

    /// A watcher and what it has been asked to do and told, as text.
    struct Story<T = KvEntry>(Watcher<T>);

    impl<T: Numbered> Story<T> {
        fn new(start: impl Into<ReadStart>) -> (Self, Vec<String>) {
            let mut story = Self(Watcher::new(start, HEARTBEAT));
            let begun = story.wake(at(0));
            (story, begun)
        }

        fn wake(&mut self, now: Instant) -> Vec<String> {
            let mut effects = Vec::new();
            self.0.on_deadline(now, &mut effects);
            effects.iter().map(short).collect()
        }

        fn hear(&mut self, now: Instant, event: WatcherEvent<T>) -> Vec<String> {
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
                    item: T::number(rev),
                },
            )
        }
    }

    fn short<T: Item>(effect: &WatcherEffect<T>) -> String {
        match effect {
            WatcherEffect::Describe(attempt) => format!("describe {}", attempt.0),
            WatcherEffect::Create { attempt, from } => {
                let attempt = attempt.0;
                match from {
                    ConsumerFrom::Last => format!("create {attempt} last"),
                    ConsumerFrom::LastPerSubject => format!("create {attempt} last per subject"),
                    ConsumerFrom::Sequence(sequence) => format!("create {attempt} from {sequence}"),
                    ConsumerFrom::Time(time) => format!("create {attempt} since {time}"),
                }
            }
            WatcherEffect::Discard(attempt) => format!("discard {}", attempt.0),
            WatcherEffect::Tell(Told::Item(item)) => format!("item {}", item.sequence()),
            WatcherEffect::Tell(Told::CaughtUp) => "caught up".to_owned(),
            WatcherEffect::Tell(Told::Interrupted(cause)) => format!("interrupted: {cause:?}"),
            WatcherEffect::Tell(Told::Resumed { same: true, .. }) => "resumed".to_owned(),
            WatcherEffect::Tell(Told::Resumed { same: false, .. }) => "another life".to_owned(),
            WatcherEffect::CheckRoom => "check room".to_owned(),
            WatcherEffect::Opened => "opened".to_owned(),
            WatcherEffect::Failed(error) => format!("failed: {error}"),
        }
    }

    #[test]
    fn an_empty_snapshot_ends_at_once() {
        let (mut story, begun) = Story::<KvEntry>::new(WatchStart::Snapshot);
        assert_eq!(begun, ["describe 1"]);
        assert_eq!(story.described(1, 7, 0), ["create 1 last per subject"]);
        assert_eq!(story.created(1, 0), ["opened", "caught up"]);
        assert_eq!(story.delivered(1, 1, 0, 1), ["item 1"]);
    }

    #[test]
    fn a_delivery_that_overtakes_the_answer_waits_for_it() {
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Snapshot);
        story.described(1, 7, 3);
        assert!(story.delivered(1, 1, 1, 2).is_empty());
        assert_eq!(story.created(1, 2), ["opened", "item 2"]);
        assert_eq!(story.delivered(1, 2, 0, 3), ["item 3", "caught up"]);
    }

    #[test]
    fn a_snapshot_whose_rest_expired_ends_with_the_next_heartbeat() {
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Snapshot);
        story.described(1, 7, 3);
        story.created(1, 2);
        story.delivered(1, 1, 1, 2);
        let heartbeat = WatcherEvent::Heartbeat {
            attempt: Attempt(1),
            last_consumer_seq: 1,
        };
        assert_eq!(story.hear(at(6), heartbeat.clone()), ["caught up"]);
        assert!(story.hear(at(11), heartbeat).is_empty());
    }

    #[test]
    fn a_record_rewritten_under_the_snapshot_is_waited_for() {
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Snapshot);
        story.described(1, 7, 3);
        story.created(1, 2);
        assert_eq!(story.delivered(1, 1, 0, 3), ["item 3"]);
        assert_eq!(story.delivered(1, 2, 0, 4), ["item 4", "caught up"]);
    }

    #[test]
    fn a_watch_from_now_that_heard_nothing_does_not_replay_history_after_a_reconnect() {
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Now);
        assert_eq!(story.described(1, 7, 41), ["create 1 from 42"]);
        story.created(1, 0);
        assert_eq!(
            story.hear(at(2), WatcherEvent::Link { up: false }),
            ["discard 1", "interrupted: Disconnected"]
        );
        assert_eq!(
            story.hear(at(3), WatcherEvent::Link { up: true }),
            ["describe 2"]
        );
        assert_eq!(story.described(2, 7, 43), ["create 2 from 42"]);
        assert_eq!(story.created(2, 2), ["resumed"]);
        assert_eq!(story.delivered(2, 1, 1, 42), ["item 42"]);
        assert!(
            story.delivered(1, 1, 0, 43).is_empty(),
            "an older attempt is not heard"
        );
    }

    #[test]
    fn a_bucket_made_anew_is_told_from_its_beginning() {
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Now);
        story.described(1, 7, 41);
        story.created(1, 0);
        assert_eq!(
            story.wake(at(10)),
            ["discard 1", "interrupted: MissedHeartbeat"]
        );
        assert_eq!(story.wake(at(10)), ["describe 2"]);
        assert_eq!(story.described(2, 8, 3), ["create 2 last per subject"]);
        assert_eq!(story.created(2, 1), ["another life"]);
        assert_eq!(story.delivered(2, 1, 0, 3), ["item 3"]);
    }

    #[test]
    fn a_lost_tail_is_taken_for_another_bucket() {
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Revision(Revision(1)));
        story.described(1, 7, 2);
        story.created(1, 2);
        story.delivered(1, 1, 1, 1);
        story.delivered(1, 2, 0, 2);
        story.hear(at(2), WatcherEvent::Link { up: false });
        story.hear(at(3), WatcherEvent::Link { up: true });
        assert_eq!(story.described(2, 7, 1), ["create 2 last per subject"]);
        assert_eq!(story.created(2, 1), ["another life"]);
    }

    #[test]
    fn a_server_that_is_behind_has_lost_nothing() {
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Revision(Revision(1)));
        story.described(1, 7, 2);
        story.created(1, 2);
        story.delivered(1, 1, 1, 1);
        story.delivered(1, 2, 0, 2);
        story.hear(at(2), WatcherEvent::Link { up: false });
        story.hear(at(3), WatcherEvent::Link { up: true });
        let behind = Description {
            is_likely: false,
            ..info(7, 1)
        };
        let described = WatcherEvent::Described(Attempt(2), Ok(behind));
        assert!(story.hear(at(3), described).is_empty());
        assert_eq!(story.wake(at(3)), ["describe 3"]);
        assert_eq!(story.described(3, 7, 2), ["create 3 from 3"]);
        assert_eq!(story.created(3, 0), ["resumed"]);
    }

    fn of_copies(is_likely: bool) -> Description {
        Description {
            is_likely,
            has_copies: true,
            ..info(7, 2)
        }
    }

    fn leader_says(attempt: u32, found: Description) -> WatcherEvent<KvEntry> {
        WatcherEvent::Described(Attempt(attempt), Ok(found))
    }

    /// A watch over a bucket with copies, whose consumer lives.
    fn watching_a_copy() -> Story<KvEntry> {
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Now);
        story.hear(at(0), leader_says(1, of_copies(true)));
        story.created(1, 0);
        assert_eq!(story.wake(at(5)), ["describe 1"]);
        story
    }

    fn sign_of_life() -> WatcherEvent<KvEntry> {
        WatcherEvent::Heartbeat {
            attempt: Attempt(1),
            last_consumer_seq: 0,
        }
    }

    #[test]
    fn a_consumer_that_lives_is_not_enough_where_nobody_leads() {
        let mut story = watching_a_copy();
        story.hear(at(6), sign_of_life());
        assert!(
            story
                .hear(at(6), leader_says(1, of_copies(true)))
                .is_empty()
        );
        story.hear(at(10), sign_of_life());
        assert!(story.wake(at(10)).is_empty());
        assert_eq!(story.wake(at(11)), ["describe 1"]);
        story.hear(at(15), sign_of_life());
        let interrupted = ["discard 1", "interrupted: MissedHeartbeat"];
        assert_eq!(story.wake(at(16)), interrupted, "nobody answers");
        assert_eq!(story.wake(at(16)), ["describe 2"]);
        // Who is cut off says what it has; the consumer that it could give would show no more than that.
        assert!(
            story
                .hear(at(17), leader_says(2, of_copies(false)))
                .is_empty()
        );
        assert_eq!(story.wake(at(18)), ["describe 3"]);
        let begins = story.hear(at(18), leader_says(3, of_copies(true)));
        assert_eq!(begins, ["create 3 from 3"]);
        assert_eq!(story.created(3, 0), ["resumed"]);
    }

    #[test]
    fn a_word_that_may_be_old_ends_a_consumer_that_lives() {
        let mut story = watching_a_copy();
        let told = story.hear(at(6), leader_says(1, of_copies(false)));
        assert_eq!(told, ["discard 1", "interrupted: MissedHeartbeat"]);
        let mut anew = watching_a_copy();
        let another = Description {
            created: UnixTime::from_nanos(8),
            ..of_copies(true)
        };
        let told = anew.hear(at(6), leader_says(1, another));
        assert_eq!(told, ["discard 1", "interrupted: Gap"]);
    }

    #[test]
    fn what_comes_from_now_on_begins_at_no_old_end() {
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Now);
        for attempt in 1..5 {
            let asks_again = at(u64::from(attempt));
            assert!(
                story
                    .hear(asks_again, leader_says(attempt, of_copies(false)))
                    .is_empty()
            );
            assert!(story.wake(asks_again).is_empty());
            story.wake(asks_again + RETRY_STEP);
        }
        let told = story.hear(at(5), leader_says(5, of_copies(false)));
        assert_eq!(told, [format!("failed: {}", WatchError::TimedOut)]);
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Snapshot);
        let told = story.hear(at(0), leader_says(1, of_copies(false)));
        assert_eq!(told, ["create 1 last per subject"]);
        story.created(1, 0);
        assert_eq!(story.wake(at(0)), ["describe 1"], "it is asked at once");
    }

    #[test]
    fn a_watch_for_a_revision_to_come_takes_no_tail_for_lost() {
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Revision(Revision(9)));
        assert_eq!(story.described(1, 7, 2), ["create 1 from 9"]);
        story.created(1, 0);
        story.hear(at(2), WatcherEvent::Link { up: false });
        story.hear(at(3), WatcherEvent::Link { up: true });
        assert_eq!(story.described(2, 7, 2), ["create 2 from 9"]);
        assert_eq!(story.created(2, 0), ["resumed"]);
    }

    #[test]
    fn a_bucket_found_missing_after_a_disconnect_is_told_once() {
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Now);
        story.described(1, 7, 0);
        story.created(1, 0);
        story.hear(at(2), WatcherEvent::Link { up: false });
        story.hear(at(3), WatcherEvent::Link { up: true });
        let missing =
            |attempt| WatcherEvent::Described(Attempt(attempt), Err(WatchError::NoBucket));
        assert_eq!(
            story.hear(at(3), missing(2)),
            ["interrupted: BucketMissing"]
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
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Now);
        story.described(1, 7, 0);
        story.created(1, 0);
        story.delivered(1, 1, 0, 1);
        assert_eq!(
            story.delivered(1, 3, 0, 3),
            ["discard 1", "interrupted: Gap"]
        );
        assert_eq!(story.wake(at(1)), ["describe 2"]);
        assert_eq!(story.described(2, 7, 3), ["create 2 from 2"]);
    }

    #[test]
    fn a_full_reader_hears_what_it_missed_once_it_has_room() {
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Now);
        story.described(1, 7, 0);
        story.created(1, 0);
        story.delivered(1, 1, 0, 1);
        story.delivered(1, 2, 0, 2);
        let overflow = WatcherEvent::Overflow { lost: Sequence(2) };
        assert_eq!(
            story.hear(at(1), overflow),
            ["discard 1", "interrupted: Gap"]
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
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Now);
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
        let (mut story, _) = Story::<KvEntry>::new(WatchStart::Now);
        let answer = WatcherEvent::Described(Attempt(1), Err(WatchError::NoBucket));
        assert_eq!(
            story.hear(at(0), answer),
            ["failed: there is no such bucket"]
        );
        assert_eq!(story.0.deadline(), None);
    }

    fn reader(start: ReadStart) -> Story<StoredMessage> {
        Story::new(start).0
    }

    fn reconnect<T: Numbered>(story: &mut Story<T>) {
        story.hear(at(2), WatcherEvent::Link { up: false });
        story.hear(at(3), WatcherEvent::Link { up: true });
    }

    #[test]
    fn a_reader_begins_where_it_was_told_to() {
        let begins = |start| reader(start).described(1, 7, 41).remove(0);
        assert_eq!(begins(ReadStart::All), "create 1 from 1");
        assert_eq!(begins(ReadStart::New), "create 1 from 42");
        assert_eq!(begins(ReadStart::Last), "create 1 last");
        assert_eq!(
            begins(ReadStart::LastPerSubject),
            "create 1 last per subject"
        );
        assert_eq!(begins(ReadStart::Sequence(Sequence(9))), "create 1 from 9");
        let time = UnixTime::EPOCH;
        assert_eq!(
            begins(ReadStart::Time(time)),
            "create 1 since 1970-01-01T00:00:00Z"
        );
    }

    /// What came after it was opened must not be skipped because something newer is the last now.
    #[test]
    fn a_reader_that_has_told_nothing_skips_nothing_when_it_is_made_anew() {
        for (start, again) in [
            (ReadStart::Last, "create 2 from 41"),
            (ReadStart::LastPerSubject, "create 2 from 1"),
            (ReadStart::New, "create 2 from 42"),
            (
                ReadStart::Time(UnixTime::EPOCH),
                "create 2 since 1970-01-01T00:00:00Z",
            ),
        ] {
            let mut story = reader(start);
            story.described(1, 7, 41);
            story.created(1, 0);
            reconnect(&mut story);
            assert_eq!(story.described(2, 7, 44), [again], "{start:?}");
        }
    }

    #[test]
    fn a_reader_from_the_last_tells_it_wherever_it_is_and_goes_on_behind_it() {
        let mut story = reader(ReadStart::Last);
        story.described(1, 7, 41);
        assert_eq!(story.created(1, 1), ["opened"]);
        assert_eq!(story.delivered(1, 1, 0, 5), ["item 5", "caught up"]);
        reconnect(&mut story);
        assert_eq!(story.described(2, 7, 44), ["create 2 from 6"]);
    }

    #[test]
    fn a_reader_hears_another_life_from_its_first_message() {
        let mut story = reader(ReadStart::LastPerSubject);
        story.described(1, 7, 41);
        story.created(1, 1);
        story.delivered(1, 1, 0, 41);
        reconnect(&mut story);
        assert_eq!(story.described(2, 8, 3), ["create 2 from 1"]);
        assert_eq!(story.created(2, 3), ["another life"]);
        assert_eq!(story.delivered(2, 1, 2, 1), ["item 1"]);
    }
}
