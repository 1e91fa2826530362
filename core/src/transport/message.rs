//! Core NATS messages: subject, optional reply subject, headers, payload.

use std::sync::Arc;

use bytes::Bytes;

/// One message as published or delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub subject: Arc<str>,
    /// Where an answer is expected, if anywhere.
    pub reply: Option<Arc<str>>,
    /// Its headers: on arrival in the order of their names.
    pub headers: Headers,
    /// Its body, at most the server's `max_payload` (1 MiB by default) together with the headers.
    pub payload: Bytes,
}

impl Message {
    /// A message without headers that expects no answer.
    pub fn new(subject: impl Into<Arc<str>>, payload: impl Into<Bytes>) -> Self {
        Self {
            subject: subject.into(),
            payload: payload.into(),
            ..Self::default()
        }
    }
}

/// Headers of a message: names are case-sensitive, a name may come more than once (ADR-4).
///
/// They arrive in the order of their names, those of one name in the order they were added, without white space around
/// their values: that is what async-nats leaves of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Headers(Vec<(Arc<str>, Arc<str>)>);

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one, after any of the same name.
    pub fn append(&mut self, name: impl Into<Arc<str>>, value: impl Into<Arc<str>>) {
        self.0.push((name.into(), value.into()));
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes on the wire: `NATS/1.0\r\n`, one line each, an empty line; 0 without headers.
    pub fn wire_len(&self) -> usize {
        if self.0.is_empty() {
            return 0;
        }
        let lines: usize = self
            .0
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum();
        "NATS/1.0\r\n".len() + lines + "\r\n".len()
    }
}
