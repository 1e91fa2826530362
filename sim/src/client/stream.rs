//! [`SimStream`]: streams of the simulated client, each operation as many round trips as the real one makes.

use std::fmt;
use std::sync::Arc;

use squall_core::transport::{
    ApiError, ConnectionState, ConsumerConfig, ConsumerError, Headers, JetStream, Message,
    MessageTtl, PublishError, PullConsumer as _, Purge, ReadStart, ReadStreamError, Reader,
    Sequence, StoreAck, StoreError, StoreOptions, StoredMessage, Stream, StreamConfig, StreamError,
    StreamInfo, WatchError, names,
};

use super::consumer::{self, SimConsumer};
use super::handle::{SimConnection, as_delivered};
use super::requests::Reply;
use super::watches::Watched;
use crate::wire::{Get, Request, Response};

/// A stream of a simulated server.
#[derive(Clone)]
pub struct SimStream {
    pub(super) connection: SimConnection,
    pub(super) name: Arc<str>,
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStream({})", self.name)
    }
}

impl JetStream for SimConnection {
    type Stream = SimStream;

    fn stream(&self, name: &str) -> Result<SimStream, StreamError> {
        if !names::is_bucket(name) {
            return Err(StreamError::InvalidName(name.to_owned()));
        }
        Ok(SimStream {
            connection: self.clone(),
            name: name.into(),
        })
    }

    async fn create_stream(&self, config: &StreamConfig) -> Result<SimStream, StreamError> {
        let stream = self.stream(&config.name)?;
        self.check(config)?;
        let request = Request::CreateStream(Box::new(config.clone()));
        match self.administer(request).await {
            // The adapter looks whether it differs only in what a configuration does not name: here it names all.
            Err(StreamError::Exists) => {
                self.describe(&config.name).await?;
                Err(StreamError::Exists)
            }
            created => created.map(|_| stream),
        }
    }

    async fn update_stream(&self, config: &StreamConfig) -> Result<StreamInfo, StreamError> {
        self.stream(&config.name)?;
        self.check(config)?;
        // What a configuration does not name is read first, to be kept.
        self.describe(&config.name).await?;
        let request = Request::UpdateStream(Box::new(config.clone()));
        described(self.administer(request).await?)
    }

    async fn delete_stream(&self, name: &str) -> Result<(), StreamError> {
        let stream = self.stream(name)?.name;
        let deleted = self.administer(Request::DeleteStream { stream }).await;
        deleted.map(drop)
    }

    async fn store(&self, message: Message, options: StoreOptions) -> Result<StoreAck, StoreError> {
        let subject = message.subject.clone();
        if !names::is_publish_subject(&subject) {
            return Err(PublishError::InvalidSubject(subject).into());
        }
        let version = self.look(|client| client.version);
        let is_old = version.is_some_and(|version| !version.is_at_least(2, 11));
        if options.ttl.is_some() && is_old {
            return Err(StoreError::Rejected(ttl_disabled()));
        }
        let mut headers = message.headers;
        demand(&mut headers, options);
        let message = Message {
            headers: as_delivered(&headers)?,
            reply: None,
            ..message
        };
        self.store_as_is(message).await
    }
}

impl SimConnection {
    /// What the adapter refuses before it asks, because servers before 2.11 take no notice of it.
    fn check(&self, config: &StreamConfig) -> Result<(), StreamError> {
        let is_new = config.allow_message_ttl || config.subject_delete_markers.is_some();
        let version = self.look(|client| client.version);
        if is_new && version.is_some_and(|version| !version.is_at_least(2, 11)) {
            return Err(StreamError::Rejected(ApiError {
                code: 400,
                err_code: 0,
                description: "message TTLs and delete markers need nats-server 2.11 or later"
                    .into(),
            }));
        }
        Ok(())
    }

