//! Who believed what, and how long: what each process was told last of its locks, its connection, its watches and others.
//!
//! A belief ends where another about the same thing begins, where its process gives the thing up, and where it dies. What
//! was told is taken at its word: whether it is true is what a report lets the reader see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use squall_core::Instant;
use squall_reports::model::{Belief, Tone};

use super::{agent, lane_of, time};
use crate::history::{Call, Life, Reply, Tell, What, Wire, chat, lock, state};
use crate::run::Run;

const ITSELF: &str = "itself";
const SIGHT: &str = "sight";
const CONNECTION: &str = "connection";
const LOGIN: &str = "login";
const STORE: &str = "watch of the store";

/// In order of lane, thing and time.
pub(super) fn beliefs(run: &Run) -> Vec<Belief> {
    let mut minds = Minds {
        run,
        doubled: doubled(run),
        calls: BTreeMap::new(),
        minds: BTreeMap::new(),
        beliefs: Vec::new(),
    };
    for record in &run.history.0 {
        minds.record(record.at, &record.what);
    }
    if let Some(last) = run.history.0.last() {
        let all: Vec<&str> = minds.minds.keys().copied().collect();
        all.into_iter()
            .for_each(|process| minds.forget(last.at, process));
    }
    let mut beliefs = minds.beliefs;
    beliefs.sort_by_key(|belief| (belief.lane, belief.about.clone(), belief.from));
    beliefs
}

/// The agents of whom two lives went on at the same time: there each life has beliefs of its own.
fn doubled(run: &Run) -> BTreeSet<&str> {
    let mut alive: BTreeMap<&str, u32> = BTreeMap::new();
    let mut doubled = BTreeSet::new();
    for record in &run.history.0 {
        let What::Life { process, event } = &record.what else {
            continue;
        };
        let lives = alive.entry(agent(process)).or_default();
        match event {
            Life::Started => *lives += 1,
            Life::Crashed => *lives = lives.saturating_sub(1),
            _ => {}
        }
        if *lives > 1 {
            doubled.insert(agent(process));
        }
    }
    doubled
}

/// What one process believes.
#[derive(Default)]
struct Mind<'a> {
    open: BTreeMap<String, (String, Tone, Instant)>,
    /// Whom its watch has told it of.
    others: BTreeSet<&'a str>,
    /// The tokens that it was given: the first is generation 1.
    tokens: Vec<&'a str>,
    /// The connection of a session that it dialled last.
    connection: Option<&'a str>,
}

struct Minds<'a> {
    run: &'a Run,
    doubled: BTreeSet<&'a str>,
    calls: BTreeMap<u64, (&'a Arc<str>, &'a Call)>,
    minds: BTreeMap<&'a str, Mind<'a>>,
    beliefs: Vec<Belief>,
}

impl<'a> Minds<'a> {
    fn record(&mut self, at: Instant, what: &'a What) {
        match what {
            What::Invoke { id, process, call } => {
                self.calls.insert(*id, (process, call));
                self.called(at, process, call);
            }
            What::Ok { id, reply } => {
                if let Some((process, call)) = self.calls.remove(id) {
                    self.succeeded(at, process, call, reply);
                }
            }
            What::Refused { id, .. } | What::Unknown { id, .. } => {
                if let Some((process, Call::Lock(lock::Call::Acquire { key, .. }))) =
                    self.calls.remove(id)
                    && self.state(process, &of_lock(key)) == Some("waits")
                {
                    self.end(at, process, &of_lock(key));
                }
            }
            What::Told { process, tell } => self.told(at, process, tell),
            What::Life {
                process,
                event: Life::Crashed,
            } => self.forget(at, process),
            _ => {}
        }
    }

    fn called(&mut self, at: Instant, process: &'a str, call: &'a Call) {
        match call {
            Call::Close { .. } => self.end(at, process, ITSELF),
            Call::Lock(lock::Call::Acquire { key, .. }) => {
                let about = of_lock(key);
                if !matches!(self.state(process, &about), Some(held) if held.starts_with("held")) {
                    self.begin(at, process, &about, "waits", Tone::Unsure);
                }
            }
            Call::Lock(lock::Call::Unlock { key, .. }) => self.end(at, process, &of_lock(key)),
            _ => {}
        }
    }

