//! Histories drawn at random: clients at a register that really is one, so that they are linearizable by construction.
//!
//! For tests and benches. A client whose call times out comes back as another process, as in Jepsen's tests; what it
//! called may still take effect later.

use std::collections::BTreeMap;

use squall_core::Rng;

use super::jepsen::{Call, Entry, Outcome};

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Clients at work at once.
    pub clients: usize,
    /// Calls in all.
    pub calls: usize,
    /// Values are below this.
    pub values: i64,
    /// Of a hundred calls, so many have an unknown outcome.
    pub unknown_percent: u64,
}

/// A call under way.
struct Pending {
    entry: usize,
    /// What it found, once it took effect.
    found: Option<Outcome>,
    is_lost: bool,
}

struct Register {
    holds: Option<i64>,
}

impl Register {
    fn apply(&mut self, call: Call) -> Outcome {
        match call {
            Call::Read => Outcome::Read(self.holds),
            Call::Write(value) => {
                self.holds = Some(value);
                Outcome::Written
            }
            Call::CompareAndSet(old, new) if self.holds == Some(old) => {
                self.holds = Some(new);
                Outcome::Written
            }
            Call::CompareAndSet(..) => Outcome::Mismatch,
        }
    }
}

impl Sample {
    /// Draws one history.
    pub fn draw(&self, rng: &mut Rng) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(self.calls);
        let mut register = Register { holds: None };
        let mut processes: Vec<u64> = (0..self.clients as u64).collect();
        let mut next_process = self.clients as u64;
        let mut pending: BTreeMap<usize, Pending> = BTreeMap::new();
        // Given up by their clients, and still on their way.
        let mut floating: Vec<Call> = Vec::new();
        let mut line = 0;
        while entries.len() < self.calls || !pending.is_empty() {
            if rng.chance(1, 8) && !floating.is_empty() {
                let which = rng.below(floating.len() as u64) as usize;
                register.apply(floating.swap_remove(which));
            }
            let client = rng.below(self.clients as u64) as usize;
            match pending.get_mut(&client) {
                None if entries.len() < self.calls => {
                    line += 1;
                    pending.insert(
                        client,
                        Pending {
                            entry: entries.len(),
                            found: None,
                            is_lost: rng.chance(self.unknown_percent, 100),
                        },
                    );
                    entries.push(Entry {
                        process: processes[client],
                        call: self.call(rng),
                        outcome: Outcome::Unknown,
                        invoked: line,
                        ended: None,
                    });
                }
                None => {}
                Some(call) if call.found.is_none() && !(call.is_lost && rng.chance(1, 2)) => {
                    call.found = Some(register.apply(entries[call.entry].call));
                }
                Some(call) => {
                    line += 1;
                    let entry = &mut entries[call.entry];
                    entry.ended = Some(line);
                    match call.found {
                        Some(found) if !call.is_lost => entry.outcome = found,
                        found => {
                            if found.is_none() && rng.chance(3, 4) {
                                floating.push(entry.call);
                            }
                            processes[client] = next_process;
                            next_process += 1;
                        }
                    }
                    pending.remove(&client);
                }
            }
        }
        entries
    }

    fn call(&self, rng: &mut Rng) -> Call {
        let mut value = || rng.below(self.values as u64) as i64;
        let (one, other) = (value(), value());
        match rng.below(3) {
            0 => Call::Read,
            1 => Call::Write(one),
            _ => Call::CompareAndSet(one, other),
        }
    }
}

/// Changes one outcome, so that the history may be linearizable no longer. False where there was nothing to change.
pub fn spoil(entries: &mut [Entry], values: i64, rng: &mut Rng) -> bool {
    for _try in 0..100 {
        let Some(which) = (!entries.is_empty()).then(|| rng.below(entries.len() as u64) as usize)
        else {
            return false;
        };
        let other = rng.below(values as u64) as i64;
        let entry = &mut entries[which];
        let spoilt = match entry.outcome {
            Outcome::Read(value) if value != Some(other) => Outcome::Read(Some(other)),
            Outcome::Mismatch => Outcome::Written,
            Outcome::Written if matches!(entry.call, Call::CompareAndSet(..)) => Outcome::Mismatch,
            _ => continue,
        };
        entry.outcome = spoilt;
        return true;
    }
    false
}
