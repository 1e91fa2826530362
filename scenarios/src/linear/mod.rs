//! Is there an order of the operations on a register that explains all their outcomes? A linearizability checker.
//!
//! A history is *linearizable* (Herlihy and Wing, 1990) if each operation can be given one moment between its invocation
//! and its end at which it takes effect, so that all outcomes are those of a register that does one thing after the
//! other. An operation of unknown outcome may take effect at any moment from its invocation on, or never. Registers are
//! independent of each other, so each key is judged alone.
//!
//! ```text
//!   jepsen.rs   a log of Jepsen's register tests ─┐
//!   sample.rs   histories drawn at random        ─┼▶ model.rs ─▶ timeline.rs ─▶ search.rs ─▶ explain.rs
//!   invariants/k1_search.rs  calls on a bucket   ─┘  operations    events         order?       why not
//! ```
//!
//! The search is exhaustive: *not linearizable* and *linearizable* are proofs. Where the limit of steps comes first it says
//! neither. Steps are counted, not timed, so a history gives the same verdict on every machine.

mod explain;
pub mod jepsen;
pub mod model;
pub mod sample;
mod search;
mod seen;
mod timeline;

use std::ops::ControlFlow;

pub use self::explain::Unexplained;
use self::model::{Operation, Register};
pub use self::search::Stuck;
use self::search::{Found, Search};
use self::timeline::Timeline;

/// Steps that a search may take if nothing else is said: some seconds, and less than a gigabyte.
pub const STEPS_MAX: u64 = 5_000_000;

/// Between two looks at whether to go on.
const STEPS_BETWEEN_LOOKS: u64 = 1 << 14;

/// What can be said of the operations on one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order explains all outcomes.
    Linearizable,
    /// None does.
    NotLinearizable(Stuck),
    /// The search was given up.
    Inconclusive(Progress),
}

/// How far a search has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Invocations and ends that the order it tries just now explains.
    pub explained: usize,
    /// Of so many.
    pub of: usize,
    /// Operations put somewhere so far.
    pub steps: u64,
}

/// Judges the operations on one register. `look` is told now and then how far the search has come, and may end it.
pub fn check(
    register: Register,
    operations: &[Operation],
    steps_max: u64,
    look: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Verdict {
    let line = Timeline::new(register, operations);
    let mut search = Search::new(&line, steps_max);
    loop {
        match search.run(STEPS_BETWEEN_LOOKS) {
            Found::Order => return Verdict::Linearizable,
            Found::NoOrder(stuck) => return Verdict::NotLinearizable(stuck),
            Found::GivenUp => {
                let (explained, of) = search.progress();
                let steps = search.steps();
                let progress = Progress {
                    explained,
                    of,
                    steps,
                };
                if steps >= steps_max || look(progress).is_break() {
                    return Verdict::Inconclusive(progress);
                }
            }
        }
    }
}

/// Judges the operations on one register, within the usual limit.
pub fn judge(register: Register, operations: &[Operation]) -> Verdict {
    check(register, operations, STEPS_MAX, &mut |_| {
        ControlFlow::Continue(())
    })
}

/// The fewest operations that no order explains, where none explains all of them. `look` may end the search for fewer.
pub fn explain(
    register: Register,
    operations: &[Operation],
    stuck: Stuck,
    look: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Unexplained {
    explain::smallest(register, operations, stuck, look)
}

#[cfg(test)]
mod tests;
