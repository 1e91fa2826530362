//! What one agent of a presence scenario does: connect, open, watch, read now and then, close; and tell the history.
//!
//! It behaves as a program under a supervisor would: what fails is tried again, what ends is opened anew.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use squall_core::presence::{self, Config, Entry, Event, Notice};
use squall_core::transport::{ConnectOptions, Connection, Events, Fallible, Transport};
use squall_core::{Clock, Env};
use tokio::sync::mpsc;

use crate::history::{Agent, Call, Recorder, Reply, Tell, What};
use crate::parse::{BUCKET, PROJECT};
use crate::plan::AgentPlan;
use crate::recorded::RecordedEnv;
use crate::specimens;
use crate::variant::{self, Present};

/// What failed is tried again after so long.
const RETRY: Duration = Duration::from_millis(500);

/// What the runner tells an agent.
#[derive(Debug)]
pub(crate) enum Order {
    /// Close, and end.
    Close,
}

/// What every process has been told last: what the second act compares with what is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<Arc<str>, Standing>>>);

/// What one process has been told last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) open: bool,
    pub(crate) evicted: bool,
    pub(crate) watching: bool,
    pub(crate) blind: bool,
    pub(crate) view: BTreeSet<Arc<str>>,
    pub(crate) ended: bool,
}

impl Board {
    pub(crate) fn all(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, process: &Arc<str>, change: impl FnOnce(&mut Standing)) {
        change(self.all().entry(process.clone()).or_default());
    }
}

/// One life of an agent.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) plan: AgentPlan,
    pub(crate) process: Arc<str>,
    pub(crate) servers: Vec<String>,
    pub(crate) specimen: Option<String>,
    pub(crate) recorder: Recorder,
    pub(crate) board: Board,
}

fn seen(entry: &Entry) -> Agent {
    Agent {
        agent: entry.agent_id.as_str().into(),
        incarnation: entry.incarnation().0.into(),
    }
}

fn all_seen(entries: &[Entry]) -> Vec<Agent> {
    entries.iter().map(seen).collect()
}

type SharedPresence = Arc<dyn Present>;

impl Actor {
    /// Lives until told to close.
    pub(crate) async fn live<E: Env>(self, env: E, mut orders: mpsc::UnboundedReceiver<Order>) {
        let env = RecordedEnv::new(env, self.process.clone(), self.recorder.clone());
        let opened = tokio::select! {
            biased;
            _order = orders.recv() => None,
            opened = self.open(&env) => Some(opened),
        };
        if let Some((connection, presence)) = opened {
            let notices = presence.notices();
            self.board
                .note(&self.process, |standing| standing.open = true);
            let mut tasks = vec![env.spawn("notices", self.clone().hear(notices))];
            let events = connection.events();
            tasks.push(env.spawn("connection", self.clone().attend(events)));
            if self.plan.watch {
                let watching = self.clone().watch(env.clone(), Arc::clone(&presence));
                tasks.push(env.spawn("watch", watching));
            }
            if let Some(every) = self.plan.who_every {
                let reading = self.clone().read(env.clone(), Arc::clone(&presence), every);
                tasks.push(env.spawn("read", reading));
            }
            // However the orders end, it is time to close.
            let _order = orders.recv().await;
            let call = Call::Close { agent: self.name() };
            let id = self.recorder.invoke(&self.process, call);
            presence.close().await;
            self.recorder.ended(id, Ok(Reply::Done));
            drop(tasks);
            connection.close().await;
        }
        self.board
            .note(&self.process, |standing| standing.ended = true);
    }

    fn name(&self) -> Arc<str> {
        self.plan.name.as_str().into()
    }

    fn tell(&self, tell: Tell) {
        self.recorder.record(What::Told {
            process: self.process.clone(),
            tell,
        });
    }

    async fn call<T, E: Fallible + ToString>(
        &self,
        call: Call,
        doing: impl Future<Output = Result<T, E>> + Send,
        reply: impl FnOnce(&T) -> Reply,
    ) -> Option<T> {
        let id = self.recorder.invoke(&self.process, call);
        let result = doing.await;
        let ended = match &result {
            Ok(value) => Ok(reply(value)),
            Err(error) => Err((error.outcome(), error.to_string())),
        };
        self.recorder.ended(id, ended);
        result.ok()
    }

