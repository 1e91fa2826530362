//! What is hunted: which scenarios, from which seed on, and how far. Kept with the hunt, so that it can go on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::job::Jobs;
use crate::nearest::nearest;
use crate::stories::{self, Scenario};

/// What is hunted, as it is kept. [`Jobs`] is what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The names of the scenarios, in the order in which they take turns.
    pub scenarios: Vec<String>,
    /// The first seed of each.
    pub first_seed: u64,
    /// How far.
    pub limit: Limit,
    /// Whether it is one of many nights that are kept in the directory above its own.
    pub nightly: bool,
    /// With whom; `None`: on the threads of this machine.
    pub fleet: Option<Fleet>,
}

/// Many machines that hunt together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// Where its servers are.
    pub servers: Vec<String>,
    /// What the hunt is called there.
    pub id: String,
    /// Jobs that are given out at once.
    pub part: u64,
}

impl Settings {
    /// Jobs to be given out at once to the members of a fleet: few enough that all have some to the end, and many
    /// enough that giving them out takes no time beside doing them.
    pub fn part(&self) -> u64 {
        let jobs = match self.limit {
            Limit::Seeds(seeds) => seeds.saturating_mul(self.scenarios.len() as u64),
            Limit::For(_) => u64::MAX,
        };
        (jobs / 64).clamp(1, 64)
    }

    /// Whether these are the settings of a hunt.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), SettingsError> {
        Jobs::try_from(self).map(drop)
    }
}

/// How far a hunt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// So many seeds of each scenario.
    Seeds(u64),
    /// For so long, not counting the time between an end and a resumption.
    For(Duration),
}

/// These settings are those of no hunt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Nothing to run.
    #[error("no scenario is named")]
    NoScenario,
    /// A scenario that does not exist.
    #[error("there is no scenario {name:?}{hint}")]
    Unknown {
        /// Its name.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// Fewer than one.
    #[error("--seeds must be at least 1")]
    NoSeeds,
    /// No time at all.
    #[error("--for must be longer than nothing")]
    NoTime,
    /// Seeds are numbers of 64 bits.
    #[error("--first-seed {first_seed} and --seeds {seeds} go beyond the last seed there is")]
    TooFar {
        /// The first.
        first_seed: u64,
        /// So many from there.
        seeds: u64,
    },
}

impl TryFrom<&Settings> for Jobs {
    type Error = SettingsError;

    fn try_from(settings: &Settings) -> Result<Self, SettingsError> {
        let known = |name: &String| {
            stories::find(name).ok_or_else(|| SettingsError::Unknown {
                name: name.clone(),
                hint: nearest(name, stories::all().iter().map(|scenario| scenario.name)),
            })
        };
        let scenarios: Vec<&'static Scenario> = settings
            .scenarios
            .iter()
            .map(known)
            .collect::<Result<_, _>>()?;
        if scenarios.is_empty() {
            return Err(SettingsError::NoScenario);
        }
        let first_seed = settings.first_seed;
        let seeds = match settings.limit {
            Limit::Seeds(0) => return Err(SettingsError::NoSeeds),
            Limit::For(Duration::ZERO) => return Err(SettingsError::NoTime),
            Limit::Seeds(seeds) => Some(seeds),
            Limit::For(_) => None,
        };
        let last = first_seed.checked_add(seeds.unwrap_or(1) - 1);
        let total = seeds.unwrap_or(1).checked_mul(scenarios.len() as u64);
        match (last, total, seeds) {
            (Some(_), Some(total), _) => Ok(Self::new(scenarios, first_seed, seeds.map(|_| total))),
            (_, _, seeds) => Err(SettingsError::TooFar {
                first_seed,
                seeds: seeds.unwrap_or(1),
            }),
        }
    }
}
