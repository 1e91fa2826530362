//! How messages age out: one timer per stream, and a sweep that is late in the way the real one is.
//!
//! Nothing expires by itself. A timer, never sooner than a floor after the one before, sweeps away everything due; until
//! then an expired message is still read. File stores of 2.11 and later judge age by a clock that is cached every 100 ms,
//! so that the sweep at the very moment a record is due finds nothing and comes again a floor later. Measured lateness:
//! up to 310 ms there, 255 ms in memory, 1 s on 2.10 files.

use std::sync::Arc;
use std::time::Duration;

use squall_core::transport::{Sequence, Storage};
use squall_core::{Instant, UnixTime};

use super::config::{Kindness, Version};
use super::context::Context;
use super::effect::Cause;
use super::head::Head;
use super::store::Record;
use super::stream::Stream;
use super::timers::StreamTimer;
use super::unsynced::Unsynced;

/// After a restart, servers of 2.11 to 2.14 look at aged messages of a stream with markers only this much later.
const RESTART_DELAY: Duration = Duration::from_secs(2);

/// One in so many markers that came due while the server stood still falls on what renewed its key.
const MARKED_OVER_ONE_IN: u64 = 2300;

/// How much later such a marker is written.
const MARKED_AFTER: Duration = Duration::from_micros(300);

/// How sweeps of one kind of store behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sweeper {
    /// Shortest time from one sweep to the next.
    floor: Duration,
    /// Shortest time from the first record to the first sweep.
    first_floor: Duration,
    /// Whether age is judged by the cached clock.
    is_cached: bool,
}

impl Sweeper {
    const PUNCTUAL: Self = Self {
        floor: Duration::ZERO,
        first_floor: Duration::ZERO,
        is_cached: false,
    };

    const fn of(version: Version, storage: Storage) -> Self {
        let (floor, first_floor, is_cached) = match (version.is_at_least(2, 11), storage) {
            (true, Storage::File) => (250, 250, true),
            (true, Storage::Memory) => (250, 250, false),
            (false, Storage::File) => (1000, 0, false),
            (false, Storage::Memory) => (1, 0, false),
        };
        Self {
            floor: Duration::from_millis(floor),
            first_floor: Duration::from_millis(first_floor),
            is_cached,
        }
    }
}

impl Stream {
    fn sweeper(&self, ctx: &Context<'_>) -> Sweeper {
        if ctx.is_kind(Kindness::ExpiryIsPunctual) {
            return Sweeper::PUNCTUAL;
        }
        Sweeper::of(ctx.config.version, self.config.storage)
    }

    /// Makes sure that a message stored now is swept in time. A timer that is set is only ever moved forward.
    pub(super) fn arm_for_new(&mut self, ctx: &mut Context<'_>) {
        if self.sweep_at.is_none() && !self.config.max_age.is_zero() {
            let delay = self.config.max_age.max(self.sweeper(ctx).first_floor);
            self.arm(ctx, delay);
        }
    }

    /// The same for one that lives this long by its own wish.
    pub(super) fn arm_for_life(&mut self, ctx: &mut Context<'_>, life: Duration) {
        let delay = life.max(self.sweeper(ctx).floor);
        self.arm(ctx, delay);
    }

    fn arm(&mut self, ctx: &mut Context<'_>, delay: Duration) {
        let at = ctx.now.monotonic + delay;
        if self.sweep_at.is_none_or(|set| at < set) {
            self.sweep_at = Some(at);
            ctx.timers.set(at, self.timer(StreamTimer::Sweep));
        }
    }

    /// Sets the timer for what will be due next: the oldest message no sooner than `floor`, or the end of a life.
    fn arm_for_next(&mut self, ctx: &mut Context<'_>, floor: Duration) {
        let max_age = self.config.max_age;
        let oldest = self.oldest_that_ages();
        if let Some(oldest) = oldest.filter(|_| !max_age.is_zero()) {
            let due = oldest + max_age;
            self.arm(ctx, due.since(ctx.now.wall).max(floor));
        }
        if let Some(&(end, _)) = self.ends.first() {
            let floor = self.sweeper(ctx).floor;
            self.arm(ctx, end.since(ctx.now.wall).max(floor));
        }
    }

