//! What comes and goes while the servers of a cluster do not hear each other.
//!
//! A consumer reads the copy of its own server, and while that is cut off it shows no more than what is there; what is stored
//! elsewhere meanwhile and gone again before the copy is made good leaves nothing behind. Watches find out that their server
//! is cut off within two heartbeats, or an election makes it good, and what is gone sooner than that is not owed.

use std::time::Duration;

use squall_core::Instant;
use squall_core::transport::Operation;

use super::facts::{Facts, Key, Span};
use super::states::{Put, put_of, user_key};
use crate::fault::FaultKind;
use crate::history::{Commit, What};
use crate::plan::On;

/// Two heartbeats of a watch, or the longest wait for a leader whom a server reaches that has lost its own, and a second.
const UNNOTICED: Duration = Duration::from_secs(16);

/// Whether this record of a key was gone again, and all that took its place, before anybody had to notice that a server had
/// been cut off.
pub(super) fn passed(facts: &Facts<'_>, puts: &[Put<'_>], records: &Key<'_>, place: usize) -> bool {
    let Some((at, _)) = records.commits.get(place) else {
        return false;
    };
    let until = *at + UNNOTICED;
    if !facts.plan.world.has_copies() || !servers_are_apart(facts, (*at, until)) {
        return false;
    }
    let mut newest_first = records.commits.iter().rev();
    let last = newest_first.find(|(stored, _)| *stored <= until);
    let gone = last.and_then(|(stored, commit)| gone(facts, puts, records, *stored, commit));
    gone.is_some_and(|gone| gone <= until)
}

/// When a record went away without another in its place. Real servers do not say so, but what it was to live is known.
fn gone(
    facts: &Facts<'_>,
    puts: &[Put<'_>],
    records: &Key<'_>,
    stored: Instant,
    commit: &Commit,
) -> Option<Instant> {
    if facts.plan.world.on == On::Simulated {
        return records.removal(stored, commit);
    }
    match commit.operation {
        Operation::Put => {
            let key = user_key(records)?;
            let put = put_of(puts, key, commit.revision, Instant::FAR_FUTURE)?;
            Some(put.over_by())
        }
        Operation::Expire => Some(stored + facts.plan.world.delete_markers?),
        Operation::Delete | Operation::Purge => None,
    }
}

/// Whether a fault kept servers from hearing each other at any time of this span.
fn servers_are_apart(facts: &Facts<'_>, (from, until): Span) -> bool {
    let parts = |number: usize| {
        let fault = facts.plan.faults.get(number);
        let kind = fault.map(|fault| fault.kind);
        matches!(
            kind,
            Some(FaultKind::RoutePartition(_) | FaultKind::ServerPause)
        )
    };
    let mut parted = 0;
    for record in &facts.milestones {
        let What::Fault { number, begins, .. } = &record.what else {
            continue;
        };
        if !parts(*number) {
            continue;
        }
        if record.at > until {
            break;
        }
        if record.at >= from {
            return true;
        }
        parted += if *begins { 1 } else { -1 };
    }
    parted > 0
}

#[cfg(test)]
mod tests {
    use super::super::tale::Tale;
    use crate::fault::{FaultKind, Member};

    /// Somebody watches, and is told nothing of a value that lives from second 12 on for so long.
    fn untold(copies: usize, life: u64, cut_off: (u64, u64)) -> Vec<String> {
        let mut tale = Tale::of_states(&["alice/1", "bob/1"]);
        tale.on_cluster(copies).at(1).watches_state("bob/1");
        let (from, to) = cut_off;
        tale.fault("n2", FaultKind::RoutePartition(Member(0)), from, to);
        tale.at(12).puts("alice/1", "s", 5, Some(life));
        tale.at(12 + life).goes("s", 5);
        tale.at(120).ends();
        tale.told_by("M1")
    }

    #[test]
    fn what_is_gone_before_a_cut_is_noticed_is_not_owed() {
        assert_eq!(untold(3, 4, (10, 20)), [""; 0]);
        for owed in [
            untold(1, 4, (10, 20)),
            untold(3, 20, (10, 40)),
            untold(3, 4, (30, 40)),
            untold(3, 4, (5, 10)),
        ] {
            assert!(owed.iter().any(|told| told.contains("revision 5 of s")));
        }
    }
}
