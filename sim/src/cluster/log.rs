//! The log of a group: numbered entries, each with the term in which it was proposed. What all servers have goes.

use std::collections::VecDeque;

/// One entry; without a command where a new leader only makes itself known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<C> {
    /// The term in which it was proposed.
    pub term: u64,
    /// What is to be done.
    pub command: Option<C>,
}

/// Entries numbered from 1, of which the oldest may be gone.
#[derive(Clone, Debug)]
pub(super) struct Log<C> {
    entries: VecDeque<Entry<C>>,
    /// The number and the term of the last entry that is gone.
    gone: (u64, u64),
}

impl<C: Clone> Log<C> {
    pub(super) const fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            gone: (0, 0),
        }
    }

    /// The number of the last entry.
    pub(super) fn last(&self) -> u64 {
        self.gone.0 + self.entries.len() as u64
    }

    /// The term of the last entry, and its number: who has more of this has the newer log.
    pub(super) fn newest(&self) -> (u64, u64) {
        (self.term_of(self.last()).unwrap_or(0), self.last())
    }

    /// The number of the first entry still held.
    pub(super) const fn first(&self) -> u64 {
        self.gone.0 + 1
    }

    /// The term of an entry; of those that are gone only the last is known.
    pub(super) fn term_of(&self, number: u64) -> Option<u64> {
        if number == self.gone.0 {
            return Some(self.gone.1);
        }
        self.get(number).map(|entry| entry.term)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Entry<C>> {
        let place = number.checked_sub(self.first())?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    pub(super) fn push(&mut self, entry: Entry<C>) -> u64 {
        self.entries.push_back(entry);
        self.last()
    }

    /// Entries from a number on.
    pub(super) fn from(&self, number: u64) -> Vec<Entry<C>> {
        let skipped = number.saturating_sub(self.first()) as usize;
        self.entries.iter().skip(skipped).cloned().collect()
    }

    /// Drops an entry and all after it.
    pub(super) fn drop_from(&mut self, number: u64) {
        let kept = number.saturating_sub(self.first()) as usize;
        self.entries.truncate(kept);
    }

    /// Lets go of entries up to this number.
    pub(super) fn let_go(&mut self, until: u64) {
        while self.gone.0 < until
            && let Some(entry) = self.entries.pop_front()
        {
            self.gone = (self.gone.0 + 1, entry.term);
        }
    }
}
