//! The page of a run: its static part as snapshots, and what must hold for the rest, which a browser draws.

use insta::assert_snapshot;
use squall_reports::html::{Beside, Pages, render, render_sweep};
use squall_reports::model::{LaneId, MarkId, MarkKind, Run, TrueTime};
use squall_reports::sweep::{Night, Sweep};

use super::lock::lock_violation;
use super::samples::{
    completeness_violation, inconclusive, mark, pass, planted, presence_violation, sweep,
};

/// What is read without JavaScript: neither style, nor tools, nor data, nor scripts.
pub(crate) fn story(run: &Run) -> String {
    let page = render(run);
    let body = page.split_once("<body>").expect("a body").1;
    let (head, rest) = body
        .split_once("<section class=\"scripted-only\"")
        .expect("a timeline");
    let rest = rest.split_once("</section>").expect("its end").1;
    let (story, _) = rest.split_once("</main>").expect("an end");
    format!("{head}{story}")
}

#[test]
fn a_pass() {
    assert_snapshot!(story(&pass()));
}

#[test]
fn a_presence_violation() {
    assert_snapshot!(story(&presence_violation()));
}

#[test]
fn a_lock_violation() {
    assert_snapshot!(story(&lock_violation()));
}

#[test]
fn a_violation_that_is_an_absence() {
    assert_snapshot!(story(&completeness_violation()));
}

#[test]
fn an_inconclusive_run() {
    assert_snapshot!(story(&inconclusive()));
}

fn nights() -> Vec<Night> {
    let night = |day: u64| Night {
        began: format!("2026-05-{day:02}T22:00:00Z"),
        elapsed: std::time::Duration::from_secs(8 * 3600),
        seeds: 4_000_000 + day * day * 20_000,
        failures: day % 3,
        never: 9 - day / 3,
        reached: 380 + day * 2,
        ..Night::default()
    };
    (1..=28).map(night).collect()
}

#[test]
fn planted_flaws() {
    let beside = Beside {
        nights: &[],
        pages: &Pages::new(),
    };
    let page = render_sweep(&planted(), &beside);
    assert_snapshot!(page.split_once("<body>").expect("a body").1);
}

#[test]
fn a_sweep_with_findings_and_nights() {
    let (nights, pages) = (nights(), Pages::new());
    let beside = Beside {
        nights: &nights,
        pages: &pages,
    };
    let page = render_sweep(&sweep(&[3, 17, 21]), &beside);
    let body = page.split_once("<body>").expect("a body").1;
    assert_snapshot!(body);
}

#[test]
fn findings_lead_to_the_pages_of_their_runs() {
    let sweep = sweep(&[3, 21]);
    let page_of = |seed: u64| {
        let command = format!("squall run presence-under-storm --seed {seed}");
        (command, format!("findings/<{seed}>/report.html"))
    };
    let beside = Beside {
        nights: &[],
        pages: &[page_of(21)].into(),
    };
    let page = render_sweep(&sweep, &beside);
    let link = "<a href=\"findings/&lt;21&gt;/report.html\">";
    assert!(
        page.contains(&format!(": seeds 3, {link}21</a></p>")),
        "{page}"
    );
    assert!(page.contains(&format!("<p>{link}seed 21</a>: ")), "{page}");
    assert!(!page.contains("<a href=\"findings/&lt;3"), "{page}");
}

#[test]
fn no_text_of_a_sweep_is_ever_markup() {
    let evil = "</td><script>alert(1)</script>\"'&lt;";
    let mut odd = Sweep::default();
    for (name, mut tally) in sweep(&[3, 17]).scenarios {
        tally.bit = [(evil.to_owned(), 2)].into();
        tally.sometimes = [(evil.to_owned(), 0)].into();
        odd.scenarios.insert(format!("{evil}{name}"), tally);
    }
    odd.findings = sweep(&[3, 17]).findings;
    for finding in &mut odd.findings {
        finding.scenario = evil.to_owned();
        finding.what_happened = evil.to_owned();
        finding.reproduce = evil.to_owned();
        finding.invariant.property = evil.to_owned();
    }
    let mut nights = nights();
    nights[0].began = evil.to_owned();
    let beside = Beside {
        nights: &nights,
        pages: &Pages::new(),
    };
    assert!(!render_sweep(&odd, &beside).contains("<script"));
}

/// Every text of a run, replaced by one that tries to leave whatever it stands in.
#[test]
fn no_text_is_ever_markup() {
    let evil = "</script><script>alert(1)</script><!--]]>\"'&lt;<img src=x onerror=alert(2)>";
    let mut run = lock_violation();
    run.trace = Some(String::new());
    run.rewrite_texts(&mut |text| *text = format!("{evil}{text}"));
    let mut plain = lock_violation();
    plain.trace = Some(String::new());
    let (page, harmless) = (render(&run), render(&plain));
    for sign in ["<script", "</script", "<img", "<!--", "</section", "</main"] {
        let count = |page: &str| page.matches(sign).count();
        assert_eq!(count(&page), count(&harmless), "{sign}");
    }
    assert!(
        page.contains("\\u003c/script\\u003e"),
        "it is there, as text"
    );
}

#[test]
fn the_page_asks_nobody_for_anything() {
    // What is drawn refers to what is defined in the page.
    let page = render(&lock_violation()).replace("url(#", "");
    for sign in [
        "http:", "https:", "//cdn", "url(", "@import", "import(", "fetch(",
    ] {
        assert!(!page.contains(sign), "{sign}");
    }
    assert!(page.contains("default-src 'none'"));
}

/// A hundred thousand events, most of them told apart by their texts.
pub(crate) fn long_run() -> Run {
    let mut run = lock_violation();
    let lanes = run.lanes.len();
    let own = run.marks.len();
    for n in 0..50_000 {
        let lane = LaneId(n % lanes);
        let call = format!("update lock.resource.{n} over revision {}", n * 7);
        let answer = format!("stored as revision {}", n * 7 + 1);
        run.marks.push(mark(0, lane, MarkKind::Call, &call));
        run.marks.push(mark(0, lane, MarkKind::Ok, &answer));
    }
    for (index, mark) in run.marks.iter_mut().enumerate().skip(own) {
        mark.at = TrueTime::from_nanos(18_000_000_000 + index as u64 * 119_000);
        mark.answers = ((index - own) % 2 == 1).then(|| MarkId(index - 1));
    }
    run
}

#[test]
fn a_hundred_thousand_events_fit() {
    let page = render(&long_run());
    let mib = page.len() as f64 / (1024.0 * 1024.0);
    assert!(mib < 15.0, "{mib} MiB");
}
