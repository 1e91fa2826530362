//! The decision core that watches the others: who is up, told as edges, each once.
//!
//! A server says nothing when an entry ages out, unless it keeps delete markers; so *Down* must be concluded from
//! silence, and silence has many causes. The conclusion here needs no guess about delays: a bucket gives every change a
//! place in one order, and a watch delivers in that order. So when a beat of one's own, handed over at `x`, has been
//! acknowledged with revision `r`, and the watch has delivered up to `r`, then *everything* that was committed before
//! `x` has been heard. A peer last heard long enough before `x` has been silent in the bucket itself, not just on our
//! link. As a diver who hears her own knock on the pipe knows that the pipe carries, and only then believes the silence
//! at the other end.
//!
//! Invariants: `Up` and `Down` alternate for each agent; an incarnation told down is never told up again; no `Down` by
//! silence without such a proof. While proofs fail to come, [`Event::Blind`] says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, Incarnation};
use super::{BlindReason, DownReason, Event};
use crate::machine::Machine;
use crate::time::Instant;
use crate::transport::{KvEntry, Operation, Revision, WatchEvent};

/// Part of a life that a peer's silence must exceed it by: room for crystals that differ by up to 8 %.
const SLACK_DIVISOR: u32 = 12;

/// Beats of one's own that may be missing before one is blind.
const BLIND_AFTER_BEATS: u32 = 2;

/// A departed incarnation is remembered for so many of its lives, in case a late write of it still comes.
const MEMORY_LIVES: u32 = 10;

/// Own beats that may be acknowledged and not yet delivered by the watch.
const ACKNOWLEDGED_MAX: usize = 16;

/// What a [`Roster`] hears.
#[derive(Clone, Debug)]
pub(super) enum RosterEvent {
    /// The watch said something.
    Watch(WatchEvent),
    /// A beat of one's own was acknowledged.
    Renewed {
        revision: Revision,
        /// When it was handed over.
        invoked: Instant,
    },
    /// The reader lagged and has room again.
    Room { missed: u64 },
}

/// What a [`Roster`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RosterEffect {
    /// The first look is complete: these are present.
    Snapshot(Vec<Entry>),
    /// Tell the reader.
    Tell(Event),
    /// Beat now: somebody's silence is to be judged.
    Probe,
}

#[derive(Debug)]
struct Peer {
    /// The record it stands on; `NONE` if that was of an earlier incarnation of the bucket.
    revision: Revision,
    /// When it was heard last.
    heard: Instant,
    /// When its silence was first proven to be too long.
    accused: Option<Instant>,
    state: Presence,
}

#[derive(Debug)]
enum Presence {
    Up(Entry),
    /// Told down; remembered for a while.
    Down(Incarnation),
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Roster {
    interval: Duration,
    /// The life of an entry that does not tell its own.
    ttl_default: Duration,
    peers: BTreeMap<Arc<str>, Peer>,
    snapshot_told: bool,
    /// The last revision the watch delivered, and when.
    delivered: (Revision, Instant),
    /// Own beats that were acknowledged but not yet delivered by the watch, and when they were handed over.
    acknowledged: VecDeque<(Revision, Instant)>,
    /// Everything committed before this has been heard.
    proven: Instant,
    blind: Option<BlindReason>,
    /// The watch is being made anew: proofs do not count.
    interrupted: bool,
    /// Beats handed over before this prove nothing.
    resumed: Instant,
    /// No peer is overdue before this. In the past while some peer's silence waits to be proven.
    check_at: Instant,
    /// While that is so: when to ask for the proof again.
    probe_again: Option<Instant>,
}

impl Roster {
    pub(super) fn new(now: Instant, interval: Duration, ttl_default: Duration) -> Self {
        Self {
            interval,
            ttl_default,
            peers: BTreeMap::new(),
            snapshot_told: false,
            delivered: (Revision::NONE, now),
            acknowledged: VecDeque::new(),
            proven: now,
            blind: None,
            interrupted: false,
            resumed: now,
            check_at: Instant::FAR_FUTURE,
            probe_again: None,
        }
    }

    fn present(&self) -> Vec<Entry> {
        self.peers
            .values()
            .filter_map(|peer| match &peer.state {
                Presence::Up(entry) => Some(entry.clone()),
                Presence::Down(_) => None,
            })
            .collect()
    }

