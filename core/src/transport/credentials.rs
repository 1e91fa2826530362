//! What a client logs in with: a user's JWT and seed, in a cell that can be filled anew at any time.
//!
//! A client reads the cell at each attempt to connect and at no other time; a live connection keeps what it was dialled
//! with until it ends. So credentials are rotated in two steps: fill the cell, then
//! [`reconnect`](super::Connection::reconnect), connect another client, or wait for the server's kick. Reading is all that
//! an attempt does: servers give it two seconds, so nothing may be fetched then.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::jwt::{Claims, Seed};
use crate::time::UnixTime;

/// A user's token and the secret half of the key it was issued for. Neither shows in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    jwt: Arc<str>,
    seed: Seed,
    claims: Option<Arc<Claims>>,
}

impl Credentials {
    /// Of a token and its seed; whether they fit each other, or anything, the server will say.
    pub fn new(jwt: impl Into<Arc<str>>, seed: Seed) -> Self {
        let jwt = jwt.into();
        let claims = Claims::read(&jwt).ok().map(Arc::new);
        Self { jwt, seed, claims }
    }

    /// The token, as it is sent. A secret, or nearly: nobody can log in with it alone.
    pub fn jwt(&self) -> &Arc<str> {
        &self.jwt
    }

    /// The secret.
    pub const fn seed(&self) -> &Seed {
        &self.seed
    }

    /// What the token says, not verified; `None` if that cannot be read.
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_deref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        if let Some(claims) = self.claims() {
            shown.field("subject", &claims.subject);
            shown.field("expires", &claims.expires);
        }
        shown.finish_non_exhaustive()
    }
}

/// Where a client finds what to log in with. Clones share it; two cells are equal if they are the same one.
#[derive(Clone, Default)]
pub struct CredentialsCell(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    credentials: Option<Credentials>,
    generation: u64,
}

impl CredentialsCell {
    /// An empty cell: who reads it logs in as nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// A cell with these credentials, as generation 1.
    pub fn filled(credentials: Credentials) -> Self {
        let cell = Self::new();
        cell.fill(credentials);
        cell
    }

    /// Puts other credentials in, for all attempts from now on, and gives their generation.
    pub fn fill(&self, credentials: Credentials) -> u64 {
        let mut content = self.lock();
        content.credentials = Some(credentials);
        content.generation += 1;
        content.generation
    }

    /// Takes the credentials away: a logout.
    pub fn clear(&self) {
        self.lock().credentials = None;
    }

    /// What an attempt finds now.
    pub fn read(&self) -> (Login, Option<Credentials>) {
        let content = self.lock();
        let credentials = content.credentials.clone();
        let claims = credentials.as_ref().and_then(Credentials::claims);
        let login = Login {
            generation: content.generation,
            expires: claims.and_then(|claims| claims.expires),
        };
        (login, credentials)
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CredentialsCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}

impl PartialEq for CredentialsCell {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for CredentialsCell {}

/// What one attempt to connect found in the cell, as far as anybody may know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// How often the cell had been filled; 0 if never.
    pub generation: u64,
    /// When the token ends (`exp`); `None` if it does not, cannot be read, or there was none.
    pub expires: Option<UnixTime>,
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}", self.generation)?;
        match self.expires {
            Some(expires) => write!(f, ", expires {expires}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_counts_its_generations_and_shares_what_it_holds() {
        let cell = CredentialsCell::new();
        let other = cell.clone();
        assert_eq!(cell.read(), (Login::default(), None));
        assert_eq!(cell.fill(Credentials::new("j1", Seed::new("s1"))), 1);
        assert_eq!(cell.fill(Credentials::new("j2", Seed::new("s2"))), 2);
        let (login, credentials) = other.read();
        assert_eq!(login.generation, 2);
        assert_eq!(&**credentials.expect("it is filled").jwt(), "j2");
        cell.clear();
        assert_eq!(other.read().1, None);
        assert!(cell == other && cell != CredentialsCell::new());
    }

    #[test]
    fn secrets_do_not_show() {
        let cell = CredentialsCell::filled(Credentials::new("token", Seed::new("secret")));
        let shown = format!("{cell:?} {:?}", cell.read());
        assert!(
            !shown.contains("token") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
