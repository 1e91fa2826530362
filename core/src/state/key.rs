//! Keys as users write them, and as the bucket holds them.
//!
//! A user's key is any text without spaces, of at most [`KEY_LEN_MAX`] bytes, that neither begins nor ends with a dot. A
//! bucket's key is tokens of `[-/_=a-zA-Z0-9]` between single dots, of at most 1950 bytes. So every other byte is escaped
//! as `=` and two hexadecimal digits (the escape itself too, and a dot after a dot), which keeps beginnings: a key that
//! begins with what a pattern says still does. Keys that would grow too long are escaped up to [`HEAD_MAX`] bytes, and the
//! rest follows as base64 after `==`, which no escape begins with.
//!
//! Data and locks have names of their own, `d.` and `l.`: nothing that a user calls a key meets a lock.

use data_encoding::{BASE64URL_NOPAD, HEXUPPER};

use crate::transport::names;

/// Longest key, in bytes.
pub const KEY_LEN_MAX: usize = 1024;

const DATA: &str = "d.";
const LOCK: &str = "l.";

/// What locks add to a key, beside its name: a dot and the name of an acquisition.
const TICKET_MAX: usize = 32;
/// Longest escaped key: with what stands before and after it, as long as a bucket's key may be.
const ESCAPED_MAX: usize = names::SUBJECT_MAX / 2 - DATA.len() - TICKET_MAX;
/// Longest escaped part of a key that is not escaped as a whole. The rest of it then fits, however long it is.
const HEAD_MAX: usize = 512;

/// Not a key, or not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key: {key:?}: {flaw}")]
pub struct InvalidKey {
    /// What was given.
    pub key: String,
    /// What is wrong with it.
    pub flaw: KeyFlaw,
}

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFlaw {
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// It has more than [`KEY_LEN_MAX`] bytes.
    #[error("it has more than {KEY_LEN_MAX} bytes")]
    TooLong,
    /// It holds white space.
    #[error("it holds white space")]
    Space,
    /// It begins or ends with a dot.
    #[error("it begins or ends with a dot")]
    Dot,
    /// A pattern has its `*` elsewhere than at the end.
    #[error("a pattern has its * at the end")]
    Wildcard,
}

/// Under which key of the bucket the value of this key is.
pub(super) fn data_key(key: &str) -> Result<String, InvalidKey> {
    stored(DATA, key)
}

/// Under which key of the bucket the lock of this key is.
pub(super) fn lock_key(key: &str) -> Result<String, InvalidKey> {
    stored(LOCK, key)
}

/// The user's key whose value is under this key of the bucket; `None` where none is.
pub(super) fn user_key(stored: &str) -> Option<String> {
    let escaped = stored.strip_prefix(DATA)?;
    let (head, rest) = match escaped.split_once("==") {
        Some((head, rest)) => (head, BASE64URL_NOPAD.decode(rest.as_bytes()).ok()?),
        None => (escaped, Vec::new()),
    };
    let mut key = unescape(head)?;
    key.extend(rest);
    let key = String::from_utf8(key).ok()?;
    // One key, one name: what another program wrote in another way is none of ours.
    (data_key(&key).as_deref() == Ok(stored)).then_some(key)
}

fn stored(prefix: &str, key: &str) -> Result<String, InvalidKey> {
    check(key)?;
    let mut stored = String::with_capacity(prefix.len() + key.len());
    stored.push_str(prefix);
    let mut before = b'.';
    let mut head = (stored.len(), 0);
    for (at, byte) in key.bytes().enumerate() {
        if stored.len() - prefix.len() <= HEAD_MAX {
            head = (stored.len(), at);
        }
        escape(byte, before, &mut stored);
        before = byte;
    }
    if stored.len() - prefix.len() > ESCAPED_MAX {
        stored.truncate(head.0);
        stored.push_str("==");
        BASE64URL_NOPAD.encode_append(&key.as_bytes()[head.1..], &mut stored);
    }
    Ok(stored)
}

