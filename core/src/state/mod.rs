//! Shared state: values under keys, for agents that come and go, and locks.

mod key;
pub mod lock;

pub use self::key::{InvalidKey, KEY_LEN_MAX, KeyFlaw};
