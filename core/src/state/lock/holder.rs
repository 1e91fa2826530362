//! The decision core of a lock that is held: until when it can be relied on, when to renew, and how it is let go.
//!
//! It can be relied on for its life from the moment its last acknowledged write was handed over, by the clocks of the
//! holder's own node: nobody else takes it over before that (see `mod.rs`). Once told lost it stays lost, whatever comes
//! later. Invariants: every write goes over the revision of this very acquisition; a renewal that comes too late is undone;
//! after a connection was lost the record is looked at before it is written, because a server that has lost its power may
//! have given its revision out again, to another's.

use std::time::Duration;

use super::record::{Stamp, is_of};
use super::{LostReason, RefreshError, UnlockError};
use crate::machine::Machine;
use crate::time::Instant;
use crate::transport::{Fallible, KvEntry, Outcome, ReadError, Revision, UpdateError, WriteError};

/// A lock that renews itself does so after this part of its life, and again after half of that where it failed.
const KEEP_PART: u32 = 3;
/// How often both clocks are compared, in parts of the life: a machine that slept is noticed so late at most.
const TICK_PART: u32 = 8;
const TICK_MIN: Duration = Duration::from_millis(10);
pub(super) const TICK_MAX: Duration = Duration::from_secs(1);
/// Rounds of one operation that are each answered by a record of one's own that is newer; there are no more than writes
/// whose answers were lost.
const ROUNDS_MAX: u32 = 4;

/// What a [`Holder`] hears.
#[derive(Clone, Debug)]
pub(super) enum HolderEvent {
    /// Renew.
    Refresh,
    /// Renew by itself from now on.
    Keep,
    /// Let go; or nobody wants it any more.
    Unlock,
    /// The connection is down, or was.
    Disconnected,
    /// It is up again.
    Reconnected,
    /// The clocks, as asked for.
    Clock,
    /// The record was read.
    Looked(Result<Option<KvEntry>, ReadError>),
    /// It was written.
    Written {
        sent: Stamp,
        result: Result<Revision, UpdateError>,
    },
    /// It was deleted.
    Deleted(Result<Revision, UpdateError>),
}

/// What a [`Holder`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HolderEffect {
    Look,
    Write {
        over: Revision,
    },
    Delete {
        over: Revision,
    },
    /// Answer with [`HolderEvent::Clock`].
    ReadClock,
    /// It can be relied on for its life from then on.
    Renewed {
        sent: Stamp,
    },
    /// It can be relied on no more. Told once.
    Lost(LostReason),
    /// Answers every refresh that was asked for.
    Refreshed(Result<(), RefreshError>),
    /// Answers the unlocking. The machine is over.
    Unlocked(Result<(), UnlockError>),
    /// See to it that no record of this acquisition remains.
    Settle {
        over: Revision,
    },
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    /// Reading, to write or to delete next.
    Looking,
    Writing,
    Deleting,
    Over,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Holder {
    id: std::sync::Arc<str>,
    ttl: Duration,
    over: Revision,
    sent: Stamp,
    /// Until then it can be relied on, as both clocks said when they were read last.
    ends: Instant,
    lost: Option<LostReason>,
    /// Whether the record must be looked at before it is written.
    unsure: bool,
    doing: Doing,
    rounds: u32,
    /// A delete whose answer was lost.
    undecided: Option<WriteError>,
    wants_refresh: bool,
    wants_unlock: bool,
    /// When it renews by itself next, if it does.
    keep: Option<Instant>,
    tick: Instant,
}

impl Holder {
    /// Holds what was acquired as revision `over` by a write that was handed over at `sent`.
    pub(super) fn new(id: std::sync::Arc<str>, ttl: Duration, over: Revision, sent: Stamp) -> Self {
        let mut holder = Self {
            id,
            ttl,
            over,
            sent,
            ends: sent.at + ttl,
            lost: None,
            unsure: false,
            doing: Doing::Nothing,
            rounds: 0,
            undecided: None,
            wants_refresh: false,
            wants_unlock: false,
            keep: None,
            tick: sent.at,
        };
        holder.tick = holder.next_tick(sent.at);
        holder
    }

    /// The connection has been down: the record must be looked at before it is touched.
    pub(super) fn disturb(&mut self) {
        self.unsure = true;
    }

    fn next_tick(&self, now: Instant) -> Instant {
        now + (self.ttl / TICK_PART).clamp(TICK_MIN, TICK_MAX)
    }

