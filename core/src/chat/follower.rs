//! The decision core of a watch: what of that which a [`Reader`](crate::transport::Reader) tells is told on, and what
//! must be told as a gap.
//!
//! Invariants: sequences told increase strictly within one life of the stream; of all that is stored after the watch has
//! begun, each message is told or lies in a gap that is told before anything later is; between `Interrupted` and
//! `Resumed` nothing is told but gaps.
//!
//! A reader goes on after the last message that it has told, which is right only while the stream still holds what it
//! held. After each interruption that is checked: whether the last message told is still that message. A stream that has
//! lost its end to a power failure may have been written on since, and then nothing else shows it.
//!
//! In a cluster the server that reads for a watch may let a message go for its age before it has read it, where it stood
//! still for as long: nobody is told of an interruption then. Who reads everything sees that a sequence is missing. Who
//! reads a part of it cannot.

use std::sync::Arc;

use super::envelope::Received;
use super::event::{Event, Gap};
use crate::machine::Machine;
use crate::time::{Instant, UnixTime};
use crate::transport::{ReaderEvent, Sequence, StoredMessage};

/// What a [`Follower`] hears.
#[derive(Clone, Debug)]
pub(super) enum FollowerEvent {
    Reader(ReaderEvent),
    /// Answers [`FollowerEffect::Check`]. Until then the reader is not heard.
    Checked(Found),
}

/// What a [`Follower`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FollowerEffect {
    Tell(Event),
    /// Ask what the stream is now, and for the message at this place.
    Check(Option<Sequence>),
}

/// What the stream is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) created: UnixTime,
    pub(super) first: Sequence,
    pub(super) last: Sequence,
    pub(super) at_mark: AtMark,
}

/// What is at the place that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtMark {
    /// A message that was stored then.
    Stored(UnixTime),
    Nothing,
    /// It was not asked for, or the stream does not answer such questions.
    Unknown,
}

/// A message that is known by its place and the time when it took it.
pub(super) type Mark = (Sequence, UnixTime);

/// Whose messages are wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) project: Arc<str>,
    /// The name of the thread, where it is one thread.
    pub(super) name: Option<Arc<str>>,
    /// Whether it is all that the stream holds.
    pub(super) is_all: bool,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Follower {
    wanted: Wanted,
    /// Which life of the stream is told of.
    created: UnixTime,
    /// Everything up to here is told, or was there before, or lies in a gap that was told.
    told: Sequence,
    /// What the reader has read last, in one go with what comes next.
    read: Option<Sequence>,
    /// A message that was there when it was last looked.
    mark: Option<Mark>,
    /// What is being checked: whether the reader holds the stream for the same, and what it holds first.
    checking: Option<(bool, Sequence)>,
}

impl Follower {
    /// Of a reader that begins after `last` of the stream that was `created` then; `mark` is the message at `last`, if it is
    /// held.
    pub(super) const fn new(
        wanted: Wanted,
        created: UnixTime,
        last: Sequence,
        mark: Option<Mark>,
    ) -> Self {
        Self {
            wanted,
            created,
            told: last,
            // What was stored before it began to read is not of it.
            read: None,
            mark,
            checking: None,
        }
    }

    fn read(&self, message: &StoredMessage) -> Event {
        let Some(received) = Received::decode(&self.wanted.project, message) else {
            return Event::Unreadable {
                subject: message.subject.clone(),
                sequence: message.sequence,
            };
        };
        match (&self.wanted.name, &received.name) {
            (Some(wanted), Some(name)) if **wanted != **name => Event::OtherThread {
                name: name.clone(),
                sequence: message.sequence,
            },
            _ => Event::Message(Box::new(received)),
        }
    }

    fn heard(&mut self, event: ReaderEvent, effects: &mut Vec<FollowerEffect>) {
        match event {
            ReaderEvent::Message(message) => {
                if let Some(gap) = self.passed_over(message.sequence) {
                    effects.push(FollowerEffect::Tell(Event::Gap(gap)));
                }
                // What a stream that has lost its end is read again from the first on was told before, or is in a gap.
                if message.sequence > self.told {
                    self.told = message.sequence;
                    self.mark = Some((message.sequence, message.time));
                    effects.push(FollowerEffect::Tell(self.read(&message)));
                }
            }
            ReaderEvent::CaughtUp => {}
            ReaderEvent::Interrupted(cause) => {
                effects.push(FollowerEffect::Tell(Event::Interrupted(cause)));
            }
            ReaderEvent::Resumed {
                same_stream,
                first_held,
            } => {
                self.checking = Some((same_stream, first_held));
                effects.push(FollowerEffect::Check(self.mark.map(|(at, _)| at)));
            }
        }
    }

