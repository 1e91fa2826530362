//! Runs written by hand: small stories with everything a report has to draw.

use std::time::Duration;

use squall_reports::model::*;
use squall_reports::specimen::{Specimen, Storms};
use squall_reports::sweep::{Coverage, Sweep};

pub(crate) const ALICE: LaneId = LaneId(0);
pub(crate) const BOB: LaneId = LaneId(1);
pub(crate) const CAROL: LaneId = LaneId(2);
pub(crate) const SERVER: LaneId = LaneId(3);

pub(crate) fn ms(millis: u64) -> TrueTime {
    TrueTime::from_nanos(millis * 1_000_000)
}

pub(crate) fn mark(millis: u64, lane: LaneId, kind: MarkKind, text: &str) -> Mark {
    Mark {
        at: ms(millis),
        lane,
        kind,
        text: text.to_owned(),
        answers: None,
        routine: None,
    }
}

pub(crate) fn fault(name: &str, target: &str, from: u64, to: u64, bit: bool) -> FaultBand {
    FaultBand {
        name: name.to_owned(),
        target: target.to_owned(),
        from: ms(from),
        to: ms(to),
        bit,
    }
}

pub(crate) fn belief(
    lane: LaneId,
    about: &str,
    state: &str,
    tone: Tone,
    from: u64,
    to: u64,
) -> Belief {
    Belief {
        lane,
        about: about.to_owned(),
        state: state.to_owned(),
        tone,
        from: ms(from),
        to: ms(to),
    }
}

pub(crate) fn fact(name: &str, reached: bool) -> Fact {
    let name = name.to_owned();
    Fact { name, reached }
}

pub(crate) fn accuracy() -> Invariant {
    Invariant {
        code: "P2".to_owned(),
        name: "accuracy".to_owned(),
        property: "No Down or absence is told of an incarnation whose renewals are being \
                   committed."
            .to_owned(),
    }
}

/// A minute of presence: nothing but beats, and storms that did no harm.
pub(crate) fn pass() -> Run {
    let mut marks = Vec::new();
    for (lane, name, phase) in [
        (ALICE, "alice", 100),
        (BOB, "bob", 700),
        (CAROL, "carol", 1300),
    ] {
        marks.push(mark(phase - 60, lane, MarkKind::Life, "starts"));
        marks.push(mark(
            phase - 40,
            lane,
            MarkKind::Connection,
            "connects to nats-1",
        ));
        for beat in 0..30 {
            let text = format!("beat {beat} of {name}");
            let mut beat = mark(phase + 2000 * beat, SERVER, MarkKind::Commit, &text);
            beat.routine = Some(format!("beat of {name}"));
            marks.push(beat);
        }
    }
    marks.sort_by_key(|mark| mark.at);
    let lane = |name: &str, role: &str, kind| Lane {
        name: name.to_owned(),
        role: role.to_owned(),
        kind,
    };
    Run {
        schema: Schema,
        scenario: "presence-under-storm".to_owned(),
        title: "Every watcher learns of a crash, and of nothing else.".to_owned(),
        world: World::Sim,
        seed: Some(184_467),
        reproduce: "squall run presence-under-storm --seed 184467".to_owned(),
        verdict: Verdict::Pass,
        simulated: Duration::from_millis(61_300),
        elapsed: None,
        lanes: vec![
            lane("alice", "agent", LaneKind::Agent),
            lane("bob", "watcher", LaneKind::Agent),
            lane("carol", "watcher", LaneKind::Agent),
            lane("nats-1", "server", LaneKind::Server),
        ],
        marks,
        faults: vec![
            fault("delay", "nats-1 -> carol", 3000, 11_000, true),
            fault("partition", "alice <-> nats-1", 30_900, 36_500, true),
            fault("partition", "alice <-> carol", 33_000, 35_000, false),
            fault("blackhole", "nats-1 -> bob", 35_200, 50_000, true),
            fault("jump", "wall clock of carol by +1 h", 38_250, 38_250, false),
        ],
        beliefs: vec![
            belief(BOB, "alice", "present", Tone::Well, 800, 61_300),
            belief(CAROL, "alice", "present", Tone::Well, 1400, 61_300),
        ],
        messages: vec![],
        moments: vec![],
        sometimes: vec![
            fact("a record did expire while its owner was cut off", true),
            fact("a beat was committed after its caller had given up", false),
        ],
        trace: None,
        fingerprint: None,
    }
}

