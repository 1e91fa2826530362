//! The operations on one register as a search walks them: events in order, a slot for each operation that is under way,
//! and the unknown ones gathered into classes.
//!
//! Two unknown operations that ask the same and do the same are interchangeable once both have begun: only their number
//! counts. What reads nobody makes could tell apart is one value, and what could not be noticed is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Effect, Held, Need, Operation, Register};

/// An operation whose end is known.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Its place among the operations.
    pub(super) operation: usize,
    pub(super) need: Need,
    pub(super) effect: Effect,
    /// Whether another write may bury it: not where two claim to have written the same revision.
    pub(super) is_buriable: bool,
}

impl Known {
    /// What it writes whatever is there, if it does.
    pub(super) const fn overwrites(&self) -> Option<Held> {
        match (self.need, &self.effect) {
            (Need::Anything, Effect::Set(to)) => Some(*to),
            _ => None,
        }
    }

    pub(super) const fn is_change(&self) -> bool {
        !matches!(self.effect, Effect::Nothing)
    }
}

/// Unknown operations that cannot be told apart.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) need: Need,
    pub(super) effects: Vec<Effect>,
}

/// What happens next. Numbers of slots, of known operations and of classes are places in the tables here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A known operation begins, in a slot that is free.
    Begin { slot: u32, known: u32 },
    /// An operation of unknown outcome begins.
    Supply { class: u32 },
    /// A known operation ends: it must have taken effect.
    End { slot: u32, known: u32 },
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    pub(super) register: Register,
    pub(super) events: Vec<Event>,
    pub(super) known: Vec<Known>,
    pub(super) classes: Vec<Class>,
    /// The most operations of known end that are ever under way at once.
    pub(super) slots: usize,
}

/// Stands for every value that nothing asks for.
const UNASKED: Held = Held::value(Held::NUMBER_MAX);

impl Timeline {
    pub(super) fn new(register: Register, operations: &[Operation]) -> Self {
        let mut timeline = Self {
            register,
            events: Vec::with_capacity(2 * operations.len()),
            known: Vec::new(),
            classes: Vec::new(),
            slots: 0,
        };
        let asked = Asked::of(operations);
        let mut order: Vec<(u64, usize)> = Vec::with_capacity(2 * operations.len());
        for (index, operation) in operations.iter().enumerate() {
            order.push((operation.invoked, index));
            order.extend(operation.ended.map(|ended| (ended, index)));
        }
        order.sort_unstable();
        if register.is_forgetful {
            timeline.classes.push(Class {
                need: Need::There,
                effects: vec![Effect::Vanish],
            });
        }
        let mut classes: BTreeMap<(Need, Effect), Option<u32>> = BTreeMap::new();
        let mut places = vec![(0, 0); operations.len()];
        let mut free = Vec::new();
        for (at, index) in order {
            let operation = &operations[index];
            if operation.ended.is_none() {
                let sort = (operation.need, operation.effect.clone());
                let class = *classes
                    .entry(sort)
                    .or_insert_with_key(|(need, effect)| timeline.class(*need, effect, &asked));
                timeline
                    .events
                    .extend(class.map(|class| Event::Supply { class }));
            } else if at == operation.invoked {
                let slot = free.pop().unwrap_or_else(|| {
                    timeline.slots += 1;
                    timeline.slots as u32 - 1
                });
                let known = timeline.known.len() as u32;
                timeline.known.push(known_of(index, operation, &register));
                places[index] = (slot, known);
                timeline.events.push(Event::Begin { slot, known });
            } else {
                let (slot, known) = places[index];
                free.push(slot);
                timeline.events.push(Event::End { slot, known });
            }
        }
        timeline.mark_buriable();
        timeline
    }

    fn mark_buriable(&mut self) {
        let written = |known: &Known| known.overwrites().map(Held::number);
        let mut writes: BTreeMap<u32, u32> = BTreeMap::new();
        for number in self.known.iter().filter_map(written) {
            *writes.entry(number).or_default() += 1;
        }
        for known in &mut self.known {
            let same = written(known).map(|number| writes[&number]);
            known.is_buriable = same.is_some_and(|same| same == 1 || !self.register.is_ordered);
        }
    }

    /// The class of an unknown operation, unless nothing could ever show that it took effect.
    fn class(&mut self, need: Need, effect: &Effect, asked: &Asked) -> Option<u32> {
        let effects: Vec<Effect> = match effect {
            Effect::OneOf(effects) => effects.to_vec(),
            one => vec![one.clone()],
        };
        let mut kept: Vec<Effect> = effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Set(to) if !self.register.is_ordered && !asked.for_it(to) => {
                    asked.for_others.then_some(Effect::Set(UNASKED))
                }
                Effect::Set(to) if need == Need::Shows(to.number()) => None,
                Effect::Nothing | Effect::OneOf(_) => None,
                effect => Some(effect),
            })
            .collect();
        kept.dedup();
        if kept.is_empty() {
            return None;
        }
        // Another that was written otherwise may do the same.
        let same = |class: &Class| class.need == need && class.effects == kept;
        let found = self.classes.iter().skip(self.endless()).position(same);
        let place = found.map_or(self.classes.len(), |found| found + self.endless());
        if found.is_none() {
            let effects = kept;
            self.classes.push(Class { need, effects });
        }
        Some(place as u32)
    }

    /// How many classes, the first ones, have no end to their supply.
    pub(super) const fn endless(&self) -> usize {
        self.register.is_forgetful as usize
    }
}

fn known_of(index: usize, operation: &Operation, register: &Register) -> Known {
    let effect = match (&operation.effect, operation.need) {
        // A compare-and-set to what is there already is a read.
        (Effect::Set(to), Need::Shows(number))
            if !register.is_ordered && *to == Held::value(number) =>
        {
            Effect::Nothing
        }
        (effect, _) => effect.clone(),
    };
    Known {
        operation: index,
        need: operation.need,
        effect,
        is_buriable: false,
    }
}

/// The values that something asks for.
struct Asked {
    numbers: BTreeSet<u32>,
    /// Whether something asks that a value be another.
    for_others: bool,
}

impl Asked {
    fn of(operations: &[Operation]) -> Self {
        let mut asked = Self {
            numbers: BTreeSet::new(),
            for_others: false,
        };
        for operation in operations {
            match operation.need {
                Need::Shows(number) => {
                    asked.numbers.insert(number);
                }
                Need::ShowsNot(number) => {
                    asked.numbers.insert(number);
                    asked.for_others = true;
                }
                Need::Anything => {}
                _ => asked.for_others = true,
            }
        }
        asked
    }

    fn for_it(&self, held: Held) -> bool {
        self.numbers.contains(&held.number())
    }
}
