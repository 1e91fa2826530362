//! Patterns: from what was logged to what went wrong, in words.
//!
//! A [`Detector`] is a pure function from [`Evidence`] to [`PatternHit`]s. Most need the log of one client and nothing
//! else. Where a log cannot tell, because the client does not know it either, the detector takes readings beside it,
//! and finds nothing where there are none. What each means and what to do about it stands in `docs/diagnostics.md`, one
//! section for each; a test keeps the page in step.

mod burst_swap_storm;
mod consumer_pile_up;
mod deaf_watcher;
mod exp_second_flapping;
mod half_open_link;
mod lockstep_reconnects;
mod post_rotation_auth_violation;
mod refresh_starvation;

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Serialize;

pub use self::consumer_pile_up::ConsumerReading;
pub use self::deaf_watcher::WatchReading;
use super::event::{EventType, NatsEvent, NcId};
use super::redact::redact;
use crate::time::UnixTime;

/// What detectors may look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// The log of one client.
    pub events: &'a [NatsEvent],
    /// The logs of other clients of the same servers.
    pub peers: &'a [Vec<NatsEvent>],
    /// How far this client's watches have come, over time.
    pub watches: &'a [WatchReading],
    /// How many consumers this client has, over time.
    pub consumers: &'a [ConsumerReading],
}

impl<'a> Evidence<'a> {
    /// The log of one client, and nothing else.
    pub fn of_log(events: &'a [NatsEvent]) -> Self {
        Self {
            events,
            ..Self::default()
        }
    }

    fn of_kind(&self, kind: EventType) -> impl Iterator<Item = &'a NatsEvent> {
        self.events.iter().filter(move |event| event.kind == kind)
    }

    /// Whether the machine woke from sleep within a minute of this moment, which explains much.
    fn woke_about(&self, at: UnixTime) -> bool {
        self.of_kind(EventType::Wake)
            .any(|wake| apart(wake.at, at) <= Duration::from_secs(60))
    }
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PatternHit {
    /// The detector's.
    pub name: &'static str,
    /// When it began.
    pub at: UnixTime,
    /// What was seen, in one sentence, and where to read on.
    pub detail: String,
}

impl PatternHit {
    /// The hit without the secrets that may stand in what it quotes.
    pub(super) fn redacted(mut self) -> Self {
        if let Cow::Owned(clean) = redact(&self.detail) {
            self.detail = clean;
        }
        self
    }
}

