//! Configurations that a search has been in: a second visit, or a visit with less left to use, cannot fare better.

use hashbrown::HashTable;

/// How a configuration lies in memory: what is held; for each slot whether its operation is done; for each slot whether
/// its write may count as done, buried under a later one; for each class how many were used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Words of 32 slots.
    pub(super) words: usize,
    /// Classes.
    pub(super) classes: usize,
}

impl Layout {
    pub(super) const fn new(slots: usize, classes: usize) -> Self {
        Self {
            words: slots.div_ceil(32),
            classes,
        }
    }

    /// Words of one configuration.
    pub(super) const fn len(self) -> usize {
        self.head() + self.classes
    }

    /// Words before the use of classes.
    pub(super) const fn head(self) -> usize {
        1 + 2 * self.words
    }
}

/// One visit; the configuration lies in `configs`.
#[derive(Clone, Copy, Debug)]
struct Visit {
    hash: u64,
    event: u32,
    config: usize,
    /// An earlier one that differs only in the use of classes.
    earlier: Option<usize>,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Seen {
    layout: Layout,
    configs: Vec<u32>,
    visits: Vec<Visit>,
    latest: HashTable<usize>,
    /// Visits that were compared with others so far.
    pub(super) compared: u64,
}

impl Seen {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            configs: Vec::new(),
            visits: Vec::new(),
            latest: HashTable::new(),
            compared: 0,
        }
    }

    /// Notes a visit. False where an earlier one, before the same event, had at least as much left.
    pub(super) fn is_new(&mut self, event: usize, config: &[u32]) -> bool {
        let head = self.layout.head();
        let event = event as u32;
        let hash = hash(event, &config[..head]);
        let Self {
            configs, visits, ..
        } = self;
        let is_alike = |place: &usize| {
            let visit = &visits[*place];
            visit.event == event && configs[visit.config..visit.config + head] == config[..head]
        };
        let found = self.latest.find_mut(hash, is_alike);
        let first = found.as_deref().copied();
        let (mut next, mut last, mut earlier) = (first, None, first);
        while let Some(place) = next {
            self.compared += 1;
            let visit = visits[place];
            let used = &configs[visit.config + head..visit.config + config.len()];
            let pairs = || used.iter().zip(&config[head..]);
            if pairs().all(|(then, now)| then <= now) {
                return false;
            }
            next = visit.earlier;
            if pairs().all(|(then, now)| then >= now) {
                // The new one stands for it.
                match last {
                    None => earlier = next,
                    Some(last) => {
                        let last: &mut Visit = &mut visits[last];
                        last.earlier = next;
                    }
                }
            } else {
                last = Some(place);
            }
        }
        let place = visits.len();
        match found {
            Some(latest) => *latest = place,
            None => {
                let hasher = |place: &usize| visits[*place].hash;
                self.latest.insert_unique(hash, place, hasher);
            }
        }
        visits.push(Visit {
            hash,
            event,
            config: configs.len(),
            earlier,
        });
        configs.extend_from_slice(config);
        true
    }
}

/// Fixed, so that a search takes the same steps everywhere.
fn hash(event: u32, words: &[u32]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u32| (hash ^ u64::from(word)).wrapping_mul(K).rotate_left(29);
    let hash = words
        .iter()
        .fold(mix(K, event), |hash, word| mix(hash, *word));
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_used_as_much_and_more_is_not_new() {
        let layout = Layout::new(3, 2);
        let mut seen = Seen::new(layout);
        let config = |held, used: [u32; 2]| [held, 0, 0, used[0], used[1]];
        assert_eq!(layout.len(), 5);
        assert!(seen.is_new(7, &config(1, [1, 1])));
        assert!(!seen.is_new(7, &config(1, [1, 1])) && !seen.is_new(7, &config(1, [2, 1])));
        assert!(seen.is_new(7, &config(1, [0, 2])), "neither has more left");
        assert!(!seen.is_new(7, &config(1, [0, 3])) && !seen.is_new(7, &config(1, [1, 3])));
        assert!(seen.is_new(8, &config(1, [1, 1])), "before another event");
        assert!(seen.is_new(7, &config(2, [1, 1])), "holding another");
        assert!(seen.is_new(7, &config(1, [0, 0])) && !seen.is_new(7, &config(1, [0, 1])));
    }
}
