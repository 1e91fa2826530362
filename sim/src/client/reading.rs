//! What a watch or a reader is to its client: the machine, the queue of whoever reads, and what is left to be done
//! between them and the server.
//!
//! The machine is generic over what it tells, and the client is not: here the two meet.

use std::time::Duration;

use squall_core::transport::watcher::{
    Attempt, CONTROL_ROOM, ConsumerFrom, Description, Item, Told, Watcher, WatcherEffect,
    WatcherEvent,
};
use squall_core::transport::{
    KvEntry, ReadStart, ReaderSender, StoredMessage, WatchError, WatchSender, WatchStart,
};
use squall_core::{Instant, Machine};

use tokio::sync::Semaphore;

use crate::broker::Kindness;
use crate::wire::{Content, Form};

/// Places of a reader's queue for interruptions that nobody reads, beside [`CONTROL_ROOM`]: more than any run has. A
/// real client would wait for its reader there; this one must not wait, nor lose them.
const UNREAD_ROOM: usize = 1 << 20;

/// Places in the queue of a reader that is to hold so many items.
pub(super) fn places(items: usize) -> usize {
    items
        .saturating_add(CONTROL_ROOM + UNREAD_ROOM)
        .min(Semaphore::MAX_PERMITS)
}

/// See the head of this file.
#[derive(Debug)]
pub(super) enum Reading {
    Bucket(Side<KvEntry, WatchSender>),
    Stream(Side<StoredMessage, ReaderSender>),
}

/// What a machine hears, apart from deliveries.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    Link {
        up: bool,
    },
    Described(Attempt, Result<Description, WatchError>),
    Created(Attempt, Result<u64, WatchError>),
    Heartbeat {
        attempt: Attempt,
        last_consumer_seq: u64,
    },
    Room {
        enough: bool,
    },
}

/// What a machine wants done, apart from telling its reader.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Describe(Attempt),
    Create {
        attempt: Attempt,
        from: ConsumerFrom,
    },
    Discard(Attempt),
    /// The reader was slow: say so.
    SlowConsumer,
    CheckRoom,
    Opened,
    Failed(WatchError),
}

impl Reading {
    pub(super) fn bucket(start: WatchStart, heartbeat: Duration, sender: WatchSender) -> Self {
        Self::Bucket(Side {
            machine: Watcher::new(start, heartbeat),
            sender,
            keeps_place: false,
        })
    }

    pub(super) fn stream(
        start: ReadStart,
        heartbeat: Duration,
        sender: ReaderSender,
        kindness: Option<Kindness>,
    ) -> Self {
        Self::Stream(Side {
            machine: Watcher::new(start, heartbeat),
            sender,
            keeps_place: kindness == Some(Kindness::ReadersKeepTheirPlace),
        })
    }

    pub(super) const fn form(&self) -> Form {
        match self {
            Self::Bucket(_) => Form::Entry,
            Self::Stream(_) => Form::Message,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Bucket(side) => side.machine.deadline(),
            Self::Stream(side) => side.machine.deadline(),
        }
    }

    /// Places that the reader has left.
    pub(super) fn room(&self) -> usize {
        match self {
            Self::Bucket(side) => side.sender.capacity(),
            Self::Stream(side) => side.sender.capacity(),
        }
    }

    pub(super) fn hear(&mut self, now: Instant, heard: Heard) -> Vec<Act> {
        match self {
            Self::Bucket(side) => side.handle(now, heard.into()),
            Self::Stream(side) => side.handle(now, heard.into()),
        }
    }

    pub(super) fn deliver(
        &mut self,
        now: Instant,
        attempt: Attempt,
        consumer_seq: u64,
        pending: u64,
        content: Content,
    ) -> Vec<Act> {
        match (self, content) {
            (Self::Bucket(side), Content::Entry(item)) => {
                side.handle(now, delivered(attempt, consumer_seq, pending, item))
            }
            (Self::Stream(side), Content::Message(item)) => {
                side.handle(now, delivered(attempt, consumer_seq, pending, *item))
            }
            // Each consumer delivers in the form that was asked for.
            _ => Vec::new(),
        }
    }

