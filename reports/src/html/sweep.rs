//! Many runs as one HTML file: what was found, whether the storms were storms, and how the nights went.
//!
//! Everything is plain HTML and SVG, and is read without JavaScript.

use std::collections::{BTreeMap, BTreeSet};

use super::{Page, class, close, open};
use crate::headline;
use crate::specimen::{self, Specimen};
use crate::sweep::{Coverage, Night, Sweep, Tally};
use crate::words::{clean, duration, escape, rate, thousands};

/// Seeds told in full for one invariant of one scenario.
const EXAMPLES: usize = 2;
/// Runs of one cause whose pages are linked.
const LINKS: usize = 200;
/// Nights that a plot shows, the latest of them.
const NIGHTS: usize = 90;
/// The size of a plot, in pixels.
const PLOT: (f64, f64) = (300.0, 72.0);

/// Where the page of a run is, by the command that gives the run again.
pub type Pages = BTreeMap<String, String>;

/// What a page tells beside the sweep itself; there need not be any of it.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// What the nights up to this one came to.
    pub nights: &'a [Night],
    /// The pages of its runs, which it leads to.
    pub pages: &'a Pages,
}

/// A sweep as the text of an HTML file.
pub fn render_sweep(sweep: &Sweep, beside: &Beside<'_>) -> String {
    let Beside { nights, pages } = *beside;
    let (tone, verdict, text) = headline::sweep(sweep);
    let mut page = Page(String::new());
    open(&mut page, &format!("{verdict} {text}"));
    page.line(&format!(
        "<header>\n<span class=\"verdict {}\">{verdict}</span><h1>{}</h1>\n<p class=\"faint\">{}</p>\n</header>\n<main>",
        class(tone),
        escape(&text),
        escape(&headline::speed(sweep))
    ));
    findings(&mut page, sweep, pages);
    undecided(&mut page, sweep, pages);
    trend(&mut page, nights);
    scenarios(&mut page, sweep);
    faults(&mut page, sweep);
    sometimes(&mut page, sweep);
    coverage(&mut page, &sweep.coverage);
    specimens(&mut page, &sweep.specimens);
    page.line("</main>");
    close(&mut page);
    page.0
}

fn findings(page: &mut Page, sweep: &Sweep, pages: &Pages) {
    for ((invariant, scenario), findings) in headline::findings(sweep) {
        page.line(&format!(
            "<section class=\"violation\">\n<h2>{} {} in {}</h2>\n<p>{}</p>",
            escape(&invariant.code),
            escape(&invariant.name),
            escape(scenario),
            escape(&invariant.property)
        ));
        for (cause, of) in headline::causes(&findings) {
            let all = of.iter().map(|one| (one.seed, &*one.reproduce));
            page.line(&format!(
                "<p class=\"faint\">{}: {}</p>",
                escape(&cause),
                seeds(all, pages)
            ));
        }
        for finding in findings.iter().take(EXAMPLES) {
            let name = headline::seed(finding.seed);
            page.line(&format!(
                "<p>{}: <span class=\"happened\">{}</span><br><code>{}</code></p>",
                linked(&name, &finding.reproduce, pages),
                escape(&finding.what_happened),
                escape(&finding.reproduce)
            ));
        }
        page.line("</section>");
    }
}

fn undecided(page: &mut Page, sweep: &Sweep, pages: &Pages) {
    for ((scenario, why), runs) in headline::undecided(sweep) {
        let all = runs.iter().map(|run| (run.seed, &*run.reproduce));
        page.line(&format!(
            "<h2>Undecided in {}</h2>\n<p>{}: {}</p>",
            escape(scenario),
            seeds(all, pages),
            escape(why)
        ));
        if let Some(run) = runs.first() {
            page.line(&format!("<p><code>{}</code></p>", escape(&run.reproduce)));
        }
    }
}

