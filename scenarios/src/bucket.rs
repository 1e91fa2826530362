//! What others than the agents do to the bucket: the operator who made it before they came, where a plan wants it special,
//! and programs that write what is no entry.

use std::time::Duration;

use squall_core::Env;
use squall_core::presence::TTL_MULTIPLIER;
use squall_core::transport::{Bucket, BucketConfig, ConnectOptions, Connection, Transport};

use crate::parse::BUCKET;
use crate::plan::{ForeignWrite, Plan};

/// Creates it with delete markers, for the slowest of the plan's agents.
pub(crate) async fn create<E: Env>(env: &E, servers: Vec<String>, plan: &Plan, markers: Duration) {
    let slowest = plan
        .agents
        .iter()
        .map(|agent| agent.interval)
        .max()
        .unwrap_or_default();
    let config = BucketConfig {
        max_age: slowest * TTL_MULTIPLIER,
        delete_markers: Some(markers),
        ..BucketConfig::new(BUCKET)
    };
    let options = ConnectOptions {
        servers,
        ..ConnectOptions::default()
    };
    match env.transport().connect(options).await {
        Ok(connection) => {
            if let Err(error) = connection.create_bucket(&config).await {
                tracing::warn!(%error, "the bucket was not made beforehand");
            }
            connection.close().await;
        }
        Err(error) => tracing::warn!(%error, "the bucket was not made beforehand"),
    }
}

/// Writes one record as a program does that knows nothing of presence.
pub(crate) async fn write<E: Env>(env: E, servers: Vec<String>, write: ForeignWrite) {
    let options = ConnectOptions {
        servers,
        ..ConnectOptions::default()
    };
    let connection = match env.transport().connect(options).await {
        Ok(connection) => connection,
        Err(error) => return tracing::warn!(%error, key = write.key, "no foreign write"),
    };
    match connection.bucket(BUCKET) {
        Ok(bucket) => {
            if let Err(error) = bucket.put(&write.key, write.value.into()).await {
                tracing::warn!(%error, key = write.key, "no foreign write");
            }
        }
        Err(error) => tracing::warn!(%error, key = write.key, "no foreign write"),
    }
    connection.close().await;
}
