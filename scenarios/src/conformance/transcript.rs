//! What a case observes, in words that are the same in both worlds where the facts are.

use std::time::Duration;

use squall_core::transport::{
    BucketInfo, ConnectionEvent, ConsumerInfo, Delivered, Events, Fallible, Headers, KvEntry,
    Message, Outcome, PullEnd, PullEvent, Pulled, Reader, ReaderEvent, Revision, StoreAck,
    StoredMessage, StreamInfo, Subscription, Watch, WatchEvent,
};

use super::laboratory::{Laboratory, Stop, sleep, within};
use super::samples::Sample;

/// Longer than anything that must come takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// What may still be under way is there after this.
const LULL: Duration = Duration::from_millis(300);

/// What was observed, line by line, and what of it was not as the facts say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// To be the same in both worlds.
    pub lines: Vec<String>,
    /// What the facts say otherwise; to be empty.
    pub wrong: Vec<String>,
    /// Numbers that vary, to be distributed alike in both worlds.
    pub samples: Vec<Sample>,
}

impl Transcript {
    /// Something observed, to be the same in both worlds.
    pub(super) fn note(&mut self, what: &str, observed: impl Into<String>) {
        self.lines.push(format!("{what}: {}", observed.into()));
    }

    /// Something observed that the facts tell beforehand.
    pub(super) fn is(&mut self, what: &str, observed: impl Into<String>, fact: &str) {
        let observed = observed.into();
        if observed != fact {
            self.wrong.push(format!(
                "{what}: {observed}\n      but the facts say: {fact}"
            ));
        }
        self.note(what, observed);
    }

    /// Something that must be so wherever it is looked at, however often that is.
    pub(super) fn must(&mut self, what: &str, is_so: bool) {
        if !is_so {
            self.wrong.push(format!("it is not so: {what}"));
        }
    }

    /// A time, to lie in a window of the facts; how long it was is not compared.
    pub(super) fn lasts(&mut self, what: &str, time: Duration, from_ms: u64, to_ms: u64) {
        let millis = time.as_millis() as u64;
        let inside = (from_ms..=to_ms).contains(&millis);
        if !inside {
            self.wrong.push(format!(
                "{what}: after {millis} ms\n      but the facts say: {from_ms} to {to_ms} ms"
            ));
        }
        self.note(what, if inside { "in time" } else { "not in time" });
    }

    /// A number, to lie in a window of the facts.
    pub(super) fn counts(&mut self, what: &str, number: usize, from: usize, to: usize) {
        let inside = (from..=to).contains(&number);
        if !inside {
            self.wrong.push(format!(
                "{what}: {number}\n      but the facts say: {from} to {to}"
            ));
        }
        self.note(what, if inside { "as many as told" } else { "others" });
    }

    /// Times that vary, in milliseconds; the real ones may be later by up to `slack`, for the load of the machine.
    pub(super) fn times(&mut self, what: &str, times: &[Duration], slack: Duration) {
        let millis = |time: &Duration| time.as_secs_f64() * 1e3;
        self.sample(what, times.iter().map(millis).collect(), millis(&slack));
    }

    /// Numbers that vary; the real ones may be larger by up to `slack`.
    pub(super) fn sample(&mut self, what: &str, numbers: Vec<f64>, slack: f64) {
        let name = what.to_owned();
        self.samples.push(Sample {
            name,
            numbers,
            slack,
        });
    }

    /// The case is over, or could not go on.
    pub(super) fn close(mut self, told: Result<(), Stop>) -> Self {
        if let Err(Stop(why)) = told {
            self.wrong.push(format!("it cannot go on: {why}"));
        }
        self
    }
}

/// In words, for transcripts.
pub(super) trait Show {
    fn show(&self) -> String;
}

impl Show for Revision {
    fn show(&self) -> String {
        format!("@{self}")
    }
}

impl Show for () {
    fn show(&self) -> String {
        "done".to_owned()
    }
}

