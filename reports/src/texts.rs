//! Every text of a run, for whoever must rewrite them all: secrets are struck out where the model is made or read.
//!
//! Which texts are secrets is not known here. What is known here is where texts are, and nothing is passed over: a field
//! that is added to the model does not compile until this file has said whether it is text.

use crate::model::{
    Belief, Fact, FaultBand, Invariant, Lane, Mark, Message, Moment, Run, Verdict, Violation, World,
};
use crate::sweep::{Finding, Sweep, Undecided};

impl Run {
    /// Calls `rewrite` with every text that somebody or something wrote, once each.
    pub fn rewrite_texts(&mut self, rewrite: &mut dyn FnMut(&mut String)) {
        let Self {
            schema: _,
            scenario,
            title,
            world,
            seed: _,
            reproduce,
            verdict,
            simulated: _,
            elapsed: _,
            lanes,
            marks,
            faults,
            beliefs,
            messages,
            moments,
            sometimes,
            trace,
            fingerprint,
        } = self;
        [scenario, title, reproduce]
            .into_iter()
            .for_each(&mut *rewrite);
        match world {
            World::Sim => {}
            World::Nats { version } => rewrite(version),
        }
        match verdict {
            Verdict::Pass => {}
            Verdict::Fail(violations) => violations.iter_mut().for_each(|one| of(one, rewrite)),
            Verdict::Inconclusive { why } => rewrite(why),
        }
        for Lane {
            name,
            role,
            kind: _,
        } in lanes
        {
            [name, role].into_iter().for_each(&mut *rewrite);
        }
        for Mark {
            at: _,
            lane: _,
            kind: _,
            text,
            answers: _,
            routine,
        } in marks
        {
            rewrite(text);
            routine.iter_mut().for_each(&mut *rewrite);
        }
        for FaultBand {
            name,
            target,
            from: _,
            to: _,
            bit: _,
        } in faults
        {
            [name, target].into_iter().for_each(&mut *rewrite);
        }
        for Belief {
            lane: _,
            about,
            state,
            tone: _,
            from: _,
            to: _,
        } in beliefs
        {
            [about, state].into_iter().for_each(&mut *rewrite);
        }
        for Message {
            from: _,
            to: _,
            sent: _,
            arrived: _,
            text,
        } in messages
        {
            rewrite(text);
        }
        for Moment { at: _, text } in moments {
            rewrite(text);
        }
        for Fact { name, reached: _ } in sometimes {
            rewrite(name);
        }
        let files = trace.iter_mut().chain(fingerprint);
        files.for_each(&mut *rewrite);
    }
}

impl Sweep {
    /// Calls `rewrite` with every text that tells of a single run, once each. The names of what is counted stay: they come
    /// from the program.
    pub fn rewrite_texts(&mut self, rewrite: &mut dyn FnMut(&mut String)) {
        let Self {
            schema: _,
            elapsed: _,
            scenarios: _,
            findings,
            undecided,
            coverage: _,
            specimens: _,
        } = self;
        for Finding {
            scenario,
            seed: _,
            invariant,
            what_happened,
            reproduce,
            faults,
        } in findings
        {
            let Invariant {
                code,
                name,
                property,
            } = invariant;
            [scenario, code, name, property, what_happened, reproduce]
                .into_iter()
                .chain(faults)
                .for_each(&mut *rewrite);
        }
        for Undecided {
            scenario,
            seed: _,
            why,
            reproduce,
        } in undecided
        {
            [scenario, why, reproduce]
                .into_iter()
                .for_each(&mut *rewrite);
        }
    }
}

fn of(violation: &mut Violation, rewrite: &mut dyn FnMut(&mut String)) {
    let Violation {
        invariant,
        at: _,
        lanes: _,
        what_happened,
        evidence: _,
    } = violation;
    let Invariant {
        code,
        name,
        property,
    } = invariant;
    [code, name, property, what_happened]
        .into_iter()
        .for_each(&mut *rewrite);
}
