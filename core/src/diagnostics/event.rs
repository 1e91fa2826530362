//! One line of the connection-event log: [`NatsEvent`], schema version 1.
//!
//! The log outlives the program that writes it and is read by others, so reading is generous and writing is strict:
//! types and fields that a later writer adds are kept as they stand, while this core writes the closed set of types and
//! names one [`Caller`] for each transition. Time is wall time, because the reader has no other; nothing is decided by
//! it but reports.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::redact::{redact, redact_value};
use crate::time::UnixTime;
use crate::transport::ConnectionId;

/// The version of the schema that this core writes. An added field does not raise it.
pub const SCHEMA_VERSION: u32 = 1;

/// What this core adds to a swap.
const TOOK_MS: &str = "took_ms";

/// What happened to a connection, or to the program that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatsEvent {
    /// The schema's version. Early writers left it out, and meant the first.
    #[serde(default = "first_version")]
    pub v: u32,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// When it was told, by this node's wall clock.
    pub at: UnixTime,
    /// Who caused it. Every transition that this core writes names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
    /// The connection that it happened to.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "read_nc_id"
    )]
    pub nc_id: Option<NcId>,
    /// The end of the credential that this connection is logged in with: in the log as Unix seconds, as in the JWT.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_jwt_exp",
        deserialize_with = "read_jwt_exp"
    )]
    pub jwt_exp: Option<UnixTime>,
    /// Why, in words. Of a swap: [`Swap`]; of a connect or reconnect: the server's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Fields that other writers have added.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

impl NatsEvent {
    /// Something happened, and this is who caused it.
    pub fn new(kind: EventType, at: UnixTime, caller: Caller) -> Self {
        Self {
            v: SCHEMA_VERSION,
            kind,
            at,
            caller: Some(caller),
            nc_id: None,
            jwt_exp: None,
            reason: None,
            others: Map::new(),
        }
    }

    /// One connection took the place of another.
    pub fn swap(at: UnixTime, caller: Caller, old: NcId, new: NcId) -> Self {
        let swap = Swap {
            old: Some(old),
            new: Some(new.clone()),
        };
        Self::new(EventType::Swap, at, caller)
            .of(new)
            .because(swap.to_string())
    }

    /// It happened to this connection.
    #[must_use]
    pub fn of(self, nc_id: impl Into<NcId>) -> Self {
        Self {
            nc_id: Some(nc_id.into()),
            ..self
        }
    }

    /// The connection was logged in with a credential that ends then.
    #[must_use]
    pub fn jwt_exp(self, jwt_exp: impl Into<Option<UnixTime>>) -> Self {
        Self {
            jwt_exp: jwt_exp.into(),
            ..self
        }
    }

    /// It happened for this reason.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.into()),
            ..self
        }
    }

    /// Which connection took the place of which, if this is a swap that says so.
    pub fn swapped(&self) -> Option<Swap> {
        if self.kind != EventType::Swap {
            return None;
        }
        Swap::parse(self.reason.as_deref()?)
    }

    /// How long a swap took, from the attempt to connect until the new connection was in use: `took_ms` of the log, which
    /// other writers may not have.
    pub fn took(&self) -> Option<Duration> {
        self.others
            .get(TOOK_MS)?
            .as_u64()
            .map(Duration::from_millis)
    }

    /// It took so long, to the millisecond.
    #[must_use]
    pub fn in_time(mut self, took: Duration) -> Self {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.others.insert(TOOK_MS.to_owned(), millis.into());
        self
    }

    /// Whether the account was left with it.
    pub(super) fn is_logout(&self) -> bool {
        let by_logout = self.caller.as_ref().is_some_and(|caller| {
            caller
                .as_str()
                .to_ascii_lowercase()
                .contains(Caller::LOGOUT.as_str())
        });
        (self.kind == EventType::Closed && by_logout)
            || self.swapped().is_some_and(|swap| swap.new.is_none())
    }

    /// The event without the secrets that may stand in its texts.
    #[must_use]
    pub fn redacted(mut self) -> Self {
        if let Some(Cow::Owned(clean)) = self.reason.as_deref().map(redact) {
            self.reason = Some(clean);
        }
        if let Some(Cow::Owned(clean)) = self.caller.as_ref().map(|caller| redact(caller.as_str()))
        {
            self.caller = Some(Caller(clean.into()));
        }
        if let Some(Cow::Owned(clean)) = self.nc_id.as_ref().map(|id| redact(id.as_str())) {
            self.nc_id = Some(NcId(clean.into()));
        }
        if let EventType::Unknown(name) = &mut self.kind
            && let Cow::Owned(clean) = redact(name)
        {
            *name = clean;
        }
        for (name, value) in &mut self.others {
            redact_value(name, value);
        }
        self
    }

    /// One line of the log, without its end.
    pub fn to_line(&self) -> String {
        // Strings, numbers and times cannot fail to become JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What can happen. This core writes the named ones alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    /// A connection was made for the first time.
    Connect,
    /// A connection lost its link.
    Disconnect,
    /// A connection that had lost its link has another.
    Reconnect,
    /// A connection is over, and nothing of it goes on trying.
    Closed,
    /// A connection took the place of another.
    Swap,
    /// A connection was given up, with its cause, because a probe found it dead.
    ForceClose,
    /// Something failed and nothing was changed for it.
    Warn,
    /// The credential was not refreshed.
    RefreshError,
    /// The machine has slept.
    Wake,
    /// The program began.
    DaemonStart,
    /// The program ended by its own will. A start without a stop before it was a crash.
    DaemonStop,
    /// What another writer calls so.
    Unknown(String),
}