impl Show for u64 {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Show for bool {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Show for StoreAck {
    fn show(&self) -> String {
        let again = if self.duplicate { " again" } else { "" };
        format!("{}@{}{again}", self.stream, self.sequence)
    }
}

impl Show for StoredMessage {
    fn show(&self) -> String {
        let payload = String::from_utf8_lossy(&self.payload);
        let (subject, sequence) = (&self.subject, self.sequence);
        format!(
            "{subject}={payload}@{sequence}{}",
            show_headers(&self.headers)
        )
    }
}

impl Show for StreamInfo {
    fn show(&self) -> String {
        let (first, last) = (self.first_sequence, self.last_sequence);
        format!("{} messages {first}..{last}", self.messages)
    }
}

impl Show for ReaderEvent {
    fn show(&self) -> String {
        match self {
            Self::Message(message) => message.show(),
            Self::CaughtUp => "caught up".to_owned(),
            Self::Interrupted(cause) => format!("interrupted ({cause})"),
            Self::Resumed {
                same_stream,
                first_held,
            } => {
                let which = if *same_stream {
                    ""
                } else {
                    " (another stream)"
                };
                format!("resumed{which}, first held {first_held}")
            }
        }
    }
}

impl Show for KvEntry {
    fn show(&self) -> String {
        if self.operation.is_put() {
            let value = String::from_utf8_lossy(&self.value);
            return format!("{}={value}@{}", self.key, self.revision);
        }
        let operation = format!("{:?}", self.operation).to_lowercase();
        format!("{}:{operation}@{}", self.key, self.revision)
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Show::show)
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self) -> String {
        let all: Vec<String> = self.iter().map(Show::show).collect();
        format!("[{}]", all.join(" "))
    }
}

impl Show for BucketInfo {
    fn show(&self) -> String {
        format!("{} records, last @{}", self.records, self.last_revision)
    }
}

impl Show for Message {
    fn show(&self) -> String {
        let payload = String::from_utf8_lossy(&self.payload);
        format!("{}={payload}{}", self.subject, show_headers(&self.headers))
    }
}

fn show_headers(headers: &Headers) -> String {
    let all = headers.iter();
    all.map(|(name, value)| format!(" {name}:{value}"))
        .collect()
}

impl Show for WatchEvent {
    fn show(&self) -> String {
        match self {
            Self::Entry(entry) => entry.show(),
            Self::SnapshotEnd => "end".to_owned(),
            Self::Interrupted(cause) => format!("interrupted ({cause})"),
            Self::Resumed { same_bucket: true } => "resumed".to_owned(),
            Self::Resumed { same_bucket: false } => "resumed (new bucket)".to_owned(),
        }
    }
}

impl Show for ConnectionEvent {
    /// The texts of failed attempts are the operating system's: only their kind is compared.
    fn show(&self) -> String {
        match self {
            Self::ReconnectFailed(text) if text.contains("timed out") => {
                "reconnect failed (timed out)".to_owned()
            }
            Self::ReconnectFailed(_) => "reconnect failed".to_owned(),
            Self::LoggingIn(login) => format!("logging in with {}", login.generation),
            other => other.to_string(),
        }
    }
}

impl Show for Delivered {
    fn show(&self) -> String {
        format!(
            "{}@{} (#{}, x{}, {} to come)",
            self.message.subject,
            self.message.sequence,
            self.consumer_sequence,
            self.deliveries,
            self.pending
        )
    }
}

impl Show for PullEvent {
    fn show(&self) -> String {
        let why = match self {
            Self::Message(delivered) => return delivered.show(),
            Self::Ended(PullEnd::Full) => "full",
            Self::Ended(PullEnd::NoMessages) => "no messages",
            Self::Ended(PullEnd::Expired) => "expired",
            Self::Ended(PullEnd::Silent) => "silent",
            Self::Ended(PullEnd::Disconnected) => "disconnected",
            Self::Ended(PullEnd::Refused(error)) => return format!("over ({error})"),
        };
        format!("over ({why})")
    }
}

impl Show for ConsumerInfo {
    fn show(&self) -> String {
        format!(
            "delivered {}/{} floor {}/{} pending {} again {} waiting {} unseen {}",
            self.delivered.consumer,
            self.delivered.stream,
            self.ack_floor.consumer,
            self.ack_floor.stream,
            self.ack_pending,
            self.redelivered,
            self.waiting,
            self.pending
        )
    }
}

/// An outcome with its error in full.
pub(super) fn told<T: Show, E: Fallible + std::fmt::Display>(result: &Result<T, E>) -> String {
    match result {
        Ok(value) => value.show(),
        Err(error) => failed(error),
    }
}

/// Only whether it went well.
pub(super) fn went<T, E: Fallible + std::fmt::Display>(result: &Result<T, E>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(error) => failed(error),
    }
}

fn failed<E: Fallible + std::fmt::Display>(error: &E) -> String {
    let outcome = match error.outcome() {
        Outcome::Refused => "refused",
        Outcome::Unknown => "unknown",
    };
    format!("{outcome} ({error})")
}

/// Things that come one after the other.
pub(super) trait Stream {
    type Item: Show;
    fn next_item(&mut self) -> impl Future<Output = Option<Self::Item>>;
    fn item_there(&mut self) -> Option<Self::Item>;
}

macro_rules! stream {
    ($($name:ident: $item:ty),*) => {$(
        impl Stream for $name {
            type Item = $item;
            async fn next_item(&mut self) -> Option<$item> {
                self.next().await
            }
            fn item_there(&mut self) -> Option<$item> {
                self.try_next()
            }
        }
    )*};
}
stream!(Watch: WatchEvent, Events: ConnectionEvent, Subscription: Message, Reader: ReaderEvent, Pulled: PullEvent);

/// All that comes up to and with `last`; ends with `(end)` or `(nothing more)` where that does not come.
pub(super) async fn until_told<L: Laboratory, S: Stream>(
    lab: &L,
    stream: &mut S,
    last: &str,
) -> Vec<String> {
    let mut all = Vec::new();
    while all.last().is_none_or(|said| said != last) {
        match within(lab, PATIENCE, stream.next_item()).await {
            Some(Some(item)) => all.push(item.show()),
            Some(None) => {
                all.push("(end)".to_owned());
                break;
            }
            None => {
                all.push("(nothing more)".to_owned());
                break;
            }
        }
    }
    all
}

/// All that comes in a lull.
pub(super) async fn rest<L: Laboratory, S: Stream>(lab: &L, stream: &mut S) -> Vec<String> {
    during(lab, stream, LULL).await
}

/// All that comes within this time.
pub(super) async fn during<L: Laboratory, S: Stream>(
    lab: &L,
    stream: &mut S,
    time: Duration,
) -> Vec<String> {
    sleep(lab, time).await;
    std::iter::from_fn(|| stream.item_there())
        .map(|item| item.show())
        .collect()
}

/// On one line.
pub(super) fn line(items: &[String]) -> String {
    if items.is_empty() {
        "nothing".to_owned()
    } else {
        items.join(", ")
    }
}

/// On one line, with what is said several times in a row said once.
pub(super) fn gist(items: &[String]) -> String {
    let mut items = items.to_vec();
    items.dedup();
    line(&items)
}
