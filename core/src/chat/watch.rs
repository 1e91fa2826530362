//! The hands of a [`Follower`]: one task for each watch, and [`Watch`], the end that is read.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::SubscribeError;
use super::event::{End, Event};
use super::follower::{AtMark, Follower, FollowerEffect, FollowerEvent, Found, Mark, Wanted};
use super::mailbox::Mailbox;
use super::places::Place;
use crate::env::{Env, Task};
use crate::machine::{Shell, drive};
use crate::time::{Clock, Instant};
use crate::transport::{ReadStart, ReadStreamError, Reader, Sequence, Stream, StreamInfo};

/// What could not be looked at is looked at again after so long.
const RETRY: Duration = Duration::from_millis(500);

/// A stream that nobody leads for longer is not looked at in vain for ever.
const LOOKS_MAX: usize = 8;

/// A stream that is made anew each time it is looked at is no stream to watch.
const ROUNDS_MAX: usize = 4;

/// What is said from now on. Dropping it ends it, and frees its place.
pub struct Watch {
    mailbox: Arc<Mailbox>,
    _task: Task,
    /// Until it has ended, or is dropped.
    place: Option<Place>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// Why there will be none any more, once all that was told before has been read; the same for ever.
    pub async fn next(&mut self) -> Result<Event, End> {
        let next = self.mailbox.next().await;
        if next.is_err() {
            self.place = None;
        }
        next
    }
}

/// Begins after what the stream holds now.
pub(super) async fn open<E: Env, S: Stream>(
    env: &E,
    stream: S,
    filter: String,
    wanted: Wanted,
    place: Place,
) -> Result<Watch, SubscribeError> {
    let (reader, info, mark) = begin(env.clock(), &stream, &filter).await?;
    let (mailbox, stop) = place.take_up().ok_or(SubscribeError::Closed)?;
    let last = info.last_sequence;
    let follower = Follower::new(wanted, info.created, last, mark);
    let shell = WatchShell {
        clock: env.clock().clone(),
        stream,
        reader,
        mailbox: Arc::clone(&mailbox),
        stop,
        check: None,
    };
    let task = env.spawn("chat watch", follow(env.clone(), follower, shell));
    Ok(Watch {
        mailbox,
        _task: task,
        place: Some(place),
    })
}

/// A reader that tells everything after what the stream held last, and the message at that place.
///
/// The reader begins on its own, after the look at the stream; only if the stream is still the same then does it begin
/// within what was looked at.
async fn begin<C: Clock, S: Stream>(
    clock: &C,
    stream: &S,
    filter: &str,
) -> Result<(Reader, StreamInfo, Option<Mark>), SubscribeError> {
    for _ in 0..ROUNDS_MAX {
        let info = describe(clock, stream).await?;
        let mark = match look(stream, info.last_sequence).await? {
            AtMark::Stored(time) => Some((info.last_sequence, time)),
            AtMark::Nothing | AtMark::Unknown => None,
        };
        let reader = stream.read(&[filter], ReadStart::New).await?;
        let after = stream.info().await?;
        if after.created == info.created && after.last_sequence >= info.last_sequence {
            return Ok((reader, info, mark));
        }
    }
    Err(SubscribeError::Unsettled)
}

/// What is there now. By the word of a server that may have missed the end of the stream, what was said long ago would be
/// told as new: it is asked for again, as where several servers answer any may be the quickest.
async fn describe<C: Clock, S: Stream>(
    clock: &C,
    stream: &S,
) -> Result<StreamInfo, ReadStreamError> {
    for _ in 0..LOOKS_MAX {
        let info = stream.info().await?;
        if info.leadership.is_likely() {
            return Ok(info);
        }
        clock.sleep_until(clock.now() + RETRY).await;
    }
    Err(ReadStreamError::TimedOut)
}

/// What the stream holds at this place.
async fn look<S: Stream>(stream: &S, at: Sequence) -> Result<AtMark, ReadStreamError> {
    if at == Sequence::NONE {
        return Ok(AtMark::Unknown);
    }
    match stream.get(at).await {
        Ok(Some(message)) => Ok(AtMark::Stored(message.time)),
        Ok(None) => Ok(AtMark::Nothing),
        // A stream that another program has made may not answer direct gets.
        Err(ReadStreamError::NoStream | ReadStreamError::Rejected(_)) => Ok(AtMark::Unknown),
        Err(error) => Err(error),
    }
}

struct WatchShell<C, S> {
    clock: C,
    stream: S,
    reader: Reader,
    mailbox: Arc<Mailbox>,
    stop: oneshot::Receiver<()>,
    /// While it is under way the reader is not heard.
    check: Option<BoxFuture<'static, Option<Found>>>,
}

async fn follow<E: Env, S: Stream>(
    env: E,
    mut follower: Follower,
    mut shell: WatchShell<E::Clock, S>,
) {
    drive(env.clock(), &mut follower, &mut shell).await;
    // Where the chat was closed, that was said at once and this is too late.
    shell.mailbox.end(End::ConnectionLost);
}

impl<C: Clock, S: Stream> Shell<Follower> for WatchShell<C, S> {
    async fn next(&mut self) -> Option<FollowerEvent> {
        let next = async {
            match &mut self.check {
                Some(check) => {
                    let found = check.await;
                    self.check = None;
                    found.map(FollowerEvent::Checked)
                }
                None => self.reader.next().await.map(FollowerEvent::Reader),
            }
        };
        tokio::select! {
            biased;
            _over = &mut self.stop => {
                self.mailbox.end(End::Closed);
                None
            }
            next = next => next,
        }
    }

    async fn perform(&mut self, effect: FollowerEffect) -> ControlFlow<()> {
        match effect {
            FollowerEffect::Tell(event) => self.mailbox.put(event),
            FollowerEffect::Check(mark) => {
                let (clock, stream) = (self.clock.clone(), self.stream.clone());
                self.check = Some(check(clock, stream, mark).boxed());
            }
        }
        ControlFlow::Continue(())
    }
}

/// Looks until it has seen; `None` once the connection is closed.
async fn check<C: Clock, S: Stream>(clock: C, stream: S, mark: Option<Sequence>) -> Option<Found> {
    loop {
        let looked = async {
            let at_mark = look(&stream, mark.unwrap_or(Sequence::NONE)).await?;
            let info = stream.info().await?;
            // Who may have missed the end of the stream would tell of one that was lost.
            if !info.leadership.is_likely() {
                return Err(ReadStreamError::TimedOut);
            }
            Ok(Found {
                created: info.created,
                first: info.first_sequence,
                last: info.last_sequence,
                at_mark,
            })
        };
        match looked.await {
            Ok(found) => return Some(found),
            Err(ReadStreamError::Closed) => return None,
            Err(error) => tracing::debug!(%error, "a stream could not be looked at"),
        }
        let now: Instant = clock.now();
        clock.sleep_until(now + RETRY).await;
    }
}
