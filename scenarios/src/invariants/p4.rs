//! P4 own incarnation: a process deletes only entries that it wrote itself. Records of locks are a matter of L3.

use super::facts::Facts;
use super::{Findings, seconds};
use crate::roles::lock::BUCKET as LOCKS;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let entries = facts.keys.iter().filter(|key| **key.bucket != *LOCKS);
    for records in entries {
        let key = records.name;
        for &place in &records.tombstones {
            let (at, after) = records.commits[place];
            let Some(before) = records
                .before(place)
                .filter(|before| before.operation.is_put())
            else {
                continue;
            };
            let (Some(owner), Some(remover)) = (&before.by, &after.by) else {
                continue;
            };
            if owner != remover {
                let text = format!(
                    "{remover} removed the record of {owner} under {key} at {} (revision {} over {})",
                    seconds(at),
                    after.revision,
                    before.revision,
                );
                findings.add(at, [remover.clone(), owner.clone()], text);
            }
        }
    }
}
