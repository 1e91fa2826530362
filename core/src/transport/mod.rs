//! The seam to NATS: a few traits at the height of the domain, not of a socket.
//!
//! [`Transport`] connects, a [`Connection`] is one client with its own reconnects, a [`Bucket`] is a JetStream key-value
//! bucket. Streams and consumers will stand beside buckets, as `Connection::stream`. What arrives over time comes
//! through concrete types, [`Subscription`], [`Watch`] and [`Events`], because channels need no abstraction.
//!
//! Implemented by `squall-sim` and by [`crate::nats`]; one conformance suite runs on both. Every error answers "did
//! it happen?" through [`Fallible::outcome`].

mod channel;
mod connection;
mod error;
mod kv;
mod message;
pub mod names;
pub mod watcher;

pub use channel::{Events, EventsSender, Subscription, SubscriptionSender, Watch, WatchSender};
pub use connection::{
    ConnectOptions, Connection, ConnectionEvent, ConnectionId, ConnectionState, DisconnectCause,
    Transport,
};
pub use error::{
    ApiError, BucketError, ConnectError, CreateError, Fallible, FlushError, Outcome, PublishError,
    ReadError, RequestError, SubscribeError, UpdateError, WatchError, WriteError,
};
pub use kv::{
    Bucket, BucketConfig, BucketInfo, InterruptCause, KvEntry, Operation, Revision, Storage,
    WatchEvent, WatchStart,
};
pub use message::{Headers, Message};
