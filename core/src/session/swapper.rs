//! The decision core of the connection: which one is current, when another is dialled, and when one is given up.
//!
//! Like a relay race: the next runner is up to speed, and the baton in both hands, before the first one lets go. So it is
//! done for every new generation of the credential: dial, re-arm everything that listens, one round trip, and only then
//! is the new connection current and the old one retired.
//!
//! A connection is stamped with the generation that it was *dialled* with and keeps it: it has a credential of its own,
//! never the newest. So an old token is never mistaken for a fresh one; and because a connection is over with the first
//! word of the server against its token, no client ever dials in a circle through the second in which the token ends, nor
//! in step with all the others.
//!
//! Invariants: one dial at a time; one probe at a time; a generation takes the place of a living connection once; an
//! attempt after a failure is at least [`BACKOFF_MIN`] after it; after logout, and after a definite no without a
//! connection, nothing is dialled.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::{BACKOFF_MAX, BACKOFF_MIN};
use super::happened::Happened;
use super::refresher::Generation;
use crate::diagnostics::{Caller, EventType};
use crate::env::Rng;
use crate::machine::Machine;
use crate::time::{Instant, UnixTime};
use crate::transport::{
    ConnectError, ConnectionEvent, ConnectionId, DisconnectCause, FlushError, is_auth_error,
};

/// The longest first wait: so many clients that lose one server at once are spread over six seconds.
const BACKOFF_FIRST_MAX: Duration = Duration::from_secs(8);
/// Added to the longest wait with each failure, up to [`BACKOFF_MAX`].
const BACKOFF_STEP: Duration = Duration::from_secs(2);
/// Refusals in a row after which a fresh credential is no reason to hurry: it would be refused too.
const REFUSALS_IN_HASTE: u32 = 1;

/// One attempt to have another connection. Counts all of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dial(pub u64);

/// What a [`Swapper`] hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapperEvent {
    /// There is a credential, newer than any before.
    Issued {
        /// Its number.
        generation: Generation,
        /// Its end.
        expires: UnixTime,
        /// Who wanted it.
        caller: Caller,
    },
    /// There will be no more credentials for this login.
    Unauthorized,
    /// Nobody is logged in any more.
    Logout(Caller),
    /// Answers [`SwapperEffect::Dial`].
    Dialled(Dial, Result<ConnectionId, ConnectError>),
    /// Answers [`SwapperEffect::Arm`].
    Armed(Dial, Result<(), FlushError>),
    /// Something happened to a connection.
    Heard(ConnectionId, ConnectionEvent),
    /// An operation on this connection got no answer from JetStream in time, or a watch no sign of life.
    Failed(ConnectionId, String),
    /// Answers [`SwapperEffect::Probe`].
    Probed(ConnectionId, Result<(), FlushError>),
    /// An operation found no connection.
    Wanted,
    /// The machine has slept.
    Woke,
    /// Answers [`SwapperEffect::Retire`]: it is closed.
    Retired(ConnectionId),
}

/// What a [`Swapper`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapperEffect {
    /// Connect with the credential of this generation, which is the newest.
    Dial(Dial, Generation),
    /// Make everything that listens listen on the new connection too, then one round trip on it.
    Arm(Dial),
    /// From now on this is the connection that is used.
    Install(Dial),
    /// Close this connection once nothing is under way on it any more.
    Retire(ConnectionId),
    /// Close this connection at once.
    Close(ConnectionId),
    /// Close what came of this attempt, or stop it.
    Abandon(Dial),
    /// One round trip on this connection, at most 5 s.
    Probe(ConnectionId),
    /// A server refused the newest credential: have another.
    Refresh(Caller),
    /// Tell what happened.
    Tell(Happened),
    /// There is no connection and will be none for this login.
    Over,
}

#[derive(Clone, Debug)]
struct Credential {
    generation: Generation,
    expires: UnixTime,
    caller: Caller,
}

/// A connection that is current, or was.
#[derive(Clone, Debug)]
struct Held {
    id: ConnectionId,
    generation: Generation,
    expires: UnixTime,
    /// Who made it so.
    caller: Caller,
    is_up: bool,
    since: Instant,
}

