//! What a component may take from its surroundings, in one parameter: a clock, a transport, chance, and `spawn`.
//!
//! There are two of them: the simulated node of `squall-sim` and [`nats::NatsEnv`](crate::nats). Code that takes an
//! `E: Env` has no other way to learn the time, to draw a number or to start a task, so that in the simulated world
//! the seed decides all of it.

use std::fmt;
use std::future::Future;

use rand_core::{Rng as _, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::time::Clock;
use crate::transport::Transport;

/// The surroundings of one process on one node. Cheap to clone.
pub trait Env: Clone + Send + Sync + 'static {
    /// This node's clocks.
    type Clock: Clock;
    /// This node's way to NATS.
    type Transport: Transport;

    /// This node's clocks.
    fn clock(&self) -> &Self::Clock;

    /// This node's way to NATS.
    fn transport(&self) -> &Self::Transport;

    /// A stream of random numbers of its own, for one purpose. Each call gives another stream, also for the same
    /// purpose; in the simulated world each is a function of the seed.
    fn rng(&self, purpose: &str) -> Rng;

    /// Starts a task that lives until it ends, its [`Task`] is dropped, or the process dies.
    ///
    /// `name` is for people: it appears in traces and in the count of live tasks.
    #[must_use = "dropping the task ends it"]
    fn spawn<F>(&self, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static;
}

/// A running task; dropping it ends the task at its next await.
#[must_use = "dropping the task ends it"]
pub struct Task {
    cancel: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Task {
    /// A task that `cancel` ends. For implementations of [`Env`].
    pub fn new(cancel: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self {
            cancel: Some(Box::new(cancel)),
        }
    }

    /// Lets the task run on by itself, until it ends or its process does.
    pub fn detach(mut self) {
        self.cancel = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(cancel) = self.cancel.take() {
            cancel();
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Task")
    }
}

/// A seeded stream of random numbers (xoshiro256++).
///
/// Its methods are few and written here, so that no upgrade of a crate changes what a seed means. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(Xoshiro256PlusPlus);

impl Rng {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A stream that depends on this seed and this label alone, so that streams for different purposes do not shift
    /// each other: drawing more from one leaves the others as they were.
    pub fn labelled(seed: u64, label: &str) -> Self {
        Self::new(mix(seed, label))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`, each equally likely (to within 2^-64 of `bound`).
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a number below 0 was asked for");
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `low..=high`.
    ///
    /// # Panics
    /// If `low > high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an empty range was asked for: {low}..={high}");
        match (high - low).checked_add(1) {
            Some(width) => low + self.below(width),
            None => self.next_u64(),
        }
    }

    /// True in `numerator` of `denominator` draws.
    ///
    /// # Panics
    /// If `denominator` is 0.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// One of these, or nothing where there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() {
            return None;
        }
        items.get(self.below(items.len() as u64) as usize)
    }

    /// Puts these in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}

/// Seed and label to another seed: FNV-1a over the label, then the finalizer of SplitMix64.
fn mix(seed: u64, label: &str) -> u64 {
    let mut hash = label.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash ^= seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a seed means is part of every saved plan: these numbers must never change.
    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut rng = Rng::labelled(7, "links");
        let drawn: Vec<u64> = (0..4).map(|_| rng.below(1_000_000)).collect();
        assert_eq!(drawn, PINNED);
        let mut items = [1, 2, 3, 4, 5];
        rng.shuffle(&mut items);
        assert_eq!(items, SHUFFLED);
    }

    const PINNED: [u64; 4] = [293_164, 165_812, 191_106, 83_492];
    const SHUFFLED: [i32; 5] = [3, 2, 4, 5, 1];

    #[test]
    fn streams_of_other_labels_and_seeds_are_others() {
        let first = |seed, label| Rng::labelled(seed, label).next_u64();
        assert_ne!(first(1, "faults"), first(1, "links"));
        assert_ne!(first(1, "faults"), first(2, "faults"));
        assert_eq!(first(1, "faults"), first(1, "faults"));
    }

    #[test]
    fn a_range_reaches_both_its_ends() {
        let mut rng = Rng::new(3);
        let drawn: Vec<u64> = (0..200).map(|_| rng.between(4, 6)).collect();
        assert!((4..=6).all(|n| drawn.contains(&n)) && drawn.iter().all(|n| (4..=6).contains(n)));
        assert_eq!(rng.between(9, 9), 9);
    }
}
