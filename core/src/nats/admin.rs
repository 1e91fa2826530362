//! Creating, changing and describing buckets: the stream behind a bucket, as NATS' own clients lay it out (ADR-8).
//!
//! Stream configurations are kept as the JSON that the server sent, so that an update changes what a [`BucketConfig`]
//! names and nothing else, also settings that this code has never heard of.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::{Failure, STREAM_NAME_IN_USE};
use super::link::Shared;
use super::stream_config::{duration, leadership, limit, storage_in, storage_out};
use crate::time::{UnixTime, nanos};
use crate::transport::{
    ApiError, BucketConfig, BucketError, BucketInfo, PublishError, ReadError, RequestError,
    Revision,
};

/// The server's default memory of message ids; must not exceed the age limit.
pub(super) const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

pub(super) fn stream_of(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The server would take any history, and 0 as endless: the limit is the clients' own (ADR-8). Said in its manner.
pub(super) fn check(config: &BucketConfig) -> Result<(), BucketError> {
    if (1..=64).contains(&config.history) {
        return Ok(());
    }
    Err(BucketError::Rejected(ApiError {
        code: 500,
        err_code: 10052,
        description: "history must be between 1 and 64".into(),
    }))
}

pub(super) async fn create(shared: &Shared, config: &BucketConfig) -> Result<(), BucketError> {
    if config.delete_markers.is_some() {
        markers_possible(shared)?;
    }
    let stream = stream_of(&config.bucket);
    let mut body = json!({
        "name": stream,
        "subjects": [format!("$KV.{}.>", config.bucket)],
        "retention": "limits",
        "discard": "new",
        "max_msgs": -1,
        "max_consumers": -1,
        "allow_rollup_hdrs": true,
        "deny_delete": true,
        "deny_purge": false,
        "allow_direct": true,
        "duplicate_window": nanos(DUPLICATE_WINDOW),
    });
    merge(&mut body, config);
    let created = shared
        .api(&format!("STREAM.CREATE.{stream}"), Some(&body))
        .await;
    match created {
        Ok(_) => Ok(()),
        Err(Failure::Api(error)) if error.err_code == STREAM_NAME_IN_USE => {
            let found = info(shared, &stream).await.map_err(bucket_error)?;
            let same = read_config(&config.bucket, &found["config"]) == *config;
            if same {
                Ok(())
            } else {
                Err(BucketError::Exists)
            }
        }
        Err(failure) => Err(bucket_error(failure)),
    }
}

pub(super) async fn update(shared: &Shared, config: &BucketConfig) -> Result<(), BucketError> {
    if config.delete_markers.is_some() {
        markers_possible(shared)?;
    }
    let stream = stream_of(&config.bucket);
    let mut found = info(shared, &stream).await.map_err(bucket_error)?;
    let mut body = found["config"].take();
    merge(&mut body, config);
    shared
        .api(&format!("STREAM.UPDATE.{stream}"), Some(&body))
        .await
        .map_err(bucket_error)?;
    Ok(())
}

pub(super) async fn delete(shared: &Shared, stream: &str) -> Result<(), BucketError> {
    shared
        .api(&format!("STREAM.DELETE.{stream}"), None)
        .await
        .map_err(bucket_error)?;
    Ok(())
}

/// The server's description of a stream.
pub(super) async fn info(shared: &Shared, stream: &str) -> Result<Value, Failure> {
    shared.api(&format!("STREAM.INFO.{stream}"), None).await
}

/// The keys that have a record now, tombstones included. The server sends so many at a time.
pub(super) async fn keys(
    shared: &Shared,
    bucket: &str,
    filter: &str,
) -> Result<Vec<Arc<str>>, Failure> {
    let prefix = format!("$KV.{bucket}.");
    let name = format!("STREAM.INFO.{}", stream_of(bucket));
    let mut keys: Vec<Arc<str>> = Vec::new();
    loop {
        let offset = keys.len();
        let body = json!({ "subjects_filter": format!("{prefix}{filter}"), "offset": offset });
        let info = shared.api(&name, Some(&body)).await?;
        let subjects = info["state"]["subjects"].as_object();
        let subjects = subjects.into_iter().flat_map(|subjects| subjects.keys());
        keys.extend(subjects.filter_map(|subject| subject.strip_prefix(&prefix).map(Arc::from)));
        let total = info["total"].as_u64().unwrap_or(0);
        if keys.len() == offset || keys.len() as u64 >= total {
            return Ok(keys);
        }
    }
}

/// Servers before 2.11 take the setting for an unknown one and ignore it: the bucket would never tell an expiry.
fn markers_possible(shared: &Shared) -> Result<(), BucketError> {
    let client = shared.client().ok_or(BucketError::Closed)?;
    if client.is_server_compatible(2, 11, 0) {
        return Ok(());
    }
    Err(BucketError::Rejected(ApiError {
        code: 400,
        err_code: 0,
        description: "delete markers need nats-server 2.11 or later".into(),
    }))
}

/// Writes what `config` names into a stream configuration.
fn merge(stream: &mut Value, config: &BucketConfig) {
    stream["max_msgs_per_subject"] = config.history.into();
    stream["max_age"] = nanos(config.max_age).into();
    stream["max_msg_size"] = config.max_value_size.into();
    stream["max_bytes"] = config.max_bytes.into();
    stream["num_replicas"] = config.replicas.into();
    stream["storage"] = storage_out(config.storage);
    let window = stream["duplicate_window"].as_u64().unwrap_or(0);
    if !config.max_age.is_zero() && window > nanos(config.max_age) {
        stream["duplicate_window"] = nanos(config.max_age).into();
    }
    match config.delete_markers {
        Some(life) => {
            stream["allow_msg_ttl"] = true.into();
            stream["subject_delete_marker_ttl"] = nanos(life).into();
        }
        // Markers come with message TTLs, which the server never lets go: it will refuse to take them back.
        None if stream["subject_delete_marker_ttl"].as_u64() > Some(0) => {
            stream["allow_msg_ttl"] = false.into();
            stream["subject_delete_marker_ttl"] = 0.into();
        }
        None => {}
    }
}

fn read_config(bucket: &str, stream: &Value) -> BucketConfig {
    let small = |name: &str| u8::try_from(stream[name].as_u64().unwrap_or(1)).unwrap_or(u8::MAX);
    BucketConfig {
        bucket: bucket.to_owned(),
        history: small("max_msgs_per_subject"),
        max_age: duration(stream, "max_age"),
        delete_markers: Some(duration(stream, "subject_delete_marker_ttl"))
            .filter(|life| !life.is_zero()),
        max_value_size: i32::try_from(limit(stream, "max_msg_size")).unwrap_or(i32::MAX),
        max_bytes: limit(stream, "max_bytes"),
        storage: storage_in(stream),
        replicas: small("num_replicas"),
    }
}

/// What the server says about a bucket. `None` if it says it in a way not understood.
pub(super) fn read_info(bucket: &str, info: &Value) -> Option<BucketInfo> {
    Some(BucketInfo {
        config: read_config(bucket, info.get("config")?),
        last_revision: Revision(info["state"]["last_seq"].as_u64()?),
        records: info["state"]["messages"].as_u64()?,
        created: UnixTime::parse_rfc3339(info["created"].as_str()?).ok()?,
        now: UnixTime::parse_rfc3339(info["ts"].as_str()?).ok()?,
        leadership: leadership(&info["cluster"]),
    })
}

fn bucket_error(failure: Failure) -> BucketError {
    if failure.is_not_found() {
        return BucketError::NotFound;
    }
    match failure {
        Failure::Api(error) => BucketError::Rejected(error),
        Failure::Request(RequestError::NoResponders) => BucketError::Unavailable,
        // The only local refusals: a name of valid length is a valid subject, and a request is small.
        Failure::Request(RequestError::Publish(PublishError::InvalidSubject(name))) => {
            BucketError::InvalidName(name.to_string())
        }
        Failure::Request(RequestError::Publish(_) | RequestError::ClosedWhileWaiting) => {
            BucketError::Closed
        }
        Failure::Request(RequestError::TimedOut) => BucketError::TimedOut,
    }
}

pub(super) fn read_error(failure: Failure) -> ReadError {
    if failure.is_not_found() {
        return ReadError::NoBucket;
    }
    match failure {
        Failure::Api(error) => ReadError::Rejected(error),
        Failure::Request(RequestError::NoResponders) => ReadError::NoBucket,
        Failure::Request(RequestError::Publish(PublishError::InvalidSubject(key))) => {
            ReadError::InvalidKey(key)
        }
        Failure::Request(RequestError::Publish(_) | RequestError::ClosedWhileWaiting) => {
            ReadError::Closed
        }
        Failure::Request(RequestError::TimedOut) => ReadError::TimedOut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let mut stream = json!({
            "name": "KV_b", "description": "ours", "metadata": {"team": "x"},
            "duplicate_window": nanos(DUPLICATE_WINDOW), "allow_direct": true, "from_the_future": 7,
        });
        let mut config = BucketConfig::new("b");
        config.max_age = Duration::from_secs(10);
        config.delete_markers = Some(Duration::from_secs(2));
        config.history = 5;
        merge(&mut stream, &config);
        assert_eq!(read_config("b", &stream), config);
        assert_eq!(stream["from_the_future"], 7);
        assert_eq!(stream["metadata"]["team"], "x");
        // The server refuses a window longer than the age limit.
        assert_eq!(stream["duplicate_window"], 10_000_000_000_u64);
    }
}
