//! Scenarios on a real server: the same stories, the same invariants.

use squall_scenarios::fault::Fault;
use squall_scenarios::history::{History, Tell, What};
use squall_scenarios::invariants::{Verdict, judge};
use squall_scenarios::plan::Plan;
use squall_scenarios::run::{Run, simulate};
use squall_scenarios::{NatsRunError, run_on_nats, stories, unsupported};

/// The first plan that a real server can do and that is `wanted`, in real time. Where there are credentials, all of its
/// faults bite in the simulated world: some only do if somebody exchanges credentials while they last.
fn draw(scenario: &str, wanted: impl Fn(&Plan) -> bool) -> Plan {
    let scenario = stories::find(scenario).expect("the scenario is there");
    let is_supported = |fault: &Fault| unsupported(fault.kind).is_none();
    let bites =
        |plan: &Plan| plan.auth.is_none() || simulate(plan).bitten.into_iter().all(|bitten| bitten);
    (1..1000)
        .map(|seed| scenario.draw(seed).in_real_time())
        .find(|plan| plan.faults.iter().all(is_supported) && wanted(plan) && bites(plan))
        .expect("some seed draws it")
}

/// Whether it has faults of all these kinds.
fn has(plan: &Plan, kinds: &[&str]) -> bool {
    let has = |kind: &&str| plan.faults.iter().any(|fault| fault.kind.name() == *kind);
    kinds.iter().all(has)
}

/// Whether it is over soon.
fn is_short(plan: &Plan) -> bool {
    plan.duration.as_secs() <= 40
}

/// Runs it; fails with what was found and what led to it.
fn passes(plan: &Plan) -> Run {
    let mut run = run_on_nats(plan).expect("the plan is run");
    // Observers of a cluster may miss what it stored around an outage: then another run decides.
    for _ in 0..2 {
        if !(plan.world.is_cluster() && matches!(run.verdict, Verdict::Inconclusive(_))) {
            break;
        }
        run = run_on_nats(plan).expect("the plan is run");
    }
    if run.verdict != Verdict::Pass {
        let mut history = Vec::new();
        run.history.write(&mut history).expect("it is memory");
        let history = String::from_utf8_lossy(&history);
        panic!("{:#?}\n{plan}\n{history}", run.verdict);
    }
    let faults = plan.faults.iter().zip(&run.bitten);
    for (fault, bitten) in faults {
        assert!(bitten, "{fault} changed nothing in {}", plan.scenario);
    }
    run
}

/// A server or a cluster each, all at once: most of the time they wait.
#[test]
fn stories_pass_on_a_real_server() {
    let plans = [
        draw("presence/calm", |plan| plan.world.delete_markers.is_some()),
        draw("presence/missed-heartbeats", |_| true),
        draw("presence/partition-and-heal", |plan| has(plan, &["cut"])),
        draw("presence/one-way-silence", |plan| {
            has(plan, &["partition", "blackhole"])
        }),
        draw("presence/mixed-intervals", |plan| {
            plan.duration.as_secs() < 22
        }),
        draw("presence/server-restart", |plan| {
            plan.world.delete_markers.is_some() && has(plan, &["server-stop", "server-pause"])
        }),
        draw("presence/leader-change", |plan| {
            has(plan, &["leader-change", "route-partition"])
        }),
        draw("presence/lost-quorum", |plan| has(plan, &["server-stop"])),
        draw("lock/calm", is_short),
        draw("lock/contention", |plan| {
            is_short(plan) && plan.agents.len() > 5
        }),
        draw("lock/partition", |plan| {
            is_short(plan) && has(plan, &["partition"])
        }),
        draw("lock/crash", |plan| is_short(plan) && has(plan, &["crash"])),
        draw("lock/server-restart", |plan| {
            is_short(plan) && has(plan, &["server-stop", "server-pause"])
        }),
        draw("lock/leader-change", |plan| {
            is_short(plan) && has(plan, &["leader-change"])
        }),
        draw("state/calm", is_short),
        draw("state/slow-reader", is_short),
        draw("state/partition", |plan| {
            is_short(plan) && has(plan, &["partition"])
        }),
        draw("state/watcher-restart", |plan| {
            is_short(plan) && has(plan, &["server-stop", "server-pause"])
        }),
        draw("state/slow-reader", is_short)
            .on_servers(3)
            .expect("it can be on a cluster"),
        draw("state/leader-change", |plan| {
            is_short(plan) && has(plan, &["leader-change"])
        }),
    ];
    std::thread::scope(|scope| {
        let runs = plans.each_ref().map(|plan| scope.spawn(|| passes(plan)));
        let longest = scope.spawn(violations_are_seen_in_a_real_history);
        for run in runs {
            run.join().expect("it passes");
        }
        longest.join().expect("they are seen");
    });
}

