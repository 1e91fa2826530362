//! Real nats-server processes, for scenarios that run on them: where the binary comes from, a server that is stopped,
//! killed and paused by signals, three of them as a cluster, a TCP proxy in front of one that is a bad link, and an auth
//! service over HTTP.
//!
//! Everything listens on 127.0.0.1, on ports that the system chooses, and ends with its value, also when a test panics.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes in real time: nothing here is decided by a seed"
)]

mod auth_server;
mod cluster;
mod provision;
mod proxy;
mod question;
mod server;

pub use auth_server::AuthServer;
pub use cluster::{ClusterOptions, NatsCluster, SIZE};
pub use provision::{DEFAULT_VERSION, ProvisionError, VERSIONS, nats_server, version_of};
pub use proxy::{Direction, LinkBites, Proxy};
pub use server::{NatsServer, ServerError, ServerOptions};
