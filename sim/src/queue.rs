//! What is due when: one queue for the whole world, ties broken by a sequence number.
//!
//! Entries are small and are never removed early: whoever no longer wants one bumps its own generation and ignores it
//! when it comes due. Two entries at the same instant come out in the order they went in, so that nothing depends on
//! the shape of a heap.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use squall_core::Instant;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    sequence: u64,
    item: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            sequence: 0,
        }
    }

    pub(crate) fn push(&mut self, at: Instant, item: T) {
        let sequence = self.sequence;
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at, sequence, item }));
    }

    /// The earliest entry that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.item)
    }

    /// When the earliest entry is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_come_out_in_the_order_they_went_in() {
        let mut queue = Queue::new();
        for item in 0..100 {
            queue.push(Instant::from_nanos(7), item);
        }
        queue.push(Instant::from_nanos(3), 1000);
        assert_eq!(queue.pop_due(Instant::from_nanos(2)), None);
        let order: Vec<i32> =
            std::iter::from_fn(|| queue.pop_due(Instant::from_nanos(7))).collect();
        assert_eq!(order[0], 1000);
        assert!(order[1..].iter().copied().eq(0..100));
    }
}
