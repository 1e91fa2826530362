//! Logs of Jepsen's register tests: one register that starts absent, read, written, and compared and set.
//!
//! ```text
//! INFO  jepsen.util - <process><TAB>:invoke|:ok|:fail|:info<TAB>:read|:write|:cas<TAB><value>
//! ```
//!
//! A read gives `nil` or a number; a compare-and-set takes `[old new]`, and fails where it did not match. What is
//! `:timed-out`, and all `:info`, is of unknown outcome; a write or read that failed otherwise did nothing. What is no
//! such line is passed over, and so is what a process says that is no number, such as the nemesis.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};

use squall_reports::clean;

use super::model::{Effect, Held, Need, Operation, Register};

/// What a process calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Read the register.
    Read,
    /// Write this value.
    Write(i64),
    /// Write the second value if it holds the first.
    CompareAndSet(i64, i64),
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With what was read, or nothing.
    Read(Option<i64>),
    /// It was written.
    Written,
    /// The value to compare with was not there.
    Mismatch,
    /// It did nothing, and that says nothing.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// One call and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub process: u64,
    /// What.
    pub call: Call,
    /// How it ended.
    pub outcome: Outcome,
    /// The line of its invocation, from 1.
    pub invoked: u64,
    /// The line of its end, where that is in the log.
    pub ended: Option<u64>,
}

/// A log that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A line that is one of an operation, and not as it must be.
    #[error("{reason}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// No line is one of an operation.
    #[error("no operation of a Jepsen register test is in it")]
    Empty,
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads a log.
///
/// # Errors
/// Names the first line that cannot be.
pub fn read(input: impl BufRead) -> Result<Vec<Entry>, LogError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    for (line, text) in (1..).zip(input.lines()) {
        let text = text?;
        let Some((process, kind, rest)) = event(&text) else {
            continue;
        };
        let wrong = |reason: String| LogError::Line {
            line,
            reason: clean(&reason),
        };
        let Some((name, value)) = rest.split_once('\t') else {
            return Err(wrong(format!("{rest:?} has no value")));
        };
        let call = call(name, value).map_err(wrong)?;
        match (kind, open.get(&process)) {
            (":invoke", None) => {
                let call =
                    call.ok_or_else(|| wrong(format!("{value:?} is no value for {name}")))?;
                open.insert(process, entries.len());
                entries.push(Entry {
                    process,
                    call,
                    outcome: Outcome::Unknown,
                    invoked: line,
                    ended: None,
                });
            }
            (":invoke", Some(index)) => {
                let since = entries[*index].invoked;
                return Err(wrong(format!(
                    "process {process} has not ended what it began in line {since}"
                )));
            }
            (_, Some(index)) => {
                let entry = &mut entries[*index];
                entry.outcome = outcome(kind, entry.call, name, call, value).map_err(wrong)?;
                entry.ended = Some(line);
                open.remove(&process);
            }
            (_, None) => {
                return Err(wrong(format!(
                    "process {process} ends what it did not begin"
                )));
            }
        }
    }
    if entries.is_empty() {
        return Err(LogError::Empty);
    }
    Ok(entries)
}

