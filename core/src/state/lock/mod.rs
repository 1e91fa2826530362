//! Locks over a bucket: exclusive, with a fencing token, and never held for ever.
//!
//! A lock is one record in a bucket. Whoever writes it over a free one holds the lock, deleting it lets it go, and both are
//! compare-and-set on the revision of this very acquisition, as is every renewal.
//!
//! ```text
//!   Locks ── acquire ──▶ Contender: look, write, wait for one's turn; what became of a lost answer?
//!                          │        in the caller's task, and in one of its own where the caller stops waiting
//!                          ▼
//!   Lock ◀── Acquired ── Holder: until when can it be relied on? renew, lose, let go
//!                                   in a task of its own, from the first that is asked of it on
//! ```
//!
//! **No two wall clocks decide anything.** The record says how long it lives (`ttl`), not until when.
//!
//! - The *holder* counts `ttl` from before the request of its last acknowledged write left, by its own monotonic clock, and
//!   by its own wall clock where that says more, because the former stands while a machine sleeps.
//! - *Others* count `ttl` and a sixteenth from when they first saw that revision, by their own monotonic clock, and then
//!   write over that revision. They saw it after it was stored, which was after the holder began to count; so they are
//!   later, as long as no clock runs more than 3 % wrong. That nothing happened to the record meanwhile is proven by the
//!   write itself, however little of it was heard.
//! - The *server* ends the record after `ttl` and a sixteenth, rounded up to whole seconds, by its own clock, where it knows
//!   lives of records (2.11 or later, in a bucket with delete markers). Then also those find it free who have never
//!   looked before.
//!
//! So an abandoned lock can be acquired within `ttl` + `d` of its last renewal, where `d` is a sixteenth of `ttl`, the rest
//! of a second and what a server is late to expire (a second at most where it has time); by those who wait for it, and
//! where the server knows lives by everybody. Where it does not, who comes anew counts from when it comes: a handle of
//! [`Locks`] remembers what it has seen.
//!
//! **Tokens** are the revisions of acquiring writes, so they increase over all acquisitions of a key, also after its record
//! has been deleted or has expired, for one life of the bucket. They start again where the bucket is deleted and made
//! anew; and where a server loses its power with the end of what it acknowledged, it gives the revisions out again that
//! it lost, after every effect in that bucket that was stamped with them is lost, too. Then exclusion cannot be kept
//! either: nobody but the holder knows that there was a lock. It looks at its record after every reconnect before it
//! touches it, and one that renews itself is told at once; whoever wants the lock looks, too, and writes nothing while the
//! connection is down. What remains is a write that is under way while its revision is given out again.
//!
//! **Waiting.** Who waits watches the record and takes a ticket (one more record). When the lock becomes free, the first in
//! the order of tickets comes at once and the others each [`TURN`] later than the one before, if it is still free then:
//! a release wakes all and starts one. The order is kept as long as whoever's turn it is answers within that time; who
//! does not wait may still come first. Whoever waited in vain for somebody before it says so in its record, so that nobody
//! else waits for that one; who has only come too late keeps its place. Who gives up keeps its place for the life of the
//! lock it wanted, and has it again if it comes back in time with the same [`Locks`]: so everybody has its turn, also where
//! that is further away than anybody's patience.
//!
//! **What remains.** Whatever fails, or is dropped while it is under way, is undone in the background: a write whose answer
//! was lost is not forgotten before it is clear that it never can be stored, or until it is deleted. Only the end of the
//! process or of its connection leaves a record behind, until its life is over.

mod acquiring;
mod carried;
mod contender;
mod contending;
mod holder;
mod holding;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_world;
mod queue;
mod record;
mod settle;
mod shell;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_channel::mpsc;
use tokio::sync::oneshot;

use self::holding::{Command, Holding};
pub use self::record::Record;
use self::record::Stamp;
pub use self::shell::Locks;
use crate::transport::{Fallible, Outcome, ReadError, WriteError};

/// Each in the queue comes so much later than the one before.
pub const TURN: Duration = contender::TURN;

/// A lock was not acquired. Then nothing of it is owned; see the head of the module for writes whose outcome is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// A lock that lives for no time, or longer than can be told.
    #[error("not a life for a lock: {0:?}")]
    InvalidTtl(Duration),
    /// Somebody else holds it, or takes it just now.
    #[error("the lock is held")]
    Held,
    /// It was acquired, or may have been, when nobody could make use of it any more: past its own life, or past the deadline. It
    /// is let go in the background.
    #[error("the lock was acquired too late to be of use")]
    Expired,
    /// The record could not be read.
    #[error("lock: {0}")]
    Read(#[from] ReadError),
    /// The record was not written, or nobody knows. Then it is undone in the background.
    #[error("lock: {0}")]
    Write(#[from] WriteError),
}

impl Fallible for AcquireError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::InvalidTtl(_) | Self::Held => Outcome::Refused,
            Self::Expired => Outcome::Unknown,
            Self::Read(error) => error.outcome(),
            Self::Write(error) => error.outcome(),
        }
    }
}

/// A lock was not renewed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// It has expired, by the holder's clock or because somebody else has it. It is lost for good.
    #[error("the lock has expired")]
    Expired,
    /// It has been unlocked.
    #[error("the lock is not held")]
    NotHeld,
    /// The record could not be read. Until its end the lock is held on.
    #[error("lock: {0}")]
    Read(#[from] ReadError),
    /// The record was not written, or nobody knows. Until its end the lock is held on.
    #[error("lock: {0}")]
    Write(#[from] WriteError),
}

impl Fallible for RefreshError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Expired | Self::NotHeld => Outcome::Refused,
            Self::Read(error) => error.outcome(),
            Self::Write(error) => error.outcome(),
        }
    }
}

