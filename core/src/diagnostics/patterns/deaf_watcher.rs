//! A watch that hears nothing, tells nobody, and whose connection is fine.
//!
//! No log of connection events can show it: nothing happens to the connection. It takes readings of how far a watch has
//! come beside what its stream holds.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Detector, Evidence, Finding, rounded};
use crate::time::UnixTime;

pub(super) const DETECTOR: Detector = Detector {
    name: "deaf-watcher",
    trigger: "Readings of one watch over 30 s or more that all have the same last \
        sequence told, below what the stream held for it at the first of them, and no \
        interruption told.",
    find,
};

/// Three times as long as a real client was seen to need at most, after a reconnect, until its watch came back.
const DEAF_AFTER: Duration = Duration::from_secs(30);

/// How far a watch had come at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchReading {
    /// When.
    pub at: UnixTime,
    /// Which watch: its bucket or stream and its filter.
    pub watch: String,
    /// The last sequence that its reader was told of.
    pub told: u64,
    /// The last sequence in the stream that it should tell of.
    pub last: u64,
    /// Whether its reader has been told that it may miss something.
    pub interrupted: bool,
}

fn find(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut readings: Vec<&WatchReading> = evidence.watches.iter().collect();
    readings.sort_by_key(|reading| reading.at);
    let mut stuck: BTreeMap<&str, (&WatchReading, bool)> = BTreeMap::new();
    let mut findings = Vec::new();
    for reading in readings {
        if reading.interrupted || reading.told >= reading.last {
            stuck.remove(&*reading.watch);
            continue;
        }
        let (first, found) = stuck.entry(&reading.watch).or_insert((reading, false));
        if first.told != reading.told {
            (*first, *found) = (reading, false);
        }
        let lasted = reading.at.since(first.at);
        if lasted >= DEAF_AFTER && !*found {
            *found = true;
            let seen = format!(
                "the watch on {} has told up to {} for {:?}, and its stream held {} all the while",
                reading.watch,
                reading.told,
                rounded(lasted),
                first.last,
            );
            findings.push(Finding(first.at, seen));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{at, said};
    use super::*;

    fn reading(seconds: f64, told: u64, last: u64) -> WatchReading {
        WatchReading {
            at: at(seconds),
            watch: "KV_presence >".to_owned(),
            told,
            last,
            interrupted: false,
        }
    }

    fn found(watches: &[WatchReading]) -> Vec<(UnixTime, String)> {
        let evidence = Evidence {
            watches,
            ..Evidence::default()
        };
        said(DETECTOR, &evidence)
    }

    #[test]
    fn a_watch_that_stays_behind_is_found_once() {
        let readings = [
            reading(0.0, 7, 7),
            reading(10.0, 7, 9),
            reading(40.0, 7, 12),
            reading(70.0, 7, 15),
        ];
        let seen = "the watch on KV_presence > has told up to 7 for 30s, and its stream \
            held 9 all the while";
        assert_eq!(found(&readings), [(at(10.0), seen.to_owned())]);
    }

    #[test]
    fn a_watch_that_is_slow_new_or_honest_is_none() {
        let slow = [
            reading(0.0, 7, 9),
            reading(29.9, 7, 12),
            reading(35.0, 8, 12),
        ];
        assert!(found(&slow).is_empty(), "it moves");
        let late = [reading(0.0, 7, 7), reading(29.0, 7, 9), reading(58.0, 7, 9)];
        assert!(found(&late).is_empty(), "behind for 29 s");
        let idle = [reading(0.0, 7, 7), reading(600.0, 7, 7)];
        assert!(found(&idle).is_empty(), "nothing to tell");
        let mut honest = [
            reading(0.0, 7, 9),
            reading(40.0, 7, 12),
            reading(45.0, 7, 12),
        ];
        honest[1].interrupted = true;
        assert!(found(&honest).is_empty(), "its reader knows");
        let mut two = [reading(0.0, 7, 9), reading(40.0, 7, 9)];
        two[1].watch = "KV_state >".to_owned();
        assert!(found(&two).is_empty(), "two watches");
    }
}
