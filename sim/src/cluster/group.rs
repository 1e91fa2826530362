//! One server's part in one replicated log: Raft, with nats-server's timing.

use std::fmt;
use std::time::Duration;

use squall_core::{Instant, Rng};

use super::log::{Entry, Log};
use super::timing::{Timing, draw};

/// A server of the group, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u8);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0 + 1)
    }
}

/// What one server of a group says to another. Each word tells its term: who hears of a later one than its own follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word<C> {
    /// The speaker's term.
    pub term: u64,
    /// What is said.
    pub said: Said<C>,
}

/// See [`Word`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<C> {
    /// A leader's: these entries follow on this one. Without entries it is a sign of life.
    Append {
        /// The number and the term of the entry before the first of `entries`.
        before: (u64, u64),
        /// What follows on it.
        entries: Vec<Entry<C>>,
        /// Up to this entry all is agreed.
        agreed: u64,
        /// Up to this entry all servers have it.
        everywhere: u64,
    },
    /// Everything up to this entry is as the leader has it.
    Have(u64),
    /// What was to be followed on is not here; the leader may try from this entry.
    Miss(u64),
    /// Stands for election, with a log that ends at this term and entry.
    Stand(u64, u64),
    /// Votes for who stands, or not.
    Vote(bool),
    /// A leader that steps down: stand now.
    Succeed,
}

/// What a group wants done, or has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed<C> {
    /// Say this to another server.
    Say(Peer, Word<C>),
    /// The next entry is agreed upon: do it, and, as the leader, acknowledge it.
    Agreed(u64, C),
    /// This server leads from now on.
    Leads,
    /// This server no longer leads: what it had proposed may or may not be agreed upon later.
    StandsBack,
}

/// A proposal was made to a server that does not lead. It is without effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this server does not lead the group")]
pub struct NotLeader;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    Follower,
    /// With its votes, by peer.
    Candidate(Vec<bool>),
    Leader(Vec<Follower>),
}

/// What a leader knows of another server; of itself this is of no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Follower {
    /// The entry to send next.
    next: u64,
    /// It has everything up to this entry.
    has: u64,
    heard_at: Instant,
}

/// See the head of this file. What survives the process: term, vote, log and what was agreed.
#[derive(Clone, Debug)]
pub struct Group<C> {
    me: Peer,
    size: u8,
    timing: Timing,
    term: u64,
    voted: Option<Peer>,
    log: Log<C>,
    agreed: u64,
    role: Role,
    /// Whom it follows; whoever votes for another does so until that one speaks as the leader.
    leader: Option<Peer>,
    /// Since it was started it has known a leader.
    had_leader: bool,
    /// When it was started.
    started: Instant,
    /// Its first entry as the leader: it leads once that is agreed upon, and with it what earlier leaders have left.
    floor: u64,
    /// When it stands, stands again, or speaks as the leader.
    due: Instant,
    /// When it asks itself, as the leader, whether it has a majority.
    check_due: Instant,
}

impl<C: Clone> Group<C> {
    /// A server's part in a new group of `size`. Who is `first` stands soon; the others would if it did not.
    pub fn new(
        me: Peer,
        size: u8,
        timing: Timing,
        is_first: bool,
        now: Instant,
        rng: &mut Rng,
    ) -> Self {
        assert!(me.0 < size, "a server is one of its group");
        let wait = match is_first {
            true => &timing.campaign,
            false => &timing.election,
        };
        let due = now + draw(wait, rng);
        Self {
            me,
            size,
            timing,
            term: 0,
            voted: None,
            log: Log::new(),
            agreed: 0,
            role: Role::Follower,
            leader: None,
            had_leader: false,
            started: now,
            floor: 0,
            due,
            check_due: Instant::FAR_FUTURE,
        }
    }

    /// Whether this server leads, as far as it knows: it was elected, and has done all that earlier leaders have left.
    pub const fn is_leader(&self) -> bool {
        self.is_elected() && self.agreed >= self.floor
    }

