//! One consumer on a table: a stream that a test fills, and a clock moved by hand that stops at every deadline.

pub(super) use std::num::NonZeroU32;
pub(super) use std::time::Duration;

pub(super) use squall_core::transport::{Delivered, Pull, StoredMessage};

use squall_core::UnixTime;
use squall_core::transport::Ack;

use super::*;
use crate::broker::config::Now;

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A stream on a table.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) held: BTreeMap<u64, StoredMessage>,
    last: u64,
}

impl Log for Table {
    fn first(&self) -> u64 {
        self.held
            .keys()
            .next()
            .map_or(self.last + 1, |&first| first)
    }

    fn last(&self) -> u64 {
        self.last
    }

    fn at(&self, sequence: u64) -> Option<StoredMessage> {
        self.held.get(&sequence).cloned()
    }

    fn next(&self, from: u64, wanted: &Filters) -> Option<u64> {
        let mut held = self.held.range(from..);
        held.find(|(_, message)| wanted.matches(&message.subject))
            .map(|(&sequence, _)| sequence)
    }

    fn count(&self, from: u64, wanted: &Filters) -> u64 {
        let held = self.held.range(from..);
        held.filter(|(_, message)| wanted.matches(&message.subject))
            .count() as u64
    }

    fn newest_of_each(&self, wanted: &Filters) -> Vec<u64> {
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        for (&sequence, message) in &self.held {
            if wanted.matches(&message.subject) {
                newest.insert(&message.subject, sequence);
            }
        }
        let mut newest: Vec<u64> = newest.into_values().collect();
        newest.sort_unstable();
        newest
    }

    fn since(&self, time: UnixTime) -> Option<u64> {
        let mut held = self.held.iter();
        held.find(|(_, message)| message.time >= time)
            .map(|(&sequence, _)| sequence)
    }
}

/// A consumer `C` of a stream `S`, and all it said that no test has looked at yet, with the time at which it did.
pub(super) struct Bench {
    pub(super) log: Table,
    pub(super) consumer: PullConsumer,
    pub(super) now: Now,
    rng: Rng,
    pub(super) said: Vec<(Instant, Said)>,
    begun: Instant,
    pub(super) deaf: Vec<Inbox>,
}

pub(super) fn config(change: impl FnOnce(&mut ConsumerConfig)) -> ConsumerConfig {
    let mut config = ConsumerConfig::durable("C");
    change(&mut config);
    config
}

pub(super) const fn inbox(number: u64) -> Inbox {
    (LinkId(1), Sid(number))
}

pub(super) fn pull(batch: u32, expires: Option<u64>) -> Pull {
    Pull {
        batch: NonZeroU32::new(batch).expect("at least one"),
        expires: expires.map(millis),
        heartbeat: None,
    }
}

impl Bench {
    /// A consumer of a stream that holds `messages` messages, to `s.1`, `s.2`, ...
    pub(super) fn new(messages: u64, change: impl FnOnce(&mut ConsumerConfig)) -> Self {
        Self::of(Version::REFERENCE, messages, change)
    }

    pub(super) fn of(
        version: Version,
        messages: u64,
        change: impl FnOnce(&mut ConsumerConfig),
    ) -> Self {
        let now = Now {
            monotonic: Instant::ZERO + Duration::from_secs(1000),
            wall: UnixTime::from_nanos(1_700_000_000_300_000_000),
        };
        let mut log = Table::default();
        for number in 1..=messages {
            store(&mut log, now, &format!("s.{number}"));
        }
        let home = Home {
            stream: "S".into(),
            retention: Retention::Limits,
            storage: Storage::File,
            version,
            kindness: None,
        };
        let config = config(change);
        let config = admit(
            &home,
            &config,
            ConsumerAction::Create,
            None,
            std::iter::empty(),
        );
        let mut rng = Rng::new(7);
        let mut around = Around {
            now,
            log: &log,
            listens: &|_| true,
            rng: &mut rng,
            said: &mut Vec::new(),
        };
        let consumer = PullConsumer::new(home, config.expect("it is taken"), &mut around);
        Self {
            log,
            consumer,
            now,
            rng,
            said: Vec::new(),
            begun: now.monotonic,
            deaf: Vec::new(),
        }
    }

