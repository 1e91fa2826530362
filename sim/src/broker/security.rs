//! Operator mode: who is let in, until when, and whom an account's new token turns out.
//!
//! The rules are those of nats-server with user JWTs. What matters most: times are compared in whole seconds of the
//! server's wall clock, but a connection's end is a timer set when it is accepted, `exp` less the second that it was then;
//! so that each connection ends at `exp` plus the fraction of a second it came with, whatever the wall clock does
//! meanwhile. A token is still accepted in its last second, and ended at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use squall_core::jwt::{self, Claims, Realm, Token};
use squall_core::{Instant, UnixTime};

use super::config::Now;
use super::permissions::Permissions;
use crate::keys::is_genuine;
use crate::wire::{LinkId, Presented};

/// An account of a server, by its place in the server's settings. Where there is no operator mode there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Account(pub(super) usize);

/// Who is known and who is logged in.
#[derive(Debug)]
pub(super) struct Security {
    operators: BTreeSet<String>,
    system: Option<Account>,
    accounts: Vec<Known>,
    sessions: BTreeMap<LinkId, Session>,
}

/// An account of the settings.
#[derive(Debug)]
struct Known {
    key: String,
    /// What the server was set up with, and finds again when it is restarted.
    preloaded: Arc<str>,
    /// Read at the first login; from then on what it was updated to.
    loaded: Option<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    account: jwt::Account,
    /// When all of its connections end.
    ends: Option<Instant>,
    is_expired: bool,
    at: Instant,
}

/// Somebody logged in.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) account: Account,
    pub(super) permissions: Option<Arc<Permissions>>,
    /// To be turned out once it has been told that it is in.
    pub(super) is_doomed: bool,
    user: String,
    issuer: String,
    issued: UnixTime,
}

/// Somebody may come in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) account: Account,
    /// Time until the token ends; zero in its last second.
    pub(super) life: Option<Duration>,
    /// Set where this login was the first of its account, and the account's token ends.
    pub(super) account_ends: Option<Instant>,
}

/// Somebody may not: the `-ERR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Unauthorized,
    TooMany,
}

impl Refused {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Unauthorized => "Authorization Violation",
            Self::TooMany => "maximum account active connections exceeded",
        }
    }
}

