//! What arrives over time: [`Subscription`], [`Watch`], [`Reader`], [`Pulled`] and [`Events`], and the sending ends that transports hold.
//!
//! Plain bounded queues (tokio's mpsc, which needs no runtime). The reader going away is told to the sender by a failed
//! send; a reader that must be noticed at once gives its transport a guard to drop. What happens to a connection is rare
//! and heard by many, each lock among them: it has queues that take memory only for what waits in them.

use std::any::Any;
use std::fmt;
use std::task::{Context, Poll, Waker};

use futures_channel::mpsc as rare;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::connection::ConnectionEvent;
use super::consumer::PullEvent;
use super::kv::WatchEvent;
use super::message::Message;
use super::stream::ReaderEvent;

macro_rules! receiver {
    ($(#[$doc:meta])* $name:ident, $(#[$sender_doc:meta])* $sender:ident, $item:ty) => {
        $(#[$doc])*
        pub struct $name {
            items: mpsc::Receiver<$item>,
            _guard: Option<Box<dyn Any + Send + Sync>>,
        }

        $(#[$sender_doc])*
        #[derive(Clone)]
        pub struct $sender(mpsc::Sender<$item>);

        impl $name {
            /// A queue of `capacity` items; `guard` is dropped with the reading end. For implementations of the seam.
            pub fn channel(
                capacity: usize,
                guard: Option<Box<dyn Any + Send + Sync>>,
            ) -> ($sender, Self) {
                let (sender, items) = mpsc::channel(capacity.max(1));
                ($sender(sender), Self { items, _guard: guard })
            }

            /// The next item; `None` once it has ended and all has been read. Cancel-safe.
            pub async fn next(&mut self) -> Option<$item> {
                self.items.recv().await
            }

            /// The next item if it is already there.
            pub fn try_next(&mut self) -> Option<$item> {
                self.items.try_recv().ok()
            }
        }

        impl $sender {
            /// Queues an item.
            ///
            /// # Errors
            /// [`Full`](mpsc::error::TrySendError::Full) if the reader is slow, and the item is not queued;
            /// [`Closed`](mpsc::error::TrySendError::Closed) if the reader is gone.
            #[allow(clippy::result_large_err, reason = "the item is given back, as tokio does")]
            pub fn try_send(&self, item: $item) -> Result<(), mpsc::error::TrySendError<$item>> {
                self.0.try_send(item)
            }

            /// Places left.
            pub fn capacity(&self) -> usize {
                self.0.capacity()
            }

            /// Ready once there is room for this many items (at most for all it holds), or the reader is gone.
            pub async fn room(&self, items: usize) {
                // Gives the places back at once: a sender with an order to keep is the only one of its queue.
                let _ = self.0.reserve_many(items.min(self.0.max_capacity())).await;
            }

            /// True once the reader is gone.
            pub fn is_closed(&self) -> bool {
                self.0.is_closed()
            }

            /// Ready once the reader is gone.
            pub async fn closed(&self) {
                self.0.closed().await;
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        impl fmt::Debug for $sender {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($sender))
            }
        }
    };
}

receiver!(
    /// The messages of one subscription, in the order of their arrival. Dropping it unsubscribes.
    ///
    /// It holds at most [`subscription_capacity`](super::ConnectOptions::subscription_capacity) unread messages;
    /// further ones are dropped, and [`ConnectionEvent::SlowConsumer`] says so. Ends with its connection.
    Subscription,
    /// The sending end of a [`Subscription`].
    SubscriptionSender,
    Message
);

receiver!(
    /// What happens in a bucket. Dropping it ends the watch. Ends with its connection.
    Watch,
    /// The sending end of a [`Watch`].
    WatchSender,
    WatchEvent
);

receiver!(
    /// What a stream holds and gets. Dropping it ends the reading. Ends with its connection.
    Reader,
    /// The sending end of a [`Reader`].
    ReaderSender,
    ReaderEvent
);

receiver!(
    /// What a pull brings. Ends after [`PullEvent::Ended`].
    Pulled,
    /// The sending end of a [`Pulled`].
    PulledSender,
    PullEvent
);

/// What happens to a connection, in order and without loss; ends after [`ConnectionEvent::Closed`].
#[derive(Debug)]
pub struct Events(rare::UnboundedReceiver<ConnectionEvent>);

impl Events {
    /// Nothing more to tell. For implementations of the seam.
    pub fn ended() -> Self {
        Self(rare::unbounded().1)
    }

    /// The next event; `None` after [`ConnectionEvent::Closed`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<ConnectionEvent> {
        self.0.recv().await.ok()
    }

    /// The next event if it has already happened.
    pub fn try_next(&mut self) -> Option<ConnectionEvent> {
        self.0.try_recv().ok()
    }
}

impl Drop for Events {
    /// Its sender goes later, and would wake whoever has waited here last, who waits for something else by then.
    fn drop(&mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(_)) = self.0.poll_next_unpin(&mut nobody) {}
    }
}

/// Tells every listener of a connection what happens. For implementations of the seam.
#[derive(Debug, Default)]
pub struct EventsSender(Vec<rare::UnboundedSender<ConnectionEvent>>);

impl EventsSender {
    /// A listener from now on.
    pub fn listen(&mut self) -> Events {
        // Where nothing happens nobody is noticed to have gone. All are looked at once there are twice as many as were left
        // the last time.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|listener| !listener.is_closed());
            self.0.reserve(self.0.len());
        }
        let (sender, receiver) = rare::unbounded();
        self.0.push(sender);
        Events(receiver)
    }

    /// Tells all listeners, forgets those that are gone, and ends all after [`ConnectionEvent::Closed`].
    pub fn send(&mut self, event: &ConnectionEvent) {
        self.0
            .retain(|listener| listener.unbounded_send(event.clone()).is_ok());
        if *event == ConnectionEvent::Closed {
            self.0.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It waits for something else by then.
    #[test]
    fn who_has_gone_is_not_woken() {
        let woken = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut sender = EventsSender::default();
        let (mut gone, mut stays) = (sender.listen(), sender.listen());
        for events in [&mut gone, &mut stays] {
            let polled = pin!(events.next()).poll(&mut Context::from_waker(&waker));
            assert_eq!(polled, Poll::Pending);
        }
        drop(gone);
        sender.send(&ConnectionEvent::LameDuck);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(stays.try_next(), Some(ConnectionEvent::LameDuck));
    }

    /// However many come and go while nothing happens, and however many stay: the senders are not many more, and not all of
    /// them are looked at for each that comes.
    #[test]
    fn listeners_that_have_gone_are_forgotten_in_time() {
        for staying in [0, 1, 255, 256, 257] {
            let mut sender = EventsSender::default();
            let _stay: Vec<Events> = (0..staying).map(|_| sender.listen()).collect();
            let mut looks = 0;
            for _ in 0..10_000 {
                let before = sender.0.len();
                drop(sender.listen());
                looks += usize::from(sender.0.len() <= before);
            }
            assert!(sender.0.len() <= 4 * staying + 8, "{staying} stay");
            assert!(looks * staying <= 10_000, "{looks} looks, {staying} stay");
        }
    }
}
