//! From a finished run to the model that reports are drawn from.

mod beliefs;
mod messages;
#[cfg(test)]
mod secrets;
mod written;

pub(crate) use self::written::Written;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use squall_core::Instant;
use squall_core::diagnostics::{NatsEvent, redact};
use squall_core::transport::Operation;
use squall_reports::model::{
    self, Fact, FaultBand, Invariant, Lane, LaneId, LaneKind, Mark, MarkId, MarkKind, Moment,
    TrueTime,
};
use squall_reports::sweep::Sweep;

use crate::history::{
    Call, Commit, History, Life, Record, Reply, Tell, What, Wire, chat, lock, state,
};
use crate::invariants::{self, Verdict};
use crate::parse::SERVER;
use crate::plan::{On, Plan};
use crate::roles::lock::BUCKET;
use crate::run::Run;
use crate::stories;

/// Marks this close before a violation that concern its lanes are its evidence.
const EVIDENCE: Duration = Duration::from_millis(1);

/// The model of a run, without its marks and beliefs: enough to count it.
pub fn outline(run: &Run, reproduce: String) -> model::Run {
    let scenario = stories::find(&run.plan.scenario);
    let fact = |sometimes: &stories::Sometimes| Fact {
        name: sometimes.fact.to_owned(),
        reached: (sometimes.reached)(&run.plan, &run.history),
    };
    let mut lanes: Vec<Lane> = run
        .plan
        .agents
        .iter()
        .map(|agent| Lane {
            name: agent.name.clone(),
            role: if agent.watch { "watcher" } else { "agent" }.to_owned(),
            kind: LaneKind::Agent,
        })
        .collect();
    lanes.push(Lane {
        name: SERVER.to_owned(),
        role: format!("nats-server {}", run.plan.world.server),
        kind: LaneKind::Server,
    });
    let mut model = model::Run {
        schema: model::Schema,
        scenario: run.plan.scenario.clone(),
        title: scenario.map_or(String::new(), |scenario| scenario.promise.to_owned()),
        world: match run.plan.world.on {
            On::Simulated => model::World::Sim,
            On::Nats => model::World::Nats {
                version: run.plan.world.server.to_string(),
            },
        },
        seed: Some(run.plan.seed),
        reproduce,
        verdict: verdict(run),
        simulated: run.simulated,
        elapsed: None,
        lanes,
        marks: Vec::new(),
        faults: faults(run),
        beliefs: Vec::new(),
        messages: Vec::new(),
        moments: Vec::new(),
        sometimes: scenario
            .map(|scenario| scenario.sometimes.iter().map(fact).collect())
            .unwrap_or_default(),
        trace: None,
        fingerprint: None,
    };
    conceal(&mut model);
    model
}

/// Strikes out what is a secret in any text of the model: what programs say of an error quotes what they were given.
pub fn conceal(model: &mut model::Run) {
    model.rewrite_texts(&mut |text| {
        if let Cow::Owned(clean) = redact(text) {
            *text = clean;
        }
    });
}

/// The same for what is said of many runs.
pub fn conceal_sweep(sweep: &mut Sweep) {
    sweep.rewrite_texts(&mut |text| {
        if let Cow::Owned(clean) = redact(text) {
            *text = clean;
        }
    });
}

/// The model of a run of which nothing is left but its history: which faults changed anything is not known, and all that
/// began are taken to have.
pub fn model_of_history(plan: Plan, history: History, reproduce: String) -> model::Run {
    let mut bitten = vec![false; plan.faults.len()];
    for record in &history.0 {
        if let What::Fault {
            number,
            begins: true,
            ..
        } = &record.what
            && let Some(bitten) = bitten.get_mut(*number)
        {
            *bitten = true;
        }
    }
    let run = Run {
        verdict: invariants::judge(&plan, &history),
        simulated: history
            .0
            .last()
            .map_or(Duration::ZERO, |last| last.at.elapsed()),
        plan,
        history,
        bitten,
        trace: None,
    };
    model(&run, reproduce)
}

