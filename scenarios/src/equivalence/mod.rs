//! Stores beside a model: the same random script on each, and what it shows must be what the model says, whatever backend is
//! below.
//!
//! Steps are taken at whole seconds and lives end at half ones, so that no answer depends on how long a step takes. What a
//! change makes a watch tell is waited for before the next one, as a store tells only the latest of what comes at once.
//! Revisions and times are compared by the step that they come from.

mod model;
mod script;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use squall_core::state::{Entry, Event, Operation, StateError, StateStore, Ttl, Watch, WatchEnd};
use squall_core::transport::Revision;
use squall_core::{Clock, Env, Instant, UnixTime};

use self::model::Model;
pub use self::script::{HANDLES, Script, Step};

/// How long is waited for what must be told.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited for what must not.
const LOOK: Duration = Duration::from_millis(20);
/// Time between two puts.
const MOMENT: Duration = Duration::from_millis(1);
/// How late a step may be before it says nothing.
const LATE: Duration = Duration::from_millis(120);
/// When in a second it is heard what was told.
const HEARING: i64 = 800;

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Played {
    /// As the model says, step by step.
    Alike(Vec<String>),
    /// Otherwise.
    Different {
        /// At which step.
        step: usize,
        /// What the model says.
        expected: String,
        /// What the store shows.
        found: String,
    },
    /// The machine was too busy to keep the time.
    Late,
}

/// Plays a script on the handles of one store; `has_lives` where its server ends values itself.
pub async fn play<E: Env>(
    env: &E,
    stores: &[StateStore],
    script: &Script,
    has_lives: bool,
) -> Played {
    let player = Player {
        clock: env.clock(),
        began: env.clock().now(),
        now: 0,
        stores,
        model: Model::new(has_lives),
        watches: Vec::new(),
        revisions: BTreeMap::new(),
        times: BTreeMap::new(),
        shown: Vec::new(),
    };
    player.play(script).await
}

struct Player<'a, C> {
    clock: &'a C,
    began: Instant,
    /// The time of the script.
    now: i64,
    stores: &'a [StateStore],
    model: Model,
    watches: Vec<Watch>,
    /// Which step has written what.
    revisions: BTreeMap<Revision, usize>,
    times: BTreeMap<UnixTime, usize>,
    shown: Vec<String>,
}

