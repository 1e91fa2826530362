//! Who listens where: core subscriptions as a tree of tokens, as in the server's own sublist.
//!
//! A walk down the tree costs the tokens of the subject, not the number of subscriptions. Matches come in the order in
//! which the subscriptions were made, so that nothing depends on the shape of the tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::permissions::Denied;
use super::subject::is_routable;
use crate::wire::{LinkId, Sid};

/// One subscription of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscriber {
    /// Counts subscriptions of this server, to order them.
    pub(super) number: u64,
    pub(super) link: LinkId,
    pub(super) sid: Sid,
    pub(super) queue: Option<Arc<str>>,
    /// What its user may not hear.
    pub(super) denied: Option<Denied>,
}

#[derive(Debug, Default)]
struct Node {
    tokens: BTreeMap<Box<str>, Self>,
    /// Under `*`.
    any: Option<Box<Self>>,
    /// Subscribed to exactly this.
    here: Vec<Subscriber>,
    /// Subscribed to this and `>`.
    rest: Vec<Subscriber>,
}

/// All subscriptions of a server.
#[derive(Debug, Default)]
pub(super) struct Interest {
    root: Node,
    made: u64,
    /// Subscriptions that may match the subject of a key; while there is none, writes need not look.
    near_keys: usize,
}

impl Interest {
    /// Adds a subscription. One with `>` before its last token is accepted and matches nothing, as on a real server.
    pub(super) fn add(
        &mut self,
        subject: &str,
        link: LinkId,
        sid: Sid,
        queue: Option<Arc<str>>,
        denied: Option<Denied>,
    ) {
        if has_inner_rest(subject) {
            return;
        }
        self.made += 1;
        self.near_keys += usize::from(is_near_keys(subject));
        let subscriber = Subscriber {
            number: self.made,
            link,
            sid,
            queue,
            denied,
        };
        let mut node = &mut self.root;
        for token in subject.split('.') {
            node = match token {
                ">" => {
                    node.rest.push(subscriber);
                    return;
                }
                "*" => node.any.get_or_insert_default(),
                _ => node.tokens.entry(token.into()).or_default(),
            };
        }
        node.here.push(subscriber);
    }

    /// Takes back what [`add`](Self::add) did.
    pub(super) fn remove(&mut self, subject: &str, link: LinkId, sid: Sid) {
        if has_inner_rest(subject) {
            return;
        }
        self.near_keys -= usize::from(is_near_keys(subject));
        self.root.remove(Some(subject), link, sid);
    }

    /// True where a core subscription may hear of writes to keys.
    pub(super) const fn is_near_keys(&self) -> bool {
        self.near_keys > 0
    }

    /// Appends every subscription that matches, in the order they were made.
    pub(super) fn matching(&self, subject: &str, found: &mut Vec<Subscriber>) {
        if is_routable(subject) {
            self.root.matching(Some(subject), found);
            found.retain(|subscriber| {
                let denied = subscriber.denied.as_ref();
                denied.is_none_or(|denied| !denied.denies(subject))
            });
            found.sort_unstable_by_key(|subscriber| subscriber.number);
        }
    }
}

impl Node {
    fn remove(&mut self, subject: Option<&str>, link: LinkId, sid: Sid) {
        let is_other = |s: &Subscriber| (s.link, s.sid) != (link, sid);
        let Some(subject) = subject else {
            self.here.retain(is_other);
            return;
        };
        let (token, tail) = first_token(subject);
        match token {
            ">" => self.rest.retain(is_other),
            "*" => {
                if let Some(any) = &mut self.any {
                    any.remove(tail, link, sid);
                    if any.is_empty() {
                        self.any = None;
                    }
                }
            }
            _ => {
                if let Some(node) = self.tokens.get_mut(token) {
                    node.remove(tail, link, sid);
                    if node.is_empty() {
                        self.tokens.remove(token);
                    }
                }
            }
        }
    }

    fn matching(&self, subject: Option<&str>, found: &mut Vec<Subscriber>) {
        let Some(subject) = subject else {
            found.extend_from_slice(&self.here);
            return;
        };
        let (token, tail) = first_token(subject);
        found.extend_from_slice(&self.rest);
        if let Some(any) = &self.any {
            any.matching(tail, found);
        }
        if let Some(node) = self.tokens.get(token) {
            node.matching(tail, found);
        }
    }

    fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.any.is_none() && self.here.is_empty() && self.rest.is_empty()
    }
}

fn first_token(subject: &str) -> (&str, Option<&str>) {
    match subject.split_once('.') {
        Some((token, tail)) => (token, Some(tail)),
        None => (subject, None),
    }
}

fn is_near_keys(subject: &str) -> bool {
    matches!(first_token(subject).0, "$KV" | "*" | ">")
}

fn has_inner_rest(subject: &str) -> bool {
    subject
        .rsplit_once('.')
        .is_some_and(|(before, _)| before.split('.').any(|token| token == ">"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_leaves_nothing_behind() {
        let mut interest = Interest::default();
        let subjects = ["a.b", "a.*.c", "$KV.b.>", ">", "*", "x.>.y"];
        for (sid, subject) in (0..).zip(subjects) {
            interest.add(subject, LinkId(1), Sid(sid), None, None);
        }
        assert!(interest.is_near_keys());
        for (sid, subject) in (0..).zip(subjects) {
            interest.remove(subject, LinkId(1), Sid(sid));
        }
        assert!(!interest.is_near_keys() && interest.root.is_empty());
    }
}
