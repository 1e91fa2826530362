//! The run model: what a report may know about one finished run.
//!
//! Plain data, in the order in which a reader asks: what was promised, was it kept, who took part, what happened, what
//! was done to them, what did they believe. All times are *true* time, the world's own, which no node can read; a node
//! whose clock says something else is part of the story and belongs into the text of a mark.
//!
//! In JSON it is an object with the fields of [`Run`] and the number of its schema, [`Schema::VERSION`]. A field that may
//! be missing is added under the same number, since files without it still read; any other change takes the next
//! number. A field that is not known is refused, not dropped: half a report may tell the opposite of the whole.
//!
//! Nothing here is checked beyond its version: a lane or mark that does not exist is shown as such by the reports, which
//! must be able to draw also the run that went wrong in a way nobody thought of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The version of this model.
    pub schema: Schema,
    /// The scenario's name, as it is typed.
    pub scenario: String,
    /// The scenario's promise, as a sentence.
    pub title: String,
    /// Where it ran.
    pub world: World,
    /// The seed everything followed from; none if a plan file was run.
    pub seed: Option<u64>,
    /// The command to paste that gives the same run again.
    pub reproduce: String,
    /// Whether the promise was kept.
    pub verdict: Verdict,
    /// How long the run took in true time of its world.
    pub simulated: Duration,
    /// How long the run took for the one who waited; none where that must not be part of a report.
    pub elapsed: Option<Duration>,
    /// Who took part: agents first, then servers.
    pub lanes: Vec<Lane>,
    /// What happened, in order of true time.
    pub marks: Vec<Mark>,
    /// What was done to them.
    pub faults: Vec<FaultBand>,
    /// Who believed what, and how long.
    pub beliefs: Vec<Belief>,
    /// What went from lane to lane, where that was recorded; in order of sending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// Points of time that concern everyone, such as the end of an act; in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moments: Vec<Moment>,
    /// What a storm over this scenario must reach at least once.
    pub sometimes: Vec<Fact>,
    /// The file that everything was recorded in, if it was kept; it lies beside the model.
    pub trace: Option<String>,
    /// A hash of everything that happened, where it is the same every time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// The version of the models in this crate: a number in JSON, and a reader refuses any but its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Schema;

impl Schema {
    /// The one version that this build writes and reads.
    pub const VERSION: u32 = 1;
}

impl From<Schema> for u32 {
    fn from(_: Schema) -> Self {
        Schema::VERSION
    }
}

impl TryFrom<u32> for Schema {
    type Error = SchemaError;

    fn try_from(found: u32) -> Result<Self, SchemaError> {
        if found == Self::VERSION {
            Ok(Self)
        } else {
            Err(SchemaError { found })
        }
    }
}

/// A file was written with another version of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// The version that was found.
    pub found: u32,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (found, known) = (self.found, Schema::VERSION);
        write!(
            f,
            "this report has schema {found}, and this build reads {known}"
        )
    }
}

impl std::error::Error for SchemaError {}

/// Where a run took place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum World {
    /// In virtual time, on the simulated broker.
    Sim,
    /// On real servers.
    Nats {
        /// Their version, such as `2.15.1`.
        version: String,
    },
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sim => f.write_str("simulated world"),
            Self::Nats { version } => write!(f, "nats-server {version}"),
        }
    }
}

/// Whether the promise was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every invariant held.
    Pass,
    /// At least one invariant was violated; in any order.
    Fail(Vec<Violation>),
    /// The history does not decide it.
    Inconclusive {
        /// What could not be decided, and what was missing.
        why: String,
    },
}

/// A property that must hold in every run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Invariant {
    /// Its code in the table of invariants: `P2`.
    pub code: String,
    /// Its name there: `accuracy`.
    pub name: String,
    /// The property in words, as it stands there.
    pub property: String,
}

/// One invariant broken, once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// What should have held.
    pub invariant: Invariant,
    /// From when on it did not.
    pub at: TrueTime,
    /// Whom it concerns.
    pub lanes: Vec<LaneId>,
    /// What happened, in one or two sentences.
    pub what_happened: String,
    /// The marks that prove it. If one of them is at [`at`](Self::at), the last of those is the violation itself.
    pub evidence: Vec<MarkId>,
}

