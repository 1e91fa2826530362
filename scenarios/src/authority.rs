//! [`Authority`]: whoever issues the agents' credentials in a run, and what a plan does to it.
//!
//! An auth service in front of an [`Issuer`]: it exchanges whatever an agent is known by for a token of short life, signed
//! by the account's present signing key. It is the same in both worlds, as it asks for nothing but the time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use squall_core::UnixTime;
use squall_core::jwt::{KeyPair, Realm, Role, mint};
use squall_core::transport::Credentials;

use crate::fault::{Fault, FaultKind};
use crate::issuer::Issuer;
use crate::plan::AuthPlan;

/// The accounts that agents can log in to. All begin in the first.
pub const ACCOUNTS: [&str; 2] = ["app", "other"];

/// The part of its life by which what is issued is backdated, for clocks that disagree: of five minutes, half of one.
const BACKDATED: u32 = 10;
/// Signing keys that each account begins with. One is used, and once it is taken back the next one.
const SIGNERS: u32 = 16;
/// What nobody may use who is not to use JetStream.
const JETSTREAM: [&str; 2] = ["$JS.API.>", "$KV.>"];

/// Why nothing was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The service knows nobody.
    #[error("401")]
    Unauthorized,
    /// The service is out of order.
    #[error("503")]
    Unavailable,
}

/// See the head of this file. Clones share it.
pub struct Authority<K>(Arc<Shared<K>>);

struct Shared<K> {
    plan: AuthPlan,
    issuer: Issuer<K>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Tokens issued so far: each has a name of its own, also where two are issued in one second.
    issued: u64,
    /// Faults that want it so.
    unauthorized: u32,
    unavailable: u32,
    slow: Duration,
    skew: i64,
    /// Agents that may not use JetStream, and how many faults want it so.
    narrowed: BTreeMap<String, u32>,
    /// Signing keys taken back so far.
    signers_gone: u32,
    /// Until when what was issued to an agent is void, in Unix seconds.
    revoked: BTreeMap<String, i64>,
    bites: BTreeMap<&'static str, u64>,
}

impl<K> Clone for Authority<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> fmt::Debug for Authority<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

fn signer(account: &str, number: u32) -> String {
    format!("{account}-signer-{number}")
}

