//! The decision core of a session: the [`Refresher`], the [`Swapper`] and a watchdog, joined.
//!
//! What one decides the other hears in the same step, so that nothing can come between a fresh credential and the dial
//! for it. The watchdog looks at the wall clock every 30 s: where that has moved on by more than a minute since, the machine has
//! slept, and neither the credential nor the connection is what it seems.

use std::time::Duration;

use super::auth::ExchangeError;
use super::config::{WAKE_GAP, WATCHDOG_TICK};
use super::happened::Happened;
use super::refresher::{
    Exchange, Generation, LoginNumber, Refresher, RefresherEffect, RefresherEvent,
};
use super::swapper::{Swapper, SwapperEffect, SwapperEvent};
use crate::diagnostics::{Caller, EventType};
use crate::env::Rng;
use crate::machine::Machine;
use crate::time::{Instant, UnixTime};

/// An unchanged reason for failed refreshes is told once in this time.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// What a [`Keeper`] hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeeperEvent {
    /// The session begins.
    Begun,
    /// Somebody logs in, in the place of whoever was.
    Login(LoginNumber),
    /// Nobody is logged in any more.
    Logout(Caller),
    /// Answers an exchange.
    Exchanged(Exchange, UnixTime, Result<UnixTime, ExchangeError>),
    /// Have another credential.
    Force(Caller),
    /// Answers [`KeeperEffect::LookAtClock`], or somebody who knows that the machine has slept: refreshes what is due.
    Clock {
        /// What the wall clock reads.
        wall: UnixTime,
        /// Somebody asks whether a refresh is due; otherwise only the watchdog does.
        is_asked: bool,
    },
    /// About connections.
    Swapper(SwapperEvent),
}

/// What a [`Keeper`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeeperEffect {
    /// Ask the auth service.
    Exchange(Exchange),
    /// What this exchange has brought is the newest credential.
    Accepted(Exchange, Generation),
    /// The credential was not refreshed.
    Refused(ExchangeError),
    /// About connections.
    Swapper(SwapperEffect),
    /// Answer with [`KeeperEvent::Clock`].
    LookAtClock,
    /// Tell what happened.
    Tell(Happened),
}

/// See the head of this file.
#[derive(Debug)]
pub struct Keeper {
    refresher: Refresher,
    swapper: Swapper,
    /// When the wall clock is looked at next; `None` before the session has begun.
    look: Option<Instant>,
    seen: Option<UnixTime>,
    /// The reason for failed refreshes that was told last.
    told: Option<(ExchangeError, Instant)>,
}

impl Keeper {
    /// Refreshes so long before the end of a credential, and so long after a failure; draws its waits from `rng`.
    pub fn new(margin: Duration, retry: Duration, rng: Rng) -> Self {
        Self {
            refresher: Refresher::new(margin, retry),
            swapper: Swapper::new(rng),
            look: None,
            seen: None,
            told: None,
        }
    }

    /// The half that keeps the credential.
    pub const fn refresher(&self) -> &Refresher {
        &self.refresher
    }

    /// The half that keeps the connection.
    pub const fn swapper(&self) -> &Swapper {
        &self.swapper
    }

    fn refresh(&mut self, now: Instant, event: RefresherEvent, effects: &mut Vec<KeeperEffect>) {
        let mut decided = Vec::new();
        self.refresher.handle(now, event, &mut decided);
        self.decided(now, decided, effects);
    }

    fn decided(
        &mut self,
        now: Instant,
        decided: Vec<RefresherEffect>,
        effects: &mut Vec<KeeperEffect>,
    ) {
        for effect in decided {
            match effect {
                RefresherEffect::Exchange(exchange) => {
                    effects.push(KeeperEffect::Exchange(exchange));
                }
                RefresherEffect::Accepted {
                    exchange,
                    generation,
                    expires,
                    caller,
                } => {
                    self.told = None;
                    effects.push(KeeperEffect::Accepted(exchange, generation));
                    let issued = SwapperEvent::Issued {
                        generation,
                        expires,
                        caller,
                    };
                    self.swap(now, issued, effects);
                }
                RefresherEffect::Failed { error, caller } => {
                    let is_news = self
                        .told
                        .as_ref()
                        .is_none_or(|(told, at)| *told != error || now.since(*at) >= REPEAT_AFTER);
                    if is_news {
                        effects.push(KeeperEffect::Tell(refresh_error(&error, caller)));
                        self.told = Some((error.clone(), now));
                    }
                    effects.push(KeeperEffect::Refused(error));
                }
                RefresherEffect::Unauthorized(error) => {
                    effects.push(KeeperEffect::Tell(refresh_error(&error, Caller::REFRESH)));
                    effects.push(KeeperEffect::Refused(error));
                    self.swap(now, SwapperEvent::Unauthorized, effects);
                }
            }
        }
    }

