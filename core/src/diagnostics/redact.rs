//! Keeps secrets out of what is written down and shown.
//!
//! The reasons of events are the texts of other programs, and those quote what they were given: a URL with a password
//! in it, a token, a seed. What has the shape of a secret, or stands behind the name of one, is struck out. That errs
//! on the side of silence, and still is only the second line of defence: nobody should put a secret into a reason.

use std::borrow::Cow;

use serde_json::Value;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// What secrets are called; also at the end of a longer name, such as `access_token`.
const NAMES: [&str; 10] = [
    "password", "passwd", "pwd", "secret", "token", "api_key", "api-key", "apikey", "seed", "jwt",
];

/// The text without its secrets.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut clean = String::new();
    // So far `text` is in `clean`, and so far it has been read.
    let (mut copied, mut read) = (0, 0);
    let mut before: Option<&str> = None;
    while let Some(start) = text[read..].find(is_of_word) {
        let at = read + start;
        let rest = &text[at..];
        let word = &rest[..rest.find(|c| !is_of_word(c)).unwrap_or(rest.len())];
        let gap = &text[read..at];
        let secret = before
            .filter(|before| announces(before, gap, word))
            .map(|_| &rest[..rest.find(ends_value).unwrap_or(rest.len())])
            .or_else(|| user_info(rest).filter(|_| gap == "://"))
            .or_else(|| is_secret(word).then_some(word));
        read = at + secret.unwrap_or(word).len();
        before = Some(word);
        if secret.is_some() {
            clean += &text[copied..at];
            clean += REDACTED;
            copied = read;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    clean += &text[copied..];
    Cow::Owned(clean)
}

/// The value without its secrets: in its texts, and under the names of secrets.
pub(super) fn redact_value(name: &str, value: &mut Value) {
    match value {
        Value::Null | Value::Bool(_) => {}
        _ if is_name(name) => *value = Value::String(REDACTED.to_owned()),
        Value::Number(_) => {}
        Value::String(text) => {
            if let Cow::Owned(clean) = redact(text) {
                *text = clean;
            }
        }
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| redact_value(name, value)),
        Value::Object(fields) => fields
            .iter_mut()
            .for_each(|(name, value)| redact_value(name, value)),
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '~' | '%')
}

fn ends_value(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '"' | '\'' | '`' | ',' | ';' | '&' | ')' | ']' | '}' | '>'
        )
}

fn is_name(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    NAMES.iter().any(|name| word.ends_with(name))
}

/// Whether `word` is a secret, for what stands before it and the gap between the two.
fn announces(before: &str, gap: &str, word: &str) -> bool {
    let is_scheme = ["bearer", "basic"]
        .iter()
        .any(|scheme| before.eq_ignore_ascii_case(scheme));
    if is_scheme && gap.chars().all(char::is_whitespace) {
        return !word.chars().all(|c| c.is_ascii_lowercase());
    }
    let sign = gap.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`'));
    is_name(before) && matches!(sign, "=" | ":")
}

/// `user:password@` of a URL, without the sign at its end. Up to the last such sign: nobody makes sure that a password
/// is written as a URL wants it.
fn user_info(address: &str) -> Option<&str> {
    let end = address.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`'));
    let address = &address[..end.unwrap_or(address.len())];
    address.rsplit_once('@').map(|(user_info, _)| user_info)
}

/// The shape of a JWT, whole or cut off, or of an nkey's seed or private key.
fn is_secret(word: &str) -> bool {
    let is_base32 = |c: char| matches!(c, 'A'..='Z' | '2'..='7');
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    (word.starts_with("eyJ") && word.len() >= 16)
        || (word.starts_with(['S', 'P']) && word.len() >= 40 && word.chars().all(is_base32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const KEY: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    const JWT: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJqdGkiOiJYIn0.c2lnbmF0dXJl";

    #[test]
    fn secrets_are_struck_out_and_the_rest_stays() {
        let cases = [
            ("nats: Authorization Violation", None),
            ("old=c1 new=c2", None),
            ("old=0x14000123abc new=0x14000456def", None),
            (
                "token refresh failed: 503 for https://auth.example/exchange",
                None,
            ),
            ("nats://10.0.0.7:4222", None),
            (
                "nats://amy:hunter2@10.0.0.7:4222, retrying",
                Some("nats://[redacted]@10.0.0.7:4222, retrying"),
            ),
            (
                "nats://amy:hun/t@r#2@host/x",
                Some("nats://[redacted]@host/x"),
            ),
            ("nats://s3cr3t@host", Some("nats://[redacted]@host")),
            (
                "GET https://x/y?access_token=a/b+c==&n=1",
                Some("GET https://x/y?access_token=[redacted]&n=1"),
            ),
            (
                "Authorization: Bearer abc.def/g= refused",
                Some("Authorization: Bearer [redacted] refused"),
            ),
            (
                r#"{"password": "hun$ter 2", "api_key":"k-1"}"#,
                Some(r#"{"password": "[redacted] 2", "api_key":"[redacted]"}"#),
            ),
            ("PASSWORD=p@ss!w0rd", Some("PASSWORD=[redacted]")),
            ("basic auth failed", None),
            ("Basic dXNlcjpwYXNz", Some("Basic [redacted]")),
            ("seed: abc", Some("seed: [redacted]")),
        ];
        for (text, clean) in cases {
            assert_eq!(redact(text), clean.unwrap_or(text));
        }
    }

    #[test]
    fn keys_and_tokens_are_known_by_their_shape() {
        let text = format!("user {KEY} with {SEED}, {JWT}; cut off: {}", &JWT[..30]);
        let clean = format!("user {KEY} with {REDACTED}, {REDACTED}; cut off: {REDACTED}");
        assert_eq!(redact(&text), clean);
        assert_eq!(
            redact(&format!("creds=({SEED})")),
            format!("creds=({REDACTED})")
        );
    }

    #[test]
    fn a_value_is_cleaned_at_every_depth() {
        let mut value = serde_json::json!({
            "host": { "name": "x", "tokens": ["a"], "refresh_token": { "of": 1 } },
            "note": format!("see {JWT}"),
            "secret": 12345,
            "count": 7,
        });
        redact_value("", &mut value);
        let clean = serde_json::json!({
            "host": { "name": "x", "tokens": ["a"], "refresh_token": REDACTED },
            "note": "see [redacted]",
            "secret": REDACTED,
            "count": 7,
        });
        assert_eq!(value, clean);
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_cleaned_and_holds_no_seed(before in ".*", after in ".*") {
            let clean = redact(&format!("{before} {SEED} {after}")).into_owned();
            proptest::prop_assert!(!clean.contains(SEED));
        }
    }
}