    fn succeeded(&mut self, at: Instant, process: &'a str, call: &'a Call, reply: &'a Reply) {
        match (call, reply) {
            (
                Call::Lock(lock::Call::Acquire { key, .. }),
                Reply::Lock(lock::Reply::Held { token }),
            ) => self.begin(
                at,
                process,
                &of_lock(key),
                &format!("held, token {token}"),
                Tone::Well,
            ),
            (Call::Open { .. }, _) => self.begin(at, process, ITSELF, "present", Tone::Well),
            // A session dials one connection after the other, and says so by itself.
            (Call::Connect, _) if self.mind(process).connection.is_none() => {
                self.begin(at, process, CONNECTION, "connected", Tone::Well);
            }
            (_, Reply::Watching { present }) => {
                let present = present.iter();
                present.for_each(|other| self.other(at, process, &other.agent, true));
            }
            (_, Reply::Issued { token, .. }) => self.mind(process).tokens.push(token),
            (_, Reply::Dialled { connection, token }) => {
                self.mind(process).connection = Some(connection);
                self.connected(at, process, token.as_deref());
            }
            (Call::LogIn { account }, _) => self.begin(at, process, LOGIN, account, Tone::Well),
            (Call::LogOut, _) => {
                self.end(at, process, LOGIN);
                self.end(at, process, CONNECTION);
            }
            (Call::State(state::Call::Watch), _) => {
                self.begin(at, process, STORE, "follows", Tone::Well);
            }
            (Call::State(state::Call::Close), _) => self.end(at, process, STORE),
            (Call::Chat(chat::Call::Watch { watch, .. }), _) => {
                self.begin(at, process, &of_watch(*watch), "hears", Tone::Well);
            }
            _ => {}
        }
    }

    fn told(&mut self, at: Instant, process: &'a str, tell: &'a Tell) {
        match tell {
            Tell::Up(other) => self.other(at, process, &other.agent, true),
            Tell::Down { agent: other, .. } => self.other(at, process, &other.agent, false),
            Tell::Lagged { present, .. } => {
                let known = self.mind(process).others.clone();
                let now: BTreeSet<&str> = present.iter().map(|other| &*other.agent).collect();
                for other in known.difference(&now) {
                    self.other(at, process, other, false);
                }
                now.into_iter()
                    .for_each(|other| self.other(at, process, other, true));
            }
            Tell::WatchEnded => {
                let known = std::mem::take(&mut self.mind(process).others);
                known
                    .into_iter()
                    .for_each(|other| self.end(at, process, other));
                self.end(at, process, SIGHT);
            }
            Tell::Blind { .. } | Tell::Interrupted { .. } => {
                self.begin(at, process, SIGHT, "blind", Tone::Unsure);
            }
            Tell::Seeing | Tell::Resumed | Tell::FollowEnded => self.end(at, process, SIGHT),
            Tell::Evicted { .. } => self.begin(at, process, ITSELF, "evicted", Tone::Over),
            Tell::Restored => self.begin(at, process, ITSELF, "present", Tone::Well),
            Tell::Connection { event } => self.link(at, process, event),
            Tell::Wire { connection, wire } => {
                // Of two connections during a swap the newer one is what it lives on.
                if self.mind(process).connection == Some(&**connection) {
                    self.wire(at, process, wire);
                }
            }
            Tell::Lock(lock::Tell::Lost { key, .. }) => {
                self.begin(at, process, &of_lock(key), "lost", Tone::Over);
            }
            Tell::State(state::Tell::Failed { .. }) => {
                self.begin(at, process, STORE, "failed", Tone::Over);
            }
            Tell::State(state::Tell::Ended) => self.end(at, process, STORE),
            Tell::Chat(tell) => self.heard(at, process, tell),
            Tell::State(_) | Tell::Saw { .. } | Tell::Logged { .. } => {}
        }
    }

    /// What becomes of the only connection of a process.
    fn link(&mut self, at: Instant, process: &'a str, event: &str) {
        match event {
            "connected" | "reconnected" => {
                self.begin(at, process, CONNECTION, "connected", Tone::Well);
            }
            "closed" => self.begin(at, process, CONNECTION, "closed", Tone::Over),
            lost if lost.starts_with("disconnected") => {
                self.begin(at, process, CONNECTION, "disconnected", Tone::Unsure);
            }
            _ => {}
        }
    }

