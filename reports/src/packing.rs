//! Rows for intervals that overlap: each takes the first row that is free again.

use crate::model::TrueTime;

/// The row of each interval, in their order, which is that of their beginnings.
pub(crate) fn rows(intervals: impl IntoIterator<Item = (TrueTime, TrueTime)>) -> Vec<usize> {
    let mut free_from: Vec<TrueTime> = Vec::new();
    let mut rows = Vec::new();
    for (from, to) in intervals {
        let free = free_from.iter().position(|free| *free <= from);
        let row = free.unwrap_or(free_from.len());
        match free_from.get_mut(row) {
            Some(free) => *free = to.max(from),
            None => free_from.push(to.max(from)),
        }
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_in_different_rows() {
        let at = TrueTime::from_nanos;
        let intervals = [(0, 10), (1, 3), (2, 4), (3, 5), (10, 9)];
        let found = rows(intervals.map(|(from, to)| (at(from), at(to))));
        assert_eq!(found, [0, 1, 2, 1, 0]);
    }
}
