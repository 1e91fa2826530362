//! What others than the agents do to the bucket, or to the stream of the chat: the operator who made it before they came,
//! where a plan wants it special, and programs that write what is no entry.

use std::time::Duration;

use squall_core::chat::{self, Chat};
use squall_core::presence::TTL_MULTIPLIER;
use squall_core::transport::{
    Bucket, BucketConfig, BucketError, ConnectOptions, Connection, Transport,
};
use squall_core::{Clock as _, Env};

use crate::parse::BUCKET;
use crate::plan::{ChatPlan, ForeignWrite, Plan, Role};
use crate::variant::ConnectionOf;

/// Time between two tries.
const RETRY: Duration = Duration::from_millis(200);
/// So long after its creation all servers of a cluster answer for a bucket.
const KNOWN_AFTER: Duration = Duration::from_millis(2500);

/// Creates it as the plan wants it, for the slowest of its agents. Where there is a cluster: as soon as that has found a
/// leader, and waits until all servers answer for it.
pub(crate) async fn create<E: Env>(env: &E, servers: Vec<String>, plan: &Plan) {
    let slowest = plan
        .agents
        .iter()
        .map(|agent| agent.interval)
        .max()
        .unwrap_or_default();
    let name = plan.bucket();
    let config = BucketConfig {
        max_age: match name {
            BUCKET => slowest * TTL_MULTIPLIER,
            // Locks end by their own life.
            _ => Duration::ZERO,
        },
        delete_markers: plan.world.delete_markers,
        replicas: plan.world.replicas as u8,
        ..BucketConfig::new(name)
    };
    let mut options = ConnectOptions {
        servers,
        ..ConnectOptions::default()
    };
    let is_cluster = plan.world.is_cluster();
    if is_cluster {
        // Who asks a server that knows no leader yet is not answered.
        options.request_timeout = Duration::from_secs(1);
    }
    let clock = env.clock();
    match env.transport().connect(options).await {
        Ok(connection) => {
            // Where everybody chats nobody uses it.
            let is_used = plan.agents.iter().any(|agent| agent.role != Role::Chat);
            while is_used && let Err(error) = connection.create_bucket(&config).await {
                tracing::warn!(%error, "the bucket was not made beforehand");
                if !is_cluster || error == BucketError::Exists {
                    break;
                }
                clock.sleep_until(clock.now() + RETRY).await;
            }
            if is_cluster && plan.has_chat() {
                open_chat(env, &connection, plan).await;
            }
            connection.close().await;
        }
        Err(error) => tracing::warn!(%error, "the bucket was not made beforehand"),
    }
    if is_cluster {
        clock.sleep_until(clock.now() + KNOWN_AFTER).await;
    }
}

/// Makes the stream of the agents' chat, as the first of them would.
async fn open_chat<E: Env>(env: &E, connection: &ConnectionOf<E>, plan: &Plan) {
    let config = chat::Config {
        replicas: plan.world.replicas as u8,
        ..ChatPlan::default().config("operator")
    };
    let clock = env.clock();
    while let Err(error) = Chat::open(env, connection, config.clone()).await {
        tracing::warn!(%error, "the chat was not made beforehand");
        clock.sleep_until(clock.now() + RETRY).await;
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
