//! What an agent writes about itself: [`Entry`], its JSON, and the key it stands under.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::time::UnixTime;
use crate::transport::KvEntry;

/// One live agent.
///
/// In the bucket as JSON with these names. Readers take an entry without `incarnation` or `ttl_ms`, as other programs
/// write them, and skip what they cannot read without denying the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who.
    pub agent_id: String,
    /// Among whom.
    pub project: String,
    /// When this incarnation began, by the agent's wall clock. Fixed for its life.
    pub started_at: UnixTime,
    /// When the last beat was sent, by the agent's wall clock. For people: nothing is decided by it.
    pub last_seen: UnixTime,
    /// Tells one incarnation of an agent from the next, also when both began in the same instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
    /// How long this entry lives without a beat, in milliseconds. Peers of one bucket may beat at different intervals,
    /// and whoever watches must know which silence is too long for whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// One uninterrupted presence of an agent. An agent that was evicted comes back as another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incarnation(pub String);

impl Incarnation {
    /// The incarnation of this number of one session.
    pub(super) fn of(session: &str, number: u64) -> Self {
        Self(format!("{session}-{number}"))
    }
}

impl Entry {
    /// Which incarnation this entry belongs to: named by it, or else by when it began.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(
            self.incarnation
                .clone()
                .unwrap_or_else(|| self.started_at.to_string()),
        )
    }

    /// True if this entry says of itself that it belongs to `incarnation`. Programs that do not name their incarnations
    /// come back under the same start, so for them nothing can be told from it.
    pub(super) fn names_its(&self, incarnation: &Incarnation) -> bool {
        self.incarnation.as_ref() == Some(&incarnation.0)
    }

    /// How long this entry lives without a beat, if it says so.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl_ms.map(Duration::from_millis)
    }

    pub(super) fn encode(&self) -> Bytes {
        // Strings, numbers and times cannot fail to become JSON.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads a record of the bucket; `None` where it is no value, not an entry, or another agent's under this key.
    pub fn decode(record: &KvEntry) -> Option<Self> {
        let is_object = record.value.trim_ascii_start().starts_with(b"{");
        if !record.operation.is_put() || !is_object {
            return None;
        }
        let entry: Self = serde_json::from_slice(&record.value).ok()?;
        (key(&entry.project, &entry.agent_id) == *record.key).then_some(entry)
    }
}

/// The key of an agent: project and agent as two tokens, so that one filter gives one project.
pub fn key(project: &str, agent_id: &str) -> String {
    let mut key = String::with_capacity(project.len() + agent_id.len() + 1);
    encode_token(&mut key, project);
    key.push('.');
    encode_token(&mut key, agent_id);
    key
}

/// The filter for all agents of a project.
pub fn filter(project: &str) -> String {
    let mut filter = String::with_capacity(project.len() + 2);
    encode_token(&mut filter, project);
    filter.push_str(".*");
    filter
}

/// Letters, digits, `-` and `_` as they are, every other byte as `=XX`: any text is a token, and no two texts the same.
fn encode_token(key: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            key.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _infallible = write!(key, "={byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Operation, Revision, names};

    fn record(key: &str, value: &str) -> KvEntry {
        KvEntry {
            key: key.into(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            revision: Revision(1),
            operation: Operation::Put,
            created: UnixTime::EPOCH,
        }
    }

    #[test]
    fn any_text_is_a_key_of_its_own() {
        let ids = ["a", "a.b", "a=2Eb", "é", ">", "*", " ", "A"];
        let mut seen: Vec<String> = ids.iter().map(|id| key("p.q", id)).collect();
        assert!(seen.iter().all(|key| names::is_key(key)), "{seen:?}");
        assert!(seen.iter().all(|key| key.starts_with("p=2Eq.")));
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), ids.len());
        assert!(names::is_filter(&filter("p.q")));
    }

    #[test]
    fn an_entry_of_another_program_is_read() {
        let json = r#"{"agent_id":"bob","project":"demo","started_at":"2026-01-01T00:00:00Z","last_seen":"2026-01-01T00:00:05.5Z"}"#;
        let entry = Entry::decode(&record("demo.bob", json)).expect("it is an entry");
        assert_eq!(
            entry.incarnation(),
            Incarnation("2026-01-01T00:00:00Z".to_owned())
        );
        assert_eq!(entry.ttl(), None);
        assert_eq!(&entry.encode()[..], json.as_bytes());
    }

    #[test]
    fn what_is_no_entry_is_skipped() {
        assert_eq!(Entry::decode(&record("demo.bob", "{}")), None);
        assert_eq!(Entry::decode(&record("demo.bob", "not JSON")), None);
        let json = r#"{"agent_id":"bob","project":"demo","started_at":"2026-01-01T00:00:00Z","last_seen":"2026-01-01T00:00:00Z"}"#;
        assert_eq!(
            Entry::decode(&record("demo.eve", json)),
            None,
            "under another's key"
        );
        let mut tombstone = record("demo.bob", json);
        tombstone.operation = Operation::Delete;
        assert_eq!(Entry::decode(&tombstone), None);
    }
}
