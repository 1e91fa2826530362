//! Three parts of one group, over links that delay, hold and lose.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use squall_core::{Instant, Rng};

use super::*;

const SIZE: u8 = 3;
const LATENCY_US: u64 = 300;

/// The number that is to be agreed upon.
type Command = u32;

/// Words on their way, with when they arrive.
type Way = VecDeque<(Instant, Word<Command>)>;

struct Trio {
    now: Instant,
    rng: Rng,
    groups: Vec<Group<Command>>,
    alive: [bool; 3],
    /// What is on its way, by who speaks and who hears.
    ways: BTreeMap<(u8, u8), Way>,
    /// Ways on which everything waits.
    held: Vec<(u8, u8)>,
    /// What each has seen agreed upon, in order.
    agreed: [Vec<Command>; 3],
    /// Commands that a leader saw agreed upon while it led: those it acknowledges.
    acknowledged: Vec<Command>,
    /// Who has led in which term.
    led: BTreeMap<u64, u8>,
}

impl Trio {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let now = Instant::ZERO;
        let part = |me| Group::new(Peer(me), SIZE, Timing::default(), true, now, &mut rng);
        let groups = (0..SIZE).map(part).collect();
        Self {
            now,
            rng,
            groups,
            alive: [true; 3],
            ways: BTreeMap::new(),
            held: Vec::new(),
            agreed: Default::default(),
            acknowledged: Vec::new(),
            led: BTreeMap::new(),
        }
    }

    fn act(
        &mut self,
        who: u8,
        act: impl FnOnce(&mut Group<Command>, &mut Rng, &mut Vec<Deed<Command>>),
    ) {
        let mut deeds = Vec::new();
        act(
            &mut self.groups[usize::from(who)],
            &mut self.rng,
            &mut deeds,
        );
        for deed in deeds {
            match deed {
                Deed::Say(to, word) => {
                    let way = self.ways.entry((who, to.0)).or_default();
                    let jitter = Duration::from_micros(self.rng.below(LATENCY_US));
                    let earliest = way.back().map_or(Instant::ZERO, |(at, _)| *at);
                    way.push_back(((self.now + jitter).max(earliest), word));
                }
                Deed::Agreed(_, command) => {
                    self.agreed[usize::from(who)].push(command);
                    if self.groups[usize::from(who)].is_leader() {
                        self.acknowledged.push(command);
                    }
                }
                Deed::Leads => {
                    let term = self.groups[usize::from(who)].term();
                    let before = self.led.insert(term, who);
                    assert_eq!(before, None, "one leader a term");
                }
                Deed::StandsBack => {}
            }
        }
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let heads = self.ways.iter().filter(|(way, _)| !self.held.contains(way));
            let word = heads
                .filter_map(|(way, words)| Some((words.front()?.0, *way)))
                .min();
            let timer = (0..SIZE)
                .filter(|who| self.alive[usize::from(*who)])
                .map(|who| (self.groups[usize::from(who)].deadline(), who))
                .min();
            let next = [word.map(|(at, _)| at), timer.map(|(at, _)| at)];
            let Some(at) = next.into_iter().flatten().min().filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            let now = self.now;
            match (word, timer) {
                (Some((due, way)), _) if due == at => {
                    let word = self.ways.get_mut(&way).and_then(VecDeque::pop_front);
                    if let (Some((_, word)), true) = (word, self.alive[usize::from(way.1)]) {
                        self.act(way.1, |group, rng, deeds| {
                            group.hear(now, Peer(way.0), word, rng, deeds);
                        });
                    }
                }
                (_, Some((_, who))) => {
                    self.act(who, |group, rng, deeds| group.on_deadline(now, rng, deeds));
                }
                _ => {}
            }
        }
        self.now = until;
    }

    fn propose(&mut self, who: u8, command: Command) -> bool {
        let mut taken = false;
        self.act(who, |group, _, deeds| {
            taken = group.propose(command, deeds).is_ok();
        });
        taken
    }

    fn kill(&mut self, who: u8) {
        self.alive[usize::from(who)] = false;
        // What is on its way from it or to it goes with its connections.
        self.ways.retain(|way, _| way.0 != who && way.1 != who);
    }

    fn start(&mut self, who: u8) {
        let now = self.now;
        self.alive[usize::from(who)] = true;
        self.act(who, |group, rng, _| group.restart(now, rng));
    }

    fn hold(&mut self, who: u8) {
        for other in others(who) {
            self.held.extend([(who, other), (other, who)]);
        }
    }

    /// The latest leader of those that live, which a majority follows.
    fn leader(&self) -> Option<u8> {
        let leaders = (0..SIZE).filter(|who| {
            self.alive[usize::from(*who)] && self.groups[usize::from(*who)].is_leader()
        });
        leaders.max_by_key(|who| self.groups[usize::from(*who)].term())
    }

    fn await_leader(&mut self) -> u8 {
        for _ in 0..60_000 {
            self.pass(Duration::from_millis(1));
            if let Some(leader) = self.leader() {
                return leader;
            }
        }
        panic!("nobody leads after a minute");
    }

    /// A leader whom the others follow, with a first entry everywhere.
    fn settled(seed: u64) -> (Self, u8) {
        let mut trio = Self::new(seed);
        trio.await_leader();
        trio.pass(Duration::from_secs(3));
        let leader = trio.await_leader();
        assert!(trio.propose(leader, 1));
        trio.pass(Duration::from_millis(10));
        assert_eq!(trio.agreed, [vec![1], vec![1], vec![1]]);
        (trio, leader)
    }

    /// What one server saw agreed upon is the beginning of what another did.
    fn check(&self) {
        for one in &self.agreed {
            for other in &self.agreed {
                let common = one.len().min(other.len());
                assert_eq!(one[..common], other[..common]);
            }
        }
        let longest = self.agreed.iter().max_by_key(|agreed| agreed.len());
        for command in &self.acknowledged {
            assert!(longest.is_some_and(|agreed| agreed.contains(command)));
        }
    }
}

