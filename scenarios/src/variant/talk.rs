//! The chat under test: the core's own, or a specimen that stands in for it.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use squall_core::Env;
use squall_core::chat::{
    AskError, Chat, Config, End, Event, OpenError, RespondError, Responder, ScanError, SendError,
    Sent, SubscribeError, Thread, ThreadError, ThreadSummary,
};
use squall_core::transport::Message;

use super::ConnectionOf;
use crate::specimens;

/// What a watch tells, and why it ends.
pub type Told = BoxStream<'static, Result<Event, End>>;

/// What agents use of a chat, right or wrong.
pub trait Talk: Send + Sync {
    /// As [`Chat::thread`].
    fn thread<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Thread, ThreadError>>;
    /// As [`Chat::send`].
    fn send<'a>(
        &'a self,
        thread: &'a Thread,
        body: &'a str,
    ) -> BoxFuture<'a, Result<Sent, SendError>>;
    /// As [`Chat::watch`], or [`Chat::watch_all`].
    fn watch<'a>(
        &'a self,
        thread: Option<&'a Thread>,
    ) -> BoxFuture<'a, Result<Told, SubscribeError>>;
    /// As [`Chat::threads_for_agent`], or [`Chat::list_threads`].
    fn threads<'a>(
        &'a self,
        agent: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<ThreadSummary>, ScanError>>;
    /// As [`Chat::request`].
    fn ask<'a>(
        &'a self,
        subject: &'a str,
        deadline: std::time::Duration,
    ) -> BoxFuture<'a, Result<Bytes, AskError>>;
    /// As [`Chat::respond`], saying back what it is asked.
    fn echo<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Responder, RespondError>>;
    /// As [`Chat::close`].
    fn close(&self) -> BoxFuture<'_, ()>;
}

impl Talk for Chat {
    fn thread<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Thread, ThreadError>> {
        Box::pin(Self::thread(self, name))
    }

    fn send<'a>(
        &'a self,
        thread: &'a Thread,
        body: &'a str,
    ) -> BoxFuture<'a, Result<Sent, SendError>> {
        Box::pin(Self::send(self, thread, body))
    }

    fn watch<'a>(
        &'a self,
        thread: Option<&'a Thread>,
    ) -> BoxFuture<'a, Result<Told, SubscribeError>> {
        Box::pin(async move {
            let watch = match thread {
                Some(thread) => Self::watch(self, thread).await?,
                None => self.watch_all().await?,
            };
            let told = stream::unfold(Some(watch), |watch| async {
                let mut watch = watch?;
                match watch.next().await {
                    Ok(event) => Some((Ok(event), Some(watch))),
                    Err(end) => Some((Err(end), None)),
                }
            });
            Ok(told.boxed())
        })
    }

    fn threads<'a>(
        &'a self,
        agent: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<ThreadSummary>, ScanError>> {
        Box::pin(async move {
            match agent {
                Some(agent) => self.threads_for_agent(agent, usize::MAX).await,
                None => self.list_threads().await,
            }
        })
    }

    fn ask<'a>(
        &'a self,
        subject: &'a str,
        deadline: std::time::Duration,
    ) -> BoxFuture<'a, Result<Bytes, AskError>> {
        Box::pin(self.request(subject, "are you there?", deadline))
    }

    fn echo<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Responder, RespondError>> {
        let echo = |request: Message| async { Ok::<_, std::convert::Infallible>(request.payload) };
        Box::pin(self.respond(subject, echo))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Self::close(self))
    }
}

/// Opens the right chat, or the specimen of this name.
pub(crate) async fn open<E: Env>(
    specimen: Option<&str>,
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
) -> Result<Box<dyn Talk>, OpenError> {
    match specimen.filter(|name| specimens::is_chat(name)) {
        None => Ok(Box::new(Chat::open(env, connection, config).await?)),
        Some(name) => specimens::talk(name, env, connection, config).await,
    }
}
