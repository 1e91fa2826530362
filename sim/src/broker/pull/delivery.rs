//! How messages get to pulls: what is due again first, then what is new.

use squall_core::transport::{AckPolicy, Delivered, Pull, Retention, StoredMessage};

use super::ack::{AckedDelivery, reply_subject};
use super::kept::Place;
use super::{Around, Inbox, PullConsumer, Said};
use crate::wire::PullStatus;

/// What there is to deliver.
enum Next {
    /// A message, and how often it will then have been delivered.
    Message(StoredMessage, u64),
    None,
    /// Too much is unsettled.
    Stalled,
}

impl PullConsumer {
    /// A client asks for messages.
    pub(in crate::broker) fn pull(&mut self, inbox: Inbox, pull: Pull, around: &mut Around<'_>) {
        // On the wire, none and zero are the same.
        let heartbeat = pull.heartbeat.filter(|beat| !beat.is_zero());
        let pull = Pull { heartbeat, ..pull };
        if pull
            .heartbeat
            .is_some_and(|beat| beat * 2 > pull.expires.unwrap_or_default())
        {
            let text = "Bad Request - heartbeat value too large".into();
            around
                .said
                .push(Said::Status(inbox, PullStatus { code: 400, text }));
            return;
        }
        let available = self.left() + self.due.len() as u64;
        let (max, version) = (self.config.max_waiting, self.home.version);
        self.waiting
            .add(inbox, pull, available, max, version, around);
        self.run(around);
    }

    /// Whether it is to be [told](Self::told) of a message that the stream has stored.
    pub(in crate::broker) fn is_for(&self, sequence: u64, subject: &str) -> bool {
        sequence >= self.next && self.wants(subject)
    }

    /// There are new messages. They may have been found already by whoever pulled.
    pub(in crate::broker) fn told(&mut self, news: &[u64], around: &mut Around<'_>) {
        let uncounted = news.iter().filter(|&&sequence| sequence > self.counted);
        self.unseen += uncounted.count() as i64;
        let is_new = news.last().is_some_and(|&last| last >= self.next);
        if is_new && !self.waiting.is_empty() {
            self.run(around);
        }
    }

    /// Delivers as long as there is a message and a pull for it.
    pub(in crate::broker) fn run(&mut self, around: &mut Around<'_>) {
        let mut is_stalled = false;
        while !self.waiting.is_empty() {
            let (message, deliveries) = match self.take_next(around) {
                Next::Message(message, deliveries) => (message, deliveries),
                Next::None => break,
                Next::Stalled => {
                    is_stalled = true;
                    break;
                }
            };
            match self.waiting.take(around) {
                Some(inbox) => self.deliver(inbox, message, deliveries, around),
                None => {
                    self.give_back(message.sequence.0, deliveries);
                    break;
                }
            }
        }
        let version = self.home.version;
        self.waiting.look(!is_stalled, version, around);
    }

    fn deliver(
        &mut self,
        inbox: Inbox,
        message: StoredMessage,
        deliveries: u64,
        around: &mut Around<'_>,
    ) {
        self.count += 1;
        let (count, sequence) = (self.count, message.sequence.0);
        self.note_delivered(count, sequence, deliveries, message.time);
        if self.config.ack_policy == AckPolicy::None {
            self.floor = Place {
                consumer: count,
                stream: sequence,
            };
        } else {
            self.track(around.now, sequence, count);
        }
        self.touch(around);
        if self.inactive.is_some() {
            self.waiting.heard_at = Some(around.now.monotonic);
        }
        let delivery = AckedDelivery {
            deliveries,
            sequence,
            count,
        };
        let stored = message.time.as_nanos();
        let reply = reply_subject(&self.home.stream, &self.name, delivery, stored, self.left());
        let delivered = Delivered {
            message,
            consumer_sequence: count,
            deliveries,
            pending: self.left(),
            reply: reply.into(),
        };
        around.said.push(Said::Delivered(inbox, delivered));
        if self.config.ack_policy == AckPolicy::None && self.home.retention != Retention::Limits {
            around.said.push(Said::Settled(sequence));
        }
    }

    /// Whether nothing new is delivered until something that is pending is settled.
    pub(super) fn is_full(&self) -> bool {
        let pending_max = usize::try_from(self.config.max_ack_pending).unwrap_or_default();
        pending_max > 0 && self.pending.len() >= pending_max
    }

    /// The next message to deliver: one that is due again, or a new one.
    fn take_next(&mut self, around: &mut Around<'_>) -> Next {
        if let Some((message, deliveries)) = self.take_due(around) {
            return Next::Message(message, deliveries);
        }
        if self.is_full() {
            return Next::Stalled;
        }
        while let Some(snapshot) = &mut self.snapshot {
            let Some(sequence) = snapshot.left.pop_front() else {
                self.next = self.next.max(snapshot.until + 1);
                self.snapshot = None;
                self.recount(around.log);
                break;
            };
            self.next = sequence + 1;
            if let Some(message) = around.log.at(sequence) {
                self.unseen -= 1;
                return Next::Message(message, 1);
            }
        }
        let found = around.log.next(self.next, &self.wanted);
        let message = found.and_then(|sequence| around.log.at(sequence));
        match message {
            Some(message) => {
                self.next = message.sequence.0 + 1;
                self.unseen -= 1;
                Next::Message(message, 1)
            }
            None => {
                self.next = self.next.max(around.log.last() + 1);
                (self.unseen, self.counted) = (0, around.log.last());
                Next::None
            }
        }
    }

    /// A message that nobody took after all.
    fn give_back(&mut self, sequence: u64, deliveries: u64) {
        if deliveries == 1 {
            self.unseen += 1;
            match &mut self.snapshot {
                Some(snapshot) => snapshot.left.push_front(sequence),
                None => self.next = sequence,
            }
            return;
        }
        self.count_again_less(sequence);
        self.due.push_back(sequence);
    }
}
