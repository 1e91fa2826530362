//! The role of presence: connect, open, watch, read now and then, close; and tell the history.
//!
//! It behaves as a program under a supervisor would: what fails is tried again, what ends is opened anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use squall_core::presence::{self, Config, Entry, Event, Notice};
use squall_core::transport::{Connection, Transport};
use squall_core::{Clock, Env};
use tokio::sync::mpsc;

use super::Alive;
use super::actor::{Actor, Order};
use crate::history::{Agent, Call, Reply, Tell};
use crate::parse::{BUCKET, PROJECT};
use crate::specimens;
use crate::variant::{self, Present};

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
        loop {
            let (connection, presence) = tokio::select! {
                biased;
                _order = orders.recv() => return,
                opened = self.open(&env) => opened,
            };
            let notices = presence.notices();
            self.note(|standing| (standing.open, standing.evicted) = (true, false));
            let mut tasks = vec![env.spawn("notices", self.clone().hear(notices))];
            let over = self.0.over(connection.events());
            let events = connection.events();
            tasks.push(env.spawn("connection", self.0.clone().attend(events)));
            if self.0.plan.watch {
                let watching = self.clone().watch(env.clone(), Arc::clone(&presence));
                tasks.push(env.spawn("watch", watching));
            }
            if let Some(every) = self.0.plan.who_every {
                let reading = self.clone().read(env.clone(), Arc::clone(&presence), every);
                tasks.push(env.spawn("read", reading));
            }
            // However the orders end, it is time to close.
            let is_told = tokio::select! {
                biased;
                _order = orders.recv() => true,
                () = over => false,
            };
            let Actor {
                recorder, process, ..
            } = &self.0;
            let agent = self.0.name();
            let id = recorder.invoke(process, Call::Close { agent });
            presence.close().await;
            recorder.ended(id, Ok(Reply::Done));
            drop(tasks);
            if is_told {
                return connection.close().await;
            }
            self.note(|standing| *standing = Standing::default());
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
        let options = self.0.options();
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
                // A session's is everybody's who lives on it.
                if self.0.exchange.is_none() {
                    connection.close().await;
                }
            }
            self.0.wait(env).await;
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
            self.0.wait(&env).await;
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
