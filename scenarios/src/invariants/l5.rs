//! L5 progress: after mending, every lock can be had within the plan's bound, and everybody has had one.

use super::Findings;
use super::facts::Facts;
use crate::history::What;
use crate::roles::lock::IN_VAIN;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for record in &facts.milestones {
        if let What::Unsettled { pending } = &record.what
            && pending.contains(IN_VAIN)
        {
            let process = pending.split(' ').next().unwrap_or_default();
            let concerned = facts.life(process).map(|life| life.process.clone());
            let bound = facts.plan.settle;
            let text = format!("{bound:?} after everything was mended, {pending}");
            findings.add(record.at, concerned, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tale::Tale;

    #[test]
    fn who_waits_in_vain_is_told_and_nothing_else() {
        let mut tale = Tale::of_locks(&["alice/1"]);
        tale.at(60).unsettled("alice/1 has no connection");
        assert_eq!(tale.told_by("L5"), Vec::<String>::new());
        tale.at(60).unsettled("alice/1 waits in vain for any lock");
        assert_eq!(tale.told_by("L5").len(), 1);
        assert_eq!(tale.told_by("C3").len(), 1);
    }
}
