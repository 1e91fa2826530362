//! C5 isolation: nothing of account A is told after login to B or logout.
//!
//! Keys name the account that they were written in. While a login or logout is under way, both are in order.

use super::facts::Facts;
use super::sessions::Session;
use super::{Findings, seconds};
use crate::history::Tell;
use crate::roles::user::account_of;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for session in &facts.sessions {
        let all = session.follows.iter().flat_map(|follow| &follow.tells);
        for (at, tell) in all {
            let Tell::Saw { key, .. } = tell else {
                continue;
            };
            let Some(account) = session.account_at(*at) else {
                continue;
            };
            if account_of(key) != account {
                let now = account.unwrap_or("none");
                let text = format!(
                    "{} was told of {key} at {}, when its account was {now}{}",
                    session.process,
                    seconds(*at),
                    since(session, *at),
                );
                findings.add(*at, [session.process.clone()], text);
                break;
            }
        }
    }
}

fn since(session: &Session<'_>, at: squall_core::Instant) -> String {
    let mut accounts = session.accounts.iter().rev();
    let done = accounts.find_map(|login| login.done.filter(|done| *done <= at));
    done.map_or_else(String::new, |done| format!(" since {}", seconds(done)))
}

#[cfg(test)]
mod tests {
    use crate::invariants::tale::Tale;

    #[test]
    fn what_comes_late_from_the_other_account_is_told() {
        let mut tale = Tale::of("alice/1");
        tale.logged_in("alice/1", "app").follows("alice/1");
        tale.at(10).saw("alice/1", "app.bob.1", 4);
        tale.at(20).logged_in("alice/1", "other");
        assert_eq!(tale.told_by("C5"), [""; 0]);
        tale.at(21).saw("alice/1", "app.bob.2", 5);
        let told =
            "alice/1 was told of app.bob.2 at 21.000s, when its account was other since 20.000s";
        assert_eq!(tale.told_by("C5"), [told]);
    }

    #[test]
    fn while_a_login_is_under_way_both_are_in_order() {
        let mut tale = Tale::of("alice/1");
        tale.logged_in("alice/1", "app").follows("alice/1");
        tale.at(20).logging_in("alice/1", "other");
        tale.at(21).saw("alice/1", "app.bob.1", 4);
        tale.saw("alice/1", "other.bob.1", 1);
        assert_eq!(tale.told_by("C5"), [""; 0]);
    }
}
