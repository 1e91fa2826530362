//! `who-cross-account-ghosts`: a late message of account A lands after login to B and is shown.
//!
//! Logging in to another account replaces the credential and, in due course, the connection. What listens was set up once
//! and stays: until the new connection is there it goes on hearing the old account, into the same lists and caches, under
//! the name of the new one. With an auth service that takes its time that lasts for seconds.
//!
//! Right: a login ends everything of the login before, at once, and what listens begins anew. [`squall_core::session`]
//! makes a connection of its own for each login (`core/src/session/line.rs`).

use super::Flaw;

pub(super) const NAME: &str = "who-cross-account-ghosts";
/// What is wrong with the session.
pub(super) const FLAW: Flaw = Flaw::WatchesOutliveLogins;
