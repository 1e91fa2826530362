//! E3 of stores: a put that was acknowledged stays for as long as it was to live, and no longer.
//!
//! The server's clock decides when a life is over, and stamps a value between the call of its put and the answer.

use super::facts::{Ended, Facts};
use super::states::{Put, put_of, puts, watches};
use super::{Findings, seconds};
use crate::history::state::{Call as StateCall, Reply as StateReply, Tell as StateTell};
use crate::history::{Call, Reply};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let puts = puts(facts);
    reads(facts, &puts, findings);
    tells(facts, &puts, findings);
}

fn reads(facts: &Facts<'_>, puts: &[Put<'_>], findings: &mut Findings) {
    for called in &facts.calls {
        let Some((at, Ended::Ok(Reply::State(reply)))) = called.ended else {
            continue;
        };
        let wrong = match (called.call, reply) {
            (Call::State(StateCall::Get { key }), StateReply::Value { revision, value }) => {
                let put = put_of(puts, key, *revision, at);
                let Some(put) = put.filter(|put| !put.is_lost(facts, at)) else {
                    continue;
                };
                if put.value != *value {
                    format!(
                        "revision {revision} of {key} is not what {} put",
                        put.process
                    )
                } else if called.invoked > put.over_by() {
                    format!(
                        "it read revision {revision} of {key}, whose life was over at {}",
                        seconds(put.over_by())
                    )
                } else {
                    continue;
                }
            }
            _ => continue,
        };
        let text = format!(
            "{} was answered at {}, but {wrong}",
            called.process,
            seconds(at)
        );
        findings.add(at, [called.process.clone()], text);
    }
}

fn tells(facts: &Facts<'_>, puts: &[Put<'_>], findings: &mut Findings) {
    for watch in watches(facts) {
        for (at, tell) in &watch.tells {
            let StateTell::Expired { key, revision } = tell else {
                continue;
            };
            // A revision is given out twice, where the power was lost: one of them has expired then.
            let is_it = |put: &&Put<'_>| put.key == key && put.revision == *revision;
            let has_expired = |put: &Put<'_>| *at >= put.ends_after() || put.is_lost(facts, *at);
            if let Some(put) = put_of(puts, key, *revision, *at)
                && !puts.iter().filter(is_it).any(has_expired)
            {
                let process = watch.process;
                let text = format!(
                    "{process} was told at {} that revision {revision} of {key} had expired, and it had not",
                    seconds(*at),
                );
                findings.add(*at, [process.clone(), put.process.clone()], text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tale::Tale;

    fn tale() -> Tale {
        let mut tale = Tale::of_states(&["alice/1", "bob/1"]);
        tale.at(1).puts("alice/1", "s", 5, Some(4));
        tale
    }

    #[test]
    fn a_value_that_outlives_its_life_is_told() {
        let mut tale = tale();
        tale.at(4).gets("bob/1", "s", Some(5));
        assert_eq!(tale.told_by("E3"), [""; 0]);
        tale.at(6).gets("bob/1", "s", Some(5));
        let told = tale.told_by("E3");
        assert!(told[0].contains("whose life was over at"), "{told:?}");
    }

    #[test]
    fn an_expiry_that_is_told_too_early_is_told() {
        let mut tale = tale();
        tale.at(2).watches_state("bob/1");
        tale.at(4).told_expired("bob/1", "s", 5);
        let told = tale.told_by("E3");
        assert!(told[0].contains("had expired, and it had not"), "{told:?}");
    }
}
