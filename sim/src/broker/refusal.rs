//! What the server refuses and with which numbers: settings of buckets, and the bytes that count against their limits.
//!
//! Texts and numbers are those of the real server, because clients act on them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use squall_core::transport::{ApiError, BucketConfig, Headers, Revision, Storage};

use super::config::Version;
use crate::wire::Write;

pub(super) fn api_error(code: u16, err_code: u64, description: impl Into<Arc<str>>) -> ApiError {
    ApiError {
        code,
        err_code,
        description: description.into(),
    }
}

pub(super) fn stream_not_found() -> ApiError {
    api_error(404, 10059, "stream not found")
}

pub(super) fn invalid_config(why: &str) -> ApiError {
    api_error(500, 10052, why)
}

/// The settings as the server keeps them: its own idea of "no limit".
pub(super) fn normalized(mut config: BucketConfig) -> BucketConfig {
    if config.max_value_size <= 0 {
        config.max_value_size = -1;
    }
    if config.max_bytes <= 0 {
        config.max_bytes = -1;
    }
    config.replicas = config.replicas.max(1);
    config
}

/// Whether this version knows all of the settings. It would ignore those it does not, and clients refuse to ask.
pub(super) fn check_version(config: &BucketConfig, version: Version) -> Result<(), ApiError> {
    if config.delete_markers.is_some() && !version.is_at_least(2, 11) {
        let why = "delete markers need nats-server 2.11 or later";
        return Err(api_error(400, 0, why));
    }
    Ok(())
}

/// Whether a single server takes these settings for a bucket.
pub(super) fn check(config: &BucketConfig) -> Result<(), ApiError> {
    if !(1..=64).contains(&config.history) {
        // Clients refuse this before they ask; a client that does not is a mistake of ours.
        return Err(invalid_config("history must be between 1 and 64"));
    }
    if !config.max_age.is_zero() && config.max_age < Duration::from_millis(100) {
        return Err(invalid_config("max age needs to be >= 100ms"));
    }
    let shortest = Duration::from_secs(1);
    if config.delete_markers.is_some_and(|life| life < shortest) {
        let why = "subject delete marker TTL must be at least 1 second";
        return Err(invalid_config(why));
    }
    if config.replicas > 5 {
        return Err(invalid_config("maximum replicas is 5"));
    }
    if config.replicas > 1 {
        let why = "replicas > 1 not supported in non-clustered mode";
        return Err(api_error(500, 10074, why));
    }
    Ok(())
}

/// Whether a bucket can go from the one to the other.
pub(super) fn check_update(old: &BucketConfig, new: &BucketConfig) -> Result<(), ApiError> {
    check(new)?;
    if old.storage != new.storage {
        let why = "stream configuration update can not change storage type";
        return Err(invalid_config(why));
    }
    if old.delete_markers.is_some() && new.delete_markers.is_none() {
        return Err(invalid_config("message TTL status can not be disabled"));
    }
    Ok(())
}

/// The headers that a client sends with a write.
pub(super) fn headers(write: &Write, expected: Option<Revision>) -> Headers {
    let mut headers = Headers::new();
    match write {
        Write::Put(_) => {}
        Write::Delete => headers.append("KV-Operation", "DEL"),
        Write::Purge => {
            headers.append("KV-Operation", "PURGE");
            headers.append("Nats-Rollup", "sub");
        }
    }
    if let Some(expected) = expected {
        headers.append("Nats-Expected-Last-Subject-Sequence", expected.to_string());
    }
    headers
}

/// Bytes of [`headers`], without making them.
pub(super) fn headers_len(write: &Write, expected: Option<Revision>) -> usize {
    let operation = match write {
        Write::Put(_) => 0,
        Write::Delete => "KV-Operation: DEL\r\n".len(),
        Write::Purge => "KV-Operation: PURGE\r\nNats-Rollup: sub\r\n".len(),
    };
    let condition = expected.map_or(0, |Revision(expected)| {
        let digits = expected.checked_ilog10().map_or(1, |log| log as usize + 1);
        "Nats-Expected-Last-Subject-Sequence: \r\n".len() + digits
    });
    match operation + condition {
        0 => 0,
        lines => "NATS/1.0\r\n\r\n".len() + lines,
    }
}

/// Bytes of the headers of a delete marker with this life.
pub(super) fn marker_headers_len(life: Duration) -> usize {
    let mut text = String::from(
        "NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-Rollup: sub\r\nNats-TTL: s\r\n\r\n",
    );
    // Writing to a string cannot fail.
    let _ = write!(text, "{}", life.as_secs());
    text.len()
}

/// What a record counts against `max_bytes`.
pub(super) const fn record_size(
    storage: Storage,
    subject: usize,
    headers: usize,
    payload: usize,
) -> u64 {
    let size = match storage {
        Storage::File if headers > 0 => 30 + subject + 4 + headers + payload,
        Storage::File => 30 + subject + payload,
        Storage::Memory => 16 + subject + headers + payload,
    };
    size as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_bytes_are_counted_as_they_would_be_sent() {
        let writes = [Write::Put("v".into()), Write::Delete, Write::Purge];
        for write in writes {
            for expected in [None, Some(0), Some(9), Some(10), Some(u64::MAX)] {
                let expected = expected.map(Revision);
                let sent = headers(&write, expected).wire_len();
                assert_eq!(
                    headers_len(&write, expected),
                    sent,
                    "{write:?} {expected:?}"
                );
            }
        }
        let conditional = headers_len(&Write::Put("v".into()), Some(Revision::NONE));
        assert_eq!(conditional, 52, "measured: a limit of 100 leaves 48 bytes");
    }
}
