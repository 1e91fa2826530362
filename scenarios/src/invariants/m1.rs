//! M1 no silent gap: who follows a bucket, or watches a chat, is told of everything that is committed, or that it may
//! have missed something.
//!
//! Of a chat each message is owed, or a gap that it lies in; of a bucket, as its watches promise, the newest record of a
//! key is enough. Who has been told of an interruption is not owed anything until it is told that it is over; silence for
//! longer than `d` while it says that it follows is a gap. `d` is the time that a dead link or a consumer that is gone may
//! take to be found. Not owed is what comes and goes again in a bucket with copies while its servers do not hear each other,
//! for no longer than it may take to notice that.
//!
//! And nobody is told of a loss that there was not: that the end of a stream is gone, or that it is another than it was.
//! Only the end of a server's power takes anything away here, or a majority of servers that goes on without the others.

use std::time::Duration;

use squall_core::Instant;

use super::chats::{ChatStored, ChatWatch};
use super::facts::Facts;
use super::sessions::{Followed, Session, detection};
use super::{Findings, scans, seconds, states, tellings};
use crate::history::chat::Told;
use crate::history::state::Tell as StateTell;
use crate::roles::user::account_of;

/// What finding out, and making a watch anew, may take beside the pace of the process.
const ANEW: Duration = Duration::from_secs(25);

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    tellings::gaps(facts, findings);
    scans::check(facts, findings);
    false_alarms(facts, findings);
    for watch in &facts.chats.watches {
        let d = ANEW + detection(facts, watch.process) + watch.reading(facts);
        let d = d + facts.slack(d);
        if let Some((due, text)) = gap_in_chat(facts, watch, d) {
            findings.add(due, [watch.process.clone()], text);
        }
    }
    for session in &facts.sessions {
        let d = ANEW + detection(facts, session.process);
        let d = d + facts.slack(d);
        for follow in &session.follows {
            if let Some((due, text)) = gap(facts, session, follow, d) {
                findings.add(due, [session.process.clone()], text);
                break;
            }
        }
    }
}

fn gap_in_chat(facts: &Facts<'_>, watch: &ChatWatch<'_>, d: Duration) -> Option<(Instant, String)> {
    let seeing = watch.seeing(facts);
    let is_wanted = |stored: &&ChatStored<'_>| {
        // Where the server does not say what it stored under which subject, only who watches all is owed it.
        let subject = stored.subject == watch.subject || watch.subject.is_none();
        subject && stored.since > watch.from
    };
    for stored in facts.chats.stored.iter().filter(is_wanted) {
        let told = watch.told_of(stored);
        for (from, to) in &seeing {
            let begins = stored.at.max(*from);
            let due = begins + d;
            let is_lost = facts.chats.is_lost(stored.sequence, (stored.at, due));
            if due < *to && !is_lost && told.is_none_or(|told| told > due) {
                let text = format!(
                    "watch {} of {} was not told by {} of sequence {}, stored at {}",
                    watch.number,
                    watch.process,
                    seconds(due),
                    stored.sequence,
                    seconds(stored.at),
                );
                return Some((due, text));
            }
        }
    }
    None
}

fn false_alarms(facts: &Facts<'_>, findings: &mut Findings) {
    if facts.plan.loses_power() || facts.plan.world.servers > 1 {
        return;
    }
    let chats = facts.chats.watches.iter().filter_map(|watch| {
        let is_alarm = |told: &Told| matches!(told, Told::TailLost { .. } | Told::Recreated);
        let alarm = watch.tells.iter().find(|(_, told)| is_alarm(told));
        alarm.map(|(at, _)| (*at, watch.process))
    });
    let states = states::watches(facts).into_iter().filter_map(|watch| {
        let is_alarm = |told: &StateTell| matches!(told, StateTell::Restarted);
        let alarm = watch.tells.iter().find(|(_, told)| is_alarm(told));
        alarm.map(|(at, _)| (*at, watch.process))
    });
    for (at, process) in chats.chain(states) {
        let text = format!(
            "{process} was told at {} that what it watches was lost or made anew, and it was not",
            seconds(at)
        );
        findings.add(at, [process.clone()], text);
    }
}