    fn lose(&mut self, reason: LostReason, effects: &mut Vec<HolderEffect>) {
        self.keep = None;
        // That somebody has it says more than that it is over.
        if self.lost.is_none() {
            effects.push(HolderEffect::Lost(reason));
        }
        if self.lost != Some(LostReason::Replaced) {
            self.lost = Some(reason);
        }
        if std::mem::take(&mut self.wants_refresh) {
            effects.push(HolderEffect::Refreshed(Err(RefreshError::Expired)));
        }
    }

    fn check(&mut self, now: Stamp, effects: &mut Vec<HolderEffect>) {
        if self.lost.is_some() {
            return;
        }
        self.ends = now.at + self.sent.left(now, self.ttl);
        if self.sent.is_over(now, self.ttl) {
            self.lose(LostReason::Expired, effects);
        }
    }

    /// Begins what is wanted next, if nothing is under way.
    fn act(&mut self, effects: &mut Vec<HolderEffect>) {
        if self.doing != Doing::Nothing {
            return;
        }
        self.rounds = 0;
        if self.wants_unlock && self.lost == Some(LostReason::Replaced) {
            self.unlocked(Err(UnlockError::NotHeld), effects);
        } else if (self.wants_unlock || self.wants_refresh) && self.unsure {
            self.look(effects);
        } else if self.wants_unlock {
            self.doing = Doing::Deleting;
            effects.push(HolderEffect::Delete { over: self.over });
        } else if self.wants_refresh {
            self.doing = Doing::Writing;
            effects.push(HolderEffect::Write { over: self.over });
        }
    }

    fn look(&mut self, effects: &mut Vec<HolderEffect>) {
        self.doing = Doing::Looking;
        effects.push(HolderEffect::Look);
    }

    fn refreshed(
        &mut self,
        now: Instant,
        result: Result<(), RefreshError>,
        effects: &mut Vec<HolderEffect>,
    ) {
        self.doing = Doing::Nothing;
        if let Some(keep) = &mut self.keep {
            let part = if result.is_ok() {
                KEEP_PART
            } else {
                KEEP_PART * 2
            };
            *keep = now + self.ttl / part;
        }
        if std::mem::take(&mut self.wants_refresh) {
            effects.push(HolderEffect::Refreshed(result));
        }
        self.act(effects);
    }

    fn unlocked(&mut self, result: Result<(), UnlockError>, effects: &mut Vec<HolderEffect>) {
        self.doing = Doing::Over;
        if self.lost.is_none() {
            self.lost = Some(LostReason::Released);
            effects.push(HolderEffect::Lost(LostReason::Released));
        }
        if std::mem::take(&mut self.wants_refresh) {
            effects.push(HolderEffect::Refreshed(Err(RefreshError::NotHeld)));
        }
        effects.push(HolderEffect::Unlocked(result));
    }

    fn looked(
        &mut self,
        now: Stamp,
        result: Result<Option<KvEntry>, ReadError>,
        effects: &mut Vec<HolderEffect>,
    ) {
        self.doing = Doing::Nothing;
        let found = match result {
            Ok(found) => found,
            Err(error) if self.wants_unlock => {
                effects.push(HolderEffect::Settle { over: self.over });
                let error = match self.undecided.take() {
                    Some(write) => UnlockError::Write(write),
                    None => UnlockError::Read(error),
                };
                return self.unlocked(Err(error), effects);
            }
            Err(error) => return self.refreshed(now.at, Err(RefreshError::Read(error)), effects),
        };
        let latest = found
            .as_ref()
            .map_or(Revision::NONE, |entry| entry.revision);
        if found.is_some_and(|entry| is_of(&entry, &self.id)) {
            self.over = latest;
            self.unsure = false;
            self.rounds += 1;
            if let Some(error) = self.undecided.take() {
                // Deleting it takes longer than anybody should wait for.
                effects.push(HolderEffect::Settle { over: self.over });
                return self.unlocked(Err(UnlockError::Write(error)), effects);
            }
            if self.rounds > ROUNDS_MAX {
                return self.contended(now, effects);
            }
            let rounds = self.rounds;
            self.act(effects);
            self.rounds = rounds;
        } else if latest < self.over && self.rounds < ROUNDS_MAX && self.undecided.is_none() {
            // A replica that is behind, or a server that has lost its power. Before it is known which, nothing is touched: our
            // revision may be given out again, to another's record.
            self.rounds += 1;
            self.look(effects);
        } else {
            if latest < self.over {
                // Should it be there all the same.
                effects.push(HolderEffect::Settle { over: self.over });
            }
            self.gone(effects);
        }
    }

