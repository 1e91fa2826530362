//! The queue of those who wait: one ticket each, beside the record of the lock, in the order in which they came first.
//!
//! Who gives up keeps its place for a while, should it come again. Where one's turn is further away than anybody's patience
//! some would never have theirs otherwise: they would begin behind the others each time. Who is not there when its turn
//! comes is passed over.
//!
//! Tickets are for order alone: nothing goes wrong where one is lost, left behind or deleted too early, but that somebody
//! comes sooner or later than it should.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::record::Keys;
use super::settle::closed;
use super::shell::{Inner, Over};
use crate::env::{Env, Task};
use crate::time::Clock;
use crate::transport::{Bucket, KvEntry, Revision, Watch, WatchStart};

/// A place in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Names it, unlike any other.
    pub(super) id: Arc<str>,
    /// The revision of its first ticket, once that is known.
    since: Option<Revision>,
}

impl Place {
    /// One that nobody has had, for the acquisition of this name.
    pub(super) fn new(id: &Arc<str>) -> Self {
        Self {
            id: Arc::clone(id),
            since: None,
        }
    }

    /// The places before this one, the first one first.
    fn ahead(&mut self, keys: &Keys, tickets: &[KvEntry]) -> Vec<Arc<str>> {
        let place = |ticket| Some((Ticket::since(ticket), keys.place_of(&ticket.key)?));
        let mut queue: Vec<(Revision, &str)> = tickets.iter().filter_map(place).collect();
        queue.sort_unstable();
        let own = queue.iter().find(|(_, id)| **id == *self.id);
        self.since = self.since.or_else(|| own.map(|(since, _)| *since));
        let is_ahead = |(since, id): &(Revision, &str)| {
            **id != *self.id && self.since.is_none_or(|own| *since < own)
        };
        let ahead = queue.into_iter().filter(is_ahead);
        ahead.map(|(_, id)| id.into()).collect()
    }
}

/// What stands under the key of a place.
#[derive(Debug, Serialize, Deserialize)]
struct Ticket {
    id: Arc<str>,
    /// As of [`Record`](super::Record).
    write: u64,
    /// The revision of the first of this place; absent in that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
}

impl Ticket {
    fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    fn since(entry: &KvEntry) -> Revision {
        let ticket: Option<Self> = serde_json::from_slice(&entry.value).ok();
        let first = ticket.and_then(|ticket| ticket.since);
        first.map_or(entry.revision, Revision)
    }
}

/// What came of joining the queue.
pub(super) struct Joined {
    pub(super) place: Place,
    pub(super) watch: Option<Watch>,
    /// The places before it, the first one first.
    pub(super) ahead: Vec<Arc<str>>,
}

/// Watches the record, takes a ticket that lives so long, if one is wanted, and sees who is before it. Whatever fails is
/// done without.
pub(super) async fn join<E: Env, B: Bucket>(
    inner: Arc<Inner<E, B>>,
    keys: Keys,
    mut place: Place,
    life: Option<Duration>,
) -> Joined {
    let watch = inner.bucket.watch(&keys.record, WatchStart::Snapshot).await;
    if let (Some(life), Ok(_)) = (life, &watch) {
        let ticket = keys.ticket(&place.id);
        let (id, since) = (Arc::clone(&place.id), place.since.map(|since| since.0));
        let value = move |write| {
            let id = Arc::clone(&id);
            Ticket { id, write, since }.encode()
        };
        match inner.put(&ticket, value, Over::Anything, life).await {
            Ok(revision) => place.since = place.since.or(Some(revision)),
            Err(error) => tracing::debug!(ticket, %error, "no ticket"),
        }
    }
    let ahead = match inner.bucket.entries(&keys.all_tickets()).await {
        Ok(tickets) => place.ahead(&keys, &tickets),
        Err(error) => {
            tracing::debug!(key = %keys.record, %error, "the queue cannot be read");
            Vec::new()
        }
    };
    let watch = watch.ok();
    Joined {
        place,
        watch,
        ahead,
    }
}

/// Takes tickets away: one's own, and those whose turn it was.
pub(super) async fn leave<E: Env, B: Bucket>(
    inner: Arc<Inner<E, B>>,
    keys: Keys,
    places: Vec<Arc<str>>,
) {
    for place in places {
        let ticket = keys.ticket(&place);
        if let Err(error) = inner.bucket.delete(&ticket, None).await {
            tracing::debug!(ticket, %error, "a ticket is left behind");
        }
    }
}

/// Places of those who gave up, by the keys of their locks; each with what takes its ticket away when its time is over.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Places>);

type Places = BTreeMap<Arc<str>, Vec<(Place, Task)>>;

impl Kept {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that was left first, to be taken up again.
    pub(super) fn take(&self, key: &str) -> Option<Place> {
        self.remove(key, |_| true).map(|(place, _over)| place)
    }

    fn remove(&self, key: &str, is_wanted: impl Fn(&Place) -> bool) -> Option<(Place, Task)> {
        let mut places = self.places();
        let kept = places.get_mut(key)?;
        let position = kept.iter().position(|(place, _)| is_wanted(place))?;
        let removed = kept.remove(position);
        if kept.is_empty() {
            places.remove(key);
        }
        Some(removed)
    }
}

/// Keeps a place for so long, for whoever comes again with this handle.
pub(super) fn keep<E: Env, B: Bucket>(
    inner: &Arc<Inner<E, B>>,
    keys: &Keys,
    place: Place,
    span: Duration,
) {
    let (key, id) = (Arc::clone(&keys.record), Arc::clone(&place.id));
    let (clock, keys) = (inner.env.clock().clone(), keys.clone());
    let mut events = inner.events();
    // Without the handle nobody comes again.
    let handle = Arc::downgrade(inner);
    let mut places = inner.kept.places();
    let task = inner.env.spawn("lock queue", async move {
        tokio::select! {
            biased;
            () = closed(&mut events) => {}
            () = clock.sleep_until(clock.now() + span) => {}
        }
        if let Some(inner) = handle.upgrade()
            && let Some((place, own)) = inner.kept.remove(&keys.record, |place| place.id == id)
        {
            // It would end with its own handle.
            own.detach();
            leave(inner, keys, vec![place.id]).await;
        }
    });
    places.entry(key).or_default().push((place, task));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixTime;
    use crate::transport::Operation;

    fn ticket(id: &str, revision: u64, since: Option<u64>) -> KvEntry {
        KvEntry {
            key: format!("w.a.{id}").into(),
            value: Ticket {
                id: id.into(),
                write: revision,
                since,
            }
            .encode(),
            revision: Revision(revision),
            operation: Operation::Put,
            created: UnixTime::EPOCH,
        }
    }

    #[test]
    fn places_are_in_the_order_of_their_first_tickets() {
        let keys = Keys::new("l.a");
        let tickets = [
            ticket("b", 5, None),
            ticket("c", 7, None),
            ticket("a", 9, Some(3)),
            ticket("d", 10, Some(6)),
        ];
        let ahead = |id: &str, since| {
            let mut place = Place::new(&id.into());
            place.since = since;
            let ahead = place.ahead(&keys, &tickets);
            (ahead.join(" "), place.since)
        };
        assert_eq!(
            ahead("a", Some(Revision(3))),
            (String::new(), Some(Revision(3)))
        );
        assert_eq!(ahead("d", Some(Revision(6))).0, "a b");
        let unanswered = ahead("c", None);
        assert_eq!(unanswered, ("a b d".to_owned(), Some(Revision(7))));
        assert_eq!(
            ahead("e", None),
            ("a b d c".to_owned(), None),
            "without a ticket it is the last"
        );
    }
}
