//! What a viewer of traces loads.

use std::collections::{BTreeMap, BTreeSet};

use insta::assert_snapshot;
use serde_json::Value;
use squall_reports::model::{LaneId, Run};
use squall_reports::trace::render;

use super::lock::lock_violation;
use super::samples::{completeness_violation, inconclusive, pass, presence_violation};

fn events(run: &Run) -> Vec<Value> {
    let trace: Value = serde_json::from_str(&render(run)).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("a list");
    events.clone()
}

/// One event a line, so that a change can be read.
#[test]
fn a_lock_violation() {
    let lines = events(&lock_violation());
    let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
    assert_snapshot!(lines.join("\n"));
}

/// What the format asks of each kind of event, and viewers refuse or drop otherwise.
#[test]
fn every_event_is_what_its_phase_asks_for() {
    let mut odd = presence_violation();
    odd.marks[0].lane = LaneId(77);
    let runs = [
        pass(),
        presence_violation(),
        lock_violation(),
        completeness_violation(),
    ];
    for run in runs.into_iter().chain([inconclusive(), odd]) {
        let (mut flows, mut named, mut seen) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut before = 0.0;
        for event in events(&run) {
            let of = |field: &str| event[field].as_u64();
            let thread = (of("pid").expect("a process"), of("tid").expect("a thread"));
            assert!(thread.0 > 0 && event["name"].is_string(), "{event}");
            let phase = event["ph"].as_str().expect("a phase");
            if phase == "M" {
                if event["name"] == "thread_name" {
                    named.insert(thread);
                }
                continue;
            }
            seen.insert(thread);
            let at = event["ts"].as_f64().expect("a time");
            assert!(at >= before, "in order: {event}");
            before = at;
            match phase {
                "X" => assert!(event["dur"].as_f64().expect("a duration") >= 0.0, "{event}"),
                "i" => assert!(
                    ["t", "p", "g"].map(Value::from).contains(&event["s"]),
                    "{event}"
                ),
                "s" => assert_eq!(flows.insert(of("id"), false), None, "{event}"),
                "f" => assert_eq!(flows.insert(of("id"), true), Some(false), "{event}"),
                phase => panic!("{phase} is not written"),
            }
        }
        assert!(flows.values().all(|ended| *ended), "a flow has two ends");
        assert_eq!(named, seen, "each thread is named");
    }
}

/// An arrow is drawn from slice to slice: viewers drop the end of one that no slice of its thread carries.
#[test]
fn every_end_of_a_flow_lies_in_a_slice() {
    let number = |event: &Value, field: &str| event[field].as_f64().expect("a number");
    for run in [lock_violation(), presence_violation()] {
        let events = events(&run);
        let flows = events
            .iter()
            .filter(|it| it["ph"] == "s" || it["ph"] == "f");
        for flow in flows {
            let carries = |slice: &&Value| {
                let same = slice["pid"] == flow["pid"] && slice["tid"] == flow["tid"];
                if slice["ph"] != "X" || !same {
                    return false;
                }
                let (from, at) = (number(slice, "ts"), number(flow, "ts"));
                from <= at && at <= from + number(slice, "dur")
            };
            assert!(events.iter().any(|it| carries(&it)), "{flow}");
            // By default the end binds to the next slice, not to the one that it lies in.
            assert!(flow["ph"] == "s" || flow["bp"] == "e", "{flow}");
        }
    }
}

/// Slices of one thread nest or follow each other: a viewer draws what only overlaps wrongly.
#[test]
fn slices_of_operations_and_beliefs_never_overlap() {
    for run in [presence_violation(), lock_violation()] {
        let mut busy: BTreeMap<(u64, u64), f64> = BTreeMap::new();
        for event in events(&run) {
            let cut = event["cat"] == "operation" || event["cat"] == "belief";
            if event["ph"] != "X" || !cut {
                continue;
            }
            let thread = (
                event["pid"].as_u64().unwrap_or(0),
                event["tid"].as_u64().unwrap_or(0),
            );
            let (from, lasts) = (event["ts"].as_f64(), event["dur"].as_f64());
            let (from, lasts) = (from.expect("a time"), lasts.expect("a duration"));
            let free = busy.insert(thread, from + lasts).unwrap_or(0.0);
            assert!(free <= from + 1e-6, "{event}");
        }
    }
}
