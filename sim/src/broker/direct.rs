//! Direct gets: reads that the server answers from its store.

use std::collections::BTreeSet;

use squall_core::transport::{ApiError, Sequence, StoredMessage};

use super::config::Version;
use super::refusal::api_error;
use super::store::Record;
use super::stream::Stream;
use super::subject::{Filter, Filters};
use crate::wire::Get;

/// Subjects of which one batch may tell the last message.
const BATCH_MAX: usize = 1024;

impl Stream {
    /// The message asked for, if it is held.
    pub(super) fn get(&self, what: &Get) -> Result<Option<StoredMessage>, ApiError> {
        let found = match what {
            Get::Sequence(Sequence::NONE) => return Err(empty_request()),
            Get::Sequence(sequence) => self.store.at(*sequence),
            Get::Next { from, filter } => Filter::parse(filter).and_then(|filter| {
                let mut rest = self.store.from(*from);
                rest.find(|record| filter.matches(self.store.subject_of(record)))
            }),
            Get::Last { subject } => self.last_matching(subject),
        };
        Ok(found.map(|record| self.store.message(record)))
    }

    /// The last message of all that match.
    pub(super) fn last_matching(&self, filter: &str) -> Option<&Record> {
        if !filter.contains(['*', '>']) {
            let subject = self.store.find(self.store.name(filter))?;
            return Some(self.store.newest(subject));
        }
        let filter = Filter::parse(filter)?;
        let mut newest_first = self.store.from(Sequence::NONE).rev();
        newest_first.find(|record| filter.matches(self.store.subject_of(record)))
    }

    /// The last message of each subject that matches one of these, ascending.
    pub(super) fn last_of(
        &self,
        version: Version,
        filters: &[std::sync::Arc<str>],
    ) -> Result<Vec<StoredMessage>, ApiError> {
        if !version.is_at_least(2, 11) || filters.is_empty() {
            // Older servers do not know the field, and see no other.
            return Err(empty_request());
        }
        let is_wild = |filter: &std::sync::Arc<str>| filter.contains(['*', '>']);
        let found: BTreeSet<Sequence> = if filters.iter().any(is_wild) {
            // What is no filter matches nothing.
            let valid: Vec<_> = filters
                .iter()
                .filter(|filter| Filter::parse(filter).is_some())
                .collect();
            match Filters::parse(&valid) {
                Some(filters) if !valid.is_empty() => {
                    let matching = self.store.from(Sequence::NONE).filter(|record| {
                        self.store.is_newest(record)
                            && filters.matches(self.store.subject_of(record))
                    });
                    matching.map(|record| record.sequence).collect()
                }
                _ => BTreeSet::new(),
            }
        } else {
            let last = filters
                .iter()
                .filter_map(|subject| self.last_matching(subject));
            last.map(|record| record.sequence).collect()
        };
        if found.len() > BATCH_MAX {
            return Err(api_error(413, 0, "Too Many Results"));
        }
        let records = found
            .into_iter()
            .filter_map(|sequence| self.store.at(sequence));
        Ok(records.map(|record| self.store.message(record)).collect())
    }
}

fn empty_request() -> ApiError {
    api_error(408, 0, "Empty Request")
}