    /// Does something to the consumer now.
    pub(super) fn act<R>(
        &mut self,
        act: impl FnOnce(&mut PullConsumer, &mut Around<'_>) -> R,
    ) -> R {
        let mut said = Vec::new();
        let deaf = &self.deaf;
        let mut around = Around {
            now: self.now,
            log: &self.log,
            listens: &|inbox| !deaf.contains(&inbox),
            rng: &mut self.rng,
            said: &mut said,
        };
        let result = act(&mut self.consumer, &mut around);
        let at = self.now.monotonic;
        self.said.extend(said.into_iter().map(|said| (at, said)));
        result
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.monotonic + time;
        while let Some(due) = self.consumer.deadline().filter(|&due| due <= end) {
            self.set_clock(due.max(self.now.monotonic));
            self.act(PullConsumer::on_deadline);
            if self.said.iter().any(|(_, said)| *said == Said::Inactive) {
                return;
            }
        }
        self.set_clock(end);
    }

    fn set_clock(&mut self, to: Instant) {
        self.now.wall = self.now.wall + to.since(self.now.monotonic);
        self.now.monotonic = to;
    }

    pub(super) fn store(&mut self, subject: &str) {
        let sequence = store(&mut self.log, self.now, subject);
        if self.consumer.is_for(sequence, subject) {
            self.act(|consumer, around| consumer.told(&[sequence], around));
        }
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        let removed = self.log.held.remove(&sequence).expect("it is held");
        self.act(|consumer, around| {
            if consumer.removed(sequence, &removed.subject, around) {
                consumer.run(around);
            }
        });
    }

    /// Purges what matches, below a sequence.
    pub(super) fn purge(&mut self, filter: Option<&str>, below: u64) {
        let filters: Vec<&str> = filter.into_iter().collect();
        let wanted = Filters::parse(&filters).expect("a filter");
        self.log
            .held
            .retain(|&sequence, held| sequence >= below || !wanted.matches(&held.subject));
        self.act(|consumer, around| consumer.purged(filter, true, around));
    }

    pub(super) fn pull(&mut self, number: u64, batch: u32, expires: Option<u64>) {
        self.pull_with(number, pull(batch, expires));
    }

    pub(super) fn pull_with(&mut self, number: u64, pull: Pull) {
        self.act(|consumer, around| consumer.pull(inbox(number), pull, around));
    }

    /// Pulls what is there, and gives it.
    pub(super) fn take(&mut self, batch: u32) -> Vec<Delivered> {
        self.pull(99, batch, None);
        let said = std::mem::take(&mut self.said);
        let delivered = said.into_iter().filter_map(|(_, said)| match said {
            Said::Delivered(_, delivered) => Some(delivered),
            _ => None,
        });
        delivered.collect()
    }

    /// Says something about a delivery. True if it is confirmed.
    pub(super) fn ack(&mut self, delivered: &Delivered, ack: Ack) -> bool {
        self.raw_ack(&delivered.reply, &ack.payload())
    }

    pub(super) fn raw_ack(&mut self, reply: &str, payload: &[u8]) -> bool {
        let subject = AckSubject::parse(reply).expect("an acknowledgement");
        self.act(|consumer, around| consumer.acknowledge(subject.delivery, payload, around))
    }

    /// Kills the process (or asks it to end), and starts it again after a while.
    pub(super) fn restart(&mut self, is_orderly: bool, down: Duration) {
        let rng = &mut self.rng;
        assert!(self.consumer.stop(is_orderly, rng), "it is on disk");
        self.set_clock(self.now.monotonic + down);
        self.act(PullConsumer::start);
    }

    /// As the tables of the facts tell it.
    pub(super) fn info(&mut self) -> String {
        let info = self.act(PullConsumer::info);
        format!(
            "delivered {}/{} floor {}/{} pending {} again {} waiting {} unseen {}",
            info.delivered.consumer,
            info.delivered.stream,
            info.ack_floor.consumer,
            info.ack_floor.stream,
            info.ack_pending,
            info.redelivered,
            info.waiting,
            info.pending
        )
    }

    /// What was said since a test last looked, each with its time in milliseconds.
    pub(super) fn said(&mut self) -> Vec<String> {
        let begun = self.begun;
        let said = std::mem::take(&mut self.said).into_iter();
        said.map(|(at, said)| format!("{}: {}", at.since(begun).as_millis(), told(&said)))
            .collect()
    }

    /// Time is counted from here on.
    pub(super) fn begin(&mut self) {
        self.begun = self.now.monotonic;
        self.said.clear();
    }
}

fn store(log: &mut Table, now: Now, subject: &str) -> u64 {
    log.last += 1;
    let message = StoredMessage {
        subject: subject.into(),
        headers: squall_core::transport::Headers::new(),
        payload: bytes::Bytes::new(),
        sequence: Sequence(log.last),
        time: now.wall,
    };
    log.held.insert(log.last, message);
    log.last
}

pub(super) fn told(said: &Said) -> String {
    match said {
        Said::Delivered((_, sid), delivered) => format!(
            "{} #{} x{} to {}, {} unseen",
            delivered.message.subject,
            delivered.consumer_sequence,
            delivered.deliveries,
            sid.0,
            delivered.pending
        ),
        Said::Status((_, sid), status) => format!("{} {} to {}", status.code, status.text, sid.0),
        Said::Settled(sequence) => format!("settled {sequence}"),
        Said::GivenUp {
            sequence,
            deliveries,
        } => format!("gave up {sequence} after {deliveries}"),
        Said::Terminated { delivery, reason } => {
            format!(
                "terminated {delivery:?} {}",
                reason.as_deref().unwrap_or("-")
            )
        }
        Said::Inactive => "inactive".to_owned(),
    }
}