    fn oldest_that_ages(&self) -> Option<UnixTime> {
        let mut ageing = self
            .store
            .from(Sequence::NONE)
            .filter(|record| !record.is_exempt);
        ageing.next().map(|record| record.time)
    }

    /// Whether a timer that fired is the one that counts.
    pub(super) fn is_sweep_due(&self, now: Instant) -> bool {
        self.sweep_at.is_some_and(|at| at <= now)
    }

    /// Whether servers sweep their copies together: markers are writes, and the leader's to propose. Without markers
    /// each sweeps by itself, leader or not.
    pub(super) const fn is_swept_together(&self) -> bool {
        self.config.replicas > 1 && self.config.subject_delete_markers.is_some()
    }

    /// Looks again after the floor, whatever is due.
    pub(super) fn sweep_again(&mut self, ctx: &mut Context<'_>) {
        self.sweep_at = None;
        let floor = self.sweeper(ctx).floor;
        self.arm(ctx, floor);
    }

    /// The timer fired.
    pub(super) fn on_sweep(&mut self, ctx: &mut Context<'_>) {
        if !self.is_sweep_due(ctx.now.monotonic) {
            // It was moved forward, and this is the old one.
            return;
        }
        let sweeper = self.sweeper(ctx);
        let judged_at = match sweeper.is_cached {
            true => ctx.cached_wall(),
            false => ctx.now.wall,
        };
        self.sweep(ctx, judged_at, sweeper.floor);
    }

    /// Sweeps by the true clock, now, as an update of the settings does.
    pub(super) fn sweep_now(&mut self, ctx: &mut Context<'_>) {
        let floor = self.sweeper(ctx).floor;
        self.sweep(ctx, ctx.now.wall, floor);
    }

    fn sweep(&mut self, ctx: &mut Context<'_>, judged_at: UnixTime, floor: Duration) {
        self.sweep_at = None;
        self.begin_sweep();
        self.sweep_aged(ctx, judged_at);
        self.sweep_lives(ctx);
        self.arm_for_next(ctx, floor);
    }

    /// Walks from the oldest message to the first that is young enough, as the server does: one that is dated in the
    /// future, because the wall clock was set back, keeps the ones after it alive. What never expires is stepped over.
    fn sweep_aged(&mut self, ctx: &mut Context<'_>, judged_at: UnixTime) {
        if self.config.max_age.is_zero() {
            return;
        }
        let mut next = Sequence(1);
        while let Some((sequence, is_exempt)) = self.aged(ctx, next, judged_at) {
            next = sequence.next();
            if !is_exempt {
                self.expire(ctx, sequence);
            }
        }
    }

    /// The next message if it is too old, and whether it never expires.
    fn aged(
        &self,
        ctx: &Context<'_>,
        from: Sequence,
        judged_at: UnixTime,
    ) -> Option<(Sequence, bool)> {
        let record = self.store.from(from).next()?;
        let is_marker = matches!(record.head, Head::Marker { .. });
        let is_spared = is_marker && ctx.is_kind(Kindness::MarkersOutliveAge);
        let is_due = record.time + self.config.max_age <= judged_at && !is_spared;
        is_due.then_some((record.sequence, record.is_exempt))
    }

    /// Takes away messages at the end of their own life, by the true clock.
    fn sweep_lives(&mut self, ctx: &mut Context<'_>) {
        while let Some(&(end, sequence)) = self.ends.first()
            && end <= ctx.now.wall
        {
            self.ends.pop_first();
            self.expire(ctx, sequence);
        }
    }

