//! Three servers as one cluster, in both worlds: what is kept of the probes behind `docs/nats-cluster-facts.md`.

use squall_scenarios::conformance::{CLUSTER_CASES, ClusterCase, Program, Transcript};

/// Elections are drawn: a few draws of each.
const SEEDS: u64 = 8;

fn agrees(name: &str) {
    let case = CLUSTER_CASES.iter().find(|case| case.name == name);
    let case: &ClusterCase = case.expect("it is a case");
    let program = Program::find(None).expect("there is a nats-server");
    let real = case.observe(&program);
    assert!(
        real.wrong.is_empty(),
        "real: {}\n{}",
        case.fact,
        text(&real)
    );
    for seed in 1..=SEEDS {
        let simulated = case.simulate(seed, None);
        assert!(
            simulated.wrong.is_empty() && simulated.lines == real.lines,
            "simulated, seed {seed}: {}\n{}\nreal:\n{}",
            case.fact,
            text(&simulated),
            text(&real)
        );
    }
}

fn text(transcript: &Transcript) -> String {
    [&transcript.lines[..], &transcript.wrong[..]]
        .concat()
        .join("\n")
}

/// A test for each case, so that they run side by side and fail apart.
macro_rules! agree {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            agrees(stringify!($name));
        })*

        #[test]
        fn every_case_is_run() {
            let names: Vec<&str> = CLUSTER_CASES.iter().map(|case| case.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

agree! {
    a_killed_leader_is_followed_by_another_in_seconds
    a_leader_that_steps_down_is_followed_at_once
    a_frozen_leader_is_silence
    a_leader_without_followers_keeps_what_it_was_told
    an_isolated_leader_acknowledges_nothing_and_forgets_it
    a_single_copy_is_gone_while_its_server_is
    a_follower_that_is_behind_is_read_from
    a_client_moves_to_another_server_with_what_it_hears
    watches_outlive_any_one_server
    an_expiry_is_told_once
    markers_wait_for_a_leader
    what_was_acknowledged_outlives_the_death_of_all
    removals_are_agreed_upon
    a_single_copy_is_purged_from_anywhere
    a_core_publish_is_stored_by_the_leader
    a_core_publish_is_stored_in_a_single_copy
    writers_at_once_are_stored_or_told_of_another
    what_is_under_way_cannot_be_judged
    what_is_stuck_is_refused_or_unknown
    a_leader_that_is_cut_off_describes_what_it_had
    a_leader_that_is_thawed_describes_what_it_had
    one_that_cannot_win_leaves_nobody_to_lead
    a_scan_does_not_take_a_part_for_the_whole
    a_consumer_goes_on_where_its_server_is_cut_off
    a_watch_whose_server_is_cut_off_says_so
}
