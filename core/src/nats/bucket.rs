//! Reads and writes of a bucket, spoken directly: one message out, one answer in.
//!
//! Not through async-nats's `kv::Store`: its `create` says "exists" when the acknowledgement of its own write is lost,
//! its `entry` cannot tell an expiry from a purge, and its listings stall and come back partial. Here a write is one
//! publish with a condition in its headers, and only the server's word decides its outcome.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, StatusCode};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::admin::{self, read_error};
use super::api::{Failure, actual_revision, header, operation, record};
use super::connection::NatsConnection;
use super::consumer::{Consumer, Next, Source};
use super::direct;
use super::jetstream::{ttl_header, ttl_honoured};
use super::link::Shared;
use super::watch;
use crate::time::UnixTime;
use crate::transport::names::{is_filter, is_key};
use crate::transport::{
    Bucket, BucketInfo, CreateError, KvEntry, MessageTtl, Operation, PublishError, PutOptions,
    ReadError, ReadStart, ReadStreamError, RequestError, Revision, StoredMessage, UpdateError,
    Watch, WatchError, WatchStart, WriteError,
};

/// Silence after which a listing knows that all has come, where records vanished under it.
const LISTING_HEARTBEAT: Duration = Duration::from_millis(500);
/// Pause before a listing that was interrupted begins again.
const LISTING_PAUSE: Duration = Duration::from_millis(50);

/// Keys in one question: the server gives at most 1024 answers, and the question must fit into one message.
const KEYS_AT_ONCE: usize = 512;
/// Reads on their way at once, where each key needs one.
const READS_AT_ONCE: usize = 64;

/// A bucket on real servers.
#[derive(Clone, Debug)]
pub struct NatsBucket {
    connection: NatsConnection,
    name: Arc<str>,
    stream: Arc<str>,
}

impl NatsBucket {
    pub(super) fn new(connection: NatsConnection, name: &str) -> Self {
        Self {
            connection,
            name: name.into(),
            stream: admin::stream_of(name).into(),
        }
    }

    /// The stream behind it.
    pub(super) fn stream(&self) -> &str {
        &self.stream
    }

    fn shared(&self) -> &Arc<Shared> {
        self.connection.shared()
    }

    async fn write(
        &self,
        key: &str,
        value: Bytes,
        headers: &[(&'static str, &str)],
        options: PutOptions,
    ) -> Result<Revision, UpdateError> {
        let PutOptions { expected, ttl } = options;
        if !is_key(key) {
            return Err(WriteError::InvalidKey(key.into()).into());
        }
        if ttl.is_some() {
            ttl_honoured(self.shared())
                .map_err(|refused| refused.map_or(WriteError::Closed, WriteError::Rejected))?;
        }
        let headers = || {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, *value);
            }
            if let Some(ttl) = ttl {
                map.append("Nats-TTL", ttl_header(ttl));
            }
            if let Some(Revision(expected)) = expected {
                map.append("Nats-Expected-Last-Subject-Sequence", expected.to_string());
            }
            Ok((!map.is_empty()).then_some(map))
        };
        let subject = format!("$KV.{}.{key}", self.name);
        let timeout = self.shared().options.ack_timeout;
        let ack = self.shared().store(&subject, headers, value, timeout).await;
        ack.map(|ack| ack.sequence.into())
            .map_err(|failure| match failure {
                Failure::Api(error) => match actual_revision(&error) {
                    Some(actual) => UpdateError::WrongRevision { actual },
                    None => WriteError::Rejected(error).into(),
                },
                Failure::Request(error) => write_error(error).into(),
            })
    }

    async fn read(&self, key: &str) -> Result<Option<KvEntry>, ReadError> {
        if !is_key(key) {
            return Err(ReadError::InvalidKey(key.into()));
        }
        let subject = format!("$JS.API.DIRECT.GET.{}.$KV.{}.{key}", self.stream, self.name);
        let timeout = self.shared().options.request_timeout;
        let answer = self
            .shared()
            .request(&subject, None, Bytes::new(), timeout)
            .await
            .map_err(|error| read_error(Failure::Request(error)))?;
        if answer.status == Some(StatusCode::NOT_FOUND) {
            return Ok(None);
        }
        let revision = header(&answer, "Nats-Sequence").and_then(|text| text.parse().ok());
        let created =
            header(&answer, "Nats-Time-Stamp").and_then(|text| UnixTime::parse_rfc3339(text).ok());
        match (revision, created) {
            (Some(revision), Some(created)) => Ok(Some(record(
                &answer,
                key.into(),
                Revision(revision),
                created,
            ))),
            // No record, so no answer to this question.
            _ => Err(ReadError::TimedOut),
        }
    }

    /// A read in several steps, within the time of one.
    async fn within<T>(
        &self,
        steps: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        let timeout = self.shared().options.request_timeout;
        // Pinned here: handed on by value, a copy of it would stand in each of the futures around it.
        let bounded = pin!(tokio::time::timeout(timeout, steps));
        match self.shared().until_closed(bounded).await {
            Some(Ok(read)) => read,
            Some(Err(_)) => Err(ReadError::TimedOut),
            None => Err(ReadError::Closed),
        }
    }

