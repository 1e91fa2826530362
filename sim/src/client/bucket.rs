//! [`SimBucket`]: key-value operations of the simulated client, each as many round trips as the real one makes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::Clock as _;
use squall_core::transport::{
    Bucket, BucketInfo, ConnectionState, CreateError, KvEntry, Operation, ReadError, Revision,
    UpdateError, Watch, WatchError, WatchEvent, WatchStart, WriteError, names,
};

use super::handle::{Exchange, SimConnection};
use super::requests::{Patience, Reply, RequestKey, id_of};
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
    /// Asks for a write, once this is polled; what can be refused without asking is refused now.
    fn write(
        &self,
        key: &str,
        write: Write,
        expected: Option<Revision>,
    ) -> impl Future<Output = Result<Revision, UpdateError>> {
        let prepared = self.prepare(key, write, expected);
        async move {
            let (asking, was_closed) = prepared?;
            match asking.await {
                Reply::Response(Response::Stored(revision)) => Ok(revision),
                Reply::Response(Response::WrongRevision(actual)) => {
                    Err(UpdateError::WrongRevision { actual })
                }
                Reply::Response(Response::Error(error)) => Err(WriteError::Rejected(error).into()),
                Reply::Response(_) | Reply::NoResponders => Err(WriteError::NoBucket.into()),
                Reply::TimedOut => Err(WriteError::TimedOut.into()),
                Reply::Closed if was_closed => Err(WriteError::Closed.into()),
                Reply::Closed | Reply::Flushed | Reply::Message(_) => {
                    Err(WriteError::ClosedWhileWaiting.into())
                }
            }
        }
    }

    /// The exchange of a write, and whether the connection is closed already.
    fn prepare(
        &self,
        key: &str,
        write: Write,
        expected: Option<Revision>,
    ) -> Result<
        (
            Exchange<'_, impl FnOnce(RequestKey) -> ClientOp + use<>>,
            bool,
        ),
        UpdateError,
    > {
        if !names::is_key(key) {
            return Err(WriteError::InvalidKey(key.into()).into());
        }
        let found = self
            .connection
            .look(|client| (client.max_payload, client.state()));
        if let (Write::Put(value), Some((limit, _))) = (&write, found) {
            let size = value.len() + names::expectation_len(expected);
            if size > limit {
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
        let was_closed = found.is_none_or(|(_, state)| state == ConnectionState::Closed);
        Ok((self.connection.exchange(Patience::Ack, command), was_closed))
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
            bucket: self.name.clone(),
            filter: filter.into(),
            start: WatchStart::Snapshot,
            heartbeat: heartbeat.min(SCAN_HEARTBEAT),
            whole_history,
        };
        let collected = async {
            let mut watch = self
                .connection
                .open_watch(watched)
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
            bucket: self.name.clone(),
            filter: filter.into(),
            start,
            heartbeat,
            whole_history: matches!(start, WatchStart::Revision(_)),
        };
        self.connection.open_watch(watched).await
    }

    async fn info(&self) -> Result<BucketInfo, ReadError> {
        match self
            .connection
            .api(Request::BucketInfo {
                bucket: self.name.clone(),
            })
            .await
        {
            Reply::Response(Response::Bucket(info)) => Ok(*info),
            other => Err(unread(other)),
        }
    }
}
