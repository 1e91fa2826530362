//! Deliveries that are not settled: what clients say about them, when they are due again, and what becomes of them when
//! their messages go away.

use std::time::Duration;

use squall_core::UnixTime;
use squall_core::transport::{AckPolicy, StoredMessage};

use super::ack::{AckedDelivery, Verb};
use super::kept::{Pending, Place, floor_after};
use super::log::is_subset;
use super::{Around, Kept, Now, PullConsumer, Said};
use crate::broker::config::Kindness;
use crate::broker::subject::Filters;

/// Timers for the ends of waits are set this much later, so that those of one burst are found together.
const LOOK_LAG: Duration = Duration::from_millis(1);
/// After an order to deliver again later, waits are looked at this much later.
const AFTER_DELAY: Duration = Duration::from_millis(10);
/// Why a message is terminated that went away while it was pending.
const DELETED: &str = "Unacknowledged message was deleted";

impl PullConsumer {
    /// A client says something about a delivery. True if it is confirmed.
    pub(in crate::broker) fn acknowledge(
        &mut self,
        delivery: AckedDelivery,
        payload: &[u8],
        around: &mut Around<'_>,
    ) -> bool {
        if self.inactive.is_some() {
            self.heard(around.now.monotonic);
        }
        // What is settled wakes it only where too much was unsettled: if it is told of no new message it finds none then.
        let was_full = self.is_full();
        let (confirmed, wakes) = match Verb::parse(payload) {
            Verb::Done => (self.settle(delivery, around), was_full),
            Verb::Terminate(reason) => (self.terminate(delivery, reason, around), was_full),
            Verb::Again(delay) => (true, self.deliver_again(delivery, delay, around)),
            Verb::InProgress => {
                self.begin_wait_anew(delivery.sequence, around);
                (true, false)
            }
            Verb::Unknown => (true, false),
        };
        if wakes {
            self.run(around);
        }
        confirmed && delivery.sequence > 0
    }

    /// False for a message that it has not come to yet.
    fn settle(&mut self, delivery: AckedDelivery, around: &mut Around<'_>) -> bool {
        let AckedDelivery {
            sequence,
            mut count,
            ..
        } = delivery;
        if sequence >= self.next {
            return false;
        }
        match self.config.ack_policy {
            AckPolicy::None => return false,
            AckPolicy::All => {
                if count <= self.floor.consumer || sequence <= self.floor.stream {
                    return true;
                }
                self.floor = Place {
                    consumer: count,
                    stream: sequence,
                };
                let still = self.pending.split_off(&(sequence + 1));
                let settled = std::mem::replace(&mut self.pending, still);
                self.again = self.again.split_off(&(sequence + 1));
                self.due.retain(|&due| due > sequence);
                self.write_settled(count, sequence, around);
                let others = settled.into_keys().filter(|&other| other != sequence);
                around.said.push(Said::Settled(sequence));
                around.said.extend(others.map(Said::Settled));
                return true;
            }
            AckPolicy::Explicit => {
                if let Some(pending) = self.pending.remove(&sequence) {
                    count = pending.count;
                    let delivered = self.delivered();
                    self.floor = floor_after(self.floor, delivered, &self.pending, count, sequence);
                }
                self.again.remove(&sequence);
                self.forget_due(sequence);
            }
        }
        self.write_settled(count, sequence, around);
        around.said.push(Said::Settled(sequence));
        true
    }

    fn write_settled(&mut self, count: u64, sequence: u64, around: &mut Around<'_>) {
        self.kept.settled(self.config.ack_policy, count, sequence);
        self.touch(around);
    }

    fn terminate(
        &mut self,
        delivery: AckedDelivery,
        reason: Option<String>,
        around: &mut Around<'_>,
    ) -> bool {
        let confirmed = self.settle(delivery, around);
        around.said.push(Said::Terminated { delivery, reason });
        confirmed
    }