    /// Answers contradict each other, as those of replicas do.
    fn contended(&mut self, now: Stamp, effects: &mut Vec<HolderEffect>) {
        if self.wants_unlock {
            effects.push(HolderEffect::Settle { over: self.over });
            self.unlocked(Err(UnlockError::Write(WriteError::TimedOut)), effects);
        } else {
            let error = RefreshError::Write(WriteError::TimedOut);
            self.unsure = true;
            self.refreshed(now.at, Err(error), effects);
        }
    }

    /// Another revision is the latest, says who knows.
    fn refused(&mut self, actual: Revision, effects: &mut Vec<HolderEffect>) {
        if actual < self.over {
            // Ours was lost with the power of the server, or has expired and left nothing.
            self.gone(effects);
        } else {
            self.look(effects);
        }
    }

    /// The record is not ours any more.
    fn gone(&mut self, effects: &mut Vec<HolderEffect>) {
        // The delete did happen, or somebody has taken over what was let go: either way nothing of ours is left.
        let is_done = self.undecided.take().is_some();
        if is_done {
            return self.unlocked(Ok(()), effects);
        }
        self.lose(LostReason::Replaced, effects);
        self.doing = Doing::Nothing;
        self.act(effects);
    }

    fn written(
        &mut self,
        (sent, now): (Stamp, Stamp),
        result: Result<Revision, UpdateError>,
        effects: &mut Vec<HolderEffect>,
    ) {
        self.doing = Doing::Nothing;
        match result {
            Ok(revision) => {
                self.over = revision;
                if self.lost.is_none() {
                    self.sent = sent;
                    effects.push(HolderEffect::Renewed { sent });
                    // It may have taken longer than it lives.
                    self.check(now, effects);
                }
                if self.lost.is_some() && !self.wants_unlock {
                    // Nobody relies on it, and others would have to wait for its end.
                    self.doing = Doing::Deleting;
                    effects.push(HolderEffect::Delete { over: revision });
                } else {
                    self.refreshed(now.at, Ok(()), effects);
                }
            }
            Err(UpdateError::WrongRevision { actual }) => {
                if self.lost.is_some() && !self.wants_unlock {
                    self.refreshed(now.at, Err(RefreshError::Expired), effects);
                } else {
                    self.refused(actual, effects);
                }
            }
            Err(UpdateError::Write(error)) => {
                // One that was stored all the same shows at the next look.
                self.unsure |= error.outcome() == Outcome::Unknown;
                self.refreshed(now.at, Err(RefreshError::Write(error)), effects);
            }
        }
    }

    fn deleted(&mut self, result: Result<Revision, UpdateError>, effects: &mut Vec<HolderEffect>) {
        self.doing = Doing::Nothing;
        if !self.wants_unlock {
            // A renewal that came too late was undone, as far as that went.
            if !matches!(result, Ok(_) | Err(UpdateError::WrongRevision { .. })) {
                effects.push(HolderEffect::Settle { over: self.over });
            }
            self.lost = Some(LostReason::Replaced);
            return;
        }
        match result {
            Ok(_) => self.unlocked(Ok(()), effects),
            Err(UpdateError::WrongRevision { actual }) => self.refused(actual, effects),
            Err(UpdateError::Write(error)) if error.outcome() == Outcome::Unknown => {
                self.undecided = Some(error);
                self.look(effects);
            }
            Err(UpdateError::Write(error)) => {
                effects.push(HolderEffect::Settle { over: self.over });
                self.unlocked(Err(UnlockError::Write(error)), effects);
            }
        }
    }
}

impl Machine for Holder {
    type Event = (Stamp, HolderEvent);
    type Effect = HolderEffect;

    fn handle(
        &mut self,
        _now: Instant,
        (now, event): Self::Event,
        effects: &mut Vec<HolderEffect>,
    ) {
        if self.doing == Doing::Over {
            return;
        }
        match event {
            HolderEvent::Refresh => {
                self.wants_refresh = true;
                self.check(now, effects);
                if self.lost.is_some() {
                    if std::mem::take(&mut self.wants_refresh) {
                        effects.push(HolderEffect::Refreshed(Err(RefreshError::Expired)));
                    }
                } else {
                    self.act(effects);
                }
            }
            HolderEvent::Keep => {
                if self.lost.is_none() {
                    self.keep = Some(self.sent.at + self.ttl / KEEP_PART);
                }
            }
            HolderEvent::Unlock => {
                self.wants_unlock = true;
                self.act(effects);
            }
            HolderEvent::Disconnected => self.disturb(),
            HolderEvent::Reconnected => {
                self.disturb();
                self.keep = self.keep.map(|_| now.at);
            }
            HolderEvent::Clock => self.check(now, effects),
            HolderEvent::Looked(result) => self.looked(now, result, effects),
            HolderEvent::Written { sent, result } => self.written((sent, now), result, effects),
            HolderEvent::Deleted(result) => self.deleted(result, effects),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.lost.is_some() {
            return None;
        }
        let keep = self.keep.filter(|_| self.doing == Doing::Nothing);
        Some(
            keep.map_or(self.ends, |keep| keep.min(self.ends))
                .min(self.tick),
        )
    }

    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<HolderEffect>) {
        self.tick = self.next_tick(now);
        if self.ends <= now {
            return self.lose(LostReason::Expired, effects);
        }
        effects.push(HolderEffect::ReadClock);
        if self.doing == Doing::Nothing && self.keep.is_some_and(|keep| keep <= now) {
            self.keep = Some(now + self.ttl / KEEP_PART);
            self.wants_refresh = true;
            self.act(effects);
        }
    }

