//! What plans say of an agent that chats.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use squall_core::chat::Config;

use super::written::{text, time};
use crate::parse::PROJECT;

/// Who takes longer has not read it in any run.
const READING_MAX: Duration = Duration::from_secs(1 << 30);

/// How an agent chats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatPlan {
    /// The thread that it talks in.
    pub thread: String,
    /// What it may leave unread.
    pub buffer: NonZeroU32,
    /// Messages are to live so long from its joining on; zero: for ever.
    pub retention: Duration,
    /// How long it takes over each thing that its watch of the project tells.
    pub dwells: Duration,
}

impl Default for ChatPlan {
    fn default() -> Self {
        Self {
            thread: "general".to_owned(),
            buffer: NonZeroU32::MIN.saturating_add(255),
            retention: Duration::ZERO,
            dwells: Duration::ZERO,
        }
    }
}

impl ChatPlan {
    /// What the core is told.
    pub fn config(&self, agent: &str) -> Config {
        Config {
            watch_buffer: self.buffer.get() as usize,
            ..Config::new(PROJECT, agent, self.retention)
        }
    }

    /// How long it may take to read what is unread, its notices included.
    pub fn reading(&self) -> Duration {
        let unread = self.buffer.get().saturating_mul(2).saturating_add(4);
        self.dwells.saturating_mul(unread).min(READING_MAX)
    }
}

/// As an inline table of TOML.
impl fmt::Display for ChatPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (thread, buffer) = (text(&self.thread), self.buffer);
        write!(f, "{{ thread = {thread}, buffer = {buffer}")?;
        for (field, duration) in [("retention", self.retention), ("dwells", self.dwells)] {
            if !duration.is_zero() {
                write!(f, ", {field} = {}", time(duration))?;
            }
        }
        f.write_str(" }")
    }
}
