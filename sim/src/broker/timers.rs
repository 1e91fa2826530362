//! The broker's timers: one ordered set, so that the earliest is the broker's one deadline.
//!
//! Timers are never cancelled. One that fires for something that is gone, or that moved on meanwhile, finds that out
//! and does nothing, or sets itself anew. That keeps writes free of timers; the price is a few idle wakes.

use std::collections::BTreeSet;

use squall_core::Instant;

use super::consumer::ConsumerId;
use super::effect::Incarnation;
use crate::wire::LinkId;

/// What a timer is for. Timers of one instant fire in the order of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The next `PING` to a client.
    Ping(LinkId),
    /// A lame duck closes its next connection.
    LameDuck,
    /// Something of a stream.
    Stream(Incarnation, StreamTimer),
}

/// What a timer of a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StreamTimer {
    /// It looks for expired messages.
    Sweep,
    /// It forgets message ids.
    Forget,
    /// A consumer delivers.
    Deliver(ConsumerId),
    /// A consumer has perhaps been silent for its heartbeat.
    Heartbeat(ConsumerId),
    /// A consumer without subscription ends.
    Inactive(ConsumerId),
}

/// All timers that are set.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|&(at, _)| at)
    }

    /// Takes the earliest timer that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        let &(at, _) = self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
