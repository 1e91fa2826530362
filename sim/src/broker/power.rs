//! A loss of power: what no file had been synced with is gone, though it was acknowledged.
//!
//! nats-server syncs its files every two minutes and acknowledges long before: to end the process costs nothing, because
//! the kernel keeps what was written; to end the machine costs what the kernel had not yet brought to disk.
//!
//! Not modelled, and so never lost: which streams there are, and their settings.

use std::time::Duration;

use squall_core::Rng;
use squall_core::transport::Storage;

use super::Broker;
use super::config::SyncInterval;
use super::context::Context;
use super::demands::{Demands, Life};
use super::effect::{Cause, Effect, LostTail};
use super::head::Head;
use super::jetstream::JetStream;
use super::stream::Stream;
use super::timers::StreamTimer;
use super::unsynced::{Undone, Unsynced};

/// How much of what is not synced goes with the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    All,
    /// As much of the end as chance will have it, of each stream: the kernel may have written some of it.
    Some,
}

impl Broker {
    /// The power is lost, after the process was [stopped](Self::stop) or had ended before.
    ///
    /// # Panics
    /// If it was not told how often files are synced: then nothing is remembered that could be lost.
    pub fn lose_power(&mut self, loss: Loss, effects: &mut Vec<Effect>) {
        assert!(!self.is_running, "a process without power does not run");
        assert!(
            self.surroundings.config.sync_interval.is_some(),
            "a server whose power may be lost needs a sync interval"
        );
        assert!(
            self.member.is_none(),
            "not modelled in a cluster: a loss of power"
        );
        let rng = &mut self.surroundings.rng;
        for jetstream in &mut self.jetstreams {
            jetstream.lose_power(loss, rng, effects);
        }
    }

    /// All files are synced now.
    pub fn sync(&mut self) {
        for stream in self.jetstreams.iter_mut().flat_map(JetStream::all_mut) {
            stream.on_sync();
        }
    }
}

impl JetStream {
    fn lose_power(&mut self, loss: Loss, rng: &mut Rng, effects: &mut Vec<Effect>) {
        for stream in self.all_mut() {
            stream.lose_power(loss, rng, effects);
        }
    }
}

impl Stream {
    /// Remembers from now on what a loss of power would undo, if that can be.
    pub(super) fn remember_unsynced(&mut self, sync_interval: Option<SyncInterval>) {
        let is_late = matches!(sync_interval, Some(SyncInterval::Every(_)));
        if is_late && self.config.storage == Storage::File {
            self.store.unsynced = Some(Unsynced::default());
        }
    }

    /// Sets the time at which what has changed will be synced, if it is not set. The server looks at regular times;
    /// where in between a change falls is chance.
    pub(super) fn arm_sync(&mut self, ctx: &mut Context<'_>) {
        let Some(unsynced) = &mut self.store.unsynced else {
            return;
        };
        if unsynced.is_due || unsynced.len() == 0 {
            return;
        }
        if let Some(SyncInterval::Every(interval)) = ctx.config.sync_interval {
            unsynced.is_due = true;
            let delay = ctx.rng.between(1, interval.as_nanos() as u64);
            let timer = self.timer(StreamTimer::Sync);
            ctx.set_timer(Duration::from_nanos(delay), timer);
        }
    }

    pub(super) fn on_sync(&mut self) {
        self.store.unsynced.iter_mut().for_each(Unsynced::sync);
    }

    fn lose_power(&mut self, loss: Loss, rng: &mut Rng, effects: &mut Vec<Effect>) {
        let Some(unsynced) = &mut self.store.unsynced else {
            return;
        };
        unsynced.is_due = false;
        let kept = match loss {
            Loss::All => 0,
            Loss::Some => rng.between(0, unsynced.len() as u64) as usize,
        };
        let Some((store, Undone { lost, back })) = self.store.undone(kept) else {
            self.on_sync();
            return;
        };
        assert!(
            self.pulls.len() == 0,
            "not modelled: pull consumers of a stream that has lost its end"
        );
        for sequence in lost {
            self.tell_dropped(effects, sequence, Cause::PowerLost);
        }
        self.store = store;
        // A server that starts again keeps no more of a subject than it may.
        let kept = usize::try_from(self.config.max_messages_per_subject).unwrap_or(usize::MAX);
        self.store.keep_newest(kept, &back);
        self.on_sync();
        let store = &self.store;
        self.ends
            .retain(|(_, sequence)| store.at(*sequence).is_some());
        let back: Vec<_> = back.iter().filter_map(|at| store.at(*at)).collect();
        for record in &back {
            let life = Demands::of(&record.head).life;
            let has_life =
                self.config.allow_message_ttl || matches!(record.head, Head::Marker { .. });
            if let (Life::For(life), true) = (life, has_life) {
                self.ends.insert((record.time + life, record.sequence));
            }
        }
        let newest = store.at(store.last());
        self.ids
            .cut(newest.and_then(|record| record.head.message_id()));
        let back = back.iter().map(|record| {
            let name = store.key_of(record).clone();
            (name, record.sequence)
        });
        effects.push(Effect::LostTail(LostTail {
            stream: self.identity.name.clone(),
            bucket: self.identity.bucket.clone(),
            incarnation: self.identity.incarnation,
            last: store.last(),
            back: back.collect(),
        }));
    }
}
