//! [`Transport`] and [`Connection`]: one client of NATS, with its own reconnects.

use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::channel::{Events, Subscription};
use super::credentials::{CredentialsCell, Login};
use super::error::{
    BucketError, ConnectError, FlushError, PublishError, RequestError, SubscribeError,
};
use super::kv::{Bucket, BucketConfig};
use super::message::Message;
use super::stream::JetStream;

/// A way to NATS. Cheap to clone.
pub trait Transport: Clone + Send + Sync + 'static {
    /// What [`connect`](Self::connect) gives.
    type Connection: Connection + JetStream;

    /// Connects to the first server of `options` that answers.
    ///
    /// # Errors
    /// After an error there is no connection and nothing goes on trying.
    fn connect(
        &self,
        options: ConnectOptions,
    ) -> impl Future<Output = Result<Self::Connection, ConnectError>> + Send;
}

/// How a client connects and behaves. The defaults are those of async-nats 0.51.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// The name the server shows for this connection. Default: empty.
    pub name: String,
    /// Servers to try in turn, as `nats://host:port`; a simulated server is `nats://<its name>`.
    pub servers: Vec<String>,
    /// How long one attempt may take before the server's greeting. Default 5 s.
    pub connect_timeout: Duration,
    /// Silence of the server after which it is pinged. Disconnects after two unanswered pings more, so at three times
    /// this. Default 60 s.
    pub ping_interval: Duration,
    /// How long a request waits for its answer: reads of a bucket, watch creation, administration. Default 10 s.
    pub request_timeout: Duration,
    /// How long a JetStream write waits for its acknowledgement. Default 5 s.
    pub ack_timeout: Duration,
    /// Failed attempts in a row after which the client gives up for good. Default: never.
    pub reconnects_max: Option<NonZeroU32>,
    /// Messages a [`Subscription`] or [`Watch`](super::Watch) holds unread before new ones are dropped. Default 65 536.
    pub subscription_capacity: usize,
    /// Silence of a watch after which the server sends a sign of life; twice this without one, and the watch is made
    /// anew. Where there are copies, also how often a watch asks who leads them, and how long that may take: each asks once
    /// in that time. Default 5 s; servers refuse less than 100 ms (10083).
    pub watch_heartbeat: Duration,
    /// What to log in with, read at each attempt to connect. Default: nothing, for servers that ask for nothing.
    pub credentials: Option<CredentialsCell>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            servers: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(60),
            request_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(5),
            reconnects_max: None,
            subscription_capacity: 65_536,
            watch_heartbeat: Duration::from_secs(5),
            credentials: None,
        }
    }
}

/// One client of NATS. Clones share it; it is closed by [`close`](Self::close), [`drain`](Self::drain), or when the last
/// clone is dropped. It reconnects by itself, and re-sends its subscriptions then.
pub trait Connection: Clone + Send + Sync + 'static {
    /// What [`bucket`](Self::bucket) gives.
    type Bucket: Bucket;

    /// This client, unlike any other of its process. Stays the same across reconnects.
    fn id(&self) -> ConnectionId;

    /// What it is now. [`ConnectionState::Closed`] is terminal.
    fn state(&self) -> ConnectionState;

    /// What the latest attempt to connect logged in with; `None` without a
    /// [`credentials`](ConnectOptions::credentials) cell. Later attempts come as [`ConnectionEvent::LoggingIn`].
    fn login(&self) -> Option<Login>;

    /// What happens to it from now on, in order and without loss. Any number of listeners, each gets all.
    fn events(&self) -> Events;

    /// Hands a message to the client: `Ok` means queued, not sent, and nobody will say whether it arrived.
    ///
    /// While disconnected messages wait (2048 of them, then this blocks) and go out in order after the reconnect.
    ///
    /// # Errors
    /// After an error it was not queued.
    fn publish(&self, message: Message) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Publishes and waits for the first answer, at most `request_timeout`.
    ///
    /// # Errors
    /// See [`RequestError`]: a time-out does not say that nobody acted.
    fn request(
        &self,
        message: Message,
    ) -> impl Future<Output = Result<Message, RequestError>> + Send;

    /// Subscribes to a subject, which may hold wildcards; with `queue`, as a member of that queue group.
    ///
    /// Not a round trip: a message that somebody else publishes right after may be missed. Flush first.
    ///
    /// # Errors
    /// After an error there is no subscription.
    fn subscribe(
        &self,
        subject: &str,
        queue: Option<&str>,
    ) -> impl Future<Output = Result<Subscription, SubscribeError>> + Send;

    /// A round trip to the server: what was published and subscribed before is there once it returns.
    ///
    /// It is a message to the client's own inbox: where permissions deny that, this times out.
    ///
    /// # Errors
    /// After an error nothing is known of what was on its way.
    fn flush(&self) -> impl Future<Output = Result<(), FlushError>> + Send;

    /// Unsubscribes, lets what has arrived be read, sends what is queued, and closes.
    ///
    /// # Errors
    /// After an error the connection is closed all the same.
    fn drain(&self) -> impl Future<Output = Result<(), FlushError>> + Send;

    /// Drops the link and dials again at once, with the credentials that the cell holds then. Returns before that is done:
    /// events tell. Subscriptions miss what others publish meanwhile; requests in flight are still answered. Without
    /// effect while reconnecting or closed.
    fn reconnect(&self) -> impl Future<Output = ()> + Send;

    /// Closes at once, also while reconnecting. Subscriptions and watches end. Idempotent.
    fn close(&self) -> impl Future<Output = ()> + Send;

    /// A handle to a key-value bucket. No round trip: whether it exists shows at the first use.
    ///
    /// # Errors
    /// If the name is empty or holds other than `A-Z a-z 0-9 - _`.
    fn bucket(&self, name: &str) -> Result<Self::Bucket, BucketError>;

    /// Creates a bucket. Ok if it exists with this very configuration.
    ///
    /// # Errors
    /// [`BucketError::Exists`] if it exists with another one.
    fn create_bucket(
        &self,
        config: &BucketConfig,
    ) -> impl Future<Output = Result<Self::Bucket, BucketError>> + Send;

    /// Gives an existing bucket this configuration, at once and for everybody; what is older than a shortened
    /// `max_age` goes immediately. Settings of the stream behind it that [`BucketConfig`] does not name are kept.
    ///
    /// # Errors
    /// [`BucketError::NotFound`] if there is none.
    fn update_bucket(
        &self,
        config: &BucketConfig,
    ) -> impl Future<Output = Result<Self::Bucket, BucketError>> + Send;

    /// Deletes a bucket with all that is in it.
    ///
    /// # Errors
    /// [`BucketError::NotFound`] if there is none.
    fn delete_bucket(&self, name: &str) -> impl Future<Output = Result<(), BucketError>> + Send;
}

