//! M1 no silent gap: who follows a bucket is told of everything that is committed, or that it may have missed something.
//!
//! As watches promise, the newest record of a key is enough. Who has been told of an interruption is not owed anything
//! until it is told that it is over; silence for longer than `d` while it says that it follows is a gap. `d` is the time
//! that a dead link or a consumer that is gone may take to be found.

use std::time::Duration;

use super::facts::Facts;
use super::sessions::{Followed, Session, detection};
use super::{Findings, seconds, tellings};
use crate::roles::user::account_of;

/// What finding out, and making a watch anew, may take beside the pace of the process.
const ANEW: Duration = Duration::from_secs(25);

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    tellings::gaps(facts, findings);
    for session in &facts.sessions {
        let d = ANEW + detection(facts, session.process);
        let d = d + facts.slack(d);
        for follow in &session.follows {
            if let Some((due, text)) = gap(facts, session, follow, d) {
                findings.add(due, [session.process.clone()], text);
                break;
            }
        }
    }
}

fn gap(
    facts: &Facts<'_>,
    session: &Session<'_>,
    follow: &Followed<'_>,
    d: Duration,
) -> Option<(squall_core::Instant, String)> {
    let seeing = follow.seeing();
    for key in &facts.keys {
        for (committed, commit) in &key.commits {
            let in_bucket = *commit.bucket == *crate::roles::user::BUCKET;
            if !in_bucket || *committed < follow.from {
                continue;
            }
            // The bucket of another account is another.
            let account = account_of(key.name);
            if session.account_at(*committed) != Some(account) {
                continue;
            }
            let told = follow.saw(key.name, commit.revision);
            for (from, to) in &seeing {
                let begins = (*committed).max(*from);
                let (due, to) = (begins + d, to.min(&session.ended));
                let frozen = facts.life(session.process).map(|life| life.frozen.clone());
                let runs = super::facts::without((begins, due), frozen.unwrap_or_default());
                let is_running = runs == [(begins, due)];
                let same = session.account_at(due) == Some(account);
                if due < *to && is_running && same && told.is_none_or(|told| told > due) {
                    let text = format!(
                        "{} follows, and was not told by {} of revision {} of {}, committed at {}",
                        session.process,
                        seconds(due),
                        commit.revision,
                        key.name,
                        seconds(*committed),
                    );
                    return Some((due, text));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::invariants::tale::Tale;

    fn following() -> Tale {
        let mut tale = Tale::of("alice/1");
        tale.logged_in("alice/1", "app").follows("alice/1");
        tale.at(10).committed("app.bob.1", 4);
        tale.at(11).saw("alice/1", "app.bob.1", 4);
        tale.at(20).committed("app.bob.2", 5);
        tale
    }

    #[test]
    fn a_record_that_never_comes_is_told() {
        let mut tale = following();
        tale.at(120).ends();
        let told = tale.told_by("M1");
        assert!(
            told.len() == 1 && told[0].contains("revision 5 of app.bob.2"),
            "{told:?}"
        );
    }

    #[test]
    fn a_newer_record_of_the_key_is_enough() {
        let mut tale = following();
        tale.at(22).committed("app.bob.2", 6);
        tale.at(23).saw("alice/1", "app.bob.2", 6);
        tale.at(120).ends();
        assert_eq!(tale.told_by("M1"), [""; 0]);
    }

    #[test]
    fn who_says_that_it_does_not_follow_owes_nothing_until_it_does() {
        let mut tale = following();
        tale.at(25).interrupted("alice/1");
        tale.at(120).ends();
        assert_eq!(tale.told_by("M1"), [""; 0]);
        let mut resumed = following();
        resumed.at(25).interrupted("alice/1");
        resumed.at(30).resumed("alice/1");
        resumed.at(120).ends();
        assert_eq!(resumed.told_by("M1").len(), 1);
    }
}
