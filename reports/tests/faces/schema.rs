//! The model as programs read it: what is documented is what is written, field by field.

use std::collections::BTreeSet;

use serde_json::Value;
use squall_reports::model::{LaneKind, MarkKind, Run, Tone, World};

use super::lock::lock_violation;
use super::samples::{inconclusive, pass, planted, presence_violation, sweep};

/// The page, in which the first table of fields is that of runs and the second that of sweeps.
fn documented() -> [BTreeSet<String>; 2] {
    let tables = page();
    let mut tables = tables.split("| field | is |").skip(1).map(|table| {
        let rows = table.lines().filter_map(|row| row.strip_prefix("| `"));
        let fields = rows.filter_map(|row| row.split_once(" | "));
        let fields = fields.flat_map(|(fields, _)| fields.split(", "));
        fields
            .map(|field| field.trim_matches('`').to_owned())
            .collect()
    });
    [(); 2].map(|()| tables.next().expect("two tables"))
}

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reports.md");
    std::fs::read_to_string(path).expect("the page is there")
}

/// The fields of a value that hold no other, by their paths. What `maps` names has names of its own.
fn fields(value: &Value, path: &str, maps: &[&str], found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let name = if maps.contains(&path) { "*" } else { name };
                let dot = if path.is_empty() { "" } else { "." };
                fields(value, &format!("{path}{dot}{name}"), maps, found);
            }
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| fields(value, &format!("{path}[]"), maps, found)),
        // Not known: where it is, the same field holds something.
        Value::Null => {}
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// A run with everything that a run can have.
fn full() -> Run {
    let mut run = presence_violation();
    let lock = lock_violation();
    run.world = World::Nats {
        version: "2.15.1".to_owned(),
    };
    run.elapsed = Some(run.simulated);
    run.fingerprint = Some("cb3846039e007b9f".to_owned());
    (run.messages, run.moments) = (lock.messages, lock.moments);
    run
}

#[test]
fn every_field_of_a_run_is_documented_and_nothing_else() {
    let mut found = BTreeSet::new();
    for run in [full(), inconclusive(), pass()] {
        let value = serde_json::to_value(&run).expect("JSON");
        fields(&value, "", &[], &mut found);
        let read: Run = serde_json::from_value(value).expect("it reads back");
        assert_eq!(read, run);
    }
    let [documented, _] = documented();
    assert_eq!(found, documented);
}

#[test]
fn every_field_of_a_sweep_is_documented_and_nothing_else() {
    let mut all = sweep(&[3, 17]);
    all.merge(planted());
    let value = serde_json::to_value(all).expect("JSON");
    let maps = [
        "scenarios",
        "scenarios.*.bit",
        "scenarios.*.sometimes",
        "coverage.groups",
        "coverage.groups.*",
    ];
    let mut found = BTreeSet::new();
    fields(&value, "", &maps, &mut found);
    let [_, documented] = documented();
    assert_eq!(found, documented);
}

#[test]
fn every_kind_is_documented() {
    let page = page();
    let row = |field: &str| -> &str {
        let row = page
            .lines()
            .find(|row| row.starts_with(&format!("| `{field}` |")));
        row.unwrap_or_else(|| panic!("{field} is documented"))
    };
    let kinds = [
        MarkKind::Call,
        MarkKind::Ok,
        MarkKind::Refused,
        MarkKind::Unknown,
        MarkKind::Told,
        MarkKind::Commit,
        MarkKind::Removed,
        MarkKind::Life,
        MarkKind::Connection,
    ];
    let json = |value: serde_json::Result<String>| value.expect("JSON").replace('"', "`");
    for kind in kinds {
        assert!(
            row("marks[].kind").contains(&json(serde_json::to_string(&kind))),
            "{kind:?}"
        );
    }
    for tone in [Tone::Well, Tone::Unsure, Tone::Over] {
        assert!(
            row("beliefs[].tone").contains(&json(serde_json::to_string(&tone))),
            "{tone:?}"
        );
    }
    for kind in [LaneKind::Agent, LaneKind::Server] {
        assert!(
            row("lanes[].kind").contains(&json(serde_json::to_string(&kind))),
            "{kind:?}"
        );
    }
}
