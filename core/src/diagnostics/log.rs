//! The connection-event log of one program: in memory, and on disk so that it outlives the program.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::event::NatsEvent;
use super::read::{BrokenLine, EventsRead, read_events};
use super::ring::{RING_CAPACITY, Ring};
use crate::files::{FileError, Files, Rotation};

/// The file, and how it is kept small.
pub const EVENTS_FILE: &str = "nats-events.jsonl";

/// No file of the log grows beyond this.
pub const EVENTS_FILE_MAX: u64 = 10_000_000;

/// Older files that are kept: `nats-events.jsonl.1` and `.2`.
pub const EVENTS_FILES_KEPT: u32 = 2;

const ROTATION: Rotation = Rotation {
    bytes_max: EVENTS_FILE_MAX,
    kept: EVENTS_FILES_KEPT,
};

/// The log. Clones share it. Events are told in the order in which they are recorded.
#[derive(Clone)]
pub struct EventLog(Arc<Mutex<Inner>>);

struct Inner {
    ring: Ring,
    files: Option<Arc<dyn Files>>,
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventLog")
    }
}

impl EventLog {
    /// A log that ends with the program.
    pub fn in_memory() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            ring: Ring::default(),
            files: None,
        })))
    }

    /// A log on disk, which begins with what is there already; and the lines of the newest file that are no events.
    ///
    /// # Errors
    /// The files could not be read: nothing is known of what is there. Lines that cannot be read are no error.
    pub fn open(files: Arc<dyn Files>) -> Result<(Self, Vec<BrokenLine>), FileError> {
        let EventsRead { mut events, broken } = read(&*files, EVENTS_FILE)?;
        for number in 1..=EVENTS_FILES_KEPT {
            if events.len() >= RING_CAPACITY {
                break;
            }
            let mut older = read(&*files, &format!("{EVENTS_FILE}.{number}"))?.events;
            older.append(&mut events);
            events = older;
        }
        let inner = Inner {
            ring: Ring::of(events),
            files: Some(files),
        };
        Ok((Self(Arc::new(Mutex::new(inner))), broken))
    }

    /// Records an event, without the secrets that may stand in its texts. A refresh error that was told within the last
    /// minute with the same reason is left out.
    ///
    /// # Errors
    /// It is in memory and may be missing on disk, or an older file of the log may.
    pub fn record(&self, event: NatsEvent) -> Result<(), FileError> {
        let event = event.redacted();
        let line = event.to_line();
        let mut inner = self.lock();
        if !inner.ring.push(event) {
            return Ok(());
        }
        // Under the lock, so that the file has the order of the ring.
        let Some(files) = &inner.files else {
            return Ok(());
        };
        files.append_line(EVENTS_FILE, line.as_bytes(), Some(ROTATION))
    }

    /// The last events, oldest first.
    pub fn snapshot(&self) -> Vec<NatsEvent> {
        self.lock().ring.snapshot()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(files: &dyn Files, name: &str) -> Result<EventsRead, FileError> {
    let log = files.read(name)?;
    Ok(log.map_or_else(EventsRead::default, |log| read_events(&log)))
}
