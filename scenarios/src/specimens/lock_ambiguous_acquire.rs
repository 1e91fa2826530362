//! `lock-ambiguous-acquire`: the acquire is applied, its reply is lost, and the caller is told no.
//!
//! It goes away; the record stays. Nobody holds the lock, and nobody can let it go: who would know the revision has been told
//! that there is none. Everybody waits for the end of a life that may be long.
//!
//! Right: read one's own name in the record, and hold the lock; where nothing is there yet, make sure that nothing will be
//! (`core/src/state/lock/contender.rs` and `settle.rs`).

use super::simple_lock::LockFlaw;

pub(super) const NAME: &str = "lock-ambiguous-acquire";
pub(super) const FLAW: LockFlaw = LockFlaw::ForgetsUnanswered;