impl<K: KeyPair> Authority<K> {
    /// As the plan has it, with keys that `make` makes.
    pub fn new(plan: AuthPlan, make: fn(Role, &str) -> K) -> Self {
        let state = State {
            skew: plan.skew,
            ..State::default()
        };
        Self(Arc::new(Shared {
            plan,
            issuer: Issuer::new(make),
            state: Mutex::new(state),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What servers are set up with.
    pub fn realm(&self) -> Realm {
        let mut realm = self.0.issuer.realm(&[]);
        let accounts = ACCOUNTS.iter().map(|account| self.account(account));
        realm.accounts.extend(accounts);
        realm
    }

    /// What the system account publishes, and where, so that servers know what has become of an account.
    pub fn update(&self, account: &str) -> (String, String) {
        (self.0.issuer.update_subject(account), self.account(account))
    }

    /// Credentials of the system account.
    pub fn system(&self) -> Credentials {
        let system = crate::issuer::SYSTEM;
        self.0.issuer.user(system, "monitor", |_| {})
    }

    /// Credentials of somebody who follows what an account stores: they have no end, and are signed by the account's own
    /// key, which is never taken back.
    pub fn observer(&self, account: &str) -> Credentials {
        self.0.issuer.user(account, "observer", |_| {})
    }

    /// The present token of an account.
    fn account(&self, account: &str) -> String {
        let (gone, revoked) = {
            let state = self.state();
            (state.signers_gone, state.revoked.clone())
        };
        let issuer = &self.0.issuer;
        issuer.account(account, |granted, _| {
            let keys = (gone..SIGNERS)
                .map(|number| issuer.key(Role::Account, &signer(account, number)).public());
            granted.signing_keys = keys.map(|key| key.to_string()).collect::<BTreeSet<_>>();
            let users = revoked.iter();
            granted.revocations = users
                .map(|(agent, until)| (issuer.key(Role::User, agent).public().to_string(), *until))
                .collect();
        })
    }

    /// How long an exchange takes that begins now.
    pub fn takes(&self) -> Duration {
        let mut state = self.state();
        if !state.slow.is_zero() {
            *state.bites.entry("auth-slow").or_default() += 1;
        }
        self.0.plan.takes + state.slow
    }

    /// What an agent is issued at this time.
    ///
    /// # Errors
    /// Nothing, as a fault has it.
    pub fn exchange(
        &self,
        agent: &str,
        account: &str,
        now: UnixTime,
    ) -> Result<Credentials, Denied> {
        let mut state = self.state();
        let denied = match &*state {
            State { unauthorized, .. } if *unauthorized > 0 => {
                Some((Denied::Unauthorized, "auth-401"))
            }
            State { unavailable, .. } if *unavailable > 0 => {
                Some((Denied::Unavailable, "auth-5xx"))
            }
            _ => None,
        };
        if let Some((denied, fault)) = denied {
            *state.bites.entry(fault).or_default() += 1;
            return Err(denied);
        }
        if state.skew != self.0.plan.skew {
            *state.bites.entry("auth-skew").or_default() += 1;
        }
        let issuer = &self.0.issuer;
        let now = now.offset(state.skew);
        let mut claims = issuer.claims(agent);
        claims.issued = now;
        let life = self.0.plan.life;
        claims.not_before = Some(now - life / BACKDATED);
        claims.expires = Some(now + life);
        state.issued += 1;
        claims.name = format!("{agent}-{}", state.issued);
        claims.vouch_for(&issuer.key(Role::Account, account).public());
        if state.narrowed.get(agent).is_some_and(|faults| *faults > 0) {
            *state.bites.entry("narrow-permissions").or_default() += 1;
            claims.restrict(&[], &JETSTREAM);
        }
        let signer = issuer.key(Role::Account, &signer(account, state.signers_gone));
        let token = mint(&claims, &signer);
        Ok(Credentials::new(
            token,
            issuer.key(Role::User, agent).seed(),
        ))
    }

    /// Does a fault, as far as it is done to what is issued. True where servers must be told of it.
    pub fn begin(&self, fault: &Fault, now: UnixTime) -> bool {
        let mut state = self.state();
        match fault.kind {
            FaultKind::Auth401 => state.unauthorized += 1,
            FaultKind::Auth5xx => state.unavailable += 1,
            FaultKind::AuthSlow(by) => state.slow += by,
            FaultKind::AuthSkew(by) => state.skew += by,
            FaultKind::NarrowPermissions => {
                *state.narrowed.entry(fault.target.clone()).or_default() += 1;
            }
            FaultKind::RevokeSigner if state.signers_gone + 1 < SIGNERS => {
                state.signers_gone += 1;
                return true;
            }
            FaultKind::Kick | FaultKind::Revoke => {
                state.revoked.insert(fault.target.clone(), now.as_secs());
                return true;
            }
            _ => {}
        }
        false
    }

    /// Mends it. True where servers must be told.
    pub fn end(&self, fault: &Fault) -> bool {
        let mut state = self.state();
        match fault.kind {
            FaultKind::Auth401 => state.unauthorized -= 1,
            FaultKind::Auth5xx => state.unavailable -= 1,
            FaultKind::AuthSlow(by) => state.slow -= by,
            FaultKind::AuthSkew(by) => state.skew -= by,
            FaultKind::NarrowPermissions => {
                if let Some(faults) = state.narrowed.get_mut(&fault.target) {
                    *faults -= 1;
                }
            }
            FaultKind::Kick => {
                state.revoked.remove(&fault.target);
                return true;
            }
            _ => {}
        }
        false
    }

    /// How often faults of this kind have changed anything so far.
    pub fn bites(&self, fault: &Fault) -> u64 {
        let state = self.state();
        state.bites.get(fault.kind.name()).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use squall_core::jwt::Claims;
    use squall_sim::SimKey;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_780_000_000);

    fn fault(kind: FaultKind, target: &str) -> Fault {
        Fault {
            at: Duration::ZERO,
            lasts: Duration::from_secs(1),
            target: target.to_owned(),
            kind,
        }
    }

    fn authority() -> Authority<SimKey> {
        let life = Duration::from_secs(300);
        Authority::new(AuthPlan::new(life), SimKey::new)
    }

    fn issued(authority: &Authority<SimKey>) -> Claims {
        let credentials = authority
            .exchange("alice", "app", NOW)
            .expect("it is issued");
        credentials.claims().expect("it can be read").clone()
    }

    #[test]
    fn what_is_issued_is_valid_for_a_life_and_has_a_name_of_its_own() {
        let authority = authority();
        let [one, other] = [(); 2].map(|()| issued(&authority));
        assert_eq!(one.expires, Some(NOW + Duration::from_secs(300)));
        assert_eq!(one.not_before, Some(NOW - Duration::from_secs(30)));
        assert_ne!(one.name, other.name, "issued in the same second");
        assert_eq!(one.subject, other.subject);
    }

    #[test]
    fn faults_are_done_and_mended() {
        let authority = authority();
        let refused = fault(FaultKind::Auth401, "auth");
        assert!(!authority.begin(&refused, NOW));
        let denied = authority.exchange("alice", "app", NOW).map(drop);
        assert_eq!(
            (denied, authority.bites(&refused)),
            (Err(Denied::Unauthorized), 1)
        );
        authority.end(&refused);
        let skewed = fault(FaultKind::AuthSkew(-60_000_000_000), "auth");
        authority.begin(&skewed, NOW);
        assert_eq!(
            issued(&authority).expires,
            Some(NOW + Duration::from_secs(240))
        );
        authority.end(&skewed);
        let narrow = fault(FaultKind::NarrowPermissions, "alice");
        authority.begin(&narrow, NOW);
        let denied = |claims: &Claims| claims.as_user().map(|user| user.publish.deny.len());
        assert_eq!(denied(&issued(&authority)), Some(2));
        authority.end(&narrow);
        assert_eq!(denied(&issued(&authority)), Some(0));
    }

    #[test]
    fn what_is_taken_back_shows_in_the_accounts_token() {
        let authority = authority();
        let account = || {
            let (_, token) = authority.update("app");
            let claims = Claims::read(&token).expect("it can be read");
            claims.as_account().expect("an account's").clone()
        };
        let before = issued(&authority);
        assert!(account().signing_keys.contains(&before.issuer));
        assert!(authority.begin(&fault(FaultKind::RevokeSigner, "auth"), NOW));
        assert!(!account().signing_keys.contains(&before.issuer));
        assert!(account().signing_keys.contains(&issued(&authority).issuer));
        let kick = fault(FaultKind::Kick, "alice");
        assert!(authority.begin(&kick, NOW));
        assert_eq!(
            account().revocations.get(&before.subject),
            Some(&NOW.as_secs())
        );
        assert!(authority.end(&kick));
        assert!(account().revocations.is_empty());
    }
}
