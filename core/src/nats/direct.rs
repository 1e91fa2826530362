//! Reads of stored messages: direct gets, which any server with a copy answers.

use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::api::{Failure, check_size, header, status_error, too_large};
use super::connection::headers_in;
use super::link::{Link, Shared};
use crate::time::UnixTime;
use crate::transport::{
    Headers, PublishError, ReadStreamError, RequestError, Sequence, StoredMessage,
};

/// What the server adds to the headers of a message that it reads.
const ADDED: [&str; 7] = [
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Time-Stamp",
    "Nats-Num-Pending",
    "Nats-Last-Sequence",
    "Nats-UpTo-Sequence",
];
/// Pause before a batch that was interrupted begins again.
const BATCH_PAUSE: Duration = Duration::from_millis(50);

/// The one message that is asked for.
pub(super) async fn get(
    shared: &Shared,
    stream: &str,
    wish: &Value,
) -> Result<Option<StoredMessage>, ReadStreamError> {
    let subject = address(stream);
    let timeout = shared.options.request_timeout;
    let answer = shared.request(&subject, None, wish.to_string().into(), timeout);
    let answer = answer
        .await
        .map_err(|error| read_error(Failure::Request(error)))?;
    match answer.status.map(|status| status.as_u16()) {
        None => stored(&answer).map(Some).ok_or(ReadStreamError::TimedOut),
        Some(404) => Ok(None),
        Some(_) => Err(ReadStreamError::Rejected(status_error(&answer))),
    }
}

/// The last message of each subject that matches, complete or an error.
///
/// The answers are messages of their own, and those of an interrupted batch may come in part: each names the one before
/// it, so that a missing one is noticed, and the batch begins again.
pub(super) async fn last_of(
    shared: &Shared,
    stream: &str,
    filters: &Value,
) -> Result<Vec<StoredMessage>, ReadStreamError> {
    let complete = async {
        loop {
            if let Some(messages) = last_of_once(shared, stream, filters).await? {
                return Ok(messages);
            }
            tokio::time::sleep(BATCH_PAUSE).await;
        }
    };
    let bounded = tokio::time::timeout(shared.options.request_timeout, complete);
    match shared.until_closed(bounded).await {
        Some(Ok(read)) => read,
        Some(Err(_)) => Err(ReadStreamError::TimedOut),
        None => Err(ReadStreamError::Closed),
    }
}

/// `None` where it was interrupted.
async fn last_of_once(
    shared: &Shared,
    stream: &str,
    filters: &Value,
) -> Result<Option<Vec<StoredMessage>>, ReadStreamError> {
    let mut messages: Vec<StoredMessage> = Vec::new();
    let mut wish = json!({ "multi_last": filters });
    let mut link = shared.link_changes();
    // An error would mean that `shared` is gone.
    let _ = link.wait_for(|link| link.up || link.closed).await;
    let generation = link.borrow().generation;
    loop {
        let mut answers = ask(shared, stream, &wish).await?;
        let before = messages.len();
        let part = read_part(shared, generation, &mut answers, &mut messages);
        let Some(part) = part.await? else {
            return Ok(None);
        };
        // The server ends a batch early where it is large. (Of nothing more to come 2.11 says 1.)
        if part.pending == 0 || messages.len() == before {
            return Ok(Some(messages));
        }
        wish["seq"] = messages
            .last()
            .map_or(0, |last| last.sequence.next().0)
            .into();
        wish["up_to_seq"] = part.up_to.into();
    }
}

/// The end of a batch.
struct Part {
    /// What would still have matched.
    pending: u64,
    /// The last sequence that it looked at.
    up_to: u64,
}

async fn ask(shared: &Shared, stream: &str, wish: &Value) -> Result<Subscriber, ReadStreamError> {
    let client = shared.client().ok_or(ReadStreamError::Closed)?;
    let payload = Bytes::from(wish.to_string());
    check_size(&client, None, payload.len())
        .map_err(|error| read_error(Failure::Request(error.into())))?;
    let inbox = client.new_inbox();
    let closed = |_| ReadStreamError::Closed;
    let answers = client.subscribe(inbox.clone()).await.map_err(closed)?;
    let sent = client.publish_with_reply(address(stream), inbox, payload);
    sent.await.map_err(|_| ReadStreamError::Closed)?;
    Ok(answers)
}

/// Reads one batch to its end; `None` where something is missing.
async fn read_part(
    shared: &Shared,
    generation: u64,
    answers: &mut Subscriber,
    messages: &mut Vec<StoredMessage>,
) -> Result<Option<Part>, ReadStreamError> {
    // Of what was sent in this batch.
    let mut last = 0;
    loop {
        let other_link = |link: &Link| !link.up || link.generation != generation;
        let Some(answer) = shared.until(other_link, answers.next()).await else {
            return Ok(None);
        };
        let answer = answer.ok_or(ReadStreamError::Closed)?;
        let number = |name| header(&answer, name).and_then(|text| text.parse::<u64>().ok());
        match answer.status.map(|status| status.as_u16()) {
            None => {
                let message = stored(&answer).ok_or(ReadStreamError::TimedOut)?;
                if number("Nats-Last-Sequence") != Some(last) {
                    return Ok(None);
                }
                last = message.sequence.0;
                messages.push(message);
            }
            Some(204) => {
                if number("Nats-Last-Sequence") != Some(last) {
                    return Ok(None);
                }
                let pending = number("Nats-Num-Pending").unwrap_or(0);
                let up_to = number("Nats-UpTo-Sequence").unwrap_or(0);
                return Ok(Some(Part { pending, up_to }));
            }
            // A message that was to come has just gone.
            Some(404) if answer.description.as_deref() != Some("No Results") => return Ok(None),
            Some(404) => {
                let (pending, up_to) = (0, 0);
                return Ok(Some(Part { pending, up_to }));
            }
            Some(503) => return Err(ReadStreamError::NoStream),
            Some(_) => return Err(ReadStreamError::Rejected(status_error(&answer))),
        }
    }
}

fn address(stream: &str) -> String {
    format!("$JS.API.DIRECT.GET.{stream}")
}

/// What the answer to a direct get holds.
fn stored(answer: &Message) -> Option<StoredMessage> {
    Some(StoredMessage {
        subject: header(answer, "Nats-Subject")?.into(),
        headers: answer.headers.as_ref().map_or_else(Headers::new, |map| {
            headers_in(map, |name| !ADDED.contains(&name))
        }),
        payload: answer.payload.clone(),
        sequence: Sequence(header(answer, "Nats-Sequence")?.parse().ok()?),
        time: UnixTime::parse_rfc3339(header(answer, "Nats-Time-Stamp")?).ok()?,
    })
}

pub(super) fn read_error(failure: Failure) -> ReadStreamError {
    if failure.is_not_found() {
        return ReadStreamError::NoStream;
    }
    match failure {
        Failure::Api(error) => ReadStreamError::Rejected(error),
        Failure::Request(RequestError::NoResponders) => ReadStreamError::NoStream,
        Failure::Request(RequestError::Publish(PublishError::InvalidSubject(subject))) => {
            ReadStreamError::InvalidSubject(subject)
        }
        // So many filters: the server would say no more than that it is too large.
        Failure::Request(RequestError::Publish(error @ PublishError::TooLarge { .. })) => {
            ReadStreamError::Rejected(too_large(&error))
        }
        Failure::Request(RequestError::Publish(_) | RequestError::ClosedWhileWaiting) => {
            ReadStreamError::Closed
        }
        Failure::Request(RequestError::TimedOut) => ReadStreamError::TimedOut,
    }
}
