//! A sweep as text: how many storms, what they found, and whether they were storms at all.

use std::collections::BTreeMap;

use super::Style;
use super::page::{Ink, Page, indent, piece};
use super::words::{clean, columns, count, duration, fit, rate, thousands};
use crate::model::Invariant;
use crate::sweep::{Finding, Sweep, Tally};

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
    let (ink, verdict) = match (runs, failures, sweep.inconclusive()) {
        (0, ..) => (Ink::Warn, "? NOTHING RAN".to_owned()),
        (_, 0, 0) => (Ink::Good, format!("✓ PASS  {ran}, every invariant held")),
        (_, 0, open) => (
            Ink::Warn,
            format!(
                "? INCONCLUSIVE  {} of {ran} undecided, none failed",
                thousands(open)
            ),
        ),
        (_, failed, 0) => (
            Ink::Bad,
            format!("✗ FAIL  {} of {ran} failed", thousands(failed)),
        ),
        (_, failed, open) => (
            Ink::Bad,
            format!(
                "✗ FAIL  {} of {ran} failed, {} undecided",
                thousands(failed),
                thousands(open)
            ),
        ),
    };
    page.paragraph(&[], &indent(2), ink, &verdict);
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
        let what = if never == 1 {
            "One thing"
        } else {
            "Some things"
        };
        let text = format!("{what} that a storm must do was never done: see ! below");
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
            "{}, {}, {} undecided, {}",
            count(tally.runs, "seed", "seeds"),
            count(tally.failures, "failure", "failures"),
            thousands(tally.inconclusive),
            duration(tally.simulated)
        );
        page.paragraph(&indent(2), &indent(2), ink, &counts);
        counted(page, "faults that bit", &tally.bit, tally.runs);
        counted(page, "sometimes", &tally.sometimes, tally.runs);
    }
}

/// Names with how many of the runs they happened in.
fn counted(page: &mut Page, title: &str, counts: &BTreeMap<String, u64>, runs: u64) {
    if counts.is_empty() {
        return;
    }
    page.paragraph(&indent(2), &indent(2), Ink::Faint, title);
    let names = counts
        .keys()
        .map(|name| columns(&clean(name)))
        .max()
        .unwrap_or(0);
    let numbers = thousands(runs).len();
    let taken = 4 + 2 + 2 + 2 * numbers + " of ".len();
    let names = names.min(page.width().saturating_sub(taken).max(8));
    for (name, reached) in counts {
        let never = *reached == 0;
        let ink = if never { Ink::Warn } else { Ink::Plain };
        let share = if never {
            "never".to_owned()
        } else {
            format!("{:>numbers$} of {}", thousands(*reached), thousands(runs))
        };
        let sign = if never { "  ! " } else { "    " };
        page.line(vec![piece(
            ink,
            format!("{sign}{}  {share}", fit(&clean(name), names)),
        )]);
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
        let first = [
            piece(Ink::Plain, "  "),
            piece(Ink::Bad, name.trim_end()),
            piece(Ink::Plain, "  "),
        ];
        page.paragraph(&first, &indent(4), Ink::Plain, &text);
        page.paragraph(
            &indent(4),
            &indent(4),
            Ink::Faint,
            &clean(&invariant.property),
        );
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