/// The whole model of a run.
pub fn model(run: &Run, reproduce: String) -> model::Run {
    let mut model = outline(run, reproduce);
    let mut writer = Writer::new(run);
    for record in &run.history.0 {
        writer.write(record);
    }
    model.moments = moments(run);
    model.messages = messages::messages(run);
    model.marks = writer.marks;
    model.beliefs = beliefs::beliefs(run);
    let is_the_same_every_time = run.trace.is_some();
    model.fingerprint = is_the_same_every_time.then(|| format!("{:016x}", run.fingerprint()));
    if let model::Verdict::Fail(violations) = &mut model.verdict {
        for violation in violations {
            let since = violation.at.before(EVIDENCE);
            violation.evidence = model
                .marks
                .iter()
                .enumerate()
                .filter(|(_, mark)| mark.at >= since && mark.at <= violation.at)
                .filter(|(_, mark)| violation.lanes.contains(&mark.lane) && mark.routine.is_none())
                .map(|(index, _)| MarkId(index))
                .collect();
        }
    }
    conceal(&mut model);
    model
}

/// Where the second act begins, and where it has reached what it is for.
fn moments(run: &Run) -> Vec<Moment> {
    let moment = |record: &Record| {
        let text = match record.what {
            What::Mended => "everything is mended",
            What::Settled => "all is well",
            _ => return None,
        };
        let (at, text) = (time(record.at), text.to_owned());
        Some(Moment { at, text })
    };
    run.history.0.iter().filter_map(moment).collect()
}

const fn time(at: Instant) -> TrueTime {
    TrueTime::from_nanos(at.as_nanos())
}

fn lane_of(run: &Run, process: &str) -> LaneId {
    let agent = process.split('/').next().unwrap_or(process);
    let found = run.plan.agents.iter().position(|known| known.name == agent);
    LaneId(found.unwrap_or(run.plan.agents.len()))
}

/// The lanes of these processes, each once.
fn concerned(run: &Run, processes: &[Arc<str>]) -> Vec<LaneId> {
    let lanes: BTreeSet<LaneId> = processes
        .iter()
        .map(|process| lane_of(run, process))
        .collect();
    lanes.into_iter().collect()
}

fn verdict(run: &Run) -> model::Verdict {
    match &run.verdict {
        Verdict::Pass => model::Verdict::Pass,
        Verdict::Inconclusive(why) => model::Verdict::Inconclusive { why: why.clone() },
        Verdict::Fail(violations) => {
            let violations = violations.iter().map(|violation| {
                let known = invariants::find(&violation.code);
                model::Violation {
                    invariant: Invariant {
                        code: violation.code.clone(),
                        name: known.map_or("", |known| known.name).to_owned(),
                        property: known.map_or("", |known| known.property).to_owned(),
                    },
                    at: time(violation.at),
                    lanes: concerned(run, &violation.processes),
                    what_happened: violation.text.clone(),
                    evidence: Vec::new(),
                }
            });
            model::Verdict::Fail(violations.collect())
        }
    }
}

/// Faults as they happened; those that never began are where the plan has them.
fn faults(run: &Run) -> Vec<FaultBand> {
    let mut times: BTreeMap<(usize, bool), Instant> = BTreeMap::new();
    for record in &run.history.0 {
        if let What::Fault { number, begins, .. } = &record.what {
            times.insert((*number, *begins), record.at);
        }
    }
    let planned = |after: Duration| Instant::ZERO + after;
    run.plan
        .faults
        .iter()
        .enumerate()
        .map(|(number, fault)| {
            let from = times
                .get(&(number, true))
                .copied()
                .unwrap_or_else(|| planned(fault.at));
            let to = times
                .get(&(number, false))
                .copied()
                .unwrap_or(from + fault.lasts);
            FaultBand {
                name: fault.kind.name().to_owned(),
                target: match run.plan.agent(&fault.target) {
                    Some(agent) => agent.name.clone(),
                    None => SERVER.to_owned(),
                },
                from: time(from),
                to: time(to),
                bit: run.bitten.get(number).copied().unwrap_or(false),
            }
        })
        .collect()
}

/// A call that has not ended yet.
struct Asked<'a> {
    mark: MarkId,
    lane: LaneId,
    routine: Option<String>,
    process: &'a str,
    call: &'a Call,
}

/// Turns records into marks.
struct Writer<'a> {
    run: &'a Run,
    /// Agents that lived more than once: of these it is told which life did what.
    reborn: BTreeSet<&'a str>,
    marks: Vec<Mark>,
    calls: BTreeMap<u64, Asked<'a>>,
    /// Which acquisition wrote the record of each lock last.
    records: BTreeMap<&'a str, Option<&'a str>>,
}

impl<'a> Writer<'a> {
    fn new(run: &'a Run) -> Self {
        let reborn = run
            .history
            .0
            .iter()
            .filter_map(|record| match &record.what {
                What::Life {
                    process,
                    event: Life::Started,
                } if !process.ends_with("/1") => Some(agent(process)),
                _ => None,
            });
        Self {
            run,
            reborn: reborn.collect(),
            marks: Vec::new(),
            calls: BTreeMap::new(),
            records: BTreeMap::new(),
        }
    }

