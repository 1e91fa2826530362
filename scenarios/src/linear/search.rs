//! The search for an order of the operations on one register that explains all their outcomes.
//!
//! It is Lowe's just-in-time linearization (*Testing for linearizability*, 2017), depth first: nothing is given its place
//! before an operation ends that has none yet. Then everything is tried that can be put before that end: the operation
//! alone at first, then after one other, two others, and so on. A visit to a configuration that was there before leads
//! nowhere (Wing and Gong's search with Lowe's memory). What is special to registers makes many operations at once,
//! and many of unknown outcome, tractable:
//!
//! - What only looks is placed as soon as the register shows what it saw: that never costs anything.
//! - A write that was under way when a later write took effect may have come right before it, seen by nobody. It is
//!   marked as *buried*, and only its own end asks whether that is to count; so the order of writes that nobody tells
//!   apart is never searched.
//! - Unknown operations are told apart by what they do, not by who did them; and who has used fewer of them to come to
//!   the same place can do all that another can.

use std::collections::BTreeSet;

use super::model::{Effect, Held, Need};
use super::seen::{Layout, Seen};
use super::timeline::{Event, Timeline};

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is an order.
    Order,
    /// There is none.
    NoOrder(Stuck),
    /// It was given up.
    GivenUp,
}

/// Where every order ends: an operation that none can place, however the others are put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The first one by its end, a place among the operations.
    pub operation: usize,
    /// What the register can hold at that end without it.
    pub held: BTreeSet<Held>,
}

/// A choice: an end whose operation had no place, and what has not been tried there yet.
#[derive(Debug, Default)]
struct Choice {
    /// The event.
    event: usize,
    stage: Stage,
    /// Configurations before that end, the operation not placed yet, to which one more operation may be added.
    frontier: Vec<u32>,
    /// For each of them, whether it was reached by a write that so far serves nothing: another write would only bury it.
    idle: Vec<bool>,
    /// Configurations in which the operation is placed.
    placed: Vec<u32>,
    /// How many of them were tried.
    tried: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// It may have been buried.
    #[default]
    Buried,
    /// It alone.
    Alone,
    /// One other before it, or, if it only looks, one change.
    First,
    /// More.
    More,
}

/// Configurations that are compared in the time of placing one operation.
const COMPARED_AT_ONCE: u64 = 8;

pub(super) struct Search<'a> {
    line: &'a Timeline,
    layout: Layout,
    /// The next event.
    at: usize,
    /// Whether it looks for a way that is open, also when it is called again: `now` means nothing then.
    is_going_back: bool,
    /// The configuration before it.
    now: Vec<u32>,
    /// Slots whose operations are under way, and which those are.
    under_way: Vec<u32>,
    occupant: Vec<u32>,
    /// Unknown operations of each class that have begun.
    supplied: Vec<u32>,
    choices: Vec<Choice>,
    /// Used up, for their memory.
    spare: Vec<Choice>,
    seen: Seen,
    steps_max: u64,
    /// What was done so far, see [`steps`](Self::steps).
    placed: u64,
    /// What one operation counts: about the memory that it takes, in units of 128 bytes.
    weight: u64,
    /// The last event before which a choice stood, and what could be held there.
    furthest: usize,
    held: BTreeSet<Held>,
    scratch: Vec<u32>,
}

fn bit(words: &[u32], slot: u32) -> bool {
    words[slot as usize / 32] & (1 << (slot % 32)) != 0
}

fn set(words: &mut [u32], slot: u32) {
    words[slot as usize / 32] |= 1 << (slot % 32);
}

fn clear(words: &mut [u32], slot: u32) {
    words[slot as usize / 32] &= !(1 << (slot % 32));
}

impl<'a> Search<'a> {
    /// A search that may take so many steps in all.
    pub(super) fn new(line: &'a Timeline, steps_max: u64) -> Self {
        let layout = Layout::new(line.slots, line.classes.len());
        let mut now = vec![0; layout.len()];
        now[0] = line.register.initial.bits();
        let mut supplied = vec![0; line.classes.len()];
        supplied[..line.endless()].fill(u32::MAX);
        Self {
            line,
            layout,
            at: 0,
            is_going_back: false,
            now,
            under_way: vec![0; layout.words],
            occupant: vec![0; line.slots],
            supplied,
            choices: Vec::new(),
            spare: Vec::new(),
            seen: Seen::new(layout),
            steps_max,
            placed: 0,
            weight: 1 + layout.len() as u64 / 32,
            furthest: 0,
            held: BTreeSet::new(),
            scratch: Vec::new(),
        }
    }

    /// Events passed of all events: what it has come to now.
    pub(super) fn progress(&self) -> (usize, usize) {
        (self.at, self.line.events.len())
    }

    /// Operations put somewhere so far, those of wide configurations counted more than once; and so much for comparing
    /// configurations that it takes about the same time.
    pub(super) const fn steps(&self) -> u64 {
        self.placed + self.seen.compared / COMPARED_AT_ONCE
    }

