//! What the members of a fleet tell each other, and where.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use squall_reports::sweep::Sweep;

use super::FleetError;
use crate::hunt::Settings;

/// The stream of announcements, of which it holds the last.
pub const HUNTS: &str = "squall-hunts";
/// The subject of announcements.
pub(super) const HUNTS_SUBJECT: &str = "squall.hunts";
/// The stream of what was found, of all hunts.
pub const FOUND: &str = "squall-found";
/// All its subjects.
pub(super) const FOUND_SUBJECTS: &str = "squall.found.>";
/// The one consumer of the work queue.
pub(super) const WORKERS: &str = "workers";

/// The stream of the parts of a hunt that are to be done.
pub(super) fn work(id: &str) -> String {
    format!("squall-work-{id}")
}

/// Its subject.
pub(super) fn work_subject(id: &str) -> String {
    format!("squall.work.{id}")
}

/// The stream of the parts of a hunt that are done.
pub(super) fn done(id: &str) -> String {
    format!("squall-done-{id}")
}

/// Its subject.
pub(super) fn done_subject(id: &str) -> String {
    format!("squall.done.{id}")
}

/// Where a finding goes.
pub(super) fn found_subject(id: &str, found: &Found) -> String {
    let scenario = found.scenario.replace('/', "-");
    format!("squall.found.{id}.{scenario}.{}", found.seed)
}

/// The hunt that is under way, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Its name in this fleet.
    pub id: String,
    /// The squall of its coordinator, as [`identity`](fn@crate::hunt::identity) says it.
    pub squall: String,
    /// What is hunted; `None` once it is over.
    pub settings: Option<Settings>,
}

/// Jobs that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The number of the first.
    pub first: u64,
    /// How many.
    pub jobs: u64,
}

/// A part is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Which.
    pub part: Part,
    /// By whom.
    pub worker: String,
    /// What came out.
    pub sweep: Sweep,
}

/// A run that did not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Of which scenario.
    pub scenario: String,
    /// Of which seed.
    pub seed: u64,
    /// What was violated, or what could not be decided; one line each.
    pub told: Vec<String>,
    /// The command that shows it again.
    pub reproduce: String,
    /// Its plan.
    pub plan: String,
}

pub(super) fn written(message: &impl Serialize, what: &'static str) -> Result<Vec<u8>, FleetError> {
    serde_json::to_vec(message).map_err(|error| unreadable(what, &error))
}

pub(super) fn read<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, FleetError> {
    serde_json::from_slice(bytes).map_err(|error| unreadable(what, &error))
}

fn unreadable(what: &'static str, error: &serde_json::Error) -> FleetError {
    let reason = error.to_string();
    FleetError::Unreadable { what, reason }
}
