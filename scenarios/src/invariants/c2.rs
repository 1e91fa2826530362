//! C2 usable: an operation does not fail as unreachable while the server is reachable and a valid credential exists.
//!
//! Asked of what users of a session call while nothing is being done to them, and has not been for the time that
//! recovery may take by the session's own configuration: 19.5 s after a link or a server was lost, 10 s more where a dead
//! link must be found first or a credential was refused, and longer only where a clock was wrong. A silent JetStream
//! excuses what is asked of JetStream, and not a round trip of core messaging; an auth service that fails excuses nothing
//! as long as what it issued last is valid, but one that knows nobody (401) ends what it has begun.

use squall_core::Instant;

use super::facts::{Called, Ended, Facts};
use super::sessions::Session;
use super::{Findings, seconds};
use crate::history::Call;
use crate::plan::Role;

/// Faults that take nothing away from who holds a valid credential and a connection.
const HARMLESS: [&str; 5] = ["rotate", "auth-5xx", "auth-slow", "torn-write", "io-error"];
/// The same, for whoever does not use JetStream.
const HARMLESS_TO_CORE: [&str; 7] = [
    "rotate",
    "auth-5xx",
    "auth-slow",
    "jetstream-mute",
    "narrow-permissions",
    "torn-write",
    "io-error",
];

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for called in facts.questionable() {
        let excepted: &[&str] = match called.call {
            Call::Flush => &HARMLESS_TO_CORE,
            Call::Write { .. } | Call::Read { .. } | Call::Follow => &HARMLESS,
            _ => continue,
        };
        let Some((at, Ended::Refused(error) | Ended::Unknown(error))) = called.ended else {
            continue;
        };
        // What a conditional write of a presence meets is not the connection's doing.
        let agent = called.process.split('/').next().unwrap_or_default();
        let role = facts.plan.agent(agent).map(|agent| agent.role);
        let mut sessions = facts.sessions.iter();
        let session = sessions.find(|session| session.process == called.process);
        if let (Some(Role::User), Some(session)) = (role, session)
            && is_usable(facts, session, called, at, excepted)
        {
            let text = format!(
                "{} called {} at {}, and it failed with a valid credential and a server within reach: {error}",
                called.process,
                super::r1::name(called.call),
                seconds(called.invoked),
            );
            findings.add(at, [called.process.clone()], text);
            return;
        }
    }
}

/// Whether there was no reason for a call to fail.
fn is_usable(
    facts: &Facts<'_>,
    session: &Session<'_>,
    called: &Called<'_>,
    at: Instant,
    excepted: &[&str],
) -> bool {
    let span = (
        called.invoked,
        at.max(called.invoked + std::time::Duration::from_nanos(1)),
    );
    // Logins and logouts end what is under way, and take their time.
    let since_login = session
        .accounts
        .iter()
        .rev()
        .find(|login| login.called <= at);
    let is_settled = since_login.is_some_and(|login| {
        let done = login
            .done
            .is_some_and(|done| done + session.recovery <= called.invoked);
        done && login.account.is_some()
    });
    // Who had nothing valid has as long to recover as anybody.
    let before = called.invoked - session.recovery;
    let is_valid = is_held(facts, session, before, at);
    is_settled && is_valid && at < session.ended && session.calm(span, excepted) == [span]
}

/// Whether what was issued last was valid at every moment between two times.
fn is_held(facts: &Facts<'_>, session: &Session<'_>, from: Instant, to: Instant) -> bool {
    let expires = |issued: &super::sessions::Issued<'_>| {
        // Its last second is the server's to end.
        let ends = issued.expires.map(|expires| facts.when(expires));
        let ends = ends.unwrap_or(Instant::FAR_FUTURE);
        issued.void.map_or(ends, |void| void.min(ends))
    };
    let mut held = session.newest(from).map(expires);
    for issued in session.issued.iter().filter(|i| i.at > from && i.at <= to) {
        if held.is_none_or(|end| end < issued.at) {
            return false;
        }
        held = Some(expires(issued));
    }
    held.is_some_and(|end| end > to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Life;
    use crate::invariants::tale::Tale;

    fn settled() -> Tale {
        let mut tale = Tale::of("alice/1");
        tale.logged_in("alice/1", "app").issued("alice/1", "a-1");
        tale.dialled("alice/1", "c1", "a-1");
        tale
    }

    #[test]
    fn a_round_trip_that_fails_for_nothing_is_told() {
        let mut tale = settled();
        tale.at(100).refused("alice/1", Call::Flush, "closed");
        tale.at(200).ends();
        let told = "alice/1 called flush at 100.000s, and it failed with a valid credential and a server within \
                    reach: closed";
        assert_eq!(tale.told_by("C2"), [told]);
    }

    #[test]
    fn one_that_fails_while_something_is_done_is_not() {
        let mut tale = settled();
        tale.fault("alice", crate::fault::FaultKind::Cut, 99, 99);
        tale.at(100).refused("alice/1", Call::Flush, "closed");
        tale.at(200).ends();
        assert_eq!(tale.told_by("C2"), [""; 0]);
    }

    #[test]
    fn a_silent_jetstream_excuses_writes_alone() {
        let mut tale = settled();
        tale.fault("server", crate::fault::FaultKind::JetstreamMute, 90, 120);
        tale.at(100).refused("alice/1", Call::Follow, "timed out");
        assert_eq!(tale.told_by("C2"), [""; 0]);
        tale.refused("alice/1", Call::Flush, "closed");
        assert_eq!(tale.told_by("C2").len(), 1);
    }

    #[test]
    fn a_credential_ends_by_the_wall_clock_of_the_run() {
        let late = |tale: &mut Tale| {
            tale.at(210).refused("alice/1", Call::Flush, "closed");
            tale.at(400).ends();
            tale.told_by("C2").len()
        };
        assert_eq!(late(&mut settled()), 1);
        // There, what was issued at the beginning has ended after 200 s.
        let mut real = settled();
        real.began_later(100);
        assert_eq!(late(&mut real), 0);
    }

    #[test]
    fn who_holds_nothing_valid_is_excused() {
        let mut tale = settled();
        // What was issued at the beginning is valid for 300 s.
        tale.at(310).refused("alice/1", Call::Flush, "closed");
        tale.at(400).ends();
        assert_eq!(tale.told_by("C2"), [""; 0]);
        let mut logged_out = settled();
        logged_out.at(50).logged_out("alice/1");
        logged_out.at(100).refused("alice/1", Call::Flush, "closed");
        logged_out.at(200).ends();
        assert_eq!(logged_out.told_by("C2"), [""; 0]);
        let mut dead = settled();
        dead.at(100).life("alice/1", Life::Crashed);
        dead.refused("alice/1", Call::Flush, "closed");
        dead.at(200).ends();
        assert_eq!(dead.told_by("C2"), [""; 0]);
    }
}
