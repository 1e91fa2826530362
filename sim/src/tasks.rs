//! The tasks of a world: who is ready to run, who stands still, and who runs next.
//!
//! They are the world's own, not the runtime's, for two reasons. The runtime's wake-up was measured at 85 ns, and 170 ns
//! where a timer fires, five of them a heartbeat: more than everything else that a heartbeat needs together. And who of
//! several ready tasks runs next decides which interleavings a seed explores: that choice is made in one place,
//! [`Tasks::pick`], from a stream of its own.
//!
//! A task is ready from its wake-up until its next turn, however often it is woken. While its process stands still it keeps its
//! turn and takes it afterwards.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use slotmap::{Key as _, SlotMap, new_key_type};
use squall_core::Rng;

use crate::world::ProcessKey;

new_key_type! {
    /// A task of a world. The null key stands for the run itself, which is no process's.
    pub(crate) struct TaskKey;
}

/// What a task does.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// All tasks of a world, shared with what wakes them.
#[derive(Clone)]
pub(crate) struct Tasks(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Somebody may wait for a turn: to be asked without the lock.
    is_rung: AtomicBool,
}

struct State {
    tasks: SlotMap<TaskKey, Slot>,
    ready: Vec<Ready>,
    /// Had their turn while their process stood still.
    held: Vec<Ready>,
    /// Whether a process stands still, by its number.
    frozen: Vec<bool>,
    /// Ended by somebody else; dropped between two turns, when nothing is locked and nobody runs.
    ended: Vec<Runnable>,
    scheduling: Rng,
}

struct Slot {
    process: ProcessKey,
    /// `None` during its turn.
    runnable: Option<Runnable>,
}

/// A task for the time of its turn.
pub(crate) struct Runnable {
    pub(crate) work: Work,
    pub(crate) bell: Bell,
}

#[derive(Clone, Copy)]
struct Ready {
    task: TaskKey,
    process: Option<ProcessKey>,
}

/// What wakes one task: made once, and lent to each of its turns.
pub(crate) struct Bell {
    ringer: Arc<Ringer>,
    waker: Waker,
}

struct Ringer {
    tasks: Tasks,
    who: Ready,
    /// It waits for its turn already.
    is_ready: AtomicBool,
}

/// Whose turn it is.
pub(crate) enum Turn {
    /// The run's.
    Run,
    /// A task's.
    Task(TaskKey, Runnable),
}

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::Relaxed) {
            self.tasks.lock_and_ring().ready.push(self.who);
        }
    }
}

impl Bell {
    fn new(tasks: &Tasks, who: Ready) -> Self {
        let ringer = Arc::new(Ringer {
            tasks: tasks.clone(),
            who,
            is_ready: AtomicBool::new(false),
        });
        Self {
            waker: Arc::clone(&ringer).into(),
            ringer,
        }
    }

    /// For the turn that begins now: a wake-up during it asks for another.
    pub(crate) fn lend(&self) -> &Waker {
        self.ringer.is_ready.store(false, Ordering::Relaxed);
        &self.waker
    }
}

