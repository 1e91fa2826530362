//! E4 monotone: a process is never told an older revision of a key after a newer one.
//!
//! Only calls that follow each other are compared: of two that overlap either may come first. Reads of a bucket with
//! copies may be given to one that is behind, and say nothing. What the server lost with
//! its power after it was told is not held against what is told then.

use squall_core::Instant;
use squall_core::transport::Revision;

use super::facts::{Called, Ended, Facts};
use super::{Findings, seconds, tellings};
use crate::history::{Call, Reply};

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
    tellings::order(facts, findings);
    let has_copies = facts.plan.world.has_copies();
    let mut all = Vec::with_capacity(facts.calls.len());
    let told = (0..).zip(&facts.calls).filter_map(told);
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
