//! C4 fresh: within `d` of a refresh the live connection was dialled with the newest generation.
//!
//! `d` is the time that a swap may take: a dial, streams made anew, a round trip, a drain. It is counted from the
//! exchange, or from when a process that something was done to has had its time to recover.

use std::time::Duration;

use squall_core::Instant;

use super::facts::Facts;
use super::sessions::{Change, Session};
use super::{Findings, seconds};

/// How long a swap may take.
const SWAP: Duration = Duration::from_secs(15);
/// Faults that keep nobody from dialling with what was issued.
const HARMLESS: [&str; 5] = ["rotate", "auth-5xx", "auth-slow", "torn-write", "io-error"];

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for session in &facts.sessions {
        let d = SWAP + facts.slack(SWAP);
        let nexts = session.issued.iter().skip(1).map(|issued| issued.at);
        let nexts = nexts.chain([session.ended]);
        for (issued, next) in session.issued.iter().zip(nexts) {
            // A login or a logout makes it another's, or nobody's.
            let mut logins = session.accounts.iter().map(|login| login.called);
            let login = logins.find(|called| *called > issued.at);
            let until = next.min(login.unwrap_or(next));
            // What was taken back, or has ended, is nobody's duty.
            let until = until.min(issued.void.unwrap_or(until));
            let ends = issued.expires.map(|expires| facts.when(expires));
            let until = until.min(ends.unwrap_or(until));
            let calm = session.calm((issued.at, until), &HARMLESS);
            // A calm that begins after a disturbance begins after the time to recover.
            let due = calm.iter().map(|(from, to)| (*from + d, *to));
            for (due, to) in due {
                if due < to
                    && let Some(wrong) = stale(session, issued.token, due)
                {
                    let text = format!(
                        "{} was issued {} at {}, and at {} {wrong}",
                        session.process,
                        issued.token,
                        seconds(issued.at),
                        seconds(due),
                    );
                    findings.add(due, [session.process.clone()], text);
                    break;
                }
            }
        }
    }
}

/// What is wrong where a connection should be up with this token, and no other.
fn stale(session: &Session<'_>, token: &str, at: Instant) -> Option<String> {
    let mut fresh = false;
    for connection in &session.connections {
        match connection.at(at) {
            Some(Change::Up(Some(with))) if **with == *token => fresh = true,
            Some(Change::Up(with)) => {
                let with = with.map_or("nothing", |with| with);
                return Some(format!("{} was up with {with}", connection.name));
            }
            _ => {}
        }
    }
    (!fresh).then(|| "no connection was up with it".to_owned())
}

#[cfg(test)]
mod tests {
    use crate::fault::FaultKind;
    use crate::invariants::tale::Tale;

    fn rotated() -> Tale {
        let mut tale = Tale::of("alice/1");
        tale.logged_in("alice/1", "app").issued("alice/1", "a-1");
        tale.dialled("alice/1", "c1", "a-1");
        tale.at(270).issued("alice/1", "a-2");
        tale
    }

    #[test]
    fn a_connection_that_stays_on_the_old_credential_is_told() {
        let mut tale = rotated();
        tale.at(320).ends();
        let told = "alice/1 was issued a-2 at 270.000s, and at 286.939s c1 was up with a-1";
        assert_eq!(tale.told_by("C4"), [told]);
    }

    #[test]
    fn a_swap_in_time_is_fresh() {
        let mut tale = rotated();
        tale.at(280).dialled("alice/1", "c2", "a-2");
        tale.at(281).closed("alice/1", "c1");
        tale.at(320).ends();
        assert_eq!(tale.told_by("C4"), [""; 0]);
    }

    #[test]
    fn who_was_just_cut_off_has_time() {
        let mut tale = rotated();
        tale.fault("alice", FaultKind::Cut, 280, 280);
        tale.at(300).dialled("alice/1", "c2", "a-2");
        tale.closed("alice/1", "c1");
        tale.at(320).ends();
        assert_eq!(tale.told_by("C4"), [""; 0]);
    }
}