    /// What the reader should have read before this, and did not find.
    fn passed_over(&mut self, read: Sequence) -> Option<Gap> {
        let before = self.read.replace(read)?;
        if !self.wanted.is_all {
            return None;
        }
        self.expired(before.max(self.told), read)
    }

    /// What lay between these, if anything did.
    fn expired(&mut self, after: Sequence, held: Sequence) -> Option<Gap> {
        let (first, last) = (after.next(), Sequence(held.0.saturating_sub(1)));
        if first > last {
            return None;
        }
        self.told = last;
        Some(Gap::Expired { first, last })
    }

    fn checked(&mut self, found: Found, effects: &mut Vec<FollowerEffect>) {
        let Some((same_stream, first_held)) = self.checking.take() else {
            return;
        };
        if let Some(gap) = self.gap(same_stream, first_held, found) {
            effects.push(FollowerEffect::Tell(Event::Gap(gap)));
        }
        effects.push(FollowerEffect::Tell(Event::Resumed));
    }

    fn gap(&mut self, same_stream: bool, first_held: Sequence, found: Found) -> Option<Gap> {
        // The reader looked at what is held before it began to read; what has expired until it did is seen by the check
        // alone, which is made after that.
        let first_held = first_held.max(found.first);
        if found.created != self.created {
            // One that the reader does not know of yet it will tell of.
            if same_stream {
                return None;
            }
            (self.created, self.told, self.mark) = (found.created, Sequence::NONE, None);
            self.read = None;
            return Some(Gap::Recreated);
        }
        if !same_stream {
            // The reader begins anew, at what was told long ago. What was stored since the loss cannot be told from that,
            // up to what is the last now.
            (self.told, self.mark, self.read) = (found.last, None, None);
            return Some(Gap::TailLost { last: found.last });
        }
        let is_another = match (self.mark, found.at_mark) {
            (Some((_, then)), AtMark::Stored(now)) => now != then,
            (Some((at, _)), AtMark::Nothing) => first_held <= at,
            (None, _) | (_, AtMark::Unknown) => false,
        };
        if is_another {
            self.mark = None;
            return Some(Gap::TailLost { last: self.told });
        }
        self.expired(self.told, first_held)
    }
}

impl Machine for Follower {
    type Event = FollowerEvent;
    type Effect = FollowerEffect;

    fn handle(&mut self, _now: Instant, event: FollowerEvent, effects: &mut Vec<FollowerEffect>) {
        match event {
            FollowerEvent::Reader(event) => self.heard(event, effects),
            FollowerEvent::Checked(found) => self.checked(found, effects),
        }
    }

    /// When it matters what is told, the reader knows: it has the clock.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn on_deadline(&mut self, _now: Instant, _effects: &mut Vec<FollowerEffect>) {}

