//! Proof that the suite finds a simulated NATS that is kinder than the real one: kindnesses, planted one by one, and the
//! case that tells each from a real server.

use squall_sim::broker::Kindness;

use super::{Case, Difference, Model, Program, cases, compare};

/// A kindness, and what finds it.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// What is planted.
    pub kindness: Kindness,
    /// In words.
    pub what: &'static str,
    /// The case that must differ, as `group::name`.
    pub case: &'static str,
}

const fn planted(kindness: Kindness, what: &'static str, case: &'static str) -> Planted {
    Planted {
        kindness,
        what,
        case,
    }
}

/// All that are planted.
pub const KINDNESSES: &[Planted] = &[
    planted(
        Kindness::ExpiryIsTold,
        "an expiry is told to watches, whatever the settings say",
        "expiry::what_expires_unmarked_tells_nobody",
    ),
    planted(
        Kindness::ExpiryIsPunctual,
        "what expires goes at that very moment",
        "expiry::expiry_is_late_by_so_much",
    ),
    planted(
        Kindness::MarkersOutliveAge,
        "a marker lives as long as was asked for, though `max_age` be shorter",
        "expiry::a_marker_goes_in_silence",
    ),
    planted(
        Kindness::MemorySurvives,
        "a bucket in memory survives a restart",
        "outages::a_bucket_in_memory_vanishes_with_a_restart",
    ),
    planted(
        Kindness::RevisionsPerKey,
        "revisions count the records of a key",
        "kv::failed_operations_take_no_revision",
    ),
    planted(
        Kindness::GroupsTakeTurns,
        "the members of a queue group take turns",
        "core_messaging::members_of_a_group_are_drawn",
    ),
    planted(
        Kindness::ReconnectAtOnce,
        "a client is back as soon as its server is",
        "connection::a_client_waits_for_its_next_attempt",
    ),
    planted(
        Kindness::NoGhostWrites,
        "what was given up is not written later",
        "outages::writes_in_an_outage_are_applied_after_it",
    ),
];

impl Planted {
    /// The case that must differ.
    pub fn case(&self) -> Option<Case> {
        cases().into_iter().find(|case| case.path() == self.case)
    }

    /// What the case finds of it, beside this server.
    pub fn differences(&self, program: &Program) -> Vec<Difference> {
        let Some(case) = self.case() else {
            return Vec::new();
        };
        let version = program.version();
        let model = Model {
            version,
            kindness: Some(self.kindness),
        };
        let (simulated, real) = (case.simulate(1, model), case.observe(program));
        compare(self.case, version, &simulated, &real)
    }
}