impl Tasks {
    pub(crate) fn new(scheduling: Rng) -> Self {
        let state = State {
            tasks: SlotMap::with_key(),
            ready: Vec::new(),
            held: Vec::new(),
            frozen: Vec::new(),
            ended: Vec::new(),
            scheduling,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            is_rung: AtomicBool::new(false),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what needs attention before time goes on.
    fn lock_and_ring(&self) -> MutexGuard<'_, State> {
        self.0.is_rung.store(true, Ordering::Relaxed);
        self.lock()
    }

    /// The bell of the run itself.
    pub(crate) fn bell_of_run(&self) -> Bell {
        let bell = Bell::new(
            self,
            Ready {
                task: TaskKey::null(),
                process: None,
            },
        );
        bell.waker.wake_by_ref();
        bell
    }

    /// Adds a task, ready to run.
    pub(crate) fn spawn(
        &self,
        process: ProcessKey,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> TaskKey {
        let work: Work = Box::pin(work);
        let mut state = self.lock_and_ring();
        let task = state.tasks.insert(Slot {
            process,
            runnable: None,
        });
        let who = Ready {
            task,
            process: Some(process),
        };
        let bell = Bell::new(self, who);
        bell.ringer.is_ready.store(true, Ordering::Relaxed);
        state.ready.push(who);
        state.tasks[task].runnable = Some(Runnable { work, bell });
        task
    }

    /// Ends a task, if it has not ended; at its next await, if it is its turn.
    pub(crate) fn end(&self, task: TaskKey) {
        let mut state = self.lock_and_ring();
        let slot = state.tasks.remove(task);
        let ended = slot.and_then(|slot| slot.runnable);
        state.ended.extend(ended);
    }

    /// Ends all tasks of a process.
    pub(crate) fn end_all(&self, process: ProcessKey) {
        let mut state = self.lock_and_ring();
        let State { tasks, ended, .. } = &mut *state;
        tasks.retain(|_, slot| {
            let is_others = slot.process != process;
            if !is_others {
                ended.extend(slot.runnable.take());
            }
            is_others
        });
    }

    /// Lets the tasks of a process have their turns, or not.
    pub(crate) fn freeze(&self, process: ProcessKey, is_frozen: bool) {
        let mut state = self.lock_and_ring();
        let number = process.number();
        if state.frozen.len() <= number {
            state.frozen.resize(number + 1, false);
        }
        state.frozen[number] = is_frozen;
        if !is_frozen {
            let State { held, ready, .. } = &mut *state;
            ready.extend(held.extract_if(.., |held| held.process == Some(process)));
        }
    }

    /// Tasks alive in a process.
    pub(crate) fn count(&self, process: ProcessKey) -> u32 {
        let state = self.lock();
        let alive = state.tasks.values().filter(|slot| slot.process == process);
        alive.count() as u32
    }

    /// Takes a task back whose turn is over, and says who is next; asked only while [`is_rung`](Self::is_rung). What was
    /// ended meanwhile is dropped here.
    pub(crate) fn next(&self, turned: Option<(TaskKey, Runnable)>) -> Option<Turn> {
        let mut state = self.lock();
        if let Some((task, runnable)) = turned {
            match state.tasks.get_mut(task) {
                Some(slot) => slot.runnable = Some(runnable),
                None => state.ended.push(runnable),
            }
        }
        loop {
            if !state.ended.is_empty() {
                let ended = std::mem::take(&mut state.ended);
                drop(state);
                drop(ended);
                state = self.lock();
                continue;
            }
            let next = state.pick();
            self.0
                .is_rung
                .store(!state.ready.is_empty(), Ordering::Relaxed);
            let next = next?;
            if next.process.is_some_and(|process| state.is_frozen(process)) {
                state.held.push(next);
                continue;
            }
            if next.task.is_null() {
                return Some(Turn::Run);
            }
            // Otherwise it has ended since it was woken.
            if let Some(slot) = state.tasks.get_mut(next.task)
                && let Some(runnable) = slot.runnable.take()
            {
                return Some(Turn::Task(next.task, runnable));
            }
        }
    }

    /// Whether somebody waits for a turn, or is to be dropped.
    pub(crate) fn is_rung(&self) -> bool {
        self.0.is_rung.load(Ordering::Relaxed)
    }

    /// Ends every task.
    pub(crate) fn clear(&self) {
        loop {
            let mut state = self.lock();
            let mut ended = std::mem::take(&mut state.ended);
            ended.extend(state.tasks.drain().filter_map(|(_, slot)| slot.runnable));
            state.ready.clear();
            state.held.clear();
            drop(state);
            if ended.is_empty() {
                return;
            }
        }
    }
}

impl State {
    /// Of all that are ready, whichever: every order that a real scheduler might choose is possible.
    fn pick(&mut self) -> Option<Ready> {
        let place = match self.ready.len() {
            0 => return None,
            1 => 0,
            several => self.scheduling.below(several as u64) as usize,
        };
        Some(self.ready.swap_remove(place))
    }

    fn is_frozen(&self, process: ProcessKey) -> bool {
        self.frozen.get(process.number()).is_some_and(|is| *is)
    }
}
