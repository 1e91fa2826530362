//! "Did you mean": the known name nearest to an unknown one.

/// `, did you mean "x"?` for the name most like this one, or nothing where none is.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, candidate)| {
            format!(", did you mean {candidate:?}?")
        })
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_understood_and_nonsense_is_not() {
        let known = ["presence/calm", "presence/storm"];
        assert_eq!(
            nearest("presence/strom", known),
            ", did you mean \"presence/storm\"?"
        );
        assert_eq!(nearest("zzz", known), "");
    }
}
