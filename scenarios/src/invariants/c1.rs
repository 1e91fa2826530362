//! C1 one swap: at most one connection replacement per credential generation.
//!
//! Held to what was dialled, not to what is told of it: with one credential no second connection is made while one is up
//! that was logged in with it. Who has given that one up, and said so (`force_close`), may make another. And there is one
//! exchange at a time: a second one would bring a generation that nobody asked for.

use std::time::Duration;

use squall_core::Instant;
use squall_core::diagnostics::EventType;

use super::facts::Facts;
use super::sessions::{Change, Session, Wired};
use super::{Findings, seconds};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for session in &facts.sessions {
        let answer_max = facts.plan.session().exchange_timeout;
        if let Some((first, second)) = overlapping(session, answer_max) {
            let text = format!(
                "{} began an exchange at {}, while that of {} was under way",
                session.process,
                seconds(second),
                seconds(first),
            );
            findings.add(second, [session.process.clone()], text);
        }
        for (number, made) in session.connections.iter().enumerate() {
            let Some((at, Change::Up(Some(token)))) = made.changes.first().copied() else {
                continue;
            };
            let is_twin = |other: &&Wired<'_>| {
                other.at(at) == Some(Change::Up(Some(token))) && !is_given_up(session, other, at)
            };
            if let Some(twin) = session.connections[..number].iter().find(is_twin) {
                let text = format!(
                    "{} made connection {} with {token} at {}, although {} was up with it",
                    session.process,
                    made.name,
                    seconds(at),
                    twin.name,
                );
                findings.add(at, [session.process.clone()], text);
                break;
            }
        }
    }
}

/// An exchange that begins while another is under way, which no login or logout has made void.
fn overlapping(session: &Session<'_>, answer_max: Duration) -> Option<(Instant, Instant)> {
    let nexts = session.exchanges.iter().skip(1);
    let pairs = session.exchanges.iter().zip(nexts);
    let found = pairs.into_iter().find(|(first, second)| {
        // Several logins may come at one instant.
        let mut logins = session.accounts.iter().map(|login| login.place);
        let is_void = logins.any(|login| login > first.place && login < second.place);
        // Without an answer it has been given up, if its time was over.
        let is_over = first.ended.is_some_and(|ended| ended < second.place);
        let is_given_up = first.ended.is_none() && second.at.since(first.at) >= answer_max;
        !is_void && !is_over && !is_given_up
    });
    found.map(|(first, second)| (first.at, second.at))
}

fn is_given_up(session: &Session<'_>, connection: &Wired<'_>, at: Instant) -> bool {
    let mut log = session.log.iter().take_while(|(told, _)| *told <= at);
    log.any(|(_, event)| {
        let is_it = |id: &squall_core::diagnostics::NcId| *id.as_str() == **connection.name;
        event.kind == EventType::ForceClose && event.nc_id.as_ref().is_some_and(is_it)
    })
}

#[cfg(test)]
mod tests {
    use squall_core::diagnostics::Caller;

    use super::*;
    use crate::invariants::tale::Tale;

    #[test]
    fn a_second_connection_with_one_credential_is_told() {
        let mut tale = Tale::of("alice/1");
        tale.issued("alice/1", "a-1")
            .dialled("alice/1", "c1", "a-1");
        tale.at(270).issued("alice/1", "a-2");
        tale.dialled("alice/1", "c2", "a-2").closed("alice/1", "c1");
        assert_eq!(tale.told_by("C1"), [""; 0]);
        tale.dialled("alice/1", "c3", "a-2");
        let told = "alice/1 made connection c3 with a-2 at 270.000s, although c2 was up with it";
        assert_eq!(tale.told_by("C1"), [told]);
    }

    #[test]
    fn two_exchanges_at_once_are_told() {
        let mut tale = Tale::of("alice/1");
        tale.at(1).exchanging("alice/1");
        tale.at(2).exchanging("alice/1");
        let told = "alice/1 began an exchange at 2.000s, while that of 1.000s was under way";
        assert_eq!(tale.told_by("C1"), [told]);
        let mut void = Tale::of("alice/1");
        void.at(1).exchanging("alice/1");
        void.at(2).logged_in("alice/1", "other");
        void.exchanging("alice/1");
        assert_eq!(void.told_by("C1"), [""; 0]);
        // All at one instant: what comes first in the history came first.
        let mut at_once = Tale::of("alice/1");
        at_once.logging_in("alice/1", "app");
        at_once.exchanging("alice/1");
        at_once.logging_in("alice/1", "other");
        at_once.exchanging("alice/1");
        assert_eq!(at_once.told_by("C1"), [""; 0]);
        at_once.exchanging("alice/1");
        assert_eq!(at_once.told_by("C1").len(), 1);
    }

    #[test]
    fn what_was_lost_or_given_up_is_replaced() {
        let mut tale = Tale::of("alice/1");
        tale.issued("alice/1", "a-1")
            .dialled("alice/1", "c1", "a-1");
        tale.at(20).down("alice/1", "c1");
        tale.dialled("alice/1", "c2", "a-1");
        tale.at(30)
            .logged("alice/1", EventType::ForceClose, Caller::PROBE, "c2");
        tale.dialled("alice/1", "c3", "a-1");
        assert_eq!(tale.told_by("C1"), [""; 0]);
    }
}
