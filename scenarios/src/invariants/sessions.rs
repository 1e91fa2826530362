//! What a history tells of sessions, sorted out once: what each process was issued, its connections and what they were
//! logged in with, its accounts, what it followed, and when something was done to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use squall_core::diagnostics::NatsEvent;
use squall_core::transport::Revision;
use squall_core::{Instant, UnixTime};

use super::facts::{Facts, Span, without};
use crate::fault::FaultKind;
use crate::history::{Call, History, Life, Reply, Tell, What, Wire};
use crate::parse::{AUTH, SERVER};
use crate::plan::Plan;

/// After this was done to a process, its links, its server or its credentials, so long nothing is demanded of it: what
/// the session's own configuration says, and, where nobody is told that a link is dead, the time to find that out.
fn recovery(plan: &Plan, kind: FaultKind) -> Duration {
    let config = plan.session();
    let found = config.connect.ack_timeout + PROBE;
    match kind {
        // The disk takes nothing from what is in memory; and who is ordered to do something does it at once.
        FaultKind::TornWrite | FaultKind::IoError(_) | FaultKind::Rotate => Duration::ZERO,
        FaultKind::Cut
        | FaultKind::LoseReply
        | FaultKind::Crash
        | FaultKind::Overlap
        | FaultKind::ServerStop
        | FaultKind::PowerLoss
        | FaultKind::Logout
        | FaultKind::SwitchAccount => config.recovery_max(),
        // What was issued while a clock was wrong is refused once more.
        FaultKind::AuthSkew(_) | FaultKind::Jump(_) | FaultKind::Drift(_) => config.reissue_max(),
        // Who was put out may be refused once with what was issued in the same second, and then waits longer.
        FaultKind::Kick
        | FaultKind::Revoke
        | FaultKind::RevokeSigner
        | FaultKind::Auth401
        | FaultKind::Auth5xx
        | FaultKind::AuthSlow(_)
        | FaultKind::Partition(_)
        | FaultKind::Blackhole(_)
        | FaultKind::Delay(_)
        | FaultKind::Pause
        | FaultKind::Suspend
        | FaultKind::ServerPause
        | FaultKind::JetstreamMute
        | FaultKind::NarrowPermissions
        | FaultKind::LeaderChange
        | FaultKind::RoutePartition(_) => config.recovery_max() + found,
    }
}

/// A probe that gets no answer ends by then.
const PROBE: Duration = Duration::from_secs(5);

/// What is known of one process that lives on a session.
#[derive(Debug)]
pub struct Session<'a> {
    /// The process.
    pub process: &'a Arc<str>,
    /// When it started.
    pub started: Instant,
    /// When it was told to close, or died, or the run ended.
    pub ended: Instant,
    /// What it was issued, in that order.
    pub issued: Vec<Issued<'a>>,
    /// Exchanges, in the order in which they began.
    pub exchanges: Vec<Exchanged>,
    /// Exchanges that failed, when they ended.
    pub denied: Vec<Instant>,
    /// Its connections, in the order in which they came up.
    pub connections: Vec<Wired<'a>>,
    /// Its logins and logouts, as they were called.
    pub accounts: Vec<Login<'a>>,
    /// What it has followed.
    pub follows: Vec<Followed<'a>>,
    /// Its log.
    pub log: Vec<(Instant, &'a NatsEvent)>,
    /// When something was done to it, and until when that may be felt, with the name of what.
    pub disturbed: Vec<(Span, &'a str)>,
    /// How long it may take to be well again after it had nothing, or after whatever was done to it.
    pub recovery: Duration,
}

/// A place in the history: of two things at one instant it says which came first.
pub type Place = usize;

/// An exchange.
#[derive(Clone, Copy, Debug)]
pub struct Exchanged {
    /// When it began.
    pub at: Instant,
    /// The same, as a place.
    pub place: Place,
    /// Where it ended, if it did.
    pub ended: Option<Place>,
}

/// A login or a logout.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// When it was called.
    pub called: Instant,
    /// The same, as a place.
    pub place: Place,
    /// When it was done, if it was.
    pub done: Option<Instant>,
    /// To which account; `None`: a logout.
    pub account: Option<&'a str>,
}

