//! Scans: which threads there are, by reading all that is held. Complete or an error, and in bounded time.
//!
//! A scan reads from the first message held to the one that was the last when it began. It never counts on a number of
//! messages, which expiry may make unreachable: it is over when a message of that place or a later one comes. A reader that
//! says before that that nothing more was there may be at a server that is behind: then it is over only if the stream has
//! nothing else. Where the stream may have changed under it, it begins anew.
//!
//! **Of copies.** Which message was the last says the server that leads the stream, and in a cluster one that was frozen or
//! cut off says so as well, though another leads and stores (measured: for 15 s and more). JetStream has no read that is
//! bound to be the newest, and nothing that goes through a stream's log without being stored. But a leader says when it
//! last heard a majority of the copies, and whoever has followed another tells it so in the first word: so its word counts
//! once it has heard a majority *after* it was given, [`ON_THE_WAY`] later, so that nothing that it hears then was said
//! before. As leaders are heard every second, that takes about a second, beside the reading.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join;

use super::ScanError;
use super::envelope::{self, Received, ThreadId};
use crate::time::{Clock, UnixTime};
use crate::transport::{
    InterruptCause, Leadership, ReadStart, ReaderEvent, Sequence, StoredMessage, Stream, StreamInfo,
};

/// A reader that is behind is given so long before the stream is looked at again.
const PATIENCE: Duration = Duration::from_millis(500);

/// What one server of a cluster says to another is on its way for at most so long, or is never heard.
const ON_THE_WAY: Duration = Duration::from_millis(250);
/// Time between two looks at a leader that has not heard a majority yet.
const LOOK: Duration = Duration::from_millis(150);
/// Whoever leads by then may have lost it in between, and have it again: followers stand after 4 s of silence.
const SAME_MAX: Duration = Duration::from_secs(4);

/// A thread, as far as it is still held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadSummary {
    /// Its id.
    pub thread: ThreadId,
    /// Its name, where its messages tell. Two threads of one id are two summaries.
    pub name: Option<String>,
    /// When its last message was stored, by the server's wall clock.
    pub last_activity: UnixTime,
    /// How many messages are held.
    pub message_count: u64,
    /// What was said last.
    pub last_body: String,
}

/// What is known of a thread while it is read.
#[derive(Debug)]
struct Tally {
    last: Sequence,
    last_activity: UnixTime,
    message_count: u64,
    last_body: String,
    /// The agent that is asked for has said something in it.
    is_wanted: bool,
}

/// What has been read so far.
#[derive(Debug)]
pub(super) struct Tallies<'a> {
    project: &'a str,
    /// Only threads in which this agent has said something.
    agent: Option<&'a str>,
    threads: BTreeMap<(ThreadId, Option<String>), Tally>,
    /// All that was read, in order.
    read: Vec<Sequence>,
}

impl<'a> Tallies<'a> {
    pub(super) const fn new(project: &'a str, agent: Option<&'a str>) -> Self {
        Self {
            project,
            agent,
            threads: BTreeMap::new(),
            read: Vec::new(),
        }
    }

    /// Counts a message in. What cannot be read denies nobody the rest.
    fn add(&mut self, message: &StoredMessage) {
        self.read.push(message.sequence);
        let Some(received) = Received::decode(self.project, message) else {
            tracing::warn!(subject = %message.subject, sequence = %message.sequence, "not an envelope");
            return;
        };
        let Received { envelope, name, .. } = received;
        let is_wanted = self.agent.is_none_or(|agent| agent == envelope.from);
        let tally = self
            .threads
            .entry((envelope.thread, name))
            .or_insert_with(|| Tally {
                last: Sequence::NONE,
                last_activity: UnixTime::EPOCH,
                message_count: 0,
                last_body: String::new(),
                is_wanted: false,
            });
        tally.last = message.sequence;
        tally.last_activity = message.time;
        tally.message_count += 1;
        tally.last_body = envelope.body;
        tally.is_wanted |= is_wanted;
    }

