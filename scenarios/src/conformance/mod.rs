//! The conformance suite: does the simulated NATS behave as the real one, as far as a client can see?
//!
//! Each case is a small story told through the seam, generic over the [`Laboratory`] it happens in. What it observes it
//! writes into a [`Transcript`]; the harness runs it in both worlds and wants the same transcript, and in each world
//! what the measured facts say. What is compared and what differs on purpose is told in `docs/conformance.md`.
//!
//! Times are compared as outcomes within windows, never to the millisecond: the real world has neighbours.

mod buckets;
mod cluster;
mod cluster_leaders;
mod cluster_streams;
mod cluster_watches;
mod compare;
mod connection;
mod consumer_waits;
mod consumers;
mod core_messaging;
mod expiry;
mod explained;
pub mod generate;
mod hearing;
mod kindness;
mod kv;
mod laboratory;
mod logins;
mod lost_tail;
mod outages;
mod permissions;
pub mod play;
mod pull_play;
mod pulse;
mod real;
mod rotation;
mod samples;
pub mod script;
mod simulated;
mod stream_generate;
pub mod stream_op;
mod stream_play;
mod streams;
mod streams_reads;
pub mod suite;
mod transcript;
mod trio;
mod watch;
mod watch_outages;

pub use cluster::{CLUSTER_CASES, ClusterCase};
pub use compare::{Difference, compare};
pub use explained::{EXPLAINED, Explained};
pub use kindness::{KINDNESSES, Planted, scripts_needed};
pub use laboratory::{Laboratory, Setup, Stop};
pub use real::{Program, Real, block_on as observe};
pub use samples::Sample;
pub use simulated::{Model, Simulated, simulate};
pub use transcript::Transcript;
pub use trio::{RealTrio, SimulatedTrio, Trio};

use std::future::Future;
use std::pin::Pin;

type Told<'a> = Pin<Box<dyn Future<Output = Result<(), Stop>> + 'a>>;

/// One fact, and how to see it.
#[derive(Clone, Copy)]
pub struct Case {
    /// The file it stands in.
    pub group: &'static str,
    /// The fact.
    pub name: &'static str,
    /// The row of the facts it shows.
    pub fact: &'static str,
    setup: Setup,
    simulated: for<'a> fn(&'a Simulated, &'a mut Transcript) -> Told<'a>,
    real: for<'a> fn(&'a Real, &'a mut Transcript) -> Told<'a>,
}

impl Case {
    /// `group::name`.
    pub fn path(&self) -> String {
        format!("{}::{}", self.group, self.name)
    }

    /// What is seen in the simulated world.
    pub fn simulate(&self, seed: u64, model: Model) -> Transcript {
        simulate(seed, self.setup, model, async |laboratory| {
            let mut transcript = Transcript::default();
            let told = (self.simulated)(laboratory, &mut transcript).await;
            transcript.close(told)
        })
    }

    /// What is seen on a real server of this program.
    pub fn observe(&self, program: &Program) -> Transcript {
        real::block_on(async {
            let mut transcript = Transcript::default();
            let told = match Real::start(self.setup, program).await {
                Ok(laboratory) => (self.real)(&laboratory, &mut transcript).await,
                Err(stop) => Err(stop),
            };
            transcript.close(told)
        })
    }

    /// What differs between the worlds, and from the facts.
    pub fn differences(&self, program: &Program) -> Vec<Difference> {
        let version = program.version();
        let (simulated, real) = (self.simulate(1, version.into()), self.observe(program));
        compare(&self.path(), version, &simulated, &real)
    }
}

/// All cases, in the order of the files.
pub fn cases() -> Vec<Case> {
    [
        kv::CASES,
        buckets::CASES,
        watch::CASES,
        watch_outages::CASES,
        core_messaging::CASES,
        outages::CASES,
        lost_tail::CASES,
        connection::CASES,
        expiry::CASES,
        streams::CASES,
        streams_reads::CASES,
        consumers::CASES,
        consumer_waits::CASES,
        logins::CASES,
        rotation::CASES,
        permissions::CASES,
    ]
    .concat()
}

/// A table of cases: name, the fact's row, and the setup where it is not the default.
macro_rules! facts {
    ($group:literal { $($name:ident: $fact:literal $(with $setup:expr)?,)* }) => {
        pub(super) const CASES: &[crate::conformance::Case] = &[$(crate::conformance::Case {
            group: $group,
            name: stringify!($name),
            fact: $fact,
            setup: super::facts!(@setup $($setup)?),
            simulated: |laboratory, transcript| Box::pin($name(laboratory, transcript)),
            real: |laboratory, transcript| Box::pin($name(laboratory, transcript)),
        }),*];
    };
    (@setup) => { crate::conformance::Setup::DEFAULT };
    (@setup $setup:expr) => { $setup };
}
use facts;