    /// Publishes a message whose headers are as they arrive, and waits for the word that it is stored.
    pub(super) async fn store_as_is(&self, message: Message) -> Result<StoreAck, StoreError> {
        let found = self.look(|client| (client.max_payload, client.state()));
        let size = message.headers.wire_len() + message.payload.len();
        match found {
            Some((limit, _)) if size > limit => {
                return Err(PublishError::TooLarge { size, limit }.into());
            }
            None | Some((_, ConnectionState::Closed)) => return Err(PublishError::Closed.into()),
            Some(_) => {}
        }
        match self.ask_to_store(Request::Store(message)).await {
            Reply::Response(Response::Acked(ack)) => Ok(ack),
            Reply::Response(Response::WrongRevision(actual)) => {
                let actual = actual.into();
                Err(StoreError::WrongLastSequence { actual })
            }
            Reply::Response(Response::WrongMessageId(actual)) => {
                Err(StoreError::WrongLastMessageId { actual })
            }
            Reply::Response(Response::Error(error)) => Err(StoreError::Rejected(error)),
            Reply::Response(_) | Reply::NoResponders => Err(StoreError::NoStream),
            Reply::TimedOut => Err(StoreError::TimedOut),
            Reply::Closed | Reply::Flushed | Reply::Message(_) => {
                Err(StoreError::ClosedWhileWaiting)
            }
        }
    }
}

/// What a publisher demands, as headers.
fn demand(headers: &mut Headers, options: StoreOptions) {
    let number = |sequence: Option<Sequence>| sequence.map(|sequence| sequence.to_string());
    let demands = [
        ("Nats-Msg-Id", options.message_id),
        ("Nats-Expected-Stream", options.expected_stream),
        (
            "Nats-Expected-Last-Sequence",
            number(options.expected_last_sequence),
        ),
        (
            "Nats-Expected-Last-Subject-Sequence",
            number(options.expected_last_subject_sequence),
        ),
        (
            "Nats-Expected-Last-Msg-Id",
            options.expected_last_message_id,
        ),
        ("Nats-TTL", options.ttl.map(life)),
    ];
    for (name, value) in demands {
        if let Some(value) = value {
            headers.append(name, value);
        }
    }
}

/// Servers before 2.11 would keep for ever what was to go: said as later ones say it of a stream without message TTLs.
pub(super) fn ttl_disabled() -> ApiError {
    ApiError {
        code: 400,
        err_code: 10166,
        description: "per-message TTL is disabled".into(),
    }
}

/// The header value of a life: whole seconds, never fewer than were meant.
pub(super) fn life(ttl: MessageTtl) -> String {
    match ttl {
        MessageTtl::Never => "never".to_owned(),
        MessageTtl::For(life) => {
            let whole = life.as_secs() + u64::from(life.subsec_nanos() > 0);
            whole.max(1).to_string()
        }
    }
}

fn described(response: Response) -> Result<StreamInfo, StreamError> {
    match response {
        Response::Stream(info) => Ok(*info),
        _ => Err(StreamError::TimedOut),
    }
}

fn unread(reply: Reply) -> ReadStreamError {
    match reply {
        Reply::Response(Response::Error(error)) if error.err_code != 10059 => {
            ReadStreamError::Rejected(error)
        }
        Reply::Response(_) | Reply::NoResponders => ReadStreamError::NoStream,
        Reply::TimedOut => ReadStreamError::TimedOut,
        Reply::Closed | Reply::Flushed | Reply::Message(_) => ReadStreamError::Closed,
    }
}

impl SimStream {
    async fn get_one(&self, what: Get) -> Result<Option<StoredMessage>, ReadStreamError> {
        let stream = self.name.clone();
        match self.connection.api(Request::Get { stream, what }).await {
            Reply::Response(Response::Message(found)) => Ok(found.map(|found| *found)),
            other => Err(unread(other)),
        }
    }

    /// The last message of each subject that matches; filters were checked.
    pub(super) async fn last_of_each(
        &self,
        filters: Vec<Arc<str>>,
    ) -> Result<Vec<StoredMessage>, ReadStreamError> {
        let stream = self.name.clone();
        match self
            .connection
            .api(Request::LastOf { stream, filters })
            .await
        {
            Reply::Response(Response::Messages(found)) => Ok(found),
            other => Err(unread(other)),
        }
    }
}

