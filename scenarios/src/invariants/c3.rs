//! C3 self-heal: after mending, everybody is connected, present and seen within the plan's bound, without any command.

use super::Findings;
use super::facts::Facts;
use crate::history::What;
use crate::roles::lock::IN_VAIN;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for record in &facts.milestones {
        // That a lock cannot be had is told by L5.
        if let What::Unsettled { pending } = &record.what
            && !pending.contains(IN_VAIN)
        {
            let bound = facts.plan.settle;
            let process = pending.split(' ').next().unwrap_or_default();
            let concerned = facts.life(process).map(|life| life.process.clone());
            findings.add(
                record.at,
                concerned,
                format!("{bound:?} after everything was mended, {pending}"),
            );
        }
    }
}
