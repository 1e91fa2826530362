//! The decision core of a watch or a reader whose connection is swapped under it.
//!
//! A watch heals itself as long as its connection lives ([`crate::transport::watcher`]); this one heals it over
//! connections. Like splicing a rope: the new strand is laid beside the old one, from the last item told on, and the old
//! one is let go of when the new one holds. What both bring is told once, by its sequence.
//!
//! Invariants, those of a watcher: sequences told increase strictly within one life of the stream; between `Interrupted` and
//! `Resumed` nothing is told; `CaughtUp` is told once. A swap that goes well is not told at all.

use std::time::Duration;

use crate::machine::Machine;
use crate::time::{Instant, UnixTime};
use crate::transport::watcher::{Description, Item, Told};
use crate::transport::{InterruptCause, ReadStart, Sequence, WatchError};

/// After a failure the next attempt waits this long, and longer each time, up to [`RETRY_MAX`].
const RETRY_STEP: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// One strand: a watch or reader on one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Strand(pub u32);

/// What a [`Splice`] hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SpliceEvent<T> {
    /// There is a connection of this number, newer than any before, or the answer to [`SpliceEffect::Seek`].
    Offered(u64),
    /// Answers [`SpliceEffect::Describe`].
    Described(Strand, Result<Description, WatchError>),
    /// Answers [`SpliceEffect::Open`].
    Opened(Strand, Result<(), WatchError>),
    /// Answers [`SpliceEffect::Drain`]: what the old strand had brought has been heard.
    Drained(Strand),
    /// A strand tells.
    Told(Strand, Told<T>),
    /// A strand has ended, with its connection.
    Ended(Strand),
}

/// What a [`Splice`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SpliceEffect<T> {
    /// Ask for the description over this connection.
    Describe(Strand, u64),
    /// Begin to read over the connection of this strand, from here.
    Open(Strand, ReadStart),
    /// Hear what the old strand has brought and nobody has read yet, then answer with `Drained` of the new one.
    Drain {
        /// Whose items are heard.
        old: Strand,
        /// Which holds already.
        new: Strand,
    },
    /// Let go of every strand but this.
    Keep(Strand),
    /// Tell the reader.
    Tell(Told<T>),
    /// The offer is taken, or could not be: whoever made it need not wait.
    Answered,
    /// Offer whatever connection there is.
    Seek,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What was known to be there when it was asked: more may come while the answer is on its way.
    Describing {
        newest: Sequence,
    },
    Opening {
        same: bool,
        found: Description,
    },
    Draining {
        same: bool,
        found: Description,
    },
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Splice<T> {
    start: ReadStart,
    /// Which life of the stream is told of; `None` while a strand has said that it is another.
    created: Option<UnixTime>,
    newest: Sequence,
    told: Sequence,
    /// Something was told in this life.
    has_told: bool,
    caught_up: bool,
    is_interrupted: Option<InterruptCause>,
    /// The strand that is read, and the number of its connection.
    source: Option<(Strand, u64)>,
    /// The strand that is being laid.
    next: Option<(Strand, u64, Stage)>,
    /// The newest connection offered.
    offered: u64,
    strands: u32,
    failures: u32,
    retry: Option<Instant>,
    _item: std::marker::PhantomData<fn(T)>,
}

impl<T: Item> Splice<T> {
    /// Of a strand 0 that was opened over `connection` just after the stream was described like this.
    pub(super) fn new(start: ReadStart, connection: u64, found: Description) -> Self {
        let told = match start {
            ReadStart::New => found.last,
            ReadStart::Last => Sequence(found.last.0.saturating_sub(1)),
            ReadStart::Sequence(first) => Sequence(first.0.saturating_sub(1)),
            ReadStart::All | ReadStart::LastPerSubject | ReadStart::Time(_) => Sequence::NONE,
        };
        Self {
            start,
            created: Some(found.created),
            newest: found.last,
            told,
            has_told: false,
            caught_up: false,
            is_interrupted: None,
            source: Some((Strand(0), connection)),
            next: None,
            offered: connection,
            strands: 0,
            failures: 0,
            retry: None,
            _item: std::marker::PhantomData,
        }
    }

    /// Where the first strand begins: exactly after what the description says, so that a later strand can begin there too.
    pub(super) fn opening(start: ReadStart, found: Description) -> ReadStart {
        match start {
            ReadStart::New => ReadStart::Sequence(found.last.next()),
            start => start,
        }
    }

