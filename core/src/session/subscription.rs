//! A subscription of a session: for a moment on two connections, so that nothing between them is missed.
//!
//! The new one is subscribed and its round trip awaited while the old one is heard, and what that tells is noted. Then both
//! are heard as one ([`Overlap`]) for [`BOTH`]; then the old one is let go of, and its last messages are awaited a little
//! longer on the new one. Measured on real servers, to let go at once loses messages, to wait and not compare tells up to
//! six twice at 2 000 a second, and to compare only from the end of the round trip on one of 40 000. Of a queue group the
//! server gives each message to one of the two alone: both are heard, and what is on its way to the old one when it is let
//! go of is lost.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::line::{ConnectionOf, Line, Link, Offer, Registration};
use super::overlap::{LAG_MAX, Overlap, Side};
use crate::env::Env;
use crate::time::{Clock, Instant};
use crate::transport::{
    Connection, ConnectionEvent, FlushError, Message, SubscribeError, Subscription,
    SubscriptionSender,
};

/// How long both are heard.
const BOTH: Duration = Duration::from_millis(300);
/// After a failure to subscribe on a connection that lives.
const RETRY: Duration = Duration::from_millis(500);

type Laid<C> = (Arc<Link<C>>, Subscription);

pub(super) async fn open<E: Env>(
    line: &Arc<Line<E>>,
    subject: &str,
    queue: Option<&str>,
) -> Result<Subscription, SubscribeError> {
    let (link, subscription) = line
        .run_on(None, |link: Arc<Link<ConnectionOf<E>>>| async move {
            link.connection.subscribe(subject, queue).await
        })
        .await?;
    let offers = line.register(link.number).ok_or(SubscribeError::Closed)?;
    let capacity = line.settings.connect.subscription_capacity;
    let (sender, told) = Subscription::channel(capacity, None);
    let relay = Relay {
        line: Arc::clone(line),
        subject: subject.into(),
        queue: queue.map(Into::into),
        sender,
        number: link.number,
        old: None,
        new: Some((link, subscription)),
        next: None,
        told: BTreeMap::new(),
        overlap: None,
        under_way: FuturesUnordered::new(),
    };
    // Ends with its reader, and with the line.
    line.env
        .spawn("session subscription", relay.run(offers))
        .detach();
    Ok(told)
}

struct Relay<E: Env> {
    line: Arc<Line<E>>,
    subject: Arc<str>,
    queue: Option<Arc<str>>,
    sender: SubscriptionSender,
    /// Of the newest connection that was offered.
    number: u64,
    /// What is about to be let go of.
    old: Option<Laid<ConnectionOf<E>>>,
    new: Option<Laid<ConnectionOf<E>>>,
    /// The newest, where two are still compared: a third would bring again what one of them has told.
    next: Option<Laid<ConnectionOf<E>>>,
    /// For each connection that is being subscribed: what was told since that began.
    told: BTreeMap<u64, Overlap>,
    /// Both are compared, until then.
    overlap: Option<(Overlap, Instant)>,
    under_way: FuturesUnordered<BoxFuture<'static, Attempt<ConnectionOf<E>>>>,
}

/// A connection, and the subscription on it, if there is one.
type Attempt<C> = (Arc<Link<C>>, Result<Subscription, SubscribeFailure>);

impl<E: Env> Relay<E> {
    async fn run(mut self, mut offers: Registration<ConnectionOf<E>>) {
        let sender = self.sender.clone();
        let clock = self.line.env.clock().clone();
        loop {
            if (self.overlap.is_none() || self.new.is_none())
                && let Some(laid) = self.next.take()
            {
                self.take_over(laid, clock.now());
            }
            let until = self.overlap.as_ref().map(|(_, until)| *until);
            tokio::select! {
                biased;
                () = sender.closed() => return,
                offer = offers.recv() => match offer {
                    Some(offer) => self.accept(offer),
                    None => return,
                },
                Some((link, laid)) = self.under_way.next(), if !self.under_way.is_empty() => {
                    match laid {
                        Ok(subscription) => self.laid((link, subscription)),
                        Err(SubscribeFailure::Again) => self.subscribe(link, RETRY, None),
                        Err(SubscribeFailure::Gone) => drop(self.told.remove(&link.number)),
                    }
                }
                () = clock.sleep_until(until.unwrap_or(Instant::FAR_FUTURE)), if until.is_some() => {
                    self.let_go(clock.now());
                }
                message = next_of(&mut self.old) => self.heard(Side::Old, message, clock.now()),
                message = next_of(&mut self.new) => self.heard(Side::New, message, clock.now()),
            }
        }
    }

