//! The broker's timers: one ordered set, so that the earliest is the broker's one deadline.
//!
//! Timers are never cancelled. One that fires for something that is gone, or that moved on meanwhile, finds that out
//! and does nothing, or sets itself anew. That keeps writes free of timers; the price is a few idle wakes.

use std::collections::BTreeSet;

use squall_core::Instant;
use squall_core::transport::Sequence;

use super::consumer::ConsumerId;
use super::effect::Incarnation;
use super::pulls::{PullId, PullTimer};
use super::security::Account;
use crate::cluster::Peer;
use crate::wire::LinkId;

/// What a timer is for. Timers of one instant fire in the order of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The next `PING` to a client.
    Ping(LinkId),
    /// A connection has perhaps not logged in.
    LogIn(LinkId),
    /// The token that a connection logged in with ends.
    Expiry(LinkId),
    /// The token of the account at hand ends.
    AccountExpiry,
    /// A lame duck closes its next connection.
    LameDuck,
    /// A part in the group of this number.
    Group(u64),
    /// A follower in the group of this number may be up to date by now.
    Reads(u64),
    /// The next ping over the route to another server.
    Route(Peer),
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
    /// Something of a pull consumer.
    Pull(PullId, PullTimer),
    /// The files are synced.
    Sync,
    /// The marker of this message is written, whatever happened to it meanwhile.
    Mark(Sequence),
    /// What is known of it is written down.
    Written,
}

/// All timers that are set, each with the account that it was set for.
#[derive(Debug, Default)]
pub(super) struct Timers {
    set: BTreeSet<(Instant, Timer, Account)>,
    /// Whose business is at hand: timers that are set now are for it.
    pub(super) account: Account,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.set.insert((at, timer, self.account));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.set.first().map(|&(at, ..)| at)
    }

    /// Takes the earliest timer that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Timer, Account)> {
        let &(at, ..) = self.set.first()?;
        if at > now {
            return None;
        }
        let (_, timer, account) = self.set.pop_first()?;
        Some((timer, account))
    }

    pub(super) fn clear(&mut self) {
        self.set.clear();
    }
}