#[derive(Clone, Debug)]
struct Dialling {
    dial: Dial,
    credential: Credential,
    caller: Caller,
    /// Connected, and being armed.
    arming: Option<ConnectionId>,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Swapper {
    rng: Rng,
    /// `None`: nobody is logged in, or nothing was issued yet.
    newest: Option<Credential>,
    /// No more credentials will come: what is lost now stays lost.
    is_last: bool,
    current: Option<Held>,
    retiring: BTreeMap<ConnectionId, Held>,
    dialling: Option<Dialling>,
    /// The next attempt, and for whom.
    waiting: Option<(Instant, Caller)>,
    dials: u64,
    /// Attempts in a row that have failed.
    failures: u32,
    /// Credentials in a row that a server has refused, and the last of them.
    refusals: u32,
    refused: Generation,
    /// Whose round trip is awaited, and what made it doubtful.
    probing: Option<(ConnectionId, String)>,
}

impl Swapper {
    /// Draws its waits from `rng`.
    pub const fn new(rng: Rng) -> Self {
        Self {
            rng,
            newest: None,
            is_last: false,
            current: None,
            retiring: BTreeMap::new(),
            dialling: None,
            waiting: None,
            dials: 0,
            failures: 0,
            refusals: 0,
            refused: Generation(0),
            probing: None,
        }
    }

    /// The connection that is current, and what it was dialled with.
    pub fn current(&self) -> Option<(ConnectionId, Generation)> {
        let current = self.current.as_ref()?;
        Some((current.id, current.generation))
    }

    fn dial(&mut self, now: Instant, caller: Caller, effects: &mut Vec<SwapperEffect>) {
        assert!(self.dialling.is_none(), "one dial at a time");
        self.forgive(now);
        self.waiting = None;
        let Some(credential) = self.newest.clone() else {
            return;
        };
        self.dials += 1;
        let dial = Dial(self.dials);
        effects.push(SwapperEffect::Dial(dial, credential.generation));
        self.dialling = Some(Dialling {
            dial,
            credential,
            caller,
            arming: None,
        });
    }

    /// A connection that has lasted shows that credentials are not refused any more.
    fn forgive(&mut self, now: Instant) {
        let lasted = |current: &Held| now.since(current.since) > BACKOFF_MAX;
        if self.current.as_ref().is_some_and(lasted) {
            self.refusals = 0;
        }
    }

    /// The newest credential is not that of the current connection.
    fn is_stale(&self) -> bool {
        match (&self.newest, &self.current) {
            (Some(newest), Some(current)) => newest.generation > current.generation,
            (newest, _) => newest.is_some(),
        }
    }

    /// Goes on after a connection was lost, or an attempt has failed.
    fn go_on(&mut self, now: Instant, tried: Generation, effects: &mut Vec<SwapperEffect>) {
        if self.dialling.is_some() || !self.is_stale() {
            return;
        }
        if self.is_last && self.current.is_none() {
            (self.newest, self.waiting) = (None, None);
            effects.push(SwapperEffect::Over);
            return;
        }
        let newer = self.newest.as_ref().filter(|it| it.generation > tried);
        match newer.map(|it| it.caller.clone()) {
            Some(caller) if self.refusals <= REFUSALS_IN_HASTE => self.dial(now, caller, effects),
            _ => {
                let caller = match &self.current {
                    None => Caller::RECOVERY,
                    Some(_) => Caller::REFRESH,
                };
                self.waiting = Some((now + self.backoff(), caller));
            }
        }
    }

    /// Waits are drawn from a range, not doubled: who lost one server together shall not come back together.
    fn backoff(&mut self) -> Duration {
        let longest = (BACKOFF_FIRST_MAX + BACKOFF_STEP * self.failures).min(BACKOFF_MAX);
        let millis = |time: Duration| time.as_millis() as u64;
        Duration::from_millis(self.rng.between(millis(BACKOFF_MIN), millis(longest)))
    }

    fn refuse(&mut self, generation: Generation, effects: &mut Vec<SwapperEffect>) {
        // The same one refused again says nothing of the next.
        self.refusals += u32::from(generation > self.refused);
        self.refused = generation;
        if self
            .newest
            .as_ref()
            .is_some_and(|it| it.generation == generation)
        {
            effects.push(SwapperEffect::Refresh(Caller::RECOVERY));
        }
    }

    fn failed(
        &mut self,
        now: Instant,
        dialling: Dialling,
        why: &str,
        effects: &mut Vec<SwapperEffect>,
    ) {
        let reason = format!(
            "cannot connect with {}: {why}",
            dialling.credential.generation
        );
        let warn = Happened::new(EventType::Warn, dialling.caller).because(reason);
        effects.push(SwapperEffect::Tell(Happened {
            expires: Some(dialling.credential.expires),
            ..warn
        }));
        self.go_on(now, dialling.credential.generation, effects);
        self.failures += 1;
    }

