//! Space-time diagrams, as snapshots.

use insta::assert_snapshot;
use squall_reports::spacetime::render;

use super::lock::lock_violation;
use super::samples::{completeness_violation, pass, presence_violation};

#[test]
fn a_lock_violation_with_its_messages() {
    assert_snapshot!(render(&lock_violation()).expect("there is a violation"));
}

#[test]
fn a_presence_violation() {
    assert_snapshot!(render(&presence_violation()).expect("there is a violation"));
}

#[test]
fn a_violation_that_is_an_absence() {
    assert_snapshot!(render(&completeness_violation()).expect("there is a violation"));
}

#[test]
fn where_nothing_is_violated_there_is_nothing_to_draw() {
    assert_eq!(render(&pass()), None);
}

#[test]
fn no_text_is_ever_markup() {
    let evil = "</text></svg><script>alert(1)</script>\"'&lt;";
    let mut run = lock_violation();
    run.rewrite_texts(&mut |text| *text = format!("{evil}{text}"));
    let svg = render(&run).expect("there is a violation");
    assert_eq!(svg.matches("<script").count(), 0);
    assert_eq!(svg.matches("</svg").count(), 1);
}
