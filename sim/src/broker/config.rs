//! What a simulated server is: its version, its limits, its timers, and the clocks it is told.
//!
//! Every default is a measured number of nats-server 2.15.1, so that a run with the defaults behaves as the reference.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use squall_core::jwt::Realm;
use squall_core::{Instant, UnixTime};

/// What the server's own clocks show. Records are dated and judged by `wall`; timers run on `monotonic`. The two may
/// disagree: a jump of the wall clock ages every record but moves no timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time of the server's node.
    pub monotonic: Instant,
    /// Wall time of the server's node.
    pub wall: UnixTime,
}

/// A version of nats-server, such as `2.15.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 2 for every server with JetStream.
    pub major: u16,
    /// What decides behaviour.
    pub minor: u16,
    /// Fixes.
    pub patch: u16,
}

impl Version {
    /// The version that the facts take as reference.
    pub const REFERENCE: Self = Self::new(2, 15, 1);

    /// `major.minor.patch`.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// True from `major.minor` on.
    pub const fn is_at_least(self, major: u16, minor: u16) -> bool {
        self.major > major || (self.major == major && self.minor >= minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A text is not a version like `2.15.1`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a server version like 2.15.1: {0:?}")]
pub struct ParseVersionError(String);

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Option<Vec<u16>> = text.split('.').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[major, minor, patch]) => Ok(Self::new(major, minor, patch)),
            _ => Err(ParseVersionError(text.to_owned())),
        }
    }
}

/// A way in which a simulated NATS is kinder than a real one, planted to prove that comparing the two finds it out. No
/// world that is to show anything has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kindness {
    /// An expiry leaves a marker, so that watches are told, whatever the settings say.
    ExpiryIsTold,
    /// What expires goes at that very moment.
    ExpiryIsPunctual,
    /// A marker lives as long as was asked for, though `max_age` be shorter.
    MarkersOutliveAge,
    /// Buckets in memory survive a restart.
    MemorySurvives,
    /// An acknowledgement counts the records of its key.
    RevisionsPerKey,
    /// Members of a queue group take turns.
    GroupsTakeTurns,
    /// A client tries to reconnect all the time, not at growing intervals.
    ReconnectAtOnce,
    /// What a client gave up waiting for is not sent after a reconnect.
    NoGhostWrites,
    /// Message ids are remembered for ever, whatever the duplicate window.
    IdsAreRemembered,
    /// A message is delivered until it is settled, however often that is.
    DeliversForEver,
    /// Readers never lose their place: what interrupts them is not told.
    ReadersKeepTheirPlace,
    /// Reads of a stream with copies are answered by its leader alone.
    LeaderIsRead,
    /// What depends on a write that is on its way to the copies waits for it.
    ConditionsWait,
    /// A connection ends in the very moment in which its token does.
    KickIsPunctual,
    /// All clocks show the same, whatever is done to one of them.
    OneClock,
    /// To close waits until everything that was heard has been read.
    CloseJoinsReaders,
}

/// How often a server has its files synced: what was written since may be lost with the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncInterval {
    /// So often. nats-server's default is 2 min.
    Every(Duration),
    /// With every write, before it is acknowledged.
    Always,
}

impl Default for SyncInterval {
    fn default() -> Self {
        Self::Every(Duration::from_secs(120))
    }
}

/// How one server is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Its name, as clients are told in `INFO`.
    pub name: Arc<str>,
    /// Which server it behaves like.
    pub version: Version,
    /// Whether JetStream is enabled at all.
    pub jetstream: bool,
    /// Largest message in bytes, headers included. Default 1 MiB.
    pub max_payload: usize,
    /// Time from accepting a connection to the first `PING`. Default 2.13 s, as measured.
    pub first_ping: Duration,
    /// Time between `PING`s, which a client is spared if it said something within it. Default 2 min.
    pub ping_interval: Duration,
    /// Unanswered `PING`s that are tolerated; at the time of the next one the connection is closed. Default 2.
    pub pings_outstanding_max: u32,
    /// A consumer runs beside the writers, not inside them: it sees a new record up to this much later, and then only
    /// what is still there. Default 60 µs, which gives the measured 196 to 200 of 200 sequential writes, and a tenth or
    /// less of pipelined ones. Zero: at once, always.
    pub delivery_delay_max: Duration,
    /// Time between the announcement of a lame duck and the first connection it closes. Default 10 s.
    pub lame_duck_grace: Duration,
    /// Time in which a lame duck means to close all connections, the grace included. Default 2 min.
    pub lame_duck_duration: Duration,
    /// How often files are synced. `None`, the default: power is never lost here, and nothing is remembered for it.
    pub sync_interval: Option<SyncInterval>,
    /// Operator mode: only users of these accounts are let in. Default: everybody is, into one account.
    pub realm: Option<Realm>,
    /// How long a connection may take to log in, in operator mode. Default 2 s.
    pub auth_timeout: Duration,
    /// None, but to prove that a comparison would find it.
    pub kindness: Option<Kindness>,
}

impl ServerConfig {
    /// The reference version with its own defaults, under this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            version: Version::REFERENCE,
            jetstream: true,
            max_payload: 1024 * 1024,
            first_ping: Duration::from_millis(2130),
            ping_interval: Duration::from_secs(120),
            pings_outstanding_max: 2,
            delivery_delay_max: Duration::from_micros(60),
            lame_duck_grace: Duration::from_secs(10),
            lame_duck_duration: Duration::from_secs(120),
            sync_interval: None,
            realm: None,
            auth_timeout: Duration::from_secs(2),
            kindness: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_printed_and_ordered() {
        let version: Version = "2.11.11".parse().expect("a version");
        assert_eq!(version.to_string(), "2.11.11");
        assert!(version > Version::new(2, 10, 26) && version < Version::REFERENCE);
        assert!(version.is_at_least(2, 11) && !version.is_at_least(2, 12));
        assert!("2.11".parse::<Version>().is_err() && "v2.11.1".parse::<Version>().is_err());
    }
}
