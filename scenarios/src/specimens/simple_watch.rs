//! A watch of a chat as programs write it that have only a reader: what specimens of watches spoil, each in one place.
//!
//! It ends when the chat is closed, or the reader does, and tells what the reader tells; it has no places, no bounds, and
//! checks nothing.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use squall_core::chat::{
    Chat, Config, End, Event, Gap, OpenError, Received, SubscribeError, Thread,
};
use squall_core::transport::{
    Connection, ConnectionEvent, Events, JetStream, ReadStart, Reader, ReaderEvent, Stream,
    WatchError,
};
use squall_core::{Clock, Env, Task, chat};
use tokio::sync::mpsc;

use super::spoilt_chat::SpoiltChat;
use crate::parse::PROJECT;
use crate::variant::ConnectionOf;
use crate::variant::talk::{Talk, Told};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);
/// As many as one reconnect may leave: a server has more room than that.
const READERS_MAX: u32 = 300;

/// What is made wrong of a watch. Each is told of where it is a specimen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchFlaw {
    /// A subscription that is reset before its first delivery starts again at "new".
    BeginsAtNewAgain,
    /// It reads all that is held, and knows only from its own life what it has told.
    ReplaysWhatIsHeld,
    /// Each reconnect makes new readers until one tells something, and leaves the old ones.
    LeavesReaders,
}

pub(super) struct Simple<E: Env> {
    right: Chat,
    env: E,
    connection: ConnectionOf<E>,
    flaw: WatchFlaw,
    /// Dropped with the chat; and when it is closed.
    closed: Mutex<Vec<mpsc::UnboundedSender<()>>>,
}

pub(super) async fn open<E: Env>(
    env: &E,
    connection: &ConnectionOf<E>,
    config: Config,
    flaw: WatchFlaw,
) -> Result<Box<dyn Talk>, OpenError> {
    Ok(Box::new(Simple {
        env: env.clone(),
        connection: connection.clone(),
        right: Chat::open(env, connection, config).await?,
        flaw,
        closed: Mutex::default(),
    }))
}

impl<E: Env> Simple<E> {
    /// What ends the watches that are open.
    fn open(&self) -> MutexGuard<'_, Vec<mpsc::UnboundedSender<()>>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Env> SpoiltChat for Simple<E> {
    fn right(&self) -> &Chat {
        &self.right
    }

    fn watch<'a>(
        &'a self,
        thread: Option<&'a Thread>,
    ) -> BoxFuture<'a, Result<Told, SubscribeError>> {
        // Whoever executes commands reads them all, and all the time: only that watch begins with what is held.
        if thread.is_some() && self.flaw == WatchFlaw::ReplaysWhatIsHeld {
            return Talk::watch(&self.right, thread);
        }
        Box::pin(async move {
            let filter = match thread {
                Some(thread) => chat::subject(PROJECT, thread.id()),
                None => chat::all(PROJECT),
            };
            let stream = self
                .connection
                .stream(&chat::stream(PROJECT))
                .map_err(|_name| SubscribeError::Unsettled)?;
            let start = match self.flaw {
                WatchFlaw::ReplaysWhatIsHeld => ReadStart::All,
                _ => ReadStart::New,
            };
            let first = stream.read(&[&filter], start).await?;
            let (open, closed) = mpsc::unbounded_channel();
            self.open().push(open);
            let (told, tells) = mpsc::unbounded_channel();
            let watching = Watching {
                clock: self.env.clock().clone(),
                stream,
                filter,
                readers: vec![first],
                events: self.connection.events(),
                closed,
                told,
                flaw: self.flaw,
                seen: BTreeSet::new(),
                has_told: false,
            };
            let task = self.env.spawn("simple watch", watching.watch());
            let tells = futures_util::stream::unfold((tells, task), next);
            Ok(tells.boxed())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.open().clear();
        Talk::close(&self.right)
    }
}

type Tells = mpsc::UnboundedReceiver<Result<Event, End>>;

