//! [`Simulation`]: a world and what makes it go.
//!
//! One loop: while tasks are ready, one of them has its turn; when none is, time moves on to whatever is due next. What
//! happens between two wake-ups of a task, parcels on links and timers of clients and servers, costs no wake-up.
//!
//! The loop runs inside a madsim runtime, which is left only to guard it: there the ambient clock stands still and the
//! ambient randomness comes from the seed, should a dependency ask for them.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use madsim::runtime::Runtime;
use squall_core::Rng;

use crate::link::Latency;
use crate::tasks::Turn;
use crate::world::World;

/// A world and what makes it go.
pub struct Simulation {
    world: World,
    guard: Runtime,
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Simulation")
    }
}

impl Simulation {
    /// An empty world. Everything that chance decides in it follows from `seed`.
    pub fn new(seed: u64, latency: Latency) -> Self {
        let ambient = Rng::labelled(seed, "ambient").next_u64();
        Self {
            world: World::new(seed, latency),
            guard: Runtime::with_seed_and_config(ambient, madsim::Config::default()),
        }
    }

    /// The world.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// Lets time pass until this future, the run, is over. Tasks that go on stay where they are: until the next run, or the
    /// end of the simulation.
    ///
    /// # Panics
    /// If a task does, or if everything waits and nothing will ever be due.
    pub fn run<T>(&mut self, run: impl Future<Output = T>) -> T {
        let world = &self.world;
        self.guard.block_on(async { play(world, pin!(run)) })
    }
}

impl Drop for Simulation {
    /// Tasks hold their world, and the world its tasks.
    fn drop(&mut self) {
        self.world.retire();
    }
}

fn play<T>(world: &World, mut run: Pin<&mut impl Future<Output = T>>) -> T {
    let tasks = world.tasks();
    let _in_hand = world.take_up();
    let bell = tasks.bell_of_run();
    let mut turned = None;
    loop {
        while tasks.is_rung()
            && let Some(turn) = tasks.next(turned.take())
        {
            match turn {
                Turn::Run => {
                    let mut context = Context::from_waker(bell.lend());
                    if let Poll::Ready(result) = run.as_mut().poll(&mut context) {
                        return result;
                    }
                }
                Turn::Task(task, mut runnable) => {
                    let mut context = Context::from_waker(runnable.bell.lend());
                    match runnable.work.as_mut().poll(&mut context) {
                        Poll::Pending => turned = Some((task, runnable)),
                        Poll::Ready(()) => tasks.end(task),
                    }
                }
            }
        }
        assert!(
            world.advance(),
            "nothing will ever be due, and every task waits"
        );
    }
}
