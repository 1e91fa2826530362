//! `watch-lost-on-swap`: the old connection is closed before watches are re-armed and flushed on the new.
//!
//! The swap goes in the order in which one thinks of it: close the old, dial the new, watch again. Each watch begins at
//! "now", as it did the first time. Whatever is committed between the close and that now is told to nobody, a few
//! milliseconds at a time, five minutes apart; and as the watch goes on, nobody looks for it.
//!
//! Right: watch on the new one from the revision after the last that was told, make a round trip, and only then let go of
//! the old. [`squall_core::session`] does (`core/src/session/splice.rs`).

use super::Flaw;

pub(super) const NAME: &str = "watch-lost-on-swap";
/// What is wrong with the session.
pub(super) const FLAW: Flaw = Flaw::ClosesBeforeRearming;
