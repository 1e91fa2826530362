//! What two transcripts of one case differ in, and which of that is explained.

use std::fmt;

use squall_sim::broker::Version;

use super::explained::explanation;
use super::transcript::Transcript;

/// A way in which the worlds differ from one another, or one of them from the facts.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The line of the transcript that it is about, up to its colon.
    pub what: String,
    /// What each says.
    pub text: String,
    /// Why it is as it should be, if that is known.
    pub explained: Option<&'static str>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.explained {
            Some(why) => write!(f, "\n  explained: {why}"),
            None => Ok(()),
        }
    }
}

/// All differences between what was seen of the case of this name in both worlds, at this version.
pub fn compare(
    case: &str,
    version: Version,
    simulated: &Transcript,
    real: &Transcript,
) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut differ = |line: &str, text: String| {
        let what = line.split_once(": ").map_or(line, |(what, _)| what);
        all.push(Difference {
            what: what.to_owned(),
            text,
            explained: explanation(case, version, what),
        });
    };
    for (world, transcript) in [("simulated", simulated), ("real", real)] {
        for wrong in &transcript.wrong {
            differ(wrong, format!("  {world}: {wrong}"));
        }
    }
    let most = simulated.lines.len().max(real.lines.len());
    for line in 0..most {
        let at = |lines: &[String]| lines.get(line).cloned().unwrap_or_default();
        let (simulated, real) = (at(&simulated.lines), at(&real.lines));
        if simulated != real {
            let longer = if simulated.is_empty() {
                &real
            } else {
                &simulated
            };
            differ(
                longer,
                format!("  simulated: {simulated}\n  real:      {real}"),
            );
        }
    }
    for sample in &simulated.samples {
        let found = real.samples.iter().find(|other| other.name == sample.name);
        let Some(other) = found else {
            differ(
                &sample.name,
                format!("  {}: not measured on the real server", sample.name),
            );
            continue;
        };
        if let Some(distance) = sample.differs_from(other) {
            let (name, far, bound) = (&sample.name, distance.found, distance.bound);
            let text = format!(
                "  {name}: distributions {far:.2} apart, and chance explains {bound:.2}\n  \
                 simulated: {sample}\n  real:      {other}"
            );
            differ(name, text);
        }
    }
    all
}
