//! What is said of a run or a sweep before anything else: the same words on every face.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::excerpt::lasts;
use crate::model::{FaultBand, Invariant, MarkKind, Run, Tone, Verdict};
use crate::specimen::Specimen;
use crate::sweep::{Coverage, Finding, Sweep, Undecided};
use crate::words::{clean, clock, count, duration, rate, thousands};

/// Seeds named.
const SEEDS: usize = 12;
/// Causes told of one kind of finding, those of most findings.
const CAUSES: usize = 8;

/// A verdict as sign and word, and whether that is well.
pub(crate) fn verdict(run: &Run) -> (Tone, &'static str) {
    match &run.verdict {
        Verdict::Pass => (Tone::Well, "✓ PASS"),
        Verdict::Inconclusive { .. } => (Tone::Unsure, "? INCONCLUSIVE"),
        Verdict::Fail(_) => (Tone::Over, "✗ FAIL"),
    }
}

/// The scenario, with the invariants that were violated: `lock-exclusion (L1, L2)`.
pub(crate) fn name(run: &Run) -> String {
    let mut codes: Vec<String> = Vec::new();
    for violation in run.violations() {
        let code = clean(&violation.invariant.code);
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    let name = clean(&run.scenario);
    if codes.is_empty() {
        return name;
    }
    format!("{name} ({})", codes.join(", "))
}

/// Where it ran, with which seed, and how long.
pub(crate) fn facts(run: &Run) -> String {
    let seed = seed(run.seed);
    let mut facts = format!(
        "{} · {seed} · {} of true time",
        clean(&run.world.to_string()),
        duration(run.simulated)
    );
    if let Some(elapsed) = run.elapsed {
        facts.push_str(&format!(" in {}", duration(elapsed)));
    }
    facts
}

/// Where everything is recorded, and how to tell whether another run was the same.
pub(crate) fn whereabouts(run: &Run) -> impl Iterator<Item = (&'static str, String)> {
    let all = [
        ("Recorded in", &run.trace),
        ("Fingerprint", &run.fingerprint),
    ];
    let told = all.into_iter();
    told.filter_map(|(name, value)| Some((name, clean(value.as_ref()?))))
}

/// How many faults there were, how many of them bit, and of which kinds; and the number of those that bit.
pub(crate) fn faults(run: &Run) -> (u64, String) {
    let mut kinds: Vec<(&str, u64, u64)> = Vec::new();
    for fault in &run.faults {
        let known = kinds.iter().position(|(name, ..)| *name == fault.name);
        let index = known.unwrap_or_else(|| {
            kinds.push((&fault.name, 0, 0));
            kinds.len() - 1
        });
        kinds[index].1 += u64::from(fault.bit);
        kinds[index].2 += 1;
    }
    let bit: u64 = kinds.iter().map(|(_, bit, _)| bit).sum();
    if kinds.is_empty() {
        return (bit, "none".to_owned());
    }
    let each = kinds
        .iter()
        .map(|(name, bit, all)| format!("{} {bit}/{all}", clean(name)));
    let each: Vec<_> = each.collect();
    let all = count(run.faults.len() as u64, "fault", "faults");
    (bit, format!("{bit} of {all} bit: {}", each.join(", ")))
}

/// When a fault ended, if it was not over at once, and whether it changed anything.
pub(crate) fn ended(fault: &FaultBand) -> (String, &'static str) {
    let to = if lasts(fault) {
        clock(fault.to)
    } else {
        String::new()
    };
    (to, if fault.bit { "bit" } else { "did not bite" })
}

/// How much of the insides was reached, in how many runs.
pub(crate) fn coverage(coverage: &Coverage) -> String {
    format!(
        "{} of {} marks reached in {}",
        thousands(coverage.reached() as u64),
        thousands(coverage.marks() as u64),
        count(coverage.runs, "watched run", "watched runs")
    )
}

/// One word for what a mark tells.
pub(crate) fn verb(kind: MarkKind) -> &'static str {
    match kind {
        MarkKind::Call => "calls",
        MarkKind::Ok => "ok",
        MarkKind::Refused => "refused",
        MarkKind::Unknown => "unknown",
        MarkKind::Told => "is told",
        MarkKind::Commit => "commits",
        MarkKind::Removed => "removes",
        MarkKind::Life => "process",
        MarkKind::Connection => "link",
    }
}

