//! The store under test: the core's own, or a specimen that stands in for it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use squall_core::Env;
use squall_core::state::{
    Config, Entry, Event, OpenError, StateError, StateStore, Ttl, Watch, WatchEnd,
};
use squall_core::transport::Revision;

use super::ConnectionOf;
use crate::specimens;

/// What agents use of a store, right or wrong.
pub(crate) trait Keeps: Send + Sync {
    /// As [`StateStore::get_entry`].
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Entry, StateError>>;
    /// As [`StateStore::put`], or, with a token, as [`StateStore::put_fenced`].
    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Ttl,
        token: Option<u64>,
    ) -> BoxFuture<'a, Result<Revision, StateError>>;
    /// As [`StateStore::delete`].
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StateError>>;
    /// As [`StateStore::keys`].
    fn keys<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Vec<String>, StateError>>;
    /// As [`StateStore::watch`].
    fn watch<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Box<dyn Tells>, StateError>>;
    /// As [`StateStore::close`].
    fn close(&self);
}

/// What agents use of a watch.
pub(crate) trait Tells: Send {
    /// As [`Watch::next`].
    fn next(&mut self) -> BoxFuture<'_, Result<Event, WatchEnd>>;
}

impl Tells for Watch {
    fn next(&mut self) -> BoxFuture<'_, Result<Event, WatchEnd>> {
        Box::pin(Self::next(self))
    }
}

impl Keeps for StateStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Entry, StateError>> {
        Box::pin(self.get_entry(key))
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        ttl: Ttl,
        token: Option<u64>,
    ) -> BoxFuture<'a, Result<Revision, StateError>> {
        Box::pin(async move {
            match token {
                Some(token) => self.put_fenced(key, value, token).await,
                None => Self::put(self, key, value, ttl).await,
            }
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StateError>> {
        Box::pin(Self::delete(self, key))
    }

    fn keys<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Vec<String>, StateError>> {
        Box::pin(Self::keys(self, pattern))
    }

    fn watch<'a>(&'a self, pattern: &'a str) -> BoxFuture<'a, Result<Box<dyn Tells>, StateError>> {
        Box::pin(async move {
            let watch = Self::watch(self, pattern).await?;
            Ok(Box::new(watch) as Box<dyn Tells>)
        })
    }

    fn close(&self) {
        Self::close(self);
    }
}

/// Opens the right store, or the specimen of this name.
pub(crate) async fn open<E: Env>(
    specimen: Option<&str>,
    env: &E,
    connection: &ConnectionOf<E>,
    config: &Config,
) -> Result<Arc<dyn Keeps>, OpenError> {
    let right = StateStore::open(env, connection, config).await?;
    Ok(match specimen {
        Some(name) => specimens::open_store(name, env, right),
        None => Arc::new(right),
    })
}
