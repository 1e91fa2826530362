//! Presence: who of a project is alive, after the `presence` package of bones.
//!
//! Each agent keeps one entry in a key-value bucket and renews it every `heartbeat_interval`; the entry lives
//! [`TTL_MULTIPLIER`] times as long. [`Presence::who`] reads the entries, [`Presence::watch`] tells who comes and goes.
//!
//! ```text
//!   Presence ──▶ keeper shell ──▶ Keeper: when to beat, over which revision; evicted? back?
//!      │              │ Renewed
//!      └─ watch ─▶ roster shell ──▶ Roster: who is up; silent in truth, or are we blind?
//! ```
//!
//! **A shared bucket.** The bucket's `max_age` is the longest life of any peer that has ever joined: opening raises it
//! where it is too short and never lowers it, because lowering would expire the entries of slower peers between two of
//! their beats. So peers of any interval keep their entries (P2), and each entry says how long it lives, so that watchers
//! know which silence is too long for whom. The price: where a faster agent dies in a slower one's bucket, `present` and
//! `who` may go on naming it until the bucket's age; watchers are told in time.

mod attach;
mod config;
mod entry;
mod keeper;
mod observer;
mod roster;
mod shell;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;

pub use self::config::{Config, ConfigError, TTL_MULTIPLIER, WATCH_BUFFER_DEFAULT};
pub use self::entry::{Entry, Incarnation, filter, key};
use self::shell::Inner;
use crate::env::{Env, Task};
use crate::transport::{
    BucketError, Fallible, InterruptCause, Outcome, ReadError, Transport, WatchError, WriteError,
};

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An agent is there that was not. Told once for each incarnation at most.
    Up(Entry),
    /// An agent is there no more. Told once for each incarnation at most, and only after its `Up` or its place in the
    /// snapshot.
    Down {
        /// The last entry it wrote that was heard.
        entry: Entry,
        /// How it is known.
        reason: DownReason,
    },
    /// From here on silence says nothing: no agent will be told down by it until [`Event::Seeing`].
    Blind(BlindReason),
    /// Silence can be judged again, and everything missed has been told.
    Seeing,
    /// The reader was slow and this many events were dropped. What was told before is void: these agents are present,
    /// and silence can be judged unless [`Event::Blind`] follows.
    Lagged {
        /// How many.
        missed: u64,
        /// Who is there now.
        present: Vec<Entry>,
    },
}

/// How an agent's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DownReason {
    /// Its entry was deleted: a clean close, or an operator.
    Left,
    /// Its entry aged out, and the server said so (delete markers).
    Expired,
    /// It has not beaten for the life of its entry, although the bucket could be heard all the while.
    Silent,
}

/// Why silence says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlindReason {
    /// The watch itself says that it may miss something.
    Interrupted(InterruptCause),
    /// One's own beats do not come back: the link is deaf or mute, we were paused, or we are evicted.
    Silent,
}

/// What an agent is told about its own entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The entry is gone, or must be presumed gone. The agent tries to come back by itself, as a new incarnation.
    Evicted(EvictReason),
    /// It is back.
    Restored,
}

/// How an agent knows that its entry is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvictReason {
    /// No beat was acknowledged for the life of the entry, or the clocks disagree on how long it was: it must be presumed
    /// to have aged out.
    Unrenewed,
    /// A read found no entry.
    Missing,
    /// A read found the entry of another incarnation of this agent, which this one makes way for.
    Superseded {
        /// Which, if its entry can be read.
        by: Option<Incarnation>,
    },
}

/// A presence was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The bucket could not be created or attached to.
    #[error("presence: bucket: {0}")]
    Bucket(#[from] BucketError),
    /// The bucket or the entry could not be read.
    #[error("presence: {0}")]
    Read(#[from] ReadError),
    /// The first entry was not written. Where that is unknown, deleting it was tried, and otherwise it ages out.
    #[error("presence: first entry: {0}")]
    Write(#[from] WriteError),
    /// Others kept taking the place while it was being taken: more than one opens this agent at once.
    #[error("presence: the entry was contended by other incarnations of this agent")]
    Contended,
}

impl Fallible for OpenError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Write(error) => error.outcome(),
            Self::Bucket(_) | Self::Config(_) | Self::Read(_) | Self::Contended => Outcome::Refused,
        }
    }
}

