//! What must hold for any run, however odd.

use std::collections::BTreeSet;
use std::time::Duration;

use squall_reports::excerpt::{Excerpt, Row};
use squall_reports::model::{
    Belief, FaultBand, LaneId, Mark, MarkId, MarkKind, Run, Tone, TrueTime, Verdict, Violation,
};
use squall_reports::sweep::Sweep;
use squall_reports::terminal::{Style, render, render_sweep};
use squall_reports::{html, markdown, trace};
use unicode_width::UnicodeWidthStr;

use super::lock::lock_violation;
use super::samples::{
    accuracy, completeness_violation, inconclusive, mark, ms, pass, presence_violation, sweep,
};
use super::terminal::plain;

#[test]
fn colours_add_nothing_but_colour() {
    let colour = Style {
        color: true,
        width: 100,
    };
    let (run, sweep) = (presence_violation(), sweep(&[3, 17]));
    let pages = [
        (render(&run, colour), render(&run, plain(100))),
        (
            render_sweep(&sweep, colour),
            render_sweep(&sweep, plain(100)),
        ),
    ];
    for (coloured, plain) in pages {
        assert!(coloured.contains("\u{1b}[") && !plain.contains('\u{1b}'));
        assert_eq!(without_colours(&coloured), plain);
    }
}

fn without_colours(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let mut plain = pieces.next().map_or_else(String::new, str::to_owned);
    for piece in pieces {
        plain.push_str(piece.split_once('m').map_or(piece, |(_, rest)| rest));
    }
    plain
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let runs = [
        pass(),
        presence_violation(),
        completeness_violation(),
        inconclusive(),
    ];
    let sweeps = [sweep(&[]), sweep(&[3, 17, 21])];
    for width in 20..140 {
        let runs = runs.iter().map(|run| render(run, plain(width)));
        let sweeps = sweeps.iter().map(|sweep| render_sweep(sweep, plain(width)));
        for page in runs.chain(sweeps) {
            // What is there to be copied is never broken.
            let kept = |line: &&str| line.contains("squall run") || line.contains("Recorded in");
            for line in page.lines().filter(|line| !kept(line)) {
                assert!(line.width() <= width, "{} > {width}: {line}", line.width());
            }
        }
    }
}

#[test]
fn a_run_nobody_expected_is_drawn_nevertheless() {
    let (zero, far) = (TrueTime::ZERO, TrueTime::from_nanos(u64::MAX));
    let mut odd = pass();
    odd.lanes.clear();
    let mut answer = mark(7, LaneId(9), MarkKind::Ok, "\u{1b}[2J\n船");
    answer.answers = Some(MarkId(99));
    let hum = Mark {
        at: far,
        routine: Some(String::new()),
        ..mark(0, LaneId(0), MarkKind::Told, "")
    };
    odd.marks = vec![answer, hum];
    odd.faults = [(far, zero), (zero, far)]
        .map(|(from, to)| FaultBand {
            name: String::new(),
            target: String::new(),
            from,
            to,
            bit: true,
        })
        .into();
    odd.beliefs = [(far, zero), (zero, far)]
        .map(|(from, to)| Belief {
            lane: LaneId(usize::MAX),
            about: "船".repeat(40),
            state: "船".repeat(40),
            tone: Tone::Unsure,
            from,
            to,
        })
        .into();
    let violation = |at, evidence| Violation {
        invariant: accuracy(),
        at,
        lanes: vec![LaneId(usize::MAX)],
        what_happened: String::new(),
        evidence,
    };
    let verdicts = [
        vec![],
        vec![violation(zero, vec![])],
        vec![violation(far, vec![MarkId(0), MarkId(77)])],
        vec![violation(zero, vec![MarkId(0), MarkId(1)])],
    ];
    for verdict in verdicts {
        odd.verdict = Verdict::Fail(verdict);
        for width in [0, 1, 20, 33, 80, 1000] {
            let page = render(&odd, plain(width));
            assert!(
                page.contains("✗ FAIL") && !page.contains('\u{1b}'),
                "{page}"
            );
        }
        for render in [html::render, markdown::render, trace::render] {
            let page = render(&odd);
            assert!(page.len() > 100 && !page.contains('\u{1b}'), "{page}");
        }
    }
    let nothing = render_sweep(&Sweep::default(), Style::default());
    assert!(nothing.starts_with("? NOTHING RAN\n"), "{nothing}");
}

