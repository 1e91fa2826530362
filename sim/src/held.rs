//! [`Held`]: what belongs to one thread at a time, without a lock at each use.
//!
//! A world is shared by handles that may be sent anywhere, because the futures of the code under test may; yet while it
//! runs, one thread does everything. So for the time of a run what it is made of leaves its mutex and lies with that
//! thread, where a use costs a comparison instead of two atomic operations. A use from another thread meanwhile would
//! make the run depend on the machine's scheduler, and panics.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::LocalKey;

/// A thread's hand: what is in it, and whose it is. It is empty again before the thread ends: what need not be dropped then
/// is found without asking whether it was, at each use.
pub(crate) type Hand<T> = RefCell<Option<(usize, ManuallyDrop<Box<T>>)>>;

/// What can be held.
pub(crate) trait Holdable: Sized + 'static {
    /// The hand of this thread for things of this kind.
    fn hand() -> &'static LocalKey<Hand<Self>>;
}

/// See the head of this file. Does not move while it is taken up.
pub(crate) struct Held<T> {
    /// `None` while it is in a hand.
    laid_down: Mutex<Option<Box<T>>>,
}

impl<T: Holdable> Held<T> {
    pub(crate) fn new(item: T) -> Self {
        Self {
            laid_down: Mutex::new(Some(Box::new(item))),
        }
    }

    /// Works on it: only one work at a time.
    ///
    /// # Panics
    /// While another thread has taken it up, and where one work asks for another.
    #[inline]
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        T::hand().with(|hand| match &mut *hand.borrow_mut() {
            Some((whose, item)) if *whose == self.place() => work(item),
            _ => self.with_lock(work),
        })
    }

    #[cold]
    fn with_lock<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let mut item = self.lock();
        work(
            item.as_mut()
                .expect("a world is used by the thread that runs it"),
        )
    }

    /// This thread has it until the answer is dropped.
    pub(crate) fn take_up(&self) -> TakenUp<'_, T> {
        let item = self.lock().take();
        let mine = item.expect("a world is run by one thread at a time");
        TakenUp {
            held: self,
            before: T::hand().replace(Some((self.place(), ManuallyDrop::new(mine)))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<T>>> {
        self.laid_down
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> usize {
        ptr::from_ref(self).addr()
    }
}

/// Lays a thing down again.
pub(crate) struct TakenUp<'a, T: Holdable> {
    held: &'a Held<T>,
    /// What the hand held before: a run within a run.
    before: Option<(usize, ManuallyDrop<Box<T>>)>,
}

impl<T: Holdable> Drop for TakenUp<'_, T> {
    fn drop(&mut self) {
        let in_hand = T::hand().replace(self.before.take());
        *self.held.lock() = in_hand.map(|(_, item)| ManuallyDrop::into_inner(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(u32);

    thread_local! {
        static HAND: Hand<Count> = const { RefCell::new(None) };
    }

    impl Holdable for Count {
        fn hand() -> &'static LocalKey<Hand<Self>> {
            &HAND
        }
    }

    fn add(held: &Held<Count>) -> u32 {
        held.with(|count| {
            count.0 += 1;
            count.0
        })
    }

    #[test]
    fn each_use_finds_its_own_wherever_it_lies() {
        let (one, other) = (Held::new(Count(0)), Held::new(Count(10)));
        assert_eq!((add(&one), add(&other)), (1, 11));
        let taken = one.take_up();
        assert_eq!((add(&one), add(&other)), (2, 12));
        let within = other.take_up();
        assert_eq!(add(&other), 13);
        drop(within);
        assert_eq!((add(&one), add(&other)), (3, 14));
        drop(taken);
        assert_eq!((add(&one), add(&other)), (4, 15));
    }

    #[test]
    fn another_thread_cannot_interfere_with_a_run() {
        let held = Held::new(Count(0));
        let taken = held.take_up();
        let other = std::thread::scope(|scope| scope.spawn(|| add(&held)).join());
        assert!(other.is_err());
        drop(taken);
        let other = std::thread::scope(|scope| scope.spawn(|| add(&held)).join());
        assert_eq!(other.ok(), Some(1));
    }
}
