//! Asking and answering, beside what is stored: a request has a deadline, and whoever answers can stop to.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use super::places::Place;
use super::shell::ConnectionOf;
use super::{AskError, RespondError};
use crate::env::{Env, Task};
use crate::time::Clock;
use crate::transport::{Connection, Message, Subscription};

/// Answers a request; an error answers nothing.
pub(super) type Handler =
    Arc<dyn Fn(Message) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync>;

/// Answers requests until it is told not to, or dropped; then what is being answered is dropped too.
pub struct Responder {
    stop: mpsc::UnboundedSender<oneshot::Sender<()>>,
    _task: Task,
    _place: Place,
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

impl Responder {
    /// Takes no more requests: once it returns, none will be handled that was not by then. What is being answered still is.
    /// Idempotent.
    pub async fn unsubscribe(&self) {
        let (done, stopped) = oneshot::channel();
        if self.stop.send(done).is_ok() {
            // An error means that it had stopped by itself.
            let _gone = stopped.await;
        }
    }
}

/// Asks, and waits for the first answer until the deadline.
pub(super) async fn request<E: Env>(
    env: &E,
    connection: &ConnectionOf<E>,
    message: Message,
    deadline: Duration,
) -> Result<Bytes, AskError> {
    let until = env.clock().now() + deadline;
    tokio::select! {
        biased;
        answer = connection.request(message) => Ok(answer?.payload),
        () = env.clock().sleep_until(until) => Err(AskError::TimedOut),
    }
}

/// Begins to answer: whoever asks after this has returned is heard.
pub(super) async fn respond<E: Env>(
    env: &E,
    connection: &ConnectionOf<E>,
    subject: &str,
    max: usize,
    handler: Handler,
    place: Place,
) -> Result<Responder, RespondError> {
    let subscription = connection.subscribe(subject, None).await?;
    connection.flush().await?;
    let (_mailbox, closed) = place.take_up().ok_or(RespondError::Closed)?;
    let (stop, stops) = mpsc::unbounded_channel();
    let answering = answer(
        connection.clone(),
        subscription,
        handler,
        max,
        stops,
        closed,
    );
    Ok(Responder {
        stop,
        _task: env.spawn("chat responder", answering),
        _place: place,
    })
}

async fn answer<C: Connection>(
    connection: C,
    mut subscription: Subscription,
    handler: Handler,
    max: usize,
    mut stops: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    mut closed: oneshot::Receiver<()>,
) {
    let mut under_way = FuturesUnordered::new();
    let stopped = loop {
        tokio::select! {
            biased;
            stopped = stops.recv() => break stopped,
            _closed = &mut closed => break None,
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            request = subscription.next(), if under_way.len() < max => match request {
                Some(request) => under_way.push(handle(&connection, &handler, request)),
                None => break None,
            },
        }
    };
    drop(subscription);
    stops.close();
    if let Some(stopped) = stopped {
        let _gone = stopped.send(());
    }
    while let Ok(stopped) = stops.try_recv() {
        let _gone = stopped.send(());
    }
    while under_way.next().await.is_some() {}
}

async fn handle<C: Connection>(connection: &C, handler: &Handler, request: Message) {
    // Who expects no answer asks nothing.
    let Some(reply) = request.reply.clone() else {
        return;
    };
    let subject = request.subject.clone();
    match handler(request).await {
        Ok(payload) => {
            if let Err(error) = connection.publish(Message::new(reply, payload)).await {
                tracing::warn!(%subject, %error, "an answer could not be sent");
            }
        }
        Err(error) => tracing::warn!(%subject, %error, "a request is not answered"),
    }
}

/// A handler without its types.
pub(super) fn erase<F, R, X>(handler: F) -> Handler
where
    F: Fn(Message) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Bytes, X>> + Send + 'static,
    X: fmt::Display,
{
    Arc::new(move |request| {
        let answer = handler(request);
        Box::pin(async move { answer.await.map_err(|error| error.to_string()) })
    })
}
