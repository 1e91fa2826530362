//! Attaching to the shared bucket without harming the peers that share it.

use std::time::Duration;

use super::entry::Entry;
use crate::transport::{Bucket, BucketConfig, BucketError, BucketInfo, Connection, ReadError};

/// Peers that attach at once may each see the other's half-done work; after so many rounds something else is wrong.
const ROUNDS_MAX: usize = 8;

/// Makes sure that the bucket exists and that entries live at least `ttl`: creates it, or raises its `max_age`, and never
/// lowers it or touches anything else. Returns the bucket and its `max_age` (zero: for ever).
///
/// NATS has no conditional update of a bucket, so that of two peers that raise at once the lower could win. Therefore
/// whoever raises also reads how long the entries say that they live, before and after, and raises for them too; and
/// whoever has written an entry attaches once more. Then, of two that race, at least one sees the other: a raise that
/// overtook another is followed by a look at the entries, and an entry that came after that look is followed by a look at
/// the bucket.
pub(super) async fn attach<C: Connection>(
    connection: &C,
    name: &str,
    ttl: Duration,
) -> Result<(C::Bucket, Duration), BucketError> {
    let bucket = connection.bucket(name)?;
    let mut raised = false;
    for _ in 0..ROUNDS_MAX {
        match bucket.info().await {
            Ok(BucketInfo { config, .. }) => {
                let max_age = config.max_age;
                if max_age.is_zero() || (max_age >= ttl && !raised) {
                    return Ok((bucket, max_age));
                }
                let wanted = longest_life(&bucket).await?.max(ttl);
                if max_age >= wanted {
                    return Ok((bucket, max_age));
                }
                raised = true;
                match connection
                    .update_bucket(&BucketConfig {
                        max_age: wanted,
                        ..config
                    })
                    .await
                {
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
            Err(error) => return Err(unread(error)),
        }
    }
    Err(BucketError::TimedOut)
}

/// The longest life that any entry of the bucket declares, of whatever project.
async fn longest_life<B: Bucket>(bucket: &B) -> Result<Duration, BucketError> {
    let records = bucket.entries(">").await.map_err(unread)?;
    let lives = records
        .iter()
        .filter_map(|record| Entry::decode(record)?.ttl());
    Ok(lives.max().unwrap_or_default())
}

fn unread(error: ReadError) -> BucketError {
    match error {
        ReadError::NoBucket => BucketError::NotFound,
        ReadError::Rejected(error) => BucketError::Rejected(error),
        ReadError::TimedOut => BucketError::TimedOut,
        ReadError::Closed => BucketError::Closed,
        ReadError::InvalidKey(key) => BucketError::InvalidName(key.to_string()),
    }
}