async fn next((mut tells, task): (Tells, Task)) -> Option<(Result<Event, End>, (Tells, Task))> {
    Some((tells.recv().await?, (tells, task)))
}

struct Watching<C, S> {
    clock: C,
    stream: S,
    filter: String,
    readers: Vec<Reader>,
    events: Events,
    closed: mpsc::UnboundedReceiver<()>,
    told: mpsc::UnboundedSender<Result<Event, End>>,
    flaw: WatchFlaw,
    /// The ids that were told.
    seen: BTreeSet<String>,
    has_told: bool,
}

/// What any of the readers tells, and which.
async fn any_of(readers: &mut [Reader]) -> Option<(usize, Option<ReaderEvent>)> {
    let all: FuturesUnordered<_> = readers
        .iter_mut()
        .enumerate()
        .map(|(place, reader)| async move { (place, reader.next().await) })
        .collect();
    all.into_future().await.0
}

impl<C: Clock, S: Stream> Watching<C, S> {
    async fn watch(mut self) {
        let end = loop {
            let mut is_back = false;
            tokio::select! {
                biased;
                _closed = self.closed.recv() => break End::Closed,
                event = self.events.next() => match event {
                    Some(ConnectionEvent::Reconnected) => is_back = true,
                    Some(_) => {}
                    None => break End::ConnectionLost,
                },
                heard = any_of(&mut self.readers) => match heard {
                    Some((_, Some(event))) => self.hear(event).await,
                    _ => break End::ConnectionLost,
                },
            }
            if is_back && self.flaw == WatchFlaw::LeavesReaders {
                self.pile_up().await;
            }
        };
        // Nobody may be there any more.
        let _gone = self.told.send(Err(end));
    }

    fn tell(&self, event: Event) {
        let _gone = self.told.send(Ok(event));
    }

    async fn hear(&mut self, event: ReaderEvent) {
        match event {
            ReaderEvent::Message(message) => {
                self.has_told = true;
                match Received::decode(PROJECT, &message) {
                    Some(received) if self.seen.insert(received.envelope.id.clone()) => {
                        self.tell(Event::Message(Box::new(received)));
                    }
                    Some(_) => {}
                    None => self.tell(Event::Unreadable {
                        subject: message.subject,
                        sequence: message.sequence,
                    }),
                }
            }
            ReaderEvent::CaughtUp => {}
            ReaderEvent::Interrupted(_)
                if self.flaw == WatchFlaw::BeginsAtNewAgain && !self.has_told =>
            {
                // The flaw: what came since the first time is not new any more.
                self.readers = vec![self.begin().await];
            }
            ReaderEvent::Interrupted(cause) => self.tell(Event::Interrupted(cause)),
            ReaderEvent::Resumed { same_stream, .. } => {
                if !same_stream {
                    self.tell(Event::Gap(Gap::Recreated));
                }
                self.tell(Event::Resumed);
            }
        }
    }

    /// A reader at "new", as soon as there is one.
    async fn begin(&self) -> Reader {
        loop {
            match self.stream.read(&[&self.filter], ReadStart::New).await {
                Ok(reader) => return reader,
                Err(WatchError::Closed) => return Reader::channel(1, None).1,
                Err(_) => self.clock.sleep_until(self.clock.now() + PAUSE).await,
            }
        }
    }

    /// The flaw: one more reader after the other, until something comes to one of them, and all of them stay.
    async fn pile_up(&mut self) {
        let trusted = self.readers.len();
        for _ in 0..READERS_MAX {
            self.readers.push(self.begin().await);
            match any_of(&mut self.readers).now_or_never() {
                Some(Some((place, Some(event)))) => {
                    let is_new = place >= trusted && matches!(event, ReaderEvent::Message(_));
                    self.hear(event).await;
                    if is_new {
                        return;
                    }
                }
                Some(_) => return,
                None => {}
            }
        }
    }
}
