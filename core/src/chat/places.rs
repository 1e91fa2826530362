//! Who listens: the places of a chat's watches, of which there are so many, and the one end of them all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;

use super::event::End;
use super::mailbox::Mailbox;

/// The places of one chat. When it is dropped, all who are in one are told that the chat is closed.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    is_closed: bool,
    next: u64,
    places: BTreeMap<u64, Seat>,
}

#[derive(Debug)]
struct Seat {
    mailbox: Arc<Mailbox>,
    /// Ends the task that fills the mailbox. Dropping it does, too.
    stop: oneshot::Sender<()>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    Closed,
    Full,
}

/// A place that is taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    taken: Weak<Mutex<Taken>>,
    /// Until it is taken up.
    waiting: Mutex<Option<(Arc<Mailbox>, oneshot::Receiver<()>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            taken: Arc::default(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.taken).is_closed
    }

    /// A place for a reader that may leave so many messages unread.
    pub(super) fn take(&self, messages_max: usize) -> Result<Place, NoPlace> {
        let mut taken = lock(&self.taken);
        if taken.is_closed {
            return Err(NoPlace::Closed);
        }
        if taken.places.len() >= self.max {
            return Err(NoPlace::Full);
        }
        let number = taken.next;
        taken.next += 1;
        let mailbox = Arc::new(Mailbox::new(messages_max));
        let (stop, stopped) = oneshot::channel();
        let seat = Seat {
            mailbox: Arc::clone(&mailbox),
            stop,
        };
        taken.places.insert(number, seat);
        Ok(Place {
            number,
            taken: Arc::downgrade(&self.taken),
            waiting: Mutex::new(Some((mailbox, stopped))),
        })
    }

    /// Ends everything; there are no places any more.
    pub(super) fn close(&self) {
        let mut taken = lock(&self.taken);
        taken.is_closed = true;
        for (_, seat) in std::mem::take(&mut taken.places) {
            seat.mailbox.end(End::Closed);
            drop(seat.stop);
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.close();
    }
}

impl Place {
    /// What is put there will be read; until this is ready. `None` once the chat is closed.
    pub(super) fn take_up(&self) -> Option<(Arc<Mailbox>, oneshot::Receiver<()>)> {
        let taken = self.taken.upgrade()?;
        if lock(&taken).is_closed {
            return None;
        }
        lock(&self.waiting).take()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.upgrade() {
            lock(&taken).places.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_left_is_free() {
        let places = Places::new(2);
        let first = places.take(1).expect("one");
        let _second = places.take(1).expect("two");
        assert_eq!(places.take(1).expect_err("full"), NoPlace::Full);
        drop(first);
        assert!(places.take(1).is_ok());
    }

    #[test]
    fn who_is_there_at_the_end_is_told() {
        let places = Places::new(1);
        let place = places.take(1).expect("one");
        let (mailbox, mut stopped) = place.take_up().expect("open");
        assert!(stopped.try_recv().is_err());
        drop(places);
        assert_eq!(
            stopped.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        );
        let next = futures_util::FutureExt::now_or_never(mailbox.next());
        assert_eq!(next, Some(Err(End::Closed)));
        assert!(place.take_up().is_none());
    }

    #[test]
    fn nobody_comes_in_after_the_end() {
        let places = Places::new(1);
        let place = places.take(1).expect("one");
        places.close();
        places.close();
        assert!(place.take_up().is_none(), "it was under way");
        assert_eq!(places.take(1).expect_err("closed"), NoPlace::Closed);
    }
}
