//! The decision core of an acquisition: when to look, when to write, when to wait, and what became of a write whose answer
//! was lost.
//!
//! It writes only over a record that is free, or that it has seen stand still for longer than its life; that is all the
//! exclusion needs. Everything else is order among those who wait: the turns of a queue, so that a release does not wake a
//! herd. Invariants: at most one write of an acquisition can still take effect, and only over [`Unresolved::over`]; whoever
//! fails has named that record for [`settle`](ContenderEffect::Settle), after which it never can.

use std::sync::Arc;
use std::time::Duration;

use super::AcquireError;
pub(super) use super::contending::{Acquired, Before, ContenderEffect, ContenderEvent};
use super::record::{Sight, Stamp, is_of};
use crate::machine::Machine;
use crate::time::Instant;
use crate::transport::{Fallible, KvEntry, Outcome, ReadError, Revision, UpdateError, WriteError};

/// Others may take the place between a look and a write; after so many rounds they mean it.
const ROUNDS_MAX: u32 = 8;
/// Looks in a row that may be those of a replica that is behind, one every [`RETRY`].
const BEHIND_MAX: u32 = 8;
/// What has failed for now is tried again after so long.
const RETRY: Duration = Duration::from_millis(500);
/// Who is next in the queue comes at once, and everybody after it so much later than the one before.
pub(super) const TURN: Duration = Duration::from_millis(100);
/// Nobody comes later than the one who has so many before it, however many more there are.
const TURNS_MAX: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Looking,
    Writing {
        over: Revision,
    },
    /// Somebody else holds it. Looks again at this time, if at one.
    Waiting {
        look: Option<Instant>,
    },
    /// Something went wrong: looks again at this time, and does nothing before.
    Retrying {
        at: Instant,
    },
    /// It is free: our turn comes then.
    Turn {
        /// Since when, and the turn of the first in the queue.
        since: Instant,
        at: Instant,
        over: Revision,
    },
    Over,
}

/// A write that may have happened, or may yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unresolved {
    over: Revision,
    /// When the first of those left that may have been stored; `None`: longer ago than can be told.
    sent: Option<Stamp>,
    error: WriteError,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Contender {
    id: Arc<str>,
    ttl: Duration,
    /// Until when it waits; `None`: not at all.
    until: Option<Instant>,
    state: State,
    /// Counts the looks.
    number: u64,
    /// Tries since the lock was last seen in other hands.
    rounds: u32,
    sight: Option<Sight>,
    unresolved: Option<Unresolved>,
    sees: Sees,
    /// The newest revision under which the lock was seen to be free over this connection.
    free: Revision,
    /// Our place in the queue, once we have been there.
    place: Option<Arc<str>>,
    /// Whether others know of it, as far as we do.
    has_ticket: bool,
    ahead: Vec<Before>,
    /// Who had a turn before ours and did not come.
    passed: Vec<Before>,
    is_down: bool,
    /// Looks in a row that showed less than was there when it was written.
    behind: u32,
}

/// Whether it would be told that the lock is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    NotYet,
    Soon,
    All,
    Nothing,
}

impl Contender {
    /// An acquisition of this name; `sight` is what is known of another's record. Begins with a look.
    pub(super) fn new(
        id: Arc<str>,
        ttl: Duration,
        until: Option<Instant>,
        sight: Option<Sight>,
        effects: &mut Vec<ContenderEffect>,
    ) -> Self {
        let mut contender = Self {
            id,
            ttl,
            until,
            state: State::Looking,
            number: 0,
            rounds: 0,
            sight,
            unresolved: None,
            sees: Sees::NotYet,
            free: Revision::NONE,
            place: None,
            has_ticket: false,
            ahead: Vec::new(),
            passed: Vec::new(),
            is_down: false,
            behind: 0,
        };
        contender.look(effects);
        contender
    }

    /// What is known of another's record, for the next acquisition.
    pub(super) fn into_sight(self) -> Option<Sight> {
        self.sight
    }

    fn look(&mut self, effects: &mut Vec<ContenderEffect>) {
        self.number += 1;
        self.state = State::Looking;
        effects.push(ContenderEffect::Look {
            number: self.number,
        });
    }

