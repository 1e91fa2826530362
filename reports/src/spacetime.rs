//! The last moments before a violation as a space-time diagram, in SVG: a line for each lane, time downwards, messages
//! between the lines ([Lamport 1978](https://doi.org/10.1145/359545.359563), figure 1, turned by a quarter).
//!
//! Time is not to scale: each row of the [excerpt](crate::excerpt) has the same height, so that a thousandth of a second
//! in which everything happened is as readable as the ten before it in which nothing did. What lies between two rows
//! is drawn between them, and a gap says how long it is. Beside each row stands what happened, in words.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::excerpt::{Excerpt, Row, Weight, lasts};
use crate::model::{LaneId, MarkId, MarkKind, Message, Run, TrueTime, Violation};
use crate::story::{self, Line};
use crate::words::{clean, clock, cut, escape};

/// Rows, at most.
const ROWS: usize = 40;
/// The height of a row, in pixels.
const ROW: f64 = 20.0;
/// The height of the names above.
const HEAD: f64 = 34.0;
/// The width of the times on the left.
const TIMES: f64 = 84.0;
/// From one lane to the next, where there are few.
const LANE: f64 = 92.0;
/// All lanes together are at most so wide.
const LANES_MAX: f64 = 920.0;
/// The width of the words on the right, and how many columns of text fit there.
const WORDS: f64 = 760.0;
const WORDS_COLUMNS: usize = 112;

/// Colours of its own, for a file that stands alone; in a page the page's are used.
const COLOURS: &str = "<style>\n\
    svg { --ground: #ffffff; --ink: #1b1f24; --faint: #545d68; --line: #d0d7de; --bad: #b3141d; --call: #0a4fa8; \
    --fault: #6639ba; --bad-fill: #f6c6c4; --fault-fill: rgba(102, 57, 186, .13); }\n\
    @media (prefers-color-scheme: dark) { svg { --ground: #0d1117; --ink: #e6edf3; --faint: #9aa4af; --line: #30363d; \
    --bad: #ff7b72; --call: #79b8ff; --fault: #d2a8ff; --bad-fill: #6b1f1f; \
    --fault-fill: rgba(210, 168, 255, .16); } }\n</style>\n";

/// What a file must say of itself, and a page need not.
const NAME_SPACE: &str = " xmlns=\"http://www.w3.org/2000/svg\"";

/// The first violation of a run as the text of an SVG file; none where nothing was violated.
pub fn render(run: &Run) -> Option<String> {
    draw(run, true)
}

/// The same as an element of a page, whose colours it takes.
pub(crate) fn element(run: &Run) -> Option<String> {
    draw(run, false)
}

fn draw(run: &Run, alone: bool) -> Option<String> {
    let violation = *run.violations().first()?;
    let diagram = Diagram::new(run, violation);
    let (width, height) = (diagram.words_from() + WORDS, diagram.bottom() + 8.0);
    let invariant = &violation.invariant;
    let label = format!(
        "Space-time diagram of what led to the violation of {} {}",
        invariant.code, invariant.name
    );
    let name_space = if alone { NAME_SPACE } else { "" };
    let mut svg = Svg(format!(
        "<svg{name_space} viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{}\" font-size=\"12.5\" \
         font-family=\"system-ui, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif\">\n",
        escape(&label)
    ));
    if alone {
        svg.0.push_str(COLOURS);
        svg.line(format_args!(
            "<rect width=\"{width}\" height=\"{height}\" fill=\"var(--ground)\"/>"
        ));
    }
    svg.0.push_str(
        "<defs><marker id=\"arrowhead\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0.5 L8 4 L0 7.5 z\" fill=\"var(--call)\"/></marker></defs>\n",
    );
    diagram.draw(&mut svg);
    svg.0.push_str("</svg>\n");
    Some(svg.0)
}

struct Diagram<'a> {
    run: &'a Run,
    violation: &'a Violation,
    excerpt: Excerpt,
    rows: Vec<(Row, Line)>,
    lanes: Vec<LaneId>,
    messages: Vec<&'a Message>,
}

impl<'a> Diagram<'a> {
    fn new(run: &'a Run, violation: &'a Violation) -> Self {
        let excerpt = Excerpt::around(run, violation, ROWS);
        let told = excerpt.rows.iter().cloned().filter_map(|row| {
            let line = story::line(run, violation, &row)?;
            Some((row, line))
        });
        let rows: Vec<(Row, Line)> = told.collect();
        let points: BTreeSet<(LaneId, TrueTime)> = rows
            .iter()
            .filter_map(|(row, _)| match row {
                Row::Mark(id, _) => run.mark(*id).map(|mark| (mark.lane, mark.at)),
                _ => None,
            })
            .collect();
        let within = |at: TrueTime| excerpt.from <= at && at <= excerpt.to;
        let is_shown = |message: &&Message| {
            let left = points.contains(&(message.from, message.sent));
            let came = message
                .arrived
                .is_some_and(|at| points.contains(&(message.to, at)));
            (left || came) && within(message.sent) && message.arrived.is_none_or(within)
        };
        let messages: Vec<&Message> = run.messages.iter().filter(is_shown).collect();
        let mut lanes: BTreeSet<LaneId> = points.iter().map(|(lane, _)| *lane).collect();
        lanes.extend(&violation.lanes);
        lanes.extend(
            messages
                .iter()
                .flat_map(|message| [message.from, message.to]),
        );
        let mut lanes: Vec<LaneId> = lanes.into_iter().collect();
        let rank = |id: &LaneId| violation.lanes.iter().position(|known| known == id);
        lanes.sort_by_key(|id| rank(id).unwrap_or(usize::MAX));
        Self {
            run,
            violation,
            excerpt,
            rows,
            lanes,
            messages,
        }
    }

