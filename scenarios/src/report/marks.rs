//! What happened, in words: each record of a history as a mark, with the call that it answers and the hum that it is part of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use squall_core::Instant;
use squall_core::diagnostics::NatsEvent;
use squall_core::transport::Operation;
use squall_reports::model::{LaneId, Mark, MarkId, MarkKind};

use super::{agent, lane_of, time};
use crate::history::{Call, Commit, Life, Record, Reply, Tell, What, Wire, chat, lock, state};
use crate::roles::lock::BUCKET;
use crate::run::Run;

/// In order of time.
pub(super) fn marks(run: &Run) -> Vec<Mark> {
    let mut writer = Writer::new(run);
    for record in &run.history.0 {
        writer.write(record);
    }
    writer.marks
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
