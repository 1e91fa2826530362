//! The settings of a presence: [`Config`] as people write it, checked once into what the rest of the room uses.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entry;
use crate::transport::names;

/// An entry outlives its heartbeat by this factor. Fixed: three beats may be missed, no setting changes that.
pub const TTL_MULTIPLIER: u32 = 3;

/// Events that a slow reader may leave unread before it is told that it lags.
pub const WATCH_BUFFER_DEFAULT: usize = 32;

/// The shortest `max_age` a server takes for a bucket.
const TTL_MIN: Duration = Duration::from_millis(100);

/// Identifiers are parts of a subject, which the server limits to 4096 bytes in all.
const ID_LEN_MAX: usize = 1024;

/// How an agent is present. All fields but `watch_buffer` must be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who: any text, unlike that of any other agent of the project.
    pub agent_id: String,
    /// Among whom: agents of other projects are never seen, also in the same bucket.
    pub project: String,
    /// The key-value bucket, shared by all that want to see each other.
    pub bucket: String,
    /// Time between beats. The entry lives [`TTL_MULTIPLIER`] times this.
    pub heartbeat_interval: Duration,
    /// Events that a reader of [`watch`](super::Presence::watch) may leave unread.
    #[serde(default = "watch_buffer_default")]
    pub watch_buffer: usize,
}

const fn watch_buffer_default() -> usize {
    WATCH_BUFFER_DEFAULT
}

impl Config {
    /// These settings with the default `watch_buffer`.
    pub fn new(
        agent_id: impl Into<String>,
        project: impl Into<String>,
        bucket: impl Into<String>,
        heartbeat_interval: Duration,
    ) -> Self {
        Self {
            agent_id: agent_id.into(),
            project: project.into(),
            bucket: bucket.into(),
            heartbeat_interval,
            watch_buffer: WATCH_BUFFER_DEFAULT,
        }
    }

    /// Says whether it can be, without opening anything.
    ///
    /// # Errors
    /// The first field that cannot be.
    pub fn check(&self) -> Result<(), ConfigError> {
        Settings::try_from(self.clone()).map(|_| ())
    }
}

/// What is wrong with a [`Config`]: the first field that cannot be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The name of the field.
    pub field: &'static str,
    /// What it would have to be.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "presence.Config: {}: {}", self.field, self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// Checked settings.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) agent_id: String,
    pub(super) project: String,
    pub(super) bucket: String,
    pub(super) interval: Duration,
    pub(super) watch_buffer: usize,
}

impl Settings {
    /// How long an entry lives without a beat.
    pub(super) fn ttl(&self) -> Duration {
        self.interval * TTL_MULTIPLIER
    }

    pub(super) fn key(&self) -> String {
        entry::key(&self.project, &self.agent_id)
    }
}

impl TryFrom<Config> for Settings {
    type Error = ConfigError;

    fn try_from(config: Config) -> Result<Self, ConfigError> {
        let reject = |field, reason: String| Err(ConfigError { field, reason });
        for (field, id) in [("agent_id", &config.agent_id), ("project", &config.project)] {
            if id.is_empty() {
                return reject(field, "must not be empty".to_owned());
            }
            if id.len() > ID_LEN_MAX {
                let len = id.len();
                return reject(
                    field,
                    format!("must be at most {ID_LEN_MAX} bytes, not {len}"),
                );
            }
        }
        if !names::is_bucket(&config.bucket) {
            let bucket = &config.bucket;
            return reject(
                "bucket",
                format!("must be letters, digits, - and _, not {bucket:?}"),
            );
        }
        let interval = config.heartbeat_interval;
        if interval.is_zero() {
            return reject("heartbeat_interval", "must be greater than zero".to_owned());
        }
        match interval.checked_mul(TTL_MULTIPLIER) {
            Some(ttl) if ttl >= TTL_MIN => {}
            Some(ttl) => {
                let reason = format!(
                    "{TTL_MULTIPLIER} times it must be at least {TTL_MIN:?}, the shortest life of an entry, not {ttl:?}"
                );
                return reject("heartbeat_interval", reason);
            }
            None => return reject("heartbeat_interval", format!("{interval:?} is too long")),
        }
        if config.watch_buffer == 0 {
            return reject("watch_buffer", "must be greater than zero".to_owned());
        }
        Ok(Self {
            agent_id: config.agent_id,
            project: config.project,
            bucket: config.bucket,
            interval,
            watch_buffer: config.watch_buffer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new("alice", "demo", "presence", Duration::from_secs(15))
    }

    #[test]
    fn the_first_violation_is_named() {
        type Spoil = fn(&mut Config);
        let cases: [(Spoil, &str); 7] = [
            (
                |c| c.agent_id.clear(),
                "presence.Config: agent_id: must not be empty",
            ),
            (
                |c| c.project.clear(),
                "presence.Config: project: must not be empty",
            ),
            (
                |c| c.bucket = "a.b".to_owned(),
                "presence.Config: bucket: must be letters, digits, - and _, not \"a.b\"",
            ),
            (
                |c| c.heartbeat_interval = Duration::ZERO,
                "presence.Config: heartbeat_interval: must be greater than zero",
            ),
            (
                |c| c.heartbeat_interval = Duration::from_millis(33),
                "presence.Config: heartbeat_interval: 3 times it must be at least 100ms, the shortest life of an \
                 entry, not 99ms",
            ),
            (
                |c| c.watch_buffer = 0,
                "presence.Config: watch_buffer: must be greater than zero",
            ),
            (
                |c| {
                    c.project.clear();
                    c.watch_buffer = 0;
                },
                "presence.Config: project: must not be empty",
            ),
        ];
        for (spoil, expected) in cases {
            let mut config = config();
            spoil(&mut config);
            let error = Settings::try_from(config).expect_err("it is wrong");
            assert_eq!(error.to_string(), expected);
        }
        assert!(Settings::try_from(config()).is_ok());
    }

    #[test]
    fn only_the_watch_buffer_has_a_default() {
        let json = r#"{"agent_id":"a","project":"p","bucket":"b","heartbeat_interval":{"secs":1,"nanos":0}}"#;
        let config: Config = serde_json::from_str(json).expect("it is whole");
        assert_eq!(config.watch_buffer, 32);
        assert!(serde_json::from_str::<Config>(r#"{"agent_id":"a"}"#).is_err());
    }
}
