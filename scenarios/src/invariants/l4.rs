//! L4 expiry: a lock that is not renewed becomes acquirable within its life and `d`, whatever any one wall clock says, and not
//! before its life but a sixteenth is over.
//!
//! `d` is a sixteenth of the life, the rest of a second, a second that servers may be late, and the slack of every wait. Who
//! waits must have it by then, or somebody else; who does not wait must not be told any more that it is held, where the
//! server knows lives of records. Nothing is said while servers, links or the waiting process itself are troubled.

use squall_core::Instant;

use super::facts::{Ended, Facts, Key};
use super::locks::{is_hindered, is_lost, lateness, records, wants};
use super::{Findings, seconds};
use crate::history::lock::Call as LockCall;
use crate::history::{Call, Commit};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for key in records(facts) {
        for place in 0..key.commits.len() {
            early(facts, key, place, findings);
        }
        for (since, commit, next) in key.reigns() {
            if commit.operation.is_put() {
                let until = key.removal(since, commit).unwrap_or(facts.end).min(next);
                late(facts, key, (since, commit, until), findings);
            }
        }
    }
}

/// Somebody has taken a record over whose life was not over.
fn early(facts: &Facts<'_>, key: &Key<'_>, place: usize, findings: &mut Findings) {
    let (at, after) = key.commits[place];
    let Some((since, before)) = key.last_before(place) else {
        return;
    };
    let (Some(ttl), Some(by)) = (before.ttl, &after.by) else {
        return;
    };
    let is_takeover = before.operation.is_put()
        && after.operation.is_put()
        && before.incarnation != after.incarnation
        && key
            .removal(since, before)
            .is_none_or(|removed| removed > at);
    let is_early = at.since(since) + ttl / 16 < ttl;
    // Its own, whose answer came too late to be of use, may be taken over at any time.
    let is_own = before.by.as_ref() == Some(by);
    if is_takeover && is_early && !is_own && !is_lost(facts, key, (Instant::ZERO, at)) {
        let text = format!(
            "{by} took {} over {:.3}s after it was written, and it lives for {:.3}s",
            key.name,
            at.since(since).as_secs_f64(),
            ttl.as_secs_f64(),
        );
        findings.add(at, [by.clone()], text);
    }
}

/// Somebody could not have it although the life of the record was over.
fn late(
    facts: &Facts<'_>,
    key: &Key<'_>,
    (since, commit, until): (Instant, &Commit, Instant),
    findings: &mut Findings,
) {
    let Some(ttl) = commit.ttl else { return };
    let d = lateness(facts, ttl);
    let waiters = facts.calls.iter().filter(|called| wants(called, key));
    for waiter in waiters {
        let (ended, was_refused) = match waiter.ended {
            Some((at, Ended::Conflict(_))) => (at, true),
            Some((at, _)) => (at, false),
            // Who has died waits no more.
            None => {
                let life = facts.life(waiter.process);
                (life.map_or(facts.end, |life| life.ended), false)
            }
        };
        let waits = matches!(
            waiter.call,
            Call::Lock(LockCall::Acquire { waits: Some(_), .. })
        );
        // From when it could count, and from when it could be told.
        let counted = since.max(waiter.invoked);
        let due = if waits {
            counted + ttl + d
        } else {
            since + ttl + d
        };
        let is_late = match waits {
            true => due < until.min(ended),
            false => knows_lives(facts) && was_refused && due < waiter.invoked && ended < until,
        };
        let wakes = ended.max(since + ttl + d);
        if is_late && !is_hindered(facts, waiter.process, (since, wakes)) {
            let text = format!(
                "{} could not have the lock of {} at {}, and its record had been there, unrenewed, since {}; it lives for \
                 {:.3}s",
                waiter.process,
                key.name,
                seconds(due),
                seconds(since),
                ttl.as_secs_f64(),
            );
            findings.add(due, [waiter.process.clone()], text);
        }
    }
}

/// Whether the server ends records by their own life.
fn knows_lives(facts: &Facts<'_>) -> bool {
    facts.plan.world.delete_markers.is_some() && facts.plan.auth.is_none()
}

#[cfg(test)]
mod tests {
    use super::super::tale::Tale;
    use crate::history::Life;

    #[test]
    fn a_record_is_taken_over_after_its_life_and_not_before() {
        let taken = |at: u64| {
            let mut tale = Tale::of_locks(&["alice/1", "bob/1"]);
            tale.at(1).record("alice/1", "a", 10);
            tale.at(at).record("bob/1", "b", 11);
            tale.at(40).ends();
            tale.told_by("L4")
        };
        assert_eq!(taken(6), Vec::<String>::new());
        assert!(taken(3)[0].starts_with("bob/1 took l.job-0 over 2.000s after"));
    }

    #[test]
    fn who_waits_for_an_abandoned_lock_has_it_in_time() {
        let waited = |until: u64| {
            let mut tale = Tale::of_locks(&["alice/1", "bob/1"]);
            tale.at(1).record("alice/1", "a", 10);
            let waiting = tale.at(2).waits_for_lock("bob/1");
            tale.at(until).record("bob/1", "b", 11);
            tale.has_lock(waiting, 11);
            tale.at(60).ends();
            tale.told_by("L4")
        };
        assert_eq!(waited(9), Vec::<String>::new());
        assert!(waited(30)[0].starts_with("bob/1 could not have the lock of l.job-0"));
    }

    #[test]
    fn who_has_died_waits_no_more() {
        let mut tale = Tale::of_locks(&["alice/1", "bob/1"]);
        tale.at(1).waits_for_lock("bob/1");
        tale.at(2).life("bob/1", Life::Crashed);
        tale.at(10).record("alice/1", "a", 10);
        tale.at(60).ends();
        assert_eq!(tale.told_by("L4"), [""; 0]);
    }
}
