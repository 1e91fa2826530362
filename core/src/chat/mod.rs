//! Chat: what agents of a project say to each other, kept and live, after the `chat` package of bones.
//!
//! One stream per project holds what is said, under one subject a thread. [`Chat::send`] stores a message,
//! [`Chat::watch`] tells what is said from now on, [`Chat::list_threads`] reads what is held. Beside that,
//! [`Chat::request`] and [`Chat::respond`] ask and answer without a trace.
//!
//! ```text
//!   Chat ─ send ──▶ one publish, under an id of its own ──▶ stream chat-<project>
//!      └─ watch ─▶ Reader ──▶ Follower: told before? a gap? ──▶ Mailbox ──▶ Watch
//! ```
//!
//! **Threads of one id.** Eight digits are few, and two names may come to the same. Nothing is merged by that:
//! [`Chat::thread`] refuses a name whose id is taken by another; each message tells the name of its thread, so that where
//! two senders were quicker than that, a watch of the one tells the other's messages as
//! [`Event::OtherThread`], and a scan counts the two as two. Messages without a name, of other programs, belong to
//! whatever thread has the id.
//!
//! **Once.** A send whose acknowledgement is lost is published again under the same id, and the server stores it once, as
//! long as it remembers the id: 2 minutes, or as long as messages live where that is shorter. Beyond that nothing is sent
//! again.

mod ask;
mod attach;
mod config;
mod envelope;
mod error;
mod event;
mod follower;
mod mailbox;
mod places;
mod scan;
mod send;
mod shell;
mod trace;
mod watch;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use self::ask::Responder;
pub use self::config::{Config, ConfigError};
pub use self::envelope::{
    Envelope, NotAThreadId, Received, Thread, ThreadId, all, ask_subject, stream, subject,
};
pub use self::error::{
    AskError, OpenError, RespondError, ScanError, SendError, SubscribeError, ThreadError,
};
pub use self::event::{End, Event, Gap};
pub use self::scan::ThreadSummary;
pub use self::send::{Draft, Sent, Unconfirmed};
use self::shell::Inner;
pub use self::trace::{NotATraceParent, TraceParent};
pub use self::watch::Watch;
use crate::env::Env;
use crate::transport::{Message, Transport};

/// What the handle needs of its surroundings, without naming their type.
trait Api: Send + Sync {
    fn project(&self) -> &str;
    fn thread<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Thread, ThreadError>>;
    fn send<'a>(
        &'a self,
        thread: &'a Thread,
        draft: Draft,
    ) -> BoxFuture<'a, Result<Sent, SendError>>;
    fn send_again(&self, message: Unconfirmed) -> BoxFuture<'_, Result<Sent, SendError>>;
    fn watch(
        &self,
        pattern: String,
        name: Option<Arc<str>>,
    ) -> BoxFuture<'_, Result<Watch, SubscribeError>>;
    fn scan<'a>(
        &'a self,
        agent: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<ThreadSummary>, ScanError>>;
    fn request(
        &self,
        message: Message,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, AskError>>;
    fn respond<'a>(
        &'a self,
        subject: &'a str,
        handler: ask::Handler,
    ) -> BoxFuture<'a, Result<Responder, RespondError>>;
    fn close(&self);
}

/// One agent's part in the chat of a project. Clones share it; when the last is dropped it is closed.
#[derive(Clone)]
pub struct Chat(Arc<dyn Api>);

impl fmt::Debug for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chat({})", self.0.project())
    }
}

impl Chat {
    /// Joins: creates the project's stream, or gives it this retention, at once and for everybody.
    ///
    /// # Errors
    /// After an error there is nothing to close.
    pub async fn open<E: Env>(
        env: &E,
        connection: &<E::Transport as Transport>::Connection,
        config: Config,
    ) -> Result<Self, OpenError> {
        let inner = Inner::<E>::open(env, connection, config).await?;
        Ok(Self(Arc::new(inner)))
    }

    /// The thread of this name. One read, the first time it is asked for.
    ///
    /// # Errors
    /// [`ThreadError::Collides`] if its id is taken by a thread of another name.
    pub async fn thread(&self, name: &str) -> Result<Thread, ThreadError> {
        self.0.thread(name).await
    }

