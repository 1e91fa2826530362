//! The server ended a connection at its credential's end, and the client came back with that same credential.

use std::time::Duration;

use super::{Detector, Evidence, Finding, apart, may_be_same, rounded};
use crate::diagnostics::event::{EventType, NatsEvent};

pub(super) const DETECTOR: Detector = Detector {
    name: "post-rotation-auth-violation",
    trigger: "A `closed` whose `reason` contains \"Authorization Violation\", after a \
        `disconnect` of the same connection whose `jwt_exp` lies within 60 s of that \
        disconnect.",
    find,
};

const WITHIN: Duration = Duration::from_secs(60);

fn find(evidence: &Evidence<'_>) -> Vec<Finding> {
    let is_refusal = |event: &NatsEvent| {
        let reason = event.reason.as_deref().unwrap_or_default();
        event.kind == EventType::Closed
            && reason
                .to_ascii_lowercase()
                .contains("authorization violation")
    };
    let events = evidence.events;
    let refusals = (0..events.len()).filter(|index| is_refusal(&events[*index]));
    let finding = |index: usize| {
        let closed = &events[index];
        // A connection that was swapped away also ends close to its credential's end: only its own end counts.
        let kick = events[..index].iter().rev().find(|event| {
            event.kind == EventType::Disconnect
                && may_be_same(event.nc_id.as_ref(), closed.nc_id.as_ref())
        })?;
        let jwt_exp = kick.jwt_exp?;
        let delta = apart(kick.at, jwt_exp);
        let side = if kick.at < jwt_exp { "before" } else { "after" };
        let seen = format!(
            "disconnected {:?} {side} its credential's end, and refused {:?} later: no \
                new credential was there in time",
            rounded(delta),
            rounded(closed.at.since(kick.at)),
        );
        (delta <= WITHIN).then_some(Finding(kick.at, seen))
    };
    refusals.filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{at, event, hits, said};
    use super::*;

    const REFUSED: &str = "nats: Authorization Violation";

    fn kick(seconds: f64, nc_id: &str, jwt_exp: f64) -> NatsEvent {
        event(EventType::Disconnect, seconds, nc_id).jwt_exp(at(jwt_exp))
    }

    fn closed(seconds: f64, nc_id: &str, reason: &str) -> NatsEvent {
        event(EventType::Closed, seconds, nc_id).because(reason)
    }

    #[test]
    fn a_refusal_after_the_end_of_the_credential_is_found() {
        let log = [kick(0.45, "a", 0.0), closed(5.0, "a", REFUSED)];
        let seen = "disconnected 450ms after its credential's end, and refused 4.55s \
            later: no new credential was there in time";
        assert_eq!(
            said(DETECTOR, &Evidence::of_log(&log)),
            [(at(0.45), seen.to_owned())]
        );
        let lower = closed(5.0, "a", "nats: authorization violation");
        assert_eq!(hits(DETECTOR, &[kick(0.45, "a", 0.0), lower]), 1);
    }

    #[test]
    fn a_minute_either_way_is_close_and_more_is_not() {
        let found = |jwt_exp| {
            hits(
                DETECTOR,
                &[kick(100.0, "a", jwt_exp), closed(104.0, "a", REFUSED)],
            )
        };
        assert_eq!(found(40.0), 1);
        assert_eq!(found(39.0), 0);
        assert_eq!(found(160.0), 1);
        assert_eq!(found(161.0), 0);
        assert_eq!(found(400.0), 0, "revoked in the middle of its life");
    }

    #[test]
    fn another_cause_or_another_connection_is_none() {
        let benign = kick(-30.0, "a", 0.0);
        let revoked = kick(10.0, "b", 270.0);
        let log = [benign.clone(), revoked, closed(11.0, "b", REFUSED)];
        assert_eq!(
            hits(DETECTOR, &log),
            0,
            "the old connection's end excuses nothing"
        );
        assert_eq!(hits(DETECTOR, &[benign, closed(11.0, "b", REFUSED)]), 0);
        assert_eq!(hits(DETECTOR, &[closed(5.0, "a", REFUSED)]), 0);
        assert_eq!(
            hits(DETECTOR, &[closed(1.0, "a", REFUSED), kick(2.0, "a", 0.0)]),
            0
        );
        assert_eq!(
            hits(DETECTOR, &[kick(0.5, "a", 0.0), closed(1.0, "a", "EOF")]),
            0
        );
        let silent = event(EventType::Closed, 1.0, "a");
        assert_eq!(hits(DETECTOR, &[kick(0.5, "a", 0.0), silent]), 0);
        let unknown = event(EventType::Disconnect, 0.5, "a");
        assert_eq!(hits(DETECTOR, &[unknown, closed(1.0, "a", REFUSED)]), 0);
    }

    #[test]
    fn events_without_an_id_can_be_of_the_same_connection() {
        let mut log = [kick(0.45, "a", 0.0), closed(5.0, "a", REFUSED)];
        log[1].nc_id = None;
        assert_eq!(hits(DETECTOR, &log), 1);
        log[0].nc_id = None;
        assert_eq!(hits(DETECTOR, &log), 1);
    }
}
