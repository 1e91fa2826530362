//! The last events, in memory: [`Ring`].

use std::collections::VecDeque;
use std::time::Duration;

use super::event::{EventType, NatsEvent};

/// How many events are kept: some bursts of a rotation with what surrounds them.
pub const RING_CAPACITY: usize = 256;

/// For so long a refresh error with an unchanged reason is told once.
pub const REFRESH_ERROR_EVERY: Duration = Duration::from_secs(60);

/// The last [`RING_CAPACITY`] events; the oldest makes room.
#[derive(Clone, Debug, Default)]
pub struct Ring(VecDeque<NatsEvent>);

impl Ring {
    /// A ring that holds the last of these.
    pub fn of(events: Vec<NatsEvent>) -> Self {
        let mut events = VecDeque::from(events);
        events.drain(..events.len().saturating_sub(RING_CAPACITY));
        Self(events)
    }

    /// Takes an event in. False, and it is left out, where it is a refresh error that was told already: within the last
    /// minute, with this very reason.
    ///
    /// The minute is one of wall time, so that it holds across a restart. Where the clock was set back, the error is
    /// told.
    pub fn push(&mut self, event: NatsEvent) -> bool {
        if event.kind == EventType::RefreshError && self.has_told(&event) {
            return false;
        }
        if self.0.len() == RING_CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(event);
        true
    }

    fn has_told(&self, error: &NatsEvent) -> bool {
        let is_error = |event: &&NatsEvent| event.kind == EventType::RefreshError;
        self.0.iter().rev().find(is_error).is_some_and(|last| {
            last.reason == error.reason
                && last.at <= error.at
                && error.at.since(last.at) < REFRESH_ERROR_EVERY
        })
    }

    /// The events, oldest first.
    pub fn snapshot(&self) -> Vec<NatsEvent> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::Caller;
    use crate::time::UnixTime;

    fn error(seconds: i64, reason: &str) -> NatsEvent {
        let at = UnixTime::from_secs(1_000_000 + seconds);
        NatsEvent::new(EventType::RefreshError, at, Caller::REFRESH).because(reason)
    }

    fn warn(number: i64) -> NatsEvent {
        NatsEvent {
            kind: EventType::Warn,
            ..error(number, "")
        }
    }

    #[test]
    fn the_oldest_makes_room_and_the_oldest_comes_first() {
        let mut ring = Ring::default();
        for number in 0..300 {
            assert!(ring.push(warn(number)));
        }
        let kept: Vec<NatsEvent> = (300 - 256..300).map(warn).collect();
        assert_eq!(ring.snapshot(), kept);
        assert_eq!(Ring::of((0..300).map(warn).collect()).snapshot(), kept);
        assert_eq!(Ring::of(vec![warn(1)]).snapshot(), [warn(1)]);
    }

    #[test]
    fn a_refresh_error_is_told_once_a_minute_while_its_reason_is_the_same() {
        let mut ring = Ring::default();
        let mut told = |seconds, reason| ring.push(error(seconds, reason));
        assert!(told(0, "503"));
        assert!(!told(5, "503"));
        assert!(!told(59, "503"));
        assert!(told(60, "503"), "a minute after the last that was told");
        assert!(told(62, "timed out"), "another reason");
        assert!(told(64, "503"), "another again");
        assert!(!told(66, "503"));
        assert!(told(-3600, "503"), "the clock was set back");
        assert!(!told(-3590, "503"));
    }

    #[test]
    fn what_happens_between_two_refresh_errors_does_not_tell_them_apart() {
        let mut ring = Ring::default();
        assert!(ring.push(error(0, "503")));
        assert!(
            ring.push(warn(1)) && ring.push(warn(1)),
            "warnings are all told"
        );
        assert!(!ring.push(error(5, "503")));
    }
}
