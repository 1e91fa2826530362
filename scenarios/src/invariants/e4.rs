//! E4 monotone: a process is never told an older revision of a key after a newer one.
//!
//! Only calls that follow each other are compared: of two that overlap either may come first.

use std::collections::BTreeMap;

use squall_core::Instant;
use squall_core::transport::Revision;

use super::facts::{Ended, Facts};
use super::{Findings, seconds};
use crate::history::{Call, Reply};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    // The newest revision told of each key, and when, for each process; in the order in which calls ended.
    let mut told: Vec<(Instant, Instant, &str, &str, Revision, bool)> = Vec::new();
    for called in &facts.calls {
        let Some((at, Ended::Ok(reply))) = called.ended else {
            continue;
        };
        let (key, revision, is_write) = match (called.call, reply) {
            (Call::Write { key, .. }, Reply::Stored { revision }) => (key, *revision, true),
            (
                Call::Read { key, .. },
                Reply::Read {
                    revision: Some(revision),
                },
            ) => (key, *revision, false),
            _ => continue,
        };
        told.push((
            at,
            called.invoked,
            &**called.process,
            &**key,
            revision,
            is_write,
        ));
    }
    told.sort_by_key(|(at, ..)| *at);
    let mut newest: BTreeMap<(&str, &str), Vec<(Instant, Revision)>> = BTreeMap::new();
    for (at, invoked, process, key, revision, is_write) in told {
        let known = newest.entry((process, key)).or_default();
        // Ends come in order, so the newest revision told before this call began is found from the back.
        let before = known.iter().rev().find(|(earlier, _)| *earlier < invoked);
        if let Some((earlier, newer)) = before
            && (revision < *newer || (is_write && revision == *newer))
            && let Some(life) = facts.lives.get(process)
        {
            let text = format!(
                "{process} was told revision {revision} of {key} at {}, and had been told {newer} at {}",
                seconds(at),
                seconds(*earlier),
            );
            findings.add(at, [life.process.clone()], text);
        }
        let highest = known
            .last()
            .map_or(revision, |(_, highest)| revision.max(*highest));
        known.push((at, highest));
    }
}