impl EventType {
    /// Every type that this core writes.
    pub const ALL: [Self; 11] = [
        Self::Connect,
        Self::Disconnect,
        Self::Reconnect,
        Self::Closed,
        Self::Swap,
        Self::ForceClose,
        Self::Warn,
        Self::RefreshError,
        Self::Wake,
        Self::DaemonStart,
        Self::DaemonStop,
    ];

    /// As it stands in the log.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::Reconnect => "reconnect",
            Self::Closed => "closed",
            Self::Swap => "swap",
            Self::ForceClose => "force_close",
            Self::Warn => "warn",
            Self::RefreshError => "refresh_error",
            Self::Wake => "wake",
            Self::DaemonStart => "daemon_start",
            Self::DaemonStop => "daemon_stop",
            Self::Unknown(name) => name,
        }
    }
}

impl From<String> for EventType {
    fn from(name: String) -> Self {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == name);
        known.unwrap_or(Self::Unknown(name))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// Who caused a transition: one name for each way by which a connection can change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Caller(Cow<'static, str>);

impl Caller {
    /// The client library by itself: links that are lost and found again, refusals of the server.
    pub const CLIENT: Self = Self::named("client");
    /// The program, at its beginning and end.
    pub const DAEMON: Self = Self::named("daemon");
    /// Somebody logged in, or switched accounts.
    pub const LOGIN: Self = Self::named("login");
    /// Somebody logged out.
    pub const LOGOUT: Self = Self::named("logout");
    /// An operation that found the connection stale.
    pub const OPERATION: Self = Self::named("operation");
    /// The probe that follows a failed operation.
    pub const PROBE: Self = Self::named("probe");
    /// The background recovery of a connection that was lost.
    pub const RECOVERY: Self = Self::named("recovery");
    /// The refresh loop.
    pub const REFRESH: Self = Self::named("refresh");
    /// The watchdog that notices that the machine has slept.
    pub const WAKE: Self = Self::named("wake");

    /// A caller of this name.
    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Names one connection of one life of a program. Opaque: other writers put a pointer there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NcId(Arc<str>);

impl NcId {
    /// As it stands in the log.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NcId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<ConnectionId> for NcId {
    fn from(id: ConnectionId) -> Self {
        Self(id.to_string().into())
    }
}

impl fmt::Display for NcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Which connection took the place of which: `old=<id> new=<id>`. Other writers leave an id empty where there was or is
/// no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The one that is given up.
    pub old: Option<NcId>,
    /// The one that is used from now on.
    pub new: Option<NcId>,
}

impl Swap {
    /// Reads the reason of a swap; more words around the two ids are of no matter.
    pub fn parse(reason: &str) -> Option<Self> {
        let find = |name| {
            reason
                .split_ascii_whitespace()
                .find_map(|word| word.strip_prefix(name))
        };
        let id = |id: &str| (!id.is_empty()).then(|| NcId::from(id));
        Some(Self {
            old: id(find("old=")?),
            new: id(find("new=")?),
        })
    }
}

impl fmt::Display for Swap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |id: &Option<NcId>| id.clone().map_or_else(String::new, |id| id.to_string());
        write!(f, "old={} new={}", id(&self.old), id(&self.new))
    }
}

const fn first_version() -> u32 {
    1
}

/// An id may stand there as text or number, and empty for none.
fn read_nc_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NcId>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Number(u64),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Written::Text(id)) => (!id.is_empty()).then(|| NcId(id.into())),
        Some(Written::Number(id)) => Some(NcId(id.to_string().into())),
        None => None,
    })
}

/// Unix seconds, 0 for none; a time in RFC 3339 is understood too.
fn read_jwt_exp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnixTime>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Seconds(i64),
        Time(UnixTime),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Written::Seconds(0)) | None => None,
        Some(Written::Seconds(seconds)) => Some(UnixTime::from_secs(seconds)),
        Some(Written::Time(time)) => Some(time),
    })
}

