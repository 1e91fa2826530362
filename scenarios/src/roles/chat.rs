//! The role of chat: join, talk in a thread, watch all of the project and, for a while at a time, one's thread; read which
//! threads there are, ask others and answer them, leave; and tell the history.
//!
//! It behaves as a program under a supervisor would: what fails is tried again, what ends is opened anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use squall_core::chat::{self, End, Event, Gap, ScanError, Sent, Thread, ThreadSummary};
use squall_core::transport::{Connection, JetStream, Stream as _};
use squall_core::{Clock, Env};
use tokio::sync::mpsc;

use super::Alive;
use super::actor::{Actor, Order};
use crate::history::{Call, Reply, Tell, chat as said};
use crate::parse::PROJECT;
use crate::plan::ChatPlan;
use crate::variant::ConnectionOf;
use crate::variant::talk::{self, Talk, Told};

/// Whoever is asked may take so long.
const ASK_DEADLINE: Duration = Duration::from_secs(2);
/// How many of its intervals an agent watches its thread at a time.
const SPELL: u32 = 6;
/// So long after a close its watches have been told.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(200);

/// What one process has been told last.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    open: bool,
    /// It watches all, and is not interrupted.
    watching: bool,
    /// The number of the last message that it said, and that was stored.
    stored: u64,
    /// The highest number that it has heard of each process.
    heard: BTreeMap<String, u64>,
}

