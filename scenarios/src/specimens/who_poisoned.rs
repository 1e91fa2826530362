//! `presence-who-poisoned`: one undecodable entry makes `who()` fail for everybody.
//!
//! `who()` lists the keys, decodes each value and returns the first error: the reflex of every function that returns one.
//! So a single record that is no entry (an older version's, another program's, a half-written experiment's) denies all
//! agents to all agents, for as long as it lies there; and since presence is what one looks at when something is wrong,
//! it does so when it hurts most.
//!
//! Right: pass over what cannot be read, say so in the log, and answer with the others. [`squall_core::presence`] does
//! in `who` (`core/src/presence/shell.rs`).

use futures_util::future::BoxFuture;
use squall_core::Env;
use squall_core::presence::{self, Config, Entry, OpenError, Presence, PresenceError};
use squall_core::transport::{ApiError, Bucket, Connection, KvEntry, ReadError};

use super::spoilt::Spoilt;
use crate::variant::{BucketOf, ConnectionOf, Present};

pub(super) const NAME: &str = "presence-who-poisoned";

struct ReadsAllOrNothing<B> {
    right: Presence,
    bucket: B,
    filter: String,
}

pub(super) async fn open<E: Env>(
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
) -> Result<Box<dyn Present>, OpenError> {
    Ok(Box::new(ReadsAllOrNothing::<BucketOf<E>> {
        bucket: connection.bucket(&config.bucket)?,
        filter: presence::filter(&config.project),
        right: Presence::open(env, connection, config).await?,
    }))
}

impl<B: Bucket> Spoilt for ReadsAllOrNothing<B> {
    fn right(&self) -> &Presence {
        &self.right
    }

    fn who(&self) -> BoxFuture<'_, Result<Vec<Entry>, PresenceError>> {
        Box::pin(async {
            let records = self.bucket.entries(&self.filter).await?;
            // The flaw: `collect` stops at the first that cannot be read.
            let mut entries: Vec<Entry> = records.iter().map(read).collect::<Result<_, _>>()?;
            entries.sort_by(|a, b| a.agent_id.cmp(&b.agent_id));
            Ok(entries)
        })
    }
}

/// Reads one entry. The right one never fails here, so that its errors have no word for it but the server's.
fn read(record: &KvEntry) -> Result<Entry, ReadError> {
    serde_json::from_slice(&record.value).map_err(|error| {
        ReadError::Rejected(ApiError {
            code: 500,
            err_code: 0,
            description: format!("cannot read {}: {error}", record.key).into(),
        })
    })
}
