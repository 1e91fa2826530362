//! How long a value lives, as callers say it.

use std::fmt;
use std::time::Duration;

/// The longest life: what 64 bits of nanoseconds can tell, 292 years.
const MAX: Duration = Duration::from_nanos(i64::MAX as u64);

/// How long a value lives: zero is for ever.
///
/// A number with a sign, unlike [`Duration`]: lives come from configurations, from other programs and out of
/// subtractions, and there "less than nothing" can be said. It must arrive here as what it is and be refused as
/// [`InvalidTtl`]: made zero on the way, by a cast or a saturation, it would mean "for ever", the very opposite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(i128);

impl Ttl {
    /// Until it is overwritten or deleted.
    pub const NEVER: Self = Self(0);

    /// So many milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis as i128 * 1_000_000)
    }

    /// So many seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds as i128 * 1_000_000_000)
    }

    /// The life that this says; `None` where it is for ever.
    ///
    /// # Errors
    /// If it is less than nothing, or longer than can be told.
    pub fn life(self) -> Result<Option<Duration>, InvalidTtl> {
        match u64::try_from(self.0).map(Duration::from_nanos) {
            Ok(Duration::ZERO) => Ok(None),
            Ok(life) if life <= MAX => Ok(Some(life)),
            _ => Err(InvalidTtl(self)),
        }
    }
}

impl From<Duration> for Ttl {
    fn from(life: Duration) -> Self {
        Self(i128::try_from(life.as_nanos()).unwrap_or(i128::MAX))
    }
}

/// Seconds, as short as they can be written: `-1.5s`.
impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let decimals = format!("{rest:09}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{sign}{seconds}s"),
            decimals => write!(f, "{sign}{seconds}.{decimals}s"),
        }
    }
}

/// Not a life: less than nothing, or longer than 292 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a life for a value: {0}")]
pub struct InvalidTtl(pub Ttl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_for_ever_and_less_is_refused() {
        assert_eq!(Ttl::NEVER.life(), Ok(None));
        assert_eq!(Ttl::from(Duration::ZERO).life(), Ok(None));
        assert_eq!(
            Ttl::from_millis(1500).life(),
            Ok(Some(Duration::from_millis(1500)))
        );
        let negative = Ttl::from_millis(-1500);
        assert_eq!(negative.life(), Err(InvalidTtl(negative)));
        assert_eq!(
            InvalidTtl(negative).to_string(),
            "not a life for a value: -1.5s"
        );
    }

    #[test]
    fn what_no_clock_can_tell_is_refused() {
        assert!(Ttl::from(Duration::MAX).life().is_err());
        assert!(Ttl::from_secs(i64::MAX).life().is_err());
        assert_eq!(Ttl::from(MAX).life(), Ok(Some(MAX)));
        assert!(Ttl::from(MAX + Duration::from_nanos(1)).life().is_err());
    }
}
