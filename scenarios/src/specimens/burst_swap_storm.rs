//! `burst-swap-storm`: every caller that finds the connection stale dials and swaps, nobody coalesces.
//!
//! A new credential makes the connection stale, and the check stands where every operation begins: cheap, and never wrong
//! by itself. But callers come together, by the same tick or in a burst, all find it stale before the first has dialled,
//! and each brings a connection of its own; all but the last are thrown away, with what had begun on them.
//!
//! Right: one machine owns which connection is current, dials once for a generation, and lets everybody wait for that.
//! [`squall_core::session`] does in its swapper (`core/src/session/swapper.rs`).

use super::Flaw;

pub(super) const NAME: &str = "burst-swap-storm";
/// What is wrong with the session.
pub(super) const FLAW: Flaw = Flaw::EveryCallerSwaps;