    fn mark(&mut self, at: Instant, lane: LaneId, kind: MarkKind, text: String) -> &mut Mark {
        let index = self.marks.len();
        let at = time(at);
        self.marks.push(Mark {
            at,
            lane,
            kind,
            text,
            answers: None,
            routine: None,
        });
        &mut self.marks[index]
    }

    /// What a process did, with its name where its lane does not tell it.
    fn named(&self, process: &str, text: String) -> String {
        if self.reborn.contains(agent(process)) {
            format!("{process}: {text}")
        } else {
            text
        }
    }

    fn write(&mut self, record: &'a Record) {
        let at = record.at;
        let server = LaneId(self.run.plan.agents.len());
        match &record.what {
            What::Invoke { id, process, call } => {
                let lane = lane_of(self.run, process);
                let routine = routine(call, process);
                let text = self.named(process, call_text(call));
                let mark = self.mark(at, lane, MarkKind::Call, text);
                mark.routine.clone_from(&routine);
                let mark = MarkId(self.marks.len() - 1);
                self.calls.insert(
                    *id,
                    Asked {
                        mark,
                        lane,
                        routine,
                        process,
                        call,
                    },
                );
            }
            What::Ok { id, reply } => {
                if let Some(call) = self.calls.remove(id) {
                    self.answer(at, MarkKind::Ok, call, reply_text(reply));
                }
            }
            What::Refused { id, error, .. } => {
                if let Some(call) = self.calls.remove(id) {
                    self.answer(at, MarkKind::Refused, call, error.clone());
                }
            }
            What::Unknown { id, error } => {
                if let Some(call) = self.calls.remove(id) {
                    self.answer(at, MarkKind::Unknown, call, error.clone());
                }
            }
            What::Told { process, tell } => self.told(at, process, tell),
            What::Committed(commit) => {
                let what = match commit.operation {
                    Operation::Put => "stored",
                    Operation::Delete => "deleted",
                    Operation::Purge => "purged",
                    Operation::Expire => "marked as expired",
                };
                let text = format!("{} {what} as revision {}", commit.key, commit.revision);
                let routine = match (&commit.by, commit.operation) {
                    (Some(by), Operation::Put) if self.run.plan.agent(agent(by)).is_some() => {
                        self.hum_of_commit(commit, agent(by))
                    }
                    _ => None,
                };
                self.mark(at, server, MarkKind::Commit, text).routine = routine;
            }
            What::Removed {
                key,
                revision,
                cause,
                ..
            } => {
                let text = format!("revision {revision} of {key} {cause}");
                let replaced = cause.starts_with("evicted");
                self.mark(at, server, MarkKind::Removed, text).routine =
                    replaced.then(|| format!("removal of {key}"));
            }
            What::Stored {
                stream,
                subject,
                sequence,
                ..
            } => {
                let text = format!("{subject} stored in {stream} as sequence {sequence}");
                self.mark(at, server, MarkKind::Commit, text);
            }
            What::Dropped {
                stream,
                sequence,
                cause,
            } => {
                let text = format!("sequence {sequence} of {stream} {cause}");
                self.mark(at, server, MarkKind::Removed, text);
            }
            What::LostTail {
                stream, last, back, ..
            } => {
                let back = match back.len() {
                    0 => String::new(),
                    1 => ", and a message that was replaced is back".to_owned(),
                    n => format!(", and {n} messages that were replaced are back"),
                };
                let text = format!("{stream} ends at sequence {last} again{back}");
                self.mark(at, server, MarkKind::Removed, text);
            }
            What::Life { process, event } => {
                let lane = lane_of(self.run, process);
                let text = match event {
                    Life::Started => "starts",
                    Life::Crashed => "crashes",
                    Life::Paused => "stands still",
                    Life::Resumed => "goes on",
                    Life::Suspended => "falls asleep with its machine",
                    Life::Woken => "wakes up with its machine",
                };
                self.mark(at, lane, MarkKind::Life, format!("{process} {text}"));
            }
            What::Mended => {
                self.mark(
                    at,
                    server,
                    MarkKind::Life,
                    "everything is mended".to_owned(),
                );
            }
            What::Settled => {
                self.mark(at, server, MarkKind::Life, "all is well".to_owned());
            }
            What::Unsettled { pending } => {
                let lane = lane_of(self.run, pending.split(' ').next().unwrap_or_default());
                self.mark(at, lane, MarkKind::Life, pending.clone());
            }
            What::Panicked { message } => {
                self.mark(
                    at,
                    server,
                    MarkKind::Life,
                    format!("a task panicked: {message}"),
                );
            }
            What::Planned { .. } | What::Fault { .. } | What::End { .. } => {}
        }
    }

