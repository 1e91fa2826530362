//! P2 accuracy: nobody who renews in time is told down, or found absent.
//!
//! A record is fresh from its commit for as long as its own entry lives, whatever the server does with it; a tombstone
//! ends that (where it has copies, from the moment at which it was written: its leader may have dated it long before the
//! others agreed), and so does a loss of power that takes the record. A `Down`, an absence from an answer or a `false` is wrong where the agent's record was fresh at every
//! moment of the time in which it could have been looked at. Answers from a bucket with copies are not judged.

use std::time::Duration;

use squall_core::Instant;
use squall_core::transport::Revision;

use super::facts::{Ended, Facts, Span};
use super::{Findings, seconds};
use crate::history::{Call, Reply, Tell};

/// No record ages out sooner, because no server takes a shorter limit.
const YOUNGEST: Duration = Duration::from_millis(100);

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for watch in &facts.watches {
        for (at, tell) in &watch.tells {
            let Tell::Down { agent, reason } = tell else {
                continue;
            };
            // What the watch knew of the agent before: it cannot speak of what was before that.
            let before = watch.tells.iter().filter(|(earlier, _)| earlier < at);
            let mut up =
                before.filter(|(_, tell)| matches!(tell, Tell::Up(up) if up.agent == agent.agent));
            let since = up.next_back().map_or(watch.invoked, |(up, _)| *up);
            if let Some(fresh) = fresh_throughout(facts, &agent.agent, (since, *at)) {
                let text = format!(
                    "{} was told at {} that {} is down ({reason}), whose renewals were being committed \
                     without a gap since {}",
                    watch.process,
                    seconds(*at),
                    agent.agent,
                    seconds(fresh),
                );
                findings.add(*at, [watch.process.clone()], text);
            }
        }
    }
    // A copy that answers may be behind, without a bound: an absence that it tells of may be an old one.
    if facts.plan.world.has_copies() {
        return;
    }
    // Those that name a key say nothing about who is there.
    for called in facts.questionable().filter(|called| called.key.is_none()) {
        let Some((at, Ended::Ok(reply))) = called.ended else {
            continue;
        };
        let absent: Vec<&str> = match (called.call, reply) {
            (Call::Present { agent }, Reply::Present { present: false }) => vec![agent],
            (Call::Who, Reply::Who { present }) | (Call::Watch, Reply::Watching { present }) => {
                let all = facts.plan.agents.iter().map(|agent| agent.name.as_str());
                all.filter(|agent| !present.iter().any(|seen| *seen.agent == **agent))
                    .collect()
            }
            _ => continue,
        };
        for agent in absent {
            if let Some(fresh) = fresh_throughout(facts, agent, (called.invoked, at)) {
                let text = format!(
                    "{} asked between {} and {} and was told that {agent} is absent, whose renewals were being \
                     committed without a gap since {}",
                    called.process,
                    seconds(called.invoked),
                    seconds(at),
                    seconds(fresh),
                );
                findings.add(at, [called.process.clone()], text);
            }
        }
    }
}

/// If the agent's record was fresh at every moment of the span: since when.
fn fresh_throughout(facts: &Facts<'_>, agent: &str, span: Span) -> Option<Instant> {
    let key = facts.key_of(agent)?;
    let mut since: Option<(Instant, Instant)> = None;
    let mut renewed: Option<Instant> = None;
    let mut losses = facts
        .losses
        .iter()
        .filter(|(lost, _)| *lost <= span.1)
        .peekable();
    let mut newest = Revision::NONE;
    let mut lose = |until: Instant, newest: Revision| {
        let mut is_lost = false;
        while let Some((_, last)) = losses.next_if(|(lost, _)| *lost <= until) {
            is_lost |= newest > *last;
        }
        is_lost
    };
    for (at, commit) in &key.commits {
        if *at > span.1 {
            break;
        }
        if lose(*at, newest) {
            since = None;
        }
        newest = commit.revision;
        if !commit.operation.is_put() {
            // The server's own marker for a record that was still fresh does not make it stale. But one that falls on
            // a renewal is the marker of the record before it: the server has lost the renewal, and nobody else.
            let is_servers = commit.by.is_none();
            let expired_early = is_servers && since.is_some_and(|(_, until)| *at < until);
            let is_lost = is_servers && renewed.is_some_and(|renewed| at.since(renewed) < YOUNGEST);
            if !expired_early || is_lost {
                since = None;
            }
            continue;
        }
        renewed = Some(*at);
        let until = facts.dated(*at, commit) + facts.ttl(agent, commit);
        since = match since {
            Some((begin, fresh_until)) if *at <= fresh_until => Some((begin, until)),
            _ => Some((*at, until)),
        };
    }
    if lose(span.1, newest) {
        since = None;
    }
    let (begin, until) = since?;
    (begin <= span.0 && until > span.1).then_some(begin)
}