/// A lock was not let go, as far as is known. It is not held any more in any case, and its record is deleted in the
/// background.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// It has been unlocked before, or had expired and somebody else has it.
    #[error("the lock is not held")]
    NotHeld,
    /// The record could not be read.
    #[error("lock: {0}")]
    Read(#[from] ReadError),
    /// The record was not deleted, or nobody knows.
    #[error("lock: {0}")]
    Write(#[from] WriteError),
}

impl Fallible for UnlockError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::NotHeld => Outcome::Refused,
            // The background goes on.
            Self::Read(_) | Self::Write(_) => Outcome::Unknown,
        }
    }
}

/// Why a lock can be relied on no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// Its life is over by the holder's own clocks, or these disagree on how long it was.
    Expired,
    /// The record is somebody else's, or gone.
    Replaced,
    /// It was unlocked.
    Released,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "expired",
            Self::Replaced => "replaced",
            Self::Released => "released",
        })
    }
}

/// What the handle knows of its lock without asking its task.
#[derive(Debug)]
struct Lease {
    sent: Stamp,
    lost: Option<LostReason>,
}

type SharedLease = Arc<Mutex<Lease>>;

fn lease(lease: &SharedLease) -> MutexGuard<'_, Lease> {
    lease.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lock that is held. Dropping it unlocks it in the background.
pub struct Lock {
    key: Arc<str>,
    token: u64,
    ttl: Duration,
    lease: SharedLease,
    now: Box<dyn Fn() -> Stamp + Send + Sync>,
    stage: Mutex<Stage>,
}

/// Who does what is to be done for a lock.
enum Stage {
    /// Nobody yet: there is nothing to do.
    Rests(Box<dyn Holding>),
    /// A task.
    Runs(mpsc::UnboundedSender<Command>),
    /// It has been let go.
    Over,
}

impl Stage {
    /// What rested, and is over with that.
    fn take_rest(&mut self) -> Option<Box<dyn Holding>> {
        match std::mem::replace(self, Self::Over) {
            Self::Rests(holding) => Some(holding),
            stage => {
                *self = stage;
                None
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let stage = self.stage.get_mut();
        let stage = stage.unwrap_or_else(PoisonError::into_inner);
        // A task notices that nobody can ask for anything any more.
        if let Some(holding) = stage.take_rest() {
            holding.leave();
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, token, .. } = self;
        f.debug_struct("Lock")
            .field("key", key)
            .field("token", token)
            .finish_non_exhaustive()
    }
}

impl Lock {
    /// What is locked.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The fencing token: higher than that of every earlier acquisition of this key. Whatever is done under the lock
    /// should carry it, so that what comes late can be refused: see the head of the module.
    pub const fn token(&self) -> u64 {
        self.token
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks its task, which begins with that. False if the lock has been let go.
    fn ask(&self, command: Command) -> bool {
        let mut stage = self.stage();
        if let Some(holding) = stage.take_rest() {
            *stage = Stage::Runs(holding.start());
        }
        match &*stage {
            Stage::Runs(commands) => commands.unbounded_send(command).is_ok(),
            Stage::Rests(_) | Stage::Over => false,
        }
    }

    /// Whether it can be relied on now: the same that [`lost`](Self::lost) waits for, without waiting. A process that may
    /// have stood still asks before each effect.
    pub fn is_held(&self) -> bool {
        let lease = lease(&self.lease);
        lease.lost.is_none() && !lease.sent.is_over((self.now)(), self.ttl)
    }

    /// How long it can still be relied on, without a renewal; zero if not at all.
    pub fn remaining(&self) -> Duration {
        let lease = lease(&self.lease);
        match lease.lost {
            Some(_) => Duration::ZERO,
            None => lease.sent.left((self.now)(), self.ttl),
        }
    }

    /// Ready once it can be relied on no more, with the reason. Cancel-safe.
    ///
    /// A machine that slept is noticed an eighth of the life, and at most a second, after it woke;
    /// [`is_held`](Self::is_held) notices at once.
    pub async fn lost(&self) -> LostReason {
        let (listener, told) = oneshot::channel();
        if self.ask(Command::Listen(listener))
            && let Ok(reason) = told.await
        {
            return reason;
        }
        lease(&self.lease).lost.unwrap_or(LostReason::Released)
    }

    /// Renews it: once acknowledged, its life counts from this call.
    ///
    /// # Errors
    /// [`RefreshError::Expired`] once it is lost, and for ever; after any other error it is held until its end.
    pub async fn refresh(&self) -> Result<(), RefreshError> {
        let (answer, answered) = oneshot::channel();
        if !self.ask(Command::Refresh(answer)) {
            return Err(RefreshError::NotHeld);
        }
        answered.await.unwrap_or(Err(RefreshError::NotHeld))
    }

    /// From now on it renews itself, every third of its life, until it is lost or unlocked.
    pub fn keep_alive(&self) {
        // Where it is over there is nothing to renew.
        let _is_held = self.ask(Command::Keep);
    }

    /// Lets it go: only the record of this very acquisition is deleted.
    ///
    /// # Errors
    /// [`UnlockError::NotHeld`] if it was unlocked before, or somebody else has it.
    pub async fn unlock(&self) -> Result<(), UnlockError> {
        let rests = self.stage().take_rest();
        if let Some(holding) = rests {
            return holding.unlock().await;
        }
        let (answer, answered) = oneshot::channel();
        if !self.ask(Command::Unlock(answer)) {
            return Err(UnlockError::NotHeld);
        }
        answered.await.unwrap_or(Err(UnlockError::NotHeld))
    }
}
