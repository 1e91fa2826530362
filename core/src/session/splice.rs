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
    Describing,
    Opening { same: bool, found: Description },
    Draining { same: bool, found: Description },
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
        self.next = Some((strand, self.offered, Stage::Describing));
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
                let Some((laid, connection, Stage::Describing)) = self.next else {
                    return;
                };
                if laid != strand {
                    return;
                }
                match result {
                    Ok(found) => {
                        // A stream that was deleted and created anew, or has lost its tail, gives sequences out again.
                        let same = self.created.is_none_or(|created| created == found.created)
                            && found.last >= self.newest;
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
}
