//! What a stream on files has changed since they were synced: undone, step by step from the end, where the power is lost.
//!
//! A file that is cut short is the file as it was at some earlier moment. So is the stream: messages are gone whose
//! storing was acknowledged, sequences will be given out a second time, and messages are back that had been replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_core::transport::Sequence;

use super::store::{New, Record, Store};

/// One change that may be undone.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Sequences were given out, to a message or to none.
    Given {
        /// The last one before.
        after: Sequence,
    },
    /// A message went away.
    Taken(Box<Taken>),
}

/// A message that went away.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) subject: Arc<str>,
    pub(super) record: Record,
}

/// Messages with their subjects.
pub(super) type BySequence<'a> = BTreeMap<Sequence, (Arc<str>, &'a Record)>;

/// The changes since the files were synced, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    steps: Vec<Step>,
    /// Whether the time is set at which they will be.
    pub(super) is_due: bool,
}

/// What was undone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Undone {
    /// Messages that are there no more.
    pub(super) lost: Vec<Sequence>,
    /// Messages that are there again.
    pub(super) back: Vec<Sequence>,
}

impl Unsynced {
    pub(super) fn note(&mut self, step: Step) {
        self.steps.push(step);
    }

    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// The process that had set the time is gone.
    pub(super) fn forget_time(&mut self) {
        self.is_due = false;
    }

    /// All is on disk.
    pub(super) fn sync(&mut self) {
        self.steps.clear();
        self.is_due = false;
    }
}

impl Store {
    /// What this store was when only the first `kept` steps since the last sync had been made, and what that differs in;
    /// `None` where it is that.
    pub(super) fn undone(&self, kept: usize) -> Option<(Self, Undone)> {
        let steps = self.unsynced.as_ref()?.steps.get(kept..)?;
        if steps.is_empty() {
            return None;
        }
        let now = self.by_sequence();
        let (mut then, mut last) = (now.clone(), self.last());
        for step in steps.iter().rev() {
            match step {
                Step::Given { after } => {
                    last = *after;
                    drop(then.split_off(&last.next()));
                }
                Step::Taken(taken) => {
                    let Taken { subject, record } = &**taken;
                    then.insert(record.sequence, (Arc::clone(subject), record));
                }
            }
        }
        let store = self.made_of(&then, last);
        let keys = |one: &BTreeMap<Sequence, _>, other: &BTreeMap<Sequence, _>| {
            let missing = one.keys().filter(|sequence| !other.contains_key(sequence));
            missing.copied().collect()
        };
        let undone = Undone {
            lost: keys(&now, &then),
            back: keys(&then, &now),
        };
        Some((store, undone))
    }

    /// Every message with its subject.
    pub(super) fn by_sequence(&self) -> BySequence<'_> {
        let all = self.from(Sequence::NONE);
        all.map(|record| {
            let subject = Arc::clone(self.subject_of(record));
            (record.sequence, (subject, record))
        })
        .collect()
    }

    /// Another one for the same stream, of these messages, nothing of it to be undone.
    pub(super) fn made_of(&self, messages: &BySequence<'_>, last: Sequence) -> Self {
        let mut store = self.empty();
        for (sequence, (subject, record)) in messages {
            store.skip_to(Sequence(sequence.0 - 1));
            let new = New {
                head: record.head.clone(),
                payload: record.payload.clone(),
                time: record.time,
                size: record.size,
                is_exempt: record.is_exempt,
            };
            let name = store.name(subject);
            let known = store.find(name);
            store.append(name, known, new);
        }
        store.skip_to(last);
        store.unsynced = self.unsynced.is_some().then(Unsynced::default);
        store
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use squall_core::{Rng, UnixTime};

    use super::super::head::Head;
    use super::*;

    /// Every message with its subject, and the last sequence given out.
    fn there(store: &Store) -> (Vec<(Sequence, Arc<str>)>, Sequence) {
        let all = store.from(Sequence::NONE);
        let all = all.map(|record| (record.sequence, Arc::clone(store.subject_of(record))));
        (all.collect(), store.last())
    }

    fn append(store: &mut Store, subject: &str) {
        let new = New {
            head: Head::PUT,
            payload: Bytes::new(),
            time: UnixTime::EPOCH,
            size: 1,
            is_exempt: false,
        };
        let name = store.name(subject);
        let known = store.find(name);
        store.append(name, known, new);
    }

    #[test]
    fn whatever_is_undone_leaves_what_was_there_before_it() {
        for seed in 0..50 {
            let mut rng = Rng::labelled(seed, "unsynced");
            let mut store = Store::new("");
            append(&mut store, "synced");
            store.unsynced = Some(Unsynced::default());
            // After so many steps.
            let mut was = vec![there(&store)];
            while was.len() < 60 {
                match rng.below(4) {
                    0 => {
                        let at = Sequence(rng.between(1, store.last().0));
                        store.remove(at, |_, _| {});
                    }
                    1 => store.skip_to(store.last().next()),
                    _ => append(&mut store, ["a", "b", "c"][rng.below(3) as usize]),
                }
                let steps = store.unsynced.as_ref().map_or(0, Unsynced::len);
                if steps == was.len() {
                    was.push(there(&store));
                }
            }
            assert!(store.undone(59).is_none(), "all 59 steps are kept");
            for (kept, was) in was.iter().enumerate().take(59) {
                let (then, undone) = store.undone(kept).expect("there are steps after it");
                assert_eq!(there(&then), *was, "seed {seed}, {kept} steps");
                let held = |store: &Store, at: &Sequence| store.at(*at).is_some();
                assert!(
                    undone
                        .lost
                        .iter()
                        .all(|at| held(&store, at) && !held(&then, at))
                );
                assert!(
                    undone
                        .back
                        .iter()
                        .all(|at| held(&then, at) && !held(&store, at))
                );
            }
        }
    }
}
