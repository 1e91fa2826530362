//! C6 attribution: every transition in the event log names its true cause and did happen.
//!
//! What the log tells of a connection is compared with what its client saw, and a connection that was given up as dead
//! with what was done to its link. The other way round nothing is asked: what is not in the log may be coalesced.

use std::time::Duration;

use squall_core::Instant;
use squall_core::diagnostics::{EventType, NatsEvent};

use super::facts::Facts;
use super::sessions::{Change, Session, Wired};
use super::{Findings, seconds};

/// A line may be told so long after what it tells of, or before its client has said it.
const LATE: Duration = Duration::from_secs(2);
/// A connection is told when it comes into use: after streams were made anew on it and a round trip, each in 5 s.
const IN_USE: Duration = Duration::from_secs(12);
/// Faults that leave a connection alive.
const HARMLESS: [&str; 7] = [
    "rotate",
    "auth-401",
    "auth-5xx",
    "auth-slow",
    "jetstream-mute",
    "narrow-permissions",
    "lose-reply",
];

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for session in &facts.sessions {
        for (at, event) in &session.log {
            if let Some(wrong) = wrong(session, *at, event) {
                let text = format!(
                    "{} logged at {}: {}, but {wrong}",
                    session.process,
                    seconds(*at),
                    event.to_line(),
                );
                findings.add(*at, [session.process.clone()], text);
                break;
            }
        }
    }
}

fn wrong(session: &Session<'_>, at: Instant, event: &NatsEvent) -> Option<String> {
    if event.caller.is_none() {
        return Some("nobody caused it".to_owned());
    }
    let named = |id: &str| session.connections.iter().find(|c| **c.name == *id);
    let id = event.nc_id.as_ref().map(|id| id.as_str());
    let connection = id.and_then(named);
    let near = |connection: &Wired<'_>, wanted: fn(Change<'_>) -> bool| {
        connection.has(at - LATE, at + LATE, wanted)
    };
    let unknown = || format!("there is no connection {}", id.unwrap_or("without a name"));
    match event.kind {
        EventType::Swap => {
            let swap = event.swapped()?;
            let [old, new] = [&swap.old, &swap.new].map(|id| id.as_ref().map(|id| id.as_str()));
            let missing = [old, new]
                .into_iter()
                .flatten()
                .find(|id| named(id).is_none());
            match (missing, old == new) {
                (Some(id), _) => Some(format!("there is no connection {id}")),
                (None, true) => Some("nothing took the place of anything".to_owned()),
                (None, false) => None,
            }
        }
        EventType::Connect | EventType::Reconnect => match connection {
            None => Some(unknown()),
            Some(of) if of.has(at - IN_USE, at + LATE, |c| matches!(c, Change::Up(_))) => None,
            Some(_) => Some("it had no new link".to_owned()),
        },
        EventType::Disconnect => match connection {
            None => Some(unknown()),
            Some(of)
                if near(of, |change| {
                    change == Change::Down || change == Change::Closed
                }) =>
            {
                None
            }
            Some(_) => Some("it had not lost its link".to_owned()),
        },
        EventType::Closed => match connection {
            None => Some(unknown()),
            Some(of) if of.has(Instant::ZERO, at + LATE, |c| c == Change::Closed) => None,
            Some(of) if of.at(at) == Some(Change::Down) => None,
            Some(_) => Some("it was not over".to_owned()),
        },
        EventType::ForceClose => {
            let of = connection?;
            let was_up = matches!(of.at(at), Some(Change::Up(_)));
            let before = (at - session.recovery, at);
            let is_calm = session.calm(before, &HARMLESS) == [before];
            (was_up && is_calm && session.started + session.recovery < at)
                .then(|| "nothing was wrong with it".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use squall_core::diagnostics::Caller;

    use super::*;
    use crate::fault::FaultKind;
    use crate::invariants::tale::Tale;

    fn up() -> Tale {
        let mut tale = Tale::of("alice/1");
        tale.issued("alice/1", "a-1")
            .dialled("alice/1", "c1", "a-1");
        tale.logged("alice/1", EventType::Connect, Caller::LOGIN, "c1");
        tale
    }

    #[test]
    fn a_healthy_connection_that_is_given_up_is_told() {
        let mut tale = up();
        tale.fault("server", FaultKind::JetstreamMute, 90, 120);
        assert_eq!(tale.told_by("C6"), [""; 0]);
        tale.at(100)
            .logged("alice/1", EventType::ForceClose, Caller::PROBE, "c1");
        let told = tale.told_by("C6");
        assert!(
            told.len() == 1 && told[0].ends_with("but nothing was wrong with it"),
            "{told:?}"
        );
    }

    #[test]
    fn a_dead_one_may_be() {
        let mut tale = up();
        tale.fault(
            "alice",
            FaultKind::Blackhole(crate::fault::Directions::Both),
            90,
            120,
        );
        tale.at(100)
            .logged("alice/1", EventType::ForceClose, Caller::PROBE, "c1");
        assert_eq!(tale.told_by("C6"), [""; 0]);
    }

    #[test]
    fn what_did_not_happen_is_told() {
        let mut tale = up();
        tale.at(50)
            .logged("alice/1", EventType::Disconnect, Caller::CLIENT, "c1");
        assert_eq!(tale.told_by("C6").len(), 1);
        let mut true_one = up();
        true_one.at(50).down("alice/1", "c1");
        true_one.logged("alice/1", EventType::Disconnect, Caller::CLIENT, "c1");
        assert_eq!(true_one.told_by("C6"), [""; 0]);
        let mut unknown = up();
        unknown.logged("alice/1", EventType::Connect, Caller::LOGIN, "c9");
        assert_eq!(unknown.told_by("C6").len(), 1);
    }
}
