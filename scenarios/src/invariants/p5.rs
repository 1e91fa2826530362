//! P5 self-knowledge: a running agent whose record is gone for longer than `d` has been told so.
//!
//! Gone means: removed, deleted by another, or replaced by another process's; on a real server, which does not say when
//! it removes a record, also older than the bucket's age. `d` is the life of the entry and two
//! intervals: until then an agent that hears nothing cannot know. Time in which the process stands still does not count.

use squall_core::Instant;

use super::facts::{Facts, Lived, Span, without};
use super::{Findings, seconds};
use crate::history::Tell;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for life in &facts.lives {
        let Some(open) = life.open else { continue };
        let interval = facts.interval(life.agent);
        let ttl = interval * squall_core::presence::TTL_MULTIPLIER;
        let d = ttl + interval * 2 + facts.slack(ttl);
        for gone in absences(facts, life, open) {
            for (from, until) in without(gone, life.frozen.clone()) {
                let due = from + d;
                if due < until && !is_told(life, due) {
                    let text = format!(
                        "{}'s record was gone from {} on, and by {} it had not been told so",
                        life.process,
                        seconds(gone.0),
                        seconds(due),
                    );
                    findings.add(due, [life.process.clone()], text);
                    return;
                }
            }
        }
    }
}

/// When this process's own record was not there while its presence was open.
fn absences(facts: &Facts<'_>, life: &Lived<'_>, open: Span) -> Vec<Span> {
    let Some(key) = facts.key_of(life.agent) else {
        return vec![open];
    };
    let mut there = Vec::new();
    for (at, commit, next) in key.reigns() {
        if !commit.operation.is_put() || commit.by.as_ref() != Some(life.process) {
            continue;
        }
        let gone = facts.is_gone(key, at, commit).unwrap_or(facts.end);
        there.push((at, next.min(gone)));
    }
    without(open, there)
}

fn is_told(life: &Lived<'_>, at: Instant) -> bool {
    let last = life.notices.iter().rev().find(|(told, _)| *told <= at);
    matches!(last, Some((_, Tell::Evicted { .. })))
}
