//! E3 verdict: what was acknowledged is there under its revision, and what was refused never is.
//!
//! A write is found again by its key and a hash of its value (beats carry their time, so no two are alike, unless one is
//! tried again over another record), a deletion by its process. What a loss of power took was there until then: that is the
//! server's loss. What reads see is K1's.

use std::sync::Arc;

use super::chats::ChatStored;
use super::facts::{Called, Ended, Facts, Key};
use super::{Findings, lives, seconds};
use crate::history::{Call, Reply, chat};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    lives::check(facts, findings);
    for called in facts.questionable() {
        if let (Some((at, ended)), Call::Chat(chat::Call::Send { body, .. })) =
            (called.ended, called.call)
            && let Some(wrong) = wrong_of_chat(facts, body, ended)
        {
            let process = called.process;
            let text = format!("{process} was answered at {}, but {wrong}", seconds(at));
            findings.add(at, [process.clone()], text);
        }
        let (Some((at, ended)), Some(number)) = (called.ended, called.key) else {
            continue;
        };
        let key = || facts.keys[number].name;
        let wrong = match (called.call, ended) {
            (Call::Write { value, .. }, Ended::Ok(Reply::Stored { revision })) => {
                let records = &facts.keys[number];
                let place = records.place_of_write(called.stored, *revision, *value);
                match place.map(|place| records.commits[place].1) {
                    Some(commit) if commit.value == *value => None,
                    Some(_) => Some(format!("revision {revision} of {} is another's", key())),
                    None => Some(format!("there is no revision {revision} of {}", key())),
                }
            }
            (
                Call::Write {
                    operation, value, ..
                },
                Ended::Refused(error) | Ended::Conflict(error),
            ) => (operation.is_put()
                && holds(&facts.keys[number], called.process, *value)
                && !is_again(facts, called))
            .then(|| format!("its write of {} was refused ({error}) and is there", key())),
            _ => None,
        };
        if let Some(wrong) = wrong {
            let text = format!(
                "{} was answered at {}, but {wrong}",
                called.process,
                seconds(at)
            );
            findings.add(at, [called.process.clone()], text);
        }
    }
}

/// What was acknowledged stands where it was said to, and what was refused nobody has heard.
fn wrong_of_chat(facts: &Facts<'_>, body: &str, ended: Ended<'_>) -> Option<String> {
    let chats = &facts.chats;
    match ended {
        Ended::Ok(Reply::Chat(chat::Reply::Sent { id, sequence })) if chats.is_truth => {
            let is_it = |stored: &ChatStored<'_>| {
                stored.sequence == *sequence && stored.id.is_none_or(|stored| *stored == **id)
            };
            let is_there = chats.stored.iter().any(is_it);
            (!is_there).then(|| format!("{body:?} is not stored as sequence {sequence}"))
        }
        Ended::Refused(error) | Ended::Conflict(error) => {
            let mut tells = chats.watches.iter().flat_map(|watch| &watch.tells);
            let is_heard = tells.any(
                |(_, told)| matches!(told, chat::Told::Got { body: heard, .. } if **heard == *body),
            );
            is_heard.then(|| format!("{body:?} was refused ({error}) and has been heard"))
        }
        _ => None,
    }
}

/// Whether some record of this key has this value, and is not another's.
fn holds(records: &Key<'_>, process: &Arc<str>, value: u64) -> bool {
    let mut commits = records.commits.iter();
    commits.any(|(_, commit)| {
        commit.value == value && commit.by.as_ref().is_none_or(|by| by == process)
    })
}

/// Whether its process has written the same once more, because another record had come in between.
fn is_again(facts: &Facts<'_>, refused: &Called<'_>) -> bool {
    let written = |called: &Called<'_>| match called.call {
        Call::Write { value, .. } => Some(*value),
        _ => None,
    };
    facts.calls.iter().any(|called| {
        let is_refused = matches!(
            called.ended,
            Some((_, Ended::Refused(_) | Ended::Conflict(_)))
        );
        called.key == refused.key
            && called.process == refused.process
            && written(called) == written(refused)
            && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use crate::invariants::tale::Tale;

    #[test]
    fn what_was_said_to_be_stored_is() {
        let mut tale = Tale::of_chat("alice/1");
        tale.watches("alice/1", 1);
        tale.at(10).said("7-1", 4).sent("alice/1", "7-1", 4);
        assert_eq!(tale.told_by("E3"), [""; 0]);
        tale.at(11).sent("alice/1", "7-2", 5);
        assert_eq!(tale.told_by("E3").len(), 1);
    }

    #[test]
    fn what_was_refused_is_never_heard() {
        let mut tale = Tale::of_chat("alice/1");
        tale.watches("alice/1", 1);
        tale.at(10).refused_to_send("alice/1", "7-1");
        assert_eq!(tale.told_by("E3"), [""; 0]);
        tale.at(11).got("alice/1", 1, "7-1", 4);
        assert_eq!(tale.told_by("E3").len(), 1);
    }
}
