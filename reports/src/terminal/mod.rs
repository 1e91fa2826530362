//! A run, or a sweep of many, as text for a terminal.
//!
//! A failed run is told in the order in which a reader asks: what was violated, who believed what and which fault was at
//! work meanwhile (a chart), how it came to it (a timeline that ends with the violation), everything that was done to
//! the world, and the command that does it again. Everything can be read without colour; whether there is colour, and
//! how wide a line is, is told by the caller: nothing here looks at a terminal.

mod chart;
mod diagnosis;
mod page;
mod sweep;
mod timeline;

use crate::excerpt::{Excerpt, lasts};
use crate::headline;
use crate::model::{FaultBand, Run, Verdict, Violation};
use crate::words::{clean, clock, columns, count, cut, fit};
use page::{Ink, Page, indent, piece};

pub use diagnosis::render_diagnosis;
pub use sweep::render_sweep;

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether to use ANSI colours.
    pub color: bool,
    /// The columns of a line; fewer than 20 are taken as 20. Only a command to paste is never broken.
    pub width: usize,
}

impl Default for Style {
    /// What is right for a file: no colour, 100 columns.
    fn default() -> Self {
        Self {
            color: false,
            width: 100,
        }
    }
}

/// The rows of a timeline, at most.
const TIMELINE_ROWS: usize = 40;
/// The rows of the table of faults, at most.
const FAULT_ROWS: usize = 30;

/// One run as text, each line ended by a line feed.
pub fn render(run: &Run, style: Style) -> String {
    let mut page = Page::new(style);
    head(&mut page, run);
    match &run.verdict {
        Verdict::Pass => summary(&mut page, run),
        Verdict::Inconclusive { why } => {
            page.blank();
            page.paragraph(&[], &[], Ink::Plain, &clean(why));
            summary(&mut page, run);
        }
        Verdict::Fail(_) => failure(&mut page, run),
    }
    page.heading("Reproduce");
    page.line(vec![piece(
        Ink::Plain,
        format!("  {}", clean(&run.reproduce)),
    )]);
    for (name, value) in headline::whereabouts(run) {
        page.line(vec![piece(Ink::Faint, format!("  {name}: {value}"))]);
    }
    page.finish()
}

/// The verdict and what it is about.
fn head(page: &mut Page, run: &Run) {
    let (tone, verdict) = headline::verdict(run);
    let ink = page::ink(tone);
    let verdict = [piece(ink, verdict), piece(ink, "  ")];
    page.paragraph(&verdict, &indent(2), Ink::Strong, &headline::name(run));
    page.paragraph(&indent(2), &indent(2), Ink::Plain, &clean(&run.title));
    let facts = headline::facts(run);
    page.paragraph(&indent(2), &indent(2), Ink::Faint, &facts);
}

/// What a run that did not fail went through: without faults that bit, a pass says little.
fn summary(page: &mut Page, run: &Run) {
    page.blank();
    let (bit, text) = headline::faults(run);
    let ink = if bit == 0 { Ink::Warn } else { Ink::Plain };
    page.paragraph(
        &[piece(Ink::Faint, "  faults     ")],
        &[piece(Ink::Faint, "    ")],
        ink,
        &text,
    );
    for (index, fact) in run.sometimes.iter().enumerate() {
        let label = if index == 0 {
            "  sometimes  "
        } else {
            "             "
        };
        let (sign, ink) = if fact.reached {
            ("✓ ", Ink::Good)
        } else {
            ("· ", Ink::Faint)
        };
        let name = clean(&fact.name);
        let text = if fact.reached {
            name
        } else {
            format!("{name} (not in this run)")
        };
        let first = [piece(Ink::Faint, label), piece(ink, sign)];
        let words = if fact.reached { Ink::Plain } else { Ink::Faint };
        page.paragraph(&first, &indent(4), words, &text);
    }
}