    /// True if that is to be done at once.
    fn deliver_again(
        &mut self,
        delivery: AckedDelivery,
        delay: Option<Duration>,
        around: &mut Around<'_>,
    ) -> bool {
        let AckedDelivery {
            deliveries,
            sequence,
            count,
        } = delivery;
        if count <= self.floor.consumer || count > self.count + 1 {
            return false;
        }
        let Some(pending) = self.pending.get_mut(&sequence) else {
            return false;
        };
        let Some(delay) = delay else {
            if !self.due.contains(&sequence) {
                self.due.push_back(sequence);
            }
            return true;
        };
        // As if its wait had begun so that it ends after the delay.
        pending.since = around.now.wall + delay - self.config.ack_wait;
        let Pending { count, since } = *pending;
        self.forget_due(sequence);
        self.note_delivered(count, sequence, deliveries, since);
        self.touch(around);
        if self.pending_look.is_some() {
            self.look_at_pending_in(around.now, AFTER_DELAY);
        }
        false
    }

    fn begin_wait_anew(&mut self, sequence: u64, around: &mut Around<'_>) {
        if let Some(pending) = self.pending.get_mut(&sequence) {
            pending.since = around.now.wall;
            let Pending { count, since } = *pending;
            self.note_delivered(count, sequence, 1, since);
            self.touch(around);
        }
    }

    /// A delivery is to be written down.
    pub(super) fn note_delivered(
        &mut self,
        count: u64,
        sequence: u64,
        deliveries: u64,
        since: UnixTime,
    ) {
        let (policy, max) = (self.config.ack_policy, self.deliver_max());
        self.kept
            .delivered(policy, count, sequence, deliveries, max, since);
    }

    /// The wait for an acknowledgement begins.
    pub(super) fn track(&mut self, now: Now, sequence: u64, count: u64) {
        let since = now.wall;
        let pending = Pending { count, since };
        let tracked = self.pending.entry(sequence).or_insert(pending);
        tracked.since = since;
        let at = now.monotonic + self.wait_of(sequence) + LOOK_LAG;
        if self.pending_look.is_none_or(|look| look > at) {
            self.pending_look = Some(at);
        }
    }

    pub(super) fn look_at_pending_in(&mut self, now: Now, wait: Duration) {
        self.pending_look = Some(now.monotonic + wait);
    }

    /// How long the present delivery of a message waits for its acknowledgement.
    fn wait_of(&self, sequence: u64) -> Duration {
        let again = self.again.get(&sequence).map_or(0, |&again| again as usize);
        let backoff = &self.config.backoff;
        let wait = backoff.get(again).or_else(|| backoff.last());
        wait.map_or(self.config.ack_wait, |&wait| wait)
    }

    /// How much longer somebody may be at work, and `after` that.
    pub(super) fn longest_wait_left(&self, now: Now, after: Duration) -> Option<Duration> {
        let left = self.pending.iter().map(|(&sequence, pending)| {
            let end = pending.since + self.wait_of(sequence) + LOOK_LAG + after;
            end.since(now.wall)
        });
        left.max().filter(|left| !left.is_zero())
    }

    /// Makes due again what has waited long enough, in the order of the stream. True if there is any, or
    /// what is given up leaves its place to the next.
    pub(super) fn look_at_pending(&mut self, around: &mut Around<'_>) -> bool {
        let now = around.now;
        if self.config.ack_wait.is_zero() {
            self.pending_look = None;
            return false;
        }
        // A floor that a purge has moved too far takes along what is below it: that is lost, also on the real server.
        let first_open = around.log.first().max(self.floor.stream + 1);
        let is_gone = |&sequence: &u64| sequence < first_open;
        let gone: Vec<u64> = self.pending.keys().copied().filter(is_gone).collect();
        for &sequence in &gone {
            self.drop_pending(sequence);
        }
        let mut expired = Vec::new();
        let mut next = self.longest_wait();
        for (&sequence, pending) in &self.pending {
            let wait = self.wait_of(sequence);
            let end = pending.since + wait;
            if end <= now.wall {
                if !self.due.contains(&sequence) {
                    expired.push(sequence);
                }
            } else {
                next = next.min(end.since(now.wall));
            }
        }
        let was_full = self.is_full();
        expired.retain(|&sequence| !self.is_given_up(sequence, around));
        let is_woken = !expired.is_empty() || (was_full && !self.is_full());
        if let Some(first) = expired.first().and_then(|first| self.pending.get(first)) {
            // Those that are due together keep their distances.
            let shift = now.wall.since(first.since);
            for sequence in &expired {
                if let Some(pending) = self.pending.get_mut(sequence) {
                    pending.since = pending.since + shift;
                }
            }
            self.due.extend(expired);
        }
        if self.pending.is_empty() {
            self.pending_look = None;
            self.due.clear();
            self.floor = self.delivered();
        } else {
            self.look_at_pending_in(now, next.max(LOOK_LAG));
        }
        if !gone.is_empty() {
            self.write_down(around);
        }
        is_woken
    }

