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
//! Many do the same at the same time: those who were started together hold credentials that end in one second, and a
//! server that restarts loses all of its clients at once. So nobody dials when everybody else would. Who exchanged as
//! planned moves over at some moment of the first part of the overlap; who has lost a server draws a turn, and keeps it
//! round after round, so that turns that are spread evenly stay so. Only who was put out alone, for its credential or
//! by its own probe, dials at once.
//!
//! Invariants: one dial at a time; one probe at a time; a generation takes the place of a living connection once; an
//! attempt after a failure is at least [`BACKOFF_MIN`] after it; after logout, and after a definite no without a
//! connection, nothing is dialled.

mod swap;

use std::collections::BTreeMap;
use std::time::Duration;

pub use self::swap::{Dial, SwapperEffect, SwapperEvent};
use super::config::{BACKOFF_MAX, BACKOFF_MIN, TURN_MAX};
use super::happened::Happened;
use super::refresher::Generation;
use crate::diagnostics::{Caller, EventType};
use crate::env::Rng;
use crate::machine::Machine;
use crate::time::{Instant, UnixTime};
use crate::transport::{
    ConnectError, ConnectionEvent, ConnectionId, DisconnectCause, FlushError, is_auth_error,
};

/// Who waits for its turn has one so often.
const ROUND: Duration = TURN_MAX.saturating_sub(BACKOFF_MIN);
/// Refusals in a row after which a fresh credential is no reason to hurry: it would be refused too.
const REFUSALS_IN_HASTE: u32 = 1;

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
    began: Instant,
    /// Connected, and being armed.
    arming: Option<ConnectionId>,
    /// When its turn was, where it has waited for one.
    turn: Option<Instant>,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Swapper {
    rng: Rng,
    /// Within so long do those who exchange together move over.
    spread: Duration,
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
    /// The last turn of who has lost a server.
    turn: Option<Instant>,
    /// Credentials in a row that a server has refused, and the last of them.
    refusals: u32,
    refused: Generation,
    /// Whose round trip is awaited, and what made it doubtful.
    probing: Option<(ConnectionId, String)>,
}

impl Swapper {
    /// Moves over within `spread` to what was issued as planned; draws its waits from `rng`.
    pub const fn new(spread: Duration, rng: Rng) -> Self {
        Self {
            rng,
            spread,
            newest: None,
            is_last: false,
            current: None,
            retiring: BTreeMap::new(),
            dialling: None,
            waiting: None,
            dials: 0,
            turn: None,
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
        (self.waiting, self.turn) = (None, None);
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
            began: now,
            arming: None,
            turn: None,
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
            // What was refused has been replaced meanwhile.
            Some(caller) if self.is_in_haste() => self.dial(now, caller, effects),
            _ => {
                let caller = match &self.current {
                    None => Caller::RECOVERY,
                    Some(_) => Caller::REFRESH,
                };
                self.waiting = Some((self.next_turn(now), caller));
            }
        }
    }

    /// The last credential was refused, and a fresh one need not be.
    const fn is_in_haste(&self) -> bool {
        self.refusals > 0 && self.refusals <= REFUSALS_IN_HASTE
    }

    /// Turns are drawn, not doubled: who lost one server together shall not come back together.
    fn next_turn(&mut self, now: Instant) -> Instant {
        let is_refused = self.refusals > REFUSALS_IN_HASTE;
        match self.turn {
            Some(turn) if !is_refused => (turn + ROUND).max(now + BACKOFF_MIN),
            _ if is_refused => now + self.draw(BACKOFF_MIN, BACKOFF_MAX),
            _ => now + self.draw(BACKOFF_MIN, TURN_MAX),
        }
    }

    fn draw(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let millis = |time: Duration| time.as_millis() as u64;
        Duration::from_millis(self.rng.between(millis(shortest), millis(longest)))
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
        self.turn = dialling.turn;
        self.go_on(now, dialling.credential.generation, effects);
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
            began,
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
            took: old.as_ref().map(|_| now.since(began)),
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
        (self.is_last, self.turn, self.refusals) = (false, None, 0);
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
                if self.dialling.is_some() {
                    return;
                }
                if self.current.is_some() && caller == Caller::REFRESH {
                    let at = now + self.draw(Duration::ZERO, self.spread);
                    // Who is issued one after the other moves all the same.
                    let at = self.waiting.take().map_or(at, |(until, _)| until.min(at));
                    self.waiting = Some((at, caller));
                } else if self.waiting.is_none() || self.current.is_some() || self.is_in_haste() {
                    self.dial(now, caller, effects);
                }
                // Otherwise it keeps its turn: it is not the credential that it lacks.
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
        if let Some((turn, caller)) = self.waiting.take_if(|(until, _)| *until <= now) {
            self.dial(now, caller, effects);
            let waited = self.dialling.as_mut().filter(|_| self.current.is_none());
            if let Some(dialling) = waited {
                dialling.turn = Some(turn);
            }
        }
    }

    fn state(&self) -> &'static str {
        match &self.current {
            _ if self.dialling.is_some() => "dialling",
            _ if self.probing.is_some() => "probing",
            _ if self.waiting.is_some() => "backing off",
            Some(_) if !self.retiring.is_empty() => "moving over",
            Some(_) => "connected",
            None => "without a connection",
        }
    }
}

#[cfg(test)]
mod tests;
