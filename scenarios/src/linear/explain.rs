//! From a history that no order explains to the fewest operations that no order explains.
//!
//! Leaving a write out would prove nothing: a read of its value would then be wrong by itself. So operations are not left
//! out but forgotten in part: what only looked is left out, and of what changed the register the end is forgotten, as if
//! its outcome were unknown. Each such step allows more orders than before, so a history that still has none is a
//! proof; and what cannot be forgotten now cannot be later either, so that one pass finds a smallest set.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::Progress;
use super::model::{Effect, Held, Need, Operation, Register};
use super::search::{Found, Search, Stuck};
use super::timeline::Timeline;

/// Events and steps that all searches of one explanation may take together.
const COST_MAX: u64 = 5_000_000;

/// Operations that no order explains. Each is needed: if only one of them had an unknown outcome instead, an order would
/// be there (unless the search for the smallest such set was given up).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexplained {
    /// Their places among all operations, by invocation.
    pub operations: Vec<usize>,
    /// Changes that may have happened or not, wherever they like, and would have written what one of those asks for: by
    /// invocation. They do not help.
    pub others: Vec<usize>,
    /// The one of the operations that has no place when it ends.
    pub stuck: usize,
    /// What the register can hold at that end without it.
    pub held: Vec<Held>,
}

pub(super) fn smallest(
    register: Register,
    operations: &[Operation],
    stuck: Stuck,
    look: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Unexplained {
    let mut smaller = Smaller {
        register,
        operations,
        last: operations[stuck.operation].ended.unwrap_or(u64::MAX),
        kept: vec![true; operations.len()],
        stuck,
        cost: 0,
        look,
        given_up: false,
    };
    smaller.shrink();
    smaller.result()
}

struct Smaller<'a> {
    register: Register,
    operations: &'a [Operation],
    /// The end at which the search was stuck: what comes later does not matter.
    last: u64,
    /// Whose end is not forgotten.
    kept: Vec<bool>,
    stuck: Stuck,
    cost: u64,
    look: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    given_up: bool,
}

impl Smaller<'_> {
    fn shrink(&mut self) {
        for (kept, operation) in self.kept.iter_mut().zip(self.operations) {
            *kept = operation.ended.is_some_and(|ended| ended <= self.last);
        }
        let mut candidates: Vec<usize> = self.all_kept().collect();
        let mut size = candidates.len().next_power_of_two() / 2;
        while size > 0 {
            for some in candidates.chunks(size) {
                self.forget(some);
            }
            candidates = self.all_kept().collect();
            size /= 2;
        }
    }

    fn all_kept(&self) -> impl Iterator<Item = usize> {
        (0..self.kept.len()).filter(|index| self.kept[*index])
    }

    /// Forgets the ends of these, if there is no order even then.
    fn forget(&mut self, some: &[usize]) {
        for index in some {
            self.kept[*index] = false;
        }
        match self.search() {
            Some(stuck) => self.stuck = stuck,
            None => some.iter().for_each(|index| self.kept[*index] = true),
        }
    }

    /// Whether there is surely no order of what is kept.
    fn search(&mut self) -> Option<Stuck> {
        let places: Vec<usize> = (0..self.operations.len())
            .filter(|index| {
                let operation = &self.operations[*index];
                operation.invoked <= self.last && (self.kept[*index] || operation.is_change())
            })
            .collect();
        let operations: Vec<Operation> = places
            .iter()
            .map(|index| Operation {
                ended: self.operations[*index].ended.filter(|_| self.kept[*index]),
                ..self.operations[*index].clone()
            })
            .collect();
        let line = Timeline::new(self.register, &operations);
        self.cost += line.events.len() as u64;
        let mut search = Search::new(&line, COST_MAX.saturating_sub(self.cost));
        let found = search.run(COST_MAX);
        self.cost += search.steps();
        let (explained, of) = search.progress();
        let progress = Progress {
            explained,
            of,
            steps: self.cost,
        };
        self.given_up |= (self.look)(progress).is_break();
        match found {
            Found::NoOrder(stuck) if !self.given_up => Some(Stuck {
                operation: places[stuck.operation],
                ..stuck
            }),
            _ => None,
        }
    }

    fn result(self) -> Unexplained {
        let by_invocation = |mut some: Vec<usize>| {
            some.sort_by_key(|index| self.operations[*index].invoked);
            some
        };
        let operations = by_invocation(self.all_kept().collect());
        let asked: BTreeSet<u32> = operations
            .iter()
            .filter_map(|index| match self.operations[*index].need {
                Need::Shows(number) => Some(number),
                _ => None,
            })
            .collect();
        let is_asked = |effect: &Effect| match effect {
            Effect::Set(to) => asked.contains(&to.number()),
            _ => false,
        };
        let serves = |index: &usize| {
            let operation = &self.operations[*index];
            let effect = match &operation.effect {
                Effect::OneOf(effects) => effects.iter().any(is_asked),
                effect => is_asked(effect),
            };
            effect && !self.kept[*index] && operation.invoked < self.last
        };
        Unexplained {
            others: by_invocation((0..self.operations.len()).filter(serves).collect()),
            operations,
            stuck: self.stuck.operation,
            held: self.stuck.held.into_iter().collect(),
        }
    }
}
