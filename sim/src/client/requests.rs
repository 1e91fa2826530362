//! Requests in flight: who waits for which answer, and until when.
//!
//! A place of its own for each, so that an answer that comes after its caller gave up finds nobody. Deadlines need no
//! heap: nearly all acknowledgements wait equally long, and all other requests do, so that two queues are each in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slotmap::{Key, KeyData, SlotMap, new_key_type};
use squall_core::Instant;
use squall_core::transport::Message;

use super::ClientKey;
use super::watches::Asked;
use crate::wire::{RequestId, Response};

new_key_type! {
    /// A request of one client.
    pub(crate) struct RequestKey;
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum Reply {
    Response(Response),
    Message(Message),
    Flushed,
    NoResponders,
    TimedOut,
    /// The connection was closed.
    Closed,
}

#[derive(Debug)]
enum Slot {
    Waiting(Option<Waker>),
    Done(Reply),
    /// The asker is a watch of this client.
    Watch(Asked),
}

/// Which time-out applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Ack,
    Request,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Requests {
    slots: SlotMap<RequestKey, Slot>,
    acks: VecDeque<(Instant, RequestKey)>,
    others: VecDeque<(Instant, RequestKey)>,
}

pub(super) fn of_id(id: RequestId) -> RequestKey {
    KeyData::from_ffi(id.0).into()
}

pub(super) fn id_of(key: RequestKey) -> RequestId {
    RequestId(key.data().as_ffi())
}

/// Where the answers to a client's core requests come: no other client's do, also of the same account.
pub(super) fn inboxes_of(client: ClientKey) -> String {
    format!("_INBOX.squall-{}", client.data().as_ffi())
}

/// The inbox that the answer to a core request comes to.
pub(super) fn inbox_of(client: ClientKey, key: RequestKey) -> Arc<str> {
    format!("{}.{}", inboxes_of(client), key.data().as_ffi()).into()
}

pub(super) fn of_inbox(subject: &str) -> Option<RequestKey> {
    let number = subject.rsplit_once('.')?.1.parse().ok()?;
    Some(KeyData::from_ffi(number).into())
}

impl Requests {
    pub(super) fn begin(&mut self, patience: Patience, deadline: Instant) -> RequestKey {
        self.insert(Slot::Waiting(None), patience, deadline)
    }

    pub(super) fn begin_for_watch(&mut self, asked: Asked, deadline: Instant) -> RequestKey {
        self.insert(Slot::Watch(asked), Patience::Request, deadline)
    }

    fn insert(&mut self, slot: Slot, patience: Patience, deadline: Instant) -> RequestKey {
        let key = self.slots.insert(slot);
        match patience {
            Patience::Ack => {
                // What is asked again has what is left of its time.
                let later = self.acks.iter().rev().take_while(|(at, _)| *at > deadline);
                let place = self.acks.len() - later.count();
                self.acks.insert(place, (deadline, key));
            }
            Patience::Request => self.others.push_back((deadline, key)),
        }
        key
    }

    /// The caller looks whether its answer is there.
    pub(super) fn poll(&mut self, key: RequestKey, context: &Context<'_>) -> Poll<Reply> {
        match self.slots.get_mut(key) {
            Some(Slot::Waiting(waker)) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Some(Slot::Done(_)) => match self.slots.remove(key) {
                Some(Slot::Done(reply)) => Poll::Ready(reply),
                _ => Poll::Ready(Reply::Closed),
            },
            Some(Slot::Watch(_)) | None => Poll::Ready(Reply::Closed),
        }
    }

    /// Whether anybody still waits for this answer.
    pub(super) fn is_awaited(&self, key: RequestKey) -> bool {
        matches!(self.slots.get(key), Some(Slot::Waiting(_) | Slot::Watch(_)))
    }

    /// The caller no longer waits.
    pub(super) fn abandon(&mut self, key: RequestKey) {
        self.slots.remove(key);
    }

    pub(super) fn complete(&mut self, key: RequestKey, reply: Reply) {
        if let Some(slot) = self.slots.get_mut(key)
            && let Slot::Waiting(waker) = slot
        {
            let waker = waker.take();
            *slot = Slot::Done(reply);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// An answer came; gives it back where a watch had asked.
    pub(super) fn answer(
        &mut self,
        key: RequestKey,
        response: Response,
    ) -> Option<(Asked, Response)> {
        match self.slots.get(key) {
            Some(&Slot::Watch(asked)) => {
                self.slots.remove(key);
                Some((asked, response))
            }
            _ => {
                self.complete(key, Reply::Response(response));
                None
            }
        }
    }

    /// No answer came in time; names the watch that had asked, if one had.
    pub(super) fn fail(&mut self, key: RequestKey) -> Option<Asked> {
        match self.slots.get(key) {
            Some(&Slot::Watch(asked)) => {
                self.slots.remove(key);
                Some(asked)
            }
            _ => {
                self.complete(key, Reply::TimedOut);
                None
            }
        }
    }

    /// Requests whose time is up and that are still waiting.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<RequestKey> {
        let mut expired = Vec::new();
        for queue in [&mut self.acks, &mut self.others] {
            while let Some(&(deadline, key)) = queue.front() {
                let waiting =
                    matches!(self.slots.get(key), Some(Slot::Waiting(_) | Slot::Watch(_)));
                if waiting && deadline > now {
                    break;
                }
                queue.pop_front();
                if waiting {
                    expired.push(key);
                }
            }
        }
        expired
    }

    /// When the oldest may be up. It may have been answered meanwhile: then this is early, and that does no harm.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let front = |queue: &VecDeque<(Instant, RequestKey)>| queue.front().map(|(at, _)| *at);
        match (front(&self.acks), front(&self.others)) {
            (Some(ack), Some(other)) => Some(ack.min(other)),
            (ack, other) => ack.or(other),
        }
    }

    /// The connection is closed: nobody will be answered any more.
    pub(super) fn close(&mut self) {
        let keys: Vec<RequestKey> = self.slots.keys().collect();
        for key in keys {
            self.complete(key, Reply::Closed);
        }
        self.slots.retain(|_, slot| !matches!(slot, Slot::Watch(_)));
        self.acks.clear();
        self.others.clear();
    }
}
