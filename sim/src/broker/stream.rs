//! One stream: its settings, its messages, and the consumers that read them. A key-value bucket is a stream, too.
//!
//! Every change of the messages goes through `apply` and `drop_at` here, so that consumers, the expiry timer and the
//! effects that tell the truth about it cannot disagree. Whether a message is accepted is decided before, in `admit`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::transport::{
    BucketConfig, BucketInfo, Discard, KvEntry, Leadership, Retention, Sequence, StreamConfig,
    StreamInfo, names,
};
use squall_core::{Instant, UnixTime};

use super::admit::{Accepted, Admission, Replaced};
use super::consumer::{Consumer, ConsumerId};
use super::context::Context;
use super::demands::Life;
use super::effect::{Cause, Commit, Dropped, Effect, Incarnation, Removed, Stored};
use super::half_gone::HalfGone;
use super::head::Head;
use super::ids::MessageIds;
use super::pulls::{Gone, Pulls};
use super::refusal::{Refusal, record_size};
use super::store::{Name, New, Record, Store, SubjectId};
use super::subject::KV_PREFIX;
use super::timers::{StreamTimer, Timer};
use crate::wire::{LinkId, RequestId};

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) identity: Identity,
    pub(super) config: StreamConfig,
    /// Whether it stores all keys of the bucket that it is behind, and nothing else.
    pub(super) stores_keys: bool,
    pub(super) store: Store,
    pub(super) ids: MessageIds,
    created: UnixTime,
    /// What the next start of its server takes for that.
    created_kept: UnixTime,
    /// When its files were opened.
    pub(super) opened: UnixTime,
    /// By which rule it kept messages when it was made, or its server started: deliveries that want no acknowledgement
    /// settle a message only where that was another than limits.
    pub(super) opened_as: Retention,
    /// Messages with a life of their own and when it ends; one that is gone by then is found missing.
    pub(super) ends: BTreeSet<(UnixTime, Sequence)>,
    /// When the sweep for expired messages fires next.
    pub(super) sweep_at: Option<Instant>,
    /// Its server was started again since it was made.
    pub(super) was_restarted: bool,
    /// Markers that are decided and not yet written.
    pub(super) decided: BTreeMap<Sequence, Arc<str>>,
    /// What it has purged and not written down as gone.
    pub(super) half_gone: HalfGone,
    pub(super) consumers: Vec<Consumer>,
    pub(super) pulls: Pulls,
    /// Consumers that have lost their subscription and not yet their life.
    pub(super) inactive: BTreeMap<ConsumerId, Consumer>,
}

/// Which stream it is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) incarnation: Incarnation,
    pub(super) name: Arc<str>,
    /// The bucket that it is behind.
    pub(super) bucket: Option<Arc<str>>,
}

/// A message as it came in.
#[derive(Clone, Debug)]
pub(super) struct Incoming<'a> {
    pub(super) name: Name<'a>,
    /// What the store has under this name.
    pub(super) subject: Option<SubjectId>,
    pub(super) head: Head,
    pub(super) payload: Bytes,
    pub(super) by: Option<(LinkId, RequestId)>,
}

/// The word that a message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Of the first copy where it is a duplicate.
    pub(super) sequence: Sequence,
    pub(super) is_duplicate: bool,
}

impl Stream {
    /// An empty one with settings that were completed and checked.
    pub(super) fn new(incarnation: Incarnation, config: StreamConfig, created: UnixTime) -> Self {
        let bucket = names::stream_bucket(&config.name);
        let prefix = bucket.map(|bucket| names::key_subject(bucket, ""));
        Self {
            identity: Identity {
                incarnation,
                name: config.name.as_str().into(),
                bucket: bucket.map(Into::into),
            },
            store: Store::new(prefix.as_deref().unwrap_or_default()),
            stores_keys: stores_keys(&config),
            opened_as: config.retention,
            config,
            ids: MessageIds::default(),
            created,
            created_kept: created,
            opened: created,
            ends: BTreeSet::new(),
            sweep_at: None,
            was_restarted: false,
            decided: BTreeMap::new(),
            half_gone: HalfGone::default(),
            consumers: Vec::new(),
            pulls: Pulls::default(),
            inactive: BTreeMap::new(),
        }
    }

    /// As it is asked from outside, without a clock: at its creation.
    pub(super) fn info_at_creation(&self) -> StreamInfo {
        self.info(self.created)
    }

