//! [`AuthServer`]: the service that issues credentials in the simulated world, with the faults that real ones have.
//!
//! It stands on a machine of its own, so its wall clock may be ahead of everybody's or behind. Its answers take a time that is
//! drawn for each of them, so that two questions may be answered in the other order. What chance decides comes from a
//! stream of its own, so that a question more or less shifts nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use squall_core::jwt::{Claims, KeyPair as _, Role, User, mint};
use squall_core::session::{Account, ApiKey, AuthService, ExchangeError, ExchangeRequest, Issued};
use squall_core::transport::Credentials;
use squall_core::{Rng, UnixTime};

use crate::clock::WALL_START;
use crate::keys::SimKey;
use crate::world::World;

/// The life of a credential, and how long before its issue it begins to be valid.
const LIFE: Duration = Duration::from_secs(300);
const BACKDATED: Duration = Duration::from_secs(30);
/// The shortest and the longest time an answer takes.
const ANSWER: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(40)];

/// The service. Clones are the same one.
#[derive(Clone)]
pub struct AuthServer {
    world: World,
    state: Arc<Mutex<State>>,
}

struct State {
    rng: Rng,
    users: BTreeMap<String, Granted>,
    life: Duration,
    backdated: Duration,
    faults: Vec<AuthFault>,
    /// Its wall clock, ahead of true time.
    skew: i64,
    issued: u64,
}

#[derive(Clone)]
struct Granted {
    account: Account,
    signer: SimKey,
    user: SimKey,
    is_revoked: bool,
    /// Where it may not publish.
    denied: Vec<String>,
}

/// What may be wrong with the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFault {
    /// It answers with this status.
    Status(u16),
    /// It does not answer.
    Mute,
    /// Nobody reaches it.
    Unreachable,
    /// It accepts no key.
    Unauthorized,
    /// It takes so much longer.
    Slow(Duration),
    /// It answers with a page for people.
    Garbled,
}

impl fmt::Debug for AuthServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthServer")
    }
}

impl AuthServer {
    /// A service that knows nobody yet.
    pub fn new(world: &World, name: &str) -> Self {
        let seed = world.change(|state| state.net.seed);
        let state = State {
            rng: Rng::labelled(seed, &format!("auth/{name}")),
            users: BTreeMap::new(),
            life: LIFE,
            backdated: BACKDATED,
            faults: Vec::new(),
            skew: 0,
            issued: 0,
        };
        Self {
            world: world.clone(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Whoever shows this key is this user of this account.
    pub fn grant(&self, api_key: &str, account: &str, user: &str) {
        let signer = SimKey::new(Role::Account, account);
        let granted = Granted {
            account: Account {
                id: signer.public(),
                name: account.into(),
            },
            signer,
            user: SimKey::new(Role::User, user),
            is_revoked: false,
            denied: Vec::new(),
        };
        self.lock().users.insert(api_key.to_owned(), granted);
    }

    /// From now on this key is not accepted.
    pub fn revoke(&self, api_key: &str) {
        if let Some(granted) = self.lock().users.get_mut(api_key) {
            granted.is_revoked = true;
        }
    }

    /// What is issued for this key from now on does not allow to publish there.
    pub fn deny(&self, api_key: &str, subjects: &[&str]) {
        if let Some(granted) = self.lock().users.get_mut(api_key) {
            granted.denied = subjects.iter().map(|&subject| subject.to_owned()).collect();
        }
    }

    /// Credentials live so long from now on.
    pub fn set_life(&self, life: Duration) {
        self.lock().life = life;
    }

    /// Credentials begin to be valid so long before they are issued.
    pub fn set_backdated(&self, backdated: Duration) {
        self.lock().backdated = backdated;
    }

    /// Its wall clock is now ahead of the truth by so many nanoseconds more.
    pub fn skew(&self, nanos: i64) {
        self.lock().skew += nanos;
    }

    /// Something is wrong with it, until [`mend`](Self::mend). Of several things the first decides, but for slowness,
    /// which adds.
    pub fn spoil(&self, fault: AuthFault) {
        self.lock().faults.push(fault);
    }

    /// Ends one [`spoil`](Self::spoil) of the same fault.
    pub fn mend(&self, fault: AuthFault) {
        let mut state = self.lock();
        if let Some(at) = state.faults.iter().position(|other| *other == fault) {
            state.faults.remove(at);
        }
    }

    /// Credentials issued so far.
    pub fn issued(&self) -> u64 {
        self.lock().issued
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn delay(&mut self) -> Duration {
        let [least, most] = ANSWER.map(|time| time.as_nanos() as u64);
        let mut delay = Duration::from_nanos(self.rng.between(least, most));
        for fault in &self.faults {
            if let AuthFault::Slow(by) = fault {
                delay += *by;
            }
        }
        delay
    }

    fn answer(&mut self, api_key: &ApiKey, truth: UnixTime) -> Result<Issued, ExchangeError> {
        for fault in &self.faults {
            return Err(match fault {
                AuthFault::Status(status) => ExchangeError::Status(*status),
                AuthFault::Unauthorized => ExchangeError::Unauthorized("no key is accepted".into()),
                AuthFault::Garbled => ExchangeError::Malformed("a page for people".into()),
                AuthFault::Unreachable | AuthFault::Mute => {
                    ExchangeError::Unreachable("connection refused".into())
                }
                AuthFault::Slow(_) => continue,
            });
        }
        let granted = self.users.get(api_key.reveal());
        let Some(granted) = granted.filter(|granted| !granted.is_revoked) else {
            return Err(ExchangeError::Unauthorized("unknown key".into()));
        };
        let now = truth.offset(self.skew);
        let mut claims = Claims::user(&granted.user.public(), now, User::default());
        // Whole seconds, as in every token.
        claims.expires = Some(UnixTime::from_secs((now + self.life).as_secs()));
        claims.not_before = Some(UnixTime::from_secs((now - self.backdated).as_secs()));
        let denied: Vec<&str> = granted.denied.iter().map(String::as_str).collect();
        claims.restrict(&[], &denied);
        let token = mint(&claims, &granted.signer);
        self.issued += 1;
        Issued::new(
            granted.account.clone(),
            Credentials::new(token, granted.user.seed()),
        )
    }

    fn is_mute(&self) -> bool {
        let first = self
            .faults
            .iter()
            .find(|it| !matches!(it, AuthFault::Slow(_)));
        first == Some(&AuthFault::Mute)
    }
}

impl AuthService for AuthServer {
    async fn exchange(&self, request: ExchangeRequest) -> Result<Issued, ExchangeError> {
        let delay = self.lock().delay();
        self.world.sleep_until(self.world.now() + delay).await;
        if self.lock().is_mute() {
            std::future::pending::<()>().await;
        }
        let truth = WALL_START + self.world.now().elapsed();
        self.lock().answer(&request.api_key, truth)
    }
}
