//! What every part of the broker needs while it handles one event, in one hand.

use std::collections::BTreeSet;
use std::time::Duration;

use squall_core::transport::Message;
use squall_core::{Rng, UnixTime};

use super::config::{Kindness, Now, ServerConfig};
use super::effect::Effect;
use super::pull::Inbox;
use super::security::Account;
use super::timers::{Timer, Timers};
use crate::wire::{LinkId, PullStatus, ServerOp};

/// Steps of the clock that file stores judge age by.
const CACHED_CLOCK_STEP: Duration = Duration::from_millis(100);

/// The surroundings of one event.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) config: &'a ServerConfig,
    pub(super) rng: &'a mut Rng,
    pub(super) timers: &'a mut Timers,
    pub(super) effects: &'a mut Vec<Effect>,
    /// Subscriptions that pulls deliver to, as long as they are there.
    pub(super) inboxes: &'a mut BTreeSet<Inbox>,
    /// Messages of the server's own, to be routed once this event is handled.
    pub(super) outbox: &'a mut Vec<(Account, Message)>,
    /// Where in its step the cached clock was at instant zero: drawn when the process starts.
    pub(super) cached_clock_phase: Duration,
}

impl Context<'_> {
    /// Whose business this event is.
    pub(super) const fn account(&self) -> Account {
        self.timers.account
    }

    /// Routes a message of the server's own, once this event is handled.
    pub(super) fn post(&mut self, message: Message) {
        self.outbox.push((self.account(), message));
    }

    pub(super) fn send(&mut self, link: LinkId, op: ServerOp) {
        self.effects.push(Effect::Send { link, op });
    }

    /// Sends news of a pull to its inbox, if anybody still listens there.
    pub(super) fn send_status(&mut self, (link, sid): Inbox, status: PullStatus) {
        if self.inboxes.contains(&(link, sid)) {
            self.send(link, ServerOp::PullStatus { sid, status });
        }
    }

    /// Whether this kindness was planted.
    pub(super) fn is_kind(&self, kindness: Kindness) -> bool {
        self.config.kindness == Some(kindness)
    }

    /// Sets a timer after a delay.
    pub(super) fn set_timer(&mut self, delay: Duration, timer: Timer) {
        self.timers.set(self.now.monotonic + delay, timer);
    }

    /// The wall time as the server last cached it: up to one step old.
    pub(super) fn cached_wall(&self) -> UnixTime {
        let since_phase = self.now.monotonic.elapsed() + self.cached_clock_phase;
        let lag = since_phase.as_nanos() % CACHED_CLOCK_STEP.as_nanos();
        self.now.wall - Duration::from_nanos(lag as u64)
    }

    /// A phase for [`cached_clock_phase`](Self::cached_clock_phase).
    pub(super) fn draw_phase(rng: &mut Rng) -> Duration {
        Duration::from_nanos(rng.below(CACHED_CLOCK_STEP.as_nanos() as u64))
    }
}
