//! How often a connection was lost that nobody meant to give up.

use std::time::Duration;

use super::event::{EventType, NatsEvent};
use crate::time::UnixTime;

/// A disconnect this soon after the swap that gave its connection up belongs to the swap.
pub const PLANNED_WITHIN: Duration = Duration::from_secs(5);

/// Connections lost in the hour before `now` that no swap had given up.
///
/// Without the exception a healthy hour of five-minute credentials would show fourteen drops.
pub fn drops_last_hour(events: &[NatsEvent], now: UnixTime) -> usize {
    let hour_ago = now - Duration::from_secs(3600);
    let drops = events
        .iter()
        .filter(|event| event.kind == EventType::Disconnect && event.at >= hour_ago);
    drops.filter(|drop| !is_planned(drop, events)).count()
}

fn is_planned(drop: &NatsEvent, events: &[NatsEvent]) -> bool {
    drop.nc_id.is_some()
        && events.iter().any(|event| {
            event.at <= drop.at
                && drop.at.since(event.at) <= PLANNED_WITHIN
                && event.swapped().is_some_and(|swap| swap.old == drop.nc_id)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::Caller;

    const START: i64 = 1_780_000_000;

    fn at(seconds: f64) -> UnixTime {
        UnixTime::from_nanos(START * 1_000_000_000 + (seconds * 1e9) as i64)
    }

    fn disconnect(seconds: f64, nc_id: &str) -> NatsEvent {
        NatsEvent::new(EventType::Disconnect, at(seconds), Caller::CLIENT).of(nc_id)
    }

    fn swap(seconds: f64, old: &str, new: &str) -> NatsEvent {
        NatsEvent::swap(at(seconds), Caller::REFRESH, old.into(), new.into())
    }

    fn drops(events: &[NatsEvent]) -> usize {
        drops_last_hour(events, at(3600.0))
    }

    #[test]
    fn a_disconnect_is_planned_up_to_five_seconds_after_the_swap_that_gave_it_up() {
        assert_eq!(drops(&[swap(10.0, "a", "b"), disconnect(10.1, "a")]), 0);
        assert_eq!(drops(&[swap(10.0, "a", "b"), disconnect(15.0, "a")]), 0);
        assert_eq!(drops(&[swap(10.0, "a", "b"), disconnect(15.1, "a")]), 1);
        assert_eq!(drops(&[disconnect(9.9, "a"), swap(10.0, "a", "b")]), 1);
    }

    #[test]
    fn only_the_connection_that_was_given_up_is_excused() {
        assert_eq!(drops(&[swap(10.0, "a", "b"), disconnect(10.1, "b")]), 1);
        assert_eq!(drops(&[swap(10.0, "ab", "b"), disconnect(10.1, "a")]), 1);
        assert_eq!(drops(&[swap(10.0, "", "b"), disconnect(10.1, "")]), 1);
        let unnamed = NatsEvent {
            nc_id: None,
            ..disconnect(10.1, "a")
        };
        assert_eq!(drops(&[swap(10.0, "a", "b"), unnamed]), 1);
    }

    #[test]
    fn an_hour_is_an_hour() {
        assert_eq!(drops(&[disconnect(-0.1, "a"), disconnect(0.0, "a")]), 1);
    }
}