    fn install(
        &mut self,
        now: Instant,
        dialling: Dialling,
        id: ConnectionId,
        effects: &mut Vec<SwapperEffect>,
    ) {
        let Dialling {
            dial,
            credential,
            caller,
            ..
        } = dialling;
        let old = self.current.take();
        effects.push(SwapperEffect::Install(dial));
        let kind = match old {
            Some(_) => EventType::Swap,
            None => EventType::Connect,
        };
        effects.push(SwapperEffect::Tell(Happened {
            replaced: old.as_ref().map(|old| old.id),
            ..Happened::new(kind, caller.clone()).to(id, credential.expires)
        }));
        if let Some(old) = old {
            effects.push(SwapperEffect::Retire(old.id));
            let caller = caller.clone();
            self.retiring.insert(old.id, Held { caller, ..old });
        }
        self.current = Some(Held {
            id,
            generation: credential.generation,
            expires: credential.expires,
            caller,
            is_up: true,
            since: now,
        });
        self.failures = 0;
        if self.is_stale()
            && let Some(newest) = &self.newest
        {
            let caller = newest.caller.clone();
            self.dial(now, caller, effects);
        }
    }

    /// The current connection is over: says so, and goes on.
    fn lose(
        &mut self,
        now: Instant,
        kind: EventType,
        caller: Caller,
        reason: String,
        effects: &mut Vec<SwapperEffect>,
    ) {
        let Some(lost) = self.current.take() else {
            return;
        };
        if self.probing.as_ref().is_some_and(|(id, _)| *id == lost.id) {
            self.probing = None;
        }
        let told = Happened::new(kind, caller).to(lost.id, lost.expires);
        effects.push(SwapperEffect::Tell(told.because(reason)));
        effects.push(SwapperEffect::Close(lost.id));
        self.go_on(now, lost.generation, effects);
    }

    fn heard(&mut self, now: Instant, event: ConnectionEvent, effects: &mut Vec<SwapperEffect>) {
        let Some(current) = &mut self.current else {
            return;
        };
        let to = |kind| Happened::new(kind, Caller::CLIENT).to(current.id, current.expires);
        match event {
            ConnectionEvent::Disconnected(cause) => {
                let told = to(EventType::Disconnect).because(cause.to_string());
                effects.push(SwapperEffect::Tell(told));
                current.is_up = false;
                if let DisconnectCause::ServerError(text) = cause
                    && is_auth_error(&text)
                {
                    self.kicked(now, &text, effects);
                }
            }
            ConnectionEvent::Reconnected => {
                current.is_up = true;
                effects.push(SwapperEffect::Tell(to(EventType::Reconnect)));
            }
            // Where the link is up, its end follows.
            ConnectionEvent::AuthError(text) => {
                if !current.is_up {
                    self.kicked(now, &text, effects);
                }
            }
            ConnectionEvent::LameDuck
            | ConnectionEvent::SlowConsumer
            | ConnectionEvent::ServerError(_) => {
                let warn = to(EventType::Warn).because(event.to_string());
                effects.push(SwapperEffect::Tell(warn));
            }
            ConnectionEvent::Closed => {
                let reason = "the client gave up".to_owned();
                self.forgive(now);
                self.lose(now, EventType::Closed, Caller::CLIENT, reason, effects);
            }
            ConnectionEvent::Connected
            | ConnectionEvent::LoggingIn(_)
            | ConnectionEvent::ReconnectFailed(_) => {}
        }
    }

    /// The server has spoken against the credential of the current connection.
    fn kicked(&mut self, now: Instant, text: &str, effects: &mut Vec<SwapperEffect>) {
        let Some(current) = &self.current else {
            return;
        };
        let generation = current.generation;
        self.forgive(now);
        self.refuse(generation, effects);
        self.lose(
            now,
            EventType::Closed,
            Caller::CLIENT,
            text.to_owned(),
            effects,
        );
    }

    /// Something happened to a connection that is not current any more.
    fn heard_of_retiring(
        &mut self,
        id: ConnectionId,
        event: &ConnectionEvent,
        effects: &mut Vec<SwapperEffect>,
    ) {
        let Some(old) = self.retiring.get(&id) else {
            return;
        };
        match event {
            ConnectionEvent::Disconnected(cause) => {
                let told = Happened::new(EventType::Disconnect, Caller::CLIENT);
                let told = told.to(id, old.expires).because(cause.to_string());
                effects.push(SwapperEffect::Tell(told));
                // Nobody needs it enough to dial again.
                effects.push(SwapperEffect::Close(id));
                self.retired(id, effects);
            }
            ConnectionEvent::Closed => self.retired(id, effects),
            _ => {}
        }
    }

