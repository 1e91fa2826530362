//! Everything that is to be said about a connection, in the published shape: [`Diagnosis`].

use serde::Serialize;

use super::drops::drops_last_hour;
use super::event::NatsEvent;
use super::patterns::{self, Evidence, PatternHit};
use super::ring::RING_CAPACITY;
use super::summary::{NatsState, Summary};
use crate::time::UnixTime;

/// How it stands, what went wrong, and what happened lately. Without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// How it stands.
    pub summary: Summary,
    /// What went wrong, by time.
    pub patterns: Vec<PatternHit>,
    /// The state of the summary, where early readers look for it.
    pub nats_state: NatsState,
    /// Connections lost within an hour that nobody meant to give up.
    pub nats_drops_last_hour: usize,
    /// What happened lately, oldest first.
    pub nats_events: Vec<NatsEvent>,
    /// Events in the log.
    pub on_disk_count: usize,
}

impl Diagnosis {
    /// What is to be said of this evidence at `now`: of patterns and events since `since`, or, without it, of all
    /// patterns and of as many events as a ring holds.
    ///
    /// Patterns are looked for in all of the log, so that one that began before `since` is not mistaken for another.
    pub fn of(evidence: &Evidence<'_>, now: UnixTime, since: Option<UnixTime>) -> Self {
        let events = evidence.events;
        let summary = Summary::of(events);
        let mut patterns = patterns::detect(evidence);
        let recent: Vec<NatsEvent> = match since {
            Some(since) => {
                patterns.retain(|hit| hit.at >= since);
                let since = events.iter().filter(|event| event.at >= since);
                since.cloned().collect()
            }
            None => events[events.len().saturating_sub(RING_CAPACITY)..].to_vec(),
        };
        Self {
            nats_state: summary.state,
            summary,
            patterns: patterns.into_iter().map(PatternHit::redacted).collect(),
            nats_drops_last_hour: drops_last_hour(events, now),
            nats_events: recent.into_iter().map(NatsEvent::redacted).collect(),
            on_disk_count: events.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::diagnostics::{Caller, EventType};

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_secs(1_780_000_000 + seconds)
    }

    fn swap(seconds: i64) -> NatsEvent {
        NatsEvent::swap(at(seconds), Caller::OPERATION, "a".into(), "b".into())
    }

    #[test]
    fn it_has_the_published_shape() {
        let connect = NatsEvent::new(EventType::Connect, at(0), Caller::LOGIN)
            .of("a")
            .jwt_exp(at(300))
            .because("nats://h:4222");
        let events = [connect, swap(1), swap(1), swap(1)];
        let diagnosis = Diagnosis::of(&Evidence::of_log(&events), at(2), Some(at(1)));
        let json = serde_json::to_value(&diagnosis).expect("it is JSON");
        let event = serde_json::json!({
            "v": 1, "type": "swap", "at": "2026-05-28T20:26:41Z", "caller": "operation", "nc_id": "b",
            "reason": "old=a new=b",
        });
        let shape = serde_json::json!({
            "summary": {
                "state": "connected",
                "state_since": "2026-05-28T20:26:40Z",
                "url": "nats://h:4222",
                "refresh_last_at": "2026-05-28T20:26:40Z",
                "refresh_next_due_at": "2026-05-28T20:31:10Z",
            },
            "patterns": [{
                "name": "burst-swap-storm",
                "at": "2026-05-28T20:26:41Z",
                "detail": "3 swaps in 0ns: nobody coalesces (callers: operation); see docs/diagnostics.md#burst-swap-storm",
            }],
            "nats_state": "connected",
            "nats_drops_last_hour": 0,
            "nats_events": [event, event, event],
            "on_disk_count": 4,
        });
        assert_eq!(json, shape);
    }

    #[test]
    fn without_a_beginning_it_tells_all_patterns_and_the_last_events() {
        let mut events: Vec<NatsEvent> = vec![swap(0); 3];
        let warn = |seconds| NatsEvent::new(EventType::Warn, at(seconds), Caller::PROBE);
        events.extend((0..300).map(warn));
        let now = at(0) + Duration::from_secs(300);
        let diagnosis = Diagnosis::of(&Evidence::of_log(&events), now, None);
        assert_eq!(diagnosis.patterns.len(), 1);
        assert_eq!(diagnosis.nats_events.len(), RING_CAPACITY);
        assert_eq!(diagnosis.nats_events.last(), events.last());
        assert_eq!(diagnosis.on_disk_count, 303);
        let diagnosis = Diagnosis::of(&Evidence::of_log(&events), now, Some(at(299)));
        assert_eq!(
            (diagnosis.patterns.len(), diagnosis.nats_events.len()),
            (0, 1)
        );
        assert_eq!(diagnosis.on_disk_count, 303);
    }

    #[test]
    fn it_shows_no_secrets() {
        let secret = "nats://amy:hunter2@h:4222 timed out";
        let kinds = [EventType::Connect, EventType::ForceClose].into_iter();
        let event = |kind| {
            NatsEvent::new(kind, at(0), Caller::PROBE)
                .of("a")
                .because(secret)
        };
        let events: Vec<NatsEvent> = kinds.map(event).collect();
        let diagnosis = Diagnosis::of(&Evidence::of_log(&events), at(0), None);
        let json = serde_json::to_string(&diagnosis).expect("it is JSON");
        assert_eq!(diagnosis.patterns.len(), 1, "{json}");
        assert!(
            !json.contains("hunter2") && json.contains("@h:4222"),
            "{json}"
        );
    }
}
