//! What a person sees in a terminal.

use insta::assert_snapshot;
use squall_reports::terminal::{Style, render, render_sweep};

use super::lock::lock_violation;
use super::samples::{completeness_violation, inconclusive, pass, presence_violation, sweep};

pub(crate) fn plain(width: usize) -> Style {
    let color = false;
    Style { color, width }
}

#[test]
fn a_pass() {
    assert_snapshot!(render(&pass(), plain(100)));
}

#[test]
fn a_presence_violation_under_overlapping_faults() {
    assert_snapshot!(render(&presence_violation(), plain(100)));
}

#[test]
fn a_presence_violation_in_a_narrow_terminal() {
    assert_snapshot!(render(&presence_violation(), plain(48)));
}

#[test]
fn a_lock_violation_with_operations_and_messages() {
    assert_snapshot!(render(&lock_violation(), plain(100)));
}

#[test]
fn a_violation_that_is_an_absence() {
    assert_snapshot!(render(&completeness_violation(), plain(100)));
}

#[test]
fn an_inconclusive_run_on_a_real_server() {
    assert_snapshot!(render(&inconclusive(), plain(80)));
}

#[test]
fn a_sweep_without_findings() {
    assert_snapshot!(render_sweep(&sweep(&[]), plain(100)));
}

#[test]
fn a_sweep_with_findings() {
    assert_snapshot!(render_sweep(&sweep(&[3, 17, 21]), plain(100)));
}