    /// The longest time until the next look.
    fn longest_wait(&self) -> Duration {
        let last = self.config.backoff.last();
        last.map_or(self.config.ack_wait + LOOK_LAG, |&last| last)
    }

    /// Whether a message whose wait is over has been delivered as often as it may be, as far as its count of
    /// redeliveries tells: that is exact after one delivery, and else one behind, until it is taken to be delivered.
    fn is_given_up(&mut self, sequence: u64, around: &mut Around<'_>) -> bool {
        let counted = self.again.get(&sequence).map_or(1, |&again| again.max(1));
        let Some(max) = self.deliver_max().filter(|&max| counted >= max) else {
            return false;
        };
        if counted == max {
            around.said.push(Said::GivenUp {
                sequence,
                deliveries: counted,
            });
        }
        self.stop_waiting_for(sequence, counted + 1, around);
        self.again.insert(sequence, counted);
        true
    }

    /// A message is not pending any more, and not settled either.
    fn stop_waiting_for(&mut self, sequence: u64, deliveries: u64, around: &mut Around<'_>) {
        if let Some(Pending { count, since }) = self.pending.remove(&sequence) {
            self.note_delivered(count, sequence, deliveries, since);
            self.touch(around);
        }
    }

    /// The next message that is due again and still there, and how often it will then have been delivered.
    pub(super) fn take_due(&mut self, around: &mut Around<'_>) -> Option<(StoredMessage, u64)> {
        while let Some(sequence) = self.due.pop_front() {
            let again = self.again.entry(sequence).or_default();
            *again += 1;
            let deliveries = *again + 1;
            if let Some(max) = self.deliver_max().filter(|&max| deliveries > max) {
                if deliveries == max + 1 {
                    around.said.push(Said::GivenUp {
                        sequence,
                        deliveries: max,
                    });
                }
                self.stop_waiting_for(sequence, deliveries, around);
                continue;
            }
            match around.log.at(sequence) {
                Some(message) => return Some((message, deliveries)),
                None => self.count_again_less(sequence),
            }
        }
        None
    }

    /// A delivery did not take place after all.
    pub(super) fn count_again_less(&mut self, sequence: u64) {
        if let Some(again) = self.again.get_mut(&sequence) {
            *again -= 1;
            if *again == 0 {
                self.again.remove(&sequence);
            }
        }
    }

    /// A message has gone from the stream: if it was pending, it is terminated. Only who is told of new messages of its
    /// subject is told of that. True if that is the first free place: the next message may [`run`](Self::run).
    pub(in crate::broker) fn removed(
        &mut self,
        sequence: u64,
        subject: &str,
        around: &mut Around<'_>,
    ) -> bool {
        if !self.wants(subject) {
            return false;
        }
        let was_unseen = match &self.snapshot {
            Some(snapshot) if sequence <= snapshot.until => {
                snapshot.left.binary_search(&sequence).is_ok()
            }
            _ => sequence >= self.next && self.wanted.matches(subject),
        };
        self.unseen -= i64::from(was_unseen);
        if let Some(pending) = self.pending.get(&sequence) {
            let delivery = AckedDelivery {
                deliveries: self.again.get(&sequence).map_or(1, |&again| again.max(1)),
                sequence,
                count: pending.count,
            };
            let was_full = self.is_full();
            self.terminate(delivery, Some(DELETED.to_owned()), around);
            return was_full;
        }
        if self.again.remove(&sequence).is_some() {
            self.write_settled(0, sequence, around);
        }
        false
    }