    /// All that a consumer delivers until it has nothing more; begun again where it was interrupted.
    async fn list(&self, filter: &str, start: ReadStart) -> Result<Vec<KvEntry>, ReadError> {
        loop {
            if let Some(entries) = self.list_once(filter, start).await? {
                return Ok(entries);
            }
            tokio::time::sleep(LISTING_PAUSE).await;
        }
    }

    /// The latest record of each key.
    ///
    /// A consumer alone does not tell them all: a bucket with one record a key drops the old one as it stores the new
    /// one, and before the new one counts as pending there is a moment with nothing to deliver. So the server's own
    /// list of keys has the last word, and what slipped through is read by its key.
    async fn list_latest(&self, filter: &str) -> Result<BTreeMap<Arc<str>, KvEntry>, ReadError> {
        let listed = self.list(filter, ReadStart::LastPerSubject).await?;
        // A key written while it was listed comes twice: the later record counts.
        let mut latest: BTreeMap<Arc<str>, KvEntry> = listed
            .into_iter()
            .map(|entry| (Arc::clone(&entry.key), entry))
            .collect();
        let keys = admin::keys(self.shared(), &self.name, filter);
        for key in keys.await.map_err(read_error)? {
            if !latest.contains_key(&key)
                && let Some(entry) = self.read(&key).await?
            {
                latest.insert(key, entry);
            }
        }
        Ok(latest)
    }

    /// Writes if the key has no value now; lost races are tried again within the time of one write.
    async fn create_for(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<MessageTtl>,
    ) -> Result<Revision, CreateError> {
        let attempts = async {
            let mut expected = Revision::NONE;
            loop {
                // With its time to live at every try: async-nats forgets it at the second.
                let options = PutOptions {
                    expected: Some(expected),
                    ttl,
                };
                match self.write(key, value.clone(), &[], options).await {
                    Ok(revision) => return Ok(revision),
                    Err(UpdateError::Write(error)) => return Err(error.into()),
                    // Refused: what is there decides, and what is read here is no write of ours.
                    Err(UpdateError::WrongRevision { .. }) => {}
                }
                expected = match self.read(key).await.map_err(read_before_write_error)? {
                    Some(entry) if entry.operation.is_put() => {
                        return Err(CreateError::AlreadyExists);
                    }
                    Some(tombstone) => tombstone.revision,
                    None => Revision::NONE,
                };
            }
        };
        let timeout = self.shared().options.ack_timeout;
        tokio::time::timeout(timeout, attempts)
            .await
            .unwrap_or_else(|_| Err(WriteError::TimedOut.into()))
    }

    /// The latest records of these keys: one question, one batch of answers.
    async fn read_batch(&self, keys: &[&str]) -> Result<Vec<KvEntry>, ReadStreamError> {
        let prefix = format!("$KV.{}.", self.name);
        let subjects: Vec<String> = keys.iter().map(|key| format!("{prefix}{key}")).collect();
        let found = direct::last_of(self.shared(), &self.stream, &json!(subjects)).await?;
        let entries = found.into_iter().filter_map(|message| {
            let key = message.subject.strip_prefix(&prefix)?.into();
            Some(entry(key, message))
        });
        Ok(entries.collect())
    }

