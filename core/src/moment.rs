//! [`Moment`]: what a machine hears, does and waits for, announced to the clock of its node as it happens.
//!
//! Nobody listens in production: [`Clock::notice`](crate::Clock::notice) does nothing there, and nothing is left of it. The
//! simulated world listens when asked to: a fault that strikes while an answer is under way, or a lease about to end,
//! finds more than one that strikes at random, and what machines never did in all runs was never tested.

use std::fmt::Debug;

/// What happens in a machine just now.
#[derive(Clone, Copy, Debug)]
pub enum Moment<'a> {
    /// It hears of this event.
    Hears(&'a dyn Debug),
    /// Its deadline is reached.
    IsDue,
    /// It wants this effect, which begins now.
    Wants(&'a dyn Debug),
    /// What it heard, or its deadline, has brought it from one [state](crate::Machine::state) to another; at first from
    /// nothing.
    Goes {
        /// From this one.
        from: &'static str,
        /// To this one.
        to: &'static str,
    },
    /// What was asked for failed with this error. Told by whoever asks for machines.
    Fails(&'a dyn Debug),
}
