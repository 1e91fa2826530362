//! Requests, and what JetStream answers to them: its errors, acknowledgements and stored records.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::oneshot::error::RecvError;
use tokio::time::Instant;

use super::link::Shared;
use crate::time::UnixTime;
use crate::transport::names::is_publish_subject;
use crate::transport::{
    ApiError, KvEntry, Operation, PublishError, RequestError, Revision, Sequence, StoreAck,
};

/// A request to JetStream failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It answered with an error.
    Api(ApiError),
    /// It did not answer.
    Request(RequestError),
}

impl Failure {
    /// Whether there is no such stream.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(error) if error.err_code == STREAM_NOT_FOUND)
    }
}

pub(super) const STREAM_NOT_FOUND: u64 = 10059;
pub(super) const STREAM_NAME_IN_USE: u64 = 10058;
pub(super) const CONSUMER_NOT_FOUND: u64 = 10014;
pub(super) const SEQUENCE_NOT_FOUND: u64 = 10043;
pub(super) const MESSAGE_DELETE_FAILED: u64 = 10057;
pub(super) const WRONG_LAST_MESSAGE_ID: u64 = 10070;
const WRONG_LAST_SEQUENCE: u64 = 10071;
/// "Wrong last sequence", and not which is: in a cluster, another message of this subject is on its way to the copies, and
/// whether it will be the last is not decided.
const LAST_SEQUENCE_UNDECIDED: u64 = 10164;
/// "Duplicate message id is in process": one of this id is on its way to the copies, and whether it will be stored is not
/// decided.
const DUPLICATE_UNDECIDED: u64 = 10158;

/// What is not decided is asked again after so long: a round between the servers takes about as much.
const UNDECIDED_PAUSE: Duration = Duration::from_millis(5);

impl Shared {
    /// A message out and the first answer to it, whatever its status, within `timeout`.
    pub(super) async fn request(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        let Some(client) = self.client() else {
            return Err(PublishError::Closed.into());
        };
        if !is_publish_subject(subject) {
            return Err(PublishError::InvalidSubject(subject.into()).into());
        }
        check_size(&client, headers.as_ref(), payload.len())?;
        let mut request = async_nats::Request::new().payload(payload).timeout(None);
        request.headers = headers;
        // They are large: pinned where they are made, they are not copied into each of the futures around them.
        let answer = pin!(client.send_request(subject.to_owned(), request));
        let answer = pin!(tokio::time::timeout(timeout, answer));
        match self.until_closed(answer).await {
            None => Err(RequestError::ClosedWhileWaiting),
            Some(Err(_)) => Err(RequestError::TimedOut),
            Some(Ok(Ok(message))) => Ok(message),
            Some(Ok(Err(error))) => Err(match error.kind() {
                async_nats::RequestErrorKind::NoResponders => RequestError::NoResponders,
                async_nats::RequestErrorKind::TimedOut => RequestError::TimedOut,
                _ if was_waiting(&error) => RequestError::ClosedWhileWaiting,
                _ => PublishError::Closed.into(),
            }),
        }
    }

    /// A message for a stream, and its acknowledgement, within `timeout`.
    ///
    /// What the server cannot judge yet is put to it again until it can. Each refusal is one: the message is stored once, or
    /// not at all; but where one of the same id was on its way to the end, nobody knows whether that is. Its headers are made
    /// for each attempt: mostly there is but one.
    pub(super) async fn store(
        &self,
        subject: &str,
        headers: impl Fn() -> Result<Option<HeaderMap>, PublishError> + Send + Sync,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<StoreAck, Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            let headers = headers().map_err(|error| Failure::Request(error.into()))?;
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.request(subject, headers, payload.clone(), left).await;
            let ack = read_ack(&answer.map_err(Failure::Request)?.payload);
            let code = match &ack {
                Err(Failure::Api(error)) => error.err_code,
                _ => return ack,
            };
            let is_late = Instant::now() + UNDECIDED_PAUSE >= deadline;
            match code {
                LAST_SEQUENCE_UNDECIDED | DUPLICATE_UNDECIDED if !is_late => {}
                DUPLICATE_UNDECIDED => return Err(Failure::Request(RequestError::TimedOut)),
                _ => return ack,
            }
            tokio::time::sleep(UNDECIDED_PAUSE).await;
        }
    }

    /// A request to the JetStream API, by its name without `$JS.API.`.
    pub(super) async fn api(&self, name: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let payload = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let subject = format!("$JS.API.{name}");
        let answer = self
            .request(&subject, None, payload, self.options.request_timeout)
            .await
            .map_err(Failure::Request)?;
        read_answer(&answer.payload)
    }

    /// A request of which nobody awaits the answer, not even whether it was sent.
    pub(super) fn api_best_effort(&self, name: &str) {
        if let Some(client) = self.client() {
            let subject = format!("$JS.API.{name}");
            tokio::spawn(async move {
                let reply = client.new_inbox();
                // Best effort: what it would tidy up goes by itself in 30 s.
                let _ = client
                    .publish_with_reply(subject, reply, Bytes::new())
                    .await;
            });
        }
    }
}

/// Whether the message had been handed over when the client ended.
fn was_waiting(error: &async_nats::RequestError) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<RecvError>)
}

/// Refuses what the server would not take.
pub(super) fn check_size(
    client: &async_nats::Client,
    headers: Option<&HeaderMap>,
    payload: usize,
) -> Result<(), PublishError> {
    let (size, limit) = (payload + headers.map_or(0, wire_len), client.max_payload());
    if size > limit {
        return Err(PublishError::TooLarge { size, limit });
    }
    Ok(())
}

