//! The hands of a [`Splice`]: one task for each watch or reader of a session.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;

use super::line::{ConnectionOf, Line, Link, Offer, Registration};
use super::source::Source;
use super::splice::{Splice, SpliceEffect, SpliceEvent, Strand};
use crate::env::Env;
use crate::machine::{Shell, drive};
use crate::transport::watcher::{Description, Told};
use crate::transport::{InterruptCause, ReadStart, WatchError};

/// Items of an old strand that are heard before it is let go of; what is more comes again over the new one.
const DRAINED_MAX: usize = 4096;

/// Begins to read, and goes on doing so over every connection of the line.
pub(super) async fn open<E: Env, S: Source<ConnectionOf<E>>>(
    line: &Arc<Line<E>>,
    source: S,
    start: ReadStart,
) -> Result<S::Stream, WatchError> {
    let source = Arc::new(source);
    let patience = line.settings.connect.request_timeout;
    let (link, (found, stream)) = line
        .run_on(Some(patience), |link| {
            let source = Arc::clone(&source);
            async move {
                let found = source.describe(&link.connection).await?;
                let from = Splice::<S::Item>::opening(start, found);
                let stream = source.open(&link.connection, from).await?;
                Ok::<_, WatchError>((found, stream))
            }
        })
        .await?;
    let offers = line.register(link.number).ok_or(WatchError::Closed)?;
    let splice = Splice::new(start, link.number, found);
    let (sender, told) = S::channel(line.settings.connect.subscription_capacity);
    let shell = Relay {
        line: Arc::clone(line),
        source,
        sender,
        offers,
        offered: Arc::clone(&link),
        strands: BTreeMap::from([(Strand(0), (link, stream))]),
        reading: Some(Strand(0)),
        under_way: FuturesUnordered::new(),
        waiting: Vec::new(),
        queue: VecDeque::new(),
        out: VecDeque::new(),
    };
    let env = line.env.clone();
    let relay = async move {
        let (mut splice, mut shell) = (splice, shell);
        drive(env.clock(), &mut splice, &mut shell).await;
    };
    // Ends with its reader, and with the line.
    line.env.spawn("session relay", relay).detach();
    Ok(told)
}

/// What is read, each on its connection.
type Strands<C, S> = BTreeMap<Strand, (Arc<Link<C>>, S)>;

/// What comes of something that was begun.
enum Done<C, S> {
    Described(Strand, Result<Description, WatchError>),
    Opened(Strand, Arc<Link<C>>, Result<S, WatchError>),
    Sought(Option<Arc<Link<C>>>),
}

struct Relay<E: Env, S: Source<ConnectionOf<E>>> {
    line: Arc<Line<E>>,
    source: Arc<S>,
    sender: S::Sender,
    offers: Registration<ConnectionOf<E>>,
    /// The newest connection offered.
    offered: Arc<Link<ConnectionOf<E>>>,
    strands: Strands<ConnectionOf<E>, S::Stream>,
    reading: Option<Strand>,
    under_way: FuturesUnordered<BoxFuture<'static, Done<ConnectionOf<E>, S::Stream>>>,
    /// Those who wait for an answer to their offer.
    waiting: Vec<mpsc::Sender<Infallible>>,
    queue: VecDeque<SpliceEvent<S::Item>>,
    /// Told, and not read yet.
    out: VecDeque<Told<S::Item>>,
}

impl<E: Env, S: Source<ConnectionOf<E>>> Relay<E, S> {
    fn accept(&mut self, link: Arc<Link<ConnectionOf<E>>>) -> SpliceEvent<S::Item> {
        let number = link.number;
        if number > self.offered.number {
            self.offered = link;
        }
        SpliceEvent::Offered(number)
    }

    fn done(&mut self, done: Done<ConnectionOf<E>, S::Stream>) -> Option<SpliceEvent<S::Item>> {
        Some(match done {
            Done::Described(strand, result) => SpliceEvent::Described(strand, result),
            Done::Opened(strand, link, result) => {
                let result = result.map(|stream| {
                    self.strands.insert(strand, (link, stream));
                });
                SpliceEvent::Opened(strand, result)
            }
            Done::Sought(link) => {
                let link = link?;
                self.accept(link)
            }
        })
    }

    fn heard(&self, strand: Strand, told: Option<Told<S::Item>>) -> SpliceEvent<S::Item> {
        let Some(told) = told else {
            return SpliceEvent::Ended(strand);
        };
        if matches!(told, Told::Interrupted(InterruptCause::MissedHeartbeat))
            && let Some((link, _)) = self.strands.get(&strand)
        {
            self.line.doubt(link, "a watch got no sign of life");
        }
        SpliceEvent::Told(strand, told)
    }

    fn drain(&mut self, old: Strand, new: Strand) {
        if let Some((_, stream)) = self.strands.get_mut(&old) {
            let items = std::iter::from_fn(|| S::try_next(stream)).take(DRAINED_MAX);
            let items = items.map(|told| SpliceEvent::Told(old, told));
            self.queue.extend(items);
        }
        self.queue.push_back(SpliceEvent::Drained(new));
    }
}

/// The next of what is read; for ever nothing where nothing is.
async fn next_of<C, S: Source<C>>(
    reading: Option<Strand>,
    strands: &mut Strands<C, S::Stream>,
) -> (Strand, Option<Told<S::Item>>) {
    match reading.and_then(|strand| Some((strand, strands.get_mut(&strand)?))) {
        Some((strand, (_, stream))) => (strand, S::next(stream).await),
        None => std::future::pending().await,
    }
}

impl<E: Env, S: Source<ConnectionOf<E>>> Shell<Splice<S::Item>> for Relay<E, S> {
    async fn next(&mut self) -> Option<SpliceEvent<S::Item>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            tokio::select! {
                biased;
                () = S::closed(&self.sender) => return None,
                offer = self.offers.recv() => {
                    let Offer { link, done } = offer?;
                    self.waiting.extend(done);
                    return Some(self.accept(link));
                }
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => {
                    return self.done(done);
                }
                () = S::room(&self.sender), if !self.out.is_empty() => {
                    if let Some(told) = self.out.pop_front() {
                        S::send(&self.sender, told);
                    }
                }
                (strand, told) = next_of::<_, S>(self.reading, &mut self.strands),
                    if self.out.is_empty() =>
                {
                    if told.is_none() {
                        self.reading = None;
                    }
                    return Some(self.heard(strand, told));
                }
            }
        }
    }

    async fn perform(&mut self, effect: SpliceEffect<S::Item>) -> ControlFlow<()> {
        let source = Arc::clone(&self.source);
        let link = Arc::clone(&self.offered);
        match effect {
            SpliceEffect::Describe(strand, _) => self.under_way.push(Box::pin(async move {
                Done::Described(strand, source.describe(&link.connection).await)
            })),
            SpliceEffect::Open(strand, from) => self.under_way.push(Box::pin(async move {
                let opened = source.open(&link.connection, from).await;
                Done::Opened(strand, link, opened)
            })),
            SpliceEffect::Drain { old, new } => self.drain(old, new),
            SpliceEffect::Keep(strand) => {
                self.strands.retain(|kept, _| *kept == strand);
                self.reading = Some(strand);
            }
            SpliceEffect::Tell(told) => self.out.push_back(told),
            SpliceEffect::Answered => self.waiting.clear(),
            SpliceEffect::Seek => {
                let line = Arc::clone(&self.line);
                self.under_way
                    .push(Box::pin(async move { Done::Sought(line.link(0).await) }));
            }
        }
        ControlFlow::Continue(())
    }
}
