//! Reads a connection-event log, whoever wrote it: what can be read is, what cannot is named.

use super::event::{NatsEvent, SCHEMA_VERSION};
use super::redact::redact;

/// What stands in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsRead {
    /// The events, in the order of the log.
    pub events: Vec<NatsEvent>,
    /// The lines that are none.
    pub broken: Vec<BrokenLine>,
}

/// A line that is no event of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenLine {
    /// Which, counted from 1.
    pub number: usize,
    /// Why not.
    pub why: String,
}

/// Reads a log. Empty lines are of no matter: a writer ends a line that another left torn, and two may do so at once.
pub fn read_events(log: &[u8]) -> EventsRead {
    let log = log.strip_prefix(b"\xef\xbb\xbf").unwrap_or(log);
    let mut read = EventsRead::default();
    for (index, line) in log.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match read_event(line) {
            Ok(event) => read.events.push(event),
            Err(why) => read.broken.push(BrokenLine {
                number: index + 1,
                why,
            }),
        }
    }
    read
}

fn read_event(line: &[u8]) -> Result<NatsEvent, String> {
    let event: NatsEvent = std::str::from_utf8(line)
        .map_err(|_| "not UTF-8".to_owned())
        .and_then(|line| serde_json::from_str(line).map_err(|error| said(&error)))?;
    match event.v {
        // Writers from before the schema had a version.
        0 | SCHEMA_VERSION => Ok(NatsEvent {
            v: SCHEMA_VERSION,
            ..event
        }),
        v => Err(format!(
            "schema version {v}, and {SCHEMA_VERSION} is the one that is known"
        )),
    }
}

/// The parser's sentence without its line number, which is always 1 here, and without what it quotes of secrets.
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let sentence = text.split(" at line 1 ").next().unwrap_or(&text);
    redact(sentence).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"v":1,"type":"connect","at":"2026-05-28T20:26:40Z","nc_id":"c1"}"#;

    fn broken(log: &[u8]) -> (usize, Vec<(usize, String)>) {
        let read = read_events(log);
        let broken = read.broken.into_iter();
        (
            read.events.len(),
            broken.map(|line| (line.number, line.why)).collect(),
        )
    }

    #[test]
    fn a_torn_last_line_costs_itself_alone() {
        for cut in 1..GOOD.len() {
            let log = format!("{GOOD}\n{GOOD}\n{}", &GOOD[..cut]);
            let (events, broken) = broken(log.as_bytes());
            assert_eq!((events, broken.len(), broken[0].0), (2, 1, 3), "{cut}");
        }
        assert_eq!(
            broken(format!("{GOOD}\n{GOOD}").as_bytes()),
            (2, Vec::new())
        );
    }

    #[test]
    fn broken_lines_are_named_and_passed_over() {
        let mut log = format!("\u{feff}{GOOD}\r\n\n  \nlevel=info msg=hello\n[1]\n").into_bytes();
        log.extend_from_slice(b"{\"type\":\"\xff\"}\n\0\0\0\n");
        log.extend_from_slice(GOOD.replace("\"v\":1", "\"v\":2").as_bytes());
        log.push(b'\n');
        log.extend_from_slice(GOOD.replace("\"v\":1", "\"v\":0").as_bytes());
        let (events, broken) = broken(&log);
        assert_eq!(events, 2);
        let said: Vec<String> = broken
            .iter()
            .map(|(n, why)| format!("{n}: {why}"))
            .collect();
        assert_eq!(
            said,
            [
                "4: expected value",
                "5: invalid type: sequence, expected struct NatsEvent",
                "6: not UTF-8",
                "7: expected value",
                "8: schema version 2, and 1 is the one that is known",
            ]
        );
    }

    #[test]
    fn what_a_broken_line_quotes_is_no_secret() {
        let line =
            r#"{"v":"eyJhbGciOiJlZDI1NTE5LW5rZXkifQ","type":"warn","at":"2026-05-28T20:26:40Z"}"#;
        let (_, broken) = broken(line.as_bytes());
        assert!(broken[0].1.contains("[redacted]"), "{broken:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_read(log in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let read = read_events(&log);
            let lines = log.split(|byte| *byte == b'\n').count();
            proptest::prop_assert!(read.events.len() + read.broken.len() <= lines);
        }
    }
}
