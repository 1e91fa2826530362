//! Shared state: values under keys, for agents that come and go.

mod key;

pub use self::key::{InvalidKey, KEY_LEN_MAX, KeyFlaw};