fn others(who: u8) -> [u8; 2] {
    [(who + 1) % SIZE, (who + 2) % SIZE]
}

/// Measured: 4.1 to 5.3 s after a kill, 4.3 to 7.5 s after a pause or a partition.
#[test]
fn a_dead_leader_is_followed_by_another_as_late_as_measured() {
    let mut gaps = Vec::new();
    for seed in 0..200 {
        let (mut trio, leader) = Trio::settled(seed);
        let killed = trio.now;
        trio.kill(leader);
        trio.await_leader();
        gaps.push(trio.now.since(killed).as_millis());
    }
    gaps.sort_unstable();
    assert!(gaps[0] >= 3000 && gaps[199] < 9900, "{gaps:?}");
    assert!((4500..6000).contains(&gaps[100]), "{}", gaps[100]);
}

/// Measured: 17 to 24 ms without a leader.
#[test]
fn a_leader_that_steps_down_is_followed_at_once() {
    for seed in 0..50 {
        let (mut trio, leader) = Trio::settled(seed);
        let now = trio.now;
        trio.act(leader, |group, rng, deeds| group.step_down(now, rng, deeds));
        let next = trio.await_leader();
        assert_ne!(next, leader);
        assert!(trio.now.since(now) <= Duration::from_millis(3));
        assert!(trio.propose(next, 2));
        trio.pass(Duration::from_millis(10));
        assert_eq!(trio.agreed, [vec![1, 2], vec![1, 2], vec![1, 2]]);
    }
}

/// Otherwise it would judge a conditional write by less than will be there when that is stored.
#[test]
fn the_next_leader_has_done_what_the_one_before_left() {
    for seed in 0..50 {
        let (mut trio, leader) = Trio::settled(seed);
        let [one, other] = others(leader);
        trio.held.extend([(one, leader), (other, leader)]);
        assert!(trio.propose(leader, 2));
        trio.pass(Duration::from_millis(5));
        assert_eq!(trio.agreed[usize::from(one)], [1], "it is not agreed upon");
        trio.kill(leader);
        trio.held.clear();
        let next = trio.await_leader();
        assert_eq!(trio.agreed[usize::from(next)], [1, 2], "seed {seed}");
    }
}

/// Measured: one that is cut off from the leader alone stands and cannot win; who refuses it stands 0.1 to 0.8 s later,
/// but 4 to 9 s after the last word of the leader that is put down by it, where that comes in between.
#[test]
fn who_cannot_win_puts_the_leader_down_for_seconds_where_it_speaks() {
    for seed in 0..100 {
        let (mut trio, leader) = Trio::settled(seed);
        let [behind, third] = others(leader);
        trio.held.extend([(leader, behind), (behind, leader)]);
        assert!(trio.propose(leader, 2));
        let term = trio.groups[usize::from(leader)].term();
        while trio.groups[usize::from(third)].term() == term {
            trio.pass(Duration::from_millis(1));
        }
        let refused = trio.now;
        let speaks = seed % 2 == 0;
        if speaks {
            assert!(trio.propose(leader, 3), "it does not know yet");
            trio.pass(Duration::from_millis(2));
            assert!(!trio.groups[usize::from(leader)].is_leader());
        } else {
            trio.kill(leader);
        }
        trio.await_leader();
        let gap = trio.now.since(refused).as_millis();
        let expected = if speaks { 3900..9900 } else { 90..810 };
        assert!(expected.contains(&gap), "seed {seed}: {gap} ms");
    }
}

/// Measured: it describes its stream for 15 s, and says all the while how long it has heard nobody.
#[test]
fn a_leader_says_how_long_it_has_heard_nobody() {
    let (mut trio, leader) = Trio::settled(1);
    let heard = |trio: &Trio| trio.groups[usize::from(leader)].heard(trio.now);
    for _ in 0..50 {
        trio.pass(Duration::from_millis(100));
        assert!(heard(&trio).is_some_and(|heard| heard <= Duration::from_millis(1010)));
    }
    trio.hold(leader);
    trio.pass(Duration::from_secs(9));
    assert!(heard(&trio).is_some_and(|heard| heard >= Duration::from_secs(9)));
    let started = Instant::ZERO;
    let is_leaderless =
        |trio: &Trio| trio.groups[usize::from(leader)].is_leaderless(trio.now, started);
    assert!(!is_leaderless(&trio));
    trio.pass(Duration::from_secs(12));
    assert_eq!(heard(&trio), None);
    assert!(is_leaderless(&trio));
    trio.held.clear();
    trio.pass(Duration::from_secs(2));
    assert!(!is_leaderless(&trio));
}