    fn pitch(&self) -> f64 {
        LANE.min(LANES_MAX / self.lanes.len().max(1) as f64)
    }

    fn x(&self, lane: LaneId) -> Option<f64> {
        let place = self.lanes.iter().position(|known| *known == lane)?;
        Some(TIMES + self.pitch() * (place as f64 + 0.5))
    }

    fn words_from(&self) -> f64 {
        TIMES + self.pitch() * self.lanes.len() as f64 + 14.0
    }

    fn y(row: usize) -> f64 {
        HEAD + ROW * (row as f64 + 0.5)
    }

    fn bottom(&self) -> f64 {
        HEAD + ROW * self.rows.len() as f64
    }

    /// The row of the mark of this lane at this time; between rows by the time between them.
    fn y_at(&self, lane: Option<LaneId>, at: TrueTime) -> f64 {
        let is_it = |row: &Row| match row {
            Row::Mark(id, _) => self
                .run
                .mark(*id)
                .is_some_and(|mark| Some(mark.lane) == lane && mark.at == at),
            _ => false,
        };
        if let Some(row) = self.rows.iter().position(|(row, _)| is_it(row)) {
            return Self::y(row);
        }
        let timed = || {
            let rows = self.rows.iter().enumerate();
            rows.filter_map(|(row, (_, line))| Some((row, line.at?)))
        };
        let before = timed().rfind(|(_, time)| *time <= at);
        let after = timed().find(|(_, time)| *time > at);
        match (before, after) {
            (Some((row, from)), Some((next, to))) => {
                let part = at.since(from).as_secs_f64() / to.since(from).as_secs_f64();
                Self::y(row) + (Self::y(next) - Self::y(row)) * part
            }
            (Some((row, _)), None) => Self::y(row),
            (None, _) => HEAD,
        }
    }

    fn draw(&self, svg: &mut Svg) {
        self.draw_faults(svg);
        self.draw_lanes(svg);
        self.draw_operations(svg);
        for message in &self.messages {
            self.draw_message(svg, message);
        }
        for (number, (row, line)) in self.rows.iter().enumerate() {
            self.draw_row(svg, number, row, line);
        }
    }

    fn draw_faults(&self, svg: &mut Svg) {
        let shown = |fault: &&crate::model::FaultBand| {
            lasts(fault) && fault.from <= self.excerpt.to && fault.to >= self.excerpt.from
        };
        for fault in self.run.faults.iter().filter(shown) {
            let named = self.run.lanes_named(&fault.target);
            let struck = self.lanes.iter().filter(|lane| named.contains(lane));
            let (from, to) = (self.y_at(None, fault.from), self.y_at(None, fault.to));
            let wide = self.pitch() - 10.0;
            for x in struck.filter_map(|lane| self.x(*lane)) {
                svg.line(format_args!(
                    "<rect x=\"{:.1}\" y=\"{from:.1}\" width=\"{wide:.1}\" height=\"{:.1}\" \
                     fill=\"var(--fault-fill)\"><title>{}</title></rect>",
                    x - wide / 2.0,
                    (to - from).max(2.0),
                    escape(&format!("{} {}", fault.name, fault.target))
                ));
            }
        }
    }

    fn draw_lanes(&self, svg: &mut Svg) {
        let bottom = self.bottom();
        // An average letter is some 7 px wide.
        let letters = (self.pitch() / 7.0) as usize;
        for (lane, x) in self
            .lanes
            .iter()
            .filter_map(|lane| Some((lane, self.x(*lane)?)))
        {
            let name = self.run.lane_name(*lane);
            let is_concerned = self.violation.lanes.contains(lane);
            svg.line(format_args!(
                "<text x=\"{x:.1}\" y=\"20\" text-anchor=\"middle\" font-weight=\"600\" fill=\"var({})\">{}\
                 <title>{}</title></text>",
                if is_concerned { "--bad" } else { "--ink" },
                escape(&cut(&clean(&name), letters)),
                escape(&name)
            ));
            svg.line(format_args!(
                "<path d=\"M{x:.1} {HEAD:.1} V{bottom:.1}\" stroke=\"var(--line)\" stroke-width=\"1.5\"/>"
            ));
        }
    }

