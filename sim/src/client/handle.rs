//! The async face of the simulated client: [`SimTransport`] and [`SimConnection`].

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use squall_core::transport::{
    BucketConfig, BucketError, ConnectError, ConnectOptions, Connection, ConnectionEvent,
    ConnectionId, ConnectionState, Events, FlushError, Headers, Login, Message, PublishError,
    ReadStart, Reader, RequestError, StreamError, StreamInfo, SubscribeError, Subscription,
    Transport, Watch, WatchError, WatchStart, names,
};
use squall_core::{Clock as _, Instant};

use super::bucket::{SimBucket, bucket_error};
use super::reading::{Reading, places};
use super::requests::{Patience, Reply, RequestKey, id_of, inbox_of, inboxes_of};
use super::watches::{Opening, WatchKey, Watched};
use super::{Client, ClientKey, First, Phase, Pong, To};
use crate::env::SimClock;
use crate::net::Net;
use crate::wire::{ClientOp, INBOX, Request, Response, Sid};
use crate::world::{ProcessKey, World};

/// Time between two looks at readers that closing waits for, where that is planted.
const JOIN_LOOK: Duration = Duration::from_millis(1);

/// The way to the simulated servers from one process.
#[derive(Clone, Debug)]
pub struct SimTransport {
    pub(crate) world: World,
    pub(crate) process: ProcessKey,
}

impl Transport for SimTransport {
    type Connection = SimConnection;

    async fn connect(&self, options: ConnectOptions) -> Result<SimConnection, ConnectError> {
        let key = self.world.open_client(self.process, options)?;
        let guard = Guard {
            world: self.world.clone(),
            client: key,
        };
        let id = self.world.with_client(key, |client, _| client.id);
        let connection = SimConnection {
            client: Arc::new(guard),
            id: id.unwrap_or(ConnectionId(0)),
            clock: self.world.clock(self.process),
        };
        poll_fn(|context| {
            let first = connection.with(|client, _| match &mut client.first {
                First::Waiting(waker) => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
                First::Failed(error) => Poll::Ready(Err(error.clone())),
                First::Done => Poll::Ready(Ok(())),
            });
            let gone = || Poll::Ready(Err(ConnectError::Unreachable("closed".into())));
            first.unwrap_or_else(gone)
        })
        .await?;
        Ok(connection)
    }
}

/// Closes the client when the last handle is dropped.
struct Guard {
    world: World,
    client: ClientKey,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.world.remove_client(self.client);
    }
}

/// A simulated client of NATS.
#[derive(Clone)]
pub struct SimConnection {
    client: Arc<Guard>,
    id: ConnectionId,
    pub(super) clock: SimClock,
}

impl fmt::Debug for SimConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimConnection({})", self.id)
    }
}

