//! K1 register: each key behaves as one register with compare-and-set.
//!
//! Where the history holds what the server stored, that is the order, and it is checked directly: a write was stored
//! between its call and its end, over the record that it demanded; one that was refused because of another record was
//! refused while there was another; a read saw what was the latest at some moment while it was under way. That is stronger
//! than linearizability, which only asks that there be *some* order, and takes a search for each key no time. A history
//! without it (one that was recorded elsewhere) is searched for an order (`k1_search.rs`).
//!
//! Where the bucket has copies a read may be given to one that is behind, without a bound: then it names what was the
//! latest once. What a loss of power took was there until then, and what it replaced is there again. Not checked: that a
//! refusal for any other reason (no bucket, no space) was right.

use std::time::Duration;

use squall_core::Instant;
use squall_core::transport::Revision;

use super::facts::{Called, Ended, Facts, Key};
use super::{Findings, k1_search, seconds};
use crate::history::{Call, Commit, Reply};
use crate::plan::On;

/// Real servers date records by the wall clock, which may have been set by so much against true time.
const REAL_DATES: Duration = Duration::from_millis(20);

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    if !facts.has_truth {
        return k1_search::search(facts, findings);
    }
    let dates = match facts.plan.world.on {
        On::Simulated => Duration::ZERO,
        On::Nats => REAL_DATES,
    };
    for called in facts.questionable() {
        let (Some((at, ended)), Some(number)) = (called.ended, called.key) else {
            continue;
        };
        let moment = Moments {
            facts,
            key: &facts.keys[number],
            from: called.invoked - dates,
            until: at + dates,
        };
        if let Some(wrong) = moment.wrong(called, ended) {
            let (process, key) = (called.process, facts.keys[number].name);
            let text = format!(
                "{process} was answered at {}, but {wrong} ({key})",
                seconds(at)
            );
            findings.add(at, [process.clone()], text);
        }
    }
}

/// A key while a call on it was under way.
struct Moments<'a> {
    facts: &'a Facts<'a>,
    key: &'a Key<'a>,
    from: Instant,
    until: Instant,
}

