//! The settings of a chat: [`Config`] as people write it, checked once into what the rest of the room uses.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::envelope;
use crate::transport::{Storage, StreamConfig, names};

/// The shortest age a server takes for a stream.
const AGE_MIN: Duration = Duration::from_millis(100);

/// How long a server remembers message ids, unless its messages live shorter.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Names of projects and agents are tokens of subjects, which the server limits to 4096 bytes in all.
const ID_LEN_MAX: usize = 256;

/// How an agent chats. `project`, `agent` and `max_retention_age` must be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Among whom: letters, digits, `-` and `_`. Names the stream, `chat-<project>`.
    pub project: String,
    /// Who: letters, digits, `-` and `_`. Stands in each envelope as `from`.
    pub agent: String,
    /// Messages older than this go; zero: none does. The stream is everybody's: whoever opens last decides for all.
    pub max_retention_age: Duration,
    /// Watches that may be open at once. Default 64: each costs a consumer at the server.
    #[serde(default = "Defaults::subscribers")]
    pub max_subscribers: usize,
    /// Events that a reader of a watch may leave unread before it is told that it has missed some. Default 256.
    #[serde(default = "Defaults::watch_buffer")]
    pub watch_buffer: usize,
    /// Requests that one responder handles at once; more wait for their turn. Default 64.
    #[serde(default = "Defaults::requests")]
    pub max_concurrent_requests: usize,
    /// How long a send goes on, under the same message id, before a lost acknowledgement is the caller's to deal with.
    /// Default 15 s: with NATS' wait of 5 s for each, three tries.
    #[serde(default = "Defaults::send_timeout")]
    pub send_timeout: Duration,
    /// How long a scan of all messages may take. Default 30 s.
    #[serde(default = "Defaults::scan_timeout")]
    pub scan_timeout: Duration,
    /// Where a new stream is kept. Default: on disk. An existing stream stays where it is.
    #[serde(default)]
    pub storage: Storage,
    /// Copies of a new stream in a cluster, 1 to 5. Default 1. An existing stream keeps its number.
    #[serde(default = "Defaults::replicas")]
    pub replicas: u8,
}

struct Defaults;

impl Defaults {
    const fn subscribers() -> usize {
        64
    }

    const fn watch_buffer() -> usize {
        256
    }

    const fn requests() -> usize {
        64
    }

    const fn send_timeout() -> Duration {
        Duration::from_secs(15)
    }

    const fn scan_timeout() -> Duration {
        Duration::from_secs(30)
    }

    const fn replicas() -> u8 {
        1
    }
}

