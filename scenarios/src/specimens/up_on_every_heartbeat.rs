//! `presence-up-on-every-heartbeat`: every put of an entry is told as `Up`.
//!
//! A bucket's watch speaks of records, not of agents: to it the first entry of an agent and its thousandth heartbeat are
//! both a put. A watch that hands them on one by one, as "put means online, delete means offline", tells its reader every
//! interval that somebody has come who never left. It looks right in every test that starts an agent, waits for one
//! event, and stops.
//!
//! Right: remember who is up, and tell edges only. [`squall_core::presence`] does in its roster
//! (`core/src/presence/roster.rs`): `Up` only for an agent that was vacant before, once an incarnation.

use std::future::ready;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use squall_core::Env;
use squall_core::presence::{self, Config, Entry, Event, OpenError, Presence, PresenceError};
use squall_core::transport::{Bucket, Connection, WatchEvent, WatchStart};

use super::spoilt::Spoilt;
use crate::variant::{BucketOf, ConnectionOf, Present, Watching};

pub(super) const NAME: &str = "presence-up-on-every-heartbeat";

struct TellsPuts<B> {
    right: Presence,
    bucket: B,
    filter: String,
}

pub(super) async fn open<E: Env>(
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
) -> Result<Box<dyn Present>, OpenError> {
    Ok(Box::new(TellsPuts::<BucketOf<E>> {
        bucket: connection.bucket(&config.bucket)?,
        filter: presence::filter(&config.project),
        right: Presence::open(env, connection, config).await?,
    }))
}

impl<B: Bucket> Spoilt for TellsPuts<B> {
    fn right(&self) -> &Presence {
        &self.right
    }

    fn watch(&self) -> BoxFuture<'_, Result<Watching, PresenceError>> {
        Box::pin(async {
            let (present, events) = Present::watch(&self.right).await?;
            let others = events.filter(|event| ready(!matches!(event, Event::Up(_))));

            let records = self.bucket.watch(&self.filter, WatchStart::Now).await?;
            let records = stream::unfold(records, |mut records| async {
                records.next().await.map(|record| (record, records))
            });
            // The flaw: a put is no arrival.
            let ups = records.filter_map(|told| {
                ready(match told {
                    WatchEvent::Entry(record) => Entry::decode(&record).map(Event::Up),
                    _ => None,
                })
            });
            Ok((present, stream::select(others, ups).boxed()))
        })
    }
}
