//! Watches of a client: the core's own [`Watcher`] over simulated consumers.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use slotmap::new_key_type;
use squall_core::transport::watcher::{
    Attempt, CONTROL_ROOM, ConsumerFrom, Description, Item, Told, Watcher, WatcherEffect,
    WatcherEvent,
};
use squall_core::transport::{ConnectionEvent, KvEntry, WatchError, WatchSender, WatchStart};
use squall_core::{Instant, Machine};
use tokio::sync::Semaphore;

use super::requests::id_of;
use super::{Client, To};
use crate::net::Net;
use crate::wire::{ClientOp, ConsumerStart, Request, Response, Sid};

new_key_type! {
    /// A watch of one client.
    pub(crate) struct WatchKey;
}

/// What a watch asked the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    watch: WatchKey,
    attempt: Attempt,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Describe,
    Create,
}

/// Places of a reader's queue for interruptions that nobody reads, beside [`CONTROL_ROOM`]: more than any run has. A
/// real client would wait for its reader there; this one must not wait, nor lose them.
const UNREAD_ROOM: usize = 1 << 20;

/// Places in the queue of a reader that is to hold so many entries.
pub(super) fn places(entries: usize) -> usize {
    entries
        .saturating_add(CONTROL_ROOM + UNREAD_ROOM)
        .min(Semaphore::MAX_PERMITS)
}

/// Whether `watch()` may return.
#[derive(Debug)]
pub(super) enum Opening {
    Waiting(Option<Waker>),
    Opened,
    Failed(WatchError),
}

#[derive(Debug)]
pub(super) struct WatchState {
    machine: Watcher<KvEntry>,
    sender: WatchSender,
    bucket: Arc<str>,
    filter: Arc<str>,
    heartbeat: Duration,
    /// Replays all that is held, not only the latest of each key.
    whole_history: bool,
    inbox: Option<(Attempt, Sid)>,
    pub(super) opening: Opening,
}

/// What is watched, and how.
pub(super) struct Watched {
    pub(super) bucket: Arc<str>,
    pub(super) filter: Arc<str>,
    pub(super) start: WatchStart,
    pub(super) heartbeat: Duration,
    pub(super) whole_history: bool,
}

impl WatchState {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.machine.deadline()
    }
}

impl Client {
    /// Begins a watch whose events go to `sender`; `opening` says when `watch()` may return.
    pub(super) fn watch(
        &mut self,
        net: &mut Net,
        watched: Watched,
        sender: WatchSender,
    ) -> WatchKey {
        let key = self.watches.insert(WatchState {
            machine: Watcher::new(watched.start, watched.heartbeat),
            sender,
            bucket: watched.bucket,
            filter: watched.filter,
            heartbeat: watched.heartbeat,
            whole_history: watched.whole_history,
            inbox: None,
            opening: Opening::Waiting(None),
        });
        self.wake_watch(net, key, net.local(self.host));
        key
    }

    /// The reader is gone.
    pub(super) fn end_watch(&mut self, net: &mut Net, key: WatchKey) {
        if let Some(watch) = self.watches.remove(key)
            && let Some((_, sid)) = watch.inbox
        {
            self.unsubscribe(net, sid);
        }
    }

    pub(super) fn watches_link(&mut self, net: &mut Net, up: bool) {
        let keys: Vec<WatchKey> = self.watches.keys().collect();
        for key in keys {
            self.tell_watch(net, key, WatcherEvent::Link { up });
        }
    }

    pub(super) fn wake_watches(&mut self, net: &mut Net, now: Instant) {
        if self.watches.is_empty() {
            return;
        }
        let keys: Vec<WatchKey> = self.watches.keys().collect();
        for key in keys {
            self.wake_watch(net, key, now);
        }
    }