fn check(key: &str) -> Result<(), InvalidKey> {
    let invalid = |flaw| {
        Err(InvalidKey {
            key: key.to_owned(),
            flaw,
        })
    };
    match key {
        "" => invalid(KeyFlaw::Empty),
        _ if key.len() > KEY_LEN_MAX => invalid(KeyFlaw::TooLong),
        _ if key.contains(char::is_whitespace) => invalid(KeyFlaw::Space),
        _ if key.starts_with('.') || key.ends_with('.') => invalid(KeyFlaw::Dot),
        _ => Ok(()),
    }
}

fn escape(byte: u8, before: u8, into: &mut String) {
    let is_plain = match byte {
        b'.' => before != b'.',
        _ => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_'),
    };
    if is_plain {
        into.push(char::from(byte));
    } else {
        into.push('=');
        HEXUPPER.encode_append(&[byte], into);
    }
}

fn unescape(escaped: &str) -> Option<Vec<u8>> {
    let mut bytes = escaped.bytes();
    let mut key = Vec::with_capacity(escaped.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'=' => key.extend(HEXUPPER.decode(&[bytes.next()?, bytes.next()?]).ok()?),
            _ => key.push(byte),
        }
    }
    Some(key)
}

/// One key, or all that begin alike: `jobs.*` begins with `jobs.`, `*` is every key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    /// Whether what the text begins is enough.
    open: bool,
}

impl Pattern {
    pub(super) fn parse(pattern: &str) -> Result<Self, InvalidKey> {
        let (text, open) = match pattern.strip_suffix('*') {
            Some(text) => (text, true),
            None => (pattern, false),
        };
        let invalid = |flaw| InvalidKey {
            key: pattern.to_owned(),
            flaw,
        };
        if text.contains('*') {
            return Err(invalid(KeyFlaw::Wildcard));
        }
        // The beginning of a key may end with dots, and be empty.
        let as_key = match open {
            true => text.trim_end_matches('.'),
            false => text,
        };
        if open && as_key.is_empty() && !text.is_empty() {
            return Err(invalid(KeyFlaw::Dot));
        }
        if !(open && text.is_empty()) {
            check(as_key).map_err(|error| invalid(error.flaw))?;
        }
        Ok(Self {
            text: text.to_owned(),
            open,
        })
    }

    pub(super) fn matches(&self, key: &str) -> bool {
        match self.open {
            true => key.starts_with(&self.text),
            false => key == self.text,
        }
    }

