//! Streams as seen from a connection: their administration, and publishing into them.

use std::sync::Arc;

use async_nats::HeaderMap;
use serde_json::Value;

use super::admin;
use super::api::{Failure, STREAM_NAME_IN_USE, WRONG_LAST_MESSAGE_ID, actual_revision, too_large};
use super::connection::{NatsConnection, append, headers_out};
use super::link::Shared;
use super::stream::NatsStream;
use super::stream_config as settings;
use crate::transport::names::is_bucket;
use crate::transport::{
    ApiError, Headers, JetStream, Message, MessageTtl, PublishError, RequestError, Sequence,
    StoreAck, StoreError, StoreOptions, StreamConfig, StreamError, StreamInfo,
};

impl JetStream for NatsConnection {
    type Stream = NatsStream;

    fn stream(&self, name: &str) -> Result<NatsStream, StreamError> {
        if !is_bucket(name) {
            return Err(StreamError::InvalidName(name.to_owned()));
        }
        Ok(NatsStream::new(self.clone(), name))
    }

    async fn create_stream(&self, config: &StreamConfig) -> Result<NatsStream, StreamError> {
        let stream = self.stream(&config.name)?;
        ttl_possible(self.shared(), config)?;
        let body = settings::fresh(config);
        match call(self.shared(), "CREATE", &config.name, Some(&body)).await {
            Ok(_) => Ok(stream),
            // It may differ in what a configuration here does not name.
            Err(Failure::Api(error)) if error.err_code == STREAM_NAME_IN_USE => {
                let found = admin::info(self.shared(), &config.name);
                let found = found.await.map_err(stream_error)?;
                if settings::read(&found["config"]) == settings::as_created(config) {
                    Ok(stream)
                } else {
                    Err(StreamError::Exists)
                }
            }
            Err(failure) => Err(stream_error(failure)),
        }
    }

    async fn update_stream(&self, config: &StreamConfig) -> Result<StreamInfo, StreamError> {
        self.stream(&config.name)?;
        ttl_possible(self.shared(), config)?;
        let found = admin::info(self.shared(), &config.name);
        let mut body = found.await.map_err(stream_error)?["config"].take();
        settings::merge(&mut body, config);
        let updated = call(self.shared(), "UPDATE", &config.name, Some(&body)).await;
        settings::read_info(&updated.map_err(stream_error)?).ok_or(StreamError::TimedOut)
    }

    async fn delete_stream(&self, name: &str) -> Result<(), StreamError> {
        self.stream(name)?;
        let deleted = call(self.shared(), "DELETE", name, None).await;
        deleted.map(|_| ()).map_err(stream_error)
    }

    async fn store(&self, message: Message, options: StoreOptions) -> Result<StoreAck, StoreError> {
        if options.ttl.is_some() {
            ttl_honoured(self.shared()).map_err(|refused| {
                refused.map_or_else(|| PublishError::Closed.into(), StoreError::Rejected)
            })?;
        }
        let headers = || store_headers(&message.headers, &options);
        let timeout = self.shared().options.ack_timeout;
        let shared = self.shared();
        let ack = shared
            .store(&message.subject, headers, message.payload, timeout)
            .await;
        ack.map_err(|failure| match failure {
            Failure::Api(error) => refusal(error),
            Failure::Request(error) => store_error(error),
        })
    }
}

/// A request about one stream.
pub(super) async fn call(
    shared: &Shared,
    verb: &str,
    stream: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    shared.api(&format!("STREAM.{verb}.{stream}"), body).await
}

/// Servers before 2.11 take the settings for unknown ones and ignore them.
fn ttl_possible(shared: &Shared, config: &StreamConfig) -> Result<(), StreamError> {
    if !config.allow_message_ttl && config.subject_delete_markers.is_none() {
        return Ok(());
    }
    let client = shared.client().ok_or(StreamError::Closed)?;
    if client.is_server_compatible(2, 11, 0) {
        return Ok(());
    }
    Err(StreamError::Rejected(ApiError {
        code: 400,
        err_code: 0,
        description: "message TTLs and delete markers need nats-server 2.11 or later".into(),
    }))
}

/// Servers before 2.11 ignore the header, and keep for ever what was to go. Said as later ones say it of a stream without
/// message TTLs; `None` where the connection is closed.
pub(super) fn ttl_honoured(shared: &Shared) -> Result<(), Option<ApiError>> {
    let client = shared.client().ok_or(None)?;
    if client.is_server_compatible(2, 11, 0) {
        return Ok(());
    }
    Err(Some(ApiError {
        code: 400,
        err_code: 10166,
        description: "per-message TTL is disabled".into(),
    }))
}