    fn wake_watch(&mut self, net: &mut Net, key: WatchKey, now: Instant) {
        let Some(watch) = self.watches.get_mut(key) else {
            return;
        };
        if watch
            .machine
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            let mut effects = Vec::new();
            watch.machine.on_deadline(now, &mut effects);
            self.perform(net, key, effects);
        }
    }

    pub(super) fn delivery(
        &mut self,
        net: &mut Net,
        sid: Sid,
        consumer_seq: u64,
        pending: u64,
        entry: KvEntry,
    ) {
        if let Some((key, attempt)) = self.watch_of(sid) {
            let event = WatcherEvent::Delivered {
                attempt,
                consumer_seq,
                pending,
                item: entry,
            };
            self.tell_watch(net, key, event);
        }
    }

    pub(super) fn heartbeat(&mut self, net: &mut Net, sid: Sid, last_consumer_seq: u64) {
        if let Some((key, attempt)) = self.watch_of(sid) {
            self.tell_watch(
                net,
                key,
                WatcherEvent::Heartbeat {
                    attempt,
                    last_consumer_seq,
                },
            );
        }
    }

    fn watch_of(&self, sid: Sid) -> Option<(WatchKey, Attempt)> {
        let To::Watch(key) = self.subscribed.get(&sid)?.to else {
            return None;
        };
        let (attempt, inbox) = self.watches.get(key)?.inbox?;
        (inbox == sid).then_some((key, attempt))
    }

    /// The answer to what a watch asked; `None` where none came in time.
    pub(super) fn answer_watch(&mut self, net: &mut Net, asked: Asked, response: Option<Response>) {
        let Asked {
            watch,
            attempt,
            what,
        } = asked;
        let event = match what {
            What::Describe => WatcherEvent::Described(
                attempt,
                match response {
                    Some(Response::Bucket(info)) => Ok(Description::from(&*info)),
                    other => Err(refusal(other)),
                },
            ),
            What::Create => WatcherEvent::Created(
                attempt,
                match response {
                    Some(Response::Consumer { pending }) => Ok(pending),
                    other => Err(refusal(other)),
                },
            ),
        };
        self.tell_watch(net, watch, event);
    }

    fn tell_watch(&mut self, net: &mut Net, key: WatchKey, event: WatcherEvent<KvEntry>) {
        let now = net.local(self.host);
        let Some(watch) = self.watches.get_mut(key) else {
            return;
        };
        let mut effects = Vec::new();
        watch.machine.handle(now, event, &mut effects);
        self.perform(net, key, effects);
    }

    fn perform(&mut self, net: &mut Net, key: WatchKey, effects: Vec<WatcherEffect<KvEntry>>) {
        let mut overflowed = false;
        for effect in effects {
            match effect {
                // What follows a lost entry must not overtake it.
                WatcherEffect::Tell(Told::Item(_)) if overflowed => {}
                WatcherEffect::Describe(attempt) => {
                    let Some(watch) = self.watches.get(key) else {
                        return;
                    };
                    let bucket = watch.bucket.clone();
                    let asked = Asked {
                        watch: key,
                        attempt,
                        what: What::Describe,
                    };
                    self.ask(net, asked, Request::BucketInfo { bucket });
                }
                WatcherEffect::Create { attempt, from } => self.create(net, key, attempt, from),
                WatcherEffect::Discard(discarded) => {
                    let Some(watch) = self.watches.get_mut(key) else {
                        return;
                    };
                    if let Some((attempt, sid)) = watch.inbox
                        && attempt == discarded
                    {
                        watch.inbox = None;
                        self.unsubscribe(net, sid);
                    }
                }
                WatcherEffect::Tell(told) => overflowed = !self.tell_reader(net, key, told),
                WatcherEffect::CheckRoom => {
                    let Some(watch) = self.watches.get(key) else {
                        return;
                    };
                    let left = watch.sender.capacity();
                    let half = self.options.subscription_capacity.div_ceil(2);
                    let enough = left >= places(half);
                    self.tell_watch(net, key, WatcherEvent::Room { enough });
                }
                WatcherEffect::Opened => self.open(key, Opening::Opened),
                WatcherEffect::Failed(error) => self.open(key, Opening::Failed(error)),
            }
        }
    }

    fn create(&mut self, net: &mut Net, key: WatchKey, attempt: Attempt, from: ConsumerFrom) {
        let sid = self.new_sid();
        let Some(watch) = self.watches.get_mut(key) else {
            return;
        };
        watch.inbox = Some((attempt, sid));
        let start = match from {
            ConsumerFrom::Sequence(sequence) => ConsumerStart::Sequence(sequence.into()),
            _ if watch.whole_history => ConsumerStart::All,
            // A watch begins with what is there, or at a revision.
            ConsumerFrom::LastPerSubject | ConsumerFrom::Last | ConsumerFrom::Time(_) => {
                ConsumerStart::LastPerKey
            }
        };
        let request = Request::CreateConsumer {
            bucket: watch.bucket.clone(),
            filter: watch.filter.clone(),
            start,
            heartbeat: watch.heartbeat,
            deliver: sid,
        };
        let inbox: Arc<str> = format!("_INBOX.watch.{}", sid.0).into();
        self.subscribe(net, sid, inbox, None, To::Watch(key));
        self.ask(
            net,
            Asked {
                watch: key,
                attempt,
                what: What::Create,
            },
            request,
        );
    }

    fn ask(&mut self, net: &mut Net, asked: Asked, request: Request) {
        if self.options.credentials.is_some() {
            self.open_inbox(net);
        }
        let deadline = net.local(self.host) + self.options.request_timeout;
        let key = self.requests.begin_for_watch(asked, deadline);
        self.command(
            net,
            ClientOp::Request {
                id: id_of(key),
                request,
            },
        );
    }

    /// False where an entry found no room.
    fn tell_reader(&mut self, net: &mut Net, key: WatchKey, told: Told<KvEntry>) -> bool {
        let Some(watch) = self.watches.get(key) else {
            return true;
        };
        if let Told::Item(entry) = &told
            && watch.sender.capacity() <= places(0)
        {
            let lost = entry.sequence();
            self.events.send(&ConnectionEvent::SlowConsumer);
            self.tell_watch(net, key, WatcherEvent::Overflow { lost });
            return false;
        }
        // Fails only if the reader went away this moment: its guard ends the watch.
        let _gone = watch.sender.try_send(told.into());
        true
    }

    fn open(&mut self, key: WatchKey, opening: Opening) {
        let Some(watch) = self.watches.get_mut(key) else {
            return;
        };
        if let Opening::Waiting(waker) = std::mem::replace(&mut watch.opening, opening) {
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

/// Why a watch did not get what it asked for.
fn refusal(response: Option<Response>) -> WatchError {
    match response {
        None => WatchError::TimedOut,
        Some(Response::Error(error)) if error.err_code == 10059 => WatchError::NoBucket,
        Some(Response::Error(error)) => WatchError::Rejected(error),
        Some(_) => WatchError::NoBucket,
    }
}
