//! The records of one bucket: an append-only log with holes, and for each key a chain through it.
//!
//! Think of a card index: each card (record) lies in a drawer (slab) and never moves; the log lists the cards by
//! revision, each key knows its oldest and newest card, and each card knows its neighbours of the same key. So a write
//! over an old record costs the same at ten keys and at ten thousand. Holes in the log are swept together once they
//! outnumber the records.
//!
//! Keys are found through a hash table with a fixed hash, which is never iterated: whatever walks over records walks
//! the log, in the order of revisions.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;
use squall_core::transport::{KvEntry, Revision};

const NONE: u32 = u32::MAX;

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) entry: KvEntry,
    /// What it counts against `max_bytes`.
    pub(super) size: u64,
    key: u32,
    /// Its line of the log, counted from the first line there ever was.
    line: u64,
    older: u32,
    newer: u32,
}

#[derive(Debug)]
struct Key {
    name: Arc<str>,
    hash: u64,
    oldest: u32,
    newest: u32,
    records: usize,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    revision: Revision,
    /// [`NONE`] for a hole.
    record: u32,
}

/// A key that has records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyId(u32);

/// The records of a bucket.
#[derive(Debug, Default)]
pub(super) struct Store {
    records: Slab<Record>,
    keys: Slab<Key>,
    table: HashTable<u32>,
    log: VecDeque<Line>,
    /// Lines that have left the log at its front.
    lines_gone: u64,
    last: Revision,
    bytes: u64,
}

impl Store {
    /// Records held.
    pub(super) fn len(&self) -> usize {
        self.records.len
    }

    /// The latest revision given out.
    pub(super) const fn last(&self) -> Revision {
        self.last
    }

    /// Sum of the sizes of all records.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn find(&self, key: &str) -> Option<KeyId> {
        self.find_hashed(hash(key), key)
    }

    fn find_hashed(&self, hash: u64, key: &str) -> Option<KeyId> {
        let is_it = |&id: &u32| {
            let found = self.keys.get(id);
            found.hash == hash && *found.name == *key
        };
        self.table.find(hash, is_it).map(|&id| KeyId(id))
    }

    pub(super) fn newest(&self, key: KeyId) -> &Record {
        self.records.get(self.keys.get(key.0).newest)
    }

    pub(super) fn oldest(&self, key: KeyId) -> &Record {
        self.records.get(self.keys.get(key.0).oldest)
    }

    pub(super) fn records_of(&self, key: KeyId) -> usize {
        self.keys.get(key.0).records
    }

    /// The records of a key, oldest first.
    pub(super) fn history(&self, key: &str) -> impl Iterator<Item = &Record> {
        let oldest = self.find(key).map(|key| self.oldest(key));
        std::iter::successors(oldest, |record| {
            (record.newer != NONE).then(|| self.records.get(record.newer))
        })
    }

    /// All records from a revision on, ascending.
    pub(super) fn from(&self, revision: Revision) -> impl Iterator<Item = &Record> {
        let start = self.log.partition_point(|line| line.revision < revision);
        self.log
            .range(start..)
            .filter(|line| line.record != NONE)
            .map(|line| self.records.get(line.record))
    }

    /// The record of this revision, if still held.
    pub(super) fn at(&self, revision: Revision) -> Option<&Record> {
        self.from(revision)
            .next()
            .filter(|record| record.entry.revision == revision)
    }

    /// The oldest record of all. The log never begins with a hole.
    pub(super) fn first(&self) -> Option<&Record> {
        let line = self.log.front()?;
        Some(self.records.get(line.record))
    }

    /// True for the latest record of its key.
    pub(super) fn is_newest(&self, record: &Record) -> bool {
        record.newer == NONE
    }

    /// Stores `entry` under the next revision, which it is given here.
    pub(super) fn append(&mut self, mut entry: KvEntry, size: u64) -> (KeyId, &Record) {
        self.compact();
        let hash = hash(&entry.key);
        let key = match self.find_hashed(hash, &entry.key) {
            Some(key) => key.0,
            None => self.add_key(hash, Arc::clone(&entry.key)),
        };
        self.last = self.last.next();
        entry.revision = self.last;
        // One allocation per key, not one per write of it.
        entry.key = Arc::clone(&self.keys.get(key).name);
        let older = self.keys.get(key).newest;
        let id = self.records.insert(Record {
            entry,
            size,
            key,
            line: self.lines_gone + self.log.len() as u64,
            older,
            newer: NONE,
        });
        self.log.push_back(Line {
            revision: self.last,
            record: id,
        });
        self.bytes += size;
        let chain = self.keys.get_mut(key);
        chain.newest = id;
        chain.records += 1;
        if older == NONE {
            chain.oldest = id;
        } else {
            self.records.get_mut(older).newer = id;
        }
        (KeyId(key), self.records.get(id))
    }

    /// Takes away the oldest record of a key; the key goes with its last one.
    pub(super) fn remove_oldest(&mut self, key: KeyId) -> KvEntry {
        self.remove(self.keys.get(key.0).oldest)
    }

    /// Takes away the record of this revision, if still held.
    pub(super) fn remove_at(&mut self, revision: Revision) -> Option<KvEntry> {
        let line = self.at(revision)?.line;
        let id = self.log[(line - self.lines_gone) as usize].record;
        Some(self.remove(id))
    }

    fn remove(&mut self, id: u32) -> KvEntry {
        let record = self.records.remove(id);
        self.bytes -= record.size;
        let chain = self.keys.get_mut(record.key);
        chain.records -= 1;
        match record.older {
            NONE => chain.oldest = record.newer,
            older => self.records.get_mut(older).newer = record.newer,
        }
        match record.newer {
            NONE => chain.newest = record.older,
            newer => self.records.get_mut(newer).older = record.older,
        }
        if chain.records == 0 {
            self.drop_key(record.key);
        }
        self.log[(record.line - self.lines_gone) as usize].record = NONE;
        while self.log.front().is_some_and(|line| line.record == NONE) {
            self.log.pop_front();
            self.lines_gone += 1;
        }
        record.entry
    }

    fn add_key(&mut self, hash: u64, name: Arc<str>) -> u32 {
        let id = self.keys.insert(Key {
            name,
            hash,
            oldest: NONE,
            newest: NONE,
            records: 0,
        });
        let keys = &self.keys;
        self.table
            .insert_unique(hash, id, |&other| keys.get(other).hash);
        id
    }

    fn drop_key(&mut self, id: u32) {
        let key = self.keys.remove(id);
        if let Ok(found) = self.table.find_entry(key.hash, |&other| other == id) {
            found.remove();
        }
    }

    /// Closes the holes once they are more than the records, so that the log stays in proportion to what it holds.
    fn compact(&mut self) {
        if self.log.len() <= 2 * self.records.len + 64 {
            return;
        }
        self.log.retain(|line| line.record != NONE);
        for (place, line) in self.log.iter().enumerate() {
            self.records.get_mut(line.record).line = self.lines_gone + place as u64;
        }
    }
}

