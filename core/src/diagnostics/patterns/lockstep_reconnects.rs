//! Many clients come back in the same second, because their delays have no jitter.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Detector, Evidence, Finding, crowds, rounded};
use crate::diagnostics::event::{Caller, EventType, NatsEvent};
use crate::time::UnixTime;

pub(super) const DETECTOR: Detector = Detector {
    name: "lockstep-reconnects",
    trigger: "10 or more connections come back within 1 s (`reconnect`, or a `connect` or \
        `swap` by `recovery`), and they are more than 20 % of all that come back within 30 s \
        of it.",
    find,
};

const CONNECTIONS_MIN: usize = 10;
const WITHIN: Duration = Duration::from_secs(1);
const AROUND: Duration = Duration::from_secs(30);

fn find(evidence: &Evidence<'_>) -> Vec<Finding> {
    let logs = std::iter::once(evidence.events).chain(evidence.peers.iter().map(Vec::as_slice));
    // Ids are those of one client: in another's log the same id is another connection.
    let mut back: Vec<(UnixTime, (usize, _))> = logs
        .enumerate()
        .flat_map(|(client, log)| log.iter().map(move |event| (client, event)))
        .filter(|(_, event)| comes_back(event))
        .map(|(client, event)| (event.at, (client, &event.nc_id)))
        .collect();
    back.sort();
    let times: Vec<UnixTime> = back.iter().map(|(at, _)| *at).collect();
    let mut findings = Vec::new();
    for crowd in crowds(&times, CONNECTIONS_MIN, WITHIN) {
        let (first, last) = (times[*crowd.start()], times[*crowd.end()]);
        let connections: BTreeSet<_> = back[crowd.clone()].iter().map(|(_, who)| who).collect();
        // A crowd that lasts is no lockstep: what counts is its fullest second.
        let fullest = crowd
            .clone()
            .map(|start| times[start..].partition_point(|at| at.since(times[start]) <= WITHIN))
            .max()
            .unwrap_or_default();
        let from = times.partition_point(|at| *at < first - AROUND);
        let all = times[from..].partition_point(|at| *at <= last + AROUND);
        if connections.len() >= CONNECTIONS_MIN && fullest * 5 > all {
            let seen = format!(
                "{} connections came back within {:?}: their delays have no jitter",
                connections.len(),
                rounded(last.since(first)),
            );
            findings.push(Finding(first, seen));
        }
    }
    findings
}

fn comes_back(event: &NatsEvent) -> bool {
    match event.kind {
        EventType::Reconnect => true,
        EventType::Connect | EventType::Swap => event.caller == Some(Caller::RECOVERY),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{at, event, hits, said};
    use super::*;

    /// One client each, which comes back at this time.
    fn clients(times: impl IntoIterator<Item = f64>) -> Vec<Vec<NatsEvent>> {
        let log = |seconds| vec![event(EventType::Reconnect, seconds, "c1")];
        times.into_iter().map(log).collect()
    }

    fn found(peers: &[Vec<NatsEvent>]) -> Vec<(UnixTime, String)> {
        let evidence = Evidence {
            peers,
            ..Evidence::default()
        };
        said(DETECTOR, &evidence)
    }

    #[test]
    fn clients_that_come_back_together_are_found_each_time() {
        let waves = [5.1, 9.1, 13.1]
            .iter()
            .flat_map(|wave| (0..20).map(move |_| *wave));
        let found = found(&clients(waves));
        assert_eq!(found.len(), 3);
        let seen = "20 connections came back within 0ns: their delays have no jitter";
        assert_eq!(found[0], (at(5.1), seen.to_owned()));
    }

    #[test]
    fn one_log_of_many_connections_shows_it_too() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let log: Vec<NatsEvent> = names
            .map(|id| event(EventType::Reconnect, 0.0, id))
            .to_vec();
        assert_eq!(hits(DETECTOR, &log), 1);
        assert_eq!(hits(DETECTOR, &log[1..]), 0, "nine are none");
    }

    #[test]
    fn a_recovery_that_makes_a_new_connection_comes_back_as_well() {
        let recovered = |kind| {
            let event = NatsEvent {
                caller: Some(Caller::RECOVERY),
                ..event(kind, 1.0, "c1")
            };
            vec![event]
        };
        let mut peers = vec![recovered(EventType::Connect); 5];
        peers.extend(vec![recovered(EventType::Swap); 5]);
        assert_eq!(found(&peers).len(), 1);
        let logins = vec![vec![event(EventType::Connect, 1.0, "c1")]; 20];
        assert!(
            found(&logins).is_empty(),
            "a first connect is no coming back"
        );
    }

    #[test]
    fn clients_that_spread_are_none() {
        let over = |seconds: f64| found(&clients((0..50).map(|n| f64::from(n) * seconds / 50.0)));
        assert!(over(10.0).is_empty(), "a tenth in each second");
        assert_eq!(over(2.0).len(), 1);
        let flapping: Vec<NatsEvent> = (0..50)
            .map(|n| event(EventType::Reconnect, f64::from(n) / 50.0, "c1"))
            .collect();
        assert!(
            found(&[flapping]).is_empty(),
            "one connection, however often"
        );
    }
}
