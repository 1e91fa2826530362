//! `squall chaos --nightly`: one directory for many nights.
//!
//! ```text
//! DIR/nights/TIME/     the hunt of that night, with its findings, summary.md, summary.html and junit.xml
//! DIR/regressions/     the smallest plan of each kind of finding, kept until somebody takes it away; run again every night
//! DIR/trend.jsonl      a line for each night: how much, how fast, what was found, what the storms reached
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use squall_reports::html::Beside;
use squall_reports::sweep::{Night, Sweep, Tally};

use super::Unusable;
use super::files::{read_plan, write_whole};
use super::summary::Summary;
use crate::hunt::{Book, Lock, SHRUNK, identity, pages};
use crate::kept;
use crate::plan::{Expectation, Plan};

/// Nights that the summary shows beside its own.
const NIGHTS_SHOWN: usize = 14;
const TREND: &str = "trend.jsonl";

/// The directory of the nights, while nobody else has it.
#[derive(Debug)]
pub(super) struct Nights {
    path: PathBuf,
    _lock: Lock,
}

/// A line of the trend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    /// What the night came to.
    night: Night,
    /// Which squall it was.
    squall: String,
    /// So many a second.
    seeds_per_second: f64,
    /// Kinds of findings: an invariant of a scenario is one.
    found: usize,
    /// Of these, such as no night before has found.
    found_new: usize,
    /// Plans of earlier nights that still fail.
    regressions_failing: usize,
    /// Kinds of faults that bit, summed up over the scenarios.
    faults_bit: usize,
    /// Facts that were reached.
    facts_reached: usize,
}

/// How the kept plans do.
#[derive(Debug, Default)]
struct Regressions {
    failing: Vec<String>,
    /// With what is not as they say.
    changed: Vec<(String, String)>,
}

impl Nights {
    /// Takes the directory, and makes it where it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, Unusable> {
        for folder in ["nights", "regressions"] {
            let folder = path.join(folder);
            fs::create_dir_all(&folder)
                .map_err(|error| Unusable(format!("{}: {error}", folder.display())))?;
        }
        let nights = Self {
            path: path.to_owned(),
            _lock: Lock::take(path)?,
        };
        // What cannot be read at the end of the night is better known at its beginning.
        nights.trend()?;
        nights.regressions()?;
        Ok(nights)
    }

    /// The directory of nights that a night's own lies in.
    pub(super) fn above(night: &Path) -> Result<Self, Unusable> {
        let night = whole(night)?;
        let above = night.parent().and_then(Path::parent);
        let Some(above) = above.filter(|above| above.join("nights").is_dir()) else {
            let night = night.display();
            return Err(Unusable(format!(
                "{night}: this hunt is one of many nights, and lies no longer below their directory"
            )));
        };
        Self::open(above)
    }

    /// Where a night that begins now is kept.
    pub(super) fn tonight(&self) -> PathBuf {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        self.path.join("nights").join(now.replace(':', "-"))
    }

    /// Writes what a night came to; says whether every kept plan passes. Written again, it replaces what was.
    pub(super) fn conclude(&self, book: &Book, sweep: &Sweep) -> Result<bool, Unusable> {
        let Some(folder) = book.folder() else {
            return Ok(true);
        };
        let regressions = self.replay()?;
        let new = self.keep(book, sweep)?;
        let path = whole(folder.path())?;
        let began = began(&path.file_name().unwrap_or_default().to_string_lossy());
        let mut line = line(Night::of(sweep, began), sweep, &new, &regressions);
        let mut trend = self.trend()?;
        let same = |other: &Line| other.night.began == line.night.began;
        if let Some(before) = trend.iter().position(same) {
            // Concluded once more: what was new at the first time is kept by now.
            let before = trend.remove(before);
            line.found_new = line.found_new.max(before.found_new);
            line.regressions_failing = before.regressions_failing;
        }
        trend.push(line);
        trend.sort_by(|one, other| one.night.began.cmp(&other.night.began));
        let lines: Result<String, serde_json::Error> = trend
            .iter()
            .map(|line| Ok(serde_json::to_string(line)? + "\n"))
            .collect();
        let lines = lines.map_err(|error| Unusable(error.to_string()))?;
        let nights: Vec<Night> = trend.iter().map(|line| line.night.clone()).collect();
        let summary = Summary {
            sweep,
            beside: Beside {
                nights: &nights,
                pages: &pages(&path, sweep),
            },
            more: &more(&new, &regressions, &trend),
        };
        summary.write(&path)?;
        // Last: a night that is in the trend has all its files.
        write_whole(&self.trend_file(), lines.as_bytes())?;
        Ok(regressions.failing.is_empty())
    }

    fn trend_file(&self) -> PathBuf {
        self.path.join(TREND)
    }

    fn trend(&self) -> Result<Vec<Line>, Unusable> {
        read_trend(&self.trend_file())
    }

    /// The plans that earlier nights have kept, in the order of their names.
    fn regressions(&self) -> Result<BTreeMap<String, Plan>, Unusable> {
        let folder = self.path.join("regressions");
        let unusable = |error: std::io::Error| Unusable(format!("{}: {error}", folder.display()));
        let mut plans = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(unusable)? {
            let entry = entry.map_err(unusable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".toml") {
                plans.insert(name, read_plan(&entry.path())?);
            }
        }
        Ok(plans)
    }

    /// Runs them.
    fn replay(&self) -> Result<Regressions, Unusable> {
        let mut regressions = Regressions::default();
        for (name, plan) in self.regressions()? {
            match kept::check_plan(&plan) {
                Ok(()) if matches!(plan.expect, Some(Expectation::Violates(_))) => {
                    regressions.failing.push(name);
                }
                Ok(()) => {}
                Err(reason) => regressions.changed.push((name, reason)),
            }
        }
        Ok(regressions)
    }

    /// Keeps the shrunk plan of each kind of finding of which none is kept; gives the names of those that are new.
    fn keep(&self, book: &Book, sweep: &Sweep) -> Result<Vec<String>, Unusable> {
        let mut new = Vec::new();
        for finding in &sweep.findings {
            let (Some(folder), Some(seed)) = (book.folder(), finding.seed) else {
                continue;
            };
            let scenario = &finding.scenario;
            let shrunk = folder.finding(scenario, seed).join(SHRUNK);
            if !shrunk.exists() {
                // The first ones of each kind are shrunk.
                continue;
            }
            let plan = read_plan(&shrunk)?;
            let code = plan.expect.as_ref().map_or("", Expectation::name);
            let name = format!("{}.{code}.toml", scenario.replace('/', "-"));
            let path = self.path.join("regressions").join(&name);
            if !path.exists() {
                let text = fs::read_to_string(&shrunk)
                    .map_err(|error| Unusable(format!("{}: {error}", shrunk.display())))?;
                write_whole(&path, text.as_bytes())?;
                new.push(name);
            }
        }
        Ok(new)
    }
}

