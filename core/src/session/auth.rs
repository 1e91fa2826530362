//! The service that turns an API key into a credential of five minutes.
//!
//! What matters of its errors is one question: is the answer definite? Only [`Unauthorized`](ExchangeError::Unauthorized)
//! is. Everything else, a 503 as well as a page of HTML, says nothing about the key, and is tried again.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::UnixTime;
use crate::transport::Credentials;

/// Issues credentials. Cheap to clone.
pub trait AuthService: Clone + Send + Sync + 'static {
    /// Asks for a fresh credential. May take as long as it likes: who waits brings a time-out of its own, after which the
    /// answer is dropped.
    ///
    /// # Errors
    /// See [`ExchangeError`]. A credential may have been issued all the same; nobody will use it.
    fn exchange(
        &self,
        request: ExchangeRequest,
    ) -> impl Future<Output = Result<Issued, ExchangeError>> + Send;
}

/// What is asked of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeRequest {
    /// Who asks.
    pub api_key: ApiKey,
}

/// The secret that a person or a machine was given. Shows itself to nobody who does not ask.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Arc<str>);

impl ApiKey {
    /// As it was given.
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        Self(key.into())
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// Whose credential it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Account {
    /// Never changes.
    pub id: Arc<str>,
    /// For people.
    pub name: Arc<str>,
}

/// A fresh credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    account: Account,
    credentials: Credentials,
    not_before: Option<UnixTime>,
    expires: UnixTime,
}

impl Issued {
    /// Of what a service answered.
    ///
    /// # Errors
    /// [`ExchangeError::Malformed`] if the token cannot be read, is not a user's, or has no end: such a one could not be
    /// refreshed in time.
    pub fn new(account: Account, credentials: Credentials) -> Result<Self, ExchangeError> {
        let malformed = |why: &str| ExchangeError::Malformed(why.into());
        let claims = credentials
            .claims()
            .ok_or_else(|| malformed("the token cannot be read"))?;
        if claims.as_user().is_none() {
            return Err(malformed("the token is not a user's"));
        }
        let expires = claims
            .expires
            .ok_or_else(|| malformed("the token has no end"))?;
        Ok(Self {
            account,
            not_before: claims.not_before,
            expires,
            credentials,
        })
    }

    /// Whose it is.
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// What to log in with.
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Its first second (`nbf`), if it has one.
    pub const fn not_before(&self) -> Option<UnixTime> {
        self.not_before
    }

    /// Its last second (`exp`): a server ends a connection that was dialled with it within the second after this begins.
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }
}

/// There is no fresh credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The service does not accept the key (401). The only definite answer: nothing is tried again with this key.
    #[error("the auth service does not accept the key: {0}")]
    Unauthorized(Arc<str>),
    /// It answered with another status than 200 and 401.
    #[error("the auth service answered with status {0}")]
    Status(u16),
    /// No answer in time.
    #[error("the auth service did not answer in time")]
    TimedOut,
    /// It was not reached.
    #[error("the auth service was not reached: {0}")]
    Unreachable(Arc<str>),
    /// It answered with something that is no credential.
    #[error("the auth service answered with something else than a credential: {0}")]
    Malformed(Arc<str>),
}

impl ExchangeError {
    /// Whether asking again with this key is pointless.
    pub const fn is_definite(&self) -> bool {
        matches!(self, Self::Unauthorized(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::{Claims, Key, KeyPair, Seed, User, mint};

    #[derive(Clone)]
    struct Name(&'static str);

    impl KeyPair for Name {
        fn public(&self) -> Key {
            self.0.into()
        }

        fn seed(&self) -> Seed {
            Seed::new(self.0)
        }

        fn sign(&self, _: &[u8]) -> Vec<u8> {
            self.0.into()
        }
    }

    fn account() -> Account {
        Account {
            id: "1".into(),
            name: "app".into(),
        }
    }

    fn issued(claims: &Claims) -> Result<Issued, ExchangeError> {
        let token = mint(claims, &Name("A"));
        Issued::new(account(), Credentials::new(token, Seed::new("s")))
    }

    #[test]
    fn only_a_users_token_with_an_end_is_a_credential() {
        let mut claims = Claims::user("U", UnixTime::from_secs(1), User::default());
        let endless = issued(&claims).expect_err("it has no end");
        assert_eq!(
            endless,
            ExchangeError::Malformed("the token has no end".into())
        );
        claims.expires = Some(UnixTime::from_secs(300));
        claims.not_before = Some(UnixTime::from_secs(2));
        let good = issued(&claims).expect("a credential");
        assert_eq!(good.expires(), UnixTime::from_secs(300));
        assert_eq!(good.not_before(), claims.not_before);
        let nothing = Issued::new(account(), Credentials::new("<html>", Seed::new("s")));
        assert!(matches!(nothing, Err(ExchangeError::Malformed(_))));
        let mut wrong = Claims::account("A", UnixTime::from_secs(1), Default::default());
        wrong.expires = claims.expires;
        assert!(matches!(issued(&wrong), Err(ExchangeError::Malformed(_))));
    }

    #[test]
    fn a_key_does_not_show() {
        let request = ExchangeRequest {
            api_key: ApiKey::new("secret"),
        };
        assert!(!format!("{request:?}").contains("secret"));
    }
}
