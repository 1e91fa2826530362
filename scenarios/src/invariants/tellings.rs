//! M1 and E4 of watches over a store: who watches is told what becomes of every key, or that something may be missing; and of
//! each key in the order in which it happened.
//!
//! The newest of a key is enough, as watches promise. Between a gap and the end of it nothing is owed, nor what
//! [passes](passing) while a server is cut off. `d` is the time that a dead link or a consumer that is gone may take to be
//! found.

use std::time::Duration;

use squall_core::Instant;
use squall_core::transport::Revision;

use super::facts::{Facts, Key, Span, without};
use super::passing;
use super::sessions::detection;
use super::states::{Put, Watched, put_of, puts, records_of, user_key, watches};
use super::{Findings, seconds};
use crate::history::Commit;
use crate::history::state::Tell as StateTell;
use crate::plan::On;

/// What finding out, and looking anew, may take beside the pace of the process.
const ANEW: Duration = Duration::from_secs(25);
/// A value that nobody takes away is told as expired so long after its life at the latest.
const SWEPT: Duration = Duration::from_secs(15);
/// How late observers of real servers may be.
const SEEN_LATE: Duration = Duration::from_secs(1);
/// What a slow reader may leave unread, and what it may be told of a gap.
const UNREAD: u32 = 16;

pub(super) fn gaps(facts: &Facts<'_>, findings: &mut Findings) {
    let puts = puts(facts);
    for watch in watches(facts) {
        let agent = watch.process.split('/').next().unwrap_or_default();
        let dwells = facts.plan.agent(agent).and_then(|agent| agent.state);
        let dwells = dwells.map_or(Duration::ZERO, |state| state.dwells);
        let d = ANEW + detection(facts, watch.process) + dwells * UNREAD;
        let d = d + facts.slack(d);
        let committed = facts
            .keys
            .iter()
            .find_map(|records| gap(facts, &watch, records, &puts, d));
        let missing = committed.or_else(|| expiry(facts, &watch, &puts, d + SWEPT));
        if let Some((due, text)) = missing {
            let process = watch.process;
            let text = format!(
                "{process} watches, and was not told by {} {text}",
                seconds(due)
            );
            findings.add(due, [process.clone()], text);
        }
    }
}

/// When it is due, if it claimed to see everything for so long after some moment of the span in which this was so, and could.
fn owes(facts: &Facts<'_>, watch: &Watched<'_>, span: Span, d: Duration) -> Option<Instant> {
    let (from, to) = span;
    let mut seeing = watch
        .seeing()
        .into_iter()
        .filter(|(begins, _)| *begins < to);
    seeing.find_map(|(begins, ends)| {
        let begins = begins.max(from);
        let due = begins + d;
        let frozen = facts.life(watch.process).map(|life| life.frozen.clone());
        let runs = without((begins, due), frozen.unwrap_or_default());
        (due < ends && runs == [(begins, due)]).then_some(due)
    })
}