/// The verdict over all runs: whether that is well, its sign and word, and how many.
pub(crate) fn sweep(sweep: &Sweep) -> (Tone, &'static str, String) {
    let (runs, failures) = (sweep.runs(), sweep.failures());
    let ran = count(runs, "seed", "seeds");
    let (open, failed) = (thousands(sweep.inconclusive()), thousands(failures));
    match (runs, failures, sweep.inconclusive()) {
        (0, ..) if !sweep.specimens.is_empty() => specimens(&sweep.specimens),
        (0, ..) => (Tone::Unsure, "? NOTHING RAN", String::new()),
        (_, 0, 0) => (Tone::Well, "✓ PASS", format!("{ran}, every invariant held")),
        (_, 0, _) => (
            Tone::Unsure,
            "? INCONCLUSIVE",
            format!("{open} of {ran} undecided, no failure"),
        ),
        (_, _, 0) => (Tone::Over, "✗ FAIL", format!("{failed} of {ran} failed")),
        (..) => {
            let text = format!("{failed} of {ran} failed, {open} undecided");
            (Tone::Over, "✗ FAIL", text)
        }
    }
}

fn specimens(all: &[Specimen]) -> (Tone, &'static str, String) {
    let planted = count(all.len() as u64, "planted flaw", "planted flaws");
    match all.iter().filter(|specimen| !specimen.holds).count() {
        0 => {
            let text = format!("{planted}, each found in time, shrunk, and its right twin passes");
            (Tone::Well, "✓ PASS", text)
        }
        open => {
            let text = format!("{open} of {planted} not as its level asks");
            (Tone::Over, "✗ FAIL", text)
        }
    }
}

/// How fast the sweep was.
pub(crate) fn speed(sweep: &Sweep) -> String {
    if sweep.runs() == 0 {
        return format!("in {}", duration(sweep.elapsed));
    }
    let mut speed = format!(
        "{} of true time in {}",
        duration(sweep.simulated()),
        duration(sweep.elapsed)
    );
    if let (Some(speed_up), Some(runs)) = (sweep.speed_up(), sweep.runs_per_second()) {
        let (speed_up, runs) = (rate(speed_up), rate(runs));
        speed.push_str(&format!(": {speed_up} × real time, {runs} seeds/s"));
    }
    speed
}

/// The findings by invariant and scenario, each group by seed: runs that end at the same time are recorded in any order.
pub(crate) fn findings(sweep: &Sweep) -> BTreeMap<(&Invariant, &str), Vec<&Finding>> {
    let mut groups: BTreeMap<_, Vec<&Finding>> = BTreeMap::new();
    for finding in &sweep.findings {
        let group = (&finding.invariant, finding.scenario.as_str());
        groups.entry(group).or_default().push(finding);
    }
    for group in groups.values_mut() {
        group.sort_by_key(|finding| finding.seed);
    }
    groups
}

/// Findings of one kind by the faults that may have caused them, the most frequent first.
pub(crate) fn causes<'a>(findings: &[&'a Finding]) -> Vec<(String, Vec<&'a Finding>)> {
    let mut causes: BTreeMap<&[String], Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        causes.entry(&finding.faults).or_default().push(finding);
    }
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|(_, findings)| Reverse(findings.len()));
    let words = |faults: &[String]| match faults {
        [] => "without any fault".to_owned(),
        faults => format!("after {}", clean(&faults.join(", "))),
    };
    let rest = causes.split_off(CAUSES.min(causes.len()));
    let mut told: Vec<_> = causes
        .into_iter()
        .map(|(faults, findings)| (words(faults), findings))
        .collect();
    let rest: Vec<_> = rest
        .into_iter()
        .flat_map(|(_, findings)| findings)
        .collect();
    if !rest.is_empty() {
        told.push(("after others".to_owned(), rest));
    }
    told
}

/// What could not be decided, by scenario and reason, each group by seed.
pub(crate) fn undecided(sweep: &Sweep) -> BTreeMap<(&str, &str), Vec<&Undecided>> {
    let mut groups: BTreeMap<_, Vec<&Undecided>> = BTreeMap::new();
    for run in &sweep.undecided {
        let group = (run.scenario.as_str(), run.why.as_str());
        groups.entry(group).or_default().push(run);
    }
    for group in groups.values_mut() {
        group.sort_by_key(|run| run.seed);
    }
    groups
}

/// `seed 7`, or that there is none.
pub(crate) fn seed(seed: Option<u64>) -> String {
    seed.map_or_else(|| "no seed".to_owned(), |seed| format!("seed {seed}"))
}

/// `seeds 3, 17, 21`; the first of them, and how many more.
pub(crate) fn seeds(all: &[Option<u64>]) -> String {
    let [_, _, ..] = all else {
        return all.first().map_or_else(String::new, |one| seed(*one));
    };
    let number =
        |seed: &Option<u64>| seed.map_or_else(|| "none".to_owned(), |seed| seed.to_string());
    let named: Vec<_> = all.iter().take(SEEDS).map(number).collect();
    let more = match all.len().saturating_sub(SEEDS) {
        0 => String::new(),
        more => format!(" and {} more", thousands(more as u64)),
    };
    format!("seeds {}{more}", named.join(", "))
}
