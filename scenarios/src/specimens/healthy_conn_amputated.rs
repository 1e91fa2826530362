//! `healthy-conn-amputated`: one slow JetStream reply closes a healthy connection under its other users.
//!
//! An operation that got no answer is taken for proof that the connection is dead; so it is closed and another is dialled,
//! which often helps, as one may wait long for a client to notice a dead link. But JetStream is a service behind the
//! connection: when it is slow (a leader election, a full disk) every connection of every client is torn down again and
//! again, with all that was under way on it and would have been answered.
//!
//! Right: ask the connection itself first, with a round trip; keep it if that comes back, and say so. [`squall_core::session`]
//! does in its swapper (`core/src/session/swapper.rs`).

use super::Flaw;

pub(super) const NAME: &str = "healthy-conn-amputated";
/// What is wrong with the session.
pub(super) const FLAW: Flaw = Flaw::AmputatesOnSlowAnswer;
