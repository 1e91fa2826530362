//! What a watch has told of every key, and what is still to be told: the decision core of [`Watch`](super::Watch).
//!
//! It sees the bucket in *looks*. A look is a watch over the bucket from its latest records on; the first one only says
//! where to begin. After whatever may have hidden something (an interruption, a slow reader) a new look is compared, key by
//! key, with what was told before, and the difference is told. So nothing rests on what a server or a client believes to
//! have delivered.
//!
//! **Expiry.** A value's life is over at its stamp and its life, by the clock that stamps, and what takes its place later
//! proves by its own stamp that it had expired. Where nobody writes, the value itself must go, for that to be seen: at the
//! end of its life, as far as this node's clock can tell, the tracker has it swept. The sweep asks for the server's time
//! before it deletes that very revision; so whichever watcher comes first removes it, and all are told by the tombstone, in
//! its place among the other changes. Where the server ends values itself, it is left the time to.
//!
//! **Another life.** Revisions increase, and a record never changes. A look that shows another record under a revision that
//! was told, one that should have been told, or none where only a deletion could have left none, is the look of another
//! history: the bucket was made anew, or its end was lost with the power. So that cannot be overtaken unseen. (Or it is that
//! of a copy that is behind; then it is repeated, before that is believed.)
//!
//! Invariants: the revisions told increase strictly up to a `Restarted`; between a `Gap` and the `CaughtUp` after it only
//! what differs from what was told before is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::entry::{Entry, Event, Gap, Operation};
use super::key::{Pattern, data_key, user_key};
use super::record::Stored;
use crate::machine::Machine;
use crate::time::{Instant, UnixTime};
use crate::transport::{InterruptCause, KvEntry, Revision, WatchError};

/// What failed is tried again after so long.
const RETRY: Duration = Duration::from_secs(1);
/// The server ends a life within so long after it is over; later, the sweep does.
const SERVER_ENDS_WITHIN: Duration = Duration::from_secs(10);
/// Looks in a row that may be taken for those of a copy that is behind.
const STALE_MAX: u32 = 3;
/// Sweeps under way at once.
const SWEEPS_MAX: usize = 16;

/// What a [`Tracker`] hears.
#[derive(Clone, Debug)]
pub(super) enum TrackerEvent {
    /// Answers [`TrackerEffect::Look`]: the look begins.
    Looking {
        /// When the bucket was created.
        life: UnixTime,
        /// The last revision that it had given out after the look began.
        last: Revision,
        /// The server's time then.
        now: UnixTime,
    },
    /// Answers [`TrackerEffect::Look`]: there is none.
    Blind(WatchError),
    /// A record.
    Record(KvEntry),
    /// All that was there when the look began has been heard.
    SnapshotEnd,
    /// The look may miss something.
    Interrupted(InterruptCause),
    /// The bucket can be heard again.
    Resumed {
        /// Whether it is the one it was.
        same_bucket: bool,
    },
    /// Answers [`TrackerEffect::Sweep`].
    Swept {
        /// Of which key of the bucket.
        key: String,
        /// Which value.
        revision: Revision,
        /// What came of it.
        swept: Swept,
    },
    /// The reader was slow, and has room again.
    Lagged {
        /// So many events found no room.
        missed: u64,
        /// Of these keys.
        keys: BTreeSet<String>,
        /// Among them was word of another life.
        restarted: bool,
    },
}

/// What came of a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// The value is gone, or another has taken its place: the look will tell.
    Done,
    /// Its life is not over: this is the server's time.
    NotYet(UnixTime),
    /// Nobody knows.
    Failed,
}

/// What a [`Tracker`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TrackerEffect {
    /// Begin a look, in place of the one there is.
    Look,
    /// The first look is complete: the watch has begun.
    Begun,
    /// There is no first look.
    Failed(WatchError),
    /// Tell the reader.
    Tell(Event),
    /// Remove this value if the server's time is at least this.
    Sweep {
        /// Of which key of the bucket.
        key: String,
        /// Which value.
        revision: Revision,
        /// The end of its life.
        end: UnixTime,
        /// What the key is fenced with.
        fence: Option<u64>,
    },
}