impl<C: Clock> Player<'_, C> {
    async fn play(mut self, script: &Script) -> Played {
        for (number, step) in script.0.iter().enumerate() {
            let Some((expected, found)) = self.step(number, step).await else {
                return Played::Late;
            };
            if expected != found {
                return Played::Different {
                    step: number,
                    expected,
                    found,
                };
            }
            if let Err((expected, found)) = self.hear().await {
                return Played::Different {
                    step: number,
                    expected,
                    found,
                };
            }
            self.shown.push(found);
        }
        Played::Alike(self.shown)
    }

    /// What the model says and what the store shows; `None` if it is too late to say.
    async fn step(&mut self, number: usize, step: &Step) -> Option<(String, String)> {
        let told = match *step {
            Step::Put {
                by,
                key,
                ttl,
                token,
            } => {
                let expected = self.model.put((number, by), key, ttl, token);
                let found = self.put((number, by), key, ttl, token).await;
                (expected, found)
            }
            Step::Delete { by, key } => {
                let deleted = self.stores[by].delete(key).await;
                let found = deleted.map_or_else(word, |()| "ok".to_owned());
                (self.model.delete(by, key), found)
            }
            Step::Get { by, key } => {
                let found = match self.stores[by].get_entry(key).await {
                    Ok(entry) => self.describe(&entry),
                    Err(error) => word(error),
                };
                (self.model.get(by, key), found)
            }
            Step::Keys { by, pattern } => {
                let keys = self.stores[by].keys(pattern).await;
                let found = keys.map_or_else(word, |keys| format!("{keys:?}"));
                (self.model.keys(by, pattern), found)
            }
            Step::Watch { by, pattern } => {
                let found = match self.stores[by].watch(pattern).await {
                    Ok(watch) => {
                        self.watches.push(watch);
                        "ok".to_owned()
                    }
                    Err(error) => word(error),
                };
                (self.model.watch(by, pattern), found)
            }
            Step::Pass { seconds } => {
                let end = self.now + i64::try_from(seconds).unwrap_or(i64::MAX) * 1000;
                self.until(end - 1000 + HEARING).await?;
                self.model.hear();
                let told = self.unasked().await;
                self.until(end).await?;
                told
            }
            Step::Close { handle } => {
                self.model.close(handle);
                self.stores[handle].close();
                ("ok".to_owned(), "ok".to_owned())
            }
        };
        (!self.is_late(self.now)).then_some(told)
    }

    async fn put(
        &mut self,
        (number, by): (usize, usize),
        key: &str,
        ttl: i64,
        token: Option<u64>,
    ) -> String {
        // No two at the same time, so that times tell steps apart.
        self.clock.sleep_until(self.clock.now() + MOMENT).await;
        let store = &self.stores[by];
        let value = number.to_string();
        let put = match token {
            Some(token) => store.put_fenced(key, value, token).await,
            None => store.put(key, value, Ttl::from_millis(ttl)).await,
        };
        let revision = match put {
            Ok(revision) => revision,
            Err(error) => return word(error),
        };
        if self
            .revisions
            .last_key_value()
            .is_some_and(|(last, _)| *last >= revision)
        {
            return format!("a revision that is not new: {revision}");
        }
        self.revisions.insert(revision, number);
        match store.get_entry(key).await {
            Ok(entry) if entry.value == number.to_string() => {
                self.times.insert(entry.modified, number);
                "ok".to_owned()
            }
            other => format!("not what was put: {other:?}"),
        }
    }

    fn describe(&self, entry: &Entry) -> String {
        let by = self.revisions.get(&entry.revision);
        let since = self.times.get(&entry.created);
        match (by, since) {
            (Some(by), Some(since))
                if entry.value == by.to_string() && self.times.get(&entry.modified) == Some(by) =>
            {
                format!("by step {by}, since step {since}")
            }
            _ => format!("{entry:?}"),
        }
    }

    /// What a watch has told, by key.
    fn tells(&self, event: &Event) -> (String, String) {
        match event {
            Event::Changed(entry) if entry.operation == Operation::Put => {
                (entry.key.clone(), format!("put, {}", self.describe(entry)))
            }
            Event::Changed(entry) => (entry.key.clone(), "deleted".to_owned()),
            Event::Expired { key, revision } => {
                let of = self.revisions.get(revision);
                let of =
                    of.map_or_else(|| format!("revision {revision}"), |of| format!("step {of}"));
                (key.clone(), format!("expired, of {of}"))
            }
            Event::Gap(_) | Event::CaughtUp => (String::new(), format!("{event:?}")),
        }
    }

    /// Waits for what every watch is to tell, key by key in its order.
    async fn hear(&mut self) -> Result<(), (String, String)> {
        for index in 0..self.watches.len() {
            while self.model.watches[index]
                .told
                .values()
                .any(|told| !told.is_empty())
            {
                let deadline = self.clock.now() + PATIENCE;
                let event = tokio::select! {
                    biased;
                    event = self.watches[index].next() => event,
                    () = self.clock.sleep_until(deadline) => {
                        let expected = format!("watch {index}: {:?}", self.model.watches[index].told);
                        return Err((expected, "silence".to_owned()));
                    }
                };
                let (key, found) = match event {
                    Ok(event) => self.tells(&event),
                    Err(end) => (String::new(), end.to_string()),
                };
                let told = self.model.watches[index].told.get_mut(&key);
                let expected = told.and_then(VecDeque::pop_front);
                // A server may be faster than the model, which waits for the slowest.
                let expected = expected.or_else(|| self.model.may_hear(index, &key));
                let expected = expected.unwrap_or_else(|| "silence".to_owned());
                if expected != found {
                    let about = |said| format!("watch {index}: {key}: {said}");
                    return Err((about(expected), about(found)));
                }
            }
            if self.model.watches[index].is_closed {
                let mut end = self.watches[index].next().await;
                // What had been told before comes first.
                while let Ok(event) = &end {
                    let (key, found) = self.tells(event);
                    if self.model.may_hear(index, &key).as_ref() != Some(&found) {
                        break;
                    }
                    end = self.watches[index].next().await;
                }
                if end != Err(WatchEnd::WatchClosed) {
                    let expected = format!("watch {index}: {}", WatchEnd::WatchClosed);
                    return Err((expected, format!("{end:?}")));
                }
            }
        }
        Ok(())
    }

    /// Whether watches tell anything that they should not.
    async fn unasked(&mut self) -> (String, String) {
        let expected = "silence".to_owned();
        if let Err((expected, found)) = self.hear().await {
            return (expected, found);
        }
        let deadline = self.clock.now() + LOOK;
        for index in 0..self.watches.len() {
            if self.model.watches[index].is_closed {
                continue;
            }
            tokio::select! {
                biased;
                event = self.watches[index].next() => {
                    return (expected, format!("watch {index}: {event:?}"));
                }
                () = self.clock.sleep_until(deadline) => {}
            }
        }
        (expected.clone(), expected)
    }

    async fn until(&mut self, time: i64) -> Option<()> {
        self.now = time;
        self.clock.sleep_until(self.instant(time)).await;
        self.model.pass(time);
        (!self.is_late(time)).then_some(())
    }

    fn instant(&self, time: i64) -> Instant {
        self.began + Duration::from_millis(time.unsigned_abs())
    }

    fn is_late(&self, time: i64) -> bool {
        self.clock.now() > self.instant(time) + LATE
    }
}

