//! Which stream stores what is published where: no subject is stored by two.
//!
//! Streams are found by the first token of their subjects, so that a message passes by the streams of others.

use std::collections::BTreeMap;

use super::effect::Incarnation;
use super::subject::Filter;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Routes {
    by_token: BTreeMap<Box<str>, Vec<(Filter, Incarnation)>>,
    /// Subjects that begin with a wildcard.
    wild: Vec<(Filter, Incarnation)>,
}

fn first_token(subject: &str) -> &str {
    subject.split('.').next().unwrap_or_default()
}

impl Routes {
    /// Stores these subjects in a stream. Each was found to be a filter before.
    pub(super) fn add(&mut self, subjects: &[String], stream: Incarnation) {
        for subject in subjects {
            let Some(filter) = Filter::parse(subject) else {
                continue;
            };
            let place = match first_token(subject) {
                "*" | ">" => &mut self.wild,
                token => self.by_token.entry(token.into()).or_default(),
            };
            place.push((filter, stream));
        }
    }

    /// Takes back what [`add`](Self::add) did.
    pub(super) fn remove(&mut self, stream: Incarnation) {
        self.wild.retain(|(_, found)| *found != stream);
        self.by_token.retain(|_, routes| {
            routes.retain(|(_, found)| *found != stream);
            !routes.is_empty()
        });
    }

    pub(super) fn find(&self, subject: &str) -> Option<Incarnation> {
        let routes = self.by_token.get(first_token(subject));
        let routes = routes.into_iter().flatten().chain(&self.wild);
        let mut matching = routes.filter(|(filter, _)| filter.matches(subject));
        matching.next().map(|(_, stream)| *stream)
    }
}
