//! What a user types.
//!
//! Exit status: 0 all held, 1 a violation or a pattern, 2 unusable input (one sentence, with file and line where there
//! is one), 3 inconclusive. Long work shows a progress bar on a terminal and plain lines elsewhere.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "the command line prints, reads the clock and the environment; nothing of it reaches a run"
)]

mod chaos;
mod check;
mod conformance;
mod diagnose;
mod faces;
mod files;
mod fleet;
mod nightly;
mod progress;
mod run;
mod shrink;
mod specimens;
mod steered;
mod summary;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use squall_reports::sweep::Sweep;
use squall_reports::terminal::Style;

use self::diagnose::{Since, diagnose};
use crate::invariants::{self, Verdict};
use crate::linear;
use crate::nearest::nearest;
use crate::run::simulate;
use crate::stories::{self, Scenario};
use crate::vary::Origin;

/// Raises deterministic storms over coordination code on NATS JetStream.
#[derive(Debug, Parser)]
#[command(name = "squall", version, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the scenarios: promise, roles, faults, invariants, what must sometimes happen.
    List,
    /// Runs one seed of one scenario, or of each that matches.
    Run(run::Wanted),
    /// Runs many seeds of many scenarios, and keeps what they find.
    Chaos(chaos::Wanted),
    /// Does the work of hunts that others have begun with `squall chaos --fleet`.
    Worker(fleet::Wanted),
    /// Runs a plan again: the same violation, every time.
    Replay {
        /// A TOML file.
        plan: PathBuf,
        /// Writes history and report into this directory.
        #[arg(long)]
        report: Option<PathBuf>,
    },
    /// Makes a failing plan as small as it can be while the same invariant is violated.
    Shrink {
        /// A TOML file, or a scenario together with --seed.
        plan: String,
        /// The seed of the scenario, and the numbers of its variations, if it has any.
        #[arg(long)]
        seed: Option<Origin>,
        /// Runs that this may take.
        #[arg(long, default_value_t = 10_000)]
        runs: u32,
        /// How long it may take, such as 30s; what is smallest by then is told.
        #[arg(long, value_parser = humantime::parse_duration)]
        r#for: Option<Duration>,
        /// Writes the plan into this file instead of printing it.
        #[arg(long)]
        output: Option<PathBuf>,
    },
    /// Searches for the planted flaws: found, seeds needed, faults left in the shrunk plan; the right twins must pass.
    Specimens(specimens::Wanted),
    /// Prints the fingerprint of each run: equal ones mean equal runs, to the nanosecond.
    Fingerprint {
        /// Only scenarios that match: `*` stands for any text; may be repeated.
        #[arg(long, default_value = "*")]
        scenario: Vec<String>,
        /// Seeds of each scenario.
        #[arg(long, default_value_t = 3)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        first_seed: u64,
    },
    /// Compares the simulated NATS with real servers: every case, and scripts drawn at random.
    Conformance {
        /// Scripts drawn.
        #[arg(long, default_value_t = 2000)]
        cases: u32,
        /// The number of the first of them: a script follows from its number.
        #[arg(long, default_value_t = 0)]
        first: u32,
        /// A version of nats-server, such as 2.12.8; may be repeated. Default: the server that the tests use.
        #[arg(long)]
        server: Vec<String>,
        /// Only cases that match, such as `kv::*`: `*` stands for any text.
        #[arg(long, default_value = "*")]
        filter: String,
        /// Cases at a time; they mostly wait.
        #[arg(long, default_value_t = 8)]
        jobs: usize,
        /// Prints the matrix as a table of Markdown.
        #[arg(long)]
        markdown: bool,
        /// Writes the smallest script that differs into this directory.
        #[arg(long)]
        keep: Option<PathBuf>,
        /// Plants each way in which a simulated NATS could be kinder than a real one, and prints what finds it.
        #[arg(long, conflicts_with_all = ["filter", "first", "jobs", "markdown", "keep"])]
        kindnesses: bool,
        /// Plays these kept scripts, and nothing else.
        #[arg(conflicts_with_all = ["cases", "first", "filter", "markdown", "keep", "kindnesses"])]
        scripts: Vec<PathBuf>,
    },
    /// Judges a recorded history by all invariants.
    Check {
        /// A file of JSON lines, which begins with its plan; or a log.
        history: PathBuf,
        /// How it is written.
        #[arg(long, value_enum, default_value_t = check::Format::Squall)]
        format: check::Format,
        /// Gives up the search for an order after so many steps: linearizable or not, nobody knows then.
        #[arg(long, default_value_t = linear::STEPS_MAX)]
        steps: u64,
        /// Gives it up after so long, such as 30s.
        #[arg(long, value_parser = humantime::parse_duration)]
        r#for: Option<Duration>,
    },
    /// Draws recorded runs again: for a browser, a pull request, a continuous integration server, a viewer of traces.
    Report {
        /// What --report wrote: its directory, or one history or model in it.
        path: PathBuf,
        /// For whom.
        #[arg(long, value_enum, default_value_t = faces::Format::Terminal)]
        format: faces::Format,
        /// Opens what was written in the browser; of several, the first.
        #[arg(long)]
        open: bool,
    },
    /// Says what a connection-event log amounts to: state, drops, patterns, the last events. Exit status 1 where a
    /// pattern was found.
    Diagnose {
        /// A file of JSON lines, such as nats-events.jsonl; `-` for standard input.
        log: PathBuf,
        /// Tells only patterns and events of so long before the log's end, such as 1h, or since a time, such as
        /// 2026-05-28T20:00:00Z.
        #[arg(long)]
        since: Option<Since>,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// What went wrong before anything could be run, in one sentence.
struct Unusable(String);

/// Exit statuses.
const VIOLATION: u8 = 1;
const UNUSABLE: u8 = 2;
const INCONCLUSIVE: u8 = 3;

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::List => list(),
        Command::Run(wanted) => run::run(&wanted),
        Command::Chaos(wanted) => chaos::chaos(&wanted),
        Command::Worker(wanted) => fleet::work(&wanted),
        Command::Replay { plan, report } => run::replay(&plan, report.as_deref()),
        Command::Shrink {
            plan,
            seed,
            runs,
            r#for,
            output,
        } => shrink::shrink(&plan, seed, runs, r#for, output),
        Command::Specimens(wanted) => specimens::inspect(&wanted),
        Command::Fingerprint {
            scenario,
            seeds,
            first_seed,
        } => fingerprint(&scenario, seeds, first_seed),
        Command::Conformance {
            cases,
            first,
            server,
            filter,
            jobs,
            markdown,
            keep,
            kindnesses,
            scripts,
        } => {
            if kindnesses {
                conformance::plant(cases, &server)
            } else if scripts.is_empty() {
                let wanted = conformance::Wanted {
                    scripts: first..first.saturating_add(cases),
                    filter: &filter,
                    at_once: jobs,
                };
                conformance::run(&wanted, &server, markdown, keep)
            } else {
                conformance::replay(&scripts, &server)
            }
        }
        Command::Check {
            history,
            format,
            steps,
            r#for,
        } => match format {
            check::Format::Squall => check::history(&history),
            check::Format::Jepsen => check::log(&history, steps, r#for),
        },
        Command::Report { path, format, open } => faces::report(&path, format, open),
        Command::Diagnose { log, since, json } => diagnose(&log, since, json),
    };
    done.unwrap_or_else(|Unusable(sentence)| {
        eprintln!("squall: {}", squall_reports::clean(&sentence));
        ExitCode::from(UNUSABLE)
    })
}

/// How many threads this machine runs at once.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn style() -> Style {
    let terminal = std::io::stdout().is_terminal();
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let columns = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    let (_, found) = console::Term::stdout().size();
    let width = columns.unwrap_or_else(|| if terminal { usize::from(found) } else { 120 });
    Style {
        color: terminal && wanted,
        width,
    }
}

