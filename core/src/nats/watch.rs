//! A watch over a bucket, or a reader over a stream: the hands of the core's own [`Watcher`], which decides.
//!
//! The machine is the reader of a serial whose paper boys come and go: it knows the last issue that was read, and asks
//! each new boy for the next one. Here is the street: requests that describe the stream and open consumers, one
//! consumer at a time, what is known of the link, and the queue that the reader takes its events from.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use super::TokioClock;
use super::admin;
use super::api::Failure;
use super::consumer::{Consumer, Heard, Source};
use super::link::{Link, Shared};
use super::stream_config;
use crate::machine::{Shell, drive};
use crate::transport::watcher::{
    Attempt, CONTROL_ROOM, ConsumerFrom, Description, Item, Told, Watcher, WatcherEffect,
    WatcherEvent,
};
use crate::transport::{
    ConnectionEvent, KvEntry, PublishError, ReadStart, ReaderSender, RequestError, Sequence,
    StoredMessage, WatchError, WatchSender,
};

/// The queue of a reader.
pub(super) trait Outlet: Send + 'static {
    type Item: Item + Send + 'static;

    /// `false` if the reader is gone, or has no room.
    fn tell(&self, told: Told<Self::Item>) -> bool;
    /// Places left.
    fn capacity(&self) -> usize;
    /// Ready once there is a place, or the reader is gone.
    fn room(&self) -> impl Future<Output = ()> + Send;
    /// Ready once the reader is gone.
    fn closed(&self) -> impl Future<Output = ()> + Send;
}

macro_rules! outlet {
    ($sender:ty, $item:ty) => {
        impl Outlet for $sender {
            type Item = $item;

            fn tell(&self, told: Told<$item>) -> bool {
                self.try_send(told.into()).is_ok()
            }

            fn capacity(&self) -> usize {
                Self::capacity(self)
            }

            async fn room(&self) {
                Self::room(self, 1).await;
            }

            async fn closed(&self) {
                Self::closed(self).await;
            }
        }
    };
}

outlet!(WatchSender, KvEntry);
outlet!(ReaderSender, StoredMessage);

/// Places of the queue of a reader that may have so much unread.
pub(super) fn capacity(unread: usize) -> usize {
    unread.max(1).saturating_add(CONTROL_ROOM)
}

/// Reads into `out`; returns once that has begun.
pub(super) async fn start<O: Outlet>(
    shared: &Arc<Shared>,
    source: Source<O::Item>,
    start: impl Into<ReadStart>,
    out: O,
) -> Result<(), WatchError> {
    let options = &shared.options;
    let mut machine = Watcher::new(start, options.watch_heartbeat);
    let (opened, answer) = oneshot::channel();
    let mut links = shared.link_changes();
    let link = *links.borrow_and_update();
    let mut street = Street {
        shared: Arc::clone(shared),
        source: Arc::new(source),
        out,
        opened: Some(opened),
        links,
        link,
        heard: VecDeque::new(),
        asking: None,
        consumer: None,
        lost: None,
    };
    if !link.up {
        street.heard.push_back(WatcherEvent::Link { up: false });
    }
    tokio::spawn(async move {
        drive(&TokioClock::new(), &mut machine, &mut street).await;
        street.discard();
    });
    let answer = tokio::time::timeout(options.request_timeout, answer);
    match shared.until_closed(answer).await {
        Some(Ok(Ok(opened))) => opened,
        Some(Err(_)) => Err(WatchError::TimedOut),
        Some(Ok(Err(_))) | None => Err(WatchError::Closed),
    }
}

/// See the head of this file.
struct Street<O: Outlet> {
    shared: Arc<Shared>,
    source: Arc<Source<O::Item>>,
    out: O,
    /// Who waits for the first attempt.
    opened: Option<oneshot::Sender<Result<(), WatchError>>>,
    links: watch::Receiver<Link>,
    /// The link as the machine knows it.
    link: Link,
    /// What the machine is to hear first.
    heard: VecDeque<WatcherEvent<O::Item>>,
    /// What the latest attempt has asked the server; older questions are dropped.
    asking: Option<BoxFuture<'static, Answer<O::Item>>>,
    consumer: Option<(Attempt, Consumer<O::Item>)>,
    /// The first record of this batch that the reader had no room for.
    lost: Option<Sequence>,
}

enum Answer<T> {
    Described(Attempt, Result<Description, Failure>),
    Created(Attempt, Result<Consumer<T>, Failure>),
}

impl<O: Outlet> Shell<Watcher<O::Item>> for Street<O> {
    async fn next(&mut self) -> Option<WatcherEvent<O::Item>> {
        loop {
            if let Some(lost) = self.lost.take() {
                return Some(WatcherEvent::Overflow { lost });
            }
            if let Some(event) = self.heard.pop_front() {
                return Some(event);
            }
            // What has been delivered comes before the news that the link is gone.
            tokio::select! {
                biased;
                () = self.out.closed() => return None,
                (attempt, heard) = hear(&mut self.consumer) => match heard {
                    Heard::Item { item, delivered, pending } => {
                        let consumer_seq = delivered;
                        return Some(WatcherEvent::Delivered { attempt, consumer_seq, pending, item });
                    }
                    Heard::Idle { delivered } => {
                        let last_consumer_seq = delivered;
                        return Some(WatcherEvent::Heartbeat { attempt, last_consumer_seq });
                    }
                    // Closing follows.
                    Heard::Ended => self.consumer = None,
                },
                changed = self.links.changed() => {
                    if changed.is_err() || self.links.borrow().closed {
                        return None;
                    }
                    self.link_changed();
                }
                answer = answered(&mut self.asking) => return Some(self.answered(answer)),
            }
        }
    }