/// A record of this key that was never told.
fn gap(
    facts: &Facts<'_>,
    watch: &Watched<'_>,
    records: &Key<'_>,
    puts: &[Put<'_>],
    d: Duration,
) -> Option<(Instant, String)> {
    let key = user_key(records)?;
    // On real servers it is seen a little later what was stored.
    let begun = match facts.plan.world.on {
        On::Simulated => watch.from,
        On::Nats => watch.from + SEEN_LATE,
    };
    for (place, (at, commit)) in records.commits.iter().enumerate() {
        if *at < begun || facts.is_lost(commit.revision, (*at, facts.end)) {
            continue;
        }
        // A deletion of what was not there changes nothing, and what came and went in a gap is not told.
        let mut seeing = watch.seeing().into_iter();
        let is_seen = |(from, to): (Instant, Instant)| (from..to).contains(at);
        let before = records.before(place);
        let ends_one = before.is_some_and(|before| is_value(puts, key, before));
        let is_news = is_value(puts, key, commit) || (ends_one && seeing.any(is_seen));
        if !is_news {
            continue;
        }
        // What was replaced before the watch could see again is told by what replaced it, if at all.
        let next = records.commits.get(place + 1);
        let next = next.map_or(Instant::FAR_FUTURE, |(at, _)| *at);
        let Some(due) = owes(facts, watch, (*at, next), d) else {
            continue;
        };
        let is_told = watch.tells.iter().any(|(told, tell)| {
            *told >= *at && *told <= due && covers(tell, key, records, commit.revision)
        });
        if !is_told && !passing::passed(facts, puts, records, place) {
            let (revision, at) = (commit.revision, seconds(*at));
            return Some((
                due,
                format!("of revision {revision} of {key}, stored at {at}"),
            ));
        }
    }
    None
}

/// Whether this is a value. Of a fenced key that is gone a record remains, which no put has made.
fn is_value(puts: &[Put<'_>], key: &str, commit: &Commit) -> bool {
    let is_fenced = key.starts_with('f');
    let is_put = || put_of(puts, key, commit.revision, Instant::FAR_FUTURE).is_some();
    commit.operation.is_put() && (!is_fenced || is_put())
}

/// Whether who is told this knows what became of the key up to this revision.
fn covers(tell: &StateTell, key: &str, records: &Key<'_>, revision: Revision) -> bool {
    match tell {
        StateTell::Put {
            key: of,
            revision: told,
            ..
        } => **of == *key && *told >= revision,
        StateTell::Deleted {
            key: of,
            revision: told,
        } => **of == *key && (*told >= revision || *told == Revision::NONE),
        StateTell::Expired {
            key: of,
            revision: told,
        } => {
            let mut later = records.commits.iter();
            let is_newer = |commit: &Commit| {
                commit.revision > *told && commit.revision <= revision && commit.operation.is_put()
            };
            **of == *key && !later.any(|(_, commit)| is_newer(commit))
        }
        StateTell::Restarted => true,
        _ => false,
    }
}

/// A value whose life was over before anything took its place, and of which that was never told.
fn expiry(
    facts: &Facts<'_>,
    watch: &Watched<'_>,
    puts: &[Put<'_>],
    d: Duration,
) -> Option<(Instant, String)> {
    let mortal = puts.iter().filter(|put| put.life.is_some());
    for put in mortal {
        let over = put.over_by();
        if put.told < watch.from || put.is_lost(facts, facts.end) {
            continue;
        }
        let Some(records) = records_of(facts, put.key) else {
            continue;
        };
        let mut commits = records.commits.iter();
        let is_replaced = commits.any(|(at, commit)| commit.revision > put.revision && *at <= over);
        let Some(due) = owes(facts, watch, (over, Instant::FAR_FUTURE), d).filter(|_| !is_replaced)
        else {
            continue;
        };
        let is_told = watch.tells.iter().any(|(told, tell)| {
            *told <= due
                && match tell {
                    StateTell::Expired { key, revision } => {
                        key == put.key && *revision >= put.revision
                    }
                    // After a gap an expiry may be told by what came after it.
                    StateTell::Put { key, revision, .. } | StateTell::Deleted { key, revision } => {
                        key == put.key && (*revision > put.revision || *revision == Revision::NONE)
                    }
                    StateTell::Restarted => *told >= put.told,
                    _ => false,
                }
        });
        if is_told {
            continue;
        }
        let mut commits = records.commits.iter();
        let place = commits.position(|(_, commit)| commit.revision == put.revision);
        if !place.is_some_and(|place| passing::passed(facts, puts, records, place)) {
            let (revision, key, over) = (put.revision, put.key, seconds(over));
            return Some((
                due,
                format!("that revision {revision} of {key} had expired at {over}"),
            ));
        }
    }
    None
}

pub(super) fn order(facts: &Facts<'_>, findings: &mut Findings) {
    for watch in watches(facts) {
        let mut newest = Revision::NONE;
        for (at, tell) in &watch.tells {
            let (key, revision) = match tell {
                StateTell::Restarted => {
                    newest = Revision::NONE;
                    continue;
                }
                StateTell::Put { key, revision, .. } => (key, *revision),
                StateTell::Deleted { key, revision } if *revision > Revision::NONE => {
                    (key, *revision)
                }
                _ => continue,
            };
            if revision <= newest {
                let process = watch.process;
                let text = format!(
                    "{process} was told revision {revision} of {key} at {}, and had been told {newest} before",
                    seconds(*at),
                );
                findings.add(*at, [process.clone()], text);
            }
            newest = newest.max(revision);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tale::Tale;
    use crate::history::state::Tell;

    fn watching() -> Tale {
        let mut tale = Tale::of_states(&["alice/1", "bob/1"]);
        tale.at(1).watches_state("bob/1");
        tale
    }

    #[test]
    fn what_is_never_told_is_told() {
        let mut tale = watching();
        tale.at(2).puts("alice/1", "s", 5, None);
        let mut told = watching();
        told.at(2).puts("alice/1", "s", 5, None);
        told.at(3).told_put("bob/1", "s", 5);
        for tale in [&mut tale, &mut told] {
            tale.at(120).ends();
        }
        assert!(tale.told_by("M1")[0].contains("of revision 5 of s"));
        assert_eq!(told.told_by("M1"), [""; 0]);
    }

    #[test]
    fn an_expiry_that_is_never_told_is_told() {
        let mut tale = watching();
        tale.at(2).puts("alice/1", "s", 5, Some(4));
        tale.at(3).told_put("bob/1", "s", 5);
        tale.at(120).ends();
        assert!(tale.told_by("M1")[0].contains("had expired at"));
    }

    #[test]
    fn between_a_gap_and_its_end_nothing_is_owed() {
        let mut tale = watching();
        let reason = "x".to_owned();
        tale.at(2).told_of_state("bob/1", Tell::Gap { reason });
        tale.at(3).puts("alice/1", "s", 5, None);
        tale.at(120).ends();
        assert_eq!(tale.told_by("M1"), [""; 0]);
    }

    #[test]
    fn revisions_go_back_only_where_that_was_told() {
        let told = |restarted: bool| {
            let mut tale = watching();
            tale.at(2).told_put("bob/1", "s", 5);
            if restarted {
                tale.at(3).told_of_state("bob/1", Tell::Restarted);
            }
            tale.at(4).told_put("bob/1", "s", 4);
            tale.told_by("E4")
        };
        assert_eq!(told(true), [""; 0]);
        assert!(told(false)[0].contains("had been told 5 before"));
    }
}
