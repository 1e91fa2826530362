//! The handle's other side, and the hands of the keeper: one task that keeps the entry.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use super::attach::attach;
use super::config::{Config, Settings};
use super::entry::{self, Entry, Incarnation};
use super::keeper::{Keeper, KeeperEffect, KeeperEvent, Write};
use super::observer::{RosterShell, observe};
use super::roster::Roster;
use super::{Answer, Api, Events, Notice, Notices, OpenError, PresenceError};
use crate::env::{Env, Task};
use crate::machine::{Shell, drive};
use crate::time::{Clock, Instant, UnixTime};
use crate::transport::{
    Bucket, Connection, ConnectionEvent, Events as ConnectionEvents, Fallible, Outcome, Revision,
    Transport, UpdateError, WatchError, WatchStart,
};

type ConnectionOf<E> = <<E as Env>::Transport as Transport>::Connection;
type BucketOf<E> = <ConnectionOf<E> as Connection>::Bucket;

/// Other incarnations may take the place while we take it; after so many rounds they mean it.
const CLAIM_ROUNDS_MAX: usize = 8;

/// The first look at the bucket may take this long.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells whoever asked that the presence is closed.
type Closing = oneshot::Sender<()>;

/// What the handle and the rosters ask of the keeper's task.
pub(super) enum Command {
    Probe,
    Listen(mpsc::UnboundedSender<Notice>),
    /// Tell a roster of every renewal.
    Follow(mpsc::UnboundedSender<(Revision, Instant)>),
    Close(Closing),
}

/// What a presence holds. Dropping it ends the heartbeat.
pub(super) struct Inner<E: Env> {
    env: E,
    bucket: BucketOf<E>,
    settings: Arc<Settings>,
    /// The life of an entry that does not tell its own.
    ttl_default: Duration,
    commands: mpsc::UnboundedSender<Command>,
    _keeper: Task,
}

/// The parts that every write needs.
struct Pen<E: Env> {
    env: E,
    bucket: BucketOf<E>,
    settings: Arc<Settings>,
    key: Arc<str>,
    session: String,
}

impl<E: Env> Pen<E> {
    fn entry(&self, incarnation: u64, began: UnixTime, wall: UnixTime) -> Entry {
        Entry {
            agent_id: self.settings.agent_id.clone(),
            project: self.settings.project.clone(),
            started_at: began,
            last_seen: wall,
            incarnation: Some(Incarnation::of(&self.session, incarnation).0),
            ttl_ms: u64::try_from(self.settings.ttl().as_millis()).ok(),
        }
    }

    fn is_own(&self, entry: &Entry) -> bool {
        entry
            .incarnation
            .as_ref()
            .is_some_and(|name| name.starts_with(&self.session))
    }

    /// Takes the place for the first incarnation, over whatever is there.
    async fn claim(&self) -> Result<(Revision, (Instant, UnixTime)), OpenError> {
        for _ in 0..CLAIM_ROUNDS_MAX {
            let found = self.bucket.entry(&self.key).await?;
            let over = found.map_or(Revision::NONE, |record| record.revision);
            let invoked = (self.env.clock().now(), self.env.clock().wall());
            let value = self.entry(0, invoked.1, invoked.1).encode();
            match self.bucket.update(&self.key, value, over).await {
                Ok(revision) => return Ok((revision, invoked)),
                Err(UpdateError::WrongRevision { .. }) => {}
                Err(UpdateError::Write(error)) => {
                    if error.outcome() == Outcome::Unknown {
                        self.undo().await;
                    }
                    return Err(error.into());
                }
            }
        }
        Err(OpenError::Contended)
    }

    /// Deletes the entry if it is one's own; `true` if afterwards it is surely not there.
    async fn undo(&self) -> bool {
        let Ok(found) = self.bucket.entry(&self.key).await else {
            return false;
        };
        match found
            .as_ref()
            .map(|record| (record.revision, Entry::decode(record)))
        {
            Some((revision, Some(entry))) if self.is_own(&entry) => {
                self.bucket.delete(&self.key, Some(revision)).await.is_ok()
            }
            _ => true,
        }
    }
}

