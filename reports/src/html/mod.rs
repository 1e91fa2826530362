//! One run as one HTML file: nothing is fetched, nothing is sent, and it can be kept for years.
//!
//! What must be read even without JavaScript is plain HTML: verdict, invariant in words, story, faults, and the command
//! that does it again. The timeline and the table of all events are drawn by the scripts beside this file, in the order
//! `data.js` (decodes), `scene.js` (the canvas), `table.js`, `main.js` (what the reader does), from one block of JSON.
//!
//! Texts of a run come from anywhere. They reach the page in two ways only: through `escape` into HTML, and as JSON
//! without any `<`, `>` or `&` (`data`), which scripts show as text and never as markup. The page forbids itself the
//! network.

mod data;
mod sweep;

pub use self::sweep::{Beside, Pages, render_sweep};

use std::fmt::Write as _;

use crate::excerpt::{Excerpt, Weight};
use crate::headline;
use crate::model::{Fact, Run, Tone, Verdict, Violation};
use crate::words::{clock, escape, thousands};
use crate::{spacetime, story};

const STYLE: &str = include_str!("style.css");
const SCRIPTS: [&str; 4] = [
    include_str!("data.js"),
    include_str!("scene.js"),
    include_str!("table.js"),
    include_str!("main.js"),
];
/// The rows of the story, at most.
const STORY_ROWS: usize = 60;
/// The rows of the table of faults, at most.
const FAULT_ROWS: usize = 500;

/// Nothing from anywhere but the file itself.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/// One run as the text of an HTML file.
pub fn render(run: &Run) -> String {
    let mut page = Page(String::new());
    let name = headline::name(run);
    let (_, verdict) = headline::verdict(run);
    open(&mut page, &format!("{verdict} {name}"));
    page.line("<script>document.documentElement.classList.add(\"scripted\");</script>");
    head(&mut page, run, &name);
    page.line("<main>");
    timeline(&mut page, run);
    details(&mut page, run);
    page.line("</main>");
    page.line(&format!(
        "<script type=\"application/json\" id=\"data\">{}</script>",
        data::json(run)
    ));
    page.line("<script>\n(() => {\n\"use strict\";");
    for script in SCRIPTS {
        page.line(script);
    }
    page.line("})();\n</script>");
    close(&mut page);
    page.0
}

/// What a page begins with.
fn open(page: &mut Page, title: &str) {
    page.line(&format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>",
        escape(title)
    ));
}

fn close(page: &mut Page) {
    page.line("</body>\n</html>");
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Well => "good",
        Tone::Unsure => "warn",
        Tone::Over => "bad",
    }
}

/// The verdict, what was violated, and how to see it again.
fn head(page: &mut Page, run: &Run, name: &str) {
    let (tone, verdict) = headline::verdict(run);
    page.line(&format!(
        "<header>\n<span class=\"verdict {}\">{verdict}</span><h1>{}</h1>\n<p>{}</p>\n\
         <p class=\"faint\">{}</p>",
        class(tone),
        escape(name),
        escape(&run.title),
        escape(&headline::facts(run))
    ));
    match (&run.verdict, run.violations().first()) {
        (_, Some(first)) => violation(page, run, first),
        (Verdict::Fail(_), None) => {
            page.line("<p class=\"warn\">The run failed, and no violation was recorded.</p>");
        }
        (Verdict::Inconclusive { why }, None) => page.line(&format!("<p>{}</p>", escape(why))),
        (Verdict::Pass, None) => {}
    }
    page.line(&format!(
        "<p>Reproduce: <code>{}</code></p>",
        escape(&run.reproduce)
    ));
    let kept: Vec<_> = headline::whereabouts(run)
        .map(|(name, value)| format!("{name} {}", escape(&value)))
        .collect();
    if !kept.is_empty() {
        page.line(&format!("<p class=\"faint\">{}</p>", kept.join(" · ")));
    }
    page.line("</header>");
}

fn violation(page: &mut Page, run: &Run, violation: &Violation) {
    let invariant = &violation.invariant;
    let lanes: Vec<_> = violation
        .lanes
        .iter()
        .map(|id| run.lane_name(*id))
        .collect();
    page.line(&format!(
        "<section class=\"violation\" aria-labelledby=\"violated\">\n\
         <h2 id=\"violated\">{} {} is violated</h2>\n<dl>\n<dt>promised</dt><dd>{}</dd>\n\
         <dt>happened</dt><dd class=\"happened\">{}</dd>\n<dt>at</dt><dd>{} s: {}</dd>\n</dl>\n</section>",
        escape(&invariant.code),
        escape(&invariant.name),
        escape(&invariant.property),
        escape(&violation.what_happened),
        clock(violation.at),
        escape(&lanes.join(", "))
    ));
}

