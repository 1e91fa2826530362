//! Which squall this is: two that say the same mean the same by a seed.
//!
//! The version alone does not say that: what a seed means changes with any line of the code that draws from it or runs
//! it. So a run of each storm is part of it, as its fingerprint.

use std::sync::LazyLock;

use crate::history::value_hash;
use crate::run::simulate;
use crate::stories;

/// The version, and after a `+` a hash of what a few seeds give, as in `0.1.0+9c5d06e1f3a8b742`.
pub fn identity() -> &'static str {
    static IDENTITY: LazyLock<String> = LazyLock::new(|| {
        // On a thread of its own: a runtime on the caller's would take the tasks of a run for its own, and make them
        // wait.
        let meaning = std::thread::scope(|scope| scope.spawn(meaning).join());
        let meaning = meaning.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        format!("{}+{meaning:016x}", env!("CARGO_PKG_VERSION"))
    });
    &IDENTITY
}

fn meaning() -> u64 {
    let storms = stories::all()
        .iter()
        .filter(|scenario| scenario.name.ends_with("/storm"));
    let prints: Vec<u8> = storms
        .flat_map(|scenario| simulate(&scenario.draw(0)).fingerprint().to_le_bytes())
        .collect();
    let names: String = stories::all()
        .iter()
        .map(|scenario| scenario.name)
        .collect();
    value_hash(&prints) ^ value_hash(names.as_bytes())
}
