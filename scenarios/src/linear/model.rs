//! What a register can hold, and what an operation asks of it and does to it.
//!
//! One model serves a plain register (read, write, compare-and-set by value) and a key of a NATS bucket, where what is
//! held is the latest record, named by its revision: *absent* is one more value of the first, and for the second a key
//! is vacant with a tombstone or with no record at all.

use std::sync::Arc;

/// In which form a register holds its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// A value.
    Value = 0,
    /// A tombstone.
    Tombstone = 1,
    /// The record of this number was there and has gone, or, for 0, there never was one.
    Gone = 2,
    /// A value that nobody has told the number of, written after the one of this number.
    UnseenValue = 3,
    /// A tombstone like that.
    UnseenTombstone = 4,
}

/// What a register holds: a number that stands for a value or a record, and in which form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held(u32);

const FORM_BITS: u32 = 3;

impl Held {
    /// The largest number.
    pub const NUMBER_MAX: u32 = u32::MAX >> FORM_BITS;

    /// The number in this form.
    pub const fn new(number: u32, form: Form) -> Self {
        Self((number << FORM_BITS) | form as u32)
    }

    /// The value of this number.
    pub const fn value(number: u32) -> Self {
        Self::new(number, Form::Value)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0 >> FORM_BITS
    }

    /// Its form.
    pub const fn form(self) -> Form {
        match self.0 & ((1 << FORM_BITS) - 1) {
            0 => Form::Value,
            1 => Form::Tombstone,
            2 => Form::Gone,
            3 => Form::UnseenValue,
            _ => Form::UnseenTombstone,
        }
    }

    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    pub(super) const fn of_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Whether a read shows this number.
    const fn shows(self, number: u32) -> bool {
        self.number() == number && matches!(self.form(), Form::Value | Form::Tombstone)
    }

    const fn is_vacant(self) -> bool {
        !matches!(self.form(), Form::Value | Form::UnseenValue)
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.number(), self.form())
    }
}

/// What an operation asks of the register at the moment in which it takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// Nothing.
    Anything,
    /// That it shows this number.
    Shows(u32),
    /// That it does not.
    ShowsNot(u32),
    /// That it holds no value.
    Vacant,
    /// That it holds one.
    Occupied,
    /// That it holds no record, not even a tombstone.
    Gone,
    /// That it holds one.
    There,
}

impl Need {
    /// Whether the register, as it is, meets this.
    pub const fn is_met_by(self, held: Held) -> bool {
        match self {
            Self::Anything => true,
            Self::Shows(number) => held.shows(number),
            Self::ShowsNot(number) => !held.shows(number),
            Self::Vacant => held.is_vacant(),
            Self::Occupied => !held.is_vacant(),
            Self::Gone => matches!(held.form(), Form::Gone),
            Self::There => !matches!(held.form(), Form::Gone),
        }
    }
}

/// What an operation does to the register.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Nothing: a read, or a compare-and-set that did not match.
    Nothing,
    /// It holds this from now on.
    Set(Held),
    /// It holds a value, or else a tombstone, that nobody has told the number of.
    Unseen(Form),
    /// The record goes without another in its place.
    Vanish,
    /// One of these: which, nobody knows. Only where the outcome is unknown.
    OneOf(Arc<[Self]>),
}

/// One operation on a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its place in the order of all invocations and ends. No two operations share one.
    pub invoked: u64,
    /// Where in that order its end was told; `None` where the outcome is unknown: then it may take effect at any
    /// time from its invocation on, or never.
    pub ended: Option<u64>,
    /// What it asks.
    pub need: Need,
    /// What it does.
    pub effect: Effect,
}

impl Operation {
    /// Whether it changes the register.
    pub const fn is_change(&self) -> bool {
        !matches!(self.effect, Effect::Nothing)
    }
}

/// Which register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// What it holds at first.
    pub initial: Held,
    /// Whether the numbers of what it holds only ever grow, as revisions do.
    pub is_ordered: bool,
    /// Whether what it holds may go by itself, as records that age out do.
    pub is_forgetful: bool,
}

impl Register {
    /// A plain register that holds this value at first.
    pub const fn plain(initial: u32) -> Self {
        Self {
            initial: Held::value(initial),
            is_ordered: false,
            is_forgetful: false,
        }
    }

    /// A key of a bucket, without a record at first.
    pub const fn key(is_forgetful: bool) -> Self {
        Self {
            initial: Held::new(0, Form::Gone),
            is_ordered: true,
            is_forgetful,
        }
    }

    /// What it holds after this effect, if the effect can be.
    pub(super) fn after(&self, held: Held, effect: &Effect) -> Option<Held> {
        match effect {
            Effect::Nothing | Effect::OneOf(_) => None,
            Effect::Set(to) => (!self.is_ordered || to.number() > held.number()).then_some(*to),
            Effect::Unseen(form) => Some(Held::new(held.number(), *form)),
            Effect::Vanish => Some(Held::new(held.number(), Form::Gone)),
        }
    }

    /// Whether a write of `buried` may have come between `before` and the write of `after`, seen by nobody.
    pub(super) const fn may_bury(&self, before: Held, buried: Held, after: Held) -> bool {
        !self.is_ordered || (before.number() < buried.number() && buried.number() < after.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_keeps_its_number_and_form() {
        let forms = [
            Form::Value,
            Form::Tombstone,
            Form::Gone,
            Form::UnseenValue,
            Form::UnseenTombstone,
        ];
        for number in [0, 1, Held::NUMBER_MAX] {
            for form in forms {
                let held = Held::new(number, form);
                assert_eq!((held.number(), held.form()), (number, form));
            }
        }
    }

    #[test]
    fn a_key_is_vacant_with_a_tombstone_and_without_a_record() {
        let met = |need: Need, form| need.is_met_by(Held::new(3, form));
        assert!(met(Need::Vacant, Form::Tombstone) && met(Need::Vacant, Form::Gone));
        assert!(met(Need::Occupied, Form::UnseenValue) && !met(Need::Vacant, Form::Value));
        assert!(met(Need::Shows(3), Form::Tombstone) && !met(Need::Shows(3), Form::Gone));
        assert!(
            !met(Need::Shows(3), Form::UnseenValue),
            "that is a later one"
        );
        assert!(met(Need::There, Form::Tombstone) && met(Need::Gone, Form::Gone));
    }

    #[test]
    fn revisions_only_grow() {
        let key = Register::key(false);
        let at = |number| Held::value(number);
        assert_eq!(key.after(at(2), &Effect::Set(at(3))), Some(at(3)));
        assert_eq!(key.after(at(3), &Effect::Set(at(3))), None);
        let unseen = Held::new(3, Form::UnseenValue);
        assert_eq!(
            key.after(at(3), &Effect::Unseen(Form::UnseenValue)),
            Some(unseen)
        );
        assert!(key.may_bury(at(2), at(3), at(4)) && !key.may_bury(at(2), at(5), at(4)));
        assert!(Register::plain(0).may_bury(at(2), at(5), at(4)));
    }
}
