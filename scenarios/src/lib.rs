//! Stories, plans, histories, invariants and specimens; the command line.

pub mod authority;
mod bucket;
pub mod cli;
pub mod conformance;
pub mod coverage;
mod credentials;
pub mod diagnosis;
mod dials;
pub mod equivalence;
pub mod fault;
pub mod fleet;
pub mod history;
pub mod hunt;
pub mod invariants;
pub mod issuer;
pub mod kept;
pub mod linear;
pub mod local_auth;
mod nats_testbed;
mod nearest;
pub mod parse;
pub mod plan;
pub mod real;
mod recorded;
pub mod report;
mod roles;
pub mod run;
pub mod shrink;
mod sim_testbed;
pub mod specimens;
pub mod steer;
pub mod stories;
mod testbed;
mod variant;
pub mod vary;

pub use nats_testbed::{
    HostClock, NatsRunError, NatsTestbed, ProcessEnv, run_on_nats, unsupported,
};
pub use recorded::RecordedEnv;
pub use sim_testbed::SimTestbed;
pub use testbed::Testbed;
pub use variant::talk::{Talk, Told};
pub use variant::{Present, Watching};