fn wire_len(headers: &HeaderMap) -> usize {
    if headers.is_empty() {
        return 0;
    }
    let lines: usize = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
        .map(|(name, value)| AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4)
        .sum();
    "NATS/1.0\r\n".len() + lines + "\r\n".len()
}

/// The answer of the API, or its error. What is no JSON came from somebody else: it answers nothing.
fn read_answer(payload: &[u8]) -> Result<Value, Failure> {
    let Ok(mut answer) = serde_json::from_slice::<Value>(payload) else {
        return Err(Failure::Request(RequestError::TimedOut));
    };
    match answer.get_mut("error").map(Value::take) {
        Some(error) => Err(api_error(&error)),
        None => Ok(answer),
    }
}

fn api_error(error: &Value) -> Failure {
    Failure::Api(ApiError {
        code: error["code"].as_u64().unwrap_or(0) as u16,
        err_code: error["err_code"].as_u64().unwrap_or(0),
        description: error["description"].as_str().unwrap_or_default().into(),
    })
}

/// The acknowledgement of a write, read without a detour: it comes with every one.
#[derive(Deserialize)]
struct WriteAnswer<'a> {
    #[serde(default, borrow)]
    stream: Cow<'a, str>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<Value>,
}

/// The acknowledgement of a write, or its refusal. What names no place in a stream came from somebody else: it answers
/// nothing.
pub(super) fn read_ack(payload: &[u8]) -> Result<StoreAck, Failure> {
    let nothing = || Failure::Request(RequestError::TimedOut);
    let answer: WriteAnswer<'_> = serde_json::from_slice(payload).map_err(|_| nothing())?;
    if let Some(error) = &answer.error {
        return Err(api_error(error));
    }
    if answer.seq == 0 || answer.stream.is_empty() {
        return Err(nothing());
    }
    Ok(StoreAck {
        stream: answer.stream.into(),
        sequence: Sequence(answer.seq),
        duplicate: answer.duplicate,
    })
}

/// The latest revision of the key, in the refusal of a conditional write.
pub(super) fn actual_revision(error: &ApiError) -> Option<Revision> {
    if error.err_code != WRONG_LAST_SEQUENCE {
        return None;
    }
    let (_, actual) = error.description.rsplit_once(' ')?;
    actual.parse().ok().map(Revision)
}

/// A question that is too large to be asked, in the server's manner.
pub(super) fn too_large(error: &PublishError) -> ApiError {
    ApiError {
        code: 400,
        err_code: 0,
        description: error.to_string().into(),
    }
}

/// What a status message says, as an error: it knows no number of NATS' own.
pub(super) fn status_error(message: &Message) -> ApiError {
    ApiError {
        code: message.status.map_or(0, |status| status.as_u16()),
        err_code: 0,
        description: message.description.as_deref().unwrap_or_default().into(),
    }
}

/// A header, if it is there.
pub(super) fn header<'a>(message: &'a Message, name: &'static str) -> Option<&'a str> {
    let value = message.headers.as_ref()?.get(name)?;
    Some(value.as_str())
}

/// What the headers of a record say that it is.
pub(super) fn operation<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> Operation {
    match (header("Nats-Marker-Reason"), header("KV-Operation")) {
        (Some("MaxAge"), _) => Operation::Expire,
        (Some("Purge"), _) | (_, Some("PURGE")) => Operation::Purge,
        (Some(_), _) | (_, Some("DEL")) => Operation::Delete,
        _ => Operation::Put,
    }
}

/// A record as delivered or read, at this revision and time of storing.
pub(super) fn record(
    message: &Message,
    key: Arc<str>,
    revision: Revision,
    created: UnixTime,
) -> KvEntry {
    let operation = operation(|name| header(message, name));
    let value = match operation {
        Operation::Put => message.payload.clone(),
        _ => Bytes::new(),
    };
    KvEntry {
        key,
        value,
        revision,
        operation,
        created,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_condition_names_the_actual_revision() {
        let answer = br#"{"error":{"code":400,"err_code":10071,
            "description":"wrong last sequence: 17"},"stream":"KV_b","seq":0}"#;
        let Err(Failure::Api(error)) = read_ack(answer) else {
            panic!("it is an error of the API");
        };
        assert_eq!(actual_revision(&error), Some(Revision(17)));
        let other = ApiError {
            err_code: 10077,
            ..error
        };
        assert_eq!(actual_revision(&other), None);
    }

    #[test]
    fn acknowledgements_are_read_in_every_spelling() {
        let ack = |sequence, duplicate| StoreAck {
            stream: "S".into(),
            sequence: Sequence(sequence),
            duplicate,
        };
        let plain = read_ack(br#"{"stream":"S", "seq":3}"#);
        assert_eq!(plain.ok(), Some(ack(3, false)));
        let duplicate = read_ack(br#"{"stream":"S","seq":3,"duplicate": true,"domain":"d"}"#);
        assert_eq!(duplicate.ok(), Some(ack(3, true)));
    }

    #[test]
    fn an_answer_from_somebody_else_is_no_answer() {
        for payload in [
            &b"hello"[..],
            b"{}",
            br#"{"seq":1}"#,
            br#"{"stream":"S","seq":0}"#,
        ] {
            assert!(matches!(
                read_ack(payload),
                Err(Failure::Request(RequestError::TimedOut))
            ));
        }
    }
}
