//! What acknowledgements do, and their lack.

use squall_core::transport::Ack;

use super::tests::*;
use super::*;

fn delivered(info: &str) -> String {
    format!("delivered {info} waiting 0 unseen 0")
}

#[test]
fn what_is_not_settled_comes_again_in_order_and_first() {
    let mut bench = Bench::new(3, |config| config.ack_wait = millis(1000));
    bench.begin();
    bench.pull(1, 10, Some(5000));
    bench.pass(millis(500));
    bench.raw_ack("$JS.ACK.S.C.1.2.2.0.0", b"+ACK");
    bench.said();
    bench.pass(millis(501));
    bench.store("s.4");
    let said = [
        "1001: s.1 #4 x2 to 1, 0 unseen",
        "1001: s.3 #5 x2 to 1, 0 unseen",
        "1001: s.4 #6 x1 to 1, 0 unseen",
    ];
    assert_eq!(bench.said(), said);
}

#[test]
fn the_floor_moves_over_what_is_settled_without_a_gap() {
    let mut bench = Bench::new(6, |config| config.ack_wait = millis(1000));
    let all = bench.take(6);
    assert!(bench.ack(&all[2], Ack::Done));
    assert_eq!(bench.info(), delivered("6/6 floor 0/0 pending 5 again 0"));
    assert!(bench.ack(&all[2], Ack::Done), "twice does no harm");
    assert!(bench.raw_ack(&all[0].reply, b"rubbish"));
    assert_eq!(bench.info(), delivered("6/6 floor 0/0 pending 5 again 0"));
    assert!(bench.raw_ack(&all[0].reply, b""));
    assert_eq!(bench.info(), delivered("6/6 floor 1/1 pending 4 again 0"));
    assert!(bench.raw_ack(&all[1].reply, b"+OK"));
    assert_eq!(bench.info(), delivered("6/6 floor 3/3 pending 3 again 0"));
    assert!(bench.ack(&all[5], Ack::Terminate(Some("why".into()))));
    assert_eq!(bench.info(), delivered("6/6 floor 3/3 pending 2 again 0"));
    assert!(!bench.raw_ack("$JS.ACK.S.C.1.99.99.1.0", b"+ACK"));
    assert!(!bench.raw_ack("$JS.ACK.S.C.a.b.c.d.e", b"+ACK"));
}

#[test]
fn not_done_means_again_now_or_later() {
    let mut bench = Bench::new(2, |_| {});
    let both = bench.take(2);
    bench.begin();
    bench.pull(1, 5, Some(5000));
    bench.ack(&both[1], Ack::Again(Some(millis(700))));
    bench.ack(&both[0], Ack::Again(None));
    bench.pass(millis(800));
    let said = [
        "0: s.1 #3 x2 to 1, 0 unseen",
        "700: s.2 #4 x2 to 1, 0 unseen",
    ];
    assert_eq!(bench.said(), said);
}

#[test]
fn in_progress_begins_the_wait_anew() {
    let mut bench = Bench::new(1, |config| config.ack_wait = millis(3000));
    let one = bench.take(1);
    bench.begin();
    bench.pull(1, 5, Some(9000));
    bench.pass(millis(2000));
    bench.ack(&one[0], Ack::InProgress);
    bench.pass(millis(5000));
    assert_eq!(bench.said(), ["5000: s.1 #2 x2 to 1, 0 unseen"]);
}

#[test]
fn an_acknowledgement_of_all_settles_all_before() {
    let mut bench = Bench::new(6, |config| config.ack_policy = AckPolicy::All);
    let all = bench.take(6);
    assert!(bench.ack(&all[3], Ack::Done));
    assert_eq!(bench.info(), delivered("6/6 floor 4/4 pending 2 again 0"));
    assert!(bench.ack(&all[1], Ack::Done));
    assert_eq!(bench.info(), delivered("6/6 floor 4/4 pending 2 again 0"));
    assert!(bench.ack(&all[5], Ack::Again(None)));
    bench.begin();
    bench.pull(1, 2, Some(100));
    assert_eq!(bench.said(), ["0: s.6 #7 x2 to 1, 0 unseen"]);
    assert!(bench.ack(&all[4], Ack::Terminate(None)));
    bench.pass(millis(200));
    assert_eq!(bench.info(), delivered("7/6 floor 5/5 pending 1 again 1"));
}

#[test]
fn without_acknowledgements_what_is_sent_is_settled() {
    let mut bench = Bench::new(6, |config| config.ack_policy = AckPolicy::None);
    assert_eq!(bench.take(6).len(), 6);
    assert_eq!(bench.info(), delivered("6/6 floor 6/6 pending 0 again 0"));
}