/// What was told of a key last: a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    revision: Revision,
    stamp: UnixTime,
    /// The end of its life.
    end: Option<UnixTime>,
    fence: Option<u64>,
    /// It was over before the watch began: nothing of it is told.
    is_over: bool,
    /// The reader may not have been told.
    is_doubtful: bool,
    /// In the look that is being compared, it is as it was.
    is_seen: bool,
}

impl Known {
    /// Of a key that has no value, where the reader may believe that it has.
    const NOTHING: Self = Self {
        revision: Revision::NONE,
        stamp: UnixTime::EPOCH,
        end: None,
        fence: None,
        is_over: false,
        is_doubtful: true,
        is_seen: false,
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing can be heard until the bucket is back.
    Waiting,
    /// Waiting for a look to begin.
    Looking,
    /// No look could be had; the next is begun at this instant.
    Retrying(Instant),
    /// Comparing a look with what was told.
    Comparing,
    /// Telling what comes.
    Live,
    /// There was no first look.
    Over,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Tracker {
    pattern: Pattern,
    state: State,
    /// The first look is complete.
    begun: bool,
    /// Which life of the bucket the told revisions belong to.
    life: Option<UnixTime>,
    known: BTreeMap<String, Known>,
    /// Everything up to here was told, where it was to be.
    through: Revision,
    /// What the look shows that was not told, in its order.
    news: BTreeMap<Revision, KvEntry>,
    /// It is said that the bucket was made anew.
    is_new_life: bool,
    /// The look is one of another life.
    has_restarted: bool,
    /// The newest revision of the look, and the last that the bucket had given out.
    look: (Revision, Revision),
    /// Looks in a row that seemed to be of a copy that is behind.
    stale: u32,
    /// The server's time was at least this at that instant.
    server: (Instant, UnixTime),
    /// Lives that end: when to sweep, by the server's time, of which key of the bucket.
    ends: BTreeSet<(UnixTime, String)>,
    sweeping: usize,
}

impl Tracker {
    pub(super) fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            state: State::Retrying(Instant::ZERO),
            begun: false,
            life: None,
            known: BTreeMap::new(),
            through: Revision::NONE,
            news: BTreeMap::new(),
            is_new_life: false,
            has_restarted: false,
            look: (Revision::NONE, Revision::NONE),
            stale: 0,
            server: (Instant::ZERO, UnixTime::EPOCH),
            ends: BTreeSet::new(),
            sweeping: 0,
        }
    }

    fn look(&mut self, effects: &mut Vec<TrackerEffect>) {
        self.state = State::Looking;
        effects.push(TrackerEffect::Look);
    }

    fn tell_gap(&self, gap: Gap, effects: &mut Vec<TrackerEffect>) {
        if self.begun {
            effects.push(TrackerEffect::Tell(Event::Gap(gap)));
        }
    }

    /// The least that the server's time is now.
    fn server_now(&self, now: Instant) -> UnixTime {
        self.server.1 + now.since(self.server.0)
    }

    /// When, by this node's clock, the server's time is that at the latest.
    fn until(&self, time: UnixTime) -> Instant {
        self.server.0 + time.since(self.server.1)
    }

    fn begin(&mut self, now: Instant, life: UnixTime, last: Revision, time: UnixTime) {
        self.server = (now, time);
        self.look = (Revision::NONE, last);
        self.has_restarted = false;
        self.is_new_life |= self.life.is_some_and(|before| before != life);
        self.life = Some(life);
        self.news.clear();
        for known in self.known.values_mut() {
            known.is_seen = false;
        }
        self.state = State::Comparing;
    }