    fn accept(&mut self, offer: Offer<ConnectionOf<E>>) {
        let Offer { link, done } = offer;
        if link.number <= self.number {
            return;
        }
        self.number = link.number;
        self.subscribe(link, Duration::ZERO, done);
    }

    /// Begins to subscribe on a connection, after so long. Whoever offers it waits for the first try alone.
    fn subscribe(
        &mut self,
        link: Arc<Link<ConnectionOf<E>>>,
        after: Duration,
        done: Option<mpsc::Sender<Infallible>>,
    ) {
        // Each message to a queue group comes to one of the two alone.
        if self.queue.is_none() {
            self.told.insert(link.number, Overlap::default());
        }
        let (line, subject) = (Arc::clone(&self.line), Arc::clone(&self.subject));
        let queue = self.queue.clone();
        self.under_way.push(Box::pin(async move {
            if !after.is_zero() {
                let clock = line.env.clock();
                clock.sleep_until(clock.now() + after).await;
            }
            let laid = lay(&link, &subject, queue.as_deref()).await;
            drop(done);
            (link, laid)
        }));
    }

    fn laid(&mut self, laid: Laid<ConnectionOf<E>>) {
        let newest = self.next.as_ref().or(self.new.as_ref());
        if newest.is_none_or(|(newest, _)| newest.number < laid.0.number) {
            self.next = Some(laid);
        }
    }

    fn take_over(&mut self, laid: Laid<ConnectionOf<E>>, now: Instant) {
        let (link, mut subscription) = laid;
        let mut told = self.told.remove(&link.number).unwrap_or_default();
        self.told.retain(|number, _| *number > link.number);
        let waited = std::iter::from_fn(|| subscription.try_next());
        let waited: Vec<Message> = waited.filter(|message| !told.is_copy(message)).collect();
        self.old = self.new.take();
        self.overlap = self.old.is_some().then(|| (told, now + BOTH));
        self.new = Some((link, subscription));
        for message in waited {
            self.heard(Side::New, Some(message), now);
        }
    }

    fn let_go(&mut self, now: Instant) {
        match (self.old.take(), &mut self.overlap) {
            (Some(_), Some((_, until))) => *until = now + LAG_MAX,
            _ => self.overlap = None,
        }
    }

    fn heard(&mut self, side: Side, message: Option<Message>, now: Instant) {
        let Some(message) = message else {
            match side {
                Side::Old => self.old = None,
                Side::New => self.new = None,
            }
            return;
        };
        let overlap = self.overlap.as_mut();
        let is_news = self.queue.is_some()
            || overlap.is_none_or(|(overlap, _)| overlap.is_news(side, &message, now));
        if is_news {
            for told in self.told.values_mut() {
                told.note(&message, now);
            }
            tell(&self.line, &self.sender, message);
        }
    }
}

/// Why there is no subscription on a connection.
enum SubscribeFailure {
    /// It is closed: there will be another.
    Gone,
    Again,
}

/// A subscription that the server knows of.
async fn lay<C: Connection>(
    link: &Link<C>,
    subject: &str,
    queue: Option<&str>,
) -> Result<Subscription, SubscribeFailure> {
    let subscribed = link.connection.subscribe(subject, queue).await;
    let flushed = link.connection.flush().await;
    match (subscribed, flushed) {
        (Ok(subscription), Ok(())) => Ok(subscription),
        (_, Err(FlushError::TimedOut)) => Err(SubscribeFailure::Again),
        (Err(_), _) | (_, Err(FlushError::Closed)) => Err(SubscribeFailure::Gone),
    }
}

fn tell<E: Env>(line: &Line<E>, sender: &SubscriptionSender, message: Message) {
    if let Err(TrySendError::Full(_)) = sender.try_send(message) {
        line.announce(&ConnectionEvent::SlowConsumer);
    }
}

/// The next message; for ever none where nothing is heard.
async fn next_of<C>(laid: &mut Option<Laid<C>>) -> Option<Message> {
    match laid {
        Some((_, subscription)) => subscription.next().await,
        None => std::future::pending().await,
    }
}
