//! E4 monotone: what is told never goes back: revisions of a key, the credentials that a session dials with, what who
//! follows a bucket sees of a key, and the messages that a watch of a chat tells.
//!
//! Only calls that follow each other are compared: of two that overlap either may come first. Reads of a bucket with
//! copies may be given to one that is behind, and say nothing. What the server lost with
//! its power after it was told is not held against what is told then.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_core::Instant;
use squall_core::transport::{Revision, Sequence};

use super::facts::{Called, Ended, Facts};
use super::sessions::{Change, Session};
use super::{Findings, seconds, tellings};
use crate::history::{Call, Reply, Tell, chat};

/// What one call told of a key.
#[derive(Clone, Copy, Debug)]
struct Told {
    life: u32,
    key: u32,
    at: Instant,
    /// Its place among the calls.
    place: u32,
    invoked: Instant,
    revision: Revision,
    is_write: bool,
}

/// The newest revision that was told until some call ended.
#[derive(Clone, Copy, Debug)]
struct Newest {
    /// When that ended.
    at: Instant,
    revision: Revision,
    /// When the call began that told it.
    since: Instant,
}

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for session in &facts.sessions {
        dialled_back(session, findings);
        if !facts.plan.loses_power() {
            followed_back(session, findings);
        }
    }
    tellings::order(facts, findings);
    heard_back(facts, findings);
    let has_copies = facts.plan.world.has_copies();
    // Where a key is plain, each write was stored while it was under way, and revisions grow: one that began after
    // another had ended was stored after it.
    let is_plain = |called: &Called<'_>| called.key.is_none_or(|key| facts.keys[key].is_plain);
    if facts.keys.iter().all(|key| key.is_plain) {
        return;
    }
    let mut all = Vec::with_capacity(facts.calls.len());
    let calls = (0..)
        .zip(&facts.calls)
        .filter(|(_, called)| !is_plain(called));
    let told = calls.filter_map(told);
    all.extend(told.filter(|told| told.is_write || !has_copies));
    sort_by_life(&mut all, facts.lives.len());
    let mut newest: Vec<Newest> = Vec::new();
    for of_life in all.chunk_by_mut(|one, other| one.life == other.life) {
        let order = |told: &Told| (told.key, told.at, told.place);
        if !of_life.is_sorted_by_key(order) {
            of_life.sort_unstable_by_key(order);
        }
        for of_key in of_life.chunk_by(|one, other| one.key == other.key) {
            newest.clear();
            for told in of_key {
                check_one(facts, &newest, told, findings);
                let is_left = |before: &&Newest| {
                    let span = (before.since, told.at);
                    before.revision > told.revision && !facts.is_lost(before.revision, span)
                };
                let of_this = Newest {
                    at: told.at,
                    revision: told.revision,
                    since: told.invoked,
                };
                let highest = newest.last().filter(is_left).copied();
                newest.push(Newest {
                    at: told.at,
                    ..highest.unwrap_or(of_this)
                });
            }
        }
    }
}

/// A connection that was dialled with an older credential than one before it.
fn dialled_back(session: &Session<'_>, findings: &mut Findings) {
    let issued = |token: &Arc<str>| session.issued.iter().position(|one| one.token == token);
    let dials = session.connections.iter().filter_map(|made| {
        let (up, change) = made.changes.first()?;
        let Change::Up(Some(token)) = change else {
            return None;
        };
        Some((made.dialled, *up, *token, issued(token)?))
    });
    let mut newest: Option<(Instant, &Arc<str>, usize)> = None;
    for (begun, up, token, generation) in dials {
        match newest {
            Some((at, newer, highest)) if generation < highest => {
                // One that was under way for long may be older than another that came up meanwhile.
                if begun > at {
                    let text = format!(
                        "{} dialled with {token} at {}, and had dialled with {newer} at {}",
                        session.process,
                        seconds(begun),
                        seconds(at),
                    );
                    findings.add(begun, [session.process.clone()], text);
                    return;
                }
            }
            _ => newest = Some((up, token, generation)),
        }
    }
}

/// A key that was seen as older than it had been.
fn followed_back(session: &Session<'_>, findings: &mut Findings) {
    let mut newest: BTreeMap<&str, (Instant, Revision)> = BTreeMap::new();
    let tells = session.follows.iter().flat_map(|follow| &follow.tells);
    for (at, tell) in tells {
        let Tell::Saw { key, revision } = tell else {
            continue;
        };
        if let Some((since, newer)) = newest.get(&**key)
            && revision < newer
        {
            let text = format!(
                "{} saw revision {revision} of {key} at {}, and had seen {newer} at {}",
                session.process,
                seconds(*at),
                seconds(*since),
            );
            findings.add(*at, [session.process.clone()], text);
            return;
        }
        newest.insert(key, (*at, *revision));
    }
}

