//! Pulls of a client, each on an inbox of its own, and [`SimConsumer`].
//!
//! The server says when a pull is over, mostly. What it cannot say is told here: silence for longer than was agreed, and
//! the end of the link, with which the server forgets the pull.

use std::sync::Arc;
use std::time::Duration;

use slotmap::new_key_type;
use squall_core::Instant;
use squall_core::transport::{
    Ack, AckError, ApiError, Connection as _, ConsumerConfig, ConsumerError, ConsumerInfo,
    Delivered, Message, PublishError, Pull, PullConsumer, PullEnd, PullError, PullEvent, Pulled,
    PulledSender, RequestError,
};

use super::handle::SimConnection;
use super::requests::Reply;
use super::{Client, ClientKey, Phase, To};
use crate::net::Net;
use crate::wire::{ClientOp, ConsumerAction, PullStatus, Request, Response, Sid};
use crate::world::World;

new_key_type! {
    /// A pull of one client.
    pub(crate) struct PullKey;
}

/// How late the word that a pull has expired may come.
const GRACE: Duration = Duration::from_secs(1);

/// A pull that is not over.
#[derive(Debug)]
pub(super) struct PullState {
    sender: PulledSender,
    inbox: Sid,
    takes_what_is_there: bool,
    heartbeat: Option<Duration>,
    /// Messages still wanted.
    left: u32,
    pub(super) silent_at: Instant,
}

impl Client {
    /// Asks for messages; gives the pull, or none where it is over at once.
    fn pull(
        &mut self,
        net: &mut Net,
        (stream, consumer): (Arc<str>, Arc<str>),
        wish: Pull,
        sender: PulledSender,
    ) -> Option<PullKey> {
        if !matches!(self.phase, Phase::Connected { .. }) {
            // A request that waited for the link would be a pull that nobody knows of.
            end(&sender, PullEnd::Disconnected);
            return None;
        }
        let patience = match (wish.heartbeat, wish.expires) {
            (Some(heartbeat), _) => heartbeat * 2,
            (None, Some(expires)) => expires + GRACE,
            // It is answered at once, or not at all: where other pulls wait the server forgets it.
            (None, None) => self.options.request_timeout,
        };
        let inbox = self.new_sid();
        let key = self.pulls.insert(PullState {
            sender,
            inbox,
            takes_what_is_there: wish.expires.is_none(),
            heartbeat: wish.heartbeat,
            left: wish.batch.get(),
            silent_at: net.local(self.host) + patience,
        });
        let subject: Arc<str> = format!("_INBOX.pull.{}", inbox.0).into();
        self.subscribe(net, inbox, subject, None, To::Pull(key));
        let op = ClientOp::Pull {
            stream,
            consumer,
            wish,
            deliver: inbox,
        };
        self.command(net, op);
        Some(key)
    }

    /// The reader is gone, or the pull is over.
    fn end_pull(&mut self, net: &mut Net, key: PullKey) -> Option<PulledSender> {
        let pull = self.pulls.remove(key)?;
        self.unsubscribe(net, pull.inbox);
        Some(pull.sender)
    }

    pub(super) fn pulled(&mut self, net: &mut Net, sid: Sid, delivered: Delivered) {
        let Some(key) = self.pull_of(net, sid) else {
            return;
        };
        let Some(pull) = self.pulls.get_mut(key) else {
            return;
        };
        // There is room for the whole batch: only a reader that is gone takes nothing.
        let _gone = pull.sender.try_send(PullEvent::Message(delivered));
        pull.left -= 1;
        if pull.left == 0 {
            self.finish_pull(net, key, PullEnd::Full);
        }
    }

    pub(super) fn pull_status(&mut self, net: &mut Net, sid: Sid, status: PullStatus) {
        let Some(key) = self.pull_of(net, sid) else {
            return;
        };
        let takes_what_is_there = self
            .pulls
            .get(key)
            .is_some_and(|pull| pull.takes_what_is_there);
        let over = match status.code {
            100 => return,
            404 => PullEnd::NoMessages,
            // Also how 2.10 says that there is nothing now.
            408 if takes_what_is_there => PullEnd::NoMessages,
            408 => PullEnd::Expired,
            code => PullEnd::Refused(ApiError {
                code,
                err_code: 0,
                description: status.text,
            }),
        };
        self.finish_pull(net, key, over);
    }

    /// The pull behind a subscription, which has just given a sign of life.
    fn pull_of(&mut self, net: &Net, sid: Sid) -> Option<PullKey> {
        let To::Pull(key) = self.subscribed.get(&sid)?.to else {
            return None;
        };
        let now = net.local(self.host);
        let pull = self.pulls.get_mut(key)?;
        if let Some(heartbeat) = pull.heartbeat {
            pull.silent_at = now + heartbeat * 2;
        }
        Some(key)
    }

    fn finish_pull(&mut self, net: &mut Net, key: PullKey, why: PullEnd) {
        if let Some(sender) = self.end_pull(net, key) {
            end(&sender, why);
        }
    }

    /// Ends the pulls of a link that is gone.
    pub(super) fn pulls_lost(&mut self, net: &mut Net) {
        let keys: Vec<PullKey> = self.pulls.keys().collect();
        for key in keys {
            self.finish_pull(net, key, PullEnd::Disconnected);
        }
    }