/// One client of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// What a connection is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Greeted by a server. The link may still be dead without anybody knowing.
    Connected,
    /// Trying to reconnect.
    Disconnected,
    /// Over, for good.
    Closed,
}

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// The first connect succeeded.
    Connected,
    /// An attempt to reconnect begins with these credentials: what follows, up to the end of the link it may make, is
    /// about them.
    LoggingIn(Login),
    /// The link is gone; the client is trying to reconnect.
    Disconnected(DisconnectCause),
    /// Connected again. Subscriptions have been re-sent; what was published in between is lost to them.
    Reconnected,
    /// An attempt to reconnect failed, with the text the client gives.
    ReconnectFailed(Arc<str>),
    /// The server is about to shut down and will close this connection soon.
    LameDuck,
    /// A subscription or watch was full: messages for it were dropped.
    SlowConsumer,
    /// The server refused the credentials, with its text: of an attempt, or, where a link was up, of that link.
    AuthError(Arc<str>),
    /// The server sent another error, with its text; the connection lives unless `Disconnected` follows.
    ServerError(Arc<str>),
    /// Closed, by its owner or because it gave up. Terminal.
    Closed,
}

impl ConnectionEvent {
    /// What a server's `-ERR` means, by its text. For implementations of the seam.
    pub fn of_server_error(text: Arc<str>) -> Self {
        if is_auth_error(&text) {
            Self::AuthError(text)
        } else {
            Self::ServerError(text)
        }
    }

    /// Why an attempt to connect failed: by the server's word about the credentials, or otherwise. For implementations
    /// of the seam.
    pub fn of_failed_attempt(text: Arc<str>) -> Self {
        if is_auth_error(&text) {
            Self::AuthError(text)
        } else {
            Self::ReconnectFailed(text)
        }
    }
}

/// Whether a server's text is about credentials. For implementations of the seam.
pub fn is_auth_error(text: &str) -> bool {
    let about = [
        "user authentication",
        "account authentication",
        "authorization violation",
        "authentication ",
    ];
    let text = text.to_ascii_lowercase();
    about.iter().any(|about| text.starts_with(about))
}

impl fmt::Display for ConnectionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected"),
            Self::LoggingIn(login) => write!(f, "logging in: {login}"),
            Self::Disconnected(cause) => write!(f, "disconnected: {cause}"),
            Self::Reconnected => f.write_str("reconnected"),
            Self::ReconnectFailed(text) => write!(f, "reconnect failed: {text}"),
            Self::LameDuck => f.write_str("lame duck"),
            Self::SlowConsumer => f.write_str("slow consumer"),
            Self::AuthError(text) => write!(f, "auth error: {text}"),
            Self::ServerError(text) => write!(f, "server error: {text}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

/// Why a link went away, as far as the client can know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisconnectCause {
    /// End of file, reset, or unanswered pings: the client is not told which.
    Lost,
    /// The server said why just before: `Stale Connection`, `User Authentication Expired`, ...
    ServerError(Arc<str>),
}

impl DisconnectCause {
    /// Whether a link that ends right after this text of the server may have ended for it: a permission violation never
    /// costs the connection. For implementations of the seam.
    pub fn may_be(text: &str) -> bool {
        !text.starts_with("Permissions Violation")
    }
}

impl fmt::Display for DisconnectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("link lost"),
            Self::ServerError(text) => f.write_str(text),
        }
    }
}
