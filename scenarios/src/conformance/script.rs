//! Scripts: what several clients do in turn, and what happens to them, in a form that is drawn at random, made smaller,
//! kept as a file and read by people. One line is one step:
//!
//! ```toml
//! about = "a purge is told to a watch with a wildcard"
//! history = 2
//! steps = [
//!     "one watch b.* snapshot",
//!     "two put b.x",
//!     "hold one",
//!     "three purge b.x latest",
//!     "release one",
//! ]
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use squall_core::transport::Storage;

use super::stream_op::{self, StreamOp};

/// Clients of a script, each on a link of its own.
pub const ACTORS: [&str; 3] = ["one", "two", "three"];

/// A whole script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What it shows, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Records kept of a key.
    pub history: u8,
    /// Where the bucket is kept.
    #[serde(default)]
    pub storage: Kept,
    /// Whether what expires leaves markers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub markers: bool,
    /// What happens, one after the other.
    pub steps: Vec<Step>,
}

impl Script {
    /// Whether the server is stopped in it, so that it needs one of its own.
    pub fn needs_own_server(&self) -> bool {
        self.steps.contains(&Step::Restart)
    }

    /// Whether the shaking of links is in it, so that it needs links of its own.
    pub fn has_faults(&self) -> bool {
        let is_fault = |step: &Step| {
            matches!(
                step,
                Step::Cut(_) | Step::Hold(_) | Step::Release(_) | Step::Restart
            )
        };
        self.steps.iter().any(is_fault)
    }

    /// Reads a script file.
    ///
    /// # Errors
    /// One sentence, with the line where there is one.
    pub fn read(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = 1 + text[..at].matches('\n').count();
            format!("line {line}: {}", error.message())
        })
    }
}

/// As a file.
impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = toml::to_string_pretty(self).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

/// Where a bucket is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "as in the seam")]
pub enum Kept {
    #[default]
    Memory,
    File,
}

impl From<Kept> for Storage {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Memory => Self::Memory,
            Kept::File => Self::File,
        }
    }
}

/// Which revision is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The key's latest, as the client could know it.
    Latest,
    /// The key's latest but one.
    Stale,
    /// That of no record.
    None,
    /// Whatever this is.
    Other(u8),
}

/// Where a watch of a script begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in the seam")]
pub enum Begin {
    Snapshot,
    Now,
    /// This revision, but no more than one beyond the last.
    Revision(u8),
}

/// What one client does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the operations of the seam")]
pub enum Op {
    Put(String),
    Create(String),
    Update(String, Expected),
    Delete(String, Option<Expected>),
    Purge(String, Option<Expected>),
    Entry(String),
    History(String),
    Entries(String),
    Info,
    Watch(String, Begin),
    /// Closes one of all open watches.
    Unwatch(u8),
    /// Gives the bucket another history.
    Keep(u8),
    /// Deletes the bucket; all watches are closed before.
    DeleteBucket,
    CreateBucket,
    /// Makes everything that is there expire, by an age limit that is lifted again.
    Expire,
    Publish(String),
    /// Asks; every subscription of a script answers.
    Request(String),
    Subscribe(String, Option<String>),
    /// Closes one of all open subscriptions.
    Unsubscribe(u8),
    Stream(StreamOp),
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A client does something. Nothing, while its link is held.
    Does(u8, Op),
    /// The link of a client is reset, and comes back.
    Cut(u8),
    /// The link of a client is held.
    Hold(u8),
    /// What was held goes on.
    Release(u8),
    /// The server is killed and started; not while a link is held, or the bucket is in memory.
    Restart,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Stale => f.write_str("stale"),
            Self::None => f.write_str("none"),
            Self::Other(number) => number.fmt(f),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditional =
            |f: &mut fmt::Formatter<'_>, verb: &str, key: &str, e: &Option<Expected>| match e {
                Some(expected) => write!(f, "{verb} {key} {expected}"),
                None => write!(f, "{verb} {key}"),
            };
        match self {
            Self::Put(key) => write!(f, "put {key}"),
            Self::Create(key) => write!(f, "create {key}"),
            Self::Update(key, expected) => write!(f, "update {key} {expected}"),
            Self::Delete(key, expected) => conditional(f, "delete", key, expected),
            Self::Purge(key, expected) => conditional(f, "purge", key, expected),
            Self::Entry(key) => write!(f, "entry {key}"),
            Self::History(key) => write!(f, "history {key}"),
            Self::Entries(filter) => write!(f, "entries {filter}"),
            Self::Info => f.write_str("info"),
            Self::Watch(filter, Begin::Snapshot) => write!(f, "watch {filter} snapshot"),
            Self::Watch(filter, Begin::Now) => write!(f, "watch {filter} now"),
            Self::Watch(filter, Begin::Revision(from)) => write!(f, "watch {filter} {from}"),
            Self::Unwatch(number) => write!(f, "unwatch {number}"),
            Self::Keep(history) => write!(f, "keep {history}"),
            Self::DeleteBucket => f.write_str("delete-bucket"),
            Self::CreateBucket => f.write_str("create-bucket"),
            Self::Expire => f.write_str("expire"),
            Self::Publish(subject) => write!(f, "publish {subject}"),
            Self::Request(subject) => write!(f, "request {subject}"),
            Self::Subscribe(subject, None) => write!(f, "subscribe {subject}"),
            Self::Subscribe(subject, Some(group)) => write!(f, "subscribe {subject} {group}"),
            Self::Unsubscribe(number) => write!(f, "unsubscribe {number}"),
            Self::Stream(op) => op.fmt(f),
        }
    }
}

