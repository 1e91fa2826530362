//! Restarts of the process, and consumers without clients.

use squall_core::transport::Ack;

use super::tests::*;
use super::*;

#[test]
fn acknowledgements_of_the_last_moment_are_lost_by_a_kill() {
    for (wait, is_orderly, floor) in [(50, false, 1), (110, false, 2), (50, true, 2)] {
        let mut bench = Bench::new(3, |_| {});
        let all = bench.take(3);
        bench.pass(millis(400));
        for one in &all[..2] {
            bench.ack(one, Ack::Done);
            bench.pass(millis(1));
        }
        bench.pass(millis(wait));
        bench.restart(is_orderly, millis(20));
        let pending = 3 - floor;
        let info = format!(
            "delivered 3/3 floor {floor}/{floor} pending {pending} again 0 waiting 0 unseen 0"
        );
        assert_eq!(bench.info(), info, "{wait} ms, orderly: {is_orderly}");
    }
}

/// Stored at 0.3 s of a second, delivered 3.3 s later, acknowledged by nobody: what counts after the restart is the
/// beginning of the second in which it was stored.
#[test]
fn after_a_restart_the_wait_counts_from_the_time_of_the_message() {
    for (ack_wait, first) in [(2, 4000), (5, 4700), (8, 7700)] {
        let mut bench = Bench::new(1, |config| config.ack_wait = Duration::from_secs(ack_wait));
        bench.begin();
        bench.pass(millis(3300));
        bench.take(1);
        bench.pass(millis(500));
        bench.restart(false, millis(200));
        bench.pull(1, 5, Some(30_000));
        bench.pass(millis(9000));
        let said = bench.said();
        assert_eq!(said[0], format!("{first}: s.1 #2 x2 to 1, 0 unseen"));
    }
}

#[test]
fn an_order_to_deliver_again_now_is_forgotten_one_for_later_is_kept() {
    let mut bench = Bench::new(2, |_| {});
    let both = bench.take(2);
    bench.begin();
    bench.ack(&both[0], Ack::Again(None));
    bench.ack(&both[1], Ack::Again(Some(millis(3000))));
    bench.pass(millis(300));
    bench.restart(false, millis(20));
    bench.pull(1, 5, Some(5000));
    bench.pass(millis(5000));
    // Of 3.3 s, in whole seconds.
    assert_eq!(bench.said()[0], "2700: s.2 #3 x2 to 1, 0 unseen");
}

#[test]
fn redeliveries_are_counted_over_a_restart() {
    let mut bench = Bench::new(1, |config| {
        config.ack_wait = millis(1000);
        config.max_deliver = NonZeroU32::new(3);
    });
    bench.pull(1, 4, Some(1500));
    bench.pass(millis(1800));
    bench.restart(false, millis(20));
    bench.begin();
    bench.pull(1, 4, Some(5000));
    bench.pass(millis(2000));
    let said = ["0: s.1 #3 x3 to 1, 0 unseen", "1001: gave up 1 after 3"];
    assert_eq!(bench.said(), said);
}

#[test]
fn what_is_in_memory_ends_with_the_process() {
    let mut bench = Bench::new(1, |config| config.memory_storage = true);
    assert!(!bench.consumer.stop(true, &mut Rng::new(1)));
}

/// Seconds until a consumer whose threshold is one second is deleted.
fn life(version: Version, change: fn(&mut ConsumerConfig), act: impl FnOnce(&mut Bench)) -> f64 {
    let mut bench = Bench::of(version, 0, |config| {
        config.inactive_threshold = Some(millis(1000));
        change(config);
    });
    let begun = bench.now.monotonic;
    act(&mut bench);
    bench.pass(Duration::from_secs(60));
    bench.now.monotonic.since(begun).as_secs_f64()
}

#[test]
fn without_a_client_it_ends_a_little_after_its_threshold() {
    let new = Version::REFERENCE;
    let alone = life(new, |_| {}, |_| {});
    assert!((1.1..=2.0).contains(&alone), "{alone}");
    let ephemeral = life(new, |config| config.durable = false, |_| {});
    assert!((1.1..=2.0).contains(&ephemeral), "{ephemeral}");
    let waits = life(new, |_| {}, |bench| bench.pull(1, 1, Some(2000)));
    assert!((2.2..=4.0).contains(&waits), "a pull keeps it: {waits}");
    let polls = |bench: &mut Bench| {
        for _ in 0..10 {
            bench.pass(millis(300));
            bench.pull(1, 1, None);
        }
    };
    let polled = life(new, |_| {}, polls);
    assert!(
        (4.1..=5.0).contains(&polled),
        "so do pulls in vain: {polled}"
    );
    let deaf = |bench: &mut Bench| {
        bench.pull(1, 1, Some(9000));
        bench.deaf.push(inbox(1));
    };
    let left = life(new, |_| {}, deaf);
    assert!(
        (1.1..=2.0).contains(&left),
        "not one that nobody listens to: {left}"
    );
}

#[test]
fn a_delivery_keeps_it_as_long_as_it_may_be_worked_on() {
    let deliver = |bench: &mut Bench| {
        bench.store("s");
        bench.take(1);
    };
    let two: fn(&mut ConsumerConfig) = |config| config.ack_wait = millis(2000);
    let new = life(Version::REFERENCE, two, deliver);
    assert!((5.0..=6.5).contains(&new), "{new}");
    let old = life(Version::new(2, 10, 26), two, deliver);
    assert!((1.1..=2.0).contains(&old), "{old}");
}