    async fn open<E: Env>(
        &self,
        env: &E,
    ) -> (<E::Transport as Transport>::Connection, SharedPresence) {
        let interval = self.plan.interval;
        let config = Config::new(self.plan.name.as_str(), PROJECT, BUCKET, interval);
        let scaled = (interval * 2).max(Duration::from_millis(500));
        let options = ConnectOptions {
            name: self.process.to_string(),
            servers: self.servers.clone(),
            // Links must be found dead on the scale of the heartbeats, not of the minutes that are the default.
            ping_interval: scaled.min(ConnectOptions::default().ping_interval),
            watch_heartbeat: scaled.min(ConnectOptions::default().watch_heartbeat),
            reconnects_max: self.plan.reconnects_max.and_then(NonZeroU32::new),
            ..ConnectOptions::default()
        };
        let options = match &self.specimen {
            Some(specimen) => specimens::options(specimen, options),
            None => options,
        };
        loop {
            if let Ok(connection) = env.transport().connect(options.clone()).await {
                let call = Call::Open {
                    agent: self.name(),
                    key: presence::key(PROJECT, &self.plan.name).into(),
                    interval,
                };
                let specimen = self.specimen.as_deref();
                let opening = variant::open(specimen, env, &connection, config.clone());
                if let Some(presence) = self.call(call, opening, |_| Reply::Done).await {
                    return (connection, presence.into());
                }
                connection.close().await;
            }
            env.clock().sleep_until(env.clock().now() + RETRY).await;
        }
    }

    async fn hear(self, mut notices: BoxStream<'static, Notice>) {
        while let Some(notice) = notices.next().await {
            let evicted = matches!(notice, Notice::Evicted(_));
            self.board
                .note(&self.process, |standing| standing.evicted = evicted);
            self.tell(match notice {
                Notice::Evicted(reason) => Tell::Evicted {
                    reason: format!("{reason:?}"),
                },
                Notice::Restored => Tell::Restored,
            });
        }
    }

    async fn attend(self, mut events: Events) {
        while let Some(event) = events.next().await {
            self.tell(Tell::Connection {
                event: event.to_string(),
            });
        }
    }

    async fn watch<E: Env>(self, env: E, presence: SharedPresence) {
        loop {
            let reply = |(present, _): &variant::Watching| Reply::Watching {
                present: all_seen(present),
            };
            if let Some((present, events)) = self.call(Call::Watch, presence.watch(), reply).await {
                self.board.note(&self.process, |standing| {
                    standing.view = all_seen(&present)
                        .into_iter()
                        .map(|agent| agent.agent)
                        .collect();
                    (standing.watching, standing.blind) = (true, false);
                });
                self.follow(events).await;
                self.board
                    .note(&self.process, |standing| standing.watching = false);
                self.tell(Tell::WatchEnded);
            }
            env.clock().sleep_until(env.clock().now() + RETRY).await;
        }
    }

    async fn follow(&self, mut events: BoxStream<'static, Event>) {
        while let Some(event) = events.next().await {
            let tell = match event {
                Event::Up(entry) => Tell::Up(seen(&entry)),
                Event::Down { entry, reason } => Tell::Down {
                    agent: seen(&entry),
                    reason: format!("{reason:?}"),
                },
                Event::Blind(reason) => Tell::Blind {
                    reason: format!("{reason:?}"),
                },
                Event::Seeing => Tell::Seeing,
                Event::Lagged { missed, present } => Tell::Lagged {
                    missed,
                    present: all_seen(&present),
                },
            };
            self.board.note(&self.process, |standing| match &tell {
                Tell::Up(agent) => {
                    standing.view.insert(agent.agent.clone());
                }
                Tell::Down { agent, .. } => {
                    standing.view.remove(&agent.agent);
                }
                Tell::Blind { .. } => standing.blind = true,
                Tell::Seeing => standing.blind = false,
                Tell::Lagged { present, .. } => {
                    standing.view = present.iter().map(|agent| agent.agent.clone()).collect();
                }
                _ => {}
            });
            self.tell(tell);
        }
    }

    async fn read<E: Env>(self, env: E, presence: SharedPresence, every: Duration) {
        let mut at = env.clock().now();
        let mut known: Vec<Arc<str>> = Vec::new();
        let mut rng = env.rng("reads");
        loop {
            at += every;
            env.clock().sleep_until(at).await;
            at = at.max(env.clock().now());
            let reply = |present: &Vec<Entry>| Reply::Who {
                present: all_seen(present),
            };
            if let Some(present) = self.call(Call::Who, presence.who(), reply).await {
                known = all_seen(&present)
                    .into_iter()
                    .map(|agent| agent.agent)
                    .collect();
            }
            if let Some(agent) = rng.pick(&known).cloned() {
                let call = Call::Present {
                    agent: agent.clone(),
                };
                let reply = |present: &bool| Reply::Present { present: *present };
                self.call(call, presence.present(&agent), reply).await;
            }
        }
    }
}