/// What a watch tells moves on, unless it tells that the stream does not.
fn heard_back(facts: &Facts<'_>, findings: &mut Findings) {
    for watch in &facts.chats.watches {
        let mut last = Sequence::NONE;
        for (at, told) in &watch.tells {
            match told {
                chat::Told::Got { sequence, .. } | chat::Told::Else { sequence, .. } => {
                    if *sequence <= last {
                        let text = format!(
                            "watch {} of {} told sequence {sequence} at {}, after {last}",
                            watch.number,
                            watch.process,
                            seconds(*at),
                        );
                        findings.add(*at, [watch.process.clone()], text);
                        break;
                    }
                    last = *sequence;
                }
                chat::Told::TailLost { .. } | chat::Told::Recreated => last = Sequence::NONE,
                _ => {}
            }
        }
    }
}

/// By counting, as there are few lives and many calls; within a life calls keep their order.
fn sort_by_life(all: &mut [Told], lives: usize) {
    let mut places = vec![0; lives + 1];
    for told in all.iter() {
        places[told.life as usize + 1] += 1;
    }
    let mut before = 0;
    for place in &mut places {
        before += *place;
        *place = before;
    }
    let unsorted = all.to_vec();
    for told in unsorted {
        let place = &mut places[told.life as usize];
        all[*place] = told;
        *place += 1;
    }
}

/// What a call told, if it did.
fn told((place, called): (u32, &Called<'_>)) -> Option<Told> {
    let (at, Ended::Ok(reply)) = called.ended? else {
        return None;
    };
    let (life, key) = (called.life?, called.key?);
    let (revision, is_write) = match (called.call, reply) {
        (Call::Write { .. }, Reply::Stored { revision }) => (*revision, true),
        (Call::Read { .. }, Reply::Read { revision }) => ((*revision)?, false),
        _ => return None,
    };
    Some(Told {
        life: life as u32,
        key: key as u32,
        at,
        place,
        invoked: called.invoked,
        revision,
        is_write,
    })
}

fn check_one(facts: &Facts<'_>, newest: &[Newest], told: &Told, findings: &mut Findings) {
    let revision = told.revision;
    // Ends come in order, so the newest revision told before this call began is found from the back.
    let before = newest.iter().rev().find(|one| one.at < told.invoked);
    if let Some(&Newest {
        at: earlier,
        revision: newer,
        since,
    }) = before
        && (revision < newer || (told.is_write && revision == newer))
        && !facts.is_lost(newer, (since, told.at))
    {
        let process = facts.lives[told.life as usize].process;
        let text = format!(
            "{process} was told revision {revision} of {} at {}, and had been told {newer} at {}",
            facts.keys[told.key as usize].name,
            seconds(told.at),
            seconds(earlier),
        );
        findings.add(told.at, [process.clone()], text);
    }
}

#[cfg(test)]
mod tests {
    use crate::invariants::tale::Tale;

    #[test]
    fn a_session_that_goes_back_to_an_older_credential_is_told() {
        let mut tale = Tale::of("alice/1");
        tale.issued("alice/1", "a-1")
            .dialled("alice/1", "c1", "a-1");
        tale.at(270).issued("alice/1", "a-2");
        tale.dialled("alice/1", "c2", "a-2");
        tale.at(280).dialled("alice/1", "c3", "a-2");
        assert_eq!(tale.told_by("E4"), [""; 0]);
        tale.at(290).dialled("alice/1", "c4", "a-1");
        let told = "alice/1 dialled with a-1 at 290.000s, and had dialled with a-2 at 280.000s";
        assert_eq!(tale.told_by("E4"), [told]);
    }

    #[test]
    fn who_follows_never_sees_an_older_revision() {
        let mut tale = Tale::of("alice/1");
        tale.follows("alice/1").saw("alice/1", "k", 4);
        tale.at(3).saw("alice/1", "other", 2);
        tale.follows("alice/1").saw("alice/1", "k", 4);
        assert_eq!(tale.told_by("E4"), [""; 0]);
        tale.at(5).saw("alice/1", "k", 3);
        let told = "alice/1 saw revision 3 of k at 5.000s, and had seen 4 at 3.000s";
        assert_eq!(tale.told_by("E4"), [told]);
    }

    #[test]
    fn a_watch_moves_on_unless_it_says_otherwise() {
        let mut tale = Tale::of_chat("alice/1");
        tale.watches("alice/1", 1);
        tale.at(10).got("alice/1", 1, "7-1", 4);
        tale.got("alice/1", 1, "7-2", 5);
        assert_eq!(tale.told_by("E4"), [""; 0]);
        let mut lost = Tale::of_chat("alice/1");
        lost.watches("alice/1", 1)
            .at(10)
            .got("alice/1", 1, "7-1", 4);
        lost.tail_lost("alice/1", 1, 2).got("alice/1", 1, "7-2", 3);
        assert_eq!(lost.told_by("E4"), [""; 0]);
        tale.at(11).got("alice/1", 1, "7-3", 3);
        assert_eq!(tale.told_by("E4").len(), 1);
    }
}