    /// Searches for so many more steps. `GivenUp` where they were not enough: then it can be called again, as long as there
    /// are any left of all.
    pub(super) fn run(&mut self, steps: u64) -> Found {
        let limit = self.steps().saturating_add(steps).min(self.steps_max);
        loop {
            if !self.is_going_back && self.forward() {
                return Found::Order;
            }
            self.is_going_back = true;
            while self.is_going_back {
                if self.steps() >= limit {
                    return Found::GivenUp;
                }
                match self.next_choice() {
                    _ if self.steps() >= self.steps_max => return Found::GivenUp,
                    Next::Goes => self.is_going_back = false,
                    Next::Again => {}
                    Next::Nothing => return Found::NoOrder(self.stuck()),
                }
            }
        }
    }

    fn stuck(&self) -> Stuck {
        let operation = match self.line.events.get(self.furthest) {
            Some(Event::End { known, .. }) => self.line.known[*known as usize].operation,
            _ => 0,
        };
        Stuck {
            operation,
            held: self.held.clone(),
        }
    }

    fn done(&self, config: &[u32], slot: u32) -> bool {
        bit(&config[1..], slot)
    }

    fn buried(&self, config: &[u32], slot: u32) -> bool {
        bit(&config[1 + self.layout.words..], slot)
    }

    /// Goes on until all events are passed (true), or an end whose operation has no place (false), with a new choice for it
    /// unless it was seen before.
    fn forward(&mut self) -> bool {
        while let Some(event) = self.line.events.get(self.at) {
            match *event {
                Event::Begin { slot, known } => {
                    set(&mut self.under_way, slot);
                    self.occupant[slot as usize] = known;
                    let known = &self.line.known[known as usize];
                    if !known.is_change() && known.need.is_met_by(Held::of_bits(self.now[0])) {
                        set(&mut self.now[1..], slot);
                    }
                }
                Event::Supply { class } => self.supplied[class as usize] += 1,
                Event::End { slot, .. } => {
                    if !self.done(&self.now, slot) {
                        self.choose();
                        return false;
                    }
                    self.close(slot);
                }
            }
            self.at += 1;
        }
        true
    }

    /// The operation of this slot has ended.
    fn close(&mut self, slot: u32) {
        clear(&mut self.under_way, slot);
        let (done, rest) = self.now[1..].split_at_mut(self.layout.words);
        clear(done, slot);
        clear(rest, slot);
    }

    /// Back to this event.
    fn back_to(&mut self, event: usize) {
        while self.at > event {
            self.at -= 1;
            match self.line.events[self.at] {
                Event::Begin { slot, .. } => clear(&mut self.under_way, slot),
                Event::Supply { class } => self.supplied[class as usize] -= 1,
                Event::End { slot, known } => {
                    set(&mut self.under_way, slot);
                    self.occupant[slot as usize] = known;
                }
            }
        }
    }

    /// A new choice before the next event, unless there was one like it.
    fn choose(&mut self) {
        if self.at > self.furthest {
            self.furthest = self.at;
            self.held.clear();
        }
        if self.at == self.furthest {
            self.held.insert(Held::of_bits(self.now[0]));
        }
        if !self.seen.is_new(self.at, &self.now) {
            return;
        }
        let mut choice = self.spare.pop().unwrap_or_default();
        choice.event = self.at;
        choice.stage = Stage::Buried;
        choice.frontier.clear();
        choice.frontier.extend_from_slice(&self.now);
        choice.idle.clear();
        choice.idle.push(false);
        choice.placed.clear();
        choice.tried = 0;
        self.choices.push(choice);
    }

    /// Tries what is next at the latest choice.
    fn next_choice(&mut self) -> Next {
        let Some(mut choice) = self.choices.pop() else {
            return Next::Nothing;
        };
        self.back_to(choice.event);
        let Event::End { slot, known } = self.line.events[choice.event] else {
            return Next::Nothing;
        };
        let len = self.layout.len();
        if choice.tried * len < choice.placed.len() {
            let config = &choice.placed[choice.tried * len..(choice.tried + 1) * len];
            self.now.copy_from_slice(config);
            choice.tried += 1;
            return self.go(choice, slot);
        }
        match choice.stage {
            Stage::Buried => {
                choice.stage = Stage::Alone;
                if self.buried(&choice.frontier, slot) {
                    self.now.copy_from_slice(&choice.frontier);
                    return self.go(choice, slot);
                }
            }
            Stage::Alone => {
                choice.stage = Stage::First;
                let known = &self.line.known[known as usize];
                let held = Held::of_bits(choice.frontier[0]);
                if known.is_change()
                    && known.need.is_met_by(held)
                    && let Some(after) = self.line.register.after(held, &known.effect)
                {
                    self.scratch.clear();
                    self.scratch.extend_from_slice(&choice.frontier);
                    self.place(held, after, known.overwrites().is_some(), Some(slot));
                    self.now.copy_from_slice(&self.scratch);
                    return self.go(choice, slot);
                }
            }
            Stage::First | Stage::More => {
                self.widen(&mut choice, slot);
                choice.stage = Stage::More;
                if choice.frontier.is_empty() && choice.placed.is_empty() {
                    self.spare.push(choice);
                    return Next::Again;
                }
            }
        }
        self.choices.push(choice);
        Next::Again
    }

