//! A sweep as text: how many storms, what they found, and whether they were storms at all.

use std::collections::BTreeMap;

use super::Style;
use super::page::{Ink, Page, indent, piece};
use crate::model::Invariant;
use crate::sweep::{Finding, Sweep, Tally};
use crate::words::{clean, columns, count, duration, fit, rate, thousands};

/// Seeds told in full for one invariant of one scenario.
const EXAMPLES: usize = 2;
/// Seeds named.
const SEEDS: usize = 12;

/// A sweep as text, each line ended by a line feed.
pub fn render_sweep(sweep: &Sweep, style: Style) -> String {
    let mut page = Page::new(style);
    head(&mut page, sweep);
    table(&mut page, sweep);
    findings(&mut page, sweep);
    undecided(&mut page, sweep);
    page.finish()
}

fn head(page: &mut Page, sweep: &Sweep) {
    let (runs, failures) = (sweep.runs(), sweep.failures());
    let never: usize = sweep.scenarios.values().map(Tally::never).sum();
    let ran = count(runs, "seed", "seeds");
    let open = thousands(sweep.inconclusive());
    let (ink, verdict, text) = match (runs, failures, sweep.inconclusive()) {
        (0, ..) => (Ink::Warn, "? NOTHING RAN", String::new()),
        (_, 0, 0) => (Ink::Good, "✓ PASS", format!("{ran}, every invariant held")),
        (_, 0, _) => (
            Ink::Warn,
            "? INCONCLUSIVE",
            format!("{open} of {ran} undecided, no failure"),
        ),
        (_, failed, 0) => (
            Ink::Bad,
            "✗ FAIL",
            format!("{} of {ran} failed", thousands(failed)),
        ),
        (_, failed, _) => {
            let text = format!("{} of {ran} failed, {open} undecided", thousands(failed));
            (Ink::Bad, "✗ FAIL", text)
        }
    };
    let verdict = [piece(ink, verdict), piece(ink, "  ")];
    page.paragraph(&verdict, &indent(2), Ink::Strong, &text);
    let mut speed = format!(
        "{} of true time in {}",
        duration(sweep.simulated()),
        duration(sweep.elapsed)
    );
    if let (Some(speed_up), Some(runs)) = (sweep.speed_up(), sweep.runs_per_second()) {
        let (speed_up, runs) = (rate(speed_up), rate(runs));
        speed.push_str(&format!(": {speed_up} × real time, {runs} seeds/s"));
    }
    page.paragraph(&indent(2), &indent(2), Ink::Faint, &speed);
    if never > 0 {
        let what = count(
            never as u64,
            "thing that a storm must do was",
            "things that a storm must do were",
        );
        let text = format!("{what} never done: see ! below");
        page.paragraph(&indent(2), &indent(2), Ink::Warn, &text);
    }
}

fn table(page: &mut Page, sweep: &Sweep) {
    for (name, tally) in &sweep.scenarios {
        page.blank();
        let ink = match (tally.failures, tally.inconclusive) {
            (0, 0) => Ink::Good,
            (0, _) => Ink::Warn,
            _ => Ink::Bad,
        };
        page.paragraph(&[], &indent(2), Ink::Strong, &clean(name));
        let counts = format!(
            "{} · {} · {} undecided · {}",
            count(tally.runs, "seed", "seeds"),
            count(tally.failures, "failure", "failures"),
            thousands(tally.inconclusive),
            duration(tally.simulated)
        );
        page.paragraph(&indent(2), &indent(2), ink, &counts);
        counted(page, tally);
    }
}