impl SimConnection {
    /// Works on the client, and arms its timer afterwards. `None` once its process is dead.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Client, &mut Net) -> R) -> Option<R> {
        self.client.world.with_client(self.client.client, work)
    }

    /// Looks at the client; nothing that is done here moves its next deadline forward.
    pub(super) fn look<R>(&self, look: impl FnOnce(&mut Client) -> R) -> Option<R> {
        self.client.world.look_at_client(self.client.client, look)
    }

    /// Its client, and where that is.
    pub(super) fn place(&self) -> (World, ClientKey) {
        (self.client.world.clone(), self.client.client)
    }

    /// Hands a command over as soon as there is room, and waits for what comes of it.
    pub(super) fn exchange<C>(&self, patience: Patience, command: C) -> Exchange<'_, C>
    where
        C: FnOnce(RequestKey) -> ClientOp,
    {
        Exchange {
            connection: self,
            patience,
            until: None,
            key: None,
            command: Some(command),
        }
    }

    pub(super) async fn api(&self, request: Request) -> Reply {
        self.exchange(Patience::Request, |key| ClientOp::Request {
            id: id_of(key),
            request,
        })
        .await
    }

    /// A request to the API of JetStream, and its answer.
    pub(super) async fn administer(&self, request: Request) -> Result<Response, StreamError> {
        match self.api(request).await {
            Reply::Response(Response::Error(error)) => Err(match error.err_code {
                10058 => StreamError::Exists,
                10059 => StreamError::NotFound,
                _ => StreamError::Rejected(error),
            }),
            Reply::Response(Response::NoResponders) => Err(StreamError::Unavailable),
            Reply::Response(response) => Ok(response),
            Reply::TimedOut => Err(StreamError::TimedOut),
            _ => Err(StreamError::Closed),
        }
    }

    /// The server's description of a stream.
    pub(super) async fn describe(&self, stream: &str) -> Result<StreamInfo, StreamError> {
        let stream = stream.into();
        match self.administer(Request::StreamInfo { stream }).await? {
            Response::Stream(info) => Ok(*info),
            _ => Err(StreamError::TimedOut),
        }
    }

    pub(super) async fn open_watch(
        &self,
        watched: Watched,
        start: WatchStart,
    ) -> Result<Watch, WatchError> {
        let (capacity, guard) = self.prepare_watch()?;
        let (sender, watch) = Watch::channel(capacity, Some(Box::new(Arc::clone(&guard))));
        let reading = Reading::bucket(start, watched.heartbeat, sender);
        self.open(watched, reading, &guard).await.map(|()| watch)
    }

    pub(super) async fn open_reader(
        &self,
        watched: Watched,
        start: ReadStart,
    ) -> Result<Reader, WatchError> {
        let (capacity, guard) = self.prepare_watch()?;
        let (sender, reader) = Reader::channel(capacity, Some(Box::new(Arc::clone(&guard))));
        let kindness = self.with(|_, net| net.kindness).flatten();
        let reading = Reading::stream(start, watched.heartbeat, sender, kindness);
        self.open(watched, reading, &guard).await.map(|()| reader)
    }

    /// How much a reader may leave unread, and what ends a watch with its reader.
    fn prepare_watch(&self) -> Result<(usize, Arc<Mutex<WatchGuard>>), WatchError> {
        let capacity = self.with(|client, _| client.options.subscription_capacity);
        let guard = WatchGuard {
            world: self.client.world.clone(),
            client: self.client.client,
            key: None,
        };
        let guard = Arc::new(Mutex::new(guard));
        capacity
            .map(|capacity| (places(capacity), guard))
            .ok_or(WatchError::Closed)
    }

    async fn open(
        &self,
        watched: Watched,
        reading: Reading,
        guard: &Mutex<WatchGuard>,
    ) -> Result<(), WatchError> {
        let begun = self.with(|client, net| {
            if client.phase == Phase::Closed {
                return None;
            }
            Some((
                client.watch(net, watched, reading),
                client.options.request_timeout,
            ))
        });
        let Some((key, timeout)) = begun.flatten() else {
            return Err(WatchError::Closed);
        };
        if let Ok(mut guard) = guard.lock() {
            guard.key = Some(key);
        }
        let opened = poll_fn(|context| {
            let polled = self.with(|client, _| {
                let Some(watch) = client.watches.get_mut(key) else {
                    return Poll::Ready(Err(WatchError::Closed));
                };
                match &mut watch.opening {
                    Opening::Waiting(waker) => {
                        *waker = Some(context.waker().clone());
                        Poll::Pending
                    }
                    Opening::Opened => Poll::Ready(Ok(())),
                    Opening::Failed(error) => Poll::Ready(Err(error.clone())),
                }
            });
            polled.unwrap_or(Poll::Ready(Err(WatchError::Closed)))
        });
        let deadline = self.clock.now() + timeout;
        tokio::select! {
            biased;
            opened = opened => opened,
            () = self.clock.sleep_until(deadline) => Err(WatchError::TimedOut),
        }
    }
}

/// A request under way. Gives its place among the requests back when its caller stops waiting.
///
/// Written by hand: as an async function it would hold its command twice, and every agent has one of these.
pub(super) struct Exchange<'a, C> {
    connection: &'a SimConnection,
    patience: Patience,
    /// When it is given up, where that is not the whole patience later.
    until: Option<Instant>,
    /// `None` before it has begun, and once it is over.
    key: Option<RequestKey>,
    /// `None` once it was handed over.
    command: Option<C>,
}

impl<C> Exchange<'_, C> {
    /// Gives up at this instant.
    pub(super) fn until(mut self, deadline: Instant) -> Self {
        self.until = Some(deadline);
        self
    }
}

// Nothing in it is pinned.
impl<C> Unpin for Exchange<'_, C> {}

impl<C: FnOnce(RequestKey) -> ClientOp> Future for Exchange<'_, C> {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let this = self.get_mut();
        let Self { key, command, .. } = this;
        let polled = match (*key, &command) {
            (Some(key), None) => this
                .connection
                .look(|client| client.requests.poll(key, context)),
            _ => this.connection.with(|client, net| {
                if client.phase == Phase::Closed && key.is_none() {
                    return Poll::Ready(Reply::Closed);
                }
                let key = *key.get_or_insert_with(|| client.begin(net, this.patience, this.until));
                if !client.has_room() {
                    client.room.push(context.waker().clone());
                } else if let Some(command) = command.take() {
                    match command(key) {
                        ClientOp::Ping => client.flush(net, key),
                        op => client.command(net, op),
                    }
                }
                client.requests.poll(key, context)
            }),
        };
        let polled = polled.unwrap_or(Poll::Ready(Reply::Closed));
        if polled.is_ready() {
            this.key = None;
        }
        polled
    }
}