    async fn perform(&mut self, effect: WatcherEffect<O::Item>) -> ControlFlow<()> {
        match effect {
            WatcherEffect::Describe(attempt) => {
                let (shared, source) = (Arc::clone(&self.shared), Arc::clone(&self.source));
                self.asking = Some(Box::pin(async move {
                    Answer::Described(attempt, describe(&shared, &source.stream).await)
                }));
            }
            WatcherEffect::Create { attempt, from } => self.create(attempt, from),
            WatcherEffect::Discard(_) => self.discard(),
            WatcherEffect::Tell(Told::Item(item)) => {
                if self.lost.is_none() && self.out.capacity() > CONTROL_ROOM {
                    return self.tell(Told::Item(item));
                }
                if self.lost.is_none() {
                    self.shared.tell(ConnectionEvent::SlowConsumer);
                    self.lost = Some(item.sequence());
                }
            }
            WatcherEffect::Tell(told) => {
                // There is room, unless the link came and went again and again while the reader slept.
                return match self.shared.until_closed(self.out.room()).await {
                    Some(()) => self.tell(told),
                    None => ControlFlow::Break(()),
                };
            }
            WatcherEffect::CheckRoom => {
                let places = self.shared.options.subscription_capacity.max(1);
                let enough = self.out.capacity() >= CONTROL_ROOM + places.div_ceil(2);
                self.heard.push_back(WatcherEvent::Room { enough });
            }
            WatcherEffect::Opened => self.open(Ok(())),
            WatcherEffect::Failed(error) => {
                self.open(Err(error));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

impl<O: Outlet> Street<O> {
    /// Ends the watch where the reader is gone.
    fn tell(&self, told: Told<O::Item>) -> ControlFlow<()> {
        match self.out.tell(told) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    fn open(&mut self, opened: Result<(), WatchError>) {
        if let Some(waiting) = self.opened.take() {
            // Whoever waited has given up: then the reader is gone, too.
            let _gone = waiting.send(opened);
        }
    }

    /// Another generation is another link, though the end of the one before went by unseen.
    fn link_changed(&mut self) {
        let (before, now) = (self.link, *self.links.borrow_and_update());
        let is_other = now.generation != before.generation;
        if before.up && (!now.up || is_other) {
            self.heard.push_back(WatcherEvent::Link { up: false });
        }
        if now.up && (!before.up || is_other) {
            self.heard.push_back(WatcherEvent::Link { up: true });
        }
        self.link = now;
    }

    fn create(&mut self, attempt: Attempt, from: ConsumerFrom) {
        let start = match from {
            ConsumerFrom::Last => ReadStart::Last,
            ConsumerFrom::LastPerSubject => ReadStart::LastPerSubject,
            ConsumerFrom::Sequence(sequence) => ReadStart::Sequence(sequence),
            ConsumerFrom::Time(time) => ReadStart::Time(time),
        };
        let (shared, source) = (Arc::clone(&self.shared), Arc::clone(&self.source));
        self.asking = Some(Box::pin(async move {
            let heartbeat = shared.options.watch_heartbeat;
            let created = Consumer::open(&shared, &source, start, heartbeat).await;
            Answer::Created(attempt, created)
        }));
    }

    fn answered(&mut self, answer: Answer<O::Item>) -> WatcherEvent<O::Item> {
        match answer {
            Answer::Described(attempt, described) => {
                let described = described.map_err(watch_error);
                WatcherEvent::Described(attempt, described)
            }
            Answer::Created(attempt, Ok(consumer)) => {
                let pending = consumer.pending;
                self.consumer = Some((attempt, consumer));
                WatcherEvent::Created(attempt, Ok(pending))
            }
            Answer::Created(attempt, Err(failure)) => {
                WatcherEvent::Created(attempt, Err(watch_error(failure)))
            }
        }
    }

    fn discard(&mut self) {
        self.asking = None;
        if let Some((_, consumer)) = self.consumer.take() {
            consumer.delete();
        }
    }
}

/// What the consumer says; nothing, where there is none.
async fn hear<T>(consumer: &mut Option<(Attempt, Consumer<T>)>) -> (Attempt, Heard<T>) {
    match consumer {
        Some((attempt, consumer)) => (*attempt, consumer.hear().await),
        None => std::future::pending().await,
    }
}

/// What the server answers; nothing, where it was asked nothing.
async fn answered<T>(asking: &mut Option<BoxFuture<'static, Answer<T>>>) -> Answer<T> {
    match asking {
        Some(question) => {
            let answer = question.await;
            *asking = None;
            answer
        }
        None => std::future::pending().await,
    }
}

async fn describe(shared: &Shared, stream: &str) -> Result<Description, Failure> {
    let info = stream_config::read_info(&admin::info(shared, stream).await?);
    let info = info.ok_or(Failure::Request(RequestError::TimedOut))?;
    Ok(Description::from(&info))
}

fn watch_error(failure: Failure) -> WatchError {
    if failure.is_not_found() {
        return WatchError::NoBucket;
    }
    match failure {
        Failure::Api(error) => WatchError::Rejected(error),
        Failure::Request(RequestError::NoResponders) => WatchError::NoBucket,
        Failure::Request(RequestError::TimedOut) => WatchError::TimedOut,
        Failure::Request(RequestError::Publish(PublishError::InvalidSubject(name))) => {
            WatchError::InvalidFilter(name)
        }
        Failure::Request(RequestError::Publish(_) | RequestError::ClosedWhileWaiting) => {
            WatchError::Closed
        }
    }
}
