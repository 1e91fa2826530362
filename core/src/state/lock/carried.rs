//! Work that its caller carries, and that goes on by itself where the caller lets go of it.
//!
//! Whoever wants a lock polls the acquisition in a task of its own: a task more for each would cost two wake-ups, which are
//! a tenth of what an acquisition costs on a near server. But an acquisition must not end where its caller stops waiting (a
//! `select!`, a timeout): a write may be on its way, and nobody would undo it. So what is dropped unfinished becomes a
//! task, and is told that nobody waits.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use crate::env::Env;

/// See the head of this file. What it gives once nobody waits is dropped.
pub(super) struct Carried<E: Env, T: Send + 'static> {
    env: E,
    /// `None` once it has ended.
    work: Option<BoxFuture<'static, T>>,
    abandoned: Abandoned,
}

/// Whether anybody still waits.
#[derive(Clone, Debug, Default)]
pub(super) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    /// Ready once nobody waits any more. Wakes nobody: it is told before the first turn in a task of its own.
    pub(super) fn told(&self) -> impl Future<Output = ()> + Send + '_ {
        poll_fn(|_| match self.0.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }
}

impl<E: Env, T: Send + 'static> Carried<E, T> {
    pub(super) fn new<F>(env: &E, work: impl FnOnce(Abandoned) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let abandoned = Abandoned::default();
        Self {
            env: env.clone(),
            work: Some(Box::pin(work(abandoned.clone()))),
            abandoned,
        }
    }
}

// Nothing in it is pinned but what is in a box.
impl<E: Env, T: Send + 'static> Unpin for Carried<E, T> {}

impl<E: Env, T: Send + 'static> Future for Carried<E, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else {
            // As of any future that has ended.
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<E: Env, T: Send + 'static> Drop for Carried<E, T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.abandoned.0.store(true, Ordering::Release);
            let rest = async move { drop(work.await) };
            self.env.spawn("lock", rest).detach();
        }
    }
}

/// What is asked, one thing at a time. It stands in the very future that waits for the answer: a box for each question
/// would be of 2 to 3 KB, which is more than allocators keep at hand.
pub(super) struct Asking<'a, A, Q, F> {
    ask: fn(&A, Q) -> F,
    place: Pin<&'a mut Option<F>>,
}

impl<'a, A, Q, F: Future> Asking<'a, A, Q, F> {
    /// Nothing yet, in this place.
    pub(super) const fn new(ask: fn(&A, Q) -> F, place: Pin<&'a mut Option<F>>) -> Self {
        Self { ask, place }
    }

    /// Begins to ask; what was asked before is forgotten.
    pub(super) fn begin(&mut self, of: &A, question: Q) {
        self.place.set(Some((self.ask)(of, question)));
    }

    /// The answer; never, while nothing is asked. Cancel-safe.
    pub(super) async fn answer(&mut self) -> F::Output {
        let Some(asked) = self.place.as_mut().as_pin_mut() else {
            return pending().await;
        };
        let answer = asked.await;
        self.place.set(None);
        answer
    }
}

/// What the future in this place gives, which is empty then; never, while it is empty. Cancel-safe.
pub(super) async fn answered<T>(place: &mut Option<BoxFuture<'static, T>>) -> T {
    match place {
        Some(asking) => {
            let answer = asking.await;
            *place = None;
            answer
        }
        None => pending().await,
    }
}