/// A point of true time: nanoseconds since the run began, by the clock no node can read.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TrueTime(u64);

impl TrueTime {
    /// The beginning of the run.
    pub const ZERO: Self = Self(0);

    /// The point `nanos` nanoseconds after the beginning.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the beginning.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is the later one.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The point this much earlier, or the beginning.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }

    /// The point this much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// An index into [`Run::lanes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LaneId(pub usize);

/// An index into [`Run::marks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MarkId(pub usize);

/// Someone to whom things happen: one agent, or one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Its name in the scenario: `alice`.
    pub name: String,
    /// Its part in the scenario: `watcher`, `holder`, `broker`.
    pub role: String,
    /// Agent or server.
    pub kind: LaneKind,
}

/// The two kinds of participants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneKind {
    /// Runs the code under test.
    Agent,
    /// A server, as simulated or real.
    Server,
}

/// One thing that happened at one point of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub at: TrueTime,
    /// To whom.
    pub lane: LaneId,
    /// What kind of thing.
    pub kind: MarkKind,
    /// What, for people; the kind is not repeated in it.
    pub text: String,
    /// The call that this answers, if it is an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<MarkId>,
    /// What this is one of many of, such as `beat of alice`, if it belongs to a hum that goes on all the time. Reports
    /// show such a mark only where it matters, and sum up the others: the first word takes the plural.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routine: Option<String>,
}

/// The kinds of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    /// An operation was invoked.
    Call,
    /// It ended well.
    Ok,
    /// It ended badly: it did not happen, and never will.
    Refused,
    /// It ended without an answer: it may have happened, now or later.
    Unknown,
    /// The code under test told its user something.
    Told,
    /// A server stored something.
    Commit,
    /// A server removed something: deleted, expired, evicted.
    Removed,
    /// A process started, paused, slept or ended.
    Life,
    /// A connection was made, lost, replaced or closed.
    Connection,
}

/// A fault, while it lasted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultBand {
    /// Its kind, as plans name it: `partition`.
    pub name: String,
    /// What it acted on: `alice -> nats-1`.
    pub target: String,
    /// When it began.
    pub from: TrueTime,
    /// When it was mended; the same as `from` if it is over at once.
    pub to: TrueTime,
    /// Whether it changed anything.
    pub bit: bool,
}

/// What somebody held to be true, while they did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Belief {
    /// Who believed it.
    pub lane: LaneId,
    /// About what: `alice`, `lock deploy`, `itself`. Beliefs of one lane about one thing follow each other.
    pub about: String,
    /// What: `present`, `absent`, `held`, `connected`, `evicted`.
    pub state: String,
    /// Which sort of state that is.
    pub tone: Tone,
    /// From when on.
    pub from: TrueTime,
    /// Until when.
    pub to: TrueTime,
}

/// Sorts of believed states: how a report draws them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// All is well: present, held, connected.
    Well,
    /// It is known that it is not known: blind, reconnecting.
    Unsure,
    /// All is over: absent, lost, evicted.
    Over,
}

/// Something that went from one lane to another. Reports draw it as an arrow, if the reader wants arrows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who sent it.
    pub from: LaneId,
    /// To whom.
    pub to: LaneId,
    /// When it was sent.
    pub sent: TrueTime,
    /// When it arrived; none if it was lost, or still on its way at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<TrueTime>,
    /// What it was, for people.
    pub text: String,
}

/// A point of time that concerns everyone: `everything is mended`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at: TrueTime,
    /// What, for people.
    pub text: String,
}

/// A call and its answer, as an interval. It is found in the marks ([`Run::operations`]), not stored a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who called.
    pub lane: LaneId,
    /// The call.
    pub call: MarkId,
    /// Its answer, if one came.
    pub answer: Option<MarkId>,
    /// When it was invoked.
    pub from: TrueTime,
    /// When it ended; without an answer, the end of the run.
    pub to: TrueTime,
    /// How it ended: [`MarkKind::Ok`], [`MarkKind::Refused`] or [`MarkKind::Unknown`], also without an answer.
    pub end: MarkKind,
}

