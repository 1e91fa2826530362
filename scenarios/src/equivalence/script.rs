//! Scripts for a store: what several handles do, at whole seconds, and how long they wait.

use std::fmt;
use std::time::Duration;

use squall_core::Rng;

/// Handles of one store.
pub const HANDLES: usize = 3;
/// Some that a bucket could not hold as they are, among them one too long to be escaped as a whole.
const KEYS: [&str; 6] = ["a", "a.b", "a..b", "é=*", "ab", LONG];
const LONG: &str = match std::str::from_utf8(&[b'!'; 1000]) {
    Ok(key) => key,
    Err(_) => "",
};
/// No keys.
const INVALID: [&str; 4] = ["", "a b", ".a", "a."];
const PATTERNS: [&str; 5] = ["*", "a*", "a.*", "a.b", "é*"];

/// One step. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A put with this life, or one with a token.
    Put {
        /// By which handle.
        by: usize,
        /// Under which key.
        key: &'static str,
        /// Zero for ever.
        ttl: i64,
        /// The token of a fenced put.
        token: Option<u64>,
    },
    /// A deletion.
    Delete {
        /// By which handle.
        by: usize,
        /// Of which key.
        key: &'static str,
    },
    /// A read.
    Get {
        /// By which handle.
        by: usize,
        /// Of which key.
        key: &'static str,
    },
    /// A list.
    Keys {
        /// By which handle.
        by: usize,
        /// Of which keys.
        pattern: &'static str,
    },
    /// A watch begins.
    Watch {
        /// By which handle.
        by: usize,
        /// Of which keys.
        pattern: &'static str,
    },
    /// So many whole seconds pass; shortly before their end it is heard what has been told meanwhile.
    Pass {
        /// How many.
        seconds: u64,
    },
    /// A handle is closed.
    Close {
        /// Which.
        handle: usize,
    },
}

/// Steps that follow from a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script(pub Vec<Step>);

impl Script {
    /// The script of this number.
    pub fn draw(number: u64) -> Self {
        let mut rng = Rng::labelled(number, "state script");
        let steps = rng.between(8, 32);
        Self((0..steps).map(|_| draw(&mut rng)).collect())
    }

    /// How long it takes, but for what each step takes by itself.
    pub fn lasts(&self) -> Duration {
        let seconds = self.0.iter().map(|step| match step {
            Step::Pass { seconds } => *seconds,
            _ => 0,
        });
        Duration::from_secs(seconds.sum())
    }
}

fn draw(rng: &mut Rng) -> Step {
    let by = rng.below(HANDLES as u64) as usize;
    let key = match rng.chance(1, 20) {
        true => INVALID[rng.below(INVALID.len() as u64) as usize],
        false => KEYS[rng.below(KEYS.len() as u64) as usize],
    };
    let pattern = match rng.chance(1, 20) {
        true => "a*b",
        false => PATTERNS[rng.below(PATTERNS.len() as u64) as usize],
    };
    match rng.below(100) {
        0..34 => Step::Put {
            by,
            key,
            ttl: match rng.below(10) {
                0..4 => 0,
                9 => -500,
                seconds => (seconds as i64 - 4) * 1000 + 500,
            },
            token: None,
        },
        34..42 => Step::Put {
            by,
            key,
            ttl: 0,
            token: Some(rng.below(4)),
        },
        42..52 => Step::Delete { by, key },
        52..66 => Step::Get { by, key },
        66..72 => Step::Keys { by, pattern },
        72..80 => Step::Watch { by, pattern },
        80..98 => Step::Pass {
            seconds: rng.between(1, 3),
        },
        _ => Step::Close { handle: by },
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            writeln!(f, "{number:3} {step:?}")?;
        }
        Ok(())
    }
}
