//! Finds places in a table by name, at once, however many names there are. Never walked.
//!
//! A history names the same few processes and keys over and over, mostly by the very same string in memory: that is
//! looked for first, by its address, without reading it. The text decides where the address is new.

use hashbrown::HashTable;

use crate::history::value_hash;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Index<'a> {
    by_text: HashTable<(&'a str, usize)>,
    by_address: HashTable<(&'a str, usize)>,
}

impl<'a> Index<'a> {
    /// The place of this name, if it has one.
    pub(super) fn get(&self, name: &str) -> Option<usize> {
        let is_it = |(known, _): &(&str, usize)| std::ptr::eq(*known, name);
        let found = self.by_address.find(address_hash(name), is_it);
        let is_text = |(known, _): &(&str, usize)| *known == name;
        let found = found.or_else(|| self.by_text.find(value_hash(name.as_bytes()), is_text));
        found.map(|(_, place)| *place)
    }

    /// Gives this name a place, in the stead of the one that it may have.
    pub(super) fn set(&mut self, name: &'a str, place: usize) {
        if self.get_or(name, place) != place {
            // The same name for something new: rare enough to begin anew.
            let is_other = |(known, _): &mut (&str, usize)| *known != name;
            self.by_text.retain(is_other);
            self.by_address.retain(is_other);
            self.get_or(name, place);
        }
    }

    /// The place of this name, which is `new` if it has none yet.
    pub(super) fn get_or(&mut self, name: &'a str, new: usize) -> usize {
        let is_it = |(known, _): &(&str, usize)| std::ptr::eq(*known, name);
        if let Some((_, place)) = self.by_address.find(address_hash(name), is_it) {
            return *place;
        }
        let text_hasher = |(known, _): &(&str, usize)| value_hash(known.as_bytes());
        let is_text = |(known, _): &(&str, usize)| *known == name;
        let hash = value_hash(name.as_bytes());
        let entry = self.by_text.entry(hash, is_text, text_hasher);
        let place = entry.or_insert((name, new)).get().1;
        let hasher = |(known, _): &(&str, usize)| address_hash(known);
        self.by_address
            .insert_unique(address_hash(name), (name, place), hasher);
        place
    }
}

/// Strings in memory lie at least eight bytes apart.
fn address_hash(name: &str) -> u64 {
    let product =
        (name.as_ptr().addr() as u64 ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_at_another_address_has_the_same_place() {
        let names = ["a".to_owned(), "b".to_owned(), "a".to_owned()];
        let mut index = Index::default();
        let places = names.each_ref().map(|name| index.get_or(name, name.len()));
        assert_eq!(places, [1, 1, 1]);
        let mut index = Index::default();
        assert_eq!(index.get_or(&names[0], 7), 7);
        assert_eq!(index.get_or(&names[2], 8), 7);
        assert_eq!((index.get("a"), index.get("b")), (Some(7), None));
        assert_eq!((index.get(&names[2]), index.get("")), (Some(7), None));
        index.set(&names[2], 9);
        assert_eq!((index.get(&names[0]), index.get("a")), (Some(9), Some(9)));
    }
}
