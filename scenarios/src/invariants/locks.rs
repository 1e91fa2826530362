//! What the invariants of locks have in common: acquisitions and how long each was believed in, and the records of locks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use squall_core::Instant;
use squall_core::transport::Revision;

use super::facts::{Called, Ended, Facts, Key, Span, without};
use crate::fault::{FaultKind, Scope};
use crate::history::lock::{Call as LockCall, Reply as LockReply, Tell as LockTell};
use crate::history::{Call, Commit, Life, Reply, Tell, What};
use crate::roles::lock::BUCKET;
use crate::variant::lock::record_key;

/// One acquisition that its owner was told of.
#[derive(Clone, Debug)]
pub(super) struct Acquisition<'a> {
    pub(super) key: &'a Arc<str>,
    pub(super) process: &'a Arc<str>,
    pub(super) token: u64,
    pub(super) ttl: Duration,
    /// When it was asked for.
    pub(super) invoked: Instant,
    /// When it was told.
    pub(super) told: Instant,
    /// When its owner began to let it go, was told that it is lost, or died.
    pub(super) ended: Instant,
}

/// All of them, in the order in which they were told.
pub(super) fn acquisitions<'a>(facts: &Facts<'a>) -> Vec<Acquisition<'a>> {
    let mut all: Vec<Acquisition<'_>> = facts
        .calls
        .iter()
        .filter_map(|c| acquired(facts, c))
        .collect();
    all.sort_by_key(|one| one.told);
    let mut ends: BTreeMap<(&str, &str, u64), Instant> = BTreeMap::new();
    for record in &facts.history.0 {
        let (process, key, token) = match &record.what {
            What::Told {
                process,
                tell: Tell::Lock(LockTell::Lost { key, token, .. }),
            }
            | What::Invoke {
                process,
                call: Call::Lock(LockCall::Unlock { key, token }),
                ..
            } => (process, key, *token),
            _ => continue,
        };
        ends.entry((process, key, token)).or_insert(record.at);
    }
    for one in &mut all {
        let told = ends.get(&(&**one.process, &**one.key, one.token));
        let died = facts.life(one.process).map_or(facts.end, |life| life.ended);
        one.ended = told.copied().unwrap_or(died).min(died);
    }
    all
}

fn acquired<'a>(facts: &Facts<'a>, called: &Called<'a>) -> Option<Acquisition<'a>> {
    let Call::Lock(LockCall::Acquire { key, ttl, .. }) = called.call else {
        return None;
    };
    let (told, Ended::Ok(Reply::Lock(LockReply::Held { token }))) = called.ended? else {
        return None;
    };
    Some(Acquisition {
        key,
        process: called.process,
        token: *token,
        ttl: *ttl,
        invoked: called.invoked,
        told,
        ended: facts.end,
    })
}

impl Acquisition<'_> {
    /// When its owner could act in the belief that it holds the lock. Who stands still does nothing, and what wakes with its
    /// machine compares its clocks an eighth of the life later, and a second at most.
    pub(super) fn belief(&self, facts: &Facts<'_>) -> Vec<Span> {
        let mut still = Vec::new();
        let mut asleep = None;
        if let Some(life) = facts.life(self.process) {
            still.extend(life.frozen.iter().copied());
        }
        let notices = (self.ttl / 8).min(Duration::from_secs(1));
        for record in &facts.history.0 {
            match &record.what {
                What::Life { process, event } if process == self.process => match event {
                    Life::Suspended => asleep = Some(record.at),
                    Life::Woken => {
                        let from = asleep.take().unwrap_or(record.at);
                        still.push((from, record.at + notices + Duration::from_millis(10)));
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        without((self.told, self.ended), still)
    }
}

/// The records of locks, in the order in which they were first named.
pub(super) fn records<'f, 'a>(facts: &'f Facts<'a>) -> impl Iterator<Item = &'f Key<'a>> {
    let is_lock = |key: &&Key<'a>| **key.bucket == *BUCKET && key.name.starts_with("l.");
    facts.keys.iter().filter(is_lock)
}

/// The records of the lock of this name.
pub(super) fn record_of<'f, 'a>(facts: &'f Facts<'a>, key: &str) -> Option<&'f Key<'a>> {
    let name = record_key(key);
    records(facts).find(|records| **records.name == *name)
}

/// The revision of the first record of the acquisition that this one is of: its token.
pub(super) fn token_of(key: &Key<'_>, commit: &Commit) -> Option<u64> {
    let id = commit.incarnation.as_ref()?;
    let mut commits = key.commits.iter();
    let (_, first) = commits.find(|(_, one)| one.incarnation.as_ref() == Some(id))?;
    Some(first.revision.0)
}

/// Whether the power was lost in this span, and with it a record of this lock that was there before.
pub(super) fn is_lost(facts: &Facts<'_>, key: &Key<'_>, (from, until): Span) -> bool {
    facts.losses.iter().any(|(at, last)| {
        let is_lost =
            |(stored, commit): &(Instant, &Commit)| stored <= at && commit.revision > *last;
        (from..=until).contains(at) && key.commits.iter().any(is_lost)
    })
}

/// Whether something was done in this span that keeps this process from the lock, or the server from ending it: anything
/// to servers, links and credentials, and whatever makes the process itself stand still. Clocks are no excuse.
pub(super) fn is_hindered(facts: &Facts<'_>, process: &str, (from, until): Span) -> bool {
    let agent = process.split('/').next().unwrap_or(process);
    let is_excuse = |kind: FaultKind| !matches!(kind, FaultKind::Jump(_) | FaultKind::Drift(_));
    facts.plan.faults.iter().any(|fault| {
        let is_near = fault.kind.scope() != Scope::Agent || fault.target == agent;
        // What a fault has broken takes some time to come back by itself.
        let over = fault.ends() + recovery(fault.kind);
        let (begins, ends) = (Instant::ZERO + fault.at, Instant::ZERO + over);
        is_near && is_excuse(fault.kind) && begins <= until && ends >= from
    })
}

/// How long after a fault something may still be broken by it: links are dialled again every four seconds at the latest, and
/// requests given up after ten.
const fn recovery(kind: FaultKind) -> Duration {
    match kind {
        FaultKind::LoseReply | FaultKind::Pause | FaultKind::Suspend => Duration::ZERO,
        _ => Duration::from_secs(16),
    }
}

/// Whether this is a call for the lock with these records.
pub(super) fn wants(called: &Called<'_>, key: &Key<'_>) -> bool {
    match called.call {
        Call::Lock(LockCall::Acquire { key: wanted, .. }) => record_key(wanted) == **key.name,
        _ => false,
    }
}

/// How much later than after its life a lock can be acquired: a sixteenth of that, the rest of a second, and what servers
/// and machines are late.
pub(super) fn lateness(facts: &Facts<'_>, ttl: Duration) -> Duration {
    ttl / 16 + Duration::from_secs(2) + facts.slack(ttl)
}

/// Above this revision nothing was there.
pub(super) const fn is_above(revision: Revision, last: Revision) -> bool {
    revision.0 > last.0
}
