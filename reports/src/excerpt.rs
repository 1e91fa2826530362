//! The few events of a run that tell how it came to a violation.
//!
//! A run has thousands of events and a reader has a minute. An excerpt is a bounded number of rows that end with the
//! violation: what proves it, the faults that were at work, what the code under test told its users, and the last of
//! each hum (the last beat, the last renewal) before silence. All the rest is counted, not dropped: between two rows
//! that do not follow each other there is a [`Gap`] that says how much time and how many events it hides.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
    /// The violation, where no mark stands for it: something that should have happened by then did not.
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
    /// What is not told: how many of what, the most frequent first.
    pub hidden: Vec<(usize, String)>,
}

impl Gap {
    /// How many events are not told.
    pub fn events(&self) -> usize {
        self.hidden.iter().map(|(count, _)| count).sum()
    }
}

/// How much is told of what came before the first evidence, if no fault explains it.
const LEAD: Duration = Duration::from_secs(10);
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
    let cause = run
        .faults
        .iter()
        .filter(|fault| fault.bit && fault.from <= to && fault.to >= proof)
        .map(|fault| fault.from)
        .filter(|from| *from >= proof.before(REACH))
        .min();
    let begin = cause.map_or(proof, |from| from.min(proof));
    let lead = match (cause, to.since(begin)) {
        (None, told) => LEAD.saturating_sub(told),
        (Some(_), told) => told / 4,
    };
    (begin.before(lead.max(Duration::from_secs(1))), to)
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
    /// Anything else of those concerned, and the last of each hum.
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
    let last_of_hum: BTreeMap<&str, usize> = run
        .marks
        .iter()
        .enumerate()
        .filter(|(_, mark)| mark.at <= to)
        .filter_map(|(index, mark)| Some((mark.routine.as_deref()?, index)))
        .collect();

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
        let last = || {
            let hum = mark.routine.as_deref();
            hum.is_some_and(|hum| last_of_hum.get(hum) == Some(&index))
        };
        let rank = match weight {
            Weight::Violation => Rank::Violation,
            Weight::Evidence => Rank::Evidence,
            Weight::Context if mark.at < from => Rank::Hum,
            Weight::Context if mark.routine.is_some() && !last() => Rank::Hum,
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
        _ if concerned || mark.routine.is_some() => Rank::Concerned,
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
    loop {
        let told: BTreeSet<usize> = best.iter().copied().collect();
        let rows = with_gaps(run, events, &told);
        if rows.len() <= rows_max || best.len() <= 1 {
            return rows;
        }
        best.pop();
    }
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
            Row::Mark(id, _) => run.mark(*id).map_or("marks", plural),
            Row::Begins(_) => "beginnings of faults",
            Row::Ends(_) => "ends of faults",
            Row::Violated(_) | Row::Gap(_) => continue,
        };
        *counts.entry(name).or_default() += 1;
    }
    let mut counts: Vec<_> = counts
        .into_iter()
        .map(|(name, count)| (count, name.to_owned()))
        .collect();
    counts.sort_by_key(|(count, _)| Reverse(*count));
    counts
}

fn plural(mark: &Mark) -> &str {
    match (&mark.routine, mark.kind) {
        (Some(hum), _) => hum,
        (None, MarkKind::Call) => "calls",
        (None, MarkKind::Ok) => "oks",
        (None, MarkKind::Refused) => "refusals",
        (None, MarkKind::Unknown) => "unknown outcomes",
        (None, MarkKind::Told) => "notices",
        (None, MarkKind::Commit) => "commits",
        (None, MarkKind::Removed) => "removals",
        (None, MarkKind::Life) => "starts and stops",
        (None, MarkKind::Connection) => "changes of connections",
    }
}