/// Items that keep their number until they are removed; numbers are used again.
#[derive(Debug)]
struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    fn get(&self, id: u32) -> &T {
        self.items[id as usize]
            .as_ref()
            .expect("links between records lead to records")
    }

    fn get_mut(&mut self, id: u32) -> &mut T {
        self.items[id as usize]
            .as_mut()
            .expect("links between records lead to records")
    }

    fn insert(&mut self, item: T) -> u32 {
        self.len += 1;
        if let Some(id) = self.free.pop() {
            self.items[id as usize] = Some(item);
            return id;
        }
        self.items.push(Some(item));
        (self.items.len() - 1) as u32
    }

    fn remove(&mut self, id: u32) -> T {
        self.len -= 1;
        self.free.push(id);
        self.items[id as usize]
            .take()
            .expect("links between records lead to records")
    }
}

/// A hash that is the same in every run: eight bytes at a time, then a last mix, because the table looks at the
/// highest bits and at the lowest.
fn hash(key: &str) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, tail) = key.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    let mut hash = key.len() as u64;
    for word in words.iter().chain([&last]) {
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
    }
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use squall_core::UnixTime;
    use squall_core::transport::Operation;

    use super::*;

    fn append(store: &mut Store, key: &str) -> KeyId {
        let entry = KvEntry {
            key: key.into(),
            value: Bytes::new(),
            revision: Revision::NONE,
            operation: Operation::Put,
            created: UnixTime::EPOCH,
        };
        store.append(entry, 1).0
    }

    fn revisions(store: &Store) -> Vec<u64> {
        let all = store.from(Revision::NONE);
        all.map(|record| record.entry.revision.0).collect()
    }

    /// A cold key at the front keeps every hole behind it in the log, until they are swept together.
    #[test]
    fn the_log_stays_in_proportion_under_a_cold_key() {
        let mut store = Store::default();
        let cold = append(&mut store, "cold");
        for _ in 0..10_000 {
            let hot = append(&mut store, "hot");
            if store.records_of(hot) > 3 {
                store.remove_oldest(hot);
            }
            assert!(store.log.len() < 100, "{}", store.log.len());
        }
        assert_eq!(revisions(&store), [1, 9999, 10_000, 10_001]);
        let found = store.at(Revision(10_000)).expect("still held");
        assert_eq!(found.entry.revision, Revision(10_000));
        assert_eq!(store.at(Revision(500)).map(|record| record.size), None);
        store.remove_oldest(cold);
        store.remove_at(Revision(10_000));
        assert_eq!(revisions(&store), [9999, 10_001]);
        assert_eq!((store.len(), store.bytes()), (2, 2));
    }

    #[test]
    fn a_key_goes_with_its_last_record_and_its_place_is_used_again() {
        let mut store = Store::default();
        for _ in 0..100 {
            for key in ["a", "b", "c"] {
                let key = append(&mut store, key);
                store.remove_oldest(key);
            }
        }
        assert_eq!(store.find("a"), None);
        assert_eq!((store.keys.items.len(), store.records.items.len()), (1, 1));
        assert_eq!((store.log.len(), store.last()), (0, Revision(300)));
    }
}
