//! What the log of a connection amounts to, as the model that reports are made of.

use squall_core::UnixTime;
use squall_core::diagnostics::{Diagnosis, NatsEvent, NatsState};
use squall_reports::diagnosis as report;

/// A diagnosis at `now` of the log called `source`, told from `since` on.
pub fn told(
    diagnosis: &Diagnosis,
    source: String,
    now: UnixTime,
    since: Option<UnixTime>,
) -> report::Diagnosis {
    let summary = &diagnosis.summary;
    let patterns = diagnosis.patterns.iter().map(|hit| report::Pattern {
        name: hit.name.to_owned(),
        at: time(hit.at),
        detail: hit.detail.clone(),
    });
    report::Diagnosis {
        source,
        count: diagnosis.on_disk_count as u64,
        state: match summary.state {
            NatsState::Unknown => report::State::Unknown,
            NatsState::Disconnected => report::State::Disconnected,
            NatsState::Connecting => report::State::Connecting,
            NatsState::Connected => report::State::Connected,
        },
        since: summary
            .state_since
            .map(|since| (time(since), now.since(since))),
        drops: diagnosis.nats_drops_last_hour as u64,
        refreshed: summary.refresh_last_at.map(time),
        refresh_due: summary.refresh_next_due_at.map(time),
        url: summary.url.clone(),
        patterns: patterns.collect(),
        events: diagnosis.nats_events.iter().map(line).collect(),
        told_from: since.map(time),
        ..report::Diagnosis::default()
    }
}

/// One event; fields that other writers have added come after the reason.
fn line(event: &NatsEvent) -> report::Event {
    let mut reason = event.reason.clone().unwrap_or_default();
    for (name, value) in &event.others {
        reason.push_str(&format!(" {name}={value}"));
    }
    report::Event {
        at: time(event.at),
        kind: event.kind.to_string(),
        caller: event
            .caller
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        connection: event
            .nc_id
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        reason,
    }
}

/// To the millisecond.
pub(crate) fn time(at: UnixTime) -> String {
    const MILLISECOND: i64 = 1_000_000;
    let nanos = at.as_nanos();
    UnixTime::from_nanos(nanos - nanos.rem_euclid(MILLISECOND)).to_string()
}