    /// Calls of which a mark is shown, from their beginning to their end, as far as they lie within.
    fn draw_operations(&self, svg: &mut Svg) {
        let shown: BTreeSet<MarkId> = self
            .rows
            .iter()
            .filter_map(|(row, _)| match row {
                Row::Mark(id, _) => Some(*id),
                _ => None,
            })
            .collect();
        for operation in self.run.operations() {
            let is_shown = shown.contains(&operation.call)
                || operation.answer.is_some_and(|id| shown.contains(&id));
            let Some(x) = self.x(operation.lane).filter(|_| is_shown) else {
                continue;
            };
            let lane = Some(operation.lane);
            let (from, to) = (
                self.y_at(lane, operation.from),
                self.y_at(lane, operation.to),
            );
            let dashes = match operation.end {
                MarkKind::Unknown => " stroke-dasharray=\"4 3\"",
                _ => "",
            };
            svg.line(format_args!(
                "<path d=\"M{x:.1} {from:.1} V{to:.1}\" stroke=\"var(--call)\" stroke-width=\"4\" \
                 stroke-opacity=\".55\"{dashes}/>"
            ));
        }
    }

    fn draw_message(&self, svg: &mut Svg, message: &Message) {
        let (Some(from), Some(to)) = (self.x(message.from), self.x(message.to)) else {
            return;
        };
        let sent = self.y_at(Some(message.from), message.sent);
        let title = escape(&message.text);
        match message.arrived {
            Some(arrived) => {
                let arrived = self.y_at(Some(message.to), arrived);
                svg.line(format_args!(
                    "<path d=\"M{from:.1} {sent:.1} L{to:.1} {arrived:.1}\" stroke=\"var(--call)\" \
                     stroke-width=\"1.3\" marker-end=\"url(#arrowhead)\"><title>{title}</title></path>"
                ));
            }
            // Lost, or on its way for ever: it comes half way.
            None => {
                let (x, y) = ((from + to) / 2.0, sent + ROW / 2.0);
                svg.line(format_args!(
                    "<path d=\"M{from:.1} {sent:.1} L{x:.1} {y:.1} m-4 -4 l8 8 m0 -8 l-8 8\" fill=\"none\" \
                     stroke=\"var(--call)\" stroke-width=\"1.3\" stroke-dasharray=\"5 3\">\
                     <title>{title} (never arrived)</title></path>"
                ));
            }
        }
    }

    fn draw_row(&self, svg: &mut Svg, number: usize, row: &Row, line: &Line) {
        let y = Self::y(number);
        let (words_from, base) = (self.words_from(), y + 4.5);
        let Some(at) = line.at else {
            // A gap: the lanes are broken.
            svg.line(format_args!(
                "<rect x=\"{TIMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"7\" fill=\"var(--ground)\"/>\n\
                 <text x=\"{words_from:.1}\" y=\"{base:.1}\" fill=\"var(--faint)\" font-style=\"italic\">{}</text>",
                y - 3.5,
                words_from - TIMES - 14.0,
                escape(&cut(&line.text, WORDS_COLUMNS))
            ));
            return;
        };
        let (colour, bold) = match line.weight {
            Weight::Context => ("--ink", "400"),
            Weight::Evidence => ("--ink", "600"),
            Weight::Violation => ("--bad", "700"),
        };
        let lanes = match row {
            Row::Mark(id, _) => self
                .run
                .mark(*id)
                .map(|mark| mark.lane)
                .into_iter()
                .collect(),
            Row::Violated(_) => self.violation.lanes.clone(),
            Row::Begins(_) | Row::Ends(_) | Row::Gap(_) => Vec::new(),
        };
        if line.weight == Weight::Violation {
            svg.line(format_args!(
                "<rect x=\"0\" y=\"{:.1}\" width=\"{:.1}\" height=\"{ROW}\" fill=\"var(--bad-fill)\" \
                 fill-opacity=\".5\"/>",
                y - ROW / 2.0,
                words_from + WORDS
            ));
        }
        for x in lanes.into_iter().filter_map(|lane| self.x(lane)) {
            if line.weight == Weight::Violation {
                svg.line(format_args!(
                    "<path d=\"M{:.1} {:.1} l10 10 m0 -10 l-10 10\" stroke=\"var(--bad)\" \
                     stroke-width=\"2.5\"/>",
                    x - 5.0,
                    y - 5.0
                ));
            } else {
                svg.line(format_args!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"var({colour})\"/>"
                ));
            }
        }
        let words = format!("{} {} {}", line.who, line.kind, line.text);
        let colour = match row {
            Row::Begins(_) | Row::Ends(_) => "--fault",
            _ => colour,
        };
        svg.line(format_args!(
            "<text x=\"{:.1}\" y=\"{base:.1}\" text-anchor=\"end\" fill=\"var(--faint)\">{}</text>\n\
             <text x=\"{words_from:.1}\" y=\"{base:.1}\" fill=\"var({colour})\" font-weight=\"{bold}\">{}\
             <title>{}</title></text>",
            TIMES - 10.0,
            clock(at),
            escape(&cut(&words, WORDS_COLUMNS)),
            escape(&words)
        ));
    }
}

/// What has been drawn so far.
struct Svg(String);

impl Svg {
    fn line(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{element}");
    }
}
