//! Each reconnect makes a new consumer and leaves the old one on the server.
//!
//! The log shows the reconnects. How many consumers there are only the server knows, so it takes readings beside it.

use std::collections::BTreeMap;

use super::{Detector, Evidence, Finding};
use crate::diagnostics::event::{EventType, NatsEvent};
use crate::time::UnixTime;

pub(super) const DETECTOR: Detector = Detector {
    name: "consumer-pile-up",
    trigger: "More than twice as many consumers on a stream as its client has watches, \
        and their surplus grown by 3 or more since an earlier reading, over 3 or more of \
        `connect`, `reconnect` and `swap`.",
    find,
};

/// While a watch moves to a new connection there are two of it, and a consumer that is left ends only when it has been
/// idle for a while: so much is no pile.
const CONSUMERS_PER_WATCH: u64 = 2;
const GROWTH_MIN: i64 = 3;
const CONNECTS_MIN: usize = 3;

/// How many consumers a client had on a stream at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerReading {
    /// When.
    pub at: UnixTime,
    /// The stream.
    pub stream: String,
    /// Consumers of this client that the server has.
    pub consumers: u32,
    /// Watches and readers of this client that need one.
    pub watches: u32,
}

impl ConsumerReading {
    fn surplus(&self) -> i64 {
        i64::from(self.consumers) - i64::from(self.watches)
    }
}

fn find(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut readings: Vec<&ConsumerReading> = evidence.consumers.iter().collect();
    readings.sort_by_key(|reading| reading.at);
    // Of each stream the reading with the least surplus, and whether its pile has been told.
    let mut least: BTreeMap<&str, (&ConsumerReading, bool)> = BTreeMap::new();
    let mut findings = Vec::new();
    for reading in readings {
        let (base, found) = least.entry(&reading.stream).or_insert((reading, false));
        if reading.surplus() <= base.surplus() {
            (*base, *found) = (reading, false);
            continue;
        }
        let connects = connects_between(evidence.events, base.at, reading.at);
        let is_pile = u64::from(reading.consumers)
            > CONSUMERS_PER_WATCH * u64::from(reading.watches)
            && reading.surplus() - base.surplus() >= GROWTH_MIN
            && connects >= CONNECTS_MIN;
        if is_pile && !*found {
            *found = true;
            let seen = format!(
                "{} consumers on {} where {} would do, after {connects} connects: they are \
                    made anew and the old ones stay",
                reading.consumers, reading.stream, reading.watches,
            );
            findings.push(Finding(base.at, seen));
        }
    }
    findings
}

fn connects_between(events: &[NatsEvent], from: UnixTime, to: UnixTime) -> usize {
    let kinds = [EventType::Connect, EventType::Reconnect, EventType::Swap];
    let is_connect = |event: &&NatsEvent| kinds.contains(&event.kind);
    let connects = events.iter().filter(is_connect);
    connects
        .filter(|event| event.at > from && event.at <= to)
        .count()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{at, event, said};
    use super::*;

    fn found(reconnects: &[f64], readings: &[(f64, u32, u32)]) -> Vec<(UnixTime, String)> {
        let reconnect = |seconds: &f64| event(EventType::Reconnect, *seconds, "a");
        let events: Vec<NatsEvent> = reconnects.iter().map(reconnect).collect();
        let reading = |(seconds, consumers, watches): &(f64, u32, u32)| ConsumerReading {
            at: at(*seconds),
            stream: "KV_presence".to_owned(),
            consumers: *consumers,
            watches: *watches,
        };
        let consumers: Vec<ConsumerReading> = readings.iter().map(reading).collect();
        let evidence = Evidence {
            events: &events,
            consumers: &consumers,
            ..Evidence::default()
        };
        said(DETECTOR, &evidence)
    }

    #[test]
    fn consumers_that_grow_with_each_reconnect_are_found_once() {
        let reconnects = [10.0, 20.0, 30.0, 40.0];
        let readings = [
            (0.0, 1, 1),
            (15.0, 2, 1),
            (25.0, 3, 1),
            (35.0, 4, 1),
            (45.0, 5, 1),
        ];
        let seen = "4 consumers on KV_presence where 1 would do, after 3 connects: they are \
            made anew and the old ones stay";
        assert_eq!(found(&reconnects, &readings), [(at(0.0), seen.to_owned())]);
    }

    #[test]
    fn new_watches_and_consumers_on_their_way_out_are_none() {
        let reconnects = [10.0, 20.0, 30.0];
        assert!(
            found(&reconnects, &[(0.0, 1, 1), (40.0, 9, 9)]).is_empty(),
            "more watches"
        );
        assert!(
            found(&reconnects, &[(0.0, 4, 4), (40.0, 8, 4)]).is_empty(),
            "two of each"
        );
        assert!(
            found(&reconnects[1..], &[(0.0, 1, 1), (40.0, 9, 1)]).is_empty(),
            "two connects"
        );
        assert!(
            found(&reconnects, &[(0.0, 9, 1), (40.0, 9, 1)]).is_empty(),
            "no growth"
        );
        assert!(
            found(&[10.0, 20.0, 50.0], &[(0.0, 1, 1), (40.0, 9, 1)]).is_empty(),
            "too early"
        );
        let other = found(&reconnects, &[(35.0, 1, 1), (40.0, 9, 1)]);
        assert!(other.is_empty(), "another reason than reconnects");
    }
}
