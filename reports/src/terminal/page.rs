//! A page of lines: pieces of text with an ink each, so that widths are counted before colours come in.

use anstyle::{AnsiColor, Style as Ansi};

use super::Style;
use crate::model::Tone;
use crate::words::{columns, wrap};

/// What a piece of text looks like, named by what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    /// A heading, a name.
    Strong,
    /// What frames the rest.
    Faint,
    Good,
    /// Unsure, inconclusive, never reached.
    Warn,
    Bad,
    /// Of a fault.
    Fault,
}

impl Ink {
    fn ansi(self) -> Ansi {
        let colour = |colour: AnsiColor| Ansi::new().fg_color(Some(colour.into()));
        match self {
            Self::Plain => Ansi::new(),
            Self::Strong => Ansi::new().bold(),
            Self::Faint => Ansi::new().dimmed(),
            Self::Good => colour(AnsiColor::Green),
            Self::Warn => colour(AnsiColor::Yellow),
            Self::Bad => colour(AnsiColor::Red).bold(),
            Self::Fault => colour(AnsiColor::Magenta),
        }
    }
}

/// The ink of a verdict.
pub(super) fn ink(tone: Tone) -> Ink {
    match tone {
        Tone::Well => Ink::Good,
        Tone::Unsure => Ink::Warn,
        Tone::Over => Ink::Bad,
    }
}

/// Text in one ink.
pub(super) type Piece = (Ink, String);

/// A piece.
pub(super) fn piece(ink: Ink, text: impl Into<String>) -> Piece {
    (ink, text.into())
}

/// What stands before an indented line.
pub(super) fn indent(columns: usize) -> [Piece; 1] {
    [piece(Ink::Plain, " ".repeat(columns))]
}

/// The lines written so far.
#[derive(Debug)]
pub(super) struct Page {
    style: Style,
    text: String,
}

impl Page {
    pub(super) fn new(style: Style) -> Self {
        let text = String::new();
        Self { style, text }
    }

    /// How many columns a line may take: as asked for, but never fewer than can be read at all.
    pub(super) fn width(&self) -> usize {
        self.style.width.max(20)
    }

    /// One line as it is; blanks at its end are left out.
    pub(super) fn line(&mut self, mut pieces: Vec<Piece>) {
        while let Some((_, text)) = pieces.last_mut() {
            text.truncate(text.trim_end().len());
            if !text.is_empty() {
                break;
            }
            pieces.pop();
        }
        // Neighbours in one ink are one piece: a log with colours stays small.
        pieces.dedup_by(|next, piece| {
            let same = next.0 == piece.0;
            if same {
                piece.1.push_str(&next.1);
            }
            same
        });
        for (ink, text) in pieces {
            let ansi = ink.ansi();
            // A style around nothing but blanks would be noise in a log.
            if self.style.color && !text.trim().is_empty() {
                self.text.push_str(&format!("{ansi}{text}{ansi:#}"));
            } else {
                self.text.push_str(&text);
            }
        }
        self.text.push('\n');
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A blank line and a heading.
    pub(super) fn heading(&mut self, text: &str) {
        self.blank();
        self.paragraph(&[], &[], Ink::Strong, text);
    }

    /// A text in as many lines as it needs: the first after `first`, the others after `rest`.
    pub(super) fn paragraph(&mut self, first: &[Piece], rest: &[Piece], ink: Ink, text: &str) {
        self.block(first, rest, ink, text, usize::MAX);
    }

    /// The same, but the last of `lines_max` lines ends with `…` if there is more.
    pub(super) fn block(
        &mut self,
        first: &[Piece],
        rest: &[Piece],
        ink: Ink,
        text: &str,
        lines_max: usize,
    ) {
        let taken = |before: &[Piece]| before.iter().map(|(_, text)| columns(text)).sum::<usize>();
        let room = |before| self.width().saturating_sub(taken(before));
        let mut lines = wrap(text, room(first), room(rest));
        if lines.len() > lines_max {
            let room = |before| room(before).saturating_sub(columns(" …"));
            lines = wrap(text, room(first), room(rest));
            lines.truncate(lines_max);
            if let Some(last) = lines.last_mut() {
                last.push_str(" …");
            }
        }
        for (index, line) in lines.into_iter().enumerate() {
            let mut pieces = if index == 0 { first } else { rest }.to_vec();
            pieces.push(piece(ink, line));
            self.line(pieces);
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}
