//! The settings of a consumer as the server keeps them, and those it refuses.
//!
//! Texts and numbers are those of the real server, in its order: the first reason is the one that is told.

use std::time::Duration;

use squall_core::transport::{AckPolicy, ApiError, ConsumerConfig, ReadStart, Retention, Sequence};

use super::super::config::Version;
use super::super::refusal::{api_error, invalid_config};
use super::super::subject::{Filter, overlap};
use super::log::is_subset;

/// What is waited for an acknowledgement where nothing is said.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Unsettled deliveries allowed where nothing is said.
const ACK_PENDING_MAX: i64 = 1000;
/// Pulls that may wait where nothing is said.
const WAITING_MAX: i64 = 512;
/// How long a consumer without a client lives that is not durable, where nothing is said.
pub(super) const INACTIVE: Duration = Duration::from_secs(5);

/// The settings with what the server puts in where nothing is said.
pub(super) fn normalized(mut config: ConsumerConfig, version: Version) -> ConsumerConfig {
    let acknowledges = config.ack_policy != AckPolicy::None;
    if let Some(&first) = config.backoff.first() {
        config.ack_wait = first;
    } else if config.ack_wait.is_zero() && acknowledges {
        config.ack_wait = ACK_WAIT;
    }
    if config.max_waiting <= 0 {
        config.max_waiting = WAITING_MAX;
    }
    if config.max_ack_pending == 0 && acknowledges {
        config.max_ack_pending = ACK_PENDING_MAX;
    }
    if version.is_at_least(2, 12) {
        config.max_ack_pending = config.max_ack_pending.max(-1);
    }
    // One filter is sent as one, and an empty one is none.
    if config.filters == [""] {
        config.filters.clear();
    }
    config.inactive_threshold = config.inactive_threshold.filter(|after| !after.is_zero());
    config
}

/// Whether a consumer of a stream with this retention can have these settings, on a single server.
pub(super) fn check(
    config: &ConsumerConfig,
    retention: Retention,
    version: Version,
) -> Result<(), ApiError> {
    if config.replicas > 1 {
        let why = "replicas > 1 not supported in non-clustered mode";
        return Err(api_error(500, 10074, why));
    }
    check_backoff(config)?;
    if config.ack_policy == AckPolicy::None && retention == Retention::WorkQueue {
        let why = match version.is_at_least(2, 11) {
            true => "consumer in pull mode requires explicit ack policy on workqueue stream",
            false => "consumer in pull mode requires ack policy",
        };
        return Err(api_error(400, 10084, why));
    }
    if config.filters.iter().any(String::is_empty) {
        let why = "consumer filter in FilterSubjects cannot be empty";
        return Err(api_error(400, 10139, why));
    }
    for (place, filter) in config.filters.iter().enumerate() {
        if Filter::parse(filter).is_none() {
            return Err(invalid_config("invalid subject"));
        }
        let mut others = config.filters.iter().enumerate();
        // Older servers refuse also those of which neither is within the other.
        let collide = |outer: &String| match version.is_at_least(2, 12) {
            true => is_subset(filter, outer),
            false => overlap(filter, outer),
        };
        if others.any(|(other, outer)| other != place && collide(outer)) {
            let why = "consumer subject filters cannot overlap";
            return Err(api_error(400, 10138, why));
        }
    }
    let missing = match config.start {
        ReadStart::Sequence(Sequence::NONE) => "by start sequence, but optional start sequence",
        ReadStart::LastPerSubject if config.filters.is_empty() => {
            "last per subject, but optional filter subject"
        }
        _ => return Ok(()),
    };
    let why = format!("consumer delivery policy is deliver {missing} is not set");
    Err(api_error(400, 10094, why))
}

fn check_backoff(config: &ConsumerConfig) -> Result<(), ApiError> {
    let waits = u32::try_from(config.backoff.len()).unwrap_or(u32::MAX);
    if config.max_deliver.is_some_and(|max| waits > max.get()) {
        let why = "max deliver is required to be > length of backoff values";
        return Err(api_error(400, 10116, why));
    }
    Ok(())
}

/// Whether a consumer can go from the one to the other.
pub(super) fn check_update(
    old: &ConsumerConfig,
    new: &ConsumerConfig,
    version: Version,
) -> Result<(), ApiError> {
    use std::mem::discriminant;
    let what = if discriminant(&old.start) != discriminant(&new.start) {
        "deliver policy"
    } else if version.is_at_least(2, 14) && old.memory_storage != new.memory_storage {
        "storage type"
    } else if old.start != new.start {
        match old.start {
            ReadStart::Time(_) => "start time",
            _ => "start sequence",
        }
    } else if old.ack_policy != new.ack_policy {
        "ack policy"
    } else if old.max_waiting != new.max_waiting {
        "max waiting"
    } else {
        return Ok(());
    };
    let why = format!("{what} can not be updated");
    Err(api_error(500, 10012, why))
}

/// Whether a work queue that has `others` can have this consumer too: no message may be wanted by two.
pub(super) fn check_queue<'a>(
    config: &ConsumerConfig,
    others: impl Iterator<Item = &'a ConsumerConfig>,
    is_new: bool,
    version: Version,
) -> Result<(), ApiError> {
    let refused = |err_code, why: &str| Err(api_error(400, err_code, why));
    if is_new && config.ack_policy != AckPolicy::Explicit {
        return refused(10098, "workqueue stream requires explicit ack");
    }
    let begins = match is_new && config.start != ReadStart::All {
        true => refused(10101, "consumer must be deliver all on workqueue stream"),
        false => Ok(()),
    };
    let shared = check_shared(config, others, is_new);
    // Older servers look at the others first.
    match version.is_at_least(2, 14) {
        true => begins.and(shared),
        false => shared.and(begins),
    }
}

fn check_shared<'a>(
    config: &ConsumerConfig,
    others: impl Iterator<Item = &'a ConsumerConfig>,
    is_new: bool,
) -> Result<(), ApiError> {
    let is_shared = |other: &ConsumerConfig| {
        let of_other = || other.filters.iter();
        let is_met = |filter: &String| of_other().any(|theirs| overlap(filter, theirs));
        other.filters.is_empty() || config.filters.iter().any(is_met)
    };
    let mut others = others.peekable();
    let has_others = others.peek().is_some();
    let (err_code, why) = if is_new && has_others && config.filters.is_empty() {
        (
            10099,
            "multiple non-filtered consumers not allowed on workqueue stream",
        )
    } else if !config.filters.is_empty() && others.any(is_shared) {
        (10100, "filtered consumer not unique on workqueue stream")
    } else {
        return Ok(());
    };
    Err(api_error(400, err_code, why))
}
