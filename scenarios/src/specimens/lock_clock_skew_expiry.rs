//! `lock-clock-skew-expiry`: the record says until when the lock lives by the holder's wall clock, and others read that by
//! theirs.
//!
//! Where a clock is ahead, its owner takes locks over that are held; where the holder's is ahead, its lock outlives it by as
//! much. Clocks are set by hand, by a bad time server, by a machine that wakes up; an hour is nothing unusual.
//!
//! Right: the record says how long it lives, and whoever wants it counts from when it first saw it, by its own monotonic
//! clock: the head of `core/src/state/lock/mod.rs`.

use super::simple_lock::LockFlaw;

pub(super) const NAME: &str = "lock-clock-skew-expiry";
pub(super) const FLAW: LockFlaw = LockFlaw::JudgesByWallClock;
