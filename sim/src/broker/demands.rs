//! What a publisher demands in the headers of a message: conditions, its id, a rollup, a life of its own.

use std::time::Duration;

use squall_core::transport::{Headers, Operation, Revision, Sequence};

use super::head::Head;

/// What is demanded. An empty value demands nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demands<'a> {
    /// `Nats-Expected-Stream`.
    pub(super) stream: Option<&'a str>,
    /// `Nats-Expected-Last-Sequence`.
    pub(super) last: Option<Sequence>,
    /// `Nats-Expected-Last-Subject-Sequence`.
    pub(super) last_of_subject: Option<Sequence>,
    /// `Nats-Expected-Last-Subject-Sequence-Subject`: of which subjects instead of the message's own.
    pub(super) of_subject: Option<&'a str>,
    /// `Nats-Expected-Last-Msg-Id`.
    pub(super) last_message_id: Option<&'a str>,
    /// `Nats-Msg-Id`.
    pub(super) message_id: Option<&'a str>,
    /// `Nats-Rollup`.
    pub(super) rollup: Rollup<'a>,
    /// `Nats-TTL`.
    pub(super) life: Life,
}

/// What a message takes the place of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rollup<'a> {
    /// Nothing.
    #[default]
    None,
    /// All older messages of its subject.
    Subject,
    /// All older messages.
    All,
    /// Not a value for it.
    Invalid(&'a str),
}

/// How long a message lives by its own wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Life {
    /// It does not say.
    #[default]
    Unsaid,
    /// Whole seconds.
    For(Duration),
    /// No age ends it.
    Never,
    /// Not a value for it.
    Invalid,
}

impl<'a> Demands<'a> {
    pub(super) fn of(head: &'a Head) -> Self {
        match head {
            Head::Full(headers) => Self::parse(headers),
            Head::Write {
                operation,
                expected,
            } => Self {
                last_of_subject: expected.map(|Revision(expected)| Sequence(expected)),
                rollup: match operation {
                    Operation::Purge => Rollup::Subject,
                    _ => Rollup::None,
                },
                ..Self::default()
            },
            Head::Marker { life } => Self {
                life: Life::For(*life),
                ..Self::default()
            },
        }
    }

    /// What these headers demand.
    pub(super) fn parse(headers: &'a Headers) -> Self {
        let text = |name| headers.get(name).filter(|text| !text.is_empty());
        // The server reads what is no number as 0.
        let number = |name| text(name).map(|text: &str| Sequence(text.parse().unwrap_or(0)));
        Self {
            stream: text("Nats-Expected-Stream"),
            last: number("Nats-Expected-Last-Sequence"),
            last_of_subject: number("Nats-Expected-Last-Subject-Sequence"),
            of_subject: text("Nats-Expected-Last-Subject-Sequence-Subject"),
            last_message_id: text("Nats-Expected-Last-Msg-Id"),
            message_id: text("Nats-Msg-Id"),
            rollup: match text("Nats-Rollup") {
                None => Rollup::None,
                Some(value) if value.eq_ignore_ascii_case("sub") => Rollup::Subject,
                Some(value) if value.eq_ignore_ascii_case("all") => Rollup::All,
                Some(value) => Rollup::Invalid(value),
            },
            life: text("Nats-TTL").map_or(Life::Unsaid, Life::parse),
        }
    }
}

impl Life {
    /// Seconds, a duration as Go writes it, which is cut to whole seconds and must leave one, or `never`.
    fn parse(text: &str) -> Self {
        if text.eq_ignore_ascii_case("never") {
            return Self::Never;
        }
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = match is_number {
            true => text.parse().ok(),
            false => go_duration(text).map(|duration| duration.as_secs()),
        };
        match seconds {
            None | Some(0) => Self::Invalid,
            Some(seconds) => Self::For(Duration::from_secs(seconds)),
        }
    }
}

/// Numbers with units, one after the other: `1h30m`, `1.5s`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let nanoseconds = match &rest[..unit] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        rest = &rest[unit..];
        total += number * nanoseconds;
    }
    // More than 292 years overflow in Go, too.
    (total > 0.0 && total < i64::MAX as f64).then(|| Duration::from_nanos(total as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured on 2.15.1.
    #[test]
    fn lives_are_read_as_the_server_does() {
        let seconds = |seconds| Life::For(Duration::from_secs(seconds));
        for (text, life) in [
            ("1", seconds(1)),
            ("1500ms", seconds(1)),
            ("1.5s", seconds(1)),
            ("1s", seconds(1)),
            ("1h", seconds(3600)),
            ("1h30m", seconds(5400)),
            ("999999999999", seconds(999_999_999_999)),
            ("never", Life::Never),
            ("NEVER", Life::Never),
        ] {
            assert_eq!(Life::parse(text), life, "{text:?}");
        }
        for text in ["0", "-1", "0.5", "500ms", "abc", "1us", "+5", "5 "] {
            assert_eq!(Life::parse(text), Life::Invalid, "{text:?}");
        }
    }
}
