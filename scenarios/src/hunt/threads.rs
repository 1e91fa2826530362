//! A hunt on the threads of this machine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Book, FolderError};
use crate::run::Run;

/// Runs what is left of a hunt on so many threads, and shrinks what they find; tells each run.
///
/// # Errors
/// If something cannot be kept: what was counted by then is.
pub fn hunt(
    book: &Book,
    threads: usize,
    stop: &AtomicBool,
    told: impl Fn(&Run) + Sync,
) -> Result<(), FolderError> {
    let failed = Mutex::new(None);
    let fail = |error: FolderError| {
        stop.store(true, Ordering::Relaxed);
        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error);
    };
    let next = AtomicU64::new(book.next());
    on_threads(threads, || {
        while !stop.load(Ordering::Relaxed) && !book.is_over() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if book.is_counted(number) {
                continue;
            }
            let Some(job) = book.jobs().get(number) else {
                return;
            };
            let (run, counted) = job.run();
            let recorded = book.record(number, &run, counted);
            told(&run);
            if let Err(error) = recorded.and_then(|()| shrink_some(book)) {
                fail(error);
            }
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => {
            book.close()?;
            shrink_all(book, threads)
        }
    }
}

/// Shrinks what is still to be shrunk, on so many threads.
///
/// # Errors
/// If something cannot be kept.
pub fn shrink_all(book: &Book, threads: usize) -> Result<(), FolderError> {
    let failed = Mutex::new(None);
    on_threads(threads, || {
        if let Err(error) = shrink_some(book) {
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn shrink_some(book: &Book) -> Result<(), FolderError> {
    while book.shrink_one()? {}
    Ok(())
}

fn on_threads(threads: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(&work);
        }
    });
}
