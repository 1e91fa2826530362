//! The timeline: an excerpt as rows of time, faults at work, who, and what.
//!
//! Each fault that has a row in the excerpt owns a narrow column from its beginning (`┬`) to its end (`┴`), so that the
//! eye falls from any event upwards to the faults it happened under. On a narrow page, who and what is one text.

use super::page::{Ink, Page, Piece, indent, piece};
use crate::excerpt::{Excerpt, Gap, Row, Weight, lasts};
use crate::headline::verb;
use crate::model::{Mark, MarkKind, Run, TrueTime, Violation};
use crate::story::hidden;
use crate::words::{clean, clock, columns, cut, duration, fit};

/// Names longer than this are cut.
const LANE_COLUMNS: usize = 16;
/// Lines that a single context row may take.
const CONTEXT_LINES: usize = 2;
/// Where less than this would be left for the text, it is not a column of its own.
const TEXT_COLUMNS: usize = 26;

pub(super) fn render(page: &mut Page, run: &Run, violation: &Violation, excerpt: &Excerpt) {
    page.heading("What happened");
    page.paragraph(
        &[],
        &[],
        Ink::Faint,
        "▸ evidence  ✗ violation  ╎ a fault that did not bite",
    );
    let mut table = Table::new(page, run, excerpt);
    table.head(page);
    for row in &excerpt.rows {
        match row {
            Row::Mark(id, weight) => {
                if let Some(mark) = run.mark(*id) {
                    table.mark(page, mark, *weight);
                }
            }
            Row::Begins(fault) => table.fault(page, *fault, true),
            Row::Ends(fault) => table.fault(page, *fault, false),
            Row::Violated(at) => {
                let code = clean(&violation.invariant.code);
                let who = clean(
                    &violation
                        .lanes
                        .first()
                        .map_or(String::new(), |id| run.lane_name(*id)),
                );
                let line = Line {
                    sign: ("✗ ", Ink::Bad),
                    time: clock(*at),
                    who,
                    kind: "violates",
                    ink: Ink::Bad,
                    lines_max: usize::MAX,
                };
                table.line(
                    page,
                    line,
                    &format!("{code}: from here on it does not hold"),
                );
            }
            Row::Gap(gap) => table.gap(page, gap),
        }
    }
}

/// The layout, and the faults at work in the row that comes next.
struct Table<'a> {
    run: &'a Run,
    times: usize,
    lanes: usize,
    /// The column of each fault that has one.
    bands: Vec<Band>,
    /// How many columns there are for them.
    slots: usize,
    stacked: bool,
}

struct Band {
    fault: usize,
    slot: usize,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ahead,
    Begins,
    AtWork,
    Ends,
    Over,
}

struct Line {
    sign: (&'static str, Ink),
    time: String,
    who: String,
    kind: &'static str,
    ink: Ink,
    lines_max: usize,
}

impl<'a> Table<'a> {
    fn new(page: &Page, run: &'a Run, excerpt: &Excerpt) -> Self {
        let end = excerpt.to.max(excerpt.from);
        let times = clock(end).len().max("seconds".len());
        let shown = excerpt.rows.iter().filter_map(|row| match row {
            Row::Mark(id, _) => run
                .mark(*id)
                .map(|mark| columns(&clean(&run.lane_name(mark.lane)))),
            _ => None,
        });
        let lanes = shown.max().unwrap_or(0).clamp("fault".len(), LANE_COLUMNS);
        let slots_max = if page.width() < 60 { 3 } else { 10 };
        let (bands, slots) = bands(run, excerpt, slots_max);
        let taken = 2 + times + 1 + slots + 1 + lanes + 2 + 9;
        let stacked = page.width() < taken + TEXT_COLUMNS;
        Self {
            run,
            times,
            lanes,
            bands,
            slots,
            stacked,
        }
    }

    fn head(&self, page: &mut Page) {
        let seconds = format!("  {:>times$} ", "seconds", times = self.times);
        let bands = " ".repeat(self.slots);
        let who = fit("who", self.lanes);
        let head = if self.stacked {
            format!("{seconds}{bands} who, and what")
        } else {
            format!("{seconds}{bands} {who}  what")
        };
        page.line(vec![piece(Ink::Faint, cut(&head, page.width()))]);
    }

    fn mark(&mut self, page: &mut Page, mark: &Mark, weight: Weight) {
        let (kind, kind_ink) = kind(mark.kind);
        let mut text = clean(&mark.text);
        if let Some(after) = self.run.answered_after(mark) {
            text.push_str(&format!(" (after {})", duration(after)));
        }
        let (sign, ink) = match weight {
            Weight::Context if mark.routine.is_some() => (("  ", Ink::Plain), Ink::Faint),
            Weight::Context => (("  ", Ink::Plain), kind_ink),
            Weight::Evidence => (("▸ ", Ink::Strong), Ink::Strong),
            Weight::Violation => (("✗ ", Ink::Bad), Ink::Bad),
        };
        let line = Line {
            sign,
            time: clock(mark.at),
            who: clean(&self.run.lane_name(mark.lane)),
            kind,
            ink,
            lines_max: if weight == Weight::Context {
                CONTEXT_LINES
            } else {
                usize::MAX
            },
        };
        self.line(page, line, &text);
    }

