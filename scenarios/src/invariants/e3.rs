//! E3 verdict: what was acknowledged is there under its revision, and what was refused never is.
//!
//! A write is found again by its key and a hash of its value (beats carry their time, so no two are alike), a deletion by
//! its process. What a loss of power took was there until then: that is the server's loss. What reads see is K1's.

use super::facts::{Ended, Facts, Key};
use super::{Findings, seconds};
use crate::history::{Call, Reply};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
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
            ) => (operation.is_put() && holds(&facts.keys[number], *value))
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

/// Whether some record of this key has this value.
fn holds(records: &Key<'_>, value: u64) -> bool {
    let mut commits = records.commits.iter();
    commits.any(|(_, commit)| commit.value == value)
}
