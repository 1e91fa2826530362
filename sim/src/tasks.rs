//! The tasks of a world: who is ready to run, who stands still, and who runs next.
//!
//! They are the world's own, not the runtime's, for two reasons. The runtime's wake-up was measured at 85 ns, and 170 ns
//! where a timer fires, five of them a heartbeat: more than everything else that a heartbeat needs together. And who of
//! several ready tasks runs next decides which interleavings a seed explores: that choice is made in one place,
//! [`Tasks::pick`], from a stream of its own. Mostly any of them may; some runs are by [`Priorities`] instead.
//!
//! A task is ready from its wake-up until its next turn, however often it is woken. While its process stands still it keeps its
//! turn and takes it afterwards.

mod priorities;

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::LocalKey;

use slotmap::{Key as _, SlotMap, new_key_type};
use squall_core::Rng;

pub(crate) use self::priorities::Priorities;
use crate::held::{Hand, Held, Holdable, TakenUp};
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
    state: Held<State>,
    /// Somebody may wait for a turn.
    is_rung: AtomicBool,
}

pub(crate) struct State {
    tasks: SlotMap<TaskKey, Slot>,
    ready: Vec<Ready>,
    /// Had their turn while their process stood still.
    held: Vec<Ready>,
    /// Who stands still.
    frozen: Processes,
    dead: Processes,
    /// Ended by somebody else; dropped between two turns, when nothing is locked and nobody runs.
    ended: Vec<Runnable>,
    scheduling: Rng,
    priorities: Option<Box<Priorities>>,
}

/// Some of the processes, by their numbers.
#[derive(Default)]
struct Processes(Vec<bool>);

impl Processes {
    fn holds(&self, process: ProcessKey) -> bool {
        self.0.get(process.number()).is_some_and(|is| *is)
    }

    fn set(&mut self, process: ProcessKey, is: bool) {
        let number = process.number();
        if self.0.len() <= number {
            self.0.resize(number + 1, false);
        }
        self.0[number] = is;
    }
}

thread_local! {
    static HAND: Hand<State> = const { RefCell::new(None) };
}

