//! Planted flaws: what the search for each came to, so that a report shows what the harness finds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the search for one planted flaw came to, over several ranges of seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Specimen {
    /// Its name.
    pub name: String,
    /// How deep it hides, from 0 to 4.
    pub level: u8,
    /// The invariant that told it first; none where it was missed.
    pub code: Option<String>,
    /// Seeds until it was found: the median of the ranges. None where most of them missed it.
    pub seeds: Option<u64>,
    /// Time of one processor until it was found: the median of the ranges.
    pub worked: Duration,
    /// Faults left in its shrunk plans: the most of all. None where nothing was shrunk.
    pub faults_left: Option<u64>,
    /// The longest that shrinking one took, in time of one processor.
    pub shrinking: Duration,
    /// The same plans without the flaw all pass.
    pub twin_passes: bool,
    /// All of that is within what its level allows.
    pub holds: bool,
    /// Where it was looked for in storms, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storms: Option<Storms>,
}

/// Runs of the storms of its room until a flaw was found: medians of the ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storms {
    /// A range has so many. Where most ranges did not find it, there is no median.
    pub runs_max: u64,
    /// As seeds come.
    pub plain: Option<u64>,
    /// Half of the runs steered.
    pub steered: Option<u64>,
}

/// What the columns of a table of specimens are.
pub const COLUMNS: [&str; 10] = [
    "specimen",
    "level",
    "code",
    "seeds",
    "to find",
    "faults left",
    "to shrink",
    "right twin",
    "in storms",
    "steered",
];

impl Specimen {
    /// Its row in a table.
    pub fn row(&self) -> [String; 10] {
        let or_missed =
            |number: Option<u64>| number.map_or_else(|| "missed".to_owned(), |n| n.to_string());
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let storms = |of: fn(&Storms) -> Option<u64>| {
            self.storms.map_or_else(String::new, |storms| {
                let over = || format!("over {}", storms.runs_max);
                of(&storms).map_or_else(over, |runs| runs.to_string())
            })
        };
        let twin = if self.twin_passes { "passes" } else { "FAILS" };
        [
            self.name.clone(),
            self.level.to_string(),
            self.code.clone().unwrap_or_else(|| "-".to_owned()),
            or_missed(self.seeds),
            seconds(self.worked),
            or_missed(self.faults_left),
            seconds(self.shrinking),
            twin.to_owned(),
            storms(|storms| storms.plain),
            storms(|storms| storms.steered),
        ]
    }
}
