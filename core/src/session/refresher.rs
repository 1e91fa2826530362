//! The decision core of the refresh loop: when a credential is asked for, and which answer counts.
//!
//! Like a clerk who renews a passport: early enough, one application at a time, again after a closed counter, and never for
//! somebody who has moved out meanwhile. A definite no ends it; until the next login nobody is asked any more.
//!
//! When to refresh is computed once, when a credential arrives, from the wall clock of that moment, and waited for by the
//! monotonic clock: a wall clock that jumps changes nothing. What a monotonic clock cannot know, that the machine has
//! slept, comes as [`RefresherEvent::IfDue`].
//!
//! Invariants: at most one exchange is under way; a generation is one accepted answer and never counted twice; the
//! answer to an exchange that was begun for another login is dropped.

use std::fmt;
use std::time::Duration;

use super::auth::ExchangeError;
use super::config::{REFRESH_FLOOR, TOKEN_SECOND};
use crate::diagnostics::Caller;
use crate::machine::Machine;
use crate::time::{Instant, UnixTime};

/// Counts the logins of a session from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginNumber(pub u64);

impl fmt::Display for LoginNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "login {}", self.0)
    }
}

/// Counts the credentials of a session from 1, over all its logins. Two in one second are two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}", self.0)
    }
}

/// One question to the auth service, and for which login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exchange {
    /// Counts all of a session.
    pub number: u64,
    /// Whose key is used.
    pub login: LoginNumber,
}

/// What a [`Refresher`] hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefresherEvent {
    /// Somebody logged in, in the place of whoever was.
    Login(LoginNumber),
    /// Nobody is logged in any more.
    Logout,
    /// Answers [`RefresherEffect::Exchange`]: with the end of the credential.
    Exchanged {
        /// Which.
        exchange: Exchange,
        /// The wall clock when it came.
        wall: UnixTime,
        /// The end of the credential.
        result: Result<UnixTime, ExchangeError>,
    },
    /// The credential is to be replaced now, whatever it says of itself: access has changed, or a server refused it.
    Force(Caller),
    /// The machine may have slept: the credential is replaced now if it is due by this wall clock.
    IfDue {
        /// What it reads.
        wall: UnixTime,
        /// Who looked.
        caller: Caller,
    },
}

/// What a [`Refresher`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefresherEffect {
    /// Ask the service. Has a time-out, so that an answer always comes.
    Exchange(Exchange),
    /// The answer to this exchange is the newest credential.
    Accepted {
        /// Which.
        exchange: Exchange,
        /// Its number.
        generation: Generation,
        /// Its end.
        expires: UnixTime,
        /// Who wanted it.
        caller: Caller,
    },
    /// The credential was not refreshed; the one before stays, and it is tried again.
    Failed {
        /// Why.
        error: ExchangeError,
        /// Who wanted it.
        caller: Caller,
    },
    /// The service does not accept the key: nobody is asked any more until the next login.
    Unauthorized(ExchangeError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nobody is logged in, or the key is not accepted.
    Stopped,
    Waiting {
        until: Instant,
        /// Who wants it then.
        caller: Caller,
    },
    Asking {
        exchange: Exchange,
        caller: Caller,
        /// Wanted once more while it was under way: the answer may be from before the reason.
        again: Option<Caller>,
    },
}

/// See the head of this file.
#[derive(Debug)]
pub struct Refresher {
    margin: Duration,
    retry: Duration,
    state: State,
    login: LoginNumber,
    generation: Generation,
    exchanges: u64,
    expires: Option<UnixTime>,
    /// No exchange begins before, but for a login: who is refused does not ask in a circle.
    not_before: Instant,
    /// Nor, where a server has refused the newest credential, before another second: tokens are dated in whole ones, and
    /// what takes one back takes back all of its second.
    another_second: Instant,
    /// Credentials in a row that were due on arrival.
    stillborn: u32,
}

impl Refresher {
    /// Refreshes so long before the end of a credential, and so long after a failure.
    pub fn new(margin: Duration, retry: Duration) -> Self {
        Self {
            margin,
            retry,
            state: State::Stopped,
            login: LoginNumber(0),
            generation: Generation(0),
            exchanges: 0,
            expires: None,
            not_before: Instant::ZERO,
            another_second: Instant::ZERO,
            stillborn: 0,
        }
    }

