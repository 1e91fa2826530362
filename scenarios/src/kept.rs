//! Plans that are kept: each says what a run of it must come to, and every run is asked.
//!
//! A plan that once failed is kept with `expect = "pass"` from the day it is mended; that of a planted flaw names the
//! invariant that must tell it, for ever. What is kept stands in `scenarios/plans`, and each file there is a test.

use crate::invariants::Verdict;
use crate::parse::parse;
use crate::plan::{Expectation, On, Plan};
use crate::run::simulate;
use crate::specimens;

/// A failing plan as a file: what there is to say of it at the top, in comments, and in it that it must fail so.
pub fn text(comments: &str, plan: &Plan, code: &str) -> String {
    let head: String = comments.lines().map(|line| format!("# {line}\n")).collect();
    let expect = Some(Expectation::Violates(code.to_owned()));
    let plan = Plan {
        expect,
        ..plan.clone()
    };
    format!("{head}\n{plan}")
}

/// Runs a kept plan twice, and its right twin where it is one of a planted flaw.
///
/// # Errors
/// What is not as the plan says, in a sentence.
pub fn check(text: &str) -> Result<(), String> {
    let plan = parse(text).map_err(|error| format!("line {}: {error}", error.line))?;
    check_plan(&plan)
}

/// The same, of a plan that has been read.
///
/// # Errors
/// As [`check`].
pub fn check_plan(plan: &Plan) -> Result<(), String> {
    let Some(expected) = &plan.expect else {
        return Err("it does not say what is expected of it: expect = \"pass\", or the code of an invariant".to_owned());
    };
    if plan.world.on == On::Nats {
        return Err("it is for a real server: what happens there nobody can promise".to_owned());
    }
    let run = simulate(plan);
    if simulate(plan).fingerprint() != run.fingerprint() {
        return Err("two runs of it differ".to_owned());
    }
    if !expected.is_met(&run.verdict) {
        return Err(format!(
            "expected: {expected}\ncame out: {}",
            told(&run.verdict)
        ));
    }
    let Some(specimen) = plan.specimen.as_deref().and_then(specimens::find) else {
        return Ok(());
    };
    match expected {
        Expectation::Violates(code) if !specimen.codes.contains(&code.as_str()) => {
            let codes = specimen.codes.join(", ");
            return Err(format!(
                "{} is told by {codes}, not by {code}",
                specimen.name
            ));
        }
        _ => {}
    }
    let twin = Plan {
        specimen: None,
        ..plan.clone()
    };
    match simulate(&twin).verdict {
        Verdict::Pass => Ok(()),
        failed => Err(format!("its right twin does not pass: {}", told(&failed))),
    }
}

fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Inconclusive(why) => format!("inconclusive: {why}"),
        Verdict::Fail(violations) => {
            let each = violations.iter().map(ToString::to_string);
            each.collect::<Vec<_>>().join("\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stories;

    fn canary(seed: u64, expect: &str) -> String {
        let scenario = stories::find("canary/one-in-a-hundred").expect("it is there");
        let text = scenario.draw(seed).to_string();
        text.replacen("seed =", &format!("{expect}\nseed ="), 1)
    }

    #[test]
    fn a_kept_plan_is_held_to_what_it_says() {
        assert_eq!(check(&canary(1, "expect = \"pass\"")), Ok(()));
        assert_eq!(check(&canary(37, "expect = \"P1\"")), Ok(()));
        let refused = |seed, expect| check(&canary(seed, expect)).expect_err("it is refused");
        assert!(refused(37, "expect = \"pass\"").starts_with("expected: pass\ncame out: P1 at "));
        assert_eq!(
            refused(1, "expect = \"P1\""),
            "expected: a violation of P1\ncame out: pass"
        );
        assert!(refused(1, "").starts_with("it does not say what is expected"));
        let unknown = refused(1, "expect = \"P11\"");
        assert!(
            unknown.starts_with("line 2: expect = \"P11\" is neither pass nor an invariant"),
            "{unknown}"
        );
    }

    #[test]
    fn what_shrinking_writes_is_a_plan_that_says_what_is_expected() {
        let plan = parse(&canary(37, "")).expect("it is a plan");
        let Verdict::Fail(violations) = simulate(&plan).verdict else {
            panic!("it fails");
        };
        let text = text("A canary.\nIt is dead.", &plan, &violations[0].code);
        assert!(text.starts_with("# A canary.\n# It is dead.\n\n"), "{text}");
        assert_eq!(check(&text), Ok(()));
    }
}
