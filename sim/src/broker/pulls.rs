//! The pull consumers of a stream: how requests, acknowledgements and timers come to them, and where what they say goes.
//!
//! Pulls and acknowledgements come to a consumer through queues of their own, as in the server, and each queue is looked
//! at a little after something was put into it: which of two that were sent together is heard first is a race.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::transport::{
    AckPolicy, ApiError, ConsumerConfig, ConsumerInfo, Message, Pull, Retention, Sequence, Storage,
    StoredMessage,
};
use squall_core::{Instant, Rng, UnixTime};

use super::advisory::Advisory;
use super::config::Version;
use super::context::Context;
use super::effect::Cause;
use super::pull::{AckSubject, AckedDelivery, Around, Home, Inbox, Log, PullConsumer, Said, admit};
use super::readers::HEARD_FIRST_OF_100;
use super::refusal::api_error;
use super::store::{Record, Store};
use super::stream::Stream;
use super::subject::Filters;
use super::timers::StreamTimer;
use crate::wire::{ConsumerAction, ServerOp};

/// Of the messages that a real server stored for eight clients at once on two cores, so many of 100 were not counted by a
/// pull right after the acknowledgement.
const TOLD_LATE_OF_100: u64 = 4;
/// How late that may be.
const TOLD_LATE_MAX: Duration = Duration::from_millis(5);

/// Of messages that aged out at once, a real server delivered none of the first so many to who had got a place by that.
const GONE_UNHEARD: u32 = 25;
/// Of those after them about one in so many was delivered to it: none of 4 together, 2 in 6 trials of 100 and of 1 000
/// each, 7 to 43 of 10 000.
const GONE_HEARD_ONE_IN: u64 = 600;

/// A pull consumer, unlike any other of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PullId(u64);

/// What a timer of a pull consumer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PullTimer {
    /// It hears acknowledgements.
    Acks,
    /// It hears pulls.
    Pulls,
    /// It hears of what was stored.
    News,
    /// It goes on in places that became free.
    Places,
    /// It has something to do itself.
    Due,
}

/// An acknowledgement on its way.
#[derive(Debug)]
struct Acked {
    delivery: AckedDelivery,
    payload: Bytes,
    reply: Option<Arc<str>>,
}

#[derive(Debug)]
struct Slot {
    consumer: PullConsumer,
    acks: VecDeque<Acked>,
    pulls: VecDeque<(Inbox, Pull)>,
    /// Stored messages that are on their way to it.
    news: Vec<u64>,
    /// For when its own timer is set.
    armed: Option<Instant>,
}

/// All pull consumers of a stream.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    names: BTreeMap<Arc<str>, PullId>,
    slots: BTreeMap<PullId, Slot>,
    made: u64,
    /// Messages that have gone and that no consumer was told of yet.
    gone: Vec<(Sequence, Arc<str>)>,
    /// Messages that the sweep that is under way has taken.
    swept: u32,
}

impl Pulls {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    fn consumers(&self) -> impl Iterator<Item = &PullConsumer> {
        self.slots.values().map(|slot| &slot.consumer)
    }

    pub(super) fn want(&self, subject: &str) -> bool {
        self.consumers().any(|consumer| consumer.wants(subject))
    }

    pub(super) fn need(&self, sequence: Sequence, subject: &str) -> bool {
        self.consumers()
            .any(|consumer| consumer.needs(sequence.0, subject))
    }

    /// Whether some consumer has settled this message.
    pub(super) fn are_through(&self, sequence: Sequence, subject: &str) -> bool {
        self.consumers()
            .any(|consumer| consumer.is_through(sequence.0, subject))
    }

    /// Takes note of a new message; gives the consumers that are to be told.
    pub(super) fn note_stored(&mut self, sequence: Sequence, subject: &str) -> Vec<PullId> {
        let mut awaiting = Vec::new();
        for (&id, slot) in &mut self.slots {
            if slot.consumer.is_for(sequence.0, subject) {
                if slot.news.is_empty() {
                    awaiting.push(id);
                }
                slot.news.push(sequence.0);
            }
        }
        awaiting
    }