    fn swap(&mut self, now: Instant, event: SwapperEvent, effects: &mut Vec<KeeperEffect>) {
        let mut decided = Vec::new();
        self.swapper.handle(now, event, &mut decided);
        self.swapped(now, decided, effects);
    }

    fn swapped(
        &mut self,
        now: Instant,
        decided: Vec<SwapperEffect>,
        effects: &mut Vec<KeeperEffect>,
    ) {
        for effect in decided {
            match effect {
                SwapperEffect::Refresh(caller) => {
                    self.refresh(now, RefresherEvent::Force(caller), effects);
                }
                SwapperEffect::Tell(happened) => effects.push(KeeperEffect::Tell(happened)),
                effect => effects.push(KeeperEffect::Swapper(effect)),
            }
        }
    }

    fn look_at(&mut self, now: Instant, wall: UnixTime, effects: &mut Vec<KeeperEffect>) {
        let gap = self.seen.map_or(Duration::ZERO, |seen| wall.since(seen));
        self.seen = Some(wall);
        if gap > WAKE_GAP {
            let reason = format!("the wall clock has moved on by {} s", gap.as_secs());
            let wake = Happened::new(EventType::Wake, Caller::WAKE).because(reason);
            effects.push(KeeperEffect::Tell(wake));
            let caller = Caller::WAKE;
            self.refresh(now, RefresherEvent::IfDue { wall, caller }, effects);
            self.swap(now, SwapperEvent::Woke, effects);
        }
    }
}

fn refresh_error(error: &ExchangeError, caller: Caller) -> Happened {
    Happened::new(EventType::RefreshError, caller).because(error.to_string())
}

impl Machine for Keeper {
    type Event = KeeperEvent;
    type Effect = KeeperEffect;

    fn handle(&mut self, now: Instant, event: KeeperEvent, effects: &mut Vec<KeeperEffect>) {
        match event {
            KeeperEvent::Begun => {
                self.look = Some(now);
                effects.push(KeeperEffect::Tell(Happened::new(
                    EventType::DaemonStart,
                    Caller::DAEMON,
                )));
            }
            KeeperEvent::Login(login) => {
                self.swap(now, SwapperEvent::Logout(Caller::LOGIN), effects);
                self.told = None;
                self.refresh(now, RefresherEvent::Login(login), effects);
            }
            KeeperEvent::Logout(caller) => {
                self.refresh(now, RefresherEvent::Logout, effects);
                self.swap(now, SwapperEvent::Logout(caller), effects);
            }
            KeeperEvent::Exchanged(exchange, wall, result) => {
                let answer = RefresherEvent::Exchanged {
                    exchange,
                    wall,
                    result,
                };
                self.refresh(now, answer, effects);
            }
            KeeperEvent::Force(caller) => self.refresh(now, RefresherEvent::Force(caller), effects),
            KeeperEvent::Clock { wall, is_asked } => {
                self.look_at(now, wall, effects);
                if is_asked {
                    let caller = Caller::OPERATION;
                    self.refresh(now, RefresherEvent::IfDue { wall, caller }, effects);
                }
            }
            KeeperEvent::Swapper(event) => self.swap(now, event, effects),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.refresher.deadline(),
            self.swapper.deadline(),
            self.look,
        ];
        deadlines.into_iter().flatten().min()
    }

    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<KeeperEffect>) {
        // The watchdog first: what else is due may be so only because nobody was awake.
        if self.look.is_some_and(|look| look <= now) {
            self.look = Some(now + WATCHDOG_TICK);
            effects.push(KeeperEffect::LookAtClock);
        }
        let mut decided = Vec::new();
        self.refresher.on_deadline(now, &mut decided);
        self.decided(now, decided, effects);
        let mut decided = Vec::new();
        self.swapper.on_deadline(now, &mut decided);
        self.swapped(now, decided, effects);
    }
}
