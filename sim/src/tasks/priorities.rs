//! Priorities of tasks, after Burckhardt and others, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs"
//! (ASPLOS 2010), known as PCT.
//!
//! Each task gets a random priority when it is first seen, and of those that are ready the one with the highest runs. At a few
//! turns, drawn beforehand, whoever would run falls below all others. An order that needs `d` of its turns to come out just
//! so is found with a probability of at least `1 / (n * k^(d - 1))` for `n` tasks and `k` turns, where a draw at each turn finds it
//! only with luck at all of them: one task may be kept waiting for as long as anybody else has something to do.

use std::collections::BTreeSet;

use slotmap::{Key as _, SecondaryMap};
use squall_core::Rng;

use super::TaskKey;

/// See the head of this file.
pub(crate) struct Priorities {
    rng: Rng,
    of_run: u64,
    of_tasks: SecondaryMap<TaskKey, u64>,
    /// Turns with a choice so far.
    turn: u64,
    /// Those at which whoever would run falls.
    changes: BTreeSet<u64>,
    /// What the next one falls to.
    lowest: u64,
}

/// Priorities that are drawn lie above all that tasks fall to.
const FALLEN: u64 = 1 << 32;

impl Priorities {
    /// Priorities that change so many times within so many turns at which there is a choice.
    pub(crate) fn new(mut rng: Rng, changes: u32, turns: u64) -> Self {
        let changes = (0..changes).map(|_| rng.below(turns.max(1))).collect();
        Self {
            of_run: drawn(&mut rng),
            rng,
            of_tasks: SecondaryMap::new(),
            turn: 0,
            changes,
            lowest: FALLEN,
        }
    }

    /// The place of the one that runs next among those that are ready.
    pub(crate) fn pick(&mut self, ready: impl Iterator<Item = TaskKey>) -> usize {
        let mut best = (0, 0, TaskKey::null());
        for (place, task) in ready.enumerate() {
            let priority = self.of(task);
            if priority > best.0 {
                best = (priority, place, task);
            }
        }
        let (_, place, task) = best;
        if self.changes.contains(&self.turn) {
            self.lowest -= 1;
            match self.of_tasks.get_mut(task) {
                Some(priority) => *priority = self.lowest,
                None => self.of_run = self.lowest,
            }
        }
        self.turn += 1;
        place
    }

    fn of(&mut self, task: TaskKey) -> u64 {
        if task.is_null() {
            return self.of_run;
        }
        if let Some(known) = self.of_tasks.get(task) {
            return *known;
        }
        let priority = drawn(&mut self.rng);
        self.of_tasks.insert(task, priority);
        priority
    }
}

fn drawn(rng: &mut Rng) -> u64 {
    FALLEN + rng.below(u64::MAX - FALLEN)
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    fn order(seed: u64, changes: u32) -> Vec<usize> {
        let mut tasks: SlotMap<TaskKey, ()> = SlotMap::with_key();
        let keys: Vec<TaskKey> = (0..3).map(|_| tasks.insert(())).collect();
        let mut priorities = Priorities::new(Rng::new(seed), changes, 20);
        (0..20)
            .map(|_| priorities.pick(keys.iter().copied()))
            .collect()
    }

    #[test]
    fn the_highest_runs_until_it_falls_below_all_others() {
        for seed in 0..20 {
            let calm = order(seed, 0);
            assert!(calm.iter().all(|place| *place == calm[0]), "{calm:?}");
            let changed = order(seed, 2);
            let mut runs = changed.clone();
            runs.dedup();
            let is_others = |pair: &[usize]| pair[0] != pair[1];
            assert!(
                runs.len() <= 3 && runs.windows(2).all(is_others),
                "{changed:?}"
            );
        }
        let firsts: BTreeSet<usize> = (0..20).map(|seed| order(seed, 0)[0]).collect();
        assert_eq!(firsts.len(), 3, "anybody may be first");
        assert!((0..20).any(|seed| {
            order(seed, 2)
                .iter()
                .any(|place| *place != order(seed, 2)[0])
        }));
    }
}