    fn retired(&mut self, id: ConnectionId, effects: &mut Vec<SwapperEffect>) {
        if let Some(old) = self.retiring.remove(&id) {
            let told = Happened::new(EventType::Closed, old.caller).to(id, old.expires);
            effects.push(SwapperEffect::Tell(told.because("replaced")));
        }
    }

    fn log_out(&mut self, caller: Caller, effects: &mut Vec<SwapperEffect>) {
        if let Some(dialling) = self.dialling.take() {
            effects.push(SwapperEffect::Abandon(dialling.dial));
        }
        let held = std::mem::take(&mut self.retiring).into_values();
        for held in held.chain(self.current.take()) {
            let told = Happened::new(EventType::Closed, caller.clone());
            effects.push(SwapperEffect::Tell(told.to(held.id, held.expires)));
            effects.push(SwapperEffect::Close(held.id));
        }
        (self.newest, self.waiting, self.probing) = (None, None, None);
        (self.is_last, self.failures, self.refusals) = (false, 0, 0);
    }

    fn probe(&mut self, id: ConnectionId, doubt: String, effects: &mut Vec<SwapperEffect>) {
        if self.probing.is_none() && self.current.as_ref().is_some_and(|it| it.id == id) {
            effects.push(SwapperEffect::Probe(id));
            self.probing = Some((id, doubt));
        }
    }

    fn probed(
        &mut self,
        now: Instant,
        id: ConnectionId,
        result: Result<(), FlushError>,
        effects: &mut Vec<SwapperEffect>,
    ) {
        let Some((_, doubt)) = self.probing.take_if(|(probed, _)| *probed == id) else {
            return;
        };
        let Some(current) = self.current.as_ref().filter(|it| it.id == id) else {
            return;
        };
        match result {
            Ok(()) => {
                let warn = Happened::new(EventType::Warn, Caller::PROBE);
                let warn = warn.to(id, current.expires);
                let reason = format!("{doubt}; the connection answers and is kept");
                effects.push(SwapperEffect::Tell(warn.because(reason)));
            }
            Err(error) => {
                let reason = format!("{doubt}; probe: {error}");
                self.lose(now, EventType::ForceClose, Caller::PROBE, reason, effects);
                // It was given up, not lost: nothing says that the next would fail.
                if self.waiting.is_some() {
                    self.dial(now, Caller::RECOVERY, effects);
                }
            }
        }
    }
}

impl Machine for Swapper {
    type Event = SwapperEvent;
    type Effect = SwapperEffect;

