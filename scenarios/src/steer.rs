//! Steering: a sweep that learns from its runs where to look next.
//!
//! Half of the runs are seeds as they are drawn. The other half are [variations](crate::vary) of plans whose runs reached
//! something that no run before them had: a moment, a moment right after another, or a moment under a fault
//! ([`features`]). So a plan that gets half of the way to a violation, which says nothing by itself, is built upon instead of
//! forgotten. After the fuzzers that are guided by coverage (AFL, libFuzzer), with moments in the place of branches.
//!
//! It goes in rounds: what is run in a round follows from the rounds before alone, and what was reached is counted in the order
//! of the round. So the same first seed and the same number of runs give the same runs, on any number of threads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use squall_core::Rng;
use squall_sim::moments::Happened;

use crate::history::value_hash;
use crate::plan::Plan;
use crate::run::{Run, simulate_noticing};
use crate::stories::Scenario;
use crate::vary::{Moments, Origin, start, vary};

/// Runs of a round.
const ROUND: usize = 16;
/// Variations are rather of one of so many plans that reached something last.
const LATEST: usize = 32;

/// A scenario, or one with a flaw planted in it.
#[derive(Clone, Copy, Debug)]
pub struct Quarry {
    /// Which story.
    pub scenario: &'static Scenario,
    /// Which flaw.
    pub specimen: Option<&'static str>,
}

impl Quarry {
    /// The plan that it draws from a seed.
    pub fn draw(&self, seed: u64) -> Plan {
        Plan {
            specimen: self.specimen.map(str::to_owned),
            ..self.scenario.draw(seed)
        }
    }
}

/// One run of a steered sweep.
#[derive(Debug)]
pub struct Steered {
    /// Where its plan comes from.
    pub origin: Origin,
    /// It.
    pub run: Run,
    /// What happened in it.
    pub happened: Vec<Happened>,
    /// So much had not been reached before.
    pub news: usize,
}

/// A plan whose run reached something new.
struct Kept {
    origin: Origin,
    plan: Plan,
    moments: Moments,
}

/// Runs so many plans of one quarry on so many threads, and tells each run in order, until told to stop.
pub fn steer(
    quarry: Quarry,
    first_seed: u64,
    runs: u64,
    threads: usize,
    mut told: impl FnMut(&Steered) -> ControlFlow<()>,
) {
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Kept> = Vec::new();
    let mut seeds = first_seed..=u64::MAX;
    let mut left = runs;
    let label = format!("steer/{}", quarry.scenario.name);
    let mut rng = Rng::labelled(first_seed, &label);
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(ROUND).min(ROUND);
        let round: Vec<(Origin, Plan)> = (0..size)
            .map_while(|place| next(quarry, place, &kept, &mut seeds, &mut rng))
            .collect();
        if round.is_empty() {
            return;
        }
        left -= round.len() as u64;
        for ((origin, plan), (run, happened)) in round.iter().zip(run_all(&round, threads)) {
            let before = seen.len();
            seen.extend(features(&run, &happened));
            let news = seen.len() - before;
            let steered = Steered {
                origin: origin.clone(),
                run,
                happened,
                news,
            };
            if told(&steered).is_break() {
                return;
            }
            if news > 0 {
                kept.push(Kept {
                    origin: origin.clone(),
                    plan: plan.clone(),
                    moments: Moments::of(&steered.run, steered.happened),
                });
            }
        }
    }
}

/// What is run next: a seed, or, at every other place, a variation of what reached something.
fn next(
    quarry: Quarry,
    place: usize,
    kept: &[Kept],
    seeds: &mut impl Iterator<Item = u64>,
    rng: &mut Rng,
) -> Option<(Origin, Plan)> {
    let latest = &kept[kept.len().saturating_sub(LATEST)..];
    let among = if rng.chance(1, 2) { latest } else { kept };
    if let (1, Some(parent)) = (place % 2, rng.pick(among)) {
        let number = rng.below(1_000_000);
        let plan = vary(quarry.scenario, &parent.plan, &parent.moments, number);
        return Some((parent.origin.varied(number), plan));
    }
    let seed = seeds.next()?;
    Some((Origin::of_seed(seed), quarry.draw(seed)))
}

/// Runs all of a round, each on whichever thread is free.
fn run_all(round: &[(Origin, Plan)], threads: usize) -> Vec<(Run, Vec<Happened>)> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, round.len()) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some((_, plan)) = round.get(place) else {
                        return;
                    };
                    let ran = simulate_noticing(plan);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.insert(place, ran);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.into_values().collect()
}

/// What a run reached, as numbers: each moment that happened, once or often; which came right after which in one place; and
/// which happened under which kinds of faults.
pub fn features(run: &Run, happened: &[Happened]) -> BTreeSet<u64> {
    let mut reached = BTreeSet::new();
    let mut add = |text: String| {
        reached.insert(value_hash(text.as_bytes()));
    };
    let mut latest: BTreeMap<&str, &str> = BTreeMap::new();
    let mut often: BTreeMap<&str, u32> = BTreeMap::new();
    let mut pairs = BTreeSet::new();
    let mut under = BTreeSet::new();
    let faults = &run.plan.faults;
    let start = start(&run.plan, &run.history).unwrap_or_default();
    for moment in happened {
        let name = &*moment.name;
        *often.entry(name).or_default() += 1;
        if let Some(before) = latest.insert(&moment.place, name) {
            pairs.insert((before, name));
        }
        let at = moment.at.elapsed().saturating_sub(start);
        let active = faults
            .iter()
            .filter(|fault| fault.at <= at && at <= fault.ends());
        under.extend(active.map(|fault| (fault.kind.name(), name)));
    }
    for (name, times) in often {
        add(format!("{name} x {}", times.ilog2() / 2));
    }
    for (before, name) in pairs {
        add(format!("{before} > {name}"));
    }
    for (fault, name) in under {
        add(format!("{fault} / {name}"));
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stories;

    fn origins(threads: usize, runs: u64) -> Vec<(String, u64, usize)> {
        let scenario = stories::find("lock/paused-holder").expect("it is there");
        let quarry = Quarry {
            scenario,
            specimen: None,
        };
        let mut told = Vec::new();
        steer(quarry, 7, runs, threads, |steered| {
            let fingerprint = steered.run.fingerprint();
            told.push((steered.origin.to_string(), fingerprint, steered.news));
            ControlFlow::Continue(())
        });
        told
    }

    #[test]
    fn a_steered_sweep_is_the_same_on_any_number_of_threads() {
        let one = origins(1, 40);
        assert_eq!(one.len(), 40);
        assert_eq!(origins(3, 40), one);
        assert_eq!(origins(2, 30), one[..30]);
    }

    #[test]
    fn half_of_it_varies_what_reached_something_and_its_origin_gives_the_same_plan() {
        let all = origins(1, 40);
        let varied: Vec<_> = all
            .iter()
            .filter(|(origin, ..)| origin.contains('.'))
            .collect();
        assert!((12..=20).contains(&varied.len()), "{}", varied.len());
        let scenario = stories::find("lock/paused-holder").expect("it is there");
        for (origin, fingerprint, _) in varied {
            let plan = origin.parse::<Origin>().expect("an origin").plan(scenario);
            let run = crate::run::simulate(&plan);
            assert_eq!(run.fingerprint(), *fingerprint, "{origin}");
        }
    }
}
