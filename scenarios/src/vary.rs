//! Variations: a plan that is like another one but for a few steps, aimed at what happened in the other's run.
//!
//! A fault at random strikes when nothing is under way, mostly. So the run is watched: what machines heard and wanted, what
//! went over the links and what servers did, each with its time (`squall_sim::moments`). A fault is then placed just before, at
//! or just after one of these moments. The kind of moment is drawn first, and then which of its kind, rather the first: so
//! what happens once in a run is aimed at as often as a heartbeat. Up to the fault, the new run is the old one: each
//! concern draws from a stream of its own.
//!
//! What comes out is a plain plan with plain times. It is a function of the scenario, the seed and the numbers of the variations,
//! written `17.3.99`: the plan of seed 17, varied by 3, varied by 99. See [`Origin`].

mod kinds;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use squall_core::Rng;
use squall_sim::moments::Moments;

use self::kinds::Kinds;
use crate::history::{History, Life, What};
use crate::parse::parse;
use crate::plan::Plan;
use crate::run::{Run, simulate_noticing};
use crate::stories::Scenario;

/// A plan has no more faults than this: more hide each other.
const FAULTS_MAX: usize = 10;
/// Steps from a plan to a variation of it. With one or two, most runs go as their parents' did, and flaws hidden in storms
/// took half as many again.
const STEPS: u32 = 8;
/// Each is drawn so often until it gives a plan that can be.
const TRIES: u32 = 8;
/// Moments of one kind that are kept.
const OF_A_KIND: usize = 12;

/// Where a plan comes from: a seed, and what it was varied by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The seed that it was drawn from.
    pub seed: u64,
    /// The numbers of its variations, in order.
    pub variations: Vec<u64>,
}

impl Origin {
    /// The plan of a seed, as it is drawn.
    pub const fn of_seed(seed: u64) -> Self {
        Self {
            seed,
            variations: Vec::new(),
        }
    }

    /// The same, varied once more.
    #[must_use]
    pub fn varied(&self, number: u64) -> Self {
        let mut varied = self.clone();
        varied.variations.push(number);
        varied
    }

    /// Its plan.
    pub fn plan(&self, scenario: &Scenario) -> Plan {
        let drawn = scenario.draw(self.seed);
        self.variations.iter().fold(drawn, |plan, number| {
            let (run, moments) = simulate_noticing(&plan);
            vary(scenario, &plan, &Aims::of(&run, &moments), *number)
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seed)?;
        let mut variations = self.variations.iter();
        variations.try_for_each(|number| write!(f, ".{number}"))
    }
}

/// A text is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a seed, or a seed and the numbers of its variations like 17.3.99")]
pub struct OriginError(String);

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let mut numbers = text.split('.').map(str::parse);
        let mut next = || numbers.next();
        let wrong = |_| OriginError(text.to_owned());
        let Some(seed) = next() else {
            return Err(OriginError(text.to_owned()));
        };
        let seed = seed.map_err(wrong)?;
        let variations = numbers.collect::<Result<_, _>>().map_err(wrong)?;
        Ok(Self { seed, variations })
    }
}

/// What can be aimed at: a few moments of each kind, in the time of the plan.
#[derive(Clone, Debug, Default)]
pub struct Aims(BTreeMap<Arc<str>, Vec<(Duration, Arc<str>)>>);

impl Aims {
    /// Those of a run.
    pub fn of(run: &Run, moments: &Moments) -> Self {
        let Some(start) = start(&run.plan, &run.history) else {
            return Self::default();
        };
        let mut kinds: Vec<Vec<(Duration, usize)>> = vec![Vec::new(); moments.names.len()];
        for moment in &moments.happened {
            let at = moment.at.elapsed().checked_sub(start);
            if let Some(at) = at.filter(|at| *at < run.plan.duration) {
                kinds[moment.name].push((at, moment.place));
            }
        }
        let some = |of_kind: Vec<(Duration, usize)>| {
            let every = of_kind.len().div_ceil(OF_A_KIND).max(1);
            let some = of_kind.into_iter().step_by(every);
            some.map(|(at, place)| (at, Arc::clone(&moments.places[place])))
                .collect()
        };
        let named = moments.names.iter().map(Arc::clone);
        Self(named.zip(kinds.into_iter().map(some)).collect())
    }

