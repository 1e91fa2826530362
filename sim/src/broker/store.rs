//! The messages of one stream: an append-only log with holes, and for each subject a chain through it.
//!
//! Think of a card index: each card (record) lies in a drawer (slab) and never moves; the log lists the cards by
//! sequence, each subject knows its oldest and newest card, and each card knows its neighbours of the same subject. So a
//! write over an old record costs the same at ten subjects and at ten thousand. Holes in the log are swept together once
//! they outnumber the records.
//!
//! Subjects are found through a hash table with a fixed hash, which is never iterated: whatever walks over records walks
//! the log, in the order of sequences. In the stream behind a bucket they are found by their keys, so that a write to a
//! key spells out no subject.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashTable;
use squall_core::UnixTime;
use squall_core::transport::{KvEntry, Sequence, StoredMessage};

use super::head::Head;
use super::unsynced::{Step, Taken, Unsynced};

const NONE: u32 = u32::MAX;

/// One message as it is held.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) head: Head,
    pub(super) payload: Bytes,
    pub(super) sequence: Sequence,
    /// When it was stored.
    pub(super) time: UnixTime,
    /// What it counts against `max_bytes`.
    pub(super) size: u64,
    /// Its line of the log, counted from the first line there ever was.
    line: u64,
    subject: u32,
    older: u32,
    newer: u32,
    /// `Nats-TTL: never`.
    pub(super) is_exempt: bool,
}

/// A message to be stored.
#[derive(Clone, Debug)]
pub(super) struct New {
    pub(super) head: Head,
    pub(super) payload: Bytes,
    pub(super) time: UnixTime,
    pub(super) size: u64,
    pub(super) is_exempt: bool,
}

/// Where a message is published: as a key of the stream's bucket, or by its whole subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    Key(&'a str),
    Subject(&'a str),
}

impl<'a> Name<'a> {
    pub(super) const fn text(self) -> &'a str {
        match self {
            Self::Key(text) | Self::Subject(text) => text,
        }
    }
}

#[derive(Debug)]
struct Subject {
    name: Arc<str>,
    /// The key that it is the subject of.
    key: Option<Arc<str>>,
    hash: u64,
    oldest: u32,
    newest: u32,
    records: usize,
}

