//! Several callers replace the connection at once, and each closes the one that another has just made.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Detector, Evidence, Finding, crowds, rounded};
use crate::diagnostics::event::{EventType, NatsEvent};
use crate::time::UnixTime;

pub(super) const DETECTOR: Detector = Detector {
    name: "burst-swap-storm",
    trigger: "3 or more `swap` events within 2 s, whoever caused them; other events \
        between them do not split the burst, and bursts that share a swap are one.",
    find,
};

const SWAPS_MIN: usize = 3;
const WITHIN: Duration = Duration::from_secs(2);

fn find(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut swaps: Vec<&NatsEvent> = evidence.of_kind(EventType::Swap).collect();
    swaps.sort_by_key(|swap| swap.at);
    let times: Vec<UnixTime> = swaps.iter().map(|swap| swap.at).collect();
    let crowds = crowds(&times, SWAPS_MIN, WITHIN).into_iter();
    let finding = |crowd: RangeInclusive<usize>| {
        let storm = &swaps[crowd];
        let (first, last) = (storm[0].at, storm[storm.len() - 1].at);
        let mut callers: Vec<&str> = Vec::new();
        for swap in storm {
            let caller = swap.caller.as_ref().map_or("?", |caller| caller.as_str());
            if !callers.contains(&caller) {
                callers.push(caller);
            }
        }
        let (count, lasted) = (storm.len(), rounded(last.since(first)));
        let callers = callers.join(", ");
        let seen = format!("{count} swaps in {lasted:?}: nobody coalesces (callers: {callers})");
        Finding(first, seen)
    };
    crowds.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{at, event, hits, said, swap};
    use super::*;
    use crate::diagnostics::Caller;

    fn swaps(times: &[f64]) -> Vec<NatsEvent> {
        let swap = |seconds: &f64| swap(*seconds, Caller::OPERATION, "a", "b");
        times.iter().map(swap).collect()
    }

    #[test]
    fn three_swaps_within_two_seconds_are_a_storm() {
        let log = [
            swap(0.0, Caller::REFRESH, "a", "b"),
            swap(0.1, Caller::OPERATION, "b", "c"),
            swap(0.2, Caller::OPERATION, "c", "d"),
            NatsEvent {
                caller: None,
                ..swap(0.5, Caller::OPERATION, "d", "e")
            },
        ];
        assert_eq!(
            said(DETECTOR, &Evidence::of_log(&log)),
            [(
                at(0.0),
                "4 swaps in 500ms: nobody coalesces (callers: refresh, operation, ?)".to_owned()
            )]
        );
        assert_eq!(
            hits(DETECTOR, &swaps(&[0.0, 1.0, 2.0])),
            1,
            "two seconds are within"
        );
    }

    #[test]
    fn what_lies_between_does_not_split_it() {
        let mut log = swaps(&[0.0, 0.1, 0.2]);
        log.insert(1, event(EventType::Disconnect, 0.05, "a"));
        log.insert(3, event(EventType::Closed, 0.15, "b"));
        assert_eq!(hits(DETECTOR, &log), 1);
    }

    #[test]
    fn one_storm_is_one_hit_and_two_are_two() {
        assert_eq!(hits(DETECTOR, &swaps(&[0.0, 0.1, 0.2, 0.3, 0.4, 0.5])), 1);
        assert_eq!(hits(DETECTOR, &swaps(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])), 1);
        assert_eq!(
            hits(DETECTOR, &swaps(&[0.0, 0.1, 0.2, 60.0, 60.1, 60.2])),
            2
        );
        assert_eq!(
            hits(DETECTOR, &swaps(&[0.2, 0.0, 0.1])),
            1,
            "by time, not by line"
        );
    }

    #[test]
    fn rotations_and_reconnects_are_no_storm() {
        assert_eq!(hits(DETECTOR, &swaps(&[0.0, 5.0, 10.0])), 0);
        assert_eq!(hits(DETECTOR, &swaps(&[0.0, 0.05])), 0);
        assert_eq!(hits(DETECTOR, &swaps(&[0.0, 1.0, 2.1])), 0);
        let flapping: Vec<NatsEvent> = (0..50)
            .map(|n| event(EventType::Reconnect, f64::from(n) / 50.0, "a"))
            .collect();
        assert_eq!(hits(DETECTOR, &flapping), 0, "a reconnect is no swap");
    }
}
