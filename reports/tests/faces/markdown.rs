//! What a person sees in a pull request.

use insta::assert_snapshot;
use squall_reports::markdown::{render, render_sweep};

use super::lock::lock_violation;
use super::samples::{
    completeness_violation, inconclusive, pass, planted, presence_violation, sweep,
};

#[test]
fn a_pass() {
    assert_snapshot!(render(&pass()));
}

#[test]
fn a_presence_violation() {
    assert_snapshot!(render(&presence_violation()));
}

#[test]
fn a_lock_violation() {
    assert_snapshot!(render(&lock_violation()));
}

#[test]
fn a_violation_that_is_an_absence() {
    assert_snapshot!(render(&completeness_violation()));
}

#[test]
fn an_inconclusive_run() {
    assert_snapshot!(render(&inconclusive()));
}

#[test]
fn a_sweep_without_findings() {
    assert_snapshot!(render_sweep(&sweep(&[])));
}

#[test]
fn planted_flaws() {
    assert_snapshot!(render_sweep(&planted()));
}

#[test]
fn a_sweep_with_findings() {
    assert_snapshot!(render_sweep(&sweep(&[3, 17, 21])));
}
