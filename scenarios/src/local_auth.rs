//! [`LocalAuth`]: an auth service in one's own process, which signs with an account's key: for sessions on real servers.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use squall_core::jwt::{KeyPair, Role};
use squall_core::session::{Account, AuthService, ExchangeError, ExchangeRequest, Issued};
use squall_core::{Clock, UnixTime};

use crate::issuer::Issuer;

/// Issues credentials of one account; whoever asks is the user that the key names. Clones are the same one.
pub struct LocalAuth<K, C> {
    issuer: Arc<Issuer<K>>,
    clock: C,
    account: Arc<str>,
    life: Duration,
    fault: Arc<Mutex<Option<ExchangeError>>>,
}

impl<K, C: Clone> Clone for LocalAuth<K, C> {
    fn clone(&self) -> Self {
        Self {
            issuer: Arc::clone(&self.issuer),
            clock: self.clock.clone(),
            account: Arc::clone(&self.account),
            life: self.life,
            fault: Arc::clone(&self.fault),
        }
    }
}

impl<K, C> fmt::Debug for LocalAuth<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalAuth({})", self.account)
    }
}

impl<K: KeyPair, C: Clock> LocalAuth<K, C> {
    /// Issues credentials of this account that live so long, and are backdated by 30 s.
    pub fn new(issuer: Arc<Issuer<K>>, clock: C, account: &str, life: Duration) -> Self {
        Self {
            issuer,
            clock,
            account: account.into(),
            life,
            fault: Arc::default(),
        }
    }

    /// Answers so from now on; `None`: with credentials.
    pub fn answer(&self, fault: Option<ExchangeError>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

impl<K: KeyPair, C: Clock> AuthService for LocalAuth<K, C> {
    async fn exchange(&self, request: ExchangeRequest) -> Result<Issued, ExchangeError> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = fault.clone() {
            return Err(error);
        }
        drop(fault);
        let now = self.clock.wall();
        let whole = |time: UnixTime| Some(UnixTime::from_secs(time.as_secs()));
        let user = request.api_key.reveal();
        let credentials = self.issuer.user(&self.account, user, |claims| {
            claims.issued = now;
            claims.expires = whole(now + self.life);
            claims.not_before = whole(now - Duration::from_secs(30));
        });
        let account = Account {
            id: self.issuer.key(Role::Account, &self.account).public(),
            name: Arc::clone(&self.account),
        };
        Issued::new(account, credentials)
    }
}
