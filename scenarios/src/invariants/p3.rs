//! P3 edges: for each watcher and agent up and down alternate, and no incarnation is told up twice.
//!
//! An explicit gap notice (`Lagged`) voids what was told before. Incarnations are told apart by the name in the entry.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::{Findings, seconds};
use crate::history::Tell;

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
                    } else if !told.insert((&agent.agent, &agent.incarnation)) {
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