    fn state(&self) -> &'static str {
        match self.checking {
            Some(_) => "checking",
            None => "following",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::envelope::{Envelope, ThreadId};
    use super::*;
    use crate::transport::InterruptCause;

    const BEGAN: UnixTime = UnixTime::from_secs(1_700_000_000);

    fn message(sequence: u64, name: &str) -> StoredMessage {
        let envelope = Envelope {
            id: format!("1-{sequence}"),
            from: "alice".to_owned(),
            thread: ThreadId::of("demo", name),
            body: "hello".to_owned(),
            timestamp: BEGAN,
            reply_to: None,
        };
        let message = envelope.message("demo", name, None);
        StoredMessage {
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
            sequence: Sequence(sequence),
            time: BEGAN.offset(sequence as i64),
        }
    }

    /// Follows one thread, from 10 on.
    fn follower() -> Follower {
        let wanted = Wanted {
            project: "demo".into(),
            name: Some("deploy".into()),
            is_all: false,
        };
        let mark = (Sequence(10), BEGAN.offset(10));
        Follower::new(wanted, BEGAN, Sequence(10), Some(mark))
    }

    fn hear(follower: &mut Follower, event: FollowerEvent) -> Vec<FollowerEffect> {
        let mut effects = Vec::new();
        follower.handle(Instant::ZERO, event, &mut effects);
        effects
    }

    fn told(follower: &mut Follower, event: FollowerEvent) -> Vec<String> {
        let tell = |effect: FollowerEffect| match effect {
            FollowerEffect::Tell(Event::Message(received)) => received.sequence.to_string(),
            FollowerEffect::Tell(Event::Gap(gap)) => gap.to_string(),
            FollowerEffect::Tell(event) => format!("{event:?}"),
            FollowerEffect::Check(at) => format!("check {at:?}"),
        };
        hear(follower, event).into_iter().map(tell).collect()
    }

    fn reads(sequence: u64) -> FollowerEvent {
        FollowerEvent::Reader(ReaderEvent::Message(message(sequence, "deploy")))
    }

    fn resumes(same_stream: bool, first_held: u64) -> FollowerEvent {
        FollowerEvent::Reader(ReaderEvent::Resumed {
            same_stream,
            first_held: Sequence(first_held),
        })
    }

    fn finds(last: u64, at_mark: AtMark) -> FollowerEvent {
        FollowerEvent::Checked(Found {
            created: BEGAN,
            first: Sequence(1),
            last: Sequence(last),
            at_mark,
        })
    }

    #[test]
    fn nothing_is_told_twice_and_nothing_of_before() {
        let mut follower = follower();
        let mut all = Vec::new();
        for sequence in [9, 10, 11, 11, 13, 12] {
            all.extend(told(&mut follower, reads(sequence)));
        }
        assert_eq!(all, ["11", "13"]);
    }

    #[test]
    fn what_goes_on_where_it_was_has_no_gap() {
        let mut follower = follower();
        told(&mut follower, reads(11));
        let cause = ReaderEvent::Interrupted(InterruptCause::Disconnected);
        let interrupted = told(&mut follower, FollowerEvent::Reader(cause));
        assert_eq!(interrupted, ["Interrupted(Disconnected)"]);
        let checks = told(&mut follower, resumes(true, 3));
        assert_eq!(checks, ["check Some(Sequence(11))"]);
        let same = AtMark::Stored(BEGAN.offset(11));
        assert_eq!(told(&mut follower, finds(12, same)), ["Resumed"]);
        assert_eq!(told(&mut follower, reads(12)), ["12"]);
    }

    #[test]
    fn what_has_expired_meanwhile_is_a_gap() {
        let mut follower = follower();
        told(&mut follower, reads(11));
        told(&mut follower, resumes(true, 15));
        let gap = told(&mut follower, finds(20, AtMark::Nothing));
        assert_eq!(gap, ["12 to 14 have expired", "Resumed"]);
        told(&mut follower, resumes(true, 15));
        let again = told(&mut follower, finds(20, AtMark::Nothing));
        assert_eq!(again, ["Resumed"], "told once");
    }

    /// The reader had seen 15 held, and found 17 first.
    #[test]
    fn what_expires_before_the_reader_comes_to_it_is_in_the_gap() {
        let mut follower = follower();
        told(&mut follower, reads(11));
        told(&mut follower, resumes(true, 15));
        let found = FollowerEvent::Checked(Found {
            created: BEGAN,
            first: Sequence(17),
            last: Sequence(20),
            at_mark: AtMark::Nothing,
        });
        let gap = told(&mut follower, found);
        assert_eq!(gap, ["12 to 16 have expired", "Resumed"]);
        assert!(told(&mut follower, reads(16)).is_empty());
        assert_eq!(told(&mut follower, reads(17)), ["17"]);
    }

    /// The server that reads stood still until they were too old.
    #[test]
    fn what_is_passed_over_in_silence_is_a_gap_for_who_reads_all() {
        let all = |is_all| {
            let mut follower = follower();
            follower.wanted.is_all = is_all;
            // What came while it began is not of the watch.
            let sequences = [12, 13, 16, 17];
            let told = sequences.map(|sequence| told(&mut follower, reads(sequence)));
            told.concat().join(", ")
        };
        assert_eq!(all(true), "12, 13, 14 to 15 have expired, 16, 17");
        assert_eq!(all(false), "12, 13, 16, 17");
    }

    #[test]
    fn what_was_told_as_a_gap_is_not_told_as_another() {
        let mut follower = follower();
        follower.wanted.is_all = true;
        told(&mut follower, reads(11));
        told(&mut follower, resumes(true, 15));
        let gap = told(&mut follower, finds(20, AtMark::Nothing));
        assert_eq!(gap, ["12 to 14 have expired", "Resumed"]);
        let more = told(&mut follower, reads(17));
        assert_eq!(more, ["15 to 16 have expired", "17"]);
    }

    #[test]
    fn a_tail_that_was_lost_and_written_anew_is_a_gap() {
        let mut follower = follower();
        told(&mut follower, reads(11));
        told(&mut follower, resumes(true, 1));
        let other = AtMark::Stored(BEGAN.offset(99));
        let gap = told(&mut follower, finds(30, other));
        assert_eq!(gap, ["the tail up to 11 was lost", "Resumed"]);
        assert_eq!(told(&mut follower, reads(12)), ["12"]);
    }

    #[test]
    fn a_message_before_the_watch_shows_a_lost_tail_too() {
        let mut follower = follower();
        told(&mut follower, resumes(true, 1));
        let gap = told(&mut follower, finds(10, AtMark::Nothing));
        assert_eq!(gap, ["the tail up to 10 was lost", "Resumed"]);
    }

    #[test]
    fn a_stream_that_is_read_anew_is_not_told_anew() {
        let mut follower = follower();
        told(&mut follower, reads(11));
        told(&mut follower, resumes(false, 1));
        let gap = told(&mut follower, finds(8, AtMark::Nothing));
        assert_eq!(gap, ["the tail up to 8 was lost", "Resumed"]);
        let mut all = Vec::new();
        for sequence in 1..=10 {
            all.extend(told(&mut follower, reads(sequence)));
        }
        assert_eq!(all, ["9", "10"]);
    }

    #[test]
    fn all_of_another_stream_is_told() {
        let mut follower = follower();
        told(&mut follower, resumes(false, 1));
        let another = FollowerEvent::Checked(Found {
            created: BEGAN.offset(1),
            first: Sequence(1),
            last: Sequence(2),
            at_mark: AtMark::Nothing,
        });
        let gap = told(&mut follower, another);
        assert_eq!(gap, ["the stream was made anew", "Resumed"]);
        assert_eq!(told(&mut follower, reads(1)), ["1"]);
    }

    #[test]
    fn a_thread_of_the_same_id_is_not_shown_as_this_one() {
        let mut follower = follower();
        let mut other = message(11, "deploy");
        let theirs = message(11, "another");
        other.headers = theirs.headers;
        let event = FollowerEvent::Reader(ReaderEvent::Message(other));
        let told = hear(&mut follower, event);
        let expected = Event::OtherThread {
            name: "another".to_owned(),
            sequence: Sequence(11),
        };
        assert_eq!(told, [FollowerEffect::Tell(expected)]);
        let mut garbage = message(12, "deploy");
        garbage.payload = "garbage".into();
        let event = FollowerEvent::Reader(ReaderEvent::Message(garbage));
        assert!(matches!(
            hear(&mut follower, event)[..],
            [FollowerEffect::Tell(Event::Unreadable { .. })]
        ));
    }

    proptest! {
        /// Whatever a reader tells, sequences told increase within one life of the stream.
        #[test]
        fn told_sequences_increase(
            steps in proptest::collection::vec((0..4_u8, 0..40_u64), 0..60),
            is_all in any::<bool>(),
        ) {
            let mut follower = follower();
            follower.wanted.is_all = is_all;
            let mut last = 10;
            for (kind, number) in steps {
                let effects = match kind {
                    0 | 1 => hear(&mut follower, reads(number)),
                    2 => {
                        hear(&mut follower, resumes(true, number));
                        hear(&mut follower, finds(number + 5, AtMark::Nothing))
                    }
                    _ => {
                        hear(&mut follower, resumes(false, 1));
                        let effects = hear(&mut follower, finds(number, AtMark::Nothing));
                        last = number;
                        effects
                    }
                };
                for effect in effects {
                    match effect {
                        FollowerEffect::Tell(Event::Message(told)) => {
                            prop_assert!(told.sequence.0 > last);
                            last = told.sequence.0;
                        }
                        FollowerEffect::Tell(Event::Gap(Gap::Expired { first, last: end })) => {
                            prop_assert!(first <= end && first.0 > last);
                            last = end.0;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}
