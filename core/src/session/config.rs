//! What a session may be told, and what it makes of it.
//!
//! The defaults are the promised figures. They belong together: the margin is the time in which a credential may be
//! refreshed, dialled with and handed over while the one before is still good, so everything that happens then must be
//! shorter.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::transport::ConnectOptions;

/// A fresh credential that is due on arrival is left alone for so long.
pub(super) const REFRESH_FLOOR: Duration = Duration::from_millis(100);
/// Tokens are dated in whole seconds.
pub(super) const TOKEN_SECOND: Duration = Duration::from_secs(1);
/// A probe that takes longer has failed.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the wall clock is looked at.
pub(super) const WATCHDOG_TICK: Duration = Duration::from_secs(30);
/// The wall clock moved on by more than this between two looks: the machine has slept.
pub(super) const WAKE_GAP: Duration = Duration::from_secs(60);
/// The shortest and the longest wait between two attempts to have a connection again.
pub(super) const BACKOFF_MIN: Duration = Duration::from_secs(2);
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// The longest wait of who has lost a server, not its credential: everybody is back within ten seconds, and as the turns
/// lie evenly from [`BACKOFF_MIN`] on, no second has more than 13 % of them.
pub(super) const TURN_MAX: Duration = Duration::from_millis(9_500);

/// So much of the margin is for taking turns to move to a fresh credential: 9 s of 30. That leaves room in each second for
/// others who have just lost a server.
pub(super) const fn spread(margin: Duration) -> Duration {
    Duration::from_millis(margin.as_millis() as u64 * 3 / 10)
}

/// Attempts that a client makes by itself before it is over: they end 0.27 s after the link was lost. All clients of a
/// server that is restarted make them in step, so they must be over before it is back.
const QUICK_ATTEMPTS: NonZeroU32 = NonZeroU32::new(8).unwrap();

/// How a session behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How each of its connections is dialled. `credentials` and `reconnects_max` are the session's own and ignored here.
    pub connect: ConnectOptions,
    /// So long before its end a credential is refreshed. Default 30 s, for credentials of 5 minutes.
    pub refresh_margin: Duration,
    /// Wait after a refresh that failed without a definite answer. Default 5 s.
    pub refresh_retry: Duration,
    /// An exchange that takes longer has failed. Default 10 s.
    pub exchange_timeout: Duration,
    /// How long a login waits for its first connection before it says that it is still trying. Default 30 s.
    pub login_timeout: Duration,
}

impl Config {
    /// How long it may take to have a connection again once a server is within reach and accepts the credential: a dial
    /// that hangs is given up, then its turn comes, then everything that listens moves over.
    pub fn recovery_max(&self) -> Duration {
        self.connect.connect_timeout + TURN_MAX + PROBE_TIMEOUT
    }

    /// How long it may take until a credential that is accepted is in use, after the service issues such again: what was
    /// issued before is refused once more at its turn, then comes the next; or an exchange that hangs is given up first.
    pub fn reissue_max(&self) -> Duration {
        BACKOFF_MAX * 2 + self.exchange_timeout + self.refresh_retry + PROBE_TIMEOUT
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect: ConnectOptions::default(),
            refresh_margin: Duration::from_secs(30),
            refresh_retry: Duration::from_secs(5),
            exchange_timeout: Duration::from_secs(10),
            login_timeout: Duration::from_secs(30),
        }
    }
}

/// A session cannot be opened like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nowhere to connect to.
    #[error("session.Config: connect.servers: at least one is needed")]
    NoServers,
    /// Shorter than the floor of a refresh, or than what waits for nothing.
    #[error("session.Config: {field}: {value:?} is less than {REFRESH_FLOOR:?}")]
    TooShort {
        /// Which.
        field: &'static str,
        /// As given.
        value: Duration,
    },
}

/// A checked [`Config`].
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) connect: ConnectOptions,
    pub(super) refresh_margin: Duration,
    pub(super) refresh_retry: Duration,
    pub(super) exchange_timeout: Duration,
    pub(super) login_timeout: Duration,
}

impl TryFrom<Config> for Settings {
    type Error = ConfigError;

    fn try_from(config: Config) -> Result<Self, ConfigError> {
        if config.connect.servers.is_empty() {
            return Err(ConfigError::NoServers);
        }
        let durations = [
            ("refresh_margin", config.refresh_margin),
            ("refresh_retry", config.refresh_retry),
            ("exchange_timeout", config.exchange_timeout),
            ("login_timeout", config.login_timeout),
        ];
        if let Some((field, value)) = durations.into_iter().find(|it| it.1 < REFRESH_FLOOR) {
            return Err(ConfigError::TooShort { field, value });
        }
        let connect = ConnectOptions {
            credentials: None,
            reconnects_max: Some(QUICK_ATTEMPTS),
            ..config.connect
        };
        Ok(Self {
            connect,
            refresh_margin: config.refresh_margin,
            refresh_retry: config.refresh_retry,
            exchange_timeout: config.exchange_timeout,
            login_timeout: config.login_timeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_its_name() {
        let refused = |config| {
            let error: ConfigError = Settings::try_from(config).expect_err("it cannot be");
            error.to_string()
        };
        assert_eq!(
            refused(Config::default()),
            "session.Config: connect.servers: at least one is needed"
        );
        let mut config = Config::default();
        config.connect.servers = vec!["nats://a".to_owned()];
        assert!(Settings::try_from(config.clone()).is_ok());
        config.refresh_retry = Duration::ZERO;
        assert_eq!(
            refused(config),
            "session.Config: refresh_retry: 0ns is less than 100ms"
        );
    }
}
