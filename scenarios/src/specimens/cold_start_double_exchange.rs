//! `cold-start-double-exchange`: start-up and the first command both log in and start a refresh loop.
//!
//! The program logs in as it starts; the first command finds no connection, and so logs in too, as it would after a crash of
//! the connection. Both are right alone. Together they leave two refresh loops that know nothing of each other: twice the
//! exchanges for ever, and two connections that take each other's place.
//!
//! Right: one exchange at a time, whoever asks; who comes second waits for the first. [`squall_core::session`] does in
//! its refresher (`core/src/session/refresher.rs`).

use super::Flaw;

pub(super) const NAME: &str = "cold-start-double-exchange";
/// What is wrong with the session.
pub(super) const FLAW: Flaw = Flaw::LogsInTwice;
