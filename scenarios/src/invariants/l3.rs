//! L3 own release: whoever deletes the record of a lock deletes one of its own acquisition, or one whose life is over.
//!
//! Judged by the server's order and by what each record says of itself. Of one's own records those may be deleted that were
//! let go, lost, or never told; one that is still believed in may not, which is what a late release of an earlier
//! acquisition by the same process would do. What was lost with the power may be taken for another's.

use squall_core::Instant;

use super::facts::Facts;
use super::locks::{acquisitions, is_lost, records, token_of};
use super::{Findings, seconds};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let all = acquisitions(facts);
    for key in records(facts) {
        for (place, (at, after)) in key.commits.iter().enumerate() {
            let Some((since, before)) = key.last_before(place) else {
                continue;
            };
            let (Some(owner), Some(remover)) = (&before.by, &after.by) else {
                continue;
            };
            if !before.operation.is_put() || after.operation.is_put() {
                continue;
            }
            let is_over = before.ttl.is_some_and(|ttl| since + ttl <= *at);
            let is_wrong = if owner == remover {
                let token = token_of(key, before);
                let mut own = all.iter().filter(|one| one.process == owner);
                own.any(|one| Some(one.token) == token && one.told <= *at && *at < one.ended)
            } else {
                !is_over
            };
            if is_wrong && !is_lost(facts, key, (Instant::ZERO, *at)) {
                let text = format!(
                    "{remover} deleted the record of {owner} under {} at {}, {:.3}s after it was written",
                    key.name,
                    seconds(*at),
                    at.since(since).as_secs_f64(),
                );
                findings.add(*at, [remover.clone(), owner.clone()], text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tale::Tale;

    fn deleted(by: &str, at: u64) -> Vec<String> {
        let mut tale = Tale::of_locks(&["alice/1", "bob/1"]);
        tale.at(1).record("alice/1", "a", 10);
        tale.locked("alice/1", 10);
        tale.at(2).unlocks("alice/1", 10);
        tale.at(at).record_gone(by, 11);
        tale.told_by("L3")
    }

    #[test]
    fn the_record_of_another_is_deleted_only_after_its_life() {
        assert_eq!(deleted("alice/1", 3), Vec::<String>::new());
        assert_eq!(deleted("bob/1", 9), Vec::<String>::new());
        assert!(deleted("bob/1", 3)[0].starts_with("bob/1 deleted the record of alice/1"));
    }

    #[test]
    fn an_acquisition_that_is_believed_in_is_not_deleted_by_its_own_process() {
        let mut tale = Tale::of_locks(&["alice/1"]);
        tale.at(1).record("alice/1", "a", 10);
        tale.locked("alice/1", 10);
        tale.at(2).record_gone("alice/1", 11);
        tale.at(3).ends();
        assert_eq!(tale.told_by("L3").len(), 1);
    }
}