impl<C> Drop for Exchange<'_, C> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.connection.look(|client| client.requests.abandon(key));
        }
    }
}

/// Ends the watch when its reading end is dropped. Does not keep its connection open.
pub(super) struct WatchGuard {
    world: World,
    client: ClientKey,
    key: Option<WatchKey>,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.world
                .with_client(self.client, |client, net| client.end_watch(net, key));
        }
    }
}

/// Unsubscribes when the reading end of a subscription is dropped. Does not keep its connection open.
struct SubscriptionGuard {
    world: World,
    client: ClientKey,
    sid: Sid,
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        let sid = self.sid;
        self.world
            .with_client(self.client, |client, net| client.unsubscribe(net, sid));
    }
}

impl Client {
    fn begin(&mut self, net: &mut Net, patience: Patience, until: Option<Instant>) -> RequestKey {
        if self.has_credentials {
            // Where there may be permissions it matters that answers come to a subscription.
            self.open_inbox(net);
        }
        let wait = match patience {
            Patience::Ack => self.ack_timeout,
            Patience::Request => self.options.request_timeout,
        };
        let deadline = until.unwrap_or_else(|| net.local(self.host) + wait);
        self.requests.begin(patience, deadline)
    }

    fn flush(&mut self, net: &mut Net, key: RequestKey) {
        if let Phase::Connected { link } = self.phase {
            self.pongs.push_back(Pong::Flush(key));
            net.send_up(link, ClientOp::Ping);
        } else {
            self.flushes.push(key);
        }
    }

    /// The subscription for answers exists from the first request on.
    pub(super) fn open_inbox(&mut self, net: &mut Net) {
        if !self.subscribed.contains_key(&INBOX) {
            let answers = format!("{}.*", inboxes_of(self.key));
            self.subscribe(net, INBOX, answers.into(), None, To::Inbox);
        }
    }
}

impl Connection for SimConnection {
    type Bucket = SimBucket;

    fn id(&self) -> ConnectionId {
        self.id
    }

    fn state(&self) -> ConnectionState {
        self.look(|client| client.state())
            .unwrap_or(ConnectionState::Closed)
    }

    fn login(&self) -> Option<Login> {
        self.with(|client, _| client.login).flatten()
    }