fn checked(filter: &str) -> Result<Arc<str>, ReadStreamError> {
    match names::is_subscribe_subject(filter) {
        true => Ok(filter.into()),
        false => Err(ReadStreamError::InvalidSubject(filter.into())),
    }
}

impl Stream for SimStream {
    type Consumer = SimConsumer;

    fn name(&self) -> &str {
        &self.name
    }

    async fn info(&self) -> Result<StreamInfo, ReadStreamError> {
        let stream = self.name.clone();
        match self.connection.api(Request::StreamInfo { stream }).await {
            Reply::Response(Response::Stream(info)) => Ok(*info),
            other => Err(unread(other)),
        }
    }

    async fn purge(&self, what: Purge) -> Result<u64, StreamError> {
        let stream = self.name.clone();
        let request = Request::Purge { stream, what };
        match self.connection.administer(request).await? {
            Response::Purged(purged) => Ok(purged),
            _ => Err(StreamError::TimedOut),
        }
    }

    async fn delete_message(&self, sequence: Sequence) -> Result<bool, StreamError> {
        let stream = self.name.clone();
        let request = Request::DeleteMessage { stream, sequence };
        match self.connection.administer(request).await {
            Ok(_) => Ok(true),
            Err(StreamError::Rejected(error)) if is_absence(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn get(&self, sequence: Sequence) -> Result<Option<StoredMessage>, ReadStreamError> {
        self.get_one(Get::Sequence(sequence)).await
    }

    async fn next(
        &self,
        from: Sequence,
        filter: &str,
    ) -> Result<Option<StoredMessage>, ReadStreamError> {
        let filter = checked(filter)?;
        self.get_one(Get::Next { from, filter }).await
    }

    async fn last(&self, subject: &str) -> Result<Option<StoredMessage>, ReadStreamError> {
        let subject = checked(subject)?;
        self.get_one(Get::Last { subject }).await
    }

    async fn last_of(&self, filters: &[&str]) -> Result<Vec<StoredMessage>, ReadStreamError> {
        let filters = filters.iter().map(|filter| checked(filter));
        self.last_of_each(filters.collect::<Result<_, _>>()?).await
    }

    async fn read(&self, filters: &[&str], start: ReadStart) -> Result<Reader, WatchError> {
        for filter in filters {
            if !names::is_subscribe_subject(filter) {
                return Err(WatchError::InvalidFilter((*filter).into()));
            }
        }
        let heartbeat = self
            .connection
            .with(|client, _| client.options.watch_heartbeat);
        let mut filters: Vec<Arc<str>> = filters.iter().map(|filter| (*filter).into()).collect();
        if filters.is_empty() && start == ReadStart::LastPerSubject {
            // The server wants to be told which subjects (10094).
            filters.push(">".into());
        }
        let watched = Watched {
            stream: self.name.clone(),
            filters,
            heartbeat: heartbeat.ok_or(WatchError::Closed)?,
            whole_history: false,
        };
        self.connection.open_reader(watched, start).await
    }

    async fn create_consumer(
        &self,
        config: &ConsumerConfig,
    ) -> Result<Self::Consumer, ConsumerError> {
        let created = self.consumer(&config.name)?;
        consumer::create(&self.connection, &self.name, config).await?;
        Ok(created)
    }

    fn consumer(&self, name: &str) -> Result<Self::Consumer, ConsumerError> {
        if !names::is_bucket(name) {
            return Err(ConsumerError::InvalidName(name.to_owned()));
        }
        Ok(SimConsumer::new(self.connection.clone(), &self.name, name))
    }

    async fn delete_consumer(&self, name: &str) -> Result<(), ConsumerError> {
        let which = self.consumer(name)?;
        consumer::delete(&self.connection, &self.name, which.name()).await
    }
}

/// What the server says where there is no message to delete: gone, never there, or not there yet.
fn is_absence(error: &ApiError) -> bool {
    match error.err_code {
        10043 => true,
        10057 => matches!(&*error.description, "no message found" | "stream store EOF"),
        _ => false,
    }
}
