//! A yardstick: the search for a linearization as it is known since Lowe (*Testing for linearizability*, 2017), with
//! nothing in it that is special to registers. Porcupine is the same in Go.
//!
//! All calls and returns stand in a list in the order of time. The first call whose outcome the register allows is taken
//! out with its return, and the search begins again at the front; at a return, whose call was not taken out, it goes
//! back to the last one that was, and on from there. What was taken out, and what the register held then, is
//! remembered: a second time leads nowhere. A call of unknown outcome returns after everything else, and may do nothing.
#![allow(
    clippy::disallowed_types,
    reason = "the memory of the yardstick is a hash table, as in what it stands for; nothing walks it"
)]

use std::collections::HashMap;

use squall_scenarios::linear::model::{Effect, Held, Operation, Register};

/// Ends the list, and stands before it.
const NONE: usize = usize::MAX;

/// A call, or, where it has no match, a return.
#[derive(Clone, Copy)]
struct Node {
    operation: usize,
    matching: Option<usize>,
    before: usize,
    after: usize,
}

struct List {
    nodes: Vec<Node>,
    first: usize,
}

impl List {
    fn new(operations: &[Operation]) -> Self {
        let mut order: Vec<(u64, usize, bool)> = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            order.push((operation.invoked, index, false));
            order.push((operation.ended.unwrap_or(u64::MAX), index, true));
        }
        order.sort_unstable();
        let mut returns = vec![0; operations.len()];
        for (place, (_, operation, is_return)) in order.iter().enumerate() {
            if *is_return {
                returns[*operation] = place;
            }
        }
        let last = order.len() - 1;
        let nodes = order.iter().enumerate();
        let nodes = nodes.map(|(place, (_, operation, is_return))| Node {
            operation: *operation,
            matching: (!is_return).then(|| returns[*operation]),
            before: place.checked_sub(1).unwrap_or(NONE),
            after: if place == last { NONE } else { place + 1 },
        });
        Self {
            nodes: nodes.collect(),
            first: 0,
        }
    }

    fn unlink(&mut self, place: usize) {
        let Node { before, after, .. } = self.nodes[place];
        match before {
            NONE => self.first = after,
            before => self.nodes[before].after = after,
        }
        if after != NONE {
            self.nodes[after].before = before;
        }
    }

    fn relink(&mut self, place: usize) {
        let Node { before, after, .. } = self.nodes[place];
        match before {
            NONE => self.first = place,
            before => self.nodes[before].after = place,
        }
        if after != NONE {
            self.nodes[after].before = place;
        }
    }
}

/// What the register holds after this operation, if its outcome can be.
fn step(held: Held, operation: &Operation) -> Option<Held> {
    match (&operation.effect, operation.need.is_met_by(held)) {
        (Effect::Set(to), true) => Some(*to),
        (_, true) => Some(held),
        (_, false) => operation.ended.is_none().then_some(held),
    }
}

fn hash(taken: &[u64]) -> u64 {
    taken.iter().fold(0, |hash, word| {
        (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd)
    })
}

/// Whether the operations on a plain register are linearizable.
pub fn is_linearizable(register: &Register, operations: &[Operation]) -> bool {
    if operations.is_empty() {
        return true;
    }
    let mut list = List::new(operations);
    let mut taken = vec![0_u64; operations.len().div_ceil(64)];
    let mut seen: HashMap<u64, Vec<(Vec<u64>, Held)>> = HashMap::new();
    let mut path: Vec<(usize, Held)> = Vec::new();
    let mut held = register.initial;
    let mut at = list.first;
    while list.first != NONE {
        let Node {
            operation,
            matching,
            after,
            ..
        } = list.nodes[at];
        let bit = |taken: &mut Vec<u64>| taken[operation / 64] ^= 1 << (operation % 64);
        if let Some(matching) = matching {
            let Some(next) = step(held, &operations[operation]) else {
                at = after;
                continue;
            };
            bit(&mut taken);
            let alike = seen.entry(hash(&taken)).or_default();
            if alike
                .iter()
                .any(|(then, what)| *what == next && *then == taken)
            {
                bit(&mut taken);
                at = after;
                continue;
            }
            alike.push((taken.clone(), next));
            path.push((at, held));
            held = next;
            list.unlink(at);
            list.unlink(matching);
            at = list.first;
        } else {
            let Some((place, before)) = path.pop() else {
                return false;
            };
            let Node {
                operation,
                matching,
                ..
            } = list.nodes[place];
            taken[operation / 64] ^= 1 << (operation % 64);
            held = before;
            if let Some(matching) = matching {
                list.relink(matching);
            }
            list.relink(place);
            at = list.nodes[place].after;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use squall_core::Rng;
    use squall_scenarios::linear::jepsen::Numbered;
    use squall_scenarios::linear::sample::{Sample, spoil};
    use squall_scenarios::linear::{Verdict, judge};

    use super::*;

    /// A yardstick that decides something else measures nothing.
    #[test]
    fn both_searches_say_the_same() {
        let sample = Sample {
            clients: 5,
            calls: 60,
            values: 4,
            unknown_percent: 10,
        };
        let mut linearizable = 0;
        for seed in 0..200 {
            let rng = &mut Rng::new(seed);
            let mut entries = sample.draw(rng);
            if seed % 2 == 0 {
                spoil(&mut entries, sample.values, rng);
            }
            let numbered = Numbered::new(&entries);
            let found = is_linearizable(&numbered.register, &numbered.operations);
            let judged = judge(numbered.register, &numbered.operations);
            assert_eq!(found, judged == Verdict::Linearizable, "seed {seed}");
            linearizable += u32::from(found);
        }
        assert!((100..190).contains(&linearizable), "{linearizable}");
    }
}
