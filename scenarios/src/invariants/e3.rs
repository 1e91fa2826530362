//! E3 verdict: what was acknowledged is there under its revision, what was refused never is, and reads see what was.
//!
//! A write is found again by its key and a hash of its value (beats carry their time, so no two are alike), a deletion by
//! its process. Where the bucket has copies a read may be behind: then it names what was the latest once. What a loss of power took was there until then: that is the server's loss. A read must name a revision that was the key's latest at some moment while it was under way.

use squall_core::Instant;
use squall_core::transport::Revision;

use super::facts::{Called, Ended, Facts, Key};
use super::{Findings, seconds};
use crate::history::{Call, Commit, Reply};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for called in &facts.calls {
        let (Some((at, ended)), Some(number)) = (called.ended, called.key) else {
            continue;
        };
        let key = || facts.keys[number].name;
        let wrong = match (called.call, ended) {
            (Call::Write { value, .. }, Ended::Ok(Reply::Stored { revision })) => {
                let records = &facts.keys[number];
                let found = called.stored.or_else(|| records.at(*revision));
                let is_it = |commit: &Commit| commit.value == *value;
                // A revision may have been given out twice, where the power was lost in between.
                let again = |(_, commit): &(Instant, &Commit)| {
                    commit.revision == *revision && is_it(commit)
                };
                match found {
                    Some(commit) if is_it(commit) || records.commits.iter().any(again) => None,
                    Some(_) => Some(format!("revision {revision} of {} is another's", key())),
                    None => Some(format!("there is no revision {revision} of {}", key())),
                }
            }
            (
                Call::Write {
                    operation, value, ..
                },
                Ended::Refused(error),
            ) => (operation.is_put() && holds(&facts.keys[number], *value))
                .then(|| format!("its write of {} was refused ({error}) and is there", key())),
            (Call::Read { .. }, Ended::Ok(Reply::Read { revision })) => {
                (!was_latest(facts, &facts.keys[number], called, at, *revision)).then(|| {
                    let read =
                        revision.map_or_else(|| "nothing".to_owned(), |r| format!("revision {r}"));
                    format!(
                        "it read {read} of {}, which was not the latest at any moment of the read",
                        key()
                    )
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

/// Whether some record of this key has this value.
fn holds(records: &Key<'_>, value: u64) -> bool {
    let mut commits = records.commits.iter();
    commits.any(|(_, commit)| commit.value == value)
}

fn was_latest(
    facts: &Facts<'_>,
    records: &Key<'_>,
    called: &Called<'_>,
    at: Instant,
    read: Option<Revision>,
) -> bool {
    let agent = facts.agent_of(records.name).unwrap_or_default();
    // Where there are copies a read may be given to one that is behind, without a bound.
    let may_be_old = facts.plan.world.has_copies();
    let during_the_read =
        |from: Instant, until: Instant| from <= at && (until > called.invoked || may_be_old);
    let first = records
        .commits
        .first()
        .map_or(Instant::FAR_FUTURE, |(at, _)| *at);
    if read.is_none() && during_the_read(Instant::ZERO, first) {
        return true;
    }
    // Each record is the latest until the next one, or until it went without another in its place.
    records.reigns().any(|(from, commit, next)| {
        if read.is_some() {
            let removed = records.removal(from, commit).unwrap_or(next);
            read == Some(commit.revision) && during_the_read(from, removed.min(next))
        } else {
            let gone = facts.may_be_gone(agent, records, from, commit);
            gone.is_some_and(|gone| gone < next && during_the_read(gone, next))
        }
    })
}
