//! [`Overlap`]: two subscriptions of one subject, on two connections, heard as one.
//!
//! Core messages carry no number, so what both bring can only be told apart by what it is: while both are listened to,
//! each message is expected once from either side, whichever comes first. The count of equal messages is what is kept, so
//! that somebody who says "ping" twice is heard twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::transport::Message;

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
    /// How many more of these one side has brought; the other is still to bring so many.
    ahead: BTreeMap<Content, (bool, u32)>,
}

impl Overlap {
    /// Whether this message is to be told: the other side has not brought it.
    pub(super) fn is_news(&mut self, side: Side, message: &Message) -> bool {
        let is_old = side == Side::Old;
        let content = content(message);
        match self.ahead.get_mut(&content) {
            Some((ahead, count)) if *ahead == is_old => {
                *count += 1;
                true
            }
            Some((_, 1)) => {
                self.ahead.remove(&content);
                false
            }
            Some((_, count)) => {
                *count -= 1;
                false
            }
            None => {
                self.ahead.insert(content, (is_old, 1));
                true
            }
        }
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
                overlap.is_news(side, &message(text)),
                news,
                "{side:?} {text}"
            );
        }
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
                    && overlap.is_news([Side::Old, Side::New][side], &message(text))
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