/// What is not yet as it should be among those who are alive: everybody hears what everybody has just said, but for what
/// may be under way.
pub(super) fn pending(alive: &[Alive<'_>]) -> Option<String> {
    for Alive {
        plan,
        process,
        standing,
    } in alive
    {
        let chat = &standing.chat;
        if !chat.open {
            return Some(format!("{process} has not opened its chat"));
        }
        if plan.watch && !chat.watching {
            return Some(format!("{process} does not watch"));
        }
        // Who reads slowly has heard what it has heard.
        let is_slow = plan
            .chat
            .as_ref()
            .is_some_and(|chat| !chat.dwells.is_zero());
        for other in alive.iter().filter(|_| plan.watch && !is_slow) {
            let heard = chat
                .heard
                .get(&**other.process)
                .copied()
                .unwrap_or_default();
            let stored = other.standing.chat.stored;
            let of = other.process;
            if stored == 0 {
                return Some(format!("{of} has said nothing yet"));
            }
            if heard + 1 < stored {
                return Some(format!(
                    "{process} has heard number {heard} of {of}, which has said number {stored}"
                ));
            }
        }
    }
    None
}

#[derive(Clone)]
struct Talker {
    actor: Actor,
    plan: ChatPlan,
    /// Watches begun so far.
    watches: Arc<AtomicU32>,
}

/// Lives until told to close.
pub(super) async fn live<E: Env>(actor: Actor, env: E, orders: mpsc::UnboundedReceiver<Order>) {
    let plan = actor.plan.chat.clone().unwrap_or_default();
    let watches = Arc::default();
    Talker {
        actor,
        plan,
        watches,
    }
    .live(env, orders)
    .await;
}

type Shared = Arc<dyn Talk>;

impl Talker {
    async fn live<E: Env>(self, env: E, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let (connection, chat) = tokio::select! {
                biased;
                _order = orders.recv() => return,
                opened = self.open(&env) => opened,
            };
            self.note(|standing| standing.open = true);
            let over = self.actor.over(connection.events());
            let mut tasks = vec![
                env.spawn("talk", self.clone().talk(env.clone(), Arc::clone(&chat))),
                env.spawn("ask", self.clone().ask(env.clone(), Arc::clone(&chat))),
            ];
            if let Some(every) = self.actor.plan.who_every {
                let scanning = self.clone().scan(env.clone(), Arc::clone(&chat), every);
                tasks.push(env.spawn("scan", scanning));
            }
            let events = connection.events();
            let mut watches = vec![env.spawn("attend", self.actor.clone().attend(events))];
            if self.actor.plan.watch {
                let all = self.clone().watch_all(env.clone(), Arc::clone(&chat));
                let one = self.clone().watch_thread(env.clone(), Arc::clone(&chat));
                watches.extend([env.spawn("watch", all), env.spawn("watch", one)]);
            }
            // However the orders end, it is time to close.
            let is_told = tokio::select! {
                biased;
                _order = orders.recv() => true,
                () = over => false,
            };
            if is_told {
                self.count_consumers::<E>(&env, &connection).await;
            }
            // Who leaves has nothing more to ask for, and hears its watches end.
            drop(tasks);
            self.note(|standing| (standing.open, standing.watching) = (false, false));
            let Actor {
                recorder, process, ..
            } = &self.actor;
            let id = recorder.invoke(process, Call::Chat(said::Call::Close));
            chat.close().await;
            recorder.ended(id, Ok(Reply::Done));
            env.clock()
                .sleep_until(env.clock().now() + LAST_WORDS)
                .await;
            drop(watches);
            if is_told {
                return connection.close().await;
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut Standing)) {
        self.actor.note(|standing| change(&mut standing.chat));
    }

    async fn open<E: Env>(&self, env: &E) -> (ConnectionOf<E>, Shared) {
        let config = self.plan.config(&self.actor.plan.name);
        let config = chat::Config {
            replicas: self.actor.replicas,
            ..config
        };
        loop {
            let connection = self.actor.connect(env).await;
            let call = Call::Chat(said::Call::Open {
                agent: self.actor.name(),
                retention: self.plan.retention,
            });
            let specimen = self.actor.specimen.as_deref();
            let opening = talk::open(specimen, env, &connection, config.clone());
            if let Some(chat) = self.actor.call(call, opening, |_| Reply::Done).await {
                return (connection, chat.into());
            }
            // A session's is everybody's who lives on it.
            if self.actor.exchange.is_none() {
                connection.close().await;
            }
            self.actor.wait(env).await;
        }
    }

    /// Its thread; where another has its id, a thread of its own.
    async fn thread<E: Env>(&self, env: &E, chat: &Shared) -> Thread {
        let mut name = self.plan.thread.clone();
        loop {
            let call = Call::Chat(said::Call::Thread {
                name: name.as_str().into(),
            });
            let mut collides = false;
            let opening = async {
                let opened = chat.thread(&name).await;
                collides = matches!(opened, Err(chat::ThreadError::Collides { .. }));
                opened
            };
            if let Some(thread) = self.actor.call(call, opening, |_| Reply::Done).await {
                return thread;
            }
            if collides {
                name = format!("{} of {}", self.plan.thread, self.actor.plan.name);
            } else {
                self.actor.wait(env).await;
            }
        }
    }

    async fn talk<E: Env>(self, env: E, chat: Shared) {
        let thread = self.thread(&env, &chat).await;
        let mut at = env.clock().now();
        let mut number = self.actor.standing().chat.stored;
        loop {
            at += self.actor.plan.interval;
            env.clock().sleep_until(at).await;
            at = at.max(env.clock().now());
            number += 1;
            let body = format!("{} {number}", self.actor.process);
            let call = Call::Chat(said::Call::Send {
                thread: thread.name().into(),
                body: body.as_str().into(),
            });
            let reply = |sent: &Sent| {
                Reply::Chat(said::Reply::Sent {
                    id: sent.id.as_str().into(),
                    sequence: sent.sequence,
                })
            };
            let sending = chat.send(&thread, &body);
            if self.actor.call(call, sending, reply).await.is_some() {
                self.note(|standing| standing.stored = number);
            }
        }
    }

    async fn ask<E: Env>(self, env: E, chat: Shared) {
        let own = chat::ask_subject(PROJECT, &self.actor.plan.name);
        let _responder = loop {
            if let Ok(responder) = chat.echo(&own).await {
                break responder;
            }
            self.actor.wait(&env).await;
        };
        let mut rng = env.rng("asks");
        let mut at = env.clock().now();
        loop {
            at += self.actor.plan.interval * 3;
            env.clock().sleep_until(at).await;
            at = at.max(env.clock().now());
            let heard = self.actor.standing().chat.heard;
            let names: Vec<&str> = heard
                .keys()
                .filter_map(|name| name.split('/').next())
                .collect();
            if let Some(agent) = rng.pick(&names) {
                let call = Call::Chat(said::Call::Ask {
                    agent: (*agent).into(),
                });
                let subject = chat::ask_subject(PROJECT, agent);
                let asking = chat.ask(&subject, ASK_DEADLINE);
                self.actor.call(call, asking, |_| Reply::Done).await;
            }
        }
    }

    async fn watch_all<E: Env>(self, env: E, chat: Shared) {
        loop {
            if let Some((watch, told)) = self.watch(&chat, None).await {
                self.note(|standing| standing.watching = true);
                let is_closed = self.hear(&env, watch, told, true).await;
                self.note(|standing| standing.watching = false);
                if is_closed {
                    return;
                }
            }
            self.actor.wait(&env).await;
        }
    }

    /// Watches its thread for a while, gives the watch up, and begins anew.
    async fn watch_thread<E: Env>(self, env: E, chat: Shared) {
        let thread = self.thread(&env, &chat).await;
        loop {
            if let Some((watch, told)) = self.watch(&chat, Some(&thread)).await {
                let spell = env.clock().now() + self.actor.plan.interval * SPELL;
                tokio::select! {
                    biased;
                    is_closed = self.hear(&env, watch, told, false) => if is_closed {
                        return;
                    },
                    () = env.clock().sleep_until(spell) => {
                        self.tell(watch, said::Told::Cancelled);
                    }
                }
            }
            self.actor.wait(&env).await;
        }
    }

    async fn watch(&self, chat: &Shared, thread: Option<&Thread>) -> Option<(u32, Told)> {
        if !self.actor.standing().chat.open {
            return None;
        }
        let watch = self.watches.fetch_add(1, Ordering::Relaxed) + 1;
        let subject = thread.map(|thread| chat::subject(PROJECT, thread.id()).into());
        let call = Call::Chat(said::Call::Watch { watch, subject });
        let watching = chat.watch(thread);
        let told = self.actor.call(call, watching, |_| Reply::Done).await?;
        Some((watch, told))
    }

    fn tell(&self, watch: u32, told: said::Told) {
        self.actor.tell(Tell::Chat(said::Tell { watch, told }));
    }

    /// Until it ends; `true` if that is because the chat is closed.
    async fn hear<E: Env>(&self, env: &E, watch: u32, mut events: Told, is_all: bool) -> bool {
        let mut is_closed = false;
        while let Some(event) = events.next().await {
            let is_over = event.is_err();
            is_closed |= event == Err(End::Closed);
            let told = told(event);
            if is_all {
                self.note(|standing| match &told {
                    said::Told::Got { body, .. } => standing.hear(body),
                    said::Told::Interrupted { .. } => standing.watching = false,
                    said::Told::Resumed => standing.watching = true,
                    _ => {}
                });
            }
            self.tell(watch, told);
            if is_all && !is_over {
                env.clock()
                    .sleep_until(env.clock().now() + self.plan.dwells)
                    .await;
            }
        }
        is_closed
    }

    async fn scan<E: Env>(self, env: E, chat: Shared, every: Duration) {
        let mut at = env.clock().now();
        let mut of_oneself = false;
        loop {
            at += every;
            env.clock().sleep_until(at).await;
            at = at.max(env.clock().now());
            let agent = of_oneself.then_some(self.actor.plan.name.as_str());
            of_oneself = !of_oneself;
            let call = Call::Chat(said::Call::Scan {
                agent: agent.map(Into::into),
            });
            let scanning = chat.threads(agent);
            self.actor
                .call(call, scanning, |found| threads(found))
                .await;
        }
    }

    async fn count_consumers<E: Env>(&self, env: &E, connection: &ConnectionOf<E>) {
        let counting = async {
            let stream = connection
                .stream(&chat::stream(PROJECT))
                .map_err(|_name| ScanError::ConnectionLost)?;
            // It is time to leave: who does not answer soon need not.
            tokio::select! {
                biased;
                info = stream.info() => Ok::<_, ScanError>(info?.consumers),
                () = env.clock().sleep_until(env.clock().now() + Duration::from_secs(1)) => {
                    Err(ScanError::TimedOut)
                }
            }
        };
        let reply = |count: &u64| Reply::Chat(said::Reply::Consumers { count: *count });
        let call = Call::Chat(said::Call::Consumers);
        self.actor.call(call, counting, reply).await;
    }
}

impl Standing {
    fn hear(&mut self, body: &str) {
        if let Some((process, number)) = body.split_once(' ') {
            let number: u64 = number.parse().unwrap_or_default();
            let heard = self.heard.entry(process.to_owned()).or_default();
            *heard = number.max(*heard);
        }
    }
}

fn threads(found: &[ThreadSummary]) -> Reply {
    let one = |thread: &ThreadSummary| {
        let name = thread.name.as_deref().unwrap_or(thread.thread.as_str());
        (name.into(), thread.message_count)
    };
    let threads = found.iter().map(one).collect();
    Reply::Chat(said::Reply::Threads { threads })
}

/// What a watch tells, as histories hold it.
fn told(event: Result<Event, End>) -> said::Told {
    match event {
        Ok(Event::Message(received)) => said::Told::Got {
            id: received.envelope.id.into(),
            sequence: received.sequence,
            body: received.envelope.body.into(),
        },
        Ok(Event::Unreadable { sequence, .. }) => said::Told::Else {
            sequence,
            thread: None,
        },
        Ok(Event::OtherThread { name, sequence }) => said::Told::Else {
            sequence,
            thread: Some(name.into()),
        },
        Ok(Event::Interrupted(cause)) => said::Told::Interrupted {
            reason: cause.to_string(),
        },
        Ok(Event::Resumed) => said::Told::Resumed,
        Ok(Event::Gap(gap)) => match gap {
            Gap::Expired { first, last } => said::Told::Expired { first, last },
            Gap::Slow {
                missed,
                first,
                last,
            } => said::Told::Slow {
                missed,
                first,
                last,
            },
            Gap::TailLost { last } => said::Told::TailLost { last },
            Gap::Recreated => said::Told::Recreated,
        },
        Err(end) => said::Told::Ended {
            closed: end == End::Closed,
        },
    }
}
