//! Histories made by hand, to show of an invariant what it tells and what it does not.

mod chat;

use std::sync::Arc;
use std::time::Duration;

use squall_core::Instant;
use squall_core::diagnostics::{Caller, EventType, NatsEvent};
use squall_core::session::LOGIN_FILE;
use squall_core::transport::{Operation, Revision};
use squall_sim::clock::WALL_START;

use super::facts::Facts;
use super::{Findings, find};
use crate::fault::{CLUSTER_SIZE, Fault, FaultKind};
use crate::history::{Call, Commit, History, Life, Record, Reply, Tell, What, Wire, lock, state};
use crate::plan::{AgentPlan, AuthPlan, Plan, Role, WorldPlan};

/// Credentials of these tales are valid for so long.
const LIFE: Duration = Duration::from_secs(300);

/// The lock of these tales, and how long it lives.
const LOCK: &str = "job-0";
const LOCK_TTL: Duration = Duration::from_secs(4);

/// A history that is told step by step. Times are in seconds, from the start.
pub(super) struct Tale {
    plan: Plan,
    records: Vec<Record>,
    now: Instant,
    calls: u64,
}

impl Tale {
    /// One process of a user of a bucket, at a pace of one second.
    pub(super) fn of(process: &str) -> Self {
        let name = process.split('/').next().unwrap_or_default();
        let mut agent = AgentPlan::new(name, Duration::from_secs(1));
        agent.role = Role::User;
        let plan = Plan {
            scenario: "rotation/calm".to_owned(),
            seed: 0,
            duration: Duration::from_secs(600),
            settle: Duration::from_secs(30),
            world: WorldPlan::default(),
            auth: Some(AuthPlan::new(LIFE)),
            agents: vec![agent],
            faults: Vec::new(),
            foreign: Vec::new(),
            specimen: None,
            expect: None,
        };
        let mut tale = Self {
            plan,
            records: Vec::new(),
            now: Instant::ZERO,
            calls: 0,
        };
        tale.life(process, Life::Started);
        tale
    }

    /// Processes that take the one lock `job-0`, which lives for four seconds.
    pub(super) fn of_locks(processes: &[&str]) -> Self {
        let mut tale = Self::of(processes[0]);
        let names = processes
            .iter()
            .filter_map(|process| process.split('/').next());
        tale.plan.scenario = "lock/calm".to_owned();
        tale.plan.auth = None;
        tale.plan.agents = names
            .map(|name| AgentPlan::new(name, Duration::from_secs(1)))
            .collect();
        for agent in &mut tale.plan.agents {
            agent.role = Role::Lock;
        }
        for process in &processes[1..] {
            tale.life(process, Life::Started);
        }
        tale
    }

    /// Its server loses its power at its beginning.
    pub(super) fn without_power(&mut self) -> &mut Self {
        self.plan.faults.push(Fault {
            at: Duration::ZERO,
            lasts: Duration::from_secs(1),
            target: "server".to_owned(),
            kind: FaultKind::PowerLoss,
        });
        self
    }

    /// What the invariant of this code tells of it so far.
    pub(super) fn told_by(&self, code: &'static str) -> Vec<String> {
        let mut records = self.records.clone();
        records.sort_by_key(|record| record.at);
        let history = History(records);
        let facts = Facts::new(&self.plan, &history);
        let mut findings = Findings {
            code,
            found: Vec::new(),
            undecided: Vec::new(),
        };
        let invariant = find(code).expect("it is one of them");
        (invariant.check)(&facts, &mut findings);
        findings.found.into_iter().map(|found| found.text).collect()
    }