impl Subject {
    fn is(&self, name: Name<'_>) -> bool {
        match (name, &self.key) {
            (Name::Key(key), Some(found)) => **found == *key,
            (Name::Subject(subject), None) => *self.name == *subject,
            _ => false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Line {
    sequence: Sequence,
    /// [`NONE`] for a hole.
    record: u32,
}

/// A subject that has records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SubjectId(u32);

/// The messages of a stream.
#[derive(Debug, Default)]
pub(super) struct Store {
    records: Slab<Record>,
    subjects: Slab<Subject>,
    table: HashTable<u32>,
    log: VecDeque<Line>,
    /// Lines that have left the log at its front.
    lines_gone: u64,
    last: Sequence,
    bytes: u64,
    /// What has changed since the files were synced, where that may be lost.
    pub(super) unsynced: Option<Unsynced>,
    /// What the subjects of keys begin with: `$KV.<bucket>.`; empty in a stream behind no bucket.
    prefix: Box<str>,
}

impl Store {
    /// An empty one, in which what begins with `prefix` is known by what follows; not where that is empty.
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            ..Self::default()
        }
    }

    /// An empty one for the same stream.
    pub(super) fn empty(&self) -> Self {
        Self::new(&self.prefix)
    }

    /// Records held.
    pub(super) fn len(&self) -> usize {
        self.records.len
    }

    /// The last sequence given out.
    pub(super) const fn last(&self) -> Sequence {
        self.last
    }

    /// Gives out sequences up to this one without storing anything under them.
    pub(super) fn skip_to(&mut self, last: Sequence) {
        self.note_last();
        self.last = self.last.max(last);
    }

    /// Sum of the sizes of all records.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How a subject is known here.
    pub(super) fn name<'a>(&self, subject: &'a str) -> Name<'a> {
        match subject.strip_prefix(&*self.prefix) {
            Some(key) if !self.prefix.is_empty() => Name::Key(key),
            _ => Name::Subject(subject),
        }
    }

    pub(super) fn find(&self, name: Name<'_>) -> Option<SubjectId> {
        let hash = hash(name.text());
        let is_it = |&id: &u32| {
            let found = self.subjects.get(id);
            found.hash == hash && found.is(name)
        };
        self.table.find(hash, is_it).map(|&id| SubjectId(id))
    }

    pub(super) fn newest(&self, subject: SubjectId) -> &Record {
        self.records.get(self.subjects.get(subject.0).newest)
    }

    pub(super) fn oldest(&self, subject: SubjectId) -> &Record {
        self.records.get(self.subjects.get(subject.0).oldest)
    }

    pub(super) fn records_of(&self, subject: SubjectId) -> usize {
        self.subjects.get(subject.0).records
    }

    pub(super) fn id_of(&self, record: &Record) -> SubjectId {
        SubjectId(record.subject)
    }

    pub(super) fn subject_of(&self, record: &Record) -> &Arc<str> {
        &self.subjects.get(record.subject).name
    }

    /// The key that a record belongs to; its whole subject where that is none of the bucket's.
    pub(super) fn key_of(&self, record: &Record) -> &Arc<str> {
        let subject = self.subjects.get(record.subject);
        subject.key.as_ref().unwrap_or(&subject.name)
    }

    /// A record as the bucket's clients see it.
    pub(super) fn entry(&self, record: &Record) -> KvEntry {
        let operation = record.head.operation();
        KvEntry {
            key: Arc::clone(self.key_of(record)),
            value: match operation.is_put() {
                true => record.payload.clone(),
                false => Bytes::new(),
            },
            revision: record.sequence.into(),
            operation,
            created: record.time,
        }
    }

    /// A record as the stream's clients see it.
    pub(super) fn message(&self, record: &Record) -> StoredMessage {
        StoredMessage {
            subject: Arc::clone(self.subject_of(record)),
            headers: record.head.headers(),
            payload: record.payload.clone(),
            sequence: record.sequence,
            time: record.time,
        }
    }

    /// The records of a subject, oldest first.
    pub(super) fn history(&self, name: Name<'_>) -> impl Iterator<Item = &Record> {
        let oldest = self.find(name).map(|subject| self.oldest(subject));
        std::iter::successors(oldest, |record| {
            (record.newer != NONE).then(|| self.records.get(record.newer))
        })
    }

    /// All records from a sequence on, ascending, and descending from the other end.
    pub(super) fn from(&self, sequence: Sequence) -> impl DoubleEndedIterator<Item = &Record> {
        self.log
            .range(self.place(sequence)..)
            .filter(|line| line.record != NONE)
            .map(|line| self.records.get(line.record))
    }

    /// The place in the log of the first line of this sequence or a later one.
    fn place(&self, sequence: Sequence) -> usize {
        let Some(front) = self.log.front() else {
            return 0;
        };
        // Where no line is missing, this is it: the whole way of a reader who keeps up.
        let guess = sequence.0.saturating_sub(front.sequence.0) as usize;
        match self.log.get(guess) {
            Some(line) if line.sequence == sequence => guess,
            _ => self.log.partition_point(|line| line.sequence < sequence),
        }
    }

    /// The record of this sequence, if still held.
    pub(super) fn at(&self, sequence: Sequence) -> Option<&Record> {
        self.from(sequence)
            .next()
            .filter(|record| record.sequence == sequence)
    }

    /// The oldest record of all. The log never begins with a hole.
    pub(super) fn first(&self) -> Option<&Record> {
        let line = self.log.front()?;
        Some(self.records.get(line.record))
    }

    /// The first sequence held; one above the last given out where nothing is.
    pub(super) fn first_sequence(&self) -> Sequence {
        self.first()
            .map_or_else(|| self.last.next(), |record| record.sequence)
    }

    /// True for the latest record of its subject.
    pub(super) fn is_newest(&self, record: &Record) -> bool {
        record.newer == NONE
    }

    /// Stores a message under the next sequence; `known` is what [`find`](Self::find) finds under its name.
    pub(super) fn append(
        &mut self,
        name: Name<'_>,
        known: Option<SubjectId>,
        new: New,
    ) -> SubjectId {
        debug_assert_eq!(known, self.find(name), "looked for before");
        self.compact();
        let subject = match known {
            Some(subject) => subject.0,
            None => self.add_subject(name),
        };
        self.note_last();
        self.last = self.last.next();
        let older = self.subjects.get(subject).newest;
        let size = new.size;
        let id = self.records.insert(Record {
            head: new.head,
            payload: new.payload,
            sequence: self.last,
            time: new.time,
            size,
            line: self.lines_gone + self.log.len() as u64,
            subject,
            older,
            newer: NONE,
            is_exempt: new.is_exempt,
        });
        self.log.push_back(Line {
            sequence: self.last,
            record: id,
        });
        self.bytes += size;
        let chain = self.subjects.get_mut(subject);
        chain.newest = id;
        chain.records += 1;
        if older == NONE {
            chain.oldest = id;
        } else {
            self.records.get_mut(older).newer = id;
        }
        SubjectId(subject)
    }

    /// Takes a record away, if still held; its subject goes with its last one. `told` hears of it while both are there.
    pub(super) fn remove(&mut self, sequence: Sequence, told: impl FnOnce(&Self, &Record)) -> bool {
        let Some(line) = self.at(sequence).map(|record| record.line) else {
            return false;
        };
        let id = self.log[(line - self.lines_gone) as usize].record;
        self.take(id, told);
        true
    }

    /// Takes away the oldest records of the subjects of these, until so many of each are left.
    pub(super) fn keep_newest(&mut self, kept: usize, of: &[Sequence]) {
        for at in of {
            while let Some(subject) = self.at(*at).map(|record| SubjectId(record.subject))
                && self.records_of(subject) > kept
            {
                self.remove_oldest(subject, |_, _| ());
            }
        }
    }

    /// Takes away the oldest record of a subject.
    pub(super) fn remove_oldest(&mut self, subject: SubjectId, told: impl FnOnce(&Self, &Record)) {
        self.take(self.subjects.get(subject.0).oldest, told);
    }

    fn take(&mut self, id: u32, told: impl FnOnce(&Self, &Record)) {
        told(self, self.records.get(id));
        let record = self.records.remove(id);
        self.bytes -= record.size;
        let chain = self.subjects.get_mut(record.subject);
        chain.records -= 1;
        match record.older {
            NONE => chain.oldest = record.newer,
            older => self.records.get_mut(older).newer = record.newer,
        }
        match record.newer {
            NONE => chain.newest = record.older,
            newer => self.records.get_mut(newer).older = record.older,
        }
        let is_last = chain.records == 0;
        if let Some(unsynced) = &mut self.unsynced {
            let subject = Arc::clone(&chain.name);
            let record = record.clone();
            unsynced.note(Step::Taken(Box::new(Taken { subject, record })));
        }
        if is_last {
            self.drop_subject(record.subject);
        }
        self.log[(record.line - self.lines_gone) as usize].record = NONE;
        while self.log.front().is_some_and(|line| line.record == NONE) {
            self.log.pop_front();
            self.lines_gone += 1;
        }
    }

    /// Sequences are about to be given out after the last one.
    fn note_last(&mut self) {
        if let Some(unsynced) = &mut self.unsynced {
            unsynced.note(Step::Given { after: self.last });
        }
    }

    fn add_subject(&mut self, name: Name<'_>) -> u32 {
        let hash = hash(name.text());
        let (key, name) = match name {
            Name::Key(key) => (Some(key.into()), format!("{}{key}", self.prefix).into()),
            Name::Subject(subject) => (None, subject.into()),
        };
        let id = self.subjects.insert(Subject {
            name,
            key,
            hash,
            oldest: NONE,
            newest: NONE,
            records: 0,
        });
        let subjects = &self.subjects;
        self.table
            .insert_unique(hash, id, |&other| subjects.get(other).hash);
        id
    }

    fn drop_subject(&mut self, id: u32) {
        let subject = self.subjects.remove(id);
        if let Ok(found) = self.table.find_entry(subject.hash, |&other| other == id) {
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
    use super::*;

    fn append(store: &mut Store, subject: &str) -> SubjectId {
        let new = New {
            head: Head::PUT,
            payload: Bytes::new(),
            time: UnixTime::EPOCH,
            size: 1,
            is_exempt: false,
        };
        let name = store.name(subject);
        store.append(name, store.find(name), new)
    }

    fn remove_oldest(store: &mut Store, subject: SubjectId) {
        store.remove_oldest(subject, |_, _| {});
    }

    fn sequences(store: &Store) -> Vec<u64> {
        let all = store.from(Sequence::NONE);
        all.map(|record| record.sequence.0).collect()
    }

    /// A cold key at the front keeps every hole behind it in the log, until they are swept together.
    #[test]
    fn the_log_stays_in_proportion_under_a_cold_key() {
        let mut store = Store::default();
        let cold = append(&mut store, "cold");
        for _ in 0..10_000 {
            let hot = append(&mut store, "hot");
            if store.records_of(hot) > 3 {
                remove_oldest(&mut store, hot);
            }
            assert!(store.log.len() < 100, "{}", store.log.len());
        }
        assert_eq!(sequences(&store), [1, 9999, 10_000, 10_001]);
        let found = store.at(Sequence(10_000)).expect("still held");
        assert_eq!(found.sequence, Sequence(10_000));
        assert_eq!(store.at(Sequence(500)).map(|record| record.size), None);
        remove_oldest(&mut store, cold);
        assert!(store.remove(Sequence(10_000), |_, _| {}));
        assert_eq!(sequences(&store), [9999, 10_001]);
        assert_eq!((store.len(), store.bytes()), (2, 2));
    }

    #[test]
    fn a_key_goes_with_its_last_record_and_its_place_is_used_again() {
        let mut store = Store::default();
        for _ in 0..100 {
            for key in ["a", "b", "c"] {
                let key = append(&mut store, key);
                remove_oldest(&mut store, key);
            }
        }
        assert_eq!(store.find(Name::Subject("a")), None);
        assert_eq!(
            (store.subjects.items.len(), store.records.items.len()),
            (1, 1)
        );
        assert_eq!((store.log.len(), store.last()), (0, Sequence(300)));
    }

    #[test]
    fn behind_a_bucket_a_subject_is_found_by_its_key() {
        let mut store = Store::new("$KV.b.");
        append(&mut store, "$KV.b.k");
        append(&mut store, "k");
        let subject = |name| {
            let found = store.find(name).map(|id| store.newest(id));
            found.map(|record| {
                (
                    store.subject_of(record).as_ref(),
                    store.key_of(record).as_ref(),
                )
            })
        };
        assert_eq!(subject(store.name("$KV.b.k")), Some(("$KV.b.k", "k")));
        assert_eq!(subject(Name::Key("k")), Some(("$KV.b.k", "k")));
        assert_eq!(subject(store.name("k")), Some(("k", "k")));
    }
}
