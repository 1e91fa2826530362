//! A bucket of a session: each operation on the connection that is current.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::line::{ConnectionOf, Line};
use super::link_error::LinkError;
use super::relay;
use super::source::Keys;
use crate::env::Env;
use crate::transport::{
    Bucket, BucketInfo, Connection, CreateError, KvEntry, MessageTtl, PutOptions, ReadError,
    Revision, UpdateError, Watch, WatchError, WatchStart, WriteError,
};

/// A bucket of a session.
pub struct SessionBucket<E: Env> {
    line: Arc<Line<E>>,
    name: Arc<str>,
}

impl<E: Env> Clone for SessionBucket<E> {
    fn clone(&self) -> Self {
        Self {
            line: Arc::clone(&self.line),
            name: Arc::clone(&self.name),
        }
    }
}

impl<E: Env> std::fmt::Debug for SessionBucket<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionBucket({})", self.name)
    }
}

type BucketOf<E> = <ConnectionOf<E> as Connection>::Bucket;

impl<E: Env> SessionBucket<E> {
    pub(super) fn new(line: Arc<Line<E>>, name: &str) -> Self {
        let name = name.into();
        Self { line, name }
    }

    async fn run<T, R, F>(
        &self,
        patience: Duration,
        work: impl Fn(BucketOf<E>) -> F + Send + Sync,
    ) -> Result<T, R>
    where
        R: LinkError,
        F: Future<Output = Result<T, R>> + Send,
    {
        let (name, work) = (&*self.name, &work);
        self.line
            .run(Some(patience), |connection: ConnectionOf<E>| async move {
                // The name was checked when this handle was made.
                let bucket = connection.bucket(name).map_err(|_| R::closed())?;
                work(bucket).await
            })
            .await
    }

    async fn read<T, R, F>(&self, work: impl Fn(BucketOf<E>) -> F + Send + Sync) -> Result<T, R>
    where
        R: LinkError,
        F: Future<Output = Result<T, R>> + Send,
    {
        self.run(self.line.settings.connect.request_timeout, work)
            .await
    }

    async fn write<T, R, F>(&self, work: impl Fn(BucketOf<E>) -> F + Send + Sync) -> Result<T, R>
    where
        R: LinkError,
        F: Future<Output = Result<T, R>> + Send,
    {
        self.run(self.line.settings.connect.ack_timeout, work).await
    }
}

impl<E: Env> Bucket for SessionBucket<E> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn entry(&self, key: &str) -> Result<Option<KvEntry>, ReadError> {
        self.read(|bucket| async move { bucket.entry(key).await })
            .await
    }

    async fn history(&self, key: &str) -> Result<Vec<KvEntry>, ReadError> {
        self.read(|bucket| async move { bucket.history(key).await })
            .await
    }

    async fn entries(&self, filter: &str) -> Result<Vec<KvEntry>, ReadError> {
        self.read(|bucket| async move { bucket.entries(filter).await })
            .await
    }

    async fn entries_of(&self, keys: &[&str]) -> Result<Vec<KvEntry>, ReadError> {
        self.read(|bucket| async move { bucket.entries_of(keys).await })
            .await
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<Revision, WriteError> {
        let value = &value;
        self.write(|bucket| async move { bucket.put(key, value.clone()).await })
            .await
    }

    async fn put_with(
        &self,
        key: &str,
        value: Bytes,
        options: PutOptions,
    ) -> Result<Revision, UpdateError> {
        let value = &value;
        self.write(|bucket| async move { bucket.put_with(key, value.clone(), options).await })
            .await
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<Revision, CreateError> {
        let value = &value;
        self.write(|bucket| async move { bucket.create(key, value.clone()).await })
            .await
    }

    async fn create_with(
        &self,
        key: &str,
        value: Bytes,
        ttl: MessageTtl,
    ) -> Result<Revision, CreateError> {
        let value = &value;
        self.write(|bucket| async move { bucket.create_with(key, value.clone(), ttl).await })
            .await
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
    ) -> Result<Revision, UpdateError> {
        let value = &value;
        self.write(|bucket| async move { bucket.update(key, value.clone(), expected).await })
            .await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<Revision, UpdateError> {
        self.write(|bucket| async move { bucket.delete(key, expected).await })
            .await
    }

    async fn purge(&self, key: &str, expected: Option<Revision>) -> Result<Revision, UpdateError> {
        self.write(|bucket| async move { bucket.purge(key, expected).await })
            .await
    }

    /// Goes on over every connection of the login, and tells of a swap only where something may have been missed.
    async fn watch(&self, filter: &str, start: WatchStart) -> Result<Watch, WatchError> {
        let keys = Keys {
            bucket: (*self.name).into(),
            filter: filter.into(),
        };
        relay::open(&self.line, keys, start.into()).await
    }

    async fn info(&self) -> Result<BucketInfo, ReadError> {
        self.read(|bucket| async move { bucket.info().await }).await
    }
}
