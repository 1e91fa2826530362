//! The consumers of one stream: who wants which messages, and when each is told.

use std::time::Duration;

use squall_core::transport::{Retention, Sequence};

use super::consumer::{Consumer, ConsumerId, Wanted};
use super::context::Context;
use super::effect::Cause;
use super::stream::Stream;
use super::timers::StreamTimer;
use crate::wire::{LinkId, Sid};

/// Of a hundred writes, those whose watchers hear of them before the writer has its acknowledgement (34 to 37
/// measured).
pub(super) const HEARD_FIRST_OF_100: u64 = 35;

impl Stream {
    /// Whether some consumer wants messages of this subject.
    pub(super) fn is_wanted(&self, subject: &str) -> bool {
        let mut consumers = self.consumers.iter().chain(self.inactive.values());
        consumers.any(|consumer| consumer.wants(subject)) || self.pulls.want(subject)
    }

    /// Consumers that exist, with and without a subscription.
    pub(super) fn consumers(&self) -> usize {
        self.consumers.len() + self.inactive.len() + self.pulls.len()
    }

    /// Adds a consumer and gives what it has to deliver.
    pub(super) fn add_consumer(
        &mut self,
        ctx: &mut Context<'_>,
        id: ConsumerId,
        wanted: Wanted,
    ) -> u64 {
        let now = ctx.now.monotonic;
        let consumer = Consumer::new(id, wanted, self, ctx.config.version, now);
        if consumer.has_heartbeat() {
            let timer = self.timer(StreamTimer::Heartbeat(id));
            ctx.timers.set(consumer.silent_until(), timer);
        }
        let pending = consumer.pending();
        self.consumers.push(consumer);
        pending
    }

    /// A consumer has lost its subscription: it is mute from now on, and gone after a while.
    pub(super) fn deactivate(&mut self, ctx: &mut Context<'_>, link: LinkId, sid: Sid) {
        let is_it = |consumer: &Consumer| (consumer.link, consumer.sid) == (link, sid);
        while let Some(place) = self.consumers.iter().position(is_it) {
            let consumer = self.consumers.remove(place);
            let timer = self.timer(StreamTimer::Inactive(consumer.id));
            ctx.set_timer(consumer.inactive, timer);
            self.inactive.insert(consumer.id, consumer);
        }
    }

    /// A consumer is deleted, with or without its subscription.
    pub(super) fn end_consumer(&mut self, ctx: &mut Context<'_>, link: LinkId, sid: Sid) {
        let is_other = |consumer: &Consumer| (consumer.link, consumer.sid) != (link, sid);
        self.consumers.retain(is_other);
        self.inactive.retain(|_, consumer| is_other(consumer));
        self.settle_all(ctx);
    }

    pub(super) fn end_inactive(&mut self, ctx: &mut Context<'_>, id: ConsumerId) {
        self.inactive.remove(&id);
        self.settle_all(ctx);
    }

    /// A consumer is no more: what no other awaits goes, where the stream keeps only what is awaited.
    pub(super) fn settle_all(&mut self, ctx: &mut Context<'_>) {
        self.drop_settled(ctx, true);
    }

    /// A consumer is done with these, or is no more: what no other awaits goes.
    pub(super) fn settle(&mut self, ctx: &mut Context<'_>, sequences: &[Sequence]) {
        // It may keep by another rule than when its consumers were made.
        if self.config.retention != Retention::Interest {
            return;
        }
        for &sequence in sequences {
            let Some(record) = self.store.at(sequence) else {
                continue;
            };
            let subject = self.store.subject_of(record);
            let mut consumers = self.consumers.iter().chain(self.inactive.values());
            let version = ctx.config.version;
            let is_awaited = consumers.any(|consumer| consumer.needs(sequence, subject, version));
            if !is_awaited && !self.pulls.need(sequence, subject) {
                self.drop_at(ctx, sequence, Cause::Settled);
            }
        }
    }

    /// The stream was given another rule of retention. If it keeps only what is awaited from now on, what is settled goes
    /// at once; where there are no consumers, everything, and up to 2.14 nothing.
    pub(super) fn retain_otherwise(&mut self, ctx: &mut Context<'_>) {
        let is_unread = self.consumers() == 0 && ctx.config.version.is_at_least(2, 15);
        self.drop_settled(ctx, is_unread);
    }

    /// Lets go what some consumer is through with and no other awaits, where the stream keeps only what is awaited; or
    /// everything that nobody awaits.
    pub(super) fn drop_settled(&mut self, ctx: &mut Context<'_>, is_unread: bool) {
        if self.config.retention != Retention::Interest {
            return;
        }
        let version = ctx.config.version;
        let is_done = |sequence: Sequence, subject: &str| {
            let mut consumers = self.consumers.iter().chain(self.inactive.values());
            consumers.any(|consumer| consumer.is_through(sequence, subject, version))
                || self.pulls.are_through(sequence, subject)
        };
        let all = self.store.from(Sequence::NONE);
        let done = all
            .filter(|record| is_unread || is_done(record.sequence, self.store.subject_of(record)));
        let done: Vec<Sequence> = done.map(|record| record.sequence).collect();
        self.settle(ctx, &done);
    }

    pub(super) fn drop_consumers(&mut self) {
        self.consumers.clear();
        self.inactive.clear();
    }

    /// Lets each consumer with something to deliver do so: some at once, the others a little later.
    pub(super) fn wake(&mut self, ctx: &mut Context<'_>) {
        let delay_max = ctx.config.delivery_delay_max;
        for place in 0..self.consumers.len() {
            let consumer = &mut self.consumers[place];
            if consumer.pending() == 0 || !consumer.start_waking() {
                continue;
            }
            let id = consumer.id;
            if delay_max.is_zero() || ctx.rng.chance(HEARD_FIRST_OF_100, 100) {
                self.deliver(ctx, id);
            } else {
                self.set_delivery(ctx, id);
            }
        }
    }

    /// A consumer delivers a batch, and comes again for the next.
    pub(super) fn deliver(&mut self, ctx: &mut Context<'_>, id: ConsumerId) {
        let Ok(place) = self.consumers.binary_search_by_key(&id, |found| found.id) else {
            return;
        };
        let consumer = &mut self.consumers[place];
        let mut has_more = consumer.deliver(&self.store, ctx);
        while has_more && ctx.config.delivery_delay_max.is_zero() {
            has_more = consumer.deliver(&self.store, ctx);
        }
        if has_more {
            consumer.start_waking();
        }
        let settled = consumer.take_settled();
        if has_more {
            self.set_delivery(ctx, id);
        }
        self.settle(ctx, &settled);
    }

    fn set_delivery(&self, ctx: &mut Context<'_>, id: ConsumerId) {
        let delay_max = ctx.config.delivery_delay_max.as_nanos() as u64;
        let delay = Duration::from_nanos(ctx.rng.between(1, delay_max.max(1)));
        ctx.set_timer(delay, self.timer(StreamTimer::Deliver(id)));
    }

    pub(super) fn deliver_all(&mut self, ctx: &mut Context<'_>) {
        let mut settled = Vec::new();
        for consumer in &mut self.consumers {
            while consumer.deliver(&self.store, ctx) {}
            settled.append(&mut consumer.take_settled());
        }
        self.settle(ctx, &settled);
    }

    pub(super) fn beat(&mut self, ctx: &mut Context<'_>, id: ConsumerId) {
        let Ok(place) = self.consumers.binary_search_by_key(&id, |found| found.id) else {
            return;
        };
        let next = self.consumers[place].beat(ctx);
        ctx.timers.set(next, self.timer(StreamTimer::Heartbeat(id)));
    }
}