    /// Past the end of this slot's operation, which is placed.
    fn go(&mut self, choice: Choice, slot: u32) -> Next {
        self.choices.push(choice);
        self.close(slot);
        self.at += 1;
        Next::Goes
    }

    /// Adds one operation to each configuration of the frontier, in every way that may serve.
    fn widen(&mut self, choice: &mut Choice, slot: u32) {
        let len = self.layout.len();
        let frontier = std::mem::take(&mut choice.frontier);
        let idle = std::mem::take(&mut choice.idle);
        choice.placed.clear();
        choice.tried = 0;
        for (config, idle) in frontier.chunks_exact(len).zip(idle) {
            // One level may be wider than all that is allowed; nobody asks what comes after that.
            if self.steps() >= self.steps_max {
                return;
            }
            self.add_known(choice, config, idle, slot);
            self.add_unknown(choice, config, idle, slot);
        }
    }

    fn add_known(&mut self, choice: &mut Choice, config: &[u32], idle: bool, ending: u32) {
        let line = self.line;
        let held = Held::of_bits(config[0]);
        for word in 0..self.layout.words {
            let mut left = self.under_way[word] & !config[1 + word];
            while left != 0 {
                let slot = word as u32 * 32 + left.trailing_zeros();
                left &= left - 1;
                let known = &line.known[self.occupant[slot as usize] as usize];
                let overwrites = known.overwrites().is_some();
                if (choice.stage == Stage::First && slot == ending)
                    || (idle && overwrites)
                    || !known.need.is_met_by(held)
                {
                    continue;
                }
                let Some(after) = line.register.after(held, &known.effect) else {
                    continue;
                };
                self.scratch.clear();
                self.scratch.extend_from_slice(config);
                let serves = self.place(held, after, overwrites, Some(slot));
                self.keep(choice, ending, known.is_buriable && !serves);
            }
        }
    }

    fn add_unknown(&mut self, choice: &mut Choice, config: &[u32], idle: bool, ending: u32) {
        let line = self.line;
        let held = Held::of_bits(config[0]);
        let used_from = self.layout.head();
        for (number, class) in line.classes.iter().enumerate() {
            let used = used_from + number;
            if config[used] >= self.supplied[number] || !class.need.is_met_by(held) {
                continue;
            }
            for effect in &class.effects {
                let overwrites = class.need == Need::Anything && matches!(effect, Effect::Set(_));
                if idle && overwrites {
                    continue;
                }
                let Some(after) = line.register.after(held, effect) else {
                    continue;
                };
                self.scratch.clear();
                self.scratch.extend_from_slice(config);
                if number >= line.endless() {
                    self.scratch[used] += 1;
                }
                let serves = self.place(held, after, overwrites, None);
                // What is there already may be written again to bury others, and for nothing else.
                if after != held || self.scratch[1..used_from] != config[1..used_from] {
                    self.keep(choice, ending, !serves);
                }
            }
        }
    }

    /// The configuration in `scratch` is to be tried: as one in which the ending operation is placed, or to be added to.
    fn keep(&mut self, choice: &mut Choice, ending: u32, idle: bool) {
        if self.done(&self.scratch, ending) {
            choice.placed.extend_from_slice(&self.scratch);
            return;
        }
        if choice.event == self.furthest {
            self.held.insert(Held::of_bits(self.scratch[0]));
        }
        if self.seen.is_new(choice.event, &self.scratch) {
            choice.frontier.extend_from_slice(&self.scratch);
            choice.idle.push(idle);
        }
    }

    /// Lets an operation take effect in `scratch`, and everything that then sees what it saw. True if something does.
    fn place(&mut self, before: Held, after: Held, overwrites: bool, slot: Option<u32>) -> bool {
        self.placed += self.weight;
        let words = self.layout.words;
        self.scratch[0] = after.bits();
        let (done, rest) = self.scratch[1..].split_at_mut(words);
        if let Some(slot) = slot {
            set(done, slot);
        }
        let mut serves = false;
        for word in 0..words {
            let mut left = self.under_way[word] & !done[word];
            while left != 0 {
                let slot = word as u32 * 32 + left.trailing_zeros();
                left &= left - 1;
                let known = &self.line.known[self.occupant[slot as usize] as usize];
                if !known.is_change() {
                    if known.need.is_met_by(after) {
                        set(done, slot);
                        serves = true;
                    }
                } else if overwrites
                    && known.is_buriable
                    && let Some(other) = known.overwrites()
                    && self.line.register.may_bury(before, other, after)
                {
                    set(rest, slot);
                }
            }
        }
        serves
    }
}

enum Next {
    /// A new way is open.
    Goes,
    /// Not this one: ask again.
    Again,
    /// There is nothing left.
    Nothing,
}
