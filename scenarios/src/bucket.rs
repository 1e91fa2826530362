//! The bucket that an operator made before the agents came, where a plan wants it special.

use std::time::Duration;

use squall_core::Env;
use squall_core::presence::TTL_MULTIPLIER;
use squall_core::transport::{BucketConfig, ConnectOptions, Connection, Transport};

use crate::parse::BUCKET;
use crate::plan::Plan;

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
