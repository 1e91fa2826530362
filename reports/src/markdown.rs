//! A run, or a sweep of many, as Markdown: for a pull request or the summary of a job.
//!
//! GitHub's dialect, and readable as plain text. Texts of the run are data, never markup: what would format, link,
//! mention somebody or leave its cell is escaped. The story is shorter than the terminal's, and lists are bounded,
//! because a comment is read next to others.

use std::fmt::Write as _;

use crate::excerpt::{Excerpt, Weight};
use crate::headline;
use crate::model::{Fact, Run, Verdict, Violation};
use crate::specimen::{self, Specimen};
use crate::story;
use crate::sweep::{Coverage, Sweep};
use crate::words::{clean, clock, count, duration, thousands};

/// The rows of a story, at most.
const STORY_ROWS: usize = 25;
/// The rows of the table of faults, at most.
const FAULT_ROWS: usize = 30;
/// Seeds told in full for one invariant of one scenario.
const EXAMPLES: usize = 2;

/// One run as Markdown.
pub fn render(run: &Run) -> String {
    let mut page = Page::default();
    let (_, verdict) = headline::verdict(run);
    page.block(&format!("## {verdict}: {}", escape(&headline::name(run))));
    page.block(&escape(&run.title));
    page.block(&escape(&headline::facts(run)));
    match &run.verdict {
        Verdict::Pass => summary(&mut page, run),
        Verdict::Inconclusive { why } => {
            page.block(&escape(why));
            summary(&mut page, run);
        }
        Verdict::Fail(_) => failure(&mut page, run),
    }
    page.block("**Reproduce**");
    page.code(&run.reproduce);
    for (name, value) in headline::whereabouts(run) {
        page.block(&format!("{name}: {}", escape(&value)));
    }
    page.0
}

/// A sweep as Markdown.
pub fn render_sweep(sweep: &Sweep) -> String {
    let mut page = Page::default();
    let (_, verdict, text) = headline::sweep(sweep);
    let colon = if text.is_empty() { "" } else { ": " };
    page.block(&format!("## {verdict}{colon}{text}"));
    page.block(&headline::speed(sweep));
    scenarios(&mut page, sweep);
    for ((invariant, scenario), findings) in headline::findings(sweep) {
        let name = format!("{} {}", invariant.code, invariant.name);
        page.block(&format!("### ✗ {} in {}", escape(&name), escape(scenario)));
        page.block(&escape(&invariant.property));
        for (cause, of) in headline::causes(&findings) {
            let all: Vec<_> = of.iter().map(|finding| finding.seed).collect();
            page.block(&format!("{}: {}", escape(&cause), headline::seeds(&all)));
        }
        for finding in findings.iter().take(EXAMPLES) {
            let seed = headline::seed(finding.seed);
            page.block(&format!("{seed}: {}", escape(&finding.what_happened)));
            page.code(&finding.reproduce);
        }
    }
    for ((scenario, why), runs) in headline::undecided(sweep) {
        let all: Vec<_> = runs.iter().map(|run| run.seed).collect();
        page.block(&format!("### ? Undecided in {}", escape(scenario)));
        page.block(&format!("{}: {}", headline::seeds(&all), escape(why)));
        if let Some(run) = runs.first() {
            page.code(&run.reproduce);
        }
    }
    coverage(&mut page, &sweep.coverage);
    if !sweep.specimens.is_empty() {
        page.block("**Planted flaws**");
        page.block(&specimens(&sweep.specimens));
    }
    page.0
}

fn scenarios(page: &mut Page, sweep: &Sweep) {
    if sweep.scenarios.is_empty() {
        return;
    }
    let mut table = Table::new(&[
        "scenario",
        "seeds:",
        "failures:",
        "undecided:",
        "true time:",
        "faults that bit",
    ]);
    for (name, tally) in &sweep.scenarios {
        let bit = tally.bit.iter().filter(|(_, runs)| **runs > 0);
        let bit: Vec<_> = bit
            .map(|(name, runs)| format!("{} {}", escape(name), thousands(*runs)))
            .collect();
        table.row(&[
            &escape(name),
            &thousands(tally.runs),
            &thousands(tally.failures),
            &thousands(tally.inconclusive),
            &duration(tally.simulated),
            &bit.join(", "),
        ]);
    }
    page.block(&table.0);
    if sweep.never() > 0 {
        page.block("**What these storms must do, and never did**");
        let mut items = Vec::new();
        for (name, tally) in &sweep.scenarios {
            let name = escape(name);
            for (fault, _) in tally.bit.iter().filter(|(_, runs)| **runs == 0) {
                items.push(format!("- {name}: {} never bit", escape(fault)));
            }
            for (fact, _) in tally.sometimes.iter().filter(|(_, runs)| **runs == 0) {
                items.push(format!("- {name}: never reached that {}", escape(fact)));
            }
        }
        page.block(&items.join("\n"));
    }
}

/// What was never reached, by kind.
fn coverage(page: &mut Page, coverage: &Coverage) {
    if coverage.is_empty() {
        return;
    }
    page.block(&format!("**Coverage:** {}", headline::coverage(coverage)));
    let mut table = Table::new(&["kind", "reached:", "of:", "never"]);
    for gap in coverage.gaps() {
        let (reached, of) = (gap.reached().to_string(), gap.of.to_string());
        table.row(&[&escape(gap.group), &reached, &of, &escape(&gap.never())]);
    }
    if coverage.gaps().next().is_some() {
        page.block(&table.0);
    }
}

