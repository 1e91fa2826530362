//! [`Overlap`]: two subscriptions of one subject, on two connections, heard as one.
//!
//! Core messages carry no number, so what both bring can only be told apart by what it is: while both are listened to,
//! each message is expected once from either side, whichever comes first. The count of equal messages is what is kept, so
//! that somebody who says "ping" twice is heard twice.
//!
//! What was said just before the server subscribed the new one comes from the old one alone, and nobody knows when that
//! was. So what one side has brought is expected of the other for [`LAG_MAX`] only: a heartbeat that is the same each time
//! is not taken for the copy of the one before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::time::Instant;
use crate::transport::Message;

/// How much later a message may come on one connection than on the other.
pub(super) const LAG_MAX: Duration = Duration::from_millis(300);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Old,
    New,
}

/// All that tells one message from another.
type Content = (Arc<str>, Option<Arc<str>>, Vec<(Arc<str>, Arc<str>)>, Bytes);

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    /// Which side has brought more of these, and when; the other is still to bring so many.
    ahead: BTreeMap<Content, (Side, VecDeque<Instant>)>,
}

impl Overlap {
    /// Notes what was told while the new one is being subscribed, whoever has brought it.
    pub(super) fn note(&mut self, message: &Message, now: Instant) {
        let told = || (Side::Old, VecDeque::new());
        let (_, told) = self.ahead.entry(content(message)).or_insert_with(told);
        told.push_back(now);
    }

    /// Whether the old one has brought this message, however long ago: for what has waited on the new one.
    pub(super) fn is_copy(&mut self, message: &Message) -> bool {
        let brought = self.ahead.get_mut(&content(message));
        brought.is_some_and(|(ahead, brought)| *ahead == Side::Old && brought.pop_back().is_some())
    }

    /// Whether this message is to be told: the other side has not brought it.
    pub(super) fn is_news(&mut self, side: Side, message: &Message, now: Instant) -> bool {
        let content = content(message);
        let (ahead, brought) = self
            .ahead
            .entry(content)
            .or_insert_with(|| (side, VecDeque::new()));
        while brought.front().is_some_and(|at| *at + LAG_MAX < now) {
            brought.pop_front();
        }
        // The youngest first: what nobody brings again is to be forgotten.
        if *ahead != side && brought.pop_back().is_some() {
            return false;
        }
        *ahead = side;
        brought.push_back(now);
        true
    }
}

fn content(message: &Message) -> Content {
    let headers = message.headers.iter();
    (
        Arc::clone(&message.subject),
        message.reply.clone(),
        headers
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        message.payload.clone(),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(text: &str) -> Message {
        Message::new("s", text.to_owned())
    }

    #[test]
    fn what_both_bring_is_told_once_and_what_is_said_twice_twice() {
        let mut overlap = Overlap::default();
        let heard = [
            (Side::Old, "a", true),
            (Side::Old, "ping", true),
            (Side::New, "a", false),
            (Side::Old, "ping", true),
            (Side::New, "ping", false),
            (Side::New, "ping", false),
            (Side::New, "b", true),
            (Side::Old, "b", false),
            (Side::Old, "b", true),
        ];
        for (side, text, news) in heard {
            assert_eq!(
                overlap.is_news(side, &message(text), Instant::ZERO),
                news,
                "{side:?} {text}"
            );
        }
    }

    /// The first was told before the new one was subscribed.
    #[test]
    fn a_heartbeat_is_not_taken_for_the_copy_of_the_one_before() {
        let mut overlap = Overlap::default();
        let mut beats = |side, millis| {
            let at = Instant::ZERO + Duration::from_millis(millis);
            overlap.is_news(side, &message("beat"), at)
        };
        assert!(beats(Side::Old, 0));
        assert!(beats(Side::New, 400) && !beats(Side::Old, 410));
        assert!(beats(Side::Old, 800) && !beats(Side::New, 810));
        assert!(beats(Side::New, 1200));
    }

    proptest! {
        /// However the two sides interleave, what both bring in full is told exactly once.
        #[test]
        fn any_interleaving_tells_each_once(
            texts in proptest::collection::vec(0_u8..4, 0..40),
            turns in proptest::collection::vec(any::<bool>(), 0..80),
        ) {
            let texts: Vec<String> = texts.iter().map(u8::to_string).collect();
            let mut sides = [texts.iter(), texts.iter()];
            let mut overlap = Overlap::default();
            let mut told = Vec::new();
            for side in turns.into_iter().map(usize::from).chain([0; 40]).chain([1; 40]) {
                if let Some(text) = sides[side].next()
                    && overlap.is_news([Side::Old, Side::New][side], &message(text), Instant::ZERO)
                {
                    told.push(text.clone());
                }
            }
            let mut wanted = texts.clone();
            wanted.sort();
            told.sort();
            prop_assert_eq!(told, wanted);
        }
    }
}