    /// The narrowest filter of a bucket that lets all matching keys pass; others may pass too.
    pub(super) fn filter(&self) -> String {
        if !self.open {
            // It was checked when it was parsed.
            return data_key(&self.text).unwrap_or_else(|_| format!("{DATA}>"));
        }
        let mut escaped = String::new();
        let mut before = b'.';
        for byte in self.text.bytes() {
            escape(byte, before, &mut escaped);
            before = byte;
        }
        // Keys that are not escaped as a whole are so up to here.
        escaped.truncate(HEAD_MAX);
        let whole_tokens = escaped.rfind('.').map_or(0, |dot| dot + 1);
        format!("{DATA}{}>", &escaped[..whole_tokens])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_keys_are_what_they_were() {
        assert_eq!(data_key("jobs/a-1.b_2").as_deref(), Ok("d.jobs/a-1.b_2"));
        assert_eq!(lock_key("leader").as_deref(), Ok("l.leader"));
    }

    #[test]
    fn what_a_bucket_cannot_hold_is_escaped() {
        assert_eq!(data_key("a=b").as_deref(), Ok("d.a=3Db"));
        assert_eq!(data_key("a..b").as_deref(), Ok("d.a.=2Eb"));
        assert_eq!(data_key("é*>$").as_deref(), Ok("d.=C3=A9=2A=3E=24"));
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_flaw() {
        let flaw = |key: &str| data_key(key).expect_err("it is no key").flaw;
        assert_eq!(flaw(""), KeyFlaw::Empty);
        assert_eq!(flaw(&"k".repeat(KEY_LEN_MAX + 1)), KeyFlaw::TooLong);
        assert_eq!(flaw("a b"), KeyFlaw::Space);
        assert_eq!(flaw(".a"), KeyFlaw::Dot);
        assert_eq!(flaw("a."), KeyFlaw::Dot);
        assert!(data_key(&"k".repeat(KEY_LEN_MAX)).is_ok());
    }

    #[test]
    fn the_longest_keys_fit_whatever_they_hold() {
        for text in ["!", "a!", "a..", "ü", "火"] {
            let mut key = text.repeat(KEY_LEN_MAX);
            let mut end = KEY_LEN_MAX;
            while !key.is_char_boundary(end) || key[..end].ends_with('.') {
                end -= 1;
            }
            key.truncate(end);
            let stored = data_key(&key).expect("it is a key");
            assert!(names::is_key(&stored), "{text:?}: {stored}");
            assert_eq!(user_key(&stored), Some(key));
        }
    }

    #[test]
    fn what_others_wrote_is_no_key_of_ours() {
        for stored in ["a", "l.a", "d.a=3db", "d.a=41", "d.a==Yg", "d.=20", "d.=FF"] {
            assert_eq!(user_key(stored), None, "{stored}");
        }
    }

    #[test]
    fn patterns_hold_their_star_at_the_end() {
        for pattern in ["*", "a*", "a.*", "a", "a..*", "é*"] {
            assert!(Pattern::parse(pattern).is_ok(), "{pattern}");
        }
        let flaw = |pattern| Pattern::parse(pattern).expect_err("it is none").flaw;
        assert_eq!(flaw("*a"), KeyFlaw::Wildcard);
        assert_eq!(flaw("a**"), KeyFlaw::Wildcard);
        assert_eq!(flaw(""), KeyFlaw::Empty);
        assert_eq!(flaw("a."), KeyFlaw::Dot);
        assert_eq!(flaw(".a*"), KeyFlaw::Dot);
        assert_eq!(flaw(".*"), KeyFlaw::Dot);
        assert_eq!(flaw("a b*"), KeyFlaw::Space);
    }

    #[test]
    fn filters_are_as_narrow_as_whole_tokens_are() {
        let filter = |pattern| Pattern::parse(pattern).expect("it is one").filter();
        assert_eq!(filter("*"), "d.>");
        assert_eq!(filter("jo*"), "d.>");
        assert_eq!(filter("jobs.*"), "d.jobs.>");
        assert_eq!(filter("jobs.a=.b*"), "d.jobs.a=3D.>");
        assert_eq!(filter("jobs.a"), "d.jobs.a");
    }

    fn keys() -> impl Strategy<Value = String> {
        let long = proptest::collection::vec(any::<char>(), 300..500);
        let odd = proptest::collection::vec(
            proptest::sample::select(vec!['a', '.', '=', '!', 'é']),
            1..12,
        );
        prop_oneof![odd, long].prop_filter_map("no key", |chars| {
            let mut key: String = chars.into_iter().filter(|c| !c.is_whitespace()).collect();
            while key.len() > KEY_LEN_MAX {
                key.pop();
            }
            check(&key).is_ok().then_some(key)
        })
    }

    /// Whether a filter of tokens, `>` at its end perhaps, lets this key of a bucket pass.
    fn passes(filter: &str, stored: &str) -> bool {
        match filter.strip_suffix('>') {
            Some(before) => stored.len() > before.len() && stored.starts_with(before),
            None => stored == filter,
        }
    }

    proptest! {
        #[test]
        fn every_key_has_one_name_that_reads_back(key in keys()) {
            let stored = data_key(&key).expect("it is a key");
            prop_assert!(names::is_key(&stored), "{stored}");
            prop_assert_eq!(user_key(&stored), Some(key));
        }

        #[test]
        fn a_filter_lets_all_pass_that_its_pattern_matches(key in keys(), length in 0_usize..40) {
            let beginning: String = key.chars().take(length).filter(|c| *c != '*').collect();
            if let Ok(pattern) = Pattern::parse(&format!("{beginning}*")) {
                let filter = pattern.filter();
                prop_assert!(names::is_filter(&filter), "{filter}");
                if pattern.matches(&key) {
                    let stored = data_key(&key).expect("it is a key");
                    prop_assert!(passes(&filter, &stored), "{filter} {stored}");
                }
            }
        }
    }
}