pub(super) fn actor(number: u8) -> &'static str {
    ACTORS[usize::from(number) % ACTORS.len()]
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Does(by, op) => write!(f, "{} {op}", actor(*by)),
            Self::Cut(whose) => write!(f, "cut {}", actor(*whose)),
            Self::Hold(whose) => write!(f, "hold {}", actor(*whose)),
            Self::Release(whose) => write!(f, "release {}", actor(*whose)),
            Self::Restart => f.write_str("restart"),
        }
    }
}

/// A text is no step of a script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a step: {0:?}")]
pub struct ParseStepError(String);

impl FromStr for Step {
    type Err = ParseStepError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split_whitespace().collect();
        parse(&words).ok_or_else(|| ParseStepError(text.to_owned()))
    }
}

fn parse(words: &[&str]) -> Option<Step> {
    Some(match words {
        ["restart"] => Step::Restart,
        ["cut", whose] => Step::Cut(number_of(whose)?),
        ["hold", whose] => Step::Hold(number_of(whose)?),
        ["release", whose] => Step::Release(number_of(whose)?),
        [by, op @ ..] => Step::Does(number_of(by)?, parse_op(op)?),
        [] => return None,
    })
}

fn parse_op(words: &[&str]) -> Option<Op> {
    let own = |text: &str| text.to_owned();
    Some(match *words {
        ["put", key] => Op::Put(own(key)),
        ["create", key] => Op::Create(own(key)),
        ["update", key, expected] => Op::Update(own(key), expected.parse().ok()?),
        ["delete", key] => Op::Delete(own(key), None),
        ["delete", key, expected] => Op::Delete(own(key), Some(expected.parse().ok()?)),
        ["purge", key] => Op::Purge(own(key), None),
        ["purge", key, expected] => Op::Purge(own(key), Some(expected.parse().ok()?)),
        ["entry", key] => Op::Entry(own(key)),
        ["history", key] => Op::History(own(key)),
        ["entries", filter] => Op::Entries(own(filter)),
        ["info"] => Op::Info,
        ["watch", filter, "snapshot"] => Op::Watch(own(filter), Begin::Snapshot),
        ["watch", filter, "now"] => Op::Watch(own(filter), Begin::Now),
        ["watch", filter, from] => Op::Watch(own(filter), Begin::Revision(from.parse().ok()?)),
        ["unwatch", number] => Op::Unwatch(number.parse().ok()?),
        ["keep", history] => Op::Keep(history.parse().ok()?),
        ["delete-bucket"] => Op::DeleteBucket,
        ["create-bucket"] => Op::CreateBucket,
        ["expire"] => Op::Expire,
        ["publish", subject] => Op::Publish(own(subject)),
        ["request", subject] => Op::Request(own(subject)),
        ["subscribe", subject] => Op::Subscribe(own(subject), None),
        ["subscribe", subject, group] => Op::Subscribe(own(subject), Some(own(group))),
        ["unsubscribe", number] => Op::Unsubscribe(number.parse().ok()?),
        _ => Op::Stream(stream_op::parse(words).ok()?),
    })
}

impl FromStr for Expected {
    type Err = std::num::ParseIntError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(match word {
            "latest" => Self::Latest,
            "stale" => Self::Stale,
            "none" => Self::None,
            number => Self::Other(number.parse()?),
        })
    }
}

fn number_of(name: &str) -> Option<u8> {
    let found = ACTORS.iter().position(|actor| *actor == name)?;
    u8::try_from(found).ok()
}

impl Serialize for Step {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_reads_back_as_it_was_written() {
        for script in super::super::generate::scripts(0..50) {
            let read = Script::read(&script.to_string()).expect("it was written so");
            assert_eq!(read, script);
        }
    }

    #[test]
    fn what_is_no_script_is_refused_with_its_line() {
        let refused = |text| Script::read(text).expect_err("it is none");
        let step = refused("history = 1\nsteps = [\n  \"one put a\",\n  \"four put a\",\n]\n");
        assert_eq!(step, "line 2: not a step: \"four put a\"");
        let field = refused("history = 1\nwatch = 3\nsteps = []\n");
        assert!(field.starts_with("line 2: unknown field"), "{field}");
        assert!(refused("history = 1").contains("steps"));
    }
}