    /// Takes note that a message has gone. One that was purged is told otherwise.
    pub(super) fn note_gone(&mut self, sequence: Sequence, subject: &Arc<str>, cause: Cause) {
        if !self.slots.is_empty() && cause != Cause::Purged {
            self.gone.push((sequence, Arc::clone(subject)));
        }
    }
}

/// How many messages a purge took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// One by one.
    Each(u64),
    /// All up to one, at once.
    Whole(u64),
}

impl Gone {
    /// Whether all consumers count anew what is left for them. Of a single message only those are told that would be told
    /// of a new one of its subject.
    fn are_counted(self, version: Version, storage: Storage, is_filtered: bool) -> bool {
        let (gone, is_old) = match self {
            Self::Whole(gone) => return gone > 0,
            Self::Each(gone) => (gone, !version.is_at_least(2, 14)),
        };
        match storage {
            Storage::Memory if is_old => gone > 0 && !is_filtered,
            Storage::File if !version.is_at_least(2, 11) => gone > 0,
            _ => gone > 1,
        }
    }
}

impl Log for Store {
    fn first(&self) -> u64 {
        self.first_sequence().0
    }

    fn last(&self) -> u64 {
        Self::last(self).0
    }

    fn at(&self, sequence: u64) -> Option<StoredMessage> {
        Self::at(self, Sequence(sequence)).map(|record| self.message(record))
    }

    fn next(&self, from: u64, wanted: &Filters) -> Option<u64> {
        matching(self, Sequence(from), wanted)
            .next()
            .map(|record| record.sequence.0)
    }

    fn count(&self, from: u64, wanted: &Filters) -> u64 {
        matching(self, Sequence(from), wanted).count() as u64
    }

    fn newest_of_each(&self, wanted: &Filters) -> Vec<u64> {
        matching(self, Sequence::NONE, wanted)
            .filter(|record| self.is_newest(record))
            .map(|record| record.sequence.0)
            .collect()
    }

    fn since(&self, time: UnixTime) -> Option<u64> {
        self.from(Sequence::NONE)
            .find(|record| record.time >= time)
            .map(|record| record.sequence.0)
    }
}

/// The messages from a sequence on that match, ascending. Those of one subject are found by it.
fn matching<'a>(
    store: &'a Store,
    from: Sequence,
    wanted: &'a Filters,
) -> impl Iterator<Item = &'a Record> {
    let subject = wanted.literal();
    let of_subject = subject.map(|subject| store.history(store.name(subject)));
    let of_log = subject.is_none().then(|| store.from(from));
    let all = of_subject.into_iter().flatten();
    all.chain(of_log.into_iter().flatten())
        .filter(move |record| record.sequence >= from && wanted.matches(store.subject_of(record)))
}

impl Stream {
    /// Creates a pull consumer, or gives one that is there other settings.
    pub(super) fn create_pull_consumer(
        &mut self,
        ctx: &mut Context<'_>,
        config: &ConsumerConfig,
        action: ConsumerAction,
    ) -> Result<ConsumerInfo, ApiError> {
        let home = Home {
            stream: Arc::clone(&self.identity.name),
            retention: self.opened_as,
            storage: self.config.storage,
            version: ctx.config.version,
            kindness: ctx.config.kindness,
        };
        let slots = &self.pulls.slots;
        let existing = self.pulls.names.get(config.name.as_str()).copied();
        let found = existing.and_then(|id| slots.get(&id));
        let others = slots.iter().filter(|(id, _)| Some(**id) != existing);
        let others = others.map(|(_, slot)| &slot.consumer);
        let found = found.map(|slot| &slot.consumer);
        let config = admit(&home, config, action, found, others)?;
        let id = match existing {
            Some(id) => {
                self.with_pull(ctx, id, |consumer, around| consumer.update(config, around));
                // What its filters leave out now is perhaps wanted by nobody.
                self.settle_all(ctx);
                id
            }
            None => self.add_pull(ctx, home, config),
        };
        self.describe(ctx, id)
    }

