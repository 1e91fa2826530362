//! Differences that are as they should be: each with the case, the versions and the reason. Printed beside the result,
//! and written down in `docs/conformance.md`; whatever differs and is not here fails.

use squall_sim::broker::Version;

/// One difference that stays.
#[derive(Clone, Copy, Debug)]
pub struct Explained {
    /// The case, as `group::name`.
    pub case: &'static str,
    /// The line of its transcript, up to its colon; `*` for any.
    pub line: &'static str,
    /// The first version with it.
    pub from: Version,
    /// The last version with it.
    pub to: Version,
    /// Why.
    pub why: &'static str,
}

/// All of them.
pub const EXPLAINED: &[Explained] = &[Explained {
    case: "streams_reads::a_message_is_found_by_sequence_and_by_subject",
    line: "before it",
    from: Version::new(2, 10, 0),
    to: Version::new(2, 10, u16::MAX),
    why: "2.10 does not find the message before the last one of a subject once that was deleted",
}];

/// Why this line of this case differs at this version, if that is known.
pub(super) fn explanation(case: &str, version: Version, line: &str) -> Option<&'static str> {
    let is_it = |known: &&Explained| {
        known.case == case
            && (known.from..=known.to).contains(&version)
            && (known.line == "*" || known.line == line)
    };
    EXPLAINED.iter().find(is_it).map(|known| known.why)
}
