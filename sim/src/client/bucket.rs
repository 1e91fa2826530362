//! [`SimBucket`]: key-value operations of the simulated client, each as many round trips as the real one makes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::Clock as _;
use squall_core::transport::{
    ApiError, Bucket, BucketConfig, BucketError, BucketInfo, CreateError, KvEntry, Operation,
    ReadError, Revision, StreamError, UpdateError, Watch, WatchError, WatchEvent, WatchStart,
    WriteError, names,
};

use super::handle::SimConnection;
use super::requests::{Patience, Reply, id_of};
use super::watches::Watched;
use crate::wire::{ClientOp, Request, Response, Write};

/// A scan gives up on records that vanished under it after this much silence of the server.
const SCAN_HEARTBEAT: Duration = Duration::from_secs(1);

/// A bucket of a simulated server.
#[derive(Clone, Debug)]
pub struct SimBucket {
    pub(super) connection: SimConnection,
    pub(super) name: Arc<str>,
}

impl SimBucket {
    pub(super) fn stream(&self) -> String {
        names::bucket_stream(&self.name)
    }

    /// Creates the bucket. The server compares streams, we compare buckets: one that another kind of client made, with
    /// settings that no bucket names, is looked at before it is refused.
    pub(super) async fn set_up(&self, config: &BucketConfig) -> Result<(), BucketError> {
        self.check(config)?;
        let request = Request::CreateStream(Box::new(config.stream()));
        match self.connection.administer(request).await {
            Err(StreamError::Exists) => {
                let found = self.connection.describe(&self.stream()).await;
                let found = found.map_err(bucket_error)?;
                match BucketConfig::of_stream(&found.config) {
                    Some(found) if found == *config => Ok(()),
                    _ => Err(BucketError::Exists),
                }
            }
            created => created.map(drop).map_err(bucket_error),
        }
    }

    /// Changes the settings that a bucket names. The others are read first, to be kept: a round trip of its own.
    pub(super) async fn reconfigure(&self, config: &BucketConfig) -> Result<(), BucketError> {
        self.check(config)?;
        let found = self.connection.describe(&self.stream()).await;
        let mut stream = found.map_err(bucket_error)?.config;
        config.apply_to(&mut stream);
        let request = Request::UpdateStream(Box::new(stream));
        let updated = self.connection.administer(request).await;
        updated.map(drop).map_err(bucket_error)
    }

    /// What clients refuse before they ask.
    fn check(&self, config: &BucketConfig) -> Result<(), BucketError> {
        let refused = |code, err_code, why: &str| {
            Err(BucketError::Rejected(ApiError {
                code,
                err_code,
                description: why.into(),
            }))
        };
        if !(1..=64).contains(&config.history) {
            return refused(500, 10052, "history must be between 1 and 64");
        }
        let version = self.connection.with(|client, _| client.version);
        let is_old = version.is_some_and(|version| !version.is_at_least(2, 11));
        if config.delete_markers.is_some() && is_old {
            return refused(400, 0, "delete markers need nats-server 2.11 or later");
        }
        Ok(())
    }

    async fn write(
        &self,
        key: &str,
        write: Write,
        expected: Option<Revision>,
    ) -> Result<Revision, UpdateError> {
        if !names::is_key(key) {
            return Err(WriteError::InvalidKey(key.into()).into());
        }
        if let Write::Put(value) = &write {
            let limit = self.connection.with(|client, _| client.max_payload);
            let size = value.len() + names::expectation_len(expected);
            if let Some(limit) = limit
                && size > limit
            {
                return Err(WriteError::TooLarge { size, limit }.into());
            }
        }
        let request = Request::Write {
            bucket: self.name.clone(),
            key: key.into(),
            write,
            expected,
        };
        let command = |key| ClientOp::Request {
            id: id_of(key),
            request,
        };
        let closed_before = self.connection.is_closed();
        match self.connection.exchange(Patience::Ack, command).await {
            Reply::Response(Response::Stored(revision)) => Ok(revision),
            Reply::Response(Response::WrongRevision(actual)) => {
                Err(UpdateError::WrongRevision { actual })
            }
            Reply::Response(Response::Error(error)) => Err(WriteError::Rejected(error).into()),
            Reply::Response(_) | Reply::NoResponders => Err(WriteError::NoBucket.into()),
            Reply::TimedOut => Err(WriteError::TimedOut.into()),
            Reply::Closed if closed_before => Err(WriteError::Closed.into()),
            Reply::Closed | Reply::Flushed | Reply::Message(_) => {
                Err(WriteError::ClosedWhileWaiting.into())
            }
        }
    }

    /// All that a watch of this filter tells until its snapshot ends.
    async fn scan(&self, filter: &str, whole_history: bool) -> Result<Vec<KvEntry>, ReadError> {
        let options = self.connection.with(|client, _| {
            (
                client.options.request_timeout,
                client.options.watch_heartbeat,
            )
        });
        let Some((timeout, heartbeat)) = options else {
            return Err(ReadError::Closed);
        };
        let deadline = self.connection.clock.now() + timeout;
        let watched = Watched {
            stream: self.stream().into(),
            filters: vec![names::key_subject(&self.name, filter).into()],
            heartbeat: heartbeat.min(SCAN_HEARTBEAT),
            whole_history,
        };
        let collected = async {
            let mut watch = self
                .connection
                .open_watch(watched, WatchStart::Snapshot)
                .await
                .map_err(unwatched)?;
            let mut entries = Vec::new();
            loop {
                match watch.next().await {
                    Some(WatchEvent::Entry(entry)) => entries.push(entry),
                    Some(WatchEvent::SnapshotEnd) => return Ok(entries),
                    // A part is not the whole, and what was told may be overtaken by now.
                    Some(WatchEvent::Interrupted(_) | WatchEvent::Resumed { .. }) => {
                        return Err(ReadError::TimedOut);
                    }
                    None => return Err(ReadError::Closed),
                }
            }
        };
        tokio::select! {
            biased;
            collected = collected => collected,
            () = self.connection.clock.sleep_until(deadline) => Err(ReadError::TimedOut),
        }
    }
}