impl<E: Env> Inner<E> {
    pub(super) async fn open(
        env: &E,
        connection: &ConnectionOf<E>,
        config: Config,
    ) -> Result<Self, OpenError> {
        let settings = Arc::new(Settings::try_from(config)?);
        let (bucket, max_age) = attach(connection, &settings.bucket, settings.ttl()).await?;
        let session = format!("{:016x}", env.rng("presence").next_u64());
        let pen = Pen {
            env: env.clone(),
            bucket: bucket.clone(),
            settings: Arc::clone(&settings),
            key: settings.key().into(),
            session: session.clone(),
        };
        // From before the claim on, so that nothing that happens to the connection is missed.
        let connection_events = connection.events();
        let (revision, renewed) = pen.claim().await?;
        // Once more, now that the others can see how long this entry lives: see there.
        if let Err(error) = attach(connection, &settings.bucket, settings.ttl()).await {
            pen.undo().await;
            return Err(error.into());
        }
        let keeper = Keeper::new(
            settings.interval,
            settings.ttl(),
            session,
            revision,
            renewed,
        );
        let (commands, inbox) = mpsc::unbounded_channel();
        let shell = KeeperShell {
            pen,
            connection: connection.clone(),
            connection_events: Some(connection_events),
            inbox,
            under_way: FuturesUnordered::new(),
            listeners: Vec::new(),
            rosters: Vec::new(),
            latest: (revision, renewed.0),
            closing: Vec::new(),
        };
        let task = env.spawn("presence keeper", keep(env.clone(), keeper, shell));
        let ttl_default = settings.ttl().max(max_age);
        Ok(Self {
            env: env.clone(),
            bucket,
            settings,
            ttl_default,
            commands,
            _keeper: task,
        })
    }

    fn check_open(&self) -> Result<(), PresenceError> {
        if self.commands.is_closed() {
            Err(PresenceError::Closed)
        } else {
            Ok(())
        }
    }
}

impl<E: Env> Api for Inner<E> {
    fn present<'a>(&'a self, agent_id: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            self.check_open()?;
            if agent_id.is_empty() {
                return Ok(false);
            }
            let key = entry::key(&self.settings.project, agent_id);
            let record = self.bucket.entry(&key).await?;
            self.check_open()?;
            Ok(record.is_some_and(|record| Entry::decode(&record).is_some()))
        })
    }

    fn who(&self) -> Answer<'_, Vec<Entry>> {
        Box::pin(async move {
            self.check_open()?;
            let records = self
                .bucket
                .entries(&entry::filter(&self.settings.project))
                .await?;
            self.check_open()?;
            let mut entries: Vec<Entry> = Vec::with_capacity(records.len());
            for record in &records {
                match Entry::decode(record) {
                    Some(entry) => entries.push(entry),
                    None => tracing::warn!(key = %record.key, "an entry cannot be read"),
                }
            }
            entries.sort_by(|a, b| a.agent_id.cmp(&b.agent_id));
            Ok(entries)
        })
    }

    fn watch(&self) -> Answer<'_, (Vec<Entry>, Events)> {
        Box::pin(async move {
            self.check_open()?;
            let filter = entry::filter(&self.settings.project);
            let watch = self.bucket.watch(&filter, WatchStart::Snapshot).await?;
            let (follow, renewals) = mpsc::unbounded_channel();
            self.commands
                .send(Command::Follow(follow))
                .map_err(|_closed| PresenceError::Closed)?;
            let (reader, events) = mpsc::channel(self.settings.watch_buffer);
            let (first_look, snapshot) = oneshot::channel();
            let now = self.env.clock().now();
            let roster = Roster::new(now, self.settings.interval, self.ttl_default);
            let shell = RosterShell {
                watch,
                renewals,
                commands: self.commands.clone(),
                first_look: Some(first_look),
                reader,
                waiting: Vec::new(),
                waiting_max: self.settings.watch_buffer,
                missed: 0,
            };
            let task = self
                .env
                .spawn("presence roster", observe(self.env.clone(), roster, shell));
            let events = Events {
                events,
                _roster: task,
            };
            let deadline = now + SNAPSHOT_TIMEOUT;
            tokio::select! {
                biased;
                snapshot = snapshot => match snapshot {
                    Ok(snapshot) => Ok((snapshot, events)),
                    Err(_ended) => {
                        self.check_open()?;
                        Err(WatchError::Closed.into())
                    }
                },
                () = self.env.clock().sleep_until(deadline) => Err(WatchError::TimedOut.into()),
            }
        })
    }

    fn notices(&self) -> Notices {
        let (sender, receiver) = mpsc::unbounded_channel();
        // Where the presence is closed the sender is dropped, and the notices have ended.
        let _ended = self.commands.send(Command::Listen(sender));
        Notices(receiver)
    }

    fn close(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let (done, closed) = oneshot::channel();
            if self.commands.send(Command::Close(done)).is_ok() {
                // An error means that the keeper is gone, and that is closed too.
                let _gone = closed.await;
            }
        })
    }
}

// --- keeping one's own entry ---

struct KeeperShell<E: Env> {
    pen: Pen<E>,
    connection: ConnectionOf<E>,
    connection_events: Option<ConnectionEvents>,
    inbox: mpsc::UnboundedReceiver<Command>,
    under_way: FuturesUnordered<BoxFuture<'static, KeeperEvent>>,
    listeners: Vec<mpsc::UnboundedSender<Notice>>,
    rosters: Vec<mpsc::UnboundedSender<(Revision, Instant)>>,
    latest: (Revision, Instant),
    closing: Vec<Closing>,
}

