//! An excerpt as rows of text: what a face shows that has tables of its own.

use crate::excerpt::{Excerpt, Gap, Row, Weight, lasts};
use crate::headline::verb;
use crate::model::{Run, TrueTime, Violation};
use crate::words::{clean, count, duration};

/// One row, its texts on one line each.
pub(crate) struct Line {
    /// When; a gap has no time of its own.
    pub(crate) at: Option<TrueTime>,
    /// Who; empty in a gap.
    pub(crate) who: String,
    /// One word for what kind of thing; empty in a gap.
    pub(crate) kind: &'static str,
    /// What.
    pub(crate) text: String,
    /// What it is to the violation.
    pub(crate) weight: Weight,
}

/// The rows of an excerpt around `violation`.
pub(crate) fn lines(run: &Run, violation: &Violation, excerpt: &Excerpt) -> Vec<Line> {
    let rows = excerpt.rows.iter();
    rows.filter_map(|row| line(run, violation, row)).collect()
}

/// One row; none where it is of a mark or fault that does not exist.
pub(crate) fn line(run: &Run, violation: &Violation, row: &Row) -> Option<Line> {
    Some(match row {
        Row::Mark(id, weight) => {
            let mark = run.mark(*id)?;
            let mut text = clean(&mark.text);
            if let Some(after) = run.answered_after(mark) {
                text.push_str(&format!(" (after {})", duration(after)));
            }
            Line {
                at: Some(mark.at),
                who: clean(&run.lane_name(mark.lane)),
                kind: verb(mark.kind),
                text,
                weight: *weight,
            }
        }
        Row::Begins(index) | Row::Ends(index) => {
            let fault = run.faults.get(*index)?;
            let begins = matches!(row, Row::Begins(_));
            let mut text = format!("{} {}", clean(&fault.name), clean(&fault.target));
            if begins && !fault.bit {
                text.push_str(" (did not bite)");
            }
            Line {
                at: Some(if begins { fault.from } else { fault.to }),
                who: "fault".to_owned(),
                kind: match (lasts(fault), begins) {
                    (false, _) => "strikes",
                    (true, true) => "begins",
                    (true, false) => "ends",
                },
                text,
                weight: Weight::Context,
            }
        }
        Row::Violated(at) => {
            let who = violation.lanes.first().map(|id| run.lane_name(*id));
            Line {
                at: Some(*at),
                who: clean(&who.unwrap_or_default()),
                kind: "violates",
                text: format!(
                    "{}: from here on it does not hold",
                    clean(&violation.invariant.code)
                ),
                weight: Weight::Violation,
            }
        }
        Row::Gap(gap) => Line {
            at: None,
            who: String::new(),
            kind: "",
            text: hidden(gap),
            weight: Weight::Context,
        },
    })
}

/// What a gap hides: `… 2.000 s: 12 beats of alice, 1 call …`.
pub(crate) fn hidden(gap: &Gap) -> String {
    let some = gap.hidden.iter().take(3);
    let mut text: Vec<_> = some.map(|(_, name)| clean(name)).collect();
    let more: usize = gap.hidden.iter().skip(3).map(|(count, _)| count).sum();
    if more > 0 {
        text.push(format!("{} more", count(more as u64, "event", "events")));
    }
    format!("… {}: {} …", duration(gap.lasts), text.join(", "))
}
