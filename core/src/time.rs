//! Two kinds of time that must never be mixed, and the clock that tells both.
//!
//! [`Instant`] is one node's monotonic time: it never goes back, but it stops while the machine sleeps, and two nodes'
//! instants have nothing to do with each other. [`UnixTime`] is wall time: comparable between nodes, and therefore
//! wrong: it is skewed, it jumps both ways. Deadlines are instants. Credentials, records and reports are wall time.
//! The types differ so that no deadline can be judged by a wall clock.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::moment::Moment;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Nanoseconds of a duration, saturating after 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A point of one node's monotonic time, in nanoseconds since an arbitrary start of that node.
///
/// Never goes back, never jumps ahead; stands still while the machine is suspended; may drift.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Instant(u64);

impl Instant {
    /// The start of this node's time.
    pub const ZERO: Self = Self(0);
    /// Later than anything that will happen.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since the start.
    pub const fn elapsed(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Time from `earlier` to `self`; zero if `earlier` is the later one.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

/// Seconds with nine decimals: `12.000340000s`.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:09}s",
            self.0 / NANOS_PER_SECOND,
            self.0 % NANOS_PER_SECOND
        )
    }
}

/// Wall time: nanoseconds since 1970-01-01T00:00:00Z, without leap seconds, as this node believes it to be.
///
/// May jump both ways and differ between nodes. In JSON: RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

impl UnixTime {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The wall time `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The wall time `seconds` after the epoch, or the nearest that 64 bits of nanoseconds can tell.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Whole seconds since the epoch: the second that this moment lies in.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// Nanoseconds since the epoch, negative before it.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is the later one.
    pub const fn since(self, earlier: Self) -> Duration {
        let nanos = self.0.saturating_sub(earlier.0);
        Duration::from_nanos(if nanos < 0 { 0 } else { nanos as u64 })
    }

    /// `self` moved by a signed number of nanoseconds, saturating.
    pub const fn offset(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Reads RFC 3339, with any offset.
    ///
    /// # Errors
    /// If the text is not RFC 3339, or lies outside the years 1677 to 2262 that 64 bits of nanoseconds can tell.
    pub fn parse_rfc3339(text: &str) -> Result<Self, ParseTimeError> {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| ParseTimeError)?;
        i64::try_from(time.unix_timestamp_nanos())
            .map(Self)
            .map_err(|_| ParseTimeError)
    }
}

/// A text is not a time in RFC 3339 between the years 1677 and 2262.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time in RFC 3339 between the years 1677 and 2262")]
pub struct ParseTimeError;

impl Add<Duration> for UnixTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(nanos(duration)))
    }
}

impl Sub<Duration> for UnixTime {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(nanos(duration)))
    }
}

/// RFC 3339 in UTC, with as many decimals as it needs.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0))
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok())
            .ok_or(fmt::Error)?;
        f.write_str(&text)
    }
}

impl Serialize for UnixTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).map_err(serde::de::Error::custom)
    }
}

/// One node's clocks.
pub trait Clock: Clone + Send + Sync + 'static {
    /// Monotonic time of this node.
    fn now(&self) -> Instant;

    /// Wall time of this node.
    fn wall(&self) -> UnixTime;

    /// Waits until [`now`](Self::now) has reached `deadline`; ready at once if it has.
    ///
    /// May wake late, by any amount: the process can be paused, the machine suspended. Never wakes early.
    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + Send + 'static;

    /// Is told what a machine of this name does just now. Real clocks do not listen.
    fn notice(&self, _machine: &'static str, _moment: Moment<'_>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_rfc3339_utc_in_json() {
        let time = UnixTime::from_nanos(1_700_000_000_123_000_000);
        let json = serde_json::to_string(&time).expect("a time is a string");
        assert_eq!(json, r#""2023-11-14T22:13:20.123Z""#);
        assert_eq!(
            serde_json::from_str::<UnixTime>(&json).expect("it reads back"),
            time
        );
        let offset: UnixTime = serde_json::from_str(r#""2023-11-15T00:13:20.123+02:00""#)
            .expect("any offset is accepted");
        assert_eq!(offset, time);
        assert!(serde_json::from_str::<UnixTime>(r#""yesterday""#).is_err());
    }

    #[test]
    fn instants_saturate_instead_of_wrapping() {
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(
            Instant::FAR_FUTURE + Duration::from_secs(1),
            Instant::FAR_FUTURE
        );
        assert_eq!(Instant::ZERO.since(Instant::from_nanos(5)), Duration::ZERO);
        assert_eq!(
            Instant::from_nanos(1_500_000_000).to_string(),
            "1.500000000s"
        );
    }
}