impl Config {
    /// These settings, and the defaults.
    pub fn new(
        project: impl Into<String>,
        agent: impl Into<String>,
        max_retention_age: Duration,
    ) -> Self {
        Self {
            project: project.into(),
            agent: agent.into(),
            max_retention_age,
            max_subscribers: Defaults::subscribers(),
            watch_buffer: Defaults::watch_buffer(),
            max_concurrent_requests: Defaults::requests(),
            send_timeout: Defaults::send_timeout(),
            scan_timeout: Defaults::scan_timeout(),
            storage: Storage::File,
            replicas: Defaults::replicas(),
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
        write!(f, "chat.Config: {}: {}", self.field, self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// Checked settings.
#[derive(Clone, Debug)]
pub(super) struct Settings(Config);

impl std::ops::Deref for Settings {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

impl Settings {
    /// The stream as it is created.
    pub(super) fn stream(&self) -> StreamConfig {
        StreamConfig {
            subjects: vec![envelope::all(&self.project)],
            max_age: self.max_retention_age,
            duplicate_window: Some(window(self.max_retention_age)),
            storage: self.storage,
            replicas: self.replicas,
            ..StreamConfig::new(envelope::stream(&self.project))
        }
    }

    /// Gives an existing stream this retention, and nothing else. `false` where it has it already.
    ///
    /// Message ids cannot be remembered for longer than messages live: a memory that was as long as it could be stays so,
    /// any other is only cut.
    pub(super) fn retain(&self, stream: &mut StreamConfig) -> bool {
        let (old, new) = (stream.max_age, self.max_retention_age);
        if old == new {
            return false;
        }
        stream.max_age = new;
        stream.duplicate_window = stream.duplicate_window.map(|now| {
            if now == window(old) || now > window(new) {
                window(new)
            } else {
                now
            }
        });
        true
    }
}

/// The longest memory of message ids that goes with this age, up to NATS' default.
const fn window(max_age: Duration) -> Duration {
    if max_age.is_zero() || max_age.as_nanos() > DUPLICATE_WINDOW.as_nanos() {
        DUPLICATE_WINDOW
    } else {
        max_age
    }
}

impl TryFrom<Config> for Settings {
    type Error = ConfigError;

    fn try_from(config: Config) -> Result<Self, ConfigError> {
        let reject = |field, reason: String| Err(ConfigError { field, reason });
        for (field, name) in [("project", &config.project), ("agent", &config.agent)] {
            if name.is_empty() {
                return reject(field, "must not be empty".to_owned());
            }
            if name.len() > ID_LEN_MAX {
                let len = name.len();
                return reject(
                    field,
                    format!("must be at most {ID_LEN_MAX} bytes, not {len}"),
                );
            }
            if !names::is_bucket(name) {
                return reject(
                    field,
                    format!("must be letters, digits, - and _, not {name:?}"),
                );
            }
        }
        let age = config.max_retention_age;
        if !age.is_zero() && age < AGE_MIN {
            let reason =
                format!("must be zero, for no limit, or at least {AGE_MIN:?}, not {age:?}");
            return reject("max_retention_age", reason);
        }
        for (field, number) in [
            ("max_subscribers", config.max_subscribers),
            ("watch_buffer", config.watch_buffer),
            ("max_concurrent_requests", config.max_concurrent_requests),
        ] {
            if number == 0 {
                return reject(field, "must be greater than zero".to_owned());
            }
        }
        for (field, timeout) in [
            ("send_timeout", config.send_timeout),
            ("scan_timeout", config.scan_timeout),
        ] {
            if timeout.is_zero() {
                return reject(field, "must be greater than zero".to_owned());
            }
        }
        if !(1..=5).contains(&config.replicas) {
            let replicas = config.replicas;
            return reject("replicas", format!("must be 1 to 5, not {replicas}"));
        }
        Ok(Self(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new("demo", "alice", Duration::from_secs(3600))
    }

    #[test]
    fn the_first_field_that_cannot_be_is_named() {
        type Spoil = fn(&mut Config);
        let cases: [(Spoil, &str); 9] = [
            (
                |c| c.project.clear(),
                "chat.Config: project: must not be empty",
            ),
            (
                |c| c.project = "a.b".to_owned(),
                "chat.Config: project: must be letters, digits, - and _, not \"a.b\"",
            ),
            (
                |c| c.agent = "*".to_owned(),
                "chat.Config: agent: must be letters, digits, - and _, not \"*\"",
            ),
            (
                |c| c.agent = "a".repeat(257),
                "chat.Config: agent: must be at most 256 bytes, not 257",
            ),
            (
                |c| c.max_retention_age = Duration::from_millis(99),
                "chat.Config: max_retention_age: must be zero, for no limit, or at least 100ms, not 99ms",
            ),
            (
                |c| c.max_subscribers = 0,
                "chat.Config: max_subscribers: must be greater than zero",
            ),
            (
                |c| (c.watch_buffer, c.replicas) = (0, 9),
                "chat.Config: watch_buffer: must be greater than zero",
            ),
            (
                |c| c.scan_timeout = Duration::ZERO,
                "chat.Config: scan_timeout: must be greater than zero",
            ),
            (
                |c| c.replicas = 6,
                "chat.Config: replicas: must be 1 to 5, not 6",
            ),
        ];
        for (spoil, expected) in cases {
            let mut config = config();
            spoil(&mut config);
            let error = Settings::try_from(config).expect_err("it is wrong");
            assert_eq!(error.to_string(), expected);
        }
        assert!(config().check().is_ok());
        assert!(Config::new("demo", "alice", Duration::ZERO).check().is_ok());
    }

    #[test]
    fn what_has_a_default_need_not_be_given() {
        let json =
            r#"{"project":"demo","agent":"alice","max_retention_age":{"secs":3600,"nanos":0}}"#;
        let read: Config = serde_json::from_str(json).expect("it is whole");
        assert_eq!(read, config());
        assert!(serde_json::from_str::<Config>(r#"{"project":"demo"}"#).is_err());
    }

    #[test]
    fn only_the_retention_of_a_stream_is_changed() {
        let settings = Settings::try_from(config()).expect("it can be");
        let theirs = StreamConfig {
            max_messages: 7,
            max_age: Duration::from_secs(10),
            duplicate_window: Some(Duration::from_secs(10)),
            ..settings.stream()
        };
        let mut changed = theirs.clone();
        assert!(settings.retain(&mut changed));
        let expected = StreamConfig {
            max_age: Duration::from_secs(3600),
            duplicate_window: Some(DUPLICATE_WINDOW),
            ..theirs.clone()
        };
        assert_eq!(changed, expected);
        assert!(!settings.retain(&mut changed), "it has it already");
        let mut chosen = StreamConfig {
            duplicate_window: Some(Duration::from_secs(5)),
            ..theirs
        };
        assert!(settings.retain(&mut chosen));
        assert_eq!(chosen.duplicate_window, Some(Duration::from_secs(5)));
    }
}