#[test]
fn backoff_takes_the_place_of_the_wait() {
    let mut bench = Bench::new(1, |config| {
        config.backoff = vec![millis(200), millis(600), millis(1000)];
        config.max_deliver = NonZeroU32::new(4);
    });
    bench.begin();
    bench.pull(1, 10, Some(4500));
    bench.pass(millis(5000));
    let said = [
        "0: s.1 #1 x1 to 1, 0 unseen",
        "201: s.1 #2 x2 to 1, 0 unseen",
        "802: s.1 #3 x3 to 1, 0 unseen",
        "1802: s.1 #4 x4 to 1, 0 unseen",
        "2802: gave up 1 after 4",
        "4500: 408 Request Timeout to 1",
    ];
    assert_eq!(bench.said(), said);
}

#[test]
fn a_message_is_given_up_and_the_floor_stays_until_another_is_settled() {
    let mut bench = Bench::new(3, |config| {
        config.max_deliver = NonZeroU32::new(2);
        config.ack_wait = millis(1000);
    });
    bench.begin();
    bench.pull(1, 10, Some(9000));
    bench.pass(millis(2600));
    let said = bench.said();
    assert_eq!(
        said[6..],
        [
            "2002: gave up 1 after 2",
            "2002: gave up 2 after 2",
            "2002: gave up 3 after 2"
        ]
    );
    let info = "delivered 6/3 floor 0/0 pending 0 again 3 waiting 1 unseen 0";
    assert_eq!(bench.info(), info);
    bench.store("s.4");
    bench.raw_ack("$JS.ACK.S.C.1.4.7.0.0", b"+ACK");
    let info = "delivered 7/4 floor 7/4 pending 0 again 3 waiting 1 unseen 0";
    assert_eq!(bench.info(), info);
}

/// It takes a pull to find that a message has been delivered often enough, unless that is once.
#[test]
fn without_a_pull_nothing_is_given_up() {
    let mut bench = Bench::new(2, |config| {
        config.max_deliver = NonZeroU32::new(2);
        config.ack_wait = millis(1000);
    });
    bench.take(2);
    bench.pass(millis(1200));
    assert_eq!(bench.take(2).len(), 2);
    bench.pass(millis(1800));
    let info = delivered("4/2 floor 0/0 pending 2 again 2");
    assert_eq!(bench.info(), info);
    bench.begin();
    bench.pull(1, 1, None);
    let said = [
        "0: gave up 1 after 2",
        "0: gave up 2 after 2",
        "0: 404 No Messages to 1",
    ];
    assert_eq!(bench.said(), said);

    for (version, info) in [
        (Version::REFERENCE, "2/2 floor 0/0 pending 0 again 0"),
        (Version::new(2, 10, 26), "2/2 floor 2/2 pending 0 again 2"),
    ] {
        let once = |config: &mut ConsumerConfig| {
            config.max_deliver = NonZeroU32::new(1);
            config.ack_wait = millis(1000);
        };
        let mut bench = Bench::of(version, 2, once);
        bench.pull(1, 2, Some(100));
        bench.pass(millis(1500));
        assert_eq!(bench.info(), delivered(info));
    }
}

#[test]
fn a_message_that_is_deleted_while_pending_is_terminated() {
    let mut bench = Bench::new(6, |_| {});
    bench.take(4);
    bench.remove(1);
    let unseen = |info: &str, unseen| format!("delivered {info} waiting 0 unseen {unseen}");
    assert_eq!(bench.info(), unseen("4/4 floor 1/1 pending 3 again 0", 2));
    bench.remove(3);
    bench.remove(6);
    assert_eq!(bench.info(), unseen("4/4 floor 1/1 pending 2 again 0", 1));
    bench.remove(2);
    assert_eq!(bench.info(), unseen("4/4 floor 3/3 pending 1 again 0", 1));
    assert!(
        bench
            .said()
            .iter()
            .any(|said| said.contains("message was deleted"))
    );
}

#[test]
fn a_purge_moves_the_floor_to_what_is_left() {
    let mut bench = Bench::new(6, |_| {});
    bench.take(4);
    bench.purge(None, 3);
    let info = "delivered 4/4 floor 2/2 pending 2 again 0 waiting 0 unseen 2";
    assert_eq!(bench.info(), info);
    bench.purge(None, 7);
    assert_eq!(bench.info(), delivered("4/6 floor 4/6 pending 0 again 0"));
    bench.store("s.9");
    assert_eq!(bench.take(1)[0].consumer_sequence, 5);
    assert_eq!(bench.said().len(), 0, "nothing is terminated");
}

