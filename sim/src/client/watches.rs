//! Watches and readers of a client: the core's own machine ([`Reading`]) over simulated consumers.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use slotmap::new_key_type;
use squall_core::Instant;
use squall_core::transport::watcher::{Attempt, ConsumerFrom, Description};
use squall_core::transport::{ConnectionEvent, ReadStart, WatchError};

use super::reading::{Act, Heard, Reading, places};
use super::requests::id_of;
use super::{Client, Phase, To};
use crate::net::Net;
use crate::wire::{ClientOp, ConsumerWish, Content, Request, Response, Sid};

/// How long the server keeps a consumer whose reader has vanished without a word.
const INACTIVE: Duration = Duration::from_secs(30);

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
    /// Nobody waits for the answer.
    End,
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
    reading: Reading,
    watched: Watched,
    inbox: Option<(Attempt, Sid)>,
    pub(super) opening: Opening,
}

/// What is read, and how.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) stream: Arc<str>,
    pub(super) filters: Vec<Arc<str>>,
    pub(super) heartbeat: Duration,
    /// Replays all that is held, not only the latest of each key.
    pub(super) whole_history: bool,
}

impl WatchState {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reading.deadline()
    }
}

impl Client {
    /// Begins a watch; `opening` says when whoever opened it may return.
    pub(super) fn watch(&mut self, net: &mut Net, watched: Watched, reading: Reading) -> WatchKey {
        let key = self.watches.insert(WatchState {
            reading,
            watched,
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
            self.end_consumer(net, key, &watch.watched.stream, sid);
        }
    }

    /// Gives up a consumer, and tells the server to forget it if there is a link.
    fn end_consumer(&mut self, net: &mut Net, watch: WatchKey, stream: &Arc<str>, deliver: Sid) {
        self.unsubscribe(net, deliver);
        if let Phase::Connected { .. } = self.phase {
            let asked = Asked {
                watch,
                attempt: Attempt(0),
                what: What::End,
            };
            let stream = Arc::clone(stream);
            self.ask(net, asked, Request::EndConsumer { stream, deliver });
        }
    }

    pub(super) fn watches_link(&mut self, net: &mut Net, up: bool) {
        let keys: Vec<WatchKey> = self.watches.keys().collect();
        for key in keys {
            self.tell_watch(net, key, Heard::Link { up });
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
        if watch.deadline().is_some_and(|deadline| deadline <= now) {
            let acts = watch.reading.wake(now);
            self.perform(net, key, acts);
        }
    }

    pub(super) fn delivery(
        &mut self,
        net: &mut Net,
        sid: Sid,
        consumer_seq: u64,
        pending: u64,
        content: Content,
    ) {
        let now = net.local(self.host);
        if let Some((key, attempt)) = self.watch_of(sid)
            && let Some(watch) = self.watches.get_mut(key)
        {
            let acts = watch
                .reading
                .deliver(now, attempt, consumer_seq, pending, content);
            self.perform(net, key, acts);
        }
    }

    pub(super) fn heartbeat(&mut self, net: &mut Net, sid: Sid, last_consumer_seq: u64) {
        if let Some((key, attempt)) = self.watch_of(sid) {
            self.tell_watch(
                net,
                key,
                Heard::Heartbeat {
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
            What::End => return,
            What::Describe => Heard::Described(
                attempt,
                match response {
                    Some(Response::Stream(info)) => Ok(Description::from(&*info)),
                    other => Err(refusal(other)),
                },
            ),
            What::Create => Heard::Created(
                attempt,
                match response {
                    Some(Response::Consumer { pending }) => Ok(pending),
                    other => Err(refusal(other)),
                },
            ),
        };
        self.tell_watch(net, watch, event);
    }

    fn tell_watch(&mut self, net: &mut Net, key: WatchKey, heard: Heard) {
        let now = net.local(self.host);
        if let Some(watch) = self.watches.get_mut(key) {
            let acts = watch.reading.hear(now, heard);
            self.perform(net, key, acts);
        }
    }

    fn perform(&mut self, net: &mut Net, key: WatchKey, acts: Vec<Act>) {
        for act in acts {
            let Some(watch) = self.watches.get_mut(key) else {
                return;
            };
            match act {
                Act::Describe(attempt) => {
                    let stream = watch.watched.stream.clone();
                    let asked = Asked {
                        watch: key,
                        attempt,
                        what: What::Describe,
                    };
                    self.ask(net, asked, Request::StreamInfo { stream });
                }
                Act::Create { attempt, from } => self.create(net, key, attempt, from),
                Act::Discard(discarded) => {
                    if let Some((attempt, sid)) = watch.inbox
                        && attempt == discarded
                    {
                        watch.inbox = None;
                        let stream = Arc::clone(&watch.watched.stream);
                        self.end_consumer(net, key, &stream, sid);
                    }
                }
                Act::SlowConsumer => self.events.send(&ConnectionEvent::SlowConsumer),
                Act::CheckRoom => {
                    let half = self.options.subscription_capacity.div_ceil(2);
                    let enough = watch.reading.room() >= places(half);
                    self.tell_watch(net, key, Heard::Room { enough });
                }
                Act::Opened => self.open(key, Opening::Opened),
                Act::Failed(error) => self.open(key, Opening::Failed(error)),
            }
        }
    }

    fn create(&mut self, net: &mut Net, key: WatchKey, attempt: Attempt, from: ConsumerFrom) {
        let sid = self.new_sid();
        let Some(watch) = self.watches.get_mut(key) else {
            return;
        };
        watch.inbox = Some((attempt, sid));
        let watched = &watch.watched;
        let wish = ConsumerWish {
            filters: watched.filters.clone(),
            start: match from {
                ConsumerFrom::Sequence(sequence) => ReadStart::Sequence(sequence),
                ConsumerFrom::LastPerSubject if watched.whole_history => ReadStart::All,
                ConsumerFrom::LastPerSubject => ReadStart::LastPerSubject,
                ConsumerFrom::Last => ReadStart::Last,
                ConsumerFrom::Time(time) => ReadStart::Time(time),
            },
            heartbeat: watched.heartbeat,
            inactive: INACTIVE,
            deliver: sid,
            form: watch.reading.form(),
        };
        let stream = watched.stream.clone();
        let inbox: Arc<str> = format!("_INBOX.watch.{}", sid.0).into();
        self.subscribe(net, sid, inbox, None, To::Watch(key));
        self.ask(
            net,
            Asked {
                watch: key,
                attempt,
                what: What::Create,
            },
            Request::CreateConsumer {
                stream,
                wish: Box::new(wish),
            },
        );
    }

    fn ask(&mut self, net: &mut Net, asked: Asked, request: Request) {
        if self.has_credentials {
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