    fn answer(&mut self, at: Instant, kind: MarkKind, asked: Asked<'a>, text: String) {
        let Asked {
            mark: call,
            lane,
            routine,
            process,
            call: what,
        } = asked;
        let text = self.named(process, format!("{}: {text}", call_text(what)));
        let mark = self.mark(at, lane, kind, text);
        mark.answers = Some(call);
        // An answer that is not a plain ok is no hum.
        mark.routine = routine.filter(|_| kind == MarkKind::Ok);
    }

    /// What a commit is one of many of: who acquires a lock writes once, and who holds it again and again.
    fn hum_of_commit(&mut self, commit: &'a Commit, by: &str) -> Option<String> {
        if !is_lock(&commit.bucket, &commit.key) {
            return Some(format!("{} of {by}", hum_of_writes(&commit.bucket)));
        }
        let acquisition = commit.incarnation.as_deref();
        let before = self.records.insert(&commit.key, acquisition);
        let renews = before == Some(acquisition);
        renews.then(|| format!("renewal of {by}"))
    }

    fn told(&mut self, at: Instant, process: &str, tell: &Tell) {
        let lane = lane_of(self.run, process);
        let (kind, text) = match tell {
            Tell::Up(agent) => (MarkKind::Told, format!("{} is up", agent.agent)),
            Tell::Down { agent, reason } => (
                MarkKind::Told,
                format!("{} is down ({})", agent.agent, reason.to_lowercase()),
            ),
            Tell::Blind { reason } => (MarkKind::Told, format!("blind: {reason}")),
            Tell::Seeing => (MarkKind::Told, "seeing again".to_owned()),
            Tell::Lagged { missed, .. } => {
                (MarkKind::Told, format!("lagged: {missed} events missed"))
            }
            Tell::WatchEnded => (MarkKind::Told, "the watch ended".to_owned()),
            Tell::Evicted { reason } => (MarkKind::Told, format!("evicted: {reason}")),
            Tell::Restored => (MarkKind::Told, "restored".to_owned()),
            Tell::Connection { event } => (MarkKind::Connection, event.clone()),
            Tell::Saw { key, revision } => {
                (MarkKind::Told, format!("saw revision {revision} of {key}"))
            }
            Tell::Interrupted { reason } => (MarkKind::Told, format!("follows no more: {reason}")),
            Tell::Resumed => (MarkKind::Told, "follows again".to_owned()),
            Tell::FollowEnded => (MarkKind::Told, "follows no more".to_owned()),
            Tell::Wire { connection, wire } => (
                MarkKind::Connection,
                match wire {
                    Wire::Up { token: Some(token) } => format!("{connection} is up with {token}"),
                    Wire::Up { token: None } => format!("{connection} is up"),
                    Wire::Down { cause } => format!("{connection} is down: {cause}"),
                    Wire::Refused { text } => format!("{connection} is refused: {text}"),
                    Wire::Closed => format!("{connection} is closed"),
                },
            ),
            Tell::Lock(tell) => (MarkKind::Told, tell.to_string()),
            Tell::State(tell) => (MarkKind::Told, tell.to_string()),
            Tell::Logged { event } => (MarkKind::Connection, logged(event)),
            Tell::Chat(tell) => (MarkKind::Told, tell.to_string()),
        };
        let failed = text.starts_with("reconnect failed");
        let who = self
            .run
            .plan
            .agents
            .get(lane.0)
            .map_or("", |agent| agent.name.as_str());
        let routine = match tell {
            Tell::Saw { .. }
            | Tell::Chat(chat::Tell {
                told: chat::Told::Got { .. },
                ..
            }) => Some(format!("sight of {who}")),
            _ => failed.then(|| format!("attempt of {who}")),
        };
        let text = self.named(process, text);
        self.mark(at, lane, kind, text).routine = routine;
    }
}

/// Whether this is where the record of a lock lies.
fn is_lock(bucket: &str, key: &str) -> bool {
    bucket == BUCKET && key.starts_with("l.")
}

/// What a write to this bucket is one of many of, where it is no lock's.
fn hum_of_writes(bucket: &str) -> &'static str {
    if bucket == BUCKET { "write" } else { "beat" }
}