    /// From now on it is so late.
    pub(super) fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = Instant::ZERO + Duration::from_secs(seconds);
        self
    }

    /// Its wall clock read so much more at the start than that of simulated worlds.
    pub(super) fn began_later(&mut self, seconds: u64) -> &mut Self {
        self.add(What::Planned {
            plan: self.plan.to_string(),
            wall: Some(WALL_START + Duration::from_secs(seconds)),
        })
    }

    fn add(&mut self, what: What) -> &mut Self {
        let at = self.now;
        self.records.push(Record { at, what });
        self
    }

    fn tell(&mut self, process: &str, tell: Tell) -> &mut Self {
        let process = process.into();
        self.add(What::Told { process, tell })
    }

    fn invoke(&mut self, process: &str, call: Call) -> u64 {
        self.calls += 1;
        let (id, process) = (self.calls, process.into());
        self.add(What::Invoke { id, process, call });
        id
    }

    fn call(&mut self, process: &str, call: Call, reply: Reply) -> &mut Self {
        let id = self.invoke(process, call);
        self.add(What::Ok { id, reply })
    }

    pub(super) fn refused(&mut self, process: &str, call: Call, error: &str) -> &mut Self {
        let id = self.invoke(process, call);
        let error = error.to_owned();
        let conflict = false;
        self.add(What::Refused {
            id,
            error,
            conflict,
        })
    }

    pub(super) fn life(&mut self, process: &str, event: Life) -> &mut Self {
        let process = process.into();
        self.add(What::Life { process, event })
    }

    pub(super) fn issued(&mut self, process: &str, token: &str) -> &mut Self {
        let account = "app".into();
        let reply = Reply::Issued {
            token: token.into(),
            expires: Some(WALL_START + self.now.elapsed() + LIFE),
        };
        self.call(process, Call::Exchange { account }, reply)
    }

    pub(super) fn dialled(&mut self, process: &str, connection: &str, token: &str) -> &mut Self {
        let reply = Reply::Dialled {
            connection: connection.into(),
            token: Some(token.into()),
        };
        self.call(process, Call::Dial, reply)
    }

    fn wire(&mut self, process: &str, connection: &str, wire: Wire) -> &mut Self {
        let connection = connection.into();
        self.tell(process, Tell::Wire { connection, wire })
    }

    pub(super) fn down(&mut self, process: &str, connection: &str) -> &mut Self {
        let cause = "link lost".to_owned();
        self.wire(process, connection, Wire::Down { cause })
    }

    pub(super) fn closed(&mut self, process: &str, connection: &str) -> &mut Self {
        self.wire(process, connection, Wire::Closed)
    }

    pub(super) fn logged(
        &mut self,
        process: &str,
        kind: EventType,
        caller: Caller,
        connection: &str,
    ) -> &mut Self {
        let at = WALL_START + self.now.elapsed();
        let event = Box::new(NatsEvent::new(kind, at, caller).of(connection));
        self.tell(process, Tell::Logged { event })
    }

    pub(super) fn exchanging(&mut self, process: &str) -> u64 {
        let account = "app".into();
        self.invoke(process, Call::Exchange { account })
    }

    pub(super) fn logging_in(&mut self, process: &str, account: &str) -> u64 {
        let account = account.into();
        self.invoke(process, Call::LogIn { account })
    }

    pub(super) fn logged_in(&mut self, process: &str, account: &str) -> &mut Self {
        let id = self.logging_in(process, account);
        let reply = Reply::Done;
        self.add(What::Ok { id, reply })
    }

    pub(super) fn logged_out(&mut self, process: &str) -> &mut Self {
        self.call(process, Call::LogOut, Reply::Done)
    }

    pub(super) fn loaded(&mut self, process: &str, login: Option<u64>) -> &mut Self {
        let file = LOGIN_FILE.into();
        self.call(process, Call::Load { file }, Reply::Loaded { login })
    }

    pub(super) fn saved(&mut self, process: &str, login: Option<u64>) -> &mut Self {
        let file = LOGIN_FILE.into();
        self.call(process, Call::Save { file, login }, Reply::Done)
    }

    pub(super) fn half_saved(&mut self, process: &str, login: Option<u64>) -> &mut Self {
        let file = LOGIN_FILE.into();
        let id = self.invoke(process, Call::Save { file, login });
        let error = "input/output error".to_owned();
        self.add(What::Unknown { id, error })
    }

    pub(super) fn follows(&mut self, process: &str) -> &mut Self {
        self.call(process, Call::Follow, Reply::Done)
    }

    pub(super) fn saw(&mut self, process: &str, key: &str, revision: u64) -> &mut Self {
        let tell = Tell::Saw {
            key: key.into(),
            revision: Revision(revision),
        };
        self.tell(process, tell)
    }

    pub(super) fn interrupted(&mut self, process: &str) -> &mut Self {
        let reason = "disconnected".to_owned();
        self.tell(process, Tell::Interrupted { reason })
    }

    pub(super) fn resumed(&mut self, process: &str) -> &mut Self {
        self.tell(process, Tell::Resumed)
    }

    pub(super) fn committed(&mut self, key: &str, revision: u64) -> &mut Self {
        let key: Arc<str> = key.into();
        self.add(What::Committed(Commit {
            bucket: crate::roles::user::BUCKET.into(),
            key,
            revision: Revision(revision),
            operation: Operation::Put,
            by: None,
            incarnation: None,
            ttl: None,
            value: revision,
        }))
    }

    fn locking(waits: bool) -> Call {
        Call::Lock(lock::Call::Acquire {
            key: LOCK.into(),
            ttl: LOCK_TTL,
            waits: waits.then_some(LOCK_TTL * 10),
        })
    }

    pub(super) fn locked(&mut self, process: &str, token: u64) -> &mut Self {
        let id = self.invoke(process, Self::locking(false));
        self.has_lock(id, token)
    }

    pub(super) fn waits_for_lock(&mut self, process: &str) -> u64 {
        self.invoke(process, Self::locking(true))
    }

    pub(super) fn has_lock(&mut self, id: u64, token: u64) -> &mut Self {
        let reply = Reply::Lock(lock::Reply::Held { token });
        self.add(What::Ok { id, reply })
    }

    pub(super) fn lock_fails(&mut self, process: &str, error: &str) -> &mut Self {
        let id = self.invoke(process, Self::locking(false));
        let error = error.to_owned();
        self.add(What::Unknown { id, error })
    }

    pub(super) fn unlocks(&mut self, process: &str, token: u64) -> &mut Self {
        let key = LOCK.into();
        let call = Call::Lock(lock::Call::Unlock { key, token });
        self.call(process, call, Reply::Done)
    }

    pub(super) fn lock_lost(&mut self, process: &str, token: u64) -> &mut Self {
        let (key, reason) = (LOCK.into(), "expired".to_owned());
        self.tell(process, Tell::Lock(lock::Tell::Lost { key, token, reason }))
    }

    /// Something is written under the lock, as this revision.
    pub(super) fn effect(&mut self, process: &str, token: u64, revision: u64) -> &mut Self {
        let key = LOCK.into();
        let value = revision;
        let call = Call::Lock(lock::Call::Effect { key, token, value });
        let effect = self.invoke(process, call);
        let write = Call::Write {
            bucket: crate::roles::lock::BUCKET.into(),
            key: format!("d.{LOCK}").into(),
            operation: Operation::Put,
            expected: None,
            value,
        };
        let revision = Revision(revision);
        let write = self.invoke(process, write);
        self.stored(process, "d.", Operation::Put, revision.0, None);
        let reply = Reply::Stored { revision };
        self.add(What::Ok { id: write, reply });
        let reply = Reply::Done;
        self.add(What::Ok { id: effect, reply })
    }

    /// The record of the lock is written, as this revision.
    pub(super) fn record(&mut self, process: &str, id: &str, revision: u64) -> &mut Self {
        let says = Some((id, LOCK_TTL));
        self.stored(process, "l.", Operation::Put, revision, says)
    }

    pub(super) fn long_record(&mut self, process: &str, id: &str, revision: u64) -> &mut Self {
        let says = Some((id, LOCK_TTL * 20));
        self.stored(process, "l.", Operation::Put, revision, says)
    }

    pub(super) fn record_gone(&mut self, process: &str, revision: u64) -> &mut Self {
        self.stored(process, "l.", Operation::Delete, revision, None)
    }

    fn stored(
        &mut self,
        process: &str,
        under: &str,
        operation: Operation,
        revision: u64,
        says: Option<(&str, Duration)>,
    ) -> &mut Self {
        self.add(What::Committed(Commit {
            bucket: crate::roles::lock::BUCKET.into(),
            key: format!("{under}{LOCK}").into(),
            revision: Revision(revision),
            operation,
            by: Some(process.into()),
            incarnation: says.map(|(id, _)| id.into()),
            ttl: says.map(|(_, ttl)| ttl),
            value: revision,
        }))
    }

    /// Processes that keep state in one store.
    pub(super) fn of_states(processes: &[&str]) -> Self {
        let mut tale = Self::of_locks(processes);
        tale.plan.scenario = "state/calm".to_owned();
        for agent in &mut tale.plan.agents {
            agent.role = Role::State;
        }
        tale
    }

    fn state(&mut self, process: &str, call: state::Call, reply: Reply) -> &mut Self {
        self.call(process, Call::State(call), reply)
    }

    /// Somebody puts a value, for so many seconds perhaps, which is stored as this revision.
    pub(super) fn puts(
        &mut self,
        process: &str,
        key: &str,
        revision: u64,
        life: Option<u64>,
    ) -> &mut Self {
        let call = state::Call::Put {
            key: key.into(),
            value: revision,
            life: life.map(Duration::from_secs),
            token: None,
        };
        let id = self.invoke(process, Call::State(call));
        self.of_state(process, key, Operation::Put, revision);
        let revision = Revision(revision);
        let reply = Reply::State(state::Reply::Put { revision });
        self.add(What::Ok { id, reply })
    }

    pub(super) fn puts_fenced(
        &mut self,
        process: &str,
        key: &str,
        revision: u64,
        token: u64,
    ) -> &mut Self {
        let call = state::Call::Put {
            key: key.into(),
            value: revision,
            life: None,
            token: Some(token),
        };
        let revision = Revision(revision);
        self.state(process, call, Reply::State(state::Reply::Put { revision }))
    }

    pub(super) fn gets(&mut self, process: &str, key: &str, revision: Option<u64>) -> &mut Self {
        let reply = match revision {
            Some(revision) => state::Reply::Value {
                revision: Revision(revision),
                value: revision,
            },
            None => state::Reply::Absent,
        };
        let key = key.into();
        self.state(process, state::Call::Get { key }, Reply::State(reply))
    }

    pub(super) fn deletes(&mut self, process: &str, key: &str, revision: u64) -> &mut Self {
        let call = state::Call::Delete { key: key.into() };
        let id = self.invoke(process, Call::State(call));
        self.takes_away(process, key, revision);
        let reply = Reply::Done;
        self.add(What::Ok { id, reply })
    }

    pub(super) fn takes_away(&mut self, process: &str, key: &str, revision: u64) -> &mut Self {
        self.of_state(process, key, Operation::Delete, revision)
    }

    /// There is a cluster, which keeps so many copies.
    pub(super) fn on_cluster(&mut self, copies: usize) -> &mut Self {
        (self.plan.world.servers, self.plan.world.replicas) = (CLUSTER_SIZE, copies);
        self
    }

    /// The record of a key that this revision is goes away without another in its place.
    pub(super) fn goes(&mut self, key: &str, revision: u64) -> &mut Self {
        self.add(What::Removed {
            bucket: crate::roles::lock::BUCKET.into(),
            key: format!("d.{key}").into(),
            revision: Revision(revision),
            cause: "its life was over".to_owned(),
        })
    }

    fn of_state(
        &mut self,
        process: &str,
        key: &str,
        operation: Operation,
        revision: u64,
    ) -> &mut Self {
        self.add(What::Committed(Commit {
            bucket: crate::roles::lock::BUCKET.into(),
            key: format!("d.{key}").into(),
            revision: Revision(revision),
            operation,
            by: Some(process.into()),
            incarnation: None,
            ttl: None,
            value: revision,
        }))
    }

    pub(super) fn watches_state(&mut self, process: &str) -> &mut Self {
        self.state(process, state::Call::Watch, Reply::Done)
    }

    pub(super) fn closes_state(&mut self, process: &str) -> &mut Self {
        self.state(process, state::Call::Close, Reply::Done)
    }

    pub(super) fn told_of_state(&mut self, process: &str, tell: state::Tell) -> &mut Self {
        self.tell(process, Tell::State(tell))
    }

    pub(super) fn told_put(&mut self, process: &str, key: &str, revision: u64) -> &mut Self {
        let tell = state::Tell::Put {
            key: key.into(),
            revision: Revision(revision),
            value: revision,
        };
        self.told_of_state(process, tell)
    }

    pub(super) fn told_expired(&mut self, process: &str, key: &str, revision: u64) -> &mut Self {
        let (key, revision) = (key.into(), Revision(revision));
        self.told_of_state(process, state::Tell::Expired { key, revision })
    }

    /// The second act was over, and this was missing.
    pub(super) fn unsettled(&mut self, pending: &str) -> &mut Self {
        let pending = pending.to_owned();
        self.add(What::Unsettled { pending })
    }

    /// Something is done between two times.
    pub(super) fn fault(&mut self, target: &str, kind: FaultKind, from: u64, to: u64) -> &mut Self {
        let number = self.plan.faults.len();
        let at = Duration::from_secs(from);
        let fault = Fault {
            at,
            lasts: Duration::from_secs(to) - at,
            target: target.to_owned(),
            kind,
        };
        let name = fault.to_string();
        self.plan.faults.push(fault);
        let now = self.now;
        for (seconds, begins) in [(from, true), (to, false)] {
            let fault = name.clone();
            self.at(seconds).add(What::Fault {
                number,
                fault,
                begins,
            });
        }
        self.now = now;
        self
    }

    /// The run is over.
    pub(super) fn ends(&mut self) -> &mut Self {
        self.add(What::Settled)
    }
}