    /// Says something in a thread: once this has returned it is stored, and on its way to all who watch. One publish,
    /// unless its acknowledgement is lost; at most `send_timeout`.
    ///
    /// # Errors
    /// See [`SendError`]: after [`SendError::Unconfirmed`] it may be stored.
    pub async fn send(&self, thread: &Thread, draft: impl Into<Draft>) -> Result<Sent, SendError> {
        self.0.send(thread, draft.into()).await
    }

    /// Sends again what may be stored already: it will be stored once.
    ///
    /// # Errors
    /// [`SendError::TooLate`] if the server may have forgotten it, or may not be asked.
    pub async fn send_again(&self, message: Unconfirmed) -> Result<Sent, SendError> {
        self.0.send_again(message).await
    }

    /// What is said in a thread from now on.
    ///
    /// Of a stream with copies, the server that reads for it may let a message go for its age before it has read it, where
    /// it stood still for as long: [`watch_all`](Self::watch_all) tells that as a gap, and this cannot. Keep messages for
    /// longer than servers stand still.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn watch(&self, thread: &Thread) -> Result<Watch, SubscribeError> {
        let pattern = subject(self.0.project(), thread.id());
        let name = Some(Arc::clone(&thread.name));
        self.0.watch(pattern, name).await
    }

    /// What is said in the project from now on.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn watch_all(&self) -> Result<Watch, SubscribeError> {
        self.0.watch(all(self.0.project()), None).await
    }

    /// What is said from now on under subjects of the project, `chat.<project>.<thread id>`, that match this pattern.
    ///
    /// # Errors
    /// [`SubscribeError::InvalidPattern`] if it may match anything else.
    pub async fn watch_pattern(&self, pattern: &str) -> Result<Watch, SubscribeError> {
        if !envelope::is_pattern(self.0.project(), pattern) {
            return Err(SubscribeError::InvalidPattern(pattern.to_owned()));
        }
        self.0.watch(pattern.to_owned(), None).await
    }

    /// All threads of which something is held, most recent first; at most `scan_timeout`.
    ///
    /// Every message counts that was acknowledged before the call, to anybody, and is still held; what comes or goes
    /// meanwhile may count. Of a stream with copies that takes about a second, until its leader has heard a majority; and
    /// where servers of a cluster hear what another has said more than 250 ms before, a leader that is just being succeeded
    /// may miss what the next one has stored.
    ///
    /// # Errors
    /// See [`ScanError`]; never a part of the answer.
    pub async fn list_threads(&self) -> Result<Vec<ThreadSummary>, ScanError> {
        self.0.scan(None).await
    }

    /// The threads in which this agent has said something that is held, most recent first, and of them the first `max`: as
    /// [`list_threads`](Self::list_threads) finds them.
    ///
    /// # Errors
    /// See [`ScanError`]; never a part of the answer.
    pub async fn threads_for_agent(
        &self,
        agent: &str,
        max: usize,
    ) -> Result<Vec<ThreadSummary>, ScanError> {
        let mut threads = self.0.scan(Some(agent)).await?;
        threads.truncate(max);
        Ok(threads)
    }

    /// Asks whoever answers there, such as an agent at its [`ask_subject`], and waits for the first answer: until the
    /// deadline, or for the connection's `request_timeout` where that is shorter.
    ///
    /// # Errors
    /// See [`AskError`]: where nobody has answered, somebody may have acted.
    pub async fn request(
        &self,
        subject: &str,
        payload: impl Into<Bytes>,
        deadline: Duration,
    ) -> Result<Bytes, AskError> {
        self.0
            .request(Message::new(subject, payload), deadline)
            .await
    }

    /// Answers what is asked there. An error of the handler answers nothing. All who answer at one subject hear every
    /// request, and whoever asks gets the first answer. It takes none of the places of watches.
    ///
    /// # Errors
    /// After an error nobody answers.
    pub async fn respond<F, R, X>(
        &self,
        subject: &str,
        handler: F,
    ) -> Result<Responder, RespondError>
    where
        F: Fn(Message) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Bytes, X>> + Send + 'static,
        X: fmt::Display,
    {
        self.0.respond(subject, ask::erase(handler)).await
    }

    /// Leaves: ends all watches, which are told [`End::Closed`], and answers nothing more. The stream stays. Idempotent;
    /// afterwards every method returns `Closed`.
    pub async fn close(&self) {
        self.0.close();
    }
}
