//! What servers of a cluster agree on: one log for each replicated stream, and one for the cluster itself.
//!
//! A [`Group`] is one server's part in one such log, as a pure state machine: words from the others go in, words to them
//! and what was agreed come out; time is an argument, chance is a stream. Its timing is nats-server's, measured in
//! `docs/nats-cluster-facts.md`; underneath it is Raft as the paper has it, because nothing less keeps an isolated
//! leader from acknowledging, or two of them from being right at once.
//!
//! ```text
//!            propose                       Append, Appended
//!   client ──────────▶ leader's Group ◀──────────────────────▶ the followers' Groups
//!                         │ Agreed                                 │ Agreed, a moment later
//!                         ▼                                        ▼
//!                   acknowledges, delivers                  answers reads that may be behind
//! ```
//!
//! What follows from it, and is no kinder than the real one: a write without a majority is not acknowledged, and later
//! agreed upon all the same if its leader comes back with it (a ghost), or forgotten if the others went on.

mod group;
mod log;
#[cfg(test)]
mod tests;
mod timing;

pub use group::{Deed, Group, NotLeader, Peer, Said, Word};
pub use log::Entry;
pub use timing::Timing;