/// A credential.
#[derive(Clone, Copy, Debug)]
pub struct Issued<'a> {
    /// When the process had it.
    pub at: Instant,
    /// Its name.
    pub token: &'a Arc<str>,
    /// When it ends.
    pub expires: Option<UnixTime>,
    /// When it was asked for.
    pub asked: Instant,
    /// From when on servers do not accept it, where it was taken back.
    pub void: Option<Instant>,
}

/// One connection.
#[derive(Debug)]
pub struct Wired<'a> {
    /// Its name in its process.
    pub name: &'a Arc<str>,
    /// When its first dial began.
    pub dialled: Instant,
    /// What it was, from when on.
    pub changes: Vec<(Instant, Change<'a>)>,
}

/// What a connection is from some time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Logged in with this token.
    Up(Option<&'a Arc<str>>),
    /// Without a link.
    Down,
    /// Over.
    Closed,
}

impl<'a> Wired<'a> {
    /// What it is at a time: nothing before its first link.
    pub fn at(&self, at: Instant) -> Option<Change<'a>> {
        let mut before = self.changes.iter().rev();
        before
            .find(|(since, _)| *since <= at)
            .map(|(_, change)| *change)
    }

    /// Whether something became of it between these times, both included.
    pub fn has(&self, from: Instant, until: Instant, wanted: impl Fn(Change<'a>) -> bool) -> bool {
        let mut changes = self.changes.iter();
        changes.any(|(at, change)| *at >= from && *at <= until && wanted(*change))
    }
}

/// One time of following a bucket.
#[derive(Debug)]
pub struct Followed<'a> {
    /// When it was granted.
    pub from: Instant,
    /// When it ended.
    pub until: Instant,
    /// What it told, in order.
    pub tells: Vec<(Instant, &'a Tell)>,
}

impl Followed<'_> {
    /// When it said, by its silence on the matter, that it tells everything.
    pub fn seeing(&self) -> Vec<Span> {
        let mut blind: Vec<Span> = Vec::new();
        for (at, tell) in &self.tells {
            match tell {
                Tell::Interrupted { .. } => blind.push((*at, self.until)),
                Tell::Resumed => {
                    if let Some(last) = blind.last_mut() {
                        last.1 = *at;
                    }
                }
                _ => {}
            }
        }
        without((self.from, self.until), blind)
    }

    /// When a key was last told to have had this revision or a later one, first.
    pub fn saw(&self, key: &str, revision: Revision) -> Option<Instant> {
        self.tells.iter().find_map(|(at, tell)| match tell {
            Tell::Saw {
                key: seen,
                revision: newer,
            } if **seen == *key && *newer >= revision => Some(*at),
            _ => None,
        })
    }
}

impl<'a> Session<'a> {
    /// The account that it is logged in to at a time, where no login or logout is under way then.
    pub fn account_at(&self, at: Instant) -> Option<Option<&'a str>> {
        let begun = self
            .accounts
            .iter()
            .rev()
            .find(|login| login.called <= at)?;
        begun.done.filter(|done| *done <= at).map(|_| begun.account)
    }

    /// What was issued last before a time.
    pub fn newest(&self, at: Instant) -> Option<&Issued<'a>> {
        self.issued.iter().rev().find(|issued| issued.at <= at)
    }

    /// The stretches of a span in which nothing was being done to it, or had just been, but what `excepted` names.
    pub fn calm(&self, span: Span, excepted: &[&str]) -> Vec<Span> {
        let disturbed = self.disturbed.iter();
        let holes = disturbed.filter(|(_, name)| !excepted.contains(name));
        without(span, holes.map(|(span, _)| *span).collect())
    }
}

