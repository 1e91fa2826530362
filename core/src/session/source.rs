//! What can be read over any connection: a watch over a bucket, a reader over a stream.

use std::future::Future;

use crate::transport::watcher::{Description, Item, Told};
use crate::transport::{
    Bucket as _, BucketError, Connection, JetStream, KvEntry, ReadError, ReadStart,
    ReadStreamError, Reader, ReaderEvent, ReaderSender, StoredMessage, Stream as _, StreamError,
    Watch, WatchError, WatchEvent, WatchSender, WatchStart,
};

/// How something is read, whatever the connection.
pub(super) trait Source<C>: Send + Sync + 'static {
    type Item: Item + Send + Sync + 'static;
    type Stream: Send + Sync + 'static;
    type Sender: Send + Sync + 'static;

    fn describe(
        &self,
        connection: &C,
    ) -> impl Future<Output = Result<Description, WatchError>> + Send;

    fn open(
        &self,
        connection: &C,
        from: ReadStart,
    ) -> impl Future<Output = Result<Self::Stream, WatchError>> + Send;

    fn next(stream: &mut Self::Stream) -> impl Future<Output = Option<Told<Self::Item>>> + Send;

    fn try_next(stream: &mut Self::Stream) -> Option<Told<Self::Item>>;

    fn channel(capacity: usize) -> (Self::Sender, Self::Stream);

    fn closed(sender: &Self::Sender) -> impl Future<Output = ()> + Send;

    /// Ready once there is room for one more, or nobody reads.
    fn room(sender: &Self::Sender) -> impl Future<Output = ()> + Send;

    fn send(sender: &Self::Sender, told: Told<Self::Item>);
}

/// A watch over the keys of a bucket that match.
pub(super) struct Keys {
    pub(super) bucket: Box<str>,
    pub(super) filter: Box<str>,
}

/// A reader of the messages of a stream that match.
pub(super) struct Messages {
    pub(super) stream: Box<str>,
    pub(super) filters: Vec<String>,
}

macro_rules! through {
    ($stream:ty, $sender:ty) => {
        type Stream = $stream;
        type Sender = $sender;

        async fn next(stream: &mut $stream) -> Option<Told<Self::Item>> {
            stream.next().await.map(Told::from)
        }

        fn try_next(stream: &mut $stream) -> Option<Told<Self::Item>> {
            stream.try_next().map(Told::from)
        }

        fn channel(capacity: usize) -> ($sender, $stream) {
            <$stream>::channel(capacity, None)
        }

        async fn closed(sender: &$sender) {
            sender.closed().await;
        }

        async fn room(sender: &$sender) {
            sender.room(1).await;
        }

        fn send(sender: &$sender, told: Told<Self::Item>) {
            // There is room, unless nobody reads any more.
            let _gone = sender.try_send(told.into());
        }
    };
}

impl<C: Connection> Source<C> for Keys {
    type Item = KvEntry;
    through!(Watch, WatchSender);

    async fn describe(&self, connection: &C) -> Result<Description, WatchError> {
        let bucket = connection.bucket(&self.bucket).map_err(bucket_unread)?;
        let info = bucket.info().await.map_err(unread)?;
        Ok((&info).into())
    }

    async fn open(&self, connection: &C, from: ReadStart) -> Result<Watch, WatchError> {
        let bucket = connection.bucket(&self.bucket).map_err(bucket_unread)?;
        let start = match from {
            ReadStart::LastPerSubject => WatchStart::Snapshot,
            ReadStart::Sequence(first) => WatchStart::Revision(first.into()),
            // A watch begins at one of the three.
            ReadStart::All | ReadStart::New | ReadStart::Last | ReadStart::Time(_) => {
                WatchStart::Now
            }
        };
        bucket.watch(&self.filter, start).await
    }
}

impl<C: JetStream> Source<C> for Messages {
    type Item = StoredMessage;
    through!(Reader, ReaderSender);

    async fn describe(&self, connection: &C) -> Result<Description, WatchError> {
        let stream = connection.stream(&self.stream).map_err(stream_unread)?;
        let info = stream.info().await.map_err(unread_stream)?;
        Ok((&info).into())
    }

    async fn open(&self, connection: &C, from: ReadStart) -> Result<Reader, WatchError> {
        let stream = connection.stream(&self.stream).map_err(stream_unread)?;
        let filters: Vec<&str> = self.filters.iter().map(|filter| &**filter).collect();
        stream.read(&filters, from).await
    }
}

impl From<WatchEvent> for Told<KvEntry> {
    fn from(event: WatchEvent) -> Self {
        match event {
            WatchEvent::Entry(entry) => Self::Item(entry),
            WatchEvent::SnapshotEnd => Self::CaughtUp,
            WatchEvent::Interrupted(cause) => Self::Interrupted(cause),
            WatchEvent::Resumed { same_bucket } => Self::Resumed {
                same: same_bucket,
                first_held: crate::transport::Sequence::NONE,
            },
        }
    }
}

impl From<ReaderEvent> for Told<StoredMessage> {
    fn from(event: ReaderEvent) -> Self {
        match event {
            ReaderEvent::Message(message) => Self::Item(message),
            ReaderEvent::CaughtUp => Self::CaughtUp,
            ReaderEvent::Interrupted(cause) => Self::Interrupted(cause),
            ReaderEvent::Resumed {
                same_stream,
                first_held,
            } => Self::Resumed {
                same: same_stream,
                first_held,
            },
        }
    }
}

/// The name was checked when the handle was made.
fn bucket_unread(_: BucketError) -> WatchError {
    WatchError::NoBucket
}

/// The name was checked when the handle was made.
fn stream_unread(_: StreamError) -> WatchError {
    WatchError::NoBucket
}

fn unread(error: ReadError) -> WatchError {
    match error {
        ReadError::InvalidKey(key) => WatchError::InvalidFilter(key),
        ReadError::NoBucket => WatchError::NoBucket,
        ReadError::Rejected(error) => WatchError::Rejected(error),
        ReadError::TimedOut => WatchError::TimedOut,
        ReadError::Closed => WatchError::Closed,
    }
}

fn unread_stream(error: ReadStreamError) -> WatchError {
    match error {
        ReadStreamError::InvalidSubject(subject) => WatchError::InvalidFilter(subject),
        ReadStreamError::NoStream => WatchError::NoBucket,
        ReadStreamError::Rejected(error) => WatchError::Rejected(error),
        ReadStreamError::TimedOut => WatchError::TimedOut,
        ReadStreamError::Closed => WatchError::Closed,
    }
}
