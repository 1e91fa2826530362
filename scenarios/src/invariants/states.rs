//! What the invariants of stores have in common: puts and what became of them, and watches with what they told.

use std::sync::Arc;
use std::time::Duration;

use squall_core::Instant;
use squall_core::transport::Revision;

use super::facts::{Called, Ended, Facts, Key, Span};
use crate::history::state::{Call as StateCall, Reply as StateReply, Tell as StateTell};
use crate::history::{Call, Reply, Tell, What};
use crate::roles::lock::BUCKET;

/// A put that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put<'a> {
    pub(super) process: &'a Arc<str>,
    pub(super) key: &'a Arc<str>,
    pub(super) value: u64,
    pub(super) life: Option<Duration>,
    pub(super) token: Option<u64>,
    pub(super) revision: Revision,
    pub(super) invoked: Instant,
    pub(super) told: Instant,
}

/// All of them, in the order in which they began.
pub(super) fn puts<'a>(facts: &Facts<'a>) -> Vec<Put<'a>> {
    facts.calls.iter().filter_map(put).collect()
}

fn put<'a>(called: &Called<'a>) -> Option<Put<'a>> {
    let Call::State(StateCall::Put {
        key,
        value,
        life,
        token,
    }) = called.call
    else {
        return None;
    };
    let (told, Ended::Ok(Reply::State(StateReply::Put { revision }))) = called.ended? else {
        return None;
    };
    Some(Put {
        process: called.process,
        key,
        value: *value,
        life: *life,
        token: *token,
        revision: *revision,
        invoked: called.invoked,
        told,
    })
}

impl Put<'_> {
    /// From when on its life cannot be over, if it ever is.
    pub(super) fn ends_after(&self) -> Instant {
        self.life
            .map_or(Instant::FAR_FUTURE, |life| self.invoked + life)
    }

    /// From when on its life is over, if it ever is.
    pub(super) fn over_by(&self) -> Instant {
        self.life
            .map_or(Instant::FAR_FUTURE, |life| self.told + life)
    }

    /// Whether the power was lost, and this with it, before then.
    pub(super) fn is_lost(&self, facts: &Facts<'_>, until: Instant) -> bool {
        facts.is_lost(self.revision, (self.invoked, until))
    }
}

/// The put of this revision of a key that was acknowledged last before then: a revision is given out twice, where the power
/// was lost.
pub(super) fn put_of<'p, 'a>(
    puts: &'p [Put<'a>],
    key: &str,
    revision: Revision,
    until: Instant,
) -> Option<&'p Put<'a>> {
    let mut before = puts.iter().rev();
    before.find(|put| **put.key == *key && put.revision == revision && put.invoked <= until)
}

/// The records of a key of the store.
pub(super) fn records_of<'f, 'a>(facts: &'f Facts<'a>, key: &str) -> Option<&'f Key<'a>> {
    let is_it = |records: &&Key<'a>| user_key(records).is_some_and(|name| name == key);
    facts.keys.iter().find(is_it)
}

/// The user's key that these records are of. Agents use keys that a bucket holds as they are.
pub(super) fn user_key<'a>(records: &Key<'a>) -> Option<&'a str> {
    let is_here = **records.bucket == *BUCKET;
    records.name.strip_prefix("d.").filter(|_| is_here)
}

/// One watch.
#[derive(Clone, Debug)]
pub(super) struct Watched<'a> {
    pub(super) process: &'a Arc<str>,
    /// When it had begun.
    pub(super) from: Instant,
    /// When it ended, its process died, or the run was over.
    pub(super) until: Instant,
    pub(super) tells: Vec<(Instant, &'a StateTell)>,
}

/// All watches, in the order in which they began.
pub(super) fn watches<'a>(facts: &Facts<'a>) -> Vec<Watched<'a>> {
    let mut all: Vec<Watched<'a>> = Vec::new();
    let mut begun = facts
        .calls
        .iter()
        .filter_map(|called| match (called.call, called.ended) {
            (Call::State(StateCall::Watch), Some((from, Ended::Ok(_)))) => {
                Some((from, called.process))
            }
            _ => None,
        })
        .collect::<Vec<_>>();
    begun.sort_by_key(|(from, _)| *from);
    for (from, process) in begun {
        let died = facts.life(process).map_or(facts.end, |life| life.ended);
        all.push(Watched {
            process,
            from,
            until: died,
            tells: Vec::new(),
        });
    }
    for record in &facts.history.0 {
        let What::Told {
            process,
            tell: Tell::State(tell),
        } = &record.what
        else {
            continue;
        };
        let mut begun = all.iter_mut().rev();
        let watch = begun.find(|watch| watch.process == process && watch.from <= record.at);
        if let Some(watch) = watch {
            watch.tells.push((record.at, tell));
            if matches!(tell, StateTell::Ended | StateTell::Failed { .. }) {
                watch.until = watch.until.min(record.at);
            }
        }
    }
    all
}

impl Watched<'_> {
    /// When it claims to tell everything.
    pub(super) fn seeing(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut since = Some(self.from);
        for (at, tell) in &self.tells {
            match tell {
                StateTell::Gap { .. } | StateTell::Restarted => {
                    spans.extend(since.take().map(|from| (from, *at)));
                }
                StateTell::CaughtUp => since = since.or(Some(*at)),
                _ => {}
            }
        }
        spans.extend(since.map(|from| (from, self.until)));
        spans
    }
}