    fn add_pull(&mut self, ctx: &mut Context<'_>, home: Home, config: ConsumerConfig) -> PullId {
        self.pulls.made += 1;
        let id = PullId(self.pulls.made);
        let name = config.name.as_str().into();
        let mut around = Around {
            now: ctx.now,
            log: &self.store,
            listens: &|inbox| ctx.inboxes.contains(&inbox),
            rng: ctx.rng,
            said: &mut Vec::new(),
        };
        let slot = Slot {
            consumer: PullConsumer::new(home, config, &mut around),
            acks: VecDeque::new(),
            pulls: VecDeque::new(),
            news: Vec::new(),
            armed: None,
        };
        self.pulls.names.insert(name, id);
        self.pulls.slots.insert(id, slot);
        self.arm_pull(ctx, id);
        id
    }

    /// What the server says about a pull consumer.
    pub(super) fn consumer_info(
        &mut self,
        ctx: &mut Context<'_>,
        name: &str,
    ) -> Result<ConsumerInfo, ApiError> {
        let id = self.pulls.names.get(name).copied();
        self.describe(ctx, id.ok_or_else(consumer_not_found)?)
    }

    fn describe(&mut self, ctx: &mut Context<'_>, id: PullId) -> Result<ConsumerInfo, ApiError> {
        self.with_pull(ctx, id, PullConsumer::info)
            .ok_or_else(consumer_not_found)
    }

    pub(super) fn delete_consumer(
        &mut self,
        ctx: &mut Context<'_>,
        name: &str,
    ) -> Result<(), ApiError> {
        let id = self.pulls.names.get(name).copied();
        self.remove_pull(ctx, id.ok_or_else(consumer_not_found)?);
        Ok(())
    }

    fn remove_pull(&mut self, ctx: &mut Context<'_>, id: PullId) {
        self.pulls.names.retain(|_, found| *found != id);
        if let Some(slot) = self.pulls.slots.remove(&id) {
            send_statuses(ctx, slot.consumer);
            self.settle_all(ctx);
        }
    }

    /// The stream is being deleted: whoever waits is told.
    pub(super) fn dismiss_pulls(&mut self, ctx: &mut Context<'_>) {
        self.pulls.names.clear();
        for slot in std::mem::take(&mut self.pulls.slots).into_values() {
            send_statuses(ctx, slot.consumer);
        }
    }

    /// A client asks for messages. False if there is no such consumer.
    pub(super) fn pull(
        &mut self,
        ctx: &mut Context<'_>,
        consumer: &str,
        inbox: Inbox,
        wish: Pull,
    ) -> bool {
        let Some(&id) = self.pulls.names.get(consumer) else {
            return false;
        };
        if let Some(slot) = self.pulls.slots.get_mut(&id) {
            slot.pulls.push_back((inbox, wish));
        }
        self.soon(ctx, id, PullTimer::Pulls);
        true
    }

    /// A client says something about a delivery. False if no consumer listens to it.
    pub(super) fn acknowledge(
        &mut self,
        ctx: &mut Context<'_>,
        subject: AckSubject<'_>,
        message: &Message,
    ) -> bool {
        let Some(&id) = self.pulls.names.get(subject.consumer) else {
            return false;
        };
        let Some(slot) = self.pulls.slots.get_mut(&id) else {
            return false;
        };
        if slot.consumer.config().ack_policy == AckPolicy::None {
            return false;
        }
        slot.acks.push_back(Acked {
            delivery: subject.delivery,
            payload: message.payload.clone(),
            reply: message.reply.clone(),
        });
        self.soon(ctx, id, PullTimer::Acks);
        true
    }

    /// Does something in a moment; at once where deliveries take no time.
    fn soon(&mut self, ctx: &mut Context<'_>, id: PullId, timer: PullTimer) {
        let delay_max = ctx.config.delivery_delay_max;
        if delay_max.is_zero() {
            self.on_pull_timer(ctx, id, timer);
        } else {
            self.later(ctx, delay_max, id, timer);
        }
    }

    /// Does something once what is being done is done, after `delay_max` at most.
    fn later(&self, ctx: &mut Context<'_>, delay_max: Duration, id: PullId, timer: PullTimer) {
        let delay = match delay_max.as_nanos() as u64 {
            0 => 0,
            nanos => ctx.rng.between(1, nanos),
        };
        let timer = self.timer(StreamTimer::Pull(id, timer));
        ctx.set_timer(Duration::from_nanos(delay), timer);
    }

