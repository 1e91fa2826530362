//! `presence-no-down-on-ttl`: `Down` only from delete events, on a bucket whose expiry says nothing.
//!
//! A watch tells puts and deletes, so `Up` and `Down` seem to be all there. But an entry that ages out is not deleted: the
//! server removes it and tells nobody, unless the bucket keeps delete markers (nats-server 2.11, off by default). So who
//! closes is told down, and who crashes, which is what the TTL is for, stays up for every watcher for ever.
//!
//! Right: conclude from silence, by one's own clock, and only where one can prove that one would have heard.
//! [`squall_core::presence`] does in its roster (`core/src/presence/roster.rs`).

use std::future::ready;

use futures_util::future::BoxFuture;
use futures_util::stream::StreamExt as _;
use squall_core::Env;
use squall_core::presence::{Config, DownReason, Event, OpenError, Presence, PresenceError};

use super::spoilt::Spoilt;
use crate::variant::{ConnectionOf, Present, Watching};

pub(super) const NAME: &str = "presence-no-down-on-ttl";

struct TrustsDeletes(Presence);

pub(super) async fn open<E: Env>(
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
) -> Result<Box<dyn Present>, OpenError> {
    let right = Presence::open(env, connection, config).await?;
    Ok(Box::new(TrustsDeletes(right)))
}

impl Spoilt for TrustsDeletes {
    fn right(&self) -> &Presence {
        &self.0
    }

    fn watch(&self) -> BoxFuture<'_, Result<Watching, PresenceError>> {
        Box::pin(async {
            let (present, events) = Present::watch(&self.0).await?;
            // The flaw: what the bucket does not say is not told.
            let told = events.filter(|event| ready(!is_concluded(event)));
            Ok((present, told.boxed()))
        })
    }
}

const fn is_concluded(event: &Event) -> bool {
    matches!(
        event,
        Event::Down {
            reason: DownReason::Silent,
            ..
        }
    )
}
