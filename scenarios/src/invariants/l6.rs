//! L6 all or none: after a failed acquire, once what had been done to its caller is over, the caller owns nothing of it.
//!
//! A record of an acquisition that nobody was told of, written by a process that lives, must be gone within `d`: the
//! time-outs of the writes that undo it, and the slack of every wait. Until its call has ended it may still be told.

use std::time::Duration;

use squall_core::Instant;

use super::facts::{Ended, Facts, Key};
use super::locks::{acquisitions, is_hindered, records, token_of, wants};
use super::{Findings, seconds};
use crate::history::Commit;
use crate::variant::lock::record_key;

/// An acknowledgement, a read and another acknowledgement.
const UNDOING: Duration = Duration::from_secs(8);

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let known: Vec<(String, u64)> = acquisitions(facts)
        .iter()
        .map(|one| (record_key(one.key), one.token))
        .collect();
    for key in records(facts) {
        for (since, commit, next) in key.reigns() {
            let Some(token) = token_of(key, commit).filter(|_| commit.operation.is_put()) else {
                continue;
            };
            if known.contains(&(key.name.to_string(), token)) {
                continue;
            }
            let until = key.removal(since, commit).unwrap_or(facts.end).min(next);
            let lived = commit.ttl.map_or(until, |ttl| until.min(since + ttl));
            owned(facts, key, (since, commit, lived), findings);
        }
    }
}

fn owned(
    facts: &Facts<'_>,
    key: &Key<'_>,
    (since, commit, until): (Instant, &Commit, Instant),
    findings: &mut Findings,
) {
    let Some(life) = commit.by.as_ref().and_then(|by| facts.life(by)) else {
        return;
    };
    let calls = facts.calls.iter().filter(|called| {
        called.process == life.process && called.invoked <= since && wants(called, key)
    });
    let Some(failed) = calls.max_by_key(|called| called.invoked) else {
        return;
    };
    let Some((ended, Ended::Refused(_) | Ended::Conflict(_) | Ended::Unknown(_))) = failed.ended
    else {
        return;
    };
    let from = ended.max(since);
    let due = from + UNDOING + facts.slack(UNDOING);
    if due < until.min(life.ended) && !is_hindered(facts, life.process, (from, due)) {
        let text = format!(
            "{} was told at {} that it does not have the lock of {}, and at {} its record is still there",
            life.process,
            seconds(ended),
            key.name,
            seconds(due),
        );
        findings.add(due, [life.process.clone()], text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tale::Tale;

    fn left(gone_at: u64) -> Vec<String> {
        let mut tale = Tale::of_locks(&["alice/1"]);
        tale.at(1)
            .lock_fails("alice/1", "no acknowledgement in time");
        tale.at(2).long_record("alice/1", "a", 10);
        tale.at(gone_at).record_gone("alice/1", 11);
        tale.at(100).ends();
        tale.told_by("L6")
    }

    #[test]
    fn what_nobody_was_told_of_must_go() {
        assert_eq!(left(6), Vec::<String>::new());
        assert!(left(60)[0].starts_with("alice/1 was told at 1.000s that it does not have"));
    }
}
