//! Attaching to the bucket of a store, without changing it under those who share it.

use std::time::Duration;

use super::error::OpenError;
use super::store::Settings;
use super::{Config, VALUE_RECORD_MAX};
use crate::transport::{Bucket, BucketConfig, BucketError, BucketInfo, Connection, ReadError};

/// How long a marker says that a value's life is over, in buckets that can have markers.
const MARKER_LIFE: Duration = Duration::from_secs(3600);

/// Others may create it while we do, and delete it while we look.
const ROUNDS_MAX: usize = 8;

/// The bucket of this name, created if it is not there.
pub(super) async fn attach<C: Connection>(
    connection: &C,
    config: &Config,
) -> Result<C::Bucket, OpenError> {
    let bucket = connection.bucket(&config.bucket)?;
    let plain = BucketConfig {
        max_value_size: VALUE_RECORD_MAX,
        storage: config.storage,
        replicas: config.replicas,
        ..BucketConfig::new(&config.bucket)
    };
    let marking = BucketConfig {
        delete_markers: Some(MARKER_LIFE),
        ..plain.clone()
    };
    for _ in 0..ROUNDS_MAX {
        match bucket.info().await {
            Ok(_) => return Ok(bucket),
            Err(ReadError::NoBucket) => {}
            Err(error) => return Err(error.into()),
        }
        let mut created = connection.create_bucket(&marking).await;
        if let Err(BucketError::Rejected(_)) = created {
            // Servers before 2.11 know no markers.
            created = connection.create_bucket(&plain).await;
        }
        match created {
            // Somebody else created it meanwhile, or nobody knows: it is looked at again.
            Ok(_) | Err(BucketError::Exists | BucketError::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(BucketError::TimedOut.into())
}

/// What the store must know of its bucket, if that is one for it.
pub(super) fn settings(info: &BucketInfo, watch_buffer: usize) -> Result<Settings, OpenError> {
    let BucketConfig {
        history,
        max_age,
        delete_markers,
        replicas,
        ..
    } = info.config;
    // Of several records the older would be there again once the newest has expired.
    if history != 1 || !max_age.is_zero() {
        return Err(OpenError::Unfit { history, max_age });
    }
    Ok(Settings {
        has_lives: delete_markers.is_some(),
        has_copies: replicas > 1,
        watch_buffer,
    })
}
