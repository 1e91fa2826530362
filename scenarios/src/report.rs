//! From a finished run to the model that reports are drawn from.

mod beliefs;
mod marks;
mod messages;
#[cfg(test)]
mod secrets;
mod written;

pub(crate) use self::written::Written;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use squall_core::Instant;
use squall_core::diagnostics::redact;
use squall_reports::model::{
    self, Fact, FaultBand, Invariant, Lane, LaneId, LaneKind, MarkId, Moment, TrueTime,
};
use squall_reports::sweep::Sweep;

use crate::history::{History, Record, What};
use crate::invariants::{self, Verdict};
use crate::parse::SERVER;
use crate::plan::{On, Plan};
use crate::run::Run;
use crate::stories;

/// Marks this close before a violation that concern its lanes are its evidence.
const EVIDENCE: Duration = Duration::from_millis(1);

/// The model of a run, without its marks and beliefs: enough to count it.
pub fn outline(run: &Run, reproduce: String) -> model::Run {
    let scenario = stories::find(&run.plan.scenario);
    let fact = |sometimes: &stories::Sometimes| Fact {
        name: sometimes.fact.to_owned(),
        reached: (sometimes.reached)(&run.plan, &run.history),
    };
    let mut lanes: Vec<Lane> = run
        .plan
        .agents
        .iter()
        .map(|agent| Lane {
            name: agent.name.clone(),
            role: if agent.watch { "watcher" } else { "agent" }.to_owned(),
            kind: LaneKind::Agent,
        })
        .collect();
    lanes.push(Lane {
        name: SERVER.to_owned(),
        role: format!("nats-server {}", run.plan.world.server),
        kind: LaneKind::Server,
    });
    let mut model = model::Run {
        schema: model::Schema,
        scenario: run.plan.scenario.clone(),
        title: scenario.map_or(String::new(), |scenario| scenario.promise.to_owned()),
        world: match run.plan.world.on {
            On::Simulated => model::World::Sim,
            On::Nats => model::World::Nats {
                version: run.plan.world.server.to_string(),
            },
        },
        seed: Some(run.plan.seed),
        reproduce,
        verdict: verdict(run),
        simulated: run.simulated,
        elapsed: None,
        lanes,
        marks: Vec::new(),
        faults: faults(run),
        beliefs: Vec::new(),
        messages: Vec::new(),
        moments: Vec::new(),
        sometimes: scenario
            .map(|scenario| scenario.sometimes.iter().map(fact).collect())
            .unwrap_or_default(),
        trace: None,
        fingerprint: None,
    };
    conceal(&mut model);
    model
}

/// Strikes out what is a secret in any text of the model: what programs say of an error quotes what they were given.
pub fn conceal(model: &mut model::Run) {
    model.rewrite_texts(&mut |text| {
        if let Cow::Owned(clean) = redact(text) {
            *text = clean;
        }
    });
}

/// The same for what is said of many runs.
pub fn conceal_sweep(sweep: &mut Sweep) {
    sweep.rewrite_texts(&mut |text| {
        if let Cow::Owned(clean) = redact(text) {
            *text = clean;
        }
    });
}

/// The model of a run of which nothing is left but its history: which faults changed anything is not known, and all that
/// began are taken to have.
pub fn model_of_history(plan: Plan, history: History, reproduce: String) -> model::Run {
    let mut bitten = vec![false; plan.faults.len()];
    for record in &history.0 {
        if let What::Fault {
            number,
            begins: true,
            ..
        } = &record.what
            && let Some(bitten) = bitten.get_mut(*number)
        {
            *bitten = true;
        }
    }
    let run = Run {
        verdict: invariants::judge(&plan, &history),
        simulated: history
            .0
            .last()
            .map_or(Duration::ZERO, |last| last.at.elapsed()),
        plan,
        history,
        bitten,
        trace: None,
    };
    model(&run, reproduce)
}