    fn record(&mut self, now: Instant, entry: KvEntry, effects: &mut Vec<TrackerEffect>) {
        if entry.created > self.server_now(now) {
            self.server = (now, entry.created);
        }
        match self.state {
            State::Comparing => self.compare(entry),
            State::Live => {
                if entry.revision <= self.through {
                    // Nobody has said so, but this is no record of the life that was told.
                    self.restart(effects);
                    self.look(effects);
                } else {
                    self.tell(entry, effects);
                }
            }
            _ => {}
        }
    }

    /// Takes in one record of a look.
    fn compare(&mut self, entry: KvEntry) {
        let is_old = entry.revision <= self.through;
        self.look.0 = self.look.0.max(entry.revision);
        let is_value = Stored::of(&entry).is_some_and(|stored| !stored.record.gone);
        match self.known.get_mut(&*entry.key) {
            Some(known) if (known.revision, known.stamp) == (entry.revision, entry.created) => {
                known.is_seen = true;
                if known.is_doubtful {
                    self.news.insert(entry.revision, entry);
                }
            }
            Some(known) => {
                // A doubtful one may have been deleted since; everything else up to here was told.
                self.has_restarted |= is_old && !known.is_doubtful;
                known.is_seen = true;
                self.news.insert(entry.revision, entry);
            }
            None => {
                let matches = user_key(&entry.key).is_some_and(|key| self.pattern.matches(&key));
                self.has_restarted |= is_old && is_value && matches && self.begun;
                self.news.insert(entry.revision, entry);
            }
        }
    }

