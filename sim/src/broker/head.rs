//! Headers of a stored message, spelt out only where somebody reads them.
//!
//! Nearly all messages of a bucket are writes to keys and delete markers, whose headers follow from a few numbers: to
//! keep the numbers makes a write cheap and changes nothing that can be seen.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use squall_core::transport::{Headers, Operation, Revision};

/// Headers, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Of a write to a key.
    Write {
        operation: Operation,
        expected: Option<Revision>,
    },
    /// Of a delete marker with this life.
    Marker { life: Duration },
    /// As they came.
    Full(Arc<Headers>),
}

impl Head {
    /// No headers.
    pub(super) const PUT: Self = Self::Write {
        operation: Operation::Put,
        expected: None,
    };

    pub(super) fn full(headers: Headers) -> Self {
        match headers.is_empty() {
            true => Self::PUT,
            false => Self::Full(Arc::new(headers)),
        }
    }

    /// What a record of a bucket says with these headers.
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Write { operation, .. } => *operation,
            Self::Marker { .. } => Operation::Expire,
            Self::Full(headers) => Operation::of_headers(headers),
        }
    }

    /// Whether a delete marker takes the place of the message once it has aged out as the last of its subject: neither
    /// of a marker nor of what was purged.
    pub(super) fn leaves_marker(&self) -> bool {
        match self {
            Self::Write { operation, .. } => *operation != Operation::Purge,
            Self::Marker { .. } => false,
            Self::Full(headers) => {
                headers.get("Nats-Marker-Reason").is_none()
                    && headers.get("KV-Operation") != Some("PURGE")
            }
        }
    }

    pub(super) fn message_id(&self) -> Option<&str> {
        match self {
            Self::Full(headers) => headers.get("Nats-Msg-Id").filter(|id| !id.is_empty()),
            Self::Write { .. } | Self::Marker { .. } => None,
        }
    }

    /// The same, with another life.
    pub(super) fn with_life(&self, life: Duration) -> Self {
        let mut headers = Headers::new();
        for (name, value) in self.headers().iter() {
            match name {
                "Nats-TTL" => headers.append(name, life.as_secs().to_string()),
                _ => headers.append(name, value),
            }
        }
        Self::full(headers)
    }

    /// Written out.
    pub(super) fn headers(&self) -> Headers {
        let mut headers = Headers::new();
        match self {
            Self::Full(headers) => return Headers::clone(headers),
            Self::Marker { life } => {
                headers.append("Nats-Marker-Reason", "MaxAge");
                headers.append("Nats-Rollup", "sub");
                headers.append("Nats-TTL", whole_seconds(*life));
            }
            Self::Write {
                operation,
                expected,
            } => {
                match operation {
                    Operation::Put | Operation::Expire => {}
                    Operation::Delete => headers.append("KV-Operation", "DEL"),
                    Operation::Purge => headers.append("KV-Operation", "PURGE"),
                }
                if let Some(expected) = expected {
                    headers.append("Nats-Expected-Last-Subject-Sequence", expected.to_string());
                }
                if *operation == Operation::Purge {
                    headers.append("Nats-Rollup", "sub");
                }
            }
        }
        headers
    }

    /// Bytes of [`headers`](Self::headers) on the wire, without making them where that is not needed.
    pub(super) fn wire_len(&self) -> usize {
        let Self::Write {
            operation,
            expected,
        } = self
        else {
            return self.headers().wire_len();
        };
        let operation = match operation {
            Operation::Put | Operation::Expire => 0,
            Operation::Delete => "KV-Operation: DEL\r\n".len(),
            Operation::Purge => "KV-Operation: PURGE\r\nNats-Rollup: sub\r\n".len(),
        };
        let condition = expected.map_or(0, |Revision(expected)| {
            let digits = expected.checked_ilog10().map_or(1, |log| log as usize + 1);
            "Nats-Expected-Last-Subject-Sequence: \r\n".len() + digits
        });
        match operation + condition {
            0 => 0,
            lines => "NATS/1.0\r\n\r\n".len() + lines,
        }
    }
}

/// As Go prints a duration of whole seconds: `5s`, `1m0s`, `1h0m0s`.
fn whole_seconds(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match (hours, minutes) {
        (0, 0) => write!(text, "{seconds}s"),
        (0, _) => write!(text, "{minutes}m{seconds}s"),
        _ => write!(text, "{hours}h{minutes}m{seconds}s"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_bytes_are_counted_as_they_would_be_sent() {
        for operation in [Operation::Put, Operation::Delete, Operation::Purge] {
            for expected in [None, Some(0), Some(9), Some(10), Some(u64::MAX)] {
                let expected = expected.map(Revision);
                let head = Head::Write {
                    operation,
                    expected,
                };
                assert_eq!(head.wire_len(), head.headers().wire_len(), "{head:?}");
                assert_eq!(Head::full(head.headers()).operation(), operation);
            }
        }
        let conditional = Head::Write {
            operation: Operation::Put,
            expected: Some(Revision::NONE),
        };
        let limit = "measured: a limit of 100 leaves 48 bytes";
        assert_eq!(conditional.wire_len(), 52, "{limit}");
    }

    #[test]
    fn a_life_is_printed_as_go_does() {
        let texts = [5, 60, 90, 3600].map(|seconds| whole_seconds(Duration::from_secs(seconds)));
        assert_eq!(texts, ["5s", "1m0s", "1m30s", "1h0m0s"]);
    }
}