    /// After so long a silence the entry must have aged out.
    fn patience(&self, entry: &Entry) -> Duration {
        let ttl = entry.ttl().unwrap_or(self.ttl_default);
        ttl + ttl / SLACK_DIVISOR
    }

    fn record(&mut self, now: Instant, record: &KvEntry, effects: &mut Vec<RosterEffect>) {
        if record.operation.is_put() {
            // What cannot be read is nobody's beat. Whoever stood there before falls silent.
            if let Some(entry) = Entry::decode(record) {
                self.beat(now, &record.key, record.revision, entry, effects);
            }
            return;
        }
        let Some(peer) = self.peers.get_mut(&record.key) else {
            return;
        };
        if record.revision <= peer.revision {
            return;
        }
        peer.revision = record.revision;
        peer.heard = now;
        if let Presence::Up(entry) = &peer.state {
            let entry = entry.clone();
            peer.state = Presence::Down(entry.incarnation());
            let reason = match record.operation {
                Operation::Expire => DownReason::Expired,
                Operation::Put | Operation::Delete | Operation::Purge => DownReason::Left,
            };
            self.tell(Event::Down { entry, reason }, effects);
        }
    }

    fn beat(
        &mut self,
        now: Instant,
        key: &Arc<str>,
        revision: Revision,
        entry: Entry,
        effects: &mut Vec<RosterEffect>,
    ) {
        self.check_at = self.check_at.min(now + self.patience(&entry));
        match self.peers.get_mut(key) {
            Some(peer) => {
                if revision <= peer.revision {
                    return;
                }
                peer.revision = revision;
                peer.heard = now;
                peer.accused = None;
                match &mut peer.state {
                    // Another incarnation over a present one is no edge: the agent was never away.
                    Presence::Up(known) => *known = entry,
                    // A late write of one that is down already.
                    Presence::Down(gone) if entry.names_its(gone) => {}
                    Presence::Down(_) => {
                        peer.state = Presence::Up(entry.clone());
                        self.tell(Event::Up(entry), effects);
                    }
                }
            }
            None => {
                let state = Presence::Up(entry.clone());
                self.peers.insert(
                    key.clone(),
                    Peer {
                        revision,
                        heard: now,
                        accused: None,
                        state,
                    },
                );
                self.tell(Event::Up(entry), effects);
            }
        }
    }

    /// Edges count from the end of the snapshot on.
    fn tell(&self, event: Event, effects: &mut Vec<RosterEffect>) {
        if self.snapshot_told {
            effects.push(RosterEffect::Tell(event));
        }
    }

    fn go_blind(&mut self, reason: BlindReason, effects: &mut Vec<RosterEffect>) {
        if self.blind.is_none() {
            self.blind = Some(reason);
            self.tell(Event::Blind(reason), effects);
        }
    }

    /// If the watch has caught up with an acknowledged beat, everything before that beat is known.
    fn prove(&mut self, now: Instant, effects: &mut Vec<RosterEffect>) {
        if self.interrupted {
            return;
        }
        let mut proof = None;
        let (delivered, heard) = self.delivered;
        // What proves a beat was heard after it: nothing is, where a bucket was made anew behind an old watch, and its
        // revisions begin again below those delivered.
        while let Some(&(revision, invoked)) = self.acknowledged.front()
            && revision <= delivered
            && invoked <= heard
        {
            self.acknowledged.pop_front();
            proof = Some(invoked);
        }
        if let Some(invoked) = proof {
            self.proven = self.proven.max(invoked);
            if self.blind.take().is_some() {
                self.tell(Event::Seeing, effects);
            }
            self.judge(now, effects);
        }
    }

