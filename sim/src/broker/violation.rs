//! What a server closes a connection for: it says why with `-ERR`, and hangs up.

use squall_core::transport::{Message, Operation};

use super::head::Head;
use super::subject::KV_PREFIX;
use crate::wire::{ClientOp, Request, Write};

/// Longest line of the protocol, without payload.
const CONTROL_LINE_MAX: usize = 4096;
/// Bytes of such a line that are not the subject: verb, reply inbox and sizes.
const CONTROL_LINE_REST: usize = 46;

/// How a client broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// A message larger than `max_payload`.
    Payload,
    /// A subject that does not fit into a line.
    ControlLine,
    /// Pings left unanswered.
    Stale,
    /// It is not let in, or must go: by these words of the server.
    Auth(&'static str),
}

impl Violation {
    /// The text of the `-ERR`.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Payload => "Maximum Payload Violation",
            Self::ControlLine => "maximum control line exceeded",
            Self::Stale => "Stale Connection",
            Self::Auth(text) => text,
        }
    }

    /// What is wrong with what a client says, if anything.
    pub(super) fn of(op: &ClientOp, max_payload: usize) -> Option<Self> {
        let (subject, bytes) = sizes(op)?;
        if subject + CONTROL_LINE_REST > CONTROL_LINE_MAX {
            Some(Self::ControlLine)
        } else if bytes > max_payload {
            Some(Self::Payload)
        } else {
            None
        }
    }
}

/// Bytes of the subject, and of headers and payload, of what may be too long.
fn sizes(op: &ClientOp) -> Option<(usize, usize)> {
    Some(match op {
        ClientOp::Publish { message } => sizes_of(message),
        ClientOp::Request { request, .. } => match request {
            Request::Write {
                bucket,
                key,
                write,
                expected,
            } => {
                let (value, operation) = match write {
                    Write::Put(value) => (value.len(), Operation::Put),
                    Write::Delete => (0, Operation::Delete),
                    Write::Purge => (0, Operation::Purge),
                };
                let head = Head::Write {
                    operation,
                    expected: *expected,
                };
                let subject = KV_PREFIX.len() + bucket.len() + 1 + key.len();
                (subject, head.wire_len() + value)
            }
            Request::Store(message) => sizes_of(message),
            Request::Entry { bucket, key } => {
                let fixed = "$JS.API.DIRECT.GET.KV_.$KV..".len();
                (fixed + 2 * bucket.len() + key.len(), 0)
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn sizes_of(message: &Message) -> (usize, usize) {
    let bytes = message.headers.wire_len() + message.payload.len();
    (message.subject.len(), bytes)
}