/// A line of the log of connection events, in words.
fn logged(event: &NatsEvent) -> String {
    let mut text = format!("logs {}", event.kind);
    if let Some(connection) = &event.nc_id {
        text += &format!(" of {connection}");
    }
    if let Some(caller) = &event.caller {
        text += &format!(" by {caller}");
    }
    if let Some(reason) = &event.reason {
        text += &format!(": {reason}");
    }
    text
}

fn agent(process: &str) -> &str {
    process.split('/').next().unwrap_or(process)
}

fn routine(call: &Call, process: &Arc<str>) -> Option<String> {
    let of = agent(process);
    match call {
        Call::Write {
            bucket,
            key,
            operation: Operation::Put,
            expected,
            ..
        } => match (is_lock(bucket, key), expected) {
            // Who acquires a lock writes over nothing.
            (true, None) => None,
            (true, Some(_)) => Some(format!("renewal of {of}")),
            (false, _) => Some(format!("{} of {of}", hum_of_writes(bucket))),
        },
        Call::Read { .. } | Call::Who | Call::Present { .. } => Some(format!("read of {of}")),
        Call::Flush | Call::Chat(chat::Call::Ask { .. }) => Some(format!("round trip of {of}")),
        Call::Lock(lock::Call::Effect { .. }) => Some(format!("effect of {of}")),
        Call::State(call @ (state::Call::Get { .. } | state::Call::Keys)) => {
            Some(format!("{} of {of}", call.name()))
        }
        Call::Chat(chat::Call::Send { .. }) => Some(format!("message of {of}")),
        Call::Chat(chat::Call::Scan { .. }) => Some(format!("read of {of}")),
        _ => None,
    }
}

fn call_text(call: &Call) -> String {
    match call {
        Call::Connect => "connect".to_owned(),
        Call::Open {
            agent, interval, ..
        } => format!("open the presence of {agent}, beating every {interval:?}"),
        Call::Close { agent } => format!("close the presence of {agent}"),
        Call::Watch => "watch".to_owned(),
        Call::Who => "who is there?".to_owned(),
        Call::Present { agent } => format!("is {agent} there?"),
        Call::Write {
            key,
            operation,
            expected,
            ..
        } => {
            let verb = if operation.is_put() {
                "write"
            } else {
                "delete"
            };
            match expected {
                Some(revision) => format!("{verb} {key} over revision {revision}"),
                None => format!("{verb} {key}"),
            }
        }
        Call::Read { key, .. } => format!("read {key}"),
        Call::Follow => "follow the bucket".to_owned(),
        Call::Flush => "make a round trip".to_owned(),
        Call::Exchange { account } => format!("exchange for {account}"),
        Call::Dial => "dial".to_owned(),
        Call::LogIn { account } => format!("log in to {account}"),
        Call::LogOut => "log out".to_owned(),
        Call::Save { file, .. } => format!("write {file}"),
        Call::Load { file } => format!("read {file}"),
        Call::Lock(call) => call.to_string(),
        Call::State(call) => call.to_string(),
        Call::Chat(call) => call.to_string(),
    }
}

fn reply_text(reply: &Reply) -> String {
    let names = |agents: &[crate::history::Agent]| {
        let names: Vec<&str> = agents.iter().map(|agent| &*agent.agent).collect();
        if names.is_empty() {
            "nobody".to_owned()
        } else {
            names.join(", ")
        }
    };
    match reply {
        Reply::Done => "done".to_owned(),
        Reply::Issued { token, expires } => match expires {
            Some(expires) => format!("{token}, which ends at {expires}"),
            None => token.to_string(),
        },
        Reply::Dialled { connection, token } => match token {
            Some(token) => format!("{connection} is up with {token}"),
            None => format!("{connection} is up"),
        },
        Reply::Loaded { login } => match login {
            Some(login) => format!("login {login:016x}"),
            None => "nobody is logged in".to_owned(),
        },
        Reply::Stored { revision } => format!("stored as revision {revision}"),
        Reply::Read {
            revision: Some(revision),
        } => format!("revision {revision}"),
        Reply::Read { revision: None } => "nothing".to_owned(),
        Reply::Who { present } | Reply::Watching { present } => names(present),
        Reply::Lock(reply) => reply.to_string(),
        Reply::State(reply) => reply.to_string(),
        Reply::Chat(reply) => reply.to_string(),
        Reply::Present { present } => if *present { "yes" } else { "no" }.to_owned(),
    }
}
