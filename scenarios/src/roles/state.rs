//! The role of those who keep state: put, get, delete and list values of a few keys, and watch what others do with them.
//!
//! From time to time a store is closed and opened anew. Some puts bear a token, which is older the longer ago the agent has
//! last written anything: those of slow agents are stale.

use std::sync::Arc;
use std::time::Duration;

use squall_core::state::{Config, Event, Gap, Operation, StateError, Ttl, WatchEnd};
use squall_core::transport::{Connection, Fallible, Revision};
use squall_core::{Clock, Env, Rng, Task};
use tokio::sync::mpsc;

use super::Alive;
use super::actor::{Actor, Order};
use crate::history::state::{Call, Reply, Tell};
use crate::history::{self, What, value_hash};
use crate::plan::StatePlan;
use crate::variant::state::Keeps;
use crate::variant::{ConnectionOf, state as variant};

/// What a slow reader may leave unread.
const BUFFER: usize = 8;
/// The watches of a store that was closed are waited for.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// What one process has been told last.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    open: bool,
    /// It watches, and nothing is missing.
    sees: bool,
    /// The newest revision that its watch has told.
    seen: Revision,
    /// The last two that it has written since everything was mended, the older first.
    written: [Revision; 2],
}

/// What is not yet as it should be among those who are alive: everybody writes again, and who watches has seen it.
pub(super) fn pending(alive: &[Alive<'_>]) -> Option<String> {
    for Alive {
        plan,
        process,
        standing,
    } in alive
    {
        let state = &standing.state;
        if !state.open {
            return Some(format!("{process} has no store"));
        }
        // The newest may be under way.
        let [written, _] = state.written;
        if written == Revision::NONE {
            return Some(format!("{process} has not written twice"));
        }
        if plan.watch && !state.sees {
            return Some(format!("{process} does not see the store"));
        }
        let blind = alive
            .iter()
            .find(|other| other.plan.watch && other.standing.state.seen < written);
        if let Some(Alive { process: blind, .. }) = blind {
            return Some(format!(
                "{blind} has not seen revision {written} of {process}"
            ));
        }
    }
    None
}

/// The key of this number: some are fenced.
fn key(number: u64, is_fenced: bool) -> Arc<str> {
    let kind = if is_fenced { "f" } else { "s" };
    format!("{kind}{number}").into()
}

#[derive(Clone)]
struct Keeper(Actor);

/// Lives until told to close.
pub(super) async fn live<E: Env>(actor: Actor, env: E, orders: mpsc::UnboundedReceiver<Order>) {
    Keeper(actor).live(env, orders).await;
}

impl Keeper {
    async fn live<E: Env>(self, env: E, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let connection = tokio::select! {
                biased;
                _order = orders.recv() => return,
                connection = self.0.connect(&env) => connection,
            };
            let over = self.0.over(connection.events());
            tokio::pin!(over);
            loop {
                // However the orders end, it is time to close.
                let store = tokio::select! {
                    biased;
                    _order = orders.recv() => return connection.close().await,
                    () = &mut over => break,
                    store = self.open(&env, &connection) => store,
                };
                self.note(|standing| standing.open = true);
                let (watch, ended) = self.watches(&env, &store);
                let next = tokio::select! {
                    biased;
                    _order = orders.recv() => Next::Close,
                    () = &mut over => Next::Reconnect,
                    () = self.work(&env, &*store) => Next::Reopen,
                };
                self.note(|standing| (standing.open, standing.sees) = (false, false));
                self.close(&env, &*store, ended).await;
                drop(watch);
                match next {
                    Next::Close => return connection.close().await,
                    Next::Reconnect => break,
                    Next::Reopen => {}
                }
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut Standing)) {
        self.0.note(|standing| change(&mut standing.state));
    }

    fn settings(&self) -> StatePlan {
        let plan = &self.0.plan;
        plan.state
            .unwrap_or_else(|| StatePlan::of_pace(plan.interval))
    }

    async fn open<E: Env>(&self, env: &E, connection: &ConnectionOf<E>) -> Arc<dyn Keeps> {
        let mut config = Config::default();
        if !self.settings().dwells.is_zero() {
            config.watch_buffer = BUFFER;
        }
        let specimen = self.0.specimen.as_deref();
        loop {
            let opening = variant::open(specimen, env, connection, &config);
            let call = history::Call::State(Call::Open);
            if let Some(store) = self.0.call(call, opening, |_| history::Reply::Done).await {
                return store;
            }
            self.0.wait(env).await;
        }
    }

    /// Closes a store, and waits for the watch to end.
    async fn close<E: Env>(
        &self,
        env: &E,
        store: &dyn Keeps,
        mut ended: mpsc::UnboundedReceiver<()>,
    ) {
        let Actor {
            recorder, process, ..
        } = &self.0;
        let id = recorder.invoke(process, history::Call::State(Call::Close));
        store.close();
        recorder.ended(id, Ok(history::Reply::Done));
        let deadline = env.clock().now() + ENDS_WITHIN;
        tokio::select! {
            biased;
            _ended = ended.recv() => {}
            () = env.clock().sleep_until(deadline) => {}
        }
    }

    /// Until the store is to be closed and opened anew.
    async fn work<E: Env>(&self, env: &E, store: &dyn Keeps) {
        let StatePlan { keys, life, .. } = self.settings();
        let mut rng = env.rng("work");
        let mut written = 0_u64;
        let mut token = 0;
        loop {
            let rest = some_part(&mut rng, self.0.plan.interval);
            env.clock().sleep_until(env.clock().now() + rest).await;
            let number = rng.below(u64::from(keys.max(1)));
            let is_fenced = rng.chance(1, 5);
            let key = key(number, is_fenced);
            match rng.below(40) {
                0..22 => {
                    written += 1;
                    let value = format!("{}: {written} of {}", self.0.process, rng.next_u64());
                    let life = match rng.below(4) {
                        _ if is_fenced => None,
                        0 | 1 => None,
                        2 => Some(life / 2),
                        _ => Some(life),
                    };
                    let token_borne = is_fenced.then_some(token);
                    let stored = self.put(store, key, value, life, token_borne).await;
                    if let Some(Revision(revision)) = stored {
                        // Agents of different pace, and with it of different tokens.
                        if rng.chance(1, 2) {
                            token = revision;
                        }
                    }
                }
                22..28 => {
                    let call = Call::Delete {
                        key: Arc::clone(&key),
                    };
                    let deleting = store.delete(&key);
                    self.call(call, deleting, |()| history::Reply::Done).await;
                }
                28..36 => self.get(store, key).await,
                36..39 => {
                    let listing = store.keys("*");
                    let reply = |keys: &Vec<String>| {
                        let keys = keys.iter().map(|key| key.as_str().into()).collect();
                        history::Reply::State(Reply::Keys { keys })
                    };
                    self.call(Call::Keys, listing, reply).await;
                }
                // In the second act it is to be seen what happens with the store that there is.
                _ if self.0.board.is_mended() => {}
                _ => return,
            }
        }
    }

    async fn put(
        &self,
        store: &dyn Keeps,
        key: Arc<str>,
        value: String,
        life: Option<Duration>,
        token: Option<u64>,
    ) -> Option<Revision> {
        let call = Call::Put {
            key: Arc::clone(&key),
            value: value_hash(value.as_bytes()),
            life,
            token,
        };
        let ttl = life.map_or(Ttl::NEVER, Ttl::from);
        let is_mended = self.0.board.is_mended();
        let putting = store.put(&key, value.into(), ttl, token);
        let reply = |revision: &Revision| {
            let revision = *revision;
            history::Reply::State(Reply::Put { revision })
        };
        let stored = self.call(call, putting, reply).await;
        if is_mended && let Some(revision) = stored {
            self.note(|standing| standing.written = [standing.written[1], revision]);
        }
        stored
    }

    async fn get(&self, store: &dyn Keeps, key: Arc<str>) {
        let call = Call::Get {
            key: Arc::clone(&key),
        };
        let getting = async {
            match store.get(&key).await {
                Ok(entry) => Ok(Some(entry)),
                Err(StateError::NotFound) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.call(call, getting, |found| {
            history::Reply::State(match found {
                Some(entry) => Reply::Value {
                    revision: entry.revision,
                    value: value_hash(&entry.value),
                },
                None => Reply::Absent,
            })
        })
        .await;
    }

    /// A call that may be refused because it comes too late, and tells that apart.
    async fn call<T>(
        &self,
        call: Call,
        doing: impl Future<Output = Result<T, StateError>> + Send,
        reply: impl FnOnce(&T) -> history::Reply,
    ) -> Option<T> {
        let Actor {
            recorder, process, ..
        } = &self.0;
        let id = recorder.invoke(process, history::Call::State(call));
        let result = doing.await;
        match &result {
            Ok(value) => recorder.ended(id, Ok(reply(value))),
            Err(error @ StateError::StaleToken { .. }) => recorder.record(What::Refused {
                id,
                error: error.to_string(),
                conflict: true,
            }),
            Err(error) => recorder.ended(id, Err((error.outcome(), error.to_string()))),
        }
        result.ok()
    }

    /// Watches in the background, where it should. The other end hears when that is over.
    fn watches<E: Env>(
        &self,
        env: &E,
        store: &Arc<dyn Keeps>,
    ) -> (Option<Task>, mpsc::UnboundedReceiver<()>) {
        let (over, ended) = mpsc::unbounded_channel();
        let watching = self.0.plan.watch.then(|| {
            let watch = self.clone().watch(env.clone(), Arc::clone(store), over);
            env.spawn("watch", watch)
        });
        (watching, ended)
    }

    async fn watch<E: Env>(self, env: E, store: Arc<dyn Keeps>, _over: mpsc::UnboundedSender<()>) {
        let dwells = self.settings().dwells;
        loop {
            let watching = store.watch("*");
            let reply = |_: &_| history::Reply::Done;
            let Some(mut watch) = self.call(Call::Watch, watching, reply).await else {
                if !self.0.standing().state.open {
                    return;
                }
                self.0.wait(&env).await;
                continue;
            };
            self.note(|standing| standing.sees = true);
            let end = loop {
                match watch.next().await {
                    Ok(event) => self.hears(&event),
                    Err(end) => break end,
                }
                // What is left to tell when the store is closed is not dwelt upon.
                let is_open = self.0.standing().state.open;
                if !dwells.is_zero() && is_open && !self.0.board.is_mended() {
                    env.clock().sleep_until(env.clock().now() + dwells).await;
                }
            };
            self.note(|standing| standing.sees = false);
            match end {
                WatchEnd::WatchClosed => return self.tell(Tell::Ended),
                WatchEnd::Failed(error) => self.tell(Tell::Failed {
                    reason: error.to_string(),
                }),
            }
            self.0.wait(&env).await;
        }
    }

    fn tell(&self, tell: Tell) {
        self.0.tell(history::Tell::State(tell));
    }

    fn hears(&self, event: &Event) {
        let (tell, seen) = match event {
            Event::Changed(entry) => {
                let (key, revision) = (entry.key.as_str().into(), entry.revision);
                let tell = match entry.operation {
                    Operation::Put => Tell::Put {
                        key,
                        revision,
                        value: value_hash(&entry.value),
                    },
                    Operation::Delete => Tell::Deleted { key, revision },
                };
                (tell, revision)
            }
            Event::Expired { key, revision } => {
                let key = key.as_str().into();
                let revision = *revision;
                (Tell::Expired { key, revision }, revision)
            }
            Event::Gap(Gap::Restarted) => {
                self.note(|standing| standing.seen = Revision::NONE);
                (Tell::Restarted, Revision::NONE)
            }
            Event::Gap(gap) => {
                self.note(|standing| standing.sees = false);
                let reason = gap.to_string();
                (Tell::Gap { reason }, Revision::NONE)
            }
            Event::CaughtUp => {
                self.note(|standing| standing.sees = true);
                (Tell::CaughtUp, Revision::NONE)
            }
        };
        self.note(|standing| standing.seen = standing.seen.max(seen));
        self.tell(tell);
    }
}

enum Next {
    Close,
    Reconnect,
    Reopen,
}

/// Between a half and three halves of it.
fn some_part(rng: &mut Rng, of: Duration) -> Duration {
    let millis = u64::try_from(of.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(rng.between(millis / 2, millis / 2 * 3))
}