fn word(error: StateError) -> String {
    match error {
        StateError::NotFound => "not found".to_owned(),
        StateError::Closed => "closed".to_owned(),
        StateError::InvalidKey(_) => "invalid key".to_owned(),
        StateError::InvalidTtl(_) => "invalid ttl".to_owned(),
        StateError::StaleToken { fence, .. } => format!("stale token, the fence is {fence}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use squall_core::Transport as _;
    use squall_core::state::{Config, MemoryBucket, WATCH_BUFFER_DEFAULT};
    use squall_core::transport::ConnectOptions;
    use squall_sim::broker::{ServerConfig, Version};
    use squall_sim::{Latency, SimEnv, Simulation};

    use super::*;

    const VERSIONS: [Version; 5] = [
        Version::REFERENCE,
        Version::new(2, 10, 26),
        Version::new(2, 11, 11),
        Version::new(2, 12, 8),
        Version::new(2, 14, 6),
    ];
    /// Scripts, where `PROPTEST_CASES` does not say another number.
    const SCRIPTS: u64 = 400;

    async fn on_kv(env: &SimEnv) -> Vec<StateStore> {
        let mut stores = Vec::new();
        for _ in 0..HANDLES {
            let options = ConnectOptions {
                servers: vec!["nats://n1".to_owned()],
                ..ConnectOptions::default()
            };
            let connection = env.transport().connect(options).await;
            let connection = connection.expect("the server is there");
            let store = StateStore::open(env, &connection, &Config::default()).await;
            stores.push(store.expect("it opens"));
        }
        stores
    }

    async fn in_memory(env: &SimEnv) -> Vec<StateStore> {
        let bucket = MemoryBucket::new(env, "agent-state");
        let mut stores = Vec::new();
        for _ in 0..HANDLES {
            let store = StateStore::over(env, bucket.clone(), WATCH_BUFFER_DEFAULT).await;
            stores.push(store.expect("it opens"));
        }
        stores
    }

    /// Each in a world of its own: in memory, or on a server of this version.
    fn played(number: u64, script: &Script, server: Option<Version>) -> Played {
        let mut simulation = Simulation::new(number, Latency::default());
        let world = simulation.world().clone();
        let mut config = ServerConfig::new("n1");
        config.version = server.unwrap_or(Version::REFERENCE);
        world.add_server(config);
        let host = world.add_host("h");
        let env = world.start_process(host, "p");
        simulation.run(async {
            let stores = match server {
                Some(_) => on_kv(&env).await,
                None => in_memory(&env).await,
            };
            let has_lives = server.is_none_or(|version| version.is_at_least(2, 11));
            play(&env, &stores, script, has_lives).await
        })
    }

    /// The same script, without any step that it fails without.
    fn shrunk(number: u64, mut script: Script, server: Option<Version>) -> Script {
        let fails = |script: &Script| !matches!(played(number, script, server), Played::Alike(_));
        let mut at = 0;
        while at < script.0.len() {
            let mut shorter = script.clone();
            shorter.0.remove(at);
            if fails(&shorter) {
                script = shorter;
            } else {
                at += 1;
            }
        }
        script
    }

    fn agrees(number: u64, script: &Script, server: Option<Version>) -> Vec<String> {
        match played(number, script, server) {
            Played::Alike(shown) => shown,
            _ => {
                let script = shrunk(number, script.clone(), server);
                let ended = played(number, &script, server);
                panic!("script {number} on {server:?}:\n{script}{ended:#?}")
            }
        }
    }

    #[test]
    fn memory_and_kv_show_what_the_model_says() {
        #[allow(
            clippy::disallowed_methods,
            reason = "how many scripts are played decides nothing about any of them"
        )]
        let wanted = std::env::var("PROPTEST_CASES");
        let scripts = wanted.ok().and_then(|number| number.parse().ok());
        for number in 0..scripts.unwrap_or(SCRIPTS) {
            let script = Script::draw(number);
            let version = VERSIONS[number as usize % VERSIONS.len()];
            let memory = agrees(number, &script, None);
            let kv = agrees(number, &script, Some(version));
            assert_eq!(memory, kv, "script {number}");
        }
    }

    #[test]
    fn a_difference_is_found() {
        let script = Script(vec![
            Step::Put {
                by: 0,
                key: "a",
                ttl: 1500,
                token: None,
            },
            Step::Pass { seconds: 2 },
            Step::Get { by: 0, key: "a" },
        ]);
        assert!(matches!(played(1, &script, None), Played::Alike(_)));
        let mut forever = script.clone();
        if let Step::Put { ttl, .. } = &mut forever.0[0] {
            *ttl = 0;
        }
        let shown = |script| match played(1, script, None) {
            Played::Alike(shown) => shown,
            other => panic!("{other:?}"),
        };
        assert_ne!(shown(&script), shown(&forever));
    }
}
