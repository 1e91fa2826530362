//! A run about a lock and a rotation, written by hand: beliefs of every tone, overlapping operations, messages, moments.

use std::time::Duration;

use squall_reports::model::*;

use super::samples::{ALICE, BOB, CAROL, SERVER, belief, fact, fault, mark, ms, pass};

fn message(from: LaneId, to: LaneId, sent: u64, arrived: Option<u64>, text: &str) -> Message {
    Message {
        from,
        to,
        sent: ms(sent),
        arrived: arrived.map(ms),
        text: text.to_owned(),
    }
}

/// Alice stands still while her lease runs out, and Bob takes the lock; she wakes up and still believes that it is hers.
pub(crate) fn lock_violation() -> Run {
    let mut run = pass();
    run.scenario = "lock-under-rotation".to_owned();
    run.title = "No two holders of a lock ever overlap, whoever rotates meanwhile.".to_owned();
    run.seed = Some(7);
    run.reproduce = "squall run lock-under-rotation --seed 7".to_owned();
    run.simulated = Duration::from_secs(30);
    for (lane, role) in run.lanes.iter_mut().zip(["holder", "contender", "rotator"]) {
        lane.role = role.to_owned();
    }
    run.marks = vec![
        mark(200, ALICE, MarkKind::Life, "starts"),
        mark(250, BOB, MarkKind::Life, "starts"),
        mark(1000, ALICE, MarkKind::Call, "acquire deploy for 5 s"),
        mark(
            1004,
            SERVER,
            MarkKind::Commit,
            "lock.deploy, revision 1: alice",
        ),
        mark(1008, ALICE, MarkKind::Ok, "token 1"),
        mark(3000, BOB, MarkKind::Call, "acquire deploy for 5 s"),
        mark(8000, CAROL, MarkKind::Call, "rotate the credential of bob"),
        mark(8120, BOB, MarkKind::Connection, "dials with generation 2"),
        mark(8150, CAROL, MarkKind::Ok, "generation 2"),
        mark(
            8500,
            BOB,
            MarkKind::Connection,
            "generation 1 is drained and closed",
        ),
        mark(9000, ALICE, MarkKind::Life, "stands still"),
        mark(14_010, SERVER, MarkKind::Removed, "lock.deploy: 5 s old"),
        mark(14_020, BOB, MarkKind::Call, "create lock.deploy"),
        mark(
            14_024,
            SERVER,
            MarkKind::Commit,
            "lock.deploy, revision 9: bob",
        ),
        mark(14_028, BOB, MarkKind::Ok, "revision 9"),
        mark(14_028, BOB, MarkKind::Ok, "token 9"),
        mark(16_000, ALICE, MarkKind::Life, "goes on"),
        mark(16_001, ALICE, MarkKind::Told, "the lock deploy is hers"),
        mark(16_400, ALICE, MarkKind::Call, "renew deploy"),
        mark(16_408, ALICE, MarkKind::Refused, "wrong last revision: 9"),
    ];
    for (answer, call) in [(4, 2), (8, 6), (14, 12), (15, 5), (19, 18)] {
        run.marks[answer].answers = Some(MarkId(call));
    }
    run.faults = vec![
        fault("pause", "alice", 9000, 16_000, true),
        fault("delay", "nats-1 -> bob", 13_000, 18_000, true),
    ];
    run.beliefs = vec![
        belief(ALICE, "lock deploy", "held", Tone::Well, 1008, 16_408),
        belief(ALICE, "lock deploy", "lost", Tone::Over, 16_408, 30_000),
        belief(BOB, "lock deploy", "waiting", Tone::Unsure, 3000, 14_028),
        belief(BOB, "lock deploy", "held", Tone::Well, 14_028, 30_000),
        belief(BOB, "its link", "generation 1", Tone::Well, 300, 8120),
        belief(BOB, "its link", "generation 2", Tone::Well, 8120, 30_000),
    ];
    run.messages = vec![
        message(ALICE, SERVER, 1000, Some(1004), "create lock.deploy"),
        message(SERVER, ALICE, 1004, Some(1008), "revision 1"),
        message(SERVER, BOB, 14_010, Some(14_019), "lock.deploy is gone"),
        message(SERVER, ALICE, 14_010, None, "lock.deploy is gone"),
        message(BOB, SERVER, 14_020, Some(14_024), "create lock.deploy"),
        message(SERVER, BOB, 14_024, Some(14_028), "revision 9"),
    ];
    run.moments = vec![Moment {
        at: ms(18_000),
        text: "everything is mended".to_owned(),
    }];
    run.sometimes = vec![fact("a lease did expire under its holder", true)];
    run.verdict = Verdict::Fail(vec![Violation {
        invariant: Invariant {
            code: "L1".to_owned(),
            name: "exclusion".to_owned(),
            property: "No two processes ever believe at the same time that they hold a lock."
                .to_owned(),
        },
        at: ms(16_001),
        lanes: vec![ALICE, BOB],
        what_happened: "alice was told at 16.001 s that deploy is hers, although bob has held it \
                        since 14.028 s with token 9."
            .to_owned(),
        evidence: vec![MarkId(11), MarkId(15), MarkId(17)],
    }]);
    run
}

#[test]
fn operations_are_found_in_the_marks() {
    let mut run = lock_violation();
    run.marks[19].answers = None;
    let told: Vec<_> = run
        .operations()
        .iter()
        .map(|o| (o.lane, o.from, o.to, o.end))
        .collect();
    assert_eq!(
        told,
        [
            (ALICE, ms(1000), ms(1008), MarkKind::Ok),
            (BOB, ms(3000), ms(14_028), MarkKind::Ok),
            (CAROL, ms(8000), ms(8150), MarkKind::Ok),
            (BOB, ms(14_020), ms(14_028), MarkKind::Ok),
            // Nobody answered: it may still happen at the end of the run.
            (ALICE, ms(16_400), ms(30_000), MarkKind::Unknown),
        ]
    );
}
