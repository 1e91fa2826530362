//! What a continuous integration server reads.

use insta::assert_snapshot;
use quick_junit::{NonSuccessKind, Report, TestCaseStatus};
use squall_reports::junit::render_sweep;
use squall_reports::sweep::Sweep;

use super::samples::{pass, presence_violation, sweep};

fn xml(sweep: &Sweep) -> String {
    render_sweep(sweep).expect("texts are cleaned")
}

#[test]
fn a_sweep_with_findings() {
    assert_snapshot!(xml(&sweep(&[3, 17, 21])));
}

/// The names that Jenkins' schema knows, here for the elements that are written.
#[test]
fn nothing_is_written_that_the_schema_does_not_know() {
    let known = [
        ("testsuites", "name time tests failures errors"),
        ("testsuite", "name tests failures errors skipped"),
        ("testcase", "name classname"),
        ("failure", "type message"),
        ("error", "type message"),
        ("properties", ""),
        ("property", "name value"),
        ("system-out", ""),
    ];
    let xml = xml(&sweep(&[3, 17]));
    for tag in xml.split('<').skip(2).filter(|tag| !tag.starts_with('/')) {
        let tag = tag.split('>').next().unwrap_or(tag).trim_end_matches('/');
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let known = known.iter().find(|(known, _)| *known == name);
        let (_, allowed) = known.unwrap_or_else(|| panic!("{name} is no element of the schema"));
        // Every second piece between quotation marks is a value.
        for attribute in attributes.split('"').step_by(2) {
            let attribute = attribute.trim().trim_end_matches('=');
            let fits = attribute.is_empty() || allowed.split(' ').any(|name| name == attribute);
            assert!(fits, "{name} has {attribute}");
        }
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
