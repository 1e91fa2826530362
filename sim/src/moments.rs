//! The moments of a run: what machines hear and do, what goes over the links, and what servers do, each with its true time.
//!
//! Recorded only where asked for, with [`World::notice_moments`]: it is for who wants to know where a fault would hurt, and what
//! runs have reached. Each moment has a name, made of the names of variants alone: `presence::Keeper wants Write`.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write as _};
use std::sync::Arc;

use squall_core::Instant;

use crate::world::World;

/// So much of what is to be named is looked at: what comes later is detail.
const HEAD: usize = 200;

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// When, in true time.
    pub at: Instant,
    /// On which host, or at which server.
    pub place: Arc<str>,
    /// What.
    pub name: Arc<str>,
}

/// All of them so far.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    happened: Vec<Happened>,
    names: BTreeMap<Arc<str>, ()>,
}

impl Moments {
    pub(crate) fn add(&mut self, at: Instant, place: &Arc<str>, name: &str) {
        let name = match self.names.get_key_value(name) {
            Some((known, ())) => Arc::clone(known),
            None => {
                let name: Arc<str> = name.into();
                self.names.insert(Arc::clone(&name), ());
                name
            }
        };
        let place = Arc::clone(place);
        self.happened.push(Happened { at, place, name });
    }
}

impl World {
    /// From now on moments are recorded.
    pub fn notice_moments(&self) {
        self.change(|state| state.net.moments = Some(Box::default()));
        self.notices();
    }

    /// What has been recorded so far, in the order of true time; it is recorded no longer.
    pub fn take_moments(&self) -> Vec<Happened> {
        let moments = self.change(|state| state.net.moments.take());
        moments.map(|moments| moments.happened).unwrap_or_default()
    }
}

/// The name of a machine, from that of its type: the room, and the last part.
pub(crate) fn machine_name(of_type: &str) -> String {
    let path = of_type.split('<').next().unwrap_or(of_type);
    let mut parts = path.split("::");
    let room = parts.nth(1).unwrap_or_default();
    format!("{room}::{}", parts.last().unwrap_or(path))
}

/// The names of the variants that a value begins with: at most two, one in the other, and that of the error in it.
pub(crate) fn variant(value: &dyn Debug) -> String {
    let mut head = Head(String::new());
    // It stops where it has seen enough, and says so by an error.
    let _enough = write!(head, "{value:?}");
    let text = head.0.as_str();
    // Of a pair, the second is what happens: the first says when.
    let text = match text.strip_prefix('(') {
        Some(pair) => after_first(pair),
        None => text,
    };
    let (first, rest) = word(text);
    let (second, _) = rest.strip_prefix('(').map_or(("", ""), word);
    let mut name = first.to_owned();
    if second.starts_with(|letter: char| letter.is_ascii_uppercase()) {
        name.extend([" ", second]);
    }
    if let Some((_, error)) = text.split_once("Err(") {
        let (error, rest) = word(error);
        let (inner, _) = rest.strip_prefix('(').map_or(("", ""), word);
        name.extend([" fails with ", error]);
        if inner.starts_with(|letter: char| letter.is_ascii_uppercase()) {
            name.extend([" ", inner]);
        }
    }
    name
}

/// What follows the first of several that are separated by commas.
fn after_first(text: &str) -> &str {
    let mut depth = 0_u32;
    for (place, letter) in text.char_indices() {
        match letter {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => return text[place + 1..].trim_start(),
            _ => {}
        }
    }
    ""
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    text.split_at(end.unwrap_or(text.len()))
}

/// The beginning of what is written.
struct Head(String);

impl fmt::Write for Head {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        if self.0.len() < HEAD {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[expect(dead_code, reason = "they are written, not read")]
    enum Sample {
        Plain,
        Tells(Inner),
        Ends {
            number: u64,
            result: Result<(), Inner>,
        },
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "they are written, not read")]
    enum Inner {
        Up(u64),
    }

    #[test]
    fn names_are_made_of_variants() {
        let ends = Sample::Ends {
            number: 7,
            result: Err(Inner::Up(1)),
        };
        let named = [
            variant(&Sample::Plain),
            variant(&Sample::Tells(Inner::Up(3))),
            variant(&((1, [2, 3]), Sample::Plain)),
            variant(&ends),
        ];
        assert_eq!(named, ["Plain", "Tells Up", "Plain", "Ends fails with Up"]);
        let name = machine_name("squall_core::state::lock::holder::Holder<a::B>");
        assert_eq!(name, "state::Holder");
    }
}
