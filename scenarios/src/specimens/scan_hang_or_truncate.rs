//! `scan-hang-or-truncate`: a scan waits for a count that expiry has made unreachable.
//!
//! It asks how many messages there are, and reads until it has as many. Of a stream whose messages live short some go
//! while it reads, and nobody says anything more: it waits for ever.
//!
//! Right: a scan is over at the place that was the last when it began, or when the reader says that nothing more was
//! there, and has a deadline (`core/src/chat/scan.rs`).

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use squall_core::chat::{Chat, Config, OpenError, Received, ScanError, ThreadSummary};
use squall_core::transport::{JetStream as _, ReadStart, ReaderEvent, Stream as _};
use squall_core::{Env, chat};

use super::spoilt_chat::SpoiltChat;
use crate::parse::PROJECT;
use crate::variant::ConnectionOf;
use crate::variant::talk::Talk;

pub(super) const NAME: &str = "scan-hang-or-truncate";

struct Counts<E: Env> {
    right: Chat,
    connection: ConnectionOf<E>,
}

pub(super) async fn open<E: Env>(
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
) -> Result<Box<dyn Talk>, OpenError> {
    Ok(Box::new(Counts::<E> {
        connection: connection.clone(),
        right: Chat::open(env, connection, config).await?,
    }))
}

impl<E: Env> SpoiltChat for Counts<E> {
    fn right(&self) -> &Chat {
        &self.right
    }

    fn threads<'a>(
        &'a self,
        agent: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<ThreadSummary>, ScanError>> {
        Box::pin(async move {
            let stream = self
                .connection
                .stream(&chat::stream(PROJECT))
                .map_err(|_name| ScanError::ConnectionLost)?;
            let info = stream.info().await?;
            // The flaw: as many as there were.
            let mut left = info.messages;
            let all = chat::all(PROJECT);
            let mut reader = stream.read(&[&all], ReadStart::All).await?;
            let mut threads = BTreeMap::new();
            while left > 0 {
                let event = reader.next().await.ok_or(ScanError::ConnectionLost)?;
                let ReaderEvent::Message(message) = event else {
                    continue;
                };
                // What came later was not asked for.
                if message.sequence > info.last_sequence {
                    continue;
                }
                left -= 1;
                let Some(received) = Received::decode(PROJECT, &message) else {
                    continue;
                };
                if agent.is_none_or(|agent| agent == received.envelope.from) {
                    let thread = threads
                        .entry(received.envelope.thread.clone())
                        .or_insert_with(|| ThreadSummary {
                            thread: received.envelope.thread.clone(),
                            name: received.name.clone(),
                            last_activity: received.stored,
                            message_count: 0,
                            last_body: String::new(),
                        });
                    thread.last_activity = received.stored;
                    thread.message_count += 1;
                    thread.last_body = received.envelope.body;
                }
            }
            let mut threads: Vec<_> = threads.into_values().collect();
            threads.sort_by_key(|thread| std::cmp::Reverse(thread.last_activity));
            Ok(threads)
        })
    }
}