    /// Ends the pulls that have heard nothing for too long.
    pub(super) fn wake_pulls(&mut self, net: &mut Net, now: Instant) {
        if self.pulls.is_empty() {
            return;
        }
        let pulls = self.pulls.iter();
        let silent = pulls.filter(|(_, pull)| pull.silent_at <= now);
        let silent: Vec<PullKey> = silent.map(|(key, _)| key).collect();
        for key in silent {
            self.finish_pull(net, key, PullEnd::Silent);
        }
    }
}

fn end(sender: &PulledSender, why: PullEnd) {
    // One place was kept for it: only a reader that is gone does not hear it.
    let _gone = sender.try_send(PullEvent::Ended(why));
}

/// Ends the pull when its reading end is dropped. Does not keep its connection open.
struct PullGuard {
    world: World,
    client: ClientKey,
    key: Option<PullKey>,
}

impl Drop for PullGuard {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.world.with_client(self.client, |client, net| {
                // Its sender goes with it.
                let _ended = client.end_pull(net, key);
            });
        }
    }
}

/// A pull consumer of a simulated server.
#[derive(Clone, Debug)]
pub struct SimConsumer {
    connection: SimConnection,
    stream: Arc<str>,
    name: Arc<str>,
}

impl SimConsumer {
    pub(super) fn new(connection: SimConnection, stream: &Arc<str>, name: &str) -> Self {
        Self {
            connection,
            stream: Arc::clone(stream),
            name: name.into(),
        }
    }
}

/// Creates it, or changes what may be changed of one that is there: the server knows which.
pub(super) async fn create(
    connection: &SimConnection,
    stream: &Arc<str>,
    config: &ConsumerConfig,
) -> Result<(), ConsumerError> {
    let request = Request::CreatePullConsumer {
        stream: Arc::clone(stream),
        config: Box::new(config.clone()),
        action: ConsumerAction::CreateOrUpdate,
    };
    administer(connection, request).await.map(|_| ())
}

pub(super) async fn delete(
    connection: &SimConnection,
    stream: &Arc<str>,
    name: &str,
) -> Result<(), ConsumerError> {
    let request = Request::DeleteConsumer {
        stream: Arc::clone(stream),
        consumer: name.into(),
    };
    administer(connection, request).await.map(|_| ())
}

async fn administer(
    connection: &SimConnection,
    request: Request,
) -> Result<Response, ConsumerError> {
    match connection.api(request).await {
        Reply::Response(Response::Error(error)) => Err(match error.err_code {
            10014 => ConsumerError::NotFound,
            10059 => ConsumerError::NoStream,
            _ => ConsumerError::Rejected(error),
        }),
        Reply::Response(Response::NoResponders) => Err(ConsumerError::Unavailable),
        Reply::Response(response) => Ok(response),
        Reply::TimedOut => Err(ConsumerError::TimedOut),
        _ => Err(ConsumerError::Closed),
    }
}

impl PullConsumer for SimConsumer {
    fn name(&self) -> &str {
        &self.name
    }

    async fn info(&self) -> Result<ConsumerInfo, ConsumerError> {
        let request = Request::ConsumerInfo {
            stream: Arc::clone(&self.stream),
            consumer: Arc::clone(&self.name),
        };
        match administer(&self.connection, request).await? {
            Response::PullConsumer(info) => Ok(*info),
            _ => Err(ConsumerError::TimedOut),
        }
    }

    async fn pull(&self, wish: Pull) -> Result<Pulled, PullError> {
        let expires = wish.expires.unwrap_or_default();
        if let Some(heartbeat) = wish.heartbeat
            && (heartbeat.is_zero() || heartbeat > expires / 2)
        {
            return Err(PullError::InvalidHeartbeat { heartbeat, expires });
        }
        let (world, client) = self.connection.place();
        let guard = PullGuard {
            world,
            client,
            key: None,
        };
        let guard = Arc::new(std::sync::Mutex::new(guard));
        // The whole batch, and the end.
        let places = usize::try_from(wish.batch.get()).unwrap_or(usize::MAX);
        let places = places.saturating_add(1).min(MOST_PLACES);
        let (sender, pulled) = Pulled::channel(places, Some(Box::new(Arc::clone(&guard))));
        let which = (Arc::clone(&self.stream), Arc::clone(&self.name));
        let begun = self.connection.with(|client, net| {
            (client.phase != Phase::Closed).then(|| client.pull(net, which, wish, sender))
        });
        let key = begun.flatten().ok_or(PullError::Closed)?;
        if let Ok(mut guard) = guard.lock() {
            guard.key = key;
        }
        Ok(pulled)
    }

    async fn ack(&self, delivered: &Delivered, ack: Ack) -> Result<(), PublishError> {
        let message = Message::new(Arc::clone(&delivered.reply), ack.payload());
        self.connection.publish(message).await
    }

    async fn ack_confirmed(&self, delivered: &Delivered, ack: Ack) -> Result<(), AckError> {
        let message = Message::new(Arc::clone(&delivered.reply), ack.payload());
        match self.connection.request(message).await {
            Ok(_) => Ok(()),
            Err(RequestError::Publish(error)) => Err(error.into()),
            Err(RequestError::NoResponders) => Err(AckError::NoConsumer),
            Err(RequestError::TimedOut) => Err(AckError::TimedOut),
            Err(RequestError::ClosedWhileWaiting) => Err(AckError::ClosedWhileWaiting),
        }
    }
}

/// What a channel can hold.
const MOST_PLACES: usize = usize::MAX >> 4;
