//! `squall run` and `squall replay`: single runs, in one of the two worlds, on one server or on a cluster.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::ValueEnum;
use squall_reports::terminal;

use super::files::{name_of, read_plan, write_run};
use super::{Unusable, find, matching, print, status, style};
use crate::hunt::reproduce;
use crate::invariants::Verdict;
use crate::nats_testbed::{run_on_nats, unsupported};
use crate::plan::{self, Plan};
use crate::report;
use crate::run::simulate;
use crate::stories::Scenario;
use crate::vary::Origin;

/// Of so many seeds, some are such that what they do can be done where they are to run, or none is.
const SEEDS_TRIED: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum On {
    /// The simulated world.
    Sim,
    /// Real nats-server processes, as fast as is sound.
    Nats,
}

/// What is run, and where.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// Which, such as presence/storm; or each that matches, such as 'presence/*': `*` stands for any text.
    scenario: String,
    /// Decides everything: a seed, or one and the numbers of its variations, such as 17.3. Default: 0; on a real server, and
    /// where --servers is given, the first whose faults can be done there.
    #[arg(long)]
    seed: Option<Origin>,
    /// In which world.
    #[arg(long, value_enum, default_value_t = On::Sim)]
    on: On,
    /// On so many servers, 1 or 3: then they form a cluster, each keeps a copy of everything, and what would happen to the
    /// only server happens to the first. Default: as many as the scenario is about.
    #[arg(long)]
    servers: Option<usize>,
    /// Writes plan, history, model and report into this directory.
    #[arg(long)]
    report: Option<PathBuf>,
}

impl Wanted {
    /// The plan of this scenario, and the command that runs it again.
    fn plan(&self, scenario: &Scenario) -> Result<(Plan, String), Unusable> {
        let origin = self
            .seed
            .clone()
            .unwrap_or_else(|| Origin::of_seed(self.first_seed(scenario)));
        let mut command = reproduce(scenario.name, &origin);
        if self.on == On::Nats {
            command += " --on nats";
        }
        if let Some(servers) = self.servers {
            command += &format!(" --servers {servers}");
        }
        Ok((self.placed(&origin.plan(scenario))?, command))
    }

    /// The same story where it is to run.
    fn placed(&self, plan: &Plan) -> Result<Plan, Unusable> {
        let placed = match self.servers {
            None => plan.clone(),
            Some(servers) => plan
                .on_servers(servers)
                .map_err(|error| Unusable(error.to_string()))?,
        };
        Ok(match self.on {
            On::Sim => placed,
            On::Nats => placed.in_real_time(),
        })
    }

    /// The first seed whose plan can be run there; 0, whose refusal says why, where there is none.
    fn first_seed(&self, scenario: &Scenario) -> u64 {
        let can_be_run = |seed: &u64| {
            let plan = scenario.draw(*seed);
            let is_real = |plan: &Plan| {
                let mut faults = plan.faults.iter();
                faults.all(|fault| unsupported(fault.kind).is_none())
            };
            (self.on == On::Sim || is_real(&plan)) && self.placed(&plan).is_ok()
        };
        (0..SEEDS_TRIED).find(can_be_run).unwrap_or(0)
    }
}

/// Runs one scenario, or each that matches and can be run there; of the others it is said why they are not.
pub(super) fn run(wanted: &Wanted) -> Result<ExitCode, Unusable> {
    let pattern = &wanted.scenario;
    if !pattern.contains('*') {
        let (plan, command) = wanted.plan(find(pattern)?)?;
        return Ok(status(&play(&plan, command, wanted.report.as_deref())?));
    }
    let mut verdicts = Vec::new();
    for scenario in matching(std::slice::from_ref(pattern))? {
        if !verdicts.is_empty() {
            print("\n");
        }
        let played = wanted
            .plan(scenario)
            .and_then(|(plan, command)| play(&plan, command, wanted.report.as_deref()));
        match played {
            Ok(verdict) => verdicts.push(verdict),
            Err(Unusable(sentence)) => {
                let sentence = squall_reports::clean(&sentence);
                eprintln!("squall: {}: {sentence}", scenario.name);
            }
        }
    }
    let is_violation = |verdict: &&Verdict| matches!(verdict, Verdict::Fail(_));
    let is_undecided = |verdict: &&Verdict| matches!(verdict, Verdict::Inconclusive(_));
    let worst = verdicts.iter().find(is_violation);
    let worst = worst.or_else(|| verdicts.iter().find(is_undecided));
    let Some(verdict) = worst.or_else(|| verdicts.first()) else {
        let sentence = format!("nothing that matches {pattern:?} can be run there");
        return Err(Unusable(sentence));
    };
    Ok(status(verdict))
}

/// Runs a plan again that is kept in a file.
pub(super) fn replay(path: &Path, report: Option<&Path>) -> Result<ExitCode, Unusable> {
    let plan = read_plan(path)?;
    let command = format!("cargo squall replay {}", path.display());
    Ok(status(&play(&plan, command, report)?))
}

/// Runs a plan, prints its report and writes it where wanted.
fn play(plan: &Plan, reproduce: String, report: Option<&Path>) -> Result<Verdict, Unusable> {
    let began = Instant::now();
    let run = match plan.world.on {
        plan::On::Simulated => simulate(plan),
        plan::On::Nats => run_on_nats(plan).map_err(|error| Unusable(error.to_string()))?,
    };
    let mut model = report::model(&run, reproduce);
    model.elapsed = Some(began.elapsed());
    if let Some(directory) = report {
        let name = name_of(&run);
        write_run(directory, &name, &run, &model)?;
        let history = directory.join(format!("{name}.history.jsonl"));
        model.trace = Some(history.display().to_string());
    }
    print(&terminal::render(&model, style()));
    Ok(run.verdict)
}
