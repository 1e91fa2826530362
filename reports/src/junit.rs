//! A sweep as JUnit XML, for whatever shows the tests of a job.
//!
//! A suite for each scenario. In it, a failed test case for each seed and invariant that was violated, an erroneous one
//! for each seed that could not be decided, and one case that stands for all seeds of which nothing is to be told: a
//! sweep has too many of those to name each. Storms that did not bite fail nothing, as on the other faces; they are
//! told as output of their suite.

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use crate::headline;
use crate::specimen::{COLUMNS, Specimen};
use crate::sweep::{Finding, Sweep, Tally, Undecided};
use crate::words::{clean, count};

pub use quick_junit::SerializeError;

/// A sweep as the text of an XML file.
pub fn render_sweep(sweep: &Sweep) -> Result<String, SerializeError> {
    let mut report = Report::new("squall");
    report.set_time(sweep.elapsed);
    let findings = headline::findings(sweep);
    let undecided = headline::undecided(sweep);
    for (scenario, tally) in &sweep.scenarios {
        let mut suite = TestSuite::new(clean(scenario));
        for (label, value) in [
            ("seeds", tally.runs),
            ("seeds that failed", tally.failures),
            ("seeds that are undecided", tally.inconclusive),
        ] {
            suite.add_property(Property::new(label, value.to_string()));
        }
        for (_, findings) in findings.iter().filter(|((_, of), _)| of == scenario) {
            suite.add_test_cases(findings.iter().map(|finding| failed(finding)));
        }
        for (_, runs) in undecided.iter().filter(|((of, _), _)| of == scenario) {
            suite.add_test_cases(runs.iter().map(|run| open(run)));
        }
        let bad = tally.failures.saturating_add(tally.inconclusive);
        let held = tally.runs.saturating_sub(bad);
        if held > 0 {
            let text = format!("every invariant held in {}", count(held, "seed", "seeds"));
            suite.add_test_case(case(scenario, text, TestCaseStatus::success()));
        }
        let never = never(tally);
        if !never.is_empty() {
            suite.set_system_out(never.join("\n"));
        }
        report.add_test_suite(suite);
    }
    if !sweep.specimens.is_empty() {
        let mut suite = TestSuite::new("specimens");
        suite.add_test_cases(sweep.specimens.iter().map(planted));
        report.add_test_suite(suite);
    }
    // Jenkins' schema, the one in common use, knows this attribute for suites only, not for the whole.
    Ok(report.to_string()?.replacen(" skipped=\"0\"", "", 1))
}

fn case(scenario: &str, name: String, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(clean(scenario));
    case
}

/// A planted flaw: failed where it was missed, or more is left of it than its level allows, or its right twin fails.
fn planted(specimen: &Specimen) -> TestCase {
    let status = if specimen.holds {
        TestCaseStatus::success()
    } else {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        let cells = COLUMNS.iter().zip(specimen.row()).skip(1);
        let cells: Vec<String> = cells
            .map(|(name, cell)| format!("{name}: {cell}"))
            .collect();
        status.set_message(clean(&cells.join(", ")));
        status
    };
    case("specimens", clean(&specimen.name), status)
}

fn failed(finding: &Finding) -> TestCase {
    let invariant = &finding.invariant;
    let code = format!("{} {}", clean(&invariant.code), clean(&invariant.name));
    let what = clean(&finding.what_happened);
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type(code.clone());
    status.set_message(what.clone());
    status.set_description(format!(
        "promised: {}\nhappened: {what}\nreproduce: {}",
        clean(&invariant.property),
        clean(&finding.reproduce)
    ));
    let name = format!("{code}, {}", headline::seed(finding.seed));
    case(&finding.scenario, name, status)
}

fn open(run: &Undecided) -> TestCase {
    let why = clean(&run.why);
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type("undecided");
    status.set_message(why.clone());
    status.set_description(format!("{why}\nreproduce: {}", clean(&run.reproduce)));
    let name = format!("undecided, {}", headline::seed(run.seed));
    case(&run.scenario, name, status)
}

/// What the storms must do, and never did.
fn never(tally: &Tally) -> Vec<String> {
    let faults = tally.bit.iter().filter(|(_, runs)| **runs == 0);
    let facts = tally.sometimes.iter().filter(|(_, runs)| **runs == 0);
    let faults = faults.map(|(name, _)| format!("never bit: {}", clean(name)));
    let facts = facts.map(|(name, _)| format!("never reached: {}", clean(name)));
    faults.chain(facts).collect()
}
