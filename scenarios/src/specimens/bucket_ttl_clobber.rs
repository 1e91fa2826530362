//! `bucket-ttl-clobber`: opening the bucket rewrites its TTL to three times one's own interval, and peers use another.
//!
//! Client libraries offer "create or update" as the way to open a bucket, and presence packages pass it the TTL that their
//! own interval needs. But the age is the bucket's, not the entry's: a fast agent that joins cuts the life of every entry
//! to three of *its* beats, and slow peers vanish between two of theirs, although they beat as they should. Whoever joined
//! last wins, so it comes and goes with deployments.
//!
//! Right: raise the age where it is too short, and never lower it; let each entry say how long it lives.
//! [`squall_core::presence`] does when it attaches (`core/src/presence/attach.rs`).

use squall_core::Env;
use squall_core::presence::{Config, OpenError, Presence, TTL_MULTIPLIER};
use squall_core::transport::{Bucket, BucketConfig, Connection};

use crate::variant::{ConnectionOf, Present};

pub(super) const NAME: &str = "bucket-ttl-clobber";

pub(super) async fn open<E: Env>(
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
) -> Result<Box<dyn Present>, OpenError> {
    // Where there is no bucket yet, the right one makes it with this very age.
    if let Ok(found) = connection.bucket(&config.bucket)?.info().await {
        // The flaw: others live in it too.
        let own = BucketConfig {
            max_age: config.heartbeat_interval * TTL_MULTIPLIER,
            ..found.config
        };
        connection.update_bucket(&own).await?;
    }
    Ok(Box::new(Presence::open(env, connection, config).await?))
}
