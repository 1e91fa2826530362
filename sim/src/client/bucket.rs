//! [`SimBucket`]: key-value operations of the simulated client, each as many round trips as the real one makes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use squall_core::Clock as _;
use squall_core::transport::{
    ApiError, Bucket, BucketConfig, BucketError, BucketInfo, ConnectionState, CreateError,
    JetStream, KvEntry, Message, MessageTtl, Operation, PublishError, PutOptions, ReadError,
    ReadStreamError, Revision, StoreError, StoreOptions, StoredMessage, StreamError, UpdateError,
    Watch, WatchError, WatchEvent, WatchStart, WriteError, names,
};

use super::handle::SimConnection;
use super::requests::Reply;
use super::stream::SimStream;
use super::watches::Watched;
use crate::wire::{Request, Response, Write};

/// A scan gives up on records that vanished under it after this much silence of the server.
const SCAN_HEARTBEAT: Duration = Duration::from_secs(1);

/// Keys in one question, well below the 1024 subjects that a server tells of in one answer.
const KEYS_AT_ONCE: usize = 512;

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
        let is_old = self.connection.look(|client| {
            client.state() != ConnectionState::Closed && !client.version.is_at_least(2, 11)
        });
        if config.delete_markers.is_some() && is_old == Some(true) {
            return refused(400, 0, "delete markers need nats-server 2.11 or later");
        }
        Ok(())
    }

    /// Asks for a write, once this is polled; what can be refused without asking is refused now.
    fn write(
        &self,
        key: &str,
        write: Write,
        expected: Option<Revision>,
    ) -> impl Future<Output = Result<Revision, UpdateError>> {
        let prepared = self.prepare(key, write, expected);
        async move {
            let (request, was_closed) = prepared?;
            match self.connection.ask_to_store(request).await {
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

    /// What is asked for a write, and whether the connection is closed already.
    fn prepare(
        &self,
        key: &str,
        write: Write,
        expected: Option<Revision>,
    ) -> Result<(Request, bool), UpdateError> {
        if !names::is_key(key) {
            return Err(WriteError::InvalidKey(key.into()).into());
        }
        let found = self
            .connection
            .look(|client| (client.max_payload, client.state(), client.key(key)));
        if let (Write::Put(value), Some((limit, ..))) = (&write, &found) {
            let size = value.len() + names::expectation_len(expected);
            if size > *limit {
                let limit = *limit;
                return Err(WriteError::TooLarge { size, limit }.into());
            }
        }
        let (was_closed, key) = match found {
            Some((_, state, key)) => (state == ConnectionState::Closed, key),
            None => (true, key.into()),
        };
        let request = Request::Write {
            bucket: self.name.clone(),
            key,
            write,
            expected,
        };
        Ok((request, was_closed))
    }

    /// Writes if the key has no value now; lost races are tried again within the time of one write.
    async fn create_for(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<MessageTtl>,
    ) -> Result<Revision, CreateError> {
        let attempts = async {
            let mut expected = Some(Revision::NONE);
            loop {
                let options = PutOptions { expected, ttl };
                match self.put_with(key, value.clone(), options).await {
                    Ok(revision) => return Ok(revision),
                    Err(UpdateError::Write(error)) => return Err(error.into()),
                    Err(UpdateError::WrongRevision { .. }) => {}
                }
                // Something is there. A value, or a tombstone that may be written over?
                expected = match self.entry(key).await {
                    Ok(Some(entry)) if entry.operation.is_put() => {
                        return Err(CreateError::AlreadyExists);
                    }
                    Ok(Some(tombstone)) => Some(tombstone.revision),
                    Ok(None) => Some(Revision::NONE),
                    Err(error) => return Err(error.before_write().into()),
                };
            }
        };
        let patience = self.connection.with(|client, _| client.ack_timeout);
        let clock = &self.connection.clock;
        tokio::select! {
            biased;
            done = attempts => done,
            () = clock.sleep_until(clock.now() + patience.unwrap_or_default()) => {
                Err(WriteError::TimedOut.into())
            }
        }
    }

    /// Writes what lives so long: a publish with one header more than a write to a key has.
    async fn write_for(
        &self,
        key: &str,
        value: Bytes,
        expected: Option<Revision>,
        ttl: MessageTtl,
    ) -> Result<Revision, UpdateError> {
        if !names::is_key(key) {
            return Err(WriteError::InvalidKey(key.into()).into());
        }
        let message = Message::new(names::key_subject(&self.name, key), value);
        let options = StoreOptions {
            expected_last_subject_sequence: expected.map(Into::into),
            ttl: Some(ttl),
            ..StoreOptions::default()
        };
        match self.connection.store(message, options).await {
            Ok(ack) => Ok(ack.sequence.into()),
            Err(StoreError::WrongLastSequence { actual }) => Err(UpdateError::WrongRevision {
                actual: actual.into(),
            }),
            Err(error) => Err(write_error(error, key).into()),
        }
    }

    /// The latest records of these keys: one question, one batch of answers.
    async fn read_batch(&self, keys: &[&str]) -> Result<Vec<KvEntry>, ReadStreamError> {
        let subjects = keys.iter().map(|key| names::key_subject(&self.name, key));
        let stream = SimStream {
            connection: self.connection.clone(),
            name: self.stream().into(),
        };
        let found = stream.last_of_each(subjects.map(Into::into).collect());
        let prefix = names::key_subject(&self.name, "");
        let entries = found.await?.into_iter().filter_map(|message| {
            let key = message.subject.strip_prefix(&*prefix)?;
            Some(entry(key.into(), message))
        });
        Ok(entries.collect())
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

/// The record that a message of the stream behind a bucket is.
fn entry(key: Arc<str>, message: StoredMessage) -> KvEntry {
    let operation = Operation::of_headers(&message.headers);
    KvEntry {
        key,
        value: match operation {
            Operation::Put => message.payload,
            _ => Bytes::new(),
        },
        revision: message.sequence.into(),
        operation,
        created: message.time,
    }
}

fn write_error(error: StoreError, key: &str) -> WriteError {
    match error {
        StoreError::Publish(PublishError::TooLarge { size, limit }) => {
            WriteError::TooLarge { size, limit }
        }
        StoreError::Publish(PublishError::Closed | PublishError::NoConnection) => {
            WriteError::Closed
        }
        StoreError::Publish(_) => WriteError::InvalidKey(key.into()),
        StoreError::NoStream => WriteError::NoBucket,
        StoreError::Rejected(error) => WriteError::Rejected(error),
        StoreError::TimedOut => WriteError::TimedOut,
        StoreError::ClosedWhileWaiting => WriteError::ClosedWhileWaiting,
        // Not demanded of a write to a key: an answer from somebody else is no answer.
        StoreError::WrongLastSequence { .. } | StoreError::WrongLastMessageId { .. } => {
            WriteError::TimedOut
        }
    }
}

fn batch_error(error: ReadStreamError) -> ReadError {
    match error {
        ReadStreamError::InvalidSubject(key) => ReadError::InvalidKey(key),
        ReadStreamError::NoStream => ReadError::NoBucket,
        ReadStreamError::Rejected(error) => ReadError::Rejected(error),
        ReadStreamError::TimedOut => ReadError::TimedOut,
        ReadStreamError::Closed => ReadError::Closed,
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
        self.create_for(key, value, None).await
    }

    async fn create_with(
        &self,
        key: &str,
        value: Bytes,
        ttl: MessageTtl,
    ) -> Result<Revision, CreateError> {
        self.create_for(key, value, Some(ttl)).await
    }

    async fn put_with(
        &self,
        key: &str,
        value: Bytes,
        options: PutOptions,
    ) -> Result<Revision, UpdateError> {
        match options.ttl {
            Some(ttl) => self.write_for(key, value, options.expected, ttl).await,
            None => self.write(key, Write::Put(value), options.expected).await,
        }
    }

    async fn entries_of(&self, keys: &[&str]) -> Result<Vec<KvEntry>, ReadError> {
        if let Some(key) = keys.iter().find(|key| !names::is_key(key)) {
            return Err(ReadError::InvalidKey((*key).into()));
        }
        let mut entries = Vec::new();
        for keys in keys.chunks(KEYS_AT_ONCE) {
            match self.read_batch(keys).await {
                Ok(found) => entries.extend(found),
                // Before 2.11 such a question asks for nothing.
                Err(ReadStreamError::Rejected(error)) if error.code == 408 => {
                    for key in keys {
                        entries.extend(self.entry(key).await?);
                    }
                }
                Err(error) => return Err(batch_error(error)),
            }
        }
        entries.sort_by_key(|entry| entry.revision);
        Ok(entries)
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
