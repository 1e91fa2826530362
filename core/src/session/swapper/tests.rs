//! The swapper at a desk where the world does what it wants done.

use proptest::prelude::*;

use super::*;
use crate::env::Rng;

const SPREAD: Duration = Duration::from_secs(7);

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
            swapper: Swapper::new(SPREAD, Rng::new(1)),
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
    assert_eq!(desk.dialled(), None, "others exchange at the same time");
    assert!(desk.wait() <= Some(SPREAD));
    let dial = desk.dialled().expect("it dials");
    assert_eq!(
        desk.swapper.current(),
        Some((ConnectionId(1), Generation(1)))
    );
    desk.now += Duration::from_millis(23);
    desk.succeed(dial);
    assert!(desk.wants(&SwapperEffect::Retire(ConnectionId(1))));
    let took = |effect: &SwapperEffect| match effect {
        SwapperEffect::Tell(told) => told.took,
        _ => None,
    };
    let took: Vec<_> = desk.effects.iter().filter_map(took).collect();
    assert_eq!(took, [Duration::from_millis(23)], "without the wait before");
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
    desk.wait();
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
fn who_is_issued_one_after_the_other_moves_all_the_same() {
    let mut desk = Desk::connected();
    let begun = desk.now;
    while desk.dialled().is_none() {
        desk.issue(Caller::REFRESH);
        let due = desk.swapper.deadline().expect("it will move");
        desk.now = due.min(desk.now + SPREAD / 10);
        desk.swapper.on_deadline(desk.now, &mut desk.effects);
    }
    assert!(desk.now.since(begun) <= SPREAD);
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
    let first = desk.wait().expect("it goes on");
    assert!((BACKOFF_MIN..=TURN_MAX).contains(&first), "{first:?}");
    for took in [0, 5, 0, 0, 7] {
        let dial = desk.dialled().expect("it dials");
        let took = Duration::from_secs(took);
        desk.now += took;
        desk.tell(SwapperEvent::Dialled(dial, Err(ConnectError::TimedOut)));
        let next = (ROUND - took).max(BACKOFF_MIN);
        assert_eq!(desk.wait(), Some(next), "it keeps its turn");
    }
    // What is issued meanwhile is no reason to dial when everybody else would.
    let dial = desk.dialled().expect("it dials");
    desk.tell(SwapperEvent::Dialled(dial, Err(ConnectError::TimedOut)));
    desk.issue(Caller::REFRESH);
    assert_eq!(desk.dialled(), None);
    assert!(desk.wait() >= Some(BACKOFF_MIN));
    desk.told();
    let effects = std::mem::take(&mut desk.effects);
    assert!(effects.is_empty(), "{effects:?}");
}

/// Of a thousand that lose one server at once, no second has more than a fifth, whenever the server is back.
#[test]
fn turns_lie_evenly_whenever_the_server_is_back() {
    let turns = |seed| {
        let mut desk = Desk::connected();
        desk.swapper.rng = Rng::new(seed);
        desk.hear(1, ConnectionEvent::Closed);
        let begun = desk.now;
        let mut turns = Vec::new();
        while desk.now.since(begun) < Duration::from_secs(60) {
            desk.wait().expect("it goes on");
            turns.push(desk.now.since(begun));
            let dial = desk.dialled().expect("it dials");
            desk.tell(SwapperEvent::Dialled(dial, Err(ConnectError::TimedOut)));
        }
        turns
    };
    let all: Vec<Vec<Duration>> = (0..1_000).map(turns).collect();
    for back in 1..40 {
        let back = Duration::from_secs(back);
        let mut seconds = [0_u32; 10];
        for turns in &all {
            let next = turns.iter().find(|turn| **turn >= back);
            let wait = *next.expect("there is one in a minute") - back;
            seconds[wait.as_secs() as usize] += 1;
        }
        assert!(
            seconds.iter().all(|count| *count <= 200),
            "{back:?}: {seconds:?}"
        );
    }
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
    desk.wait();
    let dial = desk.dialled().expect("it dials");
    desk.tell(SwapperEvent::Logout(Caller::LOGOUT));
    assert!(desk.wants(&SwapperEffect::Abandon(dial)));
    assert_eq!(desk.told(), ["closed of c1 by logout"]);
    desk.tell(SwapperEvent::Dialled(dial, Ok(ConnectionId(2))));
    assert_eq!(desk.wait(), None);
    assert!(desk.effects.is_empty());

    let mut desk = Desk::connected();
    desk.tell(SwapperEvent::Unauthorized);
    assert!(desk.effects.is_empty(), "what lives is kept");
    desk.hear(1, kicked());
    assert!(desk.wants(&SwapperEffect::Over));
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
                    let is_planned = desk.generations % 2 == 1;
                    desk.issue(if is_planned { Caller::REFRESH } else { Caller::OPERATION });
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
