//! How claims become a token and a token claims, and the keys that sign.

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use sha2::{Digest as _, Sha512_256};

use super::claims::Claims;

/// `{"typ":"JWT","alg":"ed25519-nkey"}`, as servers want it.
const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;

/// What a key is for. It shows in its first letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `O`: signs accounts.
    Operator,
    /// `A`: signs users.
    Account,
    /// `U`: signs the server's nonce.
    User,
}

/// A public key, as claims name it: `U` and 55 more letters for a user.
pub type Key = Arc<str>;

/// A key that can sign.
pub trait KeyPair: Clone + Send + Sync + 'static {
    /// Its public half.
    fn public(&self) -> Key;

    /// Its secret half, in writing.
    fn seed(&self) -> Seed;

    /// Signs.
    fn sign(&self, bytes: &[u8]) -> Vec<u8>;
}

/// The secret half of a key, in writing. Shows itself to nobody who does not ask.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed(Arc<str>);

impl Seed {
    /// As it is written in a file: `SU...` for a user.
    pub fn new(seed: impl Into<Arc<str>>) -> Self {
        Self(seed.into())
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Makes a token of these claims, signed by `issuer`; `iss` and `jti` are filled in. Whether they make sense is asked
/// by the server alone.
pub fn mint(claims: &Claims, issuer: &impl KeyPair) -> String {
    let mut claims = Claims {
        issuer: issuer.public().to_string(),
        id: String::new(),
        ..claims.clone()
    };
    claims.id = BASE32_NOPAD.encode(&Sha512_256::digest(claims.json()));
    let mut token = BASE64URL_NOPAD.encode(HEADER.as_bytes());
    token.push('.');
    token.push_str(&BASE64URL_NOPAD.encode(claims.json().as_bytes()));
    let signature = issuer.sign(token.as_bytes());
    token.push('.');
    token.push_str(&BASE64URL_NOPAD.encode(&signature));
    token
}

/// A token taken apart; nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What was signed.
    pub signed: &'a str,
    /// With what result.
    pub signature: Vec<u8>,
    /// What it says.
    pub claims: Claims,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(token: &'a str) -> Result<Self, ReadError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(ReadError::Form)?;
        let (_, payload) = signed.split_once('.').ok_or(ReadError::Form)?;
        let bytes = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes());
        let payload = bytes(payload).map_err(|_| ReadError::Form)?;
        Ok(Self {
            signed,
            signature: bytes(signature).map_err(|_| ReadError::Form)?,
            claims: serde_json::from_slice(&payload).map_err(|_| ReadError::Claims)?,
        })
    }
}

/// A text is not a token of NATS. Says nothing of the text, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not three parts in base64url.
    #[error("not a JWT: it does not have three parts in base64url")]
    Form,
    /// The middle part is not what NATS puts there.
    #[error("a JWT, but without the claims of an operator, an account or a user of NATS")]
    Claims,
}

impl Claims {
    /// What a token says. Verifies nothing.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(token: &str) -> Result<Self, ReadError> {
        Token::read(token).map(|token| token.claims)
    }

    #[allow(clippy::expect_used, reason = "strings, numbers and lists only")]
    fn json(&self) -> String {
        serde_json::to_string(self).expect("claims can be written as JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::super::claims::{Permission, User};
    use super::*;
    use crate::time::UnixTime;

    /// Signs with its own name.
    #[derive(Clone)]
    struct Name(&'static str);

    impl KeyPair for Name {
        fn public(&self) -> Key {
            self.0.into()
        }

        fn seed(&self) -> Seed {
            Seed::new(format!("S{}", self.0))
        }

        fn sign(&self, _: &[u8]) -> Vec<u8> {
            self.0.into()
        }
    }

    fn user() -> Claims {
        let mut user = User::default();
        user.publish.allow = vec!["a.>".to_owned()];
        Claims::user("U1", UnixTime::from_secs(1_700_000_000), user)
    }

    #[test]
    fn what_is_minted_can_be_read() {
        let mut claims = user();
        claims.expires = Some(UnixTime::from_secs(1_700_000_300));
        let token = mint(&claims, &Name("A1"));
        let read = Token::read(&token).expect("a token");
        assert_eq!(read.signature, b"A1");
        assert_eq!((&*read.claims.issuer, &*read.claims.subject), ("A1", "U1"));
        assert_eq!(read.claims.expires, claims.expires);
        assert_eq!(read.claims.not_before, None);
        let granted = read.claims.as_user().expect("a user");
        assert_eq!(granted.publish.allow, ["a.>"]);
        assert_eq!(granted.subscribe, Permission::default());
        assert_eq!(read.claims.id.len(), 52);
    }

    #[test]
    fn an_expiry_of_zero_is_none_as_for_servers() {
        let json = r#"{"jti":"x","iat":1,"iss":"A","sub":"U","exp":0,
                       "nats":{"type":"user","version":2,"more":[]}}"#;
        let claims: Claims = serde_json::from_str(json).expect("claims");
        assert_eq!(claims.expires, None);
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        for text in ["", "secret", "a.b", "a.b.c", "e30.e30.e30"] {
            let error = Claims::read(text).expect_err("no token");
            assert!(!error.to_string().contains("secret"));
        }
        assert!(!format!("{:?}", Name("U1").seed()).contains("U1"));
    }
}