pub(super) fn bucket_error(error: StreamError) -> BucketError {
    match error {
        StreamError::InvalidName(name) => BucketError::InvalidName(name),
        StreamError::NotFound => BucketError::NotFound,
        StreamError::Exists => BucketError::Exists,
        StreamError::Rejected(error) => BucketError::Rejected(error),
        StreamError::Unavailable => BucketError::Unavailable,
        StreamError::TimedOut => BucketError::TimedOut,
        StreamError::Closed => BucketError::Closed,
    }
}

fn unwatched(error: WatchError) -> ReadError {
    match error {
        WatchError::InvalidFilter(filter) => ReadError::InvalidKey(filter),
        WatchError::NoBucket => ReadError::NoBucket,
        WatchError::Rejected(error) => ReadError::Rejected(error),
        WatchError::TimedOut => ReadError::TimedOut,
        WatchError::Closed => ReadError::Closed,
    }
}

fn unread(reply: Reply) -> ReadError {
    match reply {
        Reply::Response(Response::Error(error)) if error.err_code != 10059 => {
            ReadError::Rejected(error)
        }
        Reply::Response(_) | Reply::NoResponders => ReadError::NoBucket,
        Reply::TimedOut => ReadError::TimedOut,
        Reply::Closed | Reply::Flushed | Reply::Message(_) => ReadError::Closed,
    }
}

impl Bucket for SimBucket {
    fn name(&self) -> &str {
        &self.name
    }

    async fn entry(&self, key: &str) -> Result<Option<KvEntry>, ReadError> {
        if !names::is_key(key) {
            return Err(ReadError::InvalidKey(key.into()));
        }
        let request = Request::Entry {
            bucket: self.name.clone(),
            key: key.into(),
        };
        match self.connection.api(request).await {
            Reply::Response(Response::Entry(entry)) => Ok(entry),
            other => Err(unread(other)),
        }
    }

    async fn history(&self, key: &str) -> Result<Vec<KvEntry>, ReadError> {
        if !names::is_key(key) {
            return Err(ReadError::InvalidKey(key.into()));
        }
        self.scan(key, true).await
    }

    async fn entries(&self, filter: &str) -> Result<Vec<KvEntry>, ReadError> {
        if !names::is_filter(filter) {
            return Err(ReadError::InvalidKey(filter.into()));
        }
        let mut entries = self.scan(filter, false).await?;
        entries.retain(|entry| entry.operation == Operation::Put);
        Ok(entries)
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<Revision, WriteError> {
        match self.write(key, Write::Put(value), None).await {
            Ok(revision) => Ok(revision),
            Err(UpdateError::Write(error)) => Err(error),
            // Nothing was expected, so nothing can be wrong about it.
            Err(UpdateError::WrongRevision { .. }) => Err(WriteError::TimedOut),
        }
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<Revision, CreateError> {
        let first = self
            .write(key, Write::Put(value.clone()), Some(Revision::NONE))
            .await;
        match first {
            Ok(revision) => return Ok(revision),
            Err(UpdateError::Write(error)) => return Err(error.into()),
            Err(UpdateError::WrongRevision { .. }) => {}
        }
        // Something is there. A value, or a tombstone that may be written over?
        let over = match self.entry(key).await {
            Ok(Some(entry)) if entry.operation.is_put() => return Err(CreateError::AlreadyExists),
            Ok(Some(entry)) => entry.revision,
            Ok(None) => Revision::NONE,
            Err(error) => return Err(error.before_write().into()),
        };
        match self.write(key, Write::Put(value), Some(over)).await {
            Ok(revision) => Ok(revision),
            Err(UpdateError::WrongRevision { .. }) => Err(CreateError::AlreadyExists),
            Err(UpdateError::Write(error)) => Err(error.into()),
        }
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
    ) -> Result<Revision, UpdateError> {
        self.write(key, Write::Put(value), Some(expected)).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<Revision, UpdateError> {
        self.write(key, Write::Delete, expected).await
    }

    async fn purge(&self, key: &str, expected: Option<Revision>) -> Result<Revision, UpdateError> {
        self.write(key, Write::Purge, expected).await
    }

    async fn watch(&self, filter: &str, start: WatchStart) -> Result<Watch, WatchError> {
        if !names::is_filter(filter) {
            return Err(WatchError::InvalidFilter(filter.into()));
        }
        let heartbeat = self
            .connection
            .with(|client, _| client.options.watch_heartbeat);
        let Some(heartbeat) = heartbeat else {
            return Err(WatchError::Closed);
        };
        let watched = Watched {
            stream: self.stream().into(),
            filters: vec![names::key_subject(&self.name, filter).into()],
            heartbeat,
            whole_history: matches!(start, WatchStart::Revision(_)),
        };
        self.connection.open_watch(watched, start).await
    }

    async fn info(&self) -> Result<BucketInfo, ReadError> {
        let stream = self.stream().into();
        match self.connection.api(Request::StreamInfo { stream }).await {
            Reply::Response(Response::Stream(info)) => {
                BucketInfo::of_stream(&info).ok_or(ReadError::NoBucket)
            }
            other => Err(unread(other)),
        }
    }
}
