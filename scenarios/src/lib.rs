//! Stories, plans, histories, invariants and specimens; the command line.

mod agent;
mod bucket;
pub mod conformance;
pub mod fault;
pub mod history;
pub mod invariants;
mod nearest;
pub mod parse;
pub mod plan;
pub mod real;
mod recorded;
pub mod run;
mod sim_testbed;
pub mod specimens;
pub mod stories;
mod testbed;
mod variant;

pub use recorded::RecordedEnv;
pub use sim_testbed::SimTestbed;
pub use testbed::Testbed;
pub use variant::{Present, Watching};
