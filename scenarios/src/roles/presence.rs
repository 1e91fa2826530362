//! The role of presence: connect, open, watch, read now and then, close; and tell the history.
//!
//! It behaves as a program under a supervisor would: what fails is tried again, what ends is opened anew.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use squall_core::presence::{self, Config, Entry, Event, Notice};
use squall_core::transport::{ConnectOptions, Connection, Events, Transport};
use squall_core::{Clock, Env};
use tokio::sync::mpsc;

use super::Alive;
use super::actor::{Actor, Order};
use crate::history::{Agent, Call, Reply, Tell};
use crate::parse::{BUCKET, PROJECT};
use crate::specimens;
use crate::variant::{self, Present};

/// What failed is tried again after so long.
const RETRY: Duration = Duration::from_millis(500);

/// What one process has been told last.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    open: bool,
    evicted: bool,
    watching: bool,
    blind: bool,
    view: BTreeSet<Arc<str>>,
}

/// What is not yet as it should be among those who are alive.
pub(super) fn pending(alive: &[Alive<'_>]) -> Option<String> {
    let expected: BTreeSet<&str> = alive.iter().map(|agent| agent.plan.name.as_str()).collect();
    for Alive {
        plan,
        process,
        standing,
    } in alive
    {
        let standing = &standing.presence;
        if !standing.open {
            return Some(format!("{process} has not opened its presence"));
        }
        if standing.evicted {
            return Some(format!("{process} is still evicted"));
        }
        if !plan.watch {
            continue;
        }
        if !standing.watching {
            return Some(format!("{process} has no watch"));
        }
        if standing.blind {
            return Some(format!("{process} is still blind"));
        }
        let view: BTreeSet<&str> = standing.view.iter().map(|agent| &**agent).collect();
        if let Some(missing) = expected.difference(&view).next() {
            return Some(format!("{process} does not see {missing}, who is there"));
        }
        if let Some(ghost) = view.difference(&expected).next() {
            return Some(format!("{process} sees {ghost}, who is not there"));
        }
    }
    None
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

#[derive(Clone)]
struct Participant(Actor);

/// Lives until told to close.
pub(super) async fn live<E: Env>(actor: Actor, env: E, orders: mpsc::UnboundedReceiver<Order>) {
    Participant(actor).live(env, orders).await;
}

impl Participant {
    async fn live<E: Env>(self, env: E, mut orders: mpsc::UnboundedReceiver<Order>) {
        let opened = tokio::select! {
            biased;
            _order = orders.recv() => None,
            opened = self.open(&env) => Some(opened),
        };
        if let Some((connection, presence)) = opened {
            let notices = presence.notices();
            self.note(|standing| standing.open = true);
            let mut tasks = vec![env.spawn("notices", self.clone().hear(notices))];
            let events = connection.events();
            tasks.push(env.spawn("connection", self.clone().attend(events)));
            if self.0.plan.watch {
                let watching = self.clone().watch(env.clone(), Arc::clone(&presence));
                tasks.push(env.spawn("watch", watching));
            }
            if let Some(every) = self.0.plan.who_every {
                let reading = self.clone().read(env.clone(), Arc::clone(&presence), every);
                tasks.push(env.spawn("read", reading));
            }
            // However the orders end, it is time to close.
            let _order = orders.recv().await;
            let Actor {
                recorder, process, ..
            } = &self.0;
            let agent = self.0.name();
            let id = recorder.invoke(process, Call::Close { agent });
            presence.close().await;
            recorder.ended(id, Ok(Reply::Done));
            drop(tasks);
            connection.close().await;
        }
    }

    fn note(&self, change: impl FnOnce(&mut Standing)) {
        self.0.note(|standing| change(&mut standing.presence));
    }

    async fn open<E: Env>(
        &self,
        env: &E,
    ) -> (<E::Transport as Transport>::Connection, SharedPresence) {
        let interval = self.0.plan.interval;
        let config = Config::new(self.0.plan.name.as_str(), PROJECT, BUCKET, interval);
        let scaled = (interval * 2).max(Duration::from_millis(500));
        let options = ConnectOptions {
            name: self.0.process.to_string(),
            servers: self.0.servers.clone(),
            // Links must be found dead on the scale of the heartbeats, not of the minutes that are the default.
            ping_interval: scaled.min(ConnectOptions::default().ping_interval),
            watch_heartbeat: scaled.min(ConnectOptions::default().watch_heartbeat),
            reconnects_max: self.0.plan.reconnects_max.and_then(NonZeroU32::new),
            ..ConnectOptions::default()
        };
        let options = match &self.0.specimen {
            Some(specimen) => specimens::options(specimen, options),
            None => options,
        };
        loop {
            if let Ok(connection) = env.transport().connect(options.clone()).await {
                let call = Call::Open {
                    agent: self.0.name(),
                    key: presence::key(PROJECT, &self.0.plan.name).into(),
                    interval,
                };
                let specimen = self.0.specimen.as_deref();
                let opening = variant::open(specimen, env, &connection, config.clone());
                if let Some(presence) = self.0.call(call, opening, |_| Reply::Done).await {
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
            self.note(|standing| standing.evicted = evicted);
            self.0.tell(match notice {
                Notice::Evicted(reason) => Tell::Evicted {
                    reason: format!("{reason:?}"),
                },
                Notice::Restored => Tell::Restored,
            });
        }
    }

    async fn attend(self, mut events: Events) {
        while let Some(event) = events.next().await {
            self.0.tell(Tell::Connection {
                event: event.to_string(),
            });
        }
    }

    async fn watch<E: Env>(self, env: E, presence: SharedPresence) {
        loop {
            let reply = |(present, _): &variant::Watching| Reply::Watching {
                present: all_seen(present),
            };
            if let Some((present, events)) = self.0.call(Call::Watch, presence.watch(), reply).await
            {
                self.note(|standing| {
                    standing.view = all_seen(&present)
                        .into_iter()
                        .map(|agent| agent.agent)
                        .collect();
                    (standing.watching, standing.blind) = (true, false);
                });
                self.follow(events).await;
                self.note(|standing| standing.watching = false);
                self.0.tell(Tell::WatchEnded);
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
            self.note(|standing| match &tell {
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
            self.0.tell(tell);
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
            if let Some(present) = self.0.call(Call::Who, presence.who(), reply).await {
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
                self.0.call(call, presence.present(&agent), reply).await;
            }
        }
    }
}
