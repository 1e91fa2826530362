//! E3 verdict: what was acknowledged is there under its revision, what was refused never is, and reads see what was.
//!
//! A write is found again by its key and a hash of its value (beats carry their time, so no two are alike), a deletion by
//! its process. A read must name a revision that was the key's latest at some moment while it was under way.

use std::collections::{BTreeMap, BTreeSet};

use squall_core::transport::Revision;

use super::facts::{Called, Ended, Facts, Key};
use super::{Findings, seconds};
use crate::history::{Call, Commit, Reply};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let mut by_value: BTreeSet<(&str, u64)> = BTreeSet::new();
    let mut by_revision: BTreeMap<(&str, Revision), &Commit> = BTreeMap::new();
    for (key, records) in &facts.keys {
        for (_, commit) in &records.commits {
            by_value.insert((key, commit.value));
            by_revision.insert((key, commit.revision), commit);
        }
    }
    for called in &facts.calls {
        let Some((at, ended)) = called.ended else {
            continue;
        };
        let wrong = match (called.call, ended) {
            (Call::Write { key, value, .. }, Ended::Ok(Reply::Stored { revision })) => {
                match by_revision.get(&(&**key, *revision)) {
                    Some(commit) if commit.value == *value => None,
                    Some(_) => Some(format!("revision {revision} of {key} is another's")),
                    None => Some(format!("there is no revision {revision} of {key}")),
                }
            }
            (
                Call::Write {
                    key,
                    operation,
                    value,
                    ..
                },
                Ended::Refused(error),
            ) => (operation.is_put() && by_value.contains(&(&**key, *value)))
                .then(|| format!("its write of {key} was refused ({error}) and is there")),
            (Call::Read { key, .. }, Ended::Ok(Reply::Read { revision })) => {
                let records = facts.keys.get(&**key);
                (!was_latest(records, called, at, *revision)).then(|| {
                    let read = revision.map_or_else(|| "nothing".to_owned(), |r| format!("revision {r}"));
                    format!("it read {read} of {key}, which was not the latest at any moment of the read")
                })
            }
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

fn was_latest(
    records: Option<&Key<'_>>,
    called: &Called<'_>,
    at: squall_core::Instant,
    read: Option<Revision>,
) -> bool {
    let Some(records) = records else {
        return read.is_none();
    };
    // What was the latest when the read began, and everything that became so until it ended.
    let before = records
        .commits
        .iter()
        .rev()
        .find(|(commit, _)| *commit <= called.invoked);
    let mut candidates: Vec<Option<Revision>> = Vec::new();
    let removed_by = |revision: Revision, by: squall_core::Instant| {
        records
            .removals
            .iter()
            .any(|(at, removed)| *removed == revision && *at <= by)
    };
    match before {
        Some((_, commit)) if !removed_by(commit.revision, called.invoked) => {
            candidates.push(Some(commit.revision));
        }
        _ => candidates.push(None),
    }
    for (commit_at, commit) in &records.commits {
        if *commit_at > called.invoked && *commit_at <= at {
            candidates.push(Some(commit.revision));
        }
    }
    if records
        .removals
        .iter()
        .any(|(removed, _)| *removed > called.invoked && *removed <= at)
    {
        candidates.push(None);
    }
    candidates.contains(&read)
}
