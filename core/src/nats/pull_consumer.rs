//! A pull consumer: its administration, and acknowledgements of what it delivered.

use std::sync::Arc;

use super::api::{CONSUMER_NOT_FOUND, Failure, too_large};
use super::connection::NatsConnection;
use super::consumer_config as settings;
use super::link::Shared;
use super::pull;
use crate::transport::{
    Ack, AckError, Connection as _, ConsumerConfig, ConsumerError, ConsumerInfo, Delivered,
    Message, PublishError, Pull, PullConsumer, PullError, Pulled, RequestError,
};

/// A pull consumer on real servers.
#[derive(Clone, Debug)]
pub struct NatsConsumer {
    connection: NatsConnection,
    stream: Arc<str>,
    name: Arc<str>,
}

impl NatsConsumer {
    pub(super) fn new(connection: NatsConnection, stream: &Arc<str>, name: &str) -> Self {
        Self {
            connection,
            stream: Arc::clone(stream),
            name: name.into(),
        }
    }
}

/// Creates it, or changes what may be changed of one that is there: the server knows which.
pub(super) async fn create(
    shared: &Shared,
    stream: &str,
    config: &ConsumerConfig,
) -> Result<(), ConsumerError> {
    let body = settings::request(stream, config);
    let name = format!("CONSUMER.CREATE.{stream}.{}", config.name);
    let created = shared.api(&name, Some(&body)).await;
    created.map(|_| ()).map_err(consumer_error)
}

pub(super) async fn delete(shared: &Shared, stream: &str, name: &str) -> Result<(), ConsumerError> {
    let name = format!("CONSUMER.DELETE.{stream}.{name}");
    let deleted = shared.api(&name, None).await;
    deleted.map(|_| ()).map_err(consumer_error)
}

impl PullConsumer for NatsConsumer {
    fn name(&self) -> &str {
        &self.name
    }

    async fn info(&self) -> Result<ConsumerInfo, ConsumerError> {
        let name = format!("CONSUMER.INFO.{}.{}", self.stream, self.name);
        let info = self.connection.shared().api(&name, None).await;
        settings::read_info(&info.map_err(consumer_error)?).ok_or(ConsumerError::TimedOut)
    }

    async fn pull(&self, wish: Pull) -> Result<Pulled, PullError> {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.name);
        pull::start(self.connection.shared(), subject, wish).await
    }

    async fn ack(&self, delivered: &Delivered, ack: Ack) -> Result<(), PublishError> {
        let message = Message::new(Arc::clone(&delivered.reply), ack.payload());
        self.connection.publish(message).await
    }

    async fn ack_confirmed(&self, delivered: &Delivered, ack: Ack) -> Result<(), AckError> {
        let shared = self.connection.shared();
        let timeout = shared.options.request_timeout;
        let heard = shared.request(&delivered.reply, None, ack.payload(), timeout);
        match heard.await {
            Ok(_) => Ok(()),
            Err(RequestError::Publish(error)) => Err(error.into()),
            Err(RequestError::NoResponders) => Err(AckError::NoConsumer),
            Err(RequestError::TimedOut) => Err(AckError::TimedOut),
            Err(RequestError::ClosedWhileWaiting) => Err(AckError::ClosedWhileWaiting),
        }
    }
}

fn consumer_error(failure: Failure) -> ConsumerError {
    if failure.is_not_found() {
        return ConsumerError::NoStream;
    }
    match failure {
        Failure::Api(error) if error.err_code == CONSUMER_NOT_FOUND => ConsumerError::NotFound,
        Failure::Api(error) => ConsumerError::Rejected(error),
        Failure::Request(RequestError::NoResponders) => ConsumerError::Unavailable,
        // The only local refusals: names that are too long, and settings that are too large.
        Failure::Request(RequestError::Publish(PublishError::InvalidSubject(name))) => {
            ConsumerError::InvalidName(name.to_string())
        }
        Failure::Request(RequestError::Publish(error @ PublishError::TooLarge { .. })) => {
            ConsumerError::Rejected(too_large(&error))
        }
        Failure::Request(RequestError::Publish(_) | RequestError::ClosedWhileWaiting) => {
            ConsumerError::Closed
        }
        Failure::Request(RequestError::TimedOut) => ConsumerError::TimedOut,
    }
}