fn gap(
    facts: &Facts<'_>,
    session: &Session<'_>,
    follow: &Followed<'_>,
    d: Duration,
) -> Option<(Instant, String)> {
    let seeing = follow.seeing();
    for key in &facts.keys {
        for (committed, commit) in &key.commits {
            let in_bucket = *commit.bucket == *crate::roles::user::BUCKET;
            if !in_bucket || *committed < follow.from {
                continue;
            }
            // The bucket of another account is another.
            let account = account_of(key.name);
            if session.account_at(*committed) != Some(account) {
                continue;
            }
            let told = follow.saw(key.name, commit.revision);
            for (from, to) in &seeing {
                let begins = (*committed).max(*from);
                let (due, to) = (begins + d, to.min(&session.ended));
                let frozen = facts.life(session.process).map(|life| life.frozen.clone());
                let runs = super::facts::without((begins, due), frozen.unwrap_or_default());
                let is_running = runs == [(begins, due)];
                let same = session.account_at(due) == Some(account);
                if due < *to && is_running && same && told.is_none_or(|told| told > due) {
                    let text = format!(
                        "{} follows, and was not told by {} of revision {} of {}, committed at {}",
                        session.process,
                        seconds(due),
                        commit.revision,
                        key.name,
                        seconds(*committed),
                    );
                    return Some((due, text));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::invariants::tale::Tale;

    fn following() -> Tale {
        let mut tale = Tale::of("alice/1");
        tale.logged_in("alice/1", "app").follows("alice/1");
        tale.at(10).committed("app.bob.1", 4);
        tale.at(11).saw("alice/1", "app.bob.1", 4);
        tale.at(20).committed("app.bob.2", 5);
        tale
    }

    #[test]
    fn a_record_that_never_comes_is_told() {
        let mut tale = following();
        tale.at(120).ends();
        let told = tale.told_by("M1");
        assert!(
            told.len() == 1 && told[0].contains("revision 5 of app.bob.2"),
            "{told:?}"
        );
    }

    #[test]
    fn a_message_of_a_chat_is_told_or_lies_in_a_gap() {
        let watching = || {
            let mut tale = Tale::of_chat("alice/1");
            tale.watches("alice/1", 1);
            tale.at(10).said("7-1", 4);
            tale
        };
        let mut silent = watching();
        silent.at(120).ends();
        let told = silent.told_by("M1");
        assert!(
            told.len() == 1 && told[0].contains("sequence 4"),
            "{told:?}"
        );
        let mut tale = watching();
        tale.at(11).got("alice/1", 1, "7-1", 4).at(120).ends();
        assert_eq!(tale.told_by("M1"), [""; 0]);
        let mut gap = watching();
        gap.at(11).missed("alice/1", 1, 3, 5).at(120).ends();
        assert_eq!(gap.told_by("M1"), [""; 0]);
        let mut lost = watching();
        lost.at(11).loses_tail(3).at(120).ends();
        assert_eq!(lost.told_by("M1"), [""; 0]);
    }

    #[test]
    fn nobody_is_told_of_a_loss_that_there_was_not() {
        let mut tale = Tale::of_chat("alice/1");
        tale.watches("alice/1", 1);
        tale.at(11).tail_lost("alice/1", 1, 3).at(120).ends();
        let told = tale.told_by("M1");
        assert!(
            told[0].contains("that what it watches was lost"),
            "{told:?}"
        );
        assert_eq!(tale.without_power().told_by("M1"), [""; 0]);
    }

    #[test]
    fn a_newer_record_of_the_key_is_enough() {
        let mut tale = following();
        tale.at(22).committed("app.bob.2", 6);
        tale.at(23).saw("alice/1", "app.bob.2", 6);
        tale.at(120).ends();
        assert_eq!(tale.told_by("M1"), [""; 0]);
    }

    #[test]
    fn who_says_that_it_does_not_follow_owes_nothing_until_it_does() {
        let mut tale = following();
        tale.at(25).interrupted("alice/1");
        tale.at(120).ends();
        assert_eq!(tale.told_by("M1"), [""; 0]);
        let mut resumed = following();
        resumed.at(25).interrupted("alice/1");
        resumed.at(30).resumed("alice/1");
        resumed.at(120).ends();
        assert_eq!(resumed.told_by("M1").len(), 1);
    }
}