    /// Only the last trace of a subject leaves a marker, and not if it was purged, or is a marker itself.
    fn expire(&mut self, ctx: &mut Context<'_>, sequence: Sequence) {
        let Some(record) = self.store.at(sequence) else {
            return;
        };
        let is_last_trace = self.store.records_of(self.store.id_of(record)) == 1;
        let leaves_marker = is_last_trace && record.head.leaves_marker();
        let subject = Arc::clone(self.store.subject_of(record));
        self.drop_at(ctx, sequence, Cause::Expired);
        self.go_on_amid_sweep(ctx);
        let kind_life = ctx
            .is_kind(Kindness::ExpiryIsTold)
            .then_some(Duration::from_secs(1));
        let life = self.config.subject_delete_markers.or(kind_life);
        if let Some(life) = life.filter(|_| leaves_marker) {
            self.store_marker(ctx, &subject, life);
        }
    }

    /// The duplicate window has passed for the oldest message id.
    pub(super) fn on_forget(&mut self, ctx: &mut Context<'_>) {
        let window = self.config.duplicate_window.unwrap_or_default();
        if let Some(left) = self.ids.forget(ctx.now.wall, window) {
            ctx.set_timer(left, self.timer(StreamTimer::Forget));
        }
    }

    /// What a server that stood still does, once in a while, before it hears what was said meanwhile: it decides on the
    /// markers of what has aged out, and writes them a moment later, over whatever has renewed those subjects. Measured: 3
    /// of 7 000 renewals that waited; never where the server had not been started again before.
    pub(super) fn resume(&mut self, ctx: &mut Context<'_>) {
        if !self.was_restarted
            || self.is_swept_together()
            || self.config.subject_delete_markers.is_none()
            || self.config.max_age.is_zero()
        {
            return;
        }
        let judged_at = ctx.now.wall;
        let due = self
            .store
            .from(Sequence::NONE)
            .take_while(|record| record.time + self.config.max_age <= judged_at);
        let leaves_marker =
            |record: &&Record| self.store.is_newest(record) && record.head.leaves_marker();
        let mut decided = Vec::new();
        for record in due.filter(leaves_marker) {
            if ctx.rng.chance(1, MARKED_OVER_ONE_IN) {
                let subject = Arc::clone(self.store.subject_of(record));
                decided.push((record.sequence, subject));
            }
        }
        for (sequence, subject) in decided {
            self.decided.insert(sequence, subject);
            ctx.set_timer(MARKED_AFTER, self.timer(StreamTimer::Mark(sequence)));
        }
    }

    /// Writes a marker that was decided on.
    pub(super) fn mark(&mut self, ctx: &mut Context<'_>, sequence: Sequence) {
        let decided = self.decided.remove(&sequence);
        let (Some(subject), Some(life)) = (decided, self.config.subject_delete_markers) else {
            return;
        };
        self.drop_at(ctx, sequence, Cause::Expired);
        self.store_marker(ctx, &subject, life);
    }

    /// What a restarted server does about messages that aged out meanwhile, and about the ids that it knew.
    pub(super) fn recover(&mut self, ctx: &mut Context<'_>) {
        self.was_restarted = true;
        self.find_half_gone(ctx);
        self.reopen(ctx.now.wall);
        self.decided.clear();
        self.sweep_at = None;
        self.store
            .unsynced
            .iter_mut()
            .for_each(Unsynced::forget_time);
        self.arm_sync(ctx);
        let (store, last) = (&self.store, self.store.last());
        let is_held = |sequence| store.at(sequence).is_some();
        if self.ids.recover(is_held, is_held(last)) {
            ctx.set_timer(Duration::ZERO, self.timer(StreamTimer::Forget));
        }
        let floor = self.sweeper(ctx).floor;
        if self.config.subject_delete_markers.is_none() {
            self.sweep_now(ctx);
            return;
        }
        let is_slow = !ctx.config.version.is_at_least(2, 15);
        self.arm_for_next(ctx, if is_slow { RESTART_DELAY } else { floor });
    }
}