    fn write(&mut self, over: Revision, effects: &mut Vec<ContenderEffect>) {
        if self.is_down {
            // A client would keep it until it is connected again, to a server that has lost its power perhaps, where that
            // revision is another's record by then. We look first.
            self.state = State::Waiting { look: None };
            if self.until.is_none() {
                self.fail(AcquireError::Read(ReadError::TimedOut), effects);
            }
            return;
        }
        self.state = State::Writing { over };
        let places = self.passed.iter().rev().take(TURNS_MAX);
        let places = places.map(|before| Arc::clone(&before.place));
        effects.push(ContenderEffect::Write {
            over,
            passed: places.collect(),
        });
    }

    /// Whoever was before us has had its turn.
    fn write_in_turn(&mut self, over: Revision, effects: &mut Vec<ContenderEffect>) {
        self.pass(TURNS_MAX);
        self.write(over, effects);
    }

    /// So many turns before ours are over, and nobody has come.
    fn pass(&mut self, turns: usize) {
        let turns = turns.min(self.ahead.len());
        self.passed.extend(self.ahead.drain(..turns));
    }

    /// So much later than the first in the queue.
    fn delay(&self) -> Duration {
        let turns = self.ahead.len().min(TURNS_MAX);
        TURN.saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX))
    }

    /// The record that may be taken over by now. What was read just now may be another: then the write is refused, and the
    /// other is seen for the first time.
    fn due(&self, now: Instant) -> Option<Revision> {
        self.takeover().filter(|at| *at <= now)?;
        Some(self.sight.as_ref()?.revision)
    }

    /// When the other's record may be taken over.
    fn takeover(&self) -> Option<Instant> {
        let sight = self.sight.as_ref()?;
        Some(sight.ends() + self.delay())
    }

    fn fail(&mut self, error: AcquireError, effects: &mut Vec<ContenderEffect>) {
        let under_way = match self.state {
            State::Writing { over } => Some(over),
            _ => None,
        };
        let unresolved = self.unresolved.take().map(|unresolved| unresolved.over);
        if let Some(over) = under_way.or(unresolved) {
            let seen = self.sight.clone();
            let seen = seen.filter(|sight| sight.revision == over);
            effects.push(ContenderEffect::Settle { over, seen });
        }
        self.state = State::Over;
        effects.push(ContenderEffect::Failed(error));
    }

    /// Stops waiting.
    fn give_up(&mut self, effects: &mut Vec<ContenderEffect>) {
        let error = match (&self.unresolved, self.state) {
            (Some(unresolved), _) => AcquireError::Write(unresolved.error.clone()),
            (None, State::Writing { .. }) => AcquireError::Expired,
            _ if self.sight.is_some() || self.rounds > 0 => AcquireError::Held,
            _ => AcquireError::Read(ReadError::TimedOut),
        };
        self.fail(error, effects);
    }

    /// Something went wrong that may be better later.
    fn retry(&mut self, now: Instant, error: AcquireError, effects: &mut Vec<ContenderEffect>) {
        let is_final = match &error {
            AcquireError::Read(error) => {
                matches!(error, ReadError::Closed | ReadError::InvalidKey(_))
            }
            AcquireError::Write(error) => matches!(
                error,
                WriteError::Closed
                    | WriteError::ClosedWhileWaiting
                    | WriteError::InvalidKey(_)
                    | WriteError::TooLarge { .. }
            ),
            _ => false,
        };
        if self.until.is_none() || is_final {
            self.fail(error, effects);
        } else {
            self.state = State::Retrying { at: now + RETRY };
        }
    }

    fn acquired(&mut self, revision: Revision, sent: Stamp, effects: &mut Vec<ContenderEffect>) {
        self.state = State::Over;
        self.unresolved = None;
        let passed = std::mem::take(&mut self.passed);
        effects.push(ContenderEffect::Acquired(Acquired {
            revision,
            sent,
            passed,
        }));
    }

    /// A record of one's own is there, of a write whose answer is lost or was late, which left then.
    fn found(
        &mut self,
        revision: Revision,
        sent: Option<Stamp>,
        now: Stamp,
        effects: &mut Vec<ContenderEffect>,
    ) {
        if let Some(sent) = sent
            && !sent.is_over(now, self.ttl)
        {
            return self.acquired(revision, sent, effects);
        }
        self.resolve(revision);
        // It is not to be relied on any more, and there until somebody takes it over: why not we.
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX && self.until.is_none() {
            let (over, seen) = (revision, None);
            effects.push(ContenderEffect::Settle { over, seen });
            return self.fail(AcquireError::Expired, effects);
        }
        if self.is_down && self.unresolved.is_none() {
            // Nothing takes its place now, and it must not be forgotten.
            self.unresolved = Some(Unresolved {
                over: revision,
                sent: None,
                error: WriteError::TimedOut,
            });
        }
        self.write(revision, effects);
    }

    /// When the write left that has stored this record of one's own, if it is the one whose answer was lost.
    fn sent(&self, revision: Revision) -> Option<Stamp> {
        let unresolved = self.unresolved.as_ref();
        unresolved
            .filter(|unresolved| revision > unresolved.over)?
            .sent
    }

    /// What a record proves of the write that may have happened: over another revision it never can.
    fn resolve(&mut self, latest: Revision) {
        self.unresolved
            .take_if(|unresolved| latest > unresolved.over);
    }

    /// Somebody else's record.
    fn held(&mut self, now: Instant, entry: &KvEntry) {
        self.resolve(entry.revision);
        let sight = Sight::of(entry, now, self.ttl);
        // Who has come is not waited for any more, nor who did not when it was its turn. Whoever else was before them may
        // have come a moment too late, and has its turn still.
        let is_over =
            |place: &Arc<str>| sight.place.as_ref() == Some(place) || sight.passed.contains(place);
        self.ahead.retain(|before| !is_over(&before.place));
        self.passed.retain(|before| !is_over(&before.place));
        // What was read may be older than what the watch has told.
        let known = self.sight.as_ref();
        if !known.is_some_and(|known| known.covers(&sight)) {
            // Where we are named our ticket is taken away, and we are here.
            let own = self.place.as_ref();
            self.has_ticket &= !own.is_some_and(|own| sight.passed.contains(own));
            self.sight = Some(sight);
        }
    }

    fn looked(&mut self, now: Stamp, entry: Option<KvEntry>, effects: &mut Vec<ContenderEffect>) {
        let latest = entry
            .as_ref()
            .map_or(Revision::NONE, |entry| entry.revision);
        let entry = entry.filter(|entry| entry.operation.is_put());
        if let Some(entry) = &entry
            && is_of(entry, &self.id)
        {
            let sent = self.sent(entry.revision);
            return self.found(entry.revision, sent, now, effects);
        }
        // What the watch has told since is newer than what was read.
        if latest < self.free {
            return self.write(self.free, effects);
        }
        self.resolve(latest);
        if let Some(Unresolved { over, error, .. }) = self.unresolved.clone() {
            self.behind = if latest < over { self.behind + 1 } else { 0 };
            // For longer no replica is behind: the server has lost its power, and what was there with it.
            if self.until.is_none() || (1..=BEHIND_MAX).contains(&self.behind) {
                // Still on its way, perhaps; or this was read from a replica that is behind.
                return self.retry(now.at, AcquireError::Write(error), effects);
            }
        }
        let Some(entry) = entry else {
            self.sight = None;
            // Nobody else's, or still what our own unresolved write goes over: then once more over the same.
            return self.write(latest, effects);
        };
        self.held(now.at, &entry);
        if let Some(over) = self.due(now.at) {
            self.write_in_turn(over, effects);
        } else if self.until.is_none() {
            self.fail(AcquireError::Held, effects);
        } else {
            self.wait(now.at, effects);
        }
    }

    fn wait(&mut self, now: Instant, effects: &mut Vec<ContenderEffect>) {
        self.rounds = 0;
        // Who is told nothing must ask.
        let look = (self.sees == Sees::Nothing).then(|| now + RETRY);
        self.state = State::Waiting { look };
        if self.sees == Sees::NotYet || (self.sees == Sees::All && !self.has_ticket) {
            self.queue(effects);
        }
    }

    fn queue(&mut self, effects: &mut Vec<ContenderEffect>) {
        self.sees = Sees::Soon;
        effects.push(ContenderEffect::Queue {
            wants_ticket: !self.has_ticket,
        });
    }

    fn sees(&mut self, is_watching: bool, now: Instant) {
        self.sees = if is_watching {
            Sees::All
        } else {
            Sees::Nothing
        };
        if let State::Waiting { look: look @ None } = &mut self.state
            && !is_watching
        {
            *look = Some(now + RETRY);
        }
    }

    fn written(
        &mut self,
        (sent, answered): (Stamp, Stamp),
        result: Result<Revision, UpdateError>,
        effects: &mut Vec<ContenderEffect>,
    ) {
        let State::Writing { over } = self.state else {
            // Given up meanwhile: it is settled.
            return;
        };
        match result {
            Ok(revision) => self.found(revision, Some(sent), answered, effects),
            Err(UpdateError::WrongRevision { .. }) => {
                // What was known is no more: also where a bucket has been made anew, and revisions are lower now.
                (self.sight, self.free) = (None, Revision::NONE);
                self.rounds += 1;
                if self.rounds <= ROUNDS_MAX {
                    self.look(effects);
                } else {
                    self.retry(answered.at, AcquireError::Held, effects);
                }
            }
            Err(UpdateError::Write(error)) => {
                if error.outcome() == Outcome::Refused {
                    return self.retry(answered.at, AcquireError::Write(error), effects);
                }
                let first = self.unresolved.take().map(|unresolved| unresolved.sent);
                self.unresolved = Some(Unresolved {
                    over,
                    sent: first.unwrap_or(Some(sent)),
                    error,
                });
                self.look(effects);
            }
        }
    }

    fn seen(&mut self, now: Stamp, entry: &KvEntry, effects: &mut Vec<ContenderEffect>) {
        let is_idle = matches!(self.state, State::Waiting { .. } | State::Turn { .. });
        if is_of(entry, &self.id) {
            if is_idle && self.unresolved.is_some() {
                let sent = self.sent(entry.revision);
                self.found(entry.revision, sent, now, effects);
            }
        } else if entry.operation.is_put() {
            if let State::Turn { since, .. } = self.state {
                // Whoever took it did not wait for its turn.
                let turns = now.at.since(since).as_nanos() / TURN.as_nanos();
                self.pass(usize::try_from(turns).unwrap_or(usize::MAX));
            }
            self.held(now.at, entry);
            if is_idle {
                self.wait(now.at, effects);
            }
        } else {
            self.resolve(entry.revision);
            let over = entry.revision;
            self.free = over;
            match &mut self.state {
                State::Waiting { .. } => {
                    let at = now.at + self.delay();
                    let since = now.at;
                    self.state = State::Turn { since, at, over };
                }
                State::Turn { over: known, .. } => *known = over,
                State::Retrying { .. } | State::Looking | State::Writing { .. } | State::Over => {}
            }
        }
    }
}

