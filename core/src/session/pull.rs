//! A pull of a session: where its connection goes before it is over, what is left of the wish is asked for on the next.
//!
//! Nothing is lost by that: what the server had sent and nobody got is due again after `ack_wait`, as for any client that
//! goes away.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::line::{ConnectionOf, Link, Registration};
use super::stream::SessionConsumer;
use crate::env::Env;
use crate::time::{Clock, Instant};
use crate::transport::{
    Pull, PullConsumer as _, PullEnd, PullError, PullEvent, Pulled, PulledSender,
};

pub(super) async fn open<E: Env>(
    consumer: &SessionConsumer<E>,
    wish: Pull,
) -> Result<Pulled, PullError> {
    let deadline = wish
        .expires
        .map(|expires| consumer.line().env.clock().now() + expires);
    let (link, pulled) = ask(consumer, wish).await?;
    let offers = consumer.line().register(link.number);
    let offers = offers.ok_or(PullError::Closed)?;
    let (sender, told) = Pulled::channel(wish.batch.get() as usize + 1, None);
    let relay = Relay {
        consumer: consumer.clone(),
        wish,
        deadline,
        sender,
    };
    let env = consumer.line().env.clone();
    env.spawn("session pull", relay.run(link, pulled, offers))
        .detach();
    Ok(told)
}

async fn ask<E: Env>(
    consumer: &SessionConsumer<E>,
    wish: Pull,
) -> Result<(Arc<Link<ConnectionOf<E>>>, Pulled), PullError> {
    let patience = Some(consumer.line().settings.connect.request_timeout);
    consumer
        .line()
        .run_on(patience, |link: Arc<Link<ConnectionOf<E>>>| async move {
            let consumer = consumer.on(&link.connection).ok_or(PullError::Closed)?;
            consumer.pull(wish).await
        })
        .await
}

struct Relay<E: Env> {
    consumer: SessionConsumer<E>,
    /// What is left of it.
    wish: Pull,
    deadline: Option<Instant>,
    sender: PulledSender,
}

impl<E: Env> Relay<E> {
    async fn run(
        mut self,
        link: Arc<Link<ConnectionOf<E>>>,
        pulled: Pulled,
        mut offers: Registration<ConnectionOf<E>>,
    ) {
        let mut from = (link, pulled);
        let end = loop {
            let sender = self.sender.clone();
            let event = tokio::select! {
                biased;
                () = sender.closed() => return,
                // It stays where it is as long as it can: what is offered matters only by its end.
                offer = offers.recv() => match offer {
                    Some(_) => continue,
                    None => break PullEnd::Disconnected,
                },
                event = from.1.next() => event,
            };
            match event {
                Some(PullEvent::Message(delivered)) => {
                    self.tell(PullEvent::Message(delivered));
                    match NonZeroU32::new(self.wish.batch.get() - 1) {
                        Some(left) => self.wish.batch = left,
                        None => break PullEnd::Full,
                    }
                }
                Some(PullEvent::Ended(PullEnd::Disconnected)) | None => {
                    let Some(rest) = self.rest() else {
                        break PullEnd::Expired;
                    };
                    match ask(&self.consumer, rest).await {
                        Ok(again) => from = again,
                        Err(_) => break PullEnd::Disconnected,
                    }
                }
                Some(PullEvent::Ended(end)) => break end,
            }
        };
        self.tell(PullEvent::Ended(end));
    }

    /// What is left of the wish; `None` where its time is over.
    fn rest(&self) -> Option<Pull> {
        let Some(deadline) = self.deadline else {
            return Some(self.wish);
        };
        let left = deadline.since(self.consumer.line().env.clock().now());
        let heartbeat = self
            .wish
            .heartbeat
            .filter(|heartbeat| *heartbeat * 2 <= left);
        (!left.is_zero()).then_some(Pull {
            expires: Some(left),
            heartbeat,
            ..self.wish
        })
    }

    fn tell(&self, event: PullEvent) {
        // It holds the whole batch and the end: there is room, unless nobody reads any more.
        let _gone = self.sender.try_send(event);
    }
}
