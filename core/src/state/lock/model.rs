//! Contenders and holders against one register, in any interleaving: requests that arrive late or long after their caller
//! gave them up, answers that are lost, actors that stand still, clocks that run apart.
//!
//! What must hold at every step: of all who rely on the lock by their own clocks there is one at most, and tokens increase
//! with every acquisition. And at the end, once everything has arrived and everybody has let go, nothing is left.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::contender::{Contender, ContenderEffect, ContenderEvent};
use super::holder::{Holder, HolderEffect, HolderEvent};
use super::model_world::{ACTORS, Actor, Answer, Message, Request, Role, STEP, TTL, World, name};
use super::record::Record;
use crate::machine::Machine;
use crate::transport::Operation;

impl World {
    fn hear(&mut self, message: &Message, answer: Answer) {
        let actor = message.actor;
        if self.actors[actor].acquisition != message.acquisition {
            return;
        }
        let now = self.stamp(actor);
        match &mut self.actors[actor].role {
            Role::Idle => {}
            Role::Contends(contender) => {
                let event = match (answer, &message.request) {
                    (Answer::Looked(entry), Request::Look { number }) => ContenderEvent::Looked {
                        number: *number,
                        result: Ok(entry),
                    },
                    (Answer::Written(result), Request::Write { sent, .. }) => {
                        ContenderEvent::Written {
                            sent: *sent,
                            result,
                        }
                    }
                    (Answer::Joined, _) => ContenderEvent::Queued {
                        place: name(actor, 0),
                        has_ticket: true,
                        ahead: Vec::new(),
                        watches: true,
                    },
                    _ => return,
                };
                let mut effects = Vec::new();
                contender.handle(now.at, (now, event), &mut effects);
                self.contend(actor, effects);
            }
            Role::Holds { .. } => {
                let event = match (answer, &message.request) {
                    (Answer::Looked(entry), Request::Look { number: 0 }) => {
                        HolderEvent::Looked(Ok(entry))
                    }
                    (Answer::Written(result), Request::Write { sent, .. }) => {
                        HolderEvent::Written {
                            sent: *sent,
                            result,
                        }
                    }
                    (Answer::Written(result), Request::Delete { .. }) => {
                        HolderEvent::Deleted(result)
                    }
                    _ => return,
                };
                self.tell(actor, event);
            }
        }
    }

    fn contend(&mut self, actor: usize, effects: Vec<ContenderEffect>) {
        let id = name(actor, self.actors[actor].acquisition);
        for effect in effects {
            match effect {
                ContenderEffect::Look { number } => self.ask(actor, Request::Look { number }),
                ContenderEffect::Write { over, .. } => {
                    let value = Record::new(&id, TTL, None, 0).encode();
                    let sent = self.stamp(actor);
                    self.ask(actor, Request::Write { over, sent, value });
                }
                ContenderEffect::Queue { .. } => {
                    self.actors[actor].watches = true;
                    self.ask(actor, Request::Join);
                }
                ContenderEffect::Settle { over, .. } => {
                    let id = Arc::clone(&id);
                    self.ask(actor, Request::Settle { id, over });
                }
                ContenderEffect::Failed(_) => self.leave(actor),
                ContenderEffect::Acquired(acquired) => {
                    let newest = self.tokens.iter().max().copied();
                    assert!(
                        newest < Some(acquired.revision),
                        "token {} after {newest:?}",
                        acquired.revision
                    );
                    self.tokens.push(acquired.revision);
                    self.acquired += 1;
                    let id = Arc::clone(&id);
                    let holder = Holder::new(id, TTL, acquired.revision, acquired.sent);
                    self.leave(actor);
                    self.actors[actor].role = Role::Holds {
                        holder: Box::new(holder),
                        token: acquired.revision,
                        sent: acquired.sent,
                        is_lost: false,
                        is_unlocking: false,
                    };
                }
            }
        }
    }

    fn leave(&mut self, actor: usize) {
        let actor = &mut self.actors[actor];
        actor.role = Role::Idle;
        actor.watches = false;
        actor.watched.clear();
    }

    /// The connection of one who contends is down, or up again. What it had asked may be answered all the same.
    fn link(&mut self, actor: usize, event: ContenderEvent) {
        let now = self.stamp(actor);
        let mut effects = Vec::new();
        if let Role::Contends(contender) = &mut self.actors[actor].role {
            contender.handle(now.at, (now, event), &mut effects);
        }
        self.contend(actor, effects);
    }