/// Something that a storm must reach at least once: "a lease did expire under its holder".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The fact, as a sentence without its full stop.
    pub name: String,
    /// Whether this run reached it.
    pub reached: bool,
}

impl Run {
    /// The violations, the earliest first.
    pub fn violations(&self) -> Vec<&Violation> {
        let mut violations: Vec<_> = match &self.verdict {
            Verdict::Fail(violations) => violations.iter().collect(),
            Verdict::Pass | Verdict::Inconclusive { .. } => Vec::new(),
        };
        violations.sort_by_key(|violation| violation.at);
        violations
    }

    /// The mark of this number, if there is one.
    pub fn mark(&self, id: MarkId) -> Option<&Mark> {
        self.marks.get(id.0)
    }

    /// The name of this lane; a lane that does not exist is called by its number.
    pub fn lane_name(&self, id: LaneId) -> String {
        self.lanes
            .get(id.0)
            .map_or_else(|| format!("lane {}?", id.0), |lane| lane.name.clone())
    }

    /// The lanes that a text names, such as the target of a fault.
    pub fn lanes_named(&self, text: &str) -> Vec<LaneId> {
        let part = |c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_' | '.');
        let words: BTreeSet<&str> = text.split(part).collect();
        let lanes = self.lanes.iter().enumerate();
        let named = lanes.filter(|(_, lane)| words.contains(lane.name.as_str()));
        named.map(|(index, _)| LaneId(index)).collect()
    }

    /// The last point of time of which this run tells anything.
    pub fn end(&self) -> TrueTime {
        let marks = self.marks.iter().map(|mark| mark.at);
        let faults = self.faults.iter().map(|fault| fault.to.max(fault.from));
        let beliefs = self.beliefs.iter().map(|belief| belief.to.max(belief.from));
        let messages = self.messages.iter().map(|m| m.arrived.unwrap_or(m.sent));
        let moments = self.moments.iter().map(|moment| moment.at);
        let violations = self.violations().into_iter().map(|violation| violation.at);
        let told = marks.chain(faults).chain(beliefs).chain(messages);
        told.chain(moments)
            .chain(violations)
            .fold(TrueTime::ZERO.after(self.simulated), TrueTime::max)
    }

    /// The calls with their answers, in the order of the calls. Of several answers to one call the first counts.
    pub fn operations(&self) -> Vec<Operation> {
        let mut answers: BTreeMap<MarkId, MarkId> = BTreeMap::new();
        for (index, mark) in self.marks.iter().enumerate() {
            if let Some(call) = mark.answers {
                answers.entry(call).or_insert(MarkId(index));
            }
        }
        let last = self.end();
        let calls = self.marks.iter().enumerate();
        calls
            .filter(|(_, mark)| mark.kind == MarkKind::Call)
            .map(|(index, mark)| {
                let call = MarkId(index);
                let answer = answers.get(&call).copied();
                let ended = answer.and_then(|id| self.mark(id));
                Operation {
                    lane: mark.lane,
                    call,
                    answer,
                    from: mark.at,
                    to: ended.map_or(last, |ended| ended.at).max(mark.at),
                    end: ended.map_or(MarkKind::Unknown, |ended| ended.kind),
                }
            })
            .collect()
    }

    /// How long after its call this mark came, if it is the answer to one.
    pub fn answered_after(&self, mark: &Mark) -> Option<Duration> {
        let call = self.mark(mark.answers?)?;
        Some(mark.at.since(call.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_schema_is_refused_with_a_sentence() {
        assert_eq!(serde_json::to_string(&Schema).expect("a number"), "1");
        let error = serde_json::from_str::<Schema>("7").expect_err("not ours");
        assert!(
            error
                .to_string()
                .starts_with("this report has schema 7, and this build reads 1"),
            "{error}"
        );
    }

    #[test]
    fn time_before_the_beginning_is_the_beginning() {
        let early = TrueTime::from_nanos(5);
        assert_eq!(early.before(Duration::MAX), TrueTime::ZERO);
        assert_eq!(TrueTime::ZERO.since(early), Duration::ZERO);
    }
}
