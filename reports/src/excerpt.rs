//! The few events of a run that tell how it came to a violation.
//!
//! A run has thousands of events and a reader has a minute. An excerpt is a bounded number of rows that end with the
//! violation: what proves it, the faults that were at work, what the code under test told its users, and the last beat,
//! the last renewal, the last of any hum before it fell silent. All the rest is counted, not dropped: between two rows
//! that do not follow each other there is a [`Gap`] that says how much time and how many events it hides.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::hum;
use crate::model::{FaultBand, Mark, MarkId, MarkKind, Run, TrueTime, Violation};

/// The rows around one violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Where the story begins. Faults that were already at work began earlier, and have their row nevertheless.
    pub from: TrueTime,
    /// Where it ends: the violation, or the last of its evidence.
    pub to: TrueTime,
    /// What to tell, in order.
    pub rows: Vec<Row>,
}

/// One row of an excerpt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// Something happened.
    Mark(MarkId, Weight),
    /// The fault of this index in [`Run::faults`] began.
    Begins(usize),
    /// The fault of this index in [`Run::faults`] was mended.
    Ends(usize),
    /// The violation, where no mark stands for it: often it is what should have happened by then and did not.
    Violated(TrueTime),
    /// Something is not told.
    Gap(Gap),
}

/// What a mark is to the violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It happened in the meantime.
    Context,
    /// It helps to prove it.
    Evidence,
    /// It is it.
    Violation,
}

/// What lies between two rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How long it takes, from row to row.
    pub lasts: Duration,
    /// What is not told: how many, and the same in words (`12 beats of alice`); the most frequent first.
    pub hidden: Vec<(usize, String)>,
}

impl Gap {
    /// How many events are not told.
    pub fn events(&self) -> usize {
        self.hidden.iter().map(|(count, _)| count).sum()
    }
}

/// How much is told at least, if no fault explains it.
const LEAD: Duration = Duration::from_secs(10);
/// How much is told of what came before the cause.
const LEAD_MIN: Duration = Duration::from_secs(1);
/// How far back a fault may draw the beginning of the story. One that began before only gets its row.
const REACH: Duration = Duration::from_secs(30);

impl Excerpt {
    /// What led to `violation`, in at most `rows_max` rows (but at least one).
    pub fn around(run: &Run, violation: &Violation, rows_max: usize) -> Self {
        let (from, to) = window(run, violation);
        let events = events(run, violation, from, to);
        let rows = select(run, &events, rows_max.max(1));
        Self { from, to, rows }
    }

    /// The faults that have a row in this excerpt, as indices in [`Run::faults`].
    pub fn faults(&self) -> BTreeSet<usize> {
        let fault = |row: &Row| match *row {
            Row::Begins(fault) | Row::Ends(fault) => Some(fault),
            Row::Mark(..) | Row::Violated(_) | Row::Gap(_) => None,
        };
        self.rows.iter().filter_map(fault).collect()
    }
}

/// From when until when the story is told.
fn window(run: &Run, violation: &Violation) -> (TrueTime, TrueTime) {
    let evidence = || {
        let marks = violation.evidence.iter().filter_map(|id| run.mark(*id));
        marks.map(|mark| mark.at)
    };
    let to = evidence().fold(violation.at, TrueTime::max);
    let proof = evidence().min().unwrap_or(to).min(violation.at);
    let lead = LEAD.saturating_sub(to.since(proof)).max(LEAD_MIN);
    let told = proof.before(lead);
    let cause = run
        .faults
        .iter()
        .filter(|fault| fault.bit && fault.from <= to && fault.to >= told)
        .map(|fault| fault.from)
        .filter(|from| *from >= proof.before(REACH))
        .min();
    let from = match cause {
        Some(cause) if cause <= proof => cause.before(LEAD_MIN),
        _ => told,
    };
    (from, to)
}

/// A candidate for a row.
struct Event {
    at: TrueTime,
    row: Row,
    rank: Rank,
}

/// How much an event is worth telling; the lowest is told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Violation,
    Evidence,
    /// A fault that changed something.
    Fault,
    /// What those concerned were told, and who lives.
    Told,
    /// Anything else of those concerned, and the last of a hum before it fell silent.
    Concerned,
    Other,
    Hum,
}