    /// Whether everything up to this place is counted that the stream still has.
    fn is_all(&self, stream: &StreamInfo, end: Sequence) -> bool {
        let held = self.read.iter().rev();
        let held = held.take_while(|read| **read >= stream.first_sequence);
        // What was stored meanwhile comes after the rest: then there is no need to count.
        let is_counted = stream.last_sequence == end && held.count() as u64 >= stream.messages;
        stream.first_sequence > end || is_counted
    }

    /// Most recent first: in the order of the stream, which no clock can turn.
    fn summaries(self) -> Vec<ThreadSummary> {
        let mut threads: Vec<_> = self.threads.into_iter().collect();
        threads.retain(|(_, tally)| tally.is_wanted);
        threads.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.last));
        let summary = |((thread, name), tally): (_, Tally)| ThreadSummary {
            thread,
            name,
            last_activity: tally.last_activity,
            message_count: tally.message_count,
            last_body: tally.last_body,
        };
        threads.into_iter().map(summary).collect()
    }
}

/// Reads everything. Whoever calls it puts a limit to its time.
pub(super) async fn scan<C: Clock, S: Stream>(
    clock: &C,
    stream: &S,
    project: &str,
    agent: Option<&str>,
) -> Result<Vec<ThreadSummary>, ScanError> {
    loop {
        let tallies = Tallies::new(project, agent);
        let before = stream.info().await?;
        let (complete, was_led) = try_join(
            read(clock, stream, tallies, &before),
            was_led(clock, stream, &before.leadership),
        )
        .await?;
        if let Some(complete) = complete.filter(|_| was_led) {
            return Ok(complete);
        }
    }
}

/// Whether whoever described the stream just now led it then: see the head of this file.
async fn was_led<C: Clock, S: Stream>(
    clock: &C,
    stream: &S,
    described: &Leadership,
) -> Result<bool, ScanError> {
    let before = match described {
        Leadership::Alone => return Ok(true),
        Leadership::Nobody => {
            clock.sleep_until(clock.now() + PATIENCE).await;
            return Ok(false);
        }
        Leadership::Leader { server, .. } => server,
    };
    let since = clock.now();
    loop {
        clock.sleep_until(clock.now() + LOOK).await;
        let asked = clock.now();
        match stream.info().await?.leadership {
            Leadership::Leader { server, heard } if server == *before => {
                if clock.now().since(since) > SAME_MAX {
                    return Ok(false);
                }
                if heard.saturating_add(ON_THE_WAY) <= asked.since(since) {
                    return Ok(true);
                }
            }
            // One that knows of no leader may have been quicker to answer than who leads.
            Leadership::Nobody if clock.now().since(since) <= SAME_MAX => {}
            _ => return Ok(false),
        }
    }
}

