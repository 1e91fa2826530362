//! Keys of the simulated world: a name instead of a curve, so that no cryptography runs in a simulation.
//!
//! A signature is a hash of the key's name and of what is signed. Anybody could forge it, and nobody here does; but a
//! token that was changed after it was signed, or signed by somebody else, does not pass, and that is all that a server's
//! rules ask.

use std::sync::Arc;

use squall_core::jwt::{Key, KeyPair, Role, Seed, Token};

/// A key of the simulated world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimKey(Key);

impl SimKey {
    /// The key of this name: another name, or another role, is another key.
    ///
    /// # Panics
    /// If the name cannot stand in a subject.
    pub fn new(role: Role, name: &str) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(name.bytes().all(is_plain), "not a plain name: {name:?}");
        let letter = match role {
            Role::Operator => 'O',
            Role::Account => 'A',
            Role::User => 'U',
        };
        Self(format!("{letter}_{name}").into())
    }

    /// The key of this seed; of a seed that is none of this world, a key that nothing is signed for.
    pub(crate) fn from_seed(seed: &Seed) -> Self {
        let seed = seed.reveal();
        Self(Arc::from(seed.strip_prefix('S').unwrap_or(seed)))
    }
}

impl KeyPair for SimKey {
    fn public(&self) -> Key {
        self.0.clone()
    }

    fn seed(&self) -> Seed {
        Seed::new(format!("S{}", self.0))
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        signature(&self.0, bytes).into()
    }
}

/// True if the issuer that a token names has signed what it says.
pub(crate) fn is_genuine(token: &Token<'_>) -> bool {
    token.signature == signature(&token.claims.issuer, token.signed.as_bytes())
}

/// FNV-1a over name and bytes.
fn signature(key: &str, bytes: &[u8]) -> [u8; 8] {
    let all = key.bytes().chain([0]).chain(bytes.iter().copied());
    let hash = all.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use squall_core::UnixTime;
    use squall_core::jwt::{Claims, User, mint};

    use super::*;

    #[test]
    fn what_was_changed_or_signed_by_another_does_not_pass() {
        let (account, user) = (
            SimKey::new(Role::Account, "app"),
            SimKey::new(Role::User, "alice"),
        );
        let claims = Claims::user(&user.public(), UnixTime::EPOCH, User::default());
        let token = mint(&claims, &account);
        let mut read = Token::read(&token).expect("a token");
        assert!(is_genuine(&read));
        read.claims.issuer = user.public().to_string();
        assert!(!is_genuine(&read));
        assert_eq!(SimKey::from_seed(&user.seed()), user);
    }
}
