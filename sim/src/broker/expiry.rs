//! How records age out: one timer per bucket, and a sweep that is late in the way the real one is.
//!
//! Nothing expires by itself. A timer, never sooner than a floor after the one before, sweeps away everything due; until
//! then an expired value is still read. File stores of 2.11 and later judge age by a clock that is cached every 100 ms,
//! so that the sweep at the very moment a record is due finds nothing and comes again a floor later. Measured lateness:
//! up to 310 ms there, 255 ms in memory, 1 s on 2.10 files.

use std::sync::Arc;
use std::time::Duration;

use squall_core::UnixTime;
use squall_core::transport::{Operation, Storage};

use super::bucket::Bucket;
use super::config::{Kindness, Version};
use super::context::Context;
use super::effect::Cause;
use super::timers::BucketTimer;

/// After a restart, servers of 2.11 to 2.14 look at aged records of a bucket with markers only this much later.
const RESTART_DELAY: Duration = Duration::from_secs(2);

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

impl Bucket {
    fn sweeper(&self, ctx: &Context<'_>) -> Sweeper {
        if ctx.is_kind(Kindness::ExpiryIsPunctual) {
            return Sweeper::PUNCTUAL;
        }
        Sweeper::of(ctx.config.version, self.config.storage)
    }

    /// Makes sure that a record stored now is swept in time. A timer that is set is only ever moved forward.
    pub(super) fn arm_for_new(&mut self, ctx: &mut Context<'_>) {
        if self.sweep_at.is_none() && !self.config.max_age.is_zero() {
            let delay = self.config.max_age.max(self.sweeper(ctx).first_floor);
            self.arm(ctx, delay);
        }
    }

    fn arm(&mut self, ctx: &mut Context<'_>, delay: Duration) {
        let at = ctx.now.monotonic + delay;
        if self.sweep_at.is_none_or(|set| at < set) {
            self.sweep_at = Some(at);
            ctx.timers.set(at, self.timer(BucketTimer::Sweep));
        }
    }

    /// Sets the timer for what will be due next: the oldest record no sooner than `floor`, or a marker.
    fn arm_for_next(&mut self, ctx: &mut Context<'_>, floor: Duration) {
        let max_age = self.config.max_age;
        if let Some(oldest) = self.store.first()
            && !max_age.is_zero()
        {
            let due = oldest.entry.created + max_age;
            self.arm(ctx, due.since(ctx.now.wall).max(floor));
        }
        if let Some(&(end, _)) = self.marker_ends.first() {
            let floor = self.sweeper(ctx).floor;
            self.arm(ctx, end.since(ctx.now.wall).max(floor));
        }
    }

    /// The timer fired.
    pub(super) fn on_sweep(&mut self, ctx: &mut Context<'_>) {
        if self.sweep_at.is_none_or(|at| at > ctx.now.monotonic) {
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
        self.sweep_aged(ctx, judged_at);
        self.sweep_markers(ctx);
        self.arm_for_next(ctx, floor);
    }

    /// Walks from the oldest record to the first that is young enough, as the server does: a record that is dated in
    /// the future, because the wall clock was set back, keeps the ones after it alive.
    fn sweep_aged(&mut self, ctx: &mut Context<'_>, judged_at: UnixTime) {
        if self.config.max_age.is_zero() {
            return;
        }
        while let Some(record) = self.store.first()
            && record.entry.created + self.config.max_age <= judged_at
        {
            let is_marker = record.entry.operation == Operation::Expire;
            if is_marker && ctx.is_kind(Kindness::MarkersOutliveAge) {
                break;
            }
            // Only the last trace of a key leaves a marker, and not if the key was purged, or is a marker itself.
            let leaves_marker = self.store.is_newest(record)
                && matches!(record.entry.operation, Operation::Put | Operation::Delete);
            let revision = record.entry.revision;
            let Some(entry) = self.store.remove_at(revision) else {
                return;
            };
            let key = Arc::clone(&entry.key);
            self.removed(ctx, entry, Cause::Expired);
            let kind_life = ctx
                .is_kind(Kindness::ExpiryIsTold)
                .then_some(Duration::from_secs(1));
            let life = self.config.delete_markers.or(kind_life);
            if let Some(life) = life.filter(|_| leaves_marker) {
                self.store_marker(ctx, key, life);
            }
        }
    }

    /// Takes away markers at the end of their life, by the true clock; nobody is told.
    fn sweep_markers(&mut self, ctx: &mut Context<'_>) {
        while let Some(&(end, revision)) = self.marker_ends.first()
            && end <= ctx.now.wall
        {
            self.marker_ends.pop_first();
            if let Some(entry) = self.store.remove_at(revision) {
                self.removed(ctx, entry, Cause::Expired);
            }
        }
    }

    /// What a restarted server does about records that aged out meanwhile.
    pub(super) fn recover(&mut self, ctx: &mut Context<'_>) {
        self.sweep_at = None;
        let floor = self.sweeper(ctx).floor;
        if self.config.delete_markers.is_none() {
            self.sweep_now(ctx);
            return;
        }
        let is_slow = !ctx.config.version.is_at_least(2, 15);
        self.arm_for_next(ctx, if is_slow { RESTART_DELAY } else { floor });
    }
}
