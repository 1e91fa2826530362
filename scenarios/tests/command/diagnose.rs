//! `squall diagnose` on logs made by hand: what it finds, what it must not find, what it passes over and what it
//! refuses.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A calm hour of five-minute credentials, cut short: each rotation one swap.
const CALM: &str = r#"{"v":1,"type":"daemon_start","at":"2026-05-28T20:00:00Z","caller":"daemon"}
{"v":1,"type":"connect","at":"2026-05-28T20:00:01Z","caller":"login","nc_id":"0x1","jwt_exp":1779998701,"reason":"nats://10.0.0.7:4222"}
{"v":1,"type":"swap","at":"2026-05-28T20:04:31Z","caller":"refresh","nc_id":"0x2","jwt_exp":1779998971,"reason":"old=0x1 new=0x2"}
{"v":1,"type":"disconnect","at":"2026-05-28T20:04:31.020Z","caller":"client","nc_id":"0x1","jwt_exp":1779998701}
{"v":1,"type":"closed","at":"2026-05-28T20:04:31.021Z","caller":"client","nc_id":"0x1","jwt_exp":1779998701}
"#;

/// Three callers race at a rotation, while the server ends what they make.
const STORM: &str = r#"{"v":1,"type":"swap","at":"2026-05-28T20:04:31.000Z","caller":"OnRefreshed-callback","nc_id":"0x2","reason":"old=0x1 new=0x2"}
{"v":1,"type":"disconnect","at":"2026-05-28T20:04:31.100Z","caller":"nats.go","nc_id":"0x1"}
{"v":1,"type":"swap","at":"2026-05-28T20:04:31.200Z","caller":"ensureNATS","nc_id":"0x3","reason":"old=0x2 new=0x3"}
{"v":1,"type":"swap","at":"2026-05-28T20:04:32.900Z","caller":"ensureNATS-refresh-due","nc_id":"0x4","reason":"old=0x3 new=0x4"}
"#;

/// Kicked at the end of the credential, and refused with it.
const KICK: &str = r#"{"v":1,"type":"disconnect","at":"2026-05-28T20:05:01.45Z","caller":"nats.go","nc_id":"0x1","jwt_exp":1779998701,"reason":"EOF"}
{"v":1,"type":"closed","at":"2026-05-28T20:05:05.55Z","caller":"nats.go","nc_id":"0x1","reason":"nats: Authorization Violation"}
"#;

fn squall(directory: &Path, arguments: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_squall"))
        .current_dir(directory)
        .env_remove("COLUMNS")
        .arg("diagnose")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut input = child.stdin.take().expect("a pipe");
    // It may refuse before it has read all.
    let _broken_pipe = input.write_all(stdin);
    drop(input);
    child.wait_with_output().expect("the program ends")
}

/// Exit status, what is printed and what is complained of.
fn diagnose(log: impl AsRef<[u8]>, arguments: &[&str]) -> (i32, String, String) {
    let directory = tempfile::tempdir().expect("a folder");
    std::fs::write(directory.path().join("log"), log).expect("a file");
    said(squall(
        directory.path(),
        &[&["log"], arguments].concat(),
        b"",
    ))
}

fn said(output: Output) -> (i32, String, String) {
    (
        output.status.code().expect("a status"),
        String::from_utf8(output.stdout).expect("text"),
        String::from_utf8(output.stderr).expect("text"),
    )
}

fn json(log: impl AsRef<[u8]>, arguments: &[&str]) -> (i32, Value) {
    let (status, text, _) = diagnose(log, &[&["--json"], arguments].concat());
    (
        status,
        serde_json::from_str(&text).expect("one JSON object"),
    )
}

fn patterns(log: impl AsRef<[u8]>) -> (i32, Vec<String>) {
    let (status, json) = json(log, &[]);
    let hits = json["patterns"].as_array().expect("a list").iter();
    let name = |hit: &Value| hit["name"].as_str().expect("a name").to_owned();
    (status, hits.map(name).collect())
}