    /// The latest records of these keys, from a server that answers no batches.
    async fn read_each(&self, keys: &[&str]) -> Result<Vec<KvEntry>, ReadError> {
        let reads: Vec<_> = keys.iter().map(|key| self.read(key)).collect();
        let reads = stream::iter(reads).buffered(READS_AT_ONCE);
        let found: Vec<Option<KvEntry>> = reads.try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// `None` where deliveries were interrupted.
    async fn list_once(
        &self,
        filter: &str,
        start: ReadStart,
    ) -> Result<Option<Vec<KvEntry>>, ReadError> {
        let shared = self.shared();
        let source = Arc::new(Source::bucket(&self.name, filter));
        let opened = Consumer::open(shared, &source, start, LISTING_HEARTBEAT);
        let mut consumer = opened.await.map_err(read_error)?;
        let mut entries = Vec::new();
        let mut complete = consumer.pending == 0;
        while !complete {
            match consumer.next().await {
                Next::Item { item, pending } => {
                    entries.push(item);
                    complete = pending == 0;
                }
                Next::Idle => complete = true,
                Next::Broken => break,
            }
        }
        consumer.delete();
        Ok(complete.then_some(entries))
    }
}

fn expecting(expected: Option<Revision>) -> PutOptions {
    PutOptions {
        expected,
        ttl: None,
    }
}

/// The record that a message of the stream behind a bucket is.
fn entry(key: Arc<str>, message: StoredMessage) -> KvEntry {
    let operation = operation(|name| message.headers.get(name));
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

fn batch_error(error: ReadStreamError) -> ReadError {
    match error {
        ReadStreamError::InvalidSubject(key) => ReadError::InvalidKey(key),
        ReadStreamError::NoStream => ReadError::NoBucket,
        ReadStreamError::Rejected(error) => ReadError::Rejected(error),
        ReadStreamError::TimedOut => ReadError::TimedOut,
        ReadStreamError::Closed => ReadError::Closed,
    }
}

fn write_error(error: RequestError) -> WriteError {
    match error {
        RequestError::Publish(PublishError::TooLarge { size, limit }) => {
            WriteError::TooLarge { size, limit }
        }
        RequestError::Publish(
            PublishError::InvalidSubject(key) | PublishError::InvalidHeader(key),
        ) => WriteError::InvalidKey(key),
        RequestError::Publish(PublishError::Closed | PublishError::NoConnection) => {
            WriteError::Closed
        }
        RequestError::NoResponders => WriteError::NoBucket,
        RequestError::TimedOut => WriteError::TimedOut,
        RequestError::ClosedWhileWaiting => WriteError::ClosedWhileWaiting,
    }
}

/// A read on the way to a write failed: the write was not sent.
fn read_before_write_error(error: ReadError) -> WriteError {
    match error {
        ReadError::InvalidKey(key) => WriteError::InvalidKey(key),
        ReadError::NoBucket => WriteError::NoBucket,
        ReadError::Rejected(error) => WriteError::Rejected(error),
        ReadError::TimedOut => WriteError::TimedOut,
        ReadError::Closed => WriteError::Closed,
    }
}

impl Bucket for NatsBucket {
    fn name(&self) -> &str {
        &self.name
    }

    async fn entry(&self, key: &str) -> Result<Option<KvEntry>, ReadError> {
        self.read(key).await
    }

    async fn history(&self, key: &str) -> Result<Vec<KvEntry>, ReadError> {
        if !is_key(key) {
            return Err(ReadError::InvalidKey(key.into()));
        }
        self.within(self.list(key, ReadStart::All)).await
    }

    async fn entries(&self, filter: &str) -> Result<Vec<KvEntry>, ReadError> {
        if !is_filter(filter) {
            return Err(ReadError::InvalidKey(filter.into()));
        }
        let latest = self.within(self.list_latest(filter)).await?;
        let mut entries: Vec<KvEntry> = latest
            .into_values()
            .filter(|entry| entry.operation.is_put())
            .collect();
        entries.sort_by_key(|entry| entry.revision);
        Ok(entries)
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<Revision, WriteError> {
        match self.write(key, value, &[], PutOptions::default()).await {
            Ok(revision) => Ok(revision),
            Err(UpdateError::Write(error)) => Err(error),
            Err(UpdateError::WrongRevision { .. }) => {
                unreachable!("nothing was expected of the revision")
            }
        }
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<Revision, CreateError> {
        self.create_for(key, value, None).await
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
    ) -> Result<Revision, UpdateError> {
        self.put_with(key, value, expecting(Some(expected))).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<Revision, UpdateError> {
        let headers = [("KV-Operation", "DEL")];
        self.write(key, Bytes::new(), &headers, expecting(expected))
            .await
    }

    async fn purge(&self, key: &str, expected: Option<Revision>) -> Result<Revision, UpdateError> {
        let headers = [("KV-Operation", "PURGE"), ("Nats-Rollup", "sub")];
        self.write(key, Bytes::new(), &headers, expecting(expected))
            .await
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
        self.write(key, value, &[], options).await
    }

    async fn entries_of(&self, keys: &[&str]) -> Result<Vec<KvEntry>, ReadError> {
        if let Some(key) = keys.iter().find(|key| !is_key(key)) {
            return Err(ReadError::InvalidKey(Arc::from(*key)));
        }
        let mut entries = Vec::new();
        for keys in keys.chunks(KEYS_AT_ONCE) {
            entries.extend(match self.read_batch(keys).await {
                Ok(found) => found,
                // Before 2.11 such a question asks for nothing.
                Err(ReadStreamError::Rejected(error)) if error.code == 408 => {
                    self.within(self.read_each(keys)).await?
                }
                Err(error) => return Err(batch_error(error)),
            });
        }
        entries.sort_by_key(|entry| entry.revision);
        Ok(entries)
    }

    async fn watch(&self, filter: &str, start: WatchStart) -> Result<Watch, WatchError> {
        if !is_filter(filter) {
            return Err(WatchError::InvalidFilter(filter.into()));
        }
        let options = &self.shared().options;
        let capacity = watch::capacity(options.subscription_capacity);
        let (out, watch) = Watch::channel(capacity, None);
        let source = Source::bucket(&self.name, filter);
        watch::start(self.shared(), source, start, out).await?;
        Ok(watch)
    }

    async fn info(&self) -> Result<BucketInfo, ReadError> {
        let info = admin::info(self.shared(), &self.stream)
            .await
            .map_err(read_error)?;
        admin::read_info(&self.name, &info).ok_or(ReadError::TimedOut)
    }
}