    /// One of them, before this time if one is given: its time and whom it is about.
    fn draw(&self, rng: &mut Rng, before: Option<Duration>) -> Option<(Duration, &str)> {
        let is_before = |(at, _): &&(Duration, Arc<str>)| before.is_none_or(|end| *at < end);
        let kinds: Vec<_> = self
            .0
            .values()
            .filter(|of_kind| of_kind.iter().any(|moment| is_before(&moment)))
            .collect();
        let of_kind = rng.pick(&kinds)?;
        let can_be: Vec<_> = of_kind.iter().filter(is_before).collect();
        let (at, whom) = match rng.chance(1, 3) {
            true => can_be.first()?,
            false => rng.pick(&can_be)?,
        };
        Some((*at, whom))
    }
}

/// When the first act began, in true time: what is made ready beforehand takes some.
pub(crate) fn start(plan: &Plan, history: &History) -> Option<Duration> {
    let first = plan.agents.iter().map(|agent| agent.start).min()?;
    let started = history.0.iter().find_map(|record| match record.what {
        What::Life {
            event: Life::Started,
            ..
        } => Some(record.at.elapsed()),
        _ => None,
    });
    started?.checked_sub(first)
}

/// Between a hundredth of a millisecond and a second, every order of magnitude alike.
fn a_little(rng: &mut Rng) -> Duration {
    let magnitude = 10_u64.pow(rng.between(4, 8) as u32);
    Duration::from_nanos(rng.between(1, 9) * magnitude)
}

/// Just before a moment, at it, or just after it.
fn close_to(rng: &mut Rng, at: Duration) -> Duration {
    match rng.below(3) {
        0 => at,
        1 => at.saturating_sub(a_little(rng)),
        _ => at + a_little(rng),
    }
}

/// The plan, varied by this number; `aims` are those of its run.
pub fn vary(scenario: &Scenario, plan: &Plan, aims: &Aims, number: u64) -> Plan {
    let mut rng = Rng::labelled(number, "variation");
    let mut varied = plan.clone();
    for _ in 0..STEPS {
        if let Some(further) = one_further(scenario, &varied, aims, &mut rng) {
            varied = further;
        }
    }
    if varied == *plan {
        varied.seed = rng.next_u64() >> 1;
    }
    varied
}

/// The plan, a step further; `None` where none of so many steps gives a plan that can be.
fn one_further(scenario: &Scenario, plan: &Plan, aims: &Aims, rng: &mut Rng) -> Option<Plan> {
    (0..TRIES).find_map(|_| {
        let mut varied = plan.clone();
        step(scenario, &mut varied, aims, rng);
        varied.faults.sort_by_key(|fault| fault.at);
        let can_be = varied != *plan && parse(&varied.to_string()).as_ref() == Ok(&varied);
        can_be.then_some(varied)
    })
}

fn step(scenario: &Scenario, plan: &mut Plan, aims: &Aims, rng: &mut Rng) {
    let kinds = Kinds::of(scenario, plan);
    let count = plan.faults.len() as u64;
    match rng.below(20) {
        0..7 => place(plan, &kinds, aims, rng),
        7..11 if count > 0 => {
            let moved = rng.below(count) as usize;
            // Before its old time nothing changes by its going.
            let before = rng.chance(2, 3).then_some(plan.faults[moved].at);
            if let Some((at, _)) = aims.draw(rng, before) {
                plan.faults[moved].at = close_to(rng, at);
            }
        }
        11..13 if count > 0 => {
            // The same once more at a moment, or at nearly the same time: two at once race.
            let mut copy = plan.faults[rng.below(count) as usize].clone();
            let moment = aims.draw(rng, None).map(|(at, _)| at);
            let near = if rng.chance(1, 2) {
                Some(copy.at)
            } else {
                moment
            };
            if let Some(at) = near {
                copy.at = close_to(rng, at);
                add(plan, copy);
            }
        }
        13..15 if count > 1 => drop(plan.faults.remove(rng.below(count) as usize)),
        15..18 if count > 0 => {
            let fault = rng.below(count) as usize;
            if !plan.faults[fault].kind.is_instant() {
                plan.faults[fault].lasts = kinds.some_time(rng, plan.faults[fault].at, aims);
            }
        }
        18 => plan.world.priorities = Some(rng.between(1, 8) as u32),
        19 => plan.seed = rng.next_u64() >> 1,
        _ => place(plan, &kinds, aims, rng),
    }
}

