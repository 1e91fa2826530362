//! P3 edges: for each watcher and agent up and down alternate, and no incarnation is told up twice.
//!
//! An explicit gap notice (`Lagged`) voids what was told before. Incarnations are told apart by the name in the entry. One
//! whose record is back because the server has lost its power may be told up again: it is there.

use std::collections::{BTreeMap, BTreeSet};

use squall_core::Instant;

use super::facts::Facts;
use super::{Findings, seconds};
use crate::history::{Agent, Tell};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for watch in &facts.watches {
        let mut up: BTreeMap<&str, bool> = BTreeMap::new();
        let mut told: BTreeSet<(&str, &str)> = BTreeSet::new();
        for seen in watch.snapshot {
            up.insert(&seen.agent, true);
            told.insert((&seen.agent, &seen.incarnation));
        }
        for (at, tell) in &watch.tells {
            let mut wrong = |text: String| {
                let text = format!("{} was told at {} that {text}", watch.process, seconds(*at));
                findings.add(*at, [watch.process.clone()], text);
            };
            match tell {
                Tell::Up(agent) => {
                    if up.insert(&agent.agent, true) == Some(true) {
                        wrong(format!(
                            "{} is up, and had not been told that it was down",
                            agent.agent
                        ));
                    } else if !told.insert((&agent.agent, &agent.incarnation))
                        && !is_back(facts, agent, *at)
                    {
                        let incarnation = &agent.incarnation;
                        wrong(format!(
                            "{} is up in incarnation {incarnation}, for the second time",
                            agent.agent
                        ));
                    }
                }
                Tell::Down { agent, .. } if up.insert(&agent.agent, false) != Some(true) => {
                    wrong(format!(
                        "{} is down, and had not been told that it was up",
                        agent.agent
                    ));
                }
                Tell::Lagged { present, .. } => {
                    up = present.iter().map(|seen| (&*seen.agent, true)).collect();
                    told.extend(
                        present
                            .iter()
                            .map(|seen| (&*seen.agent, &*seen.incarnation)),
                    );
                }
                _ => {}
            }
        }
    }
}

/// Whether a loss of power has brought a record of this incarnation back by then.
fn is_back(facts: &Facts<'_>, agent: &Agent, by: Instant) -> bool {
    let Some(key) = facts.key_of(&agent.agent) else {
        return false;
    };
    let mut returns = key.returns.iter().filter(|(back, _)| *back <= by);
    returns.any(|(back, revision)| {
        let mut before = key.commits.iter().filter(|(at, _)| at < back);
        before.any(|(_, commit)| {
            commit.revision == *revision && commit.incarnation.as_ref() == Some(&agent.incarnation)
        })
    })
}