/// Bob's link goes deaf while Alice is cut off. She is back long before he tells that she is gone.
pub(crate) fn presence_violation() -> Run {
    let mut run = pass();
    // The partition held up what Alice sent between 32.1 s and 36.1 s.
    let cut = |mark: &Mark| {
        mark.text.ends_with("of alice")
            && (31_000..37_000).contains(&(mark.at.as_nanos() / 1_000_000))
    };
    run.marks.retain(|mark| !cut(mark));
    let expired = "presence.alice: 6 s old, beat 15 was the last";
    let story = [
        mark(
            32_100,
            ALICE,
            MarkKind::Call,
            "beat 16: update presence.alice",
        ),
        mark(
            36_540,
            ALICE,
            MarkKind::Connection,
            "reconnects to nats-1, 36 ms after the link was back",
        ),
        mark(36_351, SERVER, MarkKind::Removed, expired),
        mark(36_400, CAROL, MarkKind::Told, "Down(alice)"),
        mark(37_100, ALICE, MarkKind::Unknown, "no answer in 5 s"),
        mark(36_600, ALICE, MarkKind::Told, "Evicted"),
        mark(
            36_700,
            ALICE,
            MarkKind::Call,
            "create presence.alice, incarnation 2",
        ),
        mark(
            36_702,
            SERVER,
            MarkKind::Commit,
            "presence.alice, revision 74, incarnation 2",
        ),
        mark(36_704, ALICE, MarkKind::Ok, "revision 74"),
        mark(36_730, CAROL, MarkKind::Told, "Up(alice), incarnation 2"),
        mark(
            41_290,
            BOB,
            MarkKind::Connection,
            "no pong for 6 s: closes its connection",
        ),
        mark(41_400, BOB, MarkKind::Told, "Down(alice)"),
    ];
    run.marks.extend(story);
    run.marks.sort_by_key(|mark| mark.at);
    let find = |millis: u64| {
        let found = run.marks.iter().rposition(|mark| mark.at == ms(millis));
        MarkId(found.expect("the story has a mark at this time"))
    };
    let proof = vec![find(36_702), find(40_100), find(41_400)];
    let answers = [(37_100, 32_100), (36_704, 36_700)];
    for (answer, call) in answers.map(|(answer, call)| (find(answer), find(call))) {
        run.marks[answer.0].answers = Some(call);
    }
    run.verdict = Verdict::Fail(vec![
        Violation {
            invariant: Invariant {
                code: "P3".to_owned(),
                name: "edges".to_owned(),
                property: "Per watcher and agent Up and Down alternate; one Up per incarnation."
                    .to_owned(),
            },
            at: ms(52_030),
            lanes: vec![BOB],
            what_happened: "bob was told Up(alice) twice for incarnation 2.".to_owned(),
            evidence: vec![],
        },
        Violation {
            invariant: accuracy(),
            at: ms(41_400),
            lanes: vec![BOB, ALICE],
            what_happened: "bob was told Down(alice) at 41.400 s, although incarnation 2 of alice \
                            had its beat 20 committed at 40.100 s, 1.3 s before."
                .to_owned(),
            evidence: proof,
        },
    ]);
    run.beliefs = vec![
        belief(BOB, "alice", "present", Tone::Well, 800, 41_400),
        belief(BOB, "alice", "absent", Tone::Over, 41_400, 52_000),
        belief(CAROL, "alice", "present", Tone::Well, 1400, 36_400),
        belief(CAROL, "alice", "absent", Tone::Over, 36_400, 36_730),
        belief(CAROL, "alice", "present", Tone::Well, 36_730, 61_300),
        belief(ALICE, "itself", "present", Tone::Well, 100, 36_600),
        belief(ALICE, "itself", "evicted", Tone::Over, 36_600, 36_704),
        belief(ALICE, "itself", "present", Tone::Well, 36_704, 61_300),
        belief(BOB, "its link", "connected", Tone::Well, 660, 41_290),
        belief(
            BOB,
            "its link",
            "disconnected",
            Tone::Unsure,
            41_290,
            50_000,
        ),
    ];
    run.trace = Some("report/presence-under-storm.184467.jsonl".to_owned());
    run
}

