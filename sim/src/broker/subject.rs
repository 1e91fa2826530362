//! Subjects, and filters over them.
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

/// True where some subject matches both filters.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let mut others = other.split('.');
    for token in one.split('.') {
        let Some(other) = others.next() else {
            return false;
        };
        if token == ">" || other == ">" {
            return true;
        }
        if token != "*" && other != "*" && token != other {
            return false;
        }
    }
    others.next().is_none()
}

/// The filters of a consumer or of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(Vec<Filter>);

impl Filters {
    /// `None` where the server refuses one of them.
    pub(super) fn parse<S: AsRef<str>>(filters: &[S]) -> Option<Self> {
        let parsed = filters.iter().map(|filter| Filter::parse(filter.as_ref()));
        parsed.collect::<Option<_>>().map(Self)
    }

    /// Whether there are none, so that everything matches.
    pub(super) fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// None of them match everything.
    pub(super) fn matches(&self, subject: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|filter| filter.matches(subject))
    }

    /// The one subject that they match, if it is one.
    pub(super) fn literal(&self) -> Option<&str> {
        match &self.0[..] {
            [Filter::Literal(subject)] => Some(subject),
            _ => None,
        }
    }
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
    fn filters_overlap_where_a_subject_matches_both() {
        for (one, other) in [
            ("a", "a"),
            ("a.*", "*.b"),
            ("a.>", "a.b.c"),
            (">", "x"),
            ("*.>", "a.b"),
        ] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("a", "b"),
            ("a", "a.>"),
            ("a.*", "a"),
            ("a.*", "a.b.c"),
            ("a.*.c", "*.b.d"),
        ] {
            assert!(
                !overlap(one, other) && !overlap(other, one),
                "{one} {other}"
            );
        }
    }
}
