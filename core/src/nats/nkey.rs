//! The keys of real NATS: ed25519 in NATS' own spelling.

use std::fmt;
use std::sync::Arc;

use crate::jwt::{Key, KeyPair, Role, Seed};

/// A key that can sign for real servers.
#[derive(Clone)]
pub struct Nkey(Arc<nkeys::KeyPair>);

/// A text is not the seed of a key. Says nothing of the text, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the seed of an nkey")]
pub struct SeedError;

impl Nkey {
    /// A new key, drawn by the system.
    pub fn generate(role: Role) -> Self {
        Self(Arc::new(match role {
            Role::Operator => nkeys::KeyPair::new_operator(),
            Role::Account => nkeys::KeyPair::new_account(),
            Role::User => nkeys::KeyPair::new_user(),
        }))
    }

    /// The key of this seed.
    ///
    /// # Errors
    /// If it is the seed of none.
    pub fn from_seed(seed: &Seed) -> Result<Self, SeedError> {
        nkeys::KeyPair::from_seed(seed.reveal())
            .map(|key| Self(Arc::new(key)))
            .map_err(|_| SeedError)
    }
}

impl KeyPair for Nkey {
    fn public(&self) -> Key {
        self.0.public_key().into()
    }

    #[allow(clippy::expect_used, reason = "made from nothing but a seed")]
    fn seed(&self) -> Seed {
        Seed::new(self.0.seed().expect("the key has its secret half"))
    }

    #[allow(clippy::expect_used, reason = "made from nothing but a seed")]
    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.sign(bytes).expect("the key has its secret half")
    }
}

impl fmt::Debug for Nkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nkey({})", self.0.public_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_seed_and_shows_only_its_public_half() {
        let key = Nkey::generate(Role::User);
        assert!(key.public().starts_with('U') && key.seed().reveal().starts_with("SU"));
        let again = Nkey::from_seed(&key.seed()).expect("its own seed");
        assert_eq!(again.sign(b"nonce"), key.sign(b"nonce"));
        assert!(!format!("{again:?}").contains(key.seed().reveal()));
        assert_eq!(Nkey::from_seed(&Seed::new("SU1")).err(), Some(SeedError));
    }
}
