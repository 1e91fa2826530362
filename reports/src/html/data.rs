//! The data of the page as JSON: columns instead of objects, steps instead of times, each text once.
//!
//! A hundred thousand events written as objects are twice as large as a page may be, and slow to parse. Nothing in here
//! can end the element that carries it: the three letters that HTML looks at are written as escapes of JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::excerpt::Excerpt;
use crate::headline::verb;
use crate::model::{
    Belief, FaultBand, LaneId, LaneKind, MarkId, MarkKind, Message, Moment, Run, Tone, TrueTime,
    Violation,
};
use crate::packing;
use crate::words::clean;

/// What part of the excerpt's time is shown after its end, so that it is seen what came of it.
const AFTER: u32 = 7;

const KINDS: [MarkKind; 9] = [
    MarkKind::Call,
    MarkKind::Ok,
    MarkKind::Refused,
    MarkKind::Unknown,
    MarkKind::Told,
    MarkKind::Commit,
    MarkKind::Removed,
    MarkKind::Life,
    MarkKind::Connection,
];

#[derive(Default, Serialize)]
struct Columns {
    at: Vec<u64>,
    lane: Vec<usize>,
    kind: Vec<usize>,
    text: Vec<usize>,
    hum: Vec<u8>,
}

/// The run as JSON that may stand in a `script` element.
pub(super) fn json(run: &Run) -> String {
    let lanes = Lanes::new(run);
    let mut texts = Texts::default();
    // Reports also draw runs whose marks are out of order.
    let mut order: Vec<usize> = (0..run.marks.len()).collect();
    order.sort_by_key(|index| run.marks[*index].at);
    let mut place = vec![0; order.len()];
    let mut marks = Columns::default();
    let mut before = TrueTime::ZERO;
    for (n, &index) in order.iter().enumerate() {
        let mark = &run.marks[index];
        place[index] = n;
        marks.at.push(mark.at.as_nanos() - before.as_nanos());
        marks.lane.push(lanes.place(mark.lane));
        marks.kind.push(kind(mark.kind));
        marks.text.push(texts.number(&mark.text));
        marks.hum.push(mark.routine.is_some().into());
        before = mark.at;
    }
    let placed = |id: MarkId| place.get(id.0).copied();
    let (evidence, proof) = proof(run, placed);
    let (from, to) = view(run);
    let data = json!({
        "end": run.end(),
        "view": [from, to],
        "kinds": KINDS.map(verb),
        "lanes": lanes.describe(run),
        "texts": texts.all,
        "marks": marks,
        "evidence": evidence,
        "proof": proof,
        "operations": operations(run, &lanes, placed),
        "beliefs": beliefs(run, &lanes),
        "faults": faults(run, &lanes),
        "messages": messages(run, &lanes),
        "moments": moments(run),
        "violations": violations(run, &lanes),
    });
    data.to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

fn kind(kind: MarkKind) -> usize {
    KINDS.iter().position(|known| *known == kind).unwrap_or(0)
}

/// What proves the first violation: evidence, and the violation itself if a mark stands for it.
fn proof(run: &Run, placed: impl Fn(MarkId) -> Option<usize>) -> (Vec<usize>, Vec<usize>) {
    let violations = run.violations();
    let evidence = violations.iter().flat_map(|violation| &violation.evidence);
    let evidence = evidence.filter_map(|id| placed(*id)).collect();
    let proof = violations.first().and_then(|first| {
        let at = |id: &&MarkId| run.mark(**id).is_some_and(|mark| mark.at == first.at);
        first.evidence.iter().filter(at).max()
    });
    let proof = proof.and_then(|id| placed(*id));
    (evidence, proof.into_iter().collect())
}

/// What is shown at first: the story of the first violation, or the whole run.
fn view(run: &Run) -> (TrueTime, TrueTime) {
    let Some(first) = run.violations().first().copied() else {
        return (TrueTime::ZERO, run.end().max(TrueTime::from_nanos(1000)));
    };
    let excerpt = Excerpt::around(run, first, 1);
    let lasts = excerpt.to.since(excerpt.from);
    (
        excerpt.from,
        excerpt
            .to
            .after(lasts / AFTER)
            .after(Duration::from_micros(1)),
    )
}

/// The lanes as they are drawn: those whom the first violation concerns come first, so that they are in sight.
struct Lanes {
    order: Vec<LaneId>,
    concerned: BTreeSet<LaneId>,
    places: BTreeMap<LaneId, usize>,
}

impl Lanes {
    fn new(run: &Run) -> Self {
        let violations = run.violations();
        let first = violations.first().map(|violation| violation.lanes.clone());
        let first = first.unwrap_or_default();
        let mut all: BTreeSet<LaneId> = (0..run.lanes.len()).map(LaneId).collect();
        // A lane that does not exist is drawn nevertheless, under its number.
        all.extend(run.marks.iter().map(|mark| mark.lane));
        all.extend(run.beliefs.iter().map(|belief| belief.lane));
        all.extend(
            run.messages
                .iter()
                .flat_map(|message| [message.from, message.to]),
        );
        all.extend(violations.iter().flat_map(|violation| &violation.lanes));
        let concerned: BTreeSet<LaneId> = first.iter().copied().collect();
        let mut order: Vec<LaneId> = all.into_iter().collect();
        let rank = |id: &LaneId| first.iter().position(|known| known == id);
        order.sort_by_key(|id| rank(id).unwrap_or(usize::MAX));
        let places = order.iter().enumerate().map(|(place, id)| (*id, place));
        let places = places.collect();
        Self {
            order,
            concerned,
            places,
        }
    }

    fn place(&self, id: LaneId) -> usize {
        self.places.get(&id).copied().unwrap_or(0)
    }

    fn describe(&self, run: &Run) -> Vec<Value> {
        let lane = |id: &LaneId| {
            let lane = run.lanes.get(id.0);
            json!({
                "name": clean(&run.lane_name(*id)),
                "role": lane.map_or_else(String::new, |lane| clean(&lane.role)),
                "server": lane.is_some_and(|lane| lane.kind == LaneKind::Server),
                "concerned": self.concerned.contains(id),
            })
        };
        self.order.iter().map(lane).collect()
    }

    /// The places of the lanes that a text names.
    fn named(&self, run: &Run, text: &str) -> Vec<usize> {
        let named = run.lanes_named(text).into_iter();
        let mut places: Vec<usize> = named.map(|id| self.place(id)).collect();
        places.sort_unstable();
        places
    }
}

/// Each text once.
#[derive(Default)]
struct Texts {
    numbers: BTreeMap<String, usize>,
    all: Vec<String>,
}

impl Texts {
    fn number(&mut self, text: &str) -> usize {
        let text = clean(text);
        if let Some(number) = self.numbers.get(&text) {
            return *number;
        }
        let number = self.all.len();
        self.all.push(text.clone());
        self.numbers.insert(text, number);
        number
    }
}

/// Lane, row, from, to, kind of the end, call, answer; in order of beginning, rows by lane.
fn operations(run: &Run, lanes: &Lanes, placed: impl Fn(MarkId) -> Option<usize>) -> Vec<Value> {
    let mut operations = run.operations();
    operations.sort_by_key(|operation| (operation.lane, operation.from));
    let of_lane = operations.chunk_by(|a, b| a.lane == b.lane);
    of_lane
        .flat_map(|of_lane| {
            let rows = packing::rows(of_lane.iter().map(|one| (one.from, one.to)));
            of_lane.iter().zip(rows).map(|(one, row)| {
                json!([
                    lanes.place(one.lane),
                    row,
                    one.from,
                    one.to,
                    kind(one.end),
                    placed(one.call),
                    one.answer.and_then(&placed),
                ])
            })
        })
        .collect()
}

fn beliefs(run: &Run, lanes: &Lanes) -> Vec<Value> {
    let belief = |belief: &Belief| {
        let tone = match belief.tone {
            Tone::Well => 0,
            Tone::Unsure => 1,
            Tone::Over => 2,
        };
        json!({
            "lane": lanes.place(belief.lane),
            "about": clean(&belief.about),
            "state": clean(&belief.state),
            "tone": tone,
            "from": belief.from,
            "to": belief.to,
        })
    };
    run.beliefs.iter().map(belief).collect()
}

fn faults(run: &Run, lanes: &Lanes) -> Vec<Value> {
    let mut faults: Vec<_> = run.faults.iter().collect();
    faults.sort_by_key(|fault| fault.from);
    let rows = packing::rows(faults.iter().map(|fault| (fault.from, fault.to)));
    let fault = |(fault, row): (&&FaultBand, usize)| {
        json!({
            "name": clean(&fault.name),
            "target": clean(&fault.target),
            "lanes": lanes.named(run, &fault.target),
            "from": fault.from,
            "to": fault.to,
            "bit": fault.bit,
            "row": row,
        })
    };
    faults.iter().zip(rows).map(fault).collect()
}

fn messages(run: &Run, lanes: &Lanes) -> Vec<Value> {
    let message = |message: &Message| {
        json!({
            "from": lanes.place(message.from),
            "to": lanes.place(message.to),
            "sent": message.sent,
            "arrived": message.arrived,
            "text": clean(&message.text),
        })
    };
    run.messages.iter().map(message).collect()
}

fn moments(run: &Run) -> Vec<Value> {
    let moment = |moment: &Moment| json!({ "at": moment.at, "text": clean(&moment.text) });
    run.moments.iter().map(moment).collect()
}

fn violations(run: &Run, lanes: &Lanes) -> Vec<Value> {
    let violation = |violation: &&Violation| {
        let concerned = violation.lanes.iter().map(|id| lanes.place(*id));
        json!({
            "code": clean(&violation.invariant.code),
            "at": violation.at,
            "lanes": concerned.collect::<Vec<_>>(),
        })
    };
    run.violations().iter().map(violation).collect()
}
