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
use crate::time::{Instant, UnixTime};
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
        if self.yielded {
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
        // Late by either clock (the monotonic one stands while the machine sleeps): peers may have been told that this
        // incarnation is down, and one that is down never comes back.
        let since = if self.evicted.is_some() {
            invoked
        } else {
            (self.renewed, self.renewed_wall)
        };
        let late = now.since(since.0) > self.ttl || wall.since(since.1) > self.ttl;
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
            KeeperEvent::Disconnected => self.connected = false,
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
}