/// Measured: it takes writes for 13.3 to 17.9 s, acknowledges none, and they are there once a follower is back.
#[test]
fn a_leader_without_followers_gives_up_and_keeps_ghosts() {
    for seed in 0..50 {
        let (mut trio, leader) = Trio::settled(seed);
        let alone = trio.now;
        let [back, other] = others(leader);
        trio.kill(back);
        trio.kill(other);
        assert!(trio.propose(leader, 2));
        trio.pass(Duration::from_secs(9));
        assert!(trio.groups[usize::from(leader)].is_leader());
        while trio.leader() == Some(leader) {
            trio.pass(Duration::from_millis(100));
        }
        let took = trio.now.since(alone);
        assert!(took <= Duration::from_secs(21), "{took:?}");
        assert!(!trio.propose(leader, 3));
        assert_eq!(trio.acknowledged, [1]);
        trio.start(back);
        trio.await_leader();
        trio.pass(Duration::from_millis(10));
        assert_eq!(trio.agreed[usize::from(back)], [1, 2]);
        trio.check();
    }
}

/// Measured: what it was told alone is lost once the others have gone on.
#[test]
fn an_isolated_leader_acknowledges_nothing_and_forgets_it() {
    for seed in 0..50 {
        let (mut trio, first) = Trio::settled(seed);
        trio.hold(first);
        assert!(trio.propose(first, 2));
        trio.pass(Duration::from_millis(9900));
        let next = trio.leader().expect("the others have elected one");
        assert_ne!(next, first);
        assert!(trio.propose(next, 3));
        trio.pass(Duration::from_secs(10));
        assert_eq!(trio.acknowledged, [1, 3]);
        trio.held.clear();
        trio.pass(Duration::from_secs(20));
        assert_eq!(trio.agreed[usize::from(first)], [1, 3]);
        trio.check();
    }
}

/// A group of one agrees with itself.
#[test]
fn a_group_of_one_agrees_at_once() {
    let (now, mut rng) = (Instant::ZERO, Rng::new(1));
    let mut group: Group<Command> = Group::new(Peer(0), 1, Timing::default(), true, now, &mut rng);
    let mut deeds = Vec::new();
    group.on_deadline(group.deadline(), &mut rng, &mut deeds);
    assert_eq!(group.propose(7, &mut deeds), Ok(2));
    assert_eq!(deeds, [Deed::Leads, Deed::Agreed(2, 7)]);
}

#[derive(Clone, Debug)]
enum Step {
    Propose(u8),
    Pass(u64),
    Kill(u8),
    Start(u8),
    Hold(u8, u8),
    Release,
    HandOver(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..SIZE;
    prop_oneof![
        4 => who.clone().prop_map(Step::Propose),
        4 => (0_u64..12_000).prop_map(Step::Pass),
        1 => who.clone().prop_map(Step::Kill),
        2 => who.clone().prop_map(Step::Start),
        2 => (who.clone(), who.clone()).prop_map(|(from, to)| Step::Hold(from, to)),
        1 => Just(Step::Release),
        1 => who.prop_map(Step::HandOver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: one leader a term, one order for all, nothing acknowledged is lost; and once all is mended,
    /// everybody has everything.
    #[test]
    fn whatever_happens_all_agree(seed: u64, steps in prop::collection::vec(step(), 1..60)) {
        let mut trio = Trio::new(seed);
        let mut command = 0;
        for step in steps {
            match step {
                Step::Propose(who) if trio.alive[usize::from(who)] => {
                    command += 1;
                    trio.propose(who, command);
                }
                Step::Pass(millis) => trio.pass(Duration::from_millis(millis)),
                Step::Kill(who) => trio.kill(who),
                Step::Start(who) if !trio.alive[usize::from(who)] => trio.start(who),
                Step::Hold(from, to) => trio.held.push((from, to)),
                Step::Release => trio.held.clear(),
                Step::HandOver(who) if trio.alive[usize::from(who)] => {
                    let now = trio.now;
                    trio.act(who, |group, rng, deeds| group.step_down(now, rng, deeds));
                }
                Step::Propose(_) | Step::Start(_) | Step::HandOver(_) => {}
            }
            trio.check();
        }
        trio.held.clear();
        for who in 0..SIZE {
            if !trio.alive[usize::from(who)] {
                trio.start(who);
            }
        }
        trio.pass(Duration::from_secs(60));
        let leader = trio.await_leader();
        command += 1;
        prop_assert!(trio.propose(leader, command));
        trio.pass(Duration::from_secs(2));
        trio.check();
        prop_assert_eq!(&trio.agreed[0], &trio.agreed[1]);
        prop_assert_eq!(&trio.agreed[1], &trio.agreed[2]);
        prop_assert_eq!(trio.agreed[0].last(), Some(&command));
    }
}
