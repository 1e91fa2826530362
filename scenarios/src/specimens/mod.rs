//! Planted flaws: wrong variants of presence that the harness must find, each with its mechanism in its header.
//!
//! They are written against the same traits as the right one, and none can be reached from `squall-core`.

use squall_core::Env;
use squall_core::presence::{Config, OpenError};

use crate::variant::{ConnectionOf, Present};

/// One planted flaw.
#[derive(Clone, Copy, Debug)]
pub struct Specimen {
    /// Its name.
    pub name: &'static str,
    /// How deep it hides: 0 no fault at all, 1 one interleaving, 2 one fault, 3 a fault inside a window, 4 two in order.
    pub level: u8,
    /// What is wrong, as a sentence.
    pub flaw: &'static str,
    /// The invariants that may tell it.
    pub codes: &'static [&'static str],
    /// The scenarios whose seeds are searched, in turn.
    pub scenarios: &'static [&'static str],
}

/// All specimens.
pub const fn all() -> &'static [Specimen] {
    &[]
}

/// The specimen of this name.
pub fn find(name: &str) -> Option<&'static Specimen> {
    all().iter().find(|specimen| specimen.name == name)
}

pub(crate) async fn open<E: Env>(
    name: &str,
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
) -> Result<Box<dyn Present>, OpenError> {
    let _ = (name, env, connection);
    Err(OpenError::Config(squall_core::presence::ConfigError {
        field: "agent_id",
        reason: format!("{config:?}"),
    }))
}
