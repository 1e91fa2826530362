//! [`Pulse`]: whether the machine and the server kept up while something was looked at.
//!
//! A script takes what has not come 50 ms after it should for what never comes. Where a server is given no time for so
//! long, that is no word about NATS.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use squall_core::transport::{JetStream as _, ReadStreamError, Stream as _};
use squall_core::{Clock as _, Env as _, Instant, Task};

use super::laboratory::{Laboratory as _, Stop, connect};
use super::real::Real;

/// Between two questions.
const BEAT: Duration = Duration::from_millis(10);
/// An answer, or the next question, that is later than this is too late: half of the shortest wait of a script.
const LATE: Duration = Duration::from_millis(25);
/// Of no script.
const STREAM: &str = "pulse";

#[derive(Debug, Default)]
struct Felt {
    /// When the question was asked that has no answer yet.
    asked: Option<Instant>,
    /// When something was too late for the last time.
    late: Option<Instant>,
}

/// Asks a server again and again for what costs it nothing, on the runtime and through the process that scripts share.
pub(super) struct Pulse {
    felt: Arc<Mutex<Felt>>,
    _task: Task,
}

impl Pulse {
    /// That of this server and whatever waits for it here.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub(super) async fn of(lab: &Real) -> Result<Self, Stop> {
        let connection = connect(lab, STREAM).await?;
        let stream = connection.stream(STREAM)?;
        let felt = Arc::new(Mutex::new(Felt::default()));
        let (told, clock) = (Arc::clone(&felt), *lab.clock());
        let (env, _) = lab.reach(STREAM).await?;
        let beats = async move {
            let _connection = connection;
            loop {
                let asked = clock.now();
                lock(&told).asked = Some(asked);
                let answer = stream.info().await;
                lock(&told).asked = None;
                clock.sleep_until(clock.now() + BEAT).await;
                // A server that is stopped or cut off on purpose does not answer at all.
                let is_answered = matches!(answer, Err(ReadStreamError::NoStream));
                let now = clock.now();
                if is_answered && now > asked + BEAT + LATE {
                    lock(&told).late = Some(now);
                }
            }
        };
        Ok(Self {
            felt,
            _task: env.spawn("pulse", beats),
        })
    }

    /// Whether all was in time since then, until now.
    pub(super) fn is_steady(&self, since: Instant, now: Instant) -> bool {
        let felt = lock(&self.felt);
        let is_late = felt.late.is_some_and(|late| late >= since);
        let waits = felt.asked.is_some_and(|asked| now > asked + LATE);
        !is_late && !waits
    }
}

fn lock(felt: &Mutex<Felt>) -> std::sync::MutexGuard<'_, Felt> {
    felt.lock().unwrap_or_else(PoisonError::into_inner)
}