    /// The number of the newest credential; 0 before the first.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The end of the newest credential of this login.
    pub const fn expires(&self) -> Option<UnixTime> {
        self.expires
    }

    /// When the next refresh is due, if one is waited for.
    pub const fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until, .. } => Some(until),
            _ => None,
        }
    }

    fn ask(&mut self, caller: Caller, effects: &mut Vec<RefresherEffect>) {
        self.exchanges += 1;
        let exchange = Exchange {
            number: self.exchanges,
            login: self.login,
        };
        self.state = State::Asking {
            exchange,
            caller,
            again: None,
        };
        effects.push(RefresherEffect::Exchange(exchange));
    }

    fn want(&mut self, now: Instant, by: Caller, effects: &mut Vec<RefresherEffect>) {
        let not_before = if by == Caller::RECOVERY {
            self.not_before.max(self.another_second)
        } else {
            self.not_before
        };
        match &mut self.state {
            State::Stopped => {}
            State::Asking { again, .. } => *again = Some(by),
            State::Waiting { until, caller } if not_before > now => {
                if not_before < *until {
                    (*until, *caller) = (not_before, by);
                }
            }
            State::Waiting { .. } => self.ask(by, effects),
        }
    }

    fn wait(&mut self, until: Instant, caller: Caller) {
        self.state = State::Waiting { until, caller };
    }

    fn accept(
        &mut self,
        now: Instant,
        exchange: Exchange,
        wall: UnixTime,
        expires: UnixTime,
        caller: Caller,
        effects: &mut Vec<RefresherEffect>,
    ) {
        self.generation.0 += 1;
        self.expires = Some(expires);
        let left = (expires - self.margin).since(wall);
        let wait = if left >= REFRESH_FLOOR {
            self.stillborn = 0;
            left
        } else {
            // Due on arrival. Once may be chance. Twice is a clock that is wrong, or a life shorter than the margin: to ask
            // ten times a second for ever would help nobody.
            self.stillborn += 1;
            match self.stillborn {
                1 => REFRESH_FLOOR,
                _ => self.retry,
            }
        };
        self.not_before = now + REFRESH_FLOOR;
        self.another_second = now + TOKEN_SECOND;
        self.wait(now + wait, Caller::REFRESH);
        effects.push(RefresherEffect::Accepted {
            exchange,
            generation: self.generation,
            expires,
            caller,
        });
    }
}

impl Machine for Refresher {
    type Event = RefresherEvent;
    type Effect = RefresherEffect;

