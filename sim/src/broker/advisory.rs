//! Advisories: what the server says about itself, as core messages, to whoever listens.
//!
//! Modelled are those of a consumer that has given a message up, or terminated it.

use std::fmt::Write as _;

use squall_core::transport::Message;
use squall_core::{Rng, UnixTime};

use super::pull::AckedDelivery;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of an id.
const ID_LEN: usize = 22;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advisory {
    /// In the subject.
    event: &'static str,
    /// In the type.
    kind: &'static str,
    /// The fields of its own, as JSON.
    fields: String,
}

impl Advisory {
    /// A message was delivered as often as it may be.
    pub(super) fn max_deliveries(sequence: u64, deliveries: u64) -> Self {
        Self {
            event: "MAX_DELIVERIES",
            kind: "max_deliver",
            fields: format!(r#""stream_seq":{sequence},"deliveries":{deliveries}"#),
        }
    }

    /// A message will never be delivered again.
    pub(super) fn terminated(delivery: AckedDelivery, reason: Option<&str>) -> Self {
        let AckedDelivery {
            deliveries,
            sequence,
            count,
        } = delivery;
        let mut fields =
            format!(r#""consumer_seq":{count},"stream_seq":{sequence},"deliveries":{deliveries}"#);
        if let Some(reason) = reason {
            fields.push_str(r#","reason":"#);
            push_quoted(&mut fields, reason);
        }
        Self {
            event: "MSG_TERMINATED",
            kind: "terminated",
            fields,
        }
    }

    pub(super) fn message(
        &self,
        stream: &str,
        consumer: &str,
        now: UnixTime,
        rng: &mut Rng,
    ) -> Message {
        let Self {
            event,
            kind,
            fields,
        } = self;
        let digit = |rng: &mut Rng| char::from(DIGITS[rng.below(DIGITS.len() as u64) as usize]);
        let id: String = std::iter::repeat_with(|| digit(rng)).take(ID_LEN).collect();
        let subject = format!("$JS.EVENT.ADVISORY.CONSUMER.{event}.{stream}.{consumer}");
        let payload = format!(
            r#"{{"type":"io.nats.jetstream.advisory.v1.{kind}","id":"{id}","timestamp":"{now}","stream":"{stream}","consumer":"{consumer}",{fields}}}"#
        );
        Message::new(subject, payload)
    }
}

/// A JSON string, escaped as the server does.
fn push_quoted(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                json.push('\\');
                json.push(c);
            }
            '<' | '>' | '&' | '\0'..='\x1f' => {
                // Writing to a string cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_the_server_writes_it() {
        let advisory = Advisory::max_deliveries(3, 2);
        let now = UnixTime::from_nanos(1_795_234_726_713_447_652);
        let message = advisory.message("S", "C", now, &mut Rng::new(1));
        let subject = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.C";
        assert_eq!(&*message.subject, subject);
        let json = String::from_utf8(message.payload.to_vec()).expect("text");
        let begin = r#"{"type":"io.nats.jetstream.advisory.v1.max_deliver","id":""#;
        let end = r#"","timestamp":"2026-11-21T04:18:46.713447652Z","stream":"S","consumer":"C","stream_seq":3,"deliveries":2}"#;
        assert!(json.starts_with(begin) && json.ends_with(end), "{json}");
        assert_eq!(json.len(), begin.len() + ID_LEN + end.len());
    }

    #[test]
    fn a_reason_is_quoted() {
        let delivery = AckedDelivery {
            deliveries: 1,
            sequence: 2,
            count: 3,
        };
        let advisory = Advisory::terminated(delivery, Some("a \"b\" <c>\n"));
        let fields = r#""consumer_seq":3,"stream_seq":2,"deliveries":1,"reason":"a \"b\" \u003cc\u003e\u000a""#;
        assert_eq!(advisory.fields, fields);
    }
}