/// These runs by their seeds; where there are pages to lead to, many more of them than other faces name.
fn seeds<'a>(runs: impl Iterator<Item = (Option<u64>, &'a str)>, pages: &Pages) -> String {
    let runs: Vec<_> = runs.collect();
    if !runs.iter().any(|(_, command)| pages.contains_key(*command)) {
        let all: Vec<_> = runs.iter().map(|(seed, _)| *seed).collect();
        return escape(&headline::seeds(&all));
    }
    let number = |seed: Option<u64>| seed.map_or_else(|| "none".to_owned(), |it| it.to_string());
    let links = runs.iter().take(LINKS);
    let links: Vec<_> = links
        .map(|(seed, command)| linked(&number(*seed), command, pages))
        .collect();
    let more = match runs.len().saturating_sub(LINKS) {
        0 => String::new(),
        more => format!(" and {} more", thousands(more as u64)),
    };
    let noun = if runs.len() == 1 { "seed" } else { "seeds" };
    format!("{noun} {}{more}", links.join(", "))
}

/// The name of a run, which leads to its page if it has one.
fn linked(name: &str, command: &str, pages: &Pages) -> String {
    match pages.get(command) {
        Some(path) => format!("<a href=\"{}\">{}</a>", escape(path), escape(name)),
        None => escape(name),
    }
}

/// One line of each figure over the nights.
fn trend(page: &mut Page, nights: &[Night]) {
    let nights = &nights[nights.len().saturating_sub(NIGHTS)..];
    let [first, .., last] = nights else {
        return;
    };
    page.line("<h2>Nights</h2>\n<div class=\"plots\">");
    plot(page, "seeds", nights, |night| night.seeds as f64);
    plot(page, "seeds/s", nights, Night::seeds_per_second);
    plot(page, "failures", nights, |night| night.failures as f64);
    plot(page, "never done", nights, |night| night.never as f64);
    plot(page, "marks reached", nights, |night| night.reached as f64);
    page.line(&format!(
        "</div>\n<p class=\"faint\">{} nights, {} to {}</p>",
        thousands(nights.len() as u64),
        escape(&first.began),
        escape(&last.began)
    ));
}

fn plot(page: &mut Page, name: &str, nights: &[Night], of: impl Fn(&Night) -> f64) {
    let values: Vec<f64> = nights.iter().map(of).collect();
    let top = values.iter().copied().fold(0.0, f64::max);
    let last = values.last().copied().unwrap_or_default();
    let (width, height) = PLOT;
    let step = (width - 8.0) / (values.len().max(2) - 1) as f64;
    let x = |night: usize| 4.0 + step * night as f64;
    let y = |value: f64| height - 4.0 - (height - 8.0) * value / top.max(f64::MIN_POSITIVE);
    let points = values.iter().enumerate();
    let points: Vec<String> = points
        .map(|(night, value)| format!("{:.1},{:.1}", x(night), y(*value)))
        .collect();
    let (most, now) = (figure(top), figure(last));
    page.line(&format!(
        "<figure><figcaption>{name}: {now} <span class=\"faint\">(most {most})</span></figcaption>\n\
         <svg width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{name} over the nights: {now} in the \
         last, {most} at most\">\n<polyline points=\"{}\" fill=\"none\" stroke=\"var(--call)\" \
         stroke-width=\"1.5\"/>\n<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"var(--call)\"/>\n</svg></figure>",
        points.join(" "),
        x(values.len() - 1),
        y(last)
    ));
}

/// Counts as such.
fn figure(value: f64) -> String {
    if value.fract() == 0.0 {
        // The cast saturates.
        thousands(value as u64)
    } else {
        rate(value)
    }
}

fn scenarios(page: &mut Page, sweep: &Sweep) {
    if sweep.scenarios.is_empty() {
        return;
    }
    page.line(
        "<h2>Scenarios</h2>\n<table>\n<tr><th>scenario</th><th>seeds</th><th>failures</th><th>undecided</th>\
         <th>true time</th><th>never done</th></tr>",
    );
    for (name, tally) in &sweep.scenarios {
        let class = |number: u64, class| if number > 0 { class } else { "number" };
        page.line(&format!(
            "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"{}\">{}</td><td class=\"{}\">{}</td>\
             <td class=\"number\">{}</td><td class=\"{}\">{}</td></tr>",
            escape(name),
            thousands(tally.runs),
            class(tally.failures, "number bad"),
            thousands(tally.failures),
            class(tally.inconclusive, "number warn"),
            thousands(tally.inconclusive),
            duration(tally.simulated),
            class(tally.never() as u64, "number warn"),
            thousands(tally.never() as u64)
        ));
    }
    page.line("</table>");
}