    /// The look has been compared: tells the difference.
    fn complete(&mut self, now: Instant, effects: &mut Vec<TrackerEffect>) {
        let time = self.server_now(now);
        let is_unexplained = |known: &Known| {
            let is_told = !known.is_over && !known.is_doubtful;
            !known.is_seen && is_told && known.end.is_none_or(|end| time < end)
        };
        let is_unexplained = self.known.values().any(is_unexplained);
        let (newest, last) = self.look;
        // Where revisions went on, it may have been deleted, or been given a short life, and the mark of that is gone too.
        self.has_restarted |= is_unexplained && last < self.through;
        // In a cluster a look may be answered by a copy that does not know yet what was told: that is no other life.
        let seems_behind = newest < self.through && self.through <= last;
        let may_be_behind = seems_behind && !self.is_new_life && self.stale < STALE_MAX;
        if (self.has_restarted || is_unexplained) && may_be_behind {
            self.stale += 1;
            self.state = State::Retrying(now + RETRY);
            return;
        }
        self.stale = 0;
        if std::mem::take(&mut self.is_new_life) || self.has_restarted {
            self.restart(effects);
        }
        let gone: Vec<String> = self
            .known
            .iter()
            .filter(|(_, known)| !known.is_seen)
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.vanish(&key, time, effects);
        }
        for entry in std::mem::take(&mut self.news).into_values() {
            match self.begun {
                true => self.tell(entry, effects),
                false => self.note(entry, time),
            }
        }
        self.state = State::Live;
        if self.begun {
            effects.push(TrackerEffect::Tell(Event::CaughtUp));
        } else {
            self.begun = true;
            effects.push(TrackerEffect::Begun);
        }
    }

    fn restart(&mut self, effects: &mut Vec<TrackerEffect>) {
        self.tell_gap(Gap::Restarted, effects);
        self.through = Revision::NONE;
    }

    /// A key that was told to have a value has no record at all.
    fn vanish(&mut self, stored_key: &str, time: UnixTime, effects: &mut Vec<TrackerEffect>) {
        let Some(known) = self.forget(stored_key) else {
            return;
        };
        let (Some(key), false) = (user_key(stored_key), known.is_over && !known.is_doubtful) else {
            return;
        };
        effects.push(TrackerEffect::Tell(match known.end {
            Some(end) if end <= time => Event::Expired {
                key,
                revision: known.revision,
            },
            _ => Event::Changed(Entry {
                key,
                value: bytes::Bytes::new(),
                revision: Revision::NONE,
                operation: Operation::Delete,
                created: known.stamp,
                modified: known.stamp,
            }),
        }));
    }

    /// A record of the first look: known, and not told.
    fn note(&mut self, entry: KvEntry, time: UnixTime) {
        self.through = self.through.max(entry.revision);
        let (Some(_), Some(stored)) = (self.user_key(&entry.key), value_of(&entry)) else {
            return;
        };
        let is_over = stored.expires().is_some_and(|end| end <= time);
        self.remember(&entry.key, &stored, is_over);
    }

    /// A record that was not told: tells what it says.
    fn tell(&mut self, entry: KvEntry, effects: &mut Vec<TrackerEffect>) {
        self.through = self.through.max(entry.revision);
        let Some(key) = self.user_key(&entry.key) else {
            return;
        };
        let known = self.forget(&entry.key);
        let mut had_value = known.is_some_and(|known| known.is_doubtful || !known.is_over);
        if let Some(known) = known.filter(|known| !known.is_over || known.is_doubtful)
            && known.revision != entry.revision
            && known.end.is_some_and(|end| end <= entry.created)
        {
            had_value = false;
            effects.push(TrackerEffect::Tell(Event::Expired {
                key: key.clone(),
                revision: known.revision,
            }));
        }
        match value_of(&entry) {
            Some(stored) => {
                self.remember(&entry.key, &stored, false);
                let changed = Entry::of(&key, stored);
                effects.push(TrackerEffect::Tell(Event::Changed(changed)));
            }
            None if had_value => {
                effects.push(TrackerEffect::Tell(Event::Changed(Entry {
                    key,
                    value: bytes::Bytes::new(),
                    revision: entry.revision,
                    operation: Operation::Delete,
                    created: entry.created,
                    modified: entry.created,
                })));
            }
            // It had no value before either.
            None => {}
        }
    }

    fn user_key(&self, stored_key: &str) -> Option<String> {
        user_key(stored_key).filter(|key| self.pattern.matches(key))
    }

    fn remember(&mut self, stored_key: &str, stored: &Stored, is_over: bool) {
        let end = stored.expires();
        if let Some(end) = end {
            let sweep_at = match stored.record.server_ends_it {
                true => end + SERVER_ENDS_WITHIN,
                false => end,
            };
            self.ends.insert((sweep_at, stored_key.to_owned()));
        }
        let known = Known {
            revision: stored.revision,
            stamp: stored.stamp,
            end,
            fence: stored.record.fence,
            is_over,
            is_doubtful: false,
            is_seen: true,
        };
        self.known.insert(stored_key.to_owned(), known);
    }

    fn forget(&mut self, stored_key: &str) -> Option<Known> {
        let known = self.known.remove(stored_key)?;
        if let Some(end) = known.end {
            for sweep_at in [end, end + SERVER_ENDS_WITHIN] {
                self.ends.remove(&(sweep_at, stored_key.to_owned()));
            }
        }
        Some(known)
    }

    /// Has swept what is over by now.
    fn sweep(&mut self, now: Instant, effects: &mut Vec<TrackerEffect>) {
        let time = self.server_now(now);
        while self.sweeping < SWEEPS_MAX
            && self.ends.first().is_some_and(|(end, _)| *end <= time)
            && let Some((_, key)) = self.ends.pop_first()
        {
            let Some(&Known {
                revision,
                end: Some(end),
                fence,
                ..
            }) = self.known.get(&key)
            else {
                continue;
            };
            self.sweeping += 1;
            effects.push(TrackerEffect::Sweep {
                key,
                revision,
                end,
                fence,
            });
        }
    }

    fn swept(&mut self, now: Instant, key: String, revision: Revision, swept: &Swept) {
        self.sweeping -= 1;
        let again = match *swept {
            Swept::Done => return,
            Swept::NotYet(time) => {
                self.server = (now, time);
                None
            }
            Swept::Failed => Some(self.server_now(now) + RETRY),
        };
        if let Some(known) = self.known.get(&key)
            && known.revision == revision
            && let Some(end) = known.end
        {
            self.ends.insert((again.unwrap_or(end), key));
        }
    }
}

