//! `chat-ordered-new-gap`: a live subscription that is reset before its first delivery starts again at "new".
//!
//! An ordered consumer that delivers "new" messages is made anew when its connection was lost: after the last message that
//! it has delivered, if it has delivered any; otherwise at "new" again, which by now is another place. What came in
//! between nobody is told of, nor that anything did.
//!
//! Right: "new" is asked for once, and remembered as a place in the stream. [`squall_core::transport::watcher`] does, and
//! [`squall_core::chat`] knows where its watch began (`core/src/chat/watch.rs`).

use super::simple_watch::WatchFlaw;

pub(super) const NAME: &str = "chat-ordered-new-gap";
pub(super) const FLAW: WatchFlaw = WatchFlaw::BeginsAtNewAgain;
