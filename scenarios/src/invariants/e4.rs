//! E4 monotone: a process is never told an older revision of a key after a newer one.
//!
//! Only calls that follow each other are compared: of two that overlap either may come first.

use std::collections::BTreeMap;

use squall_core::Instant;
use squall_core::transport::Revision;

use super::facts::{Called, Ended, Facts};
use super::{Findings, seconds};
use crate::history::{Call, Reply};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let mut calls: Vec<Vec<&Called<'_>>> = vec![Vec::new(); facts.lives.len()];
    for called in &facts.calls {
        if let Some(of) = called.life.and_then(|life| calls.get_mut(life)) {
            of.push(called);
        }
    }
    for of_process in calls {
        check_process(of_process, findings);
    }
}

/// What one call told of a key, and whether it wrote it.
fn told<'a>(called: &Called<'a>) -> Option<(Instant, &'a str, Revision, bool)> {
    let (at, Ended::Ok(reply)) = called.ended? else {
        return None;
    };
    match (called.call, reply) {
        (Call::Write { key, .. }, Reply::Stored { revision }) => Some((at, key, *revision, true)),
        (
            Call::Read { key, .. },
            Reply::Read {
                revision: Some(revision),
            },
        ) => Some((at, key, *revision, false)),
        _ => None,
    }
}

fn check_process(mut calls: Vec<&Called<'_>>, findings: &mut Findings) {
    calls.sort_by_key(|called| called.ended.map(|(at, _)| at));
    // The newest revision told of each key so far, and when, in the order in which calls ended.
    let mut newest: BTreeMap<&str, Vec<(Instant, Revision)>> = BTreeMap::new();
    for called in calls {
        let Some((at, key, revision, is_write)) = told(called) else {
            continue;
        };
        let known = newest.entry(key).or_default();
        // Ends come in order, so the newest revision told before this call began is found from the back.
        let before = known
            .iter()
            .rev()
            .find(|(earlier, _)| *earlier < called.invoked);
        if let Some((earlier, newer)) = before
            && (revision < *newer || (is_write && revision == *newer))
        {
            let text = format!(
                "{} was told revision {revision} of {key} at {}, and had been told {newer} at {}",
                called.process,
                seconds(at),
                seconds(*earlier),
            );
            findings.add(at, [called.process.clone()], text);
        }
        let highest = known
            .last()
            .map_or(revision, |(_, highest)| revision.max(*highest));
        known.push((at, highest));
    }
}