/// `Nats-TTL`: whole seconds, never fewer than were meant.
pub(super) fn ttl_header(ttl: MessageTtl) -> String {
    match ttl {
        MessageTtl::For(life) => {
            let whole = life.as_secs() + u64::from(life.subsec_nanos() > 0);
            whole.max(1).to_string()
        }
        MessageTtl::Never => "never".to_owned(),
    }
}

/// What a message has, and what is demanded of it.
fn store_headers(
    headers: &Headers,
    options: &StoreOptions,
) -> Result<Option<HeaderMap>, PublishError> {
    let sequence = |sequence: Option<Sequence>| sequence.map(|sequence| sequence.to_string());
    let last = sequence(options.expected_last_sequence);
    let last_of_subject = sequence(options.expected_last_subject_sequence);
    let ttl = options.ttl.map(ttl_header);
    let last_id = &options.expected_last_message_id;
    let demands = [
        ("Nats-Msg-Id", &options.message_id),
        ("Nats-Expected-Stream", &options.expected_stream),
        ("Nats-Expected-Last-Sequence", &last),
        ("Nats-Expected-Last-Subject-Sequence", &last_of_subject),
        ("Nats-Expected-Last-Msg-Id", last_id),
        ("Nats-TTL", &ttl),
    ];
    let mut map = headers_out(headers)?;
    for (name, value) in demands {
        if let Some(value) = value {
            append(map.get_or_insert_default(), name, value)?;
        }
    }
    Ok(map)
}

fn refusal(error: ApiError) -> StoreError {
    if let Some(actual) = actual_revision(&error) {
        let actual = actual.into();
        return StoreError::WrongLastSequence { actual };
    }
    match error.description.split_once(": ") {
        Some((_, actual)) if error.err_code == WRONG_LAST_MESSAGE_ID => {
            let actual = Arc::from(actual);
            StoreError::WrongLastMessageId { actual }
        }
        _ => StoreError::Rejected(error),
    }
}

fn store_error(error: RequestError) -> StoreError {
    match error {
        RequestError::Publish(error) => StoreError::Publish(error),
        RequestError::NoResponders => StoreError::NoStream,
        RequestError::TimedOut => StoreError::TimedOut,
        RequestError::ClosedWhileWaiting => StoreError::ClosedWhileWaiting,
    }
}

pub(super) fn stream_error(failure: Failure) -> StreamError {
    if failure.is_not_found() {
        return StreamError::NotFound;
    }
    match failure {
        Failure::Api(error) => StreamError::Rejected(error),
        Failure::Request(RequestError::NoResponders) => StreamError::Unavailable,
        // The only local refusals: a name that is too long, and a configuration that is too large.
        Failure::Request(RequestError::Publish(PublishError::InvalidSubject(name))) => {
            StreamError::InvalidName(name.to_string())
        }
        Failure::Request(RequestError::Publish(error @ PublishError::TooLarge { .. })) => {
            StreamError::Rejected(too_large(&error))
        }
        Failure::Request(RequestError::Publish(_) | RequestError::ClosedWhileWaiting) => {
            StreamError::Closed
        }
        Failure::Request(RequestError::TimedOut) => StreamError::TimedOut,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_life_is_never_shorter_than_was_meant() {
        let header = |millis| ttl_header(MessageTtl::For(Duration::from_millis(millis)));
        assert_eq!(
            [0, 500, 1000, 1001, 1900].map(header),
            ["1", "1", "1", "2", "2"]
        );
        assert_eq!(ttl_header(MessageTtl::Never), "never");
    }

    #[test]
    fn refusals_name_what_is_there() {
        let refused = |err_code, text: &str| {
            refusal(ApiError {
                code: 400,
                err_code,
                description: text.into(),
            })
        };
        let actual = Sequence(7);
        let wrong = refused(10071, "wrong last sequence: 7");
        assert_eq!(wrong, StoreError::WrongLastSequence { actual });
        let id = |id: &str| StoreError::WrongLastMessageId { actual: id.into() };
        assert_eq!(refused(10070, "wrong last msg ID: a: b"), id("a: b"));
        assert_eq!(refused(10070, "wrong last msg ID: "), id(""));
        let full = refused(10077, "maximum bytes exceeded");
        assert!(matches!(full, StoreError::Rejected(error) if error.err_code == 10077));
    }
}
