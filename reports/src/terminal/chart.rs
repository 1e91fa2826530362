//! The chart: who believed what, and which fault was at work, over the time of an excerpt.
//!
//! One row for what one lane believes about one thing, drawn as a bar that changes with the belief; below, on the same
//! scale, the faults. Where two rows contradict each other, or a row contradicts a fault, is usually the whole story.

use std::collections::BTreeMap;

use super::page::{Ink, Page, piece};
use crate::excerpt::{Excerpt, lasts};
use crate::model::{Belief, LaneId, Run, Tone, TrueTime, Violation};
use crate::words::{clean, clock, columns, cut, fit};

/// A chart with fewer columns than this says nothing.
const SCALE_COLUMNS: usize = 20;
/// Names of rows longer than this are cut.
const NAME_COLUMNS: usize = 32;
/// What part of the excerpt's time is added after its end.
const AFTER: u32 = 7;
/// The rows of beliefs, at most.
const BELIEF_ROWS: usize = 12;

pub(super) fn render(page: &mut Page, run: &Run, violation: &Violation, excerpt: &Excerpt) {
    let beliefs = beliefs(run, violation, excerpt);
    if beliefs.is_empty() {
        return;
    }
    let faults: Vec<_> = excerpt
        .faults()
        .into_iter()
        .filter_map(|index| run.faults.get(index))
        .filter(|fault| fault.to >= excerpt.from)
        .collect();
    let fault_name = |index: usize| {
        let fault = faults[index];
        format!("{} {}", clean(&fault.name), clean(&fault.target))
    };
    let names = beliefs.iter().map(|(name, _)| columns(name));
    let names = names.chain((0..faults.len()).map(|index| columns(&fault_name(index))));
    let names = names
        .max()
        .unwrap_or(0)
        .min(NAME_COLUMNS)
        .min(page.width() * 2 / 5);
    let width = page.width().saturating_sub(2 + names + 2 + 2);
    if width < SCALE_COLUMNS {
        return;
    }
    // A little of what came after, so that what was believed wrongly can be seen.
    let after = excerpt.to.since(excerpt.from) / AFTER;
    let scale = Scale {
        from: excerpt.from,
        to: excerpt.to.after(after),
        width,
    };
    let now = scale.column(violation.at);

    page.heading("Who believed what");
    let mut axis = Cells::new(width);
    axis.write(0, Ink::Faint, &format!("{} s", clock(scale.from)));
    let at = format!("{} s", clock(violation.at));
    axis.write(
        now.saturating_sub(at.len() + 1),
        Ink::Bad,
        &format!("{at} ✗"),
    );
    draw(page, &fit("", names), Ink::Plain, axis, None);
    for (name, row) in &beliefs {
        let mut cells = Cells::new(width);
        for belief in row {
            if let Some((start, end)) = scale.cells(belief.from, belief.to) {
                let (ink, fill) = tone(belief.tone);
                let changes = belief.from > scale.from;
                cells.draw(start, end, ink, fill, changes, &clean(&belief.state));
            }
        }
        draw(page, &fit(name, names), Ink::Plain, cells, Some(now));
    }
    for (index, fault) in faults.iter().enumerate() {
        let mut cells = Cells::new(width);
        let (ink, fill) = if fault.bit {
            (Ink::Fault, '▒')
        } else {
            (Ink::Faint, '░')
        };
        if let Some((start, end)) = scale.cells(fault.from, fault.to) {
            let fill = if lasts(fault) { fill } else { '╳' };
            cells.draw(start, end, ink, fill, false, "");
        }
        draw(page, &fit(&fault_name(index), names), ink, cells, Some(now));
    }
}

fn draw(page: &mut Page, name: &str, ink: Ink, mut cells: Cells, now: Option<usize>) {
    if let Some(cell) = now
        .and_then(|now| cells.0.get_mut(now))
        .filter(|cell| cell.1 == " ")
    {
        *cell = piece(Ink::Bad, "┊");
    }
    let mut line = vec![piece(ink, format!("  {name}  "))];
    line.extend(cells.0.into_iter().map(|(ink, cell)| piece(ink, cell)));
    page.line(line);
}

/// The beliefs to draw, by row: those concerned first, then whoever changed their mind meanwhile.
fn beliefs<'a>(
    run: &'a Run,
    violation: &Violation,
    excerpt: &Excerpt,
) -> Vec<(String, Vec<&'a Belief>)> {
    let mut rows: BTreeMap<(bool, LaneId, &str), Vec<&Belief>> = BTreeMap::new();
    for belief in &run.beliefs {
        if belief.from <= excerpt.to && belief.to >= excerpt.from {
            let unconcerned = !violation.lanes.contains(&belief.lane);
            let row = (unconcerned, belief.lane, belief.about.as_str());
            rows.entry(row).or_default().push(belief);
        }
    }
    rows.into_iter()
        .filter(|((unconcerned, ..), row)| !unconcerned || row.len() > 1)
        .take(BELIEF_ROWS)
        .map(|((_, lane, about), mut row)| {
            row.sort_by_key(|belief| belief.from);
            let name = format!("{} about {}", run.lane_name(lane), about);
            (clean(&name), row)
        })
        .collect()
}

fn tone(tone: Tone) -> (Ink, char) {
    match tone {
        Tone::Well => (Ink::Good, '━'),
        Tone::Unsure => (Ink::Warn, '╍'),
        Tone::Over => (Ink::Bad, '·'),
    }
}

/// From time to columns.
struct Scale {
    from: TrueTime,
    to: TrueTime,
    width: usize,
}

impl Scale {
    /// The columns that a time takes, at least one; none if it lies outside.
    fn cells(&self, from: TrueTime, to: TrueTime) -> Option<(usize, usize)> {
        if from > self.to || to < self.from {
            return None;
        }
        let start = self.column(from);
        let end = self.column(to);
        Some((start, end.max(start + 1)))
    }

    fn column(&self, at: TrueTime) -> usize {
        let (part, all) = (at.since(self.from), self.to.since(self.from));
        let column = part.as_nanos() * self.width as u128 / all.as_nanos().max(1);
        let last = self.width.saturating_sub(1);
        usize::try_from(column).map_or(last, |column| column.min(last))
    }
}

/// A row, cell by cell.
struct Cells(Vec<(Ink, String)>);

impl Cells {
    fn new(width: usize) -> Self {
        Self(vec![(Ink::Plain, " ".to_owned()); width])
    }

    /// Fills `start..end`, with a stroke where it `changes` from something else, and as much of `text` as fits.
    fn draw(&mut self, start: usize, end: usize, ink: Ink, fill: char, changes: bool, text: &str) {
        let mut at = start;
        if changes && end - start > 1 {
            self.set(at, ink, '│');
            at += 1;
        }
        let room = end - at;
        // Three letters and a mark are the least that can be guessed.
        let text = if columns(text) <= room || room >= 4 {
            cut(text, room)
        } else {
            String::new()
        };
        for cell in at..end {
            self.set(cell, ink, fill);
        }
        self.write(at, ink, &text);
    }

    /// Writes a text over what is there.
    fn write(&mut self, start: usize, ink: Ink, text: &str) {
        // A wide letter would need two cells: better the bar alone than a row that is out of line.
        if columns(text) == text.chars().count() {
            for (index, c) in text.chars().enumerate() {
                self.set(start + index, ink, c);
            }
        }
    }

    fn set(&mut self, at: usize, ink: Ink, c: char) {
        if let Some(cell) = self.0.get_mut(at) {
            *cell = (ink, c.to_string());
        }
    }
}