    /// The deadline has come.
    pub(super) fn wake(&mut self, now: Instant) -> Vec<Act> {
        match self {
            Self::Bucket(side) => side.wake(now),
            Self::Stream(side) => side.wake(now),
        }
    }
}

fn delivered<T>(attempt: Attempt, consumer_seq: u64, pending: u64, item: T) -> WatcherEvent<T> {
    WatcherEvent::Delivered {
        attempt,
        consumer_seq,
        pending,
        item,
    }
}

impl<T> From<Heard> for WatcherEvent<T> {
    fn from(heard: Heard) -> Self {
        match heard {
            Heard::Link { up } => Self::Link { up },
            Heard::Described(attempt, found) => Self::Described(attempt, found),
            Heard::Created(attempt, pending) => Self::Created(attempt, pending),
            Heard::Heartbeat {
                attempt,
                last_consumer_seq,
            } => Self::Heartbeat {
                attempt,
                last_consumer_seq,
            },
            Heard::Room { enough } => Self::Room { enough },
        }
    }
}

/// A machine, and where what it tells goes.
#[derive(Debug)]
pub(super) struct Side<T, S> {
    machine: Watcher<T>,
    sender: S,
    /// Planted: it is not told of interruptions.
    keeps_place: bool,
}

/// The sending end of a watch or a reader.
pub(super) trait Sender<T> {
    fn capacity(&self) -> usize;
    fn send(&self, told: Told<T>);
}

impl Sender<KvEntry> for WatchSender {
    fn capacity(&self) -> usize {
        Self::capacity(self)
    }

    fn send(&self, told: Told<KvEntry>) {
        // Fails only if the reader went away this moment: its guard ends the watch.
        let _gone = self.try_send(told.into());
    }
}

impl Sender<StoredMessage> for ReaderSender {
    fn capacity(&self) -> usize {
        Self::capacity(self)
    }

    fn send(&self, told: Told<StoredMessage>) {
        // As above.
        let _gone = self.try_send(told.into());
    }
}

impl<T: Item, S: Sender<T>> Side<T, S> {
    fn handle(&mut self, now: Instant, event: WatcherEvent<T>) -> Vec<Act> {
        let mut effects = Vec::new();
        self.machine.handle(now, event, &mut effects);
        self.tell(now, effects)
    }

    fn wake(&mut self, now: Instant) -> Vec<Act> {
        let mut effects = Vec::new();
        self.machine.on_deadline(now, &mut effects);
        self.tell(now, effects)
    }

    /// Tells the reader what is for it; gives the rest.
    fn tell(&mut self, now: Instant, effects: Vec<WatcherEffect<T>>) -> Vec<Act> {
        let mut acts = Vec::new();
        let mut overflowed = false;
        for effect in effects {
            acts.push(match effect {
                WatcherEffect::Tell(Told::Interrupted(_) | Told::Resumed { .. })
                    if self.keeps_place =>
                {
                    continue;
                }
                // What follows a lost item must not overtake it.
                WatcherEffect::Tell(Told::Item(_)) if overflowed => continue,
                WatcherEffect::Tell(Told::Item(item)) if self.sender.capacity() <= places(0) => {
                    overflowed = true;
                    acts.push(Act::SlowConsumer);
                    let lost = item.sequence();
                    acts.extend(self.handle(now, WatcherEvent::Overflow { lost }));
                    continue;
                }
                WatcherEffect::Tell(told) => {
                    self.sender.send(told);
                    continue;
                }
                WatcherEffect::Describe(attempt) => Act::Describe(attempt),
                WatcherEffect::Create { attempt, from } => Act::Create { attempt, from },
                WatcherEffect::Discard(attempt) => Act::Discard(attempt),
                WatcherEffect::CheckRoom => Act::CheckRoom,
                WatcherEffect::Opened => Act::Opened,
                WatcherEffect::Failed(error) => Act::Failed(error),
            });
        }
        acts
    }
}
