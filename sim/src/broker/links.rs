//! A table by connection: found at once, however many there are, and walked in the order of their numbers.

use hashbrown::HashTable;

use crate::wire::LinkId;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Links<T>(HashTable<(LinkId, T)>);

impl<T> Default for Links<T> {
    fn default() -> Self {
        Self(HashTable::new())
    }
}

impl<T> Links<T> {
    pub(super) fn get(&self, link: LinkId) -> Option<&T> {
        let found = self.0.find(hash(link), |(other, _)| *other == link);
        found.map(|(_, item)| item)
    }

    pub(super) fn get_mut(&mut self, link: LinkId) -> Option<&mut T> {
        let found = self.0.find_mut(hash(link), |(other, _)| *other == link);
        found.map(|(_, item)| item)
    }

    /// Puts one in; numbers are never used again, so that there is none of this number.
    pub(super) fn insert(&mut self, link: LinkId, item: T) {
        let hasher = |(other, _): &(LinkId, T)| hash(*other);
        self.0.insert_unique(hash(link), (link, item), hasher);
    }

    pub(super) fn remove(&mut self, link: LinkId) -> Option<T> {
        let found = self.0.find_entry(hash(link), |(other, _)| *other == link);
        found.ok().map(|found| found.remove().0.1)
    }

    /// Ascending.
    pub(super) fn keys(&self) -> std::vec::IntoIter<LinkId> {
        let mut keys: Vec<LinkId> = self.0.iter().map(|(link, _)| *link).collect();
        keys.sort_unstable();
        keys.into_iter()
    }
}

/// The table looks at the highest bits and at the lowest; numbers differ in the lowest.
const fn hash(link: LinkId) -> u64 {
    let product = link.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}
