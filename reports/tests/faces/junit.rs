//! What a continuous integration server reads.

use insta::assert_snapshot;
use quick_junit::{NonSuccessKind, Report, TestCaseStatus};
use squall_reports::junit::render_sweep;
use squall_reports::sweep::Sweep;

use super::samples::{pass, planted, presence_violation, sweep};

fn xml(sweep: &Sweep) -> String {
    render_sweep(sweep).expect("texts are cleaned")
}

#[test]
fn planted_flaws() {
    assert_snapshot!(xml(&planted()));
}

#[test]
fn a_sweep_with_findings() {
    assert_snapshot!(xml(&sweep(&[3, 17, 21])));
}

/// What Jenkins' schema (`junit-10.xsd` of its xUnit plugin) asks of each element that is written: the attributes that it
/// knows, those that must be there, and the elements that may be inside.
const SCHEMA: [(&str, &str, &str, &str); 8] = [
    (
        "testsuites",
        "name time tests failures errors",
        "",
        "testsuite",
    ),
    (
        "testsuite",
        "name tests failures errors group time skipped timestamp hostname id package file log url",
        "name tests failures errors",
        "testsuite properties testcase system-out system-err",
    ),
    (
        "testcase",
        "name time classname group",
        "name",
        "skipped error failure system-out system-err",
    ),
    ("failure", "type message", "", ""),
    ("error", "type message", "", ""),
    ("properties", "", "", "property"),
    ("property", "name value", "name value", ""),
    ("system-out", "", "", ""),
];

#[test]
fn what_is_written_is_valid_by_the_schema_in_common_use() {
    for failing in [&[][..], &[3], &[3, 17, 21]] {
        let xml = xml(&sweep(failing));
        let mut inside: Vec<&str> = Vec::new();
        for tag in xml.split('<').skip(2) {
            let tag = tag.split('>').next().unwrap_or(tag);
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(inside.pop(), Some(name), "it is open");
                continue;
            }
            let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            let name = name.trim_end_matches('/');
            let of = |name: &str| SCHEMA.iter().find(|(known, ..)| *known == name);
            let (_, known, needed, _) = of(name).unwrap_or_else(|| panic!("{name} is none"));
            let may_be_here = match inside.last() {
                Some(outer) => of(outer).is_some_and(|it| it.3.split(' ').any(|it| it == name)),
                None => name == "testsuites",
            };
            assert!(may_be_here, "{name} in {inside:?}");
            // Every second piece between quotation marks is a value.
            let found: Vec<_> = attributes.split('"').step_by(2).collect();
            let found: Vec<_> = found
                .iter()
                .map(|it| it.trim().trim_end_matches(['=', '/']))
                .filter(|it| !it.is_empty())
                .collect();
            let is_known = |it: &&&str| known.split(' ').any(|known| known == **it);
            assert_eq!(found.iter().find(|it| !is_known(it)), None, "{name}");
            let missing = needed
                .split(' ')
                .find(|it| !it.is_empty() && !found.contains(it));
            assert_eq!(missing, None, "{name}");
            if !tag.ends_with('/') {
                inside.push(name);
            }
        }
        assert_eq!(inside, Vec::<&str>::new(), "all are closed");
    }
}

/// Consumers believe the counts of the attributes or count for themselves: both must find the same.
#[test]
fn every_count_is_the_number_of_its_elements() {
    for failing in [&[][..], &[3], &[3, 17, 21]] {
        let xml = xml(&sweep(failing));
        let report = Report::deserialize_from_str(&xml).expect("what was written reads back");
        let mut sums = (0, 0, 0);
        for suite in &report.test_suites {
            let of = |kind: NonSuccessKind| {
                let is = |status: &TestCaseStatus| matches!(status, TestCaseStatus::NonSuccess { kind: found, .. } if *found == kind);
                suite
                    .test_cases
                    .iter()
                    .filter(|case| is(&case.status))
                    .count()
            };
            let (failures, errors) = (of(NonSuccessKind::Failure), of(NonSuccessKind::Error));
            let counted = (suite.test_cases.len(), failures, errors);
            assert_eq!(
                (suite.tests, suite.failures, suite.errors),
                counted,
                "{xml}"
            );
            sums = (sums.0 + counted.0, sums.1 + counted.1, sums.2 + counted.2);
        }
        assert_eq!(
            (report.tests, report.failures, report.errors),
            sums,
            "{xml}"
        );
        assert_eq!(report.failures, failing.len() * 2, "two invariants a run");
    }
}

#[test]
fn texts_cannot_leave_their_element() {
    let mut run = presence_violation();
    run.scenario = "<a>&\"\u{1b}\u{0}".to_owned();
    if let squall_reports::model::Verdict::Fail(violations) = &mut run.verdict {
        violations[1].what_happened = "]]></failure></testcase><evil/>".to_owned();
    }
    let mut odd = Sweep::default();
    odd.record(&run);
    odd.record(&pass());
    let xml = xml(&odd);
    assert!(!xml.contains("<evil"), "{xml}");
    let report = Report::deserialize_from_str(&xml).expect("well-formed");
    assert_eq!(report.tests, 3, "{xml}");
}