/// Prints, and does not mind a reader that has gone away.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _reader_gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn find(name: &str) -> Result<&'static Scenario, Unusable> {
    stories::find(name).ok_or_else(|| {
        let hint = nearest(name, stories::all().iter().map(|scenario| scenario.name));
        Unusable(format!("there is no scenario {name:?}{hint}"))
    })
}

fn list() -> Result<ExitCode, Unusable> {
    let mut text = String::new();
    for scenario in stories::all() {
        let faults = if scenario.faults.is_empty() {
            "none".to_owned()
        } else {
            scenario.faults.join(", ")
        };
        text += &format!(
            "{}\n  {}\n  roles       {}\n  faults      {faults}\n",
            scenario.name, scenario.promise, scenario.roles
        );
        for (index, sometimes) in scenario.sometimes.iter().enumerate() {
            let head = if index == 0 { "sometimes" } else { "" };
            text += &format!("  {head:<11} {}\n", sometimes.fact);
        }
        text.push('\n');
    }
    text += "Invariants, of every run\n";
    for invariant in &invariants::ALL {
        text += &format!(
            "  {:<3} {:<16} {}\n",
            invariant.code, invariant.name, invariant.property
        );
    }
    print(&text);
    Ok(ExitCode::SUCCESS)
}

fn status_of_sweep(sweep: &Sweep) -> ExitCode {
    if sweep.failures() > 0 {
        ExitCode::from(VIOLATION)
    } else if sweep.inconclusive() > 0 {
        ExitCode::from(INCONCLUSIVE)
    } else {
        ExitCode::SUCCESS
    }
}