impl Holdable for State {
    fn hand() -> &'static LocalKey<Hand<Self>> {
        &HAND
    }
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
        // Not at once, as everything of a world happens on one thread.
        if !self.is_ready.load(Ordering::Relaxed) {
            self.is_ready.store(true, Ordering::Relaxed);
            self.tasks.ring(|state| state.ready.push(self.who));
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
            frozen: Processes::default(),
            dead: Processes::default(),
            ended: Vec::new(),
            scheduling,
            priorities: None,
        };
        Self(Arc::new(Shared {
            state: Held::new(state),
            is_rung: AtomicBool::new(false),
        }))
    }

    /// From now on tasks run by these.
    pub(crate) fn prioritise(&self, priorities: Priorities) {
        let priorities = Some(Box::new(priorities));
        self.0.state.with(|state| state.priorities = priorities);
    }

    /// For the time of a run.
    pub(crate) fn take_up(&self) -> TakenUp<'_, State> {
        self.0.state.take_up()
    }

    /// Does what needs attention before time goes on.
    fn ring<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        self.0.is_rung.store(true, Ordering::Relaxed);
        self.0.state.with(change)
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

    /// Adds a task, ready to run. Of a process that is dead none ever has a turn, whatever its tasks leave behind when they
    /// are dropped.
    pub(crate) fn spawn(
        &self,
        process: ProcessKey,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> TaskKey {
        if self.0.state.with(|state| state.dead.holds(process)) {
            return TaskKey::null();
        }
        let work: Work = Box::pin(work);
        self.ring(|state| {
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
        })
    }

    /// Ends a task, if it has not ended; at its next await, if it is its turn.
    pub(crate) fn end(&self, task: TaskKey) {
        self.ring(|state| {
            let slot = state.tasks.remove(task);
            let ended = slot.and_then(|slot| slot.runnable);
            state.ended.extend(ended);
        });
    }

    /// Ends all tasks of a process, for good.
    pub(crate) fn end_all(&self, process: ProcessKey) {
        self.ring(
            |State {
                 tasks, ended, dead, ..
             }| {
                dead.set(process, true);
                tasks.retain(|_, slot| {
                    let is_others = slot.process != process;
                    if !is_others {
                        ended.extend(slot.runnable.take());
                    }
                    is_others
                });
            },
        );
    }

    /// Lets the tasks of a process have their turns, or not.
    pub(crate) fn freeze(&self, process: ProcessKey, is_frozen: bool) {
        self.ring(|state| {
            state.frozen.set(process, is_frozen);
            if !is_frozen {
                let State { held, ready, .. } = state;
                ready.extend(held.extract_if(.., |held| held.process == Some(process)));
            }
        });
    }

    /// Tasks alive in a process.
    pub(crate) fn count(&self, process: ProcessKey) -> u32 {
        self.0.state.with(|state| {
            let alive = state.tasks.values().filter(|slot| slot.process == process);
            alive.count() as u32
        })
    }

    /// Takes a task back whose turn is over, and says who is next; asked only while [`is_rung`](Self::is_rung). What was
    /// ended meanwhile is dropped here.
    pub(crate) fn next(&self, turned: Option<(TaskKey, Runnable)>) -> Option<Turn> {
        let mut next = self.0.state.with(|state| {
            if let Some((task, runnable)) = turned {
                state.take_back(task, runnable);
            }
            state.next(&self.0.is_rung)
        });
        while let Next::Drop(ended) = next {
            drop(ended);
            next = self.0.state.with(|state| state.next(&self.0.is_rung));
        }
        match next {
            Next::Turn(turn) => Some(turn),
            Next::Nobody | Next::Drop(_) => None,
        }
    }

    /// Whether somebody waits for a turn, or is to be dropped.
    pub(crate) fn is_rung(&self) -> bool {
        self.0.is_rung.load(Ordering::Relaxed)
    }

    /// Ends every task.
    pub(crate) fn clear(&self) {
        loop {
            let ended = self.0.state.with(|state| {
                let mut ended = std::mem::take(&mut state.ended);
                ended.extend(state.tasks.drain().filter_map(|(_, slot)| slot.runnable));
                state.ready.clear();
                state.held.clear();
                ended
            });
            if ended.is_empty() {
                return;
            }
        }
    }
}

/// What is next.
enum Next {
    Turn(Turn),
    Nobody,
    /// These have ended, and may do anything when they are dropped.
    Drop(Vec<Runnable>),
}

impl State {
    fn take_back(&mut self, task: TaskKey, runnable: Runnable) {
        match self.tasks.get_mut(task) {
            Some(slot) => slot.runnable = Some(runnable),
            None => self.ended.push(runnable),
        }
    }

    fn next(&mut self, is_rung: &AtomicBool) -> Next {
        loop {
            if !self.ended.is_empty() {
                return Next::Drop(std::mem::take(&mut self.ended));
            }
            let next = self.pick();
            is_rung.store(!self.ready.is_empty(), Ordering::Relaxed);
            let Some(next) = next else {
                return Next::Nobody;
            };
            if next
                .process
                .is_some_and(|process| self.frozen.holds(process))
            {
                self.held.push(next);
                continue;
            }
            if next.task.is_null() {
                return Next::Turn(Turn::Run);
            }
            // Otherwise it has ended since it was woken.
            if let Some(slot) = self.tasks.get_mut(next.task)
                && let Some(runnable) = slot.runnable.take()
            {
                return Next::Turn(Turn::Task(next.task, runnable));
            }
        }
    }

    /// Of all that are ready, whichever: every order that a real scheduler might choose is possible.
    fn pick(&mut self) -> Option<Ready> {
        let place = match self.ready.len() {
            0 => return None,
            1 => 0,
            several => match &mut self.priorities {
                None => self.scheduling.below(several as u64) as usize,
                Some(priorities) => priorities.pick(self.ready.iter().map(|ready| ready.task)),
            },
        };
        Some(self.ready.swap_remove(place))
    }
}
