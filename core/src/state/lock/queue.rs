//! The queue of those who wait: one ticket each, beside the record of the lock, in the order in which they came first.
//!
//! Who gives up keeps its place for a while, should it come again. Where one's turn is further away than anybody's patience
//! some would never have theirs otherwise: they would begin behind the others each time. Who is not there when its turn
//! comes is passed over.
//!
//! Whose turn comes waits so long for each of those before it, takes away the tickets of those who did not come, and names
//! them in the record of the lock: nobody waits for them any more, and who is named there and has come all the same, too
//! late, takes another ticket for the same place. So nobody loses its place by losing a race.
//!
//! Tickets are for order alone: nothing goes wrong where one is lost, left behind or deleted too early, but that somebody
//! comes sooner or later than it should.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::contending::Before;
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
    pub(super) since: Option<Revision>,
}

impl Place {
    /// One that nobody has had, for the acquisition of this name.
    pub(super) fn new(id: &Arc<str>) -> Self {
        Self {
            id: Arc::clone(id),
            since: None,
        }
    }

    /// Who is before this place, the first one first, and whether it has a ticket.
    fn find(&mut self, keys: &Keys, tickets: &[KvEntry]) -> (Vec<Before>, bool) {
        let ticket = |entry: &KvEntry| {
            let before = Before {
                place: keys.place_of(&entry.key)?.into(),
                ticket: entry.revision,
            };
            Some((Ticket::since(entry), before))
        };
        let mut queue: Vec<(Revision, Before)> = tickets.iter().filter_map(ticket).collect();
        queue.sort_unstable_by(|(a, one), (b, other)| (a, &one.place).cmp(&(b, &other.place)));
        let own = queue.iter().position(|(_, one)| one.place == self.id);
        let own = own.map(|own| queue.remove(own));
        let has_ticket = own.is_some();
        self.since = self.since.or_else(|| own.map(|(since, _)| since));
        queue.retain(|(since, _)| self.since.is_none_or(|own| *since < own));
        let ahead = queue.into_iter().map(|(_, before)| before);
        (ahead.collect(), has_ticket)
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
        let first = ticket.and_then(|ticket| ticket.since).map(Revision);
        earlier(first, entry.revision)
    }
}

/// Since when a place is had. A server that has lost its power gives revisions out again: what is known of the first
/// ticket may be later than all that come now.
fn earlier(first: Option<Revision>, ticket: Revision) -> Revision {
    first.map_or(ticket, |first| first.min(ticket))
}

/// How to join the queue.
pub(super) struct Joining {
    pub(super) place: Place,
    /// How long the ticket lives, if one is wanted.
    pub(super) life: Option<Duration>,
    /// Whether there is a watch already.
    pub(super) watches: bool,
}

/// What came of it.
pub(super) struct Joined {
    pub(super) place: Place,
    pub(super) has_ticket: bool,
    /// The one that was wanted.
    pub(super) watch: Option<Watch>,
    /// Who is before it, the first one first.
    pub(super) ahead: Vec<Before>,
}

/// Watches the record, takes a ticket, as far as these are wanted, and sees who is before it. Whatever fails is done
/// without.
pub(super) async fn join<E: Env, B: Bucket>(
    inner: Arc<Inner<E, B>>,
    keys: Keys,
    joining: Joining,
) -> Joined {
    let Joining {
        mut place,
        life,
        watches,
    } = joining;
    let mut watch = None;
    if !watches {
        let opening = inner.bucket.watch(&keys.record, WatchStart::Snapshot);
        watch = opening.await.ok();
    }
    let mut has_ticket = false;
    // Who is not told when its turn comes should not be waited for.
    if let Some(life) = life.filter(|_| watches || watch.is_some()) {
        let ticket = keys.ticket(&place.id);
        let (id, since) = (Arc::clone(&place.id), place.since.map(|since| since.0));
        let value = move |write| {
            let id = Arc::clone(&id);
            Ticket { id, write, since }.encode()
        };
        match inner.put(&ticket, value, Over::Anything, life).await {
            Ok(revision) => {
                has_ticket = true;
                place.since = Some(earlier(place.since, revision));
            }
            Err(error) => tracing::debug!(ticket, %error, "no ticket"),
        }
    }
    let ahead = match inner.bucket.entries(&keys.all_tickets()).await {
        Ok(tickets) => {
            let (ahead, is_seen) = place.find(&keys, &tickets);
            has_ticket |= is_seen;
            ahead
        }
        Err(error) => {
            tracing::debug!(key = %keys.record, %error, "the queue cannot be read");
            Vec::new()
        }
    };
    Joined {
        place,
        has_ticket,
        watch,
        ahead,
    }
}

/// Takes tickets away: one's own, and those of whom was waited for in vain, but where they have taken others since.
pub(super) async fn leave<E: Env, B: Bucket>(
    inner: Arc<Inner<E, B>>,
    keys: Keys,
    own: Option<Arc<str>>,
    passed: Vec<Before>,
) {
    let own = own.map(|place| (place, None));
    let passed = passed.into_iter();
    let passed = passed.map(|before| (before.place, Some(before.ticket)));
    for (place, revision) in own.into_iter().chain(passed) {
        let ticket = keys.ticket(&place);
        if let Err(error) = inner.bucket.delete(&ticket, revision).await {
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
            leave(inner, keys, Some(place.id), Vec::new()).await;
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
            // Of before the power was lost.
            ticket("f", 12, Some(20)),
        ];
        let ahead = |id: &str, since| {
            let mut place = Place::new(&id.into());
            place.since = since;
            let (ahead, has_ticket) = place.find(&keys, &tickets);
            let ahead: Vec<_> = ahead.iter().map(|before| &*before.place).collect();
            assert_eq!(has_ticket, id != "e");
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
            ("a b d c f".to_owned(), None),
            "without a ticket it is the last"
        );
    }
}