    pub(super) fn info(&self, now: UnixTime) -> StreamInfo {
        StreamInfo {
            config: self.config.clone(),
            created: self.created,
            now,
            messages: self.store.len() as u64,
            bytes: self.store.bytes(),
            first_sequence: self.store.first_sequence(),
            last_sequence: self.store.last(),
            consumers: self.consumers() as u64,
            leadership: Leadership::Alone,
        }
    }

    /// As the bucket that it is behind, without a clock: at its creation.
    pub(super) fn bucket_info(&self) -> Option<BucketInfo> {
        Some(BucketInfo {
            config: BucketConfig::of_stream(&self.config)?,
            last_revision: self.store.last().into(),
            records: self.store.len() as u64,
            created: self.created,
            now: self.created,
            leadership: Leadership::Alone,
        })
    }

    /// The latest record of a key.
    pub(super) fn entry(&self, key: &str) -> Option<KvEntry> {
        let subject = self.store.find(Name::Key(key))?;
        Some(self.store.entry(self.store.newest(subject)))
    }

    /// Its server was started again.
    pub(super) const fn reopen(&mut self, now: UnixTime) {
        self.created = self.created_kept;
        self.opened = now;
        self.opened_as = self.config.retention;
    }

    pub(super) const fn timer(&self, timer: StreamTimer) -> Timer {
        Timer::Stream(self.identity.incarnation, timer)
    }

    pub(super) fn size_of(&self, name: Name<'_>, head: &Head, payload: usize) -> u64 {
        let prefix = match (name, &self.identity.bucket) {
            (Name::Key(_) | Name::Held(_), Some(bucket)) => KV_PREFIX.len() + bucket.len() + 1,
            _ => 0,
        };
        let subject = prefix + name.text().len();
        record_size(self.config.storage, subject, head.wire_len(), payload)
    }

    /// Stores a message, or says why not. A refused one takes no sequence.
    pub(super) fn write(
        &mut self,
        ctx: &mut Context<'_>,
        incoming: Incoming<'_>,
    ) -> Result<Written, Refusal> {
        let (sequence, is_duplicate) = match self.admit(ctx.config.version, &incoming)? {
            Admission::Duplicate(sequence) => (sequence, true),
            Admission::Accepted(accepted) => (self.apply(ctx, incoming, accepted), false),
        };
        Ok(Written {
            sequence,
            is_duplicate,
        })
    }

    /// Does what was accepted.
    pub(super) fn apply(
        &mut self,
        ctx: &mut Context<'_>,
        incoming: Incoming<'_>,
        accepted: Accepted,
    ) -> Sequence {
        let id = incoming.head.message_id();
        let sequence = self.store.last().next();
        if self.ids.note(id, sequence, ctx.now.wall) {
            let window = self.config.duplicate_window.unwrap_or_default();
            ctx.set_timer(window, self.timer(StreamTimer::Forget));
        }
        if !accepted.is_wanted {
            self.store.skip_to(sequence);
            self.arm_sync(ctx);
            return sequence;
        }
        let head = match accepted.life {
            Life::For(life) if accepted.is_longer => incoming.head.with_life(life),
            _ => incoming.head,
        };
        let new = New {
            head,
            payload: incoming.payload,
            time: ctx.now.wall,
            size: accepted.size,
            is_exempt: accepted.life == Life::Never,
        };
        let subject = self.store.append(incoming.name, incoming.subject, new);
        let record = self.store.newest(subject);
        let name = self.store.subject_of(record);
        let mut is_awaited = false;
        for consumer in &mut self.consumers {
            is_awaited |= consumer.note_stored(sequence, name);
        }
        // Counted before room is made: what is purged for it is counted anew.
        let awaiting = self.pulls.note_stored(sequence, name);
        let stored = stored(&self.identity, &self.store, record, incoming.by);
        ctx.effects.push(stored);
        if let Life::For(life) = accepted.life {
            self.ends.insert((ctx.now.wall + life, sequence));
            self.arm_for_life(ctx, life);
        }
        self.make_room(ctx, subject, accepted.replaced);
        self.arm_for_new(ctx);
        if is_awaited {
            self.wake(ctx);
        }
        self.tell_new(ctx, awaiting);
        self.arm_sync(ctx);
        self.note_changed(ctx);
        sequence
    }

