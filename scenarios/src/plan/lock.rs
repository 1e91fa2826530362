//! What plans say of an agent that takes locks.

use std::fmt;
use std::time::Duration;

use super::time;

/// How an agent takes locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockPlan {
    /// How long a lock lives without a renewal.
    pub ttl: Duration,
    /// About how long it is held.
    pub holds: Duration,
    /// How many locks there are to choose from.
    pub keys: u32,
}

impl LockPlan {
    /// One lock that lives for four times the agent's pace, and is held for one.
    pub const fn of_pace(interval: Duration) -> Self {
        Self {
            ttl: interval.saturating_mul(4),
            holds: interval,
            keys: 1,
        }
    }
}

/// As an inline table of TOML.
impl fmt::Display for LockPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ttl, holds) = (time(self.ttl), time(self.holds));
        write!(
            f,
            "{{ ttl = {ttl}, holds = {holds}, keys = {} }}",
            self.keys
        )
    }
}