/// Reads everything once; `None` if the stream may have changed under it.
async fn read<C: Clock, S: Stream>(
    clock: &C,
    stream: &S,
    mut tallies: Tallies<'_>,
    info: &StreamInfo,
) -> Result<Option<Vec<ThreadSummary>>, ScanError> {
    if info.messages == 0 {
        return Ok(Some(Vec::new()));
    }
    let filter = envelope::all(tallies.project);
    let mut reader = stream.read(&[&filter], ReadStart::All).await?;
    let mut is_sure = true;
    let mut look_again = None;
    loop {
        let event = match look_again {
            None => reader.next().await,
            Some(at) => tokio::select! {
                biased;
                event = reader.next() => event,
                () = clock.sleep_until(at) => Some(ReaderEvent::CaughtUp),
            },
        };
        match event.ok_or(ScanError::ConnectionLost)? {
            ReaderEvent::Message(message) => {
                if message.sequence <= info.last_sequence {
                    tallies.add(&message);
                }
                if message.sequence >= info.last_sequence {
                    return Ok(Some(tallies.summaries()));
                }
            }
            ReaderEvent::CaughtUp => {
                let now = stream.info().await?;
                if now.created != info.created {
                    return Ok(None);
                }
                if tallies.is_all(&now, info.last_sequence) {
                    return Ok(Some(tallies.summaries()));
                }
                look_again = Some(clock.now() + PATIENCE);
            }
            // A reader that was slow goes on in the same stream. Another outage may have ended otherwise.
            ReaderEvent::Interrupted(cause) => is_sure = cause == InterruptCause::Gap,
            ReaderEvent::Resumed { same_stream, .. } => {
                if !(is_sure && same_stream) {
                    return Ok(None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::envelope::Envelope;
    use super::*;
    use crate::transport::StreamConfig;

    fn said(sequence: u64, from: &str, name: &str, body: &str) -> StoredMessage {
        let time = UnixTime::from_secs(1_700_000_000 + sequence as i64);
        let envelope = Envelope {
            id: sequence.to_string(),
            from: from.to_owned(),
            thread: ThreadId::of("demo", name),
            body: body.to_owned(),
            timestamp: UnixTime::EPOCH,
            reply_to: None,
        };
        let message = envelope.message("demo", name, None);
        StoredMessage {
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
            sequence: Sequence(sequence),
            time,
        }
    }

    fn tally(agent: Option<&str>, messages: &[StoredMessage]) -> Vec<ThreadSummary> {
        let mut tallies = Tallies::new("demo", agent);
        for message in messages {
            tallies.add(message);
        }
        tallies.summaries()
    }

    fn counted(summaries: &[ThreadSummary]) -> Vec<(Option<&str>, u64, &str)> {
        summaries
            .iter()
            .map(|s| (s.name.as_deref(), s.message_count, &*s.last_body))
            .collect()
    }

    #[test]
    fn a_reader_that_is_behind_has_not_told_all() {
        let mut tallies = Tallies::new("demo", None);
        for sequence in [3, 4, 6] {
            tallies.add(&said(sequence, "alice", "deploy", "a"));
        }
        let is_all = |first, last, messages, end| {
            let stream = StreamInfo {
                first_sequence: Sequence(first),
                last_sequence: Sequence(last),
                messages,
                ..described()
            };
            tallies.is_all(&stream, Sequence(end))
        };
        assert!(is_all(3, 6, 3, 6) && is_all(4, 6, 2, 6), "all is counted");
        assert!(is_all(3, 8, 3, 8), "the last two were deleted");
        assert!(is_all(8, 7, 0, 7) && is_all(8, 9, 2, 7), "it has expired");
        assert!(!is_all(3, 7, 4, 7), "the last is missing");
        assert!(!is_all(3, 9, 6, 7), "nobody can say");
    }

    fn described() -> StreamInfo {
        StreamInfo {
            config: StreamConfig::new("chat-demo"),
            created: UnixTime::EPOCH,
            now: UnixTime::EPOCH,
            messages: 0,
            bytes: 0,
            first_sequence: Sequence(1),
            last_sequence: Sequence::NONE,
            consumers: 0,
            leadership: Leadership::Alone,
        }
    }

    #[test]
    fn threads_come_most_recent_first() {
        let messages = [
            said(1, "alice", "deploy", "a"),
            said(2, "bob", "lunch", "b"),
            said(5, "bob", "deploy", "c"),
        ];
        let all = tally(None, &messages);
        let expected = [(Some("deploy"), 2, "c"), (Some("lunch"), 1, "b")];
        assert_eq!(counted(&all), expected);
        assert_eq!(all[0].last_activity, UnixTime::from_secs(1_700_000_005));
        let of_alice = tally(Some("alice"), &messages);
        assert_eq!(counted(&of_alice), [(Some("deploy"), 2, "c")]);
        assert!(tally(Some("carol"), &messages).is_empty());
    }

    #[test]
    fn one_id_and_two_names_are_two_threads() {
        let mut other = said(2, "bob", "deploy", "theirs");
        other.headers = said(2, "bob", "another", "").headers;
        let summaries = tally(None, &[said(1, "alice", "deploy", "ours"), other]);
        let expected = [(Some("another"), 1, "theirs"), (Some("deploy"), 1, "ours")];
        assert_eq!(counted(&summaries), expected);
        assert_eq!(summaries[0].thread, summaries[1].thread);
    }

    #[test]
    fn what_cannot_be_read_denies_nobody_the_rest() {
        let mut garbage = said(2, "bob", "deploy", "");
        garbage.payload = "garbage".into();
        let summaries = tally(None, &[said(1, "alice", "deploy", "a"), garbage]);
        assert_eq!(counted(&summaries), [(Some("deploy"), 1, "a")]);
    }
}