#[test]
fn a_calm_log_is_clean_and_says_how_it_stands() {
    let (status, text, complaints) = diagnose(CALM, &[]);
    assert_eq!((status, &*complaints), (0, ""));
    let expected = "\
✓ NO PATTERN  log, 5 events up to 2026-05-28T20:04:31.021Z

  nats     connected since 2026-05-28T20:00:01Z, for 4 min 30 s
  drops    0 within the last hour
  refresh  last 2026-05-28T20:04:31Z, next due 2026-05-28T20:09:01Z
  url      nats://10.0.0.7:4222

Events
  2026-05-28T20:00:00Z      daemon_start  daemon
  2026-05-28T20:00:01Z      connect       login   0x1  nats://10.0.0.7:4222
  2026-05-28T20:04:31Z      swap          refresh 0x2  old=0x1 new=0x2
";
    let squeeze = |text: &str| {
        text.split(' ')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert!(squeeze(&text).starts_with(&squeeze(expected)), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours in a pipe");
}

#[test]
fn the_json_has_the_published_shape() {
    let (status, found) = json(CALM, &[]);
    assert_eq!(status, 0);
    let fields = |value: &Value| {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    let shape = [
        "nats_drops_last_hour",
        "nats_events",
        "nats_state",
        "on_disk_count",
        "patterns",
        "summary",
    ];
    assert_eq!(fields(&found), shape);
    assert_eq!(
        found["summary"],
        serde_json::json!({
            "state": "connected",
            "state_since": "2026-05-28T20:00:01Z",
            "url": "nats://10.0.0.7:4222",
            "refresh_last_at": "2026-05-28T20:04:31Z",
            "refresh_next_due_at": "2026-05-28T20:09:01Z",
        })
    );
    assert_eq!(found["nats_state"], "connected");
    assert_eq!(
        (&found["nats_drops_last_hour"], &found["on_disk_count"]),
        (&0.into(), &5.into())
    );
    let lines: Vec<Value> = CALM
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event"))
        .collect();
    let mut events = found["nats_events"].clone();
    events[3]["at"] = "2026-05-28T20:04:31.020Z".into();
    assert_eq!(
        events,
        Value::Array(lines),
        "as they stand in the log, but for a zero"
    );
}

#[test]
fn both_published_patterns_are_found_and_named() {
    let (status, found) = json(STORM, &[]);
    assert_eq!(status, 1);
    assert_eq!(found["patterns"][0]["name"], "burst-swap-storm");
    assert_eq!(found["patterns"][0]["at"], "2026-05-28T20:04:31Z");
    let detail = found["patterns"][0]["detail"].as_str().expect("text");
    assert!(
        detail.contains("OnRefreshed-callback, ensureNATS, ensureNATS-refresh-due"),
        "{detail}"
    );
    assert_eq!(
        patterns(KICK),
        (1, vec!["post-rotation-auth-violation".to_owned()])
    );
    let (status, text, _) = diagnose(KICK, &[]);
    assert_eq!(status, 1);
    assert!(text.starts_with("✗ 1 PATTERN  log, 2 events"), "{text}");
    assert!(
        text.contains("docs/diagnostics.md#post-rotation-auth-violation"),
        "{text}"
    );
}

#[test]
fn near_misses_are_clean() {
    let two = STORM.lines().take(3).collect::<Vec<_>>().join("\n");
    let slow = STORM.replace("20:04:32.900Z", "20:04:33.001Z");
    let reconnects = STORM.replace("swap", "reconnect");
    // A credential in the middle of its life, one long over, and none that is known.
    let revoked = KICK.replace("1779998701", "1779998901");
    let old = KICK.replace("1779998701", "1779998601");
    let unknown = KICK.replace("1779998701", "0");
    let other = KICK.replacen("0x1", "0x2", 1);
    let refused = KICK.replace("Authorization Violation", "Permissions Violation");
    for log in [two, slow, reconnects, revoked, old, unknown, other, refused] {
        assert_eq!(patterns(&log), (0, Vec::new()), "{log}");
    }
}

#[test]
fn broken_lines_are_named_and_passed_over() {
    let mut log = format!("{CALM}level=info msg=\"connected\"\n\n").into_bytes();
    log.extend_from_slice(b"{\"v\":1,\"type\":\"warn\xff\"}\n");
    log.extend_from_slice(&CALM.as_bytes()[..40]);
    let (status, text, complaints) = diagnose(&log, &[]);
    assert_eq!(status, 0);
    assert!(
        text.starts_with(
            "✓ NO PATTERN  log, 5 events up to 2026-05-28T20:04:31.021Z, 3 lines passed over\n"
        ),
        "{text}"
    );
    let complaints: Vec<&str> = complaints.lines().collect();
    assert_eq!(
        complaints,
        [
            "squall: log: line 6 is no connection event and is passed over: expected value",
            "squall: log: line 8 is no connection event and is passed over: not UTF-8",
            "squall: log: line 9 is no connection event and is passed over: EOF while parsing a string",
        ]
    );
}

#[test]
fn what_other_writers_add_is_kept() {
    let foreign =
        r#"{"v":1,"type":"quota","at":"2026-05-28T20:05:00Z","host":{"name":"x"},"left":3}"#;
    let (status, found) = json(format!("{CALM}{foreign}\n"), &[]);
    assert_eq!(status, 0);
    let event: Value = serde_json::from_str(foreign).expect("JSON");
    assert_eq!(found["nats_events"][5], event);
    let (_, text, _) = diagnose(foreign, &[]);
    assert!(
        text.contains("quota") && text.contains(r#"host={"name":"x"} left=3"#),
        "{text}"
    );
}

#[test]
fn a_beginning_can_be_asked_for() {
    let log = format!("{STORM}{KICK}");
    let told = |since: &str| {
        let (status, found) = json(&log, &["--since", since]);
        let count = |name: &str| found[name].as_array().expect("a list").len();
        assert_eq!(found["on_disk_count"], 6);
        (status, count("patterns"), count("nats_events"))
    };
    assert_eq!(told("1h"), (1, 2, 6));
    assert_eq!(
        told("10s"),
        (1, 1, 2),
        "before the end of the log, not before now"
    );
    assert_eq!(told("1s"), (0, 0, 1));
    assert_eq!(told("2026-05-28T20:04:32Z"), (1, 1, 3));
    assert_eq!(told("2026-05-28T22:05:02+02:00"), (0, 0, 1));
    let (status, text, complaints) = diagnose(&log, &["--since", "soon"]);
    assert_eq!((status, &*text), (2, ""));
    assert!(complaints.contains("neither a time like"), "{complaints}");
}

#[test]
fn drops_are_those_that_nobody_planned() {
    let drop = |seconds: u32, id: &str| {
        format!(
            "{{\"v\":1,\"type\":\"disconnect\",\"at\":\"2026-05-28T20:04:{seconds}Z\",\"nc_id\":\"{id}\"}}\n"
        )
    };
    let count = |lines: &str| json(format!("{CALM}{lines}"), &[]).1["nats_drops_last_hour"].clone();
    assert_eq!(count(&drop(36, "0x1")), 0);
    assert_eq!(count(&drop(37, "0x1")), 1);
    assert_eq!(count(&drop(32, "0x2")), 1);
    assert_eq!(count(&format!("{}{}", drop(32, "0x2"), drop(50, "0x2"))), 2);
}

#[test]
fn a_log_can_come_by_standard_input() {
    let directory = tempfile::tempdir().expect("a folder");
    let (status, text, complaints) = said(squall(directory.path(), &["-"], STORM.as_bytes()));
    assert_eq!((status, &*complaints), (1, ""));
    assert!(
        text.starts_with("✗ 1 PATTERN  standard input, 4 events"),
        "{text}"
    );
    let (status, text, _) = said(squall(directory.path(), &["-"], b""));
    assert_eq!(status, 0);
    assert!(
        text.starts_with("✓ NO PATTERN  standard input, no events\n"),
        "{text}"
    );
}

#[test]
fn an_empty_log_is_clean_and_nothing_is_known() {
    for log in ["", "\n\n"] {
        let (status, found) = json(log, &[]);
        assert_eq!(status, 0);
        assert_eq!(
            (&found["nats_state"], &found["on_disk_count"]),
            (&"unknown".into(), &0.into())
        );
        assert_eq!(found["summary"]["state_since"], Value::Null);
    }
}

#[test]
fn what_is_no_log_is_refused_in_one_sentence() {
    let refusal = |log: &[u8]| {
        let (status, text, complaints) = diagnose(log, &[]);
        assert_eq!((status, &*text), (2, ""));
        assert_eq!(complaints.lines().count(), 1, "{complaints}");
        complaints
    };
    assert_eq!(
        refusal(b"hello\nworld\n"),
        "squall: log: no line is a connection event; line 1: expected value\n"
    );
    assert_eq!(
        refusal(b"\n\xff\xfe\x00\n"),
        "squall: log: no line is a connection event; line 2: not UTF-8\n"
    );
    let later = CALM.replace("\"v\":1", "\"v\":2");
    assert!(
        refusal(later.as_bytes()).contains("schema version 2"),
        "a later schema is not guessed at"
    );
    let directory = tempfile::tempdir().expect("a folder");
    let refusal = |argument: &str| {
        let (status, text, complaints) = said(squall(directory.path(), &[argument], b""));
        assert_eq!((status, &*text), (2, ""));
        complaints
    };
    assert!(refusal("nowhere").starts_with("squall: nowhere: No such file"));
    assert!(refusal(".").starts_with("squall: .: Is a directory"));
}

#[test]
fn secrets_and_commands_to_the_terminal_are_never_shown() {
    let seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    let jwt = "eyJ0eXAiOiJKV1QifQ.eyJqdGkiOiJYIn0.c2ln";
    let line = format!(
        r#"{{"v":1,"type":"connect","at":"2026-05-28T20:05:00Z","reason":"nats://amy:hunter2@h:4222 {jwt}","api_key":"k-123","note":"{seed} \u001b[2J"}}"#
    );
    let broken = format!(r#"{{"v":"{jwt}","type":"warn","at":"2026-05-28T20:05:00Z"}}"#);
    let log = format!("{line}\n{broken}\n");
    for arguments in [&[][..], &["--json"]] {
        let (_, text, complaints) = diagnose(&log, arguments);
        for secret in [seed, jwt, "hunter2", "k-123", "\u{1b}"] {
            assert!(
                !text.contains(secret) && !complaints.contains(secret),
                "{text}{complaints}"
            );
        }
        assert!(text.contains("@h:4222"), "{text}");
    }
}
