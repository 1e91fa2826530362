//! One client of NATS: publishing, subscribing, requests, and its ends.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc::error::TrySendError;

use super::admin;
use super::api::check_size;
use super::bucket::NatsBucket;
use super::link::Shared;
use crate::transport::names::{is_bucket, is_publish_subject, is_subscribe_subject};
use crate::transport::{
    BucketConfig, BucketError, Connection, ConnectionEvent, ConnectionId, ConnectionState, Events,
    FlushError, Headers, Login, Message, PublishError, RequestError, SubscribeError, Subscription,
    SubscriptionSender,
};

/// A connection to real servers.
#[derive(Clone)]
pub struct NatsConnection {
    owner: Arc<Owner>,
}

/// Closes when the last clone goes.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl std::fmt::Debug for NatsConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NatsConnection({})", self.id())
    }
}

impl NatsConnection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            owner: Arc::new(Owner(shared)),
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.owner.0
    }

    /// A message to one's own inbox comes back once the server has handled all that was sent before it.
    ///
    /// async-nats's own flush returns when the bytes are in the socket, though the server be frozen.
    async fn echo(&self) -> Option<()> {
        let client = self.shared().client()?;
        let inbox = client.new_inbox();
        let mut echo = client.subscribe(inbox.clone()).await.ok()?;
        client.publish(inbox, Bytes::new()).await.ok()?;
        echo.next().await.map(|_| ())
    }
}

impl Connection for NatsConnection {
    type Bucket = NatsBucket;

    fn id(&self) -> ConnectionId {
        self.shared().id
    }

    fn state(&self) -> ConnectionState {
        self.shared().state()
    }

    fn login(&self) -> Option<Login> {
        self.shared().login()
    }

    fn events(&self) -> Events {
        self.shared().listen()
    }

    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let client = self.shared().client().ok_or(PublishError::Closed)?;
        let headers = headers_out(&message.headers)?;
        for subject in [Some(&message.subject), message.reply.as_ref()]
            .into_iter()
            .flatten()
        {
            if !is_publish_subject(subject) {
                return Err(PublishError::InvalidSubject(Arc::clone(subject)));
            }
        }
        check_size(&client, headers.as_ref(), message.payload.len())?;
        let (subject, payload) = (message.subject.to_string(), message.payload);
        let queued = async {
            match (message.reply, headers) {
                (None, None) => client.publish(subject, payload).await,
                (None, Some(headers)) => {
                    client.publish_with_headers(subject, headers, payload).await
                }
                (Some(reply), None) => {
                    client
                        .publish_with_reply(subject, reply.to_string(), payload)
                        .await
                }
                (Some(reply), Some(headers)) => {
                    let reply = reply.to_string();
                    client
                        .publish_with_reply_and_headers(subject, reply, headers, payload)
                        .await
                }
            }
        };
        // All else was checked above: what is left is that the client is gone.
        match self.shared().until_closed(queued).await {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(PublishError::Closed),
        }
    }

    async fn request(&self, message: Message) -> Result<Message, RequestError> {
        let headers = headers_out(&message.headers)?;
        let timeout = self.shared().options.request_timeout;
        self.shared()
            .request(&message.subject, headers, message.payload, timeout)
            .await
            .map(message_in)
    }

    async fn subscribe(
        &self,
        subject: &str,
        queue: Option<&str>,
    ) -> Result<Subscription, SubscribeError> {
        for name in [Some(subject), queue].into_iter().flatten() {
            if !is_subscribe_subject(name) {
                return Err(SubscribeError::InvalidSubject(name.into()));
            }
        }
        let client = self.shared().client().ok_or(SubscribeError::Closed)?;
        let subscribed = async {
            match queue {
                None => client.subscribe(subject.to_owned()).await,
                Some(queue) => {
                    client
                        .queue_subscribe(subject.to_owned(), queue.into())
                        .await
                }
            }
        };
        let Some(Ok(subscriber)) = self.shared().until_closed(subscribed).await else {
            return Err(SubscribeError::Closed);
        };
        let capacity = self.shared().options.subscription_capacity;
        let (sender, subscription) = Subscription::channel(capacity, None);
        tokio::spawn(forward(Arc::clone(self.shared()), subscriber, sender));
        Ok(subscription)
    }

    async fn flush(&self) -> Result<(), FlushError> {
        let echo = tokio::time::timeout(self.shared().options.request_timeout, self.echo());
        match self.shared().until_closed(echo).await {
            Some(Ok(Some(()))) => Ok(()),
            Some(Err(_)) => Err(FlushError::TimedOut),
            Some(Ok(None)) | None => Err(FlushError::Closed),
        }
    }

    async fn drain(&self) -> Result<(), FlushError> {
        let shared = self.shared();
        // First a round trip: async-nats's drain ends at the next thing that arrives, be it only another's message.
        let flushed = self.flush().await;
        let client = shared.take_client().ok_or(FlushError::Closed)?;
        let mut link = shared.link_changes();
        let drained = async {
            client.drain().await.map_err(|_| FlushError::Closed)?;
            drop(client);
            // An error would mean that `shared` is gone, and we hold it.
            let _ = link.wait_for(|link| link.ended).await;
            Ok(())
        };
        let drained = match flushed {
            Ok(()) => tokio::time::timeout(shared.options.request_timeout, drained)
                .await
                .unwrap_or(Err(FlushError::TimedOut)),
            Err(error) => Err(error),
        };
        shared.close();
        drained
    }

    async fn reconnect(&self) {
        // While it is reconnecting async-nats would keep the command, and reconnect once more afterwards.
        if self.shared().link().up
            && let Some(client) = self.shared().client()
        {
            // Fails only where the client is gone; its queue may be full.
            let _ = self.shared().until_closed(client.force_reconnect()).await;
        }
    }

    async fn close(&self) {
        self.shared().close();
    }

    fn bucket(&self, name: &str) -> Result<NatsBucket, BucketError> {
        if !is_bucket(name) {
            return Err(BucketError::InvalidName(name.to_owned()));
        }
        Ok(NatsBucket::new(self.clone(), name))
    }

    async fn create_bucket(&self, config: &BucketConfig) -> Result<NatsBucket, BucketError> {
        let bucket = self.bucket(&config.bucket)?;
        admin::check(config)?;
        admin::create(self.shared(), config).await?;
        Ok(bucket)
    }

    async fn update_bucket(&self, config: &BucketConfig) -> Result<NatsBucket, BucketError> {
        let bucket = self.bucket(&config.bucket)?;
        admin::check(config)?;
        admin::update(self.shared(), config).await?;
        Ok(bucket)
    }

    async fn delete_bucket(&self, name: &str) -> Result<(), BucketError> {
        let bucket = self.bucket(name)?;
        admin::delete(self.shared(), bucket.stream()).await
    }
}