    /// Lets go what no limit allows beside a new message, and then what it replaces. In this order, also where without
    /// what is replaced no limit would be passed.
    fn make_room(&mut self, ctx: &mut Context<'_>, subject: SubjectId, replaced: Replaced) {
        let name = Arc::clone(self.store.subject_of(self.store.newest(subject)));
        if let Ok(kept) = usize::try_from(self.config.max_messages_per_subject) {
            self.trim(ctx, subject, kept, Cause::Evicted);
        }
        self.enforce_limits(ctx);
        match replaced {
            Replaced::Nothing => {}
            Replaced::Subject => {
                let before = self.store.len();
                // It may have been too large to stay itself.
                if self.store.at(self.store.last()).is_some() {
                    self.trim(ctx, subject, 1, Cause::Purged);
                }
                let gone = Gone::Each((before - self.store.len()) as u64);
                self.tell_purged(ctx, Some(&name), gone);
            }
            Replaced::All => {
                let gone = self.drop_below(ctx, self.store.last(), Cause::Purged);
                self.tell_purged(ctx, None, Gone::Each(gone));
            }
        }
    }

    /// Drops the oldest messages of a subject until so many are left.
    fn trim(&mut self, ctx: &mut Context<'_>, subject: SubjectId, kept: usize, cause: Cause) {
        while self.store.records_of(subject) > kept.max(1) {
            if cause == Cause::Purged {
                self.note_purged(ctx, self.store.oldest(subject).sequence);
            }
            let (identity, consumers) = (&self.identity, &mut self.consumers);
            let pulls = &mut self.pulls;
            self.store.remove_oldest(subject, |store, record| {
                pulls.note_gone(record.sequence, store.subject_of(record), cause);
                announce(identity, consumers, ctx.effects, store, record, cause);
            });
        }
        self.tell_gone(ctx);
    }

    /// Drops the oldest messages of all until the limits of the stream hold. A stream that refuses new ones drops none.
    pub(super) fn enforce_limits(&mut self, ctx: &mut Context<'_>) {
        if self.config.discard == Discard::New {
            return;
        }
        let messages = usize::try_from(self.config.max_messages).unwrap_or(usize::MAX);
        let bytes = u64::try_from(self.config.max_bytes).unwrap_or(u64::MAX);
        while (self.store.len() > messages || self.store.bytes() > bytes)
            && let Some(sequence) = self.store.first().map(|record| record.sequence)
        {
            self.drop_at(ctx, sequence, Cause::Limited);
        }
    }

    /// Puts a marker where the last message of a subject has just aged out.
    pub(super) fn store_marker(&mut self, ctx: &mut Context<'_>, subject: &str, life: Duration) {
        let name = self.store.name(subject);
        let head = Head::Marker { life };
        let accepted = Accepted {
            size: self.size_of(name, &head, 0),
            life: Life::For(life),
            is_longer: false,
            // There is nothing left of it, but consumers hear of a purge.
            replaced: Replaced::Subject,
            is_wanted: true,
        };
        let incoming = Incoming {
            name,
            subject: self.store.find(name),
            head,
            payload: Bytes::new(),
            by: None,
        };
        self.apply(ctx, incoming, accepted);
    }

    /// Drops a message, and tells consumers and the world. False if it was not there.
    pub(super) fn drop_at(&mut self, ctx: &mut Context<'_>, at: Sequence, cause: Cause) -> bool {
        if cause == Cause::Purged {
            self.note_purged(ctx, at);
        }
        let (identity, consumers) = (&self.identity, &mut self.consumers);
        let pulls = &mut self.pulls;
        let was_there = self.store.remove(at, |store, record| {
            pulls.note_gone(record.sequence, store.subject_of(record), cause);
            announce(identity, consumers, ctx.effects, store, record, cause);
        });
        if self.store.len() == 0 {
            self.half_gone.clear();
        }
        self.note_changed(ctx);
        self.tell_gone(ctx);
        self.arm_sync(ctx);
        was_there
    }

    /// Drops everything below; gives how many that were.
    pub(super) fn drop_below(&mut self, ctx: &mut Context<'_>, end: Sequence, cause: Cause) -> u64 {
        let mut dropped = 0;
        while let Some(sequence) = self.store.first().map(|record| record.sequence)
            && sequence < end
        {
            self.drop_at(ctx, sequence, cause);
            dropped += 1;
        }
        dropped
    }

