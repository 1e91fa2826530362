//! A sweep as text: how many storms, what they found, and whether they were storms at all.

use super::Style;
use super::page::{self, Ink, Page, indent, piece};
use crate::headline::{self, seed, seeds};
use crate::sweep::{Coverage, Gap, Sweep, Tally};
use crate::words::{clean, columns, count, duration, fit, thousands};

/// Seeds told in full for one invariant of one scenario.
const EXAMPLES: usize = 2;

/// A sweep as text, each line ended by a line feed.
pub fn render_sweep(sweep: &Sweep, style: Style) -> String {
    let mut page = Page::new(style);
    head(&mut page, sweep);
    table(&mut page, sweep);
    coverage(&mut page, &sweep.coverage);
    findings(&mut page, sweep);
    undecided(&mut page, sweep);
    page.finish()
}

fn head(page: &mut Page, sweep: &Sweep) {
    let never = sweep.never();
    let (tone, verdict, text) = headline::sweep(sweep);
    let ink = page::ink(tone);
    let verdict = [piece(ink, verdict), piece(ink, "  ")];
    page.paragraph(&verdict, &indent(2), Ink::Strong, &text);
    let speed = headline::speed(sweep);
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

/// What was never reached.
fn coverage(page: &mut Page, coverage: &Coverage) {
    if coverage.is_empty() {
        return;
    }
    page.heading("Coverage");
    let told = headline::coverage(coverage);
    page.paragraph(&indent(2), &indent(2), Ink::Plain, &told);
    let (untouched, gaps): (Vec<Gap<'_>>, Vec<Gap<'_>>) =
        coverage.gaps().partition(|gap| gap.reached() == 0);
    for gap in gaps {
        let group = clean(gap.group);
        let never = clean(&gap.never());
        let text = format!("{group}: {} of {}, never {never}", gap.reached(), gap.of);
        page.paragraph(&indent(2), &indent(6), Ink::Plain, &text);
    }
    if !untouched.is_empty() {
        let groups: Vec<&str> = untouched.iter().map(|gap| gap.group).collect();
        let text = format!("nothing of {}", clean(&groups.join(", ")));
        page.paragraph(&indent(2), &indent(6), Ink::Plain, &text);
    }
}

fn findings(page: &mut Page, sweep: &Sweep) {
    if sweep.findings.is_empty() {
        return;
    }
    page.heading("Findings");
    for ((invariant, scenario), findings) in headline::findings(sweep) {
        let name = format!("✗ {} {}", clean(&invariant.code), clean(&invariant.name));
        page.paragraph(&indent(2), &indent(4), Ink::Bad, &name);
        let property = clean(&invariant.property);
        page.paragraph(&indent(4), &indent(4), Ink::Faint, &property);
        for (cause, of) in headline::causes(&findings) {
            let all: Vec<_> = of.iter().map(|finding| finding.seed).collect();
            let text = format!("in {}, {cause}: {}", clean(scenario), seeds(&all));
            page.paragraph(&indent(4), &indent(6), Ink::Plain, &text);
        }
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
    for ((scenario, why), runs) in headline::undecided(sweep) {
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