    /// The stream has been purged, of messages that match `filter` if there is one. What was pending of them is
    /// forgotten; the floor moves to what is left. One that is told of no new message learns what is left for it only where
    /// all consumers count it anew.
    pub(in crate::broker) fn purged(
        &mut self,
        filter: Option<&str>,
        is_counted: bool,
        around: &mut Around<'_>,
    ) {
        let log = around.log;
        let counts = is_counted || !self.is_deaf;
        let mut is_wider = false;
        let first_left = match filter {
            None => log.first(),
            Some(filter) => {
                let of_purge = Filters::parse(&[filter]).unwrap_or_default();
                let filters = &self.config.filters;
                let is_purged = |mine: &String| is_subset(mine, filter);
                let is_all_purged = match self.home.version.is_at_least(2, 15) {
                    true => filters.iter().all(is_purged),
                    // Older servers take one filter for all, and pass over what matches the others.
                    false => filters.iter().any(is_purged),
                };
                let is_met = |mine: &String| is_purged(mine) || is_subset(filter, mine);
                if is_all_purged && !filters.is_empty() {
                    let left = log.next(log.first(), &of_purge);
                    left.unwrap_or_else(|| log.last() + 1)
                } else if filters.is_empty() || filters.iter().any(is_met) {
                    is_wider = true;
                    log.first()
                } else {
                    if counts {
                        self.recount(log);
                    }
                    return;
                }
            }
        };
        self.next = self.next.max(first_left);
        if self.floor.stream < first_left {
            self.floor.stream = first_left - 1;
            let is_gone =
                |&sequence: &u64| sequence < first_left || (is_wider && log.at(sequence).is_none());
            let gone: Vec<u64> = self.pending.keys().copied().filter(is_gone).collect();
            for sequence in gone {
                if let Some(pending) = self.pending.remove(&sequence) {
                    self.floor.consumer = self.floor.consumer.max(pending.count);
                    self.again.remove(&sequence);
                    self.write_settled(pending.count, sequence, around);
                }
            }
        }
        if self.pending.is_empty() {
            self.again.clear();
            self.floor = self.delivered();
        }
        // Also what is still pending: it waits its time again.
        self.due.clear();
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.left.retain(|&left| log.at(left).is_some());
        }
        if counts {
            self.recount(log);
        }
        self.write_down(around);
    }

    /// Forgets a delivery whose message is below the stream's first.
    fn drop_pending(&mut self, sequence: u64) {
        if let Some(pending) = self.pending.remove(&sequence) {
            self.again.remove(&sequence);
            self.forget_due(sequence);
            self.floor.stream = self.floor.stream.max(sequence);
            self.floor.consumer = self.floor.consumer.max(pending.count);
        }
    }

    /// Writes the living state down as it is.
    fn write_down(&mut self, around: &mut Around<'_>) {
        let delivered = self.delivered();
        let is_older = delivered.consumer < self.kept.delivered.consumer
            || self.floor.stream < self.kept.floor.stream;
        if !is_older {
            self.kept = Kept {
                delivered,
                floor: self.floor,
                pending: self.pending.clone(),
                again: self.again.clone(),
            };
            self.touch(around);
        }
    }

    fn forget_due(&mut self, sequence: u64) {
        self.due.retain(|&due| due != sequence);
    }

    fn deliver_max(&self) -> Option<u64> {
        let max = self.config.max_deliver?;
        let is_ignored = self.home.kindness == Some(Kindness::DeliversForEver);
        (!is_ignored).then(|| u64::from(max.get()))
    }
}
