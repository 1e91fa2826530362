//! One host's clocks as functions of true time: monotonic and wall apart, with drift, suspend, skew and jumps.
//!
//! True time is the simulator's own (an [`Instant`] of no host). Both clocks run at the host's crystal, so drift moves
//! both; a suspended host's monotonic clock stands still while its wall clock goes on, as `CLOCK_MONOTONIC` and
//! `CLOCK_REALTIME` do on Linux. The monotonic clock never jumps: that is what makes it one.

use std::time::Duration;

use squall_core::{Instant, UnixTime};

/// 2026-01-01T00:00:00Z: where every simulated wall clock starts, before skew.
pub const WALL_START: UnixTime = UnixTime::from_nanos(1_767_225_600_000_000_000);

const BILLION: i128 = 1_000_000_000;

/// See the head of this file.
#[derive(Clone, Debug)]
pub(crate) struct HostClock {
    /// The three readings at the last change of rate or offset.
    truth: u64,
    monotonic: u64,
    wall: i64,
    /// Parts per billion that this host's crystal is fast.
    drift_ppb: i64,
    suspended: bool,
}

impl HostClock {
    /// A clock that reads `monotonic` at true time 0, as hosts have been up for different times.
    pub(crate) fn new(monotonic: Instant) -> Self {
        Self {
            truth: 0,
            monotonic: monotonic.as_nanos(),
            wall: WALL_START.as_nanos(),
            drift_ppb: 0,
            suspended: false,
        }
    }

    pub(crate) fn now(&self, truth: Instant) -> Instant {
        let passed = if self.suspended { 0 } else { self.scale(truth) };
        Instant::from_nanos(self.monotonic + passed)
    }

    pub(crate) fn wall(&self, truth: Instant) -> UnixTime {
        UnixTime::from_nanos(self.wall + self.scale(truth) as i64)
    }

    /// The earliest true time at which [`now`](Self::now) has reached `deadline`; `None` while suspended before it.
    pub(crate) fn true_time_of(&self, deadline: Instant) -> Option<Instant> {
        let ahead = deadline.as_nanos().saturating_sub(self.monotonic);
        if ahead == 0 {
            return Some(Instant::from_nanos(self.truth));
        }
        if self.suspended {
            return None;
        }
        let true_ahead = if self.drift_ppb == 0 {
            ahead
        } else {
            let rate = BILLION + i128::from(self.drift_ppb);
            let exact = (i128::from(ahead) * BILLION + rate - 1) / rate;
            u64::try_from(exact).unwrap_or(u64::MAX)
        };
        Some(Instant::from_nanos(self.truth.saturating_add(true_ahead)))
    }

    /// From now on this crystal is fast by so many more parts per billion (slow, if negative).
    pub(crate) fn drift(&mut self, truth: Instant, ppb: i64) {
        self.rebase(truth);
        self.drift_ppb = (self.drift_ppb + ppb).clamp(-500_000_000, 500_000_000);
    }

    /// Moves the wall clock by so many nanoseconds, at once.
    pub(crate) fn jump(&mut self, truth: Instant, nanos: i64) {
        self.rebase(truth);
        self.wall = self.wall.saturating_add(nanos);
    }

    /// Stops the monotonic clock, or lets it go on from where it stopped.
    pub(crate) fn suspend(&mut self, truth: Instant, suspended: bool) {
        self.rebase(truth);
        self.suspended = suspended;
    }

    fn rebase(&mut self, truth: Instant) {
        let (monotonic, wall) = (self.now(truth), self.wall(truth));
        self.truth = truth.as_nanos();
        self.monotonic = monotonic.as_nanos();
        self.wall = wall.as_nanos();
    }

    /// What this crystal makes of the true time since the last change.
    fn scale(&self, truth: Instant) -> u64 {
        let passed = truth.as_nanos().saturating_sub(self.truth);
        if self.drift_ppb == 0 {
            return passed;
        }
        let scaled = i128::from(passed) * (BILLION + i128::from(self.drift_ppb)) / BILLION;
        scaled as u64
    }
}

/// A rate of drift in parts per million, as plans write it, in parts per billion.
pub fn ppm(parts_per_million: i64) -> i64 {
    parts_per_million.saturating_mul(1000)
}

/// A signed offset of a clock: `ahead` nanoseconds if true, behind otherwise.
pub fn signed(ahead: bool, by: Duration) -> i64 {
    let nanos = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
    if ahead { nanos } else { -nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_suspended_host_sleeps_by_one_clock_and_not_by_the_other() {
        let mut clock = HostClock::new(secs(100));
        clock.suspend(secs(10), true);
        assert_eq!(clock.now(secs(40)), secs(110));
        assert_eq!(clock.wall(secs(40)), WALL_START + Duration::from_secs(40));
        assert_eq!(clock.true_time_of(secs(111)), None);
        clock.suspend(secs(40), false);
        assert_eq!(clock.now(secs(41)), secs(111));
        assert_eq!(clock.true_time_of(secs(111)), Some(secs(41)));
    }

    #[test]
    fn a_timer_never_fires_early_whatever_the_drift() {
        for ppb in [-300_000_000, -77, 0, 1, 123_456_789, 400_000_000] {
            let mut clock = HostClock::new(secs(3));
            clock.drift(Instant::from_nanos(12_345), ppb);
            for deadline in [3_100_000_001, 4_000_000_000, 77_777_777_777] {
                let deadline = Instant::from_nanos(deadline);
                let due = clock.true_time_of(deadline).expect("not suspended");
                assert!(clock.now(due) >= deadline, "{ppb} ppb");
                let before = clock.now(due - Duration::from_nanos(2));
                assert!(before < deadline, "{ppb} ppb: no later than needed");
            }
        }
    }

    #[test]
    fn a_jump_moves_the_wall_clock_alone() {
        let mut clock = HostClock::new(secs(3));
        clock.jump(secs(1), signed(false, Duration::from_secs(3600)));
        assert_eq!(clock.now(secs(2)), secs(5));
        assert_eq!(
            clock.wall(secs(2)),
            WALL_START + Duration::from_secs(2) - Duration::from_secs(3600)
        );
    }
}