/// A way in which things go wrong.
#[derive(Clone, Copy, Debug)]
pub struct Detector {
    /// What it is called, and the anchor of its section.
    pub name: &'static str,
    /// When it fires, as the page says it.
    pub trigger: &'static str,
    find: fn(&Evidence<'_>) -> Vec<Finding>,
}

/// When it began, and what was seen.
struct Finding(UnixTime, String);

/// All of them, in the order of the page.
pub const DETECTORS: [Detector; 8] = [
    burst_swap_storm::DETECTOR,
    post_rotation_auth_violation::DETECTOR,
    exp_second_flapping::DETECTOR,
    refresh_starvation::DETECTOR,
    half_open_link::DETECTOR,
    lockstep_reconnects::DETECTOR,
    deaf_watcher::DETECTOR,
    consumer_pile_up::DETECTOR,
];

impl Detector {
    /// What it finds.
    pub fn detect(&self, evidence: &Evidence<'_>) -> Vec<PatternHit> {
        let name = self.name;
        let hit = |Finding(at, seen)| PatternHit {
            name,
            at,
            detail: format!("{seen}; see docs/diagnostics.md#{name}"),
        };
        (self.find)(evidence).into_iter().map(hit).collect()
    }
}

/// What all detectors find, by time.
pub fn detect(evidence: &Evidence<'_>) -> Vec<PatternHit> {
    let mut hits: Vec<PatternHit> = DETECTORS
        .iter()
        .flat_map(|detector| detector.detect(evidence))
        .collect();
    hits.sort_by_key(|hit| hit.at);
    hits
}

/// The time between two moments.
fn apart(one: UnixTime, other: UnixTime) -> Duration {
    one.since(other).max(other.since(one))
}

/// The crowds among these times, which must be in order: wherever `least` of them lie `within` a span. Where two
/// such spans share a time they are one crowd, however long it lasts.
fn crowds(times: &[UnixTime], least: usize, within: Duration) -> Vec<RangeInclusive<usize>> {
    let mut crowds: Vec<RangeInclusive<usize>> = Vec::new();
    for start in 0..(times.len() + 1).saturating_sub(least) {
        let end = start + least - 1;
        if times[end].since(times[start]) > within {
            continue;
        }
        match crowds.last_mut() {
            Some(last) if start <= *last.end() => *last = *last.start()..=end,
            _ => crowds.push(start..=end),
        }
    }
    crowds
}

/// Whether two events can be about one connection: an event without an id can be about any.
fn may_be_same(one: Option<&NcId>, other: Option<&NcId>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// A duration for people: to the millisecond.
fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// What the tests of the detectors have in common.
#[cfg(test)]
mod fixtures {
    use super::*;
    use crate::diagnostics::Caller;

    /// Seconds after the start of the story.
    pub(super) fn at(seconds: f64) -> UnixTime {
        UnixTime::from_nanos(1_780_000_000_000_000_000 + (seconds * 1e9).round() as i64)
    }

    pub(super) fn event(kind: EventType, seconds: f64, nc_id: &str) -> NatsEvent {
        NatsEvent::new(kind, at(seconds), Caller::CLIENT).of(nc_id)
    }

    pub(super) fn swap(seconds: f64, caller: Caller, old: &str, new: &str) -> NatsEvent {
        NatsEvent::swap(at(seconds), caller, old.into(), new.into())
    }

    /// What one detector says of a log, without the reference.
    pub(super) fn said(detector: Detector, evidence: &Evidence<'_>) -> Vec<(UnixTime, String)> {
        let hits = detector.detect(evidence).into_iter();
        hits.map(|hit| {
            assert_eq!(hit.name, detector.name);
            let (seen, reference) = hit.detail.split_once("; see ").expect("a reference");
            assert_eq!(reference, format!("docs/diagnostics.md#{}", detector.name));
            (hit.at, seen.to_owned())
        })
        .collect()
    }

    pub(super) fn hits(detector: Detector, events: &[NatsEvent]) -> usize {
        said(detector, &Evidence::of_log(events)).len()
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::{at, event, swap};
    use super::*;
    use crate::diagnostics::Caller;

    const PAGE: &str = include_str!("../../../../docs/diagnostics.md");

    #[test]
    fn the_page_has_a_section_for_each_detector_and_no_other() {
        let (_, patterns) = PAGE.split_once("\n## Patterns\n").expect("the chapter");
        let chapter = patterns.split("\n## ").next().unwrap_or(patterns);
        let mut sections = chapter.split("\n### ");
        sections.next();
        let sections: Vec<&str> = sections.collect();
        let names: Vec<&str> = sections
            .iter()
            .filter_map(|text| text.lines().next())
            .collect();
        assert_eq!(names, DETECTORS.map(|detector| detector.name));
        for (detector, section) in DETECTORS.iter().zip(sections) {
            // As it is read, not as it is broken into lines.
            let text = section.split_whitespace().collect::<Vec<_>>().join(" ");
            let trigger = format!("**Trigger.** {}", detector.trigger);
            assert!(text.contains(&trigger), "{}: {trigger}", detector.name);
            for part in ["**Meaning.** ", "**How to confirm.** ", "**What to do.** "] {
                assert!(text.contains(part), "{} has no {part:?}", detector.name);
            }
        }
    }

    #[test]
    fn hits_are_in_the_order_of_time() {
        let kick = event(EventType::Disconnect, 0.0, "z").jwt_exp(at(0.0));
        let refused = event(EventType::Closed, 4.0, "z").because("nats: Authorization Violation");
        let storm = [(1.0, "a", "b"), (1.1, "b", "c"), (1.2, "c", "d")];
        let mut events: Vec<NatsEvent> = storm
            .into_iter()
            .map(|(seconds, old, new)| swap(seconds, Caller::OPERATION, old, new))
            .collect();
        events.extend([kick, refused]);
        let hits = detect(&Evidence::of_log(&events));
        let names: Vec<&str> = hits.iter().map(|hit| hit.name).collect();
        assert_eq!(names, ["post-rotation-auth-violation", "burst-swap-storm"]);
    }

    #[test]
    fn crowds_that_share_a_time_are_one() {
        let crowd = |times: &[f64]| {
            let times: Vec<UnixTime> = times.iter().copied().map(at).collect();
            crowds(&times, 3, Duration::from_secs(2))
        };
        assert_eq!(crowd(&[]), []);
        assert_eq!(crowd(&[0.0, 1.0]), []);
        assert_eq!(crowd(&[0.0, 1.0, 2.0]), [0..=2]);
        assert_eq!(crowd(&[0.0, 1.0, 2.001]), []);
        assert_eq!(crowd(&[0.0, 1.9, 2.1, 2.2]), [1..=3]);
        assert_eq!(crowd(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), [0..=5]);
        assert_eq!(crowd(&[0.0, 0.1, 0.2, 9.0, 9.1, 9.2]), [0..=2, 3..=5]);
    }
}
