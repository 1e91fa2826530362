//! The message ids that a stream remembers, so that a message that is sent twice is stored once.
//!
//! They are forgotten by a timer once the duplicate window has passed since they were stored; to send one again does not
//! renew it. What the messages come to meanwhile, deleted or purged, does not matter.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use squall_core::UnixTime;
use squall_core::transport::Sequence;

/// The ids of one stream.
#[derive(Debug, Default)]
pub(super) struct MessageIds {
    known: BTreeMap<Arc<str>, Sequence>,
    in_order: VecDeque<(UnixTime, Arc<str>)>,
    /// Of the last message stored; `None` where that had none.
    last: Option<Arc<str>>,
}

impl MessageIds {
    pub(super) fn find(&self, id: &str) -> Option<Sequence> {
        self.known.get(id).copied()
    }

    /// Of the last message; empty where that had none.
    pub(super) fn last(&self) -> Arc<str> {
        self.last.clone().unwrap_or_else(|| "".into())
    }

    /// A message is stored. True if its id is the first to be remembered: a timer must be set.
    pub(super) fn note(&mut self, id: Option<&str>, sequence: Sequence, now: UnixTime) -> bool {
        self.last = id.map(Arc::from);
        let Some(id) = &self.last else {
            return false;
        };
        self.known.insert(Arc::clone(id), sequence);
        self.in_order.push_back((now, Arc::clone(id)));
        self.in_order.len() == 1
    }

    /// Forgets what is older than the window; gives how long the oldest that is left has to live.
    pub(super) fn forget(&mut self, now: UnixTime, window: Duration) -> Option<Duration> {
        while let Some((stored, id)) = self.in_order.front() {
            let end = *stored + window;
            if end > now {
                return Some(end.since(now));
            }
            self.known.remove(id);
            self.in_order.pop_front();
        }
        None
    }

    /// The end of the stream is lost: the message that is the last now has this id.
    pub(super) fn cut(&mut self, last: Option<&str>) {
        self.last = last.map(Arc::from);
    }

    /// A restarted server knows the ids that it finds in its messages. True if there are any.
    pub(super) fn recover(
        &mut self,
        is_held: impl Fn(Sequence) -> bool,
        last_is_held: bool,
    ) -> bool {
        let known = &mut self.known;
        self.in_order.retain(|(_, id)| {
            let is_known = known.get(id).is_some_and(|&sequence| is_held(sequence));
            if !is_known {
                known.remove(id);
            }
            is_known
        });
        if !last_is_held {
            self.last = None;
        }
        !self.in_order.is_empty()
    }
}