/// Sorts a history out, in the order in which processes started.
pub fn read<'a>(plan: &'a Plan, history: &'a History) -> Vec<Session<'a>> {
    let end = history.0.last().map_or(Instant::ZERO, |record| record.at);
    let mut reader = Reader {
        sessions: Vec::new(),
        places: BTreeMap::new(),
        calls: BTreeMap::new(),
        end,
    };
    for (place, record) in history.0.iter().enumerate() {
        reader.take(plan, place, record.at, &record.what);
    }
    for fault in faults(history) {
        let (number, span) = fault;
        let Some(fault) = plan.faults.get(number) else {
            continue;
        };
        for session in &mut reader.sessions {
            let agent = session.process.split('/').next().unwrap_or_default();
            if fault.target == agent || fault.target == SERVER || fault.target == AUTH {
                let felt = (span.0, span.1 + recovery(plan, fault.kind));
                session.disturbed.push((felt, fault.kind.name()));
                if matches!(fault.kind, FaultKind::Revoke | FaultKind::RevokeSigner) {
                    session.take_back(span.0);
                }
            }
        }
    }
    reader.sessions
}

/// When each fault was done.
fn faults(history: &History) -> Vec<(usize, Span)> {
    let mut spans: Vec<(usize, Span)> = Vec::new();
    for record in &history.0 {
        if let What::Fault { number, begins, .. } = &record.what {
            if *begins {
                spans.push((*number, (record.at, record.at)));
            } else if let Some((_, span)) = spans.iter_mut().rev().find(|(n, _)| n == number) {
                span.1 = record.at;
            }
        }
    }
    spans
}

struct Reader<'a> {
    sessions: Vec<Session<'a>>,
    places: BTreeMap<&'a str, usize>,
    /// Calls under way: whose, what, since when; and, of a login or an exchange, its place among the session's.
    calls: BTreeMap<u64, (usize, &'a Call, Instant, usize)>,
    end: Instant,
}

