//! A link that swallows bytes while its client believes itself connected.

use std::collections::BTreeSet;

use super::{Detector, Evidence, Finding};
use crate::diagnostics::event::EventType;

pub(super) const DETECTOR: Detector = Detector {
    name: "half-open-link",
    trigger: "A `force_close` of a connection that the log has as connected, whose \
        `reason` tells of a time-out, or a `disconnect` whose `reason` contains \"stale \
        connection\"; unless a `wake` within 60 s says that the machine had slept.",
    find,
};

fn find(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut connected = BTreeSet::new();
    let mut findings = Vec::new();
    for event in evidence.events {
        let name = event.nc_id.as_ref().map_or("?", |id| id.as_str());
        let reason = event.reason.as_deref().unwrap_or_default();
        let seen = match event.kind {
            EventType::ForceClose
                if connected.contains(&event.nc_id) && tells(reason, &SILENCE) =>
            {
                Some(format!(
                    "connection {name} was taken for connected until a probe found it dead ({reason})"
                ))
            }
            EventType::Disconnect if tells(reason, &["stale connection"]) => Some(format!(
                "connection {name} was taken for connected until its pings stayed unanswered"
            )),
            _ => None,
        };
        match event.kind {
            EventType::Connect | EventType::Reconnect => {
                connected.insert(event.nc_id.clone());
            }
            EventType::Swap => {
                if let Some(swap) = event.swapped() {
                    connected.remove(&swap.old);
                    connected.insert(swap.new);
                }
            }
            EventType::Disconnect | EventType::Closed | EventType::ForceClose => {
                connected.remove(&event.nc_id);
            }
            // Ids are those of one life of the program.
            EventType::DaemonStart => connected.clear(),
            _ => {}
        }
        if let Some(seen) = seen
            && !evidence.woke_about(event.at)
        {
            findings.push(Finding(event.at, seen));
        }
    }
    findings
}

/// How clients say that nobody answered, as against a refusal or a reset.
const SILENCE: [&str; 5] = [
    "timed out",
    "timeout",
    "time-out",
    "deadline exceeded",
    "in time",
];

fn tells(reason: &str, words: &[&str]) -> bool {
    let reason = reason.to_ascii_lowercase();
    words.iter().any(|words| reason.contains(words))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{at, event, hits, said, swap};
    use super::*;
    use crate::diagnostics::{Caller, NatsEvent};

    fn force_close(seconds: f64) -> NatsEvent {
        let why = "put: timed out; probe: timed out";
        event(EventType::ForceClose, seconds, "a").because(why)
    }

    #[test]
    fn a_probe_that_finds_a_connected_one_dead_is_found() {
        let log = [event(EventType::Connect, 0.0, "a"), force_close(60.0)];
        let seen = "connection a was taken for connected until a probe found it dead \
            (put: timed out; probe: timed out)";
        assert_eq!(
            said(DETECTOR, &Evidence::of_log(&log)),
            [(at(60.0), seen.to_owned())]
        );
        let swapped = swap(0.0, Caller::REFRESH, "b", "a");
        assert_eq!(
            hits(DETECTOR, &[swapped, force_close(60.0)]),
            1,
            "by a swap"
        );
        let back = [
            event(EventType::Disconnect, 1.0, "a"),
            event(EventType::Reconnect, 2.0, "a"),
            event(EventType::ForceClose, 60.0, "a").because("put: no acknowledgement in time"),
        ];
        assert_eq!(hits(DETECTOR, &back), 1, "it had come back");
    }

    #[test]
    fn pings_that_stay_unanswered_are_found() {
        let stale = event(EventType::Disconnect, 9.0, "a").because("nats: Stale Connection");
        assert_eq!(hits(DETECTOR, std::slice::from_ref(&stale)), 1);
        let wake = NatsEvent::new(EventType::Wake, at(30.0), Caller::WAKE);
        assert_eq!(hits(DETECTOR, &[stale, wake]), 0, "the machine had slept");
    }

    #[test]
    fn a_loss_that_the_client_noticed_is_none() {
        let connect = event(EventType::Connect, 0.0, "a");
        let lost = event(EventType::Disconnect, 50.0, "a").because("EOF");
        assert_eq!(
            hits(DETECTOR, &[connect.clone(), lost, force_close(60.0)]),
            0
        );
        let closed = event(EventType::Closed, 50.0, "a");
        assert_eq!(
            hits(DETECTOR, &[connect.clone(), closed, force_close(60.0)]),
            0
        );
        let swapped = swap(50.0, Caller::REFRESH, "a", "b");
        assert_eq!(
            hits(DETECTOR, &[swapped, force_close(60.0)]),
            0,
            "given up before"
        );
        let kept = event(EventType::Warn, 60.0, "a").because("put: timed out; probe ok");
        assert_eq!(
            hits(DETECTOR, &[connect, kept]),
            0,
            "the probe was answered"
        );
    }
}