    fn events(&self) -> Events {
        self.with(|client, _| {
            let events = client.events.listen();
            if client.phase == Phase::Closed {
                // It hears just that.
                client.events.send(&ConnectionEvent::Closed);
            }
            events
        })
        .unwrap_or_else(Events::ended)
    }

    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        for subject in std::iter::once(&message.subject).chain(&message.reply) {
            if !names::is_publish_subject(subject) {
                return Err(PublishError::InvalidSubject(subject.clone()));
            }
        }
        let mut message = Some(Message {
            headers: as_delivered(&message.headers)?,
            ..message
        });
        poll_fn(|context| {
            let polled = self.with(|client, net| {
                if client.phase == Phase::Closed {
                    return Poll::Ready(Err(PublishError::Closed));
                }
                if !client.has_room() {
                    client.room.push(context.waker().clone());
                    return Poll::Pending;
                }
                let Some(message) = message.take() else {
                    return Poll::Ready(Ok(()));
                };
                let size = message.headers.wire_len() + message.payload.len();
                if size > client.max_payload {
                    let limit = client.max_payload;
                    return Poll::Ready(Err(PublishError::TooLarge { size, limit }));
                }
                client.command(net, ClientOp::Publish { message });
                Poll::Ready(Ok(()))
            });
            polled.unwrap_or(Poll::Ready(Err(PublishError::Closed)))
        })
        .await
    }

    async fn request(&self, mut message: Message) -> Result<Message, RequestError> {
        if !names::is_publish_subject(&message.subject) {
            return Err(PublishError::InvalidSubject(message.subject.clone()).into());
        }
        message.headers = as_delivered(&message.headers)?;
        let size = message.headers.wire_len() + message.payload.len();
        let prepared = self.with(|client, net| {
            if size > client.max_payload {
                let limit = client.max_payload;
                return Err(PublishError::TooLarge { size, limit });
            }
            if client.phase == Phase::Closed {
                return Err(PublishError::Closed);
            }
            client.open_inbox(net);
            Ok(())
        });
        prepared.unwrap_or(Err(PublishError::Closed))?;
        let command = |key| {
            message.reply = Some(inbox_of(self.client.client, key));
            ClientOp::Publish { message }
        };
        match self.exchange(Patience::Request, command).await {
            Reply::Message(message) => Ok(message),
            Reply::NoResponders => Err(RequestError::NoResponders),
            Reply::TimedOut => Err(RequestError::TimedOut),
            Reply::Closed | Reply::Flushed | Reply::Response(_) => {
                Err(RequestError::ClosedWhileWaiting)
            }
        }
    }

    async fn subscribe(
        &self,
        subject: &str,
        queue: Option<&str>,
    ) -> Result<Subscription, SubscribeError> {
        for name in [Some(subject), queue].into_iter().flatten() {
            if !names::is_subscribe_subject(name) {
                return Err(SubscribeError::InvalidSubject(name.into()));
            }
        }
        poll_fn(|context| {
            let room = self.with(|client, _| {
                let ready = client.phase == Phase::Closed || client.has_room();
                if !ready {
                    client.room.push(context.waker().clone());
                }
                ready
            });
            match room {
                Some(false) => Poll::Pending,
                Some(true) | None => Poll::Ready(()),
            }
        })
        .await;
        let begun = self.with(|client, net| {
            if client.phase == Phase::Closed {
                return None;
            }
            let sid = client.new_sid();
            let guard = SubscriptionGuard {
                world: self.client.world.clone(),
                client: self.client.client,
                sid,
            };
            let capacity = client.options.subscription_capacity;
            let (sender, subscription) = Subscription::channel(capacity, Some(Box::new(guard)));
            let queue = queue.map(Into::into);
            client.subscribe(net, sid, subject.into(), queue, To::Subscription(sender));
            Some(subscription)
        });
        begun.flatten().ok_or(SubscribeError::Closed)
    }

    async fn flush(&self) -> Result<(), FlushError> {
        let has_login = self.with(|client, _| client.has_credentials);
        let echo = |key| match has_login {
            // The real one is a message to the client's own inbox: permissions can deny it.
            Some(true) => ClientOp::Publish {
                message: Message::new(inbox_of(self.client.client, key), bytes::Bytes::new()),
            },
            _ => ClientOp::Ping,
        };
        match self.exchange(Patience::Request, echo).await {
            Reply::Flushed | Reply::Message(_) => Ok(()),
            Reply::TimedOut => Err(FlushError::TimedOut),
            _ => Err(FlushError::Closed),
        }
    }

    async fn drain(&self) -> Result<(), FlushError> {
        self.with(|client, net| {
            let subscriptions: Vec<Sid> = client
                .subscribed
                .iter()
                .filter(|(_, subscribed)| matches!(subscribed.to, To::Subscription(_)))
                .map(|(sid, _)| *sid)
                .collect();
            for sid in subscriptions {
                client.unsubscribe(net, sid);
            }
        });
        let flushed = self.flush().await;
        self.close().await;
        flushed
    }

    fn reconnect(&self) -> impl Future<Output = ()> + Send {
        self.with(Client::reconnect);
        std::future::ready(())
    }

    async fn close(&self) {
        while self.with(|client, net| client.joins_readers(net)) == Some(true) {
            self.client
                .world
                .sleep_until(self.client.world.now() + JOIN_LOOK)
                .await;
        }
        self.with(Client::close);
    }

    fn bucket(&self, name: &str) -> Result<SimBucket, BucketError> {
        if !names::is_bucket(name) {
            return Err(BucketError::InvalidName(name.to_owned()));
        }
        Ok(SimBucket {
            connection: self.clone(),
            name: name.into(),
        })
    }

    async fn create_bucket(&self, config: &BucketConfig) -> Result<SimBucket, BucketError> {
        let bucket = self.bucket(&config.bucket)?;
        bucket.set_up(config).await?;
        Ok(bucket)
    }

    async fn update_bucket(&self, config: &BucketConfig) -> Result<SimBucket, BucketError> {
        let bucket = self.bucket(&config.bucket)?;
        bucket.reconfigure(config).await?;
        Ok(bucket)
    }

    async fn delete_bucket(&self, name: &str) -> Result<(), BucketError> {
        let stream = self.bucket(name)?.stream().into();
        let deleted = self.administer(Request::DeleteStream { stream }).await;
        deleted.map(drop).map_err(bucket_error)
    }
}

/// Headers as they arrive: in the order of their names, without white space around their values.
pub(super) fn as_delivered(headers: &Headers) -> Result<Headers, PublishError> {
    let mut all: Vec<(&str, &str)> = headers.iter().collect();
    for (name, value) in &all {
        if !names::is_header(name, value) {
            return Err(PublishError::InvalidHeader((*name).into()));
        }
    }
    all.sort_by_key(|(name, _)| *name);
    let mut delivered = Headers::new();
    for (name, value) in all {
        delivered.append(name, value.trim());
    }
    Ok(delivered)
}
