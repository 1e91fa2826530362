//! L2 of stores: of two fenced puts of a key, the later one in the order of the server bears no lower token.
//!
//! Revisions are given out again where the power was lost, so that only puts of one life of the bucket are compared.

use std::collections::BTreeMap;

use super::facts::Facts;
use super::states::{Put, puts};
use super::{Findings, seconds};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let puts = puts(facts);
    let mut by_key: BTreeMap<&str, Vec<&Put<'_>>> = BTreeMap::new();
    for put in puts.iter().filter(|put| put.token.is_some()) {
        by_key.entry(put.key).or_default().push(put);
    }
    for (key, mut puts) in by_key {
        puts.sort_by_key(|put| put.revision);
        for pair in puts.windows(2) {
            let &[before, after] = pair else {
                continue;
            };
            let span = (
                before.invoked.min(after.invoked),
                before.told.max(after.told),
            );
            if after.token < before.token && !facts.is_lost(before.revision, span) {
                let (stale, fence) = (after.token.unwrap_or(0), before.token.unwrap_or(0));
                let text = format!(
                    "{} put {key} with token {stale} as revision {}, after {} had with token {fence} as revision {}",
                    after.process, after.revision, before.process, before.revision,
                );
                let at = seconds(after.told);
                let text = format!("{text}; that was acknowledged at {at}");
                findings.add(
                    after.told,
                    [after.process.clone(), before.process.clone()],
                    text,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tale::Tale;

    #[test]
    fn a_stale_token_that_is_accepted_is_told() {
        let told = |second: u64| {
            let mut tale = Tale::of_states(&["alice/1", "bob/1"]);
            tale.at(1).puts_fenced("alice/1", "f", 5, 7);
            tale.at(2).puts_fenced("bob/1", "f", 6, second);
            tale.told_by("L2")
        };
        assert_eq!(told(7), [""; 0]);
        assert!(told(6)[0].contains("with token 6 as revision 6, after alice/1"));
    }
}
