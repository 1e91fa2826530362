//! Subjects, and filters over the keys of a bucket.
//!
//! A subject is a list of tokens between dots. In a filter, a token that is exactly `*` stands for any one token, and
//! a last token that is exactly `>` for one or more; anything else is itself (`a.b*` has no wildcard).

/// What stands before the key in the subject of a key.
pub(super) const KV_PREFIX: &str = "$KV.";

/// True where the server routes it at all: no empty token, no white space.
pub(super) fn is_routable(subject: &str) -> bool {
    let mut token_is_empty = true;
    for byte in subject.bytes() {
        match byte {
            b'.' if token_is_empty => return false,
            b'.' => token_is_empty = true,
            b' ' | b'\t' | b'\r' | b'\n' => return false,
            _ => token_is_empty = false,
        }
    }
    !token_is_empty
}

/// Bucket and key of the subject of a key.
pub(super) fn split_key(subject: &str) -> Option<(&str, &str)> {
    subject.strip_prefix(KV_PREFIX)?.split_once('.')
}

/// A filter, taken apart once so that the common ones cost nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// `>`.
    All,
    /// No wildcard.
    Literal(Box<str>),
    /// `prefix.>`, kept with its dot.
    Under(Box<str>),
    /// Anything else.
    Tokens(Box<str>),
}

impl Filter {
    /// `None` where the server refuses it ("invalid subject").
    pub(super) fn parse(filter: &str) -> Option<Self> {
        if !is_routable(filter) {
            return None;
        }
        let is_wild = |token| token == "*" || token == ">";
        Some(match filter.strip_suffix('>') {
            Some("") => Self::All,
            _ if !filter.split('.').any(is_wild) => Self::Literal(filter.into()),
            Some(prefix) if !prefix.trim_end_matches('.').split('.').any(is_wild) => {
                Self::Under(prefix.into())
            }
            _ => Self::Tokens(filter.into()),
        })
    }

    pub(super) fn matches(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Literal(literal) => **literal == *key,
            Self::Under(prefix) => key.len() > prefix.len() && key.starts_with(&**prefix),
            Self::Tokens(filter) => tokens_match(filter, key),
        }
    }
}

fn tokens_match(filter: &str, key: &str) -> bool {
    let mut tokens = key.split('.');
    let mut wanted = filter.split('.').peekable();
    while let Some(want) = wanted.next() {
        let Some(token) = tokens.next() else {
            return false;
        };
        match want {
            ">" => return wanted.peek().is_none(),
            "*" => {}
            _ if want != token => return false,
            _ => {}
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, key: &str) -> bool {
        Filter::parse(filter).expect("a filter").matches(key)
    }

    #[test]
    fn a_star_is_one_token_and_a_rest_is_at_least_one() {
        assert!(matches(">", "a") && matches(">", "a.b.c"));
        assert!(matches("a.*", "a.b") && !matches("a.*", "a") && !matches("a.*", "a.b.c"));
        assert!(matches("a.>", "a.b") && matches("a.>", "a.b.c") && !matches("a.>", "a"));
        assert!(!matches("a.>", "ab.c"));
        assert!(matches("*.b.>", "a.b.c.d") && !matches("*.b.>", "a.b"));
        assert!(!matches("a", "A"), "subjects are case-sensitive");
    }

    #[test]
    fn a_wildcard_inside_a_token_is_itself() {
        assert!(matches("a.b*", "a.b*") && !matches("a.b*", "a.bc"));
        assert!(matches("a.>b", "a.>b") && !matches("a.>b", "a.c"));
        assert!(
            !matches("x.>.y", "x.1.y"),
            "a rest that is not last matches nothing"
        );
    }

    #[test]
    fn empty_tokens_and_white_space_are_refused() {
        for filter in ["", "a..b", "bad key", ".a", "a."] {
            assert_eq!(Filter::parse(filter), None, "{filter:?}");
        }
    }

    #[test]
    fn a_key_subject_splits_at_its_bucket() {
        assert_eq!(split_key("$KV.b.k.l"), Some(("b", "k.l")));
        assert_eq!(split_key("$KV.b"), None);
        assert_eq!(split_key("KV.b.k"), None);
    }
}
