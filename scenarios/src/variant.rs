//! What is under test: the core's own presence, locks, stores and chats, or a specimen that stands in for them.

pub(crate) mod lock;
pub(crate) mod state;
pub(crate) mod talk;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use squall_core::Env;
use squall_core::presence::{Config, Entry, Event, Notice, OpenError, Presence, PresenceError};
use squall_core::transport::{Connection, Transport};

use crate::specimens;

/// Connections of an environment.
pub(crate) type ConnectionOf<E> = <<E as Env>::Transport as Transport>::Connection;

/// Buckets of an environment.
pub(crate) type BucketOf<E> = <ConnectionOf<E> as Connection>::Bucket;

/// What a watch gives: who is there, and what comes.
pub type Watching = (Vec<Entry>, BoxStream<'static, Event>);

/// What agents use of a presence, right or wrong.
pub trait Present: Send + Sync {
    /// As [`Presence::who`].
    fn who(&self) -> BoxFuture<'_, Result<Vec<Entry>, PresenceError>>;
    /// As [`Presence::present`].
    fn present<'a>(&'a self, agent: &'a str) -> BoxFuture<'a, Result<bool, PresenceError>>;
    /// As [`Presence::watch_with_snapshot`].
    fn watch(&self) -> BoxFuture<'_, Result<Watching, PresenceError>>;
    /// As [`Presence::notices`].
    fn notices(&self) -> BoxStream<'static, Notice>;
    /// As [`Presence::close`].
    fn close(&self) -> BoxFuture<'_, ()>;
}

impl Present for Presence {
    fn who(&self) -> BoxFuture<'_, Result<Vec<Entry>, PresenceError>> {
        Box::pin(Self::who(self))
    }

    fn present<'a>(&'a self, agent: &'a str) -> BoxFuture<'a, Result<bool, PresenceError>> {
        Box::pin(Self::present(self, agent))
    }

    fn watch(&self) -> BoxFuture<'_, Result<Watching, PresenceError>> {
        Box::pin(async {
            let (snapshot, events) = self.watch_with_snapshot().await?;
            let events = stream::unfold(events, |mut events| async {
                events.next().await.map(|event| (event, events))
            });
            Ok((snapshot, events.boxed()))
        })
    }

    fn notices(&self) -> BoxStream<'static, Notice> {
        let notices = stream::unfold(Self::notices(self), |mut notices| async {
            notices.next().await.map(|notice| (notice, notices))
        });
        notices.boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Self::close(self))
    }
}

/// Opens the right presence, or the specimen of this name.
pub(crate) async fn open<E: Env>(
    specimen: Option<&str>,
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
) -> Result<Box<dyn Present>, OpenError> {
    // What is wrong may be the session below it.
    match specimen.filter(|name| specimens::is_presence(name)) {
        None => Ok(Box::new(Presence::open(env, connection, config).await?)),
        Some(name) => specimens::open(name, env, connection, config).await,
    }
}
