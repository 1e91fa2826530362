//! `presence-close-deletes-successor`: the close of an old incarnation deletes the entry of the new one.
//!
//! `close` ends the heartbeat and deletes the key, whatever is there. In a rolling deployment the new process opens before
//! the old one closes, and both use the same agent's key: the entry that the old one deletes is the new one's. Everybody
//! is told that the agent has left, while it has just come, until its next beat; or for good, where beats are updates of
//! a record that is no more.
//!
//! Right: delete over the revision that this incarnation wrote last, so that the server refuses where somebody else has
//! taken the place. [`squall_core::presence`] does when its keeper ends (`core/src/presence/shell.rs`).

use std::time::Duration;

use futures_util::future::BoxFuture;
use squall_core::presence::{self, Config, OpenError, Presence};
use squall_core::transport::{Bucket, Connection};
use squall_core::{Clock, Env};

use super::spoilt::Spoilt;
use crate::variant::{BucketOf, ConnectionOf, Present};

pub(super) const NAME: &str = "presence-close-deletes-successor";

struct DeletesWhateverIsThere<E: Env> {
    right: Presence,
    clock: E::Clock,
    bucket: BucketOf<E>,
    key: String,
    interval: Duration,
}

pub(super) async fn open<E: Env>(
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
) -> Result<Box<dyn Present>, OpenError> {
    Ok(Box::new(DeletesWhateverIsThere::<E> {
        clock: env.clock().clone(),
        bucket: connection.bucket(&config.bucket)?,
        key: presence::key(&config.project, &config.agent_id),
        interval: config.heartbeat_interval,
        right: Presence::open(env, connection, config).await?,
    }))
}

impl<E: Env> Spoilt for DeletesWhateverIsThere<E> {
    fn right(&self) -> &Presence {
        &self.right
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let deadline = self.clock.now() + self.interval;
            self.right.close().await;
            // The flaw: over no revision, so over anybody's.
            let delete = self.bucket.delete(&self.key, None);
            tokio::select! {
                biased;
                // Where it fails, expiry does the same.
                _result = delete => {}
                () = self.clock.sleep_until(deadline) => {}
            }
        })
    }
}