    fn handle(&mut self, now: Instant, event: SwapperEvent, effects: &mut Vec<SwapperEffect>) {
        match event {
            SwapperEvent::Issued {
                generation,
                expires,
                caller,
            } => {
                assert!(
                    self.newest
                        .as_ref()
                        .is_none_or(|it| generation > it.generation),
                    "generations are counted"
                );
                self.newest = Some(Credential {
                    generation,
                    expires,
                    caller: caller.clone(),
                });
                self.is_last = false;
                let in_haste = self.waiting.is_none() || self.refusals <= REFUSALS_IN_HASTE;
                if self.dialling.is_none() && in_haste {
                    self.dial(now, caller, effects);
                }
            }
            SwapperEvent::Unauthorized => {
                self.is_last = true;
                if self.current.is_none() {
                    self.log_out(Caller::REFRESH, effects);
                    effects.push(SwapperEffect::Over);
                }
            }
            SwapperEvent::Logout(caller) => self.log_out(caller, effects),
            SwapperEvent::Dialled(dial, result) => {
                let Some(mut dialling) = self.dialling.take_if(|it| it.dial == dial) else {
                    return;
                };
                match result {
                    Ok(id) => {
                        effects.push(SwapperEffect::Arm(dial));
                        dialling.arming = Some(id);
                        self.dialling = Some(dialling);
                    }
                    Err(error) => {
                        if matches!(error, ConnectError::Auth(_)) {
                            self.refuse(dialling.credential.generation, effects);
                        }
                        self.failed(now, dialling, &error.to_string(), effects);
                    }
                }
            }
            SwapperEvent::Armed(dial, result) => {
                let Some(dialling) = self.dialling.take_if(|it| it.dial == dial) else {
                    return;
                };
                match (dialling.arming, result) {
                    (Some(id), Ok(())) => self.install(now, dialling, id, effects),
                    (_, result) => {
                        effects.push(SwapperEffect::Abandon(dial));
                        let why = result
                            .err()
                            .map_or_else(String::new, |error| error.to_string());
                        self.failed(now, dialling, &why, effects);
                    }
                }
            }
            SwapperEvent::Heard(id, event) => {
                if self
                    .current
                    .as_ref()
                    .is_some_and(|current| current.id == id)
                {
                    self.heard(now, event, effects);
                } else {
                    self.heard_of_retiring(id, &event, effects);
                }
            }
            SwapperEvent::Failed(id, doubt) => self.probe(id, doubt, effects),
            SwapperEvent::Probed(id, result) => self.probed(now, id, result, effects),
            SwapperEvent::Wanted => {
                let is_fresh = self.failures == 0 && self.refusals == 0;
                if self.current.is_none() && self.waiting.is_some() && is_fresh {
                    self.dial(now, Caller::OPERATION, effects);
                }
            }
            SwapperEvent::Woke => {
                if let Some(current) = &self.current {
                    let id = current.id;
                    self.probe(id, "the machine has slept".to_owned(), effects);
                }
            }
            SwapperEvent::Retired(id) => self.retired(id, effects),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|(until, _)| *until)
    }

    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<SwapperEffect>) {
        if let Some((_, caller)) = self.waiting.take_if(|(until, _)| *until <= now) {
            self.dial(now, caller, effects);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::env::Rng;

    /// A swapper, and a world that does what it wants done.
    struct Desk {
        swapper: Swapper,
        now: Instant,
        ids: u64,
        generations: u64,
        effects: Vec<SwapperEffect>,
    }

    fn end() -> UnixTime {
        UnixTime::from_secs(300)
    }

    impl Desk {
        fn new() -> Self {
            Self {
                swapper: Swapper::new(Rng::new(1)),
                now: Instant::ZERO,
                ids: 0,
                generations: 0,
                effects: Vec::new(),
            }
        }

        /// On connection 1, of generation 1.
        fn connected() -> Self {
            let mut desk = Self::new();
            desk.issue(Caller::LOGIN);
            let dial = desk.dialled().expect("it dials");
            desk.succeed(dial);
            assert_eq!(desk.told(), ["connect of c1 by login"]);
            desk
        }

        fn tell(&mut self, event: SwapperEvent) {
            self.swapper.handle(self.now, event, &mut self.effects);
        }

        fn hear(&mut self, id: u64, event: ConnectionEvent) {
            self.tell(SwapperEvent::Heard(ConnectionId(id), event));
        }

        fn issue(&mut self, caller: Caller) {
            self.generations += 1;
            self.tell(SwapperEvent::Issued {
                generation: Generation(self.generations),
                expires: end(),
                caller,
            });
        }

        fn dialled(&mut self) -> Option<Dial> {
            let wanted = |effect: &SwapperEffect| matches!(effect, SwapperEffect::Dial(..));
            let at = self.effects.iter().position(wanted)?;
            match self.effects.remove(at) {
                SwapperEffect::Dial(dial, _) => Some(dial),
                _ => None,
            }
        }

        fn succeed(&mut self, dial: Dial) -> u64 {
            self.ids += 1;
            self.tell(SwapperEvent::Dialled(dial, Ok(ConnectionId(self.ids))));
            assert_eq!(self.effects.pop(), Some(SwapperEffect::Arm(dial)));
            self.tell(SwapperEvent::Armed(dial, Ok(())));
            self.ids
        }

        fn refuse(&mut self, dial: Dial) {
            let error = ConnectError::Auth("Authorization Violation".into());
            self.tell(SwapperEvent::Dialled(dial, Err(error)));
        }

        /// Lets time pass up to the next deadline, and says how long that was.
        fn wait(&mut self) -> Option<Duration> {
            let due = self.swapper.deadline()?;
            let waited = due.since(self.now);
            self.now = due;
            self.swapper.on_deadline(due, &mut self.effects);
            Some(waited)
        }

        /// What was told, in words, and forgets all other effects.
        fn told(&mut self) -> Vec<String> {
            let effects = std::mem::take(&mut self.effects);
            let told = effects.into_iter().filter_map(|effect| match effect {
                SwapperEffect::Tell(it) => {
                    let of = it
                        .connection
                        .map_or_else(String::new, |id| format!(" of {id}"));
                    let old = it
                        .replaced
                        .map_or_else(String::new, |id| format!(" for {id}"));
                    let why = it.reason.map_or_else(String::new, |why| format!(": {why}"));
                    Some(format!("{}{of}{old} by {}{why}", it.kind, it.caller))
                }
                _ => None,
            });
            told.collect()
        }

        fn wants(&self, effect: &SwapperEffect) -> bool {
            self.effects.contains(effect)
        }
    }

    const KICK: &str = "User Authentication Expired";

    fn kicked() -> ConnectionEvent {
        ConnectionEvent::Disconnected(DisconnectCause::ServerError(KICK.into()))
    }

    #[test]
    fn a_new_generation_makes_one_connection_before_the_old_one_goes() {
        let mut desk = Desk::connected();
        desk.issue(Caller::REFRESH);
        let dial = desk.dialled().expect("it dials");
        assert_eq!(
            desk.swapper.current(),
            Some((ConnectionId(1), Generation(1)))
        );
        desk.succeed(dial);
        assert!(desk.wants(&SwapperEffect::Retire(ConnectionId(1))));
        assert_eq!(desk.told(), ["swap of c2 for c1 by refresh"]);
        desk.hear(1, ConnectionEvent::Closed);
        desk.tell(SwapperEvent::Retired(ConnectionId(1)));
        assert_eq!(desk.told(), ["closed of c1 by refresh: replaced"]);
        assert_eq!((desk.dialled(), desk.wait()), (None, None));
    }

    #[test]
    fn a_generation_that_comes_during_a_dial_is_dialled_for_afterwards() {
        let mut desk = Desk::connected();
        desk.issue(Caller::REFRESH);
        let dial = desk.dialled().expect("it dials");
        desk.issue(Caller::OPERATION);
        assert_eq!(desk.dialled(), None, "one at a time");
        desk.succeed(dial);
        assert_eq!(
            desk.swapper.current(),
            Some((ConnectionId(2), Generation(2)))
        );
        let dial = desk.dialled().expect("and the newest");
        desk.succeed(dial);
        assert_eq!(
            desk.swapper.current(),
            Some((ConnectionId(3), Generation(3)))
        );
    }

    #[test]
    fn a_kick_ends_the_connection_and_asks_for_a_credential_once() {
        let mut desk = Desk::connected();
        desk.now += Duration::from_secs(300);
        desk.hear(1, ConnectionEvent::AuthError(KICK.into()));
        assert!(desk.effects.is_empty(), "the disconnect follows");
        desk.hear(1, kicked());
        assert!(desk.wants(&SwapperEffect::Refresh(Caller::RECOVERY)));
        assert!(
            desk.wants(&SwapperEffect::Close(ConnectionId(1))),
            "nobody dials on"
        );
        assert_eq!(
            desk.dialled(),
            None,
            "not with the credential that was refused"
        );
        let told = desk.told();
        let told: Vec<&str> = told.iter().map(|told| &**told).collect();
        let lost = "disconnect of c1 by client: User Authentication Expired";
        assert_eq!(
            told,
            [lost, "closed of c1 by client: User Authentication Expired"]
        );
        desk.issue(Caller::RECOVERY);
        let dial = desk.dialled().expect("at once with the new one");
        desk.succeed(dial);
        assert_eq!(desk.told(), ["connect of c2 by recovery"]);
    }

    #[test]
    fn credentials_that_are_refused_one_after_the_other_are_not_dialled_with_in_haste() {
        let mut desk = Desk::connected();
        desk.hear(1, kicked());
        let mut dials = 0;
        let begun = desk.now;
        while desk.now.since(begun) < Duration::from_secs(60) {
            if desk.wants(&SwapperEffect::Refresh(Caller::RECOVERY)) {
                desk.effects.clear();
                desk.issue(Caller::RECOVERY);
            }
            match desk.dialled() {
                Some(dial) => {
                    dials += 1;
                    desk.refuse(dial);
                }
                None => assert!(desk.wait() >= Some(BACKOFF_MIN)),
            }
        }
        assert!((5..=30).contains(&dials), "{dials} in a minute");
    }

    #[test]
    fn a_loss_is_recovered_without_a_command_after_two_to_fifteen_seconds() {
        let mut desk = Desk::connected();
        desk.hear(1, ConnectionEvent::Disconnected(DisconnectCause::Lost));
        assert!(
            !desk.wants(&SwapperEffect::Close(ConnectionId(1))),
            "it tries by itself"
        );
        desk.hear(1, ConnectionEvent::Closed);
        let mut longest = Duration::ZERO;
        for _ in 0..40 {
            let waited = desk.wait().expect("it goes on");
            assert!((BACKOFF_MIN..=BACKOFF_MAX).contains(&waited), "{waited:?}");
            longest = longest.max(waited);
            let dial = desk.dialled().expect("it dials");
            desk.tell(SwapperEvent::Wanted);
            assert_eq!(desk.dialled(), None, "who wants it waits for the dial");
            desk.tell(SwapperEvent::Dialled(dial, Err(ConnectError::TimedOut)));
            desk.tell(SwapperEvent::Wanted);
            assert_eq!(desk.dialled(), None, "after a failure nobody hurries it");
        }
        assert!(longest > BACKOFF_FIRST_MAX);
        desk.told();
        desk.wait();
        let dial = desk.dialled().expect("it dials");
        desk.succeed(dial);
        assert_eq!(desk.told(), ["connect of c2 by recovery"]);
    }

    #[test]
    fn the_first_who_wants_a_lost_connection_has_it_dialled_at_once() {
        let mut desk = Desk::connected();
        desk.hear(1, ConnectionEvent::Closed);
        desk.tell(SwapperEvent::Wanted);
        let dial = desk.dialled().expect("at once");
        desk.tell(SwapperEvent::Wanted);
        assert_eq!(desk.dialled(), None, "one for all");
        desk.told();
        desk.succeed(dial);
        assert_eq!(desk.told(), ["connect of c2 by operation"]);
    }

    #[test]
    fn a_doubt_is_probed_once_before_anything_is_closed() {
        let mut desk = Desk::connected();
        let id = ConnectionId(1);
        let failed = || SwapperEvent::Failed(id, "no acknowledgement in time".to_owned());
        desk.tell(failed());
        desk.tell(failed());
        assert_eq!(desk.effects, [SwapperEffect::Probe(id)]);
        desk.effects.clear();
        desk.tell(SwapperEvent::Probed(id, Ok(())));
        let kept =
            "warn of c1 by probe: no acknowledgement in time; the connection answers and is kept";
        assert_eq!(desk.told(), [kept]);
        desk.tell(failed());
        desk.tell(SwapperEvent::Probed(id, Err(FlushError::TimedOut)));
        assert!(desk.wants(&SwapperEffect::Close(id)));
        let dial = desk.dialled().expect("another at once");
        let closed = "force_close of c1 by probe: no acknowledgement in time; probe: the server did not answer in time";
        assert_eq!(desk.told(), [closed]);
        desk.succeed(dial);
        desk.tell(SwapperEvent::Failed(id, "late".to_owned()));
        desk.tell(SwapperEvent::Probed(id, Err(FlushError::TimedOut)));
        assert_eq!(
            desk.told(),
            ["connect of c2 by recovery"],
            "nothing of the old one counts"
        );
        assert_eq!(
            desk.swapper.current().map(|(id, _)| id),
            Some(ConnectionId(2))
        );
    }

    #[test]
    fn after_logout_or_a_definite_no_nothing_is_dialled() {
        let mut desk = Desk::connected();
        desk.issue(Caller::REFRESH);
        let dial = desk.dialled().expect("it dials");
        desk.tell(SwapperEvent::Logout(Caller::LOGOUT));
        assert!(desk.wants(&SwapperEffect::Abandon(dial)));
        assert_eq!(desk.told(), ["closed of c1 by logout"]);
        desk.tell(SwapperEvent::Dialled(dial, Ok(ConnectionId(2))));
        desk.tell(SwapperEvent::Wanted);
        assert_eq!(desk.wait(), None);
        assert!(desk.effects.is_empty());

        let mut desk = Desk::connected();
        desk.tell(SwapperEvent::Unauthorized);
        assert!(desk.effects.is_empty(), "what lives is kept");
        desk.hear(1, kicked());
        assert!(desk.wants(&SwapperEffect::Over));
        desk.tell(SwapperEvent::Wanted);
        assert_eq!((desk.dialled(), desk.wait()), (None, None));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Issue,
        Dialled(bool),
        Armed(bool),
        Kick,
        Lose,
        Close,
        Doubt,
        Probed(bool),
        Want,
        Wait,
        Unauthorized,
        Logout,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            4 => Just(Act::Issue),
            6 => (0_u8..4).prop_map(|good| Act::Dialled(good > 0)),
            6 => (0_u8..4).prop_map(|good| Act::Armed(good > 0)),
            1 => Just(Act::Kick),
            1 => Just(Act::Lose),
            1 => Just(Act::Close),
            2 => Just(Act::Doubt),
            2 => any::<bool>().prop_map(Act::Probed),
            2 => Just(Act::Want),
            4 => Just(Act::Wait),
            1 => Just(Act::Unauthorized),
            1 => Just(Act::Logout),
        ];
        proptest::collection::vec(act, 0..120)
    }

    proptest! {
        /// Whatever happens: one dial and one probe at a time, one swap for each generation, each with its own dial, every
        /// installed connection is closed or retired once, and while somebody is logged in and the newest credential is not
        /// in use, something is under way.
        #[test]
        fn the_invariants_hold_whatever_happens(acts in acts()) {
            let mut desk = Desk::new();
            let (mut dialling, mut arming, mut probing) = (None, None, None);
            let mut open: Vec<ConnectionId> = Vec::new();
            let mut swapped_to: Vec<Generation> = Vec::new();
            let (mut is_on, mut is_last) = (false, false);
            for act in acts {
                let current = desk.swapper.current().map(|(id, _)| id);
                match act {
                    Act::Issue if !is_last => {
                        is_on = true;
                        desk.issue(Caller::REFRESH);
                    }
                    Act::Dialled(good) => if let Some((dial, generation)) = dialling.take() {
                        desk.ids += 1;
                        let result = match good {
                            true => Ok(ConnectionId(desk.ids)),
                            false => Err(ConnectError::Auth("no".into())),
                        };
                        if good {
                            arming = Some((dial, generation, ConnectionId(desk.ids)));
                        }
                        desk.tell(SwapperEvent::Dialled(dial, result));
                    },
                    Act::Armed(good) => if let Some((dial, ..)) = arming {
                        let result = if good { Ok(()) } else { Err(FlushError::TimedOut) };
                        desk.tell(SwapperEvent::Armed(dial, result));
                    },
                    Act::Kick => if let Some(id) = current { desk.hear(id.0, kicked()); },
                    Act::Lose => if let Some(id) = current {
                        desk.hear(id.0, ConnectionEvent::Disconnected(DisconnectCause::Lost));
                    },
                    Act::Close => if let Some(id) = current { desk.hear(id.0, ConnectionEvent::Closed); },
                    Act::Doubt => if let Some(id) = current {
                        desk.tell(SwapperEvent::Failed(id, "doubt".to_owned()));
                    },
                    Act::Probed(good) => if let Some(id) = probing.take() {
                        let result = if good { Ok(()) } else { Err(FlushError::TimedOut) };
                        desk.tell(SwapperEvent::Probed(id, result));
                    },
                    Act::Want => desk.tell(SwapperEvent::Wanted),
                    Act::Wait => { desk.wait(); }
                    Act::Unauthorized if is_on => {
                        is_last = true;
                        desk.tell(SwapperEvent::Unauthorized);
                    }
                    Act::Logout => {
                        (is_on, is_last) = (false, false);
                        desk.tell(SwapperEvent::Logout(Caller::LOGOUT));
                    }
                    Act::Issue | Act::Unauthorized => {}
                }
                for effect in std::mem::take(&mut desk.effects) {
                    match effect {
                        SwapperEffect::Dial(dial, generation) => {
                            prop_assert!(dialling.is_none() && arming.is_none(), "two dials");
                            prop_assert_eq!(generation, Generation(desk.generations), "the newest");
                            dialling = Some((dial, generation));
                        }
                        SwapperEffect::Arm(dial) => {
                            prop_assert_eq!(arming.map(|(arming, ..)| arming), Some(dial));
                        }
                        SwapperEffect::Install(_) => {
                            let (_, generation, id) = arming.take().expect("it was armed");
                            prop_assert_eq!(desk.swapper.current(), Some((id, generation)), "its stamp");
                            open.push(id);
                        }
                        SwapperEffect::Abandon(dial) => {
                            let was_dialling = dialling.take_if(|(it, _)| *it == dial).is_some();
                            prop_assert!(was_dialling || arming.take().is_some());
                        }
                        SwapperEffect::Probe(id) => {
                            prop_assert!(probing.is_none_or(|probed| probed != id), "two probes");
                            probing = Some(id);
                        }
                        SwapperEffect::Retire(id) => {
                            prop_assert!(open.contains(&id));
                        }
                        SwapperEffect::Close(id) => {
                            let at = open.iter().position(|open| *open == id);
                            open.remove(at.expect("it was open"));
                        }
                        SwapperEffect::Tell(told) if told.kind == EventType::Swap => {
                            let (id, generation) = desk.swapper.current().expect("it swapped");
                            prop_assert_eq!(told.connection, Some(id));
                            prop_assert!(!swapped_to.contains(&generation), "twice for one generation");
                            swapped_to.push(generation);
                        }
                        SwapperEffect::Tell(told) => {
                            prop_assert_ne!(told.caller.as_str(), "");
                        }
                        SwapperEffect::Refresh(_) => {}
                        SwapperEffect::Over => is_on = false,
                    }
                }
                let in_use = desk.swapper.current().map(|(_, generation)| generation);
                let is_fresh = in_use == Some(Generation(desk.generations));
                let is_busy = dialling.is_some() || arming.is_some() || desk.swapper.deadline().is_some();
                prop_assert!(!is_on || is_fresh || is_busy, "nobody sees to it");
                prop_assert!(is_on || in_use.is_some() || !is_busy, "it goes on after the end");
            }
        }
    }
}