    /// A timer of a pull consumer fired.
    pub(super) fn on_pull_timer(&mut self, ctx: &mut Context<'_>, id: PullId, timer: PullTimer) {
        let Some(slot) = self.pulls.slots.get_mut(&id) else {
            return;
        };
        match timer {
            PullTimer::Acks => {
                for acked in std::mem::take(&mut slot.acks) {
                    let confirmed = self.with_pull(ctx, id, |consumer, around| {
                        consumer.acknowledge(acked.delivery, &acked.payload, around)
                    });
                    if confirmed == Some(true)
                        && let Some(reply) = acked.reply
                    {
                        ctx.post(Message::new(reply, Bytes::new()));
                    }
                }
            }
            PullTimer::Pulls => {
                for (inbox, wish) in std::mem::take(&mut slot.pulls) {
                    self.with_pull(ctx, id, |consumer, around| {
                        consumer.pull(inbox, wish, around);
                    });
                }
            }
            PullTimer::News => {
                let news = std::mem::take(&mut slot.news);
                self.with_pull(ctx, id, |consumer, around| consumer.told(&news, around));
            }
            PullTimer::Places => {
                self.with_pull(ctx, id, PullConsumer::run);
            }
            PullTimer::Due => {
                slot.armed = None;
                self.with_pull(ctx, id, PullConsumer::on_deadline);
            }
        }
    }

