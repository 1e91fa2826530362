//! Acknowledgements as they come: a core publish to the reply subject of a delivery.

use std::time::Duration;

/// What stands before stream and consumer.
const PREFIX: &str = "$JS.ACK.";

/// The reply subject of a delivery, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) struct AckSubject<'a> {
    pub(in crate::broker) stream: &'a str,
    pub(in crate::broker) consumer: &'a str,
    pub(in crate::broker) delivery: AckedDelivery,
}

/// Which delivery is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) struct AckedDelivery {
    pub(in crate::broker) deliveries: u64,
    pub(in crate::broker) sequence: u64,
    pub(in crate::broker) count: u64,
}

impl<'a> AckSubject<'a> {
    /// `None` where no consumer listens: it does to five tokens after its name.
    pub(in crate::broker) fn parse(subject: &'a str) -> Option<Self> {
        let mut tokens = subject.strip_prefix(PREFIX)?.split('.');
        let (stream, consumer) = (tokens.next()?, tokens.next()?);
        let mut number = || Some(tokens.next()?.parse().unwrap_or(u64::MAX));
        let delivery = AckedDelivery {
            deliveries: number()?,
            sequence: number()?,
            count: number()?,
        };
        number()?;
        number()?;
        tokens.next().is_none().then_some(Self {
            stream,
            consumer,
            delivery,
        })
    }
}

/// What is said about a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Done,
    Again(Option<Duration>),
    InProgress,
    Terminate(Option<String>),
    /// Nothing that the server knows: no effect, and all the same confirmed.
    Unknown,
}

impl Verb {
    /// # Panics
    /// On `+NXT`, an acknowledgement that is a pull as well: not modelled, and must not look like silence.
    pub(super) fn parse(payload: &[u8]) -> Self {
        match payload {
            b"" | b"+ACK" | b"+OK" => Self::Done,
            b"+WPI" => Self::InProgress,
            _ => {
                if let Some(delay) = payload.strip_prefix(b"-NAK") {
                    return Self::Again(delay_of(&String::from_utf8_lossy(delay)));
                }
                if let Some(reason) = payload.strip_prefix(b"+TERM") {
                    let reason = String::from_utf8_lossy(reason).trim().to_owned();
                    return Self::Terminate((!reason.is_empty()).then_some(reason));
                }
                assert!(!payload.starts_with(b"+NXT"), "not modelled: +NXT");
                Self::Unknown
            }
        }
    }
}

/// `{"delay": <nanoseconds>}`. What cannot be read is no delay.
fn delay_of(text: &str) -> Option<Duration> {
    let fields = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let (name, nanos) = fields.split_once(':')?;
    let nanos = nanos.trim().parse().ok()?;
    (name.trim() == "\"delay\"").then(|| Duration::from_nanos(nanos))
}

/// Where a delivery is acknowledged.
pub(super) fn reply_subject(
    stream: &str,
    consumer: &str,
    delivery: AckedDelivery,
    stored_nanos: i64,
    pending: u64,
) -> String {
    let AckedDelivery {
        deliveries,
        sequence,
        count,
    } = delivery;
    format!("{PREFIX}{stream}.{consumer}.{deliveries}.{sequence}.{count}.{stored_nanos}.{pending}")
}

#[cfg(test)]
mod tests {
    use squall_core::transport::Ack;

    use super::*;

    #[test]
    fn what_clients_say_is_understood() {
        let verbs = [
            (Ack::Done, Verb::Done),
            (Ack::Again(None), Verb::Again(None)),
            (
                Ack::Again(Some(Duration::from_millis(7))),
                Verb::Again(Some(Duration::from_millis(7))),
            ),
            (Ack::InProgress, Verb::InProgress),
            (Ack::Terminate(None), Verb::Terminate(None)),
            (
                Ack::Terminate(Some("bad".into())),
                Verb::Terminate(Some("bad".into())),
            ),
        ];
        for (ack, verb) in verbs {
            assert_eq!(Verb::parse(&ack.payload()), verb, "{ack:?}");
        }
        for (payload, verb) in [
            (&b""[..], Verb::Done),
            (b"+OK", Verb::Done),
            (b"+ack", Verb::Unknown),
            (b"+WPI ", Verb::Unknown),
            (b"-NAK {\"delay\":\"x\"}", Verb::Again(None)),
            (b"-NAKx", Verb::Again(None)),
        ] {
            assert_eq!(Verb::parse(payload), verb);
        }
    }

    #[test]
    fn a_reply_subject_has_nine_tokens() {
        let delivery = AckedDelivery {
            deliveries: 2,
            sequence: 7,
            count: 9,
        };
        let subject = reply_subject("S", "C", delivery, 5, 3);
        assert_eq!(subject, "$JS.ACK.S.C.2.7.9.5.3");
        let parsed = AckSubject::parse(&subject).expect("it is one");
        assert_eq!((parsed.stream, parsed.consumer), ("S", "C"));
        assert_eq!(parsed.delivery, delivery);
        for other in ["$JS.ACK.S.C.1.99", "$JS.ACK.S.C.1.2.3.4.5.6", "$JS.FC.S"] {
            assert_eq!(AckSubject::parse(other), None, "{other}");
        }
    }
}
