//! One process of an agent: tasks of this program that can be killed together, as the kernel kills a process, and a wall
//! clock that can be wrong.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use squall_core::nats::{NatsEnv, NatsTransport, TokioClock};
use squall_core::{Clock, Env, Instant, Rng, Task, UnixTime};
use tokio::task::AbortHandle;

/// What a process on a real server sees: [`NatsEnv`], with tasks that end when it crashes.
#[derive(Clone, Debug)]
pub struct ProcessEnv {
    inner: NatsEnv,
    clock: HostClock,
    tasks: Arc<Tasks>,
}

/// The clocks of a host: the machine's, but for what was done to its wall clock.
#[derive(Clone, Debug)]
pub struct HostClock {
    inner: TokioClock,
    ahead: Ahead,
}

/// How many nanoseconds the wall clock of a host is ahead. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Ahead(Arc<AtomicI64>);

impl Ahead {
    /// Moves it on, or back.
    pub(super) fn jump(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for HostClock {
    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn wall(&self) -> UnixTime {
        self.inner
            .wall()
            .offset(self.ahead.0.load(Ordering::Relaxed))
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + Send + 'static {
        self.inner.sleep_until(deadline)
    }
}

/// Told with its message when a task panics.
pub(super) type OnPanic = Arc<dyn Fn(String) + Send + Sync>;

/// The tasks of a process.
pub(super) struct Tasks {
    on_panic: OnPanic,
    /// `None` once it is dead.
    alive: Mutex<Option<Vec<AbortHandle>>>,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tasks({})", self.count())
    }
}

impl ProcessEnv {
    pub(super) fn new(seed: u64, ahead: Ahead, on_panic: OnPanic) -> Self {
        let tasks = Tasks {
            on_panic,
            alive: Mutex::new(Some(Vec::new())),
        };
        let inner = NatsEnv::new(seed);
        let clock = HostClock {
            inner: *inner.clock(),
            ahead,
        };
        Self {
            inner,
            clock,
            tasks: Arc::new(tasks),
        }
    }

    pub(super) fn tasks(&self) -> Arc<Tasks> {
        Arc::clone(&self.tasks)
    }
}

impl Tasks {
    fn alive(&self) -> MutexGuard<'_, Option<Vec<AbortHandle>>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends them all, and lets none begin any more.
    pub(super) fn kill(&self) {
        for task in self.alive().take().into_iter().flatten() {
            task.abort();
        }
    }

    /// How many run.
    pub(super) fn count(&self) -> u32 {
        let alive = self.alive();
        let running = alive.iter().flatten().filter(|task| !task.is_finished());
        u32::try_from(running.count()).unwrap_or(u32::MAX)
    }
}

impl Env for ProcessEnv {
    type Clock = HostClock;
    type Transport = NatsTransport;

    fn clock(&self) -> &HostClock {
        &self.clock
    }

    fn transport(&self) -> &NatsTransport {
        self.inner.transport()
    }

    fn rng(&self, purpose: &str) -> Rng {
        self.inner.rng(purpose)
    }

    fn spawn<F>(&self, _name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut alive = self.tasks.alive();
        let Some(alive) = alive.as_mut() else {
            return Task::new(|| {});
        };
        let on_panic = Arc::clone(&self.tasks.on_panic);
        let task = tokio::spawn(async move {
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                on_panic(crate::run::message_of(&*panic));
            }
        });
        alive.retain(|task| !task.is_finished());
        alive.push(task.abort_handle());
        Task::new(move || task.abort())
    }
}