/// The value that a record says, if it says one.
fn value_of(entry: &KvEntry) -> Option<Stored> {
    Stored::of(entry).filter(|stored| !stored.record.gone)
}

impl Machine for Tracker {
    type Event = TrackerEvent;
    type Effect = TrackerEffect;

    fn handle(&mut self, now: Instant, event: TrackerEvent, effects: &mut Vec<TrackerEffect>) {
        match event {
            TrackerEvent::Looking {
                life,
                last,
                now: time,
            } => {
                if self.state == State::Looking {
                    self.begin(now, life, last, time);
                }
            }
            TrackerEvent::Blind(error) => {
                if !self.begun {
                    self.state = State::Over;
                    effects.push(TrackerEffect::Failed(error));
                } else if self.state == State::Looking {
                    self.state = State::Retrying(now + RETRY);
                }
            }
            TrackerEvent::Record(entry) => self.record(now, entry, effects),
            TrackerEvent::SnapshotEnd => {
                if self.state == State::Comparing {
                    self.complete(now, effects);
                }
            }
            TrackerEvent::Interrupted(cause) => {
                if matches!(self.state, State::Comparing | State::Live) {
                    if self.state == State::Live {
                        self.tell_gap(Gap::Interrupted(cause), effects);
                    }
                    self.state = State::Waiting;
                }
            }
            TrackerEvent::Resumed { same_bucket } => {
                self.is_new_life |= !same_bucket;
                if self.state == State::Waiting {
                    self.look(effects);
                }
            }
            TrackerEvent::Swept {
                key,
                revision,
                swept,
            } => self.swept(now, key, revision, &swept),
            TrackerEvent::Lagged {
                missed,
                keys,
                restarted,
            } => {
                // What was told as a key cannot but be one.
                for stored_key in keys.iter().filter_map(|key| data_key(key).ok()) {
                    let known = self.known.entry(stored_key).or_insert(Known::NOTHING);
                    known.is_doubtful = true;
                }
                self.tell_gap(Gap::Lagged { missed }, effects);
                if restarted {
                    self.tell_gap(Gap::Restarted, effects);
                }
                // While nothing can be heard, the look that follows will do.
                if matches!(self.state, State::Comparing | State::Live) {
                    self.look(effects);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Retrying(until) => Some(until),
            State::Live if self.sweeping < SWEEPS_MAX => {
                self.ends.first().map(|(end, _)| self.until(*end))
            }
            _ => None,
        }
    }

    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<TrackerEffect>) {
        match self.state {
            State::Retrying(until) if until <= now => self.look(effects),
            State::Live => self.sweep(now, effects),
            _ => {}
        }
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Waiting => "waiting",
            State::Looking => "looking",
            State::Retrying(_) => "retrying",
            State::Comparing => "comparing",
            State::Live => "live",
            State::Over => "over",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::record::Record;
    use super::*;
    use crate::transport::Operation as Stores;

    /// A tracker and what it has wanted and told, as text. Node and server count from the same zero.
    struct Story(Tracker);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn time(seconds: u64) -> UnixTime {
        UnixTime::EPOCH + Duration::from_secs(seconds)
    }

    fn entry(key: &str, revision: u64, stamp: u64, operation: Stores, value: Bytes) -> KvEntry {
        KvEntry {
            key: format!("d.{key}").into(),
            value,
            revision: Revision(revision),
            operation,
            created: time(stamp),
        }
    }

    fn put(key: &str, revision: u64, stamp: u64) -> KvEntry {
        let value = Bytes::from(format!("v{revision}"));
        entry(key, revision, stamp, Stores::Put, value)
    }

    fn mortal(key: &str, revision: u64, stamp: u64, life: u64) -> KvEntry {
        let record = Record {
            life: Some(Duration::from_secs(life)),
            ..Record::default()
        };
        entry(key, revision, stamp, Stores::Put, record.encode())
    }

    fn deleted(key: &str, revision: u64, stamp: u64) -> KvEntry {
        entry(key, revision, stamp, Stores::Delete, Bytes::new())
    }

    impl Story {
        /// A watch over everything that began at second 0 with these records.
        fn begun(records: impl IntoIterator<Item = KvEntry>) -> Self {
            let mut story = Self(Tracker::new(Pattern::parse("*").expect("all")));
            assert_eq!(story.wake(0), ["look"]);
            assert_eq!(story.look(0, 7, records), ["begun"]);
            story
        }

        fn wake(&mut self, now: u64) -> Vec<String> {
            let mut effects = Vec::new();
            self.0.on_deadline(at(now), &mut effects);
            effects.iter().map(short).collect()
        }

        fn hear(&mut self, now: u64, event: TrackerEvent) -> Vec<String> {
            let mut effects = Vec::new();
            self.0.handle(at(now), event, &mut effects);
            effects.iter().map(short).collect()
        }

        fn record(&mut self, entry: KvEntry) -> Vec<String> {
            let now = entry.created.as_secs().unsigned_abs();
            self.hear(now, TrackerEvent::Record(entry))
        }

        fn look(
            &mut self,
            now: u64,
            life: u64,
            records: impl IntoIterator<Item = KvEntry>,
        ) -> Vec<String> {
            let records: Vec<KvEntry> = records.into_iter().collect();
            let last = records.iter().map(|record| record.revision).max();
            self.look_of(now, life, last.unwrap_or(Revision::NONE), records)
        }

        fn look_of(
            &mut self,
            now: u64,
            life: u64,
            last: Revision,
            records: Vec<KvEntry>,
        ) -> Vec<String> {
            let looking = TrackerEvent::Looking {
                life: time(life),
                last,
                now: time(now),
            };
            let mut told = self.hear(now, looking);
            for record in records {
                told.extend(self.hear(now, TrackerEvent::Record(record)));
            }
            told.extend(self.hear(now, TrackerEvent::SnapshotEnd));
            told
        }

        fn interrupted(&mut self, now: u64) {
            let lost = TrackerEvent::Interrupted(InterruptCause::Disconnected);
            assert_eq!(self.hear(now, lost), ["gap: interrupted: disconnected"]);
            let back = TrackerEvent::Resumed { same_bucket: true };
            assert_eq!(self.hear(now, back), ["look"]);
        }
    }

    fn short(effect: &TrackerEffect) -> String {
        match effect {
            TrackerEffect::Look => "look".to_owned(),
            TrackerEffect::Begun => "begun".to_owned(),
            TrackerEffect::Failed(error) => format!("failed: {error}"),
            TrackerEffect::Sweep { key, revision, .. } => format!("sweep {key}@{revision}"),
            TrackerEffect::Tell(Event::Changed(entry)) => {
                format!("{:?} {}@{}", entry.operation, entry.key, entry.revision)
            }
            TrackerEffect::Tell(Event::Expired { key, revision }) => {
                format!("expired {key}@{revision}")
            }
            TrackerEffect::Tell(Event::Gap(gap)) => format!("gap: {gap}"),
            TrackerEffect::Tell(Event::CaughtUp) => "caught up".to_owned(),
        }
    }

    #[test]
    fn what_was_there_is_not_told_and_what_comes_is() {
        let mut story = Story::begun([put("a", 1, 0), deleted("b", 2, 0)]);
        assert_eq!(story.record(put("b", 3, 1)), ["Put b@3"]);
        assert_eq!(story.record(deleted("a", 4, 1)), ["Delete a@4"]);
        assert!(story.record(deleted("a", 5, 1)).is_empty());
        assert!(story.record(put("é", 6, 1)).is_empty(), "no key of a store");
    }

    #[test]
    fn a_value_is_swept_when_its_life_is_over_and_its_tombstone_tells_so() {
        let mut story = Story::begun([mortal("a", 1, 0, 5)]);
        assert_eq!(story.0.deadline(), Some(at(5)));
        assert_eq!(story.wake(5), ["sweep d.a@1"]);
        assert_eq!(story.record(deleted("a", 2, 5)), ["expired a@1"]);
        assert_eq!(story.0.deadline(), None);
    }

    #[test]
    fn a_node_whose_clock_is_fast_asks_again() {
        let mut story = Story::begun([mortal("a", 1, 0, 5)]);
        story.wake(5);
        let swept = TrackerEvent::Swept {
            key: "d.a".to_owned(),
            revision: Revision(1),
            swept: Swept::NotYet(time(3)),
        };
        assert!(story.hear(5, swept).is_empty());
        assert_eq!(story.0.deadline(), Some(at(7)));
        assert_eq!(story.wake(7), ["sweep d.a@1"]);
    }

    #[test]
    fn what_takes_the_place_of_an_expired_value_says_that_it_had_expired() {
        let mut story = Story::begun([mortal("a", 1, 0, 5), mortal("b", 2, 0, 5)]);
        assert_eq!(story.record(put("a", 3, 4)), ["Put a@3"], "in time");
        assert_eq!(story.record(put("b", 4, 6)), ["expired b@2", "Put b@4"]);
    }

    #[test]
    fn a_deletion_in_time_is_no_expiry() {
        let mut story = Story::begun([mortal("a", 1, 0, 5)]);
        assert_eq!(story.record(deleted("a", 2, 4)), ["Delete a@2"]);
    }

    #[test]
    fn what_was_over_before_the_watch_began_is_swept_and_not_told() {
        let mut story = Story(Tracker::new(Pattern::parse("*").expect("all")));
        story.wake(9);
        assert_eq!(story.look(9, 7, [mortal("a", 1, 0, 5)]), ["begun"]);
        assert_eq!(story.wake(9), ["sweep d.a@1"]);
        assert!(story.record(deleted("a", 2, 9)).is_empty());
    }

    #[test]
    fn after_an_interruption_the_difference_is_told() {
        let mut story = Story::begun([put("a", 1, 0), put("b", 2, 0), mortal("c", 3, 0, 5)]);
        story.interrupted(1);
        let look = [put("b", 2, 0), deleted("a", 4, 1), put("d", 5, 1)];
        assert_eq!(
            story.look(6, 7, look),
            ["expired c@3", "Delete a@4", "Put d@5", "caught up"]
        );
    }

    /// It was deleted, or overwritten with what has expired since, and the server keeps marks of that for a while only.
    #[test]
    fn a_value_that_is_gone_without_a_trace_is_no_other_life() {
        let look = [put("b", 2, 0), put("d", 5, 1)];
        let mut story = Story::begun([put("a", 1, 0), put("b", 2, 0)]);
        story.interrupted(1);
        let told = story.look(5, 7, look);
        assert_eq!(told, ["Delete a@0", "Put d@5", "caught up"]);
        // But what was told and is not even given out is lost.
        let mut story = Story::begun([put("b", 2, 0)]);
        story.record(put("a", 3, 1));
        story.interrupted(1);
        let told = story.look(2, 7, [put("b", 2, 0)]);
        assert_eq!(told[0], "gap: the store was made anew, or lost its end");
    }

    #[test]
    fn a_lost_end_that_was_overtaken_is_told() {
        let mut story = Story::begun([put("a", 1, 0)]);
        story.record(put("b", 2, 1));
        story.record(put("a", 3, 2));
        story.interrupted(2);
        // 2 and 3 were lost, and given out again.
        let look = [
            put("a", 1, 0),
            put("c", 2, 3),
            put("d", 3, 3),
            put("e", 4, 3),
        ];
        let told = story.look(4, 7, look);
        assert_eq!(told[0], "gap: the store was made anew, or lost its end");
        assert_eq!(
            told[1..],
            [
                "Delete b@0",
                "Put a@1",
                "Put c@2",
                "Put d@3",
                "Put e@4",
                "caught up"
            ]
        );
    }

    #[test]
    fn another_record_under_the_same_revision_is_another_life() {
        let mut story = Story::begun([put("a", 1, 0)]);
        story.interrupted(1);
        let told = story.look(2, 7, [put("a", 1, 1)]);
        assert_eq!(
            told,
            [
                "gap: the store was made anew, or lost its end",
                "Put a@1",
                "caught up"
            ]
        );
    }

    #[test]
    fn a_copy_that_is_behind_is_asked_again() {
        let mut story = Story::begun([put("a", 1, 0)]);
        story.record(put("a", 2, 1));
        story.interrupted(1);
        let last = Revision(2);
        for look in 0..STALE_MAX.into() {
            let behind = vec![put("a", 1, 0)];
            assert!(story.look_of(2 + look, 7, last, behind).is_empty());
            assert_eq!(story.wake(3 + look), ["look"]);
        }
        let told = story.look_of(9, 7, last, vec![put("a", 1, 0)]);
        assert_eq!(told[1..], ["Put a@1", "caught up"]);
        story.record(put("a", 3, 9));
        story.interrupted(9);
        story.look_of(9, 7, Revision(3), vec![put("a", 1, 0)]);
        story.wake(10);
        let told = story.look_of(10, 7, Revision(3), vec![put("a", 3, 9)]);
        assert_eq!(told, ["caught up"]);
    }

    #[test]
    fn a_bucket_made_anew_is_told_even_where_nothing_differs() {
        let mut story = Story::begun([put("a", 1, 0)]);
        story.interrupted(1);
        let told = story.look(2, 8, [put("a", 1, 0), put("b", 2, 1)]);
        assert_eq!(
            told,
            [
                "gap: the store was made anew, or lost its end",
                "Put b@2",
                "caught up"
            ]
        );
    }

    #[test]
    fn a_slow_reader_is_told_what_it_missed() {
        let mut story = Story::begun([put("a", 1, 0), put("b", 2, 0)]);
        story.record(put("a", 3, 1));
        story.record(deleted("b", 4, 1));
        let lagged = TrackerEvent::Lagged {
            missed: 2,
            keys: ["a", "b"].map(str::to_owned).into(),
            restarted: false,
        };
        assert_eq!(
            story.hear(2, lagged),
            ["gap: the reader was slow and missed 2", "look"]
        );
        let look = [put("a", 3, 1), deleted("b", 4, 1)];
        assert_eq!(
            story.look(2, 7, look),
            ["Put a@3", "Delete b@4", "caught up"]
        );
    }

    #[test]
    fn a_look_that_cannot_be_had_is_tried_again() {
        let mut story = Story::begun([]);
        story.interrupted(1);
        assert!(
            story
                .hear(2, TrackerEvent::Blind(WatchError::TimedOut))
                .is_empty()
        );
        assert_eq!(story.0.deadline(), Some(at(3)));
        assert_eq!(story.wake(3), ["look"]);
    }

    #[test]
    fn a_first_look_that_cannot_be_had_is_the_answer_of_the_call() {
        let mut story = Story(Tracker::new(Pattern::parse("*").expect("all")));
        story.wake(0);
        let blind = TrackerEvent::Blind(WatchError::NoBucket);
        assert_eq!(story.hear(0, blind), ["failed: there is no such bucket"]);
        assert_eq!(story.0.deadline(), None);
    }

    #[test]
    fn only_what_matches_is_told() {
        let mut story = Story(Tracker::new(Pattern::parse("a.x*").expect("a pattern")));
        story.wake(0);
        story.look(0, 7, []);
        assert_eq!(story.record(put("a.x1", 1, 1)), ["Put a.x1@1"]);
        assert!(story.record(put("a.y", 2, 1)).is_empty());
        let arc: Arc<str> = "l.a.x1".into();
        let lock = KvEntry {
            key: arc,
            ..put("a.x1", 3, 1)
        };
        assert!(story.record(lock).is_empty());
    }
}
