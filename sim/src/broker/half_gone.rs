//! Messages that a server of 2.10 has purged and not written down as gone: a process that is killed finds them again.
//!
//! A purge of some messages of a file, and a roll-up, write down each that they take out of its middle. What is first in
//! it then goes without a word: that the file begins later is written with everything else that is known of the stream,
//! every two minutes or so and when the server is asked to end. What was written so holds until the next change of the
//! stream. Killed after one, the server reads the files alone, and finds whatever was ever first in them, of earlier
//! purges too.
//!
//! Not modelled: a second file, which a stream begins after some megabytes; and that of all versions what was dropped for
//! a limit is read again in the same way, and kept where the limits allow it by then.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_core::transport::{Sequence, Storage};

use super::context::Context;
use super::effect::{Effect, LostTail};
use super::stream::Stream;
use super::timers::StreamTimer;
use super::unsynced::Taken;

/// What is known of a stream is written this often, and at most so much later.
const WRITTEN_EVERY: Duration = Duration::from_secs(120);
const WRITTEN_LATER_MAX: Duration = Duration::from_secs(30);

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct HalfGone {
    taken: Vec<Taken>,
    /// Whether a process that is killed now would know that they are gone.
    is_written: bool,
    /// Whether the time is set at which that will be.
    is_due: bool,
}

impl HalfGone {
    /// The file that they are in is no more.
    pub(super) fn clear(&mut self) {
        self.taken.clear();
    }

    /// What is known of the stream is on disk.
    pub(super) fn write(&mut self) {
        (self.is_written, self.is_due) = (true, false);
    }
}

impl Stream {
    /// A message is about to be purged, and others of the stream are not.
    pub(super) fn note_purged(&mut self, ctx: &mut Context<'_>, at: Sequence) {
        let is_kept = self.config.storage == Storage::File;
        if ctx.config.version.is_at_least(2, 11) || !is_kept || at != self.store.first_sequence() {
            return;
        }
        let Some(record) = self.store.at(at) else {
            return;
        };
        let taken = Taken {
            subject: self.store.subject_of(record).clone(),
            record: record.clone(),
        };
        self.half_gone.taken.push(taken);
        self.note_changed(ctx);
    }

    /// What was written no longer holds.
    pub(super) fn note_changed(&mut self, ctx: &mut Context<'_>) {
        if self.half_gone.taken.is_empty() {
            return;
        }
        self.half_gone.is_written = false;
        if std::mem::replace(&mut self.half_gone.is_due, true) {
            return;
        }
        let most = WRITTEN_LATER_MAX.as_nanos() as u64;
        let every = WRITTEN_EVERY + Duration::from_nanos(ctx.rng.between(0, most));
        let since = ctx.now.wall.since(self.opened).as_nanos() % every.as_nanos();
        let delay = every - Duration::from_nanos(since as u64);
        ctx.set_timer(delay, self.timer(StreamTimer::Written));
    }

    /// The process is back after it was killed, or had written down what it knew.
    pub(super) fn find_half_gone(&mut self, ctx: &mut Context<'_>) {
        self.half_gone.is_due = false;
        if self.half_gone.is_written || self.half_gone.taken.is_empty() {
            return;
        }
        let taken = std::mem::take(&mut self.half_gone.taken);
        let last = self.store.last();
        let mut then: BTreeMap<_, _> = self.store.by_sequence();
        for Taken { subject, record } in &taken {
            if record.sequence <= last {
                then.insert(record.sequence, (subject.clone(), record));
            }
        }
        let store = self.store.made_of(&then, last);
        self.store = store;
        let back: Vec<Sequence> = taken.iter().map(|taken| taken.record.sequence).collect();
        // A server that starts again keeps no more than it may.
        let kept = usize::try_from(self.config.max_messages_per_subject).unwrap_or(usize::MAX);
        self.store.keep_newest(kept, &back);
        let store = &self.store;
        let back = back.iter().filter_map(|at| store.at(*at));
        ctx.effects.push(Effect::LostTail(LostTail {
            stream: self.identity.name.clone(),
            bucket: self.identity.bucket.clone(),
            incarnation: self.identity.incarnation,
            last,
            back: back
                .map(|record| (store.key_of(record).clone(), record.sequence))
                .collect(),
        }));
        self.enforce_limits(ctx);
    }
}
