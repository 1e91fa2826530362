//! `watch-close-send-panic`, level 1: closing the store takes the channel of every watch away, while the callback that feeds
//! it may hold an event in its hand: it sends on a channel that is not there any more, and that is a panic.
//!
//! Right beside it: [`StateStore`], where the task that sends is told to stop, and lets go of the channel itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use squall_core::state::{Entry, Event, StateError, StateStore, Ttl, WatchEnd};
use squall_core::transport::Revision;
use squall_core::{Clock as _, Env};
use tokio::sync::mpsc;

use crate::variant::state::{Keeps, Tells};

pub(super) const NAME: &str = "watch-close-send-panic";

/// How long the callback takes over an event.
const DELIVERS: Duration = Duration::from_millis(5);

type Channel = Arc<Mutex<Option<mpsc::UnboundedSender<Event>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the head of this file.
pub(super) struct ClosesWhileDelivering<E> {
    pub(super) env: E,
    pub(super) right: StateStore,
    pub(super) channels: Mutex<Vec<Channel>>,
}

struct Delivered(mpsc::UnboundedReceiver<Event>);

impl Tells for Delivered {
    fn next(&mut self) -> BoxFuture<'_, Result<Event, WatchEnd>> {
        Box::pin(async { self.0.recv().await.ok_or(WatchEnd::WatchClosed) })
    }
}

impl<E: Env> Keeps for ClosesWhileDelivering<E> {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Entry, StateError>> {
        Keeps::get(&self.right, key)
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Ttl,
        token: Option<u64>,
    ) -> BoxFuture<'a, Result<Revision, StateError>> {
        Keeps::put(&self.right, key, value, ttl, token)
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StateError>> {
        Keeps::delete(&self.right, key)
    }

    fn keys<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Vec<String>, StateError>> {
        Keeps::keys(&self.right, pattern)
    }

    fn watch<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Box<dyn Tells>, StateError>> {
        Box::pin(async move {
            let mut watch = self.right.watch(pattern).await?;
            let (sender, events) = mpsc::unbounded_channel();
            let channel: Channel = Arc::new(Mutex::new(Some(sender)));
            lock(&self.channels).push(Arc::clone(&channel));
            let clock = self.env.clock().clone();
            let callback = async move {
                while let Ok(event) = watch.next().await {
                    clock.sleep_until(clock.now() + DELIVERS).await;
                    let channel = lock(&channel);
                    let sender = channel.as_ref().expect("send on a closed channel");
                    if sender.send(event).is_err() {
                        return;
                    }
                }
                lock(&channel).take();
            };
            self.env.spawn("callback", callback).detach();
            Ok(Box::new(Delivered(events)) as Box<dyn Tells>)
        })
    }

    fn close(&self) {
        for channel in lock(&self.channels).drain(..) {
            lock(&channel).take();
        }
        Keeps::close(&self.right);
    }
}
