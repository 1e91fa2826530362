//! What a log says about now: [`Summary`].

use std::time::Duration;

use serde::Serialize;

use super::event::{EventType, NatsEvent, NcId};
use super::redact::redact;
use crate::time::UnixTime;

/// So long before its end a credential is refreshed.
pub const REFRESH_AHEAD: Duration = Duration::from_secs(30);

/// How it stands with the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NatsState {
    /// Nothing is known of any connection.
    #[default]
    Unknown,
    /// There is none, and its client does not try.
    Disconnected,
    /// It is lost, and its client tries to get it back.
    Connecting,
    /// It is there, as far as its client knows.
    Connected,
}

/// What a log says about now. What it does not say is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How it stands with the current connection.
    pub state: NatsState,
    /// Since when.
    pub state_since: Option<UnixTime>,
    /// The server, where a connect or reconnect has named it.
    pub url: Option<String>,
    /// When the newest credential first appeared: the log has no event for the refresh itself.
    pub refresh_last_at: Option<UnixTime>,
    /// When it should be refreshed, while the program runs.
    pub refresh_next_due_at: Option<UnixTime>,
}

impl Summary {
    /// What this log says.
    pub fn of(events: &[NatsEvent]) -> Self {
        let mut reader = Reader::default();
        for event in events {
            reader.take(event);
        }
        reader.summary
    }
}

#[derive(Default)]
struct Reader {
    summary: Summary,
    /// The connection in use, if it has a name.
    current: Option<NcId>,
    jwt_exp: Option<UnixTime>,
}

impl Reader {
    fn take(&mut self, event: &NatsEvent) {
        match event.kind {
            EventType::Connect | EventType::Reconnect => {
                self.current.clone_from(&event.nc_id);
                self.enter(NatsState::Connected, event);
                if let Some(url) = event.reason.as_deref().and_then(find_url) {
                    self.summary.url = Some(redact(url).into_owned());
                }
            }
            EventType::Swap => {
                self.current = event.swapped().and_then(|swap| swap.new);
                let is_none = event.swapped().is_some() && self.current.is_none();
                self.enter(
                    if is_none {
                        NatsState::Disconnected
                    } else {
                        NatsState::Connected
                    },
                    event,
                );
            }
            // One that was closed loses its link too, and its client does not try.
            EventType::Disconnect
                if self.is_current(event) && self.summary.state != NatsState::Disconnected =>
            {
                self.enter(NatsState::Connecting, event);
            }
            EventType::Closed | EventType::ForceClose if self.is_current(event) => {
                self.enter(NatsState::Disconnected, event);
            }
            EventType::DaemonStart | EventType::DaemonStop => {
                self.current = None;
                self.forget_credential();
                self.enter(NatsState::Disconnected, event);
            }
            _ => {}
        }
        if event.is_logout() {
            self.forget_credential();
        }
        if let Some(jwt_exp) = event.jwt_exp
            && self.jwt_exp.is_none_or(|known| known < jwt_exp)
        {
            self.jwt_exp = Some(jwt_exp);
            self.summary.refresh_last_at = Some(event.at);
            self.summary.refresh_next_due_at = Some(jwt_exp - REFRESH_AHEAD);
        }
    }

    fn forget_credential(&mut self) {
        self.jwt_exp = None;
        self.summary.refresh_next_due_at = None;
    }

    fn enter(&mut self, state: NatsState, event: &NatsEvent) {
        if self.summary.state != state {
            self.summary.state = state;
            self.summary.state_since = Some(event.at);
        }
    }

    /// What happens to a connection that has been given up says nothing about the one in its place.
    fn is_current(&self, event: &NatsEvent) -> bool {
        match (&self.current, &event.nc_id) {
            (Some(current), Some(other)) => current == other,
            _ => true,
        }
    }
}

fn find_url(reason: &str) -> Option<&str> {
    let schemes = ["nats://", "tls://", "ws://", "wss://"];
    let mut words = reason.split(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | ';'));
    words.find(|word| schemes.iter().any(|scheme| word.starts_with(scheme)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::Caller;

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_secs(1_780_000_000 + seconds)
    }

    fn event(kind: EventType, seconds: i64, nc_id: &str) -> NatsEvent {
        NatsEvent::new(kind, at(seconds), Caller::CLIENT).of(nc_id)
    }

    fn swap(seconds: i64, old: &str, new: &str) -> NatsEvent {
        NatsEvent::swap(at(seconds), Caller::REFRESH, old.into(), new.into())
    }

    fn state(events: &[NatsEvent]) -> (NatsState, Option<i64>) {
        let summary = Summary::of(events);
        let since = summary.state_since;
        (
            summary.state,
            since.map(|since| since.as_secs() - at(0).as_secs()),
        )
    }

    #[test]
    fn the_state_is_that_of_the_connection_in_use() {
        use EventType::{Closed, Connect, Disconnect, ForceClose, Reconnect, Warn};
        let mut log = Vec::new();
        assert_eq!(state(&log), (NatsState::Unknown, None));
        log.push(NatsEvent::new(
            EventType::DaemonStart,
            at(0),
            Caller::DAEMON,
        ));
        assert_eq!(state(&log), (NatsState::Disconnected, Some(0)));
        log.push(event(Connect, 1, "a"));
        assert_eq!(state(&log), (NatsState::Connected, Some(1)));
        log.extend([
            swap(2, "a", "b"),
            event(Disconnect, 2, "a"),
            event(Closed, 2, "a"),
        ]);
        assert_eq!(
            state(&log),
            (NatsState::Connected, Some(1)),
            "the old one's end"
        );
        log.extend([event(Disconnect, 3, "b"), event(Warn, 4, "b")]);
        assert_eq!(state(&log), (NatsState::Connecting, Some(3)));
        log.push(event(Reconnect, 5, "b"));
        assert_eq!(state(&log), (NatsState::Connected, Some(5)));
        log.extend([event(ForceClose, 6, "b"), event(Disconnect, 7, "b")]);
        assert_eq!(state(&log), (NatsState::Disconnected, Some(6)));
        log.extend([event(Connect, 7, "c"), swap(8, "c", "")]);
        assert_eq!(
            state(&log),
            (NatsState::Disconnected, Some(8)),
            "nothing in its place"
        );
    }

    #[test]
    fn a_refresh_shows_by_the_credential_it_brings() {
        let connect = event(EventType::Connect, 0, "a")
            .jwt_exp(at(300))
            .because("nats://u:p@h:4222");
        let swap = swap(270, "a", "b").jwt_exp(at(570));
        let late = event(EventType::Disconnect, 271, "a").jwt_exp(at(300));
        let mut log = vec![connect, swap, late];
        let summary = Summary::of(&log);
        assert_eq!(summary.refresh_last_at, Some(at(270)));
        assert_eq!(summary.refresh_next_due_at, Some(at(540)));
        assert_eq!(summary.url.as_deref(), Some("nats://[redacted]@h:4222"));
        log.push(NatsEvent::new(EventType::Closed, at(280), Caller::LOGOUT).of("b"));
        let summary = Summary::of(&log);
        assert_eq!(
            summary.refresh_next_due_at, None,
            "nothing is left to refresh"
        );
        assert_eq!(summary.refresh_last_at, Some(at(270)));
    }
}