/// A table of planted flaws.
pub fn specimens(specimens: &[Specimen]) -> String {
    let mut table = Table::new(&specimen::COLUMNS);
    for specimen in specimens {
        let [name, rest @ ..] = specimen.row();
        let name = format!("`{}`", clean(&name));
        let rest = rest.map(|cell| escape(&cell));
        let cells: Vec<&str> = [&name]
            .into_iter()
            .chain(&rest)
            .map(String::as_str)
            .collect();
        table.row(&cells);
    }
    table.0
}

/// What a run that did not fail went through.
fn summary(page: &mut Page, run: &Run) {
    let (_, faults) = headline::faults(run);
    let mut items = vec![format!("- faults: {}", escape(&faults))];
    items.extend(run.sometimes.iter().map(|Fact { name, reached }| {
        let sign = if *reached {
            "✓"
        } else {
            "· not in this run:"
        };
        format!("- {sign} {}", escape(name))
    }));
    page.block(&items.join("\n"));
}

fn failure(page: &mut Page, run: &Run) {
    let violations = run.violations();
    let Some((first, others)) = violations.split_first() else {
        page.block("The run failed, and no violation was recorded.");
        return faults(page, run);
    };
    violation(page, run, first);
    for other in others {
        let name = format!("{} {}", other.invariant.code, other.invariant.name);
        page.block(&format!(
            "Later in the same run, {} s: {}: {}",
            clock(other.at),
            escape(&name),
            escape(&other.what_happened)
        ));
    }
    faults(page, run);
}

fn violation(page: &mut Page, run: &Run, violation: &Violation) {
    let invariant = &violation.invariant;
    let name = format!("{} {}", invariant.code, invariant.name);
    page.block(&format!("### {} is violated", escape(name.trim_end())));
    let lanes: Vec<_> = violation
        .lanes
        .iter()
        .map(|id| run.lane_name(*id))
        .collect();
    let at = format!("{} s: {}", clock(violation.at), lanes.join(", "));
    let items = [
        format!("- promised: {}", escape(&invariant.property)),
        format!("- happened: **{}**", escape(violation.what_happened.trim())),
        format!("- at {}", escape(&at)),
    ];
    page.block(&items.join("\n"));
    let excerpt = Excerpt::around(run, violation, STORY_ROWS);
    let mut table = Table::new(&["seconds:", "who", "what"]);
    for line in story::lines(run, violation, &excerpt) {
        let sign = match line.weight {
            Weight::Context => "",
            Weight::Evidence => "▸ ",
            Weight::Violation => "✗ ",
        };
        let Some(at) = line.at else {
            table.row(&["", "", &escape(&line.text)]);
            continue;
        };
        let what = escape(&format!("{} {}", line.kind, line.text));
        let what = match line.weight {
            Weight::Context => what,
            Weight::Evidence | Weight::Violation => format!("**{what}**"),
        };
        table.row(&[&format!("{sign}{}", clock(at)), &escape(&line.who), &what]);
    }
    page.block(&table.0);
}

fn faults(page: &mut Page, run: &Run) {
    let (_, summary) = headline::faults(run);
    if run.faults.is_empty() {
        return page.block("Faults: none");
    }
    let mut table = Table::new(&["from:", "to:", "fault", "target", ""]);
    for fault in run.faults.iter().take(FAULT_ROWS) {
        let (to, bit) = headline::ended(fault);
        let (name, target) = (escape(&fault.name), escape(&fault.target));
        table.row(&[&clock(fault.from), &to, &name, &target, bit]);
    }
    let summary = format!("<summary>{}</summary>", escape(&summary));
    page.block(&format!("<details>{summary}"));
    page.block(&table.0);
    if let Some(more) = run
        .faults
        .len()
        .checked_sub(FAULT_ROWS)
        .filter(|more| *more > 0)
    {
        page.block(&format!(
            "… and {} more",
            count(more as u64, "fault", "faults")
        ));
    }
    page.block("</details>");
}

/// Blocks with a blank line between them.
#[derive(Default)]
struct Page(String);

impl Page {
    fn block(&mut self, text: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(text.trim_end());
        self.0.push('\n');
    }

    /// A command to paste, in a fence that it cannot close.
    fn code(&mut self, text: &str) {
        let text = clean(text);
        let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        self.block(&format!("{fence}sh\n{text}\n{fence}"));
    }
}

/// Rows under a head; a name that ends with a colon is of a column of numbers.
struct Table(String);

impl Table {
    fn new(head: &[&str]) -> Self {
        let names: Vec<_> = head.iter().map(|name| name.trim_end_matches(':')).collect();
        let mut table = Self(String::new());
        table.row(&names);
        let rules = head
            .iter()
            .map(|name| if name.ends_with(':') { "--:" } else { "---" });
        table.row(&rules.collect::<Vec<_>>());
        table
    }

    fn row(&mut self, cells: &[&str]) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "| {} |", cells.join(" | "));
    }
}

/// The text as text, on one line.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in clean(text).chars() {
        match c {
            '\\' | '`' | '*' | '_' | '~' | '[' | ']' | '|' | '$' => escaped.extend(['\\', c]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            // Nobody is called, and no other issue or address is linked.
            '@' | '#' => escaped.extend([c, '\u{2060}']),
            c => escaped.push(c),
        }
    }
    escaped.replace("://", ":\u{2060}//")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_never_markup() {
        let text = "a|b <img src=x> **c** [d](https://e) @alice #7 `f`\n# g";
        let safe = "a\\|b &lt;img src=x&gt; \\*\\*c\\*\\* \\[d\\](https:\u{2060}//e) @\u{2060}alice \
                    #\u{2060}7 \\`f\\` #\u{2060} g";
        assert_eq!(escape(text), safe);
    }

    #[test]
    fn a_command_cannot_leave_its_fence() {
        let mut page = Page::default();
        page.code("squall run ```\nx");
        assert_eq!(page.0, "````sh\nsquall run ``` x\n````\n");
    }
}
