//! What a consumer reads of its stream, and where it begins.

use std::collections::VecDeque;

use squall_core::UnixTime;
use squall_core::transport::{ReadStart, StoredMessage};

use super::super::config::Version;
use super::super::subject::Filters;

/// A stream, as its consumers see it.
pub(in crate::broker) trait Log {
    /// The first sequence held; one above the last where nothing is.
    fn first(&self) -> u64;

    /// The last sequence given out; 0 before the first.
    fn last(&self) -> u64;

    /// The message of this sequence, if still held.
    fn at(&self, sequence: u64) -> Option<StoredMessage>;

    /// The first message held at or after this sequence that matches.
    fn next(&self, from: u64, wanted: &Filters) -> Option<u64>;

    /// Messages held at or after this sequence that match.
    fn count(&self, from: u64, wanted: &Filters) -> u64;

    /// The last message of each subject that matches, ascending.
    fn newest_of_each(&self, wanted: &Filters) -> Vec<u64>;

    /// The first message held that was stored at this time or later.
    fn since(&self, time: UnixTime) -> Option<u64>;
}

/// True where everything that matches `inner` matches `outer` too.
pub(super) fn is_subset(inner: &str, outer: &str) -> bool {
    let mut tokens = inner.split('.');
    for outer_token in outer.split('.') {
        match (outer_token, tokens.next()) {
            (_, None) | ("*", Some(">")) => return false,
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (same, Some(token)) if same == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Messages that a consumer delivers before it goes on in order: the last of each subject, as they were when it was
/// made.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) left: VecDeque<u64>,
    /// It goes on after this.
    pub(super) until: u64,
}

/// The first sequence that a new consumer delivers, and its snapshot where it begins with one.
pub(super) fn beginning(
    start: ReadStart,
    wanted: &Filters,
    log: &dyn Log,
    version: Version,
) -> (u64, Option<Snapshot>) {
    let (first, last) = (log.first(), log.last());
    let mut snapshot = None;
    let chosen = match start {
        // Later servers wait for a message that is yet to come.
        ReadStart::Sequence(chosen) if version.is_at_least(2, 11) => {
            return (chosen.0.max(first), None);
        }
        ReadStart::Sequence(chosen) => chosen.0,
        ReadStart::All => first,
        ReadStart::New => last + 1,
        ReadStart::Last if wanted.is_everything() => last,
        ReadStart::Last => log.newest_of_each(wanted).last().map_or(0, |&last| last),
        ReadStart::Time(time) => log.since(time).unwrap_or(last + 1),
        ReadStart::LastPerSubject => {
            let left = VecDeque::from(log.newest_of_each(wanted));
            let chosen = left.front().map_or(last, |&first| first);
            if !left.is_empty() {
                snapshot = Some(Snapshot { left, until: last });
            }
            chosen
        }
    };
    (chosen.min(last + 1).max(first), snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_compared_as_sets_of_subjects() {
        let within = [
            ("a", "a"),
            ("a.b", "a.*"),
            ("a.*", "a.>"),
            ("a.>", ">"),
            ("*", "*"),
        ];
        for (inner, outer) in within {
            assert!(is_subset(inner, outer), "{inner} {outer}");
        }
        for (inner, outer) in [("a.*", "a.b"), ("a.>", "a.*"), ("a.*", "*.b"), ("a", "a.>")] {
            assert!(!is_subset(inner, outer), "{inner} {outer}");
        }
    }
}
