//! A watch: the hands of the core's own [`Watcher`], which decides.
//!
//! The machine is the reader of a serial whose paper boys come and go: it knows the last issue that was read, and asks
//! each new boy for the next one. Here is the street: requests that describe the bucket and open consumers, one
//! consumer at a time, what is known of the link, and the queue that the reader takes its events from.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use super::TokioClock;
use super::admin::{self, stream_of};
use super::api::Failure;
use super::consumer::{Consumer, Deliver, Heard};
use super::link::{Link, Shared};
use crate::machine::{Shell, drive};
use crate::transport::watcher::{
    Attempt, CONTROL_ROOM, ConsumerFrom, Description, Item, Told, Watcher, WatcherEffect,
    WatcherEvent,
};
use crate::transport::{
    ConnectionEvent, KvEntry, PublishError, RequestError, Sequence, Watch, WatchError, WatchEvent,
    WatchSender, WatchStart,
};

pub(super) async fn start(
    shared: &Arc<Shared>,
    bucket: &str,
    filter: &str,
    start: WatchStart,
) -> Result<Watch, WatchError> {
    let options = &shared.options;
    let capacity = options
        .subscription_capacity
        .max(1)
        .saturating_add(CONTROL_ROOM);
    let (out, watch) = Watch::channel(capacity, None);
    let mut machine = Watcher::new(start, options.watch_heartbeat);
    let (opened, answer) = oneshot::channel();
    let mut links = shared.link_changes();
    let link = *links.borrow_and_update();
    let mut street = Street {
        shared: Arc::clone(shared),
        bucket: bucket.into(),
        filter: filter.into(),
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
        Some(Ok(Ok(opened))) => opened.map(|()| watch),
        Some(Err(_)) => Err(WatchError::TimedOut),
        Some(Ok(Err(_))) | None => Err(WatchError::Closed),
    }
}

/// See the head of this file.
struct Street {
    shared: Arc<Shared>,
    bucket: Arc<str>,
    filter: Arc<str>,
    out: WatchSender,
    /// Who waits for the first attempt.
    opened: Option<oneshot::Sender<Result<(), WatchError>>>,
    links: watch::Receiver<Link>,
    /// The link as the machine knows it.
    link: Link,
    /// What the machine is to hear first.
    heard: VecDeque<WatcherEvent<KvEntry>>,
    /// What the latest attempt has asked the server; older questions are dropped.
    asking: Option<BoxFuture<'static, Answer>>,
    consumer: Option<(Attempt, Consumer)>,
    /// The first record of this batch that the reader had no room for.
    lost: Option<Sequence>,
}

enum Answer {
    Described(Attempt, Result<Description, Failure>),
    Created(Attempt, Result<Consumer, Failure>),
}

impl Shell<Watcher<KvEntry>> for Street {
    async fn next(&mut self) -> Option<WatcherEvent<KvEntry>> {
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
                    Heard::Entry { entry, delivered, pending } => {
                        let consumer_seq = delivered;
                        let item = entry;
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

    async fn perform(&mut self, effect: WatcherEffect<KvEntry>) -> ControlFlow<()> {
        match effect {
            WatcherEffect::Describe(attempt) => {
                let (shared, bucket) = (Arc::clone(&self.shared), Arc::clone(&self.bucket));
                self.asking = Some(Box::pin(async move {
                    Answer::Described(attempt, describe(&shared, &bucket).await)
                }));
            }
            WatcherEffect::Create { attempt, from } => self.create(attempt, from),
            WatcherEffect::Discard(_) => self.discard(),
            WatcherEffect::Tell(Told::Item(entry)) => {
                if self.lost.is_none() && self.out.capacity() > CONTROL_ROOM {
                    return self.tell(WatchEvent::Entry(entry));
                }
                if self.lost.is_none() {
                    self.shared.tell(ConnectionEvent::SlowConsumer);
                    self.lost = Some(entry.sequence());
                }
            }
            WatcherEffect::Tell(told) => {
                // There is room, unless the link came and went again and again while the reader slept.
                return match self.shared.until_closed(self.out.room(1)).await {
                    Some(()) => self.tell(told.into()),
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

impl Street {
    /// Ends the watch where the reader is gone.
    fn tell(&self, event: WatchEvent) -> ControlFlow<()> {
        match self.out.try_send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
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
        let deliver = match from {
            ConsumerFrom::Sequence(sequence) => Deliver::From(sequence.into()),
            // A watch begins with what is there, or at a revision.
            ConsumerFrom::LastPerSubject | ConsumerFrom::Last | ConsumerFrom::Time(_) => {
                Deliver::LastPerKey
            }
        };
        let shared = Arc::clone(&self.shared);
        let (bucket, filter) = (Arc::clone(&self.bucket), Arc::clone(&self.filter));
        self.asking = Some(Box::pin(async move {
            let heartbeat = shared.options.watch_heartbeat;
            let created = Consumer::open(&shared, &bucket, &filter, deliver, heartbeat).await;
            Answer::Created(attempt, created)
        }));
    }

    fn answered(&mut self, answer: Answer) -> WatcherEvent<KvEntry> {
        match answer {
            Answer::Described(attempt, described) => {
                let described = described.map_err(|failure| watch_error(failure, &self.filter));
                WatcherEvent::Described(attempt, described)
            }
            Answer::Created(attempt, Ok(consumer)) => {
                let pending = consumer.pending;
                self.consumer = Some((attempt, consumer));
                WatcherEvent::Created(attempt, Ok(pending))
            }
            Answer::Created(attempt, Err(failure)) => {
                WatcherEvent::Created(attempt, Err(watch_error(failure, &self.filter)))
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
async fn hear(consumer: &mut Option<(Attempt, Consumer)>) -> (Attempt, Heard) {
    match consumer {
        Some((attempt, consumer)) => (*attempt, consumer.hear().await),
        None => std::future::pending().await,
    }
}

/// What the server answers; nothing, where it was asked nothing.
async fn answered(asking: &mut Option<BoxFuture<'static, Answer>>) -> Answer {
    match asking {
        Some(question) => {
            let answer = question.await;
            *asking = None;
            answer
        }
        None => std::future::pending().await,
    }
}

async fn describe(shared: &Shared, bucket: &str) -> Result<Description, Failure> {
    let info = admin::info(shared, &stream_of(bucket)).await?;
    let info = admin::read_info(bucket, &info);
    let info = info.ok_or(Failure::Request(RequestError::TimedOut))?;
    Ok(Description::from(&info))
}

fn watch_error(failure: Failure, filter: &str) -> WatchError {
    if failure.is_not_found() {
        return WatchError::NoBucket;
    }
    match failure {
        Failure::Api(error) => WatchError::Rejected(error),
        Failure::Request(RequestError::NoResponders) => WatchError::NoBucket,
        Failure::Request(RequestError::TimedOut) => WatchError::TimedOut,
        Failure::Request(RequestError::Publish(PublishError::InvalidSubject(_))) => {
            WatchError::InvalidFilter(filter.into())
        }
        Failure::Request(RequestError::Publish(_) | RequestError::ClosedWhileWaiting) => {
            WatchError::Closed
        }
    }
}