/// Somebody has to go; without words where a signing key is gone.
pub(super) type Eviction = (LinkId, Option<&'static str>);

/// What became of an update.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Updated {
    Done {
        evicted: Vec<Eviction>,
        account_ends: Option<Instant>,
        account: Account,
    },
    /// The account is not in use, so there is nothing to update.
    Skipped,
    Refused(&'static str),
}

impl Security {
    pub(super) fn new(realm: &Realm) -> Self {
        let mut operators = BTreeSet::new();
        let mut system = None;
        if let Ok(claims) = Claims::read(&realm.operator)
            && let Some(operator) = claims.as_operator()
        {
            operators.extend(operator.signing_keys.iter().cloned());
            system = Some(operator.system_account.clone());
            operators.insert(claims.subject);
        }
        let accounts: Vec<Known> = realm
            .accounts
            .iter()
            .filter_map(|token| {
                let key = Claims::read(token).ok()?.subject;
                Some(Known {
                    key,
                    preloaded: token.as_str().into(),
                    loaded: None,
                })
            })
            .collect();
        let is_system = |known: &Known| Some(&known.key) == system.as_ref();
        Self {
            system: accounts.iter().position(is_system).map(Account),
            operators,
            accounts,
            sessions: BTreeMap::new(),
        }
    }

    pub(super) fn accounts(&self) -> usize {
        self.accounts.len()
    }

    pub(super) fn account(&self, key: &str) -> Option<Account> {
        let found = self.accounts.iter().position(|known| known.key == key);
        found.map(Account)
    }

    /// What JetStream may use in an account: memory, and files.
    pub(super) fn storage(&self, account: Account) -> [bool; 2] {
        let loaded = self.accounts[account.0].loaded.as_ref();
        let limits = loaded.and_then(|loaded| loaded.account.limits.as_ref());
        limits.map_or([false; 2], |limits| {
            [limits.mem_storage != 0, limits.disk_storage != 0]
        })
    }

    pub(super) fn is_system(&self, account: Account) -> bool {
        self.system == Some(account)
    }

    pub(super) fn session(&self, link: LinkId) -> Option<&Session> {
        self.sessions.get(&link)
    }

    pub(super) fn forget(&mut self, link: LinkId) {
        self.sessions.remove(&link);
    }

    /// The process is gone, and with it what it had learnt since its start.
    pub(super) fn stop(&mut self) {
        self.sessions.clear();
        for known in &mut self.accounts {
            known.loaded = None;
        }
    }

    /// Somebody presents a token.
    pub(super) fn log_in(
        &mut self,
        now: Now,
        link: LinkId,
        presented: Option<&Presented>,
    ) -> Result<Admitted, Refused> {
        let refused = Refused::Unauthorized;
        let presented = presented.ok_or(refused)?;
        let token = Token::read(&presented.jwt).map_err(|_| refused)?;
        let is_valid = is_genuine(&token) && token.claims.untimely(now.wall).is_none();
        let claims = &token.claims;
        let user = claims.as_user().filter(|_| is_valid).ok_or(refused)?;
        let mut publish = user.publish.allow.iter().chain(&user.publish.deny);
        if publish.any(|subject| subject.contains(char::is_whitespace)) {
            // Queue groups are for subscriptions: a server takes this for no user's token at all.
            return Err(refused);
        }
        let account = match &*user.issuer_account {
            "" => &claims.issuer,
            account => account,
        };
        let account = self.account(account).ok_or(refused)?;
        let account_ends = self.load(now, account).ok_or(refused)?;
        let key = &self.accounts[account.0].key;
        let connections = self.connections(account);
        let loaded = self.accounts[account.0].loaded.as_ref().ok_or(refused)?;
        let is_signer =
            claims.issuer == *key || loaded.account.signing_keys.contains(&claims.issuer);
        let is_revoked = is_revoked(&loaded.account, &claims.subject, claims.issued);
        if loaded.is_expired || !is_signer || is_revoked || *presented.signer != *claims.subject {
            return Err(refused);
        }
        let limits = loaded.account.limits.as_ref();
        let most = limits.map_or(0, |limits| limits.conn);
        if most >= 0 && connections >= most as usize {
            return Err(Refused::TooMany);
        }
        let life = claims.expires.map(|end| until(now.wall, end));
        let session = Session {
            account,
            permissions: Permissions::of(user),
            is_doomed: life == Some(Duration::ZERO),
            user: claims.subject.clone(),
            issuer: claims.issuer.clone(),
            issued: claims.issued,
        };
        self.sessions.insert(link, session);
        Ok(Admitted {
            account,
            life,
            account_ends,
        })
    }

    /// Reads an account's token if that was not done yet, or if what it was updated to has ended: updates are not kept
    /// where the server looks. `None` where it is no good; when a newly read one ends.
    fn load(&mut self, now: Now, account: Account) -> Option<Option<Instant>> {
        if let Some(loaded) = &self.accounts[account.0].loaded {
            let is_due = now.monotonic.since(loaded.at) >= REREAD_AFTER;
            if !loaded.is_expired || !is_due {
                return Some(None);
            }
        }
        let token = self.accounts[account.0].preloaded.clone();
        let loaded = self.judge(now, account, &token).ok()?;
        let ends = loaded.ends;
        self.accounts[account.0].loaded = Some(loaded);
        Some(ends)
    }

    fn judge(&self, now: Now, account: Account, token: &str) -> Result<Loaded, &'static str> {
        let token = Token::read(token).map_err(|_| "expected 3 chunks")?;
        let claims = &token.claims;
        let granted = claims.as_account().ok_or("not account claim")?;
        if claims.subject != self.accounts[account.0].key {
            return Err("subject does not match jwt content");
        }
        if !is_genuine(&token) || !self.operators.contains(&claims.issuer) {
            return Err("account validation failed");
        }
        if claims.untimely(now.wall).is_some() {
            return Err("account expired");
        }
        let life = claims.expires.map(|end| until(now.wall, end));
        Ok(Loaded {
            account: granted.clone(),
            ends: life.map(|life| now.monotonic + life),
            is_expired: life == Some(Duration::ZERO),
            at: now.monotonic,
        })
    }

    fn connections(&self, account: Account) -> usize {
        let of_account = |session: &&Session| session.account == account;
        self.sessions.values().filter(of_account).count()
    }

    /// An account gets another token.
    pub(super) fn update(&mut self, now: Now, key: &str, token: &str) -> Updated {
        let Some(account) = self.account(key) else {
            return Updated::Skipped;
        };
        let loaded = match self.judge(now, account, token) {
            Ok(loaded) => loaded,
            Err(why) => return Updated::Refused(why),
        };
        if self.accounts[account.0].loaded.is_none() {
            return Updated::Skipped;
        }
        let evicted = self
            .sessions
            .iter()
            .filter(|(_, session)| session.account == account)
            .filter_map(|(&link, session)| {
                let is_signer =
                    session.issuer == key || loaded.account.signing_keys.contains(&session.issuer);
                if is_revoked(&loaded.account, &session.user, session.issued) {
                    Some((link, Some("User Authentication Revoked")))
                } else if !is_signer {
                    Some((link, None))
                } else {
                    None
                }
            })
            .collect();
        let account_ends = loaded.ends;
        self.accounts[account.0].loaded = Some(loaded);
        Updated::Done {
            evicted,
            account_ends,
            account,
        }
    }

    /// An account's timer fired: whoever has to go, if that is the time at which its present token ends.
    pub(super) fn account_ended(&mut self, now: Instant, account: Account) -> Vec<Eviction> {
        match &mut self.accounts[account.0].loaded {
            Some(loaded) if loaded.ends.is_some_and(|ends| ends <= now) && !loaded.is_expired => {
                loaded.is_expired = true;
            }
            _ => return Vec::new(),
        }
        let members = self.sessions.iter();
        members
            .filter(|(_, session)| session.account == account)
            .map(|(&link, _)| (link, Some("Account Authentication Expired")))
            .collect()
    }
}

/// An account that was read less than this ago is not read again.
const REREAD_AFTER: Duration = Duration::from_secs(1);

/// Whole seconds from the second that it is now: the fraction of the present one is not looked at.
fn until(now: UnixTime, end: UnixTime) -> Duration {
    let seconds = end.as_secs() - now.as_secs();
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn is_revoked(account: &jwt::Account, user: &str, issued: UnixTime) -> bool {
    let revoked = |who: &str| {
        let at = account.revocations.get(who);
        at.is_some_and(|&at| issued.as_secs() <= at)
    };
    let is_dateless = issued.as_secs() == 0 && !account.revocations.is_empty();
    is_dateless || revoked(user) || revoked("*")
}
