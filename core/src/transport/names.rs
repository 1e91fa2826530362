//! What may be called what, alike in both worlds: names that would be refused late, answered by nobody, or cost the
//! connection, are refused at once, before anything is sent.
//!
//! The rules are ADR-8's and those of nats-server, and stricter than async-nats'. It lets `a..b` pass as a key (the server then answers with "no stream"), and lets a subject pass that is
//! too long for the server's control line, which closes the connection.

use super::kv::Revision;

/// Longest subject sent: with a reply subject and lengths it stays within the server's 4096 bytes of control line.
pub const SUBJECT_MAX: usize = 3900;

/// `A-Z a-z 0-9 - _`, not empty.
pub fn is_bucket(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// The stream behind a bucket.
pub fn bucket_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The bucket that a stream of this name is behind.
pub fn stream_bucket(stream: &str) -> Option<&str> {
    stream.strip_prefix("KV_")
}

/// The subject of a key, or the filter over subjects that stands for one over keys.
pub fn key_subject(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// Tokens of `[-/_=a-zA-Z0-9]+`, joined by single dots.
pub fn is_key(key: &str) -> bool {
    // At every call of a bucket: one pass.
    let mut before = b'.';
    let is_well_formed = key.bytes().all(|byte| {
        let follows = if byte == b'.' {
            before != b'.'
        } else {
            is_key_byte(byte)
        };
        before = byte;
        follows
    });
    is_well_formed && before != b'.' && key.len() <= SUBJECT_MAX / 2
}

/// A key, in which `*` may stand for a token and `>` for the rest.
pub fn is_filter(filter: &str) -> bool {
    let body = match filter {
        ">" => return true,
        _ => filter.strip_suffix(".>").unwrap_or(filter),
    };
    filter.len() <= SUBJECT_MAX / 2
        && body
            .split('.')
            .all(|token| token == "*" || is_key_token(token))
}

fn is_key_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(is_key_byte)
}

const fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_' | b'=')
}

/// Not empty, no white space, not too long.
pub fn is_publish_subject(subject: &str) -> bool {
    !subject.is_empty()
        && subject.len() <= SUBJECT_MAX
        && !subject
            .bytes()
            .any(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
}

/// The same, and no empty token.
pub fn is_subscribe_subject(subject: &str) -> bool {
    is_publish_subject(subject) && subject.split('.').all(|token| !token.is_empty())
}

/// A name of printable ASCII without a colon, and a value without a line break: what async-nats can send.
pub fn is_header(name: &str, value: &str) -> bool {
    let printable = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    name.bytes().all(printable) && !value.contains(['\r', '\n'])
}

/// Header bytes that a conditional write adds to its message.
pub fn expectation_len(expected: Option<Revision>) -> usize {
    expected.map_or(0, |Revision(expected)| {
        let digits = expected.checked_ilog10().map_or(1, |log| log as usize + 1);
        "NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: \r\n\r\n".len() + digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_tokens_joined_by_single_dots() {
        for key in ["a", "a.b", "-/_=.Z9", &"k".repeat(1000)] {
            assert!(is_key(key), "{key:?}");
        }
        let long = "k".repeat(4000);
        for key in [
            "", ".", ".a", "a.", "a..b", "a b", "a*", "*", ">", "a.>", "ü", "$a", &long,
        ] {
            assert!(!is_key(key), "{key:?}");
        }
    }

    #[test]
    fn filters_hold_wildcards_as_whole_tokens() {
        for filter in [">", "*", "a.*", "*.b", "a.>", "a.*.c", "a"] {
            assert!(is_filter(filter), "{filter:?}");
        }
        for filter in ["", "a.", "a..b", "a*", "a>", ">.a", "a.>.b", "a b", ".>"] {
            assert!(!is_filter(filter), "{filter:?}");
        }
    }

    #[test]
    fn subjects_and_bucket_names() {
        assert!(is_publish_subject("a..b") && !is_subscribe_subject("a..b"));
        assert!(!is_publish_subject("") && !is_publish_subject("a b"));
        assert!(is_bucket("A-z_9") && !is_bucket("") && !is_bucket("a.b"));
    }

    #[test]
    fn the_header_of_a_conditional_write_counts() {
        // Measured: with a limit of 100 bytes a conditional write takes 48.
        assert_eq!(expectation_len(Some(Revision(0))), 52);
        assert_eq!(expectation_len(None), 0);
    }

    #[test]
    fn headers_are_single_lines() {
        assert!(is_header("X-Any_1", "é: any text"));
        for (name, value) in [("a\r\nb", "c"), ("a", "b\nc"), ("a:b", "c"), ("é", "c")] {
            assert!(!is_header(name, value), "{name:?}: {value:?}");
        }
    }
}
