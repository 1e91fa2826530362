//! `chat-no-message-id`: a retry after a lost acknowledgement stores the message twice.
//!
//! A send whose acknowledgement does not come in time is published again, as it was: the server cannot know that it has
//! it already, and everybody hears it twice.
//!
//! Right: each message has an id, which the server remembers for its duplicate window; a retry has the same.
//! [`squall_core::chat`] sends no retry that may come after that (`core/src/chat/send.rs`).

use futures_util::future::BoxFuture;
use squall_core::chat::{Chat, Config, Envelope, OpenError, SendError, Sent, Thread};
use squall_core::transport::{Fallible as _, JetStream as _, Outcome, StoreOptions};
use squall_core::{Clock as _, Env};

use super::spoilt_chat::SpoiltChat;
use crate::parse::PROJECT;
use crate::variant::ConnectionOf;
use crate::variant::talk::Talk;

pub(super) const NAME: &str = "chat-no-message-id";

/// How often it is published before it is given up.
const ATTEMPTS: u32 = 3;

struct SendsAnew<E: Env> {
    right: Chat,
    env: E,
    connection: ConnectionOf<E>,
    agent: String,
}

pub(super) async fn open<E: Env>(
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
) -> Result<Box<dyn Talk>, OpenError> {
    Ok(Box::new(SendsAnew {
        env: env.clone(),
        connection: connection.clone(),
        agent: config.agent.clone(),
        right: Chat::open(env, connection, config).await?,
    }))
}

impl<E: Env> SpoiltChat for SendsAnew<E> {
    fn right(&self) -> &Chat {
        &self.right
    }

    fn send<'a>(
        &'a self,
        thread: &'a Thread,
        body: &'a str,
    ) -> BoxFuture<'a, Result<Sent, SendError>> {
        Box::pin(async move {
            let envelope = Envelope {
                id: body.to_owned(),
                from: self.agent.clone(),
                thread: thread.id().clone(),
                body: body.to_owned(),
                timestamp: self.env.clock().wall(),
                reply_to: None,
            };
            let message = envelope.message(PROJECT, thread.name(), None);
            let mut attempt = 1;
            loop {
                // The flaw: without an id.
                let options = StoreOptions::default();
                match self.connection.store(message.clone(), options).await {
                    Ok(ack) => {
                        return Ok(Sent {
                            id: envelope.id,
                            sequence: ack.sequence,
                        });
                    }
                    Err(error) if error.outcome() == Outcome::Unknown && attempt < ATTEMPTS => {
                        attempt += 1;
                    }
                    Err(error) => return Err(SendError::Refused(error)),
                }
            }
        })
    }
}
