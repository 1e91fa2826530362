//! The readers of plans and histories under input that nobody meant: they say what is wrong, and never panic.
//!
//! Under `cargo test` the input is random, a thousand times or for a second. Guided by coverage, for as long as you like:
//! `RUSTFLAGS='--cfg madsim' cargo bolero test -p squall-scenarios --profile sim -s NONE --rustc-bootstrap -T 10min
//! fuzz::<name>`. Edits of a good text find more than random bytes do: they get past the first line.

use std::sync::LazyLock;

use bolero::{TypeGenerator, check};
use squall_scenarios::history::History;
use squall_scenarios::parse::parse;
use squall_scenarios::run::simulate;
use squall_scenarios::{invariants, stories};

/// What edits put in the place of a word.
const WORDS: &[&str] = &[
    "",
    "0",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "1e400",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "\"0s\"",
    "\"1ns\"",
    "\"584554530872years\"",
    "\"agent/alice\"",
    "\"server\"",
    "\"\u{0}\"",
    "ä",
    "[[fault]]",
    "[[agent]]",
    "\"end\"",
    "\"type\"",
];

/// One change of a text. Numbers are taken modulo what there is.
#[derive(Clone, Debug, TypeGenerator)]
enum Edit {
    DropLine {
        line: u16,
    },
    RepeatLine {
        line: u16,
    },
    SwapLines {
        one: u16,
        other: u16,
    },
    ReplaceWord {
        line: u16,
        word: u8,
        by: u8,
    },
    CopyWord {
        line: u16,
        word: u8,
        from: u16,
        which: u8,
    },
    SetByte {
        at: u16,
        to: u8,
    },
    CutOff {
        at: u16,
    },
}

/// Where the words of a line lie: runs of what plans and JSON do not use to separate.
fn words(line: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut begun = None;
    for (at, letter) in line.char_indices().chain([(line.len(), ' ')]) {
        match (letter.is_whitespace() || ",:=[]{}".contains(letter), begun) {
            (true, Some(start)) => {
                found.push(start..at);
                begun = None;
            }
            (false, None) => begun = Some(at),
            _ => {}
        }
    }
    found
}

fn nth<T: Clone>(of: &[T], number: usize) -> Option<T> {
    of.get(number % of.len().max(1)).cloned()
}

fn replace(lines: &mut [String], line: u16, word: u8, by: &str) {
    let at = usize::from(line) % lines.len().max(1);
    if let Some(line) = lines.get_mut(at)
        && let Some(range) = nth(&words(line), usize::from(word))
    {
        line.replace_range(range, by);
    }
}

fn edited(text: &str, edits: &[Edit]) -> Vec<u8> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for edit in edits {
        let count = lines.len().max(1);
        let place = |line: u16| usize::from(line) % count;
        match *edit {
            _ if lines.is_empty() => {}
            Edit::DropLine { line } => {
                lines.remove(place(line));
            }
            Edit::RepeatLine { line } => {
                lines.insert(place(line), lines[place(line)].clone());
            }
            Edit::SwapLines { one, other } => lines.swap(place(one), place(other)),
            Edit::ReplaceWord { line, word, by } => {
                replace(&mut lines, line, word, WORDS[usize::from(by) % WORDS.len()]);
            }
            Edit::CopyWord {
                line,
                word,
                from,
                which,
            } => {
                let source = lines[place(from)].clone();
                if let Some(range) = nth(&words(&source), usize::from(which)) {
                    replace(&mut lines, line, word, &source[range]);
                }
            }
            Edit::SetByte { .. } | Edit::CutOff { .. } => {}
        }
    }
    let mut bytes = lines.join("\n").into_bytes();
    for edit in edits {
        let count = bytes.len().max(1);
        match *edit {
            Edit::SetByte { at, to } if !bytes.is_empty() => bytes[usize::from(at) % count] = to,
            Edit::CutOff { at } => bytes.truncate(usize::from(at) % count),
            _ => {}
        }
    }
    bytes
}

/// A plan of every scenario.
static PLANS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let scenarios = stories::all().iter();
    scenarios
        .map(|scenario| scenario.draw(7).to_string())
        .collect()
});

/// A history of a few scenarios, cut to a length that a fuzzer can work on.
static HISTORIES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let scenarios = stories::all().iter().step_by(3);
    scenarios
        .map(|scenario| {
            let mut written = Vec::new();
            let mut history = simulate(&scenario.draw(7)).history;
            history.0.truncate(150);
            history.write(&mut written).expect("memory takes all");
            String::from_utf8(written).expect("JSON is text")
        })
        .collect()
});

#[test]
fn any_edit_of_a_plan_is_a_plan_or_a_sentence_with_its_line() {
    check!()
        .with_type::<(u8, Vec<Edit>)>()
        .for_each(|(which, edits)| {
            let original = nth(&PLANS, usize::from(*which)).expect("there are plans");
            let text = String::from_utf8_lossy(&edited(&original, edits)).into_owned();
            match parse(&text) {
                Ok(plan) => assert_eq!(parse(&plan.to_string()), Ok(plan), "{text}"),
                Err(error) => {
                    assert!(
                        (1..=text.lines().count().max(1)).contains(&error.line),
                        "{text}"
                    );
                    assert!(
                        !error.reason.is_empty() && !error.reason.contains(char::is_control),
                        "{text}"
                    );
                }
            }
        });
}

#[test]
fn any_edit_of_a_history_is_judged_or_refused_with_its_line() {
    check!()
        .with_type::<(u8, Vec<Edit>)>()
        .for_each(|(which, edits)| {
            let original = nth(&HISTORIES, usize::from(*which)).expect("there are histories");
            let bytes = edited(&original, edits);
            match History::read(bytes.as_slice()) {
                Ok(history) => {
                    if let Ok(plan) = history.plan() {
                        let _any_verdict = invariants::judge(&plan, &history);
                    }
                }
                Err(error) => {
                    let sentence = error.to_string();
                    assert!(!sentence.contains(char::is_control), "{sentence:?}");
                }
            }
        });
}
