//! A hunt on many machines: its jobs go through JetStream, and so does what they find.
//!
//! ```text
//!   coordinator ── parts ──▶ squall-work-ID   a work queue: one part to one worker, again if it falls silent
//!        ▲                        │
//!        │                        ▼
//!   squall-done-ID ◀─ reports ─ workers ── findings ──▶ squall-found   one message for each run that did not pass
//! ```
//!
//! Whoever dies loses nothing. A worker says that a part is done only once its report is stored, so the part of a dead
//! one is given out again; a coordinator keeps how far it has read with what it has counted, and the sequence of the
//! last part in the queue says which comes next. A part that was done twice is noticed by its number and counted once;
//! as a seed gives one run, both must have come to the same, or the hunt ends with that finding. All streams are files
//! at the server, on three servers where there are three.
//!
//! One hunt at a time goes through a fleet: `squall-hunts` holds its announcement, renewed as long as its coordinator
//! lives. It is written against [`Env`](squall_core::Env), as all that is tested here.
#![allow(
    clippy::disallowed_methods,
    reason = "runs block, and so take threads of their own; nothing of it reaches a run"
)]

mod coordinator;
mod hall;
mod words;
mod worker;

use std::time::Duration;

use squall_core::transport::ConnectError;
use tokio::sync::oneshot;

pub use self::coordinator::{Told, coordinate};
pub use self::words::{Announcement, FOUND, Found, HUNTS, Part, Report};
pub use self::worker::{Working, work_for};
use crate::hunt::{FolderError, SettingsError};

/// A fleet cannot hunt, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// No server of the fleet lets one in.
    #[error("{servers}: {error}")]
    Unreachable {
        /// Which were tried.
        servers: String,
        /// What the last one said.
        error: ConnectError,
    },
    /// Nobody has answered for a long time.
    #[error("{what}: no answer from the fleet's servers for {patience:?}; at last: {last}")]
    Silent {
        /// What was asked.
        what: &'static str,
        /// For so long.
        patience: Duration,
        /// What was said at last.
        last: String,
    },
    /// The server will not.
    #[error("{what}: {reason}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// One hunt at a time.
    #[error("another hunt, {id}, is under way in this fleet: wait for its end")]
    Busy {
        /// Which.
        id: String,
    },
    /// Here a seed means something else than there.
    #[error(
        "the hunt in this fleet is one of squall {theirs}, and this is squall {ours}, for which seeds mean other runs: \
             use the same build everywhere"
    )]
    OtherSquall {
        /// The coordinator's.
        theirs: String,
        /// This one.
        ours: String,
    },
    /// A message is none of ours.
    #[error("{what}: {reason}")]
    Unreadable {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody has deleted a stream of the hunt, or another hunt has taken its place.
    #[error(
        "hunt {id} is not in this fleet any more: its streams are gone, or another hunt has taken its place"
    )]
    Gone {
        /// Which.
        id: String,
    },
    /// The very thing that must not be.
    #[error(
        "jobs {first} to {last} were done twice and came out differently: a seed gives two runs, and no result can be \
             trusted until that is found"
    )]
    TwoRuns {
        /// The first job of the part.
        first: u64,
        /// Its last.
        last: u64,
    },
    /// What was found cannot be kept.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The settings are those of no hunt.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A thread ended without a result.
    #[error("a run ended its thread: {0}")]
    Thread(&'static str),
}

/// Does work that blocks, on a thread of its own.
async fn off_thread<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FleetError> {
    let (done, result) = oneshot::channel();
    let started = std::thread::Builder::new()
        .name(what.to_owned())
        .spawn(move || {
            // Where nobody waits any more, nobody wants it.
            let _unwanted = done.send(work());
        });
    started.map_err(|_| FleetError::Thread(what))?;
    result.await.map_err(|_| FleetError::Thread(what))
}
