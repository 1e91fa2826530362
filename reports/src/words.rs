//! Times, counts and texts as people read them.

use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::model::TrueTime;

/// How many columns a text takes.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// Seconds with milliseconds: `12.400`.
pub(crate) fn clock(at: TrueTime) -> String {
    let millis = at.as_nanos() / 1_000_000;
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

/// A duration at the precision that matters at its size.
pub(crate) fn duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        0 if millis == 0 && duration.is_zero() => "0 s".to_owned(),
        0 if millis == 0 => format!("{} µs", duration.as_micros().max(1)),
        0 => format!("{millis} ms"),
        1..120 => format!("{seconds}.{millis:03} s"),
        120..7200 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!(
            "{} h {:02} min",
            thousands(seconds / 3600),
            seconds / 60 % 60
        ),
    }
}

/// A whole number with its thousands apart: `12 345`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A ratio or rate: one decimal below a hundred, none above.
pub(crate) fn rate(rate: f64) -> String {
    if rate < 100.0 {
        format!("{rate:.1}")
    } else {
        // A float this large is rounded anyway; the cast saturates.
        thousands(rate.round() as u64)
    }
}

/// `1 seed`, `2 seeds`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        thousands(number),
        if number == 1 { one } else { many }
    )
}

/// The text on one line, without what would move the cursor or turn the direction: chat bodies come from anywhere.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() || turns(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// The text as text, in an element or an attribute of HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in clean(text).chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Marks that turn the direction in which what follows is read.
fn turns(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text in at most `width` columns, with a mark where it was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut kept = take(text, width.saturating_sub(1)).to_owned();
    if width > 0 {
        kept.push('…');
    }
    kept
}

/// The text, filled up with blanks to `width` columns or cut to it.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let mut text = cut(text, width);
    let missing = width.saturating_sub(columns(&text));
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

/// Lines of at most `rest` columns, the first of at most `first`, broken at blanks, or inside a word that is longer than
/// a line. At least one line.
pub(crate) fn wrap(text: &str, first: usize, rest: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for mut word in text.split_whitespace() {
        let used = lines.last().map_or(0, |line| columns(line));
        if used > 0 {
            if used + 1 + columns(word) <= room(&lines, first, rest) {
                push(&mut lines, " ");
                push(&mut lines, word);
                continue;
            }
            lines.push(String::new());
        }
        while columns(word) > room(&lines, first, rest) {
            let head = take(word, room(&lines, first, rest));
            push(&mut lines, head);
            lines.push(String::new());
            word = &word[head.len()..];
        }
        push(&mut lines, word);
    }
    lines
}

/// The columns of the last line; enough for any one letter, so that there is always progress.
fn room(lines: &[String], first: usize, rest: usize) -> usize {
    if lines.len() == 1 { first } else { rest }.max(2)
}

fn push(lines: &mut [String], text: &str) {
    if let Some(line) = lines.last_mut() {
        line.push_str(text);
    }
}

/// The longest beginning of `text` in `width` columns.
fn take(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (index, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > width {
            return &text[..index];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_say_what_matters_at_their_size() {
        let said = [0, 340_000, 38_000_000, 21_400_000_000, 725_000_000_000]
            .map(|nanos| duration(Duration::from_nanos(nanos)));
        assert_eq!(said, ["0 s", "340 µs", "38 ms", "21.400 s", "12 min 05 s"]);
        assert_eq!(duration(Duration::from_secs(3600 * 1234)), "1 234 h 00 min");
        assert_eq!(rate(6166.7), "6 167");
        assert_eq!(rate(f64::INFINITY), thousands(u64::MAX));
    }

    #[test]
    fn no_line_is_wider_than_it_may_be() {
        assert_eq!(wrap("one two  three", 8, 5), ["one two", "three"]);
        assert_eq!(wrap("presence.alice", 8, 8), ["presence", ".alice"]);
        assert_eq!(wrap("船船船 a", 4, 4), ["船船", "船 a"]);
        assert_eq!(wrap("", 8, 8), [""]);
        assert_eq!(cut("partition", 5), "part…");
        assert_eq!(fit("船", 4), "船  ");
        assert_eq!(fit("any", 0), "");
    }

    #[test]
    fn a_text_cannot_command_the_terminal() {
        assert_eq!(clean("a\nb\u{1b}[2J\u{202e}"), "a b\u{fffd}[2J\u{fffd}");
    }
}
