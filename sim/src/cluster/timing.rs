//! How long the servers of a cluster wait for each other.

use std::ops::Range;
use std::time::Duration;

use squall_core::Rng;

/// Waits of one group. The defaults are nats-server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time between two words of a leader that has nothing to say. Default 1 s.
    pub heartbeat: Duration,
    /// Silence of its leader after which a follower stands for election, drawn anew at each word. Default 4 to 9 s: so
    /// the first of two stands 4.1 to 7.5 s after a leader's death, as measured. Who stands waits as long for votes.
    pub election: Range<Duration>,
    /// How long who refuses its vote to one with less of the log, and votes for nobody, waits before it stands itself;
    /// and the server of a new group that is to stand first. Default 100 to 800 ms.
    pub campaign: Range<Duration>,
    /// How often a leader asks itself whether it has heard a majority since it last did; if not, it gives up. Default
    /// 10 s, so that it gives up after 10 to 20 s (13.3 to 17.9 s measured).
    pub majority_check: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            election: Duration::from_secs(4)..Duration::from_secs(9),
            campaign: Duration::from_millis(100)..Duration::from_millis(800),
            majority_check: Duration::from_secs(10),
        }
    }
}

/// A wait drawn from a range.
pub(super) fn draw(range: &Range<Duration>, rng: &mut Rng) -> Duration {
    let nanos = |duration: Duration| duration.as_nanos() as u64;
    Duration::from_nanos(rng.between(nanos(range.start), nanos(range.end)))
}
