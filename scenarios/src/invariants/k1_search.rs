//! K1 by search, for histories that do not hold what the server stored: the calls on each key of each bucket are operations
//! on a register.
//!
//! Revisions are evidence beyond what a plain register gives: they name the record that a write made and that a read
//! saw, and they only grow, so the writes of a key have an order and little is left to search. What is searched for is
//! which write of unknown outcome made a revision that somebody saw and nobody was told to have written. Records of
//! buckets may age out, so they may go at any time; a history where every record is needed says so by what it reads.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use squall_core::Instant;
use squall_core::transport::{Operation as Written, Revision};

use super::facts::{Called, Ended, Facts};
use super::{Findings, seconds};
use crate::history::{Call, Reply};
use crate::linear::model::{Effect, Form, Held, Need, Operation, Register};
use crate::linear::{Unexplained, Verdict, explain, judge};

/// Searches every key.
pub(super) fn search(facts: &Facts<'_>, findings: &mut Findings) {
    let mut by_key: Vec<Vec<&Called<'_>>> = vec![Vec::new(); facts.keys.len()];
    for called in &facts.calls {
        if let Some(key) = called.key {
            by_key[key].push(called);
        }
    }
    let has_markers = facts.plan.world.delete_markers.is_some();
    for (key, calls) in facts.keys.iter().zip(by_key) {
        if facts
            .plan
            .foreign
            .iter()
            .any(|write| write.key == **key.name)
        {
            let name = key.name;
            findings.undecided(format!(
                "others wrote {name} unrecorded: K1 of it was not judged"
            ));
            continue;
        }
        let of_key = OfKey::new(&calls, has_markers);
        match judge(Register::key(true), &of_key.operations) {
            Verdict::Linearizable => {}
            Verdict::NotLinearizable(stuck) => {
                let go_on = &mut |_| ControlFlow::Continue(());
                let unexplained = explain(Register::key(true), &of_key.operations, stuck, go_on);
                let (at, text) = of_key.tell(&unexplained);
                let processes: BTreeSet<Arc<str>> = unexplained
                    .operations
                    .iter()
                    .map(|index| of_key.calls[*index].process.clone())
                    .collect();
                findings.add(
                    at,
                    processes,
                    format!("no order explains {}: {text}", key.name),
                );
            }
            Verdict::Inconclusive(progress) => findings.undecided(format!(
                "K1 of {} was given up after {} steps",
                key.name, progress.steps
            )),
        }
    }
}

/// The calls on one key that say something, and an operation for each; then those of the server itself.
struct OfKey<'a> {
    calls: Vec<&'a Called<'a>>,
    operations: Vec<Operation>,
    revisions: Vec<Revision>,
}

/// What a call told.
fn told(called: &Called<'_>) -> Option<Revision> {
    match called.ended {
        Some((_, Ended::Ok(Reply::Stored { revision }))) => Some(*revision),
        Some((_, Ended::Ok(Reply::Read { revision }))) => *revision,
        _ => None,
    }
}

const fn expected(called: &Called<'_>) -> Option<Revision> {
    match called.call {
        Call::Write { expected, .. } => *expected,
        _ => None,
    }
}

const fn form(written: Written) -> Form {
    match written {
        Written::Put => Form::Value,
        _ => Form::Tombstone,
    }
}

