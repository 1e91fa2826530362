//! D1 no lost update: what a store has acknowledged is there until something took its place or its life is over.
//!
//! Told by reads: a read that began after a put was acknowledged gives that value or a later one, or nothing where something
//! else was stored after it. And by the records themselves: a value goes only if somebody deletes it, or after its life. What
//! the server lost with its power, it lost; a bucket with copies may answer a read by one that is behind.

use squall_core::Instant;
use squall_core::transport::Revision;

use super::facts::{Ended, Facts};
use super::states::{Put, put_of, puts, records_of, user_key};
use super::{Findings, seconds};
use crate::history::state::{Call as StateCall, Reply as StateReply};
use crate::history::{Call, Reply};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let puts = puts(facts);
    if !facts.plan.world.has_copies() {
        reads(facts, &puts, findings);
    }
    removals(facts, &puts, findings);
}

fn reads(facts: &Facts<'_>, puts: &[Put<'_>], findings: &mut Findings) {
    for called in &facts.calls {
        let (Call::State(StateCall::Get { key }), Some((at, Ended::Ok(Reply::State(reply))))) =
            (called.call, called.ended)
        else {
            continue;
        };
        let read = match reply {
            StateReply::Value { revision, .. } => *revision,
            _ => Revision::NONE,
        };
        let due = |put: &&Put<'_>| {
            let in_time = put.told < called.invoked && at < put.ends_after();
            *put.key == *key && put.revision > read && in_time && !put.is_lost(facts, at)
        };
        let Some(put) = puts.iter().filter(due).max_by_key(|put| put.revision) else {
            continue;
        };
        // Nothing is right where something was stored after it, by whomever.
        let is_explained = read == Revision::NONE
            && records_of(facts, key).is_some_and(|records| {
                let mut commits = records.commits.iter();
                commits.any(|(stored, commit)| {
                    commit.revision > put.revision && *stored >= put.invoked && *stored <= at
                })
            });
        if !is_explained {
            let found = match read {
                Revision::NONE => "nothing".to_owned(),
                revision => format!("revision {revision}"),
            };
            let text = format!(
                "{} read {found} of {key} at {}, and revision {} of {} was acknowledged at {}",
                called.process,
                seconds(at),
                put.revision,
                put.process,
                seconds(put.told),
            );
            findings.add(at, [called.process.clone(), put.process.clone()], text);
        }
    }
}

fn removals(facts: &Facts<'_>, puts: &[Put<'_>], findings: &mut Findings) {
    for records in &facts.keys {
        let Some(key) = user_key(records) else {
            continue;
        };
        for (place, (at, commit)) in records.commits.iter().enumerate() {
            if commit.operation.is_put() {
                continue;
            }
            let Some(before) = records.before(place) else {
                continue;
            };
            let put = put_of(puts, key, before.revision, *at);
            let Some(put) = put.filter(|put| !put.is_lost(facts, *at)) else {
                continue;
            };
            if *at < put.ends_after() && !is_deleted(facts, key, *at) {
                let by = commit.by.as_deref().unwrap_or("the server");
                let text = format!(
                    "{by} took revision {} of {key} away at {}, which nobody had deleted and whose life was not over",
                    put.revision,
                    seconds(*at),
                );
                findings.add(*at, [put.process.clone()], text);
            }
        }
    }
}

/// Whether somebody may have deleted this key then: a deletion that has not failed for certain was under way, or on its way.
fn is_deleted(facts: &Facts<'_>, key: &str, at: Instant) -> bool {
    facts.calls.iter().any(|called| {
        let is_it =
            matches!(called.call, Call::State(StateCall::Delete { key: deleted }) if **deleted == *key);
        let until = match called.ended {
            Some((ended, Ended::Ok(_) | Ended::Refused(_) | Ended::Conflict(_))) => ended,
            Some((_, Ended::Unknown(_))) | None => Instant::FAR_FUTURE,
        };
        is_it && (called.invoked..=until).contains(&at)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tale::Tale;

    fn told(tell: impl FnOnce(&mut Tale)) -> Vec<String> {
        let mut tale = Tale::of_states(&["alice/1", "bob/1"]);
        tale.at(1).puts("alice/1", "s", 5, None);
        tell(&mut tale);
        tale.told_by("D1")
    }

    fn gets(tale: &mut Tale, revision: Option<u64>) {
        tale.at(2).gets("bob/1", "s", revision);
    }

    #[test]
    fn an_acknowledged_value_that_is_not_read_is_told() {
        assert_eq!(told(|tale| gets(tale, Some(5))), [""; 0]);
        let lost = told(|tale| gets(tale, None));
        assert!(lost[0].starts_with("bob/1 read nothing of s"), "{lost:?}");
        let stale = told(|tale| gets(tale, Some(4)));
        assert!(stale[0].contains("revision 4 of s"), "{stale:?}");
    }

    #[test]
    fn a_value_that_nobody_deleted_does_not_go() {
        let taken = |delete: bool| {
            told(|tale| {
                if delete {
                    tale.at(2).deletes("bob/1", "s", 6);
                } else {
                    tale.at(2).takes_away("bob/1", "s", 6);
                }
                tale.at(3).gets("bob/1", "s", None);
            })
        };
        assert_eq!(taken(true), [""; 0]);
        assert!(taken(false)[0].starts_with("bob/1 took revision 5"));
    }

    #[test]
    fn a_value_goes_after_its_life() {
        let mut tale = Tale::of_states(&["alice/1"]);
        tale.at(1).puts("alice/1", "s", 5, Some(4));
        tale.at(6).takes_away("alice/1", "s", 6);
        tale.at(7).gets("alice/1", "s", None);
        assert_eq!(tale.told_by("D1"), [""; 0]);
    }
}
