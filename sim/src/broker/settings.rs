//! Settings of streams: how the server completes them, which it refuses, and what an update may change.

use std::time::Duration;

use squall_core::transport::{ApiError, Discard, Retention, StreamConfig};

use super::config::Version;
use super::refusal::{api_error, invalid_config};
use super::subject::{is_routable, overlap};

/// How long message ids are remembered where nothing is said.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Ages and windows are at least this.
const SHORTEST: Duration = Duration::from_millis(100);

/// The settings as the server keeps them: its own idea of "no limit", defaults, and without what its version does not
/// know.
pub(super) fn normalized(mut config: StreamConfig, version: Version) -> StreamConfig {
    if !version.is_at_least(2, 11) {
        // Older servers ignore fields that they do not know.
        config.subject_delete_markers = None;
        config.allow_message_ttl = false;
    }
    if config.subject_delete_markers.is_some() {
        config.allow_message_ttl = true;
        // Where roll-ups were asked for as well, that is refused.
        config.deny_purge &= config.allow_rollup;
        config.allow_rollup = true;
    }
    if config.subjects.is_empty() {
        config.subjects = vec![config.name.clone()];
    }
    let unlimited = |limit: i64| if limit <= 0 { -1 } else { limit };
    config.max_messages = unlimited(config.max_messages);
    config.max_messages_per_subject = unlimited(config.max_messages_per_subject);
    config.max_bytes = unlimited(config.max_bytes);
    if config.max_message_size <= 0 {
        config.max_message_size = -1;
    }
    if config
        .duplicate_window
        .is_none_or(|window| window.is_zero())
    {
        config.duplicate_window = Some(match config.max_age {
            Duration::ZERO => DUPLICATE_WINDOW,
            max_age => DUPLICATE_WINDOW.min(max_age),
        });
    }
    config.replicas = config.replicas.max(1);
    config
}

/// Whether a single server takes these settings, completed, for a stream.
pub(super) fn check(config: &StreamConfig, version: Version) -> Result<(), ApiError> {
    check_members(config, version)?;
    if config.replicas > 1 {
        let why = "replicas > 1 not supported in non-clustered mode";
        return Err(api_error(500, 10074, why));
    }
    Ok(())
}

/// Whether a cluster takes them.
pub(super) fn check_members(config: &StreamConfig, version: Version) -> Result<(), ApiError> {
    if config.replicas > 5 {
        return Err(invalid_config("maximum replicas is 5"));
    }
    check_subjects(&config.subjects, version)?;
    if !config.max_age.is_zero() && config.max_age < SHORTEST {
        return Err(invalid_config("max age needs to be >= 100ms"));
    }
    let window = config.duplicate_window.unwrap_or(DUPLICATE_WINDOW);
    if !config.max_age.is_zero() && window > config.max_age {
        let why = "duplicates window can not be larger then max age";
        return Err(invalid_config(why));
    }
    if window < SHORTEST {
        return Err(invalid_config("duplicates window needs to be >= 100ms"));
    }
    if config.deny_purge && config.allow_rollup {
        return Err(invalid_config("roll-ups require the purge permission"));
    }
    if config.discard_new_per_subject {
        if config.discard != Discard::New {
            let why = "discard new per subject requires discard new policy to be set";
            return Err(invalid_config(why));
        }
        if config.max_messages_per_subject < 0 {
            let why = "discard new per subject requires max msgs per subject > 0";
            return Err(invalid_config(why));
        }
    }
    let shortest = Duration::from_secs(1);
    if config
        .subject_delete_markers
        .is_some_and(|life| life < shortest)
    {
        let why = "subject delete marker TTL must be at least 1 second";
        return Err(invalid_config(why));
    }
    Ok(())
}

fn check_subjects(subjects: &[String], version: Version) -> Result<(), ApiError> {
    for (place, subject) in subjects.iter().enumerate() {
        if !is_routable(subject) {
            return Err(invalid_config("invalid subject"));
        }
        if subject == ">" {
            let why = "capturing all subjects requires no-ack to be true";
            return Err(invalid_config(why));
        }
        for (api, name) in [("$JS.>", "jetstream"), ("$SYS.>", "system")] {
            // Events may be stored, and 2.10 looks only at what begins with the very token.
            let is_event =
                subject.starts_with("$JS.EVENT.") || subject.starts_with("$SYS.ACCOUNT.");
            let is_looked_at = version.is_at_least(2, 11) || subject.starts_with('$');
            if is_looked_at && !is_event && overlap(subject, api) {
                let why =
                    format!("subjects that overlap with {name} api require no-ack to be true");
                return Err(invalid_config(why));
            }
        }
        for other in &subjects[place + 1..] {
            if subject == other && !version.is_at_least(2, 12) {
                return Err(invalid_config("duplicate subjects detected"));
            }
            if overlap(subject, other) {
                let why = format!("subject {subject:?} overlaps with {other:?}");
                return Err(invalid_config(why));
            }
        }
    }
    Ok(())
}

/// Whether a stream can go from the one to the other, each good by itself.
pub(super) fn check_update(old: &StreamConfig, new: &StreamConfig) -> Result<(), ApiError> {
    let is_queue = |config: &StreamConfig| config.retention == Retention::WorkQueue;
    if is_queue(old) != is_queue(new) {
        let why = "stream configuration update can not change retention policy to/from workqueue";
        return Err(invalid_config(why));
    }
    if old.storage != new.storage {
        let why = "stream configuration update can not change storage type";
        return Err(invalid_config(why));
    }
    if old.deny_delete && !new.deny_delete {
        let why = "stream configuration update can not cancel deny message deletes";
        return Err(invalid_config(why));
    }
    if old.deny_purge && !new.deny_purge {
        let why = "stream configuration update can not cancel deny purge";
        return Err(invalid_config(why));
    }
    if old.allow_message_ttl && !new.allow_message_ttl {
        return Err(invalid_config("message TTL status can not be disabled"));
    }
    Ok(())
}

/// Whether two streams would store the same subject.
pub(super) fn shares_subjects(one: &StreamConfig, other: &StreamConfig) -> bool {
    let is_taken = |subject: &String| other.subjects.iter().any(|taken| overlap(subject, taken));
    one.name != other.name && one.subjects.iter().any(is_taken)
}

pub(super) fn name_in_use() -> ApiError {
    let why = "stream name already in use with a different configuration";
    api_error(400, 10058, why)
}

pub(super) fn subjects_overlap() -> ApiError {
    api_error(400, 10065, "subjects overlap with an existing stream")
}
