//! The second model that can be read: what the log of one connection amounts to. Times are text, as the log tells them.

use std::time::Duration;

/// What a log of connection events amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// Where the log came from.
    pub source: String,
    /// Events in the log.
    pub count: u64,
    /// Lines of it that are no events.
    pub broken: u64,
    /// The time of the last event, which stands for now.
    pub end: Option<String>,
    /// How it stands with the connection.
    pub state: State,
    /// Since when, and how long that was at the end.
    pub since: Option<(String, Duration)>,
    /// Connections lost within the last hour that nobody meant to give up.
    pub drops: u64,
    /// When the credential was last refreshed.
    pub refreshed: Option<String>,
    /// When it should be next.
    pub refresh_due: Option<String>,
    /// The server.
    pub url: Option<String>,
    /// What went wrong.
    pub patterns: Vec<Pattern>,
    /// What happened, oldest first: all since a time that was asked for, or the last ones.
    pub events: Vec<Event>,
    /// From when on patterns and events are told, if not from the beginning.
    pub told_from: Option<String>,
}

/// How it stands with a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing is known.
    #[default]
    Unknown,
    /// There is none.
    Disconnected,
    /// Its client tries to get it back.
    Connecting,
    /// It is there.
    Connected,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What it is called.
    pub name: String,
    /// When it began.
    pub at: String,
    /// What was seen.
    pub detail: String,
}

/// One line of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: String,
    /// What.
    pub kind: String,
    /// Who caused it.
    pub caller: String,
    /// The connection.
    pub connection: String,
    /// Why, and what else stands in the line.
    pub reason: String,
}