    fn fault(&mut self, page: &mut Page, index: usize, begins: bool) {
        let Some(fault) = self.run.faults.get(index) else {
            return;
        };
        let mut text = format!("{} {}", clean(&fault.name), clean(&fault.target));
        if begins && !fault.bit {
            text.push_str(" (did not bite)");
        }
        if !begins {
            text.push_str(&format!(
                " (after {})",
                duration(fault.to.since(fault.from))
            ));
        }
        let kind = match (lasts(fault), begins) {
            (false, _) => "strikes",
            (true, true) => "begins",
            (true, false) => "ends",
        };
        let own = self.bands.iter_mut().find(|band| band.fault == index);
        if let Some(band) = own {
            band.phase = if begins { Phase::Begins } else { Phase::Ends };
        }
        let line = Line {
            sign: ("  ", Ink::Plain),
            time: clock(if begins { fault.from } else { fault.to }),
            who: "fault".to_owned(),
            kind,
            ink: if fault.bit { Ink::Fault } else { Ink::Faint },
            lines_max: CONTEXT_LINES,
        };
        self.line(page, line, &text);
    }

    fn gap(&mut self, page: &mut Page, gap: &Gap) {
        let text = hidden(gap);
        let mut first = indent(2 + self.times + 1).to_vec();
        first.extend(self.bars());
        first.push(piece(Ink::Plain, " "));
        page.block(&first, &first.clone(), Ink::Faint, &text, CONTEXT_LINES);
    }

    fn line(&mut self, page: &mut Page, line: Line, text: &str) {
        let time = format!("{:>times$} ", line.time, times = self.times);
        let mut first = vec![piece(line.sign.1, line.sign.0), piece(line.sign.1, time)];
        first.extend(self.bars());
        self.advance();
        let mut rest = indent(2 + self.times + 1).to_vec();
        rest.extend(self.bars());
        if self.stacked {
            let text = format!("{} {} {text}", line.who, line.kind);
            first.push(piece(Ink::Plain, " "));
            rest.push(piece(Ink::Plain, " "));
            let lines_max = line.lines_max.saturating_add(1);
            return page.block(&first, &rest, line.ink, &text, lines_max);
        }
        let who = fit(&line.who, self.lanes);
        first.push(piece(line.ink, format!(" {who}  {:<9}", line.kind)));
        rest.push(piece(Ink::Plain, " ".repeat(1 + self.lanes + 2 + 9)));
        page.block(&first, &rest, line.ink, text, line.lines_max);
    }

    /// The columns of the faults, as they are in this row.
    fn bars(&self) -> Vec<Piece> {
        let bar = |slot| {
            let live = |band: &&Band| !matches!(band.phase, Phase::Ahead | Phase::Over);
            let band = self
                .bands
                .iter()
                .filter(|band| band.slot == slot)
                .find(live);
            band.map_or_else(|| piece(Ink::Plain, " "), |band| self.bar(band))
        };
        (0..self.slots).map(bar).collect()
    }

    fn bar(&self, band: &Band) -> Piece {
        let fault = self.run.faults.get(band.fault);
        let (bit, lasting) = fault.map_or((false, false), |fault| (fault.bit, lasts(fault)));
        let glyph = match (band.phase, bit) {
            (Phase::Begins, _) if !lasting => "╳",
            (Phase::Begins, _) => "┬",
            (Phase::Ends, _) => "┴",
            (_, true) => "│",
            (_, false) => "╎",
        };
        piece(if bit { Ink::Fault } else { Ink::Faint }, glyph)
    }

    /// What began is at work from the next line on, and what ended is over.
    fn advance(&mut self) {
        for band in &mut self.bands {
            let lasting = self.run.faults.get(band.fault).is_some_and(lasts);
            band.phase = match band.phase {
                Phase::Begins if lasting => Phase::AtWork,
                Phase::Begins | Phase::Ends => Phase::Over,
                phase => phase,
            };
        }
    }
}

/// A column for each fault whose beginning is told, the earliest leftmost; one that is free again is used again.
fn bands(run: &Run, excerpt: &Excerpt, slots_max: usize) -> (Vec<Band>, usize) {
    let mut bands = Vec::new();
    let mut free_from: Vec<Option<TrueTime>> = Vec::new();
    for row in &excerpt.rows {
        let Row::Begins(index) = *row else { continue };
        let Some(fault) = run.faults.get(index) else {
            continue;
        };
        let free = free_from
            .iter()
            .position(|free| free.is_some_and(|free| free < fault.from));
        let slot = free.unwrap_or(free_from.len());
        if slot >= slots_max {
            continue;
        }
        // A fault whose end is not told stays at work until the last row.
        let ends = !lasts(fault) || excerpt.rows.contains(&Row::Ends(index));
        let until = ends.then_some(fault.to);
        match free_from.get_mut(slot) {
            Some(free) => *free = until,
            None => free_from.push(until),
        }
        let phase = Phase::Ahead;
        bands.push(Band {
            fault: index,
            slot,
            phase,
        });
    }
    (bands, free_from.len())
}

/// One word for a kind of mark, and its ink.
fn kind(kind: MarkKind) -> (&'static str, Ink) {
    let ink = match kind {
        MarkKind::Refused | MarkKind::Unknown | MarkKind::Removed => Ink::Warn,
        MarkKind::Call
        | MarkKind::Ok
        | MarkKind::Told
        | MarkKind::Commit
        | MarkKind::Life
        | MarkKind::Connection => Ink::Plain,
    };
    (verb(kind), ink)
}