/// What the storms did, and in how many of the runs.
fn counted(page: &mut Page, tally: &Tally) {
    let names = |never: bool| {
        let kinds = tally
            .bit
            .iter()
            .filter(move |(_, runs)| (**runs == 0) == never);
        let kinds = kinds.map(move |(name, runs)| match runs {
            0 => clean(name),
            runs => format!("{} {}", clean(name), thousands(*runs)),
        });
        kinds.collect::<Vec<_>>().join(", ")
    };
    let labels = if page.width() < 50 { 0 } else { 19 };
    let mut row = |label: &str, ink, text: &str| {
        if !text.is_empty() {
            let label = fit(label, labels.max(columns(label) + 1));
            let faint = if ink == Ink::Plain { Ink::Faint } else { ink };
            page.paragraph(&[piece(faint, label)], &indent(6), ink, text);
        }
    };
    row("  faults that bit", Ink::Plain, &names(false));
    row("! never bit", Ink::Warn, &names(true));
    let reached = |runs: &u64| thousands(*runs);
    let widest = tally
        .sometimes
        .values()
        .map(|runs| reached(runs).len())
        .max()
        .unwrap_or(0);
    let mut label = "  sometimes";
    for (name, runs) in tally.sometimes.iter().filter(|(_, runs)| **runs > 0) {
        let (runs, all) = (reached(runs), thousands(tally.runs));
        row(
            label,
            Ink::Plain,
            &format!("{runs:>widest$} of {all}: {}", clean(name)),
        );
        label = "";
    }
    for (name, _) in tally.sometimes.iter().filter(|(_, runs)| **runs == 0) {
        row("! never reached", Ink::Warn, &clean(name));
    }
}

fn findings(page: &mut Page, sweep: &Sweep) {
    if sweep.findings.is_empty() {
        return;
    }
    page.heading("Findings");
    let mut groups: BTreeMap<(&Invariant, &str), Vec<&Finding>> = BTreeMap::new();
    for finding in &sweep.findings {
        let group = (&finding.invariant, finding.scenario.as_str());
        groups.entry(group).or_default().push(finding);
    }
    for ((invariant, scenario), mut findings) in groups {
        // Runs that end at the same time are recorded in any order.
        findings.sort_by_key(|finding| finding.seed);
        let name = format!("✗ {} {}", clean(&invariant.code), clean(&invariant.name));
        let all: Vec<_> = findings.iter().map(|finding| finding.seed).collect();
        let text = format!("in {}: {}", clean(scenario), seeds(&all));
        page.paragraph(&indent(2), &indent(4), Ink::Bad, &name);
        let property = clean(&invariant.property);
        page.paragraph(&indent(4), &indent(4), Ink::Faint, &property);
        page.paragraph(&indent(4), &indent(6), Ink::Plain, &text);
        for finding in findings.iter().take(EXAMPLES) {
            let text = format!("{}: {}", seed(finding.seed), clean(&finding.what_happened));
            page.paragraph(&indent(4), &indent(6), Ink::Plain, &text);
            page.line(vec![piece(
                Ink::Strong,
                format!("      {}", clean(&finding.reproduce)),
            )]);
        }
    }
}

fn undecided(page: &mut Page, sweep: &Sweep) {
    if sweep.undecided.is_empty() {
        return;
    }
    page.heading("Undecided");
    let mut groups: BTreeMap<(&str, &str), Vec<_>> = BTreeMap::new();
    for run in &sweep.undecided {
        let group = (run.scenario.as_str(), run.why.as_str());
        groups.entry(group).or_default().push(run);
    }
    for ((scenario, why), mut runs) in groups {
        runs.sort_by_key(|run| run.seed);
        let all: Vec<_> = runs.iter().map(|run| run.seed).collect();
        let text = format!("{}, {}: {}", clean(scenario), seeds(&all), clean(why));
        page.paragraph(&[piece(Ink::Warn, "  ? ")], &indent(4), Ink::Plain, &text);
        if let Some(run) = runs.first() {
            page.line(vec![piece(
                Ink::Strong,
                format!("      {}", clean(&run.reproduce)),
            )]);
        }
    }
}

fn seed(seed: Option<u64>) -> String {
    seed.map_or_else(|| "no seed".to_owned(), |seed| format!("seed {seed}"))
}

fn seeds(all: &[Option<u64>]) -> String {
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