/// A cell for each kind of fault and scenario, the darker the more of its runs it changed.
fn faults(page: &mut Page, sweep: &Sweep) {
    let tallies = sweep.scenarios.values();
    let kinds: BTreeSet<&str> = tallies
        .flat_map(|it| it.bit.keys().map(String::as_str))
        .collect();
    if kinds.is_empty() {
        return;
    }
    page.line(
        "<h2>Faults that bit</h2>\n<p class=\"faint\">The share of a scenario's seeds in which a fault of this kind \
         changed something. ! is drawn, and never did.</p>\n<div class=\"wide\"><table class=\"heat\">\n<tr><th></th>",
    );
    for kind in &kinds {
        page.line(&format!(
            "<th class=\"upright\"><span>{}</span></th>",
            escape(kind)
        ));
    }
    page.line("</tr>");
    for (name, tally) in sweep
        .scenarios
        .iter()
        .filter(|(_, tally)| !tally.bit.is_empty())
    {
        page.line(&format!("<tr><td>{}</td>", escape(name)));
        for kind in &kinds {
            page.line(&cell(tally, kind));
        }
        page.line("</tr>");
    }
    page.line("</table></div>");
}

fn cell(tally: &Tally, kind: &str) -> String {
    match tally.bit.get(kind) {
        None => "<td></td>".to_owned(),
        Some(0) => "<td class=\"never\">!</td>".to_owned(),
        Some(runs) => {
            let percent = share(*runs, tally.runs);
            format!(
                "<td style=\"background:color-mix(in srgb, var(--fault) {percent}%, var(--ground))\" \
                 title=\"{} of {}\"><span>{percent}</span></td>",
                thousands(*runs),
                thousands(tally.runs)
            )
        }
    }
}

/// In percent, and never 0 of something.
fn share(runs: u64, of: u64) -> u64 {
    (u128::from(runs) * 100 / u128::from(of.max(1)))
        .try_into()
        .map_or(100, |percent: u64| percent.clamp(1, 100))
}

fn sometimes(page: &mut Page, sweep: &Sweep) {
    if sweep
        .scenarios
        .values()
        .all(|tally| tally.sometimes.is_empty())
    {
        return;
    }
    page.line(
        "<h2>Sometimes</h2>\n<table>\n<tr><th>scenario</th><th>what a storm must reach</th><th>seeds</th><th></th></tr>",
    );
    for (name, tally) in &sweep.scenarios {
        for (fact, runs) in &tally.sometimes {
            let (class, bar) = match runs {
                0 => ("number warn", "never".to_owned()),
                runs => {
                    let width = share(*runs, tally.runs);
                    (
                        "number",
                        format!("<span class=\"bar\" style=\"width:{width}px\"></span>"),
                    )
                }
            };
            page.line(&format!(
                "<tr><td>{}</td><td>{}</td><td class=\"{class}\">{}</td><td>{bar}</td></tr>",
                escape(name),
                escape(&clean(fact)),
                thousands(*runs)
            ));
        }
    }
    page.line("</table>");
}

/// What was never reached, by kind.
fn coverage(page: &mut Page, coverage: &Coverage) {
    if coverage.is_empty() {
        return;
    }
    page.line(&format!(
        "<h2>Coverage</h2>\n<p>{}</p>",
        headline::coverage(coverage)
    ));
    if coverage.gaps().next().is_none() {
        return;
    }
    page.line("<table>\n<tr><th>kind</th><th>reached</th><th>of</th><th>never</th></tr>");
    for gap in coverage.gaps() {
        page.line(&format!(
            "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td></tr>",
            escape(gap.group),
            gap.reached(),
            gap.of,
            escape(&clean(&gap.never()))
        ));
    }
    page.line("</table>");
}

/// What the search for each planted flaw came to.
fn specimens(page: &mut Page, specimens: &[Specimen]) {
    if specimens.is_empty() {
        return;
    }
    let heads = specimen::COLUMNS.map(|name| format!("<th>{name}</th>"));
    page.line(&format!(
        "<h2>Planted flaws</h2>\n<table>\n<tr>{}</tr>",
        heads.concat()
    ));
    for specimen in specimens {
        let class = if specimen.holds { "" } else { " class=\"bad\"" };
        let cells = specimen.row();
        let cells = cells.map(|cell| format!("<td{class}>{}</td>", escape(&clean(&cell))));
        page.line(&format!("<tr>{}</tr>", cells.concat()));
    }
    page.line("</table>");
}
