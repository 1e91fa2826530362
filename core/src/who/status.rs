//! From the age of a beat to a word: [`Status`].

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::time::UnixTime;

/// How often an agent beats that does not say.
pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(60);

/// How an agent seems, by its latest beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It beat less than one and a half intervals ago.
    Online,
    /// It beat less than three intervals ago.
    Stale,
    /// It has not beaten for three intervals, or was never heard.
    Offline,
}

impl Status {
    /// The status of an agent whose latest beat came then, of so many apart. A beat from the future, after the clock
    /// was set back, is a beat.
    pub fn of(now: UnixTime, beat: Option<(UnixTime, Duration)>) -> Self {
        let Some((at, interval)) = beat else {
            return Self::Offline;
        };
        let interval = if interval.is_zero() {
            INTERVAL_DEFAULT
        } else {
            interval
        };
        let age = now.since(at);
        if age < interval.saturating_add(interval / 2) {
            Self::Online
        } else if age < interval.saturating_mul(3) {
            Self::Stale
        } else {
            Self::Offline
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Online => "online",
            Self::Stale => "stale",
            Self::Offline => "offline",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(age_ms: i64, interval_s: u64) -> Status {
        let at = UnixTime::from_secs(1_780_000_000);
        let now = at.offset(age_ms * 1_000_000);
        Status::of(now, Some((at, Duration::from_secs(interval_s))))
    }

    #[test]
    fn the_bounds_are_one_and_a_half_and_three_intervals() {
        for (age_ms, expected) in [
            (0, Status::Online),
            (14_999, Status::Online),
            (15_000, Status::Stale),
            (29_999, Status::Stale),
            (30_000, Status::Offline),
            (i64::from(u32::MAX), Status::Offline),
        ] {
            assert_eq!(status(age_ms, 10), expected, "{age_ms} ms");
        }
    }

    #[test]
    fn the_future_is_online_no_beat_is_offline_and_zero_is_a_minute() {
        assert_eq!(status(-3_600_000, 10), Status::Online);
        assert_eq!(Status::of(UnixTime::EPOCH, None), Status::Offline);
        assert_eq!(status(89_999, 0), Status::Online);
        assert_eq!(status(90_000, 0), Status::Stale);
        assert_eq!(status(180_000, 0), Status::Offline);
    }

    proptest! {
        #[test]
        fn an_agent_that_does_not_beat_only_sinks(
            ages in proptest::collection::vec(any::<i32>(), 2..20),
            interval_s in any::<u64>(),
        ) {
            let mut ages = ages;
            ages.sort_unstable();
            let told: Vec<Status> = ages.iter().map(|age| status(i64::from(*age), interval_s)).collect();
            prop_assert!(told.is_sorted());
        }
    }
}