    /// What becomes of the connection that a session lives on.
    fn wire(&mut self, at: Instant, process: &'a str, wire: &'a Wire) {
        match wire {
            Wire::Up { token } => self.connected(at, process, token.as_deref()),
            Wire::Down { .. } => {
                self.begin(at, process, CONNECTION, "disconnected", Tone::Unsure);
            }
            Wire::Refused { .. } => self.begin(at, process, CONNECTION, "refused", Tone::Over),
            Wire::Closed => self.begin(at, process, CONNECTION, "closed", Tone::Over),
        }
    }

    fn connected(&mut self, at: Instant, process: &'a str, token: Option<&'a str>) {
        let Mind {
            tokens, connection, ..
        } = self.mind(process);
        let connection = connection.unwrap_or_default();
        let generation = |token| match tokens.iter().position(|known| *known == token) {
            Some(place) => format!("generation {} ({connection})", place + 1),
            // Given to an earlier life.
            None => format!("with {token} ({connection})"),
        };
        let state = token.map_or_else(|| format!("connected ({connection})"), generation);
        self.begin(at, process, CONNECTION, &state, Tone::Well);
    }

    fn heard(&mut self, at: Instant, process: &'a str, tell: &chat::Tell) {
        let about = of_watch(tell.watch);
        match tell.told {
            chat::Told::Interrupted { .. } => {
                self.begin(at, process, &about, "interrupted", Tone::Unsure);
            }
            chat::Told::Resumed => self.begin(at, process, &about, "hears", Tone::Well),
            chat::Told::Ended { closed: false } => {
                self.begin(at, process, &about, "failed", Tone::Over);
            }
            chat::Told::Ended { closed: true } | chat::Told::Cancelled => {
                self.end(at, process, &about);
            }
            _ => {}
        }
    }

    fn other(&mut self, at: Instant, process: &'a str, other: &'a str, is_there: bool) {
        let (state, tone) = match is_there {
            true => ("present", Tone::Well),
            false => ("absent", Tone::Over),
        };
        self.mind(process).others.insert(other);
        self.begin(at, process, other, state, tone);
    }

