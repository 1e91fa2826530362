//! The real [`Env`]: tokio's clock and tasks, and a real nats-server through async-nats.
//!
//! The only place that names tokio's runtime, its clock or async-nats. async-nats 0.51 has habits that a caller of the
//! seam must never meet: writes that report the wrong outcome when an acknowledgement is lost, watches that panic, hang
//! or replay, a client that dials on after it was dropped, events that get lost. So only the parts of it that are sound
//! are used (the connection, publishing, subscribing, requests); everything of JetStream is spoken from here, in
//! plain requests:
//!
//! ```text
//! connection ── publish, request, subscribe, flush     link    what was told of the connection, and its end
//! bucket     ── reads and writes of a bucket           admin   create, update, delete, info
//! jetstream  ── streams, and publishing into them      stream  one stream; `direct` reads its messages
//! watch      ── over a bucket or a stream: heals itself, over one consumer at a time, of which `consumer` is one life
//! pull_consumer ── a cursor that the server keeps; `pull` is one wish for messages
//! ```

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the real world: here time, tasks and wake-up order come from tokio"
)]

mod admin;
mod api;
mod bucket;
mod connection;
mod consumer;
mod consumer_config;
mod delivery;
mod dial;
mod direct;
mod jetstream;
mod link;
mod nkey;
mod pull;
mod pull_consumer;
mod stream;
mod stream_config;
mod watch;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use crate::env::{Env, Rng, Task};
use crate::time::{Clock, Instant, UnixTime};

pub use bucket::NatsBucket;
pub use connection::NatsConnection;
pub use dial::NatsTransport;
pub use nkey::{Nkey, SeedError};
pub use pull_consumer::NatsConsumer;
pub use stream::NatsStream;

/// The surroundings of a real process. Must be used inside a tokio runtime.
#[derive(Clone, Debug)]
pub struct NatsEnv {
    clock: TokioClock,
    transport: NatsTransport,
    seed: u64,
    streams: Arc<AtomicU64>,
}

impl NatsEnv {
    /// An environment whose random numbers follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            clock: TokioClock::new(),
            transport: NatsTransport::new(),
            seed,
            streams: Arc::default(),
        }
    }
}

impl Env for NatsEnv {
    type Clock = TokioClock;
    type Transport = NatsTransport;

    fn clock(&self) -> &TokioClock {
        &self.clock
    }

    fn transport(&self) -> &NatsTransport {
        &self.transport
    }

    fn rng(&self, purpose: &str) -> Rng {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        Rng::labelled(self.seed, &format!("{purpose}#{stream}"))
    }

    fn spawn<F>(&self, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tracing::trace!(name, "task started");
        // What is dropped with the runtime may leave work behind, which has nowhere to go then.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            tracing::warn!(name, "no task is started outside of a runtime");
            return Task::new(|| ());
        };
        let task = runtime.spawn(future);
        Task::new(move || task.abort())
    }
}

/// The clocks of this machine. All of one process share one start, so that their instants can be compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioClock(());

impl TokioClock {
    /// The clocks of this machine.
    pub fn new() -> Self {
        LazyLock::force(&START);
        Self(())
    }
}

static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        Instant::ZERO + START.elapsed()
    }

    fn wall(&self) -> UnixTime {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => UnixTime::EPOCH + since,
            Err(before) => UnixTime::EPOCH - before.duration(),
        }
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + Send + 'static {
        let due = START.checked_add(deadline.since(Instant::ZERO));
        async move {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        }
    }
}

/// The delay before attempt `n` (from 1) to reach a server again: async-nats's own schedule.
fn reconnect_delay(attempt: u32) -> Duration {
    match attempt {
        0 | 1 => Duration::ZERO,
        n => Duration::from_millis(2_u64.saturating_pow(n - 1)).min(Duration::from_secs(4)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_purpose_differ_and_follow_from_the_seed() {
        let draw = |env: &NatsEnv| env.rng("links").next_u64();
        let (one, other) = (NatsEnv::new(7), NatsEnv::new(7));
        let first = draw(&one);
        assert_eq!(first, draw(&other));
        assert_ne!(first, draw(&one));
    }

    #[test]
    fn attempts_come_at_the_delays_of_async_nats() {
        let delays = [1, 2, 3, 4, 12, 13, 50].map(|n| reconnect_delay(n).as_millis());
        assert_eq!(delays, [0, 2, 4, 8, 2048, 4000, 4000]);
    }
}
