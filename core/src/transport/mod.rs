//! The seam to NATS: a few traits at the height of the domain, not of a socket.
//!
//! [`Transport`] connects, a [`Connection`] is one client with its own reconnects, a [`Bucket`] is a JetStream key-value
//! bucket. [`JetStream`] is its other half, for [`Stream`]s and their [`PullConsumer`]s. What arrives over time comes
//! through concrete types, [`Subscription`], [`Watch`], [`Reader`], [`Pulled`] and [`Events`], because channels need no
//! abstraction.
//!
//! Implemented by `squall-sim` and by [`crate::nats`]; one conformance suite runs on both. Every error answers "did
//! it happen?" through [`Fallible::outcome`].

mod channel;
mod connection;
mod consumer;
mod credentials;
mod error;
mod kv;
mod message;
pub mod names;
mod stream;
mod stream_error;
mod told;
pub mod watcher;

pub use channel::{
    Events, EventsSender, Pulled, PulledSender, Reader, ReaderSender, Subscription,
    SubscriptionSender, Watch, WatchSender,
};
pub use connection::{
    ConnectOptions, Connection, ConnectionEvent, ConnectionId, ConnectionState, DisconnectCause,
    Transport, is_auth_error,
};
pub use consumer::{
    Ack, AckPolicy, ConsumerConfig, ConsumerInfo, Delivered, Position, Pull, PullConsumer, PullEnd,
    PullEvent,
};
pub use credentials::{Credentials, CredentialsCell, Login};
pub use error::{
    ApiError, BucketError, ConnectError, CreateError, Fallible, FlushError, Outcome, PublishError,
    ReadError, RequestError, SubscribeError, UpdateError, WatchError, WriteError,
};
pub use kv::{
    Bucket, BucketConfig, BucketInfo, InterruptCause, KvEntry, Operation, PutOptions, Revision,
    Storage, WatchEvent, WatchStart,
};
pub use message::{Headers, Message};
pub use stream::{
    Discard, JetStream, Leadership, MessageTtl, Purge, ReadStart, ReaderEvent, Retention, Sequence,
    StoreAck, StoreOptions, StoredMessage, Stream, StreamConfig, StreamInfo,
};
pub use stream_error::{
    AckError, ConsumerError, PullError, ReadStreamError, StoreError, StreamError,
};
