//! The sweep model: what a report may know about many runs.
//!
//! A sweep is counted run by run ([`Sweep::record`]), so that what is counted is decided in one place. It answers two
//! questions: what was violated, and whether the storms were storms. A kind of fault that never bit, or a `sometimes`
//! fact that no seed reached, is a failure of the harness, not of what it tests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Invariant, Run, Schema, Verdict};
use crate::specimen::Specimen;

/// Many runs, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// The version of this model.
    pub schema: Schema,
    /// How long it took for the one who waited; runs may have shared that time.
    pub elapsed: Duration,
    /// The counts of each scenario, by its name.
    pub scenarios: BTreeMap<String, Tally>,
    /// What was violated.
    pub findings: Vec<Finding>,
    /// What could not be decided.
    pub undecided: Vec<Undecided>,
    /// What was reached of the insides, as far as anybody looked.
    #[serde(default, skip_serializing_if = "Coverage::is_empty")]
    pub coverage: Coverage,
    /// The planted flaws that were searched for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub specimens: Vec<Specimen>,
}

/// What runs have reached of the states, events, effects and errors that there are: marks, in groups of their kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// How many runs were watched for it.
    pub runs: u64,
    /// Of each group, how many of these runs reached which mark; 0 for a mark that there is and none of them reached.
    pub groups: BTreeMap<String, BTreeMap<String, u64>>,
}

/// A group of marks of which not everything was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap<'a> {
    /// Its name.
    pub group: &'a str,
    /// How many marks it has.
    pub of: usize,
    /// Those that no run reached.
    pub never: Vec<&'a str>,
}

/// The runs of one scenario, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many there were.
    pub runs: u64,
    /// In how many an invariant was violated.
    pub failures: u64,
    /// How many could not be decided.
    pub inconclusive: u64,
    /// Their true time, summed up.
    pub simulated: Duration,
    /// For each kind of fault in the plans, in how many runs it bit at least once.
    pub bit: BTreeMap<String, u64>,
    /// For each `sometimes` fact, how many runs reached it.
    pub sometimes: BTreeMap<String, u64>,
}

/// What one night of many runs came to: a line of a trend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Night {
    /// When it began, as RFC 3339.
    pub began: String,
    /// How long it took.
    pub elapsed: Duration,
    /// How many runs there were.
    pub seeds: u64,
    /// In how many of them an invariant was violated.
    pub failures: u64,
    /// How many could not be decided.
    pub inconclusive: u64,
    /// How many of the things that storms must do were never done.
    pub never: u64,
    /// How many marks were reached.
    #[serde(default)]
    pub reached: u64,
}

impl Night {
    /// The line of a sweep that began then.
    pub fn of(sweep: &Sweep, began: String) -> Self {
        Self {
            began,
            elapsed: sweep.elapsed,
            seeds: sweep.runs(),
            failures: sweep.failures(),
            inconclusive: sweep.inconclusive(),
            never: sweep.never() as u64,
            reached: sweep.coverage.reached() as u64,
        }
    }

    /// How many runs one second of waiting bought; 0 if nobody waited.
    pub fn seeds_per_second(&self) -> f64 {
        per_second(self.seeds as f64, self.elapsed).unwrap_or_default()
    }
}

/// One invariant violated in one run, the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Where.
    pub scenario: String,
    /// With which seed.
    pub seed: Option<u64>,
    /// What should have held.
    pub invariant: Invariant,
    /// What happened.
    pub what_happened: String,
    /// The command to paste that shows it again.
    pub reproduce: String,
    /// The kinds of faults that had changed something by then: what may have caused it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// One run that could not be decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecided {
    /// Where.
    pub scenario: String,
    /// With which seed.
    pub seed: Option<u64>,
    /// What could not be decided, and what was missing.
    pub why: String,
    /// The command to paste that shows it again.
    pub reproduce: String,
}

impl Sweep {
    /// Counts a run. Only its verdict, its time, its faults and its facts are looked at: it needs no marks or beliefs.
    pub fn record(&mut self, run: &Run) {
        let tally = self.scenarios.entry(run.scenario.clone()).or_default();
        tally.runs += 1;
        tally.simulated = tally.simulated.saturating_add(run.simulated);
        let mut bit: BTreeMap<&str, bool> = BTreeMap::new();
        for fault in &run.faults {
            *bit.entry(&fault.name).or_default() |= fault.bit;
        }
        for (name, bit) in bit {
            *tally.bit.entry(name.to_owned()).or_default() += u64::from(bit);
        }
        for fact in &run.sometimes {
            *tally.sometimes.entry(fact.name.clone()).or_default() += u64::from(fact.reached);
        }
        match &run.verdict {
            Verdict::Pass => {}
            Verdict::Fail(_) => {
                tally.failures += 1;
                self.find(run);
            }
            Verdict::Inconclusive { why } => {
                tally.inconclusive += 1;
                self.undecided.push(Undecided {
                    scenario: run.scenario.clone(),
                    seed: run.seed,
                    why: why.clone(),
                    reproduce: run.reproduce.clone(),
                });
            }
        }
    }

