//! Pulls that wait, in a circle: who got a message goes to the end, so that several pullers alternate.

use std::collections::VecDeque;
use std::time::Duration;

use squall_core::Instant;
use squall_core::transport::Pull;

use super::super::config::Version;
use super::{Around, Inbox, Said};
use crate::wire::PullStatus;

/// A full circle is looked through for pulls that are over no sooner than this after the last look.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// One pull.
#[derive(Clone, Debug)]
struct Waiter {
    inbox: Inbox,
    left: u32,
    is_served: bool,
    /// `None` for a pull that takes what is there.
    until: Option<Instant>,
    heartbeat: Option<(Duration, Instant)>,
}

/// All pulls of a consumer that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    circle: VecDeque<Waiter>,
    /// When one was last received, or something else said that there is a client.
    pub(super) heard_at: Option<Instant>,
    looked_at: Option<Instant>,
    /// When one is over, or is owed a heartbeat.
    pub(super) due: Option<Instant>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.circle.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.circle.is_empty()
    }

    /// Lets a pull wait, or says why not. `available` is what can be delivered now, unless too much is unsettled.
    pub(super) fn add(
        &mut self,
        inbox: Inbox,
        pull: Pull,
        available: u64,
        max: i64,
        version: Version,
        around: &mut Around<'_>,
    ) {
        let now = around.now.monotonic;
        let is_full = |waiting: &Self| waiting.circle.len() as i64 >= max;
        let is_stale = |at: Instant| now.since(at) > LOOK_INTERVAL;
        if is_full(self) && self.looked_at.is_none_or(is_stale) {
            self.look(false, version, around);
        }
        if pull.expires.is_none() {
            let refusal = if available == 0 {
                Some(status(404, "No Messages"))
            } else {
                let wanted = self.look(false, version, around);
                (available < wanted).then(|| status(408, "Requests Pending"))
            };
            if let Some(status) = refusal {
                self.heard_at = Some(now);
                around.said.push(Said::Status(inbox, status));
                return;
            }
        }
        if is_full(self) {
            // Told to a client with heartbeats, it would pull again at once, and again.
            if pull.heartbeat.is_none() || !version.is_at_least(2, 11) {
                around
                    .said
                    .push(Said::Status(inbox, status(409, "Exceeded MaxWaiting")));
            }
            return;
        }
        self.heard_at = Some(now);
        self.circle.push_back(Waiter {
            inbox,
            left: pull.batch.get(),
            is_served: false,
            until: pull.expires.map(|expires| now + expires),
            heartbeat: pull.heartbeat.map(|heartbeat| (heartbeat, now + heartbeat)),
        });
    }

    /// Takes the turn of the next pull that is still listened to.
    pub(super) fn take(&mut self, around: &mut Around<'_>) -> Option<Inbox> {
        let now = around.now.monotonic;
        while let Some(mut waiter) = self.circle.pop_front() {
            if waiter.until.is_some_and(|until| now >= until) {
                around
                    .said
                    .push(Said::Status(waiter.inbox, status(408, "Request Timeout")));
                continue;
            }
            if !(around.listens)(waiter.inbox) {
                continue;
            }
            let inbox = waiter.inbox;
            waiter.left -= 1;
            waiter.is_served = true;
            if waiter.left > 0 {
                if let Some((every, next)) = &mut waiter.heartbeat {
                    *next = now + *every;
                }
                self.circle.push_back(waiter);
            }
            return Some(inbox);
        }
        None
    }

    /// Ends the pulls that are over, those also that take what is there where `is_end` says that there is no more, and
    /// those that nobody listens to. Sends the heartbeats that are due. Gives how many messages the others want.
    pub(super) fn look(&mut self, is_end: bool, version: Version, around: &mut Around<'_>) -> u64 {
        let now = around.now.monotonic;
        self.looked_at = Some(now);
        let (mut wanted, mut due) = (0, None::<Instant>);
        self.circle.retain_mut(|waiter| {
            let is_over = waiter.until.is_some_and(|until| now >= until);
            let takes_what_is_there = waiter.until.is_none();
            if is_over {
                around
                    .said
                    .push(Said::Status(waiter.inbox, status(408, "Request Timeout")));
                return false;
            }
            if is_end && takes_what_is_there {
                if version.is_at_least(2, 11) {
                    around
                        .said
                        .push(Said::Status(waiter.inbox, status(404, "No Messages")));
                    return false;
                }
                // Older servers let it wait for a first message.
                if waiter.is_served {
                    around
                        .said
                        .push(Said::Status(waiter.inbox, status(408, "Request Timeout")));
                    return false;
                }
            }
            if !(around.listens)(waiter.inbox) {
                return false;
            }
            wanted += u64::from(waiter.left);
            if let Some((every, next)) = &mut waiter.heartbeat {
                if now >= *next {
                    around
                        .said
                        .push(Said::Status(waiter.inbox, status(100, "Idle Heartbeat")));
                    *next = now + *every;
                }
                due = Some(due.map_or(*next, |due| due.min(*next)));
            }
            if let Some(until) = waiter.until {
                due = Some(due.map_or(until, |due| due.min(until)));
            }
            true
        });
        self.due = due;
        wanted
    }

    /// Ends all: the consumer is being deleted.
    pub(super) fn dismiss(&mut self, said: &mut Vec<Said>) {
        self.due = None;
        for waiter in self.circle.drain(..) {
            said.push(Said::Status(waiter.inbox, status(409, "Consumer Deleted")));
        }
    }
}

fn status(code: u16, text: &str) -> PullStatus {
    PullStatus {
        code,
        text: text.into(),
    }
}
