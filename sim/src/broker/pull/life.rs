//! The timers of a consumer, its end without clients, and what a restart of the process does to it.

use std::time::Duration;

use squall_core::{Instant, Rng};

use super::settings::INACTIVE;
use super::waiting::Waiting;
use super::{Around, Now, PullConsumer, Said};

impl PullConsumer {
    /// When it next wants to be woken.
    pub(in crate::broker) fn deadline(&self) -> Option<Instant> {
        let written = self.disk.as_ref().and_then(|disk| disk.due);
        let inactive = self.inactive.map(|(_, at)| at);
        [self.waiting.due, self.pending_look, written, inactive]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does everything that is due.
    pub(in crate::broker) fn on_deadline(&mut self, around: &mut Around<'_>) {
        let now = around.now.monotonic;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if let Some(disk) = &mut self.disk
            && is_due(disk.due)
        {
            disk.write(now, &self.kept);
        }
        if is_due(self.pending_look) {
            let is_woken = self.look_at_pending(around);
            if is_woken {
                self.run(around);
            }
        }
        if is_due(self.waiting.due) {
            self.waiting.look(true, self.home.version, around);
            self.run(around);
        }
        if let Some((after, at)) = self.inactive
            && at <= now
        {
            match self.look_for_client(after, around) {
                Some(next) => self.inactive = Some((after, next)),
                None => around.said.push(Said::Inactive),
            }
        }
    }

    /// When to look again whether there is a client; `None` if there is none.
    fn look_for_client(&mut self, after: Duration, around: &mut Around<'_>) -> Option<Instant> {
        let now = around.now.monotonic;
        if let Some(at) = self.waiting.heard_at
            && now.since(at) < after
        {
            return Some(at + after);
        }
        let version = self.home.version;
        self.waiting.look(true, version, around);
        if !self.waiting.is_empty() {
            return Some(now + after);
        }
        // Somebody may still be at work on what was delivered last.
        let left = self.longest_wait_left(around.now, after);
        left.filter(|_| version.is_at_least(2, 11))
            .map(|left| now + left)
    }

    /// Begins to count the time without a client. The server adds 100 ms to 1 s, by chance, to what is set.
    pub(super) fn set_inactive(&mut self, now: Now, rng: &mut Rng) {
        if self.config.inactive_threshold.is_none() && !self.config.durable {
            self.config.inactive_threshold = Some(INACTIVE);
        }
        self.inactive = self.config.inactive_threshold.map(|threshold| {
            let after = threshold + Duration::from_millis(rng.between(100, 1000));
            (after, now.monotonic + after)
        });
    }

    /// There is a client.
    pub(super) fn heard(&mut self, now: Instant) {
        self.waiting.heard_at = Some(now);
        if let Some((after, at)) = &mut self.inactive {
            *at = now + *after;
        }
    }

    /// It is being deleted: whoever waits is told.
    pub(in crate::broker) fn delete(mut self, said: &mut Vec<Said>) {
        self.waiting.dismiss(said);
    }

    /// The process ends: everything is written if it was asked to end (`is_orderly`), and what was on disk stays if it
    /// was killed. False if nothing of this consumer is left, because it was in memory.
    pub(in crate::broker) fn stop(&mut self, is_orderly: bool, rng: &mut Rng) -> bool {
        let Some(disk) = &mut self.disk else {
            return false;
        };
        match is_orderly {
            true => disk.close(&self.kept),
            false => disk.killed(self.home.version, rng),
        }
        true
    }

    /// The process is back, and finds what was written.
    pub(in crate::broker) fn start(&mut self, around: &mut Around<'_>) {
        let Some(disk) = &mut self.disk else {
            return;
        };
        let Some(kept) = disk.read() else {
            *self = Self::new(self.home.clone(), self.config.clone(), around);
            return;
        };
        self.next = kept.delivered.stream + 1;
        self.snapshot = None;
        self.count = kept.delivered.consumer;
        self.floor = kept.floor;
        self.pending = kept.pending.clone();
        self.again = kept.again.clone();
        self.kept = kept;
        self.due.clear();
        self.is_deaf = false;
        self.waiting = Waiting::default();
        self.pending_look = None;
        self.recount(around.log);
        self.set_inactive(around.now, around.rng);
        if !self.pending.is_empty() {
            let _waits_for_a_pull = self.look_at_pending(around);
        }
    }
}