impl<'a> Reader<'a> {
    fn of(&mut self, process: &str) -> Option<&mut Session<'a>> {
        let place = self.places.get(process)?;
        self.sessions.get_mut(*place)
    }

    fn take(&mut self, plan: &Plan, place_now: Place, at: Instant, what: &'a What) {
        match what {
            What::Life {
                process,
                event: Life::Started,
            } => self.begin(plan, at, process),
            What::Life {
                process,
                event: Life::Crashed,
            } => {
                if let Some(session) = self.of(process) {
                    session.end(at);
                }
            }
            What::Invoke { id, process, call } => {
                let Some(&place) = self.places.get(&**process) else {
                    return;
                };
                let session = &mut self.sessions[place];
                let place_of = match call {
                    Call::Exchange { .. } => session.exchanges.len(),
                    _ => session.accounts.len(),
                };
                match call {
                    Call::Exchange { .. } => session.exchanges.push(Exchanged {
                        at,
                        place: place_now,
                        ended: None,
                    }),
                    Call::LogIn { account } => session.calls(at, place_now, Some(account)),
                    Call::LogOut => session.calls(at, place_now, None),
                    _ => {}
                }
                self.calls.insert(*id, (place, call, at, place_of));
            }
            What::Ok { id, reply } => {
                if let Some((place, call, since, number)) = self.calls.remove(id) {
                    let now = (place_now, at);
                    self.sessions[place].answered(now, call, since, number, reply);
                }
            }
            What::Refused { id, .. } | What::Unknown { id, .. } => {
                if let Some((place, Call::Exchange { .. }, _, number)) = self.calls.remove(id) {
                    self.sessions[place].denied.push(at);
                    self.sessions[place].exchanged(number, place_now);
                }
            }
            What::Told { process, tell } => {
                if let Some(session) = self.of(process) {
                    session.told(at, tell);
                }
            }
            What::Mended => {
                // Who closes does so after the second act; agents that close before are told to by the plan.
                for session in &mut self.sessions {
                    let agent = session.process.split('/').next().unwrap_or_default();
                    let close = plan.agent(agent).and_then(|agent| agent.close);
                    if let Some(close) = close.map(|close| Instant::ZERO + close) {
                        session.end(close.max(session.started));
                    }
                }
            }
            What::Settled | What::Unsettled { .. } => {
                for session in &mut self.sessions {
                    session.end(at);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, plan: &Plan, at: Instant, process: &'a Arc<str>) {
        self.places.insert(process, self.sessions.len());
        self.sessions.push(Session {
            process,
            started: at,
            ended: self.end,
            issued: Vec::new(),
            exchanges: Vec::new(),
            denied: Vec::new(),
            connections: Vec::new(),
            accounts: Vec::new(),
            follows: Vec::new(),
            log: Vec::new(),
            disturbed: Vec::new(),
            recovery: recovery(plan, FaultKind::Pause),
        });
    }
}

impl<'a> Session<'a> {
    /// What was issued before, or perhaps in the same second, is void.
    fn take_back(&mut self, at: Instant) {
        let before = at + Duration::from_secs(1);
        for issued in self
            .issued
            .iter_mut()
            .filter(|issued| issued.asked <= before)
        {
            issued.void.get_or_insert(at);
        }
    }

    fn end(&mut self, at: Instant) {
        self.ended = self.ended.min(at);
        for follow in &mut self.follows {
            follow.until = follow.until.min(at);
        }
    }

    fn calls(&mut self, called: Instant, place: Place, account: Option<&'a str>) {
        self.accounts.push(Login {
            called,
            place,
            done: None,
            account,
        });
    }

    fn exchanged(&mut self, number: usize, ended: Place) {
        if let Some(exchange) = self.exchanges.get_mut(number) {
            exchange.ended = Some(ended);
        }
    }

    fn answered(
        &mut self,
        (place, at): (Place, Instant),
        call: &Call,
        since: Instant,
        number: usize,
        reply: &'a Reply,
    ) {
        match (call, reply) {
            (Call::Exchange { .. }, Reply::Issued { token, expires }) => {
                self.exchanged(number, place);
                self.issued.push(Issued {
                    at,
                    token,
                    expires: *expires,
                    asked: since,
                    void: None,
                });
            }
            (Call::Dial, Reply::Dialled { connection, token }) => self.connections.push(Wired {
                name: connection,
                dialled: since,
                changes: vec![(at, Change::Up(token.as_ref()))],
            }),
            (Call::LogIn { .. } | Call::LogOut, _) => {
                if let Some(login) = self.accounts.get_mut(number) {
                    login.done = Some(at);
                }
            }
            (Call::Follow, _) => self.follows.push(Followed {
                from: at,
                until: self.ended,
                tells: Vec::new(),
            }),
            _ => {}
        }
    }

    fn told(&mut self, at: Instant, tell: &'a Tell) {
        match tell {
            Tell::Wire { connection, wire } => {
                let mut known = self.connections.iter_mut().rev();
                let Some(known) = known.find(|known| known.name == connection) else {
                    return;
                };
                match wire {
                    Wire::Up { token } => known.changes.push((at, Change::Up(token.as_ref()))),
                    Wire::Down { .. } => known.changes.push((at, Change::Down)),
                    Wire::Closed => known.changes.push((at, Change::Closed)),
                    Wire::Refused { .. } => {}
                }
            }
            Tell::Logged { event } => self.log.push((at, event)),
            Tell::Saw { .. } | Tell::Interrupted { .. } | Tell::Resumed => {
                if let Some(follow) = self.follows.last_mut().filter(|f| f.until >= at) {
                    follow.tells.push((at, tell));
                }
            }
            Tell::FollowEnded => {
                if let Some(follow) = self.follows.last_mut() {
                    follow.until = follow.until.min(at);
                }
            }
            _ => {}
        }
    }
}

/// What a watch, a probe or a client may take to find a dead link, for an agent of this pace.
pub fn detection(facts: &Facts<'_>, process: &str) -> Duration {
    let agent = process.split('/').next().unwrap_or_default();
    // Pings go out after two intervals of silence, at most every minute, and two are waited for.
    facts.interval(agent) * 6
}