/// The nights that the hunt in this directory is one of; none if it is kept alone. Nothing is changed.
pub(super) fn nights_of(night: &Path) -> Result<Vec<Night>, Unusable> {
    let night = whole(night)?;
    let above = night.parent().and_then(Path::parent);
    let trend = above.map_or(Ok(Vec::new()), |above| read_trend(&above.join(TREND)))?;
    Ok(trend.into_iter().map(|line| line.night).collect())
}

/// A line each, those of the earliest nights first; none where there is no such file.
fn read_trend(path: &Path) -> Result<Vec<Line>, Unusable> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Unusable(format!("{}: {error}", path.display()))),
    };
    let read = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| Unusable(format!("{}:{}: {error}", path.display(), number + 1)))
    };
    text.lines().enumerate().map(read).collect()
}

/// A path from the root on, of which the names above are known.
fn whole(path: &Path) -> Result<PathBuf, Unusable> {
    path.canonicalize()
        .map_err(|error| Unusable(format!("{}: {error}", path.display())))
}

/// When a night began, from the name of its directory, in which no `:` may be.
fn began(name: &str) -> String {
    match name.split_once('T') {
        Some((day, time)) => format!("{day}T{}", time.replace('-', ":")),
        None => name.to_owned(),
    }
}

fn line(night: Night, sweep: &Sweep, new: &[String], regressions: &Regressions) -> Line {
    let kinds: BTreeSet<(&str, &str)> = sweep
        .findings
        .iter()
        .map(|finding| (&*finding.scenario, &*finding.invariant.code))
        .collect();
    let count = |counts: fn(&Tally) -> &BTreeMap<String, u64>| {
        let each = sweep
            .scenarios
            .values()
            .flat_map(|tally| counts(tally).values());
        each.filter(|runs| **runs > 0).count()
    };
    Line {
        squall: identity().to_owned(),
        seeds_per_second: (night.seeds_per_second() * 10.0).round() / 10.0,
        night,
        found: kinds.len(),
        found_new: new.len(),
        regressions_failing: regressions.failing.len(),
        faults_bit: count(|tally| &tally.bit),
        facts_reached: count(|tally| &tally.sometimes),
    }
}

/// What is told below the sweep: what is new, how the kept plans do, and the nights before.
fn more(new: &[String], regressions: &Regressions, trend: &[Line]) -> String {
    let mut page = String::new();
    let mut list = |title: &str, items: Vec<String>| {
        if !items.is_empty() {
            page += &format!("\n### {title}\n\n{}\n", items.join("\n"));
        }
    };
    let names = |names: &[String]| names.iter().map(|name| format!("- `{name}`")).collect();
    list("Found for the first time, and kept", names(new));
    list(
        "Kept from earlier nights, and still failing",
        names(&regressions.failing),
    );
    let changed = regressions.changed.iter().map(|(name, reason)| {
        let reason = reason.lines().collect::<Vec<_>>().join("; ");
        format!("- `{name}`: {reason}")
    });
    list("Kept, and not as expected any more", changed.collect());
    page += "\n### The nights\n\n\
             | night | seeds | seeds/s | failures | undecided | found | new | kept and failing | faults that bit | facts \
             reached | never done | marks reached |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for line in trend.iter().rev().take(NIGHTS_SHOWN) {
        let night = &line.night;
        page += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
            night.began,
            night.seeds,
            line.seeds_per_second,
            night.failures,
            night.inconclusive,
            line.found,
            line.found_new,
            line.regressions_failing,
            line.faults_bit,
            line.facts_reached,
            night.never,
            night.reached,
        );
    }
    page
}
