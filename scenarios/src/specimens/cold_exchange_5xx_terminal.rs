//! `cold-exchange-5xx-terminal`: one 503 of the auth service ends recovery for good.
//!
//! The loop ends on an error, because after a 401 it must: whoever is unknown is not made known by asking again. A 503
//! comes the same way and says nothing of the kind. The connection lives on what it has until that ends, minutes later,
//! when nobody thinks of the deployment of the auth service any more, and then stays away until a person logs in.
//!
//! Right: only a definite answer is final; all else is asked again. [`squall_core::session`] does, by
//! `ExchangeError::is_definite` (`core/src/session/auth.rs`).

use super::Flaw;

pub(super) const NAME: &str = "cold-exchange-5xx-terminal";
/// What is wrong with the session.
pub(super) const FLAW: Flaw = Flaw::FailureIsFinal;
