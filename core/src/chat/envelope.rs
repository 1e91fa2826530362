//! What is said in a chat: [`Envelope`], its JSON, the thread it belongs to, and the subjects of both.
//!
//! A thread's id is eight hexadecimal digits, so two names may share one: among 9 300 threads of a project that has
//! happened with a chance of one in a hundred. Therefore each message also tells the name of its thread, in a header, and
//! nothing is ever counted to a thread by the id alone where a name is known.

use std::fmt;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::trace::{TRACEPARENT, TraceParent};
use crate::time::UnixTime;
use crate::transport::{Headers, Message, Sequence, StoredMessage, names};

/// The header that tells a thread's name, as a JSON string.
const THREAD_NAME: &str = "Squall-Thread-Name";

/// Bytes of a thread's name: it travels with every message.
pub(super) const NAME_LEN_MAX: usize = 256;

/// Bytes of an envelope beside its body, as most are.
const ENVELOPE_LEN: usize = 192;

/// Bytes of a hash that make up a thread's id.
const ID_BYTES: usize = 4;

/// One message of a chat, in JSON with these names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Unlike that of any other message; also its message id, under which it is stored once.
    pub id: String,
    /// Who says it.
    pub from: String,
    /// In which thread.
    pub thread: ThreadId,
    /// What.
    pub body: String,
    /// When, by the sender's wall clock. For people: order is the stream's.
    pub timestamp: UnixTime,
    /// The id of the message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
}

/// The short name of a thread: the first eight hexadecimal digits of the SHA-256 of `<project>:<name>`. The same for
/// everybody and for ever.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ThreadId(Arc<str>);

impl ThreadId {
    /// That of the thread of this name.
    pub fn of(project: &str, name: &str) -> Self {
        let hash = Sha256::new()
            .chain_update(project)
            .chain_update(":")
            .chain_update(name)
            .finalize();
        let head = hash.get(..ID_BYTES).unwrap_or_default();
        Self(HEXLOWER.encode(head).into())
    }

    /// Its eight digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadId({})", self.0)
    }
}

impl From<ThreadId> for String {
    fn from(id: ThreadId) -> Self {
        id.0.as_ref().to_owned()
    }
}

/// Not eight lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a thread: {0:?}")]
pub struct NotAThreadId(pub String);

impl TryFrom<String> for ThreadId {
    type Error = NotAThreadId;

    fn try_from(text: String) -> Result<Self, NotAThreadId> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == ID_BYTES * 2 && text.bytes().all(is_digit) {
            Ok(Self(text.into()))
        } else {
            Err(NotAThreadId(text))
        }
    }
}

/// A thread that has been found to be nobody else's: made by [`Chat::thread`](super::Chat::thread).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thread {
    pub(super) id: ThreadId,
    pub(super) name: Arc<str>,
    /// Where it is published.
    subject: Arc<str>,
    /// With what: made once, as it is wanted for each message.
    headers: Headers,
}

impl Thread {
    pub(super) fn new(project: &str, id: ThreadId, name: Arc<str>) -> Self {
        let mut headers = Headers::new();
        // A string cannot fail to become JSON.
        headers.append(
            THREAD_NAME,
            serde_json::to_string(&*name).unwrap_or_default(),
        );
        Self {
            subject: subject(project, &id).into(),
            headers,
            id,
            name,
        }
    }

    /// The message that carries an envelope to it.
    pub(super) fn message(&self, envelope: &Envelope, trace: Option<&TraceParent>) -> Message {
        let mut headers = self.headers.clone();
        if let Some(trace) = trace {
            headers.append(TRACEPARENT, trace.to_string());
        }
        // Mostly all of it, so that it does not grow again and again.
        let mut json = Vec::with_capacity(envelope.body.len() + ENVELOPE_LEN);
        let is_written = serde_json::to_writer(&mut json, envelope).is_ok();
        debug_assert!(is_written, "it is written into memory");
        Message {
            subject: Arc::clone(&self.subject),
            reply: None,
            headers,
            payload: json.into(),
        }
    }

