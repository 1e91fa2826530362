//! The decision core of a session: the [`Refresher`], the [`Swapper`] and a watchdog, joined.
//!
//! What one decides the other hears in the same step, so that nothing can come between a fresh credential and the dial
//! for it. The watchdog looks at the wall clock every 30 s: where that has moved on by more than a minute since, the machine has
//! slept, and neither the credential nor the connection is what it seems.

use std::time::Duration;

use super::auth::ExchangeError;
use super::config::{WAKE_GAP, WATCHDOG_TICK, spread};
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
            swapper: Swapper::new(spread(margin), rng),
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

    fn state(&self) -> &'static str {
        match self.refresher.state() {
            "waiting" => self.swapper.state(),
            of_refresher => of_refresher,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::ConnectionId;

    const WALL: UnixTime = UnixTime::from_secs(1_700_000_000);

    fn keeper() -> Keeper {
        let (margin, retry) = (Duration::from_secs(30), Duration::from_secs(5));
        let mut keeper = Keeper::new(margin, retry, Rng::new(1));
        let mut effects = Vec::new();
        keeper.handle(Instant::ZERO, KeeperEvent::Begun, &mut effects);
        keeper
    }

    fn tell(keeper: &mut Keeper, now: Instant, event: KeeperEvent) -> Vec<KeeperEffect> {
        let mut effects = Vec::new();
        keeper.handle(now, event, &mut effects);
        effects
    }

    fn told(effects: &[KeeperEffect], kind: &EventType) -> usize {
        let of_kind = |effect: &&KeeperEffect| matches!(effect, KeeperEffect::Tell(happened) if happened.kind == *kind);
        effects.iter().filter(of_kind).count()
    }

    fn exchange(effects: &[KeeperEffect]) -> Option<Exchange> {
        effects.iter().find_map(|effect| match effect {
            KeeperEffect::Exchange(exchange) => Some(*exchange),
            _ => None,
        })
    }

    /// Logged in with a credential of five minutes, on connection 1.
    fn logged_in() -> Keeper {
        let mut keeper = keeper();
        let now = Instant::ZERO;
        let asked = tell(&mut keeper, now, KeeperEvent::Login(LoginNumber(1)));
        let answer = KeeperEvent::Exchanged(
            exchange(&asked).expect("it asks"),
            WALL,
            Ok(WALL + Duration::from_secs(300)),
        );
        let dialled = tell(&mut keeper, now, answer);
        let [
            KeeperEffect::Accepted(_, Generation(1)),
            KeeperEffect::Swapper(SwapperEffect::Dial(dial, Generation(1))),
        ] = dialled[..]
        else {
            panic!("a fresh credential is dialled with in the same step: {dialled:?}");
        };
        let id = ConnectionId(1);
        let connected = SwapperEvent::Dialled(dial, Ok(id));
        tell(&mut keeper, now, KeeperEvent::Swapper(connected));
        let armed = SwapperEvent::Armed(dial, Ok(()));
        let armed = tell(&mut keeper, now, KeeperEvent::Swapper(armed));
        assert_eq!(told(&armed, &EventType::Connect), 1);
        keeper
    }

    #[test]
    fn a_gap_of_the_wall_clock_is_a_sleep() {
        let mut keeper = logged_in();
        let mut wall = WALL;
        let mut look = |now: Instant, gap: u64| {
            let mut effects = Vec::new();
            keeper.on_deadline(now, &mut effects);
            assert!(effects.contains(&KeeperEffect::LookAtClock));
            wall = wall + Duration::from_secs(gap);
            let is_asked = false;
            tell(&mut keeper, now, KeeperEvent::Clock { wall, is_asked })
        };
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        assert_eq!(look(at(0), 0), []);
        assert_eq!(look(at(30), 30), []);
        assert_eq!(look(at(60), 60), []);
        let woke = look(at(90), 61);
        assert_eq!((told(&woke, &EventType::Wake), exchange(&woke)), (1, None));
        let probe = KeeperEffect::Swapper(SwapperEffect::Probe(ConnectionId(1)));
        assert!(woke.contains(&probe), "the connection may be dead");
        let woke = look(at(120), 200);
        assert!(exchange(&woke).is_some(), "the credential is due");
    }

    #[test]
    fn the_same_reason_is_told_once_a_minute() {
        let mut keeper = logged_in();
        let mut now = Instant::ZERO + Duration::from_secs(270);
        let mut count = 0;
        for i in 0..24 {
            let mut effects = Vec::new();
            keeper.on_deadline(now, &mut effects);
            let asked = exchange(&effects).expect("it is due");
            let status = if i < 13 { 503 } else { 502 };
            let answer = KeeperEvent::Exchanged(asked, WALL, Err(ExchangeError::Status(status)));
            let effects = tell(&mut keeper, now, answer);
            count += told(&effects, &EventType::RefreshError);
            now += Duration::from_secs(5);
        }
        assert_eq!(count, 3, "503 at once and after a minute, 502 at once");
    }

    #[test]
    fn a_refused_credential_is_replaced_in_the_same_step() {
        let mut keeper = logged_in();
        let now = Instant::ZERO + Duration::from_secs(10);
        let cause =
            crate::transport::DisconnectCause::ServerError("User Authentication Revoked".into());
        let kicked = crate::transport::ConnectionEvent::Disconnected(cause);
        let kicked = SwapperEvent::Heard(ConnectionId(1), kicked);
        let effects = tell(&mut keeper, now, KeeperEvent::Swapper(kicked));
        assert!(exchange(&effects).is_some(), "{effects:?}");
        let closed = KeeperEffect::Swapper(SwapperEffect::Close(ConnectionId(1)));
        assert!(effects.contains(&closed));
    }
}