/// The whole model of a run.
pub fn model(run: &Run, reproduce: String) -> model::Run {
    let mut model = outline(run, reproduce);
    model.moments = moments(run);
    model.messages = messages::messages(run);
    model.marks = marks::marks(run);
    model.beliefs = beliefs::beliefs(run);
    let is_the_same_every_time = run.trace.is_some();
    model.fingerprint = is_the_same_every_time.then(|| format!("{:016x}", run.fingerprint()));
    if let model::Verdict::Fail(violations) = &mut model.verdict {
        for violation in violations {
            let since = violation.at.before(EVIDENCE);
            violation.evidence = model
                .marks
                .iter()
                .enumerate()
                .filter(|(_, mark)| mark.at >= since && mark.at <= violation.at)
                .filter(|(_, mark)| violation.lanes.contains(&mark.lane) && mark.routine.is_none())
                .map(|(index, _)| MarkId(index))
                .collect();
        }
    }
    conceal(&mut model);
    model
}

/// Where the second act begins, and where it has reached what it is for.
fn moments(run: &Run) -> Vec<Moment> {
    let moment = |record: &Record| {
        let text = match record.what {
            What::Mended => "everything is mended",
            What::Settled => "all is well",
            _ => return None,
        };
        let (at, text) = (time(record.at), text.to_owned());
        Some(Moment { at, text })
    };
    run.history.0.iter().filter_map(moment).collect()
}

const fn time(at: Instant) -> TrueTime {
    TrueTime::from_nanos(at.as_nanos())
}

fn lane_of(run: &Run, process: &str) -> LaneId {
    let agent = process.split('/').next().unwrap_or(process);
    let found = run.plan.agents.iter().position(|known| known.name == agent);
    LaneId(found.unwrap_or(run.plan.agents.len()))
}

/// The lanes of these processes, each once.
fn concerned(run: &Run, processes: &[Arc<str>]) -> Vec<LaneId> {
    let lanes: BTreeSet<LaneId> = processes
        .iter()
        .map(|process| lane_of(run, process))
        .collect();
    lanes.into_iter().collect()
}

fn verdict(run: &Run) -> model::Verdict {
    match &run.verdict {
        Verdict::Pass => model::Verdict::Pass,
        Verdict::Inconclusive(why) => model::Verdict::Inconclusive { why: why.clone() },
        Verdict::Fail(violations) => {
            let violations = violations.iter().map(|violation| {
                let known = invariants::find(&violation.code);
                model::Violation {
                    invariant: Invariant {
                        code: violation.code.clone(),
                        name: known.map_or("", |known| known.name).to_owned(),
                        property: known.map_or("", |known| known.property).to_owned(),
                    },
                    at: time(violation.at),
                    lanes: concerned(run, &violation.processes),
                    what_happened: violation.text.clone(),
                    evidence: Vec::new(),
                }
            });
            model::Verdict::Fail(violations.collect())
        }
    }
}

/// Faults as they happened; those that never began are where the plan has them.
fn faults(run: &Run) -> Vec<FaultBand> {
    let mut times: BTreeMap<(usize, bool), Instant> = BTreeMap::new();
    for record in &run.history.0 {
        if let What::Fault { number, begins, .. } = &record.what {
            times.insert((*number, *begins), record.at);
        }
    }
    let planned = |after: Duration| Instant::ZERO + after;
    run.plan
        .faults
        .iter()
        .enumerate()
        .map(|(number, fault)| {
            let from = times
                .get(&(number, true))
                .copied()
                .unwrap_or_else(|| planned(fault.at));
            let to = times
                .get(&(number, false))
                .copied()
                .unwrap_or(from + fault.lasts);
            FaultBand {
                name: fault.kind.name().to_owned(),
                target: match run.plan.agent(&fault.target) {
                    Some(agent) => agent.name.clone(),
                    None => SERVER.to_owned(),
                },
                from: time(from),
                to: time(to),
                bit: run.bitten.get(number).copied().unwrap_or(false),
            }
        })
        .collect()
}

fn agent(process: &str) -> &str {
    process.split('/').next().unwrap_or(process)
}