    /// Its id.
    pub fn id(&self) -> &ThreadId {
        &self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// An envelope as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// What was said.
    pub envelope: Envelope,
    /// The name of its thread; `None` where its sender does not tell, as other programs may not.
    pub name: Option<String>,
    /// Its place in the stream: the order of all that was said.
    pub sequence: Sequence,
    /// When it was stored, by the server's wall clock.
    pub stored: UnixTime,
    /// What the sender was doing.
    pub trace: Option<TraceParent>,
}

impl Envelope {
    /// The message that carries it: in this project, to the thread of this name.
    pub fn message(&self, project: &str, name: &str, trace: Option<&TraceParent>) -> Message {
        Thread::new(project, self.thread.clone(), name.into()).message(self, trace)
    }
}

impl Received {
    /// Reads a message of the stream of this project; `None` where it is no envelope, or one of another thread's subject.
    pub fn decode(project: &str, message: &StoredMessage) -> Option<Self> {
        if !message.payload.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        let envelope: Envelope = serde_json::from_slice(&message.payload).ok()?;
        let is_at_home = message
            .subject
            .strip_prefix("chat.")?
            .strip_prefix(project)?
            .strip_prefix('.')?
            == envelope.thread.as_str();
        is_at_home.then(|| Self {
            envelope,
            name: name_of(&message.headers),
            sequence: message.sequence,
            stored: message.time,
            trace: message
                .headers
                .get(TRACEPARENT)
                .and_then(|text| text.parse().ok()),
        })
    }
}

/// The name of the thread that a message says it belongs to.
pub(super) fn name_of(headers: &Headers) -> Option<String> {
    serde_json::from_str(headers.get(THREAD_NAME)?).ok()
}

/// The name of a project's stream.
pub fn stream(project: &str) -> String {
    format!("chat-{project}")
}

/// What a project's stream stores, and what to watch for all of it.
pub fn all(project: &str) -> String {
    format!("chat.{project}.>")
}

/// Where a thread's envelopes are published.
pub fn subject(project: &str, thread: &ThreadId) -> String {
    format!("chat.{project}.{thread}")
}

/// Where an agent is asked.
pub fn ask_subject(project: &str, agent: &str) -> String {
    format!("{project}.ask.{agent}")
}

/// Whether a pattern of subjects lies within a project's stream.
pub(super) fn is_pattern(project: &str, pattern: &str) -> bool {
    let within = pattern
        .strip_prefix("chat.")
        .and_then(|rest| rest.strip_prefix(project))
        .and_then(|rest| rest.strip_prefix('.'));
    within.is_some_and(names::is_filter)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            id: "1-1".to_owned(),
            from: "alice".to_owned(),
            thread: ThreadId::of("demo", "deploy"),
            body: "hello".to_owned(),
            timestamp: UnixTime::from_secs(1_700_000_000),
            reply_to: None,
        }
    }

    fn stored(message: Message) -> StoredMessage {
        StoredMessage {
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
            sequence: Sequence(7),
            time: UnixTime::from_secs(1_700_000_001),
        }
    }

    /// Computed with `printf demo:deploy | sha256sum`: everybody must come to the same.
    #[test]
    fn the_id_of_a_thread_never_changes() {
        assert_eq!(ThreadId::of("demo", "deploy").as_str(), DEPLOY);
        assert_eq!(
            ThreadId::try_from(DEPLOY.to_owned()),
            Ok(ThreadId::of("demo", "deploy"))
        );
        for no in ["", "12345678a", "1234567", "ABCDEF01", "ghijklmn", "*"] {
            assert!(ThreadId::try_from(no.to_owned()).is_err(), "{no:?}");
        }
    }

    const DEPLOY: &str = "6a506921";

    #[test]
    fn an_envelope_has_the_names_that_others_read() {
        let json = serde_json::to_string(&Envelope {
            reply_to: Some("0-9".to_owned()),
            ..envelope()
        });
        let expected = format!(
            r#"{{"id":"1-1","from":"alice","thread":"{DEPLOY}","body":"hello","timestamp":"2023-11-14T22:13:20Z","reply_to":"0-9"}}"#
        );
        assert_eq!(json.expect("it is JSON"), expected);
    }

    #[test]
    fn what_is_sent_is_read_back() {
        let trace: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
            .parse()
            .expect("the example of the standard");
        for name in ["deploy", " ü\r\n\"x\" "] {
            let sent = Envelope {
                thread: ThreadId::of("demo", name),
                ..envelope()
            };
            let message = sent.message("demo", name, Some(&trace));
            for (name, value) in message.headers.iter() {
                assert!(names::is_header(name, value) && value == value.trim());
            }
            let received = Received::decode("demo", &stored(message)).expect("it is one");
            assert_eq!(received.envelope, sent);
            assert_eq!(received.name.as_deref(), Some(name));
            assert_eq!(received.trace, Some(trace));
        }
    }

    #[test]
    fn what_is_no_envelope_is_known() {
        let good = stored(envelope().message("demo", "deploy", None));
        let spoilt = |spoil: fn(&mut StoredMessage)| {
            let mut message = good.clone();
            spoil(&mut message);
            message
        };
        assert!(Received::decode("demo", &good).is_some());
        assert!(Received::decode("other", &good).is_none());
        let cases = [
            spoilt(|m| m.payload = Bytes::from_static(b"not JSON")),
            spoilt(|m| m.payload = Bytes::from_static(b"{}")),
            spoilt(|m| m.payload = Bytes::new()),
            spoilt(|m| m.subject = "chat.demo.00000000".into()),
            spoilt(|m| m.subject = "chat.demo".into()),
        ];
        for message in cases {
            assert!(Received::decode("demo", &message).is_none(), "{message:?}");
        }
        let nameless = spoilt(|m| m.headers = Headers::new());
        let read = Received::decode("demo", &nameless).expect("another program's");
        assert_eq!(read.name, None);
    }

    #[test]
    fn patterns_stay_within_the_project() {
        for pattern in ["chat.demo.>", "chat.demo.*", "chat.demo.0badcafe"] {
            assert!(is_pattern("demo", pattern), "{pattern:?}");
        }
        for pattern in [
            ">",
            "chat.>",
            "chat.*.>",
            "chat.demo",
            "chat.demo.",
            "chat.demo2.>",
            "chat.demo.a b",
        ] {
            assert!(!is_pattern("demo", pattern), "{pattern:?}");
        }
    }
}