/// Alice crashes, and Carol is never told. Nothing marks the moment: it is what did not happen.
pub(crate) fn completeness_violation() -> Run {
    let mut run = pass();
    let crash = ms(20_000);
    run.marks
        .retain(|mark| mark.at < crash || !mark.text.ends_with("of alice"));
    run.marks
        .push(mark(20_000, ALICE, MarkKind::Life, "crashes"));
    run.marks.push(mark(
        24_351,
        SERVER,
        MarkKind::Removed,
        "presence.alice: 6 s old",
    ));
    run.marks
        .push(mark(24_360, BOB, MarkKind::Told, "Down(alice)"));
    run.marks.sort_by_key(|mark| mark.at);
    let crashed = run.marks.iter().position(|mark| mark.text == "crashes");
    run.faults = vec![
        fault("crash", "alice", 20_000, 20_000, true),
        fault("cut", "nats-1 -> carol", 24_200, 24_200, true),
    ];
    run.verdict = Verdict::Fail(vec![Violation {
        invariant: Invariant {
            code: "P1".to_owned(),
            name: "completeness".to_owned(),
            property:
                "Every crash without rebirth is told Down to every live watcher exactly once \
                       by T + TTL + d."
                    .to_owned(),
        },
        at: ms(28_000),
        lanes: vec![CAROL],
        what_happened: "alice crashed at 20.000 s, and carol was not told by 28.000 s.".to_owned(),
        evidence: crashed.map(MarkId).into_iter().collect(),
    }]);
    run.beliefs = vec![
        belief(BOB, "alice", "present", Tone::Well, 800, 24_360),
        belief(BOB, "alice", "absent", Tone::Over, 24_360, 61_300),
        belief(CAROL, "alice", "present", Tone::Well, 1400, 61_300),
    ];
    run
}

/// The answer to an acquire was lost, and nothing that was seen later tells whether it happened.
pub(crate) fn inconclusive() -> Run {
    let mut run = pass();
    run.scenario = "lock-exclusion".to_owned();
    run.title = "No two holders of a lock ever overlap.".to_owned();
    run.world = World::Nats {
        version: "2.15.1".to_owned(),
    };
    run.verdict = Verdict::Inconclusive {
        why:
            "The acquire that alice invoked at 12.400 s has an unknown outcome, and no read after \
              the outage shows its record: with it L1 is violated, without it L1 holds."
                .to_owned(),
    };
    run.elapsed = Some(Duration::from_millis(61_812));
    run.reproduce = "squall run lock-exclusion --seed 184467 --on nats".to_owned();
    run
}

/// Forty seeds of two scenarios; those in `failing` violate P2.
pub(crate) fn sweep(failing: &[u64]) -> Sweep {
    let mut sweep = Sweep {
        elapsed: Duration::from_millis(1_930),
        ..Sweep::default()
    };
    for seed in 1..=40 {
        let mut run = if failing.contains(&seed) {
            presence_violation()
        } else {
            pass()
        };
        run.seed = Some(seed);
        run.reproduce = format!("squall run presence-under-storm --seed {seed}");
        run.faults[1].bit = seed % 3 > 0;
        run.sometimes[1].reached = failing.is_empty() && seed % 7 == 0;
        sweep.record(&run);
        run.scenario = "lock-exclusion".to_owned();
        run.verdict = Verdict::Pass;
        run.faults.truncate(4);
        run.faults[2].bit = true;
        run.sometimes.truncate(1);
        if failing.len() > 1 && seed == 31 {
            let why = inconclusive().verdict;
            run.verdict = why;
            run.reproduce = "squall run lock-exclusion --seed 31".to_owned();
        }
        sweep.record(&run);
    }
    let marks = |marks: &[(&str, u64)]| {
        let marks = marks.iter().map(|(mark, runs)| ((*mark).to_owned(), *runs));
        marks.collect()
    };
    let groups = [
        (
            "presence::Keeper becomes",
            marks(&[("evicted", 0), ("present", 10), ("unsure", 3)]),
        ),
        ("server does", marks(&[("Exit", 0), ("Stored", 10)])),
        ("an error is", marks(&[("TimedOut", 4)])),
        (
            "chat::Follower hears",
            marks(&[("Checked", 0), ("Reader", 0)]),
        ),
    ];
    sweep.coverage = Coverage {
        runs: 10,
        groups: groups
            .map(|(group, marks)| (group.to_owned(), marks))
            .into(),
    };
    sweep
}

/// A search for planted flaws, one of which is missed.
pub(crate) fn planted() -> Sweep {
    let found = Specimen {
        name: "lock-get-then-put".to_owned(),
        level: 2,
        code: Some("L1".to_owned()),
        seeds: Some(4),
        worked: Duration::from_millis(34),
        faults_left: Some(1),
        shrinking: Duration::from_millis(410),
        twin_passes: true,
        holds: true,
        storms: None,
    };
    let deep = Specimen {
        name: "stamp-after-dial".to_owned(),
        level: 3,
        storms: Some(Storms {
            runs_max: 2000,
            plain: Some(25),
            steered: Some(26),
        }),
        ..found.clone()
    };
    let missed = Specimen {
        name: "who_poisoned".to_owned(),
        twin_passes: false,
        storms: Some(Storms {
            runs_max: 2000,
            ..Storms::default()
        }),
        ..Specimen::default()
    };
    Sweep {
        elapsed: Duration::from_secs(75),
        specimens: vec![found, deep, missed],
        ..Sweep::default()
    }
}
