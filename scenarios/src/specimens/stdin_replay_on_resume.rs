//! `stdin-replay-on-resume`: a restarted consumer with its dedupe set in memory executes retained commands again.
//!
//! So that it misses nothing it reads all that is held, from the first message on, and keeps a set of the ids that it has
//! executed. A restart forgets the set, and not the messages.
//!
//! Right: a watch begins at what comes, and what came before it is read where it is asked for, by
//! [`squall_core::chat`]'s scans.

use super::simple_watch::WatchFlaw;

pub(super) const NAME: &str = "stdin-replay-on-resume";
pub(super) const FLAW: WatchFlaw = WatchFlaw::ReplaysWhatIsHeld;