    /// Tells those down whose silence is proven to have lasted too long, and probes for those whose is not yet.
    ///
    /// One proof accuses, a second one convicts. A watch is no change log: where the server was slow to read for it, the
    /// beats of a peer are passed over for their last, which may stand behind the beat of ours that proves the silence
    /// of those before. It was there when ours was delivered, so a beat handed over since then comes after it.
    fn judge(&mut self, now: Instant, effects: &mut Vec<RosterEffect>) {
        if self.check_at > now || !self.snapshot_told {
            return;
        }
        let mut next = Instant::FAR_FUTURE;
        let mut accused = Vec::new();
        let mut down = Vec::new();
        let mut forgotten = Vec::new();
        for (key, peer) in &self.peers {
            match &peer.state {
                Presence::Up(entry) => {
                    let silent_until = peer.heard + self.patience(entry);
                    let silent = silent_until <= self.proven;
                    if silent && peer.accused.is_some_and(|at| at <= self.proven) {
                        down.push((key.clone(), entry.clone()));
                        continue;
                    }
                    next = next.min(silent_until);
                    if silent && peer.accused.is_none() {
                        accused.push(key.clone());
                    }
                }
                Presence::Down(_) => {
                    if peer.heard + self.ttl_default * MEMORY_LIVES <= now {
                        forgotten.push(key.clone());
                    }
                }
            }
        }
        for (key, entry) in down {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.state = Presence::Down(entry.incarnation());
            }
            self.tell(
                Event::Down {
                    entry,
                    reason: DownReason::Silent,
                },
                effects,
            );
        }
        for key in &accused {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.accused = Some(now);
            }
        }
        for key in forgotten {
            self.peers.remove(&key);
        }
        self.check_at = next;
        if next > now {
            self.probe_again = None;
        } else if !accused.is_empty() || self.probe_again.is_none_or(|at| at <= now) {
            self.probe_again = Some(now + self.interval);
            effects.push(RosterEffect::Probe);
        }
    }

    fn blind_at(&self) -> Option<Instant> {
        (self.snapshot_told && self.blind.is_none())
            .then(|| self.proven + self.interval * BLIND_AFTER_BEATS)
    }
}

impl Machine for Roster {
    type Event = RosterEvent;
    type Effect = RosterEffect;

    fn handle(&mut self, now: Instant, event: RosterEvent, effects: &mut Vec<RosterEffect>) {
        match event {
            RosterEvent::Watch(WatchEvent::Entry(record)) => {
                self.delivered = (record.revision, now);
                self.record(now, &record, effects);
                self.prove(now, effects);
            }
            RosterEvent::Watch(WatchEvent::SnapshotEnd) => {
                effects.push(RosterEffect::Snapshot(self.present()));
                self.snapshot_told = true;
                // Interrupted before there was anybody to tell.
                if let Some(reason) = self.blind {
                    effects.push(RosterEffect::Tell(Event::Blind(reason)));
                }
            }
            RosterEvent::Watch(WatchEvent::Interrupted(cause)) => {
                self.interrupted = true;
                self.go_blind(BlindReason::Interrupted(cause), effects);
            }
            RosterEvent::Watch(WatchEvent::Resumed { same_bucket }) => {
                self.interrupted = false;
                self.resumed = now;
                self.acknowledged.clear();
                if !same_bucket {
                    self.delivered = (Revision::NONE, now);
                    for peer in self.peers.values_mut() {
                        peer.revision = Revision::NONE;
                    }
                }
                effects.push(RosterEffect::Probe);
            }
            // Handed over before the watch was made anew, it proves nothing: what was committed before it may have been
            // overwritten, and stand behind it now; or its revision is of another incarnation of the bucket.
            RosterEvent::Renewed { invoked, .. } if invoked < self.resumed => {}
            RosterEvent::Renewed { revision, invoked } => {
                if self.acknowledged.len() == ACKNOWLEDGED_MAX {
                    self.acknowledged.pop_back();
                }
                self.acknowledged.push_back((revision, invoked));
                self.prove(now, effects);
            }
            RosterEvent::Room { missed } => {
                let present = self.present();
                effects.push(RosterEffect::Tell(Event::Lagged { missed, present }));
                // It may be among what was missed.
                if let Some(reason) = self.blind {
                    effects.push(RosterEffect::Tell(Event::Blind(reason)));
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let check = self.probe_again.unwrap_or(self.check_at);
        let check = (check < Instant::FAR_FUTURE && self.snapshot_told).then_some(check);
        [check, self.blind_at()].into_iter().flatten().min()
    }

    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<RosterEffect>) {
        self.judge(now, effects);
        if self.blind_at().is_some_and(|at| at <= now) {
            self.go_blind(BlindReason::Silent, effects);
        }
    }
}
