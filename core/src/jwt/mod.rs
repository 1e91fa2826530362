//! Tokens of NATS: what a JWT of an operator, an account or a user says, and how one is made.
//!
//! A token is `header.payload.signature`, each in base64url: the payload says who (`sub`) may do what until when, the
//! signature is the issuer's (`iss`). Three kinds hang together like a letter of credit: the operator signs accounts, an
//! account, or one of its signing keys, signs users, and a user proves with its own key that the letter is about it.
//!
//! [`Claims::read`] verifies nothing: a client reads its own token to know when it ends, and to judge it is the server's
//! business. [`mint`] makes tokens from any claims, wrong ones too, with keys that a [`KeyPair`] holds: nkeys on real
//! servers ([`crate::nats::Nkey`]), mere names in the simulated world.

mod claims;
mod token;

pub use claims::{
    Account, Claims, Grant, Granted, Limits, Operator, Permission, Realm, Untimely, User,
};
pub use token::{Key, KeyPair, ReadError, Role, Seed, Token, mint};