/// Process, kind and the rest of the line of an event; `None` where it is another line.
fn event(text: &str) -> Option<(u64, &str, &str)> {
    let (_, event) = text.split_once("jepsen.util - ")?;
    let mut parts = event.splitn(3, '\t');
    let (process, kind, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let process = process.trim().parse().ok()?;
    matches!(kind, ":invoke" | ":ok" | ":fail" | ":info").then_some((process, kind, rest))
}

/// What is called, with its value; `None` for a value that no call has: what a read gave, or `:timed-out`.
fn call(name: &str, value: &str) -> Result<Option<Call>, String> {
    let value = value.trim();
    let number = |text: &str| text.parse::<i64>().ok();
    Ok(match name {
        ":read" => (value == "nil").then_some(Call::Read),
        ":write" => number(value).map(Call::Write),
        ":cas" => value
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .and_then(|pair| pair.split_once(' '))
            .and_then(|(old, new)| Some(Call::CompareAndSet(number(old)?, number(new.trim())?))),
        _ => return Err(format!("a register has no {name:?}")),
    })
}

fn outcome(
    kind: &str,
    begun: Call,
    name: &str,
    ended: Option<Call>,
    value: &str,
) -> Result<Outcome, String> {
    let is_same = matches!(
        (begun, name),
        (Call::Read, ":read") | (Call::Write(_), ":write") | (Call::CompareAndSet(..), ":cas")
    );
    let is_same = is_same && (begun == Call::Read || ended.is_none_or(|ended| ended == begun));
    if !is_same {
        return Err(format!("{name} {value} ends what began as {begun}"));
    }
    // Some clients say that a read which timed out failed.
    if kind == ":info" || value.starts_with(":timed-out") {
        return Ok(Outcome::Unknown);
    }
    Ok(match (kind, begun, ended) {
        (":ok", Call::Read, Some(_)) => Outcome::Read(None),
        (":ok", Call::Read, None) => match value.trim().parse() {
            Ok(read) => Outcome::Read(Some(read)),
            Err(_) => return Err(format!("{value:?} is nothing that a read gives")),
        },
        (":ok", _, Some(_)) => Outcome::Written,
        (":ok", _, None) => return Err(format!("{value:?} is no value for {name}")),
        (_, Call::CompareAndSet(..), Some(_)) => Outcome::Mismatch,
        _ => Outcome::Refused,
    })
}

/// The number that stands for *absent*.
const ABSENT: u32 = 0;

/// The register of these entries, with the operations on it, one for each entry.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// The register.
    pub register: Register,
    /// In the order of the entries.
    pub operations: Vec<Operation>,
    /// The values, in the order of their numbers, from 1.
    values: Vec<i64>,
}

impl Numbered {
    /// Gives each value a number.
    pub fn new(entries: &[Entry]) -> Self {
        let mut numbers: BTreeMap<i64, u32> = BTreeMap::new();
        let mut values = Vec::new();
        let mut number = |value: i64| {
            *numbers.entry(value).or_insert_with(|| {
                values.push(value);
                values.len() as u32
            })
        };
        let operations = entries.iter().map(|entry| {
            let (need, effect) = match (entry.call, entry.outcome) {
                (Call::Read, Outcome::Read(value)) => (
                    Need::Shows(value.map_or(ABSENT, &mut number)),
                    Effect::Nothing,
                ),
                (Call::CompareAndSet(old, _), Outcome::Mismatch) => {
                    (Need::ShowsNot(number(old)), Effect::Nothing)
                }
                (Call::Read, _) | (_, Outcome::Refused) => (Need::Anything, Effect::Nothing),
                (Call::Write(to), _) => (Need::Anything, Effect::Set(Held::value(number(to)))),
                (Call::CompareAndSet(old, new), _) => {
                    let need = Need::Shows(number(old));
                    (need, Effect::Set(Held::value(number(new))))
                }
            };
            Operation {
                invoked: entry.invoked,
                ended: entry.ended.filter(|_| entry.outcome != Outcome::Unknown),
                need,
                effect,
            }
        });
        Self {
            operations: operations.collect(),
            register: Register::plain(ABSENT),
            values,
        }
    }

