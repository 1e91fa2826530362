//! What a consumer delivers: the message itself, and what its reply subject says of it.

use async_nats::Message;

use super::connection::headers_in;
use crate::time::UnixTime;
use crate::transport::{Headers, Sequence, StoredMessage};

/// Where a delivery stands, in its stream and among the deliveries of its consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// How often this message has been delivered.
    pub(super) attempt: u64,
    /// Its position in the stream.
    pub(super) sequence: Sequence,
    /// Counts the deliveries of this consumer from 1.
    pub(super) delivered: u64,
    /// When the server stored it.
    pub(super) stored: UnixTime,
    /// Messages still to come.
    pub(super) pending: u64,
}

impl Place {
    /// `$JS.ACK.<stream>.<consumer>.<attempt>.<sequence>.<delivered>.<time>.<pending>`; with a domain and an account
    /// before the stream, and a token at the end, where servers send the longer form.
    pub(super) fn parse(reply: &str) -> Option<Self> {
        let mut tokens = reply.split('.');
        if (tokens.next()?, tokens.next()?) != ("$JS", "ACK") {
            return None;
        }
        let skipped = match tokens.clone().count() {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        let mut number = tokens.skip(skipped).map(str::parse::<u64>);
        let mut number = || number.next()?.ok();
        Some(Self {
            attempt: number()?,
            sequence: Sequence(number()?),
            delivered: number()?,
            stored: UnixTime::from_nanos(i64::try_from(number()?).ok()?),
            pending: number()?,
        })
    }
}

/// A message as delivered.
pub(super) fn stored(message: &Message, place: &Place) -> StoredMessage {
    let headers = message.headers.as_ref();
    StoredMessage {
        subject: message.subject.as_str().into(),
        headers: headers.map_or_else(Headers::new, |map| headers_in(map, |_| true)),
        payload: message.payload.clone(),
        sequence: place.sequence,
        time: place.stored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let place = Place {
            attempt: 4,
            sequence: Sequence(7),
            delivered: 3,
            stored: UnixTime::from_nanos(1_700_000_000_000_000_000),
            pending: 2,
        };
        let short = "$JS.ACK.KV_b.x1.4.7.3.1700000000000000000.2";
        let long = "$JS.ACK._.ABCD.KV_b.x1.4.7.3.1700000000000000000.2.tok";
        assert_eq!(Place::parse(short), Some(place));
        assert_eq!(Place::parse(long), Place::parse(short));
        for other in ["_INBOX.abc", "$JS.ACK.s.c.1.x.1.1.1", "$JS.ACK.s.c.1", ""] {
            assert_eq!(Place::parse(other), None, "{other:?}");
        }
    }
}
