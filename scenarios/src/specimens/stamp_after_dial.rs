//! `stamp-after-dial`: the connection is stamped with the credential current after the dial, not the one dialled with.
//!
//! A connection remembers which generation it belongs to, so that the next one can be told from it. The stamp is read where
//! the connection is stored, after the dial; the credential was read before it. If another one arrived in between, the
//! connection passes for fresh, is never replaced, and dies with the old credential.
//!
//! Right: what is dialled with and what is stamped are read once, together. [`squall_core::session`] gives each dial a
//! cell of its own, filled once (`core/src/session/shell.rs`).

use super::Flaw;

pub(super) const NAME: &str = "stamp-after-dial";
/// What is wrong with the session.
pub(super) const FLAW: Flaw = Flaw::StampsAfterDial;