    const fn is_elected(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// How long ago this server, as the leader, last heard so many of the others that they and it are a majority.
    pub fn heard(&self, now: Instant) -> Option<Duration> {
        let Role::Leader(followers) = &self.role else {
            return None;
        };
        let heard = |peer: Peer| now.since(followers[usize::from(peer.0)].heard_at);
        let mut heard: Vec<Duration> = self.others().map(heard).collect();
        heard.sort_unstable();
        let others = self.majority() - 1;
        Some(
            others
                .checked_sub(1)
                .map_or(Duration::ZERO, |last| heard[last]),
        )
    }

    /// Whether this server knows that there is no leader. One that was started just now may not have heard of it.
    pub fn is_leaderless(&self, now: Instant, process_started: Instant) -> bool {
        let is_old = |since: Instant| now.since(since) > self.timing.majority_check;
        let knows = (self.had_leader && is_old(process_started)) || is_old(self.started);
        self.leader.is_none() && knows
    }

    /// Whom this server takes for the leader.
    pub const fn leader(&self) -> Option<Peer> {
        self.leader
    }

    /// The term it is in: leaders of different terms are told apart by it.
    pub const fn term(&self) -> u64 {
        self.term
    }

    /// The last entry that is agreed upon, as this server knows.
    pub const fn agreed(&self) -> u64 {
        self.agreed
    }

    /// When it wants to be woken.
    pub fn deadline(&self) -> Instant {
        self.due.min(self.check_due)
    }

    /// The process was started again.
    pub fn restart(&mut self, now: Instant, rng: &mut Rng) {
        self.role = Role::Follower;
        self.leader = None;
        (self.had_leader, self.started) = (false, now);
        self.check_due = Instant::FAR_FUTURE;
        self.due = now + draw(&self.timing.election, rng);
    }

    /// Proposes a command to the group; gives the number of its entry.
    ///
    /// # Errors
    /// If this server does not lead. `Ok` means nothing but that it was proposed: it may yet be forgotten.
    pub fn propose(&mut self, command: C, deeds: &mut Vec<Deed<C>>) -> Result<u64, NotLeader> {
        if !self.is_leader() {
            return Err(NotLeader);
        }
        let entry = Entry {
            term: self.term,
            command: Some(command),
        };
        let number = self.log.push(entry);
        self.tell_followers(deeds);
        self.agree(deeds);
        Ok(number)
    }

    /// Hands over to whoever has most of the log; does nothing where it does not lead.
    pub fn step_down(&mut self, now: Instant, rng: &mut Rng, deeds: &mut Vec<Deed<C>>) {
        let Role::Leader(followers) = &self.role else {
            return;
        };
        let best = self
            .others()
            .max_by_key(|peer| (followers[usize::from(peer.0)].has, u8::MAX - peer.0));
        if let Some(best) = best {
            deeds.push(self.say(best, Said::Succeed));
        }
        self.stand_back(now, rng, deeds);
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, now: Instant, rng: &mut Rng, deeds: &mut Vec<Deed<C>>) {
        if now >= self.check_due {
            self.check_due = now + self.timing.majority_check;
            if !self.has_majority(now) {
                self.stand_back(now, rng, deeds);
            }
        }
        if now < self.due {
            return;
        }
        if self.is_elected() {
            self.due = now + self.timing.heartbeat;
            self.tell_followers(deeds);
        } else {
            self.stand(now, rng, deeds);
        }
    }

    /// Hears what another server of the group says.
    pub fn hear(
        &mut self,
        now: Instant,
        from: Peer,
        word: Word<C>,
        rng: &mut Rng,
        deeds: &mut Vec<Deed<C>>,
    ) {
        if word.term > self.term {
            self.term = word.term;
            self.voted = None;
            if !matches!(self.role, Role::Follower) {
                self.stand_back(now, rng, deeds);
            }
        }
        let is_old = word.term < self.term;
        match word.said {
            Said::Append { .. } if is_old => {
                // It is refused, and put off standing all the same: of a leader that is put down by one that cannot win, a
                // last word is enough for seconds without another (measured).
                if !self.is_elected() {
                    self.due = now + draw(&self.timing.election, rng);
                }
                deeds.push(self.say(from, Said::Miss(0)));
            }
            Said::Append {
                before,
                entries,
                agreed,
                everywhere,
            } => {
                // A candidate of this term has lost to the speaker.
                self.role = Role::Follower;
                self.follow(from);
                self.due = now + draw(&self.timing.election, rng);
                let answer = self.follow_on(before, entries);
                if let Said::Have(number) = answer {
                    self.agree_to(agreed.min(number), deeds);
                    self.log.let_go(everywhere.min(self.agreed));
                }
                deeds.push(self.say(from, answer));
            }
            Said::Stand(..) if is_old => deeds.push(self.say(from, Said::Vote(false))),
            Said::Stand(term, number) => {
                let is_free = self.voted.is_none_or(|voted| voted == from);
                let votes = is_free && (term, number) >= self.log.newest();
                if votes {
                    self.voted = Some(from);
                    self.due = now + draw(&self.timing.election, rng);
                } else if self.voted.is_none() {
                    // Whoever stands has less of the log, and may have put a leader down: somebody else has to stand.
                    self.due = now + draw(&self.timing.campaign, rng);
                }
                deeds.push(self.say(from, Said::Vote(votes)));
            }
            Said::Vote(true) if !is_old => self.count_vote(now, from, deeds),
            Said::Have(number) if !is_old => self.has(now, from, number, deeds),
            Said::Miss(number) if !is_old => self.misses(now, from, number, deeds),
            Said::Succeed if !is_old && !self.is_elected() => self.stand(now, rng, deeds),
            Said::Vote(_) | Said::Have(_) | Said::Miss(_) | Said::Succeed => {}
        }
    }

    // As one that stands.

    fn stand(&mut self, now: Instant, rng: &mut Rng, deeds: &mut Vec<Deed<C>>) {
        self.term += 1;
        self.voted = Some(self.me);
        self.leader = None;
        let mut votes = vec![false; usize::from(self.size)];
        votes[usize::from(self.me.0)] = true;
        self.role = Role::Candidate(votes);
        self.due = now + draw(&self.timing.election, rng);
        let (term, number) = self.log.newest();
        for peer in self.others() {
            deeds.push(self.say(peer, Said::Stand(term, number)));
        }
        self.count_vote(now, self.me, deeds);
    }

    fn count_vote(&mut self, now: Instant, from: Peer, deeds: &mut Vec<Deed<C>>) {
        let Role::Candidate(votes) = &mut self.role else {
            return;
        };
        votes[usize::from(from.0)] = true;
        let won = votes.iter().filter(|vote| **vote).count();
        if won < self.majority() {
            return;
        }
        let follower = Follower {
            next: self.log.last() + 1,
            has: 0,
            heard_at: now,
        };
        self.role = Role::Leader(vec![follower; usize::from(self.size)]);
        self.follow(self.me);
        self.due = now + self.timing.heartbeat;
        self.check_due = now + self.timing.majority_check;
        // What earlier leaders left is agreed upon with this entry, and not before.
        self.floor = self.log.push(Entry {
            term: self.term,
            command: None,
        });
        self.tell_followers(deeds);
        self.agree(deeds);
    }

    // As a leader.

    fn tell_followers(&mut self, deeds: &mut Vec<Deed<C>>) {
        for peer in self.others() {
            self.tell(peer, deeds);
        }
    }

    /// Sends what a follower does not have yet, and takes it as sent.
    fn tell(&mut self, peer: Peer, deeds: &mut Vec<Deed<C>>) {
        let last = self.log.last();
        let everywhere = self.everywhere();
        let first = self.log.first();
        let Role::Leader(followers) = &mut self.role else {
            return;
        };
        let follower = &mut followers[usize::from(peer.0)];
        // What is gone here is everywhere.
        let next = follower.next.max(first);
        follower.next = last + 1;
        let said = Said::Append {
            before: (next - 1, self.log.term_of(next - 1).unwrap_or(0)),
            entries: self.log.from(next),
            agreed: self.agreed,
            everywhere,
        };
        deeds.push(self.say(peer, said));
    }

    fn has(&mut self, now: Instant, from: Peer, number: u64, deeds: &mut Vec<Deed<C>>) {
        let Role::Leader(followers) = &mut self.role else {
            return;
        };
        let follower = &mut followers[usize::from(from.0)];
        follower.heard_at = now;
        follower.has = follower.has.max(number);
        let before = self.agreed;
        self.agree(deeds);
        if self.agreed > before {
            // Followers learn at once what is agreed: it is what they answer reads with.
            self.tell_followers(deeds);
        }
        self.log.let_go(self.everywhere().min(self.agreed));
    }

    fn misses(&mut self, now: Instant, from: Peer, number: u64, deeds: &mut Vec<Deed<C>>) {
        let Role::Leader(followers) = &mut self.role else {
            return;
        };
        let follower = &mut followers[usize::from(from.0)];
        follower.heard_at = now;
        follower.next = number.max(follower.has) + 1;
        self.tell(from, deeds);
    }

    /// Agrees upon what a majority has, as far as an entry of this term covers it.
    fn agree(&mut self, deeds: &mut Vec<Deed<C>>) {
        let Role::Leader(followers) = &self.role else {
            return;
        };
        let mut has: Vec<u64> = followers.iter().map(|follower| follower.has).collect();
        has[usize::from(self.me.0)] = self.log.last();
        has.sort_unstable_by(|one, other| other.cmp(one));
        let number = has[self.majority() - 1];
        if self.log.term_of(number) == Some(self.term) {
            self.agree_to(number, deeds);
        }
    }

    /// Up to this entry every server has the log.
    fn everywhere(&self) -> u64 {
        let Role::Leader(followers) = &self.role else {
            return 0;
        };
        let has = self.others().map(|peer| followers[usize::from(peer.0)].has);
        has.min().unwrap_or_else(|| self.log.last())
    }

    fn has_majority(&self, now: Instant) -> bool {
        let Role::Leader(followers) = &self.role else {
            return true;
        };
        let heard = |peer: &Peer| {
            now.since(followers[usize::from(peer.0)].heard_at) < self.timing.majority_check
        };
        self.others().filter(heard).count() + 1 >= self.majority()
    }

    /// Gives up leading or standing.
    fn stand_back(&mut self, now: Instant, rng: &mut Rng, deeds: &mut Vec<Deed<C>>) {
        if self.is_elected() {
            deeds.push(Deed::StandsBack);
        }
        self.leader = None;
        self.role = Role::Follower;
        self.check_due = Instant::FAR_FUTURE;
        self.due = now + draw(&self.timing.election, rng);
    }

    // As a follower.

    const fn follow(&mut self, leader: Peer) {
        self.leader = Some(leader);
        self.had_leader = true;
    }

    fn follow_on(&mut self, before: (u64, u64), entries: Vec<Entry<C>>) -> Said<C> {
        let (before, term) = before;
        let is_gone = before < self.log.first() - 1;
        if !is_gone && self.log.term_of(before) != Some(term) {
            // Everything agreed is the same everywhere; of the rest the leader may skip what is too much.
            return Said::Miss(self.log.last().min(before - 1).max(self.agreed));
        }
        let mut number = before;
        for entry in entries {
            number += 1;
            match self.log.term_of(number) {
                _ if number < self.log.first() => continue,
                Some(term) if term == entry.term => continue,
                Some(_) => {
                    assert!(number > self.agreed, "what is agreed upon stays");
                    self.log.drop_from(number);
                }
                None => {}
            }
            let pushed = self.log.push(entry);
            assert_eq!(pushed, number, "a log has no holes");
        }
        Said::Have(number)
    }

    fn agree_to(&mut self, number: u64, deeds: &mut Vec<Deed<C>>) {
        while self.agreed < number {
            self.agreed += 1;
            let entry = self.log.get(self.agreed);
            if let Some(command) = entry.and_then(|entry| entry.command.clone()) {
                deeds.push(Deed::Agreed(self.agreed, command));
            }
            if self.is_elected() && self.agreed == self.floor {
                deeds.push(Deed::Leads);
            }
        }
    }

    // Of the group.

    fn majority(&self) -> usize {
        usize::from(self.size) / 2 + 1
    }

    fn others(&self) -> impl Iterator<Item = Peer> + use<C> {
        let me = self.me;
        (0..self.size).map(Peer).filter(move |peer| *peer != me)
    }

    fn say(&self, to: Peer, said: Said<C>) -> Deed<C> {
        let term = self.term;
        Deed::Say(to, Word { term, said })
    }
}