/// A method of a presence failed. None of them writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresenceError {
    /// The presence is closed.
    #[error("the presence is closed")]
    Closed,
    /// The bucket could not be read.
    #[error("presence: {0}")]
    Read(#[from] ReadError),
    /// The bucket could not be watched.
    #[error("presence: {0}")]
    Watch(#[from] WatchError),
}

impl Fallible for PresenceError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, PresenceError>> + Send + 'a>>;

/// What the handle needs of its surroundings, without naming their type.
trait Api: Send + Sync {
    fn present<'a>(&'a self, agent_id: &'a str) -> Answer<'a, bool>;
    fn who(&self) -> Answer<'_, Vec<Entry>>;
    fn watch(&self) -> Answer<'_, (Vec<Entry>, Events)>;
    fn notices(&self) -> Notices;
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// One agent's presence. Clones share it. It beats until it is closed or the last clone is dropped; then, without a
/// close, its entry ages out.
#[derive(Clone)]
pub struct Presence(Arc<dyn Api>);

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presence")
    }
}

impl Presence {
    /// Joins: creates the bucket or attaches to it, writes the first entry, starts the heartbeat.
    ///
    /// Takes the place of an earlier incarnation of the same agent, which is told that it is superseded.
    ///
    /// # Errors
    /// After an error no heartbeat runs. An entry is left behind only where its write is unknown and could not be undone
    /// either; it ages out.
    pub async fn open<E: Env>(
        env: &E,
        connection: &<E::Transport as Transport>::Connection,
        config: Config,
    ) -> Result<Self, OpenError> {
        let inner = Inner::<E>::open(env, connection, config).await?;
        Ok(Self(Arc::new(inner)))
    }

    /// Whether this agent of one's own project is there: one read, the server's view.
    ///
    /// # Errors
    /// [`PresenceError::Closed`], or the read failed.
    pub async fn present(&self, agent_id: &str) -> Result<bool, PresenceError> {
        self.0.present(agent_id).await
    }

    /// All agents of one's own project that are there, by `agent_id`: a fresh read, the server's view. Entries that
    /// cannot be read are passed over.
    ///
    /// # Errors
    /// [`PresenceError::Closed`], or the read failed; never a part of the answer.
    pub async fn who(&self) -> Result<Vec<Entry>, PresenceError> {
        self.0.who().await
    }

    /// Who comes and goes from now on. What is there already is not told.
    ///
    /// # Errors
    /// [`PresenceError::Closed`], or the bucket could not be watched.
    pub async fn watch(&self) -> Result<Events, PresenceError> {
        self.0.watch().await.map(|(_, events)| events)
    }

    /// Who is there, and who comes and goes from then on, without a gap between the two.
    ///
    /// # Errors
    /// [`PresenceError::Closed`], or the bucket could not be watched.
    pub async fn watch_with_snapshot(&self) -> Result<(Vec<Entry>, Events), PresenceError> {
        self.0.watch().await
    }

    /// What happens to one's own entry from now on.
    pub fn notices(&self) -> Notices {
        self.0.notices()
    }

    /// Leaves: ends the heartbeat, deletes this incarnation's entry and no other's, ends all watches. Takes at most
    /// `heartbeat_interval`; where the deletion fails the entry ages out. Idempotent; afterwards every method returns
    /// [`PresenceError::Closed`].
    pub async fn close(&self) {
        self.0.close().await;
    }
}

/// Who comes and goes. Dropping it ends the watch.
#[derive(Debug)]
pub struct Events {
    events: mpsc::Receiver<Event>,
    _roster: Task,
}

impl Events {
    /// The next event; `None` once the presence or its connection is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

/// What happens to one's own entry; bounded by nothing, as it is told twice an outage.
#[derive(Debug)]
pub struct Notices(mpsc::UnboundedReceiver<Notice>);

impl Notices {
    /// The next notice; `None` once the presence is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Notice> {
        self.0.recv().await
    }
}