/// The canvas, its tools, and the table of all events: empty until the scripts fill them.
fn timeline(page: &mut Page, run: &Run) {
    let events = thousands(run.marks.len() as u64);
    let is_violated = !run.violations().is_empty();
    let violated = if is_violated {
        "<button id=\"violation\">Violation</button>\n"
    } else {
        ""
    };
    let mut keys = String::new();
    for (key, does, is_there) in [
        ("v", "violation", is_violated),
        ("m", "messages", !run.messages.is_empty()),
    ] {
        if is_there {
            keys.push_str(&format!("<kbd>{key}</kbd> {does}, "));
        }
    }
    let arrows = if run.messages.is_empty() {
        ""
    } else {
        "<button id=\"arrows\" aria-pressed=\"false\">Messages</button>\n"
    };
    page.line(&format!(
        "<section class=\"scripted-only\" aria-label=\"Timeline\">\n<div class=\"tools\">\n\
         <button id=\"zoom-in\" aria-label=\"Zoom in\">+</button>\n\
         <button id=\"zoom-out\" aria-label=\"Zoom out\">−</button>\n\
         <button id=\"whole\">Whole run</button>\n{violated}{arrows}\
         <button id=\"theme\">Light or dark</button>\n\
         <input id=\"query\" type=\"search\" placeholder=\"Search events\" aria-label=\"Search events\">\n\
         <span id=\"tally\" class=\"faint\" role=\"status\"></span>\n\
         <span id=\"range\" class=\"faint\"></span>\n\
         <span class=\"faint\"><kbd>←</kbd> <kbd>→</kbd> pan, <kbd>+</kbd> <kbd>−</kbd> zoom (or Ctrl and \
         wheel), <kbd>↑</kbd> <kbd>↓</kbd> events, {keys}<kbd>/</kbd> search</span>\n</div>\n\
         <div id=\"scroller\" tabindex=\"0\" role=\"group\" aria-label=\"Lanes over time\">\n\
         <canvas id=\"canvas\" role=\"img\" aria-label=\"Timeline of {events} events; the table below \
         tells the same in words\"></canvas>\n<div id=\"extent\"></div>\n</div>\n\
         <div id=\"tip\" role=\"tooltip\" hidden></div>\n\
         <div id=\"columns\" aria-hidden=\"true\"><span></span><span>seconds</span><span>who</span>\
         <span></span><span>what</span></div>\n\
         <div id=\"events\" role=\"grid\" aria-label=\"All events\" tabindex=\"0\"><div role=\"presentation\">\
         </div></div>\n</section>"
    ));
}

/// What is read after the first look: the story, later violations, faults, facts.
fn details(page: &mut Page, run: &Run) {
    let violations = run.violations();
    if let Some((first, others)) = violations.split_first() {
        story(page, run, first);
        if let Some(svg) = spacetime::element(run) {
            page.line(&format!(
                "<h2>Who heard what</h2>\n<div class=\"spacetime\">\n{svg}</div>"
            ));
        }
        if !others.is_empty() {
            page.line("<h2>Violated later in the same run</h2>\n<ul>");
            for other in others {
                page.line(&format!(
                    "<li>{} s, {} {}: {}</li>",
                    clock(other.at),
                    escape(&other.invariant.code),
                    escape(&other.invariant.name),
                    escape(&other.what_happened)
                ));
            }
            page.line("</ul>");
        }
    }
    let (_, summary) = headline::faults(run);
    page.line(&format!(
        "<h2>Faults of this run</h2>\n<p>{}</p>",
        escape(&summary)
    ));
    if !run.faults.is_empty() {
        page.line(
            "<table>\n<tr><th>from</th><th>to</th><th>fault</th><th>target</th><th></th></tr>",
        );
        for fault in run.faults.iter().take(FAULT_ROWS) {
            let (to, bit) = headline::ended(fault);
            page.line(&format!(
                "<tr><td class=\"number\">{}</td><td class=\"number\">{to}</td><td>{}</td><td>{}</td>\
                 <td>{bit}</td></tr>",
                clock(fault.from),
                escape(&fault.name),
                escape(&fault.target)
            ));
        }
        page.line("</table>");
    }
    if !run.sometimes.is_empty() {
        page.line("<h2>Sometimes</h2>\n<ul>");
        for Fact { name, reached } in &run.sometimes {
            let sign = if *reached { "✓" } else { "not in this run:" };
            page.line(&format!("<li>{sign} {}</li>", escape(name)));
        }
        page.line("</ul>");
    }
}

fn story(page: &mut Page, run: &Run, violation: &Violation) {
    page.line(
        "<h2>What happened</h2>\n<table>\n\
         <tr><th></th><th>seconds</th><th>who</th><th></th><th>what</th></tr>",
    );
    let excerpt = Excerpt::around(run, violation, STORY_ROWS);
    for line in story::lines(run, violation, &excerpt) {
        let (class, sign) = match (line.weight, line.at) {
            (_, None) => ("gap", ""),
            (Weight::Context, _) => ("", ""),
            (Weight::Evidence, _) => ("evidence", "<abbr title=\"evidence\">▸</abbr>"),
            (Weight::Violation, _) => ("proof", "<abbr title=\"violation\">✗</abbr>"),
        };
        page.line(&format!(
            "<tr class=\"{class}\"><td>{sign}</td><td class=\"number\">{}</td><td>{}</td><td>{}</td>\
             <td>{}</td></tr>",
            line.at.map_or_else(String::new, clock),
            escape(&line.who),
            line.kind,
            escape(&line.text)
        ));
    }
    page.line("</table>");
}

/// The lines written so far.
struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{text}");
    }
}