impl Machine for Contender {
    type Event = (Stamp, ContenderEvent);
    type Effect = ContenderEffect;

    fn handle(
        &mut self,
        _now: Instant,
        (now, event): Self::Event,
        effects: &mut Vec<ContenderEffect>,
    ) {
        if self.state == State::Over {
            return;
        }
        match event {
            ContenderEvent::Looked { number, result } => {
                if number != self.number || self.state != State::Looking {
                    return;
                }
                match (result, self.unresolved.clone()) {
                    (Ok(entry), _) => self.looked(now, entry, effects),
                    (Err(_), Some(Unresolved { error, .. })) => {
                        self.retry(now.at, AcquireError::Write(error), effects);
                    }
                    (Err(error), None) => self.retry(now.at, AcquireError::Read(error), effects),
                }
            }
            ContenderEvent::Written { sent, result } => self.written((sent, now), result, effects),
            ContenderEvent::Queued {
                place,
                has_ticket,
                ahead,
                watches,
            } => {
                (self.place, self.has_ticket, self.ahead) = (Some(place), has_ticket, ahead);
                // Who has come back since has another ticket.
                let passed = &self.passed;
                self.ahead.retain(|before| !passed.contains(before));
                self.sees(watches, now.at);
            }
            ContenderEvent::Seen(entry) => self.seen(now, &entry, effects),
            ContenderEvent::Blind => self.sees(false, now.at),
            ContenderEvent::Disconnected => self.is_down = true,
            ContenderEvent::Reconnected => {
                self.is_down = false;
                // A server that has lost its power gives that revision out again.
                self.free = Revision::NONE;
                // Our turn may have come and gone.
                self.has_ticket = false;
                // An answer to what was asked before may never come; and what was seen before may be another's by now.
                if !matches!(self.state, State::Writing { .. }) {
                    self.look(effects);
                }
            }
            ContenderEvent::Abandoned => self.give_up(effects),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let next = match self.state {
            State::Over => return None,
            // Until it is up again.
            _ if self.is_down => None,
            State::Turn { at, .. } | State::Retrying { at } => Some(at),
            State::Waiting { look } => look.into_iter().chain(self.takeover()).min(),
            State::Looking | State::Writing { .. } => None,
        };
        self.until.into_iter().chain(next).min()
    }

    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<ContenderEffect>) {
        if self.until.is_some_and(|until| until <= now) {
            return self.give_up(effects);
        }
        match self.state {
            State::Turn { at, over, .. } if at <= now => self.write_in_turn(over, effects),
            State::Retrying { at } if at <= now => self.look(effects),
            State::Waiting { look: Some(look) } if look <= now => {
                if self.sees == Sees::Nothing {
                    self.queue(effects);
                }
                self.look(effects);
            }
            State::Waiting { .. } => {
                if let Some(over) = self.due(now) {
                    self.write_in_turn(over, effects);
                }
            }
            State::Turn { .. }
            | State::Retrying { .. }
            | State::Looking
            | State::Writing { .. }
            | State::Over => {}
        }
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Looking => "looking",
            State::Writing { .. } => "writing",
            State::Waiting { .. } => "waiting",
            State::Retrying { .. } => "retrying",
            State::Turn { .. } => "in turn",
            State::Over => "over",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::*;
    use crate::time::UnixTime;
    use crate::transport::Operation;

    const TTL: Duration = Duration::from_secs(4);

    fn at(seconds: u64) -> Stamp {
        Stamp {
            at: Instant::ZERO + Duration::from_secs(seconds),
            wall: UnixTime::EPOCH + Duration::from_secs(seconds),
        }
    }

    /// Writes over this revision, and has waited for nobody.
    fn write(over: u64) -> ContenderEffect {
        ContenderEffect::Write {
            over: Revision(over),
            passed: Vec::new(),
        }
    }

    fn others(revision: u64) -> KvEntry {
        KvEntry {
            key: "l.a".into(),
            value: Record::new(&"other".into(), TTL, None, 0).encode(),
            revision: Revision(revision),
            operation: Operation::Put,
            created: UnixTime::EPOCH,
        }
    }

    /// A server that has lost its power gives revisions out again: what was seen long ago says nothing of a record that
    /// has a lower one.
    #[test]
    fn a_record_is_not_taken_over_for_what_was_seen_of_another() {
        let sight = Sight::of(&others(48), at(0).at, TTL);
        let mut effects = Vec::new();
        let mut contender = Contender::new("own".into(), TTL, None, Some(sight), &mut effects);
        let hear = |contender: &mut Contender, event| {
            let mut effects = Vec::new();
            contender.handle(at(100).at, (at(100), event), &mut effects);
            effects
        };
        let looked = |number| ContenderEvent::Looked {
            number,
            result: Ok(Some(others(14))),
        };
        let tries = hear(&mut contender, looked(1));
        assert_eq!(tries, [write(48)]);
        let refused = ContenderEvent::Written {
            sent: at(100),
            result: Err(UpdateError::WrongRevision {
                actual: Revision(14),
            }),
        };
        let looks = hear(&mut contender, refused);
        assert_eq!(looks, [ContenderEffect::Look { number: 2 }]);
        let fails = hear(&mut contender, looked(2));
        assert_eq!(fails, [ContenderEffect::Failed(AcquireError::Held)]);
    }

    fn looked(number: u64, entry: KvEntry) -> ContenderEvent {
        ContenderEvent::Looked {
            number,
            result: Ok(Some(entry)),
        }
    }

    /// One that waits for what another holds under revision 5, behind `ahead`.
    fn waiting(
        ahead: &[&str],
    ) -> (
        Contender,
        impl Fn(&mut Contender, u64, ContenderEvent) -> Vec<ContenderEffect>,
    ) {
        let mut effects = Vec::new();
        let until = Some(at(1000).at);
        let mut contender = Contender::new("own".into(), TTL, until, None, &mut effects);
        let hear = |contender: &mut Contender, now, event| {
            let mut effects = Vec::new();
            contender.handle(at(now).at, (at(now), event), &mut effects);
            effects
        };
        let queues = hear(&mut contender, 0, looked(1, others(5)));
        assert_eq!(queues, [ContenderEffect::Queue { wants_ticket: true }]);
        let queued = ContenderEvent::Queued {
            place: "own".into(),
            has_ticket: true,
            ahead: ahead.iter().copied().map(before).collect(),
            watches: true,
        };
        assert_eq!(hear(&mut contender, 0, queued), []);
        (contender, hear)
    }

    fn before(place: &str) -> Before {
        Before {
            place: place.into(),
            ticket: Revision(1),
        }
    }

    /// The record of one whose place this is, and who has waited in vain for those.
    fn of_place(place: &str, passed: &[&str], revision: u64) -> KvEntry {
        let mut record = Record::new(&"other".into(), TTL, None, 0);
        record.place = Some(place.into());
        record.passed = passed.iter().map(|place| Arc::from(*place)).collect();
        KvEntry {
            value: record.encode(),
            ..others(revision)
        }
    }

    fn freed(revision: u64) -> KvEntry {
        KvEntry {
            operation: Operation::Delete,
            ..others(revision)
        }
    }

    #[test]
    fn who_was_waited_for_in_vain_is_not_waited_for_again() {
        let (mut contender, hear) = waiting(&["dead", "late", "b", "c"]);
        let sees = |contender: &mut Contender, entry| {
            hear(contender, 1, ContenderEvent::Seen(entry));
            let places = contender.ahead.iter().map(|before| &*before.place);
            places.collect::<Vec<_>>().join(" ")
        };
        let left = sees(&mut contender, of_place("b", &["dead"], 6));
        assert_eq!(left, "late c", "b has come, and had not waited for late");
        let left = sees(&mut contender, of_place("behind", &[], 7));
        assert_eq!(left, "late c", "one that has waited for nobody");
        assert_eq!(sees(&mut contender, of_place("late", &[], 8)), "c");
        hear(&mut contender, 3, ContenderEvent::Seen(freed(9)));
        assert_eq!(contender.deadline(), Some(at(3).at + TURN));
        let mut effects = Vec::new();
        contender.on_deadline(at(4).at, &mut effects);
        let (over, passed) = (Revision(9), vec!["c".into()]);
        assert_eq!(effects, [ContenderEffect::Write { over, passed }]);
        let written = ContenderEvent::Written {
            sent: at(4),
            result: Ok(Revision(10)),
        };
        let acquired = ContenderEffect::Acquired(Acquired {
            revision: Revision(10),
            sent: at(4),
            passed: vec![before("c")],
        });
        assert_eq!(hear(&mut contender, 4, written), [acquired]);
    }

    /// Where somebody takes it out of turn each time, nobody's turn may come before that.
    #[test]
    fn whose_turn_is_over_is_not_waited_for_the_next_time() {
        let (mut contender, hear) = waiting(&["dead", "gone", "c"]);
        hear(&mut contender, 3, ContenderEvent::Seen(freed(6)));
        let mut later = at(3);
        later.at += TURN * 2;
        let taken = (later, ContenderEvent::Seen(of_place("fast", &[], 7)));
        contender.handle(later.at, taken, &mut Vec::new());
        assert_eq!(contender.ahead, [before("c")]);
        let queued = ContenderEvent::Queued {
            place: "own".into(),
            has_ticket: true,
            ahead: ["dead", "gone", "c"].map(before).into(),
            watches: true,
        };
        hear(&mut contender, 4, queued);
        assert_eq!(contender.ahead, [before("c")], "of the same tickets");
    }

    /// Or it would lose against everybody who comes, one after the other.
    #[test]
    fn who_is_passed_over_and_there_takes_another_ticket() {
        let (mut contender, hear) = waiting(&[]);
        let seen = ContenderEvent::Seen(of_place("b", &["own"], 6));
        let queues = hear(&mut contender, 1, seen);
        assert_eq!(queues, [ContenderEffect::Queue { wants_ticket: true }]);
    }

    /// Its turn may have come and gone meanwhile, and its ticket with it.
    #[test]
    fn who_is_connected_again_takes_another_ticket() {
        let (mut contender, hear) = waiting(&[]);
        hear(&mut contender, 1, ContenderEvent::Disconnected);
        hear(&mut contender, 2, ContenderEvent::Reconnected);
        let queues = hear(&mut contender, 2, looked(2, others(6)));
        assert_eq!(queues, [ContenderEffect::Queue { wants_ticket: true }]);
    }

    /// Its life is over all the time, and that is no reason to hurry.
    #[test]
    fn a_write_that_is_refused_is_not_tried_again_at_once() {
        let (mut contender, hear) = waiting(&[]);
        let mut effects = Vec::new();
        contender.on_deadline(at(5).at, &mut effects);
        assert_eq!(effects.len(), 1);
        let refused = ContenderEvent::Written {
            sent: at(5),
            result: Err(UpdateError::Write(WriteError::NoBucket)),
        };
        assert_eq!(hear(&mut contender, 5, refused), []);
        assert_eq!(contender.deadline(), Some(at(5).at + RETRY));
    }

    /// A write that waits for a connection may find another's record under its revision, where the power was lost.
    #[test]
    fn nothing_is_written_while_the_connection_is_down() {
        let (mut contender, hear) = waiting(&[]);
        hear(&mut contender, 1, ContenderEvent::Disconnected);
        assert_eq!(contender.deadline(), Some(at(1000).at));
        let mut effects = Vec::new();
        contender.on_deadline(at(100).at, &mut effects);
        assert_eq!(effects, [], "though its life is over");
        let looks = hear(&mut contender, 101, ContenderEvent::Reconnected);
        assert_eq!(looks, [ContenderEffect::Look { number: 2 }]);
        let writes = hear(&mut contender, 101, looked(2, others(5)));
        assert_eq!(writes, [write(5)]);
    }

    /// A server that has lost its power gives the revision out again under which the lock was free: to another's record.
    #[test]
    fn what_was_free_before_a_reconnect_is_not_written_over() {
        let (mut contender, hear) = waiting(&[]);
        hear(&mut contender, 1, ContenderEvent::Seen(freed(9)));
        hear(&mut contender, 1, ContenderEvent::Seen(others(10)));
        hear(&mut contender, 2, ContenderEvent::Disconnected);
        hear(&mut contender, 3, ContenderEvent::Reconnected);
        hear(&mut contender, 3, looked(2, others(5)));
        assert!(matches!(contender.state, State::Waiting { .. }));
    }

    /// What was written over is gone with the power of the server: then it does not wait for ever to be there again.
    #[test]
    fn a_write_that_was_lost_with_the_power_is_not_waited_for() {
        let (mut contender, hear) = waiting(&[]);
        let mut effects = Vec::new();
        contender.on_deadline(at(5).at, &mut effects);
        let unanswered = ContenderEvent::Written {
            sent: at(5),
            result: Err(UpdateError::Write(WriteError::TimedOut)),
        };
        assert_eq!(
            hear(&mut contender, 10, unanswered),
            [ContenderEffect::Look { number: 2 }]
        );
        let freed = freed(3);
        let mut looks = 0;
        let wrote = loop {
            let number = contender.number;
            let effects = hear(&mut contender, 11 + looks, looked(number, freed.clone()));
            if let [ContenderEffect::Write { over, .. }] = *effects {
                break over;
            }
            looks += 1;
            let mut effects = Vec::new();
            contender.on_deadline(at(11 + looks).at, &mut effects);
            assert_eq!(effects, [ContenderEffect::Look { number: number + 1 }]);
        };
        assert_eq!((wrote, looks), (Revision(3), u64::from(BEHIND_MAX)));
    }
}