    /// Works on a consumer, and carries out what it says.
    fn with_pull<R>(
        &mut self,
        ctx: &mut Context<'_>,
        id: PullId,
        work: impl FnOnce(&mut PullConsumer, &mut Around<'_>) -> R,
    ) -> Option<R> {
        let slot = self.pulls.slots.get_mut(&id)?;
        let mut said = Vec::new();
        let mut around = Around {
            now: ctx.now,
            log: &self.store,
            listens: &|inbox| ctx.inboxes.contains(&inbox),
            rng: ctx.rng,
            said: &mut said,
        };
        let result = work(&mut slot.consumer, &mut around);
        self.arm_pull(ctx, id);
        for said in said {
            self.carry_out(ctx, id, said);
        }
        Some(result)
    }

    /// Makes sure that a consumer is woken in time.
    fn arm_pull(&mut self, ctx: &mut Context<'_>, id: PullId) {
        let timer = self.timer(StreamTimer::Pull(id, PullTimer::Due));
        if let Some(slot) = self.pulls.slots.get_mut(&id)
            && let Some(at) = slot.consumer.deadline()
            && slot.armed.is_none_or(|armed| at < armed)
        {
            slot.armed = Some(at);
            ctx.timers.set(at, timer);
        }
    }

    fn carry_out(&mut self, ctx: &mut Context<'_>, id: PullId, said: Said) {
        match said {
            Said::Delivered((link, sid), delivered) => {
                let delivered = Box::new(delivered);
                ctx.send(link, ServerOp::Pulled { sid, delivered });
            }
            Said::Status(inbox, status) => ctx.send_status(inbox, status),
            Said::Settled(sequence) => self.let_go(ctx, Sequence(sequence)),
            Said::GivenUp {
                sequence,
                deliveries,
            } => self.advise(ctx, id, &Advisory::max_deliveries(sequence, deliveries)),
            Said::Terminated { delivery, reason } => {
                self.advise(ctx, id, &Advisory::terminated(delivery, reason.as_deref()));
            }
            Said::Inactive => self.remove_pull(ctx, id),
        }
    }

    fn advise(&self, ctx: &mut Context<'_>, id: PullId, advisory: &Advisory) {
        if let Some(slot) = self.pulls.slots.get(&id) {
            let consumer = &slot.consumer.config().name;
            let message = advisory.message(&self.identity.name, consumer, ctx.now.wall, ctx.rng);
            ctx.post(message);
        }
    }

    /// A consumer has settled a message: a stream that keeps only what is wanted may be done with it.
    fn let_go(&mut self, ctx: &mut Context<'_>, sequence: Sequence) {
        match self.config.retention {
            Retention::Limits => {}
            Retention::Interest => self.settle(ctx, &[sequence]),
            Retention::WorkQueue => {
                self.drop_at(ctx, sequence, Cause::Settled);
            }
        }
    }

    /// Consumers hear of a new message, some at once, most a little later, and some only once its acknowledgement has been
    /// read.
    pub(super) fn tell_new(&mut self, ctx: &mut Context<'_>, awaiting: Vec<PullId>) {
        let takes_time = !ctx.config.delivery_delay_max.is_zero();
        for id in awaiting {
            if ctx.rng.chance(HEARD_FIRST_OF_100, 100) {
                self.on_pull_timer(ctx, id, PullTimer::News);
            } else if takes_time && ctx.rng.chance(TOLD_LATE_OF_100, 100) {
                self.later(ctx, TOLD_LATE_MAX, id, PullTimer::News);
            } else {
                self.soon(ctx, id, PullTimer::News);
            }
        }
    }

    /// Tells consumers of the messages that have gone. One that was full goes on only when others have gone, too, that go
    /// with them: of messages that age out together it delivers none.
    pub(super) fn tell_gone(&mut self, ctx: &mut Context<'_>) {
        if self.pulls.gone.is_empty() {
            return;
        }
        for (sequence, subject) in std::mem::take(&mut self.pulls.gone) {
            let ids: Vec<PullId> = self.pulls.slots.keys().copied().collect();
            for id in ids {
                let has_place = self.with_pull(ctx, id, |consumer, around| {
                    consumer.removed(sequence.0, &subject, around)
                });
                if has_place == Some(true) {
                    self.later(ctx, ctx.config.delivery_delay_max, id, PullTimer::Places);
                }
            }
        }
    }

    /// Messages are about to be swept away together.
    pub(super) const fn begin_sweep(&mut self) {
        self.pulls.swept = 0;
    }

    /// One of them was. Where they are many, a consumer sees once in a while that it has got a place before all have gone,
    /// and delivers some that are about to.
    pub(super) fn go_on_amid_sweep(&mut self, ctx: &mut Context<'_>) {
        self.pulls.swept = self.pulls.swept.saturating_add(1);
        if self.pulls.swept <= GONE_UNHEARD || self.pulls.slots.is_empty() {
            return;
        }
        let ids: Vec<PullId> = self.pulls.slots.keys().copied().collect();
        for id in ids {
            if ctx.rng.chance(1, GONE_HEARD_ONE_IN) {
                self.on_pull_timer(ctx, id, PullTimer::Places);
            }
        }
    }

    /// Tells consumers of a purge, of what matches `filter` if there is one.
    pub(super) fn tell_purged(&mut self, ctx: &mut Context<'_>, filter: Option<&str>, gone: Gone) {
        let (version, storage) = (ctx.config.version, self.config.storage);
        let is_counted = gone.are_counted(version, storage, filter.is_some());
        let ids: Vec<PullId> = self.pulls.slots.keys().copied().collect();
        for id in ids {
            self.with_pull(ctx, id, |consumer, around| {
                consumer.purged(filter, is_counted, around);
            });
        }
    }

    /// The process ends. What consumers have not written yet is lost, unless it was asked to end.
    pub(super) fn stop_pulls(&mut self, is_orderly: bool, rng: &mut Rng) {
        self.pulls.slots.retain(|_, slot| {
            slot.acks.clear();
            slot.pulls.clear();
            slot.news.clear();
            slot.armed = None;
            slot.consumer.stop(is_orderly, rng)
        });
        let slots = &self.pulls.slots;
        self.pulls.names.retain(|_, id| slots.contains_key(id));
    }

    /// The process is back.
    pub(super) fn start_pulls(&mut self, ctx: &mut Context<'_>) {
        let ids: Vec<PullId> = self.pulls.slots.keys().copied().collect();
        for id in ids {
            self.with_pull(ctx, id, PullConsumer::start);
        }
    }
}

/// Tells whoever waits that a consumer is deleted.
fn send_statuses(ctx: &mut Context<'_>, consumer: PullConsumer) {
    let mut said = Vec::new();
    consumer.delete(&mut said);
    for said in said {
        if let Said::Status(inbox, status) = said {
            ctx.send_status(inbox, status);
        }
    }
}

fn consumer_not_found() -> ApiError {
    api_error(404, 10014, "consumer not found")
}
