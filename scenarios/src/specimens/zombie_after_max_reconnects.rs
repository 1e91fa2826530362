//! `presence-zombie-after-max-reconnects`: bounded reconnects, and the errors of heartbeats are swallowed.
//!
//! Client libraries give up after a number of failed reconnects (some by default: 60 in Go's), and close the connection
//! for good. The heartbeat loop logs the error of its write, or not even that, and goes on with the next tick: a failed
//! beat is nothing special, three may be missed. So after one long outage the process lives, its loop runs, nobody sees
//! it, and it does not know; only a restart brings it back.
//!
//! Right: reconnect for ever (no `reconnects_max`), notice by one's own clock that no beat was acknowledged for the life of
//! the entry, tell the owner (`Evicted`), and come back by oneself. [`squall_core::presence`] does in its keeper
//! (`core/src/presence/keeper.rs`).

use std::num::NonZeroU32;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use squall_core::Env;
use squall_core::presence::{Config, Notice, OpenError, Presence};
use squall_core::transport::ConnectOptions;

use super::spoilt::Spoilt;
use crate::variant::{ConnectionOf, Present};

pub(super) const NAME: &str = "presence-zombie-after-max-reconnects";

/// With this client's backoff that is a second of refused attempts; what Go's does is two minutes, and no other story.
const RECONNECTS_MAX: Option<NonZeroU32> = NonZeroU32::new(10);

struct SwallowsErrors(Presence);

/// One half of the flaw: giving up.
pub(super) fn options(right: ConnectOptions) -> ConnectOptions {
    ConnectOptions {
        reconnects_max: RECONNECTS_MAX,
        ..right
    }
}

pub(super) async fn open<E: Env>(
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
) -> Result<Box<dyn Present>, OpenError> {
    let right = Presence::open(env, connection, config).await?;
    Ok(Box::new(SwallowsErrors(right)))
}

impl Spoilt for SwallowsErrors {
    fn right(&self) -> &Presence {
        &self.0
    }

    /// The other half: whatever becomes of the beats, nobody is told.
    fn notices(&self) -> BoxStream<'static, Notice> {
        stream::empty().boxed()
    }
}
