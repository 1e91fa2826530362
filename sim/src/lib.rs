//! A simulated NATS world in which a seed decides every delay and fault.
#[cfg(not(madsim))]
compile_error!(
    "squall-sim runs on madsim's simulator and needs `--cfg madsim`. It is set in .cargo/config.toml, but an \
     environment variable RUSTFLAGS replaces what stands there: unset it, or add `--cfg madsim` to it."
);

mod auth;
pub mod broker;
#[cfg(test)]
mod chat_tests;
mod client;
pub mod clock;
pub mod cluster;
mod disk;
mod env;
mod fabric;
mod faults;
mod held;
mod keys;
mod link;
#[cfg(test)]
mod lock_tests;
pub mod moments;
mod net;
mod queue;
mod routes;
#[cfg(test)]
mod session_tests;
mod simulation;
mod tasks;
pub mod trace;
pub mod wire;
mod world;

pub use auth::{AuthFault, AuthServer};
pub use client::{SimBucket, SimConnection, SimConsumer, SimStream, SimTransport};
pub use disk::SimFiles;
pub use env::{SimClock, SimEnv};
pub use keys::SimKey;
pub use link::{Direction, Latency};
pub use simulation::Simulation;
pub use world::{HostKey, ProcessKey, ServerKey, World};