    fn mind(&mut self, process: &'a str) -> &mut Mind<'a> {
        self.minds.entry(process).or_default()
    }

    fn state(&self, process: &str, about: &str) -> Option<&str> {
        let (state, ..) = self.minds.get(process)?.open.get(about)?;
        Some(state)
    }

    /// From here on it believes this; what it believes already goes on.
    fn begin(&mut self, at: Instant, process: &'a str, about: &str, state: &str, tone: Tone) {
        if self.state(process, about) == Some(state) {
            return;
        }
        self.end(at, process, about);
        let belief = (state.to_owned(), tone, at);
        self.mind(process).open.insert(about.to_owned(), belief);
    }

    fn end(&mut self, at: Instant, process: &'a str, about: &str) {
        let Some((state, tone, from)) = self.mind(process).open.remove(about) else {
            return;
        };
        let about = match self.doubled.contains(agent(process)) {
            true => format!("{about} ({process})"),
            false => about.to_owned(),
        };
        self.beliefs.push(Belief {
            lane: lane_of(self.run, process),
            about,
            state,
            tone,
            from: time(from),
            to: time(at),
        });
    }

    /// A process that dies believes nothing.
    fn forget(&mut self, at: Instant, process: &'a str) {
        let about: Vec<String> = self.mind(process).open.keys().cloned().collect();
        about.iter().for_each(|about| self.end(at, process, about));
        self.minds.remove(process);
    }
}

fn of_lock(key: &str) -> String {
    format!("lock of {key}")
}

fn of_watch(number: u32) -> String {
    format!("watch {number}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::{History, Record};
    use crate::run::simulate;
    use crate::stories;

    fn run(scenario: &str, seed: u64) -> Run {
        let scenario = stories::find(scenario).expect("there is such a scenario");
        simulate(&scenario.draw(seed))
    }

    /// What is believed about things of this name, in order of time.
    fn states(run: &Run, about: &str) -> Vec<String> {
        let mut all = beliefs(run);
        all.sort_by_key(|belief| belief.from);
        let of = all.into_iter().filter(|belief| belief.about == about);
        of.map(|belief| belief.state).collect()
    }

    #[test]
    fn beliefs_of_one_lane_about_one_thing_follow_each_other() {
        for scenario in stories::all() {
            for seed in 0..2 {
                let all = beliefs(&simulate(&scenario.draw(seed)));
                for pair in all.windows(2) {
                    let same = (pair[0].lane, &pair[0].about) == (pair[1].lane, &pair[1].about);
                    assert!(
                        !same || pair[0].to <= pair[1].from,
                        "{} {seed}: {pair:?}",
                        scenario.name
                    );
                }
            }
        }
    }

    /// In each room somebody believes something: nothing is drawn as if nobody had been told anything.
    #[test]
    fn every_room_has_its_beliefs() {
        let about = |scenario: &str| -> BTreeSet<String> {
            let all = beliefs(&run(scenario, 1));
            let first = |about: String| about.split(' ').next().unwrap_or_default().to_owned();
            all.into_iter().map(|belief| first(belief.about)).collect()
        };
        for (scenario, expected) in [
            ("presence/calm", &["connection", "itself"][..]),
            ("lock/calm", &["connection", "lock"]),
            ("rotation/calm", &["connection", "login"]),
            ("chat/calm", &["connection", "watch"]),
            ("state/calm", &["connection", "watch"]),
        ] {
            let found = about(scenario);
            let missing: Vec<_> = expected.iter().filter(|it| !found.contains(**it)).collect();
            assert!(missing.is_empty(), "{scenario}: {missing:?} in {found:?}");
        }
    }

    #[test]
    fn a_session_is_connected_on_one_generation_after_the_other() {
        let run = run("rotation/calm", 1);
        let states = states(&run, CONNECTION);
        let first = states.iter().position(|state| state == "generation 1 (c1)");
        let second = states.iter().position(|state| state == "generation 2 (c2)");
        assert!(first.is_some() && first < second, "{states:?}");
    }

    #[test]
    fn a_lock_is_held_until_it_is_lost_or_given_back() {
        let alice: Arc<str> = "alice/1".into();
        let key: Arc<str> = "deploy".into();
        let call = |id, call| What::Invoke {
            id,
            process: Arc::clone(&alice),
            call: Call::Lock(call),
        };
        let acquire = |id| {
            let (key, ttl) = (Arc::clone(&key), Duration::from_secs(5));
            let waits = None;
            call(id, lock::Call::Acquire { key, ttl, waits })
        };
        let held = |id, token| What::Ok {
            id,
            reply: Reply::Lock(lock::Reply::Held { token }),
        };
        let lost = What::Told {
            process: Arc::clone(&alice),
            tell: Tell::Lock(lock::Tell::Lost {
                key: Arc::clone(&key),
                token: 1,
                reason: "late".to_owned(),
            }),
        };
        let refused = What::Refused {
            id: 2,
            error: "it is held".to_owned(),
            conflict: false,
        };
        let unlock = lock::Call::Unlock {
            key: Arc::clone(&key),
            token: 3,
        };
        let what = [
            acquire(1),
            held(1, 1),
            lost,
            acquire(2),
            refused,
            acquire(3),
            held(3, 3),
            call(4, unlock),
        ];
        let records = (1..).zip(what).map(|(nanos, what)| Record {
            at: Instant::from_nanos(nanos),
            what,
        });
        let run = Run {
            history: History(records.collect()),
            ..run("lock/calm", 1)
        };
        let told = beliefs(&run).into_iter();
        let told: Vec<_> = told
            .map(|it| (it.state, it.from.as_nanos(), it.to.as_nanos()))
            .collect();
        let expected = [
            ("waits", 1, 2),
            ("held, token 1", 2, 3),
            ("lost", 3, 4),
            ("waits", 4, 5),
            ("waits", 6, 7),
            ("held, token 3", 7, 8),
        ];
        assert_eq!(
            told,
            expected.map(|(it, from, to)| (it.to_owned(), from, to))
        );
    }
}