/// Hands messages on until the reader or the connection is gone. What has arrived is handed on first.
async fn forward(shared: Arc<Shared>, mut from: async_nats::Subscriber, to: SubscriptionSender) {
    let mut link = shared.link_changes();
    loop {
        let message = tokio::select! {
            biased;
            () = to.closed() => break,
            message = from.next() => message,
            _ = link.wait_for(|link| link.closed) => break,
        };
        let Some(message) = message else { break };
        match to.try_send(message_in(message)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => shared.tell(ConnectionEvent::SlowConsumer),
            Err(TrySendError::Closed(_)) => break,
        }
    }
}

/// Headers for async-nats, whose own conversions panic on what a header cannot hold.
pub(super) fn headers_out(headers: &Headers) -> Result<Option<HeaderMap>, PublishError> {
    if headers.is_empty() {
        return Ok(None);
    }
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        append(&mut map, name, value)?;
    }
    Ok(Some(map))
}

pub(super) fn append(map: &mut HeaderMap, name: &str, value: &str) -> Result<(), PublishError> {
    let invalid = || PublishError::InvalidHeader(name.into());
    let valid_name = HeaderName::from_str(name).map_err(|_| invalid())?;
    let value = HeaderValue::from_str(value).map_err(|_| invalid())?;
    map.append(valid_name, value);
    Ok(())
}

/// async-nats keeps no order between headers of different names: here they are in the order of their names.
pub(super) fn headers_in(map: &HeaderMap, wanted: impl Fn(&str) -> bool) -> Headers {
    let sorted: BTreeMap<&str, _> = map
        .iter()
        .map(|(name, values)| (name.as_ref(), values))
        .filter(|(name, _)| wanted(name))
        .collect();
    let mut headers = Headers::new();
    for (name, values) in sorted {
        for value in values {
            headers.append(name, value.as_str());
        }
    }
    headers
}

fn message_in(message: async_nats::Message) -> Message {
    let headers = message.headers.as_ref();
    let headers = headers.map_or_else(Headers::new, |map| headers_in(map, |_| true));
    Message {
        subject: message.subject.as_str().into(),
        reply: message.reply.map(|reply| reply.as_str().into()),
        headers,
        payload: message.payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_would_panic_inside_async_nats_are_refused() {
        for (name, value) in [("a\r\nb", "c"), ("a", "b\r\nc"), ("a:b", "c"), ("ä", "c")] {
            let mut headers = Headers::new();
            headers.append(name, value);
            let error = headers_out(&headers).expect_err("it cannot be sent");
            assert_eq!(error, PublishError::InvalidHeader(name.into()));
        }
    }

    #[test]
    fn several_values_of_one_header_arrive_in_order() {
        let mut headers = Headers::new();
        for (name, value) in [("B", "1"), ("A", "2"), ("B", "3")] {
            headers.append(name, value);
        }
        let map = headers_out(&headers).expect("they are valid");
        let message = message_in(async_nats::Message {
            subject: "s".into(),
            reply: None,
            payload: Bytes::new(),
            headers: map,
            status: None,
            description: None,
            length: 0,
        });
        let read: Vec<_> = message.headers.iter().collect();
        assert_eq!(read, [("A", "2"), ("B", "1"), ("B", "3")]);
    }
}