#[test]
fn a_purge_of_some_subjects_takes_their_pending_ones_along() {
    let mut bench = Bench::new(6, |_| {});
    bench.take(4);
    let unseen = |info: &str, unseen| format!("delivered {info} waiting 0 unseen {unseen}");
    bench.purge(Some("s.2"), 9);
    assert_eq!(bench.info(), unseen("4/4 floor 2/0 pending 3 again 0", 2));
    bench.purge(Some("s.6"), 9);
    assert_eq!(bench.info(), unseen("4/4 floor 2/0 pending 3 again 0", 1));
    bench.purge(Some("s.1"), 9);
    assert_eq!(bench.info(), unseen("4/4 floor 2/2 pending 2 again 0", 1));
}

/// Before 2.15 a purge of what one of two filters matches made the consumer pass over what the other one matches.
#[test]
fn older_servers_lose_what_another_filter_matches_in_a_purge() {
    for (version, left) in [(Version::REFERENCE, 2), (Version::new(2, 14, 6), 0)] {
        let mut bench = Bench::of(version, 0, |config| {
            config.filters = vec!["s.1".into(), "s.2".into()];
        });
        for number in [1, 2, 1, 2] {
            bench.store(&format!("s.{number}"));
        }
        bench.purge(Some("s.2"), 9);
        assert_eq!(bench.take(9).len(), left, "{version}");
    }
}

/// A purge by subject moves the floor's count to the purged delivery, so that the next one that is settled takes the
/// floor over all that is pending before it. Seen on servers of all versions.
#[test]
fn a_purge_by_subject_can_lose_what_is_pending() {
    let mut bench = Bench::new(3, |config| config.ack_wait = millis(1000));
    bench.take(3);
    bench.purge(Some("s.3"), 9);
    bench.store("s.4");
    let fourth = bench.take(1);
    bench.ack(&fourth[0], Ack::Done);
    assert_eq!(bench.info(), delivered("4/4 floor 4/4 pending 2 again 0"));
    bench.begin();
    bench.pull(1, 5, Some(3000));
    bench.pass(millis(3500));
    assert_eq!(bench.said(), ["3000: 408 Request Timeout to 1"]);
    assert_eq!(bench.info(), delivered("4/4 floor 4/4 pending 0 again 0"));
}

#[test]
fn what_a_stream_must_keep_is_told() {
    let mut bench = Bench::new(3, |config| {
        config.filters = vec!["s.1".into(), "s.2".into()];
        config.max_deliver = NonZeroU32::new(1);
        config.ack_wait = millis(100);
    });
    let needs = |bench: &Bench| [1, 2, 3].map(|n| bench.consumer.needs(n, &format!("s.{n}")));
    assert_eq!(needs(&bench), [true, true, false]);
    let both = bench.take(2);
    bench.ack(&both[0], Ack::Done);
    assert_eq!(needs(&bench), [false, true, false]);
    bench.pass(millis(500));
    assert_eq!(needs(&bench), [false, true, false], "given up, and kept");
}

/// The wait is judged by the wall clock, at times of the monotonic one.
#[test]
fn a_wall_clock_that_jumps_ahead_makes_all_due_at_the_next_look() {
    let mut bench = Bench::new(2, |config| config.ack_wait = millis(1000));
    bench.take(1);
    bench.pass(millis(900));
    assert_eq!(bench.take(1).len(), 1);
    bench.begin();
    bench.pull(1, 5, Some(5000));
    bench.now.wall = bench.now.wall + Duration::from_secs(3600);
    bench.pass(millis(500));
    let said = [
        "101: s.1 #3 x2 to 1, 0 unseen",
        "101: s.2 #4 x2 to 1, 0 unseen",
    ];
    assert_eq!(bench.said(), said);
}

#[test]
fn what_goes_while_it_is_pending_leaves_its_place_to_the_next() {
    let mut bench = Bench::new(4, |config| config.max_ack_pending = 3);
    bench.begin();
    bench.pull(1, 4, Some(9000));
    bench.remove(2);
    let said = [
        "0: s.1 #1 x1 to 1, 3 unseen",
        "0: s.2 #2 x1 to 1, 2 unseen",
        "0: s.3 #3 x1 to 1, 1 unseen",
        "0: settled 2",
        "0: terminated AckedDelivery { deliveries: 1, sequence: 2, count: 2 } Unacknowledged message was deleted",
        "0: s.4 #4 x1 to 1, 0 unseen",
    ];
    assert_eq!(bench.said(), said);
}
