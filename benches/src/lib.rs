//! One exchange, run on several simulators: what `sim_throughput` times.
//!
//! [`Exchange::agents`] agents each send a heartbeat of [`REQUEST_BYTES`] every simulated second and wait for an
//! answer of [`REPLY_BYTES`]: the size and the rhythm of an agent that keeps its entry in a bucket. An arm is one way
//! to do that. The *bare* arms are what a competent user of that simulator would write for this exchange and nothing
//! else: no broker behind it, no client, no faults. They say what the ground under a simulated NATS can bear.
//!
//! The same holds for every arm: one thread; links that lose nothing; set-up (nodes, sockets, connections) is over
//! before the clock of the bench starts; agents are spread evenly over the second, as they are in the field.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench reads the real clock, and its bare arms use their simulators' own timers"
)]

pub mod bare_madsim;
pub mod bare_turmoil;
pub mod squall;
pub mod wing_gong;

use std::time::Duration;

/// Bytes of a heartbeat.
pub const REQUEST_BYTES: usize = 100;

/// Bytes of its answer.
pub const REPLY_BYTES: usize = 30;

/// Simulated time from one answer to the next heartbeat.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Simulated time at which the exchange begins. All is connected by then.
pub const START: Duration = Duration::from_secs(3);

/// How many agents, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Agents that beat.
    pub agents: u32,
    /// Beats of each, and about as many simulated seconds.
    pub seconds: u32,
}

impl Exchange {
    /// Beats of all agents together.
    pub fn beats(self) -> u64 {
        u64::from(self.agents) * u64::from(self.seconds)
    }

    /// How far into the second this agent beats.
    pub fn phase(self, agent: u32) -> Duration {
        INTERVAL * agent / self.agents
    }
}

/// One way to do the exchange.
pub type Arm = fn(Exchange) -> Measured;

/// The arms, with the names that the bench reports.
pub const ARMS: [(&str, Arm); 4] = [
    ("squall", squall::update),
    ("madsim-endpoint", bare_madsim::endpoint),
    ("madsim-tcp", bare_madsim::tcp),
    ("turmoil-tcp", bare_turmoil::tcp),
];

/// What one run did, and how long it took.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Answers that the agents received.
    pub beats: u64,
    /// Simulated time from the first beat until the last agent was done.
    pub simulated: Duration,
    /// Real time for that.
    pub took: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An arm that dropped beats, or did not sleep between them, would look fast.
    #[test]
    fn every_arm_makes_every_beat_and_lives_through_every_second() {
        let exchange = Exchange {
            agents: 20,
            seconds: 5,
        };
        for (name, arm) in ARMS {
            let measured = arm(exchange);
            assert_eq!(measured.beats, exchange.beats(), "{name}");
            let simulated = measured.simulated.as_secs_f64();
            assert!((5.0..7.0).contains(&simulated), "{name}: {simulated} s");
        }
    }
}