fn write_jwt_exp<S: Serializer>(time: &Option<UnixTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_i64(time.as_secs()),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<NatsEvent, serde_json::Error> {
        serde_json::from_str(line)
    }

    #[test]
    fn a_line_has_the_names_of_the_schema() {
        let at = UnixTime::from_secs(1_780_000_000);
        let swap = NatsEvent::swap(at, Caller::REFRESH, ConnectionId(1).into(), "c2".into())
            .jwt_exp(UnixTime::from_secs(1_780_000_300));
        let line = r#"{"v":1,"type":"swap","at":"2026-05-28T20:26:40Z","caller":"refresh","nc_id":"c2","jwt_exp":1780000300,"reason":"old=c1 new=c2"}"#;
        assert_eq!(swap.to_line(), line);
        assert_eq!(read(line).expect("it reads back"), swap);
        let bare = NatsEvent::new(EventType::DaemonStart, at, Caller::DAEMON);
        assert_eq!(
            bare.to_line(),
            r#"{"v":1,"type":"daemon_start","at":"2026-05-28T20:26:40Z","caller":"daemon"}"#
        );
    }

    #[test]
    fn the_set_of_types_is_the_published_one() {
        let names = EventType::ALL.map(|kind| kind.to_string()).join(", ");
        assert_eq!(
            names,
            "connect, disconnect, reconnect, closed, swap, force_close, warn, refresh_error, wake, daemon_start, \
             daemon_stop"
        );
        for kind in EventType::ALL {
            assert_eq!(EventType::from(kind.to_string()), kind);
        }
    }

    #[test]
    fn what_others_write_is_kept() {
        let line = r#"{"v":1,"type":"quota","at":"2026-05-28T22:26:40+02:00","nc_id":7,"jwt_exp":0,"host":{"name":"x"}}"#;
        let event = read(line).expect("it is an event");
        assert_eq!(event.kind, EventType::Unknown("quota".to_owned()));
        assert_eq!(event.nc_id, Some("7".into()));
        assert_eq!(event.jwt_exp, None, "0 is unknown");
        assert_eq!(
            event.to_line(),
            r#"{"v":1,"type":"quota","at":"2026-05-28T20:26:40Z","nc_id":"7","host":{"name":"x"}}"#
        );
        let early = read(r#"{"type":"closed","at":"2026-05-28T20:26:40Z","nc_id":"","caller":null,"jwt_exp":"2026-05-28T20:30:00Z"}"#)
            .expect("it is an event");
        assert_eq!((early.v, early.nc_id, early.caller), (1, None, None));
        assert_eq!(early.jwt_exp, Some(UnixTime::from_secs(1_780_000_200)));
    }

    #[test]
    fn no_text_of_an_event_keeps_a_secret() {
        let jwt = "eyJhbGciOiJlZDI1NTE5LW5rZXkifQ.e30.c2ln";
        let line = r#"{"v":1,"type":"JWT","at":"2026-05-28T20:26:40Z","caller":"JWT","nc_id":"JWT","reason":"with JWT","more":{"jwt":1}}"#;
        let event = read(&line.replace("JWT", jwt)).expect("it is an event");
        let clean = r#"{"v":1,"type":"JWT","at":"2026-05-28T20:26:40Z","caller":"JWT","nc_id":"JWT","reason":"with JWT","more":{"jwt":"JWT"}}"#;
        assert_eq!(
            event.redacted().to_line(),
            clean.replace("JWT", "[redacted]")
        );
    }

    #[test]
    fn what_is_no_event_is_none() {
        for line in [
            "",
            "{}",
            "7",
            r#"{"v":1,"type":"connect"}"#,
            r#"{"v":1,"at":"2026-05-28T20:26:40Z"}"#,
            r#"{"v":1,"type":"connect","at":"yesterday"}"#,
            r#"{"v":"one","type":"connect","at":"2026-05-28T20:26:40Z"}"#,
            r#"{"v":1,"type":"connect","at":"2026-05-28T20:26:40Z","nc_id":["#,
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_swap_tells_how_long_it_took_where_its_writer_says_so() {
        let swap = |took: &str| {
            let line = r#"{"type":"swap","at":"2026-05-28T20:26:41Z","reason":"old=a new=b""#;
            read(&format!("{line}{took}}}"))
                .expect("it is an event")
                .took()
        };
        assert_eq!(swap(""), None);
        assert_eq!(swap(r#","took_ms":23"#), Some(Duration::from_millis(23)));
        assert_eq!(swap(r#","took_ms":"long""#), None, "another writer's");
    }

    #[test]
    fn a_swap_names_both_its_connections() {
        let parse = |reason| Swap::parse(reason).map(|swap| (swap.old, swap.new));
        let id = |id: &str| Some(NcId::from(id));
        assert_eq!(parse("old=0x1 new=0x2"), Some((id("0x1"), id("0x2"))));
        assert_eq!(parse("old= new=0x2"), Some((None, id("0x2"))));
        assert_eq!(
            parse("login: old=a new=b, late"),
            Some((id("a"), id("b,"))),
            "words are set apart by spaces"
        );
        assert_eq!(parse("bold=a new=b"), None);
        assert_eq!(parse("new=b"), None);
        let swap = Swap {
            old: None,
            new: id("c1"),
        };
        assert_eq!(swap.to_string(), "old= new=c1");
        assert_eq!(Swap::parse(&swap.to_string()), Some(swap));
    }
}
