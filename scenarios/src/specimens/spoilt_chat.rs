//! [`SpoiltChat`]: the right chat with one thing made wrong, so that a specimen shows its flaw and nothing else.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use squall_core::chat::{
    AskError, Chat, RespondError, Responder, ScanError, SendError, Sent, SubscribeError, Thread,
    ThreadError, ThreadSummary,
};

use crate::variant::talk::{Talk, Told};

/// What is not written anew is as it is in the right one.
pub(super) trait SpoiltChat: Send + Sync {
    /// The right one.
    fn right(&self) -> &Chat;

    /// As [`Talk::send`].
    fn send<'a>(
        &'a self,
        thread: &'a Thread,
        body: &'a str,
    ) -> BoxFuture<'a, Result<Sent, SendError>> {
        Talk::send(self.right(), thread, body)
    }

    /// As [`Talk::watch`].
    fn watch<'a>(
        &'a self,
        thread: Option<&'a Thread>,
    ) -> BoxFuture<'a, Result<Told, SubscribeError>> {
        Talk::watch(self.right(), thread)
    }

    /// As [`Talk::threads`].
    fn threads<'a>(
        &'a self,
        agent: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<ThreadSummary>, ScanError>> {
        Talk::threads(self.right(), agent)
    }

    /// As [`Talk::close`].
    fn close(&self) -> BoxFuture<'_, ()> {
        Talk::close(self.right())
    }
}

impl<S: SpoiltChat> Talk for S {
    fn thread<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Thread, ThreadError>> {
        Talk::thread(self.right(), name)
    }

    fn send<'a>(
        &'a self,
        thread: &'a Thread,
        body: &'a str,
    ) -> BoxFuture<'a, Result<Sent, SendError>> {
        SpoiltChat::send(self, thread, body)
    }

    fn watch<'a>(
        &'a self,
        thread: Option<&'a Thread>,
    ) -> BoxFuture<'a, Result<Told, SubscribeError>> {
        SpoiltChat::watch(self, thread)
    }

    fn threads<'a>(
        &'a self,
        agent: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<ThreadSummary>, ScanError>> {
        SpoiltChat::threads(self, agent)
    }

    fn ask<'a>(
        &'a self,
        subject: &'a str,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Bytes, AskError>> {
        Talk::ask(self.right(), subject, deadline)
    }

    fn echo<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Responder, RespondError>> {
        Talk::echo(self.right(), subject)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        SpoiltChat::close(self)
    }
}