impl<'a> OfKey<'a> {
    fn new(all: &[&'a Called<'a>], has_markers: bool) -> Self {
        let mentioned = all
            .iter()
            .flat_map(|called| [told(called), expected(called)]);
        let mentioned: BTreeSet<Revision> = mentioned.flatten().collect();
        let revisions: Vec<Revision> = std::iter::once(Revision::NONE)
            .chain(mentioned.into_iter().filter(|r| *r != Revision::NONE))
            .collect();
        let acknowledged: BTreeSet<Revision> = all
            .iter()
            .filter(|called| matches!(called.call, Call::Write { .. }))
            .filter_map(|called| told(called))
            .collect();
        let number =
            |revision: Revision| revisions.partition_point(|known| *known < revision) as u32;
        let unowned = revisions
            .iter()
            .skip(1)
            .filter(|r| !acknowledged.contains(r));
        let unowned: Vec<u32> = unowned.map(|revision| number(*revision)).collect();
        let any_of = |form: Form, unseen: Form| -> Effect {
            let seen = unowned
                .iter()
                .map(|number| Effect::Set(Held::new(*number, form)));
            Effect::OneOf(seen.chain([Effect::Unseen(unseen)]).collect())
        };
        let unknown_value = any_of(Form::Value, Form::UnseenValue);
        let unknown_tombstone = any_of(Form::Tombstone, Form::UnseenTombstone);

        let mut calls = Vec::new();
        let mut operations = Vec::new();
        let mut times: BTreeSet<(Instant, bool, usize)> = BTreeSet::new();
        for called in all {
            let ended = called.ended.map(|(_, ended)| ended);
            let (need, effect) = match (called.call, ended) {
                (Call::Read { .. }, Some(Ended::Ok(Reply::Read { revision }))) => {
                    let need = revision.map_or(Need::Gone, |r| Need::Shows(number(r)));
                    (need, Effect::Nothing)
                }
                (
                    Call::Write {
                        operation,
                        expected,
                        ..
                    },
                    ended,
                ) => {
                    let is_create = operation.is_put() && *expected == Some(Revision::NONE);
                    let need = match expected {
                        None => Need::Anything,
                        Some(_) if is_create => Need::Vacant,
                        Some(revision) if *revision == Revision::NONE => Need::Gone,
                        Some(revision) => Need::Shows(number(*revision)),
                    };
                    match ended {
                        Some(Ended::Ok(Reply::Stored { revision })) => {
                            let made = Held::new(number(*revision), form(*operation));
                            (need, Effect::Set(made))
                        }
                        Some(Ended::Unknown(_)) | None if operation.is_put() => {
                            (need, unknown_value.clone())
                        }
                        Some(Ended::Unknown(_)) | None => (need, unknown_tombstone.clone()),
                        Some(Ended::Conflict(_)) => match need {
                            Need::Vacant => (Need::Occupied, Effect::Nothing),
                            Need::Gone => (Need::There, Effect::Nothing),
                            Need::Shows(number) => (Need::ShowsNot(number), Effect::Nothing),
                            _ => continue,
                        },
                        _ => continue,
                    }
                }
                _ => continue,
            };
            let index = operations.len();
            times.insert((called.invoked, false, index));
            let is_known = matches!(effect, Effect::Nothing | Effect::Set(_));
            if let (Some((at, _)), true) = (called.ended, is_known) {
                times.insert((at, true, index));
            }
            operations.push(Operation {
                invoked: 0,
                ended: None,
                need,
                effect,
            });
            calls.push(*called);
        }
        // What aged out may have left a marker, which is the server's own.
        for number in unowned.iter().filter(|_| has_markers) {
            times.insert((Instant::ZERO, false, operations.len()));
            operations.push(Operation {
                invoked: 0,
                ended: None,
                need: Need::There,
                effect: Effect::Set(Held::new(*number, Form::Tombstone)),
            });
        }
        // At one and the same time what begins comes before what ends: they may have overlapped.
        for (place, (_, is_end, index)) in (0..).zip(times) {
            let operation: &mut Operation = &mut operations[index];
            match is_end {
                true => operation.ended = Some(place),
                false => operation.invoked = place,
            }
        }
        Self {
            calls,
            operations,
            revisions,
        }
    }

    fn call(&self, index: usize) -> String {
        let called = self.calls[index];
        let what = match called.call {
            Call::Write {
                operation,
                expected,
                ..
            } => {
                let verb = match (operation, expected) {
                    (Written::Put, None) => "put".to_owned(),
                    (Written::Put, Some(Revision::NONE)) => "create".to_owned(),
                    (Written::Put, Some(revision)) => format!("update of {revision}"),
                    (_, None) => "delete".to_owned(),
                    (_, Some(revision)) => format!("delete of {revision}"),
                };
                match called.ended {
                    Some((_, Ended::Ok(_))) => verb,
                    Some((_, Ended::Conflict(_))) => format!("refused {verb}"),
                    _ => format!("{verb} of unknown outcome"),
                }
            }
            _ => "read".to_owned(),
        };
        let told = match (called.call, told(called)) {
            (_, Some(revision)) => format!(" ({revision})"),
            (Call::Read { .. }, None) => " (nothing)".to_owned(),
            _ => String::new(),
        };
        let until = match called.ended {
            Some((at, _)) => format!("from {} to {}", seconds(called.invoked), seconds(at)),
            None => format!("from {} on", seconds(called.invoked)),
        };
        format!("{}'s {what}{told} {until}", called.process)
    }

    fn tell(&self, unexplained: &Unexplained) -> (Instant, String) {
        let stuck = self.calls[unexplained.stuck];
        let at = stuck.ended.map_or(stuck.invoked, |(at, _)| at);
        let others: Vec<String> = unexplained
            .operations
            .iter()
            .filter(|index| **index != unexplained.stuck)
            .map(|index| self.call(*index))
            .collect();
        let held: Vec<String> = unexplained
            .held
            .iter()
            .map(|held| self.held(*held))
            .collect();
        let text = format!(
            "{} has no place{}{}, after which there is {}",
            self.call(unexplained.stuck),
            if others.is_empty() { "" } else { " beside " },
            others.join(", "),
            held.join(" or "),
        );
        (at, text)
    }

    fn held(&self, held: Held) -> String {
        let revision = self.revisions.get(held.number() as usize);
        let revision = revision.copied().unwrap_or_default();
        match held.form() {
            Form::Value | Form::Tombstone => format!("revision {revision}"),
            Form::Gone => "no record".to_owned(),
            Form::UnseenValue | Form::UnseenTombstone => "a record that nobody saw".to_owned(),
        }
    }
}
