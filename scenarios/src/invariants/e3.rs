//! E3 verdict: what was acknowledged is there under its revision, and what was refused never is.
//!
//! A write is found again by its key and a hash of its value (beats carry their time, so no two are alike, unless one is
//! tried again over another record), a deletion by its process. What a loss of power took was there until then: that is the
//! server's loss. What reads see is K1's.

use std::sync::Arc;

use super::facts::{Called, Ended, Facts, Key};
use super::{Findings, lives, seconds};
use crate::history::{Call, Reply};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    lives::check(facts, findings);
    for called in facts.questionable() {
        let (Some((at, ended)), Some(number)) = (called.ended, called.key) else {
            continue;
        };
        let key = || facts.keys[number].name;
        let wrong = match (called.call, ended) {
            (Call::Write { value, .. }, Ended::Ok(Reply::Stored { revision })) => {
                let records = &facts.keys[number];
                let place = records.place_of_write(called.stored, *revision, *value);
                match place.map(|place| records.commits[place].1) {
                    Some(commit) if commit.value == *value => None,
                    Some(_) => Some(format!("revision {revision} of {} is another's", key())),
                    None => Some(format!("there is no revision {revision} of {}", key())),
                }
            }
            (
                Call::Write {
                    operation, value, ..
                },
                Ended::Refused(error) | Ended::Conflict(error),
            ) => (operation.is_put()
                && holds(&facts.keys[number], called.process, *value)
                && !is_again(facts, called))
            .then(|| format!("its write of {} was refused ({error}) and is there", key())),
            _ => None,
        };
        if let Some(wrong) = wrong {
            let text = format!(
                "{} was answered at {}, but {wrong}",
                called.process,
                seconds(at)
            );
            findings.add(at, [called.process.clone()], text);
        }
    }
}

/// Whether some record of this key has this value, and is not another's.
fn holds(records: &Key<'_>, process: &Arc<str>, value: u64) -> bool {
    let mut commits = records.commits.iter();
    commits.any(|(_, commit)| {
        commit.value == value && commit.by.as_ref().is_none_or(|by| by == process)
    })
}

/// Whether its process has written the same once more, because another record had come in between.
fn is_again(facts: &Facts<'_>, refused: &Called<'_>) -> bool {
    let written = |called: &Called<'_>| match called.call {
        Call::Write { value, .. } => Some(*value),
        _ => None,
    };
    facts.calls.iter().any(|called| {
        let is_refused = matches!(
            called.ended,
            Some((_, Ended::Refused(_) | Ended::Conflict(_)))
        );
        called.key == refused.key
            && called.process == refused.process
            && written(called) == written(refused)
            && !is_refused
    })
}
