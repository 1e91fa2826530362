//! How pure decision cores look, and the one driver that runs any of them in any [`Env`](crate::Env).
//!
//! A component gets a machine when a timer can fire between two of its awaits, or when being wrong depends on *when*.
//! The machine decides; its shell does. Think of a chess player by post: the machine reads a letter and writes its
//! move, the shell is the postman, and the clock on the wall is told to both. After quinn-proto's `Connection` and
//! openraft's `Engine`: absolute deadlines, owned by the core, one number out.

use std::any::type_name;
use std::fmt::Debug;
use std::future::Future;
use std::ops::ControlFlow;

use crate::moment::Moment;
use crate::time::{Clock, Instant};

/// A pure decision core: events in, effects out, one deadline.
///
/// The same events at the same instants give the same effects, always.
pub trait Machine {
    /// What the world tells it.
    type Event: Debug;
    /// What it wants done, in order.
    type Effect: Debug;

    /// Takes one event in at `now` and appends what is to be done.
    fn handle(&mut self, now: Instant, event: Self::Event, effects: &mut Vec<Self::Effect>);

    /// When it next wants to be woken, if ever. May lie in the past: then at once.
    fn deadline(&self) -> Option<Instant>;

    /// Called once [`deadline`](Self::deadline) is reached, perhaps late. It must move the deadline, or be done with it:
    /// a machine that leaves it where it was would spin.
    fn on_deadline(&mut self, now: Instant, effects: &mut Vec<Self::Effect>);

    /// What it is at, in a word or two: one of a few, for people and for who counts what was reached.
    fn state(&self) -> &'static str;
}

/// The hands of a machine: where its events come from and how its effects are done.
pub trait Shell<M: Machine>: Send {
    /// Waits for the next event. `None` ends the machine. Cancel-safe: the driver drops this future when the deadline
    /// comes first, and no event may be lost by it.
    fn next(&mut self) -> impl Future<Output = Option<M::Event>> + Send;

    /// Does one effect. Events that answer it come back through [`next`](Self::next). `Break` ends the machine.
    ///
    /// Should not wait for the network: while it does, the machine neither hears events nor sees its deadline.
    fn perform(&mut self, effect: M::Effect) -> impl Future<Output = ControlFlow<()>> + Send;
}

/// Runs a machine until its shell says that it is over.
///
/// What is already there is heard before a deadline is declared: a process that wakes from a pause first reads its
/// mail, and only then concludes that nobody has written.
pub async fn drive<C, M, S>(clock: &C, machine: &mut M, shell: &mut S)
where
    C: Clock,
    M: Machine,
    S: Shell<M>,
{
    let name = type_name::<M>();
    let mut effects = Vec::new();
    let mut from = "";
    loop {
        let to = machine.state();
        if to != from {
            clock.notice(name, Moment::Goes { from, to });
            from = to;
        }
        for effect in effects.drain(..) {
            clock.notice(name, Moment::Wants(&effect));
            if shell.perform(effect).await.is_break() {
                return;
            }
        }
        match machine.deadline() {
            None => match shell.next().await {
                Some(event) => {
                    clock.notice(name, Moment::Hears(&event));
                    machine.handle(clock.now(), event, &mut effects);
                }
                None => return,
            },
            Some(deadline) => {
                tokio::select! {
                    biased;
                    event = shell.next() => match event {
                        Some(event) => {
                            clock.notice(name, Moment::Hears(&event));
                            machine.handle(clock.now(), event, &mut effects);
                        }
                        None => return,
                    },
                    () = clock.sleep_until(deadline) => {
                        clock.notice(name, Moment::IsDue);
                        machine.on_deadline(clock.now(), &mut effects);
                    }
                }
            }
        }
    }
}