/// The same for chats: what each was told, and what it was promised.
#[test]
fn chats_pass_on_a_real_server() {
    let short = |plan: &Plan| plan.duration.as_secs() < 24;
    let plans = [
        draw("chat/calm", short),
        draw("chat/server-restart", |plan| {
            short(plan) && has(plan, &["server-stop"]) && !has(plan, &["jetstream-mute"])
        }),
        draw("chat/slow-reader", |plan| {
            short(plan) && plan.faults.is_empty()
        }),
        draw("chat/retention-shrink", short),
        draw("chat/thread-name-collision", |plan| {
            short(plan) && has(plan, &["partition"])
        }),
        draw("chat/crash-and-resume", short),
        draw("chat/leader-change", |plan| has(plan, &["leader-change"])),
    ];
    std::thread::scope(|scope| {
        let runs = plans.each_ref().map(|plan| scope.spawn(|| passes(plan)));
        for run in runs {
            run.join().expect("it passes");
        }
    });
}

/// Alice is away for as long as the story allows. Had nobody been told, neither she nor the others, it would be found:
/// the bounds for real time are not so wide that they hide it.
fn violations_are_seen_in_a_real_history() {
    let run = passes(&draw("presence/partition-and-heal", |plan| {
        plan.faults
            .iter()
            .any(|fault| fault.lasts.as_millis() > 6500)
    }));
    let without = |is_hidden: fn(&Tell) -> bool| {
        let records =
            run.history.0.iter().filter(
                |record| !matches!(&record.what, What::Told { tell, .. } if is_hidden(tell)),
            );
        match judge(&run.plan, &History(records.cloned().collect())) {
            Verdict::Fail(found) => found.into_iter().map(|violation| violation.code).collect(),
            _ => Vec::new(),
        }
    };
    let untold = without(|tell| matches!(tell, Tell::Evicted { .. }));
    assert!(untold.contains(&"P5".to_owned()), "{untold:?}");
    let untold = without(|tell| matches!(tell, Tell::Down { .. }));
    assert!(untold.contains(&"P1".to_owned()), "{untold:?}");
}

#[test]
fn a_plan_that_only_the_simulated_world_can_do_is_refused_with_its_sentence() {
    let scenario = stories::find("presence/paused-watcher").expect("the scenario is there");
    let plan = scenario.draw(1).in_real_time();
    let Err(NatsRunError::Unsupported(reason)) = run_on_nats(&plan) else {
        panic!("it is refused");
    };
    let mut faults = plan.faults.iter();
    assert!(faults.any(|fault| unsupported(fault.kind) == Some(reason)));
}

/// Credentials that rotate, on servers in operator mode: the short ones of these stories. The longer ones are for the
/// command (`squall run rotation/... --on nats`).
#[test]
fn rotation_passes_on_a_real_server() {
    let is_short = |plan: &Plan| plan.duration.as_secs() < 45;
    let plans = [
        draw("rotation/kick", |plan| {
            is_short(plan) && has(plan, &["auth-slow"])
        }),
        draw("rotation/revoked-user", is_short),
        draw("rotation/revoked-signing-key", is_short),
        draw("rotation/one-second", |plan| has(plan, &["auth-5xx"])),
        draw("rotation/narrowed-permissions", is_short),
        draw("rotation/accounts", |plan| {
            is_short(plan) && has(plan, &["logout", "switch-account"])
        }),
    ];
    std::thread::scope(|scope| {
        let runs = plans.each_ref().map(|plan| scope.spawn(|| passes(plan)));
        for run in runs {
            run.join().expect("it passes");
        }
    });
}
