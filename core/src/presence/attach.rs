//! Attaching to the shared bucket without harming the peers that share it.

use std::time::Duration;

use crate::transport::{Bucket, BucketConfig, BucketError, BucketInfo, Connection, ReadError};

/// Peers that attach at once may each see the other's half-done work; after so many rounds something else is wrong.
const ROUNDS_MAX: usize = 8;

/// Makes sure that the bucket exists and that entries live at least `ttl`: creates it, or raises its `max_age`, and never
/// lowers it or touches anything else. Returns the bucket and its `max_age` (zero: for ever).
///
/// NATS has no conditional update of a bucket, so that of two peers that raise at once the lower may win; the bucket is
/// read back after each change, and a keeper whose entry aged out although it beat attaches again.
pub(super) async fn attach<C: Connection>(
    connection: &C,
    name: &str,
    ttl: Duration,
) -> Result<(C::Bucket, Duration), BucketError> {
    let bucket = connection.bucket(name)?;
    for _ in 0..ROUNDS_MAX {
        match bucket.info().await {
            Ok(BucketInfo { config, .. }) => {
                if config.max_age.is_zero() || config.max_age >= ttl {
                    return Ok((bucket, config.max_age));
                }
                let raised = BucketConfig {
                    max_age: ttl,
                    ..config
                };
                match connection.update_bucket(&raised).await {
                    Ok(_) | Err(BucketError::NotFound | BucketError::TimedOut) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(ReadError::NoBucket) => {
                let config = BucketConfig {
                    max_age: ttl,
                    ..BucketConfig::new(name)
                };
                match connection.create_bucket(&config).await {
                    // Somebody else created it meanwhile, with another age.
                    Ok(_) | Err(BucketError::Exists | BucketError::TimedOut) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(ReadError::Rejected(error)) => return Err(BucketError::Rejected(error)),
            Err(ReadError::TimedOut) => return Err(BucketError::TimedOut),
            Err(ReadError::Closed) => return Err(BucketError::Closed),
            Err(ReadError::InvalidKey(_)) => {
                return Err(BucketError::InvalidName(name.to_owned()));
            }
        }
    }
    Err(BucketError::TimedOut)
}