async fn keep<E: Env>(env: E, mut keeper: Keeper, mut shell: KeeperShell<E>) {
    drive(env.clock(), &mut keeper, &mut shell).await;
    if shell.closing.is_empty() {
        return;
    }
    // No beat is handed over any more. One that is under way may still arrive: it and the deletion go over the same
    // revision, so that only one of them happens, and then it is looked up.
    let deadline = env.clock().now() + shell.pen.settings.interval;
    let pen = &shell.pen;
    let delete = async {
        if pen
            .bucket
            .delete(&pen.key, Some(keeper.over()))
            .await
            .is_err()
        {
            pen.undo().await;
        }
    };
    tokio::select! {
        biased;
        () = delete => {}
        () = env.clock().sleep_until(deadline) => {}
    }
    shell.inbox.close();
    while let Ok(command) = shell.inbox.try_recv() {
        if let Command::Close(closing) = command {
            shell.closing.push(closing);
        }
    }
    for closing in shell.closing {
        // Whoever asked may have stopped waiting.
        let _gone = closing.send(());
    }
}

impl<E: Env> KeeperShell<E> {
    fn command(&mut self, command: Command) -> Option<KeeperEvent> {
        match command {
            Command::Probe => return Some(KeeperEvent::Probe),
            Command::Listen(listener) => self.listeners.push(listener),
            Command::Follow(roster) => {
                let _gone = roster.send(self.latest);
                self.rosters.push(roster);
            }
            Command::Close(closing) => self.closing.push(closing),
        }
        None
    }

    fn write(&mut self, write: Write) {
        let Pen {
            bucket, key, env, ..
        } = &self.pen;
        let (bucket, key, clock) = (bucket.clone(), Arc::clone(key), env.clock().clone());
        let (invoked, invoked_wall) = (clock.now(), clock.wall());
        let began = write.began.unwrap_or(invoked_wall);
        let entry = self.pen.entry(write.incarnation, began, invoked_wall);
        let value = entry.encode();
        self.under_way.push(Box::pin(async move {
            let result = bucket.update(&key, value, write.expected).await;
            KeeperEvent::Written {
                write,
                invoked,
                invoked_wall,
                wall: clock.wall(),
                result,
            }
        }));
    }

    fn look(&self, number: u64) {
        let (bucket, key) = (self.pen.bucket.clone(), Arc::clone(&self.pen.key));
        self.under_way.push(Box::pin(async move {
            KeeperEvent::Looked {
                number,
                result: bucket.entry(&key).await,
            }
        }));
    }

    fn attach(&self, number: u64) {
        let (connection, settings) = (self.connection.clone(), Arc::clone(&self.pen.settings));
        self.under_way.push(Box::pin(async move {
            let attached = attach(&connection, &settings.bucket, settings.ttl()).await;
            if let Err(error) = attached {
                tracing::warn!(bucket = %settings.bucket, %error, "cannot attach to the bucket");
            }
            KeeperEvent::Attached { number }
        }));
    }
}

impl<E: Env> Shell<Keeper> for KeeperShell<E> {
    async fn next(&mut self) -> Option<KeeperEvent> {
        loop {
            if !self.closing.is_empty() {
                return None;
            }
            let heard = tokio::select! {
                biased;
                command = self.inbox.recv() => match command {
                    Some(command) => self.command(command),
                    None => return None,
                },
                Some(event) = self.under_way.next(), if !self.under_way.is_empty() => Some(event),
                event = next_event(&mut self.connection_events) => match event {
                    ConnectionEvent::Disconnected(_) => Some(KeeperEvent::Disconnected),
                    ConnectionEvent::Reconnected => Some(KeeperEvent::Reconnected),
                    _ => None,
                },
            };
            if heard.is_some() {
                return heard;
            }
        }
    }

    async fn perform(&mut self, effect: KeeperEffect) -> ControlFlow<()> {
        match effect {
            KeeperEffect::Write(write) => self.write(write),
            KeeperEffect::Look { number } => self.look(number),
            KeeperEffect::Attach { number } => self.attach(number),
            KeeperEffect::Tell(notice) => {
                tracing::info!(agent = %self.pen.settings.agent_id, ?notice, "presence");
                self.listeners
                    .retain(|listener| listener.send(notice.clone()).is_ok());
            }
            KeeperEffect::Renewed { revision, invoked } => {
                self.latest = (revision, invoked);
                self.rosters
                    .retain(|roster| roster.send((revision, invoked)).is_ok());
            }
        }
        ControlFlow::Continue(())
    }
}

/// The next event of the connection; never, once it has none.
async fn next_event(events: &mut Option<ConnectionEvents>) -> ConnectionEvent {
    if let Some(listening) = events {
        if let Some(event) = listening.next().await {
            return event;
        }
        *events = None;
    }
    std::future::pending().await
}
