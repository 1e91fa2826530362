//! The handle's other side: what a chat holds, and how its calls are done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::ask::{self, Handler, Responder};
use super::attach::attach;
use super::config::{Config, Settings};
use super::envelope::{self, NAME_LEN_MAX, Thread, ThreadId, name_of, subject};
use super::follower::Wanted;
use super::places::{NoPlace, Places};
use super::scan::{ThreadSummary, scan};
use super::send::{Draft, Ids, Sender, Sent, Unconfirmed};
use super::watch::{self, Watch};
use super::{
    Api, AskError, OpenError, RespondError, ScanError, SendError, SubscribeError, ThreadError,
};
use crate::env::Env;
use crate::time::Clock;
use crate::transport::{Message, ReadStreamError, Stream, Transport};

pub(super) type ConnectionOf<E> = <<E as Env>::Transport as Transport>::Connection;

/// Names of threads that are remembered; then they are looked up anew.
const KNOWN_MAX: usize = 4096;

/// What a chat holds. Dropping it ends its watches and responders.
pub(super) struct Inner<E: Env> {
    sender: Sender<E>,
    project: Arc<str>,
    watches: Places,
    responders: Places,
    /// Which name an id stands for, as far as it has been looked up.
    known: Mutex<BTreeMap<ThreadId, Arc<str>>>,
}

impl<E: Env> Inner<E> {
    pub(super) async fn open(
        env: &E,
        connection: &ConnectionOf<E>,
        config: Config,
    ) -> Result<Self, OpenError> {
        let settings = Settings::try_from(config)?;
        let (stream, _) = attach(connection, &settings).await?;
        Ok(Self {
            project: settings.project.as_str().into(),
            watches: Places::new(settings.max_subscribers),
            responders: Places::new(usize::MAX),
            known: Mutex::default(),
            sender: Sender {
                env: env.clone(),
                connection: connection.clone(),
                stream,
                ids: Ids::new(env),
                settings,
            },
        })
    }

    fn check_open<X>(&self, closed: X) -> Result<(), X> {
        if self.watches.is_closed() {
            Err(closed)
        } else {
            Ok(())
        }
    }

    fn known<R>(&self, work: impl FnOnce(&mut BTreeMap<ThreadId, Arc<str>>) -> R) -> R {
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The name that has this id, as far as anybody has said.
    async fn holder(&self, id: &ThreadId) -> Result<Option<Arc<str>>, ThreadError> {
        if let Some(known) = self.known(|known| known.get(id).cloned()) {
            return Ok(Some(known));
        }
        let last = match self.sender.stream.last(&subject(&self.project, id)).await {
            Ok(last) => last,
            // It is made anew by the next send.
            Err(ReadStreamError::NoStream) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(last
            .and_then(|message| name_of(&message.headers))
            .map(Arc::from))
    }

    async fn open_thread(&self, name: &str) -> Result<Thread, ThreadError> {
        self.check_open(ThreadError::Closed)?;
        if name.is_empty() || name.len() > NAME_LEN_MAX {
            return Err(ThreadError::InvalidName(name.to_owned()));
        }
        let id = ThreadId::of(&self.project, name);
        let holder = self.holder(&id).await?;
        self.check_open(ThreadError::Closed)?;
        // Another call may have been quicker than the look.
        let holder = self.known(|known| {
            if known.len() >= KNOWN_MAX && !known.contains_key(&id) {
                known.clear();
            }
            let holder = holder.unwrap_or_else(|| name.into());
            Arc::clone(known.entry(id.clone()).or_insert(holder))
        });
        if *holder != *name {
            return Err(ThreadError::Collides {
                name: name.to_owned(),
                with: holder.as_ref().to_owned(),
                id: id.into(),
            });
        }
        Ok(Thread::new(&self.project, id, holder))
    }

    async fn open_watch(
        &self,
        pattern: String,
        name: Option<Arc<str>>,
    ) -> Result<Watch, SubscribeError> {
        let settings = &self.sender.settings;
        let place = self
            .watches
            .take(settings.watch_buffer)
            .map_err(|why| match why {
                NoPlace::Closed => SubscribeError::Closed,
                NoPlace::Full => SubscribeError::TooMany {
                    max: settings.max_subscribers,
                },
            })?;
        let wanted = Wanted {
            project: Arc::clone(&self.project),
            is_all: pattern == envelope::all(&self.project),
            name,
        };
        let stream = self.sender.stream.clone();
        watch::open(&self.sender.env, stream, pattern, wanted, place).await
    }
}

impl<E: Env> Api for Inner<E> {
    fn project(&self) -> &str {
        &self.project
    }

    fn thread<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Thread, ThreadError>> {
        self.open_thread(name).boxed()
    }

    fn send<'a>(
        &'a self,
        thread: &'a Thread,
        draft: Draft,
    ) -> BoxFuture<'a, Result<Sent, SendError>> {
        Box::pin(async move {
            self.check_open(SendError::Closed)?;
            self.sender.send(thread, draft).await
        })
    }

    fn send_again(&self, message: Unconfirmed) -> BoxFuture<'_, Result<Sent, SendError>> {
        Box::pin(async move {
            self.check_open(SendError::Closed)?;
            self.sender.again(message).await
        })
    }

    fn watch(
        &self,
        pattern: String,
        name: Option<Arc<str>>,
    ) -> BoxFuture<'_, Result<Watch, SubscribeError>> {
        self.open_watch(pattern, name).boxed()
    }

    fn scan<'a>(
        &'a self,
        agent: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<ThreadSummary>, ScanError>> {
        Box::pin(async move {
            self.check_open(ScanError::Closed)?;
            let clock = self.sender.env.clock();
            let deadline = clock.now() + self.sender.settings.scan_timeout;
            let scanned = tokio::select! {
                biased;
                scanned = scan(clock, &self.sender.stream, &self.project, agent) => scanned,
                () = clock.sleep_until(deadline) => Err(ScanError::TimedOut),
            };
            self.check_open(ScanError::Closed)?;
            scanned
        })
    }

    fn request(
        &self,
        message: Message,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, AskError>> {
        Box::pin(async move {
            self.check_open(AskError::Closed)?;
            let Sender {
                env, connection, ..
            } = &self.sender;
            ask::request(env, connection, message, deadline).await
        })
    }

    fn respond<'a>(
        &'a self,
        subject: &'a str,
        handler: Handler,
    ) -> BoxFuture<'a, Result<Responder, RespondError>> {
        Box::pin(async move {
            let Sender {
                env,
                connection,
                settings,
                ..
            } = &self.sender;
            let place = self
                .responders
                .take(0)
                .map_err(|_closed| RespondError::Closed)?;
            let max = settings.max_concurrent_requests;
            ask::respond(env, connection, subject, max, handler, place).await
        })
    }

    fn close(&self) {
        self.watches.close();
        self.responders.close();
    }
}