    fn state(&self) -> &'static str {
        match self.doing {
            _ if self.lost.is_some() => "lost",
            Doing::Nothing => "resting",
            Doing::Looking => "looking",
            Doing::Writing => "writing",
            Doing::Deleting => "deleting",
            Doing::Over => "over",
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

    /// So long after it was acquired, by the monotonic and by the wall clock.
    fn stamp(at: u64, wall: u64) -> Stamp {
        Stamp {
            at: Instant::ZERO + Duration::from_millis(at),
            wall: UnixTime::EPOCH + Duration::from_millis(wall),
        }
    }

    /// Holds what is of revision 5.
    fn holder() -> Holder {
        Holder::new("own".into(), TTL, Revision(5), stamp(0, 0))
    }

    fn hear(holder: &mut Holder, now: Stamp, event: HolderEvent) -> Vec<HolderEffect> {
        let mut effects = Vec::new();
        holder.handle(now.at, (now, event), &mut effects);
        effects
    }

    fn record(id: &str, revision: u64) -> KvEntry {
        KvEntry {
            key: "l.a".into(),
            value: Record::new(&id.into(), TTL, None, 0).encode(),
            revision: Revision(revision),
            operation: Operation::Put,
            created: UnixTime::EPOCH,
        }
    }

    #[test]
    fn a_machine_that_slept_knows_the_end_from_the_first_look_at_its_clocks_on() {
        let mut holder = holder();
        assert_eq!(holder.deadline(), Some(stamp(500, 0).at), "a tick");
        let effects = hear(&mut holder, stamp(600, 3800), HolderEvent::Clock);
        assert_eq!(effects, []);
        assert_eq!(holder.deadline(), Some(stamp(500, 0).at));
        let mut effects = Vec::new();
        holder.on_deadline(stamp(600, 0).at, &mut effects);
        assert_eq!(effects, [HolderEffect::ReadClock]);
        // 0.2 s are left, and the next tick is after 0.5 s.
        assert_eq!(holder.deadline(), Some(stamp(800, 0).at));
        effects.clear();
        holder.on_deadline(stamp(800, 0).at, &mut effects);
        assert_eq!(effects, [HolderEffect::Lost(LostReason::Expired)]);
    }

    /// A server that has lost its power may give the revision of the lock out again, to another's record.
    #[test]
    fn nothing_is_touched_where_less_is_there_than_was_written() {
        let mut holder = holder();
        hear(&mut holder, stamp(1, 1), HolderEvent::Reconnected);
        let mut effects = hear(&mut holder, stamp(2, 2), HolderEvent::Unlock);
        for _ in 0..=ROUNDS_MAX {
            assert_eq!(effects, [HolderEffect::Look]);
            let before = HolderEvent::Looked(Ok(Some(record("other", 3))));
            effects = hear(&mut holder, stamp(3, 3), before);
        }
        let over = Revision(5);
        let expected = [
            HolderEffect::Settle { over },
            HolderEffect::Lost(LostReason::Replaced),
            HolderEffect::Unlocked(Err(UnlockError::NotHeld)),
        ];
        assert_eq!(effects, expected);
    }

    #[test]
    fn a_write_that_finds_less_than_was_written_says_that_it_is_lost() {
        let mut holder = holder();
        let effects = hear(&mut holder, stamp(1, 1), HolderEvent::Refresh);
        let over = Revision(5);
        assert_eq!(effects, [HolderEffect::Write { over }]);
        let actual = Revision(3);
        let refused = HolderEvent::Written {
            sent: stamp(1, 1),
            result: Err(UpdateError::WrongRevision { actual }),
        };
        let effects = hear(&mut holder, stamp(2, 2), refused);
        let expected = [
            HolderEffect::Lost(LostReason::Replaced),
            HolderEffect::Refreshed(Err(RefreshError::Expired)),
        ];
        assert_eq!(effects, expected);
    }
}
