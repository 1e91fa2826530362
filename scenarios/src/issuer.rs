//! Who issues accounts and users, in both worlds: an operator, its accounts, and their keys.
//!
//! One operator and any number of accounts, each known by a name, with a key that is made when the name is first used: an
//! nkey for real servers, a name for simulated ones. What is issued may be changed at will before it is signed, so that
//! wrong tokens come from the same place as right ones.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use squall_core::UnixTime;
use squall_core::jwt::{Account, Claims, KeyPair, Limits, Operator, Realm, Role, User, mint};
use squall_core::transport::Credentials;

/// The account of the server itself.
pub const SYSTEM: &str = "system";

/// When everything is issued that says nothing else: long ago, but not never, which servers take for revoked.
const ISSUED: UnixTime = UnixTime::from_secs(1_700_000_000);

/// Issues tokens.
pub struct Issuer<K> {
    make: fn(Role, &str) -> K,
    keys: Mutex<BTreeMap<(Role, String), K>>,
}

impl<K> fmt::Debug for Issuer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issuer")
    }
}

impl<K: KeyPair> Issuer<K> {
    /// An issuer whose keys are made by `make`.
    pub fn new(make: fn(Role, &str) -> K) -> Self {
        Self {
            make,
            keys: Mutex::default(),
        }
    }

    /// The key of this name: always the same.
    pub fn key(&self, role: Role, name: &str) -> K {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || (self.make)(role, name);
        keys.entry((role, name.to_owned()))
            .or_insert_with(make)
            .clone()
    }

    /// What a server is set up with that is to know these accounts, each without limits.
    pub fn realm(&self, accounts: &[&str]) -> Realm {
        let operator = self.key(Role::Operator, "operator");
        let system = self.key(Role::Account, SYSTEM).public();
        let granted = Operator {
            system_account: system.to_string(),
            ..Operator::default()
        };
        let claims = Claims::operator(&operator.public(), ISSUED, granted);
        Realm {
            operator: mint(&claims, &operator),
            accounts: std::iter::once(self.account(SYSTEM, |account, _| {
                // A server does not start whose system account may use JetStream.
                if let Some(limits) = &mut account.limits {
                    (limits.mem_storage, limits.disk_storage) = (0, 0);
                }
            }))
            .chain(accounts.iter().map(|name| self.account(name, |_, _| {})))
            .collect(),
        }
    }

    /// The token of an account, without limits and without end but for `change`.
    pub fn account(
        &self,
        name: &str,
        change: impl FnOnce(&mut Account, &mut Option<UnixTime>),
    ) -> String {
        let mut granted = Account {
            limits: Some(Limits::NONE),
            ..Account::default()
        };
        let mut expires = None;
        change(&mut granted, &mut expires);
        let key = self.key(Role::Account, name).public();
        let mut claims = Claims::account(&key, ISSUED, granted);
        claims.expires = expires;
        name.clone_into(&mut claims.name);
        mint(&claims, &self.key(Role::Operator, "operator"))
    }

    /// The claims of a user who may do everything, without end.
    pub fn claims(&self, user: &str) -> Claims {
        let key = self.key(Role::User, user).public();
        Claims::user(&key, ISSUED, User::default())
    }

    /// The credentials of a user of an account, who may do everything without end but for `change`.
    pub fn user(&self, account: &str, user: &str, change: impl FnOnce(&mut Claims)) -> Credentials {
        let mut claims = self.claims(user);
        change(&mut claims);
        let token = mint(&claims, &self.key(Role::Account, account));
        Credentials::new(token, self.key(Role::User, user).seed())
    }

    /// Where the system account publishes the new token of an account.
    pub fn update_subject(&self, account: &str) -> String {
        let key = self.key(Role::Account, account).public();
        format!("$SYS.REQ.ACCOUNT.{key}.CLAIMS.UPDATE")
    }
}
