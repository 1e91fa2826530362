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

/// A probe for another doubt follows the last one no sooner than this part of an interval; for the same doubt, an interval.
const PROBE_DIVISOR: u32 = 4;

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
    /// When it was asked for last.
    probed: Option<Instant>,
    /// The next time at which another peer is overdue.
    next_doubt: Instant,
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
            probed: None,
            next_doubt: Instant::FAR_FUTURE,
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
        let (mut next, mut next_doubt) = (Instant::FAR_FUTURE, Instant::FAR_FUTURE);
        // One that has arisen since the last probe.
        let mut is_new_doubt = false;
        let mut accused = Vec::new();
        let mut down = Vec::new();
        let mut forgotten = Vec::new();
        for (key, peer) in &self.peers {
            match &peer.state {
                Presence::Up(entry) => {
                    // While the watch was interrupted the server may have lost its power and given out revisions a second
                    // time. Where it has caught up with those delivered before, nothing shows it, and beats are missed.
                    let silent_since = peer.heard.max(self.resumed);
                    let silent_until = silent_since + self.patience(entry);
                    let silent = silent_until <= self.proven;
                    if silent && peer.accused.is_some_and(|at| at <= self.proven) {
                        down.push((key.clone(), entry.clone()));
                        continue;
                    }
                    next = next.min(silent_until);
                    if silent_until > now {
                        next_doubt = next_doubt.min(silent_until);
                    } else {
                        is_new_doubt |= self.probed.is_none_or(|at| at < silent_until);
                    }
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
        (self.check_at, self.next_doubt) = (next, next_doubt);
        if next > now {
            self.probe_again = None;
            return;
        }
        let pause = match is_new_doubt {
            true => self.interval / PROBE_DIVISOR,
            false => self.interval,
        };
        let due = self.probed.map_or(now, |at| at + pause);
        if !accused.is_empty() || due <= now {
            self.probed = Some(now);
            self.probe_again = Some(now + self.interval);
            effects.push(RosterEffect::Probe);
        } else {
            self.probe_again = Some(due);
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
        let again = self.probe_again.map(|at| at.min(self.next_doubt));
        let check = again.unwrap_or(self.check_at);
        let check = (check < Instant::FAR_FUTURE && self.snapshot_told).then_some(check);
        [check, self.blind_at()].into_iter().flatten().min()
    }

    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<RosterEffect>) {
        self.judge(now, effects);
        if self.blind_at().is_some_and(|at| at <= now) {
            self.go_blind(BlindReason::Silent, effects);
        }
    }

    fn state(&self) -> &'static str {
        match &self.blind {
            _ if !self.snapshot_told => "listening",
            Some(_) => "blind",
            None if self.probe_again.is_some() => "doubting",
            None => "seeing",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::super::entry::key;
    use super::*;
    use crate::time::UnixTime;
    use crate::transport::InterruptCause;

    const INTERVAL: Duration = Duration::from_secs(1);
    const TTL: Duration = Duration::from_secs(3);
    /// The age of the shared bucket: the longest life of any agent in it.
    const MAX_AGE: Duration = Duration::from_secs(6);

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn entry(agent: &str, incarnation: Option<&str>, ttl: Option<Duration>) -> Entry {
        Entry {
            agent_id: agent.to_owned(),
            project: "demo".to_owned(),
            started_at: UnixTime::EPOCH,
            last_seen: UnixTime::EPOCH,
            incarnation: incarnation.map(str::to_owned),
            ttl_ms: ttl.map(|ttl| ttl.as_millis() as u64),
        }
    }

    fn record(agent: &str, revision: u64, operation: Operation, value: Bytes) -> KvEntry {
        KvEntry {
            key: key("demo", agent).into(),
            value,
            revision: Revision(revision),
            operation,
            created: UnixTime::EPOCH,
        }
    }

    /// A roster of agents that beat every second, and what it has told, as text.
    struct Story(Roster);

    impl Story {
        fn new() -> Self {
            Self(Roster::new(at(0), INTERVAL, TTL))
        }

        /// With this snapshot.
        fn of(agents: &[(&str, u64)]) -> Self {
            let mut story = Self::new();
            for &(agent, revision) in agents {
                story.beats(0, agent, 0, revision);
            }
            story.hears(0, WatchEvent::SnapshotEnd);
            story
        }

        fn handle(&mut self, millis: u64, event: RosterEvent) -> Vec<String> {
            let mut effects = Vec::new();
            self.0.handle(at(millis), event, &mut effects);
            effects.iter().map(short).collect()
        }

        fn hears(&mut self, millis: u64, event: WatchEvent) -> Vec<String> {
            self.handle(millis, RosterEvent::Watch(event))
        }

        /// The watch delivers a beat of the agent's incarnation of this number.
        fn beats(&mut self, millis: u64, agent: &str, number: u32, revision: u64) -> Vec<String> {
            let entry = entry(agent, Some(&format!("{agent}-{number}")), Some(TTL));
            let record = record(agent, revision, Operation::Put, entry.encode());
            self.hears(millis, WatchEvent::Entry(record))
        }

        /// The watch delivers that the agent's entry is gone.
        fn goes(&mut self, millis: u64, agent: &str, op: Operation, revision: u64) -> Vec<String> {
            let record = record(agent, revision, op, Bytes::new());
            self.hears(millis, WatchEvent::Entry(record))
        }

        /// A beat of one's own is acknowledged.
        fn renewed(&mut self, millis: u64, invoked: u64, revision: u64) -> Vec<String> {
            let (revision, invoked) = (Revision(revision), at(invoked));
            self.handle(millis, RosterEvent::Renewed { revision, invoked })
        }

        /// A beat of one's own, handed over 20 ms ago, comes back both ways.
        fn knocks(&mut self, millis: u64, revision: u64) -> Vec<String> {
            let mut told = self.beats(millis, "self", 0, revision);
            told.extend(self.renewed(millis, millis - 20, revision));
            told
        }

        fn interrupted(&mut self, millis: u64) -> Vec<String> {
            let cause = InterruptCause::Disconnected;
            self.hears(millis, WatchEvent::Interrupted(cause))
        }

        fn resumed(&mut self, millis: u64, same_bucket: bool) -> Vec<String> {
            self.hears(millis, WatchEvent::Resumed { same_bucket })
        }

        fn wakes(&mut self, millis: u64) -> Vec<String> {
            let mut effects = Vec::new();
            self.0.on_deadline(at(millis), &mut effects);
            effects.iter().map(short).collect()
        }
    }

    fn names(entries: &[Entry]) -> String {
        let names: Vec<_> = entries.iter().map(|e| e.incarnation().0).collect();
        names.join(" ")
    }

    fn short(effect: &RosterEffect) -> String {
        match effect {
            RosterEffect::Snapshot(entries) => format!("snapshot {}", names(entries)),
            RosterEffect::Probe => "probe".to_owned(),
            RosterEffect::Tell(Event::Up(entry)) => format!("up {}", entry.incarnation().0),
            RosterEffect::Tell(Event::Down { entry, reason }) => {
                format!("down {} {reason:?}", entry.incarnation().0)
            }
            RosterEffect::Tell(Event::Lagged { missed, present }) => {
                format!("lagged {missed}: {}", names(present))
            }
            RosterEffect::Tell(Event::Blind(BlindReason::Silent)) => "blind: silent".to_owned(),
            RosterEffect::Tell(Event::Blind(BlindReason::Interrupted(cause))) => {
                format!("blind: {cause}")
            }
            RosterEffect::Tell(Event::Seeing) => "seeing".to_owned(),
        }
    }

    #[test]
    fn a_snapshot_is_told_once_and_edges_after_it() {
        let mut story = Story::new();
        assert!(story.beats(0, "alice", 0, 1).is_empty());
        assert!(story.goes(0, "bob", Operation::Delete, 2).is_empty());
        let told = story.hears(0, WatchEvent::SnapshotEnd);
        assert_eq!(told, ["snapshot alice-0"]);
        assert_eq!(story.beats(10, "bob", 0, 3), ["up bob-0"]);
        assert!(story.beats(20, "bob", 0, 4).is_empty(), "a renewal");
        assert!(story.beats(30, "alice", 0, 5).is_empty(), "in the snapshot");
    }

    #[test]
    fn a_clean_end_is_told_once_and_a_return_is_another_incarnation() {
        let mut story = Story::of(&[("alice", 1)]);
        let told = story.goes(10, "alice", Operation::Delete, 2);
        assert_eq!(told, ["down alice-0 Left"]);
        assert!(story.goes(20, "alice", Operation::Expire, 3).is_empty());
        assert_eq!(story.beats(30, "alice", 1, 4), ["up alice-1"]);
        let told = story.goes(40, "alice", Operation::Expire, 5);
        assert_eq!(told, ["down alice-1 Expired"]);
    }

    #[test]
    fn an_incarnation_over_a_present_one_is_no_edge() {
        let mut story = Story::of(&[("alice", 1)]);
        assert!(story.beats(10, "alice", 1, 2).is_empty());
        let told = story.goes(20, "alice", Operation::Delete, 3);
        assert_eq!(told, ["down alice-1 Left"]);
    }

    #[test]
    fn a_late_write_does_not_raise_the_dead() {
        let mut story = Story::of(&[("alice", 1)]);
        story.goes(10, "alice", Operation::Delete, 2);
        assert!(story.beats(20, "alice", 0, 3).is_empty());
        let told = story.goes(30, "alice", Operation::Delete, 4);
        assert!(told.is_empty(), "it was down already");
        assert_eq!(story.beats(40, "alice", 1, 5), ["up alice-1"]);
    }

    #[test]
    fn silence_is_proven_by_own_beats_that_come_back() {
        let mut story = Story::of(&[("self", 1), ("alice", 2)]);
        assert!(story.knocks(1000, 3).is_empty());
        assert!(story.knocks(2000, 4).is_empty());
        assert!(story.knocks(3000, 5).is_empty());
        let overdue = TTL + TTL / SLACK_DIVISOR;
        assert_eq!(story.0.deadline(), Some(at(0) + overdue));
        assert_eq!(story.wakes(3250), ["probe"]);
        assert_eq!(story.knocks(3270, 6), ["probe"], "one proof accuses");
        assert_eq!(story.knocks(3290, 7), ["down alice-0 Silent"]);
        assert!(story.knocks(4000, 8).is_empty(), "once");
    }

    #[test]
    fn without_a_proof_nobody_is_told_down_and_blindness_is() {
        let mut story = Story::of(&[("self", 1), ("alice", 2)]);
        story.knocks(1000, 3);
        assert_eq!(story.0.deadline(), Some(at(2980)));
        assert_eq!(story.wakes(2980), ["blind: silent"]);
        // Neither half of a proof is one.
        assert!(story.beats(4000, "self", 0, 4).is_empty());
        assert!(story.renewed(4100, 4090, 5).is_empty());
        for seconds in 5..7 {
            assert_eq!(story.wakes(seconds * 1000), ["probe"]);
            let next = story.0.deadline().expect("it goes on asking");
            assert_eq!(next, at((seconds + 1) * 1000));
        }
        assert_eq!(story.beats(9000, "self", 0, 5), ["seeing", "probe"]);
        assert_eq!(story.knocks(9030, 6), ["down alice-0 Silent"]);
    }

    #[test]
    fn an_agent_that_beats_more_slowly_is_given_its_own_time() {
        let mut story = Story::of(&[("self", 1)]);
        let slow = entry("bob", Some("bob-0"), Some(TTL * 10));
        let foreign = entry("eve", None, None);
        for (agent, entry, revision) in [("bob", slow, 2), ("eve", foreign, 3)] {
            let record = record(agent, revision, Operation::Put, entry.encode());
            story.hears(0, WatchEvent::Entry(record));
        }
        story.wakes(3250);
        story.knocks(3270, 4);
        let told = story.knocks(3300, 5);
        assert_eq!(told, ["down 1970-01-01T00:00:00Z Silent"]);
        story.wakes(32_500);
        story.knocks(32_520, 6);
        assert_eq!(story.knocks(32_540, 7), ["down bob-0 Silent"]);
    }

    #[test]
    fn what_cannot_be_read_is_nobodys_beat() {
        let mut story = Story::of(&[("self", 1), ("alice", 2)]);
        let garbage = record("alice", 3, Operation::Put, Bytes::from_static(b"{"));
        assert!(story.hears(1000, WatchEvent::Entry(garbage)).is_empty());
        story.wakes(3250);
        story.knocks(3270, 4);
        assert_eq!(story.knocks(3290, 5), ["down alice-0 Silent"]);
    }

    #[test]
    fn an_interruption_is_told_and_ends_with_a_fresh_proof() {
        let mut story = Story::of(&[("self", 1), ("alice", 2)]);
        assert_eq!(story.interrupted(1000), ["blind: disconnected"]);
        assert!(story.renewed(5000, 4980, 9).is_empty());
        assert_eq!(story.resumed(6000, true), ["probe"]);
        // The watch catches up, and only then may be believed.
        assert!(story.beats(6010, "self", 0, 9).is_empty());
        assert!(story.beats(6010, "alice", 0, 10).is_empty());
        assert_eq!(story.knocks(6030, 11), ["seeing"]);
    }

    /// Alice beat all the while; her last beat stands behind our last one, since hers before it were overwritten.
    #[test]
    fn a_beat_from_before_the_watch_resumed_proves_nothing() {
        let mut story = Story::of(&[("self", 1), ("alice", 2)]);
        story.interrupted(1000);
        story.resumed(9000, true);
        story.beats(9010, "self", 0, 50);
        assert!(story.renewed(9010, 8990, 50).is_empty());
        assert!(story.beats(9010, "alice", 0, 51).is_empty());
        assert_eq!(story.knocks(9040, 52), ["seeing"]);
    }

    /// Bob falls silent just after Alice was asked about: his turn comes soon, and not after an interval.
    #[test]
    fn a_doubt_that_arises_after_a_probe_is_probed_for_soon() {
        let mut story = Story::of(&[("self", 1), ("alice", 2)]);
        story.beats(30, "bob", 0, 3);
        story.knocks(2000, 4);
        assert_eq!(story.wakes(3250), ["probe"]);
        assert_eq!(story.knocks(3270, 5), ["probe"]);
        assert_eq!(story.knocks(3290, 6), ["down alice-0 Silent"]);
        assert_eq!(story.0.deadline(), Some(at(3520)));
        assert_eq!(story.wakes(3520), ["probe"]);
        // Nobody else is overdue: the same doubt waits for an interval.
        assert_eq!(story.0.deadline(), Some(at(4520)));
        assert_eq!(story.knocks(3540, 7), ["probe"]);
        assert_eq!(story.knocks(3560, 8), ["down bob-0 Silent"]);
    }

    /// The same without an interruption: the server was slow to read for us.
    #[test]
    fn a_beat_passed_over_for_its_successor_is_no_silence() {
        let mut story = Story::of(&[("self", 1), ("alice", 2)]);
        assert_eq!(story.knocks(4000, 50), ["probe"]);
        assert!(story.beats(4010, "alice", 0, 51).is_empty());
        assert!(story.knocks(4030, 52).is_empty());
    }

    /// The server had lost its power: Alice's beats got revisions that had been told before, and were skipped.
    #[test]
    fn beats_under_revisions_that_are_given_out_twice_are_no_silence() {
        let beaten_again = |then: fn(&mut Story)| {
            let mut story = Story::of(&[("self", 139), ("alice", 140)]);
            story.interrupted(1000);
            story.resumed(3200, true);
            story.wakes(3250);
            assert_eq!(story.knocks(3270, 150), ["seeing"]);
            assert!(story.knocks(3290, 151).is_empty());
            then(&mut story);
            story.wakes(6450);
            story.knocks(6470, 170);
            story.knocks(6490, 171)
        };
        assert!(beaten_again(|story| drop(story.beats(4000, "alice", 0, 160))).is_empty());
        assert_eq!(beaten_again(|_| ()), ["down alice-0 Silent"]);
    }

    #[test]
    fn a_bucket_made_anew_is_heard_from_its_beginning() {
        let mut story = Story::of(&[("self", 500), ("alice", 501)]);
        story.interrupted(1000);
        assert_eq!(story.resumed(2000, false), ["probe"]);
        assert!(story.beats(2000, "alice", 1, 1).is_empty(), "never away");
        assert_eq!(story.knocks(2030, 2), ["seeing"]);
        let told = story.goes(2040, "alice", Operation::Delete, 3);
        assert_eq!(told, ["down alice-1 Left"]);
    }

    /// Our beat in the new bucket has a lower revision than what the watch of the old one has delivered.
    #[test]
    fn a_beat_in_a_bucket_made_anew_proves_nothing_to_the_old_watch() {
        let mut story = Story::of(&[("self", 500), ("alice", 501)]);
        for millis in [1000, 2000, 3000, 4000, 5000] {
            assert!(story.renewed(millis, millis - 20, millis / 1000).is_empty());
        }
        assert_eq!(story.wakes(5010), ["probe", "blind: silent"]);
        story.interrupted(6000);
        story.resumed(6000, false);
        assert!(story.beats(6000, "alice", 1, 3).is_empty());
        assert_eq!(story.knocks(6030, 7), ["seeing"]);
    }

    /// It would stand at the head of the queue for ever, and no younger one would count.
    #[test]
    fn an_acknowledgement_from_the_bucket_before_does_not_block_those_that_follow() {
        let mut story = Story::of(&[("self", 500)]);
        story.interrupted(1000);
        story.resumed(2000, false);
        story.renewed(2010, 990, 600);
        assert_eq!(story.knocks(2030, 2), ["seeing"]);
    }

    #[test]
    fn the_end_of_a_slow_snapshot_proves_no_silence() {
        let mut story = Story::new();
        story.beats(0, "alice", 0, 1);
        let told = story.hears(4000, WatchEvent::SnapshotEnd);
        assert_eq!(told, ["snapshot alice-0"]);
        assert_eq!(story.wakes(4000), ["probe", "blind: silent"]);
        assert_eq!(story.wakes(5000), ["probe"]);
        assert!(story.beats(5010, "alice", 0, 9).is_empty());
    }

    #[test]
    fn whoever_is_interrupted_during_the_snapshot_is_told_after_it() {
        let mut story = Story::new();
        assert!(story.interrupted(10).is_empty());
        story.resumed(20, true);
        let told = story.hears(30, WatchEvent::SnapshotEnd);
        assert_eq!(told, ["snapshot ", "blind: disconnected"]);
        assert_eq!(story.knocks(50, 1), ["up self-0", "seeing"]);
    }

    #[test]
    fn a_reader_that_lagged_hears_who_is_there_and_whether_we_are_blind() {
        let mut story = Story::of(&[("alice", 1)]);
        story.goes(10, "alice", Operation::Delete, 2);
        story.beats(20, "bob", 0, 3);
        let told = story.handle(30, RosterEvent::Room { missed: 2 });
        assert_eq!(told, ["lagged 2: bob-0"]);
        story.interrupted(40);
        let told = story.handle(50, RosterEvent::Room { missed: 1 });
        assert_eq!(told, ["lagged 1: bob-0", "blind: disconnected"]);
    }

    #[test]
    fn the_departed_are_forgotten_at_last() {
        let mut story = Story::of(&[("self", 1), ("alice", 2)]);
        story.goes(10, "alice", Operation::Delete, 3);
        assert_eq!(story.0.peers.len(), 2);
        for second in 1..40 {
            story.knocks(second * 1000, second + 3);
            story.wakes(second * 1000);
        }
        assert_eq!(story.0.peers.len(), 1);
    }

    // --- at random ---

    const TICK: Duration = Duration::from_millis(90);
    /// Events that the reader of the model may leave unread.
    const UNREAD_MAX: usize = 3;

    /// What happens in the model. Agent 0 is the watcher itself.
    #[derive(Clone, Debug)]
    enum Op {
        Wait(u8),
        /// The agent dies; what it has handed over may still arrive.
        Crash(usize),
        /// The agent deletes its entry and ends.
        Close(usize),
        /// The agent is started anew, as another incarnation.
        Return(usize),
        /// What the agent writes waits on its way.
        Hold(usize, bool),
        /// What the agent writes arrives, and it is not told.
        Deafen(usize, bool),
        /// How deliveries go from the server to the watcher.
        Flow(Flow),
        /// The server does not get round to reading for the watch. What is overwritten meanwhile is never delivered.
        Stall(bool),
        /// Acknowledgements of the watcher's own beats wait on their way.
        HoldAcks(bool),
        Interrupt,
        Resume,
        /// The watcher's process stands still.
        Pause(bool),
        /// Whether the watcher hears of its own beats before it hears the watch.
        RenewalsFirst(bool),
        /// The watcher's reader does not read.
        Dawdle(bool),
        /// The bucket is deleted and created anew.
        Recreate,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Flow {
        Held,
        /// One a tick.
        Trickle,
        Free,
    }

    fn op() -> impl Strategy<Value = Op> {
        let agent = 0..AGENTS.len();
        let peer = 1..AGENTS.len();
        let flow = prop_oneof![Just(Flow::Held), Just(Flow::Trickle), Just(Flow::Free)];
        prop_oneof![
            12 => (1_u8..50).prop_map(Op::Wait),
            2 => peer.clone().prop_map(Op::Crash),
            1 => peer.clone().prop_map(Op::Close),
            2 => peer.prop_map(Op::Return),
            2 => (agent.clone(), any::<bool>()).prop_map(|(agent, on)| Op::Hold(agent, on)),
            1 => (agent, any::<bool>()).prop_map(|(agent, on)| Op::Deafen(agent, on)),
            2 => flow.prop_map(Op::Flow),
            2 => any::<bool>().prop_map(Op::Stall),
            1 => any::<bool>().prop_map(Op::HoldAcks),
            2 => Just(Op::Interrupt),
            2 => Just(Op::Resume),
            2 => any::<bool>().prop_map(Op::Pause),
            1 => any::<bool>().prop_map(Op::RenewalsFirst),
            1 => any::<bool>().prop_map(Op::Dawdle),
            1 => Just(Op::Recreate),
        ]
    }

    /// Name, interval by its own clock, what its second lasts in thousandths of ours, whether it names its
    /// incarnations and its life.
    const AGENTS: [(&str, u64, u64, bool); 5] = [
        ("self", 1000, 1000, true),
        ("fast", 500, 1000, true),
        ("lazy", 1000, 1070, true),
        ("slow", 2000, 950, true),
        ("alien", 1000, 1000, false),
    ];

    /// One write under way.
    struct Beat {
        incarnation: u32,
        expected: Revision,
        invoked: Instant,
        entry: Entry,
    }

    type Ack = (u32, Instant, Option<Revision>);

    /// An agent as it should be: it renews its entry, and after its life without an answer it is another incarnation.
    struct Agent {
        id: &'static str,
        interval: Duration,
        ttl: Duration,
        named: bool,
        alive: bool,
        session: u32,
        /// The last incarnation begun, and the one that is acknowledged.
        issued: u32,
        incarnation: u32,
        evicted: bool,
        over: Revision,
        renewed: Instant,
        next: Instant,
        held: bool,
        deaf: bool,
        beats: VecDeque<Beat>,
        acks: VecDeque<Ack>,
    }

    impl Agent {
        fn name(&self, incarnation: u32) -> Option<String> {
            let (id, session) = (self.id, self.session);
            self.named.then(|| format!("{id}/{session}-{incarnation}"))
        }

        fn hand_over(&mut self, now: Instant, look: Revision) {
            if now.since(self.renewed) > self.ttl {
                self.evicted = true;
            }
            if self.evicted {
                self.issued += 1;
                self.over = look;
            }
            let incarnation = if self.evicted {
                self.issued
            } else {
                self.incarnation
            };
            let name = self.name(incarnation);
            let ttl = AGENTS.iter().find(|agent| agent.0 == self.id);
            let ttl = ttl.map(|agent| Duration::from_millis(agent.1 * 3));
            self.next = now + self.interval;
            self.beats.push_back(Beat {
                incarnation,
                expected: self.over,
                invoked: now,
                entry: entry(self.id, name.as_deref(), ttl.filter(|_| self.named)),
            });
        }

        fn acknowledged(&mut self, now: Instant, ack: Ack, look: Option<Revision>) {
            let (incarnation, invoked, stored) = ack;
            match stored {
                Some(revision) => {
                    let since = if self.evicted { invoked } else { self.renewed };
                    self.over = revision;
                    self.renewed = invoked;
                    self.evicted |= now.since(since) > self.ttl;
                    if self.evicted && now.since(invoked) <= self.ttl {
                        self.evicted = false;
                        self.incarnation = incarnation;
                    }
                }
                None => match look {
                    Some(revision) => self.over = revision,
                    None => self.evicted = true,
                },
            }
        }
    }

    /// The latest record of one key, and when it was stored.
    type Latest = Option<(KvEntry, Instant)>;

    struct World {
        now: Instant,
        ticks: usize,
        markers: bool,
        agents: Vec<Agent>,
        latest: Vec<Latest>,
        last: Revision,
        /// When each named incarnation was stored in this bucket.
        commits: BTreeMap<Incarnation, Vec<Instant>>,

        // The watch.
        stalled: bool,
        flow: Flow,
        up: bool,
        /// Its bucket is not there any more.
        orphaned: bool,
        read: Revision,
        delivered: Revision,
        snapshot_due: bool,
        on_the_way: VecDeque<WatchEvent>,

        // The watcher's process.
        paused: bool,
        acks_held: bool,
        renewals_first: bool,
        heard: VecDeque<WatchEvent>,
        renewals: VecDeque<(Revision, Instant)>,
        roster: Roster,

        /// When the last beat of each agent that was heard had been stored.
        last_heard: BTreeMap<String, Instant>,

        // What was told, and what has been read of it.
        up_once: BTreeSet<Incarnation>,
        told: BTreeMap<String, Entry>,
        dawdling: bool,
        unread: VecDeque<Event>,
        missed: u64,
        view: BTreeMap<String, Entry>,
        view_blind: bool,
    }

    impl World {
        fn new(markers: bool) -> Self {
            let agents = AGENTS.map(|(id, interval, second, named)| Agent {
                id,
                interval: Duration::from_millis(interval * second / 1000),
                ttl: Duration::from_millis(interval * second / 1000) * 3,
                named,
                alive: true,
                session: 0,
                issued: 0,
                incarnation: 0,
                evicted: false,
                over: Revision::NONE,
                renewed: Instant::ZERO,
                next: Instant::ZERO,
                held: false,
                deaf: false,
                beats: VecDeque::new(),
                acks: VecDeque::new(),
            });
            let mut world = Self {
                now: Instant::ZERO,
                ticks: 0,
                markers,
                latest: vec![None; agents.len()],
                agents: agents.into(),
                last: Revision::NONE,
                commits: BTreeMap::new(),
                stalled: false,
                flow: Flow::Free,
                up: false,
                orphaned: false,
                read: Revision::NONE,
                delivered: Revision::NONE,
                snapshot_due: true,
                on_the_way: VecDeque::new(),
                paused: false,
                acks_held: false,
                renewals_first: false,
                heard: VecDeque::new(),
                renewals: VecDeque::new(),
                roster: Roster::new(Instant::ZERO, INTERVAL, MAX_AGE),
                last_heard: BTreeMap::new(),
                up_once: BTreeSet::new(),
                told: BTreeMap::new(),
                dawdling: false,
                unread: VecDeque::new(),
                missed: 0,
                view: BTreeMap::new(),
                view_blind: false,
            };
            for _ in 0..5 {
                world.tick();
            }
            world.up = true;
            world.roster = Roster::new(world.now, INTERVAL, MAX_AGE);
            world.renewals.clear();
            world.read();
            world
        }

        fn look(&self, agent: usize) -> Revision {
            let latest = self.latest[agent].as_ref();
            latest.map_or(Revision::NONE, |(record, _)| record.revision)
        }

        fn store(&mut self, agent: usize, operation: Operation, value: Bytes) -> Revision {
            self.last = self.last.next();
            let mut record = record(AGENTS[agent].0, self.last.0, operation, value);
            record.created = UnixTime::from_nanos(self.now.as_nanos() as i64);
            self.latest[agent] = Some((record, self.now));
            self.read();
            self.last
        }

        /// The server reads for the watch what is still there.
        fn read(&mut self) {
            if !self.up || self.stalled || self.orphaned {
                return;
            }
            let latest = self.latest.iter().flatten().map(|(record, _)| record);
            let mut records: Vec<_> = latest.filter(|r| r.revision > self.read).collect();
            records.sort_by_key(|record| record.revision);
            let records = records.into_iter().cloned().map(WatchEvent::Entry);
            self.on_the_way.extend(records);
            self.read = self.last;
            if std::mem::take(&mut self.snapshot_due) {
                self.on_the_way.push_back(WatchEvent::SnapshotEnd);
            }
        }

        fn apply(&mut self, op: &Op) {
            match *op {
                Op::Wait(ticks) => (0..ticks).for_each(|_| self.tick()),
                Op::Crash(agent) => self.agents[agent].alive = false,
                Op::Close(agent) => {
                    if std::mem::take(&mut self.agents[agent].alive)
                        && self.look(agent) == self.agents[agent].over
                    {
                        self.store(agent, Operation::Delete, Bytes::new());
                    }
                }
                Op::Return(agent) => {
                    let look = self.look(agent);
                    let now = self.now;
                    let agent = &mut self.agents[agent];
                    if !agent.alive {
                        agent.alive = true;
                        agent.session += 1;
                        (agent.issued, agent.incarnation, agent.evicted) = (0, 0, true);
                        agent.renewed = now;
                        agent.hand_over(now, look);
                    }
                }
                Op::Hold(agent, on) => self.agents[agent].held = on,
                Op::Deafen(agent, on) => self.agents[agent].deaf = on,
                Op::Flow(flow) => self.flow = flow,
                Op::Stall(on) => {
                    self.stalled = on;
                    self.read();
                }
                Op::HoldAcks(on) => self.acks_held = on,
                Op::Interrupt => self.interrupt(),
                Op::Resume => self.resume(),
                Op::Pause(on) => self.paused = on,
                Op::RenewalsFirst(on) => self.renewals_first = on,
                Op::Dawdle(on) => self.dawdling = on,
                Op::Recreate => {
                    self.latest.fill(None);
                    // Acknowledgements come the same way, so none of the new bucket overtakes a delivery of the old.
                    self.lose_deliveries();
                    self.last = Revision::NONE;
                    self.commits.clear();
                    self.orphaned = true;
                }
            }
        }

        fn lose_deliveries(&mut self) {
            self.snapshot_due |= self.on_the_way.contains(&WatchEvent::SnapshotEnd);
            self.on_the_way.clear();
        }

        fn interrupt(&mut self) {
            if std::mem::take(&mut self.up) {
                self.lose_deliveries();
                let cause = InterruptCause::Disconnected;
                self.heard.push_back(WatchEvent::Interrupted(cause));
            }
        }

        fn resume(&mut self) {
            if !std::mem::replace(&mut self.up, true) {
                let same_bucket = !std::mem::take(&mut self.orphaned);
                if !same_bucket {
                    self.delivered = Revision::NONE;
                }
                self.read = self.delivered;
                self.heard.push_back(WatchEvent::Resumed { same_bucket });
                self.read();
            }
        }

        fn tick(&mut self) {
            self.now += TICK;
            self.ticks += 1;
            for i in 0..self.agents.len() {
                self.agent((i + self.ticks) % self.agents.len());
            }
            self.expire();
            let arriving = match self.flow {
                Flow::Held => 0,
                Flow::Trickle => 1,
                Flow::Free => self.on_the_way.len(),
            };
            for event in self.on_the_way.drain(..arriving.min(self.on_the_way.len())) {
                if let WatchEvent::Entry(record) = &event {
                    self.delivered = record.revision;
                }
                self.heard.push_back(event);
            }
            if !self.paused {
                self.watcher();
            }
        }

        fn agent(&mut self, i: usize) {
            while let Some(beat) = self.agents[i].beats.front()
                && !self.agents[i].held
                && beat.invoked < self.now
            {
                let Some(beat) = self.agents[i].beats.pop_front() else {
                    break;
                };
                // Nothing is on its way longer than the record that would keep it from being stored over nothing.
                let stale = beat.expected == Revision::NONE && self.now.since(beat.invoked) > TTL;
                let stored = (beat.expected == self.look(i) && !stale).then(|| {
                    let incarnation = beat.entry.incarnation();
                    self.commits.entry(incarnation).or_default().push(self.now);
                    self.store(i, Operation::Put, beat.entry.encode())
                });
                let own = beat.entry.incarnation.is_none()
                    || beat.entry.incarnation == self.agents[i].name(beat.incarnation);
                if !self.agents[i].deaf && own {
                    let ack = (beat.incarnation, beat.invoked, stored);
                    self.agents[i].acks.push_back(ack);
                }
            }
            let mine = i == 0;
            if !self.agents[i].alive || (mine && self.paused) {
                return;
            }
            while !(mine && self.acks_held)
                && let Some(ack) = self.agents[i].acks.pop_front()
            {
                let put = self.latest[i]
                    .as_ref()
                    .filter(|(record, _)| record.operation.is_put());
                let look = put.map(|(record, _)| record.revision);
                self.agents[i].acknowledged(self.now, ack, look);
                if let (true, (_, invoked, Some(revision))) = (mine, ack) {
                    self.renewals.push_back((revision, invoked));
                }
            }
            if self.agents[i].next <= self.now {
                let look = self.look(i);
                self.agents[i].hand_over(self.now, look);
            }
        }

        fn expire(&mut self) {
            for i in 0..self.latest.len() {
                let Some((record, stored)) = &self.latest[i] else {
                    continue;
                };
                let age = self.now.since(*stored);
                if record.operation == Operation::Expire && age >= INTERVAL {
                    self.latest[i] = None;
                } else if age >= MAX_AGE {
                    if self.markers && record.operation.is_put() {
                        self.store(i, Operation::Expire, Bytes::new());
                    } else {
                        self.latest[i] = None;
                    }
                }
            }
        }

        fn watcher(&mut self) {
            loop {
                let renewed = |(revision, invoked)| RosterEvent::Renewed { revision, invoked };
                let (heard, renewals) = (&mut self.heard, &mut self.renewals);
                let event = if self.renewals_first {
                    let renewal = renewals.pop_front().map(renewed);
                    renewal.or_else(|| heard.pop_front().map(RosterEvent::Watch))
                } else {
                    let heard = heard.pop_front().map(RosterEvent::Watch);
                    heard.or_else(|| renewals.pop_front().map(renewed))
                };
                let Some(event) = event else { break };
                if let RosterEvent::Watch(WatchEvent::Entry(record)) = &event
                    && let Some(entry) = Entry::decode(record)
                {
                    let stored = Instant::from_nanos(record.created.as_nanos() as u64);
                    self.last_heard.insert(entry.agent_id, stored);
                }
                let mut effects = Vec::new();
                self.roster.handle(self.now, event, &mut effects);
                self.perform(effects);
            }
            if self.roster.deadline().is_some_and(|at| at <= self.now) {
                let mut effects = Vec::new();
                self.roster.on_deadline(self.now, &mut effects);
                self.perform(effects);
                let deadline = self.roster.deadline();
                assert!(deadline.is_none_or(|at| at > self.now), "it would spin");
            }
            if !self.dawdling {
                self.catch_up();
            }
        }

        fn perform(&mut self, effects: Vec<RosterEffect>) {
            for effect in effects {
                match effect {
                    RosterEffect::Snapshot(entries) => {
                        for entry in entries {
                            self.up_once.insert(entry.incarnation());
                            self.told.insert(entry.agent_id.clone(), entry);
                        }
                        self.view = self.told.clone();
                    }
                    RosterEffect::Probe => {
                        let look = self.look(0);
                        let own = &mut self.agents[0];
                        if own.beats.is_empty() && own.acks.is_empty() {
                            own.hand_over(self.now, look);
                        }
                    }
                    RosterEffect::Tell(event) => {
                        self.told(&event);
                        if self.missed > 0 || self.unread.len() == UNREAD_MAX {
                            self.missed += 1;
                        } else {
                            self.unread.push_back(event);
                        }
                    }
                }
            }
        }

        /// The promises, checked where they are made: P3 for edges, P2 for silence.
        fn told(&mut self, event: &Event) {
            match event {
                Event::Up(entry) => {
                    let before = self.told.insert(entry.agent_id.clone(), entry.clone());
                    assert_eq!(before, None, "P3: up twice");
                    let first = self.up_once.insert(entry.incarnation());
                    assert!(
                        first || entry.incarnation.is_none(),
                        "P3: {entry:?} was up before"
                    );
                }
                Event::Down { entry, reason } => {
                    let before = self.told.remove(&entry.agent_id);
                    assert!(before.is_some(), "P3: {entry:?} was not up");
                    if *reason == DownReason::Silent {
                        let heard = self.last_heard[&entry.agent_id];
                        let commits = self.commits.get(&entry.incarnation());
                        let since = commits.into_iter().flatten().filter(|&&beat| beat > heard);
                        let mut beats: Vec<_> = since.copied().collect();
                        beats.insert(0, heard);
                        beats.push(self.now);
                        // Or else it has aged out.
                        let patience = self.roster.patience(entry).min(MAX_AGE);
                        let silent = beats.windows(2).any(|two| two[0] + patience <= two[1]);
                        assert!(silent, "P2: {entry:?} told silent, and beat at {beats:?}");
                    }
                }
                Event::Blind(_) | Event::Seeing | Event::Lagged { .. } => {}
            }
        }

        /// The reader reads all there is.
        fn catch_up(&mut self) {
            self.read_out();
            if self.missed > 0 {
                let missed = std::mem::take(&mut self.missed);
                let mut effects = Vec::new();
                let room = RosterEvent::Room { missed };
                self.roster.handle(self.now, room, &mut effects);
                self.perform(effects);
                self.read_out();
            }
            let blind = self.roster.snapshot_told && self.roster.blind.is_some();
            assert_eq!(self.view_blind, blind, "the reader must know");
            assert_eq!(
                self.view.keys().collect::<Vec<_>>(),
                self.told.keys().collect::<Vec<_>>()
            );
        }

        fn read_out(&mut self) {
            for event in self.unread.drain(..) {
                match event {
                    Event::Up(entry) => {
                        let before = self.view.insert(entry.agent_id.clone(), entry);
                        assert_eq!(before, None, "P3 after a lag");
                    }
                    Event::Down { entry, .. } => {
                        let before = self.view.remove(&entry.agent_id);
                        assert!(before.is_some(), "P3 after a lag");
                    }
                    Event::Blind(_) => {
                        assert!(!self.view_blind, "blind twice");
                        self.view_blind = true;
                    }
                    Event::Seeing => {
                        assert!(self.view_blind, "seeing without having been blind");
                        self.view_blind = false;
                    }
                    Event::Lagged { present, .. } => {
                        let present = present.into_iter().map(|e| (e.agent_id.clone(), e));
                        self.view = present.collect();
                        self.view_blind = false;
                    }
                }
            }
        }

        /// The second act: all is mended, and within its bound the watcher must know the truth.
        fn mend(&mut self) {
            for agent in 0..self.agents.len() {
                self.apply(&Op::Hold(agent, false));
                self.apply(&Op::Deafen(agent, false));
            }
            self.apply(&Op::HoldAcks(false));
            self.apply(&Op::Pause(false));
            self.apply(&Op::Stall(false));
            self.apply(&Op::Flow(Flow::Free));
            self.apply(&Op::Dawdle(false));
            if self.orphaned {
                self.interrupt();
            }
            self.resume();
            // What is under way arrives.
            self.apply(&Op::Wait(3));
            let mended = self.now;
            let bound = |entry: &Entry| self.roster.patience(entry) + INTERVAL * 2 + TICK * 3;
            let until = mended + bound(&entry("any", None, None));
            while self.now <= until {
                self.tick();
                for agent in self.agents.iter().filter(|agent| !agent.alive) {
                    if let Some(entry) = self.view.get(agent.id) {
                        let bound = self.roster.patience(entry) + INTERVAL * 2 + TICK * 3;
                        assert!(
                            self.now <= mended + bound,
                            "P1: {} has ended, is mended at {mended}, and at {} still up",
                            agent.id,
                            self.now,
                        );
                    }
                }
            }
            assert!(!self.view_blind, "it can see again");
            for agent in &self.agents {
                let known = self.view.get(agent.id).map(|entry| entry.agent_id.as_str());
                assert_eq!(known, agent.alive.then_some(agent.id), "who is there");
            }
        }
    }

    fn settings() -> ProptestConfig {
        let mut settings = ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        // The same cases each time; PROPTEST_RNG_SEED and PROPTEST_CASES ask for others and for more.
        if settings.rng_seed == RngSeed::Random {
            settings.rng_seed = RngSeed::Fixed(1);
        }
        settings
    }

    proptest! {
        #![proptest_config(settings())]

        /// P1, P2 and P3 over whatever may happen between a bucket and its watcher.
        #[test]
        fn whatever_happens_edges_alternate_silence_is_proven_and_ends_are_told(
            markers: bool,
            ops in prop::collection::vec(op(), 0..60),
        ) {
            let mut world = World::new(markers);
            for op in &ops {
                world.apply(op);
            }
            world.mend();
        }
    }
}
