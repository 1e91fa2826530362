//! P1 completeness: who falls silent is told down to every watcher that could see, in time.
//!
//! Silence is a gap in the commits of an agent's key longer than its entry lives. A watcher is held to it while it says
//! that it sees and its process runs; after a blind stretch the time counts anew. `d` holds what a watcher may take to ask
//! whether its link carries, a quarter of its own interval where it has just asked for another, and to find out that it is
//! blind where no answer comes, two of them.

use std::time::Duration;

use squall_core::Instant;

use super::facts::{Facts, Key, Watched};
use super::{Findings, seconds};
use crate::history::Tell;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for watch in &facts.watches {
        let seeing = facts.seeing(watch);
        for agent in &facts.plan.agents {
            let Some(key) = facts.key_of(&agent.name) else {
                continue;
            };
            for (believed, until) in beliefs(watch, &agent.name) {
                let own = facts.interval(watch.process.split('/').next().unwrap_or_default());
                for (from, ttl) in silences(facts, &agent.name, key) {
                    let begins = from.max(believed);
                    let d = own * 2 + own / 4 + facts.slack(ttl + own);
                    // Heard at all, renewed, or no longer believed: then it is another story.
                    let next = next_commit(key, from).unwrap_or(facts.end).min(until);
                    for (sees_from, sees_until) in &seeing {
                        let due = begins.max(*sees_from) + ttl + d;
                        if due < next && due < *sees_until {
                            let text = format!(
                                "{} was not told that {} is down by {}: its last renewal was committed at {}, \
                                 its entry lives {ttl:?}, and d is {:.3}s",
                                watch.process,
                                agent.name,
                                seconds(due),
                                seconds(from),
                                d.as_secs_f64(),
                            );
                            findings.add(due, [watch.process.clone()], text);
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// When this watch held this agent for present.
fn beliefs(watch: &Watched<'_>, agent: &str) -> Vec<(Instant, Instant)> {
    let mut beliefs = Vec::new();
    let mut since = watch
        .snapshot
        .iter()
        .any(|seen| *seen.agent == *agent)
        .then_some(watch.from);
    for (at, tell) in &watch.tells {
        match tell {
            Tell::Up(up) if *up.agent == *agent => since = since.or(Some(*at)),
            Tell::Down { agent: down, .. } if *down.agent == *agent => {
                beliefs.extend(since.take().map(|since| (since, *at)));
            }
            Tell::Lagged { present, .. } => {
                let there = present.iter().any(|seen| *seen.agent == *agent);
                if !there {
                    beliefs.extend(since.take().map(|since| (since, *at)));
                } else {
                    since = since.or(Some(*at));
                }
            }
            _ => {}
        }
    }
    beliefs.extend(since.map(|since| (since, watch.until)));
    beliefs
}

/// The last renewal before each gap that is longer than the entry lives, and how long that is.
fn silences(facts: &Facts<'_>, agent: &str, key: &Key<'_>) -> Vec<(Instant, Duration)> {
    key.commits
        .iter()
        .enumerate()
        .filter_map(|(index, (at, commit))| {
            let ttl = facts.ttl(agent, commit);
            let next = key.commits.get(index + 1).map_or(facts.end, |(at, _)| *at);
            (next > *at + ttl).then_some((*at, ttl))
        })
        .collect()
}

fn next_commit(key: &Key<'_>, after: Instant) -> Option<Instant> {
    key.commits
        .iter()
        .find(|(at, commit)| *at > after && commit.operation.is_put())
        .map(|(at, _)| *at)
}