    fn tell(&mut self, actor: usize, event: HolderEvent) {
        let now = self.stamp(actor);
        let Role::Holds { holder, .. } = &mut self.actors[actor].role else {
            return;
        };
        let mut effects = Vec::new();
        holder.handle(now.at, (now, event), &mut effects);
        self.held(actor, effects);
    }

    fn held(&mut self, actor: usize, effects: Vec<HolderEffect>) {
        let id = name(actor, self.actors[actor].acquisition);
        for effect in effects {
            let stamp = self.stamp(actor);
            let Role::Holds {
                token,
                sent,
                is_lost,
                ..
            } = &mut self.actors[actor].role
            else {
                return;
            };
            match effect {
                HolderEffect::Look => self.ask(actor, Request::Look { number: 0 }),
                HolderEffect::Write { over } => {
                    let value = Record::new(&id, TTL, Some(token.0), 0).encode();
                    self.ask(
                        actor,
                        Request::Write {
                            over,
                            sent: stamp,
                            value,
                        },
                    );
                }
                HolderEffect::Delete { over } => self.ask(actor, Request::Delete { over }),
                HolderEffect::ReadClock => self.tell(actor, HolderEvent::Clock),
                HolderEffect::Renewed { sent: renewed } => *sent = renewed,
                HolderEffect::Lost(_) => *is_lost = true,
                HolderEffect::Refreshed(_) => {}
                HolderEffect::Unlocked(_) => self.leave(actor),
                HolderEffect::Settle { over } => {
                    let id = Arc::clone(&id);
                    self.ask(actor, Request::Settle { id, over });
                }
            }
        }
    }

    /// Everybody who is awake does what is due, after reading its mail.
    fn wake(&mut self) {
        for actor in 0..ACTORS {
            while !self.actors[actor].is_paused {
                let now = self.stamp(actor);
                let seen = self.actors[actor].watched.pop_front();
                let mut effects = Vec::new();
                match &mut self.actors[actor].role {
                    Role::Contends(contender) => {
                        if let Some(entry) = seen {
                            let event = (now, ContenderEvent::Seen(entry));
                            contender.handle(now.at, event, &mut effects);
                        } else if contender.deadline().is_some_and(|due| due <= now.at) {
                            contender.on_deadline(now.at, &mut effects);
                        } else {
                            break;
                        }
                        self.contend(actor, effects);
                    }
                    Role::Holds { holder, .. } => {
                        if holder.deadline().is_none_or(|due| due > now.at) {
                            break;
                        }
                        let mut due = Vec::new();
                        holder.on_deadline(now.at, &mut due);
                        self.held(actor, due);
                    }
                    Role::Idle => break,
                }
            }
        }
    }

    fn pass(&mut self, micros: u64) {
        self.now += micros;
        let life = TTL + TTL / 16;
        let is_held = self
            .latest
            .as_ref()
            .is_some_and(|entry| entry.operation.is_put());
        if self.expires && is_held && self.now >= self.stored + life.as_micros() as u64 {
            self.store(Operation::Expire, Bytes::new());
        }
        self.wake();
    }

    /// Who relies on the lock, by its own clock.
    fn holders(&self) -> Vec<usize> {
        let relies = |actor: &usize| match &self.actors[*actor].role {
            Role::Holds {
                sent,
                is_lost,
                is_unlocking,
                ..
            } => !is_lost && !is_unlocking && !sent.is_over(self.stamp(*actor), TTL),
            _ => false,
        };
        (0..ACTORS).filter(relies).collect()
    }

    fn unlock(&mut self, actor: usize) {
        if let Role::Holds { is_unlocking, .. } = &mut self.actors[actor].role
            && !std::mem::replace(is_unlocking, true)
        {
            self.tell(actor, HolderEvent::Unlock);
        }
    }

    fn acquire(&mut self, actor: usize, waits: bool) {
        if !matches!(self.actors[actor].role, Role::Idle) {
            return;
        }
        self.actors[actor].acquisition += 1;
        let id = name(actor, self.actors[actor].acquisition);
        let until = waits.then(|| self.stamp(actor).at + TTL * 3);
        let mut effects = Vec::new();
        let contender = Contender::new(id, TTL, until, None, &mut effects);
        self.actors[actor].role = Role::Contends(Box::new(contender));
        self.contend(actor, effects);
    }

