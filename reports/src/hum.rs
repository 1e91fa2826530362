//! The hum of a run: beats, renewals, pings, everything that goes on all the time and is heard only when it stops.
//!
//! As with a refrigerator at night: no single one of its sounds is worth telling, but the last before a silence is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{MarkId, Run, TrueTime};

/// The marks after which a hum was silent, for much longer than it usually pauses, at some time in `from..=to`.
pub(crate) fn before_silence(run: &Run, from: TrueTime, to: TrueTime) -> BTreeSet<MarkId> {
    let mut hums: BTreeMap<&str, Vec<(TrueTime, MarkId)>> = BTreeMap::new();
    for (index, mark) in run.marks.iter().enumerate() {
        if let Some(hum) = mark.routine.as_deref().filter(|_| mark.at <= to) {
            let sound = (mark.at, MarkId(index));
            hums.entry(hum).or_default().push(sound);
        }
    }
    hums.values()
        .flat_map(|hum| silences(hum, from, to))
        .collect()
}

fn silences(hum: &[(TrueTime, MarkId)], from: TrueTime, to: TrueTime) -> Vec<MarkId> {
    let mut usual: Vec<Duration> = hum.windows(2).map(|two| two[1].0.since(two[0].0)).collect();
    usual.sort_unstable();
    let Some(median) = usual.get(usual.len() / 2) else {
        return Vec::new();
    };
    // Two in a row were missed: one alone may be late, or lost without harm.
    let long = median.saturating_mul(5) / 2;
    let next = hum.iter().skip(1).map(|(at, _)| *at).chain([to]);
    hum.iter()
        .zip(next)
        .filter(|((at, _), next)| *next >= from && next.since(*at) > long)
        .map(|((_, id), _)| *id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_silences_count_and_only_those_that_last_until_then() {
        let at = |seconds: u64| TrueTime::from_nanos(seconds * 1_000_000_000);
        let beats = [2, 4, 6, 16, 18, 20, 24, 26];
        let hum: Vec<_> = beats
            .iter()
            .map(|s| (at(*s), MarkId(*s as usize)))
            .collect();
        assert_eq!(
            silences(&hum, at(0), at(27)),
            [MarkId(6)],
            "4 s from 20 on is one beat late"
        );
        assert_eq!(silences(&hum, at(17), at(27)), [], "it was over by then");
        assert_eq!(silences(&hum, at(17), at(40)), [MarkId(26)]);
        assert_eq!(
            silences(&hum[..1], at(0), at(40)),
            [],
            "one sound is no hum"
        );
    }
}
