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
const SHORT: usize = 40;
/// So much, where an error may be in it.
const LONG: usize = 200;

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Happened {
    /// When, in true time.
    pub at: Instant,
    /// On which host, or at which server: the place of its name in [`Moments::places`].
    pub place: usize,
    /// What: the place of its name in [`Moments::names`].
    pub name: usize,
}

/// What has happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moments {
    /// What can be said to have happened, each once, in the order in which it first did.
    pub names: Vec<Arc<str>>,
    /// Hosts and servers at which something happened.
    pub places: Vec<Arc<str>>,
    /// All of it, in the order of true time.
    pub happened: Vec<Happened>,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    moments: Moments,
    names: BTreeMap<Arc<str>, usize>,
    /// The name that is being made, kept for its memory.
    name: String,
}

impl Notes {
    /// Takes down something whose name `say` writes.
    pub(crate) fn add(&mut self, at: Instant, place: &Arc<str>, say: impl FnOnce(&mut String)) {
        self.name.clear();
        say(&mut self.name);
        let Moments {
            names,
            places,
            happened,
        } = &mut self.moments;
        let name = self.names.get(self.name.as_str()).copied();
        let name = name.unwrap_or_else(|| {
            let name: Arc<str> = self.name.as_str().into();
            self.names.insert(Arc::clone(&name), names.len());
            names.push(name);
            names.len() - 1
        });
        let known = places.iter().position(|known| Arc::ptr_eq(known, place));
        let place = known.unwrap_or_else(|| {
            places.push(Arc::clone(place));
            places.len() - 1
        });
        happened.push(Happened { at, place, name });
    }
}

impl World {
    /// From now on moments are recorded.
    pub fn notice_moments(&self) {
        self.change(|state| state.net.notes = Some(Box::default()));
        self.notices();
    }

    /// What has been recorded so far; it is recorded no longer.
    pub fn take_moments(&self) -> Moments {
        let notes = self.change(|state| state.net.notes.take());
        notes.map(|notes| notes.moments).unwrap_or_default()
    }
}

/// The name of a machine, from that of its type: the room, and the last part.
pub(crate) fn machine_name(of_type: &str, name: &mut String) {
    let path = of_type.split('<').next().unwrap_or(of_type);
    let mut parts = path.split("::");
    let room = parts.nth(1).unwrap_or_default();
    name.extend([room, "::", parts.last().unwrap_or(path)]);
}

/// The names of the variants that a value begins with: at most two, one in the other.
pub(crate) fn variant(value: &dyn Debug, name: &mut String) {
    let head = head(value, SHORT);
    name_of(&head.0, name);
}

/// The same, and those of the error that is in it.
pub(crate) fn variant_and_error(value: &dyn Debug, name: &mut String) {
    let head = head(value, LONG);
    let text = head.0.as_str();
    // Of a pair, the second is what happens: the first says when.
    let text = match text.strip_prefix('(') {
        Some(pair) => after_first(pair),
        None => text,
    };
    name_of(text, name);
    if let Some((_, error)) = text.split_once("Err(") {
        name.push_str(" fails with ");
        name_of(error, name);
    }
}

fn head(value: &dyn Debug, enough: usize) -> Head {
    let mut head = Head(String::with_capacity(2 * enough), enough);
    // It stops where it has seen enough, and says so by an error.
    let _enough = write!(head, "{value:?}");
    head
}

fn name_of(text: &str, name: &mut String) {
    let (first, rest) = word(text);
    let (second, _) = rest.strip_prefix('(').map_or(("", ""), word);
    name.push_str(first);
    if second.starts_with(|letter: char| letter.is_ascii_uppercase()) {
        name.extend([" ", second]);
    }
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

/// The beginning of what is written, of about this length.
struct Head(String, usize);

impl fmt::Write for Head {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        if self.0.len() < self.1 {
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
        let named = |value: &dyn Debug| {
            let mut name = String::new();
            variant_and_error(value, &mut name);
            name
        };
        assert_eq!(named(&Sample::Plain), "Plain");
        assert_eq!(named(&Sample::Tells(Inner::Up(3))), "Tells Up");
        assert_eq!(named(&((1, [2, 3]), Sample::Plain)), "Plain");
        assert_eq!(named(&ends), "Ends fails with Up");
        let mut name = String::new();
        machine_name("squall_core::state::lock::holder::Holder<a::B>", &mut name);
        assert_eq!(name, "state::Holder");
    }
}