impl Moments<'_> {
    fn wrong(&self, called: &Called<'_>, ended: Ended<'_>) -> Option<String> {
        match (called.call, ended) {
            (
                Call::Write {
                    expected, value, ..
                },
                Ended::Ok(Reply::Stored { revision }),
            ) => {
                let place = self.key.place_of_write(called.stored, *revision, *value)?;
                // That it is another's is told by E3.
                if self.key.commits[place].1.value != *value {
                    return None;
                }
                self.wrong_write(place, *expected)
            }
            (
                Call::Write {
                    operation,
                    expected: Some(expected),
                    ..
                },
                Ended::Conflict(_),
            ) if !self.may_have_holes() => {
                let is_create = operation.is_put() && *expected == Revision::NONE;
                let is_right = self.any(false, |latest| match latest {
                    Some(commit) if is_create => commit.operation.is_put(),
                    latest => latest.map_or(Revision::NONE, |commit| commit.revision) != *expected,
                });
                (!is_right).then(|| match is_create {
                    true => "its create was refused and there was no value".to_owned(),
                    false => {
                        format!("its write over {expected} was refused and that was the latest")
                    }
                })
            }
            (Call::Read { .. }, Ended::Ok(Reply::Read { revision }))
                if !revision.is_some_and(|revision| self.is_unseen(revision)) =>
            {
                let may_be_old = self.facts.plan.world.has_copies();
                let is_right = self.any(may_be_old, |latest| {
                    latest.map(|commit| commit.revision) == *revision
                });
                (!is_right).then(|| {
                    let read =
                        revision.map_or_else(|| "nothing".to_owned(), |r| format!("revision {r}"));
                    format!("it read {read}, which was not the latest at any moment of the read")
                })
            }
            _ => None,
        }
    }

    /// What is wrong with the record that a write was told to have made.
    fn wrong_write(&self, place: usize, expected: Option<Revision>) -> Option<String> {
        let (at, commit) = self.key.commits[place];
        let revision = commit.revision;
        if at < self.from || at > self.until {
            let at = seconds(at);
            return Some(format!(
                "revision {revision} was stored at {at}, outside of the call"
            ));
        }
        let expected = expected.filter(|expected| !self.is_unseen(*expected))?;
        let has_copies = self.facts.plan.world.has_copies();
        let mut over = self.key.last_before(place);
        // A leader accepts over what it has applied: a marker of its own may be on its way already.
        for place in (1..place).rev() {
            let is_own =
                |(_, commit): (_, &Commit)| commit.by.is_none() && commit.revision != expected;
            if !has_copies || expected == Revision::NONE || !over.is_some_and(is_own) {
                break;
            }
            over = self.key.last_before(place);
        }
        let Some((since, before)) = over else {
            return (expected != Revision::NONE)
                .then(|| format!("revision {revision} was stored over none, not over {expected}"));
        };
        let is_right = if expected == Revision::NONE {
            !before.operation.is_put() || self.gone(since, before).is_some_and(|gone| gone <= at)
        } else {
            // A real server does not say when it removed it; and copies age each by itself, the leader's maybe last.
            let removed = self.key.removal(since, before);
            before.revision == expected
                && (has_copies || removed.is_none_or(|removed| removed >= at))
        };
        (!is_right).then(|| match expected {
            Revision::NONE => format!(
                "revision {revision} was created over the value of revision {}",
                before.revision
            ),
            expected => format!(
                "revision {revision} was stored over {}, not over {expected}",
                before.revision
            ),
        })
    }

    /// What a real cluster stored is what its observers saw, and around an outage they may miss some of it.
    fn may_have_holes(&self) -> bool {
        let world = &self.facts.plan.world;
        world.on == On::Nats && world.has_copies()
    }

    /// Whether this record is one that they missed.
    fn is_unseen(&self, revision: Revision) -> bool {
        let is_none = revision == Revision::NONE;
        self.may_have_holes() && !is_none && self.key.place_of(revision).is_none()
    }

    /// From when on a record may have gone without another in its place.
    fn gone(&self, since: Instant, commit: &Commit) -> Option<Instant> {
        let agent = self.facts.agent_of(self.key.name).unwrap_or_default();
        self.facts.may_be_gone(agent, self.key, since, commit)
    }

    /// Whether the latest record was like this at some moment of the call; `None` stands for no record. Copies may be
    /// behind: what they answer was so at that moment or at any before.
    fn any(&self, may_be_old: bool, is_it: impl Fn(Option<&Commit>) -> bool) -> bool {
        let commits = &self.key.commits;
        let from = if may_be_old { Instant::ZERO } else { self.from };
        // The last one stored before the call began, and all until it ended.
        let first = commits.partition_point(|(at, _)| *at < from);
        if first == 0 && is_it(None) {
            return true;
        }
        let last = commits.partition_point(|(at, _)| *at <= self.until);
        let mut reigns = self.key.reigns_of(first.saturating_sub(1)..last);
        reigns.any(|(since, commit, next)| {
            let removed = self.key.removal(since, commit);
            let is_there = since <= self.until && removed.unwrap_or(next).min(next) >= from;
            let gone = self.gone(since, commit).filter(|gone| *gone <= next);
            (is_there && is_it(Some(commit)))
                || (next >= from && gone.is_some_and(|gone| gone <= self.until) && is_it(None))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use squall_core::transport::Operation;

    use super::super::{Verdict, judge};
    use super::*;
    use crate::history::{History, Record, What};
    use crate::parse::BUCKET;
    use crate::stories;

    /// A history of one key, in milliseconds of true time.
    #[derive(Default)]
    struct Story {
        records: Vec<Record>,
        calls: u64,
        is_blind: bool,
    }

    impl Story {
        fn record(&mut self, at: u64, what: What) {
            let at = Instant::from_nanos(at * 1_000_000);
            self.records.push(Record { at, what });
        }

        fn calls(
            mut self,
            from: u64,
            call: Call,
            until: u64,
            end: impl FnOnce(u64) -> What,
        ) -> Self {
            self.calls += 1;
            let id = self.calls;
            let process: Arc<str> = format!("p/{id}").into();
            self.record(from, What::Invoke { id, process, call });
            self.record(until, end(id));
            self
        }

        fn written(expected: Option<u64>, value: u64) -> Call {
            Call::Write {
                bucket: BUCKET.into(),
                key: "k".into(),
                operation: Operation::Put,
                expected: expected.map(Revision),
                value,
            }
        }

        /// Writes the value that is the revision.
        fn stores(self, from: u64, expected: Option<u64>, revision: u64, until: u64) -> Self {
            self.calls(from, Self::written(expected, revision), until, |id| {
                What::Ok {
                    id,
                    reply: Reply::Stored {
                        revision: Revision(revision),
                    },
                }
            })
        }

        fn conflicts(self, from: u64, expected: u64, until: u64) -> Self {
            self.calls(from, Self::written(Some(expected), 99), until, |id| {
                What::Refused {
                    id,
                    error: "another revision".to_owned(),
                    conflict: true,
                }
            })
        }

        fn hears_nothing(self, from: u64, value: u64, until: u64) -> Self {
            self.calls(from, Self::written(None, value), until, |id| {
                What::Unknown {
                    id,
                    error: "no answer".to_owned(),
                }
            })
        }

        fn reads(self, from: u64, revision: Option<u64>, until: u64) -> Self {
            let call = Call::Read {
                bucket: BUCKET.into(),
                key: "k".into(),
            };
            self.calls(from, call, until, |id| What::Ok {
                id,
                reply: Reply::Read {
                    revision: revision.map(Revision),
                },
            })
        }

        fn commits(mut self, at: u64, revision: u64) -> Self {
            if !self.is_blind {
                let commit = Commit {
                    bucket: BUCKET.into(),
                    key: "k".into(),
                    revision: Revision(revision),
                    operation: Operation::Put,
                    by: None,
                    incarnation: None,
                    ttl: None,
                    value: revision,
                };
                self.record(at, What::Committed(commit));
            }
            self
        }

        /// What K1 says of it.
        fn wrong(mut self) -> Vec<String> {
            self.record(1000, What::End { tasks: Vec::new() });
            self.records.sort_by_key(|record| record.at);
            let scenario = stories::find("presence/calm").expect("there is one");
            match judge(&scenario.draw(0), &History(self.records)) {
                Verdict::Fail(violations) => {
                    let of_k1 = violations.into_iter().filter(|found| found.code == "K1");
                    of_k1.map(|violation| violation.text).collect()
                }
                Verdict::Pass => Vec::new(),
                Verdict::Inconclusive(why) => {
                    assert!(self.is_blind, "{why}");
                    assert!(
                        why.ends_with(
                            "P1, P2, P4, P5, L2, L3, L4, L6, M1, D1, E3 cannot be judged"
                        ),
                        "{why}"
                    );
                    Vec::new()
                }
            }
        }
    }

    /// Told with what the server stored, and without.
    fn wrong(story: impl Fn(Story) -> Story) -> [Vec<String>; 2] {
        [false, true].map(|is_blind| {
            let begun = Story {
                is_blind,
                ..Story::default()
            };
            story(begun).wrong()
        })
    }

    #[test]
    fn a_register_is_accepted() {
        let found = wrong(|story| {
            story
                .reads(1, None, 3)
                .stores(2, Some(0), 1, 5)
                .commits(4, 1)
                .conflicts(4, 0, 6)
                .hears_nothing(7, 2, 9)
                .reads(10, Some(1), 11)
                .commits(12, 2)
                .reads(11, Some(1), 13)
                .reads(11, Some(2), 14)
                .conflicts(12, 1, 15)
                .stores(15, Some(2), 3, 18)
                .commits(17, 3)
        });
        assert_eq!(found, [Vec::<String>::new(), Vec::new()]);
    }

    #[test]
    fn a_stale_read_is_told() {
        let [direct, searched] = wrong(|story| {
            story
                .stores(1, None, 1, 3)
                .commits(2, 1)
                .stores(4, Some(1), 2, 6)
                .commits(5, 2)
                .reads(7, Some(1), 8)
        });
        let read = "p/3 was answered at 0.008s, but it read revision 1, which was not the latest at \
                    any moment of the read (k)";
        assert_eq!(direct, [read]);
        let search = "no order explains k: p/3's read (1) from 0.007s to 0.008s has no place beside p/2's \
                      update of 1 (2) from 0.004s to 0.006s, after which there is revision 2 or no record";
        assert_eq!(searched, [search]);
    }

    #[test]
    fn two_updates_of_one_revision_are_told() {
        let [direct, searched] = wrong(|story| {
            story
                .stores(1, None, 1, 3)
                .commits(2, 1)
                .stores(4, Some(1), 2, 6)
                .commits(5, 2)
                .stores(4, Some(1), 3, 9)
                .commits(7, 3)
        });
        let over = "p/3 was answered at 0.009s, but revision 3 was stored over 2, not over 1 (k)";
        assert_eq!(direct, [over]);
        assert!(
            searched[0].starts_with("no order explains k: p/3's update of 1 (3)"),
            "{searched:?}"
        );
    }

    #[test]
    fn a_refusal_without_a_reason_is_told() {
        let found = wrong(|story| story.stores(1, None, 1, 3).commits(2, 1).conflicts(4, 1, 6));
        assert!(found[0][0].contains("its write over 1 was refused and that was the latest"));
        // Without truth, the record may have aged out meanwhile.
        assert_eq!(found[1], Vec::<String>::new());
    }

    #[test]
    fn a_create_over_a_value_and_an_early_answer_are_told() {
        let created = wrong(|story| {
            story
                .stores(1, None, 1, 3)
                .commits(2, 1)
                .stores(4, Some(0), 2, 6)
                .commits(5, 2)
                .reads(3, Some(1), 9)
        });
        assert!(created[0][0].contains("revision 2 was created over the value of revision 1"));
        let early = Story::default().stores(1, None, 1, 3).commits(4, 1).wrong();
        assert!(
            early[0].contains("revision 1 was stored at 0.004s, outside of the call"),
            "{early:?}"
        );
    }

    #[test]
    fn a_revision_that_nobody_wrote_has_no_place() {
        let story = |unknown: bool| {
            let begun = Story {
                is_blind: true,
                ..Story::default()
            };
            let story = begun.stores(1, None, 1, 3);
            let story = if unknown {
                story.hears_nothing(2, 7, 4)
            } else {
                story
            };
            story.reads(5, Some(2), 6).reads(7, Some(2), 8)
        };
        assert_eq!(story(true).wrong(), Vec::<String>::new());
        assert!(story(false).wrong()[0].contains("read (2)"));
    }
}
