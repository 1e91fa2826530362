//! [`Spoilt`]: the right presence with one thing made wrong, so that a specimen shows its flaw and nothing else.

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use squall_core::presence::{Entry, Notice, Presence, PresenceError};

use crate::variant::{Present, Watching};

/// What is not written anew is as it is in the right one.
pub(super) trait Spoilt: Send + Sync {
    /// The right one.
    fn right(&self) -> &Presence;

    /// As [`Present::who`].
    fn who(&self) -> BoxFuture<'_, Result<Vec<Entry>, PresenceError>> {
        Present::who(self.right())
    }

    /// As [`Present::watch`].
    fn watch(&self) -> BoxFuture<'_, Result<Watching, PresenceError>> {
        Present::watch(self.right())
    }

    /// As [`Present::notices`].
    fn notices(&self) -> BoxStream<'static, Notice> {
        Present::notices(self.right())
    }

    /// As [`Present::close`].
    fn close(&self) -> BoxFuture<'_, ()> {
        Present::close(self.right())
    }
}

impl<S: Spoilt> Present for S {
    fn who(&self) -> BoxFuture<'_, Result<Vec<Entry>, PresenceError>> {
        Spoilt::who(self)
    }

    fn present<'a>(&'a self, agent: &'a str) -> BoxFuture<'a, Result<bool, PresenceError>> {
        Present::present(self.right(), agent)
    }

    fn watch(&self) -> BoxFuture<'_, Result<Watching, PresenceError>> {
        Spoilt::watch(self)
    }

    fn notices(&self) -> BoxStream<'static, Notice> {
        Spoilt::notices(self)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Spoilt::close(self)
    }
}