    fn handle(&mut self, now: Instant, event: RefresherEvent, effects: &mut Vec<RefresherEffect>) {
        match event {
            RefresherEvent::Login(login) => {
                assert!(login > self.login, "logins are counted");
                self.login = login;
                self.expires = None;
                self.stillborn = 0;
                self.ask(Caller::LOGIN, effects);
            }
            RefresherEvent::Logout => {
                self.state = State::Stopped;
                self.expires = None;
            }
            RefresherEvent::Exchanged {
                exchange,
                wall,
                result,
            } => {
                let (caller, again) = match &mut self.state {
                    State::Asking {
                        exchange: asked,
                        caller,
                        again,
                    } if *asked == exchange => (caller.clone(), again.take()),
                    _ => return,
                };
                match result {
                    Ok(expires) => {
                        self.accept(now, exchange, wall, expires, caller, effects);
                        if let Some(again) = again {
                            self.want(now, again, effects);
                        }
                    }
                    Err(error) if error.is_definite() => {
                        self.state = State::Stopped;
                        effects.push(RefresherEffect::Unauthorized(error));
                    }
                    Err(error) => {
                        self.not_before = now + self.retry;
                        self.wait(self.not_before, again.unwrap_or_else(|| caller.clone()));
                        effects.push(RefresherEffect::Failed { error, caller });
                    }
                }
            }
            RefresherEvent::Force(caller) => self.want(now, caller, effects),
            RefresherEvent::IfDue { wall, caller } => {
                let due = self.expires.is_none_or(|end| wall >= end - self.margin);
                if due && matches!(self.state, State::Waiting { .. }) {
                    self.want(now, caller, effects);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.due()
    }

    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<RefresherEffect>) {
        if let State::Waiting { until, caller } = &self.state
            && *until <= now
        {
            self.ask(caller.clone(), effects);
        }
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Stopped => "logged out",
            State::Waiting { .. } => "waiting",
            State::Asking { .. } => "asking",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARGIN: Duration = Duration::from_secs(30);
    const RETRY: Duration = Duration::from_secs(5);
    /// Where the wall clock stands when the monotonic one begins.
    const WALL: UnixTime = UnixTime::from_secs(1_700_000_000);

    struct Desk {
        refresher: Refresher,
        now: Instant,
        /// What the wall clock is ahead of the monotonic one, in seconds.
        jumped: i64,
        effects: Vec<RefresherEffect>,
    }

    impl Desk {
        fn new() -> Self {
            Self {
                refresher: Refresher::new(MARGIN, RETRY),
                now: Instant::ZERO,
                jumped: 0,
                effects: Vec::new(),
            }
        }

        /// With a credential of five minutes.
        fn logged_in() -> Self {
            let mut desk = Self::new();
            desk.tell(RefresherEvent::Login(LoginNumber(1)));
            let exchange = desk.asked().expect("it asks");
            desk.answer(exchange, Ok(300));
            assert_eq!(desk.accepted(), [(1, Caller::LOGIN)]);
            desk
        }

        fn wall(&self) -> UnixTime {
            (WALL + self.now.elapsed()).offset(self.jumped * 1_000_000_000)
        }

        fn tell(&mut self, event: RefresherEvent) {
            self.refresher.handle(self.now, event, &mut self.effects);
        }

        /// Lets time pass, with all deadlines on the way.
        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while let Some(due) = self.refresher.deadline().filter(|due| *due <= end) {
                self.now = self.now.max(due);
                self.refresher.on_deadline(self.now, &mut self.effects);
            }
            self.now = end;
        }

        fn asked(&mut self) -> Option<Exchange> {
            let at = self
                .effects
                .iter()
                .position(|effect| matches!(effect, RefresherEffect::Exchange(_)))?;
            match self.effects.remove(at) {
                RefresherEffect::Exchange(exchange) => Some(exchange),
                _ => None,
            }
        }

        /// The service answers with a credential that lives so many seconds from now.
        fn answer(&mut self, exchange: Exchange, result: Result<u64, ExchangeError>) {
            let wall = self.wall();
            let result = result.map(|life| wall + Duration::from_secs(life));
            self.tell(RefresherEvent::Exchanged {
                exchange,
                wall,
                result,
            });
        }

        fn accepted(&mut self) -> Vec<(u64, Caller)> {
            let effects = std::mem::take(&mut self.effects);
            let told = effects.into_iter().filter_map(|effect| match effect {
                RefresherEffect::Accepted {
                    generation, caller, ..
                } => Some((generation.0, caller)),
                _ => None,
            });
            told.collect()
        }
    }

    #[test]
    fn a_credential_is_refreshed_thirty_seconds_before_its_end() {
        let mut desk = Desk::logged_in();
        desk.pass(Duration::from_millis(269_999));
        assert_eq!(desk.asked(), None);
        desk.pass(Duration::from_millis(1));
        let exchange = desk.asked().expect("it is due");
        assert_eq!(desk.refresher.deadline(), None, "one at a time");
        desk.answer(exchange, Ok(300));
        assert_eq!(desk.accepted(), [(2, Caller::REFRESH)]);
    }

    #[test]
    fn a_failure_is_tried_again_after_five_seconds_and_keeps_the_old_credential() {
        let mut desk = Desk::logged_in();
        let end = desk.refresher.expires();
        desk.pass(Duration::from_secs(270));
        for error in [
            ExchangeError::Status(503),
            ExchangeError::TimedOut,
            ExchangeError::Status(403),
            ExchangeError::Malformed("<html>".into()),
            ExchangeError::Unreachable("refused".into()),
        ] {
            let exchange = desk.asked().expect("it is due");
            desk.answer(exchange, Err(error.clone()));
            let caller = Caller::REFRESH;
            assert_eq!(desk.effects, [RefresherEffect::Failed { error, caller }]);
            desk.effects.clear();
            assert_eq!(desk.refresher.expires(), end);
            desk.pass(Duration::from_millis(4_999));
            assert_eq!(desk.asked(), None);
            desk.pass(Duration::from_millis(1));
        }
        let exchange = desk.asked().expect("it is tried again");
        desk.answer(exchange, Ok(300));
        assert_eq!(desk.accepted(), [(2, Caller::REFRESH)]);
    }

    #[test]
    fn a_definite_no_ends_it_until_the_next_login() {
        let mut desk = Desk::logged_in();
        desk.pass(Duration::from_secs(270));
        let exchange = desk.asked().expect("it is due");
        let no = ExchangeError::Unauthorized("revoked".into());
        desk.answer(exchange, Err(no.clone()));
        assert_eq!(desk.effects, [RefresherEffect::Unauthorized(no)]);
        desk.effects.clear();
        desk.tell(RefresherEvent::Force(Caller::OPERATION));
        desk.pass(Duration::from_secs(3_600));
        assert_eq!(desk.effects, []);
        desk.tell(RefresherEvent::Login(LoginNumber(2)));
        let exchange = desk.asked().expect("it asks");
        desk.answer(exchange, Ok(300));
        assert_eq!(desk.accepted(), [(2, Caller::LOGIN)], "generations go on");
    }

    #[test]
    fn an_answer_for_an_older_login_or_after_logout_is_dropped() {
        let mut desk = Desk::logged_in();
        desk.tell(RefresherEvent::Force(Caller::OPERATION));
        assert_eq!(desk.asked(), None, "not within the floor");
        desk.pass(REFRESH_FLOOR);
        let old = desk.asked().expect("it asks");
        desk.tell(RefresherEvent::Login(LoginNumber(2)));
        let new = desk.asked().expect("it asks for the new login at once");
        desk.answer(old, Ok(300));
        assert_eq!(desk.effects, []);
        desk.tell(RefresherEvent::Logout);
        desk.answer(new, Ok(300));
        desk.tell(RefresherEvent::Logout);
        assert_eq!(
            (&desk.effects[..], desk.refresher.deadline()),
            (&[][..], None)
        );
    }

    #[test]
    fn who_forces_a_refresh_gets_one_that_began_after_the_wish() {
        let mut desk = Desk::logged_in();
        desk.pass(Duration::from_secs(100));
        desk.tell(RefresherEvent::Force(Caller::OPERATION));
        let first = desk.asked().expect("it asks");
        desk.tell(RefresherEvent::Force(Caller::PROBE));
        assert_eq!(desk.asked(), None, "one at a time");
        desk.pass(Duration::from_secs(1));
        desk.answer(first, Ok(300));
        assert_eq!(desk.accepted(), [(2, Caller::OPERATION)]);
        desk.pass(REFRESH_FLOOR);
        let second = desk.asked().expect("once more");
        desk.answer(second, Ok(300));
        assert_eq!(desk.accepted(), [(3, Caller::PROBE)]);
        desk.pass(Duration::from_secs(200));
        assert_eq!(desk.asked(), None, "and that is all");
    }

    #[test]
    fn after_a_sleep_it_is_refreshed_if_it_is_due_by_the_wall_clock() {
        let mut desk = Desk::logged_in();
        let look = |desk: &mut Desk| {
            let (wall, caller) = (desk.wall(), Caller::WAKE);
            desk.tell(RefresherEvent::IfDue { wall, caller });
        };
        desk.pass(Duration::from_secs(1));
        look(&mut desk);
        assert_eq!(desk.asked(), None);
        desk.jumped = 268;
        look(&mut desk);
        assert_eq!(desk.asked(), None);
        desk.jumped = 269;
        look(&mut desk);
        let exchange = desk.asked().expect("it is due");
        look(&mut desk);
        desk.answer(exchange, Ok(300));
        assert_eq!(desk.accepted(), [(2, Caller::WAKE)]);
    }

    #[test]
    fn a_wall_clock_that_jumps_does_not_move_what_is_waited_for() {
        for jumped in [-86_400, 86_400] {
            let mut desk = Desk::logged_in();
            desk.jumped = jumped;
            desk.pass(Duration::from_millis(269_999));
            assert_eq!(desk.asked(), None);
            desk.pass(Duration::from_millis(1));
            assert!(desk.asked().is_some());
        }
    }

    #[test]
    fn a_wrong_clock_does_not_make_it_ask_in_a_circle() {
        let mut desk = Desk::logged_in();
        desk.tell(RefresherEvent::Force(Caller::OPERATION));
        let mut asked = 0;
        for _ in 0..600 {
            desk.pass(Duration::from_millis(100));
            while let Some(exchange) = desk.asked() {
                asked += 1;
                desk.answer(exchange, Ok(10));
            }
        }
        assert!((10..=14).contains(&asked), "{asked} in a minute");
    }

    #[derive(Clone, Debug)]
    enum Act {
        Pass(u64),
        Jump(i64),
        Login,
        Logout,
        Force,
        Look,
        Answer(Result<u64, ExchangeError>),
        /// An answer to an exchange of long ago.
        Late,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let answer = prop_oneof![
            6 => (0_u64..400).prop_map(Ok),
            2 => Just(Err(ExchangeError::Status(500))),
            1 => Just(Err(ExchangeError::Unauthorized("no".into()))),
        ];
        let act = prop_oneof![
            6 => (0_u64..300_000).prop_map(Act::Pass),
            1 => (-400_i64..400).prop_map(Act::Jump),
            1 => Just(Act::Login),
            1 => Just(Act::Logout),
            2 => Just(Act::Force),
            2 => Just(Act::Look),
            6 => answer.prop_map(Act::Answer),
            1 => Just(Act::Late),
        ];
        proptest::collection::vec(act, 0..80)
    }

    proptest! {
        /// Whatever happens: one exchange at a time and for the present login, never sooner after the one before than
        /// allowed, generations count what was accepted, and who is logged in is always either asking or going to.
        #[test]
        fn the_invariants_hold_whatever_happens(acts in acts()) {
            let mut desk = Desk::new();
            let mut logins = 0;
            let mut under_way: Option<Exchange> = None;
            let mut all: Vec<Exchange> = Vec::new();
            let mut generations = 0;
            let mut is_on = false;
            for act in acts {
                let mut is_login = false;
                match act {
                    Act::Pass(millis) => desk.pass(Duration::from_millis(millis)),
                    Act::Jump(seconds) => desk.jumped += seconds,
                    Act::Login => {
                        logins += 1;
                        (is_login, is_on, under_way) = (true, true, None);
                        desk.tell(RefresherEvent::Login(LoginNumber(logins)));
                    }
                    Act::Logout => {
                        (is_on, under_way) = (false, None);
                        desk.tell(RefresherEvent::Logout);
                    }
                    Act::Force => desk.tell(RefresherEvent::Force(Caller::OPERATION)),
                    Act::Look => {
                        let (wall, caller) = (desk.wall(), Caller::WAKE);
                        desk.tell(RefresherEvent::IfDue { wall, caller });
                    }
                    Act::Answer(result) => if let Some(exchange) = under_way.take() {
                        is_on &= !matches!(result, Err(ExchangeError::Unauthorized(_)));
                        generations += u64::from(result.is_ok());
                        desk.answer(exchange, result);
                    },
                    Act::Late => if let Some(exchange) = all.iter().find(|it| Some(**it) != under_way) {
                        let exchange = *exchange;
                        desk.answer(exchange, Ok(300));
                    },
                }
                for effect in std::mem::take(&mut desk.effects) {
                    match effect {
                        RefresherEffect::Exchange(exchange) => {
                            prop_assert!(under_way.is_none(), "two at a time");
                            prop_assert_eq!(exchange.login, LoginNumber(logins));
                            prop_assert!(is_on && !all.contains(&exchange));
                            under_way = Some(exchange);
                            all.push(exchange);
                        }
                        RefresherEffect::Accepted { generation, .. } => {
                            prop_assert_eq!(generation, Generation(generations));
                        }
                        RefresherEffect::Failed { .. } | RefresherEffect::Unauthorized(_) => {}
                    }
                }
                prop_assert_eq!(desk.refresher.generation(), Generation(generations));
                prop_assert!(!is_login || under_way.is_some(), "a login asks at once");
                let goes_on = under_way.is_some() || desk.refresher.deadline().is_some();
                prop_assert_eq!(goes_on, is_on);
            }
        }
    }
}
