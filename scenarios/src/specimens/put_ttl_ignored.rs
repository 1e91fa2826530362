//! `put-ttl-ignored`, level 0: a put takes a life, and drops it on the way to the bucket, where only the age of all values
//! counts. Values that were to live for a while live for ever, on this backend: the one in memory keeps its promise.
//!
//! Right beside it: [`StateStore`], which writes the life into the record.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use squall_core::state::{Entry, StateError, StateStore, Ttl};
use squall_core::transport::Revision;

use crate::variant::state::{Keeps, Tells};

pub(super) const NAME: &str = "put-ttl-ignored";

/// See the head of this file.
pub(super) struct IgnoresTtl(pub(super) StateStore);

impl Keeps for IgnoresTtl {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Entry, StateError>> {
        Keeps::get(&self.0, key)
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Ttl,
        token: Option<u64>,
    ) -> BoxFuture<'a, Result<Revision, StateError>> {
        Box::pin(async move {
            ttl.life()?;
            Keeps::put(&self.0, key, value, Ttl::NEVER, token).await
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StateError>> {
        Keeps::delete(&self.0, key)
    }

    fn keys<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Vec<String>, StateError>> {
        Keeps::keys(&self.0, pattern)
    }

    fn watch<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Box<dyn Tells>, StateError>> {
        Keeps::watch(&self.0, pattern)
    }

    fn close(&self) {
        Keeps::close(&self.0);
    }
}
