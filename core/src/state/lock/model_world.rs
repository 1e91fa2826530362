//! The world of the model: one register, requests and answers that are under way, and who has sent them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::contender::Contender;
use super::holder::Holder;
use super::record::{Stamp, is_of};
use crate::time::{Instant, UnixTime};
use crate::transport::{KvEntry, Operation, Revision, UpdateError, WriteError};

pub(super) const TTL: Duration = Duration::from_millis(1600);
/// What one step of time is, in microseconds.
pub(super) const STEP: u64 = 50_000;
pub(super) const ACTORS: usize = 3;

/// What was asked of the register, or is answered.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Look {
        number: u64,
    },
    Write {
        over: Revision,
        sent: Stamp,
        value: Bytes,
    },
    Delete {
        over: Revision,
    },
    /// Of an acquisition that is over, by its name.
    Settle {
        id: Arc<str>,
        over: Revision,
    },
    Join,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) actor: usize,
    /// Of which acquisition of that actor.
    pub(super) acquisition: u64,
    pub(super) request: Request,
    /// Its caller has stopped waiting.
    pub(super) is_ghost: bool,
}

#[derive(Debug)]
pub(super) enum Role {
    Idle,
    Contends(Box<Contender>),
    Holds {
        holder: Box<Holder>,
        token: Revision,
        sent: Stamp,
        is_lost: bool,
        is_unlocking: bool,
    },
}

#[derive(Debug)]
pub(super) struct Actor {
    pub(super) role: Role,
    pub(super) acquisition: u64,
    /// How fast its clock runs, in thousandths.
    pub(super) rate: u64,
    pub(super) is_paused: bool,
    pub(super) watches: bool,
    /// Records that its watch will tell.
    pub(super) watched: VecDeque<KvEntry>,
}

pub(super) struct World {
    /// True time in microseconds.
    pub(super) now: u64,
    pub(super) latest: Option<KvEntry>,
    pub(super) revision: u64,
    pub(super) stored: u64,
    pub(super) actors: Vec<Actor>,
    pub(super) requests: VecDeque<Message>,
    pub(super) answers: VecDeque<(Message, Answer)>,
    pub(super) tokens: Vec<Revision>,
    /// Whether the server ends records by their own life.
    pub(super) expires: bool,
    pub(super) acquired: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Looked(Option<KvEntry>),
    Written(Result<Revision, UpdateError>),
    Joined,
}

pub(super) fn name(actor: usize, acquisition: u64) -> Arc<str> {
    format!("{actor}-{acquisition}").into()
}

impl World {
    pub(super) fn new(rates: [u64; ACTORS], expires: bool) -> Self {
        let actor = |rate| Actor {
            role: Role::Idle,
            acquisition: 0,
            rate,
            is_paused: false,
            watches: false,
            watched: VecDeque::new(),
        };
        Self {
            now: 0,
            latest: None,
            revision: 0,
            stored: 0,
            actors: rates.map(actor).into(),
            requests: VecDeque::new(),
            answers: VecDeque::new(),
            tokens: Vec::new(),
            expires,
            acquired: 0,
        }
    }

    pub(super) fn stamp(&self, actor: usize) -> Stamp {
        let micros = self.now * self.actors[actor].rate / 1000;
        Stamp {
            at: Instant::ZERO + Duration::from_micros(micros),
            wall: UnixTime::EPOCH + Duration::from_micros(micros),
        }
    }

    pub(super) fn ask(&mut self, actor: usize, request: Request) {
        let acquisition = self.actors[actor].acquisition;
        self.requests.push_back(Message {
            actor,
            acquisition,
            request,
            is_ghost: false,
        });
    }

    pub(super) fn store(&mut self, operation: Operation, value: Bytes) -> Revision {
        self.revision += 1;
        self.stored = self.now;
        let entry = KvEntry {
            key: "l.a".into(),
            value,
            revision: Revision(self.revision),
            operation,
            created: UnixTime::EPOCH,
        };
        for actor in self.actors.iter_mut().filter(|actor| actor.watches) {
            actor.watched.push_back(entry.clone());
        }
        self.latest = Some(entry);
        Revision(self.revision)
    }

    pub(super) fn change(
        &mut self,
        over: Revision,
        operation: Operation,
        value: Bytes,
    ) -> Result<Revision, UpdateError> {
        let actual = self
            .latest
            .as_ref()
            .map_or(Revision::NONE, |entry| entry.revision);
        if actual != over {
            return Err(UpdateError::WrongRevision { actual });
        }
        Ok(self.store(operation, value))
    }

    /// A request arrives.
    pub(super) fn arrive(&mut self, message: Message, answered: bool) {
        let answer = match message.request.clone() {
            Request::Look { .. } => Answer::Looked(self.latest.clone()),
            Request::Join => Answer::Joined,
            Request::Write { over, value, .. } => {
                Answer::Written(self.change(over, Operation::Put, value))
            }
            Request::Delete { over } => {
                Answer::Written(self.change(over, Operation::Delete, Bytes::new()))
            }
            Request::Settle { id, over } => {
                let deleted = self.change(over, Operation::Delete, Bytes::new());
                if deleted.is_err()
                    && let Some(latest) = &self.latest
                    && is_of(latest, &id)
                {
                    let over = latest.revision;
                    self.ask(message.actor, Request::Settle { id, over });
                }
                return;
            }
        };
        if message.is_ghost {
            return;
        }
        let answer = match answer {
            Answer::Written(_) if !answered => {
                Answer::Written(Err(UpdateError::Write(WriteError::TimedOut)))
            }
            answer => answer,
        };
        self.answers.push_back((message, answer));
    }

    /// Its caller gives a request up; it arrives all the same, some time.
    pub(super) fn time_out(&mut self, at: usize) {
        let message = &mut self.requests[at];
        if message.is_ghost
            || !matches!(
                message.request,
                Request::Write { .. } | Request::Delete { .. }
            )
        {
            return;
        }
        message.is_ghost = true;
        let answer = Answer::Written(Err(UpdateError::Write(WriteError::TimedOut)));
        self.answers.push_back((message.clone(), answer));
    }
}