    /// One step of a script.
    fn step(&mut self, (what, whom): (u8, u8)) {
        let actor = usize::from(whom) % ACTORS;
        let some = |len: usize| usize::from(whom) % len.max(1);
        match what % 16 {
            0..=2 => self.pass(STEP * u64::from(whom % 8 + 1)),
            3..=5 => {
                let at = some(self.requests.len());
                if let Some(message) = self.requests.remove(at) {
                    self.arrive(message, true);
                }
            }
            6 => {
                let at = some(self.requests.len());
                if let Some(message) = self.requests.remove(at) {
                    self.arrive(message, false);
                }
            }
            7..=9 => {
                let at = some(self.answers.len());
                let is_awake = |answer: &(Message, Answer)| !self.actors[answer.0.actor].is_paused;
                if self.answers.get(at).is_some_and(is_awake)
                    && let Some((message, answer)) = self.answers.remove(at)
                {
                    self.hear(&message, answer);
                }
            }
            10 if self.requests.is_empty() => {}
            10 => self.time_out(some(self.requests.len())),
            11 => {
                let is_paused = &mut self.actors[actor].is_paused;
                *is_paused = !*is_paused;
                self.wake();
            }
            12 | 13 => self.acquire(actor, whom >= 128),
            14 if self.actors[actor].is_paused => {}
            14 if matches!(self.actors[actor].role, Role::Contends(_)) => match whom / 128 {
                0 => self.link(actor, ContenderEvent::Disconnected),
                _ => self.link(actor, ContenderEvent::Reconnected),
            },
            14 => match whom / 85 {
                0 => self.tell(actor, HolderEvent::Refresh),
                1 => self.tell(actor, HolderEvent::Keep),
                _ => self.tell(actor, HolderEvent::Disconnected),
            },
            _ if !self.actors[actor].is_paused => self.unlock(actor),
            _ => {}
        }
    }

    /// Everything arrives, and everybody lets go.
    fn finish(&mut self) {
        self.expires = false;
        for actor in 0..ACTORS {
            self.actors[actor].is_paused = false;
        }
        for round in 0..2000 {
            if let Some(message) = self.requests.pop_front() {
                self.arrive(message, true);
            } else if let Some((message, answer)) = self.answers.pop_front() {
                self.hear(&message, answer);
            } else {
                for actor in 0..ACTORS {
                    self.unlock(actor);
                }
                self.pass(STEP);
                let is_idle = |actor: &Actor| matches!(actor.role, Role::Idle);
                let is_quiet = self.requests.is_empty() && self.answers.is_empty();
                if is_quiet && self.actors.iter().all(is_idle) && round > 20 {
                    return;
                }
            }
        }
        panic!("it does not come to an end: {:?}", self.actors);
    }
}

fn play(script: &[(u8, u8)], rates: [u64; ACTORS], expires: bool) -> u32 {
    let mut world = World::new(rates, expires);
    for step in script {
        world.step(*step);
        let holders = world.holders();
        assert!(
            holders.len() <= 1,
            "{holders:?} rely on it at {}",
            world.now
        );
    }
    world.finish();
    let left = world.latest.filter(|entry| entry.operation.is_put());
    assert_eq!(left, None, "it is left behind");
    world.acquired
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 20_000,
        rng_seed: RngSeed::Fixed(5),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn one_relies_on_it_and_nothing_is_left(
        script in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..200),
        rates in [970_u64..=1030, 970..=1030, 970..=1030],
        expires in any::<bool>(),
    ) {
        play(&script, rates, expires);
    }
}

/// That nothing was ever acquired would prove nothing.
#[test]
fn scripts_reach_acquisitions() {
    let mut rng = crate::Rng::new(7);
    let mut acquired = 0;
    for _ in 0..200 {
        let script: Vec<(u8, u8)> = (0..200)
            .map(|_| (rng.below(256) as u8, rng.below(256) as u8))
            .collect();
        acquired += play(&script, [1000, 980, 1020], true);
    }
    assert!(acquired > 400, "{acquired} acquisitions in 200 scripts");
}