    /// What a register holds, in words; `None` for a value that no operation asks for.
    pub fn value(&self, held: Held) -> Option<String> {
        match held.number() {
            ABSENT => Some("nothing".to_owned()),
            number => self.values.get(number as usize - 1).map(i64::to_string),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("read"),
            Self::Write(value) => write!(f, "write {value}"),
            Self::CompareAndSet(old, new) => write!(f, "compare-and-set {old} to {new}"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.call)?;
        match self.outcome {
            Outcome::Read(Some(value)) => write!(f, ": {value}"),
            Outcome::Read(None) => f.write_str(": nothing"),
            Outcome::Written => f.write_str(": ok"),
            Outcome::Mismatch => f.write_str(": did not match"),
            Outcome::Refused => f.write_str(": refused"),
            Outcome::Unknown => f.write_str(": unknown"),
        }
    }
}

/// Writes entries as a log, the events in the order of their lines; lines without an event are left out.
///
/// # Errors
/// If `out` cannot be written.
pub fn write(entries: &[Entry], mut out: impl Write) -> io::Result<()> {
    let mut events: Vec<(u64, bool, &Entry)> = Vec::new();
    for entry in entries {
        events.push((entry.invoked, false, entry));
        events.extend(entry.ended.map(|line| (line, true, entry)));
    }
    events.sort_by_key(|(line, ..)| *line);
    for (_, is_end, entry) in events {
        let name = match entry.call {
            Call::Read => ":read",
            Call::Write(_) => ":write",
            Call::CompareAndSet(..) => ":cas",
        };
        let kind = match entry.outcome {
            _ if !is_end => ":invoke",
            Outcome::Read(_) | Outcome::Written => ":ok",
            Outcome::Mismatch | Outcome::Refused => ":fail",
            Outcome::Unknown => ":info",
        };
        let value = match (entry.call, entry.outcome) {
            (_, Outcome::Unknown) if is_end => ":timed-out".to_owned(),
            (Call::Read, Outcome::Read(Some(value))) if is_end => value.to_string(),
            (Call::Read, _) => "nil".to_owned(),
            (Call::Write(value), _) => value.to_string(),
            (Call::CompareAndSet(old, new), _) => format!("[{old} {new}]"),
        };
        let process = entry.process;
        writeln!(
            out,
            "INFO  jepsen.util - {process}\t{kind}\t{name}\t{value}"
        )?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use squall_core::Rng;

    use super::super::sample::Sample;
    use super::*;

    fn entries(text: &str) -> Result<Vec<Entry>, LogError> {
        read(text.as_bytes())
    }

    fn log(events: &[&str]) -> String {
        let line = |event: &&str| format!("INFO  jepsen.util - {}\n", event.replace(' ', "\t"));
        let text: String = events.iter().map(line).collect();
        text.replace('_', " ")
    }

    #[test]
    fn what_is_written_is_read_again() {
        let sample = Sample {
            clients: 5,
            calls: 100,
            values: 5,
            unknown_percent: 20,
        };
        let drawn = sample.draw(&mut Rng::new(3));
        let mut text = Vec::new();
        write(&drawn, &mut text).expect("memory takes all");
        assert_eq!(read(text.as_slice()).expect("a log"), drawn);
    }

    #[test]
    fn outcomes_are_what_they_say() {
        let text = log(&[
            "0 :invoke :read nil",
            "1 :invoke :cas [3_4]",
            "0 :ok :read nil",
            "1 :fail :cas [3_4]",
            "0 :invoke :read nil",
            "0 :fail :read :timed-out",
            "1 :invoke :write 5",
            "1 :info :write :timed-out",
            "2 :invoke :write 6",
            "2 :fail :write 6",
        ]);
        let text = format!("some other line\n:nemesis\t:info\t:start\tnil\n{text}");
        let outcomes: Vec<Outcome> = entries(&text)
            .expect("a log")
            .iter()
            .map(|entry| entry.outcome)
            .collect();
        let expected = [
            Outcome::Read(None),
            Outcome::Mismatch,
            Outcome::Unknown,
            Outcome::Unknown,
            Outcome::Refused,
        ];
        assert_eq!(outcomes, expected);
    }

    #[test]
    fn a_line_that_cannot_be_is_named() {
        let cases: [(&[&str], &str); 8] = [
            (&["0 :invoke :read"], "\":read\" has no value"),
            (&["0 :invoke :enqueue 1"], "a register has no \":enqueue\""),
            (&["0 :invoke :write nil"], "\"nil\" is no value for :write"),
            (&["0 :ok :read 1"], "process 0 ends what it did not begin"),
            (
                &["0 :invoke :read nil", "0 :invoke :read nil"],
                "process 0 has not ended what it began in line 1",
            ),
            (
                &["0 :invoke :write 1", "0 :ok :write 2"],
                ":write 2 ends what began as write 1",
            ),
            (
                &["0 :invoke :read nil", "0 :ok :read one"],
                "\"one\" is nothing that a read gives",
            ),
            (&["0 :invoke :cas [1,2]"], "\"[1,2]\" is no value for :cas"),
        ];
        for (events, sentence) in cases {
            let error = entries(&log(events)).expect_err(sentence);
            let LogError::Line { line, reason } = error else {
                panic!("{error}");
            };
            assert_eq!((line, reason.as_str()), (events.len() as u64, sentence));
        }
        assert!(matches!(
            entries("nothing of the kind\n"),
            Err(LogError::Empty)
        ));
    }
}