    fn find(&mut self, run: &Run) {
        let mut first = BTreeMap::new();
        for violation in run.violations() {
            first.entry(&violation.invariant).or_insert(violation);
        }
        for (invariant, violation) in first {
            let faults = run.faults.iter().filter(|fault| fault.bit);
            let before = faults.filter(|fault| fault.from <= violation.at);
            let kinds: BTreeSet<&String> = before.map(|fault| &fault.name).collect();
            self.findings.push(Finding {
                faults: kinds.into_iter().cloned().collect(),
                scenario: run.scenario.clone(),
                seed: run.seed,
                invariant: invariant.clone(),
                what_happened: violation.what_happened.clone(),
                reproduce: run.reproduce.clone(),
            });
        }
    }

    /// Counts what another has counted, as if its runs came after this one's. The time that it took is not added: those who
    /// waited may have waited for both at once.
    pub fn merge(&mut self, other: Self) {
        for (scenario, tally) in other.scenarios {
            self.scenarios.entry(scenario).or_default().merge(tally);
        }
        self.findings.extend(other.findings);
        self.undecided.extend(other.undecided);
        self.coverage.merge(other.coverage);
        self.specimens.extend(other.specimens);
    }

    /// All scenarios as one.
    pub fn runs(&self) -> u64 {
        self.scenarios.values().map(|tally| tally.runs).sum()
    }

    /// Runs in which an invariant was violated.
    pub fn failures(&self) -> u64 {
        self.scenarios.values().map(|tally| tally.failures).sum()
    }

    /// Runs that could not be decided.
    pub fn inconclusive(&self) -> u64 {
        let each = self.scenarios.values().map(|tally| tally.inconclusive);
        each.sum()
    }

    /// The true time of all runs.
    pub fn simulated(&self) -> Duration {
        let each = self.scenarios.values().map(|tally| tally.simulated);
        each.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// How many seconds of true time one second of waiting bought; none if nobody waited.
    pub fn speed_up(&self) -> Option<f64> {
        per_second(self.simulated().as_secs_f64(), self.elapsed)
    }

    /// How many runs one second of waiting bought; none if nobody waited.
    pub fn runs_per_second(&self) -> Option<f64> {
        per_second(self.runs() as f64, self.elapsed)
    }

    /// The things that storms must do, and that no run did.
    pub fn never(&self) -> usize {
        self.scenarios.values().map(Tally::never).sum()
    }
}

impl Coverage {
    /// Whether nobody looked, and nothing is known that could be reached.
    pub fn is_empty(&self) -> bool {
        self.runs == 0 && self.groups.is_empty()
    }

    /// Counts what another has counted.
    pub fn merge(&mut self, other: Self) {
        self.runs += other.runs;
        for (group, marks) in other.groups {
            let counts = self.groups.entry(group).or_default();
            for (mark, runs) in marks {
                *counts.entry(mark).or_default() += runs;
            }
        }
    }

    /// How many marks there are.
    pub fn marks(&self) -> usize {
        self.groups.values().map(BTreeMap::len).sum()
    }

    /// How many of them were reached.
    pub fn reached(&self) -> usize {
        let all = self.groups.values().flat_map(BTreeMap::values);
        all.filter(|runs| **runs > 0).count()
    }

    /// The groups of which not everything was reached.
    pub fn gaps(&self) -> impl Iterator<Item = Gap<'_>> {
        let gaps = self.groups.iter().map(|(group, marks)| {
            let never = marks.iter().filter(|(_, runs)| **runs == 0);
            Gap {
                group,
                of: marks.len(),
                never: never.map(|(mark, _)| mark.as_str()).collect(),
            }
        });
        gaps.filter(|gap| !gap.never.is_empty())
    }
}

impl Gap<'_> {
    /// How many marks of the group were reached.
    pub const fn reached(&self) -> usize {
        self.of - self.never.len()
    }

    /// What was not, in a line.
    pub fn never(&self) -> String {
        match self.reached() {
            0 => "all of them".to_owned(),
            _ => self.never.join(", "),
        }
    }
}

fn per_second(amount: f64, elapsed: Duration) -> Option<f64> {
    let seconds = elapsed.as_secs_f64();
    (seconds > 0.0).then(|| amount / seconds)
}

impl Tally {
    fn merge(&mut self, other: Self) {
        self.runs += other.runs;
        self.failures += other.failures;
        self.inconclusive += other.inconclusive;
        self.simulated = self.simulated.saturating_add(other.simulated);
        let both = [
            (&mut self.bit, other.bit),
            (&mut self.sometimes, other.sometimes),
        ];
        for (counts, others) in both {
            for (name, runs) in others {
                *counts.entry(name).or_default() += runs;
            }
        }
    }

    /// The kinds of faults that never bit, and the facts that were never reached.
    pub fn never(&self) -> usize {
        let zero = |counts: &BTreeMap<String, u64>| counts.values().filter(|n| **n == 0).count();
        zero(&self.bit) + zero(&self.sometimes)
    }
}