/// Everything between the beginning of time and `to`, in order; what lies before `from` is of no rank.
fn events(run: &Run, violation: &Violation, from: TrueTime, to: TrueTime) -> Vec<Event> {
    let evidence: BTreeSet<MarkId> = violation.evidence.iter().copied().collect();
    let proof = evidence
        .iter()
        .rev()
        .find(|id| run.mark(**id).is_some_and(|mark| mark.at == violation.at));
    let silent = hum::before_silence(run, from, to);

    let mut events = Vec::new();
    for (index, fault) in run.faults.iter().enumerate() {
        if fault.from > to || fault.to < from {
            continue;
        }
        let rank = if fault.bit { Rank::Fault } else { Rank::Other };
        let mut edge = |at, row| events.push(Event { at, row, rank });
        edge(fault.from, Row::Begins(index));
        if lasts(fault) && fault.to <= to {
            edge(fault.to, Row::Ends(index));
        }
    }
    for (index, mark) in run.marks.iter().enumerate().filter(|(_, m)| m.at <= to) {
        let id = MarkId(index);
        let weight = match (proof == Some(&id), evidence.contains(&id)) {
            (true, _) => Weight::Violation,
            (false, true) => Weight::Evidence,
            (false, false) => Weight::Context,
        };
        let concerned = violation.lanes.contains(&mark.lane);
        let rank = match weight {
            Weight::Violation => Rank::Violation,
            Weight::Evidence => Rank::Evidence,
            Weight::Context if silent.contains(&id) => Rank::Concerned,
            Weight::Context if mark.routine.is_some() || mark.at < from => Rank::Hum,
            Weight::Context => worth(mark, concerned),
        };
        events.push(Event {
            at: mark.at,
            row: Row::Mark(id, weight),
            rank,
        });
    }
    if proof.is_none() {
        events.push(Event {
            at: violation.at,
            row: Row::Violated(violation.at),
            rank: Rank::Violation,
        });
    }
    // Stable: of what happens at one time, faults come first, then marks in their order, then the conclusion.
    events.sort_by_key(|event| event.at);
    events
}

/// Whether a fault has an end to speak of.
pub(crate) fn lasts(fault: &FaultBand) -> bool {
    fault.to > fault.from
}

fn worth(mark: &Mark, concerned: bool) -> Rank {
    match mark.kind {
        MarkKind::Life => Rank::Told,
        MarkKind::Told | MarkKind::Removed if concerned => Rank::Told,
        _ if concerned => Rank::Concerned,
        _ => Rank::Other,
    }
}

/// The best of `events`, with the gaps between them, in at most `rows_max` rows.
fn select(run: &Run, events: &[Event], rows_max: usize) -> Vec<Row> {
    let mut best: Vec<usize> = (0..events.len())
        .filter(|index| events[*index].rank < Rank::Hum)
        .collect();
    best.sort_by_key(|index| (events[*index].rank, Reverse(*index)));
    best.truncate(rows_max);
    while best.len() > 1 && rows_taken(&best) > rows_max {
        best.pop();
    }
    with_gaps(run, events, &best.into_iter().collect())
}

/// How many rows these events take, with the gaps between them.
fn rows_taken(best: &[usize]) -> usize {
    let mut told = best.to_vec();
    told.sort_unstable();
    let before = usize::from(told.first().is_some_and(|first| *first > 0));
    let between = told.windows(2).filter(|pair| pair[1] > pair[0] + 1).count();
    told.len() + before + between
}

fn with_gaps(run: &Run, events: &[Event], told: &BTreeSet<usize>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut next: usize = 0;
    for &index in told {
        let earlier = next.checked_sub(1).map_or(TrueTime::ZERO, |i| events[i].at);
        match &events[next..index] {
            [] => {}
            // To say that one is hidden takes the row that would show it.
            [one] if next > 0 => rows.push(one.row.clone()),
            hidden => rows.push(Row::Gap(Gap {
                lasts: events[index].at.since(earlier),
                hidden: tally(run, hidden),
            })),
        }
        rows.push(events[index].row.clone());
        next = index + 1;
    }
    rows
}

fn tally(run: &Run, hidden: &[Event]) -> Vec<(usize, String)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for event in hidden {
        let name = match &event.row {
            Row::Mark(id, _) => run.mark(*id).map_or("mark", name),
            Row::Begins(_) | Row::Ends(_) => "edge of a fault",
            Row::Violated(_) | Row::Gap(_) => continue,
        };
        *counts.entry(name).or_default() += 1;
    }
    let mut counts: Vec<_> = counts
        .into_iter()
        .map(|(name, count)| (count, numbered(count, name)))
        .collect();
    counts.sort_by_key(|(count, _)| Reverse(*count));
    counts
}

/// What a mark is one of many of; its first word takes the plural.
fn name(mark: &Mark) -> &str {
    match (&mark.routine, mark.kind) {
        (Some(hum), _) => hum,
        (None, MarkKind::Call) => "call",
        (None, MarkKind::Ok) => "ok",
        (None, MarkKind::Refused) => "refusal",
        (None, MarkKind::Unknown) => "outcome unknown",
        (None, MarkKind::Told) => "notice",
        (None, MarkKind::Commit) => "commit",
        (None, MarkKind::Removed) => "removal",
        (None, MarkKind::Life) => "event of a process",
        (None, MarkKind::Connection) => "change of connection",
    }
}

/// `1 beat of alice`, `12 beats of alice`, `2 refreshes`.
fn numbered(count: usize, name: &str) -> String {
    let (first, rest) = match name.find(' ') {
        Some(blank) if count != 1 => name.split_at(blank),
        _ => (name, ""),
    };
    let plural = match count {
        1 => "",
        _ if ["s", "x", "sh", "ch"]
            .iter()
            .any(|end| first.ends_with(end)) =>
        {
            "es"
        }
        _ => "s",
    };
    format!("{count} {first}{plural}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_takes_the_plural() {
        assert_eq!(numbered(1, "beat of alice"), "1 beat of alice");
        assert_eq!(numbered(12, "beat of alice"), "12 beats of alice");
        assert_eq!(numbered(2, "refresh"), "2 refreshes");
        assert_eq!(numbered(0, ""), "0 s");
    }
}
