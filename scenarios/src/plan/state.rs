//! What plans say of an agent that keeps state.

use std::fmt;
use std::time::Duration;

use super::time;

/// How an agent uses a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatePlan {
    /// How many keys there are to choose from.
    pub keys: u32,
    /// About how long a value lives, where it does not live for ever.
    pub life: Duration,
    /// How long it takes over each thing that its watch tells.
    pub dwells: Duration,
}

impl StatePlan {
    /// Four keys, values that live for four times the agent's pace, and a reader that is fast.
    pub const fn of_pace(interval: Duration) -> Self {
        Self {
            keys: 4,
            life: interval.saturating_mul(4),
            dwells: Duration::ZERO,
        }
    }
}

/// As an inline table of TOML.
impl fmt::Display for StatePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, life) = (self.keys, time(self.life));
        write!(f, "{{ keys = {keys}, life = {life}")?;
        if !self.dwells.is_zero() {
            write!(f, ", dwells = {}", time(self.dwells))?;
        }
        f.write_str(" }")
    }
}