    /// Where another strand begins.
    fn from(&self, same: bool) -> ReadStart {
        if !same {
            return match T::NEWEST_IS_ENOUGH {
                true => ReadStart::LastPerSubject,
                false => ReadStart::All,
            };
        }
        match self.start {
            _ if self.has_told => ReadStart::Sequence(self.told.next()),
            ReadStart::LastPerSubject if T::NEWEST_IS_ENOUGH => ReadStart::LastPerSubject,
            ReadStart::Time(time) => ReadStart::Time(time),
            _ => ReadStart::Sequence(self.told.next()),
        }
    }

    fn lay(&mut self, effects: &mut Vec<SpliceEffect<T>>) {
        self.strands += 1;
        self.retry = None;
        let strand = Strand(self.strands);
        let newest = self.newest;
        self.next = Some((strand, self.offered, Stage::Describing { newest }));
        effects.push(SpliceEffect::Describe(strand, self.offered));
    }

    fn failed(&mut self, now: Instant, error: &WatchError, effects: &mut Vec<SpliceEffect<T>>) {
        self.next = None;
        self.failures += 1;
        if self.source.is_none() && *error == WatchError::NoBucket {
            self.interrupt(InterruptCause::BucketMissing, effects);
        }
        self.retry = Some(now + (RETRY_STEP * self.failures).min(RETRY_MAX));
        effects.push(SpliceEffect::Answered);
    }

    fn interrupt(&mut self, cause: InterruptCause, effects: &mut Vec<SpliceEffect<T>>) {
        let is_news = match self.is_interrupted {
            None => true,
            Some(told) => told != cause && cause == InterruptCause::BucketMissing,
        };
        if is_news {
            self.is_interrupted = Some(cause);
            effects.push(SpliceEffect::Tell(Told::Interrupted(cause)));
        }
    }

    fn take_over(&mut self, effects: &mut Vec<SpliceEffect<T>>) {
        let Some((strand, connection, Stage::Draining { same, found })) = self.next.take() else {
            return;
        };
        self.source = Some((strand, connection));
        self.failures = 0;
        effects.push(SpliceEffect::Keep(strand));
        self.created = Some(found.created);
        self.newest = self.newest.max(found.last);
        if !same {
            self.interrupt(InterruptCause::Gap, effects);
            (self.newest, self.told, self.has_told) = (found.last, Sequence::NONE, false);
            self.start = self.from(false);
        }
        if self.is_interrupted.take().is_some() {
            let first_held = found.first;
            effects.push(SpliceEffect::Tell(Told::Resumed { same, first_held }));
        }
        effects.push(SpliceEffect::Answered);
    }

    fn told(&mut self, told: Told<T>, effects: &mut Vec<SpliceEffect<T>>) {
        match told {
            Told::Item(item) => {
                let sequence = item.sequence();
                self.newest = self.newest.max(sequence);
                if sequence > self.told {
                    (self.told, self.has_told) = (sequence, true);
                    effects.push(SpliceEffect::Tell(Told::Item(item)));
                }
            }
            Told::CaughtUp => {
                if !self.caught_up {
                    self.caught_up = true;
                    effects.push(SpliceEffect::Tell(Told::CaughtUp));
                }
            }
            Told::Interrupted(cause) => self.interrupt(cause, effects),
            Told::Resumed { same, first_held } => {
                if !same {
                    (self.created, self.newest, self.told) = (None, Sequence::NONE, Sequence::NONE);
                    self.has_told = false;
                    self.start = self.from(false);
                }
                if self.is_interrupted.take().is_some() {
                    effects.push(SpliceEffect::Tell(Told::Resumed { same, first_held }));
                }
            }
        }
    }
}

impl<T: Item> Machine for Splice<T> {
    type Event = SpliceEvent<T>;
    type Effect = SpliceEffect<T>;

