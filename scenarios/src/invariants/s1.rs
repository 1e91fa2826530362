//! S1 crash-atomic: after a crash or an I/O error at any point a state file reads as old or new, never as empty but valid.
//!
//! Held to what each host's file can be: what was written last and acknowledged, or what a write meant to be whose outcome
//! is unknown. What was read once is what it is from then on. A read that fails says nothing and breaks nothing; one that
//! is told as "nobody is logged in" is a read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::facts::Facts;
use super::{Findings, seconds};
use crate::history::{Call, Reply, What};

/// A login by its hash; `None`: nobody is logged in.
type Content = Option<u64>;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    // Nobody else keeps files.
    if facts.plan.auth.is_none() {
        return;
    }
    // What each file of each host may hold. All begin with nothing.
    let mut held: BTreeMap<(&str, &str), Vec<Content>> = BTreeMap::new();
    let mut calls: BTreeMap<u64, (&Arc<str>, &Call)> = BTreeMap::new();
    for record in &facts.history.0 {
        match &record.what {
            What::Invoke { id, process, call } => {
                if let Call::Save { .. } | Call::Load { .. } = call {
                    calls.insert(*id, (process, call));
                }
            }
            What::Ok { id, reply } => {
                let Some((process, call)) = calls.remove(id) else {
                    continue;
                };
                match (call, reply) {
                    (Call::Save { file, login }, _) => {
                        held.insert((host(process), file), vec![*login]);
                    }
                    (Call::Load { file }, Reply::Loaded { login }) => {
                        let may_be = held
                            .entry((host(process), file))
                            .or_insert_with(|| vec![None]);
                        if !may_be.contains(login) {
                            let text = format!(
                                "{process} read {file} at {} as {}, and it held {}",
                                seconds(record.at),
                                said(login),
                                may_be.iter().map(said).collect::<Vec<_>>().join(" or "),
                            );
                            findings.add(record.at, [Arc::clone(process)], text);
                            return;
                        }
                        *may_be = vec![*login];
                    }
                    _ => {}
                }
            }
            What::Unknown { id, .. } => {
                if let Some((process, Call::Save { file, login })) = calls.remove(id) {
                    let may_be = held
                        .entry((host(process), file))
                        .or_insert_with(|| vec![None]);
                    may_be.push(*login);
                }
            }
            What::Refused { id, .. } => {
                calls.remove(id);
            }
            _ => {}
        }
    }
}

fn host(process: &str) -> &str {
    process.split('/').next().unwrap_or_default()
}

fn said(content: &Content) -> String {
    match content {
        None => "empty".to_owned(),
        Some(login) => format!("login {login:016x}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::invariants::tale::Tale;

    #[test]
    fn a_file_that_reads_as_empty_though_it_is_not_is_told() {
        let mut tale = Tale::of("alice/1");
        tale.loaded("alice/1", None).saved("alice/1", Some(7));
        tale.at(5).loaded("alice/1", Some(7));
        assert_eq!(tale.told_by("S1"), [""; 0]);
        tale.at(9).loaded("alice/2", None);
        let told =
            "alice/2 read credentials.json at 9.000s as empty, and it held login 0000000000000007";
        assert_eq!(tale.told_by("S1"), [told]);
    }

    #[test]
    fn a_write_without_an_outcome_may_have_been_done_and_stays_what_it_was_read_as() {
        let mut tale = Tale::of("alice/1");
        tale.saved("alice/1", Some(7))
            .half_saved("alice/1", Some(8));
        tale.loaded("alice/1", Some(7));
        assert_eq!(tale.told_by("S1"), [""; 0]);
        tale.loaded("alice/1", Some(8));
        assert_eq!(tale.told_by("S1").len(), 1);
        let mut other = Tale::of("alice/1");
        other.half_saved("alice/1", None).loaded("alice/1", None);
        assert_eq!(other.told_by("S1"), [""; 0]);
    }
}