    /// Tells the world alone that a message is gone.
    pub(super) fn tell_dropped(&self, effects: &mut Vec<Effect>, at: Sequence, cause: Cause) {
        if let Some(record) = self.store.at(at) {
            announce(&self.identity, &mut [], effects, &self.store, record, cause);
        }
    }

    /// Drops every message: the stream is being deleted, or was only in memory.
    pub(super) fn lose_all(mut self, effects: &mut Vec<Effect>, cause: Cause) {
        while let Some(oldest) = self.store.first().map(|record| record.sequence) {
            let identity = &self.identity;
            self.store.remove(oldest, |store, record| {
                announce(identity, &mut [], effects, store, record, cause);
            });
        }
    }

    /// Takes over new settings, with what the server does about it at once.
    pub(super) fn reconfigure(&mut self, ctx: &mut Context<'_>, config: StreamConfig) {
        let limit = |config: &StreamConfig| {
            u64::try_from(config.max_messages_per_subject).unwrap_or(u64::MAX)
        };
        // Older servers take no limit for the shortest.
        let had_limit = self.config.max_messages_per_subject > 0;
        let is_looked_at = had_limit || ctx.config.version.is_at_least(2, 14);
        let is_shorter_history = is_looked_at && limit(&config) < limit(&self.config);
        self.stores_keys = stores_keys(&config);
        let old = std::mem::replace(&mut self.config, config);
        if !ctx.config.version.is_at_least(2, 14) {
            // Older servers write down another time with new settings.
            self.created_kept = self.opened;
        }
        if old.duplicate_window != self.config.duplicate_window {
            self.on_forget(ctx);
        }
        // Before any limit: what is settled makes room.
        if old.retention != self.config.retention {
            self.retain_otherwise(ctx);
        }
        if is_shorter_history {
            self.trim_histories(ctx);
        }
        self.enforce_limits(ctx);
        match self.is_swept_together() {
            true => self.sweep_again(ctx),
            false => self.sweep_now(ctx),
        }
        // Markers of the sweep are heard before the answer to the update.
        self.deliver_all(ctx);
    }

    fn trim_histories(&mut self, ctx: &mut Context<'_>) {
        let kept = usize::try_from(self.config.max_messages_per_subject).unwrap_or(usize::MAX);
        let newest = self.store.from(Sequence::NONE);
        let newest = newest.filter(|record| self.store.is_newest(record));
        let subjects: Vec<SubjectId> = newest.map(|record| self.store.id_of(record)).collect();
        for subject in subjects {
            self.trim(ctx, subject, kept, Cause::Evicted);
        }
    }
}

fn stores_keys(config: &StreamConfig) -> bool {
    let bucket = names::stream_bucket(&config.name);
    bucket.is_some_and(|bucket| config.subjects == [names::key_subject(bucket, ">")])
}

/// The truth about a new message: of a record where it is one, of a bucket's.
fn stored(
    identity: &Identity,
    store: &Store,
    record: &Record,
    by: Option<(LinkId, RequestId)>,
) -> Effect {
    let incarnation = identity.incarnation;
    match &identity.bucket {
        Some(bucket) => Effect::Commit(Commit {
            bucket: Arc::clone(bucket),
            incarnation,
            entry: store.entry(record),
            by,
        }),
        None => Effect::Stored(Stored {
            stream: Arc::clone(&identity.name),
            incarnation,
            subject: Arc::clone(store.subject_of(record)),
            sequence: record.sequence,
            message_id: record.head.message_id().map(Into::into),
            by,
        }),
    }
}

/// Tells consumers and the world that a message is going.
fn announce(
    identity: &Identity,
    consumers: &mut [Consumer],
    effects: &mut Vec<Effect>,
    store: &Store,
    record: &Record,
    cause: Cause,
) {
    for consumer in consumers {
        consumer.note_removed(record.sequence, store.subject_of(record));
    }
    let incarnation = identity.incarnation;
    effects.push(match &identity.bucket {
        Some(bucket) => Effect::Removed(Removed {
            bucket: Arc::clone(bucket),
            incarnation,
            key: Arc::clone(store.key_of(record)),
            revision: record.sequence.into(),
            cause,
        }),
        None => Effect::Dropped(Dropped {
            stream: Arc::clone(&identity.name),
            incarnation,
            sequence: record.sequence,
            cause,
        }),
    });
}
