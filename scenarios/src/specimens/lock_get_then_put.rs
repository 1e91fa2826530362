//! `lock-get-then-put`: acquire reads, sees that the lock is free, and puts without a revision.
//!
//! Between the read and the write somebody else does the same. Both writes are accepted, both callers are told that they have
//! the lock, and the second record hides the first. It takes nothing but two callers within one round trip of each other.
//!
//! Right: write over the revision that was read, so that the server accepts one of the two. [`squall_core::state::lock`]
//! does in every write (`core/src/state/lock/contender.rs`).

use super::simple_lock::LockFlaw;

pub(super) const NAME: &str = "lock-get-then-put";
pub(super) const FLAW: LockFlaw = LockFlaw::PutsWhatIsFree;