    fn handle(&mut self, now: Instant, event: SpliceEvent<T>, effects: &mut Vec<SpliceEffect<T>>) {
        match event {
            SpliceEvent::Offered(connection) => {
                self.offered = self.offered.max(connection);
                let has = self
                    .source
                    .is_some_and(|(_, number)| number >= self.offered);
                if has {
                    effects.push(SpliceEffect::Answered);
                } else if self.next.is_none_or(|(_, number, _)| number < self.offered) {
                    self.lay(effects);
                }
            }
            SpliceEvent::Described(strand, result) => {
                let Some((laid, connection, Stage::Describing { newest })) = self.next else {
                    return;
                };
                if laid != strand {
                    return;
                }
                match result {
                    Ok(found) => {
                        let is_same_name =
                            self.created.is_none_or(|created| created == found.created);
                        let is_behind = is_same_name && found.last < newest.min(self.newest);
                        // A server of a cluster that was cut off knows less than was told: nothing is lost for that.
                        if is_behind && !found.is_likely {
                            return self.failed(now, &WatchError::TimedOut, effects);
                        }
                        // A stream that was deleted and created anew, or has lost its tail, gives sequences out again.
                        let same = is_same_name && !is_behind;
                        let stage = Stage::Opening { same, found };
                        self.next = Some((strand, connection, stage));
                        effects.push(SpliceEffect::Open(strand, self.from(same)));
                    }
                    Err(error) => self.failed(now, &error, effects),
                }
            }
            SpliceEvent::Opened(strand, result) => {
                let Some((laid, connection, Stage::Opening { same, found })) = self.next else {
                    return;
                };
                if laid != strand {
                    return;
                }
                if let Err(error) = result {
                    return self.failed(now, &error, effects);
                }
                let stage = Stage::Draining { same, found };
                self.next = Some((strand, connection, stage));
                match self.source {
                    Some((old, _)) => effects.push(SpliceEffect::Drain { old, new: strand }),
                    None => self.take_over(effects),
                }
            }
            SpliceEvent::Drained(strand) => {
                if self.next.is_some_and(|(laid, _, _)| laid == strand) {
                    self.take_over(effects);
                }
            }
            SpliceEvent::Told(strand, told) => {
                if self.source.is_some_and(|(source, _)| source == strand) {
                    self.told(told, effects);
                }
            }
            SpliceEvent::Ended(strand) => {
                if self.source.is_some_and(|(source, _)| source == strand) {
                    self.source = None;
                    self.interrupt(InterruptCause::Disconnected, effects);
                    match self.next {
                        Some((_, _, Stage::Draining { .. })) => self.take_over(effects),
                        Some(_) => {}
                        None => {
                            self.retry = None;
                            effects.push(SpliceEffect::Seek);
                        }
                    }
                } else if self.next.is_some_and(|(laid, _, _)| laid == strand) {
                    self.failed(now, &WatchError::Closed, effects);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.retry
    }

    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<SpliceEffect<T>>) {
        if self.retry.take_if(|retry| *retry <= now).is_some() {
            effects.push(SpliceEffect::Seek);
        }
    }

    fn state(&self) -> &'static str {
        match (&self.next, &self.source) {
            (Some((.., Stage::Describing { .. })), _) => "describing",
            (Some((.., Stage::Opening { .. })), _) => "opening",
            (Some((.., Stage::Draining { .. })), _) => "draining",
            (None, Some(_)) => "reading",
            (None, None) => "adrift",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Number(u64);

    impl Item for Number {
        const NEWEST_IS_ENOUGH: bool = false;

        fn sequence(&self) -> Sequence {
            Sequence(self.0)
        }
    }

    /// What one strand has brought and nobody has heard, and what it would bring next.
    struct Laid {
        connection: u64,
        next: u64,
        arrived: VecDeque<u64>,
    }

    /// A stream, connections to it, and a splice over them.
    struct Desk {
        splice: Splice<Number>,
        now: Instant,
        life: i64,
        last: u64,
        connection: u64,
        /// Connections up to this are dead.
        dead: u64,
        strands: BTreeMap<Strand, Laid>,
        reading: Option<Strand>,
        /// What is asked, and what was last when it was.
        describing: Option<(Strand, u64, u64)>,
        opening: Option<(Strand, u64, ReadStart)>,
        seeks: bool,
        told: Vec<Told<Number>>,
        answered: u32,
    }

    impl Desk {
        /// Five items are there, and nothing of them is wanted.
        fn new(start: ReadStart) -> Self {
            let found = describe(1, 5);
            let first = match Splice::<Number>::opening(start, found) {
                ReadStart::Sequence(first) => first.0,
                _ => 1,
            };
            let laid = Laid {
                connection: 1,
                next: first,
                arrived: VecDeque::new(),
            };
            Self {
                splice: Splice::new(start, 1, found),
                now: Instant::ZERO,
                life: 1,
                last: 5,
                connection: 1,
                dead: 0,
                strands: BTreeMap::from([(Strand(0), laid)]),
                reading: Some(Strand(0)),
                describing: None,
                opening: None,
                seeks: false,
                told: Vec::new(),
                answered: 0,
            }
        }

        fn tell(&mut self, event: SpliceEvent<Number>) {
            let mut effects = Vec::new();
            self.splice.handle(self.now, event, &mut effects);
            self.perform(effects);
        }

        fn perform(&mut self, effects: Vec<SpliceEffect<Number>>) {
            for effect in effects {
                match effect {
                    SpliceEffect::Describe(strand, connection) => {
                        self.describing = Some((strand, connection, self.last));
                    }
                    SpliceEffect::Open(strand, from) => {
                        self.opening = Some((strand, self.splice.offered, from));
                    }
                    SpliceEffect::Drain { old, new } => {
                        while self.hear(old) {}
                        self.tell(SpliceEvent::Drained(new));
                    }
                    SpliceEffect::Keep(strand) => {
                        self.strands.retain(|kept, _| *kept == strand);
                        self.reading = Some(strand);
                    }
                    SpliceEffect::Tell(told) => self.told.push(told),
                    SpliceEffect::Answered => self.answered += 1,
                    SpliceEffect::Seek => self.seeks = true,
                }
            }
        }

        /// Hears one item of a strand.
        fn hear(&mut self, strand: Strand) -> bool {
            let laid = self.strands.get_mut(&strand);
            let Some(item) = laid.and_then(|laid| laid.arrived.pop_front()) else {
                return false;
            };
            self.tell(SpliceEvent::Told(strand, Told::Item(Number(item))));
            true
        }

        /// Hears one item of the strand that is read, or its end.
        fn read(&mut self) {
            let Some(strand) = self.reading else {
                return;
            };
            let is_dead = self.strands[&strand].connection <= self.dead;
            if !self.hear(strand) && is_dead {
                self.reading = None;
                self.tell(SpliceEvent::Ended(strand));
            }
        }

        /// The server sends each strand its next item.
        fn arrive(&mut self) {
            for laid in self.strands.values_mut() {
                if laid.connection > self.dead && laid.next <= self.last {
                    laid.arrived.push_back(laid.next);
                    laid.next += 1;
                }
            }
        }

        fn described(&mut self, good: bool) {
            if let Some((strand, connection, last)) = self.describing.take() {
                let result = match good && connection > self.dead {
                    // The answer may be older than all that has come meanwhile.
                    true => Ok(describe(self.life, last)),
                    false => Err(WatchError::TimedOut),
                };
                self.tell(SpliceEvent::Described(strand, result));
            }
        }

        fn opened(&mut self, good: bool) {
            let Some((strand, connection, from)) = self.opening.take() else {
                return;
            };
            if !good || connection <= self.dead {
                return self.tell(SpliceEvent::Opened(strand, Err(WatchError::Closed)));
            }
            let next = match from {
                ReadStart::Sequence(first) => first.0,
                _ => 1,
            };
            let arrived = VecDeque::new();
            let laid = Laid {
                connection,
                next,
                arrived,
            };
            self.strands.insert(strand, laid);
            self.tell(SpliceEvent::Opened(strand, Ok(())));
        }

        fn connect(&mut self) {
            self.connection += 1;
            self.tell(SpliceEvent::Offered(self.connection));
        }

        fn seek(&mut self) {
            if std::mem::take(&mut self.seeks) && self.connection > self.dead {
                self.tell(SpliceEvent::Offered(self.connection));
            }
        }

        fn wait(&mut self) {
            if let Some(due) = self.splice.deadline() {
                self.now = due;
                let mut effects = Vec::new();
                self.splice.on_deadline(due, &mut effects);
                self.perform(effects);
            }
        }

        /// All goes well from now on.
        fn settle(&mut self) {
            self.connect();
            for _ in 0..400 {
                self.described(true);
                self.opened(true);
                self.seek();
                self.wait();
                self.arrive();
                self.read();
            }
        }

        fn items(&self) -> Vec<u64> {
            let items = self.told.iter().filter_map(|told| match told {
                Told::Item(Number(item)) => Some(*item),
                _ => None,
            });
            items.collect()
        }
    }

    fn describe(life: i64, last: u64) -> Description {
        Description {
            is_likely: true,
            has_copies: false,
            created: UnixTime::from_secs(life),
            first: Sequence(1),
            last: Sequence(last),
        }
    }

    #[test]
    fn a_swap_that_goes_well_is_not_told() {
        let mut desk = Desk::new(ReadStart::New);
        desk.last = 8;
        desk.arrive();
        desk.connect();
        desk.described(true);
        desk.arrive();
        desk.opened(true);
        assert_eq!(desk.answered, 1);
        assert_eq!(desk.items(), [6, 7], "what the old one had brought");
        desk.dead = 1;
        for _ in 0..3 {
            desk.arrive();
            desk.read();
        }
        assert_eq!(desk.items(), [6, 7, 8]);
        assert!(desk.told.iter().all(|told| matches!(told, Told::Item(_))));
    }

    #[test]
    fn nothing_told_yet_does_not_mean_that_it_begins_anew() {
        let mut desk = Desk::new(ReadStart::New);
        desk.connect();
        desk.last = 6;
        desk.described(true);
        desk.opened(true);
        desk.arrive();
        desk.read();
        assert_eq!(desk.items(), [6]);
    }

    #[test]
    fn a_description_that_is_older_than_what_came_is_no_loss() {
        let mut desk = Desk::new(ReadStart::New);
        desk.connect();
        desk.last = 6;
        desk.arrive();
        desk.read();
        desk.settle();
        assert_eq!(desk.told, [Told::Item(Number(6))]);
    }

    #[test]
    fn a_stream_of_another_life_is_told_from_its_beginning() {
        let mut desk = Desk::new(ReadStart::New);
        (desk.life, desk.last) = (2, 2);
        desk.settle();
        let same = false;
        let first_held = Sequence(1);
        let wanted = [
            Told::Interrupted(InterruptCause::Gap),
            Told::Resumed { same, first_held },
            Told::Item(Number(1)),
            Told::Item(Number(2)),
        ];
        assert_eq!(desk.told, wanted);
    }

    #[test]
    fn a_server_that_is_behind_has_lost_nothing() {
        let mut desk = Desk::new(ReadStart::New);
        desk.last = 6;
        desk.arrive();
        desk.read();
        desk.connect();
        let (strand, ..) = desk.describing.take().expect("it is asked for");
        let behind = Description {
            is_likely: false,
            ..describe(1, 5)
        };
        desk.tell(SpliceEvent::Described(strand, Ok(behind)));
        assert_eq!((desk.opening, desk.answered), (None, 1));
        desk.settle();
        assert_eq!(desk.told, [Told::Item(Number(6))]);
    }

    #[test]
    fn a_lost_connection_is_told_and_what_was_missed_follows() {
        let mut desk = Desk::new(ReadStart::New);
        desk.dead = 1;
        desk.read();
        desk.last = 7;
        desk.settle();
        let (same, first_held) = (true, Sequence(1));
        let wanted = [
            Told::Interrupted(InterruptCause::Disconnected),
            Told::Resumed { same, first_held },
            Told::Item(Number(6)),
            Told::Item(Number(7)),
        ];
        assert_eq!(desk.told, wanted);
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Append,
        Arrive,
        Read,
        Described(bool),
        Opened(bool),
        Connect,
        /// All connections but the newest die; or that too.
        Die(bool),
        Seek,
        Wait,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            4 => Just(Act::Append),
            6 => Just(Act::Arrive),
            6 => Just(Act::Read),
            4 => (0_u8..4).prop_map(|good| Act::Described(good > 0)),
            4 => (0_u8..4).prop_map(|good| Act::Opened(good > 0)),
            3 => Just(Act::Connect),
            2 => (0_u8..3).prop_map(|all| Act::Die(all == 0)),
            2 => Just(Act::Seek),
            2 => Just(Act::Wait),
        ];
        proptest::collection::vec(act, 0..150)
    }

    proptest! {
        /// However connections come and go, each item is told once and in turn, nothing is told between an interruption
        /// and its end, and in the end all has been told.
        #[test]
        fn each_item_is_told_once_and_in_turn(acts in acts(), is_new in any::<bool>()) {
            let mut desk = Desk::new(if is_new { ReadStart::New } else { ReadStart::All });
            for act in acts {
                match act {
                    Act::Append => desk.last += 1,
                    Act::Arrive => desk.arrive(),
                    Act::Read => desk.read(),
                    Act::Described(good) => desk.described(good),
                    Act::Opened(good) => desk.opened(good),
                    Act::Connect => desk.connect(),
                    Act::Die(all) => desk.dead = desk.connection - u64::from(!all),
                    Act::Seek => desk.seek(),
                    Act::Wait => desk.wait(),
                }
            }
            desk.settle();
            let first = if is_new { 6 } else { 1 };
            prop_assert_eq!(desk.items(), (first..=desk.last).collect::<Vec<u64>>());
            let mut is_interrupted = false;
            for told in &desk.told {
                match told {
                    Told::Interrupted(_) => is_interrupted = true,
                    Told::Resumed { .. } => {
                        prop_assert!(is_interrupted);
                        is_interrupted = false;
                    }
                    _ => prop_assert!(!is_interrupted, "told while interrupted"),
                }
            }
        }
    }
}