fn failure(page: &mut Page, run: &Run) {
    let violations = run.violations();
    let Some((first, others)) = violations.split_first() else {
        page.blank();
        page.paragraph(
            &[],
            &[],
            Ink::Warn,
            "The run failed, and no violation was recorded.",
        );
        return faults(page, run);
    };
    page.blank();
    violation(page, run, first);
    let excerpt = Excerpt::around(run, first, TIMELINE_ROWS);
    chart::render(page, run, first, &excerpt);
    timeline::render(page, run, first, &excerpt);
    if !others.is_empty() {
        page.heading("Violated later in the same run");
        for other in others {
            let what = format!(
                "{} s  {} {}: {}",
                clock(other.at),
                clean(&other.invariant.code),
                clean(&other.invariant.name),
                clean(&other.what_happened)
            );
            page.paragraph(&indent(2), &indent(4), Ink::Plain, &what);
        }
    }
    faults(page, run);
}

/// The property and what happened instead, in words.
fn violation(page: &mut Page, run: &Run, violation: &Violation) {
    let invariant = &violation.invariant;
    let name = format!("{} {}", clean(&invariant.code), clean(&invariant.name));
    page.paragraph(
        &[],
        &indent(2),
        Ink::Bad,
        &format!("{} is violated", name.trim_end()),
    );
    let promised = [piece(Ink::Faint, "  promised  ")];
    let happened = [piece(Ink::Faint, "  happened  ")];
    let rest = indent(if page.width() < 50 { 4 } else { 12 });
    page.paragraph(&promised, &rest, Ink::Plain, &clean(&invariant.property));
    page.paragraph(
        &happened,
        &rest,
        Ink::Strong,
        &clean(&violation.what_happened),
    );
    let lanes: Vec<_> = violation
        .lanes
        .iter()
        .map(|id| clean(&run.lane_name(*id)))
        .collect();
    if !lanes.is_empty() {
        let text = format!("{} s: {}", clock(violation.at), lanes.join(", "));
        page.paragraph(
            &[piece(Ink::Faint, "  at        ")],
            &rest,
            Ink::Plain,
            &text,
        );
    }
}

/// Everything that was done to the world, whether it mattered or not.
fn faults(page: &mut Page, run: &Run) {
    page.heading("Faults of this run");
    if run.faults.is_empty() {
        return page.paragraph(&indent(2), &indent(2), Ink::Plain, "none");
    }
    let time = |fault: &FaultBand| {
        let to = if lasts(fault) {
            clock(fault.to)
        } else {
            String::new()
        };
        (clock(fault.from), to)
    };
    let widest =
        |text: &dyn Fn(&FaultBand) -> usize| run.faults.iter().map(text).max().unwrap_or(0);
    let times = widest(&|fault| time(fault).0.len().max(time(fault).1.len()));
    let names = widest(&|fault| columns(&clean(&fault.name))).min(24);
    let targets = widest(&|fault| columns(&clean(&fault.target)));
    let taken = 2 + times + 3 + times + 2 + names + 2 + 2 + "did not bite".len();
    let targets = targets.min(page.width().saturating_sub(taken));
    let narrow = targets < 8;
    for fault in run.faults.iter().take(FAULT_ROWS) {
        let (from, to) = time(fault);
        let (bit, ink) = if fault.bit {
            ("bit", Ink::Fault)
        } else {
            ("did not bite", Ink::Faint)
        };
        let (name, target) = (clean(&fault.name), clean(&fault.target));
        if narrow {
            let to = if to.is_empty() {
                to
            } else {
                format!(" to {to}")
            };
            let text = format!("{name} {target}, {from}{to}, {bit}");
            page.paragraph(&indent(2), &indent(4), ink, &text);
            continue;
        }
        let arrow = if to.is_empty() { "   " } else { " – " };
        page.line(vec![
            piece(Ink::Plain, format!("  {from:>times$}{arrow}{to:>times$}  ")),
            piece(ink, format!("{}  ", fit(&name, names))),
            piece(Ink::Plain, format!("{}  ", fit(&target, targets))),
            piece(ink, cut(bit, 12)),
        ]);
    }
    if run.faults.len() > FAULT_ROWS {
        let more = count((run.faults.len() - FAULT_ROWS) as u64, "fault", "faults");
        page.paragraph(
            &indent(2),
            &indent(2),
            Ink::Faint,
            &format!("… and {more} more"),
        );
    }
}
