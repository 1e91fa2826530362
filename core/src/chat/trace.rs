//! W3C trace context: [`TraceParent`], which says what the sender of a message was doing when it sent it.
//!
//! It is an argument of `send`, never taken from the surroundings: there is no ambient context here.

use std::fmt;
use std::str::FromStr;

/// The name of the header, in lower case as the standard has it.
pub(super) const TRACEPARENT: &str = "traceparent";

/// A `traceparent` of W3C Trace Context, version 00.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceParent {
    /// Of the whole trace.
    trace_id: u128,
    /// Of the caller's span.
    parent_id: u64,
    flags: u8,
}

impl TraceParent {
    /// This span of this trace; `None` where one of the two is zero, which the standard forbids.
    pub const fn new(trace_id: u128, parent_id: u64, sampled: bool) -> Option<Self> {
        if trace_id == 0 || parent_id == 0 {
            return None;
        }
        Some(Self {
            trace_id,
            parent_id,
            flags: sampled as u8,
        })
    }

    /// Of the whole trace.
    pub const fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// Of the caller's span.
    pub const fn parent_id(self) -> u64 {
        self.parent_id
    }

    /// Whether the caller may have recorded it.
    pub const fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            parent_id,
            flags,
        } = self;
        write!(f, "00-{trace_id:032x}-{parent_id:016x}-{flags:02x}")
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceParent({self})")
    }
}

/// Not a `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: {0:?}")]
pub struct NotATraceParent(pub String);

impl FromStr for TraceParent {
    type Err = NotATraceParent;

    /// Reads version 00, and of later versions what they have in common with it.
    fn from_str(text: &str) -> Result<Self, NotATraceParent> {
        read(text).ok_or_else(|| NotATraceParent(text.to_owned()))
    }
}

fn read(text: &str) -> Option<TraceParent> {
    let mut fields = text.splitn(5, '-');
    let mut field = |len| fields.next().filter(|field| is_hex(field, len));
    let version = field(2)?;
    let (trace_id, parent_id, flags) = (field(32)?, field(16)?, field(2)?);
    let is_known = match version {
        "ff" => false,
        "00" => fields.next().is_none(),
        _later => true,
    };
    let parent = TraceParent {
        trace_id: u128::from_str_radix(trace_id, 16).ok()?,
        parent_id: u64::from_str_radix(parent_id, 16).ok()?,
        flags: u8::from_str_radix(flags, 16).ok()?,
    };
    (is_known && parent.trace_id != 0 && parent.parent_id != 0).then_some(parent)
}

fn is_hex(field: &str, len: usize) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    field.len() == len && field.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_standard_is_read_and_written() {
        let parent: TraceParent = EXAMPLE.parse().expect("it is one");
        assert_eq!(parent.to_string(), EXAMPLE);
        assert!(parent.is_sampled());
        let made = TraceParent::new(parent.trace_id(), parent.parent_id(), true);
        assert_eq!(made, Some(parent));
        assert_eq!(TraceParent::new(0, 1, true), None);
    }

    #[test]
    fn what_is_none_is_refused() {
        let later = format!("01{}-more", EXAMPLE.strip_prefix("00").unwrap_or_default());
        assert!(later.parse::<TraceParent>().is_ok());
        let cases = [
            "".to_owned(),
            EXAMPLE.to_uppercase(),
            format!("{EXAMPLE}-more"),
            EXAMPLE.replace("00-", "ff-"),
            EXAMPLE.replace("b7ad6b7169203331", "0000000000000000"),
            EXAMPLE.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            EXAMPLE.replace("-01", "-1"),
        ];
        for text in cases {
            assert!(text.parse::<TraceParent>().is_err(), "{text:?}");
        }
    }
}
