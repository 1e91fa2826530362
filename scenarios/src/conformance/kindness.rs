//! Proof that the suite finds a simulated NATS that is kinder than the real one: kindnesses, planted one by one, and the
//! case that tells each from a real server.

use squall_sim::broker::{Kindness, Version};

use super::generate;
use super::suite::{Seen, in_simulation};
use super::{CLUSTER_CASES, Difference, Model, Program, cases, compare};

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
    planted(
        Kindness::IdsAreRemembered,
        "a duplicate window never ends",
        "streams::a_window_ends_and_is_not_extended",
    ),
    planted(
        Kindness::DeliversForEver,
        "the most deliveries of a message are ignored",
        "consumer_waits::a_message_is_given_up",
    ),
    planted(
        Kindness::ReadersKeepTheirPlace,
        "a reader never loses its place",
        "streams_reads::a_reader_goes_on_after_a_cut_link",
    ),
    planted(
        Kindness::LeaderIsRead,
        "reads are always answered by the leader",
        "cluster::a_follower_that_is_behind_is_read_from",
    ),
    planted(
        Kindness::ConditionsWait,
        "what depends on a write that is under way waits for it",
        "cluster::what_is_under_way_cannot_be_judged",
    ),
    planted(
        Kindness::KickIsPunctual,
        "a connection ends exactly when its token does",
        "logins::the_kick_comes_at_exp_and_the_phase_of_the_login",
    ),
    planted(
        Kindness::OneClock,
        "there is one clock for all",
        "logins::the_servers_clock_is_the_one_that_counts",
    ),
    planted(
        Kindness::CloseJoinsReaders,
        "who closes waits until all has been read",
        "core_messaging::who_closes_waits_for_no_reader",
    ),
];

/// How many of so many generated scripts are played until one tells each kindness from a simulated NATS without it; the
/// real one is as the latter, as far as scripts tell.
pub fn scripts_needed(count: u32) -> Vec<Option<usize>> {
    let scripts = generate::scripts(0..count);
    let version = Version::REFERENCE;
    let seen = |kindness| {
        let model = Model { version, kindness };
        scripts
            .iter()
            .map(move |script| in_simulation(script, model))
    };
    let honest: Vec<Seen> = seen(None).collect();
    KINDNESSES
        .iter()
        .map(|planted| {
            let kind = seen(Some(planted.kindness));
            let first = kind.zip(&honest).position(|(kind, honest)| kind != *honest);
            first.map(|place| place + 1)
        })
        .collect()
}

impl Planted {
    /// What the case finds of it, beside this server.
    ///
    /// # Panics
    /// If there is no such case.
    pub fn differences(&self, program: &Program) -> Vec<Difference> {
        let version = program.version();
        let kindness = Some(self.kindness);
        let (simulated, real) = match self.case.strip_prefix("cluster::") {
            Some(name) => {
                let case = CLUSTER_CASES.iter().find(|case| case.name == name);
                let case = case.unwrap_or_else(|| panic!("no case is called {name}"));
                (case.simulate(1, kindness), case.observe(program))
            }
            None => {
                let all = cases();
                let case = all.iter().find(|case| case.path() == self.case);
                let case = case.unwrap_or_else(|| panic!("no case is called {}", self.case));
                (
                    case.simulate(1, Model { version, kindness }),
                    case.observe(program),
                )
            }
        };
        compare(self.case, version, &simulated, &real)
    }
}
