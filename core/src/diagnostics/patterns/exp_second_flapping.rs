//! In the second in which a credential ends a server accepts it and ends the connection at once.
//!
//! A client that retries without delay then connects again and again until the second is over: 14 to 390 times were
//! counted on real servers. What is sent meanwhile is lost, and a watch may come back only seconds later.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Detector, Evidence, Finding, apart, crowds, rounded};
use crate::diagnostics::event::EventType;
use crate::time::UnixTime;

pub(super) const DETECTOR: Detector = Detector {
    name: "exp-second-flapping",
    trigger: "3 or more `disconnect` events of one connection within 1 s, with one and \
        the same `jwt_exp`, which lies within 60 s of them.",
    find,
};

const DISCONNECTS_MIN: usize = 3;
const WITHIN: Duration = Duration::from_secs(1);
/// How far the clock that wrote the log may be from the server's.
const SKEW_MAX: Duration = Duration::from_secs(60);

fn find(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut kicks: BTreeMap<_, Vec<UnixTime>> = BTreeMap::new();
    for event in evidence.of_kind(EventType::Disconnect) {
        if let (Some(nc_id), Some(jwt_exp)) = (&event.nc_id, event.jwt_exp)
            && apart(event.at, jwt_exp) <= SKEW_MAX
        {
            kicks.entry((nc_id, jwt_exp)).or_default().push(event.at);
        }
    }
    let mut findings = Vec::new();
    for ((nc_id, _), mut times) in kicks {
        times.sort();
        for crowd in crowds(&times, DISCONNECTS_MIN, WITHIN) {
            let (first, last) = (times[*crowd.start()], times[*crowd.end()]);
            let (count, lasted) = (crowd.count(), rounded(last.since(first)));
            let seen = format!(
                "connection {nc_id} was accepted and ended {count} times in {lasted:?}, at its credential's end"
            );
            findings.push(Finding(first, seen));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{at, event, hits, said};
    use super::*;
    use crate::diagnostics::NatsEvent;

    fn flaps(times: &[f64], nc_id: &str, jwt_exp: f64) -> Vec<NatsEvent> {
        let flap = |seconds: &f64| {
            let kick = event(EventType::Disconnect, *seconds, nc_id).jwt_exp(at(jwt_exp));
            [kick, event(EventType::Reconnect, seconds + 0.001, nc_id)]
        };
        times.iter().flat_map(flap).collect()
    }

    #[test]
    fn three_ends_in_a_second_are_flapping() {
        let log = flaps(&[0.45, 0.46, 0.5, 0.9], "a", 0.0);
        let seen = "connection a was accepted and ended 4 times in 450ms, at its credential's end";
        assert_eq!(
            said(DETECTOR, &Evidence::of_log(&log)),
            [(at(0.45), seen.to_owned())]
        );
        assert_eq!(
            hits(DETECTOR, &flaps(&[9.0, 9.1, 9.2], "a", 0.0)),
            1,
            "a skewed clock"
        );
    }

    #[test]
    fn a_kick_a_retry_and_other_restarts_are_none() {
        assert_eq!(
            hits(DETECTOR, &flaps(&[0.45, 0.46], "a", 0.0)),
            0,
            "one retry too early"
        );
        assert_eq!(hits(DETECTOR, &flaps(&[0.0, 0.6, 1.2], "a", 0.0)), 0);
        assert_eq!(
            hits(DETECTOR, &flaps(&[0.1, 0.2, 0.3], "a", 200.0)),
            0,
            "servers restart"
        );
        let each_once: Vec<NatsEvent> = ["a", "b", "c"]
            .iter()
            .flat_map(|nc_id| flaps(&[0.1], nc_id, 0.0))
            .collect();
        assert_eq!(
            hits(DETECTOR, &each_once),
            0,
            "three connections, one kick each"
        );
    }
}
