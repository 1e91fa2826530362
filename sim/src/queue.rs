//! What is due when: one queue for the whole world. Entries of one instant come out in the order they went in.
//!
//! Entries are small and are never removed early: whoever no longer wants one bumps its own generation and ignores it
//! when it comes due.
//!
//! It is a radix heap, which lives on the one thing that is special here: time never runs backwards. An entry lies in
//! the bucket of the highest bit in which its time differs from now. So a push goes to the end of a bucket, and
//! only when nothing is due any more is the lowest bucket dealt out over the ones below it. An entry moves a few times in
//! its life, together with its neighbours, where a binary heap jumps through all its memory at each pop. At any moment
//! all entries of one instant lie in one bucket, and they keep their order when they are dealt out.

use std::collections::VecDeque;

use squall_core::Instant;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    now: Instant,
    due: VecDeque<T>,
    /// By the number of the highest bit, from 0, in which a time differs from now.
    later: [Vec<Entry<T>>; u64::BITS as usize],
    /// Which of `later` hold something, a bit for each.
    filled: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    item: T,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self {
            now: Instant::ZERO,
            due: VecDeque::new(),
            later: [const { Vec::new() }; u64::BITS as usize],
            filled: 0,
        }
    }

    /// Puts an entry in. One for the past is due at once.
    pub(crate) fn push(&mut self, at: Instant, item: T) {
        let at = at.max(self.now);
        match (at.as_nanos() ^ self.now.as_nanos()).checked_ilog2() {
            None => self.due.push_back(item),
            Some(bit) => {
                self.filled |= 1 << bit;
                self.later[bit as usize].push(Entry { at, item });
            }
        }
    }

    /// The next entry that is due now.
    pub(crate) fn pop_due(&mut self) -> Option<T> {
        self.due.pop_front()
    }

    /// Moves on to the time of the earliest entry, and tells it.
    pub(crate) fn advance(&mut self) -> Option<Instant> {
        if self.due.is_empty() {
            if self.filled == 0 {
                return None;
            }
            let bit = self.filled.trailing_zeros();
            self.filled &= !(1 << bit);
            let bucket = &mut self.later[bit as usize];
            if bucket.len() == 1
                && let Some(Entry { at, item }) = bucket.pop()
            {
                self.now = at;
                self.due.push_back(item);
                return Some(at);
            }
            let mut dealt = std::mem::take(&mut self.later[bit as usize]);
            self.now = dealt.iter().map(|entry| entry.at).min()?;
            for Entry { at, item } in dealt.drain(..) {
                self.push(at, item);
            }
            // Empty, and kept for its memory.
            self.later[bit as usize] = dealt;
        }
        Some(self.now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use squall_core::Rng;

    use super::*;

    #[test]
    fn ties_come_out_in_the_order_they_went_in() {
        let mut queue = Queue::new();
        for item in 0..100 {
            queue.push(Instant::from_nanos(7), item);
        }
        queue.push(Instant::from_nanos(3), 1000);
        assert_eq!(queue.pop_due(), None);
        assert_eq!(queue.advance(), Some(Instant::from_nanos(3)));
        assert_eq!((queue.pop_due(), queue.pop_due()), (Some(1000), None));
        for item in 100..200 {
            queue.push(Instant::from_nanos(7), item);
        }
        assert_eq!(queue.advance(), Some(Instant::from_nanos(7)));
        assert_eq!(queue.pop_due(), Some(0));
        // Late, and even for the past: due now, after the others.
        queue.push(Instant::from_nanos(7), 200);
        queue.push(Instant::from_nanos(5), 201);
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop_due()).collect();
        assert!(order.iter().copied().eq(1..=201));
        assert_eq!(queue.advance(), None);
    }

    /// Against a map from time to what is due then, in order.
    #[test]
    fn any_pushes_come_out_by_time_and_then_by_order() {
        let mut rng = Rng::new(5);
        let mut queue = Queue::new();
        let mut model: BTreeMap<(Instant, u32), u32> = BTreeMap::new();
        let mut now = Instant::ZERO;
        for item in 0..20_000 {
            // Times near and far, and many of them equal.
            let (bits, shift) = (rng.below(40), rng.below(8));
            let ahead = rng.below(1 << bits) >> shift;
            let at = Instant::from_nanos(now.as_nanos() + ahead);
            queue.push(at, item);
            model.insert((at, item), item);
            if rng.chance(2, 5) {
                let next = model.keys().next().map(|(at, _)| *at);
                assert_eq!(queue.advance(), next);
                now = next.unwrap_or(now);
                while let Some(found) = queue.pop_due() {
                    assert_eq!(model.pop_first(), Some(((now, found), found)));
                }
                assert!(model.keys().next().is_none_or(|(at, _)| *at > now));
            }
        }
    }
}
