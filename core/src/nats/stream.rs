//! One stream: what is in it, and what reads it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::admin;
use super::api::{Failure, MESSAGE_DELETE_FAILED, SEQUENCE_NOT_FOUND};
use super::connection::NatsConnection;
use super::consumer::Source;
use super::direct::{self, read_error};
use super::jetstream::{call, stream_error};
use super::link::Shared;
use super::pull_consumer::{self, NatsConsumer};
use super::stream_config;
use super::watch;
use crate::transport::names::{is_bucket, is_subscribe_subject};
use crate::transport::{
    ApiError, ConsumerConfig, ConsumerError, Purge, ReadStart, ReadStreamError, Reader, Sequence,
    StoredMessage, Stream, StreamError, StreamInfo, WatchError,
};

/// A stream on real servers.
#[derive(Clone, Debug)]
pub struct NatsStream {
    connection: NatsConnection,
    name: Arc<str>,
}

impl NatsStream {
    pub(super) fn new(connection: NatsConnection, name: &str) -> Self {
        Self {
            connection,
            name: name.into(),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        self.connection.shared()
    }

    async fn read_one(&self, wish: Value) -> Result<Option<StoredMessage>, ReadStreamError> {
        direct::get(self.shared(), &self.name, &wish).await
    }
}

impl Stream for NatsStream {
    type Consumer = NatsConsumer;

    fn name(&self) -> &str {
        &self.name
    }

    async fn info(&self) -> Result<StreamInfo, ReadStreamError> {
        let info = admin::info(self.shared(), &self.name);
        let info = info.await.map_err(read_error)?;
        stream_config::read_info(&info).ok_or(ReadStreamError::TimedOut)
    }

    async fn purge(&self, what: Purge) -> Result<u64, StreamError> {
        let mut wish = json!({});
        if let Some(filter) = what.filter {
            wish["filter"] = filter.into();
        }
        if let Some(Sequence(below)) = what.below {
            wish["seq"] = below.into();
        }
        if let Some(keep) = what.keep {
            wish["keep"] = keep.into();
        }
        let purged = call(self.shared(), "PURGE", &self.name, Some(&wish)).await;
        let purged = purged.map_err(stream_error)?;
        purged["purged"].as_u64().ok_or(StreamError::TimedOut)
    }

    async fn delete_message(&self, sequence: Sequence) -> Result<bool, StreamError> {
        // Without overwriting it on the disk first.
        let wish = json!({ "seq": sequence.0, "no_erase": true });
        match call(self.shared(), "MSG.DELETE", &self.name, Some(&wish)).await {
            Ok(_) => Ok(true),
            Err(Failure::Api(error)) if says_that_it_is_gone(&error) => Ok(false),
            Err(failure) => Err(stream_error(failure)),
        }
    }

    async fn get(&self, sequence: Sequence) -> Result<Option<StoredMessage>, ReadStreamError> {
        self.read_one(json!({ "seq": sequence.0 })).await
    }

    async fn next(
        &self,
        from: Sequence,
        filter: &str,
    ) -> Result<Option<StoredMessage>, ReadStreamError> {
        check_subject(filter)?;
        let wish = json!({ "seq": from.0, "next_by_subj": filter });
        self.read_one(wish).await
    }

    async fn last(&self, subject: &str) -> Result<Option<StoredMessage>, ReadStreamError> {
        check_subject(subject)?;
        self.read_one(json!({ "last_by_subj": subject })).await
    }

    async fn last_of(&self, filters: &[&str]) -> Result<Vec<StoredMessage>, ReadStreamError> {
        for filter in filters {
            check_subject(filter)?;
        }
        direct::last_of(self.shared(), &self.name, &json!(filters)).await
    }

    async fn read(&self, filters: &[&str], start: ReadStart) -> Result<Reader, WatchError> {
        if let Some(filter) = filters.iter().find(|filter| !is_subscribe_subject(filter)) {
            return Err(WatchError::InvalidFilter(Arc::from(*filter)));
        }
        let capacity = watch::capacity(self.shared().options.subscription_capacity);
        let (out, reader) = Reader::channel(capacity, None);
        let source = Source::stream(&self.name, filters);
        watch::start(self.shared(), source, start, out).await?;
        Ok(reader)
    }

    async fn create_consumer(
        &self,
        config: &ConsumerConfig,
    ) -> Result<NatsConsumer, ConsumerError> {
        let consumer = self.consumer(&config.name)?;
        pull_consumer::create(self.shared(), &self.name, config).await?;
        Ok(consumer)
    }

    fn consumer(&self, name: &str) -> Result<NatsConsumer, ConsumerError> {
        if !is_bucket(name) {
            return Err(ConsumerError::InvalidName(name.to_owned()));
        }
        Ok(NatsConsumer::new(self.connection.clone(), &self.name, name))
    }

    async fn delete_consumer(&self, name: &str) -> Result<(), ConsumerError> {
        self.consumer(name)?;
        pull_consumer::delete(self.shared(), &self.name, name).await
    }
}

fn check_subject(subject: &str) -> Result<(), ReadStreamError> {
    if is_subscribe_subject(subject) {
        return Ok(());
    }
    Err(ReadStreamError::InvalidSubject(subject.into()))
}

/// Of a sequence that was never given out the server says no more than that the deletion failed.
fn says_that_it_is_gone(error: &ApiError) -> bool {
    error.err_code == SEQUENCE_NOT_FOUND
        || error.err_code == MESSAGE_DELETE_FAILED
            && matches!(&*error.description, "stream store EOF" | "no message found")
}