#[test]
fn an_excerpt_is_bounded_and_counts_what_it_hides() {
    let mut run = presence_violation();
    for n in 0..20_000 {
        run.marks
            .push(mark(n * 2, LaneId(0), MarkKind::Call, "send"));
    }
    let again = "Down(alice), again";
    run.marks
        .push(mark(41_400, LaneId(1), MarkKind::Told, again));
    run.marks.sort_by_key(|mark| mark.at);
    let told = run.marks.iter().position(|mark| mark.text == again);
    let mut violation = run.violations()[0].clone();
    violation.evidence = told.map(MarkId).into_iter().collect();

    for rows_max in [0, 1, 2, 7, 40] {
        let excerpt = Excerpt::around(&run, &violation, rows_max);
        // The violation is always there, and so is the gap before it.
        let rows = excerpt.rows.len();
        assert!(rows <= rows_max.max(2), "{rows} of {rows_max}");
        assert!(matches!(excerpt.rows.last(), Some(Row::Mark(id, _)) if Some(id.0) == told));

        let marks = run.marks.iter().filter(|mark| mark.at <= excerpt.to);
        let met = |fault: &&FaultBand| fault.from <= excerpt.to && fault.to >= excerpt.from;
        let edges = run.faults.iter().filter(met).map(|fault| {
            let ends = fault.from < fault.to && fault.to <= excerpt.to;
            1 + usize::from(ends)
        });
        let all = marks.count() + edges.sum::<usize>();
        assert_eq!(excerpt.rows.iter().map(events).sum::<usize>(), all);
    }
}

fn events(row: &Row) -> usize {
    match row {
        Row::Gap(gap) => gap.events(),
        Row::Mark(..) | Row::Begins(_) | Row::Ends(_) | Row::Violated(_) => 1,
    }
}

#[test]
fn a_hum_is_told_where_it_fell_silent() {
    let run = presence_violation();
    let excerpt = Excerpt::around(&run, run.violations()[0], 40);
    let told = |text: &str| {
        let is = |row: &Row| matches!(row, Row::Mark(id, _) if run.marks[id.0].text == text);
        excerpt.rows.iter().any(is)
    };
    assert!(
        told("beat 15 of alice"),
        "it was the last before she was cut off"
    );
    assert!(!told("beat 14 of alice"), "it was one of many");
    assert!(
        excerpt.from < ms(30_900),
        "the story begins before its cause"
    );
}

#[test]
fn what_is_written_reads_back() {
    for run in [
        pass(),
        presence_violation(),
        inconclusive(),
        lock_violation(),
    ] {
        let json = serde_json::to_string(&run).expect("plain data");
        assert_eq!(serde_json::from_str::<Run>(&json).expect("its own"), run);
        let other = json.replacen("\"schema\":1", "\"schema\":2", 1);
        assert!(serde_json::from_str::<Run>(&other).is_err());
    }
    let sweep = sweep(&[3]);
    let json = serde_json::to_string(&sweep).expect("plain data");
    assert_eq!(
        serde_json::from_str::<Sweep>(&json).expect("its own"),
        sweep
    );
}

/// What is struck out of a model is in no report of it, wherever it stood.
#[test]
fn every_text_can_be_rewritten() {
    for mut run in [lock_violation(), presence_violation(), inconclusive()] {
        run.rewrite_texts(&mut |text| *text = "-".to_owned());
        let json = serde_json::to_value(&run).expect("plain data");
        let mut texts = BTreeSet::new();
        gather(&json, &mut texts);
        // What is left are the names of variants.
        let known = [
            "-", "agent", "server", "sim", "well", "unsure", "over", "call", "ok", "told",
        ];
        let kinds = [
            "refused",
            "unknown",
            "commit",
            "removed",
            "life",
            "connection",
        ];
        let known: BTreeSet<&str> = known.into_iter().chain(kinds).collect();
        let left: Vec<_> = texts
            .iter()
            .filter(|text| !known.contains(text.as_str()))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn gather(value: &serde_json::Value, texts: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::String(text) => {
            texts.insert(text.clone());
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| gather(value, texts)),
        serde_json::Value::Object(fields) => fields.values().for_each(|value| gather(value, texts)),
        _ => {}
    }
}

#[test]
fn a_sweep_counts_runs_not_faults() {
    let sweep = sweep(&[3, 17]);
    let tally = &sweep.scenarios["presence-under-storm"];
    let (runs, failures) = (sweep.runs(), sweep.failures());
    assert_eq!((runs, failures, sweep.inconclusive()), (80, 2, 1));
    assert_eq!((tally.bit["partition"], tally.bit["jump"]), (27, 0));
    assert_eq!(
        sweep.findings.len(),
        4,
        "two runs violate two invariants each"
    );
    assert_eq!(sweep.simulated(), Duration::from_millis(80 * 61_300));
    assert_eq!(Sweep::default().speed_up(), None);
}

/// However many causes there are, each seed is told under one of them, and the rare ones under one heading.
#[test]
fn rare_causes_are_told_together() {
    let mut many = sweep(&[3]);
    let finding = many.findings[0].clone();
    many.findings = (0..20)
        .map(|seed| {
            let mut finding = finding.clone();
            finding.seed = Some(seed);
            finding.faults = vec![format!("fault-{}", seed.saturating_sub(10))];
            finding
        })
        .collect();
    let page = markdown::render_sweep(&many);
    assert!(
        page.contains("after fault-0: seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"),
        "{page}"
    );
    assert!(page.contains("after others: seeds 18, 19"), "{page}");
    assert_eq!(page.matches("\nafter ").count(), 9, "{page}");
}