/// Adds a fault of a kind that the scenario may draw, close to a moment and mostly to whom that is about.
fn place(plan: &mut Plan, kinds: &Kinds, aims: &Aims, rng: &mut Rng) {
    let Some((at, whom)) = aims.draw(rng, None) else {
        return;
    };
    let at = close_to(rng, at);
    let whom = rng.chance(3, 4).then_some(whom);
    if let Some(fault) = kinds.draw(plan, aims, rng, at, whom) {
        add(plan, fault);
    }
}

fn add(plan: &mut Plan, fault: crate::fault::Fault) {
    if plan.faults.len() < FAULTS_MAX {
        plan.faults.push(fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stories;

    fn aims_of(plan: &Plan) -> Aims {
        let (run, moments) = simulate_noticing(plan);
        Aims::of(&run, &moments)
    }

    #[test]
    fn an_origin_reads_back_and_nonsense_does_not() {
        for text in ["17", "17.3", "0.18446744073709551615.2"] {
            assert_eq!(
                text.parse::<Origin>().map(|o| o.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in ["", "x", "1.", "1.-2", ".3", "1..2"] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }

    #[test]
    fn to_notice_changes_nothing() {
        for scenario in stories::all() {
            let plan = scenario.draw(3);
            let (noticed, moments) = simulate_noticing(&plan);
            assert!(!moments.happened.is_empty());
            let fingerprint = crate::run::simulate(&plan).fingerprint();
            assert_eq!(noticed.fingerprint(), fingerprint, "{}", scenario.name);
        }
    }

    #[test]
    fn a_variation_is_a_plan_of_the_scenario_and_the_same_every_time() {
        for scenario in stories::all() {
            let plan = scenario.draw(5);
            let aims = aims_of(&plan);
            for number in 0..40 {
                let varied = vary(scenario, &plan, &aims, number);
                assert_ne!(varied, plan);
                assert_eq!(vary(scenario, &plan, &aims, number), varied);
                assert_eq!(parse(&varied.to_string()).as_ref(), Ok(&varied));
                for fault in &varied.faults {
                    assert!(scenario.faults.contains(&fault.kind.name()), "{varied}");
                }
            }
        }
        let scenario = stories::find("lock/partition").expect("it is there");
        let origin = Origin::of_seed(2).varied(7).varied(1);
        assert_eq!(origin.plan(scenario), origin.plan(scenario));
    }

    #[test]
    fn what_is_aimed_at_happens_in_the_varied_run_too() {
        let scenario = stories::find("lock/paused-holder").expect("it is there");
        let mut plan = scenario.draw(1);
        plan.faults.clear();
        let (run, moments) = simulate_noticing(&plan);
        let start = start(&run.plan, &run.history).expect("it began");
        // The first write of a lock's record is on its way.
        let is_write = |name: &Arc<str>| &**name == "client asks Write";
        let write = moments.names.iter().position(is_write);
        let mut happened = moments.happened.iter();
        let asked = happened.find(|moment| Some(moment.name) == write);
        let asked = *asked.expect("something is written");
        let strike = asked.at.elapsed() - start;
        plan.faults.push(crate::fault::Fault {
            at: strike + Duration::from_nanos(1),
            lasts: Duration::from_secs(2),
            target: moments.places[asked.place].to_string(),
            kind: crate::fault::FaultKind::Pause,
        });
        let (run, again) = simulate_noticing(&plan);
        assert!(
            again.happened.contains(&asked),
            "the run up to the fault is the same"
        );
        assert!(run.bitten[0], "and the fault bites");
    }

    #[test]
    fn priorities_give_another_order_and_the_same_every_time() {
        let traces = |scenario: &Scenario| {
            [None, Some(0), Some(3)].map(|priorities| {
                let mut plan = scenario.draw(1);
                plan.world.priorities = priorities;
                assert_eq!(parse(&plan.to_string()).as_ref(), Ok(&plan));
                crate::run::simulate(&plan).trace
            })
        };
        // Where nobody ever waits for another there is but one order.
        let mut differ = stories::all().iter().filter(|scenario| {
            let orders = traces(scenario);
            assert_eq!(traces(scenario), orders, "{}", scenario.name);
            orders[0] != orders[1] && orders[1] != orders[2]
        });
        assert!(differ.next().is_some(), "priorities change nothing");
    }
}