fn status(verdict: &Verdict) -> ExitCode {
    match verdict {
        Verdict::Pass => ExitCode::SUCCESS,
        Verdict::Fail(_) => ExitCode::from(VIOLATION),
        Verdict::Inconclusive(_) => ExitCode::from(INCONCLUSIVE),
    }
}

/// Panics of runs are findings, which their histories tell: nothing is said of each where there are many.
fn hush_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

fn fingerprint(patterns: &[String], seeds: u64, first_seed: u64) -> Result<ExitCode, Unusable> {
    for scenario in matching(patterns)? {
        for seed in first_seed..first_seed.saturating_add(seeds) {
            let run = simulate(&scenario.draw(seed));
            print(&format!(
                "{} {seed} {:016x}\n",
                scenario.name,
                run.fingerprint()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The scenarios that one of these matches, each once; every one must match something. Those that are not listed have to
/// be named.
fn matching(patterns: &[String]) -> Result<Vec<&'static Scenario>, Unusable> {
    let names = || stories::all().iter().map(|scenario| scenario.name);
    for pattern in patterns {
        let is_named = stories::find(pattern).is_some();
        if !is_named && !names().any(|name| matches(pattern, name)) {
            let hint = nearest(pattern, names());
            return Err(Unusable(format!("no scenario matches {pattern:?}{hint}")));
        }
    }
    let is_wanted = |scenario: &&Scenario| patterns.iter().any(|p| matches(p, scenario.name));
    let listed = stories::all().iter().filter(is_wanted);
    let is_listed = |name: &str| names().any(|listed| listed == name);
    let mut hidden: Vec<&'static Scenario> = Vec::new();
    for pattern in patterns.iter().filter(|pattern| !is_listed(pattern)) {
        let known = stories::find(pattern);
        hidden.extend(known.filter(|it| hidden.iter().all(|other| other.name != it.name)));
    }
    Ok(listed.chain(hidden).collect())
}

/// `*` stands for any text, everything else for itself.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .filter(|at| rest.is_char_boundary(*at))
                .any(|at| matches(after, &rest[at..]))
        }),
    }
}
